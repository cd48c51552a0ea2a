from datetime import date

from churn.config.check import slice_names
from churn.config.params import Slices
from churn.core.errors import StageError
from churn.data.featuring import to_arrow
from churn.evaluation.holdout import scores_of
from churn.evaluation.slices import slice_masks
from churn.modeling.model import model_frame, read_scores, read_table
from stages.evaluate import permutation_importance
from tests.conftest import make_customers

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest


class Model:
    """A classifier whose probabilities are given by a function of the frame."""

    def __init__(self, scores):
        self.scores = scores

    def predict_proba(self, frame):
        scores = np.asarray(self.scores(frame))
        return np.column_stack([1 - scores, scores])


@pytest.fixture
def features(contract, customers) -> pd.DataFrame:
    return model_frame(to_arrow(customers, contract), contract)


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        (lambda frame: np.where(frame["tenure_months"] == 0, np.nan, 0.5), "40 of 2,000 scores are not probabilities"),
        (lambda frame: np.where(frame["tenure_months"] == 0, np.inf, 0.5), "40 of 2,000 scores are not probabilities"),
        (lambda frame: np.where(frame["tenure_months"] == 0, -0.1, 0.5), "40 of 2,000 scores are not probabilities"),
        (lambda frame: np.full(len(frame), 0.25), "all 2,000 scores are 0.25"),
        (lambda frame: np.linspace(0, 1, len(frame) - 1), "the model gave 1,999 scores for 2,000 rows"),
    ],
)
def test_scores_that_say_nothing_are_refused(features, scores, said):
    with pytest.raises(StageError, match=said):
        scores_of(Model(scores), features)


def test_scores_are_the_probability_of_churn(features):
    assert scores_of(Model(lambda frame: frame["tenure_months"] / 100), features).max() == 0.72


def test_slices_are_the_values_of_columns_conditions_and_what_is_missing(contract, features):
    slices = Slices(columns=("contract", "senior_citizen"), conditions={"new_customers": "tenure_months < 6"})
    masks = {one.name: one.rows for one in slice_masks(features, slices, contract)}
    assert [*masks] == slice_names(slices, contract)
    assert list(masks) == [
        "contract=Month-to-month",
        "contract=One year",
        "contract=Two year",
        "senior_citizen=false",
        "senior_citizen=true",
        "new_customers",
        "total_charges is missing",
    ]
    assert sum(masks[name].sum() for name in masks if name.startswith("contract=")) == len(features)
    assert (masks["new_customers"] == (features["tenure_months"] < 6)).all()
    assert masks["total_charges is missing"].sum() == 40


def test_a_value_that_no_customer_has_is_an_empty_slice_and_not_absent(contract, features):
    few = features[features["contract"] != "Two year"]
    masks = {one.name: one.rows for one in slice_masks(few, Slices(columns=("contract",), conditions={}), contract)}
    assert masks["contract=Two year"].sum() == 0


@pytest.mark.parametrize("column", ["tenure_months", "nowhere", "churn"])
def test_a_column_without_fixed_values_is_no_slice(contract, features, column):
    with pytest.raises(StageError, match=rf"evaluate\.slices\.columns: {column} is not a category or boolean"):
        list(slice_masks(features, Slices(columns=(column,), conditions={}), contract))


def test_importance_is_the_loss_without_the_feature(features):
    labels = (features["tenure_months"] > 30).astype(int)
    table = permutation_importance(Model(lambda frame: frame["tenure_months"] / 100), features, labels)
    falls = table.set_index("feature")["fall_in_roc_auc"]
    assert table["feature"].iloc[0] == "tenure_months"
    assert falls["tenure_months"] == pytest.approx(0.5, abs=0.05)
    assert (falls.drop("tenure_months") == 0).all()


def test_a_few_churners_among_many_customers_are_enough_for_the_importance(features, monkeypatch):
    monkeypatch.setattr("stages.evaluate.IMPORTANCE_ROWS", 100)
    for seed in range(5):
        labels = pd.Series(np.random.default_rng(seed).permutation(len(features)) < 3).astype(int)
        table = permutation_importance(Model(lambda frame: frame["tenure_months"] / 100), features, labels)
        assert table["fall_in_roc_auc"].notna().all()


def test_importance_is_the_same_each_time(features):
    labels = (features["tenure_months"] > 30).astype(int)
    model = Model(lambda frame: (frame["tenure_months"] + frame["monthly_charges"]) / 200)
    first, second = (permutation_importance(model, features, labels) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


def test_importance_is_the_same_however_many_features_the_model_gets_at_once(features, monkeypatch):
    labels = (features["tenure_months"] > 30).astype(int)
    called = []

    def predicted(frame):
        called.append(len(frame))
        return (frame["tenure_months"] + frame["monthly_charges"] + 9 * frame["partner"]) / 200

    together = permutation_importance(Model(predicted), features, labels)
    assert len(called) == 2
    monkeypatch.setattr("stages.evaluate.IMPORTANCE_CELLS", 1)
    pd.testing.assert_frame_equal(permutation_importance(Model(predicted), features, labels), together)
    assert len(called) == 2 + 1 + features.shape[1]


def test_a_table_that_lacks_a_column_or_has_it_in_another_type_is_one_sentence(contract, tmp_path):
    """Fault in files between stages: a table lacks a column, or has it in another type.

    Its reader fails: `data/features/test.parquet: churn is not of the type integer; …`
    """
    table, path = to_arrow(make_customers(contract, 10), contract), tmp_path / "table.parquet"
    others = [[None] * 10, [[1]] * 10, [{"a": 1}] * 10, [b"\xff"] * 10, [date(2026, 11, 24)] * 10]
    others += [["1"] * 10, [0.0] * 10]
    for column in table.column_names:
        pq.write_table(table.drop_columns([column]), path)
        with pytest.raises(StageError, match=rf"table\.parquet has no column {column}; `dvc"):
            read_table(path, contract)
        for values in map(pa.array, others):
            if values.type != table[column].type:
                pq.write_table(table.set_column(table.column_names.index(column), column, values), path)
                with pytest.raises(StageError, match=rf"table\.parquet: {column} is not of the type .*; `dvc"):
                    read_table(path, contract)


@pytest.mark.parametrize("label", [None, 2, -1])
def test_a_table_with_another_label_than_0_and_1_is_one_sentence(contract, tmp_path, label):
    table, path = to_arrow(make_customers(contract, 10), contract), tmp_path / "table.parquet"
    labels = pa.array([0, 1, label, *[0] * 7], pa.int64())
    pq.write_table(table.set_column(table.column_names.index("churn"), "churn", labels), path)
    with pytest.raises(StageError, match=r"table\.parquet: churn is neither 0 nor 1 in some rows"):
        read_table(path, contract)


def test_a_table_with_two_columns_of_one_name_is_one_sentence(contract, tmp_path):
    table = to_arrow(make_customers(contract, 10), contract)
    pq.write_table(table.append_column("churn", table["churn"]), tmp_path / "test.parquet")
    with pytest.raises(StageError, match=r"test\.parquet has the column churn more than once"):
        read_table(tmp_path / "test.parquet", contract)


@pytest.mark.parametrize("scores", [["a", "b"], [True, False]])
def test_scores_of_another_type_are_one_sentence(tmp_path, scores):
    pd.DataFrame({"score": scores}).to_parquet(tmp_path / "test.parquet")
    with pytest.raises(StageError, match=r"test\.parquet: score is not of the type number"):
        read_scores(tmp_path / "test.parquet")


def test_predictions_without_a_row_are_one_sentence(tmp_path):
    """Without scores to compare, register would call a version verified."""
    pq.write_table(pa.table({"score": pa.array([], pa.float64())}), tmp_path / "test.parquet")
    with pytest.raises(StageError, match=r"test\.parquet has no rows; `dvc"):
        read_scores(tmp_path / "test.parquet")


@pytest.mark.parametrize("error", [AttributeError, IndexError, TypeError, OverflowError])
def test_a_model_that_breaks_while_it_scores_is_one_sentence(features, error):
    class Broken:
        def predict_proba(self, frame):
            raise error("7590-VHVEG")

    with pytest.raises(StageError, match="the model cannot score the holdout"):
        scores_of(Broken(), features)
