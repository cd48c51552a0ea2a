"""Git, as the report asks it, from the pipeline's folder, which may be a folder of a larger repository."""

import subprocess


def git(*arguments: str) -> str | None:
    """Return what `git` printed, without the last line's end, or None where it refused."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.rstrip("\n") if done.returncode == 0 else None
