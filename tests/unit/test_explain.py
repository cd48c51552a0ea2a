import json

from churn.core.paths import GATE, LOG, VALIDATION
from churn.core.runner import KILLED
from churn.explain import TO_DO, explanation

import pytest

TABLE = {"rows": 10, "sha256": "0" * 64}
BROKEN = {"table": "train", "rule": "nulls", "column": "a", "count": 3, "share": 0.3, "sentence": "a has 3 nulls"}


@pytest.fixture
def logged(tmp_path, monkeypatch):
    """Return a function that writes the log of a stage that ended with a fault, and what the stage wrote."""
    monkeypatch.chdir(tmp_path)

    def put(stage, fault, path=None, **content):
        LOG.parent.mkdir(exist_ok=True)
        lines = [{"stage": "fetch", "seconds": 1.0, "fault": None}, {"stage": stage, "seconds": 2.0, "fault": fault}]
        LOG.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        if path:
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(content))
        return list(explanation())

    return put


def test_what_stopped_validate_is_each_broken_rule_and_what_to_correct(logged):
    fault = "the data break 1 rule of contract.yaml; see above and metrics/validation.json."
    content = {"passed": False, "tables": {"train": TABLE, "test": TABLE}, "broken": [BROKEN]}
    assert logged("validate", fault, VALIDATION, **content) == [
        "validate stopped the last run: the data break 1 rule of contract.yaml.",
        "  - train: a has 3 nulls",
        TO_DO["validate"],
    ]


def test_what_stopped_the_gate_is_each_reason(logged):
    content = {"verdict": "blocked", "reasons": [f"reason {number}" for number in range(30)], "rules": []}
    hashes = dict.fromkeys(("model_sha256", "train_sha256", "test_sha256"))
    first, *reasons, more, last = logged("gate", "blocked: reason 0; reason 1. The rules", GATE, **content, **hashes)
    assert first == "gate stopped the last run: blocked: reason 0."
    assert reasons == [f"  - reason {number}" for number in range(20)]
    assert more == "  … and 10 more"
    assert "python -m report --base main" in last


def test_a_stage_that_wrote_nothing_is_explained_by_its_fault_alone(logged):
    fault = "the query gives no column a, which contract.yaml declares."
    assert logged("fetch", fault) == [f"fetch stopped the last run: {fault}", TO_DO["fetch"]]


def test_a_stage_that_was_killed_has_no_fault_of_its_own(logged):
    (line,) = logged("train", KILLED)
    assert line.startswith("train was killed, or is running. Look at the memory")


def test_where_nothing_stopped_that_is_said(logged):
    assert logged("gate", None) == ["nothing stopped: gate ran last, in 2.0 s. `dvc status` names what is outdated."]


@pytest.mark.parametrize("text", [None, "", "{", '{"stage": "fetch"}'])
def test_without_a_log_nothing_has_run_here(logged, text):
    logged("gate", None)
    LOG.unlink()
    if text is not None:
        LOG.write_text(text)
    assert list(explanation()) == ["no stage has run here: `dvc repro` runs all."]
