"""The services that a team has: an MLflow server on PostgreSQL with its files in S3."""

import subprocess

from tests.servers import BUCKET, S3_KEYS, mlflow_server, postgresql_server, s3_server

import pytest


@pytest.fixture(scope="module")
def postgres():
    """The URL of a database, and the environment with its password."""
    with postgresql_server() as server:
        yield server.url, server.environment


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """The address of an S3 server with an empty bucket."""
    with s3_server(tmp_path_factory.mktemp("s3")) as address:
        yield address


@pytest.fixture(scope="module")
def server(tmp_path_factory, postgres, s3):
    """The address of an MLflow server."""
    url, password = postgres
    keys = S3_KEYS | {
        "MLFLOW_S3_ENDPOINT_URL": s3,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    store = url.replace("postgresql:", "postgresql+psycopg2:")
    folder = tmp_path_factory.mktemp("server")
    with mlflow_server(folder, store, f"s3://{BUCKET}/mlflow", **keys, **password) as address:
        yield address


@pytest.fixture
def small_disk():
    """Return a function that mounts a filesystem of so many KiB at a folder, or makes it larger."""
    mounted = []

    def mount(folder, size):
        options = f"size={size}k" + (",remount" if folder in mounted else "")
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("a small filesystem cannot be mounted here: it takes root")
        if folder not in mounted:
            mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)
