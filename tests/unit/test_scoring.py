"""The version that scores: its features and their values are those of the contract."""

import shutil
from contextlib import nullcontext
from types import SimpleNamespace

import churn.scoring
from churn.core.errors import StageError
from churn.data.featuring import to_arrow
from churn.modeling.model import model_frame, save_model
from churn.modeling.training import build_model
from churn.registry.client import signature
from churn.registry.package import MODEL_FILE
from churn.scoring import load
from churn.scoring_rows import score
from tests.conftest import make_customers
from tests.frozen import copy_of

import pandas as pd
import pytest
from mlflow.models import Model
from sklearn.ensemble import HistGradientBoostingClassifier

VERSION = SimpleNamespace(name="churn", version="3", tags={"commit": "0123abc"})


@pytest.fixture
def champion(contract, tmp_path, monkeypatch):
    """Put a version that the sample's contract trained in place of the registry's, and return it."""
    frame, folder = make_customers(contract, 500), tmp_path / "version"
    model = build_model(HistGradientBoostingClassifier(max_iter=2, random_state=0), contract)
    model.fit(model_frame(to_arrow(frame, contract), contract), frame[contract.label])
    folder.mkdir()
    save_model(model, folder / MODEL_FILE)
    shutil.copyfile(copy_of("contract.yaml"), folder / "contract.yaml")
    Model(signature=signature(contract)).save(str(folder / "MLmodel"))
    monkeypatch.setattr(churn.scoring, "files_of", lambda _: nullcontext(folder))
    return VERSION


def changed(contract, name, **update):
    columns = dict(contract.columns) | {name: contract.columns[name].model_copy(update=update)}
    return contract.model_copy(update={"columns": columns})


NULLS = {"nulls": "allow", "because": "nobody asked"}


@pytest.mark.parametrize(
    ("name", "update"),
    [
        ("contract", {"values": ("Month-to-month", "One year", "Two year", "Weekly")}),
        ("contract", NULLS),
        ("partner", NULLS),
        ("monthly_charges", NULLS),
        ("tenure_months", NULLS),
        ("num_products", NULLS),
        ("num_products", {"type": "number"}),
    ],
)
def test_a_version_that_lacks_a_value_of_the_contract_is_one_sentence_without_the_value(
    champion, contract, name, update
):
    """Fault in scoring: contract.yaml has a value, or allows missing ones, and the version was trained without.

    Scoring fails: `score: version 3 of churn takes other values of payment_method than contract.yaml declares: score
    with the commit …`
    """
    with pytest.raises(StageError) as told:
        load(champion, changed(contract, name, **update))
    assert str(told.value) == (
        f"version 3 of churn takes other values of {name} than contract.yaml declares: score with the commit 0123abc."
    )


def test_a_version_that_lacks_a_feature_of_the_contract_is_one_sentence(champion, contract):
    columns = {name: column for name, column in contract.columns.items() if name != "partner"}
    with pytest.raises(StageError, match=r"^version 3 of churn takes other features than contract\.yaml decl"):
        load(champion, contract.model_copy(update={"columns": columns}))


def test_a_version_that_knows_more_than_the_contract_lists_scores(champion, contract, tmp_path, monkeypatch):
    fewer = changed(contract, "contract", values=("Two year", "Month-to-month"))
    fewer = changed(fewer, "total_charges", nulls="forbid", because=None)
    fewer = fewer.model_copy(update={"columns": dict(reversed(fewer.columns.items()))})  # the order is no matter
    monkeypatch.chdir(copy_of("params.yaml").parent)
    customers = make_customers(contract, 200).drop(columns=["num_products", "churn"])
    customers.to_parquet(tmp_path / "customers.parquet")
    scores = []
    for one in (contract, fewer):
        score(str(tmp_path / "customers.parquet"), str(tmp_path / "scores.csv"), load(champion, one), one, 3)
        scores.append(pd.read_csv(tmp_path / "scores.csv").set_index("customer_id")["score"])
    assert 0 < len(scores[1]) < len(scores[0])
    assert scores[0][scores[1].index].tolist() == scores[1].tolist()


@pytest.mark.parametrize(
    ("customers", "scores"),
    [
        ("customers.parquet", "customers.parquet"),
        ("customers.parquet", "./customers.parquet"),
        ("link.parquet", "customers.parquet"),
        ("customers.rejected.parquet", "customers.parquet"),  # whose rejected customers would go there
    ],
)
def test_scores_never_take_the_place_of_the_customers(tmp_path, monkeypatch, customers, scores):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.parquet").symlink_to("customers.parquet")
    with pytest.raises(StageError, match="the scores would overwrite the customers: name another place"):
        churn.scoring.main(churn.scoring.arguments().parse_args([customers, scores]))


@pytest.mark.parametrize(
    ("customers", "scores", "said"),
    [
        ("", "scores.csv", "the name of the customers' table is empty"),
        ("  ", "scores.csv", "the name of the customers' table is empty"),
        ("#customers", "scores.csv", "the name of the customers' table is empty"),
        ("customers.csv", "", "an empty name is neither a file here that ends in"),
        ("customers.csv", "empty.parquet", "empty.parquet is a folder, and would be replaced"),
        ("customers.csv", "full.csv", "full.csv is a folder, and would be replaced"),
        ("customers.csv", "other.csv", "other.rejected.csv is a folder, and would be replaced"),
        ("customers.csv", "file/scores.csv", "file/scores.csv cannot be written, because .*/file is no folder"),
        ("customers.csv", "locked/new/scores.csv", "cannot be written, because .*/locked is no folder that you may"),
        ("table.parquet/part-00000.parquet", "table.parquet", "the scores would overwrite the customers"),
    ],
)
def test_a_name_that_cannot_be_read_or_written_is_one_sentence_before_a_version_is_fetched(
    tmp_path, monkeypatch, customers, scores, said
):
    """Fault in scoring: the scores' name is that of a folder, or is empty, as the customers' may be.

    score fails, and the folder stays: `score: scores.csv is a folder, and would be replaced: name another file, …`
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.access", lambda path, _: path.name != "locked")  # root may write anywhere
    for folder in ("empty.parquet", "full.csv", "other.rejected.csv", "locked", "table.parquet"):
        (tmp_path / folder).mkdir()
    for file in ("file", "full.csv/kept", "table.parquet/_manifest.json"):
        (tmp_path / file).touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StageError, match=said):
        churn.scoring.main(churn.scoring.arguments().parse_args([customers, scores]))
    assert sorted(tmp_path.rglob("*")) == before
