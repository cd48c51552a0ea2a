"""Main's results are restored from DVC's cache where its dvc.lock vouches for them, and from nowhere else."""

from contextlib import suppress

from churn.stage import MODEL, PREDICTIONS, ROWS, TRAIN, StageError, md5_of
from report import baseline
from report.baseline import rebuilt
from report.claims import stages_of

import pytest


@pytest.fixture
def trained(clone, monkeypatch):
    """A clone whose main holds the dvc.lock of its results; the test runs in it."""
    clone.commit("Train")
    monkeypatch.chdir(clone.folder)
    return clone


@pytest.fixture
def asked(monkeypatch):
    """The commands that DVC was asked to run; they run."""
    commands, run = [], baseline.dvc
    monkeypatch.setattr(baseline, "dvc", lambda *words, **folder: commands.append(words[0]) or run(*words, **folder))
    return commands


def cached(clone, path):
    outs = {out["path"]: out["md5"] for one in stages_of(clone.text("dvc.lock")).values() for out in one["outs"]}
    return clone.folder / ".dvc/cache/files/md5" / outs[str(path)][:2] / outs[str(path)][2:]


def test_the_results_that_mains_lock_names_are_restored_without_a_process_of_dvc(trained, asked):
    with rebuilt(trained.ok("git", "rev-parse", "HEAD").strip()) as main:
        for path in (MODEL, PREDICTIONS, TRAIN, ROWS):
            assert md5_of(main / path) == md5_of(trained.folder / path)
    assert asked == []


@pytest.mark.parametrize("path", [MODEL, TRAIN])
def test_a_result_that_was_altered_in_the_cache_is_refused_or_made_again(trained, asked, path):
    planted = cached(trained, path)
    planted.chmod(0o644)
    planted.write_bytes(planted.read_bytes() + b" ")
    with suppress(StageError), rebuilt(trained.ok("git", "rev-parse", "HEAD").strip()) as main:
        assert md5_of(main / path) == planted.parent.name + planted.name
    assert "repro" in asked


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("stages/train.py", '"""', '"""Otherwise. '),
        ("params.yaml", "seed: 42", "seed: 43"),
        ("dvc.yaml", "cmd: python -m stages.train", "cmd: python -X utf8 -m stages.train"),
    ],
)
def test_a_lock_that_does_not_fit_the_commit_vouches_for_nothing(trained, tmp_path, file, old, new):
    before = trained.text(file)
    (trained.folder / file).write_text(before.replace(old, new, 1))
    assert not baseline._restored(trained.folder, ("fetch", "prepare", "validate", "train"))
    (trained.folder / file).write_text(before)
    assert baseline._restored(trained.folder, ("fetch", "prepare", "validate", "train"))
