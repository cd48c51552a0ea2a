"""One picture of a model from its plots' data: ROC, precision-recall, calibration, scores."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

CHURNED, STAYED, GUIDE = "#d1495b", "#30638e", "#999999"


def draw(plots: Path) -> Figure:
    """Return a figure of four panels, from the CSV files that evaluate writes to `plots`."""
    figure = Figure(figsize=(9, 8))
    # Fixed margins: tight_layout() draws the figure once more to measure it, 0.13 s. Numbers of six digits fit.
    figure.subplots_adjust(left=0.075, right=0.985, bottom=0.065, top=0.96, wspace=0.3, hspace=0.26)
    roc_axes, precision_axes, calibration_axes, score_axes = figure.subplots(2, 2).flat

    roc = pd.read_csv(plots / "roc.csv")
    roc_axes.plot([0, 1], [0, 1], color=GUIDE, linestyle=":")
    roc_axes.plot(roc["false_positive_rate"], roc["true_positive_rate"], color=STAYED)
    roc_axes.set(title="ROC", xlabel="False positive rate", ylabel="True positive rate")

    precision = pd.read_csv(plots / "precision_recall.csv")
    precision_axes.plot(precision["recall"], precision["precision"], color=STAYED)
    precision_axes.set(title="Precision and recall", xlabel="Recall", ylabel="Precision", ylim=(0, 1.02))

    calibration = pd.read_csv(plots / "calibration.csv")
    calibration_axes.plot([0, 1], [0, 1], color=GUIDE, linestyle=":")
    calibration_axes.plot(calibration["mean_score"], calibration["churn_rate"], color=STAYED, marker="o")
    calibration_axes.set(title="Calibration", xlabel="Mean score", ylabel="Share that churned")

    scores = pd.read_csv(plots / "scores.csv")
    width = 1 / len(scores)
    score_axes.bar(scores["score"], scores["stayed"], width, color=STAYED, label="stayed")
    score_axes.bar(scores["score"], scores["churned"], width, bottom=scores["stayed"], color=CHURNED, label="churned")
    score_axes.set(title="Scores", xlabel="Score", ylabel="Customers")
    score_axes.legend()
    return figure
