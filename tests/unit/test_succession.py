from churn.succession import compared
from tests.conftest import make_customers

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def holdout(contract):
    """Features, and the labels with two honest scores."""
    customers = make_customers(contract, 4_000)
    random = np.random.default_rng(1)
    chance = 0.1 + 0.5 * (customers["contract"] == "Month-to-month") * (customers["tenure_months"] < 30)
    noisy = [np.clip(chance + random.normal(0, 0.02, len(chance)), 0, 1) for _ in range(2)]
    return customers, pd.DataFrame({"label": customers["churn"], "theirs": noisy[0], "ours": noisy[1]})


def test_an_equal_model_follows_the_champion(holdout, params, contract):
    wins, why = compared(*holdout, params, contract)
    assert wins
    assert why.startswith("not worse, ROC AUC ")


def test_a_worse_model_does_not_and_it_says_in_what(holdout, params, contract):
    features, scored = holdout
    guessed = scored.assign(ours=np.random.default_rng(2).permutation(scored["ours"]))
    wins, why = compared(features, guessed, params, contract)
    assert not wins
    assert why.startswith("worse in roc_auc of all customers by 0.")


def test_a_model_that_is_worse_for_one_slice_does_not(holdout, params, contract):
    features, scored = holdout
    new = (features["tenure_months"] < 6) & (features["contract"] == "Month-to-month")
    spoilt = scored.assign(ours=scored["ours"].where(~new, 0.1))
    wins, why = compared(features, spoilt, params, contract)
    assert not wins
    assert "of new_customers by" in why


def test_a_much_better_model_follows_since_leakage_is_the_gates_business(holdout, params, contract):
    features, scored = holdout
    wins, _ = compared(features, scored.assign(ours=0.9 * scored["label"] + 0.05), params, contract)
    assert wins


def test_customers_of_one_outcome_compare_nothing(holdout, params, contract):
    features, scored = holdout
    stayed = scored["label"] == 0
    assert compared(features[stayed], scored[stayed], params, contract) == (True, "nothing to compare")
