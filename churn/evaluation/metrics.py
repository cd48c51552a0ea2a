"""The metrics of a classifier on labelled rows, each with a 95 % confidence interval.

Every interval comes from a closed formula in O(n log n), without resampling. So millions of rows and dozens of slices
cost seconds, and the same rows always give the same numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Z = 1.959964  # of a two-sided 95 % interval
CALIBRATION_BINS = 10


@dataclass(frozen=True, eq=False)
class Estimate:
    """A metric's value, its 95 % interval, and each row's influence on it; None where the rows do not define it.

    `influences`, shape (rows,), are the derivatives of the value by the rows' weights: the infinitesimal jackknife
    (Efron 1982), which for ratios is the delta method. The sum of their squares is the value's variance. `step` is the
    influence of one row on the other side of the threshold, 0 where no threshold decides.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    influences: Floats | None = None
    step: float = 0.0


def all_metrics(labels: npt.ArrayLike, scores: npt.ArrayLike, threshold: float) -> dict[str, Estimate]:
    """Return every metric of `churn.config.params.METRICS` with its interval.

    Parameters
    ----------
    labels : array_like, shape (rows,)
        1 where the customer churned, else 0.
    scores : array_like, shape (rows,)
        The probability of churn, in [0, 1].
    threshold : float
        A row counts as predicted to churn from this score on.

    Returns
    -------
    dict of str to Estimate
        By the metric's name. Log loss is in nats; every other metric is a share.

    Examples
    --------
    >>> metrics = all_metrics([1, 1, 0, 0, 0], [0.9, 0.4, 0.6, 0.2, 0.1], threshold=0.5)
    >>> metrics["precision"].value, metrics["recall"].value
    (0.5, 0.5)
    >>> round(metrics["roc_auc"].value, 3), round(metrics["roc_auc"].low, 3)
    (0.833, 0.152)
    """
    y, p = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    predicted = (p >= threshold).astype(np.float64)
    return {
        "accuracy": _proportion((predicted == y).astype(np.float64), np.ones_like(y)),
        "average_precision": average_precision(y, p),
        "brier_score": _mean((p - y) ** 2),
        "expected_calibration_error": expected_calibration_error(y, p),
        "f1": _f1(y, predicted),
        "log_loss": _mean(_log_losses(y, p)),
        "precision": _proportion(y * predicted, predicted),
        "recall": _proportion(y * predicted, y),
        "roc_auc": roc_auc(y, p),
    }


def _wilson(share: float, trials: float) -> tuple[float, float]:
    """Return the score interval of a proportion (Wilson 1927)."""
    spread = Z**2 / trials
    centre = share + spread / 2
    reach = np.sqrt(spread * (share * (1 - share) + spread / 4))
    low, high = (centre - reach) / (1 + spread), (centre + reach) / (1 + spread)
    return max(float(low), 0.0), min(float(high), 1.0)


def _proportion(counted: Floats, among: Floats) -> Estimate:
    """Return sum(counted) / sum(among), where `among` counts the trials of each row and `counted` its successes."""
    if not (trials := float(among.sum())):
        return Estimate()
    share = float(counted.sum()) / trials
    return Estimate(share, *_wilson(share, trials), (counted - share * among) / trials, 1 / trials)


def _f1(y: Floats, predicted: Floats) -> Estimate:
    """Return F1 = 2J / (1 + J), its interval from that of the Jaccard index J = TP / (TP + FP + FN), a proportion."""
    f1 = _proportion(y * predicted, (y + predicted) / 2)
    if f1.value is None:
        return f1
    ends = _wilson(f1.value / (2 - f1.value), float(np.maximum(y, predicted).sum()))
    low, high = (2 * end / (1 + end) for end in ends)
    return replace(f1, low=low, high=high)


def _mean(losses: Floats) -> Estimate:
    """Return the mean of one non-negative number a row, with its normal interval."""
    if not (rows := len(losses)):
        return Estimate()
    value = float(losses.mean())
    influences = (losses - value) / rows
    if rows < 2:
        return Estimate(value, influences=influences)
    reach = Z * float(losses.std(ddof=1)) / np.sqrt(rows)
    return Estimate(value, max(value - reach, 0.0), value + reach, influences)


def _area(value: float, influences: Floats, fewest: float) -> Estimate:
    """Return an area in [0, 1] with a normal interval on the logit scale, which stays inside.

    Where the formula has no width (a perfect order, or only ties), it is the interval of a proportion of the `fewest`
    rows that one class has.
    """
    variance = float(np.sum(influences**2))
    if not 0 < value < 1 or not variance > 0:
        return Estimate(value, *_wilson(value, fewest), influences)
    logit, reach = np.log(value / (1 - value)), Z * np.sqrt(variance) / (value * (1 - value))
    low, high = (float(1 / (1 + np.exp(-end))) for end in (logit - reach, logit + reach))
    return Estimate(value, low, high, influences)


def _log_losses(y: Floats, p: Floats) -> Floats:
    """Return each row's log loss; a score of 0 or 1 counts as one just inside."""
    clipped = np.clip(p, np.finfo(np.float64).eps, 1 - np.finfo(np.float64).eps)
    return -np.where(y == 1, np.log(clipped), np.log1p(-clipped))


def _share_below(scores: Floats, others: Floats) -> Floats:
    """Return for each score the share of `others` below it, with half of those equal to it; NaN where one is NaN."""
    others = np.sort(others)  # NaN last
    shares = (np.searchsorted(others, scores, "left") + np.searchsorted(others, scores, "right")) / 2 / len(others)
    return np.where(np.isnan(scores) | np.isnan(others[-1]), np.nan, shares)


def roc_auc(y: Floats, p: Floats) -> Estimate:
    """Return the area under the ROC curve, its variance after DeLong et al. 1988.

    The placement of a churner is the share of stayers that it outranks, found by binary search. The mean placement of
    either class is the area. The squared influences of a class sum to the variance of its mean placement.
    """
    churned, stayed = p[y == 1], p[y == 0]
    if not (fewest := min(len(churned), len(stayed))):
        return Estimate()
    above, below = _share_below(churned, stayed), 1 - _share_below(stayed, churned)
    value = float(above.mean())
    if fewest < 2:  # one row has no variance
        return Estimate(value)
    influences = np.empty_like(y)
    for label, placements in ((1, above), (0, below)):
        influences[y == label] = (placements - value) / np.sqrt(len(placements) * (len(placements) - 1))
    return _area(value, influences, fewest)


def average_precision(y: Floats, p: Floats) -> Estimate:
    """Return the average precision, sum of (R_k - R_k-1) P_k over the distinct scores."""
    if not (positives := float(y.sum())):
        return Estimate()
    _, group = np.unique(-p, return_inverse=True)  # rows by descending score, ties together
    hits_in, rows_in = np.bincount(group, weights=y), np.bincount(group).astype(np.float64)
    hits, rows = hits_in.cumsum(), rows_in.cumsum()
    precision = hits / rows
    value = float(np.sum(hits_in * precision) / positives)
    # A row weighs in the precision of every churner that scores no more than it does.
    as_hit = np.cumsum((hits_in / rows)[::-1])[::-1]
    as_row = np.cumsum((hits_in * hits / rows**2)[::-1])[::-1]
    return _area(value, (y * (precision[group] - value + as_hit[group]) - as_row[group]) / positives, positives)


def calibration_bins(p: Floats) -> npt.NDArray[np.intp]:
    """Return the number of each score's bin, shape (rows,), of CALIBRATION_BINS equal ones; 1 is in the last."""
    return np.minimum((p * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)


def expected_calibration_error(y: Floats, p: Floats) -> Estimate:
    """Return the mean over rows of |mean score - churn rate| of the row's bin, in ten equal bins of the score.

    The metric is that of Naeini et al. 2015. Given the sign of each bin's gap it is a mean of one signed residual a
    row, which gives the interval. The lower end is less by the error that perfectly calibrated scores show by chance:
    the sum of sqrt(2 / pi) times the standard error of each bin, since that error is never negative.
    """
    bins = calibration_bins(p)
    error = _mean(np.sign(np.bincount(bins, weights=p - y))[bins] * (p - y))
    if error.low is None:
        return error
    chance = np.sqrt(2 / np.pi * np.bincount(bins, weights=p * (1 - p))).sum() / len(p)
    return replace(error, low=max(error.low - float(chance), 0.0))


def as_json(metrics: Mapping[str, Estimate]) -> dict[str, Any]:
    """Return the values by name, and under `intervals` their ends, rounded to six places.

    Below that, processors differ. DVC leaves lists, such as an interval, out of its tables.
    """

    def rounded(number: float | None) -> float | None:
        return None if number is None else round(number, 6)

    intervals = {name: [rounded(estimate.low), rounded(estimate.high)] for name, estimate in metrics.items()}
    return {name: rounded(estimate.value) for name, estimate in metrics.items()} | {"intervals": intervals}
