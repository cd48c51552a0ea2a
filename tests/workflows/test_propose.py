"""A pull request with results: opened by CML or without it, once, and merged by whom. Git is real, GitHub is not."""

import json
import subprocess
from pathlib import Path

from ci import propose, shell

import pytest

BRANCH, TITLE = "retrain/1a2b3c4d", "Retrain on snapshot 1a2b3c4d"
HEADLINE = "Passes the gate: ROC AUC 0.86"
BODY = f"{HEADLINE}\n\n[This run](https://github.com/example/churn/actions/runs/12) made the results."


def git(*arguments):
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def github(tmp_path, monkeypatch):
    """A clone with new results in it; what is called besides git is written down, with its token, and answered here."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GITHUB_REPOSITORY", "example/churn")
    monkeypatch.setenv("GITHUB_REF_NAME", "main")
    monkeypatch.setenv("GITHUB_RUN_ID", "12")
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.com")
    monkeypatch.setenv("GH_TOKEN", "of the run")
    monkeypatch.setenv("DISPATCH_TOKEN", "of the run")
    git("init", "--quiet", "--bare", "--initial-branch=main", str(tmp_path / "origin"))
    git("clone", "--quiet", str(tmp_path / "origin"), str(tmp_path / "clone"))
    monkeypatch.chdir(tmp_path / "clone")
    for name in ("dvc.lock", "metrics/gate.json", "params.yaml", "plots/roc.csv"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("old\n")
    git("add", ".")
    git("-c", "user.name=test", "-c", "user.email=test@example.invalid", "commit", "--quiet", "--message=Start")
    git("push", "--quiet", "origin", "HEAD:main")
    for name in ("dvc.lock", "metrics/gate.json", "params.yaml", "plots/roc.csv"):
        Path(name).write_text("new\n")
    propose.OUTCOME.parent.mkdir(parents=True)
    propose.OUTCOME.write_text(json.dumps({"headline": HEADLINE}))

    calls = []
    answers = {
        "cml": "https://github.com/example/churn/pull/9",
        "pulls?state=all&head=example:retrain/1a2b3c4d": "[]",
        "repos/example/churn/pulls/9": '{"node_id": "PR_9"}',
        "repos/example/churn/pulls -f": '{"number": 10}',
        "repos/example/churn/pulls/10": '{"node_id": "PR_10"}',
        "graphql": "{}",
        "churn/pulls?state=all&sort": "[]",
        "churn/git/matching-refs/heads/retrain/": "[]",
        "gh pr close": "",
        "--method=DELETE": "",
        "gh workflow run": "",
    }
    real = shell.run

    def run(*command, token="GH_TOKEN", **_):
        if command[0] == "git":
            return real(*command, token=token)
        calls.append((" ".join(command), token))
        answer = next(answer for part, answer in reversed(answers.items()) if part in calls[-1][0])
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(shell, "run", run)
    run.calls, run.answers = calls, answers
    return run


def propose_it():
    propose.main([f"--branch={BRANCH}", f"--title={TITLE}"])


def called(github, part):
    return [(command, token) for command, token in github.calls if part in command]


@pytest.mark.parametrize("name", ["data.csv.dvc", "a customer of münchen.csv.dvc"])
def test_the_dvc_file_of_an_updated_source_is_in_the_pull_request_and_no_other_change(github, name):
    Path(name).write_text("old\n")
    git("add", name)
    git("-c", "user.name=test", "-c", "user.email=test@example.invalid", "commit", "--quiet", "--message=Import")
    Path(name).write_text("new\n")
    github.answers["cml"] = shell.FailedError("`cml pr` failed (HTTP 503)")
    propose_it()
    assert called(github, "cml pr create")[0][0].endswith(f"dvc.lock metrics/** params.yaml plots/** {name}")
    changed = git("diff", "--name-only", "-z", "origin/main", "HEAD").split("\0")
    assert changed[:-1] == [name, "dvc.lock", "metrics/gate.json", "params.yaml", "plots/roc.csv"]


def test_cml_opens_it_with_the_verdict_and_no_skip_ci(github):
    propose_it()
    ((command, token),) = called(github, "cml pr create")
    assert token == "GH_TOKEN"
    assert f"--branch={BRANCH} --title={TITLE} --body={BODY} The report is the comment below." in command
    assert f"--message={TITLE}" in command
    assert command.endswith("dvc.lock metrics/** params.yaml plots/**")
    assert not called(github, "churn/pulls -f")


@pytest.mark.parametrize(
    "answer",
    [
        "undefined",
        shell.FailedError("`cml pr` cannot be run (No such file or directory)"),
        shell.FailedError("`cml pr` failed (exit status 1)"),
        shell.FailedError("`cml pr` took longer than 300 seconds"),
    ],
    ids=["says undefined", "is missing", "fails", "hangs"],
)
def test_where_cml_opens_none_git_and_the_github_cli_do(github, answer):
    github.answers["cml"] = answer
    propose_it()
    assert git("ls-remote", "origin", f"refs/heads/{BRANCH}")
    assert git("log", "-1", "--format=%s|%an", f"origin/{BRANCH}") == f"{TITLE}|github-actions[bot]"
    assert git("diff", "--name-only", "origin/main", f"origin/{BRANCH}").split() == [
        "dvc.lock",
        "metrics/gate.json",
        "params.yaml",
        "plots/roc.csv",
    ]
    ((command, _),) = called(github, "churn/pulls -f")
    assert f"-f base=main -f head={BRANCH} -f title={TITLE} -f body={BODY}" in command
    assert called(github, "workflow run")[0][0].endswith("-f pull_request=10")


def test_where_github_actions_may_open_no_pull_request_the_setting_is_named(github):
    """Fault in CI and the judge: the repository does not let GitHub Actions create pull requests.

    The job fails, and the message to Slack names the setting.
    """
    github.answers["cml"] = github.answers["churn/pulls -f"] = shell.FailedError("`gh api` failed (HTTP 403)")
    with pytest.raises(shell.FailedError) as failed:
        propose_it()
    assert str(failed.value) == (
        f"`gh api` failed (HTTP 403), so {BRANCH} has no pull request: let GitHub Actions create pull requests,"
        " or set up an app (docs/ci.md, Settings of the repository)"
    )


def test_it_is_proposed_to_the_default_branch_whatever_its_name(github, monkeypatch):
    monkeypatch.setenv("GITHUB_REF_NAME", "trunk")
    github.answers["cml"] = shell.FailedError("`cml pr` cannot be run (No such file or directory)")
    propose_it()
    assert "--target-branch=trunk" in called(github, "cml pr create")[0][0]
    assert "-f base=trunk" in called(github, "churn/pulls -f")[0][0]


def test_what_cml_has_committed_and_pushed_before_it_failed_is_used(github):
    git("switch", "--quiet", "--create", BRANCH)
    git("-c", "user.name=test", "-c", "user.email=t@example.invalid", "commit", "--quiet", "--all", "--message=By CML")
    git("push", "--quiet", "origin", BRANCH)
    github.answers["cml"] = shell.FailedError("`cml pr` failed (exit status 1)")
    propose_it()
    assert git("log", "-1", "--format=%s", f"origin/{BRANCH}") == "By CML"
    assert called(github, "churn/pulls -f")


def test_a_branch_that_an_earlier_attempt_left_behind_is_in_nobodys_way(github):
    git("-c", "user.name=test", "-c", "user.email=t@example.invalid", "commit", "--quiet", "--all", "--message=Left")
    git("push", "--quiet", "origin", f"HEAD:{BRANCH}")
    git("reset", "--quiet", "--soft", "HEAD^")
    github.answers["cml"] = shell.FailedError("`cml pr` failed (exit status 1)")
    propose_it()
    assert git("log", "-1", "--format=%s", f"origin/{BRANCH}") == TITLE


RUNS = f"churn/actions/workflows/pipeline.yml/runs?event=workflow_dispatch&branch={BRANCH}"


def opened_before(github, state="open", auto_merge=None, runs=()):
    """Let an earlier attempt have opened pull request 4."""
    address = "https://github.com/example/churn/pull/4"
    former = {"html_url": address, "number": 4, "head": {"ref": BRANCH}, "state": state, "auto_merge": auto_merge}
    github.answers[f"pulls?state=all&head=example:{BRANCH}"] = json.dumps([former])
    github.answers["repos/example/churn/pulls/4"] = '{"node_id": "PR_4"}'
    github.answers[RUNS] = json.dumps({"workflow_runs": list(runs)})
    return address


@pytest.mark.parametrize(
    "former",
    [{"state": "closed"}, {"auto_merge": {"merge_method": "squash"}}, {"runs": [{"id": 3}]}],
    ids=["closed", "GitHub merges it", "its checks were started"],
)
def test_what_was_proposed_before_is_not_proposed_again(github, capsys, former):
    address = opened_before(github, **former)
    propose_it()
    assert f"::notice::Proposed before: {address}" in capsys.readouterr().out
    assert not [call for call, _ in github.calls if not call.startswith("gh api repos/example/churn/")]
    assert not called(github, "churn/pulls -f")


@pytest.mark.parametrize("app", [False, True], ids=["without an app", "with an app"])
def test_an_attempt_after_one_that_failed_half_way_sees_that_the_open_pull_request_is_merged(
    github, monkeypatch, capsys, app
):
    """Fault in CI and the judge: GitHub fails after a pull request with results was opened.

    The job fails. "Re-run failed jobs" opens no second pull request, and starts the checks of the first one.
    """
    if app:
        monkeypatch.setenv("GH_TOKEN", "of the app")
    github.answers["gh workflow run"] = github.answers["graphql"] = shell.FailedError("`gh api` failed (HTTP 502)")
    with pytest.raises(shell.FailedError):
        propose_it()
    opened_before(github)
    github.answers |= {"gh workflow run": "", "graphql": "{}"}
    github.calls.clear()
    propose_it()
    assert not called(github, "cml pr create") + called(github, "churn/pulls -f")
    assert called(github, RUNS)[0][1] == "DISPATCH_TOKEN", "the app's has no right to read runs"
    assert "earlier attempt opened pull request 4" in capsys.readouterr().out
    if app:
        assert called(github, "graphql")[0][0].endswith("-f id=PR_4")
    else:
        command = f"gh workflow run pipeline.yml --repo example/churn --ref {BRANCH} -f pull_request=4"
        assert called(github, "workflow run") == [(command, "DISPATCH_TOKEN")]


def test_a_late_attempt_closes_no_newer_proposal(github):
    opened_before(github)
    github.answers["churn/pulls?state=all&sort"] = json.dumps([pull(5, "retrain/newer", "open")])
    propose_it()
    assert not called(github, "gh pr close")


def pull(number, ref, state, repository="example/churn"):
    return {"number": number, "state": state, "head": {"ref": ref, "repo": repository and {"full_name": repository}}}


def test_what_it_supersedes_is_closed_and_the_branches_of_former_ones_are_deleted(github):
    pulls = [
        pull(9, BRANCH, "open"),
        pull(8, "retrain/older", "open"),
        pull(7, "retrain/merged", "closed"),
        pull(6, "retrain/of-a-fork", "open", "stranger/churn"),
        pull(5, "retrain/of-a-deleted-fork", "open", None),
        pull(4, "feature", "open"),
    ]
    refs = [BRANCH, "retrain/older", "retrain/merged", "retrain/by-hand", "retrain/of-a-fork"]
    github.answers["churn/pulls?state=all&sort"] = json.dumps(pulls)
    github.answers["matching-refs"] = json.dumps([{"ref": f"refs/heads/{ref}"} for ref in refs])
    propose_it()
    closed = called(github, "gh pr close")
    assert closed == [("gh pr close 8 --repo example/churn --comment Superseded by #9.", "GH_TOKEN")]
    deleted = [command.rpartition("/git/refs/heads/")[2] for command, _ in called(github, "--method=DELETE")]
    assert deleted == ["retrain/merged", "retrain/older"]


def test_where_github_does_not_close_former_ones_the_new_one_is_proposed_all_the_same(github, capsys):
    github.answers["churn/pulls?state=all&sort"] = shell.FailedError("`gh api` failed (HTTP 502)")
    propose_it()
    assert (
        "::warning::Former pull requests are left as they are: `gh api` failed (HTTP 502)." in capsys.readouterr().out
    )
    assert called(github, "workflow run")


def test_without_an_app_the_checks_are_dispatched_and_the_job_land_merges(github):
    propose_it()
    assert called(github, "workflow run") == [
        (f"gh workflow run pipeline.yml --repo example/churn --ref {BRANCH} -f pull_request=9", "DISPATCH_TOKEN")
    ]
    assert not called(github, "graphql")


def test_with_an_app_github_runs_the_checks_and_merges(github, monkeypatch):
    monkeypatch.setenv("GH_TOKEN", "of the app")
    propose_it()
    ((command, token),) = called(github, "graphql")
    assert "enablePullRequestAutoMerge" in command
    assert command.endswith("-f id=PR_9")
    assert token == "GH_TOKEN"
    assert not called(github, "workflow run")


def test_where_main_requires_no_checks_the_job_land_merges_also_with_an_app(github, monkeypatch):
    monkeypatch.setenv("GH_TOKEN", "of the app")
    github.answers["graphql"] = shell.FailedError("`gh api` failed (exit status 1)")
    propose_it()
    assert called(github, "workflow run")[0][1] == "DISPATCH_TOKEN"


def test_a_command_gets_the_token_that_it_is_given(monkeypatch):
    monkeypatch.setenv("GH_TOKEN", "of the app")
    monkeypatch.setenv("DISPATCH_TOKEN", "of the run")
    command = ("sh", "-c", "echo $GH_TOKEN, $REPO_TOKEN, $ITERATIVE_DO_NOT_TRACK")
    assert shell.run(*command) == "of the app, of the app, 1"
    assert shell.run(*command, token="DISPATCH_TOKEN") == "of the run, of the run, 1"
