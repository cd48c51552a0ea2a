"""Tables of partitions in the report: the sample on which models are compared, and what is checked on all of them."""

import shutil
from pathlib import Path

import churn.data.partitioning
import churn.data.splitting
import churn.features
from churn.config.contract import load_contract
from churn.config.params import Compute, Fetch, load_params
from churn.core.errors import StageError
from churn.core.partitions import Partition, local_file, partitions_of, store, write_manifest
from churn.core.paths import RAW, TEST, TRAIN
from churn.data.duckdb_helpers import parquet_views
from churn.data.partitioning import partitioned_snapshot
from churn.data.periods import train_until
from churn.data.snapshot import snapshot
from churn.data.splitting import split_partitions
from churn.data.tables import split_snapshot
from report.judge import row_faults
from report.sample import limit, rows_in, sample_note, sampled
from report.tables import table_faults
from tests.conftest import ROOT
from tests.customer_months import put_customer_months
from tests.frozen import copy_of
from tests.one_process import run_here
from tests.unit.test_over_time import DAY, rows_of

import pandas as pd
import pyarrow.parquet as pq
import pytest


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    run_here(monkeypatch, churn.data.partitioning, churn.data.splitting)


def made_in(folder, source, rows):
    """Fetch and prepare the sample in a folder, in partitions of so many rows; None makes one file of each table."""
    params, contract = load_params(), load_contract()
    tables = (folder / TRAIN, folder / TEST)
    if rows is None:
        snapshot(source, contract, folder / RAW)
        split_snapshot(folder / RAW, params.prepare, contract, tables)
        return
    compute = Compute(engine="dask", partition_rows=rows)
    partitioned_snapshot(source, contract, folder / RAW, compute)
    split_partitions(folder / RAW, params.prepare, contract, tables, compute=compute)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder in which the tables have four partitions, and the source; the test runs in it."""
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "contract.yaml", "source.sql"):
        shutil.copyfile(copy_of(name), name)
    customers = ROOT / "data/sample/telco_customers.csv"
    source = Fetch(source=str(customers), query="source.sql", as_of=None, timeout_minutes=1.0)
    made_in(Path(), source, 2_000)
    return source


@pytest.mark.parametrize("rows", [1_400, 7_000, None], ids=["six partitions", "two partitions", "one file"])
def test_the_sample_of_main_has_the_customers_of_the_sample_here(here, rows, monkeypatch):
    """However many partitions main's tables have."""
    monkeypatch.setattr("report.sample.CUSTOMERS", 3_000)
    made_in(Path("main"), here, rows)
    contract = load_contract()
    ours, theirs = (pd.read_parquet(sampled(root / TEST, contract)) for root in (Path(), Path("main")))
    assert ours.equals(theirs)
    assert ours["customer_id"].is_monotonic_increasing
    first = pd.concat([pd.read_parquet(one.url) for one in partitions_of(TEST)[:2]])
    assert sorted(first["customer_id"]) == list(ours["customer_id"])
    assert sample_note().startswith("The models are compared on 50.00% of the customers, a fair sample by a hash;")


def test_a_table_in_one_file_and_few_partitions_are_no_sample(here, tmp_path):
    contract = load_contract()
    assert limit() == 2**64
    assert sample_note() is None
    assert len(pd.read_parquet(sampled(RAW, contract))) == rows_in(RAW) == 7_043
    made_in(tmp_path / "main", here, None)
    assert sampled(tmp_path / "main" / RAW, contract) == tmp_path / "main" / RAW


def test_all_partitions_are_checked_though_the_models_are_compared_on_the_first(here, monkeypatch):
    """In the last partition, a row has another label than in the snapshot, and a row breaks the contract."""
    monkeypatch.setattr("report.sample.CUSTOMERS", 1)
    prepare, contract = load_params().prepare, load_contract()
    assert [*table_faults(prepare, contract)] == []
    assert [*row_faults(contract)] == []

    def changed(frame):
        frame.loc[frame.index[0], "churn"] ^= 1
        frame.loc[frame.index[1], "tenure_months"] = -1
        return frame

    rewritten(TRAIN, -1, changed)
    assert [*table_faults(prepare, contract)] == ["the training table gives 1 customer another churn than the snapshot"]
    assert any("tenure_months has 1 value outside" in one for one in row_faults(contract))


def test_a_held_out_customer_in_another_partition_of_the_training_table_is_found(here):
    held_out = pd.read_parquet(partitions_of(TEST)[0].url)
    rewritten(TRAIN, -1, lambda frame: pd.concat([frame, held_out[:1]]).sort_values("customer_id"))
    assert [*table_faults(load_params().prepare, load_contract())] == [
        "the training table has 1 row that the same partition of the snapshot does not have"
    ]


def test_a_table_with_another_number_of_partitions_is_not_judged(here):
    write_manifest(TEST, partitions_of(TEST)[:2])
    with pytest.raises(StageError, match="do not have equally many partitions"):
        list(table_faults(load_params().prepare, load_contract()))


def test_a_view_reads_no_partition_with_other_bytes_than_the_manifest_names(here):
    Path(partitions_of(TEST)[1].url).write_bytes(Path(partitions_of(TEST)[0].url).read_bytes())
    with (
        pytest.raises(StageError, match="is missing or has other bytes than its manifest names"),
        parquet_views({"test": TEST}, "cannot be read"),
    ):
        pass


def test_the_months_of_a_customer_keep_the_last_day_of_training_in_the_sample(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(churn.features, "FEATURES", ())
    monkeypatch.setattr("report.sample.CUSTOMERS", 1)
    for name in ("params.yaml", "contract.yaml"):
        shutil.copyfile(copy_of(name), name)
    for folder in ("churn", "data"):
        Path(folder).mkdir()
    put_customer_months(tmp_path)
    path = Path("contract.yaml")
    path.write_text(path.read_text().replace(", computed: true", ""))
    params, contract, made = load_params(), load_contract(), []
    frame = rows_of(200)
    for part in range(2):
        rows = frame[frame["customer"] % 2 == part]
        rows.to_parquet(tmp_path / "made", index=False)
        made.append(store(tmp_path / "made", tmp_path / RAW, part, len(rows), None))
    write_manifest(tmp_path / RAW, made)
    split_partitions(RAW, params.prepare, contract, (TRAIN, TEST), compute=Compute(engine="dask"), as_of=DAY)
    assert train_until(sampled(TEST, contract)) == train_until(Path(partitions_of(TEST)[0].url))
    assert 0 < len(pq.read_table(sampled(TEST, contract))) < rows_in(TEST)
    assert [*table_faults(params.prepare, contract)] == []


def rewritten(table, number, change):
    """Change the rows of a partition, and let the manifest name the new file, as a branch's own code could."""
    parts = partitions_of(table)
    old = pq.read_table(local_file(parts[number], table))
    frame = change(old.to_pandas())
    frame.to_parquet("made", index=False, schema=old.schema)
    place = number % len(parts)
    parts[number] = store(Path("made"), table.absolute(), place, len(frame), None)
    write_manifest(table, [Partition(Path(one.url).name, one.rows, one.size, one.sha256) for one in parts])
