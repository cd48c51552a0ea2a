"""Real servers on loopback, for the tests that need one."""

import contextlib
import http.client
import http.server
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

from tests.forkserver import programs

import pytest

S3_KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-tests"}
S3_BRANCH_KEYS = {"AWS_ACCESS_KEY_ID": "branch", "AWS_SECRET_ACCESS_KEY": "a-third-secret"}
S3_READING_KEYS = {"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "another-secret"}
BUCKET = "churn"
PG_PASSWORD = "a secret of the tests"
PG_PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))


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


class Proxy(http.server.ThreadingHTTPServer):
    """A proxy before a server that does wrong what it is told to.

    `fault` is asked for each request, by method and path, and answers with None, with "503" or "drop" instead of
    passing it on, with "lose" (the answer) or "cut" (it in the middle), or with a function to call before answering.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, upstream):
        super().__init__(("127.0.0.1", 0), _Forwarding)
        self.upstream = upstream.removeprefix("http://")
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.fault = lambda method, path: None

    def handle_error(self, request, client_address):
        """A client that was killed, or a connection that was dropped, is what this is for."""


class _Forwarding(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.fault(self.command, self.path)
        if fault == "drop":
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        if fault == "503":
            return self.answer(503, [], b"")
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        upstream.request(self.command, self.path, body or None, headers)
        response = upstream.getresponse()
        content = response.read()
        upstream.close()
        if callable(fault):
            fault()
        if fault == "lose":
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        return self.answer(response.status, response.getheaders(), content, cut=fault == "cut")

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

    def answer(self, status, headers, content, cut=False):
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "content-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def proxy(upstream):
    """Yield a Proxy before the server at the address `upstream`."""
    with Proxy(upstream) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def mlflow_server(folder, store=None, artifacts=None, **environment):
    """Yield the address of an MLflow server with a store and artifacts of its own, or at the URLs given."""
    (port,) = free_ports(1)
    python = f"{programs()}/python"
    command = [python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store or f"sqlite:///{folder}/server.db", "--serve-artifacts"]
    command += ["--artifacts-destination", artifacts or str(folder / "artifacts")]
    environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with serving(command, folder, port, "/health", **environment) as address:
        yield address


def s3_client(address, keys=S3_KEYS):
    """Return a client of the S3 server."""
    import botocore.session

    return botocore.session.get_session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=address,
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
    )


@contextlib.contextmanager
def s3_server(folder):
    """Yield the address of SeaweedFS with an empty bucket, which S3_KEYS open, and S3_READING_KEYS to read.

    S3_BRANCH_KEYS may do what docs/ci.md gives to AWS_BRANCH_ROLE_ARN: read, and write below `dvc/branches/`.
    """
    rights = (
        (S3_KEYS, ["Admin", "Read", "Write", "List", "Tagging"]),
        (S3_READING_KEYS, ["Read", "List"]),
        (S3_BRANCH_KEYS, ["Read", "List", f"Write:{BUCKET}/dvc/branches/*"]),
    )
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


@contextlib.contextmanager
def postgresql_server():
    """Yield a PostgreSQL of its own: its `url` without a password, its `port`, `process` and `environment`, and `sql`.

    `sql(text)` runs SQL in it. Skips the test where the server is not installed: Debian has it as `postgresql`.
    """
    programs = PG_PROGRAMS[-1] if PG_PROGRAMS else None
    if not programs or not (programs / "initdb").exists():
        pytest.skip("there is no PostgreSQL server here: apt-get install postgresql")
    as_root = os.geteuid() == 0  # as which it refuses to run
    user = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []} if as_root else {}
    with tempfile.TemporaryDirectory(prefix="postgresql-", dir="/tmp", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        (folder / "password").write_text(PG_PASSWORD)
        if as_root:
            shutil.chown(folder, "nobody")
            shutil.chown(folder / "password", "nobody")
        options = ["--username=churn", "--auth=scram-sha-256", f"--pwfile={folder / 'password'}"]
        options += ["--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        made = [str(programs / "initdb"), f"--pgdata={folder / 'data'}", *options]
        subprocess.run(made, check=True, capture_output=True, cwd="/", **user)
        (port,) = free_ports(1)
        command = [str(programs / "postgres"), "-D", str(folder / "data"), "-h", "127.0.0.1", "-p", str(port)]
        command += ["-k", "", "-c", "fsync=off"]
        environment = {"PGPASSWORD": PG_PASSWORD}
        process = subprocess.Popen(command, cwd="/", stderr=subprocess.DEVNULL, start_new_session=True, **user)

        def sql(text):
            client = [str(programs / "psql"), url, "--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]
            return subprocess.run(
                [*client, "--set=ON_ERROR_STOP=1", f"--command={text}"],
                env=os.environ | environment,
                check=True,
                capture_output=True,
                text=True,
            ).stdout.strip()

        url = f"postgresql://churn@127.0.0.1:{port}/postgres"
        try:
            deadline = time.monotonic() + 60
            while True:
                with contextlib.suppress(subprocess.CalledProcessError):
                    sql("SELECT 1")
                    break
                if time.monotonic() > deadline or process.poll() is not None:
                    pytest.fail("PostgreSQL does not start")
                time.sleep(0.1)
            yield SimpleNamespace(url=url, port=port, process=process, environment=environment, sql=sql)
        finally:
            process.send_signal(signal.SIGQUIT)  # at once, with its children, which are in groups of their own
            process.wait()


@contextlib.contextmanager
def cutting_proxy(port, after, *, hold=False, delay=0.0):
    """Yield the port of a proxy to `port` that drops each connection once `after` bytes have come back through it.

    With `hold` it keeps them open, and lets nothing more through; `delay` is what each piece is late by, in seconds.
    """

    def carry(client):
        with client, socket.create_connection(("127.0.0.1", port)) as server:
            threading.Thread(target=upstream, args=(client, server), daemon=True).start()
            passed = 0
            with contextlib.suppress(OSError):
                while passed < after and (data := server.recv(65_536)):
                    passed += len(data)
                    time.sleep(delay)
                    client.sendall(data)
                while hold and server.recv(65_536):
                    pass
                held.wait(60 if hold else 0)
                server.shutdown(socket.SHUT_RDWR)
                client.shutdown(socket.SHUT_RDWR)

    def upstream(client, server):
        with contextlib.suppress(OSError):
            while data := client.recv(65_536):
                server.sendall(data)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=carry, args=(client,), daemon=True).start()

    held = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            held.set()
