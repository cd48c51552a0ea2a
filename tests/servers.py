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

import psycopg2
import pytest

S3_KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-tests"}
BUCKET = "churn"
POSTGRES_PASSWORD = "another-secret-of-the-tests"


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


def program(name):
    """Return the path of one of PostgreSQL's programs, which Debian keeps off the PATH, or skip the test."""
    found = [shutil.which(name), *map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))[::-1])]
    if not any(found):
        pytest.skip(f"PostgreSQL's {name} is not installed: `apt-get install postgresql`")
    return next(filter(None, found))


@contextlib.contextmanager
def postgres_server():
    """Yield the URL of a PostgreSQL database without its password, and the environment that has it."""
    initdb, postgres = program("initdb"), program("postgres")
    (port,) = free_ports(1)
    url = f"postgresql://tests@127.0.0.1:{port}/postgres"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "password").write_text(POSTGRES_PASSWORD)
        user = {}
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            account = next(one for one in pwd.getpwall() if one.pw_name in ("postgres", "nobody"))
            user = {"user": account.pw_uid, "group": account.pw_gid}
            for path in (folder, folder / "password"):
                os.chown(path, account.pw_uid, account.pw_gid)
        options = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **user}
        made = [initdb, "-D", "data", "-U", "tests", "-A", "scram-sha-256", "--pwfile", "password", "-E", "UTF8"]
        subprocess.run([*made, "--locale=C.UTF-8"], check=True, **options)
        command = [postgres, "-D", "data", "-h", "127.0.0.1", "-p", str(port), "-k", name, "-c", "fsync=off"]
        process = subprocess.Popen(command, **options)
        try:
            deadline = time.monotonic() + 60
            while True:
                with contextlib.suppress(psycopg2.OperationalError):
                    psycopg2.connect(url, password=POSTGRES_PASSWORD).close()
                    break
                if time.monotonic() > deadline or process.poll() is not None:
                    pytest.fail("PostgreSQL did not start")
                time.sleep(0.1)
            yield url, {"PGPASSWORD": POSTGRES_PASSWORD}
        finally:
            process.send_signal(signal.SIGQUIT)  # at once
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
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store or f"sqlite:///{folder}/server.db", "--serve-artifacts"]
    command += ["--artifacts-destination", artifacts or str(folder / "artifacts")]
    environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with serving(command, folder, port, "/health", **environment) as address:
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
    """Yield the address of SeaweedFS with an empty bucket, which S3_KEYS open."""
    keys = {"accessKey": S3_KEYS["AWS_ACCESS_KEY_ID"], "secretKey": S3_KEYS["AWS_SECRET_ACCESS_KEY"]}
    identity = {"name": "tests", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
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
