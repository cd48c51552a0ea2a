"""Name the commit that a run compares with, and the commit whose code judges, before anything of the branch runs.

    PYTHONPATH=$RUNNER_TEMP/main.zip python3 -P -m ci.base    # which has ci/ of main

On main it is main's commit before the push, elsewhere the one that the branch started from. Outputs: its `name` and its
`commit`; `judge`, which is `base`, or `own` where that commit has no judge; `code`, the commit whose ci/ judges: the
same, and then $RUNNER_TEMP/base.zip holds that ci/, or the run's own where that commit has none; and `first`, where the
default branch has no program that comments, because this very change brings it.
"""

import os
import sys
from pathlib import Path

from ci import github, shell


def base_name(before: str) -> str:
    """Return the name of the commit to compare with."""
    if not github.on_main():
        return f"origin/{os.environ['DEFAULT_BRANCH']}"
    if shell.holds("git", "merge-base", "--is-ancestor", before, "HEAD"):
        return before
    # The run was dispatched, or main was rewritten.
    parent = shell.run("git", "rev-parse", "--quiet", "--verify", "HEAD^", check=False)
    return parent or shell.run("git", "rev-parse", "HEAD")


def main() -> None:
    """Set the outputs, and keep the ci/ of the commit."""
    name = base_name(os.environ["BEFORE"])
    common = shell.run("git", "merge-base", "HEAD", name, check=False)
    commit = common or shell.run("git", "rev-parse", "--verify", name)
    judge = "base" if shell.holds("git", "cat-file", "-e", f"{commit}:report/judge.py") else "own"
    kept = Path(os.environ["RUNNER_TEMP"], "base.zip")
    archived = shell.holds("git", "archive", f"--output={kept}", commit, "ci")
    code = commit if archived else os.environ["GITHUB_SHA"]
    github.output(name=name, commit=commit, judge=judge, code=code)
    if not shell.holds("git", "cat-file", "-e", f"origin/{os.environ['DEFAULT_BRANCH']}:ci/comment.py"):
        github.output(first="true")


if __name__ == "__main__":
    shell.no_arguments(__doc__)
    try:
        main()
    except shell.FailedError as error:
        sys.exit(f"base: {error}.")
