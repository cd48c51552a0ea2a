"""Fetch the runs that a branch may reuse: main's run-cache, and the branch's own with what its runs have made.

    python .github/scripts/run_cache.py    # after `make remote` with DVC_BRANCH_URL

`dvc fetch --run-cache` brings no more than the entries, and `dvc repro --pull` looks for what they made in the default
remote alone, which is main's.
"""

import sys

from dvc.exceptions import DvcException  # type: ignore[import-untyped]  # DVC has no types
from dvc.repo import Repo  # type: ignore[import-untyped]


def main() -> None:
    """Do what the module says."""
    with Repo() as repo:
        of_main = set(repo.stage_cache.pull("ci"))
        own = set(repo.stage_cache.pull("branch")) - of_main  # last: of entries for one key DVC takes the newest
        for objects in repo.stage_cache.get_used_objs(own).values():
            repo.cloud.pull(objects, remote="branch")


if __name__ == "__main__":
    try:
        main()
    except (DvcException, OSError) as error:
        sys.exit(f"run-cache: {error}")
