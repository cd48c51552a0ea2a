"""Scoring in partitions gives each customer the score, or the rejection, of scoring in one table."""

import churn.scoring_parts
from churn.config.params import Compute
from churn.core.errors import StageError
from churn.core.partitions import partitions_of, store, write_manifest
from churn.data.featuring import to_arrow
from churn.data.sinks import batches_of
from churn.modeling.model import model_frame
from churn.modeling.training import build_model
from churn.scoring_parts import score_on_workers
from churn.scoring_rows import incoming_contract, score
from tests.conftest import make_customers
from tests.one_process import run_here

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier


@pytest.fixture
def customers(contract, monkeypatch, tmp_path):
    """A file of 3,000 customers, two of whom have one key and one a negative tenure, and a model."""
    run_here(monkeypatch, churn.scoring_parts)
    frame = make_customers(contract, 3_000, seed=1).sample(frac=1, random_state=0, ignore_index=True)
    table = to_arrow(frame, contract)
    model = build_model(HistGradientBoostingClassifier(max_iter=5, random_state=0), contract)
    model.fit(model_frame(table, contract), frame[contract.label])
    frame.loc[2_999, "customer_id"] = frame.loc[0, "customer_id"]
    frame.loc[5, "tenure_months"] = -1
    given = pa.Table.from_pandas(frame[[*incoming_contract(contract).columns]], preserve_index=False)
    pq.write_table(given, tmp_path / "customers.parquet")
    return tmp_path / "customers.parquet", model


def on_workers(path, model, params, contract, storage=None):
    compute = Compute(engine="dask", partition_rows=1_000, storage=storage)
    params = params.model_copy(update={"compute": compute})
    batches = batches_of(str(path), 1.0, contract.label)
    return score_on_workers(batches, path.with_name("parts.parquet"), model, params, contract, number=7)


def read(table):
    return pd.concat([pd.read_parquet(one.url) for one in partitions_of(table)])


def test_a_table_in_partitions_can_be_scored_wherever_its_files_lie(customers, params, contract, tmp_path):
    path, model = customers
    whole = on_workers(path, model, params, contract)
    parts, table = tmp_path / "customers.parts", pq.read_table(path)
    made = []
    for part in (table[:1_000], table[1_000:]):
        pq.write_table(part, tmp_path / "made")
        made.append(store(tmp_path / "made", parts, len(made), len(part), str(tmp_path / "storage")))
    write_manifest(parts, made)
    assert [one.name for one in parts.iterdir()] == ["_manifest.json"]
    assert on_workers(parts, model, params, contract) == whole


def test_partitions_are_scored_and_rejected_like_one_table(customers, params, contract, tmp_path):
    path, model = customers
    alone = score(str(path), str(tmp_path / "one.parquet"), model, contract, 7)
    assert on_workers(path, model, params, contract) == alone
    assert alone[0] - alone[1] == 3
    for whole, parts in (("one", "parts"), ("one.rejected", "parts.rejected")):
        expected = pd.read_parquet(tmp_path / f"{whole}.parquet")
        found = read(tmp_path / f"{parts}.parquet").sort_values("customer_id", ignore_index=True)
        assert found.equals(expected.sort_values("customer_id", ignore_index=True))
    folders = [tmp_path / "parts.parquet", tmp_path / "parts.rejected.parquet"]
    for folder in folders:
        assert {one.name for one in folder.iterdir()} == {
            "_manifest.json",
            *(f"part-{n:05}.parquet" for n in range(3)),
        }


def test_no_folders_name_takes_the_place_of_a_column(customers, params, contract, tmp_path):
    (path, model), named = customers, tmp_path / "tenure_months=1" / "day=2026-11-29"
    expected = on_workers(path, model, params, contract)
    named.mkdir(parents=True)
    path.rename(named / path.name)
    assert on_workers(named / path.name, model, params, contract) == expected
    for table in ("parts.parquet", "parts.rejected.parquet"):
        assert read(named / table).equals(read(tmp_path / table))


def test_names_in_another_case_are_scored_on_workers_too(customers, params, contract):
    path, model = customers
    expected = on_workers(path, model, params, contract)
    table = pq.read_table(path)
    pq.write_table(table.rename_columns([name.upper() for name in table.column_names]), path)
    assert on_workers(path, model, params, contract) == expected


def test_a_storage_keeps_the_scores_and_loses_nothing_that_was_there(customers, params, contract, tmp_path):
    (path, model), storage = customers, tmp_path / "shared"
    on_workers(path, model, params, contract, str(storage))
    kept = {path.name for path in storage.rglob("*.parquet")}
    folders = [tmp_path / "parts.parquet", tmp_path / "parts.rejected.parquet"]
    assert kept == {f"{one.sha256}.parquet" for folder in folders for one in partitions_of(folder)}
    on_workers(path, model, params, contract, str(storage))
    assert {path.name for path in storage.rglob("*.parquet")} == kept


def test_a_table_without_the_key_or_without_rows_is_refused_and_nothing_is_written(customers, params, contract):
    path, model = customers
    table = pq.read_table(path)
    for given, message in (
        (table.drop_columns("customer_id"), "the customers have no column customer_id"),
        (table[:0], "there are no customers to score"),
    ):
        pq.write_table(given, path)
        with pytest.raises(StageError, match=message):
            on_workers(path, model, params, contract)
        assert [one.name for one in path.parent.iterdir()] == ["customers.parquet"]
