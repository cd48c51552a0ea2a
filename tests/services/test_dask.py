"""The pipeline on a Dask cluster of two workers, with the customers in S3, from fetch to a registered version."""

import contextlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from functools import partial
from math import ceil

from churn.config.params import METRICS, PROFIT, Compute, Train
from churn.core.cluster import connected
from churn.core.dvc_files import hash_of
from churn.core.errors import StageError
from churn.core.partitions import store
from churn.data.featuring import to_arrow
from churn.evaluation.metrics import all_metrics, as_json
from churn.modeling.distributed import fit_partitions
from churn.modeling.model import model_frame
from churn.modeling.training import build_classifier, build_model, fit
from tests.conftest import Clone, clone_of_tree, make_customers
from tests.customer_months import put_customer_months
from tests.servers import BUCKET, S3_KEYS, free_ports, s3_client, s3_server

import duckdb
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

Client = pytest.importorskip("distributed").Client
dask = pytest.importorskip("dask")

ROWS, KEY = 220_000, 3_000  # the table is wide by its key, and so takes little time
SOME = 3 * 7_043
MEMORY = 650  # MB of each worker: 300 for its libraries, and a third for DuckDB
ESTIMATOR = """xgboost.XGBClassifier
  parameters: {n_estimators: 60, learning_rate: 0.1, max_depth: 3, min_child_weight: 5}"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The environment in which S3 has two tables of customers as folders of Parquet files, and the client finds it."""
    folder, files = tmp_path_factory.mktemp("s3"), tmp_path_factory.mktemp("source")
    with s3_server(folder) as address, duckdb.connect() as database:
        source = "read_csv('data/sample/telco_customers.csv', all_varchar = true)"
        for table, rows, width in (("customers", ROWS, KEY), ("some", SOME, 1)):
            key = f"lpad((row_number() OVER ())::VARCHAR, 9, '0') || repeat('x', {width}) AS customerID"
            made = f"SELECT {key}, * EXCLUDE (customerID) FROM range({ceil(rows / 7_043)}), {source} LIMIT {rows}"
            database.execute(
                f"COPY ({made}) TO '{files / table}' (FORMAT parquet, PER_THREAD_OUTPUT true, ROW_GROUP_SIZE 4096)"
            )
        for file in files.rglob("*.parquet"):
            key = str(file.relative_to(files))
            s3_client(address).put_object(Bucket=BUCKET, Key=key, Body=file.read_bytes())
        yield {"AWS_ENDPOINT_URL_S3": address, "AWS_DEFAULT_REGION": "us-east-1", **S3_KEYS}


class Cluster:
    """A scheduler and two workers, as a team starts them on other machines."""

    def __init__(self, folder, environment, workers=2):
        quiet = {"DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "false"}  # takes a quarter of an idle cluster's time
        self.folder, self.environment, self.processes = folder, os.environ | environment | quiet, []
        (port,) = free_ports(1)
        self.scheduler = f"tcp://127.0.0.1:{port}"
        self.start("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
        for _ in range(workers):
            self.start("worker", self.scheduler, "--nthreads", "1", "--memory-limit", f"{MEMORY}MB", "--no-dashboard")

    def start(self, kind, *options):
        with (self.folder / "log").open("a") as log:
            command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options]
            self.processes.append(
                subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=log, stderr=log)
            )

    def workers(self):
        """Return the processes that work, below those that watch them."""
        watching = (psutil.Process(one.pid) for one in self.processes[1:] if one.poll() is None)
        return [
            one for nanny in watching for one in nanny.children() if "resource_tracker" not in " ".join(one.cmdline())
        ]

    def connections(self):
        """Return how many clients have asked the scheduler for work."""
        return (self.folder / "log").read_text().count("Receive client connection")

    def stop(self):
        for one in [*self.workers(), *self.processes]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, environment):
    started = Cluster(tmp_path_factory.mktemp("cluster"), environment)
    yield started
    started.stop()


@pytest.fixture(scope="module")
def team(tmp_path_factory, cluster, environment):
    """A clone whose customers are in S3 and whose stages run on the cluster."""
    clone = clone_of_tree(tmp_path_factory.mktemp("team") / "repository")
    clone.services = environment
    clone.environment |= environment
    text = clone.text("params.yaml")
    head, _, tail = text.partition("  estimator: ")
    text = f"{head}  estimator: {ESTIMATOR}\n{tail[tail.index('  seed:') :]}"
    text = text.replace("data/sample/telco_customers.csv", f"s3://{BUCKET}/customers/")
    compute = {
        "engine": "dask",
        "scheduler": cluster.scheduler,
        "storage": f"s3://{BUCKET}/churn",
        "partition_rows": 15_000,  # few, because each query is a task for each; a third more, and fetch kills a worker
    }
    text += "\ncompute:\n" + "".join(f"  {name}: {value}\n" for name, value in compute.items())
    (clone.folder / "params.yaml").write_text(text)
    clone.replace("dvc.yaml", "      - ${fetch.source} # a file or folder; delete the line if it is a URL\n", "")
    real = {"PATH": clone.real["PATH"]}  # of forks the memory would be another process's
    clone.ok("dvc", "repro", "prepare", **real)
    clone.ok("python", "-m", "churn", "profile", **real)
    clone.commit("Describe our customers")
    clone.first_run = clone.ok("dvc", "repro", **real)
    clone.most_memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1_024
    return clone


def test_a_table_larger_than_a_workers_memory_goes_from_s3_to_a_registered_version(team):
    """No table is ever whole on the client either: its stages have their libraries in memory, and little more."""
    assert re.search(r"register: churn version 1 is (champion|candidate)", team.first_run), team.first_run
    assert [one.name for one in (team.folder / "data/raw/customers.parquet").iterdir()] == ["_manifest.json"]
    rows = json.loads(team.text("metrics/rows.json"))
    assert rows["fetched"] == rows["train"] + rows["test"] == ROWS
    assert ROWS * KEY > MEMORY * 10**6
    evaluation = json.loads(team.text("metrics/evaluation.json"))
    low, high = evaluation["intervals"]["roc_auc"]
    assert evaluation["binning_error"] < (high - low) / 10
    # The greatest resident size of a process below `dvc repro`, which is that of register with MLflow.
    assert team.most_memory < ROWS * KEY


@pytest.fixture
def local_team(tmp_path, cluster, environment):
    """A clone with a row for each customer and month, whose stages run on the cluster with a shared folder."""
    clone = clone_of_tree(tmp_path / "repository")
    put_customer_months(clone.folder)
    text = clone.text("params.yaml")
    head, _, tail = text.partition("  estimator: ")
    text = f"{head}  estimator: {ESTIMATOR}\n{tail[tail.index('  seed:') :]}"
    compute = f"{{engine: dask, scheduler: '{cluster.scheduler}', storage: '{tmp_path}/shared', partition_rows: 6000}}"
    (clone.folder / "params.yaml").write_text(f"{text}\ncompute:\n  {compute[1:-1].replace(', ', chr(10) + '  ')}\n")
    return clone


def test_the_months_of_customers_are_trained_on_by_workers_and_reported_and_scored(local_team):
    """From fetch to a registered version, then a branch whose report compares it with main, and one on one machine."""
    local_team.ok("dvc", "repro", "prepare")
    local_team.ok("python", "-m", "churn", "profile")
    local_team.commit("Describe our customers")
    assert re.search(r"register: churn version 1 is (champion|candidate)", local_team.ok("dvc", "repro"))
    local_team.commit("Train")
    evaluation = json.loads(local_team.text("metrics/evaluation.json"))
    assert evaluation["train_until"] == "2025-08-22"
    assert evaluation["customers"] < evaluation["rows"]
    assert evaluation["random_by_customer"]["rows"] > 0
    local_team.ok("git", "checkout", "--quiet", "-b", "branch")
    local_team.replace("params.yaml", "n_estimators: 60", "n_estimators: 50")
    local_team.ok("dvc", "repro", "gate")
    local_team.commit("Fewer trees")
    printed = local_team.ok("python", "-m", "report", "--base", "main")
    assert "Passes the gate" in printed
    scored = local_team.ok(
        *("python", "-m", "churn", "score", "data/months.csv", "scores.parquet", "--version", "1"),
        *("--query", "months.sql", "--as-of", "2025-12-20"),
    )
    assert re.search(r"score: ([\d,]+) read = \1 scored by version 1 of churn \+ 0 rejected", scored)
    assert (local_team.folder / "scores.parquet/_manifest.json").exists()
    # The branch goes back to one machine: a forgotten --force is one sentence, and main's tables are still comparable.
    params = local_team.folder / "params.yaml"
    params.write_text(params.read_text().partition("\ncompute:")[0].replace("tors: 50", "tors: 55") + "\n")
    forgotten = local_team.run("dvc", "repro", "gate")
    assert forgotten.returncode != 0
    assert "`dvc repro --force --downstream fetch`" in forgotten.stdout
    local_team.ok("dvc", "repro", "--force", "--downstream", "fetch")
    assert (local_team.folder / "data/raw/customers.parquet").is_file()
    local_team.commit("Run on one machine")
    assert "Passes the gate" in local_team.ok("python", "-m", "report", "--base", "main")


def test_one_worker_trains_the_model_of_this_machine_and_two_one_within_three_thousandths(
    cluster, contract, params, tmp_path
):
    table = to_arrow(make_customers(contract, 40_000, seed=4), contract)
    settings = Train(
        estimator="xgboost.XGBClassifier", parameters={"n_estimators": 40, "max_depth": 3, "learning_rate": 0.1}, seed=1
    )
    made = []
    for number in range(4):
        pq.write_table(table[number * 10_000 : (number + 1) * 10_000], tmp_path / "made")
        made.append(store(tmp_path / "made", tmp_path / "train", number, 10_000, None))
    features, labels = model_frame(table, contract), table[contract.label].to_pandas()

    def on(workers):
        where = Compute(engine="dask", scheduler=cluster.scheduler, storage=str(tmp_path / "shared"), workers=workers)
        return fit_partitions(build_model(build_classifier(settings), contract), made, contract, 40_000, where)

    local = fit(build_model(build_classifier(settings), contract), features, labels, 40_000)
    alone, together = on(1), on(2)
    assert np.array_equal(alone.predict_proba(features), local.predict_proba(features))
    one, other = (
        as_json(all_metrics(labels, model.predict_proba(features)[:, 1], params.evaluate))
        for model in (local, together)
    )
    assert {name: other[name] for name in METRICS if name != PROFIT and "capacity" not in name} == {
        name: pytest.approx(one[name], abs=0.003) for name in METRICS if name != PROFIT and "capacity" not in name
    }


def test_a_parameter_that_xgboost_refuses_is_the_sentence_of_this_machine(cluster, contract, tmp_path):
    table = to_arrow(make_customers(contract, 400), contract)
    pq.write_table(table, tmp_path / "made")
    made = [store(tmp_path / "made", tmp_path / "train", 0, 400, None)]
    settings = Train(estimator="xgboost.XGBClassifier", parameters={"max_depth": -3}, seed=1)
    where = Compute(engine="dask", scheduler=cluster.scheduler, storage=str(tmp_path / "shared"), workers=1)
    with pytest.raises(StageError) as found:
        fit_partitions(build_model(build_classifier(settings), contract), made, contract, 400, where)
    assert str(found.value) == (
        "the model cannot be fitted: XGBClassifier raises XGBoostError; look at train in params.yaml."
    )


def test_a_cluster_without_a_worker_is_one_sentence_before_a_stage_and_in_it(tmp_path, environment, monkeypatch):
    """Fault in a cluster: all workers of the Dask cluster are gone, or none was started.

    The stage fails after a minute: `the Dask scheduler … has no worker: start others`
    """
    small = Cluster(tmp_path, environment, workers=1)
    compute = Compute(engine="dask", scheduler=small.scheduler, storage=str(tmp_path))
    said = f"^the Dask scheduler {small.scheduler} has no worker: start others.$"
    try:
        with connected(compute) as workers:
            assert workers.map(partial(pow, 2), range(4)) == [1, 2, 4, 8]
            monkeypatch.setattr("churn.core.cluster.WAITING", 1)
            for one in [small.processes[1], *small.workers()]:
                one.kill()
            with pytest.raises(StageError, match=said):
                workers.map(partial(pow, 2), range(4))
        with pytest.raises(StageError, match=said), connected(compute):
            pass
    finally:
        small.stop()


@pytest.fixture(scope="module")
def small_team(team, tmp_path_factory):
    """The team with fewer customers, whose stages take as long as it takes to kill a worker."""
    folder = tmp_path_factory.mktemp("small") / "repository"
    clone = Clone(shutil.copytree(team.folder, folder, symlinks=True))
    clone.environment |= team.services
    clone.replace("params.yaml", f"s3://{BUCKET}/customers/", f"s3://{BUCKET}/some/")
    clone.replace("params.yaml", "partition_rows: 15000", "partition_rows: 5000")
    clone.replace("profile.json", f'"rows": {ROWS}', f'"rows": {SOME}')
    clone.ok("dvc", "repro", "gate")
    return clone


def interrupted(team, cluster, stage, kill):
    """Run a stage, and call `kill` when it has asked the scheduler for work; return its exit status and output."""
    before = cluster.connections()
    process = team.start(team.folder / "log", "python", "-m", f"stages.{stage}")
    deadline = time.monotonic() + 300
    while cluster.connections() == before:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    kill()
    return process.wait(timeout=600), team.text("log")


def test_the_workers_are_listed_while_dask_asks_the_scheduler_for_none(cluster):
    """Its client polls the scheduler, and on a busy machine that answer, without a worker, came in place of ours."""
    compute = Compute(engine="dask", scheduler=cluster.scheduler, storage=f"s3://{BUCKET}/churn")
    with dask.config.set({"distributed.client.scheduler-info-interval": "1ms"}), connected(compute) as workers:
        assert {len(workers.workers()) for _ in range(300)} == {2}


def test_a_worker_whose_memory_is_nearly_full_keeps_no_task_waiting(cluster):
    def fill(dask_worker):
        dask_worker.memory_manager.memory_pause_fraction = 1e-6

    with Client(cluster.scheduler) as client:
        client.run(fill)
        deadline = time.monotonic() + 60
        while {*client.run(lambda dask_worker: dask_worker.status.name).values()} != {"paused"}:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    compute = Compute(engine="dask", scheduler=cluster.scheduler, storage=f"s3://{BUCKET}/churn")
    with connected(compute) as workers:
        assert workers.map(partial(pow, 2), range(4)) == [1, 2, 4, 8]


@pytest.mark.parametrize("stage", ["fetch", "prepare", "validate", "train", "evaluate"])
def test_killing_a_worker_costs_time_and_not_the_result(small_team, cluster, stage):
    """Fault in a cluster: a worker of the Dask cluster is killed.

    Another worker does its tasks, and a training starts again: the results have the same bytes.
    """
    tables = ("data/raw/customers.parquet", "data/features/train.parquet", "data/predictions/test.parquet")
    outs = (*tables, "models/churn.skops", "metrics/validation.json", "metrics/evaluation.json")
    before = {out: hash_of(small_team.folder / out) for out in outs}
    status, printed = interrupted(small_team, cluster, stage, cluster.workers()[0].kill)
    assert status == 0, printed
    assert {out: hash_of(small_team.folder / out) for out in before} == before


def test_a_lost_scheduler_is_one_sentence_and_leaves_what_was_there(small_team, cluster):
    """Fault in a cluster: the scheduler of the Dask cluster is gone.

    The stage fails with one sentence, and the former table stays: `the Dask scheduler … is lost: start it again`
    """
    before = hash_of(small_team.folder / "data/features/train.parquet")
    status, printed = interrupted(small_team, cluster, "prepare", cluster.processes[0].kill)
    assert status == 1
    # The latter where it is killed while the client is still connecting.
    lost = f"the Dask scheduler {cluster.scheduler} is lost: start it again", f"nothing answers at {cluster.scheduler}"
    assert any(f"prepare: {one}" in printed for one in lost), printed
    assert "Traceback" not in printed
    assert hash_of(small_team.folder / "data/features/train.parquet") == before
    assert not [*(small_team.folder / "data/features").glob(".*")]
    done = small_team.run("python", "-m", "stages.prepare")
    assert done.returncode == 1
    assert f"nothing answers at {cluster.scheduler}, which is compute.scheduler in params.yaml" in done.stdout
