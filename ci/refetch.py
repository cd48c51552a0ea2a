"""Fetch the data anew; the output `snapshot` names it, unless main was trained on it.

python -m ci.refetch
"""

import hashlib
import sys
from pathlib import Path

from ci import github, shell
from ci.recorded import SNAPSHOT


def main() -> int:
    """Return the exit status of the stage."""
    fetch = ("dvc", "repro", "--pull", "--no-run-cache", "--force", "--single-item", "fetch")
    if status := shell.call("python", "-m", "churn", "lock", "take", "dvc.lock") or shell.call(*fetch):
        return status
    with Path(SNAPSHOT).open("rb") as file:
        snapshot = hashlib.file_digest(file, "md5").hexdigest()  # as DVC names it
    if shell.holds("git", "grep", "--quiet", snapshot, "HEAD", "--", "dvc.lock"):
        print("\n::notice::No new data: the source still gives the snapshot that main was trained on.")
    else:
        github.output(snapshot=snapshot[:8])
    return 0


if __name__ == "__main__":
    shell.no_arguments(__doc__)
    sys.exit(main())
