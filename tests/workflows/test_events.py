"""Which jobs run on which event: the workflows under act, each job with its conditions, but without its work."""

import json
import os
import subprocess

from tests.conftest import ROOT

import pytest
from ruamel.yaml import YAML

OURS, FORK = {"full_name": "example/churn"}, {"full_name": "stranger/churn"}
MAIN, BRANCH = "refs/heads/main", "refs/heads/feature"
RETRAINED, RECORDED = "refs/heads/retrain/1a2b3c4d", "refs/heads/record/1a2b3c4d"


def pull_request(repository, branch="feature"):
    return {"pull_request": {"number": 7, "head": {"repo": repository, "ref": branch}, "base": {"ref": "main"}}}


def after(event, repository, conclusion="success"):
    run = {"event": event, "head_repository": repository, "head_branch": "feature", "conclusion": conclusion}
    return {"workflow_run": run}


@pytest.fixture
def jobs_on(tmp_path):
    """Return a function that returns the jobs that an event runs, in order; a job whose name is given fails."""
    home, repository = tmp_path / "home", tmp_path / "repository"
    home.mkdir()
    repository.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "ACT_DISABLE_VERSION_CHECK": "1"}

    def run(*command, check=True):
        return subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=check)

    def jobs(workflow, event, payload, failing=(), *, default="main", first=False):
        value = YAML(typ="safe").load(ROOT / ".github" / "workflows" / f"{workflow}.yml")
        value["concurrency"].pop("queue", None)  # act 0.2.89 does not know it
        if list(value["on"]) == ["workflow_call"]:
            value["on"] = event  # its caller's, as at GitHub
        for name, job in value["jobs"].items():
            work = {"id": "report", "run": f"echo {name} >> {tmp_path}/ran"}
            job["steps"] = [work, {"run": "false" if name in failing else "true"}]
            job["runs-on"] = "ubuntu-latest"  # also where it calls a workflow
            for key in ("env", "secrets", "uses", "with"):
                job.pop(key, None)
            if "outputs" in job:
                job["outputs"] = dict.fromkeys(job["outputs"], "${{ steps.report.outcome == 'success' }}")
                if not first:
                    job["outputs"].pop("first", None)
        YAML().dump(value, repository / "workflow.yml")
        repository_of = {} if event == "schedule" else {"repository": {"default_branch": default}}  # as at GitHub
        (tmp_path / "event.json").write_text(json.dumps(payload | repository_of))
        (tmp_path / "ran").unlink(missing_ok=True)
        done = run(
            *("act", event, "--workflows", "workflow.yml", "--eventpath", str(tmp_path / "event.json")),
            *("--platform=ubuntu-latest=-self-hosted", "--action-offline-mode", "--pull=false", "--concurrent-jobs=1"),
            check=False,
        )
        assert bool(done.returncode) == bool(failing), done.stdout + done.stderr
        return (tmp_path / "ran").read_text().split() if (tmp_path / "ran").exists() else []

    run("git", "init", "--quiet", "--initial-branch=main")
    run("git", "remote", "add", "origin", "https://github.com/example/churn")
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.invalid")
    run("git", *identity, "commit", "--quiet", "--allow-empty", "--message=Start")
    return jobs


PIPELINE = {
    "a push to main": ("push", {"ref": MAIN}, (), {"register"}),
    "a pull request": ("pull_request", pull_request(OURS), (), {"report"}),
    "a pull request from a fork": ("pull_request", pull_request(FORK), (), set()),
    "a pull request from a fork that is gone": ("pull_request", pull_request(None), (), set()),
    "a group of a merge queue that the gate blocks": (
        "merge_group",
        {},
        ("pipeline",),
        {"alert"},
    ),  # act says it is main
    "a dispatch on a branch": ("workflow_dispatch", {"ref": BRANCH}, (), set()),
    "a dispatch for a pull request": (
        "workflow_dispatch",
        {"ref": BRANCH, "inputs": {"pull_request": "7"}},
        (),
        {"report"},
    ),
    "a dispatch for a retraining": (
        "workflow_dispatch",
        {"ref": RETRAINED, "inputs": {"pull_request": "7"}},
        (),
        {"report", "land"},
    ),
    "a dispatch for results": (
        "workflow_dispatch",
        {"ref": RECORDED, "inputs": {"pull_request": "7"}},
        (),
        {"report", "land"},
    ),
    "a dispatch for a retraining by hand": ("workflow_dispatch", {"ref": RETRAINED}, (), set()),
    "a dispatch on main": ("workflow_dispatch", {"ref": MAIN}, (), {"register"}),
    "a push to main that the gate blocks": ("push", {"ref": MAIN}, ("pipeline",), {"alert"}),
    "a push to main whose checks fail": ("push", {"ref": MAIN}, ("checks",), {"alert"}),
    "a push to main that is not registered": ("push", {"ref": MAIN}, ("register",), {"register", "alert"}),
    "a pull request that the gate blocks": ("pull_request", pull_request(OURS), ("pipeline",), {"report", "alert"}),
    "a retraining that the gate blocks": (
        "workflow_dispatch",
        {"ref": RETRAINED, "inputs": {"pull_request": "7"}},
        ("pipeline",),
        {"report", "alert"},
    ),
    "a retraining whose checks fail": (
        "workflow_dispatch",
        {"ref": RETRAINED, "inputs": {"pull_request": "7"}},
        ("checks",),
        {"report", "alert"},
    ),
}


@pytest.mark.parametrize(("event", "payload", "failing", "jobs"), PIPELINE.values(), ids=PIPELINE.keys())
def test_the_pipeline_checks_and_runs_on_each_event_and_then(jobs_on, event, payload, failing, jobs):
    assert set(jobs_on("pipeline", event, payload, failing)) == {"checks", "pipeline"} | jobs


def test_the_pull_request_that_brings_the_workflows_is_green_without_a_comment(jobs_on):
    ran = jobs_on("pipeline", "pull_request", pull_request(OURS), first=True)
    assert set(ran) == {"checks", "pipeline"}


@pytest.mark.parametrize(("branch", "jobs"), [("trunk", {"register"}), ("main", set())])
def test_what_the_repository_calls_its_default_branch_is_what_registers(jobs_on, branch, jobs):
    ran = jobs_on("pipeline", "push", {"ref": f"refs/heads/{branch}"}, default="trunk")
    assert set(ran) == {"checks", "pipeline"} | jobs


FORK_COMMENT = {
    "a pull request from a fork": (after("pull_request", FORK), ["comment"]),
    "one that the gate blocked": (after("pull_request", FORK, "failure"), ["comment"]),
    "one that was cancelled": (after("pull_request", FORK, "cancelled"), []),
    "a pull request of ours": (after("pull_request", OURS), []),
    "a push to a fork": (after("push", FORK), []),
}


@pytest.mark.parametrize(("payload", "jobs"), FORK_COMMENT.values(), ids=FORK_COMMENT.keys())
def test_only_a_pull_request_from_a_fork_is_commented_afterwards(jobs_on, payload, jobs):
    assert jobs_on("fork-comment", "workflow_run", payload) == jobs


def test_a_comment_that_cannot_be_posted_is_told(jobs_on):
    assert jobs_on("fork-comment", "workflow_run", after("pull_request", FORK), ("comment",)) == ["comment", "alert"]


PENDING = {
    "a pull request": (after("pull_request", OURS), ["pending"]),
    "one from a fork": (after("pull_request", FORK), ["pending"]),
    "one that was cancelled": (after("pull_request", OURS, "cancelled"), ["pending"]),
    "a retraining's pull request": (after("workflow_dispatch", OURS), ["pending"]),
    "a push to main": (after("push", OURS), []),
}


@pytest.mark.parametrize(("payload", "jobs"), PENDING.values(), ids=PENDING.keys())
def test_the_comment_says_of_each_pull_request_what_is_being_checked(jobs_on, payload, jobs):
    assert jobs_on("pending", "workflow_run", payload) == jobs


ALERT = {
    "a push to main": ("push", {"ref": MAIN}, True),
    "a Sunday": ("schedule", {}, True),
    "a pull request": ("pull_request", pull_request(OURS), False),
    "a retraining's pull request by an app": ("pull_request", pull_request(OURS, "retrain/1a2b3c4d"), True),
    "a pull request with results by an app": ("pull_request", pull_request(OURS, "record/1a2b3c4d"), True),
    "one from a fork whose branch is called so": ("pull_request", pull_request(FORK, "retrain/1a2b3c4d"), False),
    "a group of a merge queue": ("merge_group", {}, False),
    "the comment on a fork": ("workflow_run", after("pull_request", FORK), False),
}


@pytest.mark.parametrize(("event", "payload", "told"), ALERT.values(), ids=ALERT.keys())
def test_a_failure_is_told_of_what_nobody_waits_for(jobs_on, event, payload, told):
    """Fault in CI and the judge: with an app, a check fails on a pull request that CI opened.

    A message goes to Slack, as without an app. Other pull requests send none, because their authors see the failure.
    """
    assert jobs_on("alert", event, payload) == ["alert"] * told


RETRAIN = {
    "a Sunday": ("schedule", {}, (), ["retrain", "propose"]),
    "a drift": ("repository_dispatch", {"action": "data-drift"}, (), ["retrain", "propose"]),
    "a dispatch on main": ("workflow_dispatch", {"ref": MAIN}, (), ["retrain", "propose"]),
    "a dispatch on a branch": ("workflow_dispatch", {"ref": BRANCH}, (), []),
    "a dispatch on a tag that is called main": ("workflow_dispatch", {"ref": "refs/tags/main"}, (), []),
    "what the gate blocks": ("schedule", {}, ("retrain",), ["retrain", "propose", "alert"]),
}


@pytest.mark.parametrize(("event", "payload", "failing", "jobs"), RETRAIN.values(), ids=RETRAIN.keys())
def test_a_retraining_starts_from_main_and_is_proposed_also_when_the_gate_blocks_it(
    jobs_on, event, payload, failing, jobs
):
    assert jobs_on("retrain", event, payload, failing) == jobs


@pytest.mark.parametrize("failing", ["reproduce", "dependencies", "silence"])
def test_an_audit_does_all_it_can_and_tells_of_a_failure(jobs_on, failing):
    assert set(jobs_on("audit", "schedule", {}, (failing,))) == {"reproduce", "dependencies", "silence", "alert"}


@pytest.mark.parametrize(("failing", "jobs"), [((), ["suite"]), (("suite",), ["suite", "alert"])])
@pytest.mark.parametrize(("event", "payload"), [("push", {"ref": MAIN}), ("schedule", {})])
def test_all_tests_run_on_main_and_weekly_and_a_failure_is_told(jobs_on, event, payload, failing, jobs):
    assert jobs_on("suite", event, payload, failing) == jobs
