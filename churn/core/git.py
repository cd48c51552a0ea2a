"""Git, as a process, from the pipeline's folder, which may be a folder of a larger repository."""

import os
import subprocess

from churn.core.errors import StageError

# Git sets them for a hook, and for `rebase --exec` in a worktree; they would name this repository in any other folder.
OF_A_HOOK = ("GIT_DIR", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_WORK_TREE")


def git(*arguments: str, **environment: str) -> str | None:
    """Return what `git` printed, without the end of its last line, or None where it refused."""
    inherited = {name: text for name, text in os.environ.items() if name not in OF_A_HOOK}
    variables = inherited | {"GIT_LITERAL_PATHSPECS": "1"} | environment
    try:
        done = subprocess.run(
            ["git", *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
            env=variables,
        )
    except OSError as error:
        raise StageError("git cannot be run, and commits are compared: install it.") from error
    return done.stdout.rstrip("\n") if done.returncode == 0 else None


def default_branch() -> str:
    """Return the branch that origin/HEAD names, as `origin/trunk`; origin/main where the clone has no such name."""
    return git("rev-parse", "--abbrev-ref", "origin/HEAD") or "origin/main"
