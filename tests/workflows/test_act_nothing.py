"""A fresh fork, no secret and no variable set, run by act. What is a stand-in, harness.py says."""

import re
import sqlite3
from types import SimpleNamespace

from tests.servers import BUCKET, S3_KEYS, mlflow_server, s3_server

import mlflow
import pytest

PASSED = dict.fromkeys(("checks", "pipeline", "picture", "report"), "success")
BLOCKED = PASSED | {"pipeline": "failure"}


@pytest.fixture(scope="module")
def merged(github):
    github.start_branch("seed")
    github.desk.replace("params.yaml", "seed: 42", "seed: 43")
    pull = github.open_pull()
    planted = pull.artifacts / "dvc-remote" / "runs" / "00" / ("0" * 64) / ("1" * 64)
    planted.parent.mkdir(parents=True)
    planted.write_text("{}")
    return SimpleNamespace(pull=pull, planted=planted.parent.name, main=github.run_push(github.merge(7)))


def test_without_any_secret_a_pull_request_is_green_and_gets_its_report(github, merged):
    assert merged.pull.jobs == PASSED
    assert github.comments[0]["body"].startswith("## ✅ Passes the gate")
    assert (merged.pull.artifacts / "dvc-remote").is_dir(), "it stands for the DVC remote"


def test_without_any_secret_main_takes_the_training_over_from_the_artifact_and_registers(merged, tmp_path):
    assert merged.main.jobs == {"checks": "success", "pipeline": "success", "register": "success"}
    assert merged.main.stages == ["validate", "evaluate", "gate"]
    database = sqlite3.connect(merged.main.artifacts / "registry" / "mlflow.db")
    assert database.execute("SELECT alias, version FROM registered_model_aliases").fetchall() == [("champion", 1)]
    database.close()
    assert (merged.main.artifacts / "model" / "churn.skops").exists()


def test_a_run_that_a_branch_planted_in_its_artifact_gets_into_none_of_main_from_which_others_start(merged):
    runs = {path.name for path in (merged.main.artifacts / "dvc-remote" / "runs").glob("??/*")}
    assert runs
    assert merged.planted not in runs


@pytest.fixture(scope="module")
def weak(github, merged):
    github.start_branch("weak")
    github.desk.replace("params.yaml", "max_iter: 200", "max_iter: 1")
    return github.open_pull()


def test_a_pull_request_that_changes_the_model_alone_takes_the_customers_over_from_main(weak):
    assert weak.stages == ["validate", "train", "evaluate", "gate"]


def test_a_blocked_pull_request_is_no_alert(github, weak):
    assert weak.jobs == BLOCKED
    assert github.messages == []


def test_slack_can_be_switched_on_alone_and_for_pull_requests(github, weak, monkeypatch):
    monkeypatch.setattr(github, "variables", {"ALERT_PULL_REQUESTS": "true"})
    pull = github.run_pull(max(github.pulls))
    assert pull.jobs == BLOCKED | {"alert": "success"}, "without a webhook a failure is no second failure"
    assert github.messages == []
    monkeypatch.setattr(github, "secrets", {"SLACK_WEBHOOK_URL": f"{github.url}/slack"})
    assert github.run_pull(max(github.pulls)).jobs == pull.jobs
    (message,) = github.messages
    assert "Blocked: " in str(message)


def test_without_any_secret_a_retraining_is_checked_merged_and_registered_and_trained_but_once(github, merged):
    github.start_branch("share")
    file, customers = github.move_source()
    github.run_push(github.push_main())
    customers.iloc[:-200].to_csv(file, index=False)
    run = github.act("retrain.yml", "schedule", "main", {"schedule": "0 2 * * 0"})
    assert run.jobs == {"retrain": "success", "propose": "success"}
    assert "train" in run.stages
    number = max(github.pulls)

    by_an_app = github.run_pull(number)
    assert by_an_app.jobs == PASSED
    assert "train" not in by_an_app.stages
    dispatched = github.run_dispatched()
    assert dispatched.jobs == by_an_app.jobs | {"land": "success"}
    assert "train" not in dispatched.stages

    main = github.run_dispatched()
    assert main.jobs == {"checks": "success", "pipeline": "success", "register": "success"}
    assert f"Taken over: what run {dispatched.id} recorded." in main.logs["pipeline"]
    assert "train" not in main.stages


def test_without_any_secret_the_weekly_audit_takes_what_git_does_not_have_from_mains_newest_artifact(github, merged):
    """Fault in CI and the judge: no DVC remote is set, and Git does not have the source.

    The weekly audit takes the snapshot from main's newest artifact, and computes all other results again.
    """
    audit = github.act("audit.yml", "schedule", "main", {}, job="reproduce")
    assert audit.jobs == {"reproduce": "success"}, audit.logs["reproduce"]
    (newest,) = re.findall(r"In the cache: dvc-remote of run (\d+)\.", audit.logs["reproduce"])
    assert int(newest) == max(run.id for run in github.runs if run.branch == "main" and run.workflow == "pipeline.yml")
    assert "Running stage 'train'" in audit.logs["reproduce"]


def test_a_registry_can_be_switched_on_alone_also_when_main_runs_again_after_other_data(
    github, merged, tmp_path, monkeypatch
):
    with mlflow_server(tmp_path) as server:
        monkeypatch.setattr(github, "variables", {"MLFLOW_TRACKING_URI": server})
        run = github.run_push(github.sha("main~1"))
        assert run.jobs == {"checks": "success", "pipeline": "success", "register": "success"}
        mlflow.set_tracking_uri(server)
        assert "champion" in mlflow.MlflowClient().get_registered_model("churn").aliases
    assert not (run.artifacts / "registry").exists()


def test_a_remote_can_be_switched_on_alone_also_when_main_has_pushed_nothing_to_it(
    github, merged, tmp_path, monkeypatch
):
    with s3_server(tmp_path) as server:
        remote = {"DVC_REMOTE_URL": f"s3://{BUCKET}/dvc", "AWS_ENDPOINT_URL_S3": server}
        monkeypatch.setattr(github, "variables", remote)
        monkeypatch.setattr(github, "secrets", dict(S3_KEYS))
        github.start_branch("remote")
        github.desk.replace("params.yaml", "seed: 43", "seed: 44")
        pull = github.open_pull()
        assert pull.jobs == PASSED
        assert not (pull.artifacts / "dvc-remote").exists()
        assert "could not be rebuilt" not in pull.artifact("results", "build/report/report.md")
        main = github.run_push(github.merge(max(github.pulls)))
        assert main.jobs == {"checks": "success", "pipeline": "success", "register": "success"}
        assert "train" in pull.stages
        assert "train" not in main.stages
        assert (main.artifacts / "registry").is_dir(), "it stands for the registry"
