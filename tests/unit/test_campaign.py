"""Lift, precision, recall and profit among the customers that a campaign can contact."""

from churn.config.params import PROFIT, Campaign, Profit
from churn.evaluation.metrics import all_metrics, contacted
from churn.evaluation.paired import compare
from churn.gate.baseline import vs_baseline
from tests.unit.test_metrics import AT_HALF, sample
from tests.unit.test_paired import two_models

import numpy as np
import pytest

NAMES = ("lift_at_capacity", "precision_at_capacity", PROFIT, "recall_at_capacity")


MONEY = Profit(retained_value=500, offer_cost=20, success_rate=0.25)


def at_capacity(capacity, profit=MONEY):
    """Return the sample's settings with another campaign."""
    return AT_HALF.model_copy(update={"campaign": Campaign(capacity=capacity, profit=profit)})


def values_of(y, p, params, rows=None):
    return {name: estimate.value for name, estimate in all_metrics(y, p, params, rows).items() if name in NAMES}


@pytest.mark.parametrize("capacity", [0.05, 0.1, 0.4])
@pytest.mark.parametrize("old_customers_alone", [False, True])
def test_values_are_those_of_the_sorted_list_of_customers(capacity, old_customers_alone):
    y, p = sample(2_000)
    rows = np.arange(2_000) % 3 == 0 if old_customers_alone else np.ones(2_000, dtype=bool)
    top = np.isin(np.arange(2_000), np.argsort(-p)[: round(capacity * 2_000)])
    found = values_of(y, p, at_capacity(capacity), rows)
    precision = y[top & rows].mean()
    assert found == pytest.approx(
        {
            "precision_at_capacity": precision,
            "recall_at_capacity": y[top & rows].sum() / y[rows].sum(),
            "lift_at_capacity": precision / y[rows].mean(),
            PROFIT: (0.25 * 500 * y[top & rows] - 20).sum() / rows.sum(),
        }
    )


def test_customers_with_the_score_at_the_cut_off_share_the_rest_in_any_order():
    scores = np.array([0.9, 0.5, 0.5, 0.5, 0.5, 0.1])
    assert contacted(scores, 0.5).tolist() == [1, 0.5, 0.5, 0.5, 0.5, 0]
    assert contacted(scores, 1 / 3).tolist() == pytest.approx([1, 0.25, 0.25, 0.25, 0.25, 0])
    assert contacted(scores[::-1], 0.5).tolist() == [0, 0.5, 0.5, 0.5, 0.5, 1]
    y, p = sample(1_500, ties=True)
    order = np.random.default_rng(0).permutation(len(y))
    assert values_of(y[order], p[order], AT_HALF) == pytest.approx(values_of(y, p, AT_HALF))
    assert contacted(p, 0.1234).sum() == pytest.approx(0.1234 * 1_500)


@pytest.mark.parametrize("capacity", [0.01, 0.1, 0.999])
def test_a_constant_score_has_the_lift_one_for_all_and_for_each_slice(capacity):
    y, _ = sample(1_000)
    for rows in (np.ones(1_000, dtype=bool), np.arange(1_000) < 300):
        found = values_of(y, np.full(1_000, 0.3), at_capacity(capacity), rows)
        assert found["lift_at_capacity"] == pytest.approx(1)
        assert found["recall_at_capacity"] == pytest.approx(capacity)
        assert found["precision_at_capacity"] == pytest.approx(y[rows].mean())


def test_a_slice_of_which_nobody_is_contacted_has_no_precision_and_reaches_no_churner():
    y, p = sample(1_000)
    found = values_of(y, p, AT_HALF, p < 0.2)
    assert found == {"lift_at_capacity": None, "precision_at_capacity": None, "recall_at_capacity": 0.0, PROFIT: 0.0}
    assert set(values_of(y, p, AT_HALF, p > 2).values()) == {None}
    stayers = values_of(y, p, AT_HALF, y == 0)
    assert (stayers["lift_at_capacity"], stayers["recall_at_capacity"]) == (None, None)
    assert stayers["precision_at_capacity"] == 0
    assert stayers[PROFIT] < 0


def test_without_the_values_of_a_contact_there_is_no_profit_and_all_else_is_the_same():
    y, p = sample(1_000)
    assert values_of(y, p, at_capacity(0.1, None)) == values_of(y, p, AT_HALF) | {PROFIT: None}


def test_a_few_customers_and_a_perfect_order_have_wide_intervals():
    y = np.array([1.0, 1, 1, 0, 0, 0, 0, 0, 0, 0])
    found = all_metrics(y, np.linspace(1, 0, 10), at_capacity(0.3))
    assert found["precision_at_capacity"].value == found["recall_at_capacity"].value == 1
    assert found["precision_at_capacity"].low < 0.5
    assert found["lift_at_capacity"].value == pytest.approx(10 / 3)
    assert found["lift_at_capacity"].low < 2
    assert set(values_of(y[:1], y[:1], AT_HALF).values()) != {None}


@pytest.mark.parametrize(("capacity", "rows"), [(0.05, 1_000), (0.3, 400)])
def test_the_intervals_of_a_slice_hold_the_truth_nineteen_times_in_twenty(capacity, rows):
    """A slice that is contacted more than others: the cut-off moves with customers outside of it."""
    params = at_capacity(capacity)

    def found(count, seed):
        y, p = sample(count, seed)
        inside = np.random.default_rng(seed).random(count) < 0.2 + 0.6 * p
        return all_metrics(y, p, params, inside)

    truth, samples = found(400_000, 0), [found(rows, seed) for seed in range(1, 401)]
    for name in NAMES:
        held = np.mean([one[name].low <= truth[name].value <= one[name].high for one in samples])
        assert 0.92 <= held <= 0.985, (name, held)


def test_a_worse_top_at_an_equal_roc_auc_is_blocked_and_an_equal_top_passes(params):
    """The order of the top fifth is lost, and that of the others is better than main's, so the ROC AUC is equal."""
    labels, main, _ = two_models(6_000, noise=(0.3, 0.3))
    _, _, exact = two_models(6_000, noise=(0.3, 0.1))
    top = main >= np.quantile(main, 0.8)
    mixed = np.where(top, main, exact)
    mixed[top] = np.random.default_rng(1).permutation(main[top])

    def outcomes(branch):
        found = compare(labels, main, branch, params.evaluate)
        rules = {one.metric: one.status for one in vs_baseline(len(labels), found, [], params.gate) if one.margin}
        return found, rules

    found, rules = outcomes(mixed)
    assert abs(found["roc_auc"].difference) < 0.002, found["roc_auc"]
    assert (found["lift_at_capacity"].verdict, rules["lift_at_capacity"]) == ("worse", "failed")
    _, rules = outcomes(np.where(top, main, main * 0.999))
    assert rules["lift_at_capacity"] == "passed"
