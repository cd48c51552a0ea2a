import re
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import churn.registry.promotion
from churn.evaluation.metrics import Outcomes
from churn.evaluation.paired import Difference, compare
from churn.registry.promotion import decision, not_worse
from churn.registry.versions import FILES
from tests.conftest import make_customers

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest


@pytest.fixture
def holdout(contract):
    """Features, and the labels with two honest scores."""
    customers = make_customers(contract, 4_000)
    random = np.random.default_rng(1)
    chance = 0.1 + 0.5 * (customers["contract"] == "Month-to-month") * (customers["tenure_months"] < 30)
    chance += 0.2 * customers["monthly_charges"].rank(pct=True)
    noisy = [np.clip(chance + random.normal(0, 0.02, len(chance)), 0, 1) for _ in range(2)]
    return customers, pd.DataFrame({"label": customers["churn"], "theirs": noisy[0], "ours": noisy[1]})


def test_an_equal_model_follows_the_champion(holdout, params, contract):
    wins, why = not_worse(*holdout, params, contract)
    assert wins
    assert why.startswith("not worse, ROC AUC ")


def test_a_worse_model_does_not_and_it_says_in_what(holdout, params, contract):
    features, scored = holdout
    guessed = scored.assign(ours=np.random.default_rng(2).permutation(scored["ours"]))
    wins, why = not_worse(features, guessed, params, contract)
    assert not wins
    assert why.startswith("worse in roc_auc of all customers by 0.")


def test_a_model_that_is_worse_for_one_slice_does_not(holdout, params, contract):
    features, scored = holdout
    new = (features["tenure_months"] < 6) & (features["contract"] == "Month-to-month")
    spoilt = scored.assign(ours=scored["ours"].where(~new, 0.1))
    wins, why = not_worse(features, spoilt, params, contract)
    assert not wins
    assert "of new_customers by" in why


def test_with_too_few_customers_to_tell_the_champion_stays(holdout, params, contract):
    features, scored = holdout
    few = scored.assign(ours=np.random.default_rng(3).permutation(scored["ours"]))[:200]
    few = few.assign(theirs=np.random.default_rng(5).permutation(few["theirs"]))
    wins, why = not_worse(features[:200], few, params, contract)
    assert wins is None
    assert why.startswith("the customers are too few to tell whether it is worse in roc_auc of all customers")
    assert not re.search(r" by |\d", why), "no loss is shown"


def test_a_metric_without_a_value_is_no_loss_and_the_champion_stays(holdout, params, contract, monkeypatch):
    _, scored = holdout
    given = Outcomes(scored["label"].to_numpy(float))
    compared = compare(given, scored["theirs"], scored["ours"], params.evaluate) | {"accuracy": Difference()}
    monkeypatch.setattr(churn.registry.promotion, "compare", lambda *_: compared)
    assert not_worse(*holdout, params, contract) == (None, "accuracy of all customers cannot be compared")


def test_a_much_better_model_follows_since_leakage_is_the_gates_business(holdout, params, contract):
    features, scored = holdout
    wins, _ = not_worse(features, scored.assign(ours=0.9 * scored["label"] + 0.05), params, contract)
    assert wins


def test_customers_of_one_outcome_say_nothing_so_the_champion_stays(holdout, params, contract):
    features, scored = holdout
    stayed = scored["label"] == 0
    wins, why = not_worse(features[stayed], scored[stayed], params, contract)
    assert wins is None
    assert why == f"0 of {stayed.sum():,} customers churned, and a comparison needs both"


@pytest.mark.parametrize("rows", [0, 99])
def test_too_few_customers_say_nothing_so_the_champion_stays(holdout, params, contract, rows):
    """Fault in the registry: too few customers are new to champion and to the new model.

    Champion stays: `… is not champion, version 1 stays: only 12 customers of the holdout are new to both, …`
    """
    features, scored = holdout
    wins, why = not_worse(features[:rows], scored[:rows], params, contract)
    assert wins is None
    assert why.startswith(f"only {rows} customers of the holdout are new to both, fewer than 100")


class Champion:
    """A model that takes some of the features, and gives every customer the scores that it is told."""

    def __init__(self, features, scores):
        self.feature_names_in_, self.scores = np.array(features), scores

    def predict_proba(self, customers):
        assert list(customers) == list(self.feature_names_in_)
        return np.column_stack([1 - self.scores, self.scores])


@pytest.fixture
def against(holdout, params, contract, monkeypatch):
    """Return a function that decides on a challenger against a champion in the registry."""
    features, scored = holdout
    keys = pd.Series(features["customer_id"])

    def decided(champion, digest=MappingProxyType({FILES: "a digest"}), group=None, late=None):
        names = {"read_table": (features, scored["label"], keys), "read_model": champion, "held_out": None}
        names["_group_of"] = group
        for name, value in (names | {"files_of": nullcontext(Path())}).items():
            monkeypatch.setattr(churn.registry.promotion, name, lambda *_, value=value: value)
        predictions = pd.DataFrame({"customer_id": keys, "score": scored["ours"]})
        given = predictions if late is None else predictions.assign(out_of_time=late)
        monkeypatch.setattr(churn.registry.promotion, "read_parquet", lambda *_: pa.Table.from_pandas(given))
        present = SimpleNamespace(name="churn", version="1", tags={"model_sha256": "another", **digest})
        client = SimpleNamespace(get_model_version=lambda *_: present, search_model_versions=lambda *_, **__: [present])
        version = SimpleNamespace(name="churn", tags={"model_sha256": "ours"})
        return decision(client, version, "1", params, contract)

    return decided


def test_a_champion_without_a_feature_that_is_new_is_compared_by_those_that_it_has(against, holdout):
    _, scored = holdout
    wins, why = against(Champion(["contract", "tenure_months"], scored["theirs"].to_numpy()))
    assert wins
    assert why.startswith("not worse, ROC AUC ")
    assert not against(Champion(["contract"], 0.9 * scored["label"].to_numpy() + 0.05))[0]


def test_a_champion_that_needs_a_column_that_is_gone_is_followed(against):
    assert against(Champion(["contract", "fax_number"], None)) == (
        True,
        "version 1 cannot score the present holdout (there is no fax_number), so they were not compared",
    )


def test_a_champion_that_stays_because_customers_are_too_few_can_be_followed_by_hand(against, holdout):
    _, scored = holdout
    champion = Champion(["contract"], scored["theirs"].to_numpy())
    for late, reason in ((np.arange(4_000) < 50, "only 50 customers"), (np.arange(4_000) < 200, "the customers are")):
        wins, why = against(champion, late=late)
        assert not wins
        assert why.startswith(reason)
        assert why.endswith(
            f"against version 1 on {late.sum()} customers, some of which it may have trained on;"
            " to follow it all the same, set the alias champion in MLflow"
        )
    assert "set the alias" not in against(Champion(["contract"], 0.9 * scored["label"].to_numpy() + 0.05))[1]


@pytest.mark.parametrize("scores", [np.nan, 0.5, "a text"], ids=["no numbers", "all equal", "another fault"])
def test_a_champion_that_cannot_be_compared_for_another_reason_stays(against, holdout, scores):
    given = scores if isinstance(scores, str) else np.full(len(holdout[0]), scores)
    wins, why = against(Champion(["contract"], given))
    assert not wins
    assert why.startswith("version 1 cannot score the present holdout (")
    assert why.endswith("); to follow it all the same, set the alias champion in MLflow")


def test_a_champion_without_a_digest_of_its_files_is_not_read_and_stays(against):
    """Fault in the registry: champion has no `files_sha256`.

    It stays, and the tag `decision` has the next step.
    """
    wins, why = against(None, digest={})
    assert not wins
    assert why.startswith("version 1 of churn has no tag files_sha256: register did not make it, or did so before")
    assert why.endswith("; to follow it all the same, set the alias champion in MLflow")


def test_a_champion_of_a_split_by_another_column_is_not_compared_and_stays(against):
    wins, why = against(None, group="household")
    assert not wins
    assert why.startswith("version 1 was split by another column than customer_id, so it may have trained on these")


def test_only_rows_later_than_the_training_are_compared(against, holdout):
    _, scored = holdout
    late = np.arange(len(scored)) % 2 == 0
    _, why = against(Champion(["contract"], scored["theirs"].to_numpy()), late=late)
    assert f"on {late.sum():,} customers" in why
