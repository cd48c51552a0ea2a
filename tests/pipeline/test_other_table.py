"""The tests pass in a repository whose live files describe another table than the sample."""

import re
import shutil

from tests.conftest import ROOT, Clone, clone_of_tree, run_pytest
from tests.frozen import REPLACED
from tests.other_table import put_other_table

import pytest


@pytest.fixture(scope="module")
def adopted(tmp_path_factory):
    """A clone whose team has replaced the sample by its own table, run the pipeline, and committed the results."""
    clone = clone_of_tree(tmp_path_factory.mktemp("other") / "repository")
    clone.environment["UNMEASURED"] = "true"
    put_other_table(clone.folder)
    clone.ok("dvc", "repro", "prepare")
    clone.ok("python", "-m", "churn", "profile")
    clone.ok("dvc", "repro", "gate")
    clone.commit("Describe our members")
    return clone


def report(clone, base, **environment):
    """Return the exit status of the report, and its headline."""
    done = clone.run("python", "-m", "report", "--base", base, **environment)
    return done.returncode, done.stdout.splitlines()[0]


def test_the_commit_that_replaces_the_sample_lands_and_the_next_is_compared_with_it(adopted, tmp_path):
    clone = Clone(shutil.copytree(adopted.folder, tmp_path / "repository", symlinks=True))
    status, headline = report(clone, "HEAD~1")
    assert re.fullmatch(
        r"Passes the gate: ROC AUC 0\.\d{3}; the gate judges alone, because main has the template's sample, which this"
        " table replaces",
        headline,
    )
    assert status == 0
    clone.replace("params.yaml", "seed: 42", "seed: 43")
    clone.ok("dvc", "repro", "gate")
    status, headline = report(clone, "HEAD")
    assert re.fullmatch(r"Passes the gate: ROC AUC 0\.\d{3}, [+-]0\.\d{3} against HEAD, .*", headline)
    assert status == 0
    clone.commit("Train otherwise")
    for name, text in (("contract.yaml", "  cancelled: {"), ("members.sql", " AS cancelled,")):
        clone.replace(name, text, text.replace("cancelled", "gone"))
    clone.ok("dvc", "repro", "gate")
    status, headline = report(clone, "HEAD")
    assert headline.startswith("Blocked: contract.yaml: the label is gone here and cancelled on main: ")
    assert status == 1
    (approved,) = re.findall("^approve (problem-.{6})$", clone.text("build/report/report.md"), re.MULTILINE)
    status, headline = report(clone, "HEAD", APPROVED=approved)
    assert headline.endswith("; the gate judges alone, because the label is gone here and cancelled on main")
    assert status == 0


def in_template(clone, folder):
    """Return a checkout of the template that the clone's team started from, with newer commits there."""
    clone.ok("git", "clone", "--quiet", "--no-tags", ".", str(folder))
    template = Clone(folder)
    template.ok("git", "reset", "--quiet", "--hard", "HEAD~1")
    for path, old, new in (
        ("README.md", "# Churn pipeline\n", "# Churn pipeline, newer\n"),
        ("churn/core/errors.py", '"""The error', '"""Newer. The error'),
        ("params.yaml", "seed: 42", "seed: 43"),
        ("contract.yaml", "tenure_months: {min: 0, max: 120}", "tenure_months: {min: 0, max: 140}"),
    ):
        template.replace(path, old, new)
    (folder / "dvc.lock").write_text("schema: '2.0'\n")
    template.commit("Make it newer")
    return template


def test_a_newer_template_is_merged_by_the_commands_of_the_page(adopted, tmp_path):
    template = in_template(adopted, tmp_path / "template")
    clone = Clone(shutil.copytree(adopted.folder, tmp_path / "repository", symlinks=True))
    ours = {name: clone.text(name) for name in {*REPLACED, "members.sql", "metrics/rows.json"} - {"source.sql"}}
    page = (ROOT / "docs/upgrade.md").read_text(encoding="utf-8")
    recipe, _ = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    for line in recipe.splitlines():
        command = line.replace("URL", str(template.folder)).replace("source.sql", "members.sql")
        command = command.replace("make repro", "dvc repro gate").split()
        assert clone.run(*command).returncode == 0 or command[1] == "merge", line
    assert {name: clone.text(name) for name in ours} == ours
    assert clone.text("README.md").startswith("# Churn pipeline, newer\n")
    assert "Newer. The error" in clone.text("churn/core/errors.py")
    assert clone.ok("git", "log", "--format=%s", "-1").startswith("Merge remote-tracking branch 'template/main'")
    assert clone.ok("git", "status", "--porcelain") == ""
    assert clone.ok("dvc", "status", "gate") == "Data and pipelines are up to date.\n"


def test_a_repository_without_the_templates_history_merges_it_by_the_command_of_the_page(adopted, tmp_path):
    template = in_template(adopted, tmp_path / "template")
    clone = Clone(shutil.copytree(adopted.folder, tmp_path / "repository", symlinks=True))
    shutil.rmtree(clone.folder / ".git")
    clone.ok("git", "init", "--quiet", "--initial-branch", "main")
    clone.commit("Use this template")
    ours = {name: clone.text(name) for name in {*REPLACED, "members.sql", "metrics/rows.json"} - {"source.sql"}}
    page = (ROOT / "docs/upgrade.md").read_text(encoding="utf-8")
    recipe, (merge,) = (block.splitlines() for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL))
    add, fetch, refused, keep, *_ = (
        line.replace("URL", str(template.folder)).replace("source.sql", "members.sql").split() for line in recipe
    )
    clone.ok(*add)
    clone.ok(*fetch)
    assert "refusing to merge unrelated histories" in clone.run(*refused).stdout
    clone.ok(*merge.split())
    clone.ok(*keep)
    assert {name: clone.text(name) for name in ours} == ours
    assert clone.text("README.md").startswith("# Churn pipeline, newer\n")
    assert "Newer. The error" in clone.text("churn/core/errors.py")
    (command,) = re.findall(r"`(git diff --name-only .*?)`", page)
    assert "members.sql" in clone.ok(*command.split()).splitlines()


def test_the_tests_of_the_live_files_pass_with_computed_features(adopted):
    printed = run_pytest(adopted, "tests/own")
    assert re.search(r"^\d passed in ", printed, re.MULTILINE), printed
