"""Merge the pull request PULL_REQUEST at this run's commit, and start the pipeline on main.

    python3 -m ci.land

The run's checks have passed. A merge by the run's token starts nothing by itself. Nor do the checks of a merge queue
start by it, so nothing is queued here: the entry would wait until the queue's time-out removes it.
"""

import json
import os

from ci import github, shell


def main() -> None:
    """Merge, unless a review is missing, or somebody has closed it, such as a newer proposal."""
    number, repository = os.environ["PULL_REQUEST"], ("--repo", os.environ["GITHUB_REPOSITORY"])
    asked = ("gh", "pr", "view", number, *repository, "--json")
    answer = json.loads(shell.run(*asked, "autoMergeRequest,reviewDecision,state"))
    if answer["state"] == "CLOSED":
        print(f"::notice::Pull request {number} has passed its checks and was closed meanwhile.")
        return
    if answer["reviewDecision"] not in ("", "APPROVED"):
        print(f"::notice::Pull request {number} has passed its checks and waits for a review.")
        return
    merge = ("gh", "pr", "merge", number, *repository, "--squash", "--match-head-commit", os.environ["GITHUB_SHA"])
    reason = "GitHub only queued the merge"
    try:
        shell.run(*merge, "--delete-branch")  # which the GitHub CLI refuses where there is a merge queue
    except shell.FailedError as error:
        reason = str(error)
    if json.loads(shell.run(*asked, "state"))["state"] != "MERGED":
        if answer["autoMergeRequest"]:
            print(f"::notice::Pull request {number} has passed its checks, and GitHub merges it by auto-merge.")
            return
        by_hand = "merge it by hand, or set up an app where main has a merge queue (docs/ci.md)"
        raise shell.FailedError(f"{reason}, so pull request {number} is not merged: {by_hand}")
    github.dispatch(os.environ["DEFAULT_BRANCH"])


if __name__ == "__main__":
    shell.no_arguments(__doc__)
    github.run_program(main)
