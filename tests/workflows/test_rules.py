"""What act ignores in the workflows, and so what only their text can show: filters, permissions, time-outs."""

import ast
import json
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from churn.config.params import load_params
from churn.registry.package import closure
from ci import take
from report.changes import FREE, owned
from tests.conftest import ROOT
from tests.frozen import REPLACED, copy_of

import pytest
from ruamel.yaml import YAML

GITHUB = ROOT / ".github"
WORKFLOWS = {path.stem: path for path in sorted((GITHUB / "workflows").glob("*.yml"))}
FILES = [*WORKFLOWS.values(), *sorted((GITHUB / "actions").glob("*/action.yml"))]
CALLED = ("alert", "register", "report")  # by other workflows
PROGRAMS = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "ci").glob("*.py"))}
OF_THE_DEFAULT_BRANCH = {"ref": "${{ github.event.repository.default_branch }}", "sparse-checkout": ".github\nci\n"}


def load(path):
    return YAML(typ="safe").load(path)


def steps_of(value):
    """Yield every step of a workflow or of a composite action."""
    for job in value.get("jobs", {}).values():
        yield from job.get("steps", [])
    yield from value.get("runs", {}).get("steps", [])


def faults_of_lines(text):
    for line in text.splitlines():
        used = re.search(r"\buses: (?!\./)(.*)", line)
        if used and not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", used[1]):
            yield f"not pinned by hash, with its version: {used[1]}"
        if re.fullmatch(r" +(?!permission-)[a-z-]+: (read|write)\b(?! # \w).*", line):
            yield f"no reason given: {line.strip()}"


def faults_of_steps(value):
    for step in steps_of(value):
        if "${{" in step.get("run", ""):
            yield f"an expression in a shell: {step['run']}"
        is_checkout = step.get("uses", "").startswith("actions/checkout@")
        if is_checkout and step["with"].get("persist-credentials") is not False:
            yield "a checkout that leaves its token behind"


def faults_of_jobs(workflow):
    if workflow.get("permissions") != {}:
        yield "permissions for all jobs"
    if "concurrency" not in workflow:
        yield "runs that get into each other's way"
    for name, job in workflow["jobs"].items():
        if "permissions" not in job:
            yield f"permissions of {name} are not said"
        if job.get("timeout-minutes", 0 if "uses" in job else 360) > 60:
            yield f"{name} may run for hours"
        if job.get("name") != name:
            yield f"{name} has another name"


def faults(text):
    """Return what in a workflow or a composite action breaks the rules of the house."""
    value = YAML(typ="safe").load(text)
    return [*faults_of_lines(text), *faults_of_steps(value), *(faults_of_jobs(value) if "jobs" in value else ())]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(GITHUB)))
def test_each_workflow_and_action_keeps_the_rules_of_the_house(path):
    assert faults(path.read_text(encoding="utf-8")) == []


def test_the_rules_of_the_house_find_what_breaks_them():
    text = """
        on: push
        permissions:
          contents: write
        jobs:
          one:
            name: two
            steps:
              - uses: actions/checkout@v6
                with: {fetch-depth: 0}
              - run: echo ${{ github.head_ref }}
        """
    assert faults(text) == [
        "no reason given: contents: write",
        "not pinned by hash, with its version: actions/checkout@v6",
        "a checkout that leaves its token behind",
        "an expression in a shell: echo ${{ github.head_ref }}",
        "permissions for all jobs",
        "runs that get into each other's way",
        "permissions of one are not said",
        "one may run for hours",
        "one has another name",
    ]


def test_an_action_has_one_version_everywhere():
    pins = set()
    for path in FILES:
        pins |= set(re.findall(r"uses: ([^./]\S+)@(\w+)", path.read_text(encoding="utf-8")))
    assert len(pins) == len({action for action, _ in pins}) > 5


def secrets(*names):
    return {name: {"required": False} for name in names}


BRANCHES = load(WORKFLOWS["pipeline"])["on"]["push"]["branches"]  # a team's may have another name
TRIGGERS = {
    "alert": {
        "workflow_call": {
            "inputs": {
                "needs": {"description": "toJSON(needs) of the caller", "type": "string", "required": True},
                "results": {
                    "description": "Whether the run's artifact `results` may be read; a fork's may not",
                    "type": "boolean",
                    "default": False,
                },
                "workflow": {
                    "description": "Name of the caller, which act does not know in here",
                    "type": "string",
                    "required": True,
                },
            },
            "secrets": secrets("SLACK_WEBHOOK_URL"),
        }
    },
    "audit": {"schedule": [{"cron": "0 5 * * 1"}], "workflow_dispatch": None},
    "fork-comment": {"workflow_run": {"workflows": ["pipeline"], "types": ["completed"]}},
    "pending": {"workflow_run": {"workflows": ["pipeline"], "types": ["requested", "completed"]}},
    "pipeline": {
        "push": {"branches": BRANCHES},
        "pull_request": {"branches": BRANCHES},
        "merge_group": None,
        "workflow_dispatch": {
            "inputs": {
                "pull_request": {
                    "description": "Number of the pull request whose branch this is; it gets the report",
                    "type": "string",
                }
            }
        },
    },
    "register": {
        "workflow_call": {
            "outputs": {
                "champion": {
                    "description": "The version that became champion, for the alert, if ALERT_CHAMPION asks for that",
                    "value": "${{ jobs.register.outputs.champion }}",
                },
                "fault": {
                    "description": "The reason of a failure, for the alert",
                    "value": "${{ jobs.register.outputs.fault }}",
                },
            },
            "secrets": secrets(
                "APP_PRIVATE_KEY",
                "AWS_ACCESS_KEY_ID",
                "AWS_SECRET_ACCESS_KEY",
                "MLFLOW_TRACKING_PASSWORD",
                "MLFLOW_TRACKING_USERNAME",
            ),
        }
    },
    "report": {
        "workflow_call": {
            "inputs": {
                "pull_request": {"description": "Number of the pull request", "type": "string", "required": True}
            },
            "outputs": {
                "fault": {
                    "description": "The reason why there is no comment, for the alert",
                    "value": "${{ jobs.report.outputs.fault }}",
                }
            },
        }
    },
    "retrain": {
        "schedule": [{"cron": "0 2 * * 0"}],
        "workflow_dispatch": None,
        "repository_dispatch": {"types": ["data-drift"]},
    },
    "suite": {
        "push": {"branches": BRANCHES},
        "schedule": [{"cron": "0 4 * * 1"}],
        "workflow_dispatch": None,
    },
}


def test_each_workflow_runs_when_it_should_and_at_no_other_time():
    assert {name: load(path)["on"] for name, path in WORKFLOWS.items()} == TRIGGERS


MAIN = "format('refs/heads/{0}', github.event.repository.default_branch)"


NAMED = re.compile(r"""(?:origin[/ ]|heads/|--ref |HEAD:|[="'])(?:main|master)\b""")


def test_no_workflow_and_no_script_knows_the_default_branch_by_name():
    for path in [*FILES, *sorted((ROOT / "ci").glob("*.py"))]:
        assert NAMED.findall(path.read_text(encoding="utf-8")) == [], path
    former = ("--base origin/main", "refs/heads/main", '"branch=main"', 'base="main"', "HEAD:main", "fetch origin main")
    assert all(map(NAMED.search, former))


REGISTER = {
    "actions": "write",
    "attestations": "write",
    "contents": "write",
    "id-token": "write",
    "pull-requests": "write",
}
PERMISSIONS = {
    "alert": {"alert": {"contents": "read"}},
    "register": {"register": REGISTER},
    "audit": {
        "reproduce": {"actions": "read", "contents": "read", "id-token": "write"},
        "dependencies": {"contents": "read"},
        "silence": {"actions": "read", "contents": "read", "pull-requests": "read"},
        "alert": {"contents": "read"},
    },
    "fork-comment": {
        "comment": {"actions": "read", "contents": "read", "pull-requests": "write"},
        "alert": {"contents": "read"},
    },
    "pending": {"pending": {"contents": "read", "pull-requests": "write"}},
    "pipeline": {
        "checks": {"contents": "read"},
        "pipeline": {"actions": "read", "contents": "read", "id-token": "write", "pull-requests": "read"},
        "report": {"contents": "write", "pull-requests": "write"},
        "register": REGISTER,
        "land": {"actions": "write", "contents": "write", "pull-requests": "write"},
        "alert": {"contents": "read"},
    },
    "report": {
        "picture": {"contents": "write"},
        "report": {"contents": "read", "pull-requests": "write"},
    },
    "retrain": {
        "retrain": {"actions": "read", "contents": "read", "id-token": "write"},
        "propose": {"actions": "write", "contents": "write", "pull-requests": "write"},
        "alert": {"contents": "read"},
    },
    "suite": {"suite": {"contents": "read"}, "alert": {"contents": "read"}},
}


def test_each_job_has_these_permissions_and_no_others():
    """The names of the jobs are here too: main's protection requires `checks` and `pipeline` by name."""
    said = {name: load(path)["jobs"] for name, path in WORKFLOWS.items()}
    assert {
        name: {job: value["permissions"] for job, value in jobs.items()} for name, jobs in said.items()
    } == PERMISSIONS


def test_no_event_and_no_other_job_skips_a_check_that_main_requires():
    """GitHub counts a required job that was skipped as passed."""
    jobs = load(WORKFLOWS["pipeline"])["jobs"]
    assert [name for name in ("checks", "pipeline") if jobs[name].keys() & {"if", "needs"}] == []


def test_a_pull_request_runs_only_its_newest_commit_and_main_runs_each():
    assert load(WORKFLOWS["pipeline"])["concurrency"] == {
        "group": "pipeline-${{ github.event.pull_request.number || github.ref }}",
        "cancel-in-progress": "${{ github.event_name == 'pull_request' }}",
        "queue": "${{ github.event_name == 'pull_request' && 'single' || 'max' }}",
    }


@pytest.mark.parametrize("name", sorted(WORKFLOWS.keys() - {"pipeline"}))
def test_no_other_workflow_cancels_a_run_of_its_own(name):
    assert load(WORKFLOWS[name])["concurrency"]["cancel-in-progress"] is False


def test_the_pipeline_may_run_for_an_hour():
    assert load(WORKFLOWS["pipeline"])["jobs"]["pipeline"]["timeout-minutes"] == 60


def test_while_a_commit_is_checked_the_comment_is_edited_by_code_of_the_default_branch_alone():
    checkout, edit = load(WORKFLOWS["pending"])["jobs"]["pending"]["steps"]
    assert checkout["with"] == OF_THE_DEFAULT_BRANCH | {"sparse-checkout": "ci", "persist-credentials": False}
    assert edit["run"] == "python3 -m ci.pending"


def test_one_run_after_the_other_writes_the_comment_of_a_pull_request():
    """GitHub keeps one group for all workflows."""
    (shared,) = {str(load(WORKFLOWS[name])["concurrency"]) for name in ("fork-comment", "pending")}
    assert "workflow_run.head_repository.full_name" in shared
    assert "'queue': 'max'" in shared


def test_of_two_runs_at_once_on_a_pull_request_one_after_the_other_comments():
    """Its own, and one that was dispatched with its number; at once, neither would find the comment of the other."""
    concurrency = load(WORKFLOWS["report"])["concurrency"]
    assert concurrency == {"group": "report-${{ inputs.pull_request }}", "cancel-in-progress": False, "queue": "max"}


RESULTS = "${{ runner.temp }}/results"


@pytest.mark.parametrize(
    ("workflow", "job", "checkout", "folders"),
    [
        ("report", "report", OF_THE_DEFAULT_BRANCH, [RESULTS]),
        ("report", "picture", OF_THE_DEFAULT_BRANCH, [RESULTS]),
        ("fork-comment", "comment", OF_THE_DEFAULT_BRANCH, [RESULTS]),
        ("register", "register", {}, [RESULTS, ".cache/remote"]),  # which has objects that DVC verifies
        ("retrain", "propose", {}, [RESULTS]),
    ],
)
def test_a_job_that_may_write_runs_nothing_of_the_branch_or_of_an_artifact(workflow, job, checkout, folders):
    steps = load(WORKFLOWS[workflow])["jobs"][job]["steps"]
    checkouts = [step["with"] for step in steps if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts == [checkout | {"persist-credentials": False}]
    assert steps[0]["with"] is checkouts[0], "what comes before the checkout would run from nowhere"
    assert downloads_of(steps) == folders, "other files must not lie where scripts are run from"


def downloads_of(steps):
    return [step["with"].get("path", ".") for step in steps if "download-artifact" in step.get("uses", "")]


def test_no_job_unpacks_an_artifact_among_the_files_that_it_runs():
    folders = {folder for path in WORKFLOWS.values() for folder in downloads_of(steps_of(load(path)))}
    assert folders == {RESULTS, ".cache/remote"}


@pytest.mark.parametrize(
    ("workflow", "job", "options"), [("register", "register", ""), ("retrain", "propose", "--retraining ")]
)
def test_the_results_of_an_artifact_are_checked_before_a_step_has_a_token(workflow, job, options):
    steps = load(WORKFLOWS[workflow])["jobs"][job]["steps"]
    (at,) = [at for at, step in enumerate(steps) if "ci.take" in step.get("run", "")]
    assert steps[at]["run"].endswith(f' -m ci.take {options}"$RUNNER_TEMP/results"')
    assert downloads_of(steps[:at]) == [RESULTS]
    assert not any("GH_TOKEN" in step.get("env", {}) or "app-token" in step.get("uses", "") for step in steps[:at])


@pytest.mark.parametrize(("workflow", "more"), [("pipeline", []), ("retrain", ["params.yaml"])])
def test_ci_takes_each_of_the_results_that_a_run_uploads(workflow, more):
    (uploaded,) = [step["with"] for step in steps_of(load(WORKFLOWS[workflow])) if results_of(step)]
    paths = [path for path in uploaded["path"].splitlines() if path != "${{ steps.fetch.outputs.source }}"]
    assert sorted(paths) == sorted([take.LOCK, *take.FOLDERS, take.REPORT, *more])
    committed = [file for file in tracked() if file.partition("/")[0] in take.FOLDERS]
    assert committed
    assert all(take.is_result(file, []) for file in committed)


def results_of(step):
    return "upload-artifact" in step.get("uses", "") and step["with"]["name"] == "results"


def test_forks_get_no_storage_and_the_token_of_the_run_is_for_main_only():
    job = load(WORKFLOWS["pipeline"])["jobs"]["pipeline"]
    assert "github.event.pull_request.head.repo.full_name == github.repository" in job["env"]["DVC_REMOTE_URL"]
    tokens = [step["env"]["GH_TOKEN"] for step in job["steps"] if "GH_TOKEN" in step.get("env", {})]
    assert tokens == ["${{ github.token }}"] * 2 + [f"${{{{ github.ref == {MAIN} && github.token || '' }}}}"]
    cached = steps_of_the_pipeline()["Fill DVC's cache where no remote does"]["if"]
    assert "github.event.pull_request.head.repo.full_name == github.repository" in cached


def commands_of(program):
    """Return a program of ci/ with the commands in it as a shell has them."""
    return re.sub(r'",\s+"', " ", PROGRAMS[program])


def steps_of_the_pipeline():
    return {step["name"]: step for step in load(WORKFLOWS["pipeline"])["jobs"]["pipeline"]["steps"]}


def test_what_has_the_runs_token_is_a_script_of_the_base_before_anything_of_the_branch_runs():
    steps = steps_of_the_pipeline()
    assert list(steps)[:4] == ["Check out", "Base", "Approval", "Fill DVC's cache where no remote does"]
    assert "GH_TOKEN" not in steps["Base"]["env"], "where main has no ci/, it is the branch's"
    own, kept, run = steps["Base"]["run"].replace(" || ", "\n").splitlines()
    assert own == 'git archive --output "$RUNNER_TEMP/main.zip" "origin/$DEFAULT_BRANCH" ci'
    assert kept == 'git archive --output "$RUNNER_TEMP/main.zip" HEAD ci'
    assert run == "PYTHONPATH=$RUNNER_TEMP/main.zip python3 -P -m ci.base"
    for name, program in (("Approval", "ci.approved"), ("Fill DVC's cache where no remote does", "ci.recorded cache")):
        assert steps[name]["run"].startswith(f"python3 -P -m {program} "), "without -P Python finds the branch's first"
        assert steps[name]["env"]["PYTHONPATH"] == "${{ runner.temp }}/base.zip"
        assert "steps.base.outputs.code == steps.base.outputs.commit" in steps[name]["if"], "else there is none"


def test_what_a_branch_wrote_reaches_main_only_by_what_its_run_recorded():
    steps = steps_of_the_pipeline()
    place = load(WORKFLOWS["pipeline"])["jobs"]["pipeline"]["env"]["DVC_BRANCH_URL"]
    assert place.startswith(f"${{{{ github.ref != {MAIN} && ")
    assert "github.event.pull_request.head.repo.full_name == github.repository" in place
    assert "format('{0}/branches/{1}', vars.DVC_REMOTE_URL, github.event.pull_request.number || github.ref)" in place
    others = map(commands_of, PROGRAMS.keys() - {"remote"})
    commands = "\n".join([*(step.get("run", "") for step in steps.values()), *others])
    (fetched,) = re.findall("dvc fetch .*", commands)
    assert fetched.startswith("dvc fetch --remote branch fetch prepare train")
    pushes = re.findall(".*(?:dvc|ci.remote) push.*", commands)
    assert pushes == ["python -m ci.remote push ${DVC_BRANCH_URL:+branch}"]


def test_what_follows_a_blocked_verdict_is_uploaded_all_the_same():
    names = list(steps := steps_of_the_pipeline())
    after = names[names.index("Judge and report") + 1 :]
    assert after == ["Upload results", "Upload the folder that is the DVC remote"]
    assert all(steps[name]["if"].startswith("${{ !cancelled() && ") for name in after)


def test_a_step_that_runs_after_a_failed_one_runs_only_where_its_job_was_set_up():
    """Otherwise the alert would name a missing module, and not that the job could not be set up."""
    after = [step["if"] for path in WORKFLOWS.values() for step in steps_of(load(path)) if "!cancelled()" in str(step)]
    assert len(after) > 5
    assert [condition for condition in after if "&& steps." not in condition and "&& (steps." not in condition] == []


def test_what_is_uploaded_is_kept_for_thirty_days():
    steps = [step for path in WORKFLOWS.values() for step in steps_of(load(path))]
    kept = {step["with"]["name"]: step["with"]["retention-days"] for step in steps if "upload-artifact" in str(step)}
    assert kept.keys() >= {"results", "dvc-remote", "model", "registry"}
    assert set(kept.values()) == {30}


def all_steps(job):
    """Yield the steps of a job, and those of the actions of this repository that it uses."""
    for step in job.get("steps", []):
        yield step
        if (path := step.get("uses", "")).startswith("./"):
            yield from steps_of(load(ROOT / path / "action.yml"))


def restored(job):
    """Return what a job restores from GitHub's cache: paths, or the action that caches by itself."""
    found = []
    for step in all_steps(job):
        name, given = step.get("uses", "").partition("@")[0], step.get("with", {})
        if name.startswith("actions/cache"):
            found += given["path"].split()
        elif "cache" in given or (name == "actions/setup-node" and given.get("package-manager-cache") is not False):
            found.append(name)
    return found


STAGES = re.compile(r"dvc repro|ci\.(?:reproduce|refetch|register)\b")


def faults_of_caches(job):
    paths = restored(job)
    if paths and not without_rights(job):
        yield f"a job with rights restores {', '.join(paths)}"
    if paths and any(STAGES.search(step.get("run", "")) for step in all_steps(job)):
        yield f"a job that runs the stages restores {', '.join(paths)}"
    for path in paths:
        if not path.startswith(".cache/"):
            yield f"{path} may hold an environment"


def test_no_job_restores_an_environment_and_none_with_rights_or_stages_restores_anything():
    """A .pth file in a cached .venv runs in each Python of the job that restores it.

    A branch's run can save one for its next run, and the features on main can save one for register.
    """
    jobs = {(name, job): value for name, path in WORKFLOWS.items() for job, value in load(path)["jobs"].items()}
    assert [(*where, fault) for where, job in jobs.items() for fault in faults_of_caches(job)] == []
    assert {where: found for where, job in jobs.items() if (found := restored(job))} == {
        ("pipeline", "checks"): [".cache/mypy"]
    }


CACHE = {"uses": "actions/cache/restore@v5", "with": {"path": ".cache/mypy\n.venv"}}
READS = {"permissions": {"contents": "read"}}


@pytest.mark.parametrize(
    ("job", "found"),
    [
        (READS | {"steps": [CACHE]}, [".venv may hold an environment"]),
        (
            {"permissions": {"contents": "write"}, "steps": [{"uses": "actions/setup-node@v7"}]},
            ["a job with rights restores actions/setup-node", "actions/setup-node may hold an environment"],
        ),
        (
            READS | {"steps": [{"uses": "actions/setup-python@v7", "with": {"cache": "pip"}}, {"run": "dvc repro"}]},
            [
                "a job that runs the stages restores actions/setup-python",
                "actions/setup-python may hold an environment",
            ],
        ),
        (
            READS | {"env": {"KEY": "${{ secrets.KEY }}"}, "steps": [CACHE | {"with": {"path": ".cache/mypy"}}]},
            ["a job with rights restores .cache/mypy"],
        ),
    ],
    ids=["an environment", "a right", "the stages", "a secret"],
)
def test_a_cache_in_the_wrong_job_is_found(job, found):
    assert list(faults_of_caches(job)) == found


def test_the_results_of_mypy_are_cached_by_the_locks():
    (cached,) = [step for step in load(WORKFLOWS["pipeline"])["jobs"]["checks"]["steps"] if "cache@" in str(step)]
    assert "${{ hashFiles('requirements*.txt') }}" in cached["with"]["key"]
    assert "restore-keys" not in cached["with"], "mypy uses no results of another version"


TOOLS = r"pip3?|uv|pytest|ruff|mypy|zizmor|act|pip-audit|venv"


def test_workflows_set_up_check_and_test_by_the_targets_that_people_call():
    commands = [step["run"] for path in FILES for step in steps_of(load(path)) if "run" in step]
    assert [command for command in commands if re.search(rf"(?m)(?:^|[ /;&|(])(?:{TOOLS})(?: |$)", command)] == []
    called = re.findall(r"\bmake ([a-z][a-z ]*)", "\n".join(commands))
    assert sorted(called) == ["audit", "check", "quick", "setup remote", "test"]


def test_one_step_registers_and_has_the_name_that_an_older_run_looks_for():
    named = [(step["name"], step["run"]) for path in FILES for step in steps_of(load(path)) if "run" in step]
    assert [name for name, run in named if "-m ci.register" in run] == ["Register"]
    assert [run for name, run in named if name == "Register"] == ["python -m ci.register"]
    assert 'step["name"] == "Register"' in PROGRAMS["record"]


def test_all_tests_run_on_each_commit_of_main_and_every_week():
    (command,) = [step["run"] for step in load(WORKFLOWS["suite"])["jobs"]["suite"]["steps"] if "run" in step]
    assert command == "make test"


@pytest.mark.parametrize("workflow", sorted(WORKFLOWS.keys() - {*CALLED, "pending"}))  # it only adds a sentence
def test_a_failure_of_any_job_is_told(workflow):
    jobs = load(WORKFLOWS[workflow])["jobs"]
    for result in ("failure", "cancelled"):  # a job that runs out of time counts as cancelled
        assert f"contains(needs.*.result, '{result}')" in jobs["alert"]["if"]
    assert set(jobs["alert"]["needs"]) == jobs.keys() - {"alert"}
    assert jobs["alert"]["uses"] == "./.github/workflows/alert.yml"
    assert jobs["alert"]["with"]["needs"] == "${{ toJSON(needs) }}"
    assert jobs["alert"]["with"]["workflow"] == "${{ github.workflow }}"
    assert jobs["alert"]["secrets"] == {"SLACK_WEBHOOK_URL": "${{ secrets.SLACK_WEBHOOK_URL }}"}


def test_each_job_tells_the_alert_the_fault_of_each_program_that_names_one():
    naming = {name for name, text in PROGRAMS.items() if re.search(r"output\(fault=|run_program\(", text)} - {"github"}
    assert naming > {"fault", "land", "propose", "record", "refetch", "register", "remote", "silence"}
    for name, path in WORKFLOWS.items():
        for job, value in load(path)["jobs"].items():
            for step in value.get("steps", []):
                if naming & set(re.findall(r"-m ci\.(\w+)", step.get("run", ""))):
                    assert f"steps.{step['id']}.outputs.fault" in value["outputs"]["fault"], (name, job, step["name"])


def test_without_a_webhook_the_alert_does_nothing_and_with_one_it_is_mains():
    checkout, *steps = load(WORKFLOWS["alert"])["jobs"]["alert"]["steps"]
    assert checkout["with"]["ref"] == OF_THE_DEFAULT_BRANCH["ref"]
    assert all(step["if"].startswith("env.SLACK_WEBHOOK_URL != ''") for step in (checkout, *steps))


def test_the_alert_about_a_fork_takes_nothing_from_the_forks_artifact():
    assert load(WORKFLOWS["fork-comment"])["jobs"]["alert"]["with"].keys() == {"needs", "workflow"}
    (downloads,) = [step for step in steps_of(load(WORKFLOWS["alert"])) if "download-artifact" in step.get("uses", "")]
    assert downloads["if"] == "env.SLACK_WEBHOOK_URL != '' && inputs.results"


def test_each_secret_and_variable_is_in_the_docs_and_no_other():
    pattern = r"\b(?:secrets|vars|fromJSON\(inputs\.vars\))\.(\w+)"
    used = {name for path in FILES for name in re.findall(pattern, path.read_text(encoding="utf-8"))}
    section = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8").partition("| switches on |")[2]
    table = section.partition("\n\n")[0]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("|")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == used


def policies():
    """Return the policies of docs/ci.md: whom main's role trusts and what it may, then the same of branches."""
    text = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    return [json.loads(part.partition("```")[0])["Statement"] for part in text.split("```json\n")[1:]]


def test_the_roles_trust_only_main_or_this_repositorys_pull_requests_and_branches():
    subject, audience = ("token.actions.githubusercontent.com:" + claim for claim in ("sub", "aud"))
    (main,), _, (branch,), _ = policies()
    for trust in (main, branch):
        assert trust["Action"] == "sts:AssumeRoleWithWebIdentity"
        assert trust["Condition"]["StringEquals"][audience] == "sts.amazonaws.com"
    assert main["Condition"]["StringEquals"][subject] == [
        "repo:OWNER/NAME:ref:refs/heads/main",
        "repo:OWNER/NAME:environment:registry",
        "repo:OWNER/NAME:environment:warehouse",
    ]
    assert main["Condition"].keys() == {"StringEquals"}
    assert branch["Condition"]["StringLike"][subject] == [
        "repo:OWNER/NAME:pull_request",
        "repo:OWNER/NAME:ref:refs/heads/*",
    ]


def test_a_branch_may_write_nothing_that_main_or_another_branch_reads_but_by_its_hash():
    _, main, _, branch = policies()
    listing = {"StringLike": {"s3:prefix": ["churn", "churn/*"]}}

    def rights(statements):
        found = {}
        for one in statements:
            assert one["Effect"] == "Allow"
            assert one.get("Condition") == (listing if one["Action"] == "s3:ListBucket" else None)
            for action in [one["Action"]] if isinstance(one["Action"], str) else one["Action"]:
                found[action.removeprefix("s3:")] = one["Resource"].removeprefix("arn:aws:s3:::BUCKET")
        return found

    everywhere = "/churn/*"
    assert rights(main) == {"ListBucket": ""} | dict.fromkeys(("GetObject", "PutObject", "DeleteObject"), everywhere)
    assert rights(branch) == {"ListBucket": "", "GetObject": everywhere, "PutObject": "/churn/branches/*"}
    place = load(WORKFLOWS["pipeline"])["jobs"]["pipeline"]["env"]["DVC_BRANCH_URL"]
    assert "format('{0}/branches/{1}', vars.DVC_REMOTE_URL, " in place


def test_dependabot_waits_a_week_and_proposes_all_updates_of_a_kind_together():
    updates = {update["package-ecosystem"]: update for update in load(GITHUB / "dependabot.yml")["updates"]}
    assert updates.keys() == {"github-actions", "uv", "npm"}
    assert all(len(update["groups"]) == 1 for update in updates.values())
    assert all(update["cooldown"] == {"default-days": 7} for update in updates.values())
    assert updates["github-actions"]["directories"] == ["/", "/.github/actions/*"]


def test_the_lock_of_npm_has_a_hash_for_all_but_cml_itself():
    packages = json.loads((GITHUB / "actions/cml/package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert len(packages) > 200
    assert {name for name, package in packages.items() if "integrity" not in package} == {
        "",
        "node_modules/@dvcorg/cml",
    }
    assert " ci --prefix " in (text := (GITHUB / "actions/cml/action.yml").read_text(encoding="utf-8"))
    assert "--ignore-scripts" in text


def test_the_app_is_named_by_its_client_id():
    """`app-id` of create-github-app-token is deprecated."""
    tokens = [step["with"] for path in FILES for step in steps_of(load(path)) if "app-token" in step.get("uses", "")]
    assert len(tokens) == 2
    assert all("client-id" in given and "app-id" not in given for given in tokens)


def test_the_secrets_of_the_registry_and_the_warehouse_can_be_limited_to_their_jobs():
    environments = {}
    for workflow in WORKFLOWS.values():
        for name, job in load(workflow)["jobs"].items():
            text = json.dumps(job.get("steps", []))
            for secret, environment in (("MLFLOW_TRACKING_PASSWORD", "registry"), ("PGPASSWORD", "warehouse")):
                if f"secrets.{secret}" in text:
                    environments[name] = environment
                    assert job["environment"] == environment
    assert environments == {"register": "registry", "retrain": "warehouse"}


def tracked():
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()


def has_owner(file):
    """Return whether CODEOWNERS names somebody for a file; as at GitHub, the last line that fits counts."""
    found = False
    for line in (GITHUB / "CODEOWNERS").read_text(encoding="utf-8").splitlines():
        pattern, *owners = line.partition("#")[0].split() or [""]
        if pattern.startswith("/"):
            fits = file.startswith(pattern[1:]) if pattern.endswith("/") else fnmatchcase(file, pattern[1:])
        else:
            fits = bool(pattern) and fnmatchcase(file.rpartition("/")[2], pattern)
        found = bool(owners) if fits else found
    return found


def warned_about(file):
    return owned(file) is not None or file in ("contract.yaml", "params.yaml", "profile.json")  # these by their values


NEW = ("pandas.py", "ruamel/yaml.py", "json.so", "json.pyc", "requirements-gpu.in", "sql/customers.sql", ".dvc/new")


def test_whoever_changes_what_judges_asks_its_owners_and_is_named_in_the_report():
    files = [*tracked(), *NEW, "stages/new.txt", "tests/new.sql", "docs/new.md", "benchmarks/new.py"]
    differing = [file for file in files if has_owner(file) != warned_about(file)]
    assert differing == []
    assert all(map(has_owner, NEW))
    assert not any(map(has_owner, ("churn/features.py", "README.md", "dvc.lock", "tests/conftest.py")))


def without_rights(job):
    return job["permissions"] == {"contents": "read"} and "secrets." not in str(job)


@cache
def code_of(module):
    return {str(file) for file in closure(module, ROOT)}


def run_by(job):
    """Return the files of this repository that a job runs, or that decide what is run and fetched."""
    lines = [step.get("run", "") for step in job.get("steps", [])]
    for step in job.get("steps", []):
        if (path := step.get("uses", "")).startswith("./"):
            lines += [inner.get("run", "") for inner in steps_of(load(ROOT / path / "action.yml"))]
    text, files, found = "\n".join(lines), {*tracked(), *REPLACED}, set()
    for called in re.findall(r"\bmake\b([a-z ]*)", text):
        command = ["make", "--dry-run", "--always-make", *called.split()]  # without a target, `make help`
        text += subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        found |= {"Makefile"}
    found |= {*re.findall(r"[\w./-]+", text)}
    for program in re.findall(r"-m ci\.(\w+)", text):
        files_of_program = code_of(Path("ci", f"{program}.py"))
        text += "\n".join(commands_of(Path(file).stem) for file in files_of_program)
        found |= files_of_program
    for module in re.findall(r"python3? -m ([a-z_.]+)", text):
        path = Path(*module.split("."))
        file = path / "__main__.py" if (ROOT / path).is_dir() else path.with_suffix(".py")
        found |= code_of(file) if str(file) in files else set()
    if re.search(r"\bdvc\b", text):
        found |= {
            ".dvc/config",
            ".dvcignore",
            "dvc.yaml",
            "params.yaml",
            load_params(copy_of("params.yaml")).fetch.query,
        }
        for name, stage in load(ROOT / "dvc.yaml")["stages"].items():
            found |= code_of(Path("stages", f"{name}.py")) | (files & set(stage["deps"]))
    return found & files


def test_whatever_a_job_with_rights_or_the_judge_runs_has_owners():
    """Derived from the workflows, the Makefile, dvc.yaml and the imports, so that no new file is forgotten."""
    run = set()
    for path in WORKFLOWS.values():
        for job in load(path)["jobs"].values():
            run |= set() if without_rights(job) else run_by(job)
    assert run >= {"Makefile", "requirements.txt", ".dvc/config", "source.sql", "stages/fetch.py", "profile.json"}
    committed_results = {file for file in run if file.startswith(("dvc.lock", "metrics/", "plots/"))}
    assert [file for file in sorted(run - committed_results) if not has_owner(file)] == ["churn/features.py"]


def test_the_features_are_not_imported_by_the_job_that_writes_to_the_repository():
    assert not code_of(Path("stages/register.py")) & {"churn/features.py"}


def test_what_needs_no_owner_is_run_by_no_job_with_rights_but_for_the_features():
    for name, workflow in WORKFLOWS.items():
        for job in load(workflow)["jobs"].values():
            free = [file for file in run_by(job) if any(fnmatchcase(file, pattern) for pattern in FREE)]
            assert without_rights(job) or set(free) <= {"churn/features.py"}, name


def zizmor(folder):
    command = ["zizmor", "--persona", "pedantic", "--offline", "--no-progress", "--quiet", "--color", "never"]
    return subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)


def test_zizmor_finds_nothing():
    done = zizmor(GITHUB)
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("No findings to report.")


def test_zizmor_would_find_something(tmp_path):
    workflow = tmp_path / ".github" / "workflows" / "pipeline.yml"
    workflow.parent.mkdir(parents=True)
    workflow.write_text(WORKFLOWS["pipeline"].read_text().replace("persist-credentials: false", "fetch-tags: true"))
    assert "artipacked" in zizmor(workflow.parent.parent).stdout


def act(folder):
    command = ["act", "--validate", "--strict", "--workflows", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


@pytest.fixture
def copies(tmp_path):
    """The workflows without `queue`, which GitHub has and act 0.2.89 does not know."""
    for path in WORKFLOWS.values():
        (tmp_path / path.name).write_text(re.sub(r"(?m)^  queue: .*\n", "", path.read_text(encoding="utf-8")))
    return tmp_path


def test_act_knows_every_key(copies):
    done = act(copies)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", sorted(WORKFLOWS))
def test_act_would_see_a_wrong_key_in_each(copies, name):
    path = copies / f"{name}.yml"
    path.write_text(path.read_text().replace("timeout-minutes:", "timeout-minute:"))
    done = act(copies)
    assert done.returncode == 1
    assert f"'{name}.yml'" in done.stderr
    assert "Unknown Property timeout-minute" in done.stderr


def test_main_and_retraining_restore_no_run_that_a_branch_could_have_planted():
    """`dvc repro --pull` fetches the run-cache by itself."""
    commands = [
        line.strip()
        for name in ("pipeline", "retrain", "audit")
        for step in steps_of(load(WORKFLOWS[name]))
        for line in step.get("run", "").splitlines()
        if "dvc repro --pull" in line
    ]
    assert commands
    assert all("dvc repro --pull --no-run-cache" in command for command in commands)
    programs = [
        name
        for name in PROGRAMS
        for command in re.findall('"dvc repro --pull.*', commands_of(name))
        if "--no-run-cache" not in command
    ]
    assert programs == ["reproduce"], "which test_steps.py runs"


def test_each_job_that_runs_the_pipeline_fills_the_cache_before_it_where_no_remote_does():
    filled = []
    for name, path in WORKFLOWS.items():
        for job, value in load(path)["jobs"].items():
            steps = value.get("steps", [])
            runs = [at for at, one in enumerate(steps) if re.search(r"dvc repro|ci\.reproduce", one.get("run", ""))]
            if runs:
                (at,) = [at for at, one in enumerate(steps) if "ci.recorded cache" in one.get("run", "")]
                assert at < runs[0]
                assert steps[at]["if"].startswith("vars.DVC_REMOTE_URL == ''")
                assert steps[0]["with"]["fetch-depth"] == 0, "ci.recorded looks for commits in main's history"
                assert value["permissions"]["actions"] == "read"
                filled.append((name, job))
    assert filled == [("audit", "reproduce"), ("pipeline", "pipeline"), ("retrain", "retrain")]


def test_the_report_is_told_the_commit_that_was_known_before_any_stage_ran_and_no_name():
    bases = [
        re.findall(r"-m ci.judge --base (\S+)", step.get("run", ""))
        for name in ("pipeline", "retrain")
        for step in steps_of(load(WORKFLOWS[name]))
    ]
    assert [base for found in bases for base in found] == ['"$COMMIT"', '"$GITHUB_SHA"']
    assert re.findall('-m report --base", [^,]+', commands_of("judge")) == ['-m report --base", given.base']


@pytest.mark.parametrize(
    "name",
    [
        "GOOGLE_CREDENTIALS",
        "PGPASSWORD",
        "SNOWFLAKE_PASSWORD",
        "SNOWFLAKE_PRIVATE_KEY_PASSPHRASE",
        "SNOWFLAKE_PRIVATE_KEY_RAW",
        "SNOWFLAKE_USER",
    ],
)
def test_the_warehouses_password_is_given_to_the_step_that_fetches_and_to_no_feature_function(name):
    secret = f"${{{{ secrets.{name} }}}}"
    holders = [
        step["name"] for path in FILES for step in steps_of(load(path)) if secret in step.get("env", {}).values()
    ]
    assert holders == ["Fetch the data"]
    assert sum(path.read_text(encoding="utf-8").count(f"secrets.{name} ") for path in FILES) == 1


def test_a_step_does_not_branch_since_the_programs_of_ci_do():
    steps = [step for path in FILES for step in steps_of(load(path))]
    assert [step["run"] for step in steps if re.search(r"(?m)^ *(?:if|for|while|case) ", step.get("run", ""))] == []
    assert len(WORKFLOWS["pipeline"].read_text(encoding="utf-8").splitlines()) <= 260


def test_the_programs_of_ci_need_the_standard_library_alone_but_for_the_dvc_remote():
    """A job that checks out main's ci/ alone has nothing else."""
    for name in PROGRAMS.keys() - {"remote"}:
        tree = ast.parse(PROGRAMS[name])
        found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        found |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert {module.partition(".")[0] for module in found} <= {"ci", *sys.stdlib_module_names}, name


def test_what_aws_is_given_is_said_in_one_place():
    texts = {str(path.relative_to(GITHUB)): path.read_text(encoding="utf-8") for path in FILES}
    for setting in ("role-to-assume", "AWS_ENDPOINT_URL_S3", "AWS_REGION"):
        assert [name for name, text in texts.items() if setting in text] == ["actions/aws/action.yml"]
    for workflow, job in (("audit", "reproduce"), ("pipeline", "pipeline"), ("register",) * 2, ("retrain",) * 2):
        given = [step["with"] for step in load(WORKFLOWS[workflow])["jobs"][job]["steps"] if "/aws" in str(step)]
        keys = {"access-key-id": "AWS_ACCESS_KEY_ID", "secret-access-key": "AWS_SECRET_ACCESS_KEY"}
        secrets = {name: f"${{{{ secrets.{secret} }}}}" for name, secret in keys.items()}
        assert given == [{"vars": "${{ toJSON(vars) }}"} | secrets]
