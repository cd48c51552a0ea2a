"""How many customers get another decision, and how many do by another seed alone."""

from dataclasses import replace

from churn.config.params import Campaign
from churn.core.paths import TRAIN
from churn.data.featuring import to_arrow
from churn.modeling.model import model_frame
from churn.modeling.training import build_classifier, build_model, fit
from report import flips as module
from report.data import Flips
from report.flips import flips, flips_by_seed
from report.render import markdown
from tests.conftest import evaluate_at, make_customers
from tests.report.cases import PASSING

import numpy as np
import pyarrow.parquet as pq
import pytest


@pytest.fixture
def trained(tmp_path, contract, params, monkeypatch):
    """A checkout with a training table; the holdout's features and the scores of the model of params.yaml."""
    monkeypatch.chdir(tmp_path)
    TRAIN.parent.mkdir(parents=True)
    table = to_arrow(make_customers(contract, 2_000), contract)
    pq.write_table(table, TRAIN)
    holdout = model_frame(to_arrow(make_customers(contract, 1_000, seed=1), contract), contract)
    frame, labels = model_frame(table, contract), table[contract.label].to_pandas()
    model = fit(build_model(build_classifier(params.train), contract), frame, labels, len(frame))
    return holdout, model.predict_proba(holdout)[:, 1]


def test_a_decision_flips_at_the_threshold_and_a_contact_is_replaced_at_the_capacity():
    params = evaluate_at(0.5)
    one = np.array([0.9, 0.8, 0.6, 0.4, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1])
    other = np.array([0.8, 0.9, 0.4, 0.6, 0.5, 0.2, 0.1, 0.1, 0.1, 0.1])
    assert flips(one, other, params) == Flips(decisions=3, contacts=1)
    assert flips(one, one, params) == flips(one, one * 0.999, params) == Flips(0, 0)


def test_another_seed_alone_changes_some_decisions_and_the_same_model_none(trained, params, contract):
    few = params.evaluate.model_copy(update={"campaign": Campaign(capacity=0.05)})
    found = flips_by_seed(*trained, params.train, few, contract)
    assert 0 < found.decisions < 100
    assert 0 < found.contacts < 50
    before = params.train.model_copy(update={"seed": params.train.seed - 1})  # whose next seed is that of the model
    assert flips_by_seed(*trained, before, params.evaluate, contract) == Flips(0, 0)


def test_no_seed_is_tried_on_a_large_table_or_where_the_model_cannot_be_trained(trained, params, contract, monkeypatch):
    unknown = params.train.model_copy(update={"estimator": "elsewhere.Classifier"})
    assert flips_by_seed(*trained, unknown, params.evaluate, contract) is None
    monkeypatch.setattr(module, "TRAINING_ROWS", 1_999)
    assert flips_by_seed(*trained, params.train, params.evaluate, contract) is None


def test_the_report_names_the_flips_beside_those_of_a_seed_or_why_there_are_none():
    assert (
        "12 of 1,452 customers (0.8%) get another decision than by main's model; a new seed alone changes 9. A campaign"
        " would contact 5 other customers; a new seed alone changes 7."
    ) in markdown(PASSING)
    text = markdown(replace(PASSING, comparison=replace(PASSING.comparison, by_seed=None)))
    assert "by main's model. A campaign would contact 5 other customers. No new seed was tried, because" in text
