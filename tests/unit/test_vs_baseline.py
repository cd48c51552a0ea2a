from churn.config.params import METRICS
from churn.evaluation.paired import Difference, SliceDifferences, compare
from churn.gate.baseline import Known, Trained, gain, training_noise, vs_baseline
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
    outcomes = vs_baseline(1_452, overall, slices, rules)
    return {(one.scope, one.label) for one in outcomes if one.status == "failed"}


@pytest.fixture
def rules(params):
    return params.gate


def test_an_equal_model_breaks_nothing(rules):
    assert broken(all_equal(), [slice_of("a")], rules) == set()


def test_a_loss_beyond_margin_and_noise_is_named(rules):
    outcomes = vs_baseline(1_452, all_equal(roc_auc=difference(-0.02)), [], rules)
    (outcome,) = [one for one in outcomes if one.status == "failed"]
    assert outcome.message == (
        "roc_auc of all customers is 0.7800 against main's 0.8000: 0.0200 worse, where 0.0050 is allowed"
    )
    assert outcome.margin == pytest.approx(-0.015)


def only(differences, rules, rows=1_452):
    """The outcome of the comparison of the ROC AUC of all customers."""
    (outcome,) = [one for one in vs_baseline(rows, differences, [], rules) if one.label == "roc_auc against main"]
    return outcome


def in_doubt(rules, **decided):
    return rules.model_copy(update={"when_inconclusive": rules.when_inconclusive.model_copy(update=decided)})


@pytest.mark.parametrize(
    ("by", "reach", "status"),
    [(-0.02, 0.03, "inconclusive"), (-0.004, 0.001, "passed"), (0.0, 0.02, "inconclusive"), (0.01, 0.02, "passed")],
    ids=[
        "beyond the margin, but within noise",
        "beyond noise, but within the margin",
        "equal, as far as so few customers show",
        "better, so that a loss is ruled out",
    ],
)
def test_neither_noise_nor_the_margin_alone_is_a_loss(by, reach, status, rules):
    differences = all_equal(roc_auc=difference(by, reach))
    assert only(differences, in_doubt(rules, overall="pass")).status == status
    assert only(differences, rules).status == ("failed" if status == "inconclusive" else status)


def test_a_loss_that_cannot_be_ruled_out_names_the_customers_that_it_would_take(rules):
    outcome = only(all_equal(roc_auc=difference(-0.004, 0.02)), rules, rows=100)
    assert outcome.message == (
        "roc_auc of all customers is 0.7960 against main's 0.8000: the loss may be as large as 0.0240, and it is to be"
        " shown below 0.0200; 100 customers are too few, about 4,865 would do"
    )
    assert (outcome.limit, outcome.noise) == (-0.005, pytest.approx(0.02 * 2.5758 / 1.96, abs=1e-5))


def test_slices_in_doubt_pass_unless_they_are_to_block(rules):
    doubtful = slice_of("doubtful", roc_auc=difference(-0.03, 0.06))
    statuses = [
        [one.status for one in vs_baseline(1_452, all_equal(), [doubtful], each) if one.scope == "doubtful"]
        for each in (rules, in_doubt(rules, slices="block"))
    ]
    assert statuses == [["inconclusive", "passed", "passed"], ["failed", "passed", "passed"]]


@pytest.mark.parametrize("error", [0.001, 0.004, 0.01])
@pytest.mark.parametrize("overall", ["block", "pass"])
def test_the_stated_loss_is_blocked_with_80_percent_power(error, overall, rules):
    rules, random = in_doubt(rules, overall=overall), np.random.default_rng(0)

    def blocked(loss):
        return only(all_equal(roc_auc=difference(-loss, 1.959964 * error)), rules).status == "failed"

    stated = only(all_equal(roc_auc=difference(0.0, 1.959964 * error)), rules).detects
    share = np.mean([blocked(loss) for loss in random.normal(stated, error, 500)])
    # A holdout that is too small for the margins blocks an equal model more often than that.
    assert share == pytest.approx(0.8, abs=0.05) or (stated == 0 and share > 0.8)


def test_other_training_customers_widen_the_noise_and_the_same_ones_do_not(rules):
    """A loss beyond the holdout's noise alone: two models that learned from other customers differ so by chance."""
    loss = all_equal(roc_auc=difference(-0.006, 0.0043))
    statuses = [
        [
            one
            for one in vs_baseline(1_452, loss, [], rules, training_noise(1_452, *[Trained(5_591, new)] * 2))
            if one.value == -0.006
        ]
        for new in (0, 5_591)
    ]
    ((same, _), (other, _)) = statuses
    assert (same.status, other.status) == ("failed", "passed")
    assert other.limit == same.limit == -0.005
    assert other.noise / same.noise == pytest.approx((1 + 2 * 1_452 / 5_591) ** 0.5, abs=1e-3)


def test_the_loss_stated_for_other_training_customers_is_blocked_with_80_percent_power(rules):
    error, random = 0.005, np.random.default_rng(0)
    training = training_noise(1_452, *[Trained(5_591, 5_591)] * 2)

    def judged(loss):
        (one, _) = vs_baseline(1_452, {"roc_auc": difference(-loss, 1.959964 * error)}, [], one_metric, training)
        return one

    against = rules.vs_baseline.model_copy(update={"margins": {"roc_auc": 0.005}, "max_gain": {"roc_auc": 0.02}})
    one_metric = rules.model_copy(update={"vs_baseline": against})
    stated = judged(0.0).detects
    losses = random.normal(stated, error * (1 + training) ** 0.5, 500)
    assert np.mean([judged(loss).status == "failed" for loss in losses]) == pytest.approx(0.8, abs=0.05)


def test_the_limit_of_a_gain_states_the_gain_that_it_refuses_in_8_of_10_holdouts(rules):
    outcomes = vs_baseline(1_452, all_equal(roc_auc=difference(0.003, 0.01)), [], rules)
    (gained,) = [one for one in outcomes if one.label == "roc_auc too good to be true"]
    assert (gained.noise, gained.detects) == (0.01, pytest.approx(0.02 + 0.4294 * 0.01, abs=1e-6))


def test_a_loss_that_is_better_when_smaller_has_the_other_sign(rules):
    assert gain("brier_score", difference(0.01)) == -0.01
    assert broken(all_equal(brier_score=difference(0.01)), [], rules) == {("all customers", "brier_score against main")}
    assert broken(all_equal(brier_score=difference(-0.01)), [], rules) == set()


def test_what_cannot_be_compared_is_broken(rules):
    assert ("all customers", "roc_auc against main") in broken(all_equal(roc_auc=Difference(0.8, None)), [], rules)
    nan = Difference(0.8, float("nan"), float("nan"), float("nan"), float("nan"))
    assert ("all customers", "roc_auc against main") in broken(all_equal(roc_auc=nan), [], rules)
    nothing = dict.fromkeys(METRICS, Difference())
    assert len(broken(nothing, [], rules)) == len(rules.vs_baseline.margins) + len(rules.vs_baseline.max_gain)


def test_a_slice_that_is_too_small_to_compare_is_not_judged(rules):
    assert broken(all_equal(), [SliceDifferences("tiny", 3, dict.fromkeys(METRICS, Difference()))], rules) == set()


def test_of_many_slices_each_needs_more_evidence(rules):
    worse = slice_of("worse", recall=difference(-0.15, 0.1))
    assert ("worse", "recall against main") in broken(all_equal(), [worse], rules)
    others = [slice_of(f"slice {number}") for number in range(200)]
    assert ("worse", "recall against main") not in broken(all_equal(), [worse, *others], rules)


def test_comparisons_that_a_branch_adds_make_none_of_mains_less_strict(rules):
    """Neither slices nor metrics, although each comparison more takes more evidence for all."""
    margins, slice_margins = rules.vs_baseline.margins, rules.vs_baseline.slice_margins
    known = Known(margins, {"main's"}, slice_margins)
    overall, of_main = all_equal(roc_auc=difference(-0.02, 0.017)), slice_of("main's", roc_auc=difference(-0.03, 0.02))
    before = vs_baseline(1_452, overall, [of_main], rules, known=known)
    assert [(one.scope, one.metric) for one in before if one.status == "failed"] == [
        ("all customers", "roc_auc"),
        ("main's", "roc_auc"),
    ]
    more = {
        "margins": dict.fromkeys(METRICS, 9.0) | margins,
        "slice_margins": dict.fromkeys(METRICS, 9.0) | slice_margins,
    }
    added = rules.model_copy(update={"vs_baseline": rules.vs_baseline.model_copy(update=more)})
    slices = [of_main, *(slice_of(f"f{number}") for number in range(1_000))]
    after = vs_baseline(1_452, overall, slices, added, known=known)
    assert [one for one in before if one not in after] == []
    without = vs_baseline(1_452, overall, slices, added)
    assert {one.scope for one in before if one not in without} == {"all customers", "main's"}


def test_a_jump_is_too_good_to_be_true(rules):
    assert broken(all_equal(roc_auc=difference(0.1)), [], rules) == {("all customers", "roc_auc too good to be true")}


def test_bonferroni_keeps_the_false_alarms_of_all_slices_together_low(rules):
    """Models that differ by chance alone, on forty slices of the same customers."""
    random = np.random.default_rng(0)
    alarms = 0
    for _ in range(40):
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
    assert alarms <= 2
