"""Draws a model, or main's and the branch's one over the other, in four panels, for a pull request.

The picture has no background. Its middle tones stand out from GitHub's light page and from its dark one. Main is broad
and grey, the branch narrow and blue on top of it, so that both are visible where they are the same, by any eye.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

Curves = Mapping[str, pd.DataFrame]  # as churn.evaluation.curves.curves returns them

TEXT = "#747d8a"  # has the contrast 4.2 to white and 4.5 to GitHub's #0d1117
MAIN = {"color": "#8b949e", "alpha": 0.65, "linewidth": 4.5}
BRANCH = {"color": "#1f7ae0", "linewidth": 1.7}
STYLE: Any = {
    "axes.edgecolor": TEXT,
    "axes.facecolor": "none",
    "axes.labelcolor": TEXT,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": TEXT,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "axes.titleweight": "bold",
    "axes.titley": 1.0,  # else each panel measures its labels twice, to find a place that none of them takes
    "figure.dpi": 200,
    "figure.facecolor": "none",
    "text.color": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
}


def draw(models: Mapping[str, Curves], path: Path) -> None:
    """Write a PNG of one or two models' curves, by name.

    Parameters
    ----------
    models : mapping of str to Curves
        The last is drawn on top, narrow and blue; one before it broad and grey. The legend has the names.
    path : Path
        The file, whose folder is made. The same curves give the same bytes.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image  # which matplotlib brings along

    with rc_context(STYLE):
        figure = Figure(figsize=(8, 6.2))
        # Fixed margins: a layout that measures the text first draws the figure twice.
        figure.subplots_adjust(left=0.085, right=0.985, bottom=0.075, top=0.905, wspace=0.26, hspace=0.36)
        panels = list(figure.subplots(2, 2).flat)
        churned, stayed = list(models.values())[-1]["scores"][["churned", "stayed"]].sum()
        _frame(panels, churned / (churned + stayed))
        for (name, curves), line in zip(models.items(), (MAIN, BRANCH)[-len(models) :], strict=True):
            _model(panels, curves, name, line)
        lines, _ = panels[0].get_legend_handles_labels()
        figure.legend(handles=lines, loc="upper right", ncols=2, frameon=False)
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba())
    # A palette takes a third of the bytes.
    drawn.quantize(method=Image.Quantize.FASTOCTREE).save(path, format="PNG")


def _frame(panels: Sequence[Any], churn_rate: float) -> None:
    """Draw the axes. Dotted is a model without knowledge, and in the third panel a perfectly calibrated one."""
    roc, precision, calibration, scores = panels
    guide = {"color": TEXT, "linewidth": 1, "linestyle": ":"}
    roc.set(title="ROC: higher is better", xlabel="False positive rate", ylabel="True positive rate")
    roc.plot([0, 1], [0, 1], **guide)
    precision.set(title="Precision and recall: higher is better", xlabel="Recall", ylabel="Precision")
    precision.plot([0, 1], [churn_rate, churn_rate], **guide)
    calibration.set(title="Calibration: dotted is ideal", xlabel="Mean score", ylabel="Share that churned")
    calibration.plot([0, 1], [0, 1], **guide)
    for panel in (roc, precision, calibration):
        panel.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.03))
    scores.set(title="Scores: further apart is better", xlabel="Score", ylabel="Share of either", xlim=(-0.02, 1.02))
    scores.yaxis.set_major_formatter(lambda share, _: f"{abs(share):.0%}")
    scores.axhline(0, color=TEXT, linewidth=1, zorder=3)
    scores.text(0.02, 0.98, "churned", transform=scores.transAxes, va="top")
    scores.text(0.98, 0.02, "stayed", transform=scores.transAxes, ha="right")


def _model(panels: Sequence[Any], curves: Curves, name: str, line: Mapping[str, Any]) -> None:
    """Draw a model into each panel."""
    roc, precision, calibration, scores = panels
    roc.plot("false_positive_rate", "true_positive_rate", data=curves["roc"], label=name, **line)
    precision.plot("recall", "precision", data=curves["precision_recall"], **line)
    dots = {"marker": "o", "markersize": line["linewidth"] + 3, "markeredgewidth": 0}
    calibration.plot("mean_score", "churn_rate", data=curves["calibration"], **line, **dots)
    table = curves["scores"]
    edges = [number / len(table) for number in range(len(table) + 1)]
    for group, side in (("churned", 1), ("stayed", -1)):
        scores.stairs(side * table[group] / table[group].sum(), edges, fill=line is MAIN, **line)
