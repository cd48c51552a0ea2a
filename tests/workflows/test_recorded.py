"""Which run main takes the work over from, and whether it fits. GitHub's answers are written down here."""

import json
import shutil
import subprocess
from pathlib import Path

from ci import github as api_of_github
from ci import recorded, shell

import pytest
from ruamel.yaml import YAML

OURS = {"full_name": "example/churn"}
FORK = {"full_name": "stranger/churn"}
PASSED = [{"name": "checks", "conclusion": "failure"}, {"name": "pipeline", "conclusion": "success"}]
FAILED = [{"name": "checks", "conclusion": "success"}, {"name": "pipeline", "conclusion": "failure"}]
MAINS = "pipeline.yml/runs?per_page=20&branch=main"
RETRAININGS = "retrain.yml/runs?per_page=20&branch=main"
GOING_ON = [{"name": "pipeline", "conclusion": None}]


def pull(sha, repository=OURS, merged="2026-01-01T00:00:00Z", base="main"):
    head = {"sha": sha, "ref": "feature", "repo": repository}
    return {"number": 7, "merged_at": merged, "head": head, "base": {"ref": base}}


def run(number, repository=OURS, event="pull_request", branch="feature"):
    found = {"id": number, "head_repository": repository, "event": event, "head_branch": branch, "head_sha": "a"}
    return found | {"created_at": "2026-01-01T12:00:00Z"}


def proposed(base="main", fork=False, changed=None):
    """A pull request from the branch feature, whose base was changed at a time."""
    changes = {"nodes": [{"createdAt": changed}] if changed else []}
    return {"baseRefName": base, "isCrossRepository": fork, "timelineItems": changes}


def of_main(number, repository=OURS, event="push", sha="in main"):
    return run(number, repository, event, "main") | {"head_sha": sha}


@pytest.fixture
def github(monkeypatch, tmp_path):
    """Answers by a part of the path, and the downloads that work, by run and name."""
    answers = {"/pulls": [], "feature": [proposed()], MAINS: {"workflow_runs": []}}
    downloads, calls = set(), []

    def call(*command, **environment):
        calls.append(" ".join([*(f"{name}={value}" for name, value in environment.items()), *command]))
        return 0

    def api(path):
        return next(answer for part, answer in answers.items() if part in path)

    def graphql(_, *fields):
        found = answers[fields[-1].removeprefix("branch=")]
        return {"data": {"repository": {"pullRequests": {"nodes": found}}}}

    def download(number, name, folder):
        if (number, name) in downloads:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            (folder / "from").write_text(str(number))
            (folder / "dvc.lock").touch()
            for part in ("files", "runs"):
                (folder / part).mkdir()
                (folder / part / f"{part}-of-{number}").touch()
        return (number, name) in downloads

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(api_of_github, "api", api)
    monkeypatch.setattr(api_of_github, "graphql", graphql)
    monkeypatch.setattr(recorded, "download", download)
    monkeypatch.setattr(shell, "call", call)
    monkeypatch.setattr(recorded, "in_main", lambda sha: sha == "in main")
    for name, value in {
        "ALWAYS_RETRAIN": "",
        "DEFAULT_BRANCH": "main",
        "GITHUB_REF": "refs/heads/main",
        "GITHUB_REPOSITORY": "example/churn",
        "GITHUB_SHA": "5" * 40,
        "DVC_REMOTE_URL": "s3://x",
        "GITHUB_OUTPUT": str(tmp_path / "output"),
    }.items():
        monkeypatch.setenv(name, value)

    class GitHub:
        def __init__(self):
            self.answers, self.downloads, self.calls = answers, downloads, calls

        def taken(self):
            recorded.main(["take"])
            found = recorded.RECORDED / "from"
            lock = "take build/recorded/dvc.lock" if found.exists() else "drop"
            assert self.calls[0] == f"python -m churn lock {lock}"
            return int(found.read_text()) if found.exists() else None

    return GitHub()


def test_the_run_at_the_head_of_the_merged_pull_request_is_taken(github):
    github.answers |= {
        "/pulls": [pull("a")],
        "head_sha=a": {"workflow_runs": [run(1)]},
        MAINS: {"workflow_runs": [of_main(2)]},
        "runs/": {"jobs": PASSED},
    }
    github.downloads |= {(1, "results"), (2, "results")}
    assert github.taken() == 1


@pytest.mark.parametrize("stranger", [pull("a", FORK), pull("a", None), pull("a", merged=None)])
def test_a_fork_a_deleted_one_and_a_pull_request_that_was_not_merged_are_not_believed(github, stranger):
    github.answers |= {
        "/pulls": [stranger],
        "head_sha=a": {"workflow_runs": [run(1)]},
        MAINS: {"workflow_runs": [of_main(2)]},
        "runs/": {"jobs": PASSED},
    }
    github.downloads |= {(1, "results"), (2, "results")}
    assert github.taken() == 2


def test_a_fork_whose_branch_is_called_main_is_not_believed(github):
    github.answers |= {
        MAINS: {"workflow_runs": [of_main(1, FORK), of_main(2, None)]},
        "runs/": {"jobs": PASSED},
    }
    github.downloads |= {(1, "results"), (2, "results")}
    assert github.taken() is None


@pytest.mark.parametrize(
    "planted",
    [
        of_main(1, event="pull_request"),  # from main to a branch whose workflow runs
        of_main(1, event="pull_request_target"),
        of_main(1, sha="of a tag that is called main"),
    ],
    ids=["a pull request from main", "one that runs its base's workflow", "a tag"],
)
def test_what_only_bears_mains_name_is_not_believed_and_fills_no_cache(github, monkeypatch, planted):
    """Fault in CI and the judge: a run has main's name, and is not main's.

    Main does not use it: `No run has recorded this work: everything is computed.`
    """
    github.answers |= {
        MAINS: {"workflow_runs": [planted, of_main(2)]},
        RETRAININGS: {"workflow_runs": [planted]},
        "runs/": {"jobs": PASSED},
    }
    github.downloads |= {(1, "results"), (2, "results"), (1, "dvc-remote"), (1, "dvc-remote-5e6f"), (2, "dvc-remote")}
    assert github.taken() == 2
    monkeypatch.setattr(recorded, "has_snapshot", lambda _: True)
    monkeypatch.setenv("GITHUB_REF", "refs/pull/7/merge")
    monkeypatch.setenv("GITHUB_HEAD_REF", "retrain/5e6f")
    assert cached() == {"files-of-2", "runs-of-2"}


@pytest.mark.parametrize(
    ("planted", "pulls"),
    [
        (run(1), [proposed(), proposed("planted")]),  # its workflow is that of `planted`
        (run(1), [proposed(changed="2026-01-01T12:00:00Z")]),
        (run(1), [proposed(), proposed(changed="2026-01-01T13:00:00Z")]),
        (run(1, branch="planted"), [proposed()]),
        (run(1, event="pull_request_target"), [proposed()]),
        (run(1), []),
    ],
    ids=[
        "the same branch to another",
        "to another, before its base was changed",
        "to another, before the base of a former one was changed",
        "the same commit of another branch",
        "another event",
        "unknown",
    ],
)
def test_a_run_at_the_same_commit_for_another_pull_request_is_not_believed(github, planted, pulls):
    """Fault in CI and the judge: a run is of another pull request at the same commit, or the pull request had another
    base then.

    Main does not use it.
    """
    github.answers |= {
        "/pulls": [pull("a")],
        "feature": pulls,
        "head_sha=a": {"workflow_runs": [planted]},
        "runs/": {"jobs": PASSED},
    }
    github.downloads.add((1, "results"))
    assert github.taken() is None


@pytest.mark.parametrize(
    "pulls", [[proposed(changed="2026-01-01T11:59:59Z")], [proposed(), proposed("other", fork=True)]]
)
def test_a_run_after_the_pull_request_got_main_as_its_base_is_taken(github, pulls):
    github.answers |= {
        "/pulls": [pull("a")],
        "feature": pulls,
        "head_sha=a": {"workflow_runs": [run(1)]},
        "runs/": {"jobs": PASSED},
    }
    github.downloads.add((1, "results"))
    assert github.taken() == 1


def test_a_pull_request_to_another_branch_is_not_believed(github):
    github.answers |= {
        "/pulls": [pull("a", base="other")],
        "head_sha=a": {"workflow_runs": [run(1)]},
        "runs/": {"jobs": PASSED},
    }
    github.downloads.add((1, "results"))
    assert github.taken() is None


def test_a_commit_is_mains_only_if_its_history_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEFAULT_BRANCH", "trunk")

    def git(*command):
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.invalid")
        done = subprocess.run(["git", *identity, *command], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "--quiet")
    commits = []
    for message in ("one", "two", "of a branch"):
        git("commit", "--quiet", "--allow-empty", f"--message={message}")
        commits.append(git("rev-parse", "HEAD"))
    git("update-ref", "refs/remotes/origin/trunk", commits[1])
    assert [recorded.in_main(commit) for commit in (*commits, "f" * 40)] == [True, True, False, False]


def test_only_the_job_counts_that_made_the_record(github):
    github.answers |= {
        MAINS: {"workflow_runs": [of_main(1), of_main(2), of_main(3)]},
        "runs/1/": {"jobs": GOING_ON},
        "runs/2/": {"jobs": FAILED},
        "runs/3/": {"jobs": PASSED},
    }
    github.downloads |= {(1, "results"), (2, "results"), (3, "results")}
    assert github.taken() == 3


def test_an_artifact_that_has_expired_is_passed_over(github, capsys):
    github.answers |= {
        MAINS: {"workflow_runs": [of_main(1), of_main(2)]},
        "runs/": {"jobs": PASSED},
    }
    github.downloads.add((2, "results"))
    assert github.taken() == 2
    github.downloads.clear()
    recorded.main(["take"])
    assert "everything is computed" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "value"), [("GITHUB_REF", "refs/pull/7/merge"), ("ALWAYS_RETRAIN", "true")])
def test_a_branch_and_a_main_that_always_retrains_start_from_an_empty_lock_also_if_one_was_committed_as_a_record(
    github, monkeypatch, name, value
):
    recorded.RECORDED.mkdir(parents=True)
    (recorded.RECORDED / "dvc.lock").touch()
    monkeypatch.setattr(recorded, "found", None)
    monkeypatch.setenv(name, value)
    assert recorded.main(["take"]) == 0
    assert github.calls == ["python -m churn lock drop"]


def test_without_a_remote_the_folder_that_stands_for_it_is_needed_too(github, monkeypatch):
    monkeypatch.setenv("DVC_REMOTE_URL", "")
    github.answers |= {
        MAINS: {"workflow_runs": [of_main(1), of_main(2)]},
        "runs/": {"jobs": PASSED},
    }
    github.downloads |= {(1, "results"), (2, "results"), (2, "dvc-remote")}
    assert github.taken() == 2
    assert (recorded.FOLDER / "from").read_text() == "2"
    assert Path("output").read_text() == "run=2\n"
    assert fetched_from(github) == str(recorded.FOLDER.absolute())


def fetched_from(github):
    remote, fetched = github.calls[1:]
    assert remote.startswith("DVC_BRANCH_URL=")
    assert remote.endswith(" make remote")
    assert fetched == "dvc fetch --remote branch fetch prepare train", "only what the recorded lock names"
    return remote.removeprefix("DVC_BRANCH_URL=").removesuffix(" make remote")


@pytest.mark.parametrize(
    ("taken", "place"),
    [
        (run(1), "s3://x/branches/7"),
        (run(1, event="workflow_dispatch", branch="retrain/1a2b"), "s3://x/branches/refs/heads/retrain/1a2b"),
    ],
)
def test_objects_are_looked_for_where_the_run_of_the_branch_wrote_them(github, taken, place):
    github.answers |= {"/pulls": [pull("a")], "head_sha=a": {"workflow_runs": [taken]}, "runs/": {"jobs": PASSED}}
    github.downloads.add((1, "results"))
    assert github.taken() == 1
    assert Path("output").read_text() == "run=1\n"
    assert fetched_from(github) == place


def test_what_main_recorded_itself_lies_in_its_own_remote(github):
    github.answers |= {
        MAINS: {"workflow_runs": [of_main(2)]},
        "runs/": {"jobs": PASSED},
    }
    github.downloads.add((2, "results"))
    assert github.taken() == 2
    assert Path("output").read_text() == "run=2\n"
    assert github.calls == ["python -m churn lock take build/recorded/dvc.lock"]


@pytest.mark.parametrize("answer", [{"message": "Server Error"}, None, [{}]])
def test_a_github_that_answers_nonsense_costs_a_training_and_no_more(github, capsys, answer):
    github.answers["/pulls"] = answer
    assert github.taken() is None
    assert capsys.readouterr().out.startswith("::warning::GitHub could not be asked")


def test_a_github_cli_that_fails_costs_a_training_and_no_more(github, monkeypatch, capsys, tmp_path):
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shell, "call", lambda *command: github.calls.append(command) or 0)
    monkeypatch.setenv("ALWAYS_RETRAIN", "")
    monkeypatch.setenv("DEFAULT_BRANCH", "main")
    monkeypatch.setenv("GITHUB_REF", "refs/heads/main")
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("GITHUB_REPOSITORY", "example/churn")
    monkeypatch.setenv("GITHUB_SHA", "5" * 40)
    monkeypatch.setenv("DVC_REMOTE_URL", "s3://x")
    recorded.main(["take"])
    assert capsys.readouterr().out.startswith("::warning::GitHub could not be asked")
    assert github.calls == [("python", "-m", "churn", "lock", "drop")]


@pytest.fixture
def without_remote(github, monkeypatch):
    """Main's newest runs, of which the second still has its artifact."""
    github.answers[MAINS] = {"workflow_runs": [of_main(6, FORK), of_main(5), of_main(4)]}
    github.answers["runs/"] = {"jobs": PASSED}
    github.downloads |= {(6, "dvc-remote"), (4, "dvc-remote")}
    monkeypatch.setenv("GITHUB_REF", "refs/pull/7/merge")
    monkeypatch.setenv("GITHUB_REF_NAME", "7/merge")
    monkeypatch.setenv("GITHUB_HEAD_REF", "feature")
    monkeypatch.setattr(recorded, "has_snapshot", lambda _: True)
    return github


def cached():
    recorded.main(["cache", "1a2b"])
    return {path.name for path in recorded.CACHE.glob("*/*")}


def test_without_a_remote_a_branch_has_what_the_newest_run_of_main_left(without_remote):
    assert cached() == {"files-of-4", "runs-of-4"}


def test_older_runs_of_main_are_asked_until_the_bases_snapshot_is_there(without_remote, monkeypatch):
    without_remote.answers[MAINS]["workflow_runs"] += [of_main(3), of_main(2)]
    without_remote.downloads |= {(3, "dvc-remote"), (2, "dvc-remote")}
    monkeypatch.setattr(recorded, "has_snapshot", lambda _: (recorded.CACHE / "files" / "files-of-3").exists())
    assert cached() == {"files-of-4", "runs-of-4", "files-of-3", "runs-of-3"}


def test_a_commits_snapshot_is_what_its_lock_names(finished, monkeypatch, tmp_path):
    snapshot = YAML(typ="safe").load(finished.folder / "dvc.lock")["stages"]["fetch"]["outs"][0]
    said = [(finished.folder / "dvc.lock").read_text(encoding="utf-8").strip()]
    monkeypatch.setattr(shell, "run", lambda *_, **__: said[0])
    monkeypatch.chdir(tmp_path)
    assert not recorded.has_snapshot("HEAD")
    there = recorded.CACHE / "files" / "md5" / snapshot["md5"][:2] / snapshot["md5"][2:]
    there.parent.mkdir(parents=True)
    there.touch()
    assert recorded.has_snapshot("HEAD")
    said[0] = ""
    assert recorded.has_snapshot("a commit without a lock")


def test_main_gets_the_files_and_no_run_cache(without_remote, monkeypatch):
    monkeypatch.setenv("GITHUB_REF", "refs/heads/main")
    monkeypatch.setenv("GITHUB_REF_NAME", "main")
    monkeypatch.setenv("GITHUB_HEAD_REF", "")
    assert cached() == {"files-of-4"}


@pytest.mark.parametrize(
    ("ref", "name", "head"),
    [
        ("refs/heads/retrain/5e6f7a8b", "retrain/5e6f7a8b", ""),
        ("refs/pull/7/merge", "7/merge", "retrain/5e6f7a8b"),
    ],
)
def test_the_checks_of_a_retraining_also_have_what_the_newest_one_on_that_snapshot_made(
    without_remote, monkeypatch, ref, name, head
):
    without_remote.answers[RETRAININGS] = {"workflow_runs": [of_main(13, event="schedule"), of_main(12), of_main(11)]}
    without_remote.downloads |= {(13, "dvc-remote-1a2b3c4d"), (12, "dvc-remote-5e6f7a8b"), (11, "dvc-remote-5e6f7a8b")}
    monkeypatch.setenv("GITHUB_REF", ref)
    monkeypatch.setenv("GITHUB_REF_NAME", name)
    monkeypatch.setenv("GITHUB_HEAD_REF", head)
    assert cached() == {"files-of-4", "runs-of-4", "files-of-12", "runs-of-12"}


@pytest.mark.parametrize("stranger", [FORK, None])
def test_what_a_fork_calls_a_retraining_is_not_believed(without_remote, monkeypatch, stranger):
    without_remote.answers[RETRAININGS] = {"workflow_runs": [of_main(11, stranger)]}
    without_remote.downloads.add((11, "dvc-remote-5e6f7a8b"))
    monkeypatch.setenv("GITHUB_HEAD_REF", "retrain/5e6f7a8b")
    assert cached() == {"files-of-4", "runs-of-4"}


def test_where_github_cannot_be_asked_the_cache_stays_empty(without_remote, capsys):
    without_remote.answers[MAINS] = {"message": "Server Error"}
    assert cached() == set()
    assert capsys.readouterr().out.startswith("::warning::GitHub could not be asked")


@pytest.fixture
def judged(tmp_path, monkeypatch):
    """Return a function that writes what main found and what the run recorded, and checks it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUN", "1")

    def check(made, other):
        for folder, (model, evaluation) in ((tmp_path, made), (tmp_path / recorded.RECORDED, other)):
            (folder / "metrics").mkdir(parents=True, exist_ok=True)
            (folder / recorded.GATE).write_text(json.dumps({"model_sha256": model, "verdict": "passed"}))
            (folder / recorded.EVALUATION).write_text(json.dumps(evaluation))
        return recorded.fits()

    return check


def test_the_same_model_with_the_same_evaluation_is_what_was_recorded(judged, capsys):
    assert judged(("a", {"roc_auc": 0.85}), ("a", {"roc_auc": 0.85}))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("made", "other", "what"),
    [
        (("a", {"roc_auc": 0.85}), ("b", {"roc_auc": 0.85}), "the model"),
        ((None, {"roc_auc": 0.85}), (None, {"roc_auc": 0.85}), "the model"),
        (("a", {"roc_auc": 0.85}), ("a", {"roc_auc": 0.86}), "the evaluation"),
    ],
)
def test_another_model_or_evaluation_than_was_recorded_is_told_and_refused(judged, capsys, made, other, what):
    assert not judged(made, other)
    assert (
        capsys.readouterr().out
        == f"\n::warning::What run 1 recorded is not what main finds: {what}. All is made anew.\n"
    )


def test_a_record_without_an_evaluation_is_refused(judged, monkeypatch):
    judged(("a", {}), ("a", {}))
    (recorded.RECORDED / recorded.EVALUATION).unlink()
    assert not recorded.fits()
