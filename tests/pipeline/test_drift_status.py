"""`python -m churn drift` in a clone: compared with what a commit was trained on, and an exit status for a monitor."""

import re
import shutil
import subprocess

from churn.core.files import md5_of
from churn.core.partitions import store, write_manifest
from tests.conftest import ROOT

import pyarrow.parquet as pq
import pytest


def drift(clone, *arguments):
    done = clone.run("python", "-m", "churn", "drift", *arguments)
    return done.returncode, done.stdout


def test_a_fresh_snapshot_is_compared_with_the_one_that_main_was_trained_on(clone):
    clone.commit("Train")
    assert drift(clone, "--base", "main")[0] == 0

    clone.replace("source.sql", "MonthlyCharges AS", "2 * CAST(MonthlyCharges AS DOUBLE) AS")
    clone.ok("python", "-m", "stages.fetch")
    status, printed = drift(clone, "--base", "main")
    assert status == 3
    assert "customers: 0 added, 0 removed, 7,043 changed, 0 the same\n" in printed
    assert "drift: the PSI of monthly_charges is " in printed

    clone.ok("dvc", "checkout", "--force")
    assert drift(clone, "--base", "main")[0] == 0, "the snapshot that was trained on is back"


def test_a_partitioned_snapshot_is_compared_out_of_the_cache_whole(clone):
    """And with one in a single file: both are the same customers."""
    raw = clone.folder / "data/raw/customers.parquet"
    table, former = pq.read_table(raw), raw.with_name("former.parquet")
    raw.rename(former)
    parts = []
    for number, rows in enumerate((table[:3_000], table[3_000:])):
        pq.write_table(rows, clone.folder / "made")
        parts.append(store(clone.folder / "made", raw, number, len(rows), None))
    write_manifest(raw, parts)
    clone.ok("dvc", "commit", "--force", "fetch")
    clone.commit("Train on partitions")
    same = "customers: 0 added, 0 removed, 0 changed, 7,043 the same\ndrift: stable\n"
    for base in (("--base", "main"), ("--before", str(former))):
        status, printed = drift(clone, *base)
        assert (status, printed[printed.index("customers:") :]) == (0, same)
    md5 = md5_of(raw / "part-00000.parquet")
    cached = clone.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    cached.chmod(0o644)
    cached.write_bytes(b"PAR1")
    status, printed = drift(clone, "--base", "main")
    assert status == 2
    assert "is damaged, or a file that it names: delete it, then run this again" in printed


def test_what_cannot_be_compared_is_a_sentence_and_no_drift(clone):
    """Fault in drift: the commit is unknown here, or there is no snapshot.

    The exit status is 2: `this clone does not know the commit …: git fetch origin fetches it, …`
    """
    assert drift(clone, "--base", "nowhere") == (
        2,
        "drift: this clone does not know the commit nowhere: `git fetch origin` fetches it, or --base names another.\n",
    )
    clone.ok("git", "rm", "--quiet", "--cached", "dvc.lock")
    clone.ok("git", "commit", "--quiet", "--message", "Without a lock")
    assert drift(clone, "--base", "HEAD") == (
        2,
        "drift: dvc.lock of HEAD names no data/raw/customers.parquet: --base needs the commit of a finished"
        " `dvc repro`.\n",
    )
    assert drift(clone, "nowhere.parquet", "--before", "data/raw/customers.parquet") == (
        2,
        "drift: nowhere.parquet does not exist or is not a Parquet file.\n",
    )
    for limit in ("much", "nan", "inf", "-1"):
        status, said = drift(clone, "--max-psi", limit)
        assert (status, said.splitlines()[-1].partition(": error: ")[2]) == (
            2,
            f"argument --max-psi: {limit}: write a number from 0 on",
        )
    (clone.folder / "data/raw/customers.parquet").unlink()
    assert drift(clone) == (2, "drift: data/raw/customers.parquet does not exist: `python -m stages.fetch` makes it.\n")


def test_a_snapshot_that_this_machine_does_not_have_comes_from_the_remote_or_is_named_with_what_to_do(clone, tmp_path):
    """Fault in drift: the commit's snapshot is not in the cache.

    It comes from the remote. Otherwise the exit status is 2: `… nor in the remote: make push …`
    """
    snapshot, remote = clone.folder / "data/raw/customers.parquet", tmp_path / "remote"
    kept = snapshot.read_bytes()  # DVC may have linked it to its cache
    for cached in (clone.folder / ".dvc/cache/files/md5").rglob("*"):
        if cached.is_file() and cached.read_bytes() == kept:
            cached.chmod(0o644)
            cached.unlink()
    missing = "drift: the snapshot that HEAD was trained on is not in this machine's DVC cache"
    assert drift(clone, "--base", "HEAD") == (
        2,
        f"{missing}, and DVC has no remote here: `make remote` sets it; then try again.\n",
    )

    clone.ok("dvc", "remote", "add", "--quiet", "--local", "--default", "folder", str(remote))
    remote.mkdir()
    nor_there = f"{missing}, nor in the remote: `make push` where it was trained puts it there.\n"
    assert drift(clone, "--base", "HEAD") == (2, nor_there)

    clone.ok("dvc", "commit", "--force", "fetch")
    clone.ok("dvc", "push", "--quiet", "fetch")
    shutil.rmtree(clone.folder / ".dvc/cache")
    assert drift(clone, "--base", "HEAD")[0] == 0

    clone.ok("dvc", "remote", "modify", "--local", "folder", "url", "s3://bucket")
    shutil.rmtree(clone.folder / ".dvc/cache")
    closed = {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    done = clone.run("python", "-m", "churn", "drift", "--base", "HEAD", AWS_MAX_ATTEMPTS="1", **closed)
    assert (done.returncode, done.stdout) == (2, f"{missing}, and the remote cannot be read: `make pull` says why.\n")


@pytest.fixture
def cron(tmp_path):
    """Run the recipe for cron as the docs have it, with stand-ins that write down how they were called."""
    (recipe,) = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/drift.md").read_text(), re.DOTALL)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").write_text(f'PATH="{tmp_path}/.venv/bin:$PATH"\n')
    for name in ("python", "git", "gh"):
        program = tmp_path / ".venv/bin" / name
        program.write_text(f'#!/bin/sh\necho {name} "$@"\ncase "$*" in *"$BREAKS"*) exit $WITH;; esac\n')
        program.chmod(0o755)

    def run(breaks="nothing", status=0):
        environment = {"PATH": "/usr/bin:/bin", "BREAKS": breaks, "WITH": str(status)}
        command = ["sh", "-c", recipe.replace("/srv/churn", str(tmp_path))]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout.splitlines(), done.stderr

    return run


def test_the_recipe_for_cron_reports_each_failure_and_starts_a_retraining_on_drift_alone(cron):
    """Fault in drift: in cron, fetch or the comparison fails.

    The script ends with a status other than 0, and starts no retraining.
    """
    calls = [
        "git fetch --quiet origin",
        "git checkout --quiet --force --detach origin/main",
        "python -m churn as-of yesterday",
        "python -m stages.fetch",
        "python -m churn drift",
    ]
    retrain = "gh api repos/OWNER/NAME/dispatches -f event_type=data-drift"
    assert cron() == (0, calls, "")
    assert cron("churn drift", 3) == (0, [*calls, retrain], "")
    for status in (1, 2):
        assert cron("churn drift", status) == (1, calls, "drift: the customers were not compared, see above\n")
    for number, broken in enumerate(calls[:-1], start=1):
        assert cron(broken.partition(" ")[2], 3) == (1, calls[:number], ""), (
            "a status of 3 means drift of churn drift alone"
        )
