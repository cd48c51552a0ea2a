"""The tests read the frozen sample, and no file that an adopter replaces."""

import churn.features
from churn.config.contract import load_contract
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
