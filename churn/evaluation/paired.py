"""Paired comparison of two models on the same labelled rows: each metric's difference and its interval.

The rows are the same, so most of their noise cancels out. The rest comes from each customer's influence on either
metric (`churn.evaluation.metrics.Estimate`). The variance of a difference is the sum over customers of the squared
difference of their influences. For the ROC AUC that is the paired test of DeLong et al. 1988, for means the paired z
test, and for the others the infinitesimal jackknife (Efron 1982). The bias of a calibration error stays in, because two
equally good models have the same bias.

A retrained model predicts fewer churners where fewer churn, and its recall falls though it ranks customers as well.
So F1, precision and recall compare equal numbers: as many of the branch's highest scores as main predicts to churn.

The interval covers the noise of the rows. It does not cover that another seed trains another model.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from churn.config.params import METRICS, SMALLER_IS_BETTER, Evaluate
from churn.evaluation.metrics import (
    Estimate,
    Floats,
    Outcomes,
    Z,
    all_metrics,
    at_equal_number,
    outcomes,
    rows_each,
)
from churn.evaluation.slices import Slice

import numpy as np
import numpy.typing as npt

# Of a slice's churners, and of its stayers. Of 1,000 pairs of equally good models, DeLong's interval calls 12 worse by
# 3.7 standard errors with 2 churners, 2 with 4, and 1 or none from 5 on; 0.1 is meant.
FEWEST = 5


@dataclass(frozen=True)
class Difference:
    """A metric of main and of the branch, branch - main with its 95 % interval, and the verdict on it.

    None is what the rows do not define; without an interval the verdict is `undefined`. The verdict is `better` or
    `worse` where the interval leaves out 0, whichever direction is better for the metric.
    """

    main: float | None = None
    branch: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    verdict: Literal["better", "worse", "noise", "undefined"] = "undefined"


Differences = Mapping[str, Difference]  # by the metric's name


class SliceDifferences(NamedTuple):
    """A slice's name, its number of rows, and the difference in each metric on them."""

    name: str
    rows: int
    differences: Differences


def compare(
    labels: npt.ArrayLike | Outcomes,
    main_scores: npt.ArrayLike,
    branch_scores: npt.ArrayLike,
    params: Evaluate,
    rows: npt.NDArray[np.bool_] | None = None,
) -> dict[str, Difference]:
    """Return the difference in every metric of `churn.config.params.METRICS`, with its 95 % interval.

    Parameters
    ----------
    labels : array_like, shape (customers,), or Outcomes
        1 where the customer churned, else 0. Outcomes have the customers of the rows, too.
    main_scores, branch_scores : array_like, shape (customers,)
        Each model's probability of churn, in [0, 1], in the order of the labels.
    params : Evaluate
        The score from which a customer counts as predicted to churn, and the campaign.
    rows : array_like of bool, shape (customers,), optional
        Those of a slice. The campaign contacts the highest scores of all customers.

    Returns
    -------
    dict of str to Difference
        By the metric's name, branch - main, in the metric's unit.

    Examples
    --------
    >>> from pathlib import Path
    >>> from churn.config.params import load_params
    >>> params = load_params(Path("tests/sample/params.yaml")).evaluate
    >>> labels, main = [1, 1, 0, 0] * 50, [0.8, 0.4, 0.6, 0.2] * 50
    >>> recall = compare(labels, main, [0.8, 0.7, 0.6, 0.2] * 50, params)["recall"]
    >>> recall.main, recall.branch, recall.verdict
    (0.5, 1.0, 'better')
    """
    main, branch = (all_metrics(labels, scores, params, rows) for scores in (main_scores, branch_scores))
    customers = outcomes(labels).customers
    inside = np.ones(len(outcomes(labels).labels), dtype=bool) if rows is None else rows
    equally = at_equal_number(labels, (main_scores, branch_scores), params.threshold, inside)
    for metrics, replaced in zip((main, branch), equally, strict=True):
        metrics.update(replaced)
    each = rows_each(customers)
    return {name: _difference(name, main[name], branch[name], each) for name in METRICS}


def compare_slices(
    slices: Iterable[Slice],
    labels: npt.ArrayLike | Outcomes,
    scores: tuple[Floats, Floats],
    params: Evaluate,
    min_rows: int,
) -> Iterator[SliceDifferences]:
    """Yield the differences on each slice, undefined below `min_rows` customers, where intervals are too narrow.

    That of the ROC AUC needs FEWEST customers of either outcome, too.

    Labels and both models' scores, main's first, have the shape (rows,), as the slices.
    """
    given = outcomes(labels)
    for name, _, rows in slices:
        found = compare(given, *scores, params, rows) if given[rows].number >= min_rows else {}
        if found and min(given[rows & (given.labels == one)].number for one in (0, 1)) < FEWEST:
            area = found["roc_auc"]
            found["roc_auc"] = Difference(area.main, area.branch, area.difference)
        yield SliceDifferences(name, int(rows.sum()), found or dict.fromkeys(METRICS, Difference()))


def _difference(name: str, main: Estimate, branch: Estimate, each: float) -> Difference:
    """Return the difference in a metric of customers who have `each` rows, on average."""
    if main.value is None or branch.value is None:
        return Difference(main.value, branch.value)
    difference = branch.value - main.value
    if main.influences is None or branch.influences is None:
        return Difference(main.value, branch.value, difference)
    variance = float(np.sum((branch.influences - main.influences) ** 2))
    if variance or difference:
        # Of a few rows decided differently, chance may have put all on one side: as Bonett & Price 2012 do for
        # proportions, count one more on either side. So accuracy's verdict is no bolder than McNemar's mid-p test.
        variance += 2 * (max(main.step, branch.step) * each) ** 2
        if not variance > 0:
            return Difference(main.value, branch.value, difference)
    return difference_within(name, main.value, branch.value, Z * float(np.sqrt(variance)))


def difference_within(name: str, main: float, branch: float, reach: float) -> Difference:
    """Return the difference of two values of a metric, whose 95 % interval has half the width `reach`."""
    low, high = branch - main - reach, branch - main + reach
    gain_low, gain_high = (-high, -low) if name in SMALLER_IS_BETTER else (low, high)
    verdict: Literal["better", "worse", "noise"] = "better" if gain_low > 0 else "worse" if gain_high < 0 else "noise"
    return Difference(main, branch, branch - main, low, high, verdict)
