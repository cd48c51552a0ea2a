"""The weekly fetching of a source that DVC holds, in a fresh clone. DVC and its remote are real."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from ci import refetch
from tests.conftest import ROOT

import pytest

SOURCE, NEW = "data/exports/customers.csv", "id\na\nb\n"
STAGE = """stages:
  fetch:
    cmd: mkdir -p data/raw && cp ${fetch.source} data/raw/customers.parquet
    deps: ["${fetch.source}"]
    outs: [data/raw/customers.parquet]
"""


@pytest.fixture
def team(tmp_path):
    """A repository whose source DVC holds, its remote, where the source came from, and a clone that has no data."""
    team = SimpleNamespace(desk=tmp_path / "desk", clone=tmp_path / "clone", origin=tmp_path / "origin.csv")
    outputs = tmp_path / "outputs"
    environment = os.environ | {"GITHUB_OUTPUT": str(outputs), "PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"}

    def run(*command, folder=team.desk, check=True):
        done = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
        assert not check or not done.returncode, done.stdout + done.stderr
        return done

    def cloned(*tracking, beside=None):
        (team.desk / "data/exports").mkdir(parents=True)
        run("git", "init", "--quiet", "--initial-branch=main")
        run("dvc", "init", "--quiet")
        run("dvc", "remote", "add", "--quiet", "--default", "shared", str(tmp_path / "remote"))
        team.origin.write_text("id\na\n")
        if tracking[0] == "add":
            shutil.copy(team.origin, team.desk / SOURCE)
        run("dvc", *tracking)
        (team.desk / "params.yaml").write_text(f"fetch: {{source: {SOURCE}}}\n")
        if beside:
            run("dvc", "import-url", str(beside), "data/regions.csv")
        deps = '"${fetch.source}", data/regions.csv' if beside else '"${fetch.source}"'
        (team.desk / "dvc.yaml").write_text(STAGE.replace('"${fetch.source}"', deps))
        run("dvc", "repro", "--quiet")
        run("dvc", "push", "--quiet")
        run("git", "add", ".")
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.invalid")
        run("git", *identity, "commit", "--quiet", "--message=Adopt")
        run("git", "clone", "--quiet", str(team.desk), str(team.clone), folder=tmp_path)

    def refetched():
        outputs.write_text("")
        done = run(sys.executable, "-m", "ci.refetch", folder=team.clone, check=False)
        return done.returncode, outputs.read_text(), done.stdout + done.stderr

    team.run, team.cloned, team.refetched = run, cloned, refetched
    return team


@pytest.mark.parametrize("held", [SOURCE, "data/exports"], ids=["a file", "the folder around it"])
def test_a_source_under_dvc_add_is_pulled_before_it_is_fetched(team, held):
    """Fault in CI and the judge: the source is under `dvc add`, so a fresh clone does not have it.

    Retraining pulls it: `No new data: the source still gives the snapshot that main was trained on.`
    """
    team.cloned("add", held)
    status, outputs, printed = team.refetched()
    assert (status, outputs) == (0, ""), printed
    assert "No new data" in printed
    assert (team.clone / SOURCE).read_text() == "id\na\n"


def test_an_imported_source_is_updated_and_its_dvc_file_goes_into_the_pull_request(team):
    team.cloned("import-url", str(team.origin), SOURCE)
    assert team.refetched()[:2] == (0, "")
    team.origin.write_text(NEW)
    status, outputs, printed = team.refetched()
    assert status == 0, printed
    assert (team.clone / "data/raw/customers.parquet").read_text() == NEW
    lines = dict(line.split("=") for line in outputs.split())
    assert lines["source"] == f"{SOURCE}.dvc"
    assert len(lines["snapshot"]) == 8
    changed = team.run("git", "diff", "--name-only", folder=team.clone).stdout.split()
    assert changed == [f"{SOURCE}.dvc", "dvc.lock"]
    # The pull request's checks have the new file from the remote, also when the origin has moved on.
    team.run("dvc", "push", "--quiet", folder=team.clone)
    team.origin.write_text("id\nz\n")
    for name in (".dvc/cache", SOURCE, "data/raw"):
        path = team.clone / name
        path.unlink() if path.is_file() else shutil.rmtree(path)
    team.run("dvc", "repro", "--pull", "--no-run-cache", "fetch", folder=team.clone)
    assert (team.clone / "data/raw/customers.parquet").read_text() == NEW


def test_of_two_imported_files_that_changed_both_go_into_the_pull_request(team, tmp_path):
    regions = tmp_path / "regions.csv"
    regions.write_text("id\n1\n")
    team.cloned("import-url", str(team.origin), SOURCE, beside=regions)
    team.origin.write_text(NEW)
    regions.write_text("id\n2\n")
    status, outputs, printed = team.refetched()
    assert status == 0, printed
    assert outputs.startswith(f"source<<.\n{SOURCE}.dvc\ndata/regions.csv.dvc\n.\nsnapshot=")


def test_a_file_that_a_commit_put_in_the_place_of_the_one_under_dvc_add_is_fetched(team):
    team.cloned("add", SOURCE)
    (team.desk / SOURCE).write_text(NEW)
    team.run("dvc", "add", SOURCE)
    team.run("dvc", "push", "--quiet")
    shutil.copy(team.desk / f"{SOURCE}.dvc", team.clone / f"{SOURCE}.dvc")
    status, outputs, printed = team.refetched()
    assert (status, "snapshot=" in outputs) == (0, True), printed
    assert (team.clone / "data/raw/customers.parquet").read_text() == NEW


def test_a_source_imported_from_another_repository_is_updated_from_its_newest_commit(team, tmp_path):
    crm = tmp_path / "crm"

    def export(text):
        (crm / "customers.csv").write_text(text)
        team.run("git", "add", ".", folder=crm)
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.invalid")
        team.run("git", *identity, "commit", "--quiet", "--message=Export", folder=crm)

    crm.mkdir()
    team.run("git", "init", "--quiet", "--initial-branch=main", folder=crm)
    export("id\na\n")
    team.cloned("import", str(crm), "customers.csv", "--out", SOURCE)
    assert team.refetched()[:2] == (0, "")
    export(NEW)
    status, outputs, printed = team.refetched()
    assert (status, f"source={SOURCE}.dvc" in outputs) == (0, True), printed
    assert (team.clone / "data/raw/customers.parquet").read_text() == NEW


def test_a_source_that_cannot_be_pulled_stops_the_retraining(team):
    """Fault in CI and the judge: retraining cannot pull or update the source that DVC holds.

    The job fails, and the message to Slack has the reason: `fetch: dvc pull data/exports/customers.csv.dvc failed, so
    the source is not here; its log says why.`
    """
    team.cloned("add", SOURCE)
    shutil.rmtree(team.clone.parent / "remote")
    status, outputs, _ = team.refetched()
    assert status != 0
    assert outputs == f"fault=fetch: `dvc pull {SOURCE}.dvc` failed, so the source is not here; its log says why.\n"


def test_without_a_dvc_file_nothing_is_pulled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refetch.tracked() == []
    Path("dvc.lock").write_text("stages:\n  fetch:\n    deps:\n    - path: a/b.csv\n    - path: 'c d'\n")
    assert refetch.tracked() == []
    Path("c d.dvc").touch()
    assert refetch.tracked() == [Path("c d.dvc")]
