"""Each fault is approved by its own id, and the approval of one is that of no other."""

import json
from contextlib import chdir
from dataclasses import replace

from churn.config.contract import load_contract
from churn.config.params import load_params
from churn.core.errors import StageError
from churn.core.paths import TEST, TRAIN
from report.changes import own_judge
from report.collect import settle
from report.data import LabelChanges, Outcome, ReportData
from report.faults import Approval, Fault, given_approval, missing_comparison, to_approve
from report.judge import candidate, judged, pipeline_faults, profile_notes
from report.selection import selection_faults
from report.settings import loosened_settings, mains_params, merged, stricter_contract
from tests.frozen import copy_of

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML


def settings(change):
    """Return a change of one section of params.yaml."""
    ((section, value),) = change.items()
    return lambda values: values[section].update(value)


@pytest.fixture
def ids(params, contract, branch_params):
    """Return a function that returns the ids of a branch's looser settings."""

    def found(change):
        return [fault.id for fault in loosened_settings(params, branch_params(change), contract, contract)]

    return found


def test_an_id_has_the_kind_and_does_not_follow_the_numbers_of_a_measurement(contract):
    changes = {"kept": 7043, "kept_churners": 1869, "turned_on": 0}
    found = [
        [fault.id for fault in selection_faults(LabelChanges(**changes, **counts), contract.rules.profile, "churn")]
        for counts in (
            {"removed": 215, "removed_churners": 215, "turned_off": 300},
            {"removed": 300, "removed_churners": 0, "turned_off": 20},
        )
    ]
    assert found[0] == found[1]
    assert [one.partition("-")[0] for one in found[0]] == ["selection", "labels"]


def test_a_setting_has_another_id_for_another_value_and_the_same_one_in_another_order(ids):
    lower = [ids(settings({"gate": {"min_slice_rows": rows}})) for rows in (10, 20, 10)]
    assert lower[0] == lower[2] != lower[1]

    def without(*names):
        def change(values):
            slices = values["evaluate"]["slices"]["columns"]
            values["evaluate"]["slices"]["columns"] = [one for one in reversed(slices) if one not in names]

        return change

    columns = "contract", "payment_method"
    assert ids(without(*columns)) == ids(without(*reversed(columns))) != ids(without("contract"))
    drop = {"one": "tenure_months = 0", "two": "monthly_charges = 0"}
    orders = [ids(settings({"prepare": {"drop": one}})) for one in (drop, dict(reversed(drop.items())))]
    assert orders[0] == orders[1] != ids(settings({"prepare": {"drop": drop | {"one": "tenure_months = 1"}}}))


def test_faults_of_one_kind_at_two_places_have_two_ids():
    stages = {"train": {"cmd": "python -m stages.train"}, "gate": {"cmd": "python -m stages.gate"}}
    found = list(pipeline_faults(stages, {name: {"cmd": "true"} for name in stages}))
    assert len({fault.id for fault in found}) == len(found) == 2
    assert to_approve(found) == f"approve {found[0].id} {found[1].id}"
    assert to_approve([Fault("the evaluation is forged")]) == ""


def test_a_missing_comparison_is_the_same_one_with_other_numbers_and_on_another_commit():
    first, second, other = (
        missing_comparison(f"1a2b3c4d: {said}")
        for said in ("1,200 of 7,043 keys are gone", "90 of 7,100 keys are gone", "no pipeline")
    )
    assert first.id == replace(second, message="").id != other.id
    assert missing_comparison("deadbeef has no pipeline").id == missing_comparison("1234567a has no pipeline").id


def test_of_two_looser_settings_only_the_approved_one_counts(params, branch_params):
    def change(values):
        values["gate"]["overall"]["roc_auc"]["min"] = 0.5
        values["gate"]["slices"]["new_customers"]["recall"]["min"] = 0.1
        del values["gate"]["vs_baseline"]["margins"]["brier_score"]
        values["gate"]["every_slice"]["calibration_error"] = 0.01

    ours = branch_params(change)
    approved = {("gate", "overall", "roc_auc", "min"), ("gate", "vs_baseline", "margins", "brier_score")}
    gate = merged(params.gate, ours.gate, "gate", approved=approved)
    assert gate.overall["roc_auc"].min == 0.5
    assert "brier_score" not in gate.vs_baseline.margins
    assert gate.slices["new_customers"] == params.gate.slices["new_customers"]
    assert gate.every_slice.calibration_error == 0.01, "what is stricter counts as before"
    with_other_end = {("gate", "overall", "roc_auc", "min")}
    turned = branch_params(lambda values: values["gate"]["overall"].update(roc_auc={"max": 0.9}))
    assert merged(params.gate, turned.gate, "gate", approved=with_other_end).overall["roc_auc"].min is None


def test_of_a_looser_contract_only_the_approved_part_counts(contract, branch_contract):
    def change(values):
        values["columns"]["partner"].update(nulls="allow", because="Unknown.")
        values["columns"]["contract"]["values"].append("Free")
        values["rules"]["ranges"]["tenure_months"]["max"] = 500
        values["rules"]["relations"].clear()

    ours = branch_contract(change)
    (relation,) = contract.rules.relations
    places = {
        "nulls": ("columns", "partner", "nulls"),
        "values": ("columns", "contract", "values"),
        "range": ("rules", "ranges", "tenure_months", "max"),
        "relation": ("rules", "relations", relation),
    }
    for approved in [(), *places]:
        made = stricter_contract(contract, ours, {places[approved]} if approved else ())
        assert made.columns["partner"].nullable == (approved == "nulls")
        assert ("Free" in made.columns["contract"].values) == (approved == "values")
        assert (made.rules.ranges["tenure_months"].max == 500) == (approved == "range")
        assert (made.rules.relations == {}) == (approved == "relation")
    assert stricter_contract(contract, ours, set(places.values())) == ours


@pytest.fixture
def judge(clone, finished, monkeypatch):
    """Return a function that judges a clone, after a change of params.yaml, against what it was; the ids approved."""

    def found(change=None, approve=()):
        yaml, path = YAML(typ="safe"), clone.folder / "params.yaml"
        values = yaml.load(path)
        if change:
            change(values)
            yaml.dump(values, path)
        approval = Approval("olga", frozenset(approve))
        one = candidate(finished.folder, {}, approval)
        return one, judged(finished.folder, one, None, None)[1]

    with chdir(clone.folder):
        yield found


def loosen(values):
    values["gate"]["overall"]["roc_auc"]["min"] = 0.5
    values["evaluate"]["threshold"] = 0.4


def move_a_tenth_of_the_holdout(folder):
    train, test = (pq.read_table(folder / path) for path in (TRAIN, TEST))
    rows = len(test) // 10
    pq.write_table(pa.concat_tables([train, test.slice(0, rows)]).cast(train.schema), folder / TRAIN)
    return rows


def test_the_approval_of_a_looser_rule_is_none_of_a_moved_holdout_which_has_no_id_and_is_named(judge, clone):
    rows = move_a_tenth_of_the_holdout(clone.folder)
    moved = f"the training table has {rows} customers whom main's split holds out"
    _, faults = judge(loosen)
    places = {fault.place: fault.id for fault in faults if fault.id}
    assert list(places) == [("gate", "overall", "roc_auc", "min"), ("evaluate", "threshold")]
    assert Fault(moved) in faults
    one, faults = judge(approve=places.values())
    assert (one.gate.overall["roc_auc"].min, one.evaluate.threshold) == (0.5, 0.4)
    assert Fault(moved) in faults
    one, _ = judge(approve=[places["evaluate", "threshold"]])
    assert (one.gate.overall["roc_auc"].min, one.evaluate.threshold) == (0.82, 0.4)


def test_a_split_that_is_approved_is_the_one_that_the_tables_are_compared_with(judge, clone):
    _, faults = judge(lambda values: values["prepare"].update(salt="pepper"))
    assert [fault.id for fault in faults if fault.id] == [faults[0].id]
    unmoved = [fault for fault in faults if "main's split" in fault.message]
    assert unmoved == [], "the tables are still those of main's split"
    one, faults = judge(approve=[faults[0].id])
    assert one.prepare == load_params().prepare
    assert [fault.alone for fault in faults if "the approved split" in fault.message] == [True, True]


def test_what_a_looser_contract_lets_into_the_tables_follows_from_it_and_has_no_id_of_its_own(judge, clone):
    frame = pq.read_table(TRAIN)
    months = pa.chunked_array([pa.array([500] * 3 + frame["tenure_months"].to_pylist()[3:], pa.int64())])
    at = frame.schema.get_field_index("tenure_months")
    pq.write_table(frame.set_column(at, frame.schema.field(at), months), TRAIN)
    yaml = YAML(typ="safe")
    contract = yaml.load(clone.folder / "contract.yaml")
    contract["rules"]["ranges"]["tenure_months"]["max"] = 600
    yaml.dump(contract, clone.folder / "contract.yaml")
    assert load_contract().rules.ranges["tenure_months"].max == 600
    _, faults = judge()
    range_, *others = [fault for fault in faults if "tenure_months" in fault.message]
    assert range_.kind == "contract"
    outside = [fault for fault in others if fault.kind is None]
    assert [(fault.mark, fault.alone) for fault in outside[:1]] == [("follows", False)]
    _, faults = judge(approve=[range_.id])
    assert [fault for fault in faults if fault.message == outside[0].message] == []


def test_a_new_value_and_its_shift_from_the_profile_are_approved_by_one_line(judge, clone):
    table = pq.read_table(clone.folder / TRAIN)
    values = ["Free"] * 300 + table["contract"].to_pylist()[300:]
    at = table.schema.get_field_index("contract")
    column = pa.chunked_array([pa.array(values).cast(table.schema.field(at).type)])
    pq.write_table(table.set_column(at, table.schema.field(at), column), clone.folder / TRAIN)
    clone.replace("contract.yaml", "[Month-to-month,", "[Free, Month-to-month,")
    _, faults = judge()
    assert {"contract", "profile"} <= {fault.kind for fault in faults if "Free" in fault.message}
    _, left = judge(approve=[fault.id for fault in faults if fault.id])
    assert {fault.id for fault in left} <= {None, *(fault.id for fault in faults)}, "one review is enough"


def test_a_profile_that_describes_other_tables_than_these_is_named(clone, tmp_path):
    """Fault in CI and the judge: `profile.json` is edited by hand, or comes from other customers.

    Main's profile judges the branch. The report warns, because the new one will judge later changes: `profile.json
    differs from main's, and does not describe these tables: monthly_charges …`
    """
    mains, ours = clone.text("profile.json"), clone.folder / "profile.json"
    (tmp_path / "profile.json").write_text(mains, encoding="utf-8")

    def notes(text):
        ours.write_text(text, encoding="utf-8")
        with chdir(clone.folder):
            return list(profile_notes(tmp_path, load_contract()))

    assert notes(mains) == []
    profile = json.loads(mains)
    profile["features"]["monthly_charges"]["std"] *= 100
    profile["features"]["contract"]["bins"][0]["label_rate"] = None
    edited = json.dumps(profile)
    assert notes(edited) == [
        "profile.json differs from main's, and does not describe these tables: monthly_charges, contract; it will judge"
        " later changes, so run `make profile`"
    ]
    (tmp_path / "profile.json").write_text(edited, encoding="utf-8")
    assert notes(mains) == [], "it was renewed"


FORGED = Fault("metrics/evaluation.json says roc_auc is 0.99, but evaluated anew it is 0.70")
LOOSER = Fault("gate.min_slice_rows is 10", "settings", ("gate", "min_slice_rows"), 10)
CODE = Fault("churn/x.py", "judge", ("code",), {"churn/x.py": "0"})


def report(*faults, ids=(), passed=True):
    outcome = Outcome(True, "Passes the gate") if passed else Outcome(False, "Blocked: no verdict", "gate")
    return ReportData((), "main", outcome, faults=faults, approval=Approval("olga", frozenset(ids)))


def test_an_approved_fault_passes_and_is_shown_and_any_other_blocks():
    data = report(LOOSER, ids=[LOOSER.id])
    assert settle(data, [], None) == []
    assert (data.outcome.passed, data.faults, data.approved) == (True, (), (LOOSER,))
    data = report(LOOSER, FORGED, ids=[LOOSER.id])
    settle(data, [], None)
    assert data.outcome.reasons == (FORGED.message,)
    data = report(LOOSER)
    settle(data, [missing_comparison("no pipeline")], None)
    assert data.outcome.reasons == (LOOSER.message, "no pipeline")


def test_an_id_that_no_fault_has_is_named_and_harms_nothing():
    data = report(LOOSER, ids=[LOOSER.id, "settings-00000", "stages-ffffff"])
    (note,) = settle(data, [], CODE)
    assert note.startswith("olga approved settings-00000, stages-ffffff, which no fault has")
    assert data.outcome.passed


@pytest.mark.parametrize(
    ("faults", "passed", "offered"),
    [((), True, False), ((LOOSER,), True, False), ((FORGED,), True, True), ((), False, True)],
)
def test_the_branchs_own_code_is_offered_as_the_judge_only_where_mains_finds_what_has_no_id(faults, passed, offered):
    data = report(*faults, passed=passed)
    settle(data, [], CODE)
    assert data.own_judge == (CODE if offered else None)
    assert not (faults and data.outcome.passed)
    data = report(*faults, ids=[CODE.id], passed=passed)
    settle(data, [], CODE)
    assert (data.own_judge, data.approved) == (None, (CODE,))
    assert data.outcome.passed == (passed and not faults), "an approved judge finds its own faults"


def test_the_id_of_the_judge_is_that_of_its_changed_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("churn/gate/rules.py", "churn/features.py", "json.py", "docs/ci.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("first")
    assert own_judge(["churn/features.py", "docs/ci.md", "json.py", "params.yaml"]) is None
    files = ["churn/gate/rules.py", "churn/features.py", "docs/ci.md", "json.py", "report/gone.py"]
    first = own_judge(files)
    assert "churn/gate/rules.py, report/gone.py; once approved" in first.message
    for name in ("churn/features.py", "docs/ci.md"):
        (tmp_path / name).write_text("second")
    assert own_judge(files).id == first.id
    (tmp_path / "json.py").write_text("second")
    assert own_judge(files).id != first.id, "it would run before the judge"


def test_the_approval_comes_from_the_environment(monkeypatch):
    monkeypatch.delenv("APPROVED", raising=False)
    monkeypatch.setenv("APPROVED_BY", "olga")
    assert given_approval() == Approval("olga")
    monkeypatch.setenv("APPROVED", " labels-000000  stages-91bc07 ")
    assert given_approval().ids == {"labels-000000", "stages-91bc07"}


def test_an_approved_judge_reads_mains_settings_with_its_own_keys(params, tmp_path, monkeypatch):
    """Fault in CI and the judge: a branch adds a required key to params.yaml, and its code is approved as the judge.

    The branch's value of that key counts for main, too, and a key that only main has does not count. All others are
    main's.
    """
    main, here = tmp_path / "main", tmp_path / "here"
    yaml = YAML(typ="safe")
    for folder in (main, here):
        folder.mkdir()
        values = yaml.load(copy_of("params.yaml"))
        if folder == main:
            del values["gate"]["every_slice"]["calibration_error"]
            values["gate"]["former_rule"] = 3
            values["gate"]["min_slice_rows"] = 120
        yaml.dump(values, folder / "params.yaml")
    monkeypatch.chdir(here)
    found = mains_params(main).gate
    assert found == params.gate.model_copy(update={"min_slice_rows": 120})
    (main / "params.yaml").write_text((main / "params.yaml").read_text().replace("120", "many"))
    with pytest.raises(StageError, match=r"gate\.min_slice_rows: "):
        mains_params(main)
