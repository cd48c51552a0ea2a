"""Two branches with results, brought together by Git: one command takes the results of one side."""

import subprocess

from churn.core.dvc_files import refuse_damaged
from churn.core.errors import StageError
from churn.core.files import read_json
from churn.core.paths import GATE, LOCK
from churn.lock import resolve, stages_of
from churn.registry.lineage import lock_digest
from report.state import outdated_stages
from tests.conftest import give_environment

import pytest

OWN, THEIRS = ("stages: {gate: {cmd: ours}}\n", "stages: {gate: {cmd: theirs}}\n")
MARKED = f"<<<<<<< HEAD\n{OWN}=======\n{THEIRS}>>>>>>> theirs\n"


def git(*arguments, fails=False):
    who = ["-c", "user.name=test", "-c", "user.email=test@example.invalid", "-c", "core.editor=true"]
    done = subprocess.run(["git", *who, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode != 0) == fails, done.stderr + done.stdout
    return done.stdout


def commit(results, **others):
    for name, content in (results | others).items():
        path = LOCK.parent / name.replace("_yaml", ".yaml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    git("add", "--all")
    git("commit", "--quiet", "--message", "Results")


def results(content):
    return {"dvc.lock": content, "metrics/gate.json": f'{{"made": "{content.strip()}"}}\n', "plots/roc.csv": content}


@pytest.fixture
def branches(tmp_path, monkeypatch):
    """A repository with the branches main, which is checked out, and theirs; their results differ."""
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet", "--initial-branch", "main")
    commit(results("stages: {}\n"), params_yaml="a: 1\n")
    git("switch", "--quiet", "--create", "theirs")
    commit(results(THEIRS))
    git("switch", "--quiet", "main")
    commit(results(OWN))
    return tmp_path


def state(folder):
    return {name: (folder / name).read_text() for name in results("")}


@pytest.mark.parametrize(
    ("begin", "goes_on"),
    [
        (["merge", "theirs"], ["commit", "--no-edit"]),
        (["cherry-pick", "theirs"], ["cherry-pick", "--continue"]),
        (["rebase", "theirs"], ["rebase", "--continue"]),
        (["revert", "HEAD~1"], ["revert", "--continue"]),
    ],
    ids=lambda arguments: arguments[0],
)
def test_results_in_conflict_are_taken_from_one_side_and_the_next_commands_are_named(branches, begin, goes_on):
    """Fault in Git and folders: a merge, rebase, cherry-pick or revert conflicts in results.

    `make resolve` takes them from one side as a whole, and prints the next commands.
    """
    git(*begin, fails=True)
    said = resolve()
    assert state(branches) == results(THEIRS if begin[0] == "rebase" else OWN)
    assert git("diff", "--name-only", "--diff-filter=U") == ""
    following = "git commit" if begin[0] == "merge" else f"git {begin[0]} --continue"
    assert said.endswith(f"Then run `make repro`, `git add dvc.lock metrics plots` and `{following}`.")
    (branches / "dvc.lock").write_text("stages: {gate: {cmd: repro}}\n")
    git("add", "dvc.lock")
    git(*goes_on)
    assert git("status", "--porcelain") == ""


def test_a_result_that_one_side_deleted_is_as_on_the_side_that_is_kept(branches):
    """Fault in Git and folders: one side of a merge deleted a result.

    `make resolve` leaves it as on the side that it takes.
    """
    git("rm", "--quiet", "plots/roc.csv", "metrics/gate.json")
    commit({"metrics/rows.json": "{}\n"})
    git("merge", "theirs", fails=True)
    resolve()
    assert [path.name for path in branches.rglob("*.[cj]s*")] == ["rows.json"]
    git("commit", "--no-edit", "--quiet")

    git("switch", "--quiet", "--create", "again", "theirs")
    git("merge", "main~1", fails=True)
    resolve()
    assert state(branches) == results(THEIRS)


def test_other_files_in_conflict_are_left_and_named(branches):
    """Fault in Git and folders: settings or code are in conflict as well.

    `make resolve` leaves them: `Resolve and git add by hand: params.yaml.`
    """
    git("switch", "--quiet", "theirs")
    commit({}, params_yaml="a: 2\n")
    git("switch", "--quiet", "main")
    commit({}, params_yaml="a: 3\n")
    git("merge", "theirs", fails=True)
    assert "Resolve and `git add` by hand: params.yaml. Then run `make repro`" in resolve()
    assert git("diff", "--name-only", "--diff-filter=U") == "params.yaml\n"
    assert "no conflict in dvc.lock, metrics, plots. Resolve and `git add` by hand: params.yaml." in resolve()
    assert "<<<<<<<" in (branches / "params.yaml").read_text()


def test_marks_of_a_conflict_that_were_committed_are_undone(branches):
    """Fault in Git and folders: conflict markers were committed.

    `make resolve` takes the newest commit without them.
    """
    commit({"dvc.lock": MARKED, "metrics/gate.json": MARKED})
    assert resolve().endswith("and `git commit`.")
    assert state(branches) == results(OWN)


def test_results_of_this_folder_stay_where_nothing_is_in_conflict(branches):
    (branches / "dvc.lock").write_text("new\n")
    assert resolve() == "no conflict in dvc.lock, metrics, plots."
    assert (branches / "dvc.lock").read_text() == "new\n"


def test_in_a_folder_of_a_larger_repository_its_own_results_alone_are_taken(branches, monkeypatch):
    git("merge", "theirs", fails=True)
    (branches / "metrics" / "gate.json").write_text(MARKED)
    monkeypatch.chdir(branches / "plots")
    assert resolve() == "no conflict in dvc.lock, metrics, plots. Resolve and `git add` by hand: roc.csv."


@pytest.mark.parametrize(
    "read",
    [
        lambda: read_json(GATE),
        refuse_damaged,
        lambda: lock_digest(LOCK),
        lambda: stages_of(LOCK.read_text()),
        outdated_stages,
    ],
    ids=["a metric", "a stage", "register", "claims", "report"],
)
def test_whoever_reads_a_result_in_conflict_is_told_the_command_that_resolves_it(branches, monkeypatch, read):
    """Fault in Git and folders: a stage reads a result with conflict markers.

    It fails: `dvc.lock has a merge conflict: run make resolve, then make repro.`
    """
    git("merge", "theirs", fails=True)
    monkeypatch.setenv("DVC_STAGE", "gate")
    with pytest.raises(StageError, match=r"(dvc\.lock|gate\.json) has a merge conflict: run `make resolve`, then"):
        read()


def test_two_branches_with_results_are_merged_by_make_resolve_and_make_repro(clone):
    give_environment(clone)
    for branch, old, new in (("one", "recall: {min: 0.38}", "recall: {min: 0.37}"), ("two", "rows: 100", "rows: 101")):
        clone.ok("git", "switch", "--quiet", "--create", branch, "main")
        clone.replace("params.yaml", old, new)
        clone.ok(".venv/bin/dvc", "repro", "gate")
        clone.commit(branch)
    assert clone.run("git", "merge", "one").returncode != 0
    refused = clone.run("make", "repro")
    assert refused.returncode != 0
    assert "dvc.lock has a merge conflict: run `make resolve` first." in refused.stdout
    said = clone.ok("make", "resolve")
    assert said.startswith("lock: dvc.lock, metrics, plots are those of the commit ")
    clone.ok(".venv/bin/dvc", "repro", "gate")
    clone.ok("git", "add", "dvc.lock", "metrics", "plots")
    clone.ok("git", "commit", "--quiet", "--no-edit")
    assert clone.ok("git", "status", "--porcelain") == ""
    assert "up to date" in clone.ok(".venv/bin/dvc", "status", "gate")
