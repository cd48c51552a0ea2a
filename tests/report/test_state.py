"""What became of each stage, and the verdict that follows."""

import json

from churn.core.errors import StageError
from churn.core.paths import GATE, VALIDATION
from churn.lock import ORDER
from report.changes import claim_notes, judge_notes, loosened, value_changes
from report.data import Change, Run
from report.state import logged_runs, outcome_of, stage_runs

import pytest


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metrics").mkdir()
    return tmp_path


def states(outdated, logged):
    return {run.stage: run.state for run in stage_runs(set(outdated), logged)}


def line(stage, fault=None):
    return {"stage": stage, "seconds": 1.0, "fault": fault}


def test_settings_that_are_not_text_are_named_and_compared_with_nothing(folder):
    (folder / "params.yaml").write_bytes(b"# caf\xe9\n")
    with pytest.raises(StageError, match=r"^params\.yaml is not text in UTF-8"):
        value_changes("HEAD")
    (folder / "dvc.lock").write_bytes(b"# caf\xe9\n")
    with pytest.raises(StageError, match=r"^dvc\.lock is not text in UTF-8"):
        list(claim_notes())


def test_the_last_line_of_a_stage_counts(folder):
    log = folder / "log"
    log.write_text("".join(json.dumps(line("train", fault)) + "\n" for fault in ("was killed", "no rows", None)))
    assert logged_runs(log) == {"train": {"seconds": 1.0, "fault": None}}
    assert logged_runs(folder / "none") == {}


def test_what_ran_before_the_last_run_counts_as_reused(folder):
    log = folder / "log"
    runs = [("fetch", "prepare", "train", "gate"), ("train", "evaluate", "gate")]
    lines = [line(stage, fault) for stages in runs for stage in stages for fault in ("was killed", None)]
    log.write_text("".join(json.dumps(one) + "\n" for one in lines))
    found = states([], logged_runs(log))
    assert [stage for stage in ORDER if found[stage] == "ran"] == ["train", "evaluate", "gate"]


def test_a_fault_of_an_earlier_run_is_still_why_a_stage_is_outdated(folder):
    log = folder / "log"
    lines = [line("train", "was killed"), line("train", "no rows"), line("fetch", "was killed"), line("fetch")]
    log.write_text("".join(json.dumps(one) + "\n" for one in lines))
    assert states(ORDER[3:], logged_runs(log))["train"] == "failed"


@pytest.mark.parametrize("broken", ['{"stage": "tra', "[]", "3", '{"stage": []}', '{"stage": "gate"}', "\udcff"])
def test_a_line_that_a_killed_stage_left_half_written_is_passed_over(folder, broken):
    log = folder / "log"
    log.write_text(f"{broken}\n{json.dumps(line('train'))}\n", errors="surrogateescape")
    assert logged_runs(log) == {"train": {"seconds": 1.0, "fault": None}}


def test_a_stage_ran_was_reused_failed_or_has_not_run():
    found = states(["train", "evaluate", "gate"], {"prepare": line("prepare"), "train": line("train", "no rows")})
    expected = ("reused", "ran", "reused", "failed", "not run", "not run")
    assert found == dict(zip(ORDER, expected, strict=True))


def test_a_fault_is_history_once_the_stage_is_up_to_date_again():
    assert states([], {"train": line("train", "no rows")})["train"] == "reused"


def test_a_stage_that_was_killed_counts_as_failed(folder):
    runs = stage_runs({"train", "evaluate", "gate"}, {"train": line("train", "was killed")})
    assert outcome_of(runs).sentence == "Blocked: train: was killed"


@pytest.mark.parametrize("verdict", [None, {}, {"verdict": "blocked"}, {"verdict": True}])
def test_without_a_passed_verdict_nothing_passes(folder, verdict):
    if verdict is not None:
        GATE.write_text(json.dumps(verdict))
    assert not outcome_of(stage_runs(set(), {})).passed


def test_a_verdict_counts_only_while_everything_before_it_is_up_to_date(folder):
    hashes = dict.fromkeys(("model_sha256", "train_sha256", "test_sha256"), "")
    GATE.write_text(json.dumps({"verdict": "passed", "reasons": [], "rules": []} | hashes))
    assert outcome_of(stage_runs(set(), {})).passed
    for stage in ORDER:
        assert not outcome_of(stage_runs({stage}, {})).passed


def test_the_first_broken_rule_is_the_reason_and_the_others_are_counted(folder):
    finding = {"table": "train", "rule": "nulls", "column": "a", "count": 1, "share": 0.1}
    broken = [finding | {"sentence": sentence} for sentence in ("a has 1 null", "b is missing")]
    tables = {key: {"rows": 10, "sha256": ""} for key in ("train", "test")}
    VALIDATION.write_text(json.dumps({"passed": False, "tables": tables, "broken": broken}))
    runs = stage_runs(
        {"validate", "train", "evaluate", "gate"},
        {"validate": line("validate", "the data break 2 rules of contract.yaml")},
    )
    assert outcome_of(runs).sentence == "Blocked: a has 1 null (and 1 more)"
    assert outcome_of(runs).stage == "validate"


def test_a_stage_that_failed_before_it_wrote_speaks_for_itself(folder):
    runs = [Run("validate", "failed", 1.0, "a table cannot be read."), Run("gate", "not run")]
    assert outcome_of(runs).sentence == "Blocked: validate: a table cannot be read"


@pytest.mark.parametrize(
    ("key", "before", "after", "looser"),
    [
        ("gate.overall.roc_auc.min", 0.82, 0.7, True),
        ("gate.overall.roc_auc.min", 0.82, 0.83, False),
        ("gate.overall.brier_score.max", 0.15, 0.2, True),
        ("gate.overall.brier_score.max", 0.15, 0.1, False),
        ("gate.min_slice_rows", 100, 10, True),
        ("gate.slices.new_customers.recall.min", 0.6, None, True),
        ("gate.slices.new_customers.recall.min", None, 0.6, False),
        ("columns.total_charges.nulls", None, "allow", True),
        ("columns.contract.values", ["One year"], ["One year", "Free"], True),
        ("columns.contract.values", ["One year", "Free"], ["One year"], False),
        ("columns.contract.values", None, ["One year"], False),
        ("columns.partner.role", "feature", None, False),
        ("rules.ranges.tenure_months.max", 120, None, True),
        ("columns.partner.type", "boolean", "category", False),
    ],
)
def test_a_rule_is_looser_when_it_lets_more_through(key, before, after, looser):
    assert loosened(Change("params.yaml", key, before, after)) is looser


def test_what_does_not_judge_is_no_note():
    changes = [Change("params.yaml", "train.seed", 42, 43)]
    assert list(judge_notes(changes, ["README.md", "churn/features.py", "docs/adapt.md"])) == []
