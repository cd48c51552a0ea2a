"""The metrics of a classifier on labelled rows, each with a 95 % confidence interval.

Every interval comes from a closed formula in O(n log n), without resampling. So millions of rows and dozens of slices
cost seconds, and the same rows always give the same numbers.

Where a customer has several rows, the influences of these rows are summed before they are squared, so an interval
counts customers (the cluster-robust variance of Liang & Zeger 1986; Cameron & Miller 2015). A proportion has as many
trials as its variance is worth (the effective sample size of Kish 1965).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from churn.config.params import AT_EQUAL_NUMBER, PROFIT, Campaign, Evaluate

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Z = 1.959964  # of a two-sided 95 % interval
CALIBRATION_BINS = 10


@dataclass(frozen=True, eq=False)
class Known:
    """Rows whose customers are known: the entry and the customer of each. They are one of `each` customers of all."""

    entries: npt.NDArray[np.intp]
    customers: npt.NDArray[np.intp]
    each: float

    def sums(self, influences: Floats) -> Floats:
        """Return the influence of each customer, as large as that of `each` customers together."""
        sums = np.bincount(self.customers, weights=influences[self.entries])
        return np.asarray(sums * np.sqrt(self.each), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Weights:
    """How many rows an entry stands for, as where rows with nearly one score are counted.

    Each row is of another customer, unless the customers of some rows are `known`.
    """

    rows: Floats
    known: Known | None = None

    def __getitem__(self, entries: npt.NDArray[np.bool_]) -> "Weights":
        """Return the weights of some entries."""
        if self.known is None:
            return Weights(self.rows[entries])
        there, places = entries[self.known.entries], entries.cumsum() - 1
        inside = replace(self.known, entries=places[self.known.entries[there]], customers=self.known.customers[there])
        return Weights(self.rows[entries], inside)


Customers = npt.NDArray[np.intp] | Weights | None


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The label of each row, and where customers have several rows the number of its customer, from 0 on.

    Where rows have a day, `late` says which are later than the training. Each has the shape (rows,). Rows may also be
    counted: then each label is of an entry, and `customers` has its Weights.
    """

    labels: Floats
    customers: Customers = None
    late: npt.NDArray[np.bool_] | None = None

    @property
    def number(self) -> int:
        """How many customers the rows are of."""
        return len(self.labels) if self.customers is None else customers_in(np.asarray(self.customers))

    def __getitem__(self, rows: npt.NDArray[np.bool_]) -> "Outcomes":
        """Return the outcomes of some rows."""
        parts = (None if part is None else part[rows] for part in (self.customers, self.late))
        return Outcomes(self.labels[rows], *parts)  # type: ignore[arg-type]  # of the same kinds


def outcomes(labels: "npt.ArrayLike | Outcomes") -> Outcomes:
    """Return labels as Outcomes, in which each row is one customer."""
    return labels if isinstance(labels, Outcomes) else Outcomes(np.asarray(labels, dtype=np.float64))


@dataclass(frozen=True, eq=False)
class Estimate:
    """A metric's value, its 95 % interval, and each customer's influence on it; None where the rows do not define it.

    `influences`, shape (customers,), are the derivatives of the value by the customers' weights: the infinitesimal
    jackknife (Efron 1982), which for ratios is the delta method. The sum of their squares is the value's variance; that
    of an entry of so many rows is multiplied by the root of their number.
    `step` is the influence of one row on the other side of the threshold, 0 where no threshold decides. Of a slice at
    capacity, and where customers have numbers, these are all customers, else those of the slice.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    influences: Floats | None = None
    step: float = 0.0


@dataclass(frozen=True, eq=False)
class _Linear:
    """A value and each row's influence on it, through multiples, differences and ratios (the delta method)."""

    value: float
    influences: Floats

    def __mul__(self, factor: float) -> "_Linear":
        return _Linear(self.value * factor, self.influences * factor)

    def __sub__(self, other: "_Linear") -> "_Linear":
        return _Linear(self.value - other.value, self.influences - other.influences)

    def __truediv__(self, other: "_Linear") -> "_Linear":
        value = self.value / other.value
        return _Linear(value, (self.influences - value * other.influences) / other.value)


def all_metrics(
    labels: npt.ArrayLike | Outcomes,
    scores: npt.ArrayLike,
    params: Evaluate,
    rows: npt.NDArray[np.bool_] | None = None,
) -> dict[str, Estimate]:
    """Return every metric of `churn.config.params.METRICS` with its interval.

    Parameters
    ----------
    labels : array_like, shape (customers,), or Outcomes
        1 where the customer churned, else 0. Outcomes have the customers of the rows, too.
    scores : array_like, shape (customers,)
        The probability of churn, in [0, 1].
    params : Evaluate
        The score from which a customer counts as predicted to churn, and the campaign.
    rows : array_like of bool, shape (customers,), optional
        Those of a slice. The campaign contacts the highest scores of all customers.

    Returns
    -------
    dict of str to Estimate
        By the metric's name. Log loss is in nats, profit in the currency of `params.campaign`, lift a ratio; every
        other metric is a share.

    Examples
    --------
    >>> from pathlib import Path
    >>> from churn.config.params import load_params
    >>> params = load_params(Path("tests/sample/params.yaml")).evaluate
    >>> metrics = all_metrics([1, 1, 0, 0, 0], [0.9, 0.4, 0.6, 0.2, 0.1], params)
    >>> metrics["precision"].value, metrics["recall"].value, metrics["lift_at_capacity"].value
    (0.5, 0.5, 2.5)
    >>> round(metrics["roc_auc"].value, 3), round(metrics["roc_auc"].low, 3)
    (0.833, 0.152)
    """
    given, p = outcomes(labels), np.asarray(scores, dtype=np.float64)
    y, customers = given.labels, given.customers
    inside = np.ones(len(y)) if rows is None else rows.astype(np.float64)
    at_capacity = campaign_metrics(y, p, inside, params.campaign, customers)
    if rows is not None:
        y, p, customers = y[rows], p[rows], None if customers is None else customers[rows]
    predicted = (p >= params.threshold).astype(np.float64)
    return {
        "accuracy": _proportion((predicted == y).astype(np.float64), np.ones_like(y), customers),
        "average_precision": average_precision(y, p, customers),
        "brier_score": _mean((p - y) ** 2, customers),
        "expected_calibration_error": expected_calibration_error(y, p, customers),
        "f1": _f1(y, predicted, customers),
        "log_loss": _mean(_log_losses(y, p), customers),
        "precision": _proportion(y * predicted, predicted, customers),
        "recall": _proportion(y * predicted, y, customers),
        "roc_auc": roc_auc(y, p, customers),
        **at_capacity,
    }


def _by_customer(influences: Floats, customers: Customers) -> Floats:
    """Return the sum of the influences of each customer's rows, those of the rows where each row is one customer."""
    if customers is None:
        return influences
    if isinstance(customers, Weights):
        return customers.known.sums(influences) if customers.known else influences * np.sqrt(customers.rows)
    return np.bincount(customers, weights=influences).astype(np.float64)


def sum_of(values: Floats, customers: Customers) -> float:
    """Return the sum over all rows."""
    return float(values @ customers.rows) if isinstance(customers, Weights) else float(values.sum())


def number_of_rows(values: npt.NDArray[Any], customers: Customers) -> float:
    """Return the number of rows that the entries of `values` stand for."""
    return float(customers.rows.sum()) if isinstance(customers, Weights) else len(values)


def _mean_of(values: Floats, customers: Customers) -> float:
    if isinstance(customers, Weights):
        return sum_of(values, customers) / number_of_rows(values, customers)
    return float(values.mean())


def _counts(groups: npt.NDArray[np.intp], values: Floats | None, customers: Customers) -> Floats:
    """Return the number of rows in each group, or the sum of their values."""
    if isinstance(customers, Weights):
        values = customers.rows if values is None else values * customers.rows
    return np.bincount(groups, weights=values).astype(np.float64)


def value_at(ranks: Sequence[int], values: Floats, customers: Customers) -> Floats:
    """Return the values at some ranks, from 0 on in ascending order."""
    if not isinstance(customers, Weights):
        return np.partition(values, ranks)[[*ranks]]
    order = np.argsort(values)
    places = np.searchsorted(customers.rows[order].cumsum(), ranks, side="right")
    found: Floats = values[order][places.clip(0, len(values) - 1)]
    return found


def customers_in(numbers: npt.NDArray[np.intp]) -> int:
    """Return how many customers have one of these numbers, which are from 0 on, in a hundredth of np.unique's time."""
    return int(np.count_nonzero(np.bincount(numbers)))


def rows_each(customers: Customers) -> float:
    """Return how many rows a customer has, on average; 1 where each row is one customer."""
    if isinstance(customers, Weights):
        customers = customers.known.customers if customers.known else None
    if customers is None or not len(customers):
        return 1.0
    return len(customers) / customers_in(customers)


def _rows_worth_one(influences: Floats, customers: Customers) -> float:
    """Return how many rows are worth one customer: the design effect, 1 where each row is one customer (Kish 1965)."""
    if customers is None or (isinstance(customers, Weights) and customers.known is None):
        return 1.0
    by_row = sum_of(influences**2, customers)
    if not by_row:  # all rows are alike, so nothing shows how much the rows of a customer agree
        return rows_each(customers)
    return float(np.sum(_by_customer(influences, customers) ** 2)) / by_row


def _wilson(share: float, trials: float) -> tuple[float, float]:
    """Return the score interval of a proportion (Wilson 1927)."""
    spread = Z**2 / trials
    centre = share + spread / 2
    reach = np.sqrt(spread * (share * (1 - share) + spread / 4))
    low, high = (centre - reach) / (1 + spread), (centre + reach) / (1 + spread)
    return max(float(low), 0.0), min(float(high), 1.0)


def _proportion(counted: Floats, among: Floats, customers: Customers) -> Estimate:
    """Return sum(counted) / sum(among), where `among` counts the trials of each row and `counted` its successes."""
    if not (trials := sum_of(among, customers)):
        return Estimate()
    share = sum_of(counted, customers) / trials
    influences = (counted - share * among) / trials
    interval = _wilson(share, trials / _rows_worth_one(influences, customers))
    return Estimate(share, *interval, _by_customer(influences, customers), 1 / trials)


def _f1(y: Floats, predicted: Floats, customers: Customers) -> Estimate:
    """Return F1 = 2J / (1 + J), its interval from that of the Jaccard index J = TP / (TP + FP + FN), a proportion."""
    f1 = _proportion(y * predicted, (y + predicted) / 2, customers)
    if f1.value is None:
        return f1
    jaccard, trials = f1.value / (2 - f1.value), np.maximum(y, predicted)
    worth = _rows_worth_one(y * predicted - jaccard * trials, customers)
    ends = _wilson(jaccard, sum_of(trials, customers) / worth)
    low, high = (2 * end / (1 + end) for end in ends)
    return replace(f1, low=low, high=high)


def _mean(losses: Floats, customers: Customers) -> Estimate:
    """Return the mean of one non-negative number a row, with its normal interval."""
    if not (rows := number_of_rows(losses, customers)):
        return Estimate()
    value = _mean_of(losses, customers)
    influences = (losses - value) / rows
    if rows < 2:
        return Estimate(value, influences=_by_customer(influences, customers))
    if isinstance(customers, Weights):
        std = float(np.sqrt(sum_of((losses - value) ** 2, customers) / (rows - 1)))
    else:
        std = float(losses.std(ddof=1))
    reach = Z * std / np.sqrt(rows) * np.sqrt(_rows_worth_one(influences, customers))
    return Estimate(value, max(value - reach, 0.0), value + reach, _by_customer(influences, customers))


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


def _share_below(scores: Floats, others: Floats, customers: Customers) -> Floats:
    """Return for each score the share of `others` below it, with half of those equal to it; NaN where one is NaN."""
    found, ascending = np.empty_like(scores), np.argsort(scores)
    asked = scores[ascending]  # in ascending order they are found four times as fast
    if isinstance(customers, Weights):
        order = np.argsort(others)
        others, below = others[order], np.append(0, customers.rows[order].cumsum())
        ends = below[np.searchsorted(others, asked, "left")] + below[np.searchsorted(others, asked, "right")]
        found[ascending] = ends / 2 / below[-1]
        return found
    others = np.sort(others)  # NaN last
    shares = (np.searchsorted(others, asked, "left") + np.searchsorted(others, asked, "right")) / 2 / len(others)
    found[ascending] = np.where(np.isnan(asked) | np.isnan(others[-1]), np.nan, shares)
    return found


def roc_auc(y: Floats, p: Floats, customers: Customers = None) -> Estimate:
    """Return the area under the ROC curve, its variance after DeLong et al. 1988.

    The placement of a churner is the share of stayers that it outranks, found by binary search. The mean placement of
    either class is the area. The squared influences of a class sum to the variance of its mean placement.
    """
    churned, stayed = p[y == 1], p[y == 0]
    of_churned, of_stayed = (customers[y == one] if isinstance(customers, Weights) else None for one in (1, 0))
    rows = {1: number_of_rows(churned, of_churned), 0: number_of_rows(stayed, of_stayed)}
    if not (fewest := min(rows.values())):
        return Estimate()
    above, below = _share_below(churned, stayed, of_stayed), 1 - _share_below(stayed, churned, of_churned)
    value = _mean_of(above, of_churned)
    if fewest < 2:  # one row has no variance
        return Estimate(value)
    influences = np.empty_like(y)
    for label, placements in ((1, above), (0, below)):
        influences[y == label] = (placements - value) / np.sqrt(rows[label] * (rows[label] - 1))
    return _area(value, _by_customer(influences, customers), fewest / _rows_worth_one(influences, customers))


def average_precision(y: Floats, p: Floats, customers: Customers = None) -> Estimate:
    """Return the average precision, sum of (R_k - R_k-1) P_k over the distinct scores."""
    if not (positives := sum_of(y, customers)):
        return Estimate()
    _, group = np.unique(-p, return_inverse=True)  # rows by descending score, ties together
    hits_in, rows_in = _counts(group, y, customers), _counts(group, None, customers)
    hits, rows = hits_in.cumsum(), rows_in.cumsum()
    precision = hits / rows
    value = float(np.sum(hits_in * precision) / positives)
    # A row weighs in the precision of every churner that scores no more than it does.
    as_hit = np.cumsum((hits_in / rows)[::-1])[::-1]
    as_row = np.cumsum((hits_in * hits / rows**2)[::-1])[::-1]
    influences = (y * (precision[group] - value + as_hit[group]) - as_row[group]) / positives
    return _area(value, _by_customer(influences, customers), positives / _rows_worth_one(influences, customers))


def calibration_bins(p: Floats) -> npt.NDArray[np.intp]:
    """Return the number of each score's bin, shape (rows,), of CALIBRATION_BINS equal ones; 1 is in the last."""
    return np.minimum((p * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)


def expected_calibration_error(y: Floats, p: Floats, customers: Customers = None) -> Estimate:
    """Return the mean over rows of |mean score - churn rate| of the row's bin, in ten equal bins of the score.

    The metric is that of Naeini et al. 2015. Given the sign of each bin's gap it is a mean of one signed residual a
    row, which gives the interval. The lower end is less by the error that perfectly calibrated scores show by chance:
    the sum of sqrt(2 / pi) times the standard error of each bin, since that error is never negative.
    """
    bins = calibration_bins(p)
    signed = np.sign(_counts(bins, p - y, customers))[bins] * (p - y)
    error = _mean(signed, customers)
    if error.low is None:
        return error
    worth = _rows_worth_one(signed - _mean_of(signed, customers), customers)
    spread = _counts(bins, p * (1 - p), customers)
    chance = np.sqrt(2 / np.pi * spread * worth).sum() / number_of_rows(p, customers)
    return replace(error, low=max(error.low - float(chance), 0.0))


def contacted(scores: npt.ArrayLike, capacity: float, customers: Customers = None) -> Floats:
    """Return which share of each customer a campaign contacts: 1 above the cut-off, 0 below it.

    Customers with the score at the cut-off share the rest, so the shares sum to capacity * customers, and the order of
    the customers decides nothing.

    Examples
    --------
    >>> contacted([0.1, 0.5, 0.9, 0.5], capacity=0.5)
    array([0. , 0.5, 1. , 0.5])
    """
    p = np.asarray(scores, dtype=np.float64)
    rows = int(number_of_rows(p, customers))
    places = capacity * rows
    (cut_off,) = value_at([max(rows - 1 - int(places), 0)], p, customers)
    above, tied = p > cut_off, p == cut_off
    left = places - sum_of(above.astype(np.float64), customers)
    shares: Floats = np.where(tied, left / sum_of(tied.astype(np.float64), customers), above)
    return shares


def campaign_metrics(
    y: Floats, p: Floats, inside: Floats, campaign: Campaign, customers: Customers = None
) -> dict[str, Estimate]:
    """Return the metrics of the customers that a campaign contacts, of those that are `inside` a slice (1, else 0).

    docs/metrics.md has the definitions. The cut-off is estimated from the same customers, and each of them moves it. So
    the influence of a customer on the mean of w z, where w is the share contacted, is w (z - m) + m * capacity - mean,
    where m is the mean of z at the cut-off (Hampel 1974 for a quantile; Osier 2009 for the sum above one). With ties at
    the cut-off m is that of the tied customers, else that of the nearest sqrt(customers) ranks on either side.
    """
    lift, precision, recall, profit = Estimate(), Estimate(), Estimate(), Estimate()
    if inside.any():
        rows, capacity = number_of_rows(y, customers), campaign.capacity
        w, each = contacted(p, capacity, customers), rows_each(customers)
        near = _near(p, capacity, customers)
        there = customers[near] if isinstance(customers, Weights) else None

        def total(z: Floats) -> _Linear:
            mean = _mean_of(z, customers)
            return _Linear(mean, _by_customer((z - mean) / rows, customers))

        def reached(z: Floats) -> _Linear:
            mean, m = _mean_of(w * z, customers), _mean_of(z[near], there)
            return _Linear(mean, _by_customer((w * (z - m) + m * capacity - mean) / rows, customers))

        everybody, churners, contacts, hits = total(inside), total(inside * y), reached(inside), reached(inside * y)
        rate = _mean_of(y[near], there)
        step = max(rate, 1 - rate) / rows  # one customer enters, and one like those at the cut-off leaves
        if churners.value:
            recall = _share(hits / churners, churners.value * rows / each, step / churners.value)
        if contacts.value:
            precision = _share(hits / contacts, contacts.value * rows / each, step / contacts.value)
        if churners.value and contacts.value:
            lift = _lift(hits / contacts / (churners / everybody), precision, churners.value / everybody.value)
        if money := campaign.profit:
            worth = money.success_rate * money.retained_value
            profit = _profit((hits * worth - contacts * money.offer_cost) / everybody, step * worth / everybody.value)
    return {
        "lift_at_capacity": lift,
        "precision_at_capacity": precision,
        PROFIT: profit,
        "recall_at_capacity": recall,
    }


def _near(p: Floats, capacity: float, customers: Customers) -> npt.NDArray[np.bool_]:
    """Return who is at the cut-off: the nearest sqrt(customers), with their rows, on either side, and their ties."""
    rows, each = int(number_of_rows(p, customers)), rows_each(customers)
    last, reach = rows - 1 - int(capacity * rows), round(np.sqrt(rows / each) * each)
    ends = [max(last - reach, 0), min(last + reach, rows - 1)]
    lowest, highest = value_at(ends, p, customers)
    near: npt.NDArray[np.bool_] = (p >= lowest) & (p <= highest)
    return near


def at_equal_number(
    labels: npt.ArrayLike | Outcomes,
    scores: tuple[npt.ArrayLike, npt.ArrayLike],
    threshold: float,
    rows: npt.NDArray[np.bool_],
) -> tuple[dict[str, Estimate], dict[str, Estimate]]:
    """Return F1, precision and recall of two models that predict equally many customers to churn, for a slice.

    The first model predicts those from the threshold on, the second as many of its highest scores. The estimates have a
    value and the influences of all customers. One that enters the first model's number moves the second model's cut-off
    by as much, and so adds the mean of those who are there.
    """
    given, inside = outcomes(labels), rows.astype(np.float64)
    y, customers = given.labels, given.customers
    first, second = (np.asarray(one, dtype=np.float64) for one in scores)
    if not len(y):
        return (dict.fromkeys(AT_EQUAL_NUMBER, Estimate()),) * 2
    chosen = (first >= threshold).astype(np.float64)
    share = float(chosen.mean())
    alike, near = contacted(second, share), _near(second, share, customers)

    def estimates(w: Floats) -> dict[str, Estimate]:
        def total(z: Floats) -> _Linear:
            mean, m = float(np.mean(w * z)), float(z[near].mean())
            return _Linear(mean, _by_customer((w * z - mean + m * (chosen - w)) / len(y), customers))

        def ratio(over: _Linear, under: _Linear) -> Estimate:
            if not under.value:
                return Estimate()
            one = over / under
            return Estimate(one.value, influences=one.influences, step=1 / (under.value * len(y)))

        mean = float(np.mean(inside * y))
        churners = _Linear(mean, _by_customer((inside * y - mean) / len(y), customers))
        hits, predicted = total(inside * y), total(inside)
        return {
            "f1": ratio(hits, (churners - predicted * -1) * 0.5),
            "precision": ratio(hits, predicted),
            "recall": ratio(hits, churners),
        }

    return estimates(chosen), estimates(alike)


def _share(one: _Linear, trials: float, step: float) -> Estimate:
    return replace(_area(one.value, one.influences, trials), step=step)


def _lift(one: _Linear, precision: Estimate, base: float) -> Estimate:
    """Return a ratio of two rates with its interval on the log scale (Katz et al. 1978).

    Where all or none of the contacted churned, the ends are those of the precision, divided by the `base` rate.
    """
    step, error = precision.step / base, float(np.sqrt(np.sum(one.influences**2)))
    if precision.value not in (0, 1) and error > 0:
        factor = float(np.exp(Z * error / one.value))
        return Estimate(one.value, one.value / factor, one.value * factor, one.influences, step)
    low, high = (None if end is None else end / base for end in (precision.low, precision.high))
    return Estimate(one.value, low, high, one.influences, step)


def _profit(one: _Linear, step: float) -> Estimate:
    reach = Z * float(np.sqrt(np.sum(one.influences**2)))
    return Estimate(one.value, one.value - reach, one.value + reach, one.influences, step)


def as_json(metrics: Mapping[str, Estimate]) -> dict[str, Any]:
    """Return the values by name, and under `intervals` their ends, rounded to six places.

    Below that, processors differ. DVC leaves lists, such as an interval, out of its tables.
    """

    def rounded(number: float | None) -> float | None:
        return None if number is None else round(number, 6)

    intervals = {name: [rounded(estimate.low), rounded(estimate.high)] for name, estimate in metrics.items()}
    return {name: rounded(estimate.value) for name, estimate in metrics.items()} | {"intervals": intervals}
