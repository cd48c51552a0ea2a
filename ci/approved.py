"""Say which faults of this very commit a code owner has approved, by the ids that the report gives them.

    python3 -P -m ci.approved --base COMMIT --head SHA --pull-request NUMBER    # on main: without a number

An approval counts when it is the newest word of its author on the pull request, was given to the commit `head`, and
comes from somebody else than the pull request's author, who may push and owns /.github/ by the CODEOWNERS of `base`:
as @login, or on behalf of @org/team where the token sees teams. Its text names the ids in a line of its own, such as
`approve settings-3fa9c1 stages-91bc07`; a quoted line does not count. On main the pull request that was merged as
`head` is asked, at its own head, and in a merge queue the last one of the group. The outputs are `approved_by`, the
owners, and `approved`, the ids, each separated by blanks; where GitHub cannot be asked, nobody has approved.
"""

import argparse
import os
import re
import sys
from typing import Any

from ci import github, shell

QUERY = """query($owner: String!, $name: String!, $number: Int!) { repository(owner: $owner, name: $name) {
  pullRequest(number: $number) { author { login } reviews(last: 100) { nodes {
    author { login } authorCanPushToRepository state body commit { oid }
    onBehalfOf(first: 10) { nodes { combinedSlug } }
  } } } } }"""
QUEUED = re.compile(r"refs/heads/gh-readonly-queue/.+/pr-(\d+)-[0-9a-f]{40}")  # the branch of a merge queue
LINE = re.compile(r"[ \t`]*approve((?:[ \t,`]+[a-z]+-[0-9a-z]+)+)[ \t,.`]*", re.IGNORECASE)


def owners(text: str) -> set[str]:
    """Return the owners of /.github/, of the workflow that asks, in a CODEOWNERS file: in small letters, without @."""
    lines = [line.partition("#")[0].split() for line in text.splitlines()]
    named = [names for pattern, *names in filter(None, lines) if pattern.strip("/*") in (".github", "")]
    # The last line that fits counts, as at GitHub.
    return {name[1:].lower() for name in named[-1] if name.startswith("@")} if named else set()


def ids_in(text: str) -> list[str]:
    """Return the ids in the lines of a review that are nothing but an approval of them.

    A line ends as for GitHub, which puts `>` before each line that it quotes: splitlines() also ends it elsewhere.
    """
    found = filter(None, map(LINE.fullmatch, text.replace("\r\n", "\n").split("\n")))
    return [name.lower() for line in found for name in re.split(r"[ \t,`]+", line[1]) if name]


def approvals(pull: Any, head: str, owning: set[str]) -> dict[str, list[str]]:
    """Return the ids that each of `owning`, a login or a team, has approved, if its approval of `head` counts."""
    author, newest = ((pull["author"] or {}).get("login") or "").lower(), dict[str, Any]()
    for review in pull["reviews"]["nodes"]:  # oldest first; a comment takes nothing back
        if review["author"] and review["state"] in ("APPROVED", "CHANGES_REQUESTED", "DISMISSED"):
            newest[review["author"]["login"].lower()] = review
    found: dict[str, list[str]] = {}
    for login, review in newest.items():
        teams = [str(team["combinedSlug"]).lower() for team in (review["onBehalfOf"] or {}).get("nodes") or [] if team]
        names = [name for name in (login, *teams) if name in owning]
        counts = review["state"] == "APPROVED" and (review["commit"] or {}).get("oid") == head
        if counts and names and review["authorCanPushToRepository"] and login != author:
            found[names[0]] = [*found.get(names[0], []), *ids_in(review["body"] or "")]
    return found


def approved(base: str, head: str, number: int | None) -> dict[str, list[str]]:
    """Return whose approval counts, and their ids. Raises FailedError, and the errors of JSON and missing keys."""
    owning = owners(shell.run("git", "show", f"{base}:.github/CODEOWNERS", check=False))
    owner, name = os.environ["GITHUB_REPOSITORY"].split("/")
    asked = [(number, head)] if number else []
    queued = QUEUED.fullmatch(os.environ["GITHUB_REF"]) if os.environ["GITHUB_EVENT_NAME"] == "merge_group" else None
    if queued:
        asked.append((int(queued[1]), github.api(f"pulls/{queued[1]}")["head"]["sha"]))
    for pull in [] if asked else github.api(f"commits/{head}/pulls"):
        into_main = pull["base"]["ref"] == os.environ["GITHUB_REF_NAME"]  # asked without a number, this is a run on it
        if pull["merged_at"] and pull["merge_commit_sha"] == head and into_main:
            asked.append((pull["number"], pull["head"]["sha"]))
    for pull_request, commit in asked:
        fields = ("-f", f"owner={owner}", "-f", f"name={name}", "-F", f"number={pull_request}")
        answer = github.graphql(QUERY, *fields, check=False)  # an error and all the rest, where teams may not be seen
        if found := approvals(answer["data"]["repository"]["pullRequest"], commit, owning):
            return found
    return {}


def main(arguments: list[str]) -> None:
    """Ask GitHub, and set the output."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--base", required=True)
    parser.add_argument("--head", required=True)
    parser.add_argument("--pull-request", type=lambda text: int(text) if text else None)
    given = parser.parse_args(arguments)
    try:
        found = approved(given.base, given.head, given.pull_request)
    except (shell.FailedError, ValueError, LookupError, TypeError, AttributeError) as error:
        print(f"::warning::GitHub could not be asked for approvals, so none counts ({type(error).__name__}).")
        found = {}
    for name, ids in found.items():
        print(f"Approved by {name}: {' '.join(ids) or 'no fault of the judge, since the review names no id'}.")
    if not found:
        print("No code owner has approved this commit.")
    ids = list(dict.fromkeys(one for listed in found.values() for one in listed))
    github.output(approved_by=" ".join(found), approved=" ".join(ids))


if __name__ == "__main__":
    main(sys.argv[1:])
