"""The metrics of a classifier on labelled rows, each with a 95 % confidence interval.

No resampling: every interval comes from a closed formula in O(n log n), so that millions of rows, and
dozens of slices, cost seconds, and the same rows always give the same numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Z = 1.959964  # of a two-sided 95 % interval
CALIBRATION_BINS = 10


@dataclass(frozen=True)
class Estimate:
    """A metric's value and 95 % interval; None where the rows do not define it."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


def all_metrics(labels: npt.ArrayLike, scores: npt.ArrayLike, threshold: float) -> dict[str, Estimate]:
    """Return every metric of churn.config.params.METRICS for labels (0 or 1) and scores in [0, 1], shape (rows,).

    A row counts as predicted to churn from a score of `threshold` on.
    """
    y, p = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    predicted = p >= threshold
    hits, alarms, positives = float(y[predicted].sum()), float(predicted.sum()), float(y.sum())
    right = float(np.sum(predicted == (y == 1)))
    return {
        "accuracy": _proportion(right, len(y)),
        "average_precision": average_precision(y, p),
        "brier_score": _mean((p - y) ** 2),
        "expected_calibration_error": expected_calibration_error(y, p),
        "f1": _f1(hits, alarms + positives - hits),
        "log_loss": _mean(log_losses(y, p)),
        "precision": _proportion(hits, alarms),
        "recall": _proportion(hits, positives),
        "roc_auc": roc_auc(y, p),
    }


def _proportion(successes: float, trials: float) -> Estimate:
    """Return a proportion with its score interval (Wilson 1927)."""
    if not trials:
        return Estimate()
    share, spread = successes / trials, Z**2 / trials
    centre = share + spread / 2
    reach = np.sqrt(spread * (share * (1 - share) + spread / 4))
    low, high = (centre - reach) / (1 + spread), (centre + reach) / (1 + spread)
    return Estimate(share, max(float(low), 0.0), min(float(high), 1.0))


def _f1(hits: float, hits_or_errors: float) -> Estimate:
    """Return F1 = 2J / (1 + J) of the Jaccard index J = TP / (TP + FP + FN), a proportion."""
    jaccard = _proportion(hits, hits_or_errors)
    return Estimate(*(value and 2 * value / (1 + value) for value in (jaccard.value, jaccard.low, jaccard.high)))


def _mean(losses: Floats) -> Estimate:
    """Return the mean of one non-negative number a row, with its normal interval."""
    if not len(losses):
        return Estimate()
    value = float(losses.mean())
    if len(losses) < 2:
        return Estimate(value)
    reach = Z * float(losses.std(ddof=1)) / np.sqrt(len(losses))
    return Estimate(value, max(value - reach, 0.0), value + reach)


def _on_logit_scale(value: float, variance: float, fewest: float) -> Estimate:
    """Return an area in [0, 1] with a normal interval on the logit scale, which stays inside.

    Where the formula has no width (a perfect order, or nothing but ties), it is that of a proportion of the `fewest`
    rows that one class has.
    """
    if not 0 < value < 1 or not variance > 0:
        return _proportion(value * fewest, fewest)
    logit, reach = np.log(value / (1 - value)), Z * np.sqrt(variance) / (value * (1 - value))
    low, high = (1 / (1 + np.exp(-end)) for end in (logit - reach, logit + reach))
    return Estimate(value, float(low), float(high))


def log_losses(y: Floats, p: Floats) -> Floats:
    """Return each row's log loss; a score of 0 or 1 counts as one just inside."""
    clipped = np.clip(p, np.finfo(np.float64).eps, 1 - np.finfo(np.float64).eps)
    return -np.where(y == 1, np.log(clipped), np.log1p(-clipped))


def placements(y: Floats, p: Floats) -> tuple[Floats, Floats]:
    """Return the share of stayers that each churner outranks, and of churners that outrank each stayer.

    Either's mean is the area under the ROC curve; by binary search, so that no pair is looked at. A tie counts half.
    Both outcomes must occur.
    """
    churned, stayed = p[y == 1], p[y == 0]
    return _share_below(churned, stayed), 1 - _share_below(stayed, churned)


def _share_below(scores: Floats, others: Floats) -> Floats:
    """Return for each score the share of `others` below it, with half of those equal to it; NaN where one is NaN."""
    others = np.sort(others)  # NaN last
    shares = (np.searchsorted(others, scores, "left") + np.searchsorted(others, scores, "right")) / 2 / len(others)
    return np.where(np.isnan(scores) | np.isnan(others[-1]), np.nan, shares)


def roc_auc(y: Floats, p: Floats) -> Estimate:
    """Return the area under the ROC curve, its variance after DeLong et al. 1988."""
    m, n = int((y == 1).sum()), int((y == 0).sum())
    if not m or not n:
        return Estimate()
    above, below = placements(y, p)
    value = float(above.mean())
    if min(m, n) < 2:
        return Estimate(value)
    return _on_logit_scale(value, float(above.var(ddof=1) / m + below.var(ddof=1) / n), min(m, n))


def average_precision(y: Floats, p: Floats) -> Estimate:
    """Return the average precision, sum of (R_k - R_k-1) P_k over the distinct scores.

    Its variance is that of the infinitesimal jackknife (Efron 1982): the sum over rows of the squared
    derivative of the value by the row's weight.
    """
    positives = float(y.sum())
    if not positives:
        return Estimate()
    value, derivative = average_precision_derivative(y, p)
    return _on_logit_scale(value, float(np.sum(derivative**2)), positives)


def average_precision_derivative(y: Floats, p: Floats) -> tuple[float, Floats]:
    """Return the average precision and its derivative by each row's weight; at least one row churned."""
    positives = float(y.sum())
    _, group = np.unique(-p, return_inverse=True)  # rows by descending score, ties together
    hits_in, rows_in = np.bincount(group, weights=y), np.bincount(group).astype(np.float64)
    hits, rows = hits_in.cumsum(), rows_in.cumsum()
    precision = hits / rows
    value = float(np.sum(hits_in * precision) / positives)
    # A row weighs in the precision of every churner that scores no more than it does.
    as_hit = np.cumsum((hits_in / rows)[::-1])[::-1]
    as_row = np.cumsum((hits_in * hits / rows**2)[::-1])[::-1]
    return value, (y * (precision[group] - value + as_hit[group]) - as_row[group]) / positives


def calibration_bins(p: Floats) -> npt.NDArray[np.intp]:
    """Return the number of each score's bin, shape (rows,), of CALIBRATION_BINS equal ones; 1 is in the last."""
    return np.minimum((p * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)


def calibration_residuals(y: Floats, p: Floats) -> Floats:
    """Return each row's score - label, its sign that of its bin's sum: the mean is the expected calibration error."""
    bins = calibration_bins(p)
    return np.sign(np.bincount(bins, weights=p - y))[bins] * (p - y)


def expected_calibration_error(y: Floats, p: Floats) -> Estimate:
    """Return the mean over rows of |mean score - churn rate| of the row's bin, in ten equal bins of the score.

    The metric is that of Naeini et al. 2015. Given the sign of each bin's gap it is a mean of one signed residual a
    row, which gives the interval; its lower end is less by the error that perfectly calibrated scores would show by
    chance, sum of sqrt(2 / pi) times the standard error of each bin, since that error is never negative.
    """
    if not len(p):
        return Estimate()
    found = _mean(calibration_residuals(y, p))
    chance = np.sqrt(2 / np.pi * np.bincount(calibration_bins(p), weights=p * (1 - p))).sum() / len(p)
    return Estimate(found.value, found.low and max(found.low - float(chance), 0.0), found.high)


def as_json(metrics: Mapping[str, Estimate]) -> dict[str, Any]:
    """Return the values by name, and under `intervals` their ends, rounded to six places.

    Below that, processors differ. Lists, such as an interval, are what DVC leaves out of its tables.
    """

    def rounded(number: float | None) -> float | None:
        return None if number is None else round(number, 6)

    intervals = {name: [rounded(estimate.low), rounded(estimate.high)] for name, estimate in metrics.items()}
    return {name: rounded(estimate.value) for name, estimate in metrics.items()} | {"intervals": intervals}
