"""Whose approval counts. The pull request is as GitHub's API tells it; its CLI is replaced."""

import json

from ci import approved, shell

import pytest

REAL_RUN = shell.run
HEAD, OLDER, MERGE = "a" * 40, "b" * 40, "c" * 40
CODEOWNERS = """# who must be asked
*                 @everybody
/.github/         @olga @example/ml-maintainers  # the judges
/docs/            @writer
"""


def review(login, state="APPROVED", commit=HEAD, *, teams=(), can_push=True, body=""):
    return {
        "author": login and {"login": login},
        "authorCanPushToRepository": can_push,
        "state": state,
        "body": body,
        "commit": {"oid": commit},
        "onBehalfOf": {"nodes": [{"combinedSlug": team} for team in teams]},
    }


@pytest.fixture
def ask(monkeypatch, tmp_path, capsys):
    """Return a function that returns who has approved, as a run on the pull request or on main is told."""

    def asked(
        *reviews, on_main=False, author="bob", pull=None, codeowners=CODEOWNERS, main="main", event="push", ref=""
    ):
        of_commit = {"number": 7, "merged_at": "2026", "merge_commit_sha": MERGE, "base": {"ref": "main"}}
        of_commit |= {"head": {"sha": HEAD}} | (pull or {})

        def run(*command, **_):
            if command[0] == "git":
                assert command == ("git", "show", "main:.github/CODEOWNERS")
                return codeowners
            if command[2] == "repos/example/churn/pulls/7":
                return json.dumps({"head": {"sha": HEAD}})
            if command[2] != "graphql":
                assert command == ("gh", "api", f"repos/example/churn/commits/{MERGE}/pulls")
                return json.dumps([of_commit])
            assert "number=7" in command
            told = {"author": author and {"login": author}, "reviews": {"nodes": list(reviews)}}
            return json.dumps({"data": {"repository": {"pullRequest": told}}})

        monkeypatch.setattr(shell, "run", run)
        monkeypatch.setenv("GITHUB_REPOSITORY", "example/churn")
        monkeypatch.setenv("GITHUB_EVENT_NAME", event)
        monkeypatch.setenv("GITHUB_REF", ref)
        monkeypatch.setenv("GITHUB_REF_NAME", main if on_main else "7/merge")
        monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
        where = ("--head", MERGE, "--pull-request", "") if on_main else ("--head", HEAD, "--pull-request", "7")
        approved.main(["--base", "main", *where])
        by, ids = (tmp_path / "output").read_text().splitlines()[-2:]
        asked.ids = ids.removeprefix("approved=")
        return by.removeprefix("approved_by=")

    return asked


def test_an_owners_approval_of_the_very_commit_counts(ask):
    assert ask(review("Olga")) == "olga"


def test_an_approval_on_behalf_of_an_owning_team_counts(ask):
    assert ask(review("tim", teams=["example/ml-maintainers"])) == "example/ml-maintainers"
    assert ask(review("tim") | {"onBehalfOf": None}) == "", "teams that the token may not see count for nobody"


def test_on_main_the_approval_of_the_merged_pull_request_counts(ask):
    assert ask(review("olga"), on_main=True) == "olga"


def test_in_a_merge_queue_the_approval_of_the_last_pull_request_counts(ask):
    ref = f"refs/heads/gh-readonly-queue/main/pr-7-{OLDER}"
    assert ask(review("olga"), on_main=True, event="merge_group", ref=ref, pull={"merged_at": None}) == "olga"
    assert ask(review("olga"), on_main=True, event="push", ref=ref, pull={"merged_at": None}) == "", "anybody's branch"


def test_on_a_default_branch_of_another_name_too(ask):
    assert ask(review("olga"), on_main=True, main="trunk", pull={"base": {"ref": "trunk"}}) == "olga"


@pytest.mark.parametrize(
    "pull", [{"merged_at": None}, {"merge_commit_sha": OLDER}, {"base": {"ref": "other"}}, {"head": {"sha": OLDER}}]
)
def test_on_main_no_other_pull_request_that_holds_the_commit_counts(ask, pull):
    assert ask(review("olga"), on_main=True, pull=pull) == ""


@pytest.mark.parametrize(
    "reviews",
    {
        "nobody": [],
        "a stranger": [review("mallory", can_push=False)],
        "a colleague who owns nothing": [review("tim", teams=["example/others"])],
        "the owner of something else": [review("writer"), review("everybody")],
        "an owner without write access": [review("olga", can_push=False)],
        "an owner, of an older commit": [review("olga", commit=OLDER)],
        "an owner, of a commit that is gone": [review("olga") | {"commit": None}],
        "an owner who comments": [review("olga", "COMMENTED")],
        "an owner who changed her mind": [review("olga"), review("olga", "CHANGES_REQUESTED")],
        "an owner who was dismissed": [review("olga", "DISMISSED")],
        "an account that is gone": [review(None)],
    }.values(),
)
def test_no_other_approval_counts(ask, reviews):
    assert ask(*reviews) == ""


def test_a_comment_after_it_takes_no_approval_back(ask):
    assert ask(review("olga"), review("olga", "COMMENTED", commit=OLDER)) == "olga"


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        ("", ""),
        ("Looks good.", ""),
        ("approve settings-0c3e20", "settings-0c3e20"),
        (
            "Fine, since the market changed.\r\n\r\nApprove settings-0c3e20  stages-91bc07\r\n",
            "settings-0c3e20 stages-91bc07",
        ),
        ("```text\napprove settings-0c3e20 stages-91bc07\n```", "settings-0c3e20 stages-91bc07"),
        ("`approve settings-0c3e20, stages-91bc07`.", "settings-0c3e20 stages-91bc07"),
        ("approve settings-0c3e20\napprove settings-0c3e20 labels-000000", "settings-0c3e20 labels-000000"),
        ("> approve settings-0c3e20\n\nWhy?", ""),
        (" >approve settings-0c3e20", ""),
        *((f"> Look:{end}approve settings-0c3e20\n\nFine.", "") for end in "\r\v\f\x1c\x85\u2028\u2029"),
        ("I do not approve settings-0c3e20", ""),
        ("approve settings-0c3e20 as soon as the test is green", ""),
        ("approve", ""),
        ("approve settings-0c3e20; $(reboot)", ""),
    ],
)
def test_the_ids_of_a_review_are_in_lines_of_their_own_that_are_no_quotation(ask, body, ids):
    assert ask(review("olga", body=body)) == "olga"
    assert ask.ids == ids


def test_only_the_newest_review_of_an_owner_names_ids_and_those_of_two_owners_add_up(ask):
    first, second = review("olga", body="approve labels-000000"), review("olga", body="approve stages-91bc07")
    ask(first, second, review("mallory", body="approve settings-0c3e20"))
    assert ask.ids == "stages-91bc07"
    ask(first, review("olga", "CHANGES_REQUESTED", body="approve stages-91bc07"))
    assert ask.ids == ""
    ask(review("olga", commit=OLDER, body="approve stages-91bc07"))
    assert ask.ids == ""
    both = "/.github/ @olga @tim\n"
    assert ask(first, review("tim", body="approve stages-91bc07"), codeowners=both) == "olga tim"
    assert ask.ids == "labels-000000 stages-91bc07"


def test_nobody_approves_what_is_their_own(ask):
    assert ask(review("olga"), author="Olga") == ""


def test_without_owners_of_the_workflows_nobody_can_approve(ask):
    assert ask(review("olga"), codeowners="/docs/ @olga\n") == ""
    assert ask(review("olga"), codeowners="* @olga\n/.github/\n") == "", "a later line without owners leaves none"


@pytest.mark.parametrize("answer", [{"data": None}, {"message": "Server Error"}, None, []])
def test_a_github_that_answers_nonsense_approves_nothing_and_says_so(ask, monkeypatch, tmp_path, capsys, answer):
    ask()
    monkeypatch.setattr(shell, "run", lambda *_, **__: json.dumps(answer))
    approved.main(["--base", "main", "--head", HEAD, "--pull-request", "7"])
    assert (tmp_path / "output").read_text() == "approved_by=\napproved=\n" * 2
    assert "::warning::GitHub could not be asked for approvals" in capsys.readouterr().out


def test_an_answer_that_comes_with_an_error_since_teams_are_hidden_counts(ask, monkeypatch, tmp_path):
    ask()
    told = {"author": {"login": "bob"}, "reviews": {"nodes": [review("olga")]}}
    answer = json.dumps({"data": {"repository": {"pullRequest": told}}, "errors": [{"type": "FORBIDDEN"}]})
    (tmp_path / "gh").write_text(f"#!/bin/sh\necho '{answer}'\nexit 1\n")
    (tmp_path / "gh").chmod(0o755)
    (tmp_path / "git").write_text("#!/bin/sh\necho '/.github/ @olga'\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setattr(shell, "run", REAL_RUN)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    approved.main(["--base", "main", "--head", HEAD, "--pull-request", "7"])
    assert (tmp_path / "output").read_text().endswith("approved_by=olga\napproved=\n")


def test_a_github_cli_that_is_not_there_approves_nothing_and_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("GITHUB_REPOSITORY", "example/churn")
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    monkeypatch.setenv("PATH", "/nowhere")
    approved.main(["--base", "main", "--head", HEAD, "--pull-request", "7"])
    assert (tmp_path / "output").read_text() == "approved_by=\napproved=\n"
    assert capsys.readouterr().out.startswith("::warning::GitHub could not be asked")
