"""Where a checkout may lie: in a folder of a larger repository, as a submodule, at a path with quotes in it."""

import json
import re
import shutil

from tests.conftest import Clone, give_environment

import pytest


def in_a_folder(clone, tmp_path):
    """The pipeline as a folder of a larger repository."""
    larger = tmp_path / "larger"
    (larger / "teams").mkdir(parents=True)
    shutil.move(clone.folder, larger / "teams" / "churn")
    shutil.rmtree(larger / "teams" / "churn" / ".git")
    (larger / "README.md").write_text("A larger repository.\n")
    outer = Clone(larger)
    outer.ok("git", "init", "--quiet", "--initial-branch", "main")
    outer.commit()
    return larger / "teams" / "churn"


def as_a_submodule(clone, tmp_path):
    """The pipeline as a submodule, whose `.git` is a file."""
    outer = tmp_path / "outer"
    outer.mkdir()
    larger = Clone(outer)
    larger.ok("git", "init", "--quiet", "--initial-branch", "main")
    larger.ok("git", "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(clone.folder), "churn")
    for made in (".dvc/cache", "data/raw", "data/features", "data/predictions", "models", ".cache/stages.jsonl"):
        there = outer / "churn" / made
        there.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (clone.folder / made).is_dir() else shutil.copy2)(clone.folder / made, there)
    assert (outer / "churn" / ".git").is_file()
    return outer / "churn"


@pytest.mark.parametrize("layout", [in_a_folder, as_a_submodule])
def test_report_and_drift_work_in_a_folder_of_a_larger_repository_and_in_a_submodule(clone, tmp_path, layout):
    """Fault in Git and folders: the pipeline is a folder of a larger repository, or a submodule.

    Report and drift work.
    """
    clone.commit("Train")
    clone.folder = layout(clone, tmp_path)
    clone.replace("params.yaml", "min_slice_rows: 100", "min_slice_rows: 101")
    clone.replace("params.yaml", "seed: 42", "seed: 43")  # with the same model there would be nothing to compare
    clone.replace("profile.json", '"rows": 7043', '"rows": 7044')
    clone.ok("dvc", "repro", "gate")
    clone.ok("git", "commit", "--quiet", "--all", "--message", "Change a rule")

    done = clone.run("python", "-m", "report", "--base", "main~1")
    outcome, text = json.loads(clone.text("build/report/outcome.json")), clone.text("build/report/report.md")
    assert outcome["reasons"][0].startswith("params.yaml: gate.min_slice_rows is 101, on main 100: "), done.stdout
    assert "| params.yaml: gate.min_slice_rows | 100 | 101 |" in text
    assert "| profile.json: rows | 7043 | 7044 |" in text
    assert "the same 1,452 customers" in text
    assert "not whole" not in text
    assert clone.ok("git", "status", "--porcelain") == ""

    assert clone.ok("python", "-m", "churn", "drift", "--base", "main~1").endswith("drift: stable\n")
    compared = clone.run("python", "-m", "churn", "lock", "compare", "main~1")
    assert "dvc.lock differs from that of main~1, first in validate" in compared.stdout


def test_a_base_that_has_no_pipeline_in_this_folder_is_named(clone, tmp_path):
    """Fault in Git and folders: the report's base has no pipeline in this folder.

    The report is blocked: `… has no pipeline in teams/churn/`
    """
    clone.commit("Train")
    clone.folder = in_a_folder(clone, tmp_path)
    clone.ok("git", "mv", "../churn", "../other")
    clone.folder = clone.folder.parent / "other"
    clone.commit("Move it")
    clone.run("python", "-m", "report", "--base", "main~1")
    assert re.search(r"not whole: [0-9a-f]{8} has no pipeline in teams/other/", clone.text("build/report/report.md"))


def test_a_path_with_quotes_spaces_and_dollars_is_as_good_as_any(clone, tmp_path):
    """Fault in Git and folders: the checkout's path has a quote, a space or a dollar sign.

    `make` works.
    """
    clone.folder = clone.folder.rename(tmp_path / "it's $HOME now")
    give_environment(clone)
    clone.ok("make", "remote", "push")
    assert list((clone.folder / ".cache" / "remote" / "files").rglob("*"))
    shutil.rmtree(clone.folder / "models")
    clone.ok("make", "pull")
    assert (clone.folder / "models" / "churn.skops").exists()
    assert "register: churn version 1 " in clone.ok("make", "repro"), "the receipt was among the models"
    for target in re.findall(r"^([a-z]+):.*##", clone.text("Makefile"), re.MULTILINE):
        clone.ok("make", "--dry-run", target)
