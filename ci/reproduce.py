"""Run the pipeline as far as the gate, and reuse only runs that no branch could have planted.

    python -m ci.reproduce    # `dvc repro --pull gate`

`--pull` fetches the run-cache, too. A branch reuses main's runs where BRANCH_MAY_REUSE is true: its role cannot
write them, or, without a remote, main's artifact holds them. See docs/decisions.md. Main reuses none, and takes over
what the run RUN recorded; where main finds something else, it makes all anew.
"""

import os
import sys

from ci import github, recorded, shell


def repro(*options: str) -> int:
    """Return the exit status of the pipeline."""
    return shell.call("dvc", "repro", "--pull", *options, "gate")


def on_a_branch() -> int:
    """Run the pipeline on a branch, and return its exit status."""
    if os.environ["BRANCH_MAY_REUSE"] != "true":
        return repro("--no-run-cache")
    if os.environ.get("DVC_BRANCH_URL"):
        # Where it fails it says why. Then all is made here, and pushing fails.
        shell.call("python", "-m", "ci.remote", "fetch")
    return repro()


def on_main() -> int:
    """Run the pipeline on main, and return its exit status."""
    status = repro("--no-run-cache")
    if os.environ["RUN"] and not recorded.fits():
        status = shell.call("python", "-m", "churn", "lock", "drop") or repro("--no-run-cache")
    # What was taken over is now main's own run, for other branches to reuse.
    return status or shell.call("dvc", "commit", "--force", "fetch", "prepare", "train")


if __name__ == "__main__":
    shell.no_arguments(__doc__)
    sys.exit(on_main() if github.on_main() else on_a_branch())
