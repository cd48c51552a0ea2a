"""The entries of dvc.lock that a run starts from."""

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


def test_an_unknown_commit_is_one_sentence():
    with pytest.raises(StageError, match="nowhere is no commit of this clone"):
        main(arguments().parse_args(["compare", "nowhere"]))
