"""A table of partitions gives the same results as the one file: one implementation of each rule, feature and metric.

Dask itself is not needed here: its cluster is stood in for by one that runs the tasks in this process.
"""

import json
import shutil

import churn.data.partitioning
import churn.data.splitting
import churn.features
from churn.config.contract import Relation, load_contract
from churn.config.params import METRICS, Compute, Fetch, Prepare, Slices
from churn.core.cluster import TaskError, refuse_others, versions
from churn.core.errors import StageError
from churn.core.files import replacing, sha256_of
from churn.core.partitions import first_files, local_file, partitions_of, store, write_manifest
from churn.data.featuring import to_arrow
from churn.data.partitioning import partitioned_snapshot
from churn.data.periods import train_until
from churn.data.reducing import PartitionedViews
from churn.data.snapshot import snapshot
from churn.data.splitting import split_partitions
from churn.data.tables import split_snapshot
from churn.evaluation.holdout import evaluation_of, outcomes_of, with_groups
from churn.evaluation.metrics import Outcomes, Weights, all_metrics, as_json, roc_auc
from churn.evaluation.partitioned import (
    binning_error,
    count_partitions,
    entries_of,
    evaluation_of_counts,
    score_partitions,
)
from churn.modeling.model import model_frame, read_table, reproducible_bytes
from churn.modeling.training import build_model
from churn.quality.feature_checks import feature_findings
from churn.quality.key_checks import key_notes, lookalike_findings, outcome_findings
from churn.quality.profile import profile_of
from churn.quality.row_checks import table_findings
from stages.evaluate import first_judged
from tests.conftest import ROOT, make_customers
from tests.customer_months import CONTRACT as MONTHLY
from tests.frozen import copy_of
from tests.one_process import InThisProcess, run_here
from tests.unit.test_over_time import DAY, SETTINGS, rows_of

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

ROWS = 3_000


@pytest.fixture(autouse=True)
def cluster(monkeypatch):
    run_here(monkeypatch, churn.data.partitioning, churn.data.splitting)
    return InThisProcess()


def partitioned(frame, folder, contract, parts=3):
    """Write customers as so many partitions by a hash of the key, and return the folder."""
    frame = frame.sort_values(contract.key)
    number = pd.util.hash_array(frame[contract.key].str.strip().to_numpy(object)) % parts
    made = []
    for part in range(parts):
        pq.write_table(to_arrow(frame[number == part], contract), folder.with_suffix(".made"))
        made.append(store(folder.with_suffix(".made"), folder, part, int((number == part).sum()), None))
    write_manifest(folder, made)
    return folder


def both(contract, tmp_path, train, test):
    """Yield the tables in the views of one file each, then in those of three partitions."""
    with duckdb.connect() as database:
        for name, frame in (("train", train), ("test", test), ("fetched", pd.concat([train, test]))):
            pq.write_table(to_arrow(frame.sort_values(contract.key), contract), tmp_path / f"{name}.parquet")
            database.execute(f"CREATE VIEW {name} AS FROM '{tmp_path / name}.parquet'")
        yield database
    tables = {
        name: partitioned(frame, tmp_path / f"{name}.parts", contract)
        for name, frame in (("train", train), ("test", test), ("fetched", pd.concat([train, test])))
    }
    yield PartitionedViews(InThisProcess(), tables)


def faulty(contract):
    """Customers with several faults, some of which only a look at all rows finds."""
    frame = make_customers(contract, ROWS, seed=3).sample(frac=1, random_state=0)
    frame.loc[frame.index[:40], "contract"] = "month-to-month "
    frame.loc[frame.index[40:700], "monthly_charges"] = 55.55
    frame.loc[frame.index[700:740], "tenure_months"] = -1
    frame.loc[frame.index[:30], "customer_id"] = frame.loc[frame.index[:30], "customer_id"] + " "
    return frame.iloc[: ROWS * 4 // 5], frame.iloc[ROWS * 4 // 5 :]


def test_each_check_finds_the_same_in_partitions(contract, tmp_path):
    found = []
    for database in both(contract, tmp_path, *faulty(contract)):
        profile = profile_of(database, contract)
        reference = profile_of(database, contract, profile)
        rules = [one for table in ("train", "test") for one in table_findings(database, table, contract)]
        rules += [*lookalike_findings(database, contract), *outcome_findings(database, contract)]
        findings, notes = feature_findings(database, contract, reference, profile)
        found.append(
            (
                [(one.table, one.rule, one.column, one.count, one.sentence) for one in (*rules, *findings)],
                [*notes, *key_notes(database, contract)],
                {name: (one.missing, one.mean, one.std, one.spikes) for name, one in profile.features.items()},
            )
        )
        assert any(one.spikes for one in profile.features.values())
    assert {rule for _, rule, *_ in found[0][0]} >= {"values", "range", "blank"}
    assert found[0] == found[1]


@pytest.fixture
def source(tmp_path):
    """A query over customers of the sample, in an order of their own, and its settings."""
    table = pd.read_csv(ROOT / "data/sample/telco_customers.csv", dtype=str, keep_default_na=False).sample(
        frac=1, random_state=0
    )
    table.to_parquet(tmp_path / "source.parquet", index=False)
    shutil.copy(copy_of("source.sql"), tmp_path / "source.sql")
    return Fetch(
        source=str(tmp_path / "source.parquet"), query=str(tmp_path / "source.sql"), as_of=None, timeout_minutes=1.0
    )


def test_a_snapshot_in_partitions_has_the_same_rows_whatever_the_pieces(source, contract, tmp_path, monkeypatch):
    snapshot(source, contract, tmp_path / "one.parquet")
    whole = pq.read_table(tmp_path / "one.parquet")
    compute = Compute(engine="dask", partition_rows=2_500)
    assert partitioned_snapshot(source, contract, tmp_path / "parts", compute) == len(whole) == 7_043
    files = [local_file(one, tmp_path) for one in partitions_of(tmp_path / "parts")]
    assert len(files) == 3
    assert sorted(map(str, (tmp_path / "parts").iterdir())) == [*map(str, [tmp_path / "parts/_manifest.json", *files])]
    tables = [pq.read_table(file) for file in files]
    keys = [table["customer_id"].to_pylist() for table in tables]
    assert [*map(sorted, keys)] == keys
    together = pd.concat([table.to_pandas() for table in tables]).sort_values("customer_id", ignore_index=True)
    assert together.equals(whole.to_pandas())
    table = pd.read_parquet(source.source).sample(frac=1, random_state=1)
    table.to_parquet(source.source, index=False)
    partitioned_snapshot(source, contract, tmp_path / "again", compute)
    assert sha256_of(tmp_path / "again") == sha256_of(tmp_path / "parts")


def test_rows_without_a_key_are_in_a_partition_for_validate_to_refuse(source, contract, tmp_path):
    table = pd.read_parquet(source.source)
    table.loc[table.index[:5], "customerID"] = None
    table.to_parquet(source.source, index=False)
    assert (
        partitioned_snapshot(source, contract, tmp_path / "parts", Compute(engine="dask", partition_rows=2_500))
        == 7_043
    )
    views = PartitionedViews(InThisProcess(), {"train": tmp_path / "parts"})
    found = [one.count for one in table_findings(views, "train", contract) if one.column == contract.key]
    assert sum(one.rows for one in partitions_of(tmp_path / "parts")) == 7_043
    assert 5 in found


def test_rows_that_no_partition_has_are_an_error_and_leave_nothing(source, contract, tmp_path, monkeypatch):
    """Fault in a cluster: fewer rows are in the partitions than the query gave.

    fetch fails, and keeps the former table: `7,043 rows of … are not the 4,620 in partitions: nothing is kept`
    """
    monkeypatch.setattr("churn.data.partitioning.hash_of_customer", lambda contract: "if(tenure_months > 9, 1, NULL)")
    storage = tmp_path / "storage"
    compute = Compute(engine="dask", partition_rows=2_500, storage=str(storage))
    with pytest.raises(StageError, match=r"^7,043 rows of .*source.parquet are not the [\d,]+ in partitions: nothing"):
        partitioned_snapshot(source, contract, tmp_path / "parts", compute)
    assert not (tmp_path / "parts").exists()
    assert sum(pq.read_metadata(one).num_rows for one in storage.iterdir()) < 7_043  # the pieces are gone


def test_one_partition_is_the_file_of_this_machine(source, contract, tmp_path):
    snapshot(source, contract, tmp_path / "one.parquet")
    partitioned_snapshot(source, contract, tmp_path / "parts", Compute(engine="dask"))
    (only,) = partitions_of(tmp_path / "parts")
    assert only.sha256 == sha256_of(tmp_path / "one.parquet")


def test_the_split_of_partitions_has_the_same_customers_on_either_side(source, contract, tmp_path):
    settings, compute = Prepare(holdout_share=0.2, salt="churn", drop={}), Compute(engine="dask", partition_rows=2_500)
    snapshot(source, contract, tmp_path / "one.parquet")
    partitioned_snapshot(source, contract, tmp_path / "parts", compute)
    counts = split_snapshot(tmp_path / "one.parquet", settings, contract, (tmp_path / "train", tmp_path / "test"))
    tables = (tmp_path / "train.parts", tmp_path / "test.parts")
    added = split_partitions(tmp_path / "parts", settings, contract, tables, compute=compute)
    assert {name: added[name] for name in ("fetched", "train", "test", "dropped")} == {
        name: counts[name] for name in ("fetched", "train", "test", "dropped")
    }
    for single, parts in zip(("train", "test"), tables, strict=True):
        rows = pd.concat([pd.read_parquet(one.url) for one in partitions_of(parts)])
        expected = pd.read_parquet(tmp_path / single)
        assert rows.sort_values("customer_id", ignore_index=True).equals(expected)


def test_counted_rows_have_the_metrics_of_the_single_ones(params):
    random = np.random.default_rng(0)
    scores = random.choice(np.linspace(0.02, 0.98, 40), 4_000)
    labels, inside = (random.random(4_000) < scores).astype(float), random.random(4_000) < 0.3
    frame = pd.DataFrame({"inside": inside, "label": labels, "score": scores})
    counted = frame.groupby([*frame]).size().reset_index(name="rows")
    given = Outcomes(counted["label"].to_numpy(), Weights(counted["rows"].to_numpy(float)))
    for rows, entries in ((None, None), (inside, counted["inside"].to_numpy())):
        single = as_json(all_metrics(labels, scores, params.evaluate, rows))
        together = as_json(all_metrics(given, counted["score"].to_numpy(), params.evaluate, entries))
        assert together == {
            name: pytest.approx(value, abs=2e-6) if name != "intervals" else value for name, value in single.items()
        } | {"intervals": {name: pytest.approx(ends, abs=2e-6) for name, ends in single["intervals"].items()}}


@pytest.fixture
def scored(contract, tmp_path):
    """A model as bytes, and a holdout in three partitions."""
    customers = make_customers(contract, ROWS, seed=5)
    model = build_model(HistGradientBoostingClassifier(max_iter=20, random_state=0), contract)
    table = to_arrow(customers, contract)
    model.fit(model_frame(table, contract), customers[contract.label])
    return model, customers, partitioned(customers, tmp_path / "test.parts", contract)


def test_the_evaluation_of_partitions_is_that_of_all_rows(scored, contract, params, cluster, tmp_path):
    model, customers, holdout = scored
    predictions = tmp_path / "predictions"
    found = score_partitions(cluster, reproducible_bytes(model), contract, None, (holdout, predictions))
    counted = count_partitions(cluster, found, (holdout, predictions), params.evaluate, contract)
    features = model_frame(to_arrow(customers, contract), contract)
    scores = model.predict_proba(features)[:, 1]
    expected = evaluation_of(features, customers[contract.label], scores, params.evaluate, contract)
    assert evaluation_of_counts(counted, params.evaluate) == expected | {"binning_error": 0.0}
    assert sum(one.rows for one in partitions_of(predictions)) == ROWS


@pytest.fixture(scope="module")
def monthly(tmp_path_factory):
    path = tmp_path_factory.mktemp("contract") / "contract.yaml"
    path.write_text(MONTHLY.replace("computed: true", "computed: false"))
    return load_contract(path)


def by_customer(frame, folder, contract, parts=3):
    """Write the rows as partitions by a hash of their customer, as fetch does, and return the folder."""
    number, made = pd.util.hash_array(frame[contract.customer].to_numpy()) % parts, []
    for part in range(parts):
        rows = frame[number == part]
        pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), folder.with_suffix(".made"))
        made.append(store(folder.with_suffix(".made"), folder, part, len(rows), None))
    write_manifest(folder, made)
    return folder


@pytest.fixture
def months(monthly, params, tmp_path, monkeypatch):
    """The rows of 300 customers, a model, and the holdout as one file and in partitions."""
    monkeypatch.setattr(churn.features, "FEATURES", ())
    rows_of().to_parquet(tmp_path / "raw.parquet", index=False)
    one = (tmp_path / "train.parquet", tmp_path / "test.parquet")
    counts = split_snapshot(tmp_path / "raw.parquet", SETTINGS, monthly, one, DAY)
    raw = by_customer(rows_of(), tmp_path / "raw.parts", monthly)
    tables = (tmp_path / "train.parts", tmp_path / "test.parts")
    added = split_partitions(raw, SETTINGS, monthly, tables, compute=Compute(engine="dask"), as_of=DAY)
    assert {**added, "holdout_sha256": 0} == {**counts, "holdout_sha256": 0}
    features, labels, _ = read_table(one[0], monthly)
    model = build_model(HistGradientBoostingClassifier(max_iter=20, random_state=0), monthly).fit(features, labels)
    evaluate = params.evaluate.model_copy(
        update={"slices": Slices(columns=("plan",), conditions={"complaining": "complaints > 1"})}
    )
    return model, one, tables, evaluate


def evaluated_in_partitions(model, holdout, contract, evaluate, tmp_path):
    found = score_partitions(InThisProcess(), reproducible_bytes(model), contract, None, (holdout, tmp_path / "scored"))
    counted = count_partitions(InThisProcess(), found, (holdout, tmp_path / "scored"), evaluate, contract)
    return evaluation_of_counts(counted, evaluate)


def test_the_months_of_a_customer_are_split_and_evaluated_as_in_one_file(months, monthly, tmp_path):
    """All metrics, intervals that count customers, those of the training's time, and the fall over time."""
    model, (_, test), (_, holdout), evaluate = months
    features, labels, keys = read_table(test, monthly)
    predictions = pd.DataFrame({"row_id": keys, "churned": labels, "score": model.predict_proba(features)[:, 1]})
    given = outcomes_of(with_groups(predictions, test, monthly), monthly)
    expected = evaluation_of(features, given, predictions["score"].to_numpy(), evaluate, monthly)
    found = evaluated_in_partitions(model, holdout, monthly, evaluate, tmp_path)
    assert found.pop("binning_error") == 0
    assert rounded(found) == rounded(expected)
    assert expected["roc_auc_over_time"]["difference"] is not None
    assert expected["customers"] < expected["rows"]


def test_the_importance_is_measured_where_a_partition_has_later_rows(months, monthly, tmp_path):
    """A partition may have customers alone who left before the day until which the model was trained."""
    holdout = months[2][1]
    first = pq.read_table(partitions_of(holdout)[0].url)
    made = []
    for number, part in enumerate((first[:0], first)):
        pq.write_table(part, tmp_path / "made")
        made.append(store(tmp_path / "made", tmp_path / "parts", number, len(part), None))
    write_manifest(tmp_path / "parts", made)
    features, labels = first_judged(tmp_path / "parts", monthly)
    late = np.array(first["month"].to_pylist()) > train_until(tmp_path / "parts/part-00001.parquet")
    assert len(features) == len(labels) == late.sum() < len(first)


def rounded(value):
    """Return an evaluation whose numbers have five places, because a sum in another order has another last digit."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [*map(rounded, value)]
    return pytest.approx(value, abs=2e-6) if isinstance(value, float) else value


def test_intervals_from_the_first_partitions_are_nearly_those_of_all_customers(months, monthly, tmp_path, monkeypatch):
    model, _, (_, holdout), evaluate = months
    whole = evaluated_in_partitions(model, holdout, monthly, evaluate, tmp_path)
    monkeypatch.setattr("churn.evaluation.partitioned.KNOWN", 1)  # so those of one partition of three are known
    first = evaluated_in_partitions(model, holdout, monthly, evaluate, tmp_path)
    assert {name: first[name] for name in METRICS} == {name: whole[name] for name in METRICS}
    for name in ("roc_auc", "brier_score", "recall"):
        width, wide = (high - low for low, high in (one["intervals"][name] for one in (first, whole)))
        assert width == pytest.approx(wide, rel=0.35), name


def test_a_partition_with_a_row_without_a_day_is_refused_before_any_is_split(monthly, tmp_path, monkeypatch):
    monkeypatch.setattr(churn.features, "FEATURES", ())
    frame = rows_of(40)
    frame.loc[3, "month"] = None
    raw = by_customer(frame, tmp_path / "raw", monthly)
    tables = (tmp_path / "train", tmp_path / "test")
    with pytest.raises(StageError, match="month is missing in 1 row: give each a day"):
        split_partitions(raw, SETTINGS, monthly, tables, compute=Compute(engine="dask"), as_of=DAY)
    assert not [one for one in tables if one.exists()]


def test_equal_keys_of_two_customers_are_found_though_they_are_in_two_partitions(monthly, tmp_path):
    frame = rows_of(40)
    number = pd.util.hash_array(frame["customer"].to_numpy()) % 3
    one, other = frame.index[number == 0][0], frame.index[number == 1][0]
    frame.loc[other, "row_id"] = frame.loc[one, "row_id"]
    frame = frame.sort_values("row_id", ignore_index=True)
    table = by_customer(frame, tmp_path / "train", monthly)
    found = table_findings(PartitionedViews(InThisProcess(), {"train": table}), "train", monthly)
    assert [(one.count, one.sentence) for one in found if one.rule == "unique"] == [
        (1, "row_id has 1 row with the key of another row")
    ]


class OnWorkers(InThisProcess):
    """Workers, from which the error of a library comes back as its kind alone."""

    def map(self, function, items):
        try:
            return super().map(function, items)
        except duckdb.Error as error:
            raise TaskError(f"a task on a partition crashed with {type(error).__name__}.") from None


def test_a_relation_that_cannot_be_computed_on_a_worker_is_named(contract, tmp_path):
    relation = Relation(column="contract", holds="CAST(contract AS DOUBLE) > 1", because="A test.")
    rules = contract.rules.model_copy(update={"relations": {"as_number": relation}})
    table = partitioned(make_customers(contract, 300), tmp_path / "train", contract)
    views = PartitionedViews(OnWorkers(), {"train": table})
    with pytest.raises(StageError, match=r"as_number.*CAST.*cannot be computed for every customer: a cast fails"):
        [*table_findings(views, "train", contract.model_copy(update={"rules": rules}))]


def test_an_empty_partition_changes_nothing(scored, contract, params, tmp_path):
    """A partition is empty where no customer's hash is in its range, as in a table of few customers with many rows."""
    model, customers, _ = scored
    settings = Prepare(holdout_share=0.2, salt="churn", drop={})
    results = []
    for parts in (1, 2):
        folder = tmp_path / f"{parts}"
        folder.mkdir()
        made = []
        for part in range(parts):
            pq.write_table(to_arrow(customers.sort_values(contract.key), contract)[: 0 if part else None], folder / "x")
            made.append(store(folder / "x", folder / "raw", part, 0 if part else ROWS, None))
        write_manifest(folder / "raw", made)
        tables = (folder / "train", folder / "test")
        counts = split_partitions(folder / "raw", settings, contract, tables, compute=Compute(engine="dask"))
        found = evaluated_in_partitions(model, tables[1], contract, params.evaluate, folder)
        results.append(({**counts, "holdout_sha256": 0}, found))
    assert results[0] == results[1]


def test_checks_of_numbered_customers_and_of_equal_features_find_the_same_beside_an_empty_partition(contract, tmp_path):
    customers = make_customers(contract, 400)
    customers[contract.key] = [f"{number:04}" for number in range(400)]
    customers["has_tech_support"] = customers["online_backup"]
    results = []
    for parts in (1, 2):
        folder, made = tmp_path / f"{parts}", []
        folder.mkdir()
        for part in range(parts):
            pq.write_table(to_arrow(customers, contract)[: None if part == parts - 1 else 0], folder / "x")
            made.append(store(folder / "x", folder, part, 0 if part < parts - 1 else 400, None))
        write_manifest(folder, made)
        views = PartitionedViews(InThisProcess(), dict.fromkeys(("fetched", "train", "test"), folder))
        profile = profile_of(views, contract)
        results.append(([*key_notes(views, contract)], feature_findings(views, contract, profile, profile)))
    assert results[0] == results[1]
    assert len(results[0][0]) == 1
    assert any("has_tech_support equals online_backup" in note for note in results[0][1][1])


def test_few_bins_move_the_roc_auc_by_no_more_than_their_error(scored, contract, params, tmp_path, monkeypatch):
    (model, customers, holdout), cluster = scored, InThisProcess()
    features = model_frame(to_arrow(customers, contract), contract)
    labels, scores = customers[contract.label].to_numpy(float), model.predict_proba(features)[:, 1]
    exact = roc_auc(labels, scores)
    monkeypatch.setattr("churn.evaluation.partitioned.BINS", 60)
    found = score_partitions(cluster, reproducible_bytes(model), contract, None, (holdout, tmp_path / "predictions"))
    tables = (holdout, tmp_path / "predictions")
    counted = count_partitions(cluster, found, tables, params.evaluate, contract).judged
    given, middle, _ = entries_of(counted)
    off = abs(roc_auc(given.labels, middle, given.customers).value - exact.value)
    assert 0 < off <= binning_error(counted) < (exact.high - exact.low) / 2


def test_a_partition_with_other_bytes_is_read_by_nobody(contract, tmp_path):
    """Fault in a cluster: a partition in the storage is another one than its manifest names, or is gone.

    The stage fails and names it: `… is missing or has other bytes than its manifest names`
    """
    table = partitioned(make_customers(contract, 300), tmp_path / "table", contract)
    first, second, _ = partitions_of(table)
    assert local_file(first, tmp_path)
    (tmp_path / "table/part-00000.parquet").write_bytes(b"PAR1")
    (tmp_path / "table/part-00001.parquet").unlink()
    for one in (first, second):
        with pytest.raises(StageError, match="is missing or has other bytes than its manifest names"):
            local_file(one, tmp_path)


@pytest.mark.parametrize(
    "content", [{}, {"partitions": []}, {"partitions": [{"url": "part-00000.parquet"}]}, {"partitions": [1]}]
)
def test_a_manifest_that_no_stage_wrote_is_refused(content, tmp_path):
    (tmp_path / "_manifest.json").write_text(json.dumps(content))
    with pytest.raises(StageError, match=r"_manifest.json is not what a stage writes"):
        partitions_of(tmp_path)


def test_a_folder_appears_when_all_of_it_is_there_and_replaces_a_file(tmp_path):
    table = tmp_path / "table.parquet"
    table.write_text("of this machine")

    def interrupted():
        with replacing(table) as tmp:
            write_manifest(tmp, [])
            raise StageError("a worker fails")

    with pytest.raises(StageError):
        interrupted()
    assert table.read_text() == "of this machine"
    assert [one.name for one in tmp_path.iterdir()] == ["table.parquet"]
    killed = tmp_path / f".table.parquet.{2**22 + 1}.part"  # Linux has no process of this number
    killed.mkdir()
    (killed / "part-00009.parquet").write_text("of a run that was killed")
    with replacing(table) as tmp:
        write_manifest(tmp, [])
    assert [one.name for one in table.iterdir()] == ["_manifest.json"]


def test_the_first_partitions_are_taken_until_they_have_so_many_rows(contract, tmp_path):
    table = partitioned(make_customers(contract, 300), tmp_path / "table", contract)
    rows = [one.rows for one in partitions_of(table)]
    assert len(first_files(table, 1, tmp_path)) == 1
    assert len(first_files(table, rows[0], tmp_path)) == 1
    assert len(first_files(table, rows[0] + 1, tmp_path)) == 2
    assert len(first_files(table, 10**9, tmp_path)) == 3
    assert first_files(tmp_path / "one.parquet", 1, tmp_path) == [tmp_path / "one.parquet"]


def test_a_worker_with_another_version_than_the_client_is_refused_by_name():
    """Fault in a cluster: a worker has another version of Python or of a library than the client.

    The stage fails before it reads a row: `the worker … has pandas 2.3.0 and not 3.1.0, as this machine has`
    """
    here = versions()
    refuse_others({"tcp://10.0.0.6:1": dict(here)}, here)
    with pytest.raises(StageError) as found:
        refuse_others({"tcp://10.0.0.6:1": here | {"pandas": "2.3.0"}}, here)
    assert str(found.value).startswith(
        f"the worker tcp://10.0.0.6:1 has pandas 2.3.0 and not {here['pandas']}, as this machine has: install"
    )


def test_so_small_partitions_that_no_manifest_names_them_are_refused(source, contract, tmp_path, monkeypatch):
    monkeypatch.setattr("churn.data.partitioning.MOST", 5)
    compute = Compute(engine="dask", partition_rows=1_000)
    with pytest.raises(StageError, match="which makes 8 partitions, and a manifest names 5 at most: raise it"):
        partitioned_snapshot(source, contract, tmp_path / "parts", compute)
    assert not (tmp_path / "parts").exists()


def test_a_customer_with_more_rows_than_a_partition_stays_in_one(source, contract, tmp_path):
    """All rows of a customer are in one partition, so the split keeps them together, however many there are."""
    table = pd.read_parquet(source.source)
    table["customerID"] = np.where(np.arange(len(table)) % 3, "one-customer", table["customerID"])
    table.to_parquet(source.source, index=False)
    partitioned_snapshot(source, contract, tmp_path / "parts", Compute(engine="dask", partition_rows=1_000))
    files = [local_file(one, tmp_path) for one in partitions_of(tmp_path / "parts")]
    rows = [sum(key == "one-customer" for key in pq.read_table(file)["customer_id"].to_pylist()) for file in files]
    assert len(files) == 8
    assert sorted(rows)[-2:] == [0, int((table["customerID"] == "one-customer").sum())]


def test_a_storage_that_refuses_to_be_written_is_named_in_one_sentence(tmp_path):
    """Fault in a cluster: the storage, S3 or a shared folder, refuses to be written.

    The stage fails with one sentence, and the former table stays: `… cannot be written (…): look at compute.storage`
    """
    (tmp_path / "made").write_bytes(b"PAR1")
    (tmp_path / "storage").write_text("a file where a folder should be")
    with pytest.raises(StageError, match=r"storage/\w+\.parquet cannot be written \(\w+\): look at compute.storage"):
        store(tmp_path / "made", tmp_path / "table", 0, 1, str(tmp_path / "storage"))
    assert (tmp_path / "made").exists()


def test_a_storage_that_fails_mid_write_leaves_the_former_table(source, contract, tmp_path, monkeypatch):
    compute = Compute(engine="dask", partition_rows=2_500)
    partitioned_snapshot(source, contract, tmp_path / "parts", compute)
    before, calls = sha256_of(tmp_path / "parts"), []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) > 4:
            raise OSError(5, "the storage is gone")
        return store(*arguments)

    monkeypatch.setattr(churn.data.partitioning, "store", failing)
    with pytest.raises(OSError, match="the storage is gone"):
        partitioned_snapshot(source, contract, tmp_path / "parts", compute)
    assert sha256_of(tmp_path / "parts") == before
    assert [local_file(one, tmp_path) for one in partitions_of(tmp_path / "parts")]
    assert not [*tmp_path.glob(".*")]
    monkeypatch.setattr(churn.data.partitioning, "store", store)  # back again, and files of the failed tasks are left
    partitioned_snapshot(source, contract, tmp_path / "parts", compute)
    assert sha256_of(tmp_path / "parts") == before


def test_a_storage_keeps_a_partition_under_its_hash_and_writes_it_once(tmp_path):
    storage = tmp_path / "shared/churn"
    made = []
    for _ in range(2):
        (tmp_path / "made").write_bytes(b"PAR1")
        made.append(store(tmp_path / "made", tmp_path / "table", 0, 1, str(storage)))
    assert made[0] == made[1]
    assert [one.name for one in storage.iterdir()] == [f"{made[0].sha256}.parquet"]
    write_manifest(tmp_path / "table", made[:1])
    assert partitions_of(tmp_path / "table") == made[:1]
