"""Single steps of the workflows, run by bash as GitHub does, in a small repository with a hostile branch."""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from types import SimpleNamespace

from tests.conftest import ROOT

import pytest
from ruamel.yaml import YAML

# Instead of python: it tells what it was called with, and whose judge it would run. The programs of ci/ run, and find
# no installed package.
PYTHON = f"""#!/bin/sh
case "$*" in
    *"-m ci.remote "*) echo "python $*"; exit 1 ;;
    *"-m ci."*) exec {sys.executable} -S "$@" ;;
esac
mkdir -p build/report && touch build/report/report.md
echo "$@" > "$RUNNER_TEMP/called"
cat "${{PYTHONPATH:-.}}/report/judge.py" > "$RUNNER_TEMP/judged_by"
[ -z "$PYTHONPATH" ] || exit "${{MAINS_STATUS:-0}}"
"""
DVC = '#!/bin/sh\necho "dvc $*"\n'


def steps_of(workflow, job):
    return YAML(typ="safe").load(ROOT / ".github" / "workflows" / f"{workflow}.yml")["jobs"][job]["steps"]


def step_of(workflow, job, name):
    (step,) = [step for step in steps_of(workflow, job) if step["name"] == name]
    return step


@pytest.fixture
def runner(tmp_path):
    """A checkout of a branch that loosens a rule and brings its own judge; `step` runs a step in it."""
    checkout, temporary, programs = (tmp_path / name for name in ("checkout", "temporary", "bin"))
    for folder in (checkout / "report", temporary, programs):
        folder.mkdir(parents=True)
    for name, text in (("python", PYTHON), ("dvc", DVC)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    environment = {
        "APPROVED": "",
        "APPROVED_BY": "",
        "BEFORE": "",
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "DEFAULT_BRANCH": "main",
        "GITHUB_OUTPUT": str(temporary / "output"),
        "GITHUB_REF": "refs/pull/7/merge",
        "GITHUB_REPOSITORY": "example/churn",
        "GITHUB_STEP_SUMMARY": str(temporary / "summary"),
        "RUNNER_TEMP": str(temporary),
    }

    def bash(script, check=True, **more):
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
        kept = environment | {name: value for name, value in more.items() if "${{" not in value}
        return subprocess.run(command, cwd=checkout, env=kept, capture_output=True, text=True, check=check)

    def step(workflow, job, name, check=True, **more):
        found = step_of(workflow, job, name)
        return bash(found["run"], check, **{**found.get("env", {}), **more})

    def outputs():
        return dict(line.split("=", 1) for line in (temporary / "output").read_text().splitlines())

    bash(
        "git init --quiet --initial-branch=main && git config user.name test && git config user.email t@example.invalid"
    )
    shutil.copytree(ROOT / "ci", checkout / "ci", ignore=shutil.ignore_patterns("__pycache__"))
    (checkout / ".gitignore").write_text("__pycache__\nbuild\n")
    (checkout / "params.yaml").write_text("min: 0.82\n")
    (checkout / "report" / "judge.py").write_text("main's judge\n")
    bash("git add . && git commit --quiet --message=main && git update-ref refs/remotes/origin/main HEAD")
    main = bash("git rev-parse HEAD").stdout.strip()
    bash("sed -i s/0.82/0.7/ params.yaml && echo 'its own judge' > report/judge.py && git commit --quiet -am branch")
    environment["GITHUB_SHA"] = bash("git rev-parse HEAD").stdout.strip()
    return SimpleNamespace(bash=bash, step=step, outputs=outputs, main=main, temporary=temporary, programs=programs)


def judged(runner, code, **environment):
    """Return what came of the judge after the branch's code has run."""
    runner.step("pipeline", "pipeline", "Base")
    found = runner.outputs()
    runner.bash(code)
    given = {"BASE_NAME": found.pop("name"), "PULL_REQUEST": "7"} | {key.upper(): found[key] for key in found}
    given |= environment
    return runner.step("pipeline", "pipeline", "Judge and report", check=False, **given)


FILTER = "echo '* filter=evil' > .git/info/attributes && git config filter.evil.smudge 'echo its own judge #'"
HOOK = (
    "printf '#!/bin/sh\\necho its own judge > report/judge.py\\n' > .git/hooks/post-checkout && chmod +x .git/hooks/*"
)
HOSTILE = {
    "nothing": "true",
    "moves the name of main": "git update-ref refs/remotes/origin/main HEAD",
    "moves HEAD": "git checkout --quiet --orphan other && git commit --quiet --message=other",
    "replaces main's commit": "git replace --force origin/main HEAD",
    "replaces main's judge": "git replace --force origin/main:report/judge.py HEAD:report/judge.py",
    "sets a filter": FILTER,
    "sets a filter for all clones": FILTER + " && git config --global core.attributesFile $PWD/.git/info/attributes"
    " && git config --global filter.evil.smudge 'echo its own judge #'",
    "leaves a hook": HOOK,
    "leaves a hook for all clones": HOOK + " && git config --global core.hooksPath $PWD/.git/hooks",
}


@pytest.mark.parametrize("code", HOSTILE.values(), ids=HOSTILE.keys())
def test_whatever_a_branch_does_to_its_clone_mains_judge_judges_it_against_mains_commit(runner, code):
    """Fault in CI and the judge: a branch's code moves `origin/main` or HEAD, replaces commits, or leaves filters or
    hooks.

    Main's judge compares with main's commit. The report is the usual one.
    """
    done = judged(runner, code)
    assert done.returncode == 0, done.stderr
    assert (runner.temporary / "called").read_text() == f"-m report --base {runner.main}\n"
    assert (runner.temporary / "judged_by").read_text() == "main's judge\n"


@pytest.mark.parametrize(("status", "judge"), [("0", "main's judge"), ("1", "main's judge"), ("3", "its own judge")])
def test_an_approval_leaves_mains_code_judge_unless_it_finds_that_the_branchs_code_is_approved(runner, status, judge):
    done = judged(runner, "true", APPROVED="settings-0c3e20", APPROVED_BY="olga", MAINS_STATUS=status)
    assert done.returncode == (status == "1")
    assert (runner.temporary / "judged_by").read_text() == f"{judge}\n"


UNDO = "sed -i s/0.7/0.82/ params.yaml"
UNDOING = {
    "a file": UNDO,
    "a file that git is told not to look at": f"git update-index --assume-unchanged params.yaml && {UNDO}",
    "a file, in a commit of its own": f"{UNDO} && git commit --quiet --all --message=undone",
}


@pytest.mark.parametrize("code", UNDOING.values(), ids=UNDOING.keys())
def test_a_branch_whose_code_undoes_what_it_would_be_blocked_for_is_not_judged_at_all(runner, code):
    """Fault in CI and the judge: a branch's code reverts the branch's own changes.

    The job fails: `While the pipeline ran, files of the commit were changed, so nothing is judged: params.yaml`
    """
    done = judged(runner, code)
    assert done.returncode == 1
    assert done.stdout == (
        "::error::While the pipeline ran, files of the commit were changed, so nothing is judged: params.yaml\n"
    )
    assert not (runner.temporary / "called").exists()


def test_results_may_change_while_the_pipeline_runs(runner):
    runner.bash(
        "mkdir metrics && touch dvc.lock metrics/gate.json && git add . && git commit --quiet --message=results"
    )
    sha = runner.bash("git rev-parse HEAD").stdout.strip()
    runner.step("pipeline", "pipeline", "Base")
    runner.bash("echo new > dvc.lock && echo new > metrics/gate.json && rm -r .git/hooks")
    commit = runner.outputs()["commit"]
    given = {"COMMIT": commit, "CODE": commit, "JUDGE": "base", "GITHUB_SHA": sha, "PULL_REQUEST": ""}
    assert runner.step("pipeline", "pipeline", "Judge and report", **given).returncode == 0


def test_a_branch_cannot_plant_a_module_in_what_has_a_token_or_judges(runner):
    for name in ("json.py", "ci/__init__.py", "ci/approved.py", "ci/base.py", "ci/judge.py", "report/__init__.py"):
        runner.bash(f"echo 'import sys; sys.exit(\"planted\")' > {name} && git add {name}")
    runner.bash("git commit --quiet --message=planted")
    sha = runner.bash("git rev-parse HEAD").stdout.strip()
    (runner.programs / "gh").write_text("#!/bin/sh\necho null\n")
    (runner.programs / "gh").chmod(0o755)
    runner.step("pipeline", "pipeline", "Base")
    found = runner.outputs()
    assert found["commit"] == runner.main
    given = {"COMMIT": found["commit"], "CODE": found["code"], "JUDGE": found["judge"], "GITHUB_SHA": sha}
    given |= {"HEAD_SHA": sha, "PULL_REQUEST": "7", "PYTHONPATH": str(runner.temporary / "base.zip")}
    approval = runner.step("pipeline", "pipeline", "Approval", **given)
    assert "No code owner has approved this commit" in approval.stdout
    runner.step("pipeline", "pipeline", "Judge and report", **given)
    assert (runner.temporary / "judged_by").read_text() == "main's judge\n"


def test_where_main_has_no_ci_yet_its_judge_judges_all_the_same_by_way_of_the_branchs_programs(runner):
    runner.bash("git rm -r --quiet --cached ci && git commit --quiet --message=old")
    runner.bash("git update-ref refs/remotes/origin/main HEAD && echo 'a newer judge' > report/judge.py")
    runner.bash("git add . && git commit --quiet --message=new")
    main, sha = runner.bash("git rev-parse HEAD^ HEAD").stdout.split()
    runner.step("pipeline", "pipeline", "Base", GITHUB_SHA=sha)
    found = runner.outputs()
    assert (found["commit"], found["code"], found["judge"]) == (main, sha, "base")
    given = {"COMMIT": main, "CODE": sha, "JUDGE": "base", "GITHUB_SHA": sha, "PULL_REQUEST": "7"}
    runner.step("pipeline", "pipeline", "Judge and report", **given)
    assert (runner.temporary / "called").read_text() == f"-m report --base {main}\n"
    assert (runner.temporary / "judged_by").read_text() == "its own judge\n"


def test_the_commit_that_a_branch_started_from_is_known_before_its_code_runs(runner):
    runner.step("pipeline", "pipeline", "Base")
    found = {"name": "origin/main", "commit": runner.main, "judge": "base", "code": runner.main}
    assert runner.outputs() == found


@pytest.mark.parametrize(
    ("reuse", "ref", "command"),
    [
        ("true", "refs/pull/7/merge", "dvc repro --pull gate"),
        ("false", "refs/pull/7/merge", "dvc repro --pull --no-run-cache gate"),
        ("true", "refs/heads/main", "dvc repro --pull --no-run-cache gate\ndvc commit --force fetch prepare train"),
    ],
    ids=["a branch that cannot write main's runs", "a branch that can", "main"],
)
def test_a_run_that_a_branch_could_have_planted_is_reused_by_nobody(runner, reuse, ref, command):
    step = step_of("pipeline", "pipeline", "Run the pipeline")
    both_roles = "vars.AWS_ROLE_ARN != '' && vars.AWS_BRANCH_ROLE_ARN != ''"
    assert step["env"]["BRANCH_MAY_REUSE"] == f"${{{{ env.DVC_REMOTE_URL == '' || ({both_roles}) }}}}"
    given = {"BRANCH_MAY_REUSE": reuse, "GITHUB_REF": ref, "RUN": ""}
    assert runner.step("pipeline", "pipeline", "Run the pipeline", **given).stdout == command + "\n"
    place = {"DVC_BRANCH_URL": "" if ref.endswith("/main") else "s3://x/branches/7"}
    fetched = "python -m ci.remote fetch\n" if reuse == "true" and place["DVC_BRANCH_URL"] else ""
    printed = runner.step("pipeline", "pipeline", "Run the pipeline", **given, **place).stdout
    assert printed == fetched + command + "\n", "main's run-cache is fetched where it may be reused, and may be missing"


@pytest.mark.parametrize(("branch", "known"), [("main", True), ("trunk", True), ("release", False), ("mai", False)])
def test_a_default_branch_that_the_pipeline_does_not_run_on_is_told(runner, branch, known):
    """Fault in CI and the judge: the default branch is not main, master or trunk.

    The weekly audit fails: `pipeline.yml or suite.yml ignores the default branch release: add it to each line branches:
    [main, master, trunk].`
    """
    runner.bash(f"mkdir -p .github && ln -s {ROOT}/.github/workflows .github/workflows")
    answer = json.dumps({"workflow_runs": [{"created_at": datetime.now(UTC).isoformat()}]})
    answers = f"*pulls*) echo '[]' ;; *) echo '{answer}' ;;"
    (runner.programs / "gh").write_text(f'#!/bin/sh\ncase "$*" in {answers} esac\n')
    (runner.programs / "gh").chmod(0o755)
    (step,) = (step["name"] for step in steps_of("audit", "silence") if "run" in step)
    done = runner.step("audit", "silence", step, False, BRANCH=branch)
    assert done.returncode == (not known)
    ignored = f"pipeline.yml or suite.yml ignores the default branch {branch}"
    fault = f"{ignored}: add it to each line branches: [main, master, trunk]."
    assert done.stdout == ("" if known else f"::error::{fault}\n")
    if not known:
        assert runner.outputs() == {"fault": fault}
    if branch == "release":
        assert f"`{fault}`" in (ROOT / "docs/faults.md").read_text(encoding="utf-8")


NPM = {"is refused": "exit 1", "hangs": "sleep 60", "hangs, and ignores signals": "trap '' TERM; sleep 60"}


@pytest.mark.parametrize("npm", NPM.values(), ids=NPM.keys())
def test_a_job_goes_on_without_cml_where_npm_fails_or_hangs(runner, npm):
    """Fault in CI and the judge: npm fails, or hangs.

    After two minutes at most the job goes on without CML: `CML could not be installed: the GitHub CLI does its work.`
    """
    action = ROOT / ".github" / "actions" / "cml"
    steps = YAML(typ="safe").load(action / "action.yml")["runs"]["steps"]
    (install,) = [step["run"] for step in steps if "run" in step]
    (runner.programs / "npm").write_text(f"#!/bin/sh\n{npm}\n")
    (runner.programs / "npm").chmod(0o755)
    assert install.count("timeout --kill-after=10 120 npm ci ") == 1
    shortened = install.replace("--kill-after=10 120", "--kill-after=0.2 0.2")
    added = runner.temporary / "path"
    done = runner.bash(shortened, GITHUB_ACTION_PATH=str(action), GITHUB_PATH=str(added))
    assert done.stdout == "::warning::CML could not be installed: the GitHub CLI does its work.\n"
    assert added.read_text() == f"{runner.temporary}/cml/node_modules/.bin\n"
