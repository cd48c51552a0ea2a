"""Constraints of features: params.yaml names the features, and the libraries count them in an order of their own."""

from churn.config.params import Train
from churn.core.errors import StageError
from churn.modeling.codes import churn_probability
from churn.modeling.training import build_classifier, build_model, fit
from tests.training import frame_of

import numpy as np
import pandas as pd
import pytest

BOOSTING = "sklearn.ensemble.HistGradientBoostingClassifier"
XGBOOST = "xgboost.XGBClassifier"
SIGNS = {BOOSTING: "monotonic_cst", XGBOOST: "monotone_constraints"}
GROUPS = {BOOSTING: "interaction_cst", XGBOOST: "interaction_constraints"}
BOTH = pytest.mark.parametrize("estimator", [BOOSTING, XGBOOST])
ROUNDS = {BOOSTING: "max_iter", XGBOOST: "n_estimators"}


def built(contract, estimator, **parameters):
    return build_model(build_classifier(Train(estimator=estimator, parameters=parameters, seed=1)), contract)


def trained(contract, estimator, rounds=30, **parameters):
    features, labels = frame_of(contract)
    return fit(built(contract, estimator, **{ROUNDS[estimator]: rounds}, **parameters), features, labels, len(features))


def steps(model, contract, feature, values):
    """Return how the scores change from one value of a feature to the next, shape (values - 1, rows)."""
    features, _ = frame_of(contract, 200, seed=1)
    rows = pd.concat([features.assign(**{feature: value}) for value in values])
    return np.diff(churn_probability(model, rows).reshape(len(values), -1), axis=0)


@BOTH
@pytest.mark.parametrize(
    ("feature", "values"),
    [("tenure_months", range(0, 121, 3)), ("monthly_charges", np.arange(0, 200.0, 5)), ("partner", [False, True])],
)
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_sign_constrains_the_feature_that_it_names(estimator, feature, values, sign, contract):
    free = steps(trained(contract, estimator), contract, feature, values)
    assert (free * sign < -1e-9).any(), "else the test shows nothing"
    model = trained(contract, estimator, **{SIGNS[estimator]: {feature: sign}})
    constrained = steps(model, contract, feature, values)
    assert (constrained * sign >= -1e-9).all()


@BOTH
def test_features_that_are_in_no_common_group_do_not_interact(estimator, contract):
    def interaction(model):
        """Return how far two features together move the log-odds beyond the sum of either."""
        features, _ = frame_of(contract, 200, seed=1)

        def log_odds(months, products):
            scores = churn_probability(model, features.assign(tenure_months=months, num_products=products))
            return np.log(scores / (1 - scores))

        return np.abs(log_odds(1, 1) - log_odds(60, 1) - log_odds(1, 5) + log_odds(60, 5)).max()

    alone = ["tenure_months"]
    others = [name for name in contract.features if name not in alone]
    assert interaction(trained(contract, estimator)) > 0.01
    assert interaction(trained(contract, estimator, **{GROUPS[estimator]: [alone, others]})) < 1e-4


@BOTH
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"tenure_month": -1}, ": tenure_month is not a feature of the contract (is it tenure_months?)."),
        ({"churn": -1}, ": churn is not a feature of the contract."),
        ({"contract": 1}, ": contract is a category, whose values have no order: remove it."),
        ({"tenure_months": 2}, ".tenure_months: needs 1 (churn rises with it), -1 (it falls) or 0, not 2."),
        ({"tenure_months": True}, ".tenure_months: needs 1 (churn rises with it), -1 (it falls) or 0, not True."),
        ([0] * 19, ": needs the names of features: write {tenure_months: -1}."),
        ("(1,0)", ": needs the names of features: write {tenure_months: -1}."),
    ],
)
def test_a_sign_that_is_not_of_a_feature_by_name_is_one_sentence(estimator, value, said, contract):
    """Fault in the settings: a monotonic constraint names no feature, or counts columns.

    train fails: `params.yaml: train.parameters.monotonic_cst: tenure_month is not a feature of the contract (is it
    tenure_months?).`
    """
    with pytest.raises(StageError) as told:
        built(contract, estimator, **{SIGNS[estimator]: value})
    assert str(told.value) == f"params.yaml: train.parameters.{SIGNS[estimator]}{said}"


@BOTH
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([["tenure_month", "partner"]], "tenure_month is not a feature of the contract (is it tenure_months?)."),
        ([[0, 1]], "needs lists of features' names: write [[tenure_months, monthly_charges]]."),
        ("[[0, 1]]", "needs lists of features' names: write [[tenure_months, monthly_charges]]."),
        (["tenure_months"], "needs lists of features' names: write [[tenure_months, monthly_charges]]."),
    ],
)
def test_a_group_that_is_not_of_features_by_name_is_one_sentence(estimator, value, said, contract):
    with pytest.raises(StageError) as told:
        built(contract, estimator, **{GROUPS[estimator]: value})
    assert str(told.value) == f"params.yaml: train.parameters.{GROUPS[estimator]}: {said}"


def test_a_word_of_scikit_learn_for_groups_is_taken(contract):
    assert built(contract, BOOSTING, interaction_cst="no_interactions")[-1].interaction_cst == "no_interactions"


@pytest.mark.parametrize(
    "estimator", ["ensemble.RandomForestClassifier", "ensemble.ExtraTreesClassifier", "tree.DecisionTreeClassifier"]
)
@pytest.mark.parametrize("value", [{"tenure_months": -1}, [0] * 40])
def test_an_estimator_that_sees_one_hot_columns_takes_no_constraint(estimator, value, contract):
    with pytest.raises(StageError, match=r"monotonic_cst: \w+Classifier sees one-hot columns instead of features: rem"):
        built(contract, f"sklearn.{estimator}", monotonic_cst=value)
    assert built(contract, f"sklearn.{estimator}", monotonic_cst=None)
