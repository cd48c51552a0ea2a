"""The targets of the benchmarks, their limits, and what was measured."""

from collections.abc import Iterator

from benchmarks.tables import (
    COLUMNS,
    OURS,
    RUN,
    SHARED,
    SUMMED,
    TUTORIAL,
    Results,
    Row,
    at,
    estimator_of,
    name_of,
    total,
    whole_run,
)


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
    yield from pipeline_targets(found.get("pipelines", {}))
    checks = at(found.get("validation", {}), 10 * million)
    for engine, limit in (("pandas_script", 0.25), ("pandera_polars", 0.5)):
        if engine in checks:
            ratio = checks["this_pipeline"]["cpu"] / checks[engine]["cpu"]
            yield f"validation at 10,000,000 rows, CPU seconds of those of {name_of(engine)}", limit, ratio
    if checks:
        yield "validation at 10,000,000 rows, MiB", 1024, checks["this_pipeline"]["peak"]
    yield from scale_targets(found.get("scale", {}))
    if "comparison" in found:
        part = found["comparison"]
        yield f"comparison on {part['rows']:,} rows, CPU seconds", 5, part["cpu"]
    if merged := at(found.get("merge", {}), million):
        yield "merge at 1,000,000 rows, of a run", 0.3, merged["reused"]["cpu"] / merged["whole"]["cpu"]
    if "report" in found:
        yield "report, of its imports", 1.5, found["report"]["cpu"] / found["report"]["imports"]
    if "first_run" in found:
        yield "from a clone to a registered model, seconds", 40, found["first_run"]["uv"]["wall"]
    if "stages" in found:
        yield "`dvc repro` with nothing to do, of `dvc status`", 1.3, found["stages"]["nothing"]["ratio"]


def pipeline_targets(part: Results) -> Iterator[tuple[str, float, float]]:
    """Yield the targets beside other ways to run the steps."""
    million = 1_000_000
    runners = {rows: at(part, rows) for rows in (7_043, million)}
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


def scale_targets(part: Results) -> Iterator[tuple[str, float, float]]:
    """Yield the targets of the whole pipeline at ten million rows, and of its growth from one to fifty million."""
    small, middle, large = (at(part, rows * 10**6) for rows in (1, 10, 50))
    runs = {name: run for name in middle if (run := whole_run(middle, name))}
    if runs:
        best = min(runs, key=lambda name: runs[name]["wall"])
        title = f"fetch to register at 10,000,000 rows with {estimator_of(best)}"
        yield f"{title}, seconds", 120, runs[best]["wall"]
        yield f"{title}, MiB", 3072, runs[best]["peak"]
    for name in large:
        least, most = whole_run(small, name), whole_run(large, name)
        if least and most:
            title = f"CPU seconds a row with {estimator_of(name)} at 50,000,000 rows, of those at 1,000,000"
            yield title, 1.1, most["cpu"] / 50 / least["cpu"]
    if SHARED in middle and SHARED in large:
        before, after = (
            max(costs["peak"] for name, costs in each[SHARED].items() if name in RUN) for each in (middle, large)
        )
        yield "MiB of fetch, prepare and validate at 50,000,000 rows, of those at 10,000,000", 1.1, after / before
