"""Renews the tables and the picture of docs/benchmarks.md from benchmarks/results.json.

Usage: python -m benchmarks.page
"""

import argparse
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from benchmarks import tables
from benchmarks.measure import ROOT
from benchmarks.tables import COLUMNS, SUMMED, Results, Row, in_order, sizes
from benchmarks.targets import targets
from churn.core.files import replacing

RESULTS = ROOT / "benchmarks/results.json"
PAGE = ROOT / "docs/benchmarks.md"
PICTURE = ROOT / "docs/benchmarks.svg"
TABLE = re.compile(r"(?<=<!-- python -m benchmarks.page: )(?P<part>\w+) -->\n.*?(?=<!-- end -->)", re.DOTALL)


def results() -> dict[str, Any]:
    """Return what was measured so far, by part."""
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    return found


PARTS: Mapping[str, Callable[[Results], Iterator[Row]]] = {
    "pipelines": tables.pipelines,
    "validation": tables.validation,
    "scale": tables.scale,
    "merge": tables.merge,
    "comparison": tables.comparison,
    "stages": tables.stages,
    "report": tables.report,
    "first_run": tables.first_run,
}
WHOLE: Mapping[str, Callable[[Results], Iterator[Row]]] = {
    "targets": targets,
    "estimators": tables.estimators,
    "machine": tables.machine,
}


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
