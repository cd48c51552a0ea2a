"""Retraining on a source that changes, and the weekly look for silence, run by act.

What is a stand-in, harness.py says. The source is a CSV file outside of the repository, as a mounted share is.
"""

import re
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="module")
def source(company):
    """The source's table, which main is trained on and a test may write anew."""
    github = company.github
    github.start_branch("share")
    file, customers = github.move_source()
    github.desk.replace("params.yaml", "as_of: null", 'as_of: "2026-01-01"')
    github.desk.replace("source.sql", "FROM source", "FROM source WHERE $as_of >= DATE '2026-01-01'")
    github.run_push(github.push_main())
    return SimpleNamespace(file=file, customers=customers, github=github)


def retrain(github, event="schedule"):
    payload = {"schedule": "0 2 * * 0"} if event == "schedule" else {"action": "data-drift"}
    return github.act("retrain.yml", event, "main", payload)


def test_without_new_data_it_stops_and_says_so(source):
    run = retrain(source.github)
    assert run.jobs == {"retrain": "success"}
    assert run.stages == ["fetch"]
    assert run.annotations == ["notice: No new data: the source still gives the snapshot that main was trained on."]
    assert source.github.pulls == {}


def test_new_data_are_proposed_checked_merged_and_registered_without_an_app(source):
    github = source.github
    source.customers.iloc[:-200].to_csv(source.file, index=False)
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    run = retrain(github)
    assert run.jobs == {"retrain": "success", "propose": "success"}
    assert run.stages == ["fetch", "prepare", "validate", "train", "evaluate", "gate"]
    (pull,) = github.pulls.values()
    assert pull["head"]["ref"].startswith("retrain/")
    assert pull["body"].startswith("Passes the gate: ")
    (line,) = re.findall(r'  as_of: "(.*)" #', github.git("show", f"{pull['head']['ref']}:params.yaml"))
    assert date.fromisoformat(line) - yesterday <= timedelta(days=1), "the newest closed day, also around midnight"
    assert date.fromisoformat(line) >= yesterday
    assert github.dispatched == [("pipeline.yml", pull["head"]["ref"], {"pull_request": "7"})]

    checked = github.run_dispatched()
    assert checked.jobs == dict.fromkeys(("checks", "pipeline", "picture", "report", "land"), "success")
    assert "train" not in checked.stages, "the retraining's work lies in the run-cache"
    assert "0 customers added, 200 removed" in github.comments[0]["body"]
    assert pull["merged_at"]
    assert github.git("for-each-ref", f"refs/heads/{pull['head']['ref']}") == ""

    main = github.run_dispatched()
    assert main.jobs == {"checks": "success", "pipeline": "success", "register": "success"}
    assert "train" not in main.stages
    assert "is champion" in main.logs["register"]

    assert retrain(github).annotations[0].startswith("notice: No new data")


def test_a_drift_signal_proposes_once_and_an_app_lets_github_merge_by_itself(source):
    github = source.github
    github.variables["APP_CLIENT_ID"], github.secrets["APP_PRIVATE_KEY"] = "1", "a key"
    source.customers.iloc[:-300].to_csv(source.file, index=False)
    run = retrain(github, "repository_dispatch")
    assert run.jobs == {"retrain": "success", "propose": "success"}
    pull = list(github.pulls.values())[-1]
    assert pull["auto_merge"]
    assert github.dispatched == [], "what an app opens is checked without being asked for"
    assert pull["state"] == "open"

    again = retrain(github, "repository_dispatch")
    assert again.jobs == {"retrain": "success", "propose": "success"}
    assert f"notice: Proposed before: {pull['html_url']}" in again.annotations
    assert list(github.pulls.values())[-1] is pull


def test_new_data_that_break_the_contract_are_proposed_with_the_reason_and_told_to_slack(source):
    github = source.github
    source.customers.assign(tenure="200").to_csv(source.file, index=False)
    run = retrain(github)
    assert run.jobs == {"retrain": "failure", "propose": "success", "alert": "success"}
    pull = list(github.pulls.values())[-1]
    assert pull["body"].startswith("Blocked: ")
    former = [one for one in github.pulls.values() if one is not pull]
    assert {one["state"] for one in former} == {"closed"}, "merged, or superseded"
    assert github.git("for-each-ref", "--format=%(refname)", "refs/heads/retrain").split() == [
        f"refs/heads/{pull['head']['ref']}"
    ]
    assert "Stage validate failed" in github.messages[0]["text"]


def silence(github):
    return github.act("audit.yml", "schedule", "main", {"schedule": "0 5 * * 1"}, job="silence")


def test_a_week_without_a_scheduled_retraining_is_a_failure(source, monkeypatch):
    github = source.github
    monkeypatch.setattr(github, "runs", [])
    assert silence(github).conclusion == "success", "the workflow is new"
    monkeypatch.setattr(github, "retrain_created", datetime.now(UTC) - timedelta(days=8))
    run = silence(github)
    assert run.conclusion == "failure"
    assert run.annotations[0].startswith("error: No scheduled retraining has succeeded since ")
