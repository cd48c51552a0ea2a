"""Git, as the report asks it, from the pipeline's folder, which may be a folder of a larger repository."""

import subprocess

from churn.stage import StageError


def git(*arguments: str) -> str | None:
    """Return what `git` printed, without the last line's end, or None where it refused."""
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, encoding="utf-8", errors="surrogateescape", check=False
        )
    except OSError as error:
        raise StageError("git cannot be run, and the report compares commits: install it.") from error
    return done.stdout.rstrip("\n") if done.returncode == 0 else None
