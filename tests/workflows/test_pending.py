"""The comment while a newer commit is being checked: it names both commits, and what became of the run."""

import json
from pathlib import Path

from ci import comment, pending
from tests.workflows.fake_github import REPOSITORY, TOKEN, FakeGitHub

import pytest

STAND_INS = Path(__file__).parent / "stand_ins" / "bin"
FORMER, SHA = "5" * 40, "7" * 40
RUNS = f"https://github.com/{REPOSITORY}/actions/runs"
VERDICT = (
    "**Passes the gate**\n\n<sub>On commit 55555555</sub>\n\n| a | b |\n\n"
    f"<sub>Commit 55555555, [the run]({RUNS}/11), 2026-11-29 02:05 UTC</sub>\n\n"
    f'![](https://cml.dev/watermark.png#{FORMER} "CML watermark model-report")'
)
BELOW = "Below is the verdict on `55555555`.\n\n"
CHECKED = f"> [!NOTE]\n> ⏳ `77777777` is being checked by [this run]({RUNS}/12). {BELOW}"
ENDED = f"> [!NOTE]\n> ⏹ `77777777` has no verdict, because [its run]({RUNS}/12) ended without a report. {BELOW}"


@pytest.fixture
def github(tmp_path, monkeypatch):
    """GitHub with the comment on a former commit of pull request 7, whose newest is SHA."""
    fake = FakeGitHub()
    environment = {
        "DEFAULT_BRANCH": "main",
        "FAKE_GITHUB_URL": fake.serve(),
        "GITHUB_EVENT_NAME": "workflow_run",
        "GITHUB_EVENT_PATH": str(tmp_path / "event.json"),
        "GITHUB_REPOSITORY": REPOSITORY,
        "GITHUB_TOKEN": TOKEN,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("GH_TOKEN", raising=False)
    monkeypatch.setenv("PATH", str(STAND_INS), prepend=":")
    fake.comment("Looks good", "somebody")
    fake.comment(VERDICT)
    yield fake
    fake.close()


@pytest.fixture
def after(tmp_path):
    """Return a function that edits the comment as after an event of a run."""

    def edit(action, run=12, repository="stranger", branch="feature", sha=SHA):
        of = {"owner": {"login": repository}} if repository else None
        started = {"html_url": f"{RUNS}/{run}", "head_sha": sha, "head_branch": branch, "head_repository": of}
        (tmp_path / "event.json").write_text(json.dumps({"action": action, "workflow_run": started}))
        pending.main()

    return edit


def body(github):
    return github.comments[1]["body"]


def test_while_a_run_checks_a_newer_commit_the_comment_names_it_above_the_former_verdict(github, after):
    after("requested")
    assert body(github) == CHECKED + VERDICT
    after("requested", run=13)
    assert body(github) == CHECKED.replace("runs/12", "runs/13") + VERDICT, "the newest run alone is named"
    assert github.comments[0]["body"] == "Looks good"


def test_a_run_that_ends_without_a_report_is_named_as_such_in_the_comment(github, after):
    """Fault in CI and the judge: a run is cancelled, or ends before it could comment.

    The comment says that the commit has no verdict, and on which commit the verdict below is.
    """
    after("requested")
    after("completed")
    assert body(github) == ENDED + VERDICT
    after("requested", run=13)
    assert body(github) == CHECKED.replace("runs/12", "runs/13") + VERDICT


@pytest.mark.parametrize("action", ["requested", "completed"])
def test_what_a_run_has_reported_stays_as_it_is(github, after, action):
    after(action, run=11)
    assert body(github) == VERDICT


def test_the_end_of_an_older_run_does_not_replace_the_notice_of_the_newer(github, after):
    after("requested", run=13)
    after("completed", run=12)
    assert body(github) == CHECKED.replace("runs/12", "runs/13") + VERDICT


@pytest.mark.parametrize(
    "run", [{"sha": "8" * 40}, {"branch": "other"}, {"repository": "somebody"}, {"repository": None}], ids=str
)
def test_a_run_that_is_not_at_the_head_of_the_pull_request_changes_nothing(github, after, run):
    after("requested", **run)
    assert body(github) == VERDICT


def test_where_there_is_no_comment_of_ours_none_is_made(github, after):
    github.comments[1]["user"] = {"login": "somebody"}
    after("requested")
    assert [one["body"] for one in github.comments] == ["Looks good", VERDICT]


def test_the_longest_report_has_room_for_the_notice(github, after, monkeypatch):
    environment = {"GITHUB_EVENT_NAME": "push", "GITHUB_RUN_ID": "1" * 12, "GITHUB_SHA": FORMER}
    with monkeypatch.context() as change:
        for name, value in (environment | {"GITHUB_SERVER_URL": "https://github.com"}).items():
            change.setenv(name, value)
        text = comment.with_origin("a" * comment.LONGEST)
    github.comments[1]["body"] = f"{text}\n\n{VERDICT.rpartition(chr(10))[2]}"
    after("requested")
    assert body(github).startswith(CHECKED)
    assert len(body(github)) < 65_536
