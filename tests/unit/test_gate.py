import json
import math

from churn.config.params import Anchor, Bound, EverySlice, Gate, VsBaseline, WhenInconclusive
from churn.core.errors import StageError
from churn.core.files import md5_of, sha256_of
from churn.core.paths import EVALUATION, GATE, LOCK, MODEL, ROWS, TEST, TRAIN, VALIDATION
from churn.core.results import RuleOutcome
from churn.gate.rules import evaluate_bounds, evaluate_rules, evaluate_slice, loose_bounds, root_causes, unexplained
from stages.gate import evidence_faults, lineage
from stages.register import content_of

import numpy as np
import pytest

FLOOR = {"roc_auc": Bound(min=0.8)}


EVERY = EverySlice(max_roc_auc_gap=0.2, calibration_error=0.05, predicted_to_actual_ratio=0.4)
AGAINST = VsBaseline(
    margins={"roc_auc": 0.005},
    slice_margins={"roc_auc": 0.02},
    tolerance=3,
    familywise_alpha=0.01,
    max_gain={"roc_auc": 0.02},
)


ANCHOR = Anchor(days=90, margins={"roc_auc": 0.01}, slice_margins={"roc_auc": 0.04}, max_gain={"roc_auc": 0.03})


def gate(**rules):
    doubt = WhenInconclusive(overall="block", slices="pass")
    rules |= {"every_slice": EVERY, "vs_baseline": AGAINST, "anchor": ANCHOR, "when_inconclusive": doubt}
    return Gate(min_slice_rows=30, **rules)


def named(judged):
    """The outcomes of the rules that name their metric, without those for every slice."""
    return [rule for rule in judged if rule.label in ("recall", "roc_auc")]


def outcomes(values, bounds=FLOOR):
    return [(rule.status, rule.margin) for rule in evaluate_bounds("all customers", values, bounds)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "0.9", True, [0.9], {"value": 0.9}, "missing"])
@pytest.mark.parametrize("bound", [Bound(min=0.8), Bound(max=0.8)])
def test_what_is_no_finite_number_breaks_its_rule(value, bound):
    values = {} if value == "missing" else {"roc_auc": value}
    (rule,) = evaluate_bounds("all customers", values, {"roc_auc": bound})
    assert (rule.status, rule.value, rule.margin) == ("failed", None, None)
    assert rule.message == f"roc_auc of all customers is missing, {rule.bound}imum 0.8"


def test_a_value_passes_up_to_its_bound():
    assert outcomes({"roc_auc": 0.85}) == [("passed", 0.05)]
    assert outcomes({"roc_auc": 0.8}) == [("passed", 0.0)]
    assert outcomes({"roc_auc": 0.7999999999}) == [("failed", -0.0)]
    assert outcomes({"roc_auc": 1}) == [("passed", 0.2)]
    assert outcomes({"log_loss": 0.4}, {"log_loss": Bound(max=0.45)}) == [("passed", 0.05)]
    assert outcomes({"log_loss": 0.5}, {"log_loss": Bound(max=0.45)}) == [("failed", -0.05)]


def test_a_bound_says_which_loss_it_would_detect():
    values = {"roc_auc": 0.85, "intervals": {"roc_auc": [0.83, 0.87]}}
    (rule,) = evaluate_bounds("all customers", values, FLOOR)
    assert rule.noise == 0.02
    assert rule.detects == pytest.approx(0.05 + 0.8416 * 0.02 / 1.96, abs=1e-4)
    (rule,) = evaluate_bounds("all customers", {"roc_auc": 0.85}, FLOOR)
    assert (rule.noise, rule.detects) == (None, None)


def test_min_and_max_are_two_rules():
    assert outcomes({"roc_auc": 0.99}, {"roc_auc": Bound(min=0.8, max=0.95)}) == [("passed", 0.19), ("failed", -0.04)]


def test_rules_hold_for_all_customers_and_for_each_slice():
    rules = gate(overall=FLOOR, slices={"new_customers": {"recall": Bound(min=0.5)}})
    evaluation = {"roc_auc": 0.85, "recall": 0.7, "slices": [{"name": "new_customers", "rows": 30, "recall": 0.0}]}
    judged = named(evaluate_rules(evaluation, rules))
    assert [(rule.scope, rule.status) for rule in judged] == [
        ("all customers", "passed"),
        ("new_customers", "failed"),
    ]
    assert judged[1].message == "recall of new_customers is 0.0000, minimum 0.5"


@pytest.mark.parametrize(
    ("slices", "said"),
    [
        ([], "recall of new_customers (no such slice) is missing, minimum 0.5"),
        (None, "recall of new_customers (no such slice) is missing, minimum 0.5"),
        ([{"name": "old_customers", "rows": 99, "recall": 0.9}], "recall of new_customers (no such slice) is missing"),
        ([{"recall": 0.9}], "recall of new_customers (no such slice) is missing"),
        ([{"name": "new_customers", "rows": 99}], "recall of new_customers is missing"),
        ([{"name": "new_customers", "recall": 0.9}], "recall of new_customers (not one slice) is missing"),
        (
            [{"name": "new_customers", "rows": 99, "recall": 0.9}] * 2,
            "recall of new_customers (not one slice) is missing",
        ),
        (
            [{"name": "new_customers", "rows": 29, "recall": 1.0}],
            "recall of new_customers (29 rows, too few)",
        ),
        (
            [{"name": "new_customers", "rows": 0, "recall": None}],
            "recall of new_customers (0 rows, too few)",
        ),
        (
            [{"name": "new_customers", "rows": 300, "customers": 29, "recall": 1.0}],
            "recall of new_customers (29 customers, too few)",
        ),
    ],
)
def test_a_slice_that_cannot_be_judged_breaks_its_rules_and_says_why(slices, said):
    rules = gate(overall=FLOOR, slices={"new_customers": {"recall": Bound(min=0.5)}})
    judged = named(evaluate_rules({"roc_auc": 0.85, "slices": slices}, rules))
    assert [rule.status for rule in judged] == ["passed", "failed"]
    assert judged[1].message.startswith(said)


def evidence(passed=True, evaluated="holdout"):
    evaluation = {"inputs": [[str(MODEL), "model"], [str(TEST), evaluated]]}
    validation = {"passed": passed, "tables": {"train": {"sha256": "train"}, "test": {"sha256": "holdout"}}}
    return evaluation, validation


def test_evidence_that_fits_together_has_no_fault():
    assert evidence_faults(*evidence()) == []
    assert lineage(*evidence()) == {"model_sha256": "model", "test_sha256": "holdout", "train_sha256": "train"}


@pytest.mark.parametrize("passed", [False, None, "true", 1])
def test_a_validation_that_did_not_pass_blocks(passed):
    assert evidence_faults(*evidence(passed=passed)) == ["the data did not pass its validation"]


def test_an_evaluation_of_another_holdout_blocks():
    assert evidence_faults(*evidence(evaluated="another")) == [
        "the model was not evaluated on the holdout that was validated"
    ]


def test_missing_evidence_blocks():
    assert "no model_sha256 is recorded" in evidence_faults({}, {})


@pytest.mark.parametrize("verdict", ["blocked", None, "", True])
def test_register_refuses_without_a_passed_verdict(verdict):
    with pytest.raises(StageError, match="nothing is registered"):
        content_of({"verdict": verdict})


@pytest.mark.parametrize("other", ["model_sha256", "train_sha256", "test_sha256"])
def test_register_refuses_a_verdict_on_another_model_or_table(tmp_path, monkeypatch, other):
    monkeypatch.chdir(tmp_path)
    verdict = {"verdict": "passed"}
    for name, path in {"model_sha256": MODEL, "train_sha256": TRAIN, "test_sha256": TEST}.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        verdict[name] = sha256_of(path)
    results = (ROWS, VALIDATION, EVALUATION, GATE)
    for path in results:
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    outs = [{"path": str(path), "md5": md5_of(path)} for path in (MODEL, TRAIN, TEST, *results)]
    LOCK.write_text(json.dumps({"stages": {"all": {"outs": outs}}}))
    assert content_of(verdict) == {name: verdict[name] for name in verdict if name != "verdict"}
    with pytest.raises(StageError, match=r"is the result for another .*: nothing is registered"):
        content_of(verdict | {other: "of another"})
    ROWS.unlink()
    with pytest.raises(StageError, match=f"{ROWS} is not the one in {LOCK}: nothing is registered"):
        content_of(verdict)


def test_every_outcome_can_be_written_as_json():
    judged = evaluate_rules({"roc_auc": math.nan, "slices": []}, gate(overall=FLOOR, slices={}))
    written = json.dumps([rule.model_dump() for rule in judged], allow_nan=False)
    assert [RuleOutcome(**rule) for rule in json.loads(written)] == judged


def part(*, rows=200, churners=80, predicted=70, area=(0.7, 0.8), error=(0.0, 0.1), kind="value"):
    intervals = {"roc_auc": list(area), "expected_calibration_error": list(error)}
    named = {"name": "contract=One year", "kind": kind}
    return named | {"rows": rows, "churners": churners, "predicted": predicted, "intervals": intervals}


def broken(one, everyone=None):
    everyone = {"rows": 1000, "churners": 265, "roc_auc": 0.85} | (everyone or {})
    return [rule.label for rule in evaluate_slice(one, everyone, EVERY, 30) if rule.status == "failed"]


def test_every_slice_is_judged_by_the_end_of_its_interval_that_speaks_for_it():
    assert broken(part(area=(0.4, 0.66), error=(0.04, 0.2))) == []
    assert broken(part(area=(0.4, 0.64))) == ["roc_auc, upper end"]
    assert broken(part(churners=19, predicted=19, area=(0.4, 0.64))) == []  # of so few no interval is wide enough
    assert broken(part(churners=181, predicted=181, area=(0.4, 0.64))) == []
    assert broken(part(error=(0.06, 0.2))) == ["expected_calibration_error, lower end"]


def test_nobody_predicted_to_churn_in_a_slice_is_seen_behind_a_fair_roc_auc():
    assert broken(part(predicted=0)) == ["predicted_to_actual_ratio"]
    assert broken(part(churners=10, predicted=0)) == []  # in a slice where few churn, that is no fault


@pytest.mark.parametrize("each", [1, 4])
def test_the_predicted_churners_of_a_slice_state_the_noise_that_resampled_customers_have(each):
    """A customer has `each` rows, which are alike."""
    random = np.random.default_rng(0)
    churned, predicted = random.random(500) < 0.3, random.random(500) < 0.25
    rows, churners, hits = 500 * each, each * int(churned.sum()), each * int((churned & predicted).sum())
    given = {"rows": rows, "customers": 500, "churners": churners, "predicted": each * int(predicted.sum())}
    outcomes = evaluate_slice(part() | given | {"recall": hits / churners}, {}, EVERY, 30)
    (ratio,) = [one for one in outcomes if one.metric == "predicted_to_actual_ratio"]
    draws = random.integers(500, size=(2_000, 500))
    resampled = predicted[draws].sum(axis=1) / churned[draws].sum(axis=1)
    assert ratio.noise == pytest.approx(1.96 * resampled.std(), rel=0.1)
    assert ratio.detects == pytest.approx(ratio.value - 0.4 + 0.4294 * ratio.noise, abs=1e-4)


@pytest.mark.parametrize("missing", [{"predicted": None}, {"intervals": None}, {"churners": None}])
def test_a_slice_without_its_numbers_breaks_its_rules(missing):
    assert broken(part() | missing)


def test_a_small_slice_is_not_judged_and_a_vanished_one_is_broken():
    (small,) = evaluate_slice(part(rows=29), {}, EVERY, 30)
    assert small.status == "skipped"
    assert small.message == "contract=One year has 29 customers in the holdout, fewer than 30: skipped"
    (gone,) = evaluate_slice(part(rows=0), {}, EVERY, 30)
    assert gone.status == "failed"
    assert gone.message == "no customer of the holdout is in contract=One year: the slice has vanished"
    (missing,) = evaluate_slice(part(rows=0, kind="missing"), {}, EVERY, 30)
    assert missing.status == "skipped"


@pytest.mark.parametrize(
    ("changed", "causes"),
    [
        ({}, []),
        (
            {"predicted": 0},
            ["the model predicts that nobody churns: none of 1,452 customers has a score of 0.5 or more"],
        ),
        (
            {"predicted": 3, "suitable_threshold": 0.0712},
            [
                "the model predicts that hardly anybody churns: 3 of 1,452 customers have a score of 0.5 or more: set"
                " evaluate.threshold to about 0.0712, where as many are predicted as churned"
            ],
        ),
        ({"predicted": 1452}, ["the model predicts that everybody churns: each of 1,452 customers has a score of"]),
        (
            {"roc_auc": 0.51, "interval": [0.48, 0.54]},
            ["the model ranks customers no better than chance: its ROC AUC is"],
        ),
        ({"roc_auc": 0.2, "interval": [0.17, 0.23]}, ["the model ranks stayers above churners: its ROC AUC is 0.200"]),
        ({"roc_auc": 0.7, "interval": [0.4, 1.0]}, []),
        ({"roc_auc": None, "interval": [None, None]}, []),
    ],
)
def test_a_cause_that_breaks_many_rules_is_named(changed, causes):
    evaluation = {"rows": 1452, "predicted": 300, "threshold": 0.5, "roc_auc": 0.86} | changed
    evaluation["intervals"] = {"roc_auc": changed.get("interval", [0.84, 0.88])}
    found = list(root_causes(evaluation))
    assert len(found) == len(causes)
    assert all(one.startswith(cause) for one, cause in zip(found, causes, strict=True))


def rare(churners=29, rows=1452, **changed):
    """Return an evaluation in which nobody is predicted, with two slices."""
    values = {"rows": rows, "churners": churners, "predicted": 0, "threshold": 0.5, "roc_auc": 0.8, "recall": 0.0}
    values["intervals"] = {"roc_auc": [0.75, 0.85], "expected_calibration_error": [0.0, 0.01], "recall": [0.0, 0.1]}
    slices = [values | {"name": name, "kind": "value"} for name in ("contract=One year", "contract=Two year")]
    return values | {"slices": slices, "suitable_threshold": 0.07} | changed


def test_one_cause_and_the_threshold_stand_for_each_rule_that_an_unsuitable_threshold_breaks():
    rules = gate(overall={"roc_auc": Bound(min=0.82), "recall": Bound(min=0.2)}, slices={})
    outcomes = evaluate_rules(rare(), rules)
    assert sum(rule.status == "failed" for rule in outcomes) == 4
    assert [rule.message for rule in unexplained(outcomes, rare())] == [
        "roc_auc of all customers is 0.8000, minimum 0.82"
    ]
    assert list(root_causes(rare())) == [
        "the model predicts that nobody churns: none of 1,452 customers has a score of 0.5 or more: set"
        " evaluate.threshold to about 0.07, where as many are predicted as churned"
    ]
    everybody = rare(predicted=1452)
    assert sum(rule.status == "failed" for rule in evaluate_rules(everybody, rules)) == len(
        list(unexplained(evaluate_rules(everybody, rules), everybody))
    )


def test_a_bound_without_a_bad_model_within_its_reach_is_noted_with_its_path():
    def noted(limit, bound="min", interval=(0.89, 0.91), scope="all customers"):
        values = {"roc_auc": 0.9, "intervals": {"roc_auc": list(interval)}}
        return list(loose_bounds(evaluate_bounds(scope, values, {"roc_auc": Bound(**{bound: limit})})))

    assert noted(0.87) == noted(0.9) == noted(0.95) == noted(0.5, interval=(0.9, 0.9)) == []
    assert noted(0.8) == [
        "gate.overall.roc_auc.min 0.8 lies 15 standard deviations below 0.9000, and blocks hardly any model:"
        " `make bounds` sets it"
    ]
    (above,) = noted(1.0, "max", scope="partner=true")
    assert above.startswith("gate.slices.partner=true.roc_auc.max 1 lies 20 standard deviations above 0.9000")
    assert list(loose_bounds(evaluate_bounds("all customers", {}, {"roc_auc": Bound(min=0.1)}))) == []
