"""What ci/ does where a run has rights: record, register, land, fetch anew. Git is real; DVC and GitHub are not."""

import hashlib
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ci import base, fault, judge, land, record, refetch, register, shell, silence

import pytest


def git(*arguments):
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def commit(message):
    git(
        "-c",
        "user.name=test",
        "-c",
        "user.email=t@example.invalid",
        "commit",
        "--quiet",
        "--allow-empty",
        "-m",
        message,
    )
    return git("rev-parse", "HEAD")


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    """Return a function that returns what the step has set."""
    file = tmp_path / "output"
    file.touch()
    monkeypatch.setenv("GITHUB_OUTPUT", str(file))
    return lambda: dict(line.split("=", 1) for line in file.read_text().splitlines())


@pytest.fixture
def commands(monkeypatch):
    """Write down what is called besides git, which is real; `answers` has exit statuses, and what is printed."""

    class Commands(list):
        def __init__(self):
            super().__init__()
            self.answers = {}

        def answer(self, *command, **more):
            self.append(" ".join(command))
            return next((answer for part, answer in self.answers.items() if part in self[-1]), 0)

    found, call, run = Commands(), shell.call, shell.run
    monkeypatch.setattr(
        shell, "call", lambda *given, **more: (call if given[0] == "git" else found.answer)(*given, **more)
    )
    monkeypatch.setattr(
        shell, "run", lambda *given, **more: (run if given[0] == "git" else found.answer)(*given, **more)
    )
    return found


@pytest.fixture
def checkout(tmp_path, monkeypatch, commands):
    """main as the run checked it out, with other results beside it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in {
        "REF": "refs/heads/main",
        "REF_NAME": "main",
        "REPOSITORY": "example/churn",
        "RUN_ID": "12",
    }.items():
        monkeypatch.setenv(f"GITHUB_{name}", value)
    monkeypatch.setenv("DEFAULT_BRANCH", "main")
    git("init", "--quiet", "--bare", "--initial-branch=main", str(tmp_path / "origin"))
    git("clone", "--quiet", str(tmp_path / "origin"), str(tmp_path / "clone"))
    monkeypatch.chdir(tmp_path / "clone")
    for name in ("dvc.lock", "metrics/gate.json", "plots/roc.csv"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("old\n")
    git("add", ".")
    monkeypatch.setenv("GITHUB_SHA", commit("Start"))
    git("push", "--quiet", "origin", "HEAD:main")
    Path("metrics/gate.json").write_text("new\n")
    commands.answers["churn lock compare"] = 1
    return tmp_path / "clone"


def on_main():
    git("fetch", "--quiet", "origin", "main")
    return git("log", "-1", "--format=%an|%s", "FETCH_HEAD")


def refuse_pushes(checkout):
    hook = checkout.parent / "origin" / "hooks" / "update"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)


def test_other_results_are_recorded_on_main_by_a_commit_that_starts_nothing(checkout, outputs):
    record.main()
    assert outputs() == {"recorded": "true"}
    assert on_main() == "github-actions[bot]|Record what the pipeline made [skip ci]"


def test_the_same_results_need_no_commit_and_no_lock_of_a_laptop(checkout, commands, outputs, capsys):
    Path("metrics/gate.json").write_text("old\n")
    Path("dvc.lock").write_text("also what a laptop registered\n")
    commands.answers["churn lock compare"] = 0
    record.main()
    assert outputs() == {"recorded": "true"}
    assert on_main() == "test|Start"
    assert "these very results" in capsys.readouterr().out


def test_what_an_earlier_attempt_recorded_is_not_recorded_twice(checkout, outputs):
    record.main()
    recorded = git("rev-parse", "HEAD")
    git("reset", "--quiet", "HEAD^")
    record.main()
    assert git("rev-parse", "HEAD", "FETCH_HEAD").split() == [recorded, recorded]
    assert outputs() == {"recorded": "true"}


RUNS_ON_MAIN = "repos/example/churn/actions/workflows/pipeline.yml/runs?per_page=100&branch=main"


@pytest.fixture(params=["before the push", "at the same time"])
def newer(request, checkout, commands):
    """A newer commit on main; at GitHub are this run, one before it, and a newer one of a fork's main."""
    identity = ("-c", "user.name=test", "-c", "user.email=t@example.invalid")
    other_files = git("hash-object", "-w", "-t", "tree", "/dev/null")
    made = git(*identity, "commit-tree", "-p", "HEAD", "-m", "Another", other_files)
    push = ["git", "push", "--quiet", "--no-verify", "origin", f"{made}:refs/heads/main"]
    if request.param == "before the push":
        git(*push[1:])
    else:
        hook = checkout / ".git" / "hooks" / "pre-push"
        hook.write_text(f"#!/bin/sh\n{' '.join(push)}\n")
        hook.chmod(0o755)
    runs = [{"id": 13, "event": "pull_request"}, {"id": 12, "event": "push"}, {"id": 11, "event": "push"}]
    commands.answers[RUNS_ON_MAIN] = json.dumps({"workflow_runs": runs})


@pytest.mark.usefixtures("newer")
@pytest.mark.parametrize("event", ["push", "workflow_dispatch"])
def test_where_main_has_moved_on_its_newer_run_records(commands, outputs, capsys, event):
    commands.answers[RUNS_ON_MAIN] = json.dumps({"workflow_runs": [{"id": 14, "event": event}]})
    record.main()
    assert outputs() == {}
    assert on_main() == "test|Another"
    assert "::notice::main has moved on: the newer run 14 records and registers" in capsys.readouterr().out
    assert not [command for command in commands if "workflow run" in command]


@pytest.mark.usefixtures("newer")
def test_where_the_newer_commit_started_no_run_the_pipeline_is_dispatched_on_main(commands, outputs, capsys):
    """Fault in CI and the judge: a newer commit on main has `[skip ci]`, or a workflow's token pushed it.

    The run of the commit before dispatches the pipeline on main, whose run records and registers.
    """
    record.main()
    assert outputs() == {}
    assert on_main() == "test|Another"
    assert commands[-1] == "gh workflow run pipeline.yml --repo example/churn --ref main"
    assert "the pipeline was dispatched on main" in capsys.readouterr().out


@pytest.mark.usefixtures("newer")
@pytest.mark.parametrize("newer", ["before the push"], indirect=True)
@pytest.mark.parametrize("event", ["push", "workflow_dispatch"])
def test_an_older_run_that_runs_again_registers_nothing_after_a_newer_one_has_passed(commands, outputs, capsys, event):
    """Fault in CI and the judge: somebody re-runs an old run of main, after a newer one has registered.

    The old run registers nothing, so champion does not return to its model: `main has moved on: the newer run 14
    records and registers.`
    """
    Path("metrics/gate.json").write_text("old\n")
    runs = [{"id": 14, "event": event, "conclusion": "success"}, {"id": 12, "event": "push", "conclusion": "success"}]
    commands.answers[RUNS_ON_MAIN] = json.dumps({"workflow_runs": runs})
    record.main()
    assert outputs() == {}
    assert "::notice::main has moved on: the newer run 14 records and registers" in capsys.readouterr().out


@pytest.mark.usefixtures("newer")
@pytest.mark.parametrize("newer", ["before the push"], indirect=True)
@pytest.mark.parametrize("conclusion", [None, "failure", "cancelled"])
@pytest.mark.parametrize("register", ["success", "failure", "skipped", None])
def test_a_run_registers_unless_a_newer_one_has_also_where_that_failed_afterwards(
    commands, outputs, conclusion, register
):
    """Fault in CI and the judge: a newer run of main registers and then fails, and somebody re-runs an older one.

    The old run registers nothing: the newer run's step `Register` succeeded.
    """
    Path("metrics/gate.json").write_text("old\n")
    runs = [{"id": 14, "event": "push", "conclusion": conclusion}]
    runs += [{"id": 13, "event": "pull_request", "conclusion": "success"}]
    commands.answers[RUNS_ON_MAIN] = json.dumps({"workflow_runs": runs})
    jobs = [{"name": "checks", "steps": []}]
    jobs += [{"name": "register / register", "steps": [{"name": "Register", "conclusion": register}]}]
    commands.answers["repos/example/churn/actions/runs/14/jobs?filter=all"] = json.dumps({"jobs": jobs})
    record.main()
    assert outputs() == ({} if register == "success" else {"recorded": "true"})


def test_where_main_takes_no_push_the_results_stay_in_the_checkout_to_be_proposed(checkout, outputs, capsys):
    refuse_pushes(checkout)
    record.main()
    assert outputs() == {"refused": "true"}
    assert git("log", "-1", "--format=%s") == "Start"
    assert git("status", "--porcelain") == "M metrics/gate.json"
    assert "::notice::main takes no push" in capsys.readouterr().out


@pytest.fixture
def on_trunk(tmp_path, monkeypatch):
    """A repository whose default branch is trunk."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITHUB_REF_NAME", "trunk")
    git("init", "--quiet")


@pytest.mark.usefixtures("on_trunk")
def test_register_learns_which_branch_promotes(commands, outputs):
    assert register.main() == 0
    assert git("symbolic-ref", "refs/remotes/origin/HEAD") == "refs/remotes/origin/trunk"


@pytest.mark.usefixtures("on_trunk")
def test_a_registration_that_fails_says_why(commands, outputs):
    commands.answers["dvc repro"] = 1
    unwritten = {"fault": "register: `dvc repro` failed before or after the stage; its log says why."}
    assert register.main() == 1
    assert outputs() == unwritten
    register.LOG.parent.mkdir()
    register.LOG.write_text('{"fault": null}\n')
    assert register.main() == 1
    assert outputs() == unwritten
    register.LOG.write_text('{"fault": "of fetch"}\n{"fault": "the registry is down.\\nfault=forged"}\n')
    assert register.main() == 1
    assert outputs() == {"fault": "register: the registry is down."}
    assert commands[-2:] == ["dvc pull prepare train evaluate", "dvc repro --force --single-item register"]
    commands.answers |= {"dvc repro": 0, "dvc pull": 0}
    assert register.main() == 0


@pytest.mark.usefixtures("on_trunk")
@pytest.mark.parametrize(
    ("run", "asked"),
    [("12", "true"), ("11", "true"), ("12", ""), (None, "true")],
    ids=["by this run", "by a run before", "nobody asks", "no move yet"],
)
def test_a_champion_that_this_run_has_made_is_told_where_a_variable_asks(monkeypatch, commands, outputs, run, asked):
    for name, value in {"SERVER_URL": "https://github.com", "REPOSITORY": "example/churn", "RUN_ID": "12"}.items():
        monkeypatch.setenv(f"GITHUB_{name}", value)
    monkeypatch.setenv("ALERT_CHAMPION", asked)
    moves = [{"who": f"alice, https://github.com/example/churn/actions/runs/{run}"}] if run else []
    registry = {"model": "churn", "champion": "7", "moves": moves}
    commands.answers["churn registry show"] = json.dumps(registry)
    assert register.main() == 0
    assert outputs() == ({"champion": "Version 7 of churn"} if (run, asked) == ("12", "true") else {})


@pytest.mark.usefixtures("on_trunk")
def test_without_the_model_nothing_is_registered(commands, outputs):
    commands.answers["dvc pull"] = 255
    assert register.main() == 255
    assert commands == ["dvc pull prepare train evaluate"]
    assert outputs()["fault"].startswith("register: `dvc pull` failed, ")


def test_a_command_that_fails_is_one_sentence_also_to_the_alert(outputs, capsys, monkeypatch):
    """Fault in CI and the judge: GitHub refuses what a job with rights asks for, such as a merge.

    The job fails, and the message to Slack has the reason: `land: gh pr failed (HTTP 403).`
    """

    def main():
        shell.run("sh", "-c", "echo 'gh: Resource not accessible by integration (HTTP 403)' >&2; exit 1")

    monkeypatch.setattr(sys, "argv", ["/checkout/ci/land.py"])
    with pytest.raises(SystemExit) as ended:
        land.github.run_program(main)
    assert ended.value.code == 1
    assert outputs() == {"fault": "land: `sh -c` failed (HTTP 403)."}
    printed = capsys.readouterr()
    assert printed.out == "::error::land: `sh -c` failed (HTTP 403).\n"
    assert printed.err == "gh: Resource not accessible by integration (HTTP 403)\n"
    with pytest.raises(SystemExit) as ended:
        land.github.run_program(lambda: 3)
    assert ended.value.code == 3


@pytest.fixture
def pull_request(monkeypatch, commands):
    for name in ("GITHUB_REPOSITORY", "GITHUB_SHA", "DEFAULT_BRANCH", "PULL_REQUEST"):
        monkeypatch.setenv(name, {"PULL_REQUEST": "7"}.get(name, name))

    def answer(decision="", state="OPEN", auto=None, after="MERGED"):
        asked = {"autoMergeRequest": auto, "reviewDecision": decision, "state": state}
        commands.answers["--json autoMergeRequest,reviewDecision,state"] = json.dumps(asked)
        commands.answers["--json state"] = json.dumps({"state": after})

    answer()
    commands.answer_view = answer
    return commands


MERGE = "gh pr merge 7 --repo GITHUB_REPOSITORY --squash --match-head-commit GITHUB_SHA --delete-branch"
VIEW = "gh pr view 7 --repo GITHUB_REPOSITORY --json state"
DISPATCH = "gh workflow run pipeline.yml --repo GITHUB_REPOSITORY --ref DEFAULT_BRANCH"


@pytest.fixture
def refused(pull_request, monkeypatch):
    """Let the GitHub CLI refuse to merge, as it does with a merge queue, where it may not delete the branch."""
    real = shell.run

    def run(*command, **more):
        printed = real(*command, **more)
        if command[:3] == ("gh", "pr", "merge"):
            raise shell.FailedError("`gh pr` failed (exit status 1)")
        return printed

    monkeypatch.setattr(shell, "run", run)


@pytest.mark.parametrize("decision", ["", "APPROVED"])
def test_a_pull_request_that_waits_for_nobody_is_merged_at_the_commit_that_was_checked(pull_request, decision):
    pull_request.answer_view(decision)
    land.main()
    assert pull_request[1:] == [MERGE, VIEW, DISPATCH]


@pytest.mark.usefixtures("refused")
def test_in_a_merge_queue_without_an_app_the_job_that_merges_fails_and_names_the_way_out(pull_request):
    """Fault in CI and the judge: main has a merge queue, and there is no app.

    The run's token starts no checks in a queue. So the job `land` queues nothing and fails: `pull request 7 is not
    merged: merge it by hand, or set up an app where main has a merge queue …`
    """
    pull_request.answer_view(after="OPEN")
    with pytest.raises(shell.FailedError) as failed:
        land.main()
    assert str(failed.value) == (
        "`gh pr` failed (exit status 1), so pull request 7 is not merged: merge it by hand, or set up an app where main"
        " has a merge queue (docs/ci.md)"
    )
    assert pull_request[1:] == [MERGE, VIEW]


def test_a_merge_that_github_only_queues_is_a_failure_too(pull_request):
    pull_request.answer_view(after="OPEN")
    with pytest.raises(shell.FailedError, match="GitHub only queued the merge, so pull request 7 is not merged: "):
        land.main()
    assert pull_request[1:] == [MERGE, VIEW]


@pytest.mark.usefixtures("refused")
def test_where_somebody_has_let_github_merge_it_the_job_that_merges_passes(pull_request, capsys):
    pull_request.answer_view(auto={"mergeMethod": "SQUASH"}, after="OPEN")
    land.main()
    assert pull_request[1:] == [MERGE, VIEW]
    assert "::notice::Pull request 7 has passed its checks, and GitHub merges it" in capsys.readouterr().out


@pytest.mark.usefixtures("refused")
def test_a_merge_whose_branch_could_not_be_deleted_starts_the_pipeline_on_main(pull_request):
    land.main()
    assert pull_request[1:] == [MERGE, VIEW, DISPATCH]


@pytest.mark.parametrize("decision", ["REVIEW_REQUIRED", "CHANGES_REQUESTED"])
def test_a_pull_request_that_waits_for_a_review_is_left_open(pull_request, decision, capsys):
    pull_request.answer_view(decision)
    land.main()
    assert len(pull_request) == 1
    assert "::notice::Pull request 7 has passed its checks and waits for a review." in capsys.readouterr().out


def test_a_pull_request_that_a_newer_one_closed_while_it_was_checked_is_no_failure(pull_request, capsys):
    """Fault in CI and the judge: a newer retraining closes a pull request while its checks run.

    Its job `land` passes, and merges nothing.
    """
    pull_request.answer_view(state="CLOSED")
    land.main()
    assert len(pull_request) == 1
    assert "::notice::Pull request 7 has passed its checks and was closed meanwhile." in capsys.readouterr().out


def test_a_new_snapshot_has_a_name_and_one_that_main_was_trained_on_has_none(checkout, commands, outputs, capsys):
    snapshot = Path(refetch.SNAPSHOT)
    snapshot.parent.mkdir(parents=True)
    snapshot.write_bytes(b"customers")
    digest = hashlib.md5(b"customers").hexdigest()
    assert refetch.main() == 0
    assert outputs() == {"snapshot": digest[:8]}
    assert commands == [
        "python -m churn lock take dvc.lock",
        "dvc repro --pull --no-run-cache --force --single-item fetch",
    ]
    Path("dvc.lock").write_text(f"md5: {digest}\n")
    git("add", ".")
    commit("Trained on it")
    Path(outputs_file := checkout.parent / "output").write_text("")
    assert refetch.main() == 0
    assert outputs_file.read_text() == ""
    assert "\n::notice::No new data" in capsys.readouterr().out


def test_a_source_that_fails_gives_no_snapshot(checkout, commands, outputs):
    commands.answers["dvc repro"] = 1
    assert refetch.main() == 1
    assert outputs() == {}


@pytest.mark.parametrize(("script", "status", "told"), [("print(1); print(2)", 0, {}), ("1/0", 1, "ZeroDivisionError")])
def test_the_last_line_of_a_command_that_fails_is_told(outputs, capsys, script, status, told):
    assert fault.main([sys.executable, "-c", script]) == status
    assert outputs() == (told and {"fault": "ZeroDivisionError: division by zero"})
    assert capsys.readouterr().out.endswith("2\n" if not status else "division by zero\n")


@pytest.fixture
def workflows(tmp_path, monkeypatch):
    (tmp_path / ".github" / "workflows").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BRANCH", "main")
    write_triggers("    branches: [main, master] # why\n")


def write_triggers(branches):
    for name, triggers in (("pipeline.yml", ("push", "pull_request")), ("suite.yml", ("push",))):
        lines = [f"  {trigger}:\n{branches}" for trigger in triggers]
        Path(".github/workflows", name).write_text("on:\n" + "".join(lines) + "  schedule:\n")


@pytest.fixture
def asked(monkeypatch):
    """Let GitHub say when retraining last ran, which is today, and which pull requests are open."""
    monkeypatch.setenv("GITHUB_REPOSITORY", "example/churn")
    known = {"runs": [{"created_at": ago(days=0)}], "created_at": ago(days=0), "pulls": []}

    def api(path):
        if path.startswith("pulls?state=open"):
            return known["pulls"]
        return {"workflow_runs": known["runs"]} if "/runs?event=schedule" in path else known

    monkeypatch.setattr(silence.github, "api", api)
    return known


def ago(**time):
    return (datetime.now(UTC) - timedelta(**time)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize("new", [False, True], ids=["", "in the workflow's first days"])
@pytest.mark.parametrize(
    ("hours", "quiet"), [(27, False), (7 * 24 + 11, False), (7 * 24 + 27, True)], ids=["Sunday", "late", "none"]
)
@pytest.mark.usefixtures("workflows")
def test_a_sunday_without_a_retraining_by_schedule_is_a_fault_on_monday(asked, outputs, new, hours, quiet):
    """Fault in CI and the judge: GitHub drops the retraining of a Sunday.

    The audit of the Monday after it fails: `No scheduled retraining has succeeded since …`
    """
    asked |= {"created_at": ago(hours=hours), "runs": [] if new else [{"created_at": ago(hours=hours)}]}
    assert silence.main() == quiet
    assert bool(outputs()) == quiet


def proposed(branch="retrain/1a2b3c4d", days=8, repository="example/churn"):
    head = {"ref": branch, "repo": repository and {"full_name": repository}}
    return {"number": 9, "head": head, "created_at": ago(days=days)}


@pytest.mark.usefixtures("workflows")
@pytest.mark.parametrize("branch", ["retrain/1a2b3c4d", "record/1a2b3c4d"])
def test_a_pull_request_of_ci_that_nobody_has_merged_in_a_week_is_a_fault(asked, outputs, branch):
    """Fault in CI and the judge: a pull request with results stays open, for example because a review is missing.

    After a week the audit fails: `Pull request 9 from retrain/1a2b3c4d is open since …: merge or close it.`
    """
    asked["pulls"] = [proposed(branch)]
    assert silence.main() == 1
    assert outputs()["fault"].startswith(f"Pull request 9 from {branch} is open since ")


@pytest.mark.usefixtures("workflows", "outputs")
@pytest.mark.parametrize(
    "pull", [{"days": 6}, {"branch": "feature"}, {"repository": "stranger/churn"}, {"repository": None}], ids=str
)
def test_a_new_one_and_those_of_people_and_of_forks_are_no_fault(asked, pull):
    asked["pulls"] = [proposed(**pull)]
    assert silence.main() == 0


@pytest.mark.parametrize(
    "branches",
    ["[main,release]", '["release"]', "['main', 'release'] # why", "\n      - main # why\n      - release", "['rel*']"],
)
@pytest.mark.parametrize(("branch", "known"), [("release", True), ("why", False), ("main-2", False)])
@pytest.mark.usefixtures("workflows", "outputs", "asked")
def test_a_list_of_branches_may_be_written_as_yaml_allows(monkeypatch, branches, branch, known):
    monkeypatch.setenv("BRANCH", branch)
    write_triggers(f"    branches: {branches}\n")
    assert silence.main() == (not known)


@pytest.mark.usefixtures("workflows", "outputs", "asked")
def test_a_trigger_without_a_list_of_branches_fits_the_default_branch_and_a_missing_trigger_does_not():
    pipeline = Path(".github/workflows/pipeline.yml")
    text = pipeline.read_text()
    pipeline.write_text(text.replace("  pull_request:\n    branches: [main, master] # why\n", "  pull_request:\n"))
    assert silence.main() == 0
    pipeline.write_text(text.replace("  pull_request:\n    branches: [main, master] # why\n", ""))
    assert silence.main() == 1


def test_a_default_branch_without_the_pipeline_is_told_before_a_retraining_that_went_quiet(
    workflows, asked, monkeypatch, outputs, capsys
):
    monkeypatch.setenv("BRANCH", "trunk")
    asked["runs"] = [{"created_at": "2026-01-01T00:00:00Z"}]
    assert silence.main() == 1
    assert outputs()["fault"].startswith("pipeline.yml or suite.yml ignores the default branch trunk: ")
    assert capsys.readouterr().out.count("::error::") == 2


@pytest.mark.usefixtures("workflows")
def test_a_default_branch_without_the_pipeline_is_told_also_where_github_does_not_answer(monkeypatch, outputs, capsys):
    def api(_):
        raise shell.FailedError("`gh api` failed (HTTP 502)")

    monkeypatch.setenv("BRANCH", "trunk")
    monkeypatch.setattr(silence.github, "api", api)
    assert silence.main() == 1
    said = [
        "::error::GitHub does not say when retrain.yml last ran by itself: `gh api` failed (HTTP 502).",
        "::error::GitHub does not list the open pull requests: `gh api` failed (HTTP 502).",
    ]
    assert capsys.readouterr().out.splitlines()[1:] == said
    assert outputs()["fault"].startswith("pipeline.yml or suite.yml ignores the default branch trunk: ")


@pytest.fixture
def history(checkout, monkeypatch, tmp_path):
    """Three commits on main, of which the last two have ci/."""
    monkeypatch.setenv("RUNNER_TEMP", str(tmp_path))
    commits = [git("rev-parse", "HEAD")]
    for name in ("ci/judge.py", "report/judge.py"):
        Path(name).parent.mkdir()
        Path(name).write_text(f"{name}\n")
        git("add", name)
        commits.append(commit(name))
    return commits


def based_on(monkeypatch, outputs, before):
    monkeypatch.setenv("BEFORE", before)
    base.main()
    return outputs()


def test_on_main_the_base_is_the_commit_before_the_push(history, monkeypatch, outputs, tmp_path):
    found = based_on(monkeypatch, outputs, history[1])
    assert found == {"name": history[1], "commit": history[1], "judge": "own", "code": history[1], "first": "true"}
    assert (tmp_path / "base.zip").exists()


@pytest.mark.parametrize("before", ["", "0" * 40], ids=["dispatched", "main was rewritten"])
def test_where_main_has_no_commit_before_the_push_the_base_is_its_parent(history, monkeypatch, outputs, before):
    found = based_on(monkeypatch, outputs, before)
    assert found["name"] == found["commit"] == history[1]


def test_a_base_without_ci_is_judged_by_the_programs_of_the_run_which_get_no_token(history, monkeypatch, outputs):
    monkeypatch.setenv("GITHUB_SHA", history[2])
    found = based_on(monkeypatch, outputs, history[0])
    assert (found["commit"], found["code"]) == (history[0], history[2]), "only where they are one a step has a token"


def test_the_change_that_brings_the_program_that_comments_is_known(history, monkeypatch, outputs):
    assert based_on(monkeypatch, outputs, history[1])["first"] == "true"
    Path("ci/comment.py").write_text("")
    git("add", "ci")
    git("update-ref", "refs/remotes/origin/main", commit("Comment"))
    Path(os.environ["GITHUB_OUTPUT"]).write_text("")
    assert "first" not in based_on(monkeypatch, outputs, history[1])


def test_a_branch_is_compared_with_the_commit_that_it_started_from(history, monkeypatch, outputs):
    git("update-ref", "refs/remotes/origin/main", history[2])
    git("checkout", "--quiet", "-B", "feature", history[1])
    commit("Change")
    monkeypatch.setenv("GITHUB_REF", "refs/pull/7/merge")
    found = based_on(monkeypatch, outputs, "")
    assert found == {"name": "origin/main", "commit": history[1], "judge": "own", "code": history[1], "first": "true"}


@pytest.mark.parametrize("status", [0, 1])
def test_a_report_is_shown_in_the_summary_without_its_picture_also_when_it_blocks(
    tmp_path, monkeypatch, commands, outputs, status
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    monkeypatch.delenv("PULL_REQUEST", raising=False)
    commands.answers["-m report"] = status
    assert judge.main(["--base", "main"]) == (status or 1), "without a report"
    judge.REPORT.parent.mkdir(parents=True)
    judge.REPORT.write_text("## Verdict\n\n![main and this branch](comparison.png)\n")
    assert judge.main(["--base", "main"]) == status
    assert (tmp_path / "summary").read_text() == "## Verdict\n\n_The picture is in the artifact `results`._\n"
    assert outputs() == {"written": "true"}
    assert not judge.REPORT.with_name("pull_request.txt").exists()
    assert commands == ["python -m report --base main"] * 2


def test_an_output_keeps_to_its_line(outputs):
    shell_output = "one\ncode=forged"
    base.github.output(name=shell_output)
    assert outputs() == {"name": "one code=forged"}
