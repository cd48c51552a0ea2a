"""Settings of a branch: those of the sample, changed by a test; and the dossier of the sample's model."""

from benchmarks.pictures import dossier_of
from churn.config.contract import load_contract
from churn.config.params import load_params
from tests.conftest import after_change

import pytest


@pytest.fixture
def branch_params(tmp_path):
    return after_change("params.yaml", load_params, tmp_path)


@pytest.fixture
def branch_contract(tmp_path):
    return after_change("contract.yaml", load_contract, tmp_path)


@pytest.fixture
def made(finished):
    """The dossier of the sample's model."""
    return dossier_of(finished.folder)
