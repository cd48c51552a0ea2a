"""The pipeline on a Dask cluster of two workers, with the customers in S3, from fetch to a registered version."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import clone_of_tree
from tests.servers import BUCKET, S3_KEYS, free_ports, s3_client, s3_server

import duckdb
import psutil
import pytest

pytest.importorskip("distributed")

ROWS, KEY = int(os.environ.get("R", "200000")), 4_000  # the table is wide by its key, and so takes little time
MEMORY = 750  # MB of each worker
ESTIMATOR = """xgboost.XGBClassifier
  parameters: {n_estimators: 60, learning_rate: 0.1, max_depth: 3, min_child_weight: 5}"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The environment in which S3 has the customers as a folder of Parquet files, and the client finds it."""
    folder = tmp_path_factory.mktemp("s3")
    files = tmp_path_factory.mktemp("source") / "customers"
    with s3_server(folder) as address:
        source = "read_csv('data/sample/telco_customers.csv', all_varchar = true)"
        key = f"repeat('x', {KEY}) || lpad((row_number() OVER ())::VARCHAR, 9, '0') AS customerID"
        rows = f"SELECT {key}, * EXCLUDE (customerID) FROM {source}, range({ROWS // 7_043 + 1}) LIMIT {ROWS}"
        with duckdb.connect() as database:
            database.execute(
                f"COPY ({rows}) TO '{files}' (FORMAT parquet, PER_THREAD_OUTPUT true, ROW_GROUP_SIZE 20480)"
            )
        for file in files.iterdir():
            s3_client(address).put_object(Bucket=BUCKET, Key=f"customers/{file.name}", Body=file.read_bytes())
        yield {"AWS_ENDPOINT_URL_S3": address, "AWS_DEFAULT_REGION": "us-east-1", **S3_KEYS}


class Cluster:
    """A scheduler and two workers, as a team starts them on other machines."""

    def __init__(self, folder, environment):
        self.folder, self.environment, self.processes = folder, os.environ | environment, []
        (port,) = free_ports(1)
        self.scheduler = f"tcp://127.0.0.1:{port}"
        self.start("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
        for _ in range(2):
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
    clone.environment |= environment | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    text = clone.text("params.yaml")
    head, _, tail = text.partition("  estimator: ")
    text = f"{head}  estimator: {ESTIMATOR}\n{tail[tail.index('  seed:') :]}"
    text = text.replace("data/sample/telco_customers.csv", f"s3://{BUCKET}/customers/")
    compute = {
        "engine": "dask",
        "scheduler": cluster.scheduler,
        "storage": f"s3://{BUCKET}/churn",
        "partition_rows": 10_000,
    }
    text += "\ncompute:\n" + "".join(f"  {name}: {value}\n" for name, value in compute.items())
    (clone.folder / "params.yaml").write_text(text)
    clone.replace("dvc.yaml", "      - ${fetch.source} # a file or folder; delete the line if it is a URL\n", "")
    clone.dvc = lambda *arguments: clone.ok("python", "-m", "dvc", *arguments)
    clone.dvc("repro", "prepare")
    clone.ok("python", "-m", "churn", "profile")
    clone.commit("Describe our customers")
    clone.first_run = clone.dvc("repro")
    return clone


def test_a_table_larger_than_a_workers_memory_goes_from_s3_to_a_registered_version(team):
    assert "register: churn version 1 is candidate" in team.first_run
