"""Real servers on loopback, for the tests that need one."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

S3_KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-tests"}
S3_READING_KEYS = {"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "another-secret"}
BUCKET = "churn"


def free_ports(count):
    """Return ports that nobody listens at."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def serving(command, folder, port, path, **environment):
    """Run a server in a folder as long as the block lasts, which begins when `path` at its port answers."""

    def answers():
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path)
            return connection.getresponse().status < 500
        return False

    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 120
        while not answers():
            if time.monotonic() > deadline or process.poll() is not None:
                pytest.fail(f"no server: {(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        # With its children. What they hold is thrown away, and SeaweedFS takes half a minute to say goodbye.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def mlflow_server(folder):
    """Yield the address of an MLflow server with a store and artifacts of its own."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--serve-artifacts"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with serving(command, folder, port, "/health", MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false") as address:
        yield address


def s3_client(address):
    """Return a client of the S3 server."""
    import botocore.session

    return botocore.session.get_session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=address,
        aws_access_key_id=S3_KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=S3_KEYS["AWS_SECRET_ACCESS_KEY"],
    )


@contextlib.contextmanager
def s3_server(folder):
    """Yield the address of SeaweedFS with an empty bucket, which S3_KEYS open, and S3_READING_KEYS to read."""
    rights = ((S3_KEYS, ["Admin", "Read", "Write", "List", "Tagging"]), (S3_READING_KEYS, ["Read", "List"]))
    identities = [
        {
            "name": keys["AWS_ACCESS_KEY_ID"],
            "credentials": [{"accessKey": keys["AWS_ACCESS_KEY_ID"], "secretKey": keys["AWS_SECRET_ACCESS_KEY"]}],
            "actions": actions,
        }
        for keys, actions in rights
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
    *ports, port, grpc = free_ports(len(names) + 2)
    command = [
        str(Path(sys.executable).with_name("weed")),
        "server",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-filer",
        "-s3",
    ]
    command += ["-ip.bind=127.0.0.1", "-s3.config=s3.json", "-master.telemetry=false", "-volume.max=20"]
    command += [f"-s3.port={port}", f"-s3.port.grpc={grpc}", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += [f"-{name}={number}" for name, number in zip(names, ports, strict=True)]
    with serving(command, folder, port, "/status") as address:
        s3_client(address).create_bucket(Bucket=BUCKET)
        yield address
