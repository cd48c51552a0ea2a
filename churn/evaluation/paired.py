"""Paired comparison of two models on the same labelled rows: each metric's difference and its interval.

The rows are the same, so most of their noise cancels out. The rest comes from each row's influence on either metric.
The variance of a difference is the sum over rows of the squared difference of their influences. For the ROC AUC that is
the paired test of DeLong et al. 1988, for means the paired z test. For the others it is the infinitesimal jackknife
(Efron 1982), which for ratios is the delta method. As in metrics.py nothing is resampled.
The bias of a calibration error (see there) stays in: two equally good models have the same bias.

The interval covers the noise of the rows. It does not cover that another seed trains another model.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from churn.config.params import METRICS, SMALLER_IS_BETTER
from churn.evaluation.metrics import (
    Floats,
    Z,
    average_precision_derivative,
    calibration_residuals,
    log_losses,
    placements,
)

import numpy as np
import numpy.typing as npt

DECISIONS = ("accuracy", "f1", "precision", "recall")  # threshold metrics


@dataclass(frozen=True)
class Difference:
    """A metric of main and of the branch, branch - main with its 95 % interval, and what that says.

    None is what the rows do not define; without an interval the verdict is `undefined`. The verdict is `better` or
    `worse` where the interval leaves out 0, whichever direction is better for the metric.
    """

    main: float | None = None
    branch: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    verdict: Literal["better", "worse", "noise", "undefined"] = "undefined"


class _Measured(NamedTuple):
    """A metric's value, the influence of each row on it, and that of a row decided the other way (0 if gradual)."""

    value: float
    influences: Floats
    step: float = 0.0


def compare(
    labels: npt.ArrayLike, main_scores: npt.ArrayLike, branch_scores: npt.ArrayLike, threshold: float
) -> dict[str, Difference]:
    """Return the difference in every metric of churn.config.params.METRICS for labels (0 or 1) and scores in [0, 1].

    All of shape (rows,), in the same order. A row counts as predicted to churn from a score of `threshold` on.
    """
    y = np.asarray(labels, dtype=np.float64)
    main, branch = (
        _measure(y, np.asarray(scores, dtype=np.float64), threshold) for scores in (main_scores, branch_scores)
    )
    return {name: _difference(name, main.get(name), branch.get(name)) for name in METRICS}


def _measure(y: Floats, p: Floats, threshold: float) -> dict[str, _Measured]:
    """Return the metrics that the rows define."""
    predicted, each = (p >= threshold).astype(np.float64), np.ones_like(y)
    ratios = {
        "accuracy": ((predicted == y).astype(np.float64), each),
        "brier_score": ((p - y) ** 2, each),
        "expected_calibration_error": (calibration_residuals(y, p), each),
        "f1": (y * predicted, (y + predicted) / 2),
        "log_loss": (log_losses(y, p), each),
        "precision": (y * predicted, predicted),
        "recall": (y * predicted, y),
    }
    measured = {}
    for name, (counted, among) in ratios.items():
        if total := float(among.sum()):
            value = float(counted.sum()) / total
            measured[name] = _Measured(value, (counted - value * among) / total, (name in DECISIONS) / total)
    if y.any():
        measured["average_precision"] = _Measured(*average_precision_derivative(y, p))
    if 0 < y.sum() < len(y):
        measured["roc_auc"] = _area(y, p)
    return measured


def _area(y: Floats, p: Floats) -> _Measured:
    """Return the ROC AUC; the squares of a class's influences sum to the variance of its mean placement."""
    parts = placements(y, p)
    value = float(parts[0].mean())
    influences = np.full(len(y), np.nan)  # one row alone of a class says nothing of its variance
    for label, placement in zip((1, 0), parts, strict=True):
        if (rows := len(placement)) > 1:
            influences[y == label] = (placement - value) / np.sqrt(rows * (rows - 1))
    return _Measured(value, influences)


def _difference(name: str, main: _Measured | None, branch: _Measured | None) -> Difference:
    if main is None or branch is None:
        return Difference(main and main.value, branch and branch.value)
    difference = branch.value - main.value
    variance = float(np.sum((branch.influences - main.influences) ** 2))
    if variance or difference:
        # Of a few rows decided differently, chance may have put all on one side: as Bonett & Price 2012 do for
        # proportions, count one more on either side. So accuracy's verdict is no bolder than McNemar's mid-p test.
        variance += 2 * max(main.step, branch.step) ** 2
        if not variance > 0:
            return Difference(main.value, branch.value, difference)
    reach = Z * float(np.sqrt(variance))
    low, high = difference - reach, difference + reach
    gain_low, gain_high = (-high, -low) if name in SMALLER_IS_BETTER else (low, high)
    verdict: Literal["better", "worse", "noise"] = "better" if gain_low > 0 else "worse" if gain_high < 0 else "noise"
    return Difference(main.value, branch.value, difference, low, high, verdict)
