"""Renews the tables and the picture of docs/benchmarks.md from benchmarks/results.json.

Usage: python -m benchmarks.page
"""

import argparse
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.measure import ROOT
from churn.core.files import replacing

RESULTS = ROOT / "benchmarks/results.json"
PAGE = ROOT / "docs/benchmarks.md"
PICTURE = ROOT / "docs/benchmarks.svg"
TABLE = re.compile(r"(?<=<!-- python -m benchmarks.page: )(?P<part>\w+) -->\n.*?(?=<!-- end -->)", re.DOTALL)
COLUMNS = {
    "cold": "cold",
    "nothing": "nothing changed",
    "gate": "gate bound",
    "training": "training parameter",
    "feature": "feature code",
    "data": "data",
}
ORDER = ("fetch", "prepare", "profile", "validate", "train", "evaluate", "gate", "register", "score", "drift")
RUN = {"fetch", "prepare", "validate", "train", "evaluate", "gate"}
SUMMED = ("cold", "nothing", "gate", "training")
OURS = "dvc repro"
TUTORIAL = ("tutorial", "tutorial, Make")
Results = Mapping[str, Any]
Row = Sequence[str]


def results() -> dict[str, Any]:
    """Return what was measured so far, by part."""
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    return found


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
    """Yield the table of the stages by size."""
    stages = sorted(next(iter(sizes(part)))[1], key=ORDER.index)
    yield ("stage", *(f"{int(rows):,} rows" for rows, _ in sizes(part)))
    for stage in stages:
        yield (stage, *(cell(costs.get(stage)) for _, costs in sizes(part)))
    whole = [sum(costs[name]["cpu"] for name in RUN) if costs.keys() >= RUN else None for _, costs in sizes(part)]
    yield ("fetch to gate", *("" if one is None else f"{one:.1f} s" for one in whole))


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


def targets(found: Results) -> Iterator[Row]:
    """Yield the table of the targets, as far as they were measured."""
    yield ("target", "limit", "measured", "")
    for name, limit, value in measured_targets(found):
        yield (
            name,
            f"{limit:g}",
            f"{value:.3g}" if value < 100 else f"{value:,.0f}",
            "met" if value <= limit else "missed",
        )


def measured_targets(found: Results) -> Iterator[tuple[str, float, float]]:
    """Yield each target with its limit and what was measured."""
    million = 1_000_000
    runners = {rows: at(found.get("pipelines", {}), rows) for rows in (7_043, million)}
    if {OURS, "tutorial"} <= set(runners[7_043]):
        ours, theirs = (runners[7_043][name]["cold"]["cpu"] for name in (OURS, "tutorial"))
        yield "cold run, of the tutorial's four scripts", 0.65, ours / theirs
    for rows, each in runners.items():
        frameworks = [name for name in each if name != OURS and name not in TUTORIAL]
        if OURS in each and frameworks:
            best = min(frameworks, key=lambda name: total(each[name]))
            title = f"sum of four columns at {rows:,} rows, of the best framework's ({best})"
            yield title, 1, total(each[OURS]) / total(each[best])
    if len(runners[million]) > 1:
        each = runners[million]
        frameworks = [name for name in each if name != OURS and name not in TUTORIAL]
        for column in SUMMED:
            best = min(frameworks, key=lambda name: each[name][column]["cpu"])
            title = f"{COLUMNS[column]} at a million rows, of the best framework's ({best})"
            yield title, 1, each[OURS][column]["cpu"] / each[best][column]["cpu"]
    checks = at(found.get("validation", {}), 10 * million)
    for engine, limit in (("pandas_script", 0.25), ("pandera_polars", 0.5)):
        if engine in checks:
            ratio = checks["this_pipeline"]["cpu"] / checks[engine]["cpu"]
            yield f"validation at 10,000,000 rows, CPU seconds of those of {name_of(engine)}", limit, ratio
    if checks:
        yield "validation at 10,000,000 rows, MiB", 1024, checks["this_pipeline"]["peak"]
    if "comparison" in found:
        part = found["comparison"]
        yield f"comparison on {part['rows']:,} rows, CPU seconds", 5, part["cpu"]
    if merged := at(found.get("merge", {}), million):
        yield "merge at 1,000,000 rows, of a run", 0.3, merged["reused"]["cpu"] / merged["whole"]["cpu"]
    if "stages" in found:
        yield "`dvc repro` with nothing to do, of `dvc status`", 1.3, found["stages"]["nothing"]["ratio"]


PARTS: Mapping[str, Callable[[Results], Iterator[Row]]] = {
    "pipelines": pipelines,
    "validation": validation,
    "scale": scale,
    "merge": merge,
    "comparison": comparison,
    "stages": stages,
}
WHOLE: Mapping[str, Callable[[Results], Iterator[Row]]] = {"targets": targets, "machine": machine}


def filled(page: str, found: Results) -> str:
    """Return the page with its tables as the results have them now. A part that was never measured has no table."""

    def table(match: re.Match[str]) -> str:
        part = match["part"]
        rows = list(WHOLE[part](found)) if part in WHOLE else list(PARTS[part](found[part])) if part in found else []
        lines = [rows[0], ("---",) * len(rows[0]), *rows[1:]] if rows else [("not measured yet",)]
        return f"{part} -->\n\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in lines) + "\n"

    return TABLE.sub(table, page)


def draw(found: Results) -> None:
    """Draw the CPU seconds of each way to run the steps, a panel for each size."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    panels = list(sizes(found["pipelines"])) if "pipelines" in found else []
    if not panels:
        return
    mpl.rcParams.update({"svg.hashsalt": "churn", "svg.fonttype": "none"})
    figure = Figure(figsize=(5 * len(panels), 3.6), layout="constrained")
    palette = ("#0969da", "#54aeff", "#9a6700", "#d4a72c")
    for axes, (rows, runners) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        names = in_order(runners)[::-1]
        left = [0.0] * len(names)
        for column, color in zip(SUMMED, palette, strict=True):
            widths = [runners[name][column]["cpu"] for name in names]
            axes.barh(names, widths, left=left, color=color, label=COLUMNS[column])
            left = [a + b for a, b in zip(left, widths, strict=True)]
        axes.set_title(f"{int(rows):,} customers", fontsize=11)
        axes.set_xlabel("CPU seconds")
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncol=len(SUMMED), frameon=False, fontsize=9)
    with replacing(PICTURE) as tmp:
        figure.savefig(tmp, format="svg", facecolor="white", metadata={"Date": None})


def renew(found: Results) -> None:
    """Write the page's tables and the picture."""
    text = filled(PAGE.read_text(encoding="utf-8"), found)
    with replacing(PAGE) as tmp:
        tmp.write_text(text, encoding="utf-8")
    draw(found)


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__.partition("\n")[0]).parse_args()
    renew(results())
