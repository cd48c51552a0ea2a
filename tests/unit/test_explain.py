import json
from pathlib import Path

from churn.core.paths import GATE, LOCK, LOG, PARAMS, VALIDATION
from churn.core.runner import KILLED
from churn.explain import TO_DO, explanation

import pytest

TABLE = {"rows": 10, "sha256": "0" * 64}
BROKEN = {"table": "train", "rule": "nulls", "column": "a", "count": 3, "share": 0.3, "sentence": "a has 3 nulls"}


@pytest.fixture
def logged(tmp_path, monkeypatch):
    """Return a function that writes the log of a stage that ended with a fault, and what the stage wrote."""
    monkeypatch.chdir(tmp_path)
    PARAMS.write_text("fetch:\n  source: postgresql://db/customers\n")

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
        "validate stopped the last run, for 1 reason:",
        "  - train: a has 3 nulls",
        TO_DO["validate"],
    ]


def test_what_stopped_the_gate_is_each_reason(logged):
    content = {"verdict": "blocked", "reasons": [f"reason {number}" for number in range(30)], "rules": []}
    hashes = dict.fromkeys(("model_sha256", "train_sha256", "test_sha256"))
    first, *reasons, more, last = logged("gate", "blocked: reason 0; reason 1. The rules", GATE, **content, **hashes)
    assert first == "gate stopped the last run, for 30 reasons:"
    assert reasons == [f"  - reason {number}" for number in range(20)]
    assert more == "  … and 10 more"
    assert "python -m report --base main" in last


def test_a_stage_that_wrote_nothing_is_explained_by_its_fault_alone(logged):
    fault = "the query gives no column a, which contract.yaml declares."
    assert logged("fetch", fault) == [f"fetch stopped the last run: {fault}", TO_DO["fetch"]]
    fault = "data/features/train.parquet cannot be read."
    for stage in ("validate", "gate"):
        assert logged(stage, fault) == [f"{stage} stopped the last run: {fault}", TO_DO[stage]]


@pytest.mark.parametrize("file", ["params.yaml", "contract.yaml"])
def test_a_fault_in_a_file_of_settings_is_to_be_corrected_there(logged, file):
    fault = f"{file}: prepare.holdout_share: input should be less than 1, but it is 2."
    assert logged("prepare", fault) == [
        f"prepare stopped the last run: {fault}",
        "Correct it there; then run `dvc repro`, which begins at this stage.",
    ]


def test_an_error_of_code_is_to_be_read_on_a_terminal_by_a_command(logged):
    fault = "crashed with ZeroDivisionError in stages/evaluate.py, line 112; run it on a terminal to read more."
    first, todo = logged("evaluate", fault)
    assert first == "evaluate stopped the last run: crashed with ZeroDivisionError in stages/evaluate.py, line 112."
    assert todo.startswith("Run `python -m stages.evaluate` on a terminal to read the error, and correct that line; ")


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        (PARAMS, "fetch: {source: no.csv}", "params.yaml: fetch.source is no.csv, which does not exist: correct it, "),
        (
            PARAMS,
            "fetch: {source: dvc.csv}",
            "params.yaml: fetch.source is dvc.csv, which does not exist: run `make pull`",
        ),
        (PARAMS, "fetch: [\n", "params.yaml is no valid YAML"),
        (LOCK, "stages:\n<<<<<<< HEAD\n", "dvc.lock has a merge conflict: run `make resolve`, then `dvc repro`."),
    ],
)
def test_what_keeps_dvc_from_starting_a_stage_comes_before_what_an_earlier_run_logged(logged, file, text, told):
    logged("train", KILLED)
    Path("dvc.csv.dvc").touch()
    file.write_text(text)
    (line,) = explanation()
    assert line.startswith(f"no stage can start. {told}")


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


def test_a_lock_that_is_not_text_keeps_the_reason_of_the_last_run(logged):
    LOCK.write_bytes(b"stages: \xff")
    assert logged("fetch", "no rows.")[0] == "fetch stopped the last run: no rows."
