"""`dvc exp`: experiments in folders of their own and in the queue, and where DVC keeps what it knows meanwhile."""

import time

from tests.conftest import give_environment

import pytest

DVC = ".venv/bin/dvc"  # by its path, in an environment that is not active


@pytest.fixture
def ready(clone):
    give_environment(clone)
    yield clone
    clone.run(DVC, "queue", "stop", "--kill")


def run_with(clone, rows, *how):
    return clone.ok(DVC, "exp", "run", *how, "-S", f"gate.min_slice_rows={rows}")


def test_experiments_run_in_a_folder_of_their_own_and_in_the_queue(ready):
    """Fault in Git and folders: an experiment runs in a temporary folder, or in the queue.

    It works.
    """
    assert "Running stage 'register'" in run_with(ready, 101, "--temp")

    run_with(ready, 102, "--queue")
    assert "Running stage 'register'" in ready.ok(DVC, "exp", "run", "--run-all")

    run_with(ready, 103, "--queue")
    ready.ok(DVC, "queue", "start")
    deadline = time.monotonic() + 120
    while "Running" in (status := ready.ok(DVC, "queue", "status")) or "Queued" in status:
        assert time.monotonic() < deadline, status
        time.sleep(1)

    shown = ready.ok(DVC, "exp", "show", "--csv", "--drop", ".*", "--keep", "gate.min_slice_rows|^roc_auc$")
    done = {line.split(",")[-1] for line in shown.splitlines() if line[:2] == "0."}
    assert done == {"100", "101", "102", "103"}
    assert "Failed" not in status


def test_dvc_makes_no_folder_that_others_may_write_to_wherever_it_is_called(ready, tmp_path):
    """Fault in Git and folders: DVC is called in a sub-folder or from another folder.

    It works, and makes no world-writable folder.
    """
    ready.replace("params.yaml", "min_slice_rows: 100", "min_slice_rows: 101")
    ready.ok(DVC, "repro", "gate")
    ready.ok("sh", "-c", f"cd churn && ../{DVC} status")
    ready.ok("sh", "-c", f"cd {tmp_path} && {ready.folder / DVC} --cd {ready.folder} status")
    assert not [path for path in tmp_path.rglob("*") if path.is_dir() and path.stat().st_mode & 0o002]
    assert list((ready.folder / ".venv" / "dvc" / "repo").iterdir()), "the environment's own folder is in use"
