"""Merge the pull request PULL_REQUEST at this run's commit, and start the pipeline on main.

    python3 -m ci.land

The run's checks have passed. A merge by the run's token starts nothing by itself.
"""

import json
import os

from ci import github, shell


def main() -> None:
    """Merge, unless a review is missing, or somebody has closed it, such as a newer proposal."""
    number, repository = os.environ["PULL_REQUEST"], ("--repo", os.environ["GITHUB_REPOSITORY"])
    answer = json.loads(shell.run("gh", "pr", "view", number, *repository, "--json", "reviewDecision,state"))
    if answer["state"] == "CLOSED":
        print(f"::notice::Pull request {number} has passed its checks and was closed meanwhile.")
        return
    if answer["reviewDecision"] not in ("", "APPROVED"):
        print(f"::notice::Pull request {number} has passed its checks and waits for a review.")
        return
    merge = ("gh", "pr", "merge", number, *repository, "--squash", "--match-head-commit", os.environ["GITHUB_SHA"])
    try:
        shell.run(*merge, "--delete-branch")
    except shell.FailedError:  # so it is with a merge queue, where the GitHub CLI refuses to delete
        shell.run(*merge)
    github.dispatch(os.environ["DEFAULT_BRANCH"])


if __name__ == "__main__":
    shell.no_arguments(__doc__)
    github.run_program(main)
