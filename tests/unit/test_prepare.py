import hashlib
import sys
from datetime import date

from churn.config.contract import Column
from churn.config.params import Prepare
from churn.core.errors import StageError
from churn.core.runner import attempt
from churn.data.split import among, drop_declared, in_holdout, key_lines
from churn.data.tables import split_snapshot
from tests.conftest import make_customers

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

SETTINGS = Prepare(holdout_share=0.2, salt="salt", drop={})


@pytest.fixture
def raw(contract, tmp_path):
    """The path of a snapshot of 2,000 customers, as fetch writes it."""
    path = tmp_path / "customers.parquet"
    make_customers(contract, 2_000).drop(columns="num_products").to_parquet(path, index=False)
    return path


def split_to(folder, raw, contract, settings=SETTINGS):
    train, test = folder / "train.parquet", folder / "test.parquet"
    account = split_snapshot(raw, settings, contract, (train, test))
    return account, pq.read_table(train), pq.read_table(test)


def test_an_account_that_does_not_balance_is_refused(raw, contract, tmp_path, monkeypatch):
    monkeypatch.setattr("churn.data.tables.drop_declared", lambda frame, reasons, contract: (frame.iloc[1:], {}))
    with pytest.raises(StageError, match="the row counts do not reconcile"):
        split_to(tmp_path, raw, contract)
    assert not (tmp_path / "train.parquet").exists()


def test_a_customer_stays_on_its_side_whoever_else_comes_or_goes():
    keys = pd.Series([f"customer {number}" for number in range(5_000)])
    sides = pd.Series(in_holdout(keys, "salt", 0.2), index=keys)
    other = keys.sample(frac=0.5, random_state=0)
    assert in_holdout(other, "salt", 0.2).tolist() == sides[other].tolist()
    assert 0.18 < sides.mean() < 0.22
    assert set(sides[sides].index) <= set(keys[in_holdout(keys, "salt", 0.3)])
    assert in_holdout(keys, "pepper", 0.2).tolist() != sides.tolist()


def test_the_split_is_the_one_of_the_former_month():
    """Written down, since a champion must never have seen this month's holdout."""
    keys = pd.Series(["0002-ORFBO", "0003-MKNFE", 5574, 5575])
    assert in_holdout(keys, "churn", 0.2).tolist() == [False, False, False, True]


def test_both_tables_hold_every_row_once_in_the_order_of_the_key(raw, contract, tmp_path):
    account, train, test = split_to(tmp_path, raw, contract)
    digest = hashlib.sha256(key_lines(test["customer_id"].to_pandas())).hexdigest()
    assert account == {
        "fetched": 2_000,
        "train": train.num_rows,
        "test": test.num_rows,
        "dropped": {},
        "holdout_sha256": [digest],
    }
    keys = [*train["customer_id"].to_pylist(), *test["customer_id"].to_pylist()]
    assert sorted(keys) == pq.read_table(raw)["customer_id"].to_pylist()
    assert train["customer_id"].to_pylist() == sorted(train["customer_id"].to_pylist())


def test_batches_make_no_difference(raw, contract, tmp_path, monkeypatch):
    _, train, test = split_to(tmp_path, raw, contract)
    monkeypatch.setattr("churn.data.tables.BATCH_ROWS", 97)
    account, train_in_batches, test_in_batches = split_to(tmp_path / "batches", raw, contract)
    assert train_in_batches.equals(train)
    assert test_in_batches.equals(test)
    assert account["fetched"] == 2_000


def test_a_batch_of_a_wide_table_has_fewer_rows(raw, contract, tmp_path, monkeypatch):
    monkeypatch.setattr("churn.data.tables.BATCH_CELLS", 100 * len(pq.read_schema(raw).names))
    split_to(tmp_path, raw, contract)
    groups = pq.ParquetFile(tmp_path / "train.parquet").metadata
    assert groups.num_row_groups == 20
    assert max(groups.row_group(number).num_rows for number in range(20)) < 100


def test_rows_are_dropped_for_declared_reasons_alone_and_counted(raw, contract, tmp_path):
    reasons = {"first_month": "tenure_months = 0", "short": "tenure_months < 3"}
    settings = Prepare(holdout_share=0.2, salt="salt", drop=reasons)
    account, train, test = split_to(tmp_path, raw, contract, settings)
    assert account["dropped"]["first_month"] == 40
    assert account["dropped"]["short"] > 0
    assert train.num_rows + test.num_rows + sum(account["dropped"].values()) == 2_000
    assert min(train["tenure_months"].to_pylist()) == 3


@pytest.mark.parametrize("first", [1, 2**53 + 1])
def test_integers_stay_the_keys_that_they_are_where_a_row_without_one_is_dropped(raw, contract, tmp_path, first):
    numbered = contract.model_copy(
        update={"columns": contract.columns | {"customer_id": Column(role="key", type="integer")}}
    )
    table = pq.read_table(raw)
    keys = pa.array([None, *range(first, first + 2 * table.num_rows - 2, 2)])
    pq.write_table(table.set_column(0, "customer_id", keys), raw)
    settings = Prepare(holdout_share=0.2, salt="salt", drop={"no_id": "customer_id IS NULL"})
    account, train, test = split_to(tmp_path, raw, numbered, settings)
    assert account["dropped"] == {"no_id": 1}
    assert sorted([*train["customer_id"].to_pylist(), *test["customer_id"].to_pylist()]) == keys[1:].to_pylist()
    held_out = in_holdout(keys[1:].to_pandas(), "salt", 0.2)
    assert test["customer_id"].to_pylist() == [
        key for key, out in zip(keys[1:].to_pylist(), held_out, strict=True) if out
    ]
    lines = key_lines(test["customer_id"].to_pandas())
    assert account["holdout_sha256"] == [hashlib.sha256(lines).hexdigest()]


def test_an_integer_key_is_on_the_side_of_its_digits_beside_an_empty_one_that_validate_will_refuse(
    raw, contract, tmp_path
):
    numbered = contract.model_copy(
        update={"columns": contract.columns | {"customer_id": Column(role="key", type="integer")}}
    )
    table = pq.read_table(raw)
    keys = pa.array([None, *range(1, table.num_rows)])
    pq.write_table(table.set_column(0, "customer_id", keys), raw)
    _, train, test = split_to(tmp_path, raw, numbered)
    held_out = in_holdout(keys[1:].to_pandas(), "salt", 0.2)
    found = {side: {*part["customer_id"].to_pylist()} - {None} for side, part in ((True, test), (False, train))}
    assert found == {side: {number + 1 for number, out in enumerate(held_out) if out == side} for side in (True, False)}


def test_a_row_that_fits_two_reasons_counts_once(contract):
    frame = pd.DataFrame({"tenure_months": [1, 2, 3]})
    kept, dropped = drop_declared(frame, {"small": "tenure_months < 3", "tiny": "tenure_months < 2"}, contract)
    assert kept["tenure_months"].tolist() == [3]
    assert dropped == {"small": 2, "tiny": 0}


def test_a_feature_function_that_ends_the_process_is_an_error(raw, contract, tmp_path, monkeypatch):
    """Fault in the settings: a feature function calls `sys.exit`.

    prepare fails: `prepare: add_x fails since sys.exit was called in churn/features.py, line …; …`
    """
    monkeypatch.setattr("churn.features.FEATURES", (lambda frame: sys.exit(0),))
    status, fault = attempt("prepare", lambda: split_to(tmp_path, raw, contract) and 0)
    assert status == 1
    assert "sys.exit was called" in fault
    assert [path.name for path in tmp_path.iterdir()] == ["customers.parquet"]


EMPTY = r"^the train table is empty: of .* rows 0 train and 0 test the model, .* are dropped \(all\); change prepare in"


def test_an_empty_table_is_refused_and_not_written(raw, contract, tmp_path):
    settings = Prepare(holdout_share=0.2, salt="salt", drop={"all": "tenure_months >= 0"})
    with pytest.raises(StageError, match=EMPTY):
        split_to(tmp_path, raw, contract, settings)
    assert [path.name for path in tmp_path.iterdir()] == ["customers.parquet"]


def test_a_snapshot_that_is_no_parquet_is_one_sentence(contract, tmp_path):
    raw = tmp_path / "customers.parquet"
    raw.write_text("half a fi")
    with pytest.raises(StageError, match="is not a Parquet file"):
        split_to(tmp_path, raw, contract)


def test_a_snapshot_with_two_columns_of_one_name_is_one_sentence(raw, contract, tmp_path):
    """Fault in files between stages: a table has two columns of one name.

    Its reader fails: `data/raw/customers.parquet has the column churn more than once; …`
    """
    table = pq.read_table(raw)
    pq.write_table(table.append_column("churn", table["churn"]), raw)
    with pytest.raises(StageError, match=r"customers\.parquet has the column churn more than once"):
        split_to(tmp_path, raw, contract)
    assert not list(tmp_path.glob("*train*"))


def test_a_snapshot_that_lacks_a_column_or_has_it_in_another_type_is_one_sentence(raw, contract, tmp_path):
    table = pq.read_table(raw)
    for column in table.column_names:
        pq.write_table(table.drop_columns([column]), raw)
        with pytest.raises(StageError, match=rf"customers\.parquet has no column {column}; `dvc"):
            split_to(tmp_path, raw, contract)
        dates = pa.array([date(2026, 11, 24)] * len(table))
        pq.write_table(table.set_column(table.column_names.index(column), column, dates), raw)
        with pytest.raises(StageError, match=rf"customers\.parquet: {column} is not of the type .*; `dvc"):
            split_to(tmp_path, raw, contract)
    pq.write_table(table.select([]), raw)
    with pytest.raises(StageError, match=r"customers\.parquet has no column customer_id, .* and 15 more; `dvc"):
        split_to(tmp_path, raw, contract)
    assert not list(tmp_path.glob("*train*"))


def test_a_snapshot_with_a_damaged_page_is_one_sentence(raw, contract, tmp_path):
    content = bytearray(raw.read_bytes())
    content[100:2_000] = bytes(1_900)
    raw.write_bytes(content)
    with pytest.raises(StageError, match="is not a Parquet file"):
        split_to(tmp_path, raw, contract)
    assert not list(tmp_path.glob("*train*"))


def test_a_key_is_among_others_by_its_value_whatever_its_type():
    assert among(pd.Series(["1", "2"]), pd.Series(["2", "3"])).tolist() == [False, True]
    assert among(pd.Series([1, 2]), pd.Series([2, 3])).tolist() == [False, True]
    assert among(pd.Series([1, 2]), pd.Series(["2", "3"])).tolist() == [False, True]
    assert among(pd.Series(["1", "2"]), pd.Series([], dtype=object)).tolist() == [False, False]
    together = pd.concat([pd.Series(["1"]), pd.Series(["2"])])
    assert among(together, together).tolist() == [True, True]
