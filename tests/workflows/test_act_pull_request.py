"""Pull requests, run by act in a company with everything switched on. What is a stand-in, harness.py says."""

import shutil

from tests.servers import BUCKET, S3_KEYS, s3_client
from tests.workflows.fake_github import REPOSITORY

import pytest

PASSED = dict.fromkeys(("checks", "pipeline", "picture", "report"), "success")
BLOCKED = PASSED | {"pipeline": "failure", "alert": "success"}


@pytest.fixture(scope="module", autouse=True)
def weak_main(company):
    """main holds a model that a pull request can easily improve, by no more than is plausible."""
    company.github.start_branch("weaken")
    company.github.desk.replace("params.yaml", "max_leaf_nodes: 8", "max_leaf_nodes: 2")
    company.github.push_main()


@pytest.fixture
def branch(company):
    """A branch of its own; after the test nobody remembers comments and messages."""
    company.github.start_branch("branch")
    yield company.github.desk
    company.github.comments.clear()
    company.github.messages.clear()


def objects(company):
    """Return the names and times of all that lies in the bucket."""
    pages = s3_client(company.s3).get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    return {found["Key"]: found["LastModified"] for page in pages for found in page.get("Contents", [])}


def test_one_that_improves_says_so_in_its_one_comment_which_a_second_push_updates(company, branch):
    branch.replace("params.yaml", "max_leaf_nodes: 2", "max_leaf_nodes: 8")
    run = company.github.open_pull()
    assert run.jobs == PASSED
    (comment,) = company.github.comments
    assert comment["body"].startswith("## ✅ Passes the gate: ROC AUC 0.8")
    assert "against main, better" in comment["body"].splitlines()[0]
    assert run.summary.splitlines()[0] == comment["body"].splitlines()[0]
    assert f"](https://github.com/{REPOSITORY}/raw/report-pictures/{run.id}-1.png)" in comment["body"]
    assert company.github.git("ls-tree", "--name-only", "report-pictures").strip() == f"{run.id}-1.png"
    assert run.artifact("results", "dvc.lock")
    assert (run.artifacts / "results" / "build" / "report" / "comparison.png").stat().st_size > 10_000

    branch.replace("params.yaml", "roc_auc: {min: 0.82}", "roc_auc: {min: 0.83}")
    company.github.update_pull(number := comment["pull"])
    former = comment["body"]
    assert company.github.run_pending(number).jobs == {"pending": "success"}
    notice, _, below = comment["body"].partition("\n\n")
    newest = company.github.pulls[number]["head"]["sha"][:8]
    assert notice.startswith(f"> [!NOTE]\n> ⏳ `{newest}` is being checked by ")
    assert below == former
    again = company.github.run_pull(number)
    assert again.jobs == PASSED
    assert "train" in again.stages, "a branch reuses runs of main, and none of a branch"
    assert [changed["id"] for changed in company.github.comments] == [comment["id"]]
    assert comment["body"].startswith("## ✅ ")
    assert "0.83" in comment["body"]
    assert company.github.messages == []


def test_one_whose_data_break_the_contract_is_told_which_rule(company, branch):
    branch.replace("contract.yaml", "tenure_months: {min: 0, max: 120}", "tenure_months: {min: 0, max: 70}")
    run = company.github.open_pull()
    assert run.jobs == BLOCKED
    assert run.stages[-1] == "validate"
    (comment,) = company.github.comments
    headline = comment["body"].splitlines()[0]
    assert headline.startswith("## ⛔ Blocked: tenure&#95;months") or headline.startswith(
        "## ⛔ Blocked: tenure_months"
    )
    assert run.outcome()["stage"] == "validate"
    (message,) = company.github.messages
    assert "Stage validate failed" in message["text"]
    assert run.outcome()["headline"] in message["text"]


def test_one_whose_model_is_too_weak_is_told_by_how_much(company, branch):
    branch.replace("params.yaml", "max_iter: 200", "max_iter: 1")
    run = company.github.open_pull()
    assert run.jobs == BLOCKED
    (comment,) = company.github.comments
    assert comment["body"].startswith("## ⛔ Blocked: ")
    assert "recall of all customers is 0.0000, minimum 0.38" in run.logs["pipeline"]
    assert run.outcome() == run.outcome() | {"verdict": "blocked", "stage": "gate"}
    assert (run.artifacts / "results" / "metrics" / "gate.json").exists()
    (message,) = company.github.messages
    assert "Stage gate failed" in message["text"]
    assert f"actions/runs/{run.id}" in message["text"]


def test_one_from_a_fork_gets_its_comment_from_the_second_workflow_and_reaches_nothing_of_ours(company, branch):
    before = objects(company)
    branch.replace("params.yaml", "max_leaf_nodes: 2", "max_leaf_nodes: 8")
    run = company.github.open_pull(fork=True)
    assert run.jobs == {"checks": "success", "pipeline": "success"}
    assert "## ✅ Passes the gate: ROC AUC 0.8" in run.summary
    assert company.github.comments == []
    assert objects(company) == before

    assert company.github.run_after(run).jobs == {"comment": "success"}
    (comment,) = company.github.comments
    assert comment["body"].startswith("> [!WARNING]\n> **Unverified:** ")
    assert run.summary.splitlines()[0] in comment["body"].splitlines()


def test_a_forks_run_that_cannot_be_commented_on_is_told_to_slack_without_a_word_of_its_artifact(company, branch):
    run = next(run for run in company.github.runs if run.repository != REPOSITORY)
    report = run.artifacts / "results" / "build" / "report"
    (report / "pull_request.txt").write_text("<!channel>")
    (report / "outcome.json").write_text('{"verdict": "blocked", "stage": "gate", "headline": "<!channel>"}')
    assert company.github.run_after(run).jobs == {"comment": "failure", "alert": "success"}
    assert company.github.comments == []
    first, second, third, fourth = company.github.messages[0]["text"].splitlines()
    assert first == f"Job comment failed in fork-comment of {REPOSITORY}"
    assert second == "> No comment was posted: pull_request.txt holds no number."
    assert third.startswith("pull_request by mallory on stranger/churn:branch at <https://github.com/")
    assert fourth == "To act: a code owner, see .github/CODEOWNERS"

    shutil.rmtree(run.artifacts)
    assert company.github.run_after(run).jobs == {"comment": "failure", "alert": "success"}
    assert "pull_request.txt is missing" in company.github.messages[1]["text"]


def test_the_second_workflow_leaves_pull_requests_of_our_own_alone(company, branch):
    own = next(run for run in company.github.runs if run.jobs == PASSED)
    assert company.github.run_after(own).jobs == {}
    assert company.github.comments == []


def test_one_that_fails_the_checks_still_gets_its_report(company, branch):
    (branch.folder / "churn" / "ugly.py").write_text("import os\n")
    branch.replace("params.yaml", "max_leaf_nodes: 2", "max_leaf_nodes: 8")
    run = company.github.open_pull()
    assert run.jobs == PASSED | {"checks": "failure", "alert": "success"}
    assert company.github.comments[0]["body"].startswith("## ✅ Passes the gate")
    assert "Job checks failed" in company.github.messages[0]["text"]


@pytest.fixture
def keys(company, monkeypatch):
    """The company has keys instead of roles."""
    variables = {name: value for name, value in company.github.variables.items() if not name.endswith("_ARN")}
    monkeypatch.setattr(company.github, "variables", variables)
    monkeypatch.setattr(company.github, "secrets", company.github.secrets | S3_KEYS)
    return company.github.secrets


def test_keys_do_as_well_as_roles(company, branch, keys):
    branch.replace("params.yaml", "max_iter: 200", "max_iter: 21")
    run = company.github.open_pull()
    assert "files pushed" in run.logs["pipeline"]
    assert not [said for said in run.annotations if "DVC remote" in said]


def test_wrong_keys_are_told_in_a_sentence_and_the_report_comes_all_the_same(company, branch, keys):
    keys["AWS_SECRET_ACCESS_KEY"] = "wrong"
    branch.replace("params.yaml", "max_leaf_nodes: 2", "max_leaf_nodes: 8")
    run = company.github.open_pull()
    assert run.jobs == BLOCKED
    assert [said for said in run.annotations if said.startswith("error:") and "The DVC remote" in said]
    assert len(company.github.comments) == 1
