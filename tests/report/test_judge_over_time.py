"""The judge of customers with a row for each month: the split, the periods, known customers, and the fall over time."""

import shutil
from pathlib import Path

import churn.features
from churn.config.contract import load_contract
from churn.config.params import load_params
from churn.core.paths import CONTRACT, PARAMS, RAW, TEST, TRAIN
from churn.data.tables import split_snapshot
from churn.evaluation.holdout import EARLIER
from report.changes import judge_notes
from report.collect import early_labels, over_time
from report.comparison import unseen
from report.data import Change
from report.identity import other_keys
from report.judge import evaluation_faults
from report.recompute import recomputing
from report.settings import loosened_settings
from report.tables import table_faults
from tests.conftest import ROOT
from tests.customer_months import put_customer_months
from tests.frozen import copy_of
from tests.report.cases import EVALUATION, OVER_TIME
from tests.unit.test_over_time import DAY, rows_of

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the settings, a snapshot of 200 customers and both tables; the test runs in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(churn.features, "FEATURES", ())
    for name in ("params.yaml", "contract.yaml"):
        shutil.copyfile(copy_of(name), name)
    for folder in (RAW.parent, TEST.parent, Path("churn")):
        folder.mkdir(parents=True)
    put_customer_months(tmp_path)
    CONTRACT.write_text(CONTRACT.read_text().replace(", computed: true", ""))
    rows_of(200).to_parquet(RAW, index=False)
    split_snapshot(RAW, load_params().prepare, load_contract(), (TRAIN, TEST), DAY)
    return tmp_path


def faults():
    return list(table_faults(load_params().prepare, load_contract()))


def changed(path, change):
    table = pq.read_table(path)
    frame = change(table.to_pandas())
    pq.write_table(pa.Table.from_pandas(frame, schema=table.schema, preserve_index=False), path)


def test_tables_that_prepare_made_have_no_fault(here):
    assert faults() == []


def test_rows_that_the_periods_leave_out_are_found_in_either_table(here):
    rows = rows_of(200)
    trained = set(pq.read_table(TRAIN)["customer"].to_pylist())
    late, newest = rows["month"].astype(str) == "2025-10-01", rows["month"].astype(str) == "2025-12-01"
    changed(TRAIN, lambda frame: pd.concat([frame, rows[late & rows["customer"].isin(trained)].head(7)]))
    changed(TEST, lambda frame: pd.concat([frame, rows[newest & ~rows["customer"].isin(trained)].head(3)]))
    assert faults() == [
        f"{name} has {count} rows that main's prepare.time leaves out: their labels are not final, or later than the"
        " training"
        for name, count in (("the training table", 7), ("the holdout", 3))
    ]


def test_one_month_of_a_customer_of_the_holdout_in_training_is_found(here):
    moved = pq.read_table(TEST).to_pandas().head(1)
    changed(TRAIN, lambda frame: pd.concat([frame, moved]))
    changed(TEST, lambda frame: frame.iloc[1:])
    assert faults() == ["the training table has 1 customer whom main's split holds out"]


def test_another_last_day_of_training_in_the_holdout_is_found(here):
    table = pq.read_table(TEST)
    pq.write_table(table.replace_schema_metadata(table.schema.metadata | {b"train_until": b"2025-01-01"}), TEST)
    (fault,) = faults()
    assert fault.endswith("does not have the last day of training of main's prepare.time, 2025-08-22")


def test_other_periods_and_another_group_take_an_approval(here):
    before, contract = load_params(), load_contract()
    text = PARAMS.read_text()
    PARAMS.write_text(text.replace("label_window_days: 30", "label_window_days: 7"))
    (fault,) = loosened_settings(before, load_params(), contract, contract)
    assert fault.place == ("prepare", "time")
    assert "the holdout is another; that takes a code owner's approval" in fault.message
    columns = {name: one for name, one in contract.columns.items() if name != "customer"}
    (fault,) = loosened_settings(before, before, contract.model_copy(update={"columns": columns}), contract)
    assert fault.message.startswith("contract.yaml: columns.customer has the role group, so the holdout is another")
    (fault,) = loosened_settings(before, before, contract, contract.model_copy(update={"columns": columns}))
    assert fault.message.startswith("contract.yaml: columns.customer is no group any more")


def test_a_changed_window_is_a_change_of_the_rows_that_count():
    (note,) = judge_notes([Change("params.yaml", "prepare.time.label_window_days", 30, 7)], [])
    assert note.text == "This branch changes the rows that count: prepare.time.label_window_days 30 → 7"


def test_a_bent_group_or_day_is_not_that_of_the_snapshot(here):
    for name in ("churn", "stages"):
        shutil.copytree(ROOT / name, here / name, dirs_exist_ok=True)
    shutil.copyfile(ROOT / "dvc.yaml", "dvc.yaml")
    (here / "churn/features.py").write_text("FEATURES = ()\n")
    with recomputing() as differences:
        assert list(differences()) == []
    changed(TRAIN, lambda frame: frame.assign(customer=frame["customer"] + (frame.index == 3)))
    changed(TEST, lambda frame: frame.assign(month=frame["month"].where(frame.index > 1, frame["month"].iloc[5])))
    with recomputing() as differences:
        found = list(differences())
    assert [one.partition(": remove")[0] for one in found if "customer of" in one or "month of" in one] == [
        f"the holdout: month of 2 of {len(pq.read_table(TEST)):,} customers is not that of the snapshot",
        f"the training table: customer of 1 of {len(pq.read_table(TRAIN)):,} customers is not that of the snapshot",
    ]


def mains(here):
    """Return a copy of this folder as main's."""
    return Path(shutil.copytree(here, here.parent / "main", dirs_exist_ok=True))


def test_a_customers_new_month_is_no_new_customer_and_a_renamed_customer_is_known(here):
    main, contract = mains(here), load_contract()
    rows = rows_of(200)
    rows[rows["month"].astype(str) > "2025-02-01"].to_parquet(RAW, index=False)  # two months are gone
    assert len(other_keys(main, contract).pairs) == 0
    renamed = rows.assign(customer=rows["customer"] + 50_000, row_id="x" + rows["row_id"])
    renamed.to_parquet(RAW, index=False)
    found = other_keys(main, contract)
    assert len(found.pairs) == len(rows)
    assert len(found.trained_on) == len(pq.read_table(TRAIN))


def test_main_has_seen_all_rows_of_a_customer_of_whom_it_trained_on_one():
    table = pa.table({"row": ["a/1", "a/2", "b/1"], "customer": ["a", "a", "b"]})
    seen = {"row": pd.Series(["a/1"]), "customer": pd.Series(["a"])}
    assert unseen(table, seen).tolist() == [False, False, True]
    assert unseen(table, {"row": seen["row"]}).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("difference", "interval", "count"),
    [(-0.06, [-0.09, -0.03], 1), (-0.06, [-0.13, 0.01], 0), (-0.01, [-0.015, -0.005], 0), (0.06, [0.03, 0.09], 0)],
)
def test_a_fall_over_time_that_is_large_and_no_noise_is_a_sentence(difference, interval, count):
    given = OVER_TIME | {"roc_auc_over_time": {"difference": difference, "interval": interval}}
    notes = list(over_time(given))
    assert len(notes) == count
    assert all(
        "falls from 0.860 on held-out customers of the training's time to 0.800 after 2026-06-30" in n for n in notes
    )


@pytest.mark.parametrize(("made", "count"), [("2025-12-19", 1), ("2025-12-20", 0), ("2026-03-01", 0), (None, 0)])
def test_an_as_of_day_after_the_commit_is_a_sentence(here, monkeypatch, made, count):
    """Else a label of today could be declared final by a day of next year."""
    monkeypatch.setattr("report.collect.git", lambda *_: made)
    notes = list(early_labels())
    assert len(notes) == count
    assert all(
        one.startswith("params.yaml: fetch.as_of is 2025-12-20, and this commit is of 2025-12-19") for one in notes
    )


def test_a_table_without_a_day_has_no_sentence_on_time():
    assert list(over_time(EVALUATION)) == []
    nothing = {"difference": None, "interval": [None, None]}
    assert list(over_time(OVER_TIME | {"roc_auc_over_time": nothing})) == []


def test_metrics_of_the_other_rows_that_are_not_so_are_found():
    counts = {"rows": 9, "churners": 3, "predicted": 2}
    right = EVALUATION | counts | {"slices": [], EARLIER: EVALUATION | counts, "roc_auc_over_time": {"difference": 0.0}}
    assert list(evaluation_faults(right, right)) == []
    bent = right | {EARLIER: right[EARLIER] | {"roc_auc": 0.9}, "roc_auc_over_time": {"difference": 0.1}}
    assert list(evaluation_faults(bent, right)) == [
        "metrics/evaluation.json has another roc_auc_over_time than is found when it is evaluated anew",
        "metrics/evaluation.json says roc_auc of random_by_customer is 0.9000, but evaluated anew it is 0.8000",
    ]
    without = {name: one for name, one in right.items() if name not in (EARLIER, "roc_auc_over_time")}
    assert len(list(evaluation_faults(without, right))) > 2
