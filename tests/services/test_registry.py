"""register against a real `mlflow server` on loopback, with artifacts that go through it."""

import contextlib
import socket
import subprocess
import sys
import time
import urllib.request

import mlflow
import pytest


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a server with a store and artifacts of its own."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--serve-artifacts"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline and process.poll() is None:
                with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health"):
                    break
                time.sleep(0.2)
            else:
                pytest.fail(f"no server: {(folder / 'log').read_text()[-2000:]}")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(60)


def test_a_model_is_registered_once_and_served_from_there(clone, server, monkeypatch):
    for said in ("version 1 is champion", "version 1 (there already) is champion"):
        assert said in clone.ok("python", "-m", "stages.register", MLFLOW_TRACKING_URI=server)
    assert not (clone.folder / "mlflow.db").exists()
    mlflow.set_tracking_uri(server)
    monkeypatch.chdir(clone.folder)
    assert mlflow.pyfunc.load_model("models:/churn@champion").metadata.get_input_schema() is not None
    versions = mlflow.MlflowClient().search_model_versions("name='churn'")
    assert [int(version.version) for version in versions] == [1]
