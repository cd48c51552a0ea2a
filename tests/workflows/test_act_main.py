"""What happens on main, run by act in a company with everything switched on. What is a stand-in, harness.py says."""

import hashlib
from types import SimpleNamespace

from churn.lock import stages_of
from churn.registry.lineage import lock_digest
from tests.servers import S3_KEYS

import mlflow
import pytest
from ruamel.yaml import YAML

PASSED = {"checks": "success", "pipeline": "success", "register": "success"}


@pytest.fixture(scope="module")
def merged(company):
    """A pull request whose author committed no lock, merged; then a commit that changes nothing about the model."""
    github = company.github
    github.start_branch("seed")
    github.desk.replace("params.yaml", "seed: 42", "seed: 43")
    pull = github.open_pull()
    merge = github.run_push(github.merge(7))
    after = github.sha("main")
    github.start_branch("words")
    (github.desk.folder / "words.md").write_text("Nothing about the model.\n")
    return SimpleNamespace(pull=pull, merge=merge, after=after, unchanged=github.run_push(github.push_main()))


def versions(company):
    mlflow.set_tracking_uri(company.mlflow)
    found = mlflow.MlflowClient().search_model_versions("name='churn'")
    return sorted(found, key=lambda version: int(version.version))


def test_main_takes_the_training_over_from_the_pull_request_and_judges_it_anew(merged):
    assert "train" in merged.pull.stages
    assert merged.merge.jobs == PASSED
    assert f"Taken over: what run {merged.pull.id} recorded." in merged.merge.logs["pipeline"]
    assert merged.merge.stages == ["validate", "evaluate", "gate"]


def test_main_records_the_results_in_a_commit_that_starts_nothing(company, merged):
    author, message = company.github.git("log", "-1", "--format=%an|%s", merged.after).split("|")
    assert author == "github-actions[bot]"
    assert message.endswith("[skip ci]")
    changed = company.github.git("show", "--name-only", "--format=", merged.after).split()
    assert {name.split("/")[0] for name in changed} <= {"dvc.lock", "metrics", "plots"}
    before, after = (stages_of(company.github.git("show", f"{merged.after}{of}:dvc.lock")) for of in ("^", ""))
    assert stages_of(merged.merge.artifact("results", "dvc.lock")).items() <= after.items()
    assert [stage for stage in after if stage in before] == list(before), "only what differs changes place or lines"


def test_the_version_names_the_commit_whose_lock_made_it(company, merged, tmp_path):
    version = versions(company)[0]
    assert version.tags["commit"] == merged.after
    (tmp_path / "dvc.lock").write_text(company.github.git("show", f"{merged.after}:dvc.lock"))
    assert version.tags["lock_sha256"] == lock_digest(tmp_path / "dvc.lock")
    assert "champion" in mlflow.MlflowClient().get_registered_model("churn").aliases


def test_the_registered_model_is_kept_with_the_run_and_attested(company, merged):
    kept = (merged.merge.artifacts / "model" / "churn.skops").read_bytes()
    digest = hashlib.sha256(kept).hexdigest()
    assert versions(company)[0].tags["model_sha256"] == digest
    assert f"attested {digest}" in merged.merge.logs["register"]


def test_a_commit_that_changes_nothing_makes_no_second_version_and_no_commit(company, merged):
    assert merged.unchanged.jobs == PASSED
    assert "train" not in merged.unchanged.stages
    assert "version 1 (there already) is champion" in merged.unchanged.logs["register"]
    assert len(versions(company)) == 1
    assert company.github.git("log", "-1", "--format=%s", merged.unchanged.sha) == "Change"


def test_whoever_has_the_keys_gets_the_model_of_main_by_dvc_pull(company, merged):
    desk = company.github.desk
    company.github.start_branch("colleague")
    access = S3_KEYS | {"AWS_ENDPOINT_URL_S3": company.s3, "AWS_DEFAULT_REGION": "us-east-1"}
    access |= {"DVC_REMOTE_URL": company.github.variables["DVC_REMOTE_URL"], "AWS_EC2_METADATA_DISABLED": "true"}
    desk.ok("make", "remote", "--assume-old=.venv/.runtime", **access)
    desk.ok("dvc", "pull", "train", **access)
    model = (desk.folder / "models" / "churn.skops").read_bytes()
    assert hashlib.sha256(model).hexdigest() == versions(company)[0].tags["model_sha256"]


def test_a_protected_main_gets_the_results_by_a_pull_request_and_registers_after_it(company, merged):
    github, before = company.github, len(versions(company))
    github.protect_main()
    github.start_branch("seed-again")
    github.desk.replace("params.yaml", "seed: 43", "seed: 44")
    github.desk.commit()
    github.desk.ok("git", "push", "--quiet", "origin", "HEAD:seed-again")
    run = github.run_push(github.merge(github.create_pull("seed-again", "refs/heads/seed-again")))
    assert run.jobs == PASSED
    assert len(versions(company)) == before
    (record,) = [pull for pull in github.pulls.values() if pull["head"]["ref"].startswith("record/")]
    assert github.dispatched == [("pipeline.yml", record["head"]["ref"], {"pull_request": str(record["number"])})]

    landed = github.run_dispatched()
    assert landed.jobs == {
        "checks": "success",
        "pipeline": "success",
        "picture": "success",
        "report": "success",
        "land": "success",
    }
    assert record["merged_at"]
    registered = github.run_dispatched()
    assert registered.jobs == PASSED
    assert "train" not in registered.stages
    assert len(versions(company)) == before + 1
    assert versions(company)[-1].tags["commit"] == github.sha("main")


def test_the_weekly_audit_makes_the_same_again_and_names_the_stage_of_a_forged_lock(company, merged):
    github = company.github
    audit = github.act("audit.yml", "schedule", "main", {}, job="reproduce")
    assert audit.jobs == {"reproduce": "success"}

    (github.origin / "hooks" / "update").unlink(missing_ok=True)
    github.start_branch("forge")
    lock = YAML().load(github.desk.folder / "dvc.lock")
    lock["stages"]["train"]["outs"][0]["md5"] = "0" * 32
    YAML().dump(lock, github.desk.folder / "dvc.lock")
    github.push_main()
    audit = github.act("audit.yml", "schedule", "main", {}, job="reproduce")
    assert audit.jobs == {"reproduce": "failure"}
    assert "first in train" in audit.logs["reproduce"]
