"""Name the commit that a run compares with, and the commit whose code judges, before anything of the branch runs.

    PYTHONPATH=$RUNNER_TEMP/main.zip python3 -P -m ci.base    # which has ci/ of main

On main it is main's commit before the push, elsewhere the one that the branch started from. Outputs: its `name` and its
`commit`; `judge`, which is `base`, or `own` where that commit has no judge; `code`, the commit whose ci/ judges: the
same, and then $RUNNER_TEMP/base.zip holds that ci/, or the run's own where that commit has none.
"""

import os
import sys
from pathlib import Path

from ci import github, shell


def git(*command: str) -> str:
    """Return the output of Git, which is empty where it fails."""
    return shell.run("git", *command, check=False)


def exists(name: str) -> bool:
    """Return whether Git has an object."""
    return shell.call("git", "cat-file", "-e", name) == 0


def base_name(before: str) -> str:
    """Return the name of the commit to compare with."""
    if not github.on_main():
        return f"origin/{os.environ['DEFAULT_BRANCH']}"
    if shell.call("git", "merge-base", "--is-ancestor", before, "HEAD") == 0:
        return before
    return git("rev-parse", "--quiet", "--verify", "HEAD^") or "HEAD"  # dispatched, or main was rewritten


def main() -> None:
    """Set the outputs, and keep the ci/ of the commit."""
    name = base_name(os.environ["BEFORE"])
    commit = git("merge-base", "HEAD", name) or shell.run("git", "rev-parse", "--verify", name)
    judge = "base" if exists(f"{commit}:report/judge.py") else "own"
    code = commit if exists(f"{commit}:ci/judge.py") else os.environ["GITHUB_SHA"]
    if code == commit:
        kept = Path(os.environ["RUNNER_TEMP"], "base.zip")
        shell.run("git", "archive", f"--output={kept}", commit, "ci")
    github.output(name=name, commit=commit, judge=judge, code=code)


if __name__ == "__main__":
    try:
        main()
    except shell.FailedError as error:
        sys.exit(f"base: {error}.")
