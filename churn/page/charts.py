"""Places the curves of one or two models in a frame of fixed size: the points of the SVG on a page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from churn.core.errors import StageError
from churn.evaluation.plots import Curves

import numpy as np
import pandas as pd

WIDTH, HEIGHT = 320, 250  # of a chart
LEFT, RIGHT, TOP, BOTTOM = 48, 8, 8, 40  # its margins
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
COLUMNS = {  # by file: the columns of numbers
    "roc": ("false_positive_rate", "true_positive_rate"),
    "precision_recall": ("recall", "precision"),
    "gains": ("contacted", "churners_reached"),
    "calibration": ("mean_score", "churn_rate"),
    "scores": ("score", "churned", "stayed"),
}
SIDES = (("churned", 1), ("stayed", -1))  # of the axis
OUTCOMES = ("churned", "stayed")
AGAIN = "run `dvc repro --force --single-item evaluate`"


@dataclass(frozen=True)
class Importance:
    """How far the ROC AUC falls where the values of a feature are shuffled."""

    name: str
    fall: float


@dataclass(frozen=True)
class Line:
    """A curve: the points of a `polyline`, and whether each is marked by a dot."""

    kind: Literal["guide", "before", "now"]
    points: str
    dots: bool = False


@dataclass(frozen=True)
class Tick:
    """A label of an axis, and its place in pixels."""

    at: str
    text: str


@dataclass(frozen=True)
class Chart:
    """A chart: its words, its ticks, and its lines, of which the last is drawn on top."""

    title: str
    hint: str
    x_label: str
    y_label: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    lines: Sequence[Line]


def read_curves(folder: Path) -> dict[str, pd.DataFrame]:
    """Read the CSV files of evaluate, by name.

    Raises StageError when one is missing, or has another column or value than evaluate writes.
    """
    return {name: _read(folder / f"{name}.csv", columns) for name, columns in COLUMNS.items()}


def read_confusion(folder: Path) -> dict[tuple[str, str], int]:
    """Return the number of customers by outcome and prediction, `stayed` or `churned`. Raises StageError likewise."""
    table = _read(folder / "confusion.csv", ("customers",), ("actual", "predicted"))
    counts = {(str(actual), str(predicted)): int(count) for actual, predicted, count in table.itertuples(index=False)}
    if set(counts) != {(actual, predicted) for actual in OUTCOMES for predicted in OUTCOMES}:
        raise StageError(f"{folder / 'confusion.csv'} is not what evaluate writes; {AGAIN}.")
    return counts


def read_importance(folder: Path) -> list[Importance]:
    """Return the features by importance. Raises StageError likewise."""
    table = _read(folder / "importance.csv", ("fall_in_roc_auc",), ("feature",))
    return [Importance(str(name), float(fall)) for name, fall in table.itertuples(index=False)]


def _read(path: Path, numbers: Sequence[str], texts: Sequence[str] = ()) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(texts, "str"), keep_default_na=False)[[*texts, *numbers]]
        values = table[[*numbers]].to_numpy(dtype=np.float64)
    except (OSError, ValueError, KeyError) as error:
        raise StageError(f"{path} is not what evaluate writes; {AGAIN}.") from error
    if not len(values) or not np.isfinite(values).all():
        raise StageError(f"{path} has no rows, or a number is missing; {AGAIN}.")
    return table.astype(dict.fromkeys(numbers, "float64"))


def charts(models: Mapping[str, Curves]) -> list[Chart]:
    """Return the charts of one or two models.

    Parameters
    ----------
    models : mapping of str to Curves
        By name, as `churn.evaluation.curves.curves` or `read_curves` returns them. The last model is drawn on top.

    Returns
    -------
    list of Chart
        ROC, precision and recall, gains, calibration, scores. Their points are those of the curves, in pixels.

    Examples
    --------
    >>> from churn.evaluation.curves import curves
    >>> roc = charts({"this model": curves([1, 0, 0], [0.9, 0.6, 0.1], threshold=0.5)})[0]
    >>> roc.lines[-1].points
    '48,210 48,8 180,8 312,8'
    """
    churned, stayed = list(models.values())[-1]["scores"][["churned", "stayed"]].sum()
    rate = float(churned / (churned + stayed))
    diagonal = ((0.0, 0.0), (1.0, 1.0))
    return [
        _curve(models, "roc", ("ROC", "higher is better", "False positive rate", "True positive rate"), diagonal),
        _curve(
            models,
            "precision_recall",
            ("Precision and recall", "higher is better", "Recall", "Precision"),
            ((0.0, rate), (1.0, rate)),
        ),
        _curve(
            models, "gains", ("Gains", "higher is better", "Share of customers contacted", "Churners reached"), diagonal
        ),
        _curve(models, "calibration", ("Calibration", "dotted is ideal", "Mean score", "Share that churned"), diagonal),
        _scores(models),
    ]


def _curve(
    models: Mapping[str, Curves],
    name: str,
    words: tuple[str, str, str, str],
    guide: Iterable[tuple[float, float]],
) -> Chart:
    """Return a chart of two shares against each other, `guide` dotted."""
    lines = [
        Line(kind, _points(curves[name][list(COLUMNS[name])].itertuples(index=False)), dots=name == "calibration")
        for kind, curves in _kinds(models)
    ]
    x_ticks = [Tick(_x(share), f"{share:g}") for share in SHARES]
    y_ticks = [Tick(_y(share), f"{share:g}") for share in SHARES]
    return Chart(*words, x_ticks, y_ticks, [Line("guide", _points(guide)), *lines])


def _scores(models: Mapping[str, Curves]) -> Chart:
    """Return the chart of the scores: the share of churners in each bin above the axis, of stayers below it."""
    sides = {
        kind: [sign * curves["scores"][group] / max(curves["scores"][group].sum(), 1) for group, sign in SIDES]
        for kind, curves in _kinds(models)
    }
    most = max(0.05, *(float(side.abs().max()) for both in sides.values() for side in both))
    lines = [Line("guide", _points([(0.0, 0.5), (1.0, 0.5)]))]
    for kind, both in sides.items():
        for side in both:
            width = 1 / len(side)
            steps = [(0.0, 0.5)]
            for place, share in enumerate(side):
                height = 0.5 + float(share) / most / 2
                steps += [(place * width, height), ((place + 1) * width, height)]
            lines.append(Line(kind, _points([*steps, (1.0, 0.5)])))
    x_ticks = [Tick(_x(share), f"{share:g}") for share in SHARES]
    y_ticks = [Tick(_y((share + 1) / 2), f"{abs(share) * most * 100:.3g}%") for share in (-1.0, -0.5, 0.0, 0.5, 1.0)]
    hint = "churned above, stayed below; further apart is better"
    return Chart("Scores", hint, "Score", "Share of either", x_ticks, y_ticks, lines)


def _kinds(models: Mapping[str, Curves]) -> Iterable[tuple[Literal["before", "now"], Curves]]:
    kinds: list[Literal["before", "now"]] = ["before", "now"]
    return zip(kinds[-len(models) :], models.values(), strict=True)


def _points(values: Iterable[Sequence[float]]) -> str:
    return " ".join(f"{_x(x)},{_y(y)}" for x, y in values)


def _x(share: float) -> str:
    return f"{LEFT + share * (WIDTH - LEFT - RIGHT):.5g}"


def _y(share: float) -> str:
    return f"{HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM):.5g}"
