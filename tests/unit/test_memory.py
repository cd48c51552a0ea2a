"""compute.memory: the limit of DuckDB, XGBoost in batches from disk, and the refusal of other estimators."""

import sqlite3

import churn.data.duckdb_helpers
from churn.adopting.columns import table
from churn.config.memory import (
    duckdb_limit,
    limit_duckdb,
    memory_limit,
    memory_needed,
    refuse_large_holdout,
    trains_on_disk,
)
from churn.config.params import Compute, Train, load_params
from churn.core.errors import StageError
from churn.data.duckdb_helpers import connection
from churn.data.featuring import to_arrow
from churn.data.snapshot import snapshot
from churn.modeling.model import read_batches, read_table, reproducible_bytes
from churn.modeling.training import build_classifier, build_model, fit, fit_on_disk
from churn.scoring_rows import score
from tests.conftest import make_customers
from tests.frozen import SAMPLE, copy_of
from tests.unit.test_score_rows import Constant

import duckdb
import pyarrow.parquet as pq
import pytest

BOOSTING = "sklearn.ensemble.HistGradientBoostingClassifier"
XGBOOST = Train(estimator="xgboost.XGBClassifier", parameters={"n_estimators": 10, "subsample": 0.5}, seed=1)
ROWS = 10_000_000


def limited(params, memory, train=XGBOOST):
    return params.model_copy(update={"compute": Compute(memory=memory), "train": train})


def test_without_the_setting_nothing_is_refused_and_duckdb_takes_a_gigabyte(params, contract):
    assert memory_limit(params) is None
    limit_duckdb(params)
    assert duckdb_limit() == "1GB"
    assert not trains_on_disk(params, contract, 100 * ROWS)


@pytest.mark.parametrize(
    ("memory", "number", "half"), [("4GB", 4e9, "1.8 GiB"), ("1.5GB", 1.5e9, "715.2 MiB"), ("2500MB", 2.5e9, "1.1 GiB")]
)
def test_a_connection_may_use_half_of_the_limit(params, memory, number, half):
    assert memory_limit(limited(params, memory)) == number
    limit_duckdb(limited(params, memory))
    try:
        with connection() as database:
            (shown,) = database.execute("SELECT current_setting('memory_limit')").fetchall()[0]
    finally:
        limit_duckdb(params)
    assert shown == half


@pytest.fixture
def limits(customers, contract, params, tmp_path, monkeypatch):
    """Return a function that reads a table in three ways, and gives the memory limits of DuckDB's connections."""
    found, connect, customers = [], duckdb.connect, customers.drop(columns="num_products")

    def connecting(config):
        found.extend([config["memory_limit"]] if "memory_limit" in config else [])
        return connect(config=config)

    def reading(memory, name):
        source, query = tmp_path / name, tmp_path / "query.sql"
        query.write_text("SELECT * FROM source")
        if source.suffix == ".db":
            with sqlite3.connect(source) as database:
                customers.to_sql("source", database, index=False)
        else:
            customers.to_parquet(source)
        limit_duckdb(limited(params, memory))
        fetch = params.fetch.model_copy(update={"source": str(source), "query": str(query)})
        snapshot(fetch, contract, tmp_path / "raw.parquet")
        fetched = len(found)
        score(str(source), str(tmp_path / "scores.csv"), Constant(), contract, 1)
        scored = len(found)
        with table(str(source), "SELECT * FROM source", None):
            return found[:fetched], found[fetched:scored], found[scored:]

    monkeypatch.chdir(SAMPLE)
    monkeypatch.setattr(churn.data.duckdb_helpers.duckdb, "connect", connecting)
    yield reading
    limit_duckdb(params)


@pytest.mark.parametrize(
    ("memory", "name", "expected"),
    [
        ("2GB", "customers.parquet", ["500MB", "500MB"]),
        ("2GB", "customers.db", ["1000MB"]),  # which SQLite reads
        (None, "customers.parquet", ["1GB", "1GB"]),
    ],
)
def test_the_query_of_a_file_and_the_table_of_its_rows_share_the_half(limits, memory, name, expected):
    assert limits(memory, name) == (expected, expected, expected)


def test_a_connection_with_a_share_has_no_more_threads_than_its_memory_suffices_for(params):
    def threads(memory, share):
        limit_duckdb(limited(params, memory))
        with connection(share=share) as database:
            return database.execute("SELECT current_setting('threads')").fetchall()[0][0]

    try:
        assert threads("1GB", 0.25) == 1
        assert threads("60GB", 0.5) == threads("1GB", 1) == threads(None, 0.5)
    finally:
        limit_duckdb(params)


@pytest.mark.parametrize("memory", ["500MB", "0GB", "4", "4 GB", "4TB", "much"])
def test_what_is_no_size_is_one_sentence(memory, tmp_path):
    """Fault in the settings: `compute.memory` is not a size.

    Every stage fails: `params.yaml: compute.memory: string should match pattern …`
    """
    path = tmp_path / "params.yaml"
    path.write_text(f"{copy_of('params.yaml').read_text()}\ncompute:\n  memory: {memory}\n")
    with pytest.raises(StageError, match=r"params\.yaml: compute\.memory: .*should "):
        load_params(path)


def test_an_estimator_that_needs_more_is_refused_with_the_number_and_the_way_out(params, contract):
    """Fault in the settings: `compute.memory` is too small for the estimator.

    train fails: `params.yaml: compute.memory: HistGradientBoostingClassifier needs about 8.7 GB for 10,000,000 rows:
    raise it, or let train.estimator be xgboost.XGBClassifier, which trains on disk.`
    """
    boosting = limited(params, "4GB", params.train)
    with pytest.raises(StageError) as told:
        trains_on_disk(boosting, contract, ROWS)
    needed = memory_needed(params.train, contract, ROWS)
    assert str(told.value) == (
        f"params.yaml: compute.memory: HistGradientBoostingClassifier needs about {needed / 1e9:.1f} GB for 10,000,000"
        " rows: raise it, or let train.estimator be xgboost.XGBClassifier, which trains on disk."
    )
    assert not trains_on_disk(boosting, contract, ROWS // 100)


def test_a_holdout_whose_scores_need_more_is_refused_with_the_number_and_the_way_out(params, contract):
    """Fault in the settings: `compute.memory` is too small for the holdout.

    evaluate and register fail: `params.yaml: compute.memory: the holdout needs about 8.1 GB for 10,000,000 rows: raise
    it, or let prepare.holdout_share be smaller.`
    """
    with pytest.raises(StageError, match=r"compute\.memory: the holdout needs about 8.1 GB for 10,000,000 rows: "):
        refuse_large_holdout(limited(params, "2GB"), contract, ROWS)
    refuse_large_holdout(limited(params, "2GB"), contract, ROWS // 10)
    refuse_large_holdout(params, contract, ROWS)


def test_xgboost_goes_on_on_disk_beyond_the_limit_and_not_before(params, contract):
    assert trains_on_disk(limited(params, "2GB"), contract, 5 * ROWS)
    assert not trains_on_disk(limited(params, "2GB"), contract, ROWS // 10)


def test_another_estimator_needs_more_the_more_values_its_categories_have(contract):
    one_hot = XGBOOST.model_copy(update={"estimator": "sklearn.linear_model.LogisticRegression"})
    assert memory_needed(one_hot, contract, ROWS) > memory_needed(
        XGBOOST.model_copy(update={"estimator": BOOSTING}), contract, ROWS
    )


def test_a_forest_needs_more_the_more_trees_and_the_deeper_they_are(contract):
    def needed(rows=100_000, name="ensemble.ExtraTreesClassifier", **parameters):
        train = XGBOOST.model_copy(update={"estimator": f"sklearn.{name}", "parameters": parameters})
        return memory_needed(train, contract, rows)

    assert (
        needed()
        > needed(n_estimators=50)
        > needed(n_estimators=50, min_samples_leaf=20)
        > needed(name="linear_model.X")
    )
    assert needed() > needed(max_leaf_nodes=500) > needed(max_depth=5)
    assert needed(name="gaussian_process.GaussianProcessClassifier") > 2e11


def test_batches_from_disk_give_the_same_model_as_the_whole_table(contract, tmp_path, monkeypatch):
    path = tmp_path / "train.parquet"
    pq.write_table(to_arrow(make_customers(contract, 1_000), contract), path, row_group_size=300)
    features, labels, _ = read_table(path, contract)
    monkeypatch.setattr("churn.modeling.training.DISK_ROWS", 170)
    model = build_model(build_classifier(XGBOOST), contract)
    batches = read_batches(path, contract, model.columns, 170)
    for _ in range(2):  # XGBoost asks more than once
        sizes = [len(some) for _, some in batches()]
        assert (max(sizes), sum(sizes)) == (170, 1_000)
    in_memory = fit(build_model(build_classifier(XGBOOST), contract), features, labels, 1_000)
    assert reproducible_bytes(fit_on_disk(model, path, contract, 1_000)) == reproducible_bytes(in_memory)
    with pytest.raises(StageError, match=r"the model saw 1,000 of the 1,001 rows of the table; drop none"):
        fit_on_disk(model, path, contract, 1_001)


def test_a_temporary_folder_without_room_for_the_batches_is_one_sentence(contract, tmp_path):
    """Fault in the settings: XGBoost trains on disk, and the disk is too full.

    train fails: `XGBoost trains on disk, and needs about 0.5 GB in /tmp, which has 0.1: free some, set TMPDIR, or …`
    """
    model = build_model(build_classifier(XGBOOST), contract)
    with pytest.raises(
        StageError, match=r"XGBoost trains on disk, and needs about [\d.]+ GB in .*: free some, set TMPDIR"
    ):
        fit_on_disk(model, tmp_path / "train.parquet", contract, 10**15)


def test_a_table_that_cannot_be_read_in_batches_is_one_sentence(contract, tmp_path):
    path = tmp_path / "train.parquet"
    path.write_bytes(b"PAR1 no Parquet PAR1")
    model = build_model(build_classifier(XGBOOST), contract)
    with pytest.raises(StageError, match=r"is not a Parquet file|the model cannot be fitted: XGBClassifier raises"):
        fit_on_disk(model, path, contract, 1_000)
