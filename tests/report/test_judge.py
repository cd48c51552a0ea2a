"""By whose rules a change is judged, and what of its own words is checked."""

from collections.abc import Mapping
from typing import Annotated, Literal

from churn.config.contract import Rules
from churn.config.params import METRICS, Gate, StrictModel
from churn.config.stricter import Stricter, directions
from churn.core.results import RuleOutcome
from report.collect import outcome_beside_main
from report.data import Outcome, ReportData
from report.faults import Fault
from report.judge import evaluation_faults
from report.settings import loosened_settings, merged, stricter, stricter_contract

import pytest


@pytest.mark.parametrize(
    ("key", "main", "branch", "expected"),
    [
        ("min", 0.8, 0.7, 0.8),
        ("min", 0.8, 0.9, 0.9),
        ("max", 0.2, 0.3, 0.2),
        ("max", 0.2, None, 0.2),
        ("max", None, 0.3, 0.3),
        ("nulls", 0.05, 0.5, 0.05),
        ("familywise_alpha", 0.01, 0.001, 0.01),
        ("min_slice_rows", 100, 1000, 100),
        ("min_slice_rows", 100, 10, 100),
        ("when_inconclusive", "block", "pass", "block"),
        ("when_inconclusive", "pass", "block", "block"),
        ("when_inconclusive", "pass", "pass", "pass"),
        ("columns", ["a", "b"], ["b", "c"], ["a", "b", "c"]),
        ("holds", "a < b", "true", "a < b"),
    ],
)
def test_of_two_settings_the_one_that_lets_less_through_counts(key, main, branch, expected):
    assert stricter(main, branch, key) == expected
    assert stricter({key: main}, {key: branch}) == {key: expected}


def test_every_number_of_a_rule_declares_which_is_stricter():
    class Undeclared(StrictModel):
        rate: float

    class Choice(StrictModel):
        when: Literal["block", "pass"]

    class Outer(StrictModel):
        inner: Mapping[str, Undeclared]

    class Other(StrictModel):
        min: Annotated[float, Stricter.SMALLER]

    declared = directions(Gate, Rules)
    assert set(declared.values()) == set(Stricter)
    assert declared["slice_margins"] is Stricter.SMALLER
    with pytest.raises(TypeError, match=r"Undeclared\.rate is a value of a rule, and declares no Stricter"):
        directions(Gate, Outer)
    with pytest.raises(TypeError, match=r"Choice\.when is a value of a rule, and declares no Stricter"):
        directions(Gate, Choice)
    with pytest.raises(TypeError, match=r"Other\.min: min is declared otherwise elsewhere"):
        directions(Gate, Other)
    assert stricter(1, 2, "gate.unheard_of") == stricter(1, 0, "gate.unheard_of") == 1


def test_a_margin_goes_by_its_field_whatever_the_metric_is_called():
    assert stricter({"margins": {"roc_auc": 0.1}}, {"margins": {"roc_auc": 0.2}}) == {"margins": {"roc_auc": 0.1}}
    assert stricter(0.02, 0.01, "gate.vs_baseline.familywise_alpha") == 0.02


def test_no_gate_is_looser_than_either_of_the_two_it_was_merged_from(params, branch_params):
    def change(values):
        values["gate"]["overall"]["roc_auc"] = {"min": 0.5, "max": 0.9}
        values["gate"]["every_slice"]["calibration_error"] = 0.01
        del values["gate"]["slices"]["new_customers"]

    both = merged(params.gate, branch_params(change).gate)
    assert (both.overall["roc_auc"].min, both.overall["roc_auc"].max) == (0.82, 0.9)
    assert both.every_slice.calibration_error == 0.01
    assert both.slices["new_customers"] == params.gate.slices["new_customers"]


@pytest.fixture
def same(params, contract):
    """What main has, and the branch where nothing is said of it."""
    return params, contract


def settings_faults(params, contract, ours=None, our_contract=None):
    return list(loosened_settings(params, ours or params, contract, our_contract or contract))


def test_the_same_and_stricter_settings_are_no_fault(params, contract, branch_params, branch_contract):
    def tighten(values):
        values["gate"]["overall"]["roc_auc"]["min"] = 0.83
        values["gate"]["when_inconclusive"]["slices"] = "block"
        values["gate"]["slices"]["contract=One year"] = {"roc_auc": {"min": 0.6}}
        values["evaluate"]["slices"]["conditions"]["loyal"] = "tenure_months > 48"

    def tighten_contract(values):
        values["rules"]["ranges"]["tenure_months"]["max"] = 100
        values["columns"]["total_charges"].update(nulls="forbid")
        del values["columns"]["total_charges"]["because"]

    assert settings_faults(params, contract) == []
    assert settings_faults(params, contract, branch_params(tighten), branch_contract(tighten_contract)) == []


PROFIT = {"retained_value": 200, "offer_cost": 11, "success_rate": 0.3}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"evaluate": {"threshold": 0.4}}, "evaluate.threshold is 0.4, on main 0.5"),
        (
            {"evaluate": {"campaign": {"capacity": 0.9, "profit": PROFIT}}},
            "evaluate.campaign.capacity is 0.9, on main 0.1",
        ),
        (
            {"evaluate": {"campaign": {"capacity": 0.1}}},
            "evaluate.campaign.profit is absent, on main {'retained_value': ",
        ),
        (
            {"evaluate": {"campaign": {"capacity": 0.1, "profit": PROFIT | {"offer_cost": 1.0}}}},
            "evaluate.campaign.profit.offer_cost is 1.0, on main 11",
        ),
        ({"prepare": {"salt": "another"}}, "prepare.salt is another, on main churn: the holdout is another"),
        (
            {"prepare": {"time": {"holdout_days": 90, "label_window_days": 30}}},
            "prepare.time is {'holdout_days': 90, 'label_window_days': 30}, on main absent: the holdout is another",
        ),
        ({"prepare": {"holdout_share": 0.1}}, "prepare.holdout_share is 0.1"),
        ({"prepare": {"drop": {"young": "tenure_months < 3"}}}, "prepare.drop is {'young': 'tenure_months < 3'}"),
        ({"gate": {"min_slice_rows": 1000}}, "gate.min_slice_rows is 1000, on main 100"),
        (
            {"gate": {"when_inconclusive": {"overall": "pass", "slices": "pass"}}},
            "gate.when_inconclusive.overall is pass, on main block",
        ),
    ],
)
def test_who_is_judged_and_from_which_score_takes_an_approval(change, said, same, branch_params):
    ((section, value),) = change.items()
    (fault,) = settings_faults(*same, branch_params(lambda values: values[section].update(value)))
    assert said in fault.message
    assert fault.message.endswith("that takes a code owner's approval")


@pytest.mark.parametrize(
    ("column", "change", "said"),
    [
        ("partner", {"nulls": "allow", "because": "Unknown."}, "columns.partner allows nulls, on main it does not"),
        ("contract", {"values": ["Month-to-month", "One year", "Two year", "Free"]}, "has the new values Free"),
    ],
)
def test_a_contract_that_lets_more_through_takes_an_approval(column, change, said, same, branch_contract):
    ours, contract = branch_contract(lambda values: values["columns"][column].update(change)), same[1]
    (fault,) = settings_faults(*same, our_contract=ours)
    assert said in fault.message
    judged = stricter_contract(contract, ours).columns[column]
    assert (judged.nullable, judged.values) == (contract.columns[column].nullable, contract.columns[column].values)


def evaluation(**changed):
    overall = {"rows": 100, "churners": 30, "predicted": 20} | dict.fromkeys(METRICS, 0.5)
    overall["intervals"] = {metric: [0.4, None] for metric in METRICS}
    return overall | {"slices": [{"name": "new"} | overall]} | changed


def test_an_evaluation_that_says_what_is_found_is_no_fault():
    assert list(evaluation_faults(evaluation(roc_auc=0.5000005), evaluation())) == []


@pytest.mark.parametrize("claim", [0.9, None, "0.5", float("nan")])
def test_another_number_than_is_found_is_named(claim):
    (fault,) = evaluation_faults(evaluation(roc_auc=claim), evaluation())
    assert fault.startswith("metrics/evaluation.json says roc_auc of all customers is ")
    assert fault.endswith("but evaluated anew it is 0.5000")


def test_another_interval_and_an_invented_slice_are_named():
    narrow = evaluation()["intervals"] | {"roc_auc": [0.49, None]}
    (fault,) = evaluation_faults(evaluation(intervals=narrow), evaluation())
    assert fault.endswith("says the lower end of roc_auc of all customers is 0.4900, but evaluated anew it is 0.4000")
    assert list(evaluation_faults(evaluation(), evaluation(slices=[]))) == [
        "metrics/evaluation.json has new, which is no slice"
    ]
    (fault,) = evaluation_faults(evaluation(threshold=0.3), evaluation(threshold=0.5))
    assert "says threshold of all customers is 0.3000" in fault


def test_a_slice_that_is_left_out_is_named():
    assert list(evaluation_faults(evaluation(slices=[]), evaluation())) == ["metrics/evaluation.json leaves out new"]


def failed(kind, message):
    rule = {"kind": kind, "scope": "all customers", "metric": "roc_auc", "bound": "min"}
    return RuleOutcome(**rule, limit=0.0, value=-1.0, margin=-1.0, status="failed", message=message)


def test_the_first_reason_is_the_cause_of_the_others():
    rules = (
        failed("bound", "recall is 0"),
        failed("slice_size", "a slice has vanished"),
        failed("vs_baseline", "recall is worse than main's"),
        failed("max_gain", "too good to be true"),
    )
    gate = Outcome(False, "Blocked: recall is 0", "gate", ("recall is 0",))
    everything = {"threshold": 0.5, "rows": 100, "predicted": 0}
    data = ReportData(
        (), "main", gate, rules=rules, faults=(Fault("12 customers are in neither table"),), evaluation=everything
    )
    outcome = outcome_beside_main(data)
    assert outcome.stage == "gate"
    assert outcome.sentence == "Blocked: 12 customers are in neither table (and 5 more)"
    assert outcome.reasons == (
        "12 customers are in neither table",
        "too good to be true",
        "a slice has vanished",
        "the model predicts that nobody churns: none of 100 customers has a score of 0.5 or more",
        "recall is 0",
        "recall is worse than main's",
    )
