"""The message to Slack about a run that failed, sent to a stand-in for Slack."""

import json
import os

from ci import alert
from tests.workflows.fake_github import FakeGitHub

import pytest

SECRET, COMMIT = "T0000/B0000/a-secret", "0123456789" * 4


@pytest.fixture
def slack(monkeypatch):
    fake = FakeGitHub()
    environment = {
        "GITHUB_ACTOR": "alice",
        "GITHUB_EVENT_NAME": "push",
        "GITHUB_REF_NAME": "main",
        "GITHUB_REPOSITORY": "example/churn",
        "GITHUB_RUN_ID": "12",
        "GITHUB_SHA": COMMIT,
        "GITHUB_SERVER_URL": "https://github.com",
        "NEEDS": json.dumps({"checks": {"result": "success"}, "pipeline": {"result": "failure"}}),
        "WORKFLOW": "pipeline",
        "SLACK_WEBHOOK_URL": f"{fake.serve()}/slack/{SECRET}",
        "no_proxy": "127.0.0.1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("GITHUB_HEAD_REF", raising=False)
    yield fake
    fake.close()


def send(folder, **outcome):
    if outcome:
        (folder / "outcome.json").write_text(json.dumps(outcome))
    return alert.main(["--folder", str(folder)])


def text(slack):
    assert len(slack.messages) == 1
    return slack.messages[0]["text"]


def test_a_model_that_may_not_follow_mains_is_no_failed_stage(slack, tmp_path):
    assert send(tmp_path, verdict="blocked", headline="Blocked: worse than main", stage="comparison") == 0
    assert text(slack).startswith("The comparison with main failed in pipeline of example/churn\n")


def test_a_job_that_knows_why_it_failed_says_so(slack, tmp_path, monkeypatch):
    fault = "register: the registry at http://mlflow.example.com failed: <it> is down."
    needs = {
        "register": {"result": "failure", "outputs": {"fault": fault}},
        "land": {"result": "cancelled", "outputs": None},
    }
    monkeypatch.setenv("NEEDS", json.dumps(needs))
    assert send(tmp_path, verdict="passed", headline="Passes the gate", stage=None) == 0
    first, second, *_ = text(slack).splitlines()
    assert first == "Job register, land failed in pipeline of example/churn"
    assert second.startswith("> register: the registry at ")
    assert "&lt;it&gt; is down." in second


def test_the_message_says_which_stage_failed_why_by_whose_commit_and_who_is_to_act(slack, tmp_path):
    headline = "Blocked: total_charges has 11 nulls that the contract does not allow"
    assert send(tmp_path, verdict="blocked", headline=headline, stage="validate") == 0
    assert text(slack) == (
        "Stage validate failed in pipeline of example/churn\n"
        "> Blocked: total_charges has 11 nulls that the contract does not allow\n"
        f"push by alice on main at <https://github.com/example/churn/commit/{COMMIT}|01234567>:"
        " <https://github.com/example/churn/actions/runs/12|the run>\n"
        "To act: alice"
    )


@pytest.mark.parametrize("event", ["schedule", "repository_dispatch"])
def test_where_nobody_has_changed_anything_a_code_owner_is_to_act(slack, tmp_path, monkeypatch, event):
    monkeypatch.setenv("GITHUB_EVENT_NAME", event)
    assert send(tmp_path) == 0
    assert text(slack).endswith("\nTo act: a code owner, see .github/CODEOWNERS")


@pytest.mark.parametrize("actor", ["github-actions[bot]", "dependabot[bot]", "our-app[bot]"])
@pytest.mark.parametrize("event", ["workflow_dispatch", "pull_request"])
def test_where_a_bot_has_made_the_change_a_code_owner_is_to_act(slack, tmp_path, monkeypatch, event, actor):
    (tmp_path / "event.json").write_text(json.dumps({"pull_request": {"head": {"sha": COMMIT}}}))
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(tmp_path / "event.json"))
    monkeypatch.setenv("GITHUB_EVENT_NAME", event)
    monkeypatch.setenv("GITHUB_ACTOR", actor)
    assert send(tmp_path) == 0
    assert text(slack).endswith("\nTo act: a code owner, see .github/CODEOWNERS")


def test_a_job_that_fails_beside_a_stage_is_named_too(slack, tmp_path, monkeypatch):
    results = {"checks": "failure", "pipeline": "failure", "register": "skipped"}
    monkeypatch.setenv("NEEDS", json.dumps({name: {"result": result} for name, result in results.items()}))
    assert send(tmp_path, verdict="blocked", headline="Blocked: roc_auc is 0.7", stage="gate") == 0
    assert text(slack).startswith("Stage gate, job checks failed in pipeline of example/churn\n> Blocked: ")


def test_a_new_champion_is_told_where_no_job_failed(slack, tmp_path, monkeypatch):
    needs = {"register": {"result": "success", "outputs": {"champion": "Version 7 of churn"}}}
    monkeypatch.setenv("NEEDS", json.dumps(needs))
    assert send(tmp_path, verdict="passed", headline="Passes the gate", stage=None) == 0
    assert text(slack).splitlines()[0] == "Version 7 of churn is the new champion of example/churn"
    assert text(slack).splitlines()[1].startswith("push by alice on main at <")


def test_on_a_pull_request_its_branch_is_named_and_its_commit_and_not_the_merge(slack, tmp_path, monkeypatch):
    (tmp_path / "event.json").write_text(json.dumps({"pull_request": {"head": {"sha": "f" * 40}}}))
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(tmp_path / "event.json"))
    monkeypatch.setenv("GITHUB_EVENT_NAME", "pull_request")
    monkeypatch.setenv("GITHUB_REF_NAME", "7/merge")
    monkeypatch.setenv("GITHUB_HEAD_REF", "better-model")
    assert send(tmp_path) == 0
    commit = f"https://github.com/example/churn/commit/{'f' * 40}"
    assert f"\npull_request by alice on better-model at <{commit}|ffffffff>" in text(slack)


@pytest.mark.parametrize(
    ("fork", "shown"), [({"full_name": "stranger/churn"}, "stranger/churn"), (None, "a deleted fork")]
)
def test_after_a_run_of_a_fork_the_fork_is_named_and_not_main(slack, tmp_path, monkeypatch, fork, shown):
    run = {
        "event": "pull_request",
        "head_sha": COMMIT,
        "actor": {"login": "mallory"},
        "head_repository": fork,
        "head_branch": "<!here>",
    }
    (tmp_path / "event.json").write_text(json.dumps({"workflow_run": run}))
    monkeypatch.setenv("GITHUB_EVENT_NAME", "workflow_run")
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(tmp_path / "event.json"))
    assert alert.main([]) == 0
    assert f"\npull_request by mallory on {shown}:&lt;!here&gt; at <https://github.com/example/churn/" in text(slack)
    assert text(slack).endswith("To act: a code owner, see .github/CODEOWNERS"), "and not the stranger"


def test_where_no_stage_failed_the_jobs_that_did_are_named(slack, tmp_path, monkeypatch):
    results = {"checks": "failure", "pipeline": "success", "report": "skipped", "register": "cancelled"}
    monkeypatch.setenv("NEEDS", json.dumps({name: {"result": result} for name, result in results.items()}))
    assert send(tmp_path, verdict="passed", headline="Passes the gate", stage=None) == 0
    assert text(slack).startswith("Job checks, register failed in pipeline of example/churn\npush by")


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 90_000,
        b'{"stage": {}, "headline": 1}',
        b'{"stage": "x y", "headline": 0}',
        b'{"stage": "gate", "headline": "' + b"x" * 100_000 + b'"}',
    ],
)
def test_an_outcome_that_is_missing_or_none_leaves_the_jobs(slack, tmp_path, content):
    if content is not None:
        (tmp_path / "outcome.json").write_bytes(content)
    assert send(tmp_path) == 0
    assert text(slack).startswith("Job pipeline failed in pipeline of example/churn\npush by alice")


def test_an_outcome_that_is_a_link_is_not_followed(slack, tmp_path):
    (tmp_path / "elsewhere.json").write_text('{"stage": "gate", "headline": "a secret"}')
    (tmp_path / "outcome.json").symlink_to(tmp_path / "elsewhere.json")
    assert send(tmp_path) == 0
    assert text(slack).startswith("Job pipeline failed")


def test_a_headline_and_a_branch_can_notify_nobody_and_lead_nowhere(slack, tmp_path, monkeypatch):
    hostile = "<!channel> <@U1> @here <https://evil.example|the run>\nsecond line \u202e & &lt;!here&gt;"
    monkeypatch.setenv("GITHUB_HEAD_REF", "<!here>")
    assert send(tmp_path, verdict="blocked", headline=hostile, stage="gate") == 0
    own = "<https://github.com/example/churn/actions/runs/12|the run>"
    said = text(slack).replace(own, "").replace(f"<https://github.com/example/churn/commit/{COMMIT}|01234567>", "")
    assert len(said.splitlines()) == 4
    assert "<" not in said
    assert "@here" not in said
    assert "://" not in said
    assert "&amp;lt;!here&amp;gt;" in said
    assert "\u202e" not in said


def test_a_long_headline_is_cut(slack, tmp_path):
    assert send(tmp_path, verdict="blocked", headline="x" * 10_000, stage="gate") == 0
    assert len(text(slack)) < 1_000


def test_a_message_is_tried_twice(slack, tmp_path):
    slack.slack = [500, 200]
    assert send(tmp_path) == 0
    assert len(slack.messages) == 2


@pytest.mark.parametrize(
    ("webhook", "said"),
    [
        (None, "it answered 404"),
        (f"http://127.0.0.1:1/{SECRET}", "ConnectionRefusedError"),
        (SECRET, "ValueError"),
        (f"http://127.0.0.1:1/ {SECRET}", "InvalidURL"),
        (f"{SECRET}://127.0.0.1", "ValueError"),
        (f"http://127.0.0.1:port/{SECRET}", "InvalidURL"),
    ],
)
def test_a_dead_webhook_is_one_sentence_that_does_not_tell_its_address(slack, tmp_path, webhook, said, capfd):
    slack.slack = [404]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SLACK_WEBHOOK_URL", webhook or os.environ["SLACK_WEBHOOK_URL"])
        assert send(tmp_path) == 1
    printed = "".join(capfd.readouterr())
    assert len(slack.messages) == (0 if webhook else 2)
    assert printed == f"The alert was not delivered: Slack's webhook failed twice ({said}).\n"


def test_a_webhook_that_hangs_is_given_up(slack, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(alert, "SECONDS", 0.2)
    slack.slack = [None]
    assert send(tmp_path) == 1
    assert "(TimeoutError)" in capfd.readouterr().err


def test_a_delivered_message_prints_nothing(slack, tmp_path, capfd):
    assert send(tmp_path) == 0
    assert "".join(capfd.readouterr()) == ""
