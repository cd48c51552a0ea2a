"""docs/adapt.md's walkthrough, run from the page: from a clone to a registered model and a green main."""

import re
import shlex

from tests.conftest import ROOT, Clone, clone_of_tree

import pytest


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """A clone after all commands of the walkthrough, and what each printed."""
    folder = tmp_path_factory.mktemp("walk")
    template = clone_of_tree(folder / "template")
    template.ok("git", "clone", "--quiet", "--bare", ".", str(folder / "origin.git"))
    page = (ROOT / "docs/adapt.md").read_text(encoding="utf-8")
    section = page.partition("## From a clone to a green main\n")[2].partition("\n## ")[0]
    lines = [line for block in re.findall(r"```console\n(.*?)```", section, re.DOTALL) for line in block.splitlines()]
    assert lines[:2] == ["git clone URL churn", "cd churn"]
    template.ok("git", "clone", "--quiet", str(folder / "origin.git"), str(folder / "churn"))
    clone, printed = Clone(folder / "churn"), {}
    clone.environment["UNMEASURED"] = "true"
    for line in lines[2:]:
        if not line.startswith(("make", "source")):  # the environment is the tests' own
            printed[line] = clone.ok(*shlex.split(line))
    return clone, printed


def test_the_walkthrough_ends_with_a_champion_on_main_that_reaches_the_tutorials_thresholds(walked):
    clone, printed = walked
    assert "register: churn version 2 is champion" in printed["dvc repro --force --single-item register"]
    assert clone.ok("git", "status", "--porcelain") == ""
    assert clone.ok("git", "rev-parse", "HEAD") == clone.ok("git", "rev-parse", "origin/main")
    gate = printed["dvc repro"]
    (area,) = re.findall(r"gate: passed   all customers +roc_auc +([0-9.]+)  min ([0-9.]+)", gate)
    (accuracy,) = re.findall(r"gate: passed   all customers +accuracy +([0-9.]+)  min ([0-9.]+)", gate)
    assert 0.88 <= float(area[1]) <= float(area[0])
    assert 0.85 <= float(accuracy[1]) <= float(accuracy[0])


def test_the_tests_of_the_live_files_and_the_report_of_the_commit_are_green(walked):
    _, printed = walked
    assert "7 passed" in printed["python -m pytest tests/own"]
    assert "blocked" not in printed["python -m report --base HEAD~1"]


def test_the_table_is_in_dvc_and_not_in_git(walked):
    clone, _ = walked
    tracked = clone.ok("git", "ls-files").splitlines()
    assert "data/customers.csv.dvc" in tracked
    assert "data/customers.csv" not in tracked
    assert clone.run("git", "check-ignore", "data/customers.csv").returncode == 0


def test_init_does_not_overwrite_what_a_team_has_written_without_force(walked):
    clone, _ = walked
    done = clone.run("python", "-m", "churn", "init", "data/customers.csv")
    assert done.returncode == 1
    assert "params.yaml, source.sql, profile.json, churn/features.py would be overwritten: commit" in done.stdout
    assert clone.ok("git", "status", "--porcelain") == ""
