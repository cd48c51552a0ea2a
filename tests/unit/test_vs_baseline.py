from churn.config.params import METRICS
from churn.evaluation.paired import Difference, SliceDifferences, compare
from churn.gate.baseline import gain, vs_baseline
from tests.conftest import evaluate_at

import numpy as np
import pytest


def difference(by, reach=0.001):
    """A paired difference of `by`, with an interval of `reach` to either side."""
    return Difference(0.8, 0.8 + by, by, by - reach, by + reach, "noise")


def all_equal(**changed):
    return {metric: difference(0.0) for metric in METRICS} | changed


def slice_of(name, **changed):
    return SliceDifferences(name, 200, all_equal(**changed))


def broken(overall, slices, rules):
    outcomes = vs_baseline(overall, slices, rules)
    return {(one.scope, one.label) for one in outcomes if one.status == "failed"}


@pytest.fixture
def rules(params):
    return params.gate.vs_baseline


def test_an_equal_model_breaks_nothing(rules):
    assert broken(all_equal(), [slice_of("a")], rules) == set()


def test_a_loss_beyond_margin_and_noise_is_named(rules):
    (outcome,) = [one for one in vs_baseline(all_equal(roc_auc=difference(-0.02)), [], rules) if one.status == "failed"]
    assert outcome.message == (
        "roc_auc of all customers is 0.7800 against main's 0.8000: 0.0200 worse, where 0.0050 is allowed"
    )
    assert outcome.margin == pytest.approx(-0.015)


@pytest.mark.parametrize(
    ("by", "reach"),
    [(-0.02, 0.03), (-0.004, 0.001)],
    ids=["beyond the margin, but within noise", "beyond noise, but within the margin"],
)
def test_neither_noise_nor_the_margin_alone_is_a_loss(by, reach, rules):
    assert broken(all_equal(roc_auc=difference(by, reach)), [], rules) == set()


def test_a_loss_that_is_better_when_smaller_has_the_other_sign(rules):
    assert gain("brier_score", difference(0.01)) == -0.01
    assert broken(all_equal(brier_score=difference(0.01)), [], rules) == {("all customers", "brier_score against main")}
    assert broken(all_equal(brier_score=difference(-0.01)), [], rules) == set()


def test_what_cannot_be_compared_is_broken(rules):
    assert ("all customers", "roc_auc against main") in broken(all_equal(roc_auc=Difference(0.8, None)), [], rules)
    nan = Difference(0.8, float("nan"), float("nan"), float("nan"), float("nan"))
    assert ("all customers", "roc_auc against main") in broken(all_equal(roc_auc=nan), [], rules)
    nothing = dict.fromkeys(METRICS, Difference())
    assert len(broken(nothing, [], rules)) == len(rules.margins) + len(rules.max_gain)


def test_a_slice_that_is_too_small_to_compare_is_not_judged(rules):
    assert broken(all_equal(), [SliceDifferences("tiny", 3, dict.fromkeys(METRICS, Difference()))], rules) == set()


def test_of_many_slices_each_needs_more_evidence(rules):
    worse = slice_of("worse", recall=difference(-0.15, 0.1))
    assert ("worse", "recall against main") in broken(all_equal(), [worse], rules)
    others = [slice_of(f"slice {number}") for number in range(200)]
    assert ("worse", "recall against main") not in broken(all_equal(), [worse, *others], rules)


def test_a_jump_is_too_good_to_be_true(rules):
    assert broken(all_equal(roc_auc=difference(0.1)), [], rules) == {("all customers", "roc_auc too good to be true")}


def test_bonferroni_keeps_the_false_alarms_of_all_slices_together_low(rules):
    """Models that differ by chance alone, on forty slices of the same customers."""
    random = np.random.default_rng(0)
    alarms = 0
    for _ in range(100):
        y = (random.random(4_000) < 0.3).astype(float)
        signal = y + random.normal(0, 1, len(y))
        main, branch = (1 / (1 + np.exp(-signal - random.normal(0, 0.3, len(y)))) for _ in range(2))
        parts = [np.arange(len(y)) % 40 == part for part in range(40)]
        slices = [
            SliceDifferences(str(number), part.sum(), compare(y, main, branch, evaluate_at(0.5), part))
            for number, part in enumerate(parts)
        ]
        found = broken(all_equal(), slices, rules)
        alarms += bool(found)
    assert alarms <= 5
