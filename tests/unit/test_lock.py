"""The entries of dvc.lock that a run starts from."""

import re
from pathlib import Path

from churn import lock
from churn.core.errors import StageError
from churn.lock import arguments, first_difference, kept, main, stages_of

import pytest

LOCK = {stage: {"cmd": stage} for stage in ("fetch", "prepare", "validate", "train", "evaluate", "gate", "register")}


def test_nothing_of_a_commit_is_kept_where_the_source_is_a_file():
    assert kept(LOCK, {}, "data/customers.csv") == {}


def test_the_snapshot_of_a_database_is_kept_since_nobody_can_make_it_again():
    assert kept(LOCK, {}, "postgresql://warehouse/churn") == {"fetch": LOCK["fetch"]}
    assert kept({}, {}, "postgresql://warehouse/churn") == {}


def test_of_a_recorded_lock_what_costs_time_is_taken_and_what_judges_is_not():
    assert set(kept({}, LOCK, "data/customers.csv")) == {"fetch", "prepare", "train"}


def test_the_first_stage_that_differs_is_named_and_register_is_none_of_them():
    assert first_difference(LOCK, LOCK | {"register": {}}) is None
    assert first_difference(LOCK, LOCK | {"gate": {}, "train": {}}) == "train"
    assert first_difference(LOCK, {}) == "fetch"


@pytest.mark.parametrize("lock", ["a: [", "- 1", "stages: 1"])
def test_what_is_no_lock_is_refused(lock):
    with pytest.raises(StageError, match="no lock that DVC wrote"):
        stages_of(lock)


def test_an_empty_lock_has_no_stages():
    assert stages_of("") == {}


@pytest.mark.parametrize("command", [["take", "dvc.lock"], ["compare", "HEAD"], ["arrange", "HEAD"], ["drop"]])
def test_a_lock_that_is_not_text_is_one_sentence_and_stays(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lock, "git", lambda *_: "")
    Path("dvc.lock").write_bytes(b"stages: \xff")
    with pytest.raises(StageError, match=r"dvc\.lock is not text in UTF-8"):
        main(arguments().parse_args(command))
    assert Path("dvc.lock").read_bytes() == b"stages: \xff"


ENTRY = "  {}:\n    cmd: {}\n    deps:\n    - path: a\n      md5: {}\n"


def lock_with(*stages):
    return "schema: '2.0'\nstages:\n" + "".join(ENTRY.format(name, name, md5) for name, md5 in stages)


@pytest.mark.parametrize(
    ("here", "said"),
    [
        (lock_with(("fetch", 1), ("train", 2)), "dvc.lock differs from that of HEAD, first in train."),
        (lock_with(("fetch", 1)), "dvc.lock ends before train, because the run stopped there; its output says why."),
    ],
)
def test_a_run_that_stopped_is_not_one_that_made_something_else(tmp_path, monkeypatch, here, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lock, "git", lambda *_: lock_with(("fetch", 1), ("train", 1)))
    Path("dvc.lock").write_text(here)
    with pytest.raises(StageError, match=f"^{re.escape(said)}$"):
        lock.compare("HEAD")


@pytest.mark.parametrize("command", ["compare", "arrange"])
def test_an_unknown_commit_is_one_sentence(command):
    with pytest.raises(StageError, match="nowhere is no commit of this clone"):
        main(arguments().parse_args([command, "nowhere"]))


def test_the_commit_of_results_changes_only_lines_that_differ(tmp_path, monkeypatch):
    committed = lock_with(("train", 1), ("fetch", 1), ("gate", 1), ("register", 1))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lock, "git", lambda *_: committed)
    Path("dvc.lock").write_text(lock_with(("fetch", 1), ("train", 2), ("gate", 1), ("evaluate", 1)))
    assert lock.arrange("HEAD") == "dvc.lock has the order of that of HEAD"
    assert Path("dvc.lock").read_text() == lock_with(
        ("train", 2), ("fetch", 1), ("gate", 1), ("register", 1), ("evaluate", 1)
    )


def test_without_a_lock_in_the_commit_the_lock_stays_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lock, "git", lambda command, *_: "0123abc" if command == "rev-parse" else None)
    Path("dvc.lock").write_text(made := lock_with(("fetch", 1), ("train", 2)))
    lock.arrange("HEAD")
    assert Path("dvc.lock").read_text() == made
