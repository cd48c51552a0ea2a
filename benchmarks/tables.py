"""The tables of docs/benchmarks.md, each as rows of cells, from the parts of benchmarks/results.json."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

COLUMNS = {
    "cold": "cold",
    "nothing": "nothing changed",
    "gate": "gate bound",
    "training": "training parameter",
    "feature": "feature code",
    "data": "data",
}
ORDER = ("fetch", "prepare", "profile", "validate", "train", "evaluate", "gate", "dvc", "register", "score", "drift")
SHARED = "data"  # the stages before the estimator, by benchmarks/scale.py
RUN = ("fetch", "prepare", "validate", "train", "evaluate", "gate", "dvc", "register")
ESTIMATORS = {"sklearn": "HistGradientBoosting", "lightgbm": "LightGBM", "xgboost": "XGBoost"}
SUMMED = ("cold", "nothing", "gate", "training")
OURS = "dvc repro"
TUTORIAL = ("tutorial", "tutorial, Make")
Results = Mapping[str, Any]
Row = Sequence[str]


def sizes(part: Results) -> Iterator[tuple[str, Any]]:
    """Yield the sizes of a part with what was measured at each, the smallest first."""
    yield from sorted(part["rows"].items(), key=lambda size: int(size[0]))


def name_of(engine: str) -> str:
    """Return a name of a function as a title."""
    return (
        engine.replace("_", " ")
        .capitalize()
        .replace("polars", "on polars")
        .replace("Pandera pandas", "Pandera on pandas")
    )


def pipelines(part: Results) -> Iterator[Row]:
    """Yield the table of the ways to run the steps."""
    yield ("rows", "run by", *COLUMNS.values(), "sum of the first four")
    for rows, runners in sizes(part):
        for name in in_order(runners):
            cells = [f"{runners[name][column]['cpu']:.1f}" if column in runners[name] else "" for column in COLUMNS]
            yield (f"{int(rows):,}", f"**{name}**" if name == OURS else name, *cells, f"{total(runners[name]):.1f}")


def total(costs: Results) -> float:
    """Return the sum of a runner's four columns."""
    return float(sum(costs[column]["cpu"] for column in SUMMED))


def in_order(runners: Results) -> list[str]:
    """Return the names of the runners: this pipeline, the tutorial, then the frameworks, the cheapest first."""
    first = [name for name in (OURS, *TUTORIAL) if name in runners]
    return first + sorted(set(runners) - set(first), key=lambda name: total(runners[name]))


def validation(part: Results) -> Iterator[Row]:
    """Yield the table of the engines that check a table."""
    engines = sorted(next(iter(sizes(part)))[1], key=lambda name: name != "this_pipeline")
    yield ("engine", *(f"{int(rows):,} rows" for rows, _ in sizes(part)))
    for engine in engines:
        yield (name_of(engine), *(cell(costs.get(engine)) for _, costs in sizes(part)))


def scale(part: Results) -> Iterator[Row]:
    """Yield the table of the stages before the estimator, by size."""
    measured = [(rows, each[SHARED]) for rows, each in sizes(part) if SHARED in each]
    yield ("stage", *(f"{int(rows):,} rows" for rows, _ in measured))
    for stage in ORDER[: ORDER.index("train")]:
        yield (stage, *(cell(costs.get(stage)) for _, costs in measured))


def estimators(found: Results) -> Iterator[Row]:
    """Yield the table of the other stages by size and estimator, and of all stages that make a version."""
    stages = ORDER[ORDER.index("train") :]
    yield ("rows", "estimator", *stages, "fetch to register", "wall", "other work")
    for rows, each in sizes(found["scale"]) if "scale" in found else ():
        for name in [name for name in each if name != SHARED]:
            cells = (cell(each[name].get(stage)) for stage in stages)
            whole = whole_run(each, name)
            wall = f"{whole['wall']:.0f} s" if whole else ""
            others = [part["other"] for part in (each.get(SHARED, {}), each[name]) if "other" in part]
            other = f"{max(others):g} cores" if others else ""
            yield (f"{int(rows):,}", estimator_of(name), *cells, cell(whole), wall, other)


def estimator_of(name: str) -> str:
    """Return the title of an estimator, with its `compute.memory`."""
    library, _, memory = name.partition(":")
    return ESTIMATORS[library] + (f", {memory}" if memory else "")


def whole_run(each: Results, name: str) -> Mapping[str, float] | None:
    """Return the cost of all stages with one estimator: the sum of the seconds, the peak of the largest stage."""
    costs = each.get(SHARED, {}) | each.get(name, {})
    if not costs.keys() >= set(RUN):
        return None
    summed = {unit: sum(costs[stage][unit] for stage in RUN) for unit in ("wall", "cpu")}
    return summed | {"peak": max(costs[stage]["peak"] for stage in RUN)}


def cell(cost: Mapping[str, float] | None) -> str:
    """Return CPU seconds and memory."""
    return f"{cost['cpu']:.1f} s, {cost['peak']:,.0f} MiB" if cost else ""


def merge(part: Results) -> Iterator[Row]:
    """Yield the table of a merge."""
    yield ("rows", "everything", "from the record", "ratio")
    for rows, costs in sizes(part):
        whole, reused = costs["whole"]["cpu"], costs["reused"]["cpu"]
        yield (f"{int(rows):,}", f"{whole:.1f} s", f"{reused:.1f} s", f"{reused / whole:.2f}")


def comparison(part: Results) -> Iterator[Row]:
    """Yield the table of the comparison of two models."""
    yield ("rows", "metrics", "comparison", f"{part['draws']:,} draws")
    yield (f"{part['rows']:,}", str(part["metrics"]), f"{part['cpu']:.2f} s", f"{part['bootstrap_cpu']:,.0f} s")


def report(part: Results) -> Iterator[Row]:
    """Yield the table of the report, by where main's side comes from."""
    yield ("main's results from", "CPU seconds", "of its imports")
    for title, name in (("DVC's cache", "cpu"), ("`dvc repro`", "by_dvc")):
        yield (title, f"{part[name]:.1f}", f"{part[name] / part['imports']:.2f}")


def first_run(part: Results) -> Iterator[Row]:
    """Yield the table of the first run."""
    yield ("installed by", "seconds", "CPU seconds")
    for name in ("uv", "pip"):
        yield (name, f"{part[name]['wall']:.1f}", f"{part[name]['cpu']:.1f}")


def stages(part: Results) -> Iterator[Row]:
    """Yield the table of the stages and their imports."""
    yield ("stage", "CPU seconds", "bare imports", "difference")
    for stage, costs in sorted(part["stages"].items(), key=lambda one: ORDER.index(one[0])):
        yield (stage, f"{costs['cpu']:.2f}", f"{costs['imports']:.2f}", f"{costs['cpu'] - costs['imports']:+.2f}")
    yield ("`dvc repro`, nothing to do", f"{part['nothing']['cpu']:.2f}", "", "")


def machine(found: Results) -> Iterator[Row]:
    """Yield the table of what each part was measured on."""
    yield ("part", "day", "machine", "load before", "versions")
    for name, part in found.items():
        of = part["machine"]
        versions = ", ".join(f"{library} {version}" for library, version in sorted(of["versions"].items()))
        on = f"{of['processor']}, {of['cores']} cores, {of['memory_gib']} GiB"
        yield (name, of["day"], on, f"{of['load']:g}", f"Python {of['python']}, {versions}")


def at(part: Results, rows: int) -> Mapping[str, Any]:
    """Return what was measured at a size, or nothing."""
    found: Mapping[str, Any] = part.get("rows", {}).get(str(rows), {})
    return found
