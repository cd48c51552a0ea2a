"""What main and others take over from a branch, and whom CI lets approve. What is a stand-in, harness.py says."""

import json
from types import SimpleNamespace

from tests.servers import BUCKET, S3_BRANCH_KEYS, s3_client

import pytest
from botocore.exceptions import ClientError
from dvc.stage import cache
from ruamel.yaml import YAML

MAIN = {"checks": "success", "pipeline": "success", "register": "success"}
PULL = dict.fromkeys(("checks", "pipeline", "picture", "report"), "success")


class Bucket:
    """What lies in the DVC remote."""

    def __init__(self, company):
        self.s3 = s3_client(company.s3)

    def objects(self):
        """Return a tag of each object's content, by name below the remote."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        found = [entry for page in pages for entry in page.get("Contents", [])]
        return {entry["Key"].removeprefix("dvc/"): entry["ETag"] for entry in found}

    def trainings(self, prefix=""):
        """Return the run-cache's entries of train below a prefix, by name."""
        names = [name for name in self.objects() if name.startswith(f"{prefix}runs/")]
        entries = {name: YAML(typ="safe").load(self.read(name)) for name in names}
        return {name: entry for name, entry in entries.items() if entry["cmd"].endswith("stages.train")}

    def planted(self, prefix, lock):
        """Write to a prefix a run of train with main's model, under the key of what a lock names; return its name."""
        (honest,) = self.trainings().values()
        entry, key = planted_run(lock, honest["outs"])
        self.write(name := f"{prefix}runs/{key[:2]}/{key}/{'0' * 64}", json.dumps(entry).encode())
        return name

    def read(self, name):
        return self.s3.get_object(Bucket=BUCKET, Key=f"dvc/{name}")["Body"].read()

    def write(self, name, content):
        self.s3.put_object(Bucket=BUCKET, Key=f"dvc/{name}", Body=content)


def planted_run(lock, outs):
    """Return a run of train as the run-cache keeps it, with other results than a lock has, and DVC's key of it."""
    entry = YAML(typ="safe").load(lock)["stages"]["train"] | {"outs": outs}
    return entry, cache._get_cache_hash(entry, key=True)


@pytest.fixture(scope="module")
def story(company):
    """main as it was; a pull request with another seed; then runs with main's model, planted wherever a branch may."""
    github, bucket = company.github, Bucket(company)
    github.run_push(github.sha("main"))
    before = bucket.objects()
    github.start_branch("seed")
    github.desk.replace("params.yaml", "seed: 42", "seed: 43")
    pull = github.open_pull()
    after = bucket.objects()
    (name, honest), *_ = bucket.trainings().items()
    assert name.split("/")[2] == cache._get_cache_hash(honest, key=True), "else nothing would look for what is planted"
    for number in (7, 8):
        bucket.planted(f"branches/{number}/", pull.artifact("results", "dvc.lock"))
    return SimpleNamespace(github=github, bucket=bucket, pull=pull, before=before, after=after)


def open_other(github, name, old="seed: 42", new="seed: 43"):
    github.start_branch(name)
    github.desk.replace("params.yaml", old, new)
    return github.open_pull()


def test_a_pull_request_writes_nothing_outside_its_prefix(story):
    assert story.pull.jobs == PULL
    assert "train" in story.pull.stages
    changed = {name for name, tag in story.after.items() if story.before.get(name) != tag}
    assert changed
    assert {"/".join(name.split("/")[:2]) for name in changed} == {"branches/7"}
    assert story.before.keys() <= story.after.keys()
    assert not [name for name in changed if "/runs/" in name], "the runs of a branch are nobody's to reuse"


def test_the_access_of_a_branch_cannot_plant_a_run_where_it_would_be_used(story, company):
    with pytest.raises(ClientError, match="AccessDenied"):
        s3_client(company.s3, S3_BRANCH_KEYS).put_object(Bucket=BUCKET, Key=f"dvc/runs/00/{'0' * 64}/1", Body=b"")


def test_a_pull_request_does_not_use_a_run_that_was_planted_in_its_prefix(story):
    """Fault in CI and the judge: a branch writes a false run to its prefix.

    No run reads it, and the stage runs.
    """
    other = open_other(story.github, "same-seed")
    assert max(story.github.pulls) == 8
    assert other.jobs == PULL
    assert "train" in other.stages
    made, honest = [json.loads(run.artifact("results", "metrics/gate.json")) for run in (other, story.pull)]
    assert made["model_sha256"] == honest["model_sha256"]


@pytest.fixture(scope="module")
def merge(story):
    return story.github.run_push(story.github.merge(7))


def test_main_takes_the_recorded_run_over_and_nothing_that_was_planted_beside_it(story, merge):
    assert merge.jobs == MAIN
    assert f"Taken over: what run {story.pull.id} recorded." in merge.logs["pipeline"]
    assert "train" not in merge.stages
    made, recorded = [json.loads(run.artifact("results", "metrics/gate.json")) for run in (merge, story.pull)]
    assert made["model_sha256"] == recorded["model_sha256"]
    assert [said for said in merge.annotations if said.startswith("warning")] == []


def test_what_main_took_over_is_its_own_run_now_which_other_branches_reuse(story, merge):
    story.github.start_branch("words")
    (story.github.desk.folder / "words.md").write_text("Nothing about the model.\n")
    run = story.github.open_pull()
    assert run.jobs == PULL
    assert "train" not in run.stages


def test_what_differs_from_the_record_is_made_anew_with_a_warning(story, merge):
    run = open_other(story.github, "seed-again", "seed: 43", "seed: 44")
    number = max(story.github.pulls)
    file = run.artifacts / "results" / "metrics" / "gate.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_sha256": "0" * 64}))
    main = story.github.run_push(story.github.merge(number))
    assert main.jobs == MAIN
    assert main.stages == ["validate", "evaluate", "gate", "fetch", "prepare", "validate", "train", "evaluate", "gate"]
    (warning,) = [said for said in main.annotations if said.startswith("warning")]
    assert warning == f"warning: What run {run.id} recorded is not what main finds: the model. All is made anew."


def test_a_variable_lets_main_always_compute_everything(story, merge, monkeypatch):
    monkeypatch.setattr(story.github, "variables", story.github.variables | {"ALWAYS_RETRAIN": "true"})
    main = story.github.run_push(story.github.sha("main~1"))
    assert main.jobs == MAIN
    assert main.stages == ["fetch", "prepare", "validate", "train", "evaluate", "gate"]
    assert "Taken over" not in main.logs["pipeline"]


def test_a_loosened_rule_is_blocked_until_an_owner_approves_the_very_commit_and_the_job_runs_again(story, merge):
    github = story.github
    github.start_branch("owners")
    (github.desk.folder / ".github" / "CODEOWNERS").write_text("/.github/ @olga\n")
    github.push_main()
    github.start_branch("loosen")
    github.desk.replace("params.yaml", "roc_auc: {min: 0.82}", "roc_auc: {min: 0.70}")
    run = github.open_pull()
    number = max(github.pulls)
    assert run.jobs == PULL | {"pipeline": "failure", "alert": "success"}
    assert run.stages[-1] == "gate"
    assert run.outcome()["verdict"] == "blocked"
    assert run.outcome()["stage"] == "comparison"
    assert run.summary.startswith("## ⛔ Blocked: ")
    assert (run.artifacts / "results" / "metrics" / "gate.json").exists()

    report = run.artifact("results", "build/report/report.md").splitlines()
    (line,) = [line for line in report if line.startswith("approve ")]
    github.review(number, "mallory", body=line)
    assert github.run_pull(number).jobs["pipeline"] == "failure"
    github.review(number, "olga", body=f"Agreed.\n\n{line}\n")
    approved = github.run_pull(number)
    assert approved.jobs == PULL
    said = f"Approved by olga: {line.removeprefix('approve ')}."
    assert said in approved.logs["pipeline"]
    main = github.run_push(github.merge(number))
    assert main.jobs == MAIN
    assert said in main.logs["pipeline"]
