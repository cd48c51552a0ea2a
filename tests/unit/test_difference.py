from types import SimpleNamespace

from churn.core.errors import StageError
from churn.registry.difference import difference

import pytest
from mlflow.exceptions import RESOURCE_DOES_NOT_EXIST, MlflowException


def client_of(*runs):
    """Return a registry with a version for each run, and one that another pipeline registered."""
    tags = {"model_sha256": "m" * 64, "test_sha256": "t" * 64}
    versions = [
        SimpleNamespace(name="churn", version=number, run_id=number, tags=tags) for number in range(1, len(runs) + 1)
    ]
    foreign = SimpleNamespace(version=9, run_id=9, tags={})
    return SimpleNamespace(
        search_model_versions=lambda *_, **__: [*versions, foreign],
        get_run=lambda number: SimpleNamespace(data=runs[int(number) - 1]),
    )


def run(params, metrics):
    return SimpleNamespace(params=params, metrics=metrics)


BOTH = client_of(
    run({"train.seed": "42", "train.depth": "3"}, {"roc_auc": 0.8, "recall": 0.5, "a/recall": 0.3, "b/recall": 0.2}),
    run({"train.seed": "43", "train.depth": "3"}, {"roc_auc": 0.7, "a/recall": 0.31, "b/recall": 0.6}),
)


def test_two_versions_are_shown_by_what_differs_and_by_all_metrics():
    origin, settings, metrics = difference(BOTH, "churn", ("1", "2"))
    assert ["holdout", "t" * 12, "t" * 12] in origin
    assert settings == [["setting", "version 1", "version 2"], ["train.seed", "42", "43"]]
    assert metrics[0] == ["metric", "version 1", "version 2", "difference"]
    assert ["roc_auc", "0.8000", "0.7000", "-0.1000"] in metrics
    assert ["recall", "0.5000", "", ""] in metrics, "a version may lack a metric"
    assert [row[0] for row in metrics[-2:]] == ["b/recall", "a/recall"], "the slice that moved most first"


@pytest.mark.parametrize("number", ["7", "9", "x"])
def test_a_version_that_is_none_of_this_pipeline_is_one_sentence(number):
    with pytest.raises(StageError, match=f"churn has no version {number} of this pipeline: it has 1, 2"):
        list(difference(BOTH, "churn", ("1", number)))


def test_a_version_whose_run_is_gone_is_one_sentence():
    def get_run(number):
        raise MlflowException("no such run", RESOURCE_DOES_NOT_EXIST)

    client = SimpleNamespace(search_model_versions=BOTH.search_model_versions, get_run=get_run)
    with pytest.raises(StageError, match=r"^version 1 of churn has lost its run, with settings and metrics: compare a"):
        list(difference(client, "churn", ("1", "2")))
