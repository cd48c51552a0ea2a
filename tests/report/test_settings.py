"""What is no looser than on main: order, names, reasons, and rules that are shown to be as strict."""

import re

from churn.config.contract import Range, load_contract
from churn.config.params import load_params
from report.changes import judge_notes, loosened, looser_changes
from report.data import Change
from report.relations import implies
from report.settings import (
    loosened_settings,
    mains_settings,
    merged,
    possible_slices,
    renamed_conditions,
    stricter_contract,
)
from tests.frozen import copy_of

import pytest

RANGES = {name: Range(min=0, max=most) for name, most in (("months", 120), ("charge", 500), ("total", 60_000))}
FITS = "abs(total - months * charge) <= 3 * charge + 0.2 * months * charge"


def in_reverse(mapping):
    return dict(reversed(mapping.items()))


def test_order_and_prose_are_no_fault(params, contract, branch_params, branch_contract):
    def reorder(values):
        values["evaluate"]["slices"]["columns"].reverse()
        values["gate"] = in_reverse(values["gate"])
        values["gate"]["slices"] = in_reverse(values["gate"]["slices"])
        values["evaluate"]["slices"]["conditions"]["new_customers"] = "(tenure_months<6)"

    def reword(values):
        values["columns"] = in_reverse(values["columns"])
        values["columns"]["contract"]["values"].reverse()
        values["columns"]["total_charges"]["because"] = "Not billed yet."
        relation = values["rules"]["relations"].pop("total_charges_fit_tenure")
        relation |= {"because": "As measured.", "holds": " ".join(relation["holds"].replace("*", " * ").split())}
        values["rules"]["relations"]["charges_add_up"] = relation

    ours = branch_params(reorder), branch_contract(reword)
    assert list(loosened_settings(params, ours[0], contract, ours[1])) == []
    assert list(stricter_contract(contract, ours[1]).rules.relations) == ["charges_add_up"]
    assert set(merged(params.gate, ours[0].gate).slices) == set(params.gate.slices)


def test_another_name_of_a_reason_to_drop_rows_is_no_fault(contract, branch_params):
    def drop(**reasons):
        return branch_params(lambda values: values["prepare"].update(drop=reasons))

    main = drop(test_account="partner AND monthly_charges = 0", first_month="tenure_months = 0")
    assert (
        list(loosened_settings(main, drop(b="tenure_months=0", a="partner AND monthly_charges = 0"), *[contract] * 2))
        == []
    )
    (fault,) = loosened_settings(main, drop(test_account="partner", first_month="tenure_months = 0"), *[contract] * 2)
    assert "the holdout is another" in fault.message


@pytest.mark.parametrize(
    ("branch", "main", "proved"),
    [
        (FITS, FITS, True),
        (FITS.replace("3 *", "2 *"), FITS, True),
        (FITS.replace("0.2 *", "0.1 *"), FITS, True),
        (FITS.replace("3 *", "3.001 *"), FITS, False),
        (FITS.replace("3 *", "2 *").replace("0.2 *", "0.3 *"), FITS, False),
        (FITS.replace("<=", "<"), FITS, True),
        (FITS, FITS.replace("<=", "<"), False),
        (f"{FITS} AND total < 50000", FITS, True),
        (f"{FITS} OR total < 50", FITS, False),
        (f"months = 0 OR {FITS.replace('3 *', '2 *')}", f"months = 0 OR {FITS}", True),
        (f"months < 2 OR {FITS}", f"months < 3 OR {FITS}", True),
        (f"months < 4 OR {FITS}", f"months < 3 OR {FITS}", False),
        ("months BETWEEN 1 AND 100", "months BETWEEN 0 AND 120", True),
        ("months BETWEEN 1 AND 130", "months BETWEEN 0 AND 120", False),
        ("months > 3 * charge", "months > 2 * charge", True),
        ("months > 2 * charge", "months > 3 * charge", False),
        ("months - charge < 2", "months - charge < 3", True),
        ("unknown * 2 < 3", "unknown * 1 < 3", False),
        ("total / 2 < 3", "total / 1 < 3", False),
        ("total < 3", "charge < 3", False),
        ("true", FITS, False),
        ("not SQL at all", FITS, False),
    ],
)
def test_a_relation_is_as_strict_only_where_that_is_proved(branch, main, proved):
    assert implies(branch, main, RANGES) is proved


def test_a_column_that_may_be_negative_turns_a_factor_round():
    assert not implies("total <= 2 * charge", "total <= 3 * charge", {"charge": Range(min=-1, max=1)})
    assert implies("total <= 2 * abs(charge)", "total <= 2 * abs(charge)", {})


@pytest.fixture
def relation(branch_contract):
    def with_text(old, new):
        def change(values):
            one = values["rules"]["relations"]["total_charges_fit_tenure"]
            assert old in one["holds"]
            one["holds"] = one["holds"].replace(old, new)

        return branch_contract(change)

    return with_text


def test_a_tightened_relation_passes_and_is_the_one_that_counts(params, contract, relation):
    ours = relation("3 * monthly_charges", "2 * monthly_charges")
    assert list(loosened_settings(params, params, contract, ours)) == []
    assert stricter_contract(contract, ours).rules.relations == ours.rules.relations


def test_a_loosened_relation_is_a_fault_and_mains_counts(params, contract, relation):
    ours = relation("3 * monthly_charges", "4 * monthly_charges")
    (fault,) = loosened_settings(params, params, contract, ours)
    assert fault.message.startswith("contract.yaml: rules.relations.total_charges_fit_tenure is `abs(")
    assert "and may let more through than main's `abs(" in fault.message
    assert fault.message.endswith("that takes a code owner's approval")
    assert stricter_contract(contract, ours).rules.relations == contract.rules.relations


def test_of_a_range_that_shares_no_value_with_mains_mains_counts_until_it_is_approved(
    params, contract, branch_contract
):
    """Fault in CI and the judge: a branch's range shares no value with main's, as after a change of the unit.

    Main's range counts until the branch's is approved: `contract.yaml: rules.ranges.monthly_charges.max is …`. So it is
    where all values of a category have other names.
    """

    def in_cents(values):
        values["rules"]["ranges"]["monthly_charges"] = {"min": 1000, "max": 50000}

    ours = branch_contract(in_cents)
    (fault,) = loosened_settings(params, params, contract, ours)
    assert fault.message.startswith("contract.yaml: rules.ranges.monthly_charges.max is 50000.0, on main 500.0")
    mains, own = contract.rules.ranges["monthly_charges"], ours.rules.ranges["monthly_charges"]
    assert stricter_contract(contract, ours).rules.ranges["monthly_charges"] == mains
    assert stricter_contract(contract, ours, [fault.place]).rules.ranges["monthly_charges"] == own


def test_where_all_values_of_a_category_have_other_names_mains_count_until_they_are_approved(
    params, contract, branch_contract
):
    new = ("monthly", "yearly", "biennial")
    ours = branch_contract(lambda values: values["columns"]["contract"].update(values=new))
    (fault,) = loosened_settings(params, params, contract, ours)
    assert stricter_contract(contract, ours).columns["contract"].values == contract.columns["contract"].values
    assert stricter_contract(contract, ours, [fault.place]).columns["contract"].values == new


def test_a_relation_over_a_column_that_is_gone_is_named_and_not_checked(params, contract, branch_contract):
    def remove(values):
        del values["columns"]["total_charges"], values["rules"]["ranges"]["total_charges"]
        values["rules"]["relations"] = {}
        del values["rules"]["changes"]["total_charges"]

    ours = branch_contract(remove)
    (fault,) = loosened_settings(params, params, contract, ours)
    assert fault.message.startswith(
        "contract.yaml: rules.relations.total_charges_fit_tenure is absent, and may let more"
    )
    assert stricter_contract(contract, ours).rules.relations == {}


def test_slices_of_a_column_that_is_gone_are_left_to_the_fault(params, contract, branch_params, branch_contract):
    ours = branch_contract(
        lambda values: [values["columns"].pop("contract"), values["rules"]["changes"].pop("contract")]
    )
    made = possible_slices(params.evaluate.slices, ours)
    assert "contract" in params.evaluate.slices.columns
    assert set(made.columns) == set(params.evaluate.slices.columns) - {"contract"}
    fewer = branch_params(lambda values: values["evaluate"]["slices"]["columns"].remove("contract"))
    (fault,) = loosened_settings(params, fewer, contract, ours)
    assert fault.message.startswith("params.yaml: evaluate.slices.columns lacks contract: ")


def test_a_wider_or_missing_limit_on_changes_takes_an_approval_and_a_tighter_one_counts(
    params, contract, branch_contract
):
    def limits(**changed):
        return branch_contract(lambda values: values["rules"]["changes"].update(changed))

    (fault,) = loosened_settings(params, params, contract, limits(payment_method=0.5))
    assert fault.message.startswith("contract.yaml: rules.changes.payment_method is 0.5, on main 0.05: ")
    missing = branch_contract(lambda values: values["rules"].pop("changes"))
    assert len(list(loosened_settings(params, params, contract, missing))) == len(contract.rules.changes)
    ours = limits(payment_method="forbid", partner=0.1, tenure_months=0.5)
    assert list(loosened_settings(params, params, contract, ours)) == []
    strict = stricter_contract(contract, ours).rules.changes
    assert strict == contract.rules.changes | {"payment_method": 0.0, "partner": 0.1, "tenure_months": 0.5}
    assert loosened(Change("contract.yaml", "rules.changes.contract", "forbid", 0.05))
    assert not loosened(Change("contract.yaml", "rules.changes.contract", 0.05, "forbid"))


def test_a_spike_of_a_column_that_main_has_takes_an_approval_and_one_of_a_new_column_does_not(
    params, contract, branch_contract
):
    def declare(values):
        values["rules"]["spikes"] = {"monthly_charges": {"0": "Free."}, "days": {"0": "Today.", "-1.5": "Never."}}
        values["columns"]["days"] = {"role": "feature", "type": "number"}
        values["rules"]["ranges"]["days"] = {"min": -2, "max": 400}

    ours = branch_contract(declare)
    (fault,) = loosened_settings(params, params, contract, ours)
    assert fault.message == (
        "contract.yaml: rules.spikes.monthly_charges has the new values 0: that takes a code owner's approval"
    )
    assert stricter_contract(contract, ours).rules.spikes == {
        "monthly_charges": {},
        "days": {0: "Today.", -1.5: "Never."},
    }
    assert stricter_contract(contract, ours, {fault.place}).rules.spikes == ours.rules.spikes, "once approved"
    assert stricter_contract(ours, ours).rules.spikes == ours.rules.spikes
    assert list(loosened_settings(params, params, ours, contract)) == [], "without it, more is refused"
    assert loosened(Change("contract.yaml", "rules.spikes.monthly_charges.0", None, "Free."))
    assert not loosened(Change("contract.yaml", "rules.spikes.monthly_charges.0", "Free.", "At no cost."))


def test_what_a_new_or_a_removed_column_brings_is_not_called_looser():
    def changes(role, nulls, largest, spike):
        return [
            Change("contract.yaml", "columns.days.nulls", *nulls),
            Change("contract.yaml", "columns.days.role", *role),
            Change("contract.yaml", "rules.changes.days", *largest),
            Change("contract.yaml", "rules.ranges.days.max", *largest),
            Change("contract.yaml", "rules.spikes.days.0", *spike),
        ]

    new = changes((None, "feature"), (None, "allow"), (None, 5), (None, "None yet."))
    removed = changes(("feature", None), ("allow", None), (5, None), ("None yet.", None))
    assert looser_changes(new) == looser_changes(removed) == []
    kept = [one for one in new + removed if not one.key.endswith(".role")]
    assert {one.key.split(".")[1] for one in looser_changes(kept)} == {"days", "ranges", "changes", "spikes"}
    notes = [*judge_notes(new, []), *judge_notes(removed, [])]
    assert [note.warns for note in notes] == [False, False]


def test_a_relation_is_called_looser_where_the_judge_says_so(contract, monkeypatch):
    monkeypatch.chdir("tests/sample")
    key = "rules.relations.total_charges_fit_tenure.holds"
    ours = contract.rules.relations["total_charges_fit_tenure"].holds
    factor = "3 * monthly_charges"
    tighter, looser = (ours.replace(factor, f"{one} * monthly_charges") for one in ("2.9", "4"))
    assert not loosened(Change("contract.yaml", key, looser, ours)), "it was tightened"
    assert loosened(Change("contract.yaml", key, tighter, ours))
    assert not loosened(Change("contract.yaml", key.replace(".holds", ".column"), "monthly_charges", "total_charges"))


def test_a_reordered_list_and_a_reworded_reason_are_not_called_looser():
    assert not loosened(Change("params.yaml", "evaluate.slices.columns", ["a", "b"], ["b", "a"]))
    assert loosened(Change("params.yaml", "evaluate.slices.columns", ["a", "b"], ["b"]))
    assert not loosened(Change("contract.yaml", "rules.relations.fits.because", "Yes.", "No."))


RENAMED = {"contract": "plan", "total_charges": "total", "tenure_months": "months"}


def test_mains_rules_follow_features_and_slices_that_are_renamed(params, contract, tmp_path, monkeypatch):
    main, here = tmp_path / "main", tmp_path / "here"
    for folder in (main, here):
        folder.mkdir()
        for name in ("params.yaml", "contract.yaml"):
            text = copy_of(name).read_text(encoding="utf-8")
            for before, after in [*RENAMED.items(), ("new_customers", "newcomers")] if folder is here else ():
                text = re.sub(rf"\b{before}\b", after, text)
            (folder / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(here)
    ours = load_params(), load_contract()
    assert "plan=Month-to-month" in ours[0].gate.slices
    assert "newcomers" in ours[0].gate.slices
    theirs = mains_settings(main, RENAMED)
    assert list(loosened_settings(theirs[0], ours[0], theirs[1], ours[1])) == []
    assert set(theirs[0].gate.slices) == set(ours[0].gate.slices)
    assert renamed_conditions(main, RENAMED) == {"new_customers": "newcomers"}
    assert mains_settings(copy_of("params.yaml").parent, {})[1] == contract
    faults = "\n".join(fault.message for fault in loosened_settings(params, ours[0], contract, ours[1]))
    assert "evaluate.slices.columns lacks contract" in faults, "without the names these are other settings"
