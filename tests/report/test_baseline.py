"""Main's results are restored from DVC's cache where its dvc.lock vouches for them, and from nowhere else."""

from contextlib import suppress
from pathlib import Path

from churn.core.errors import StageError
from churn.core.files import md5_of
from churn.core.paths import MODEL, PREDICTIONS, RAW, ROWS, TEST, TRAIN
from churn.lock import ORDER, locked, stages_of
from report import baseline, collect
from report.baseline import checked_out, same_features, unchanged
from report.state import outdated_stages
from tests.baseline import rebuilt

import pytest

pytestmark = pytest.mark.usefixtures("forked")


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
    assert not baseline.CLONE.exists(), "all that is kept of it is in DVC's cache"


def longer(file):
    file.write_bytes(file.read_bytes() + b" ")


def linked(file):
    other = file.rename(file.with_suffix(".other"))
    longer(other)
    file.symlink_to(other)


@pytest.mark.parametrize(("path", "plant"), [(MODEL, longer), (TRAIN, longer), (PREDICTIONS, linked)])
def test_a_result_that_was_altered_in_the_cache_is_refused_or_made_again(trained, asked, path, plant):
    planted = cached(trained, path)
    planted.chmod(0o644)
    plant(planted)
    with suppress(StageError), rebuilt(trained.ok("git", "rev-parse", "HEAD").strip()) as main:
        assert md5_of(main / path) == planted.parent.name + planted.name
    assert "repro" in asked


@pytest.mark.parametrize("link", [False, True])
def test_a_module_that_was_planted_where_mains_side_is_made_is_gone(trained, tmp_path, link):
    planted = tmp_path / "planted" if link else trained.folder / baseline.CLONE
    planted.mkdir(parents=True)
    (planted / "pandas.py").touch()
    if link:
        baseline.CLONE.symlink_to(planted)
    with checked_out(trained.ok("git", "rev-parse", "HEAD").strip()) as main:
        assert (main / "stages").is_dir()
        assert not (main / "pandas.py").exists()


def test_of_the_model_and_the_tables_those_are_mains_that_its_lock_names(trained):
    with checked_out(trained.ok("git", "rev-parse", "HEAD").strip()) as main:
        assert unchanged(main) == {RAW, TRAIN, TEST, MODEL}
        longer(MODEL)
        assert unchanged(main) == {RAW, TRAIN, TEST}
        MODEL.unlink()
        assert unchanged(main) == {RAW, TRAIN, TEST}
        (main / "params.yaml").write_text(trained.text("params.yaml").replace("seed: 42", "seed: 43"))
        assert unchanged(main) == set()


@pytest.mark.parametrize("path", [RAW, TRAIN, TEST, Path("churn/features.py"), Path("churn/data/split.py")])
def test_features_are_mains_where_the_snapshot_the_tables_and_the_code_of_prepare_are(trained, path):
    longer(MODEL)
    with checked_out(trained.ok("git", "rev-parse", "HEAD").strip()) as main:
        assert same_features(main, unchanged(main))
        content = path.read_bytes()
        path.unlink()
        assert not same_features(main, unchanged(main))
        path.write_bytes(content + b" ")
        assert not same_features(main, unchanged(main))


def test_mains_features_are_not_computed_again(trained, monkeypatch):
    monkeypatch.setattr(collect, "recomputing", None)  # which cannot be called
    data = collect.collect("main", "main")
    assert data.same_model
    assert [fault.message for fault in data.faults] == []


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("stages/train.py", '"""', '"""Otherwise. '),
        ("params.yaml", "seed: 42", "seed: 43"),
        ("metrics/validation.json", '"passed": true', '"passed": 1'),
        ("dvc.yaml", "cmd: python -m stages.train", "cmd: python -X utf8 -m stages.train"),
    ],
)
def test_a_lock_that_does_not_fit_the_commit_vouches_for_nothing(trained, tmp_path, file, old, new):
    before = trained.text(file)
    (trained.folder / file).write_text(before.replace(old, new, 1))
    assert locked(trained.folder, ORDER) is None
    assert outdated_stages() >= {"train", "evaluate", "gate"}
    (trained.folder / file).write_text(before)
    assert set(locked(trained.folder, ORDER)) > {str(MODEL), str(PREDICTIONS), "plots"}
    assert outdated_stages() == set()
