"""Settings of a branch: those of the sample, changed by a test; and the dossier of the sample's model."""

import sys

from benchmarks.pictures import dossier_of
from churn.config.contract import load_contract
from churn.config.params import load_params
from tests.conftest import after_change
from tests.forkserver import programs

import pytest


@pytest.fixture
def branch_params(tmp_path):
    return after_change("params.yaml", load_params, tmp_path)


@pytest.fixture
def branch_contract(tmp_path):
    return after_change("contract.yaml", load_contract, tmp_path)


@pytest.fixture
def forked(monkeypatch):
    """Fork the programs that the report runs."""
    monkeypatch.setattr(sys, "executable", f"{programs()}/python")


@pytest.fixture
def made(finished):
    """The dossier of the sample's model."""
    return dossier_of(finished.folder)
