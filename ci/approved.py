"""Say which code owner has approved this very commit, so that its own rules may judge it.

    python3 -P -m ci.approved --base COMMIT --head SHA --pull-request NUMBER    # on main: without a number

An approval counts when it is the newest word of its author on the pull request, was given to the commit `head`, and
comes from somebody else than the pull request's author, who may push and owns /.github/ by the CODEOWNERS of `base`:
as @login, or on behalf of @org/team where the token sees teams. On main the pull request that was merged as `head`
is asked, at its own head. The answer is the output `approved_by`; where GitHub cannot be asked, nobody has approved.
"""

import argparse
import os
import sys
from typing import Any

from ci import github, shell

QUERY = """query($owner: String!, $name: String!, $number: Int!) { repository(owner: $owner, name: $name) {
  pullRequest(number: $number) { author { login } reviews(last: 100) { nodes {
    author { login } authorCanPushToRepository state commit { oid } onBehalfOf(first: 10) { nodes { combinedSlug } }
  } } } } }"""


def owners(text: str) -> set[str]:
    """Return the owners of /.github/, of the workflow that asks, in a CODEOWNERS file: in small letters, without @."""
    lines = [line.partition("#")[0].split() for line in text.splitlines()]
    named = [names for pattern, *names in filter(None, lines) if pattern.strip("/*") in (".github", "")]
    # The last line that fits counts, as at GitHub.
    return {name[1:].lower() for name in named[-1] if name.startswith("@")} if named else set()


def approver(pull: Any, head: str, owning: set[str]) -> str | None:
    """Return the first of `owning`, a login or a team, whose approval of the commit `head` counts."""
    author, newest = ((pull["author"] or {}).get("login") or "").lower(), dict[str, Any]()
    for review in pull["reviews"]["nodes"]:  # oldest first; a comment takes nothing back
        if review["author"] and review["state"] in ("APPROVED", "CHANGES_REQUESTED", "DISMISSED"):
            newest[review["author"]["login"].lower()] = review
    for login, review in newest.items():
        teams = [str(team["combinedSlug"]).lower() for team in (review["onBehalfOf"] or {}).get("nodes") or [] if team]
        names = [name for name in (login, *teams) if name in owning]
        counts = review["state"] == "APPROVED" and (review["commit"] or {}).get("oid") == head
        if counts and names and review["authorCanPushToRepository"] and login != author:
            return names[0]
    return None


def approved_by(base: str, head: str, number: int | None) -> str | None:
    """Return whose approval counts, or None. Raises FailedError, and the errors of JSON and missing keys."""
    owning = owners(shell.run("git", "show", f"{base}:.github/CODEOWNERS", check=False))
    owner, name = os.environ["GITHUB_REPOSITORY"].split("/")
    asked = [(number, head)] if number else []
    for pull in [] if number else github.api(f"commits/{head}/pulls"):
        into_main = pull["base"]["ref"] == os.environ["GITHUB_REF_NAME"]  # asked without a number, this is a run on it
        if pull["merged_at"] and pull["merge_commit_sha"] == head and into_main:
            asked.append((pull["number"], pull["head"]["sha"]))
    for pull_request, commit in asked:
        fields = ("-f", f"owner={owner}", "-f", f"name={name}", "-F", f"number={pull_request}")
        answer = github.graphql(QUERY, *fields, check=False)  # an error and all the rest, where teams may not be seen
        if found := approver(answer["data"]["repository"]["pullRequest"], commit, owning):
            return found
    return None


def main(arguments: list[str]) -> None:
    """Ask GitHub, and set the output."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--base", required=True)
    parser.add_argument("--head", required=True)
    parser.add_argument("--pull-request", type=lambda text: int(text) if text else None)
    given = parser.parse_args(arguments)
    try:
        found = approved_by(given.base, given.head, given.pull_request)
    except (shell.FailedError, ValueError, LookupError, TypeError, AttributeError) as error:
        print(f"::warning::GitHub could not be asked for approvals, so none counts ({type(error).__name__}).")
        found = None
    print(f"Approved by {found}." if found else "No code owner has approved this commit: main's code judges it, too.")
    github.output(approved_by=found or "")


if __name__ == "__main__":
    main(sys.argv[1:])
