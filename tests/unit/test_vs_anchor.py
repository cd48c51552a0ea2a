"""The rules against main's earlier model: what adds up over many merges."""

from churn.config.params import METRICS
from churn.evaluation.paired import Difference, SliceDifferences, difference_within
from churn.gate.anchor import Compared, vs_anchor
from churn.gate.baseline import vs_baseline

import pytest

OWNER = "main's model of 2026-08-29 (abc1234)"


@pytest.fixture
def rules(params):
    return params.gate


def by(roc_auc, reach=0.001):
    """A change of the ROC AUC alone."""
    return {metric: difference_within(metric, 0.8, 0.8, reach) for metric in METRICS} | {
        "roc_auc": difference_within("roc_auc", 0.86 - roc_auc, 0.86, reach)
    }


def outcomes(rules, total, step):
    return vs_anchor(Compared(1_452, total), Compared(1_452, step), rules, OWNER)


def failed(rules, total, step):
    return [rule for rule in outcomes(rules, total, step) if rule.status == "failed"]


def merged(rules, step, steps, reach=0.001):
    """Return how many of `steps` equal steps are merged, by both comparisons."""
    for number in range(1, steps + 1):
        alone = [one for one in vs_baseline(1_452, by(step, reach), (), rules) if one.status == "failed"]
        if alone or failed(rules, by(number * step, reach), by(step, reach)):
            return number - 1
    return steps


def test_of_ten_steps_of_0_004_two_are_merged(rules):
    assert merged(rules, -0.004, 10) == 2


def test_of_a_leak_in_two_halves_one_is_merged(rules):
    assert merged(rules, 0.018, 2) == 1


def test_noise_around_the_same_model_is_merged_each_time(rules):
    assert merged(rules, 0.0, 10) == 10
    assert merged(rules, -0.0005, 10, reach=0.003) == 10


def test_the_message_names_the_model_and_both_values(rules):
    (loss,) = failed(rules, by(-0.02), by(-0.004))
    assert (loss.kind, loss.label, loss.bound) == ("vs_anchor", "roc_auc since the anchor", "min")
    assert loss.message == (
        "roc_auc of all customers is 0.8600 against main's model of 2026-08-29 (abc1234) with 0.8800: 0.0200 worse,"
        " where 0.0100 is allowed"
    )
    (gain,) = failed(rules, by(0.04), by(0.01))
    assert (gain.kind, gain.bound, gain.limit) == ("vs_anchor", "max", 0.03)
    assert gain.message.startswith("roc_auc of all customers is 0.8600 against main's model of 2026-08-29 (abc1234)")
    assert gain.message.endswith("or let a code owner approve a higher gate.anchor.max_gain")


@pytest.mark.parametrize("sign", [1, -1])
def test_where_main_itself_is_beyond_a_limit_by_approval_only_a_further_step_beyond_noise_fails(rules, sign):
    """Else each honest change would fail for as long as the anchor is older than what was approved."""
    total = sign * 0.04
    assert failed(rules, by(total), by(0.0, 0.002)) == []
    assert failed(rules, by(total), by(sign * 0.001, 0.002)) == []
    assert failed(rules, by(total), by(-sign * 0.005, 0.002)) == [], "back towards the anchor"
    (rule,) = failed(rules, by(total), by(sign * 0.004, 0.002))
    assert abs(rule.limit) == (0.01 if sign < 0 else 0.03)
    (passed,) = [
        one
        for one in outcomes(rules, by(total), by(sign * 0.001, 0.002))
        if one.metric == "roc_auc" and (one.bound == "max") == (sign > 0)
    ]
    assert passed.limit == pytest.approx(sign * 0.041), "main's own total, and the noise of the step"
    assert passed.margin == pytest.approx(0.001)


def test_a_step_over_the_limit_fails_although_it_is_noise(rules):
    assert failed(rules, by(-0.012), by(-0.003, 0.004))


def test_the_noise_of_two_samples_widens_both_limits(rules):
    assert failed(rules, by(-0.025, reach=0.03), by(0.0)) == []
    assert failed(rules, by(0.035, reach=0.04), by(0.0)) == []
    assert failed(rules, by(-0.04, reach=0.03), by(-0.035))


def part(recall, reach=0.02):
    """A slice whose recall alone changed."""
    return SliceDifferences("new", 300, {"recall": difference_within("recall", 0.7 - recall, 0.7, reach)})


@pytest.mark.parametrize(("total", "status"), [(-0.25, "failed"), (-0.15, "passed"), (0.1, "passed")])
def test_what_a_slice_lost_since_the_anchor_has_its_own_limit(rules, total, status):
    """Of two losses of 0.09, 0.1 each are allowed."""
    compared = (Compared(1_452, by(0.0), (part(one),)) for one in (total, -0.09))
    (one,) = [rule for rule in vs_anchor(*compared, rules, OWNER) if rule.scope == "new"]
    assert (one.kind, one.limit, one.status) == ("vs_anchor", -0.2, status)
    if status == "failed":
        assert one.message.startswith(f"recall of new is 0.7000 against {OWNER} with 0.9500, at as many")


def test_a_slice_in_which_main_itself_is_beyond_the_limit_fails_by_a_further_step_alone(rules):
    def status(step):
        total, last = Compared(1_452, by(0.0), (part(-0.3),)), Compared(1_452, by(0.0), (part(step),))
        return next(rule.status for rule in vs_anchor(total, last, rules, OWNER) if rule.scope == "new")

    assert (status(-0.01), status(-0.09)) == ("passed", "failed")


def test_a_metric_that_was_not_recorded_is_not_compared_and_one_without_a_value_fails(rules):
    only = {"roc_auc": by(0.0)["roc_auc"]}
    assert {rule.metric for rule in outcomes(rules, only, by(0.0))} == {"roc_auc"}
    (rule, _) = failed(rules, {"roc_auc": Difference(0.8)}, by(0.0))
    assert rule.message == "roc_auc of all customers cannot be compared with main's model of 2026-08-29 (abc1234)"
