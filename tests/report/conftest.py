"""Settings of a branch: those of the sample, changed by a test; and the dossier of the sample's model."""

import json

from churn.config.contract import load_contract
from churn.config.params import load_params
from churn.registry.dossier import TAGS, dossier
from tests.conftest import after_change

import pytest

MOVE = {
    "kind": "promotion",
    "who": "olga",
    "when": "2026-11-08T04:05:06+00:00",
    "from": "1",
    "to": "3",
    "why": "not worse <b>",
}


@pytest.fixture
def branch_params(tmp_path):
    return after_change("params.yaml", load_params, tmp_path)


@pytest.fixture
def branch_contract(tmp_path):
    return after_change("contract.yaml", load_contract, tmp_path)


@pytest.fixture
def tags(finished, monkeypatch):
    monkeypatch.chdir(finished.folder)
    gate = json.loads(finished.text("metrics/gate.json"))
    return dict.fromkeys(TAGS, "0" * 40) | {"model_sha256": gate["model_sha256"]}


@pytest.fixture
def made(tags):
    return dossier(load_params(), load_contract(), tags, [MOVE])
