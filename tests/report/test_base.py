"""Against what a checkout is compared, and which changed files a reviewer is told of. Git is real."""

import hashlib
import subprocess
from pathlib import Path
from types import SimpleNamespace

from churn.core.errors import StageError
from churn.core.git import default_branch
from report.baseline import checked_out, refuse_damaged
from report.changes import base_commit, changed_files, judge_notes, uncommitted_notes, unknown_base, without_renamed
from report.data import Change
from tests.baseline import rebuilt

import pytest


@pytest.fixture
def git(tmp_path, monkeypatch):
    """A clone on a branch, which started from main before main's last commit."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_SHA", raising=False)

    def run(*command):
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.invalid")
        return subprocess.run(["git", *identity, *command], check=True, capture_output=True, text=True).stdout.strip()

    def commit(name, text):
        (tmp_path / name).write_text(text)
        run("add", "--all")
        run("commit", "--quiet", "--message=change")
        return run("rev-parse", "HEAD")

    run("init", "--quiet", "--initial-branch=main")
    start = commit("Makefile", "one")
    newest = commit("README.md", "of main")
    run("update-ref", "refs/remotes/origin/main", newest)
    run("checkout", "--quiet", "-b", "branch", start)
    head = commit("Makefile", "two")
    return SimpleNamespace(run=run, commit=commit, start=start, newest=newest, head=head)


def test_of_a_name_the_commit_counts_that_the_branch_started_from(git):
    assert base_commit("origin/main") == git.start
    assert base_commit("nowhere") is None


def test_a_full_hash_is_that_commit_wherever_head_and_names_are_by_now(git):
    git.run("update-ref", "refs/remotes/origin/main", "HEAD")
    git.run("checkout", "--quiet", "--orphan", "other")
    git.commit("other", "of nothing")
    assert base_commit(git.newest) == git.newest
    assert base_commit("f" * 40) is None


def test_without_a_common_commit_the_sentence_says_what_is_missing(git, tmp_path, monkeypatch):
    assert unknown_base("nowhere") == "this clone does not know nowhere; fetch it with its history"
    git.run("branch", "--force", "main", git.newest)
    git.run("clone", "--quiet", "--depth=1", "--no-single-branch", tmp_path.as_uri(), str(tmp_path / "shallow"))
    git.run("checkout", "--quiet", "--orphan", "other")
    git.commit("other", "of nothing")
    assert unknown_base("main").startswith("HEAD and main have no commit in common: give --base the full hash")
    monkeypatch.chdir(tmp_path / "shallow")
    assert base_commit("origin/main") is None
    assert unknown_base("origin/main").endswith("HEAD and origin/main both come: run `git fetch --unshallow`")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert unknown_base("origin/main") == "git cannot read this folder's commits; `git status` says why"


def test_files_that_the_commit_lacks_are_named_but_no_results(git):
    git.commit("params.yaml", "seed: 42")
    for name in ("metrics/gate.json", "plots/roc.csv", "dvc.lock"):
        Path(name).parent.mkdir(exist_ok=True)
        git.commit(name, "one")
        Path(name).write_text("two")
    assert [*uncommitted_notes()] == []
    Path("params.yaml").write_text("seed: 43")
    (note,) = uncommitted_notes()
    assert note == ("This report is of this folder, with changes that its commit lacks: params.yaml", False)


def test_without_a_base_it_is_what_the_clone_calls_its_default_branch(git):
    assert default_branch() == "origin/main"
    git.run("update-ref", "refs/remotes/origin/trunk", git.newest)
    git.run("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/trunk")
    assert default_branch() == "origin/trunk"


def test_in_ci_what_the_commit_changes_is_told_although_its_code_undid_it(git, monkeypatch):
    assert changed_files(git.start) == ["Makefile"]
    git.run("checkout", "--quiet", git.start)
    assert changed_files(git.start) == []
    monkeypatch.setenv("GITHUB_SHA", git.head)
    assert changed_files(git.start) == ["Makefile"]


def test_mains_side_is_checked_out_without_the_settings_hooks_and_attributes_of_this_clone(git, tmp_path):
    ran = tmp_path / "ran"
    (tmp_path / ".git" / "info" / "attributes").write_text("* filter=evil\n")
    git.run("config", "filter.evil.smudge", f"touch {ran}; echo evil #")
    hook = tmp_path / ".git" / "hooks" / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {ran}\n")
    hook.chmod(0o755)
    with pytest.raises(StageError, match="has no pipeline in its root"), rebuilt(git.start):  # there is none
        pass
    assert not ran.exists()
    assert not (tmp_path / ".cache" / "baseline").exists()


def test_mains_side_is_checked_out_in_a_shallow_clone_too(git, tmp_path, monkeypatch):
    git.run("branch", "--force", "main", git.newest)
    git.run("clone", "--quiet", "--depth=1", "--no-single-branch", tmp_path.as_uri(), str(tmp_path / "shallow"))
    monkeypatch.chdir(tmp_path / "shallow")
    git.run("checkout", "--quiet", "branch")
    with pytest.raises(StageError, match="has no pipeline in its root"), rebuilt(git.newest):
        pass


def test_mains_side_is_checked_out_in_a_hook_of_a_worktree_too(git, tmp_path, monkeypatch):
    (tmp_path / ".dvc").mkdir()
    git.run("checkout", "--quiet", "main")
    with_pipeline = git.commit(".dvc/config", "of a pipeline")
    git.run("worktree", "add", "--quiet", str(tmp_path / "worktree"), git.head)
    monkeypatch.chdir(tmp_path / "worktree")
    own = git.run("rev-parse", "--absolute-git-dir")
    monkeypatch.setenv("GIT_DIR", own)
    monkeypatch.setenv("GIT_INDEX_FILE", f"{own}/index")
    with checked_out(with_pipeline) as main:
        assert (main / ".dvc/config").read_text() == "of a pipeline"
    assert git.run("status", "--porcelain", "--untracked-files=no") == ""


def test_in_a_partial_clone_the_sentence_has_the_command_that_fetches_mains_files(git, tmp_path, monkeypatch):
    (tmp_path / ".dvc").mkdir()
    git.run("checkout", "--quiet", "main")
    git.commit(".dvc/config", "of a pipeline")
    with_pipeline = git.commit("README.md", "of a pipeline")
    git.run("checkout", "--quiet", "branch")
    git.run("config", "uploadpack.allowFilter", "true")
    git.run("clone", "--quiet", "--filter=blob:none", tmp_path.as_uri(), str(tmp_path / "partial"))
    monkeypatch.chdir(tmp_path / "partial")
    command = "git fetch --refetch --no-filter origin"
    with pytest.raises(StageError, match=f"lacks files: run `{command}`$"), checked_out(with_pipeline):
        pass
    git.run(*command.split()[1:])
    with checked_out(with_pipeline) as main:
        assert (main / "README.md").read_text() == "of a pipeline"


def test_a_result_of_main_that_a_branch_planted_in_the_cache_under_its_hash_is_refused(tmp_path):
    model = tmp_path / "churn.skops"
    model.write_text("main's model")
    digest = hashlib.md5(model.read_bytes(), usedforsecurity=False).hexdigest()
    outs = f"outs: [{{path: churn.skops, md5: {digest}}}, {{path: plots, md5: 00.dir}}]"
    (tmp_path / "dvc.lock").write_text(f"stages: {{train: {{cmd: x, {outs}}}, validate: {{cmd: x}}}}\n")
    refuse_damaged(tmp_path)
    model.write_text("a worse model")
    with pytest.raises(StageError, match=f"^churn.skops of main is damaged .* delete .dvc/cache/.*/{digest[2:]} and"):
        refuse_damaged(tmp_path)


NOTES = {
    "Makefile": "code and settings that run before the judge",
    "requirements.txt": "code and settings that run before the judge",
    "requirements-dev.in": "code and settings that run before the judge",
    ".dvc/config": "code and settings that run before the judge",
    "stages/train.py": "code and settings that run before the judge",
    "pandas.py": "code and settings that run before the judge",
    "churn/modeling/training.py": "training",
    "churn/modeling/model.py": "code that judges",
    "stages/gate.py": "code that judges",
    "churn/new.txt": "code that judges",
    "source.sql": "query of the customers",
    "queries/ours.sql": "query of the customers",
    ".github/CODEOWNERS": "workflows",
    "ci/base.py": "workflows",
}


@pytest.mark.parametrize(("file", "what"), NOTES.items())
def test_a_change_of_what_judges_runs_before_it_or_fetches_is_told(file, what):
    """Fault in CI and the judge: a branch changes a file that judges, runs before the judge, or fetches.

    The report warns: `This branch changes the code and settings that run before the judge: Makefile`
    """
    assert [note.text for note in judge_notes([], [file])] == [f"This branch changes the {what}: {file}"]


@pytest.mark.parametrize("file", ["churn/features.py", "README.md", "tests/conftest.py", "dvc.lock", "plots/roc.csv"])
def test_a_change_of_the_model_or_of_words_is_no_such_note(file):
    assert list(judge_notes([], [file])) == []


@pytest.mark.parametrize(
    ("key", "note"),
    [
        ("fetch.source", "This branch changes the source of the customers: fetch.source a → b"),
        ("fetch.query", "This branch changes the source of the customers: fetch.query a → b"),
        ("register.model", "This branch changes the registration: register.model a → b"),
    ],
)
def test_a_change_of_the_source_or_of_the_registration_is_told(key, note):
    assert [one.text for one in judge_notes([Change("params.yaml", key, "a", "b")], [])] == [note]


def test_another_day_of_the_same_query_is_no_such_note():
    assert list(judge_notes([Change("params.yaml", "fetch.as_of", "2026-01-01", "2026-01-02")], [])) == []


def test_the_looser_of_several_settings_are_named_first():
    added = [Change("params.yaml", f"gate.overall.{name}.min", None, 0.5) for name in ("accuracy", "f1", "precision")]
    (note,) = judge_notes([*added, Change("params.yaml", "gate.overall.roc_auc.min", 0.82, 0.6)], [])
    assert "1 of them looser than before: gate.overall.roc_auc.min 0.82 → 0.6, gate.overall.accuracy" in note.text


def test_a_feature_with_another_name_alone_makes_no_setting_looser():
    alike = (
        Change("params.yaml", "gate.slices.plan=basic.roc_auc.min", 0.69, None),
        Change("params.yaml", "gate.slices.tariff=basic.roc_auc.min", None, 0.69),
        Change("params.yaml", "evaluate.slices.columns", ["plan", "city"], ["tariff", "city"]),
        Change(
            "contract.yaml", "rules.relations.fits.holds", "plan <> 'basic' OR fee < 9", "tariff <> 'basic' OR fee < 9"
        ),
    )
    looser = (
        Change("contract.yaml", "rules.changes.plan", 0.05, None),
        Change("contract.yaml", "rules.changes.tariff", None, 0.5),
        Change("params.yaml", "gate.overall.roc_auc.min", 0.82, 0.6),
    )
    assert without_renamed((*alike, *looser), {"plan": "tariff"}) == looser
    slices = (
        Change("params.yaml", "evaluate.slices.conditions.new ones", "tenure < 6", None),
        Change("params.yaml", "evaluate.slices.conditions.newcomers", None, "tenure < 6"),
    )
    assert without_renamed((*slices, *looser), {"new ones": "newcomers"}) == looser
    assert without_renamed((*alike, *looser), {}) == (*alike, *looser)
