"""The tests read the frozen sample, and no file that an adopter replaces."""

import subprocess

import churn.features
from churn.config.contract import load_contract
from tests import conftest
from tests.frozen import REPLACED, ROOT, SAMPLE, copy_of, live_files

import pytest
from ruamel.yaml import YAML


@pytest.mark.parametrize("name", [*REPLACED[:-1], "dvc.lock", "metrics/gate.json", "plots/roc.csv"])
def test_a_test_that_opens_a_live_file_fails(name, monkeypatch):
    with pytest.raises(
        AssertionError, match=rf"{name} is a live file, open to tests/own alone: read its copy in tests"
    ):
        (ROOT / name).read_text()
    monkeypatch.chdir(ROOT)
    with pytest.raises(AssertionError, match="is a live file"):
        open(name)  # noqa: PTH123, SIM115


def test_the_code_under_test_cannot_read_a_live_file_either(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(AssertionError, match=r"contract\.yaml is a live file"):
        load_contract()


def test_the_feature_functions_of_the_tests_are_the_samples():
    assert churn.features.__file__ == str(SAMPLE / "features.py")


def test_the_copies_are_the_live_files_as_long_as_those_are_the_shipped_sample():
    """A repository with another source has live files of its own, and keeps the copies as they are."""
    with live_files():
        params = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        if params["fetch"]["source"] != "data/sample/telco_customers.csv":
            return
        renew = [
            f"cp {name} {copy_of(name).relative_to(ROOT)}"
            for name in REPLACED
            if (ROOT / name).read_bytes() != copy_of(name).read_bytes()
        ]
    assert renew == []  # else: the commands that renew the copies


def test_a_clone_of_an_adopters_tree_has_the_sample_and_ignores_no_file_of_a_test(tmp_path, monkeypatch):
    """`dvc add data/months.csv` lets Git ignore a name that a test's own table may have."""
    for name in ("contract.yaml", "data/months.csv.dvc", "data/.gitignore", ".dvc/.gitignore", "data/notes.txt"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text("/months.csv\n")
    subprocess.run(["git", "init", "--quiet", tmp_path / "tree"], check=True)
    monkeypatch.setattr(conftest, "ROOT", tmp_path / "tree")
    clone = conftest.clone_of_tree(tmp_path / "clone")
    (clone.folder / "data/months.csv").write_text("id\n")
    clone.commit()
    assert {*clone.ok("git", "ls-files").splitlines()} == {
        *REPLACED,
        ".dvc/.gitignore",
        "data/notes.txt",
        "data/months.csv",
    }
    assert clone.text("contract.yaml") == copy_of("contract.yaml").read_text(encoding="utf-8")
