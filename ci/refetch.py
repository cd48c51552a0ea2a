"""Fetch the data anew; the output `snapshot` names it, unless main was trained on it.

    python -m ci.refetch

A source under `dvc add` is pulled first, and one of `dvc import` or `dvc import-url` is updated to its origin's newest
state. The output `source` then lists the changed .dvc files, which the pull request has to hold.
"""

import hashlib
import re
import sys
from pathlib import Path

from ci import github, shell
from ci.recorded import SNAPSHOT


def tracked() -> list[Path]:
    """Return the .dvc files of what dvc.lock says a stage reads, or of a folder around it."""
    lock = Path("dvc.lock")
    paths = re.findall(r"(?m)^\s*-? *path: (.+)$", lock.read_text(encoding="utf-8") if lock.exists() else "")
    around = [place for path in paths for place in (Path(path.strip("'\"")), *Path(path).parents) if place.name]
    files = [place.with_name(f"{place.name}.dvc") for place in dict.fromkeys(around)]
    return [file for file in files if file.is_file()]


def bring(file: Path) -> int:
    """Update or pull what a .dvc file holds, and return DVC's exit status."""
    imported = re.search(r"(?m)^deps:", file.read_text(encoding="utf-8"))
    status = shell.call("dvc", command := "update" if imported else "pull", str(file))
    if status:
        github.output(fault=f"fetch: `dvc {command} {file}` failed, so the source is not here; its log says why.")
    return status


def main() -> int:
    """Return the exit status of the stage."""
    before = {source: source.read_bytes() for source in tracked()}
    for source in before:
        if status := bring(source):
            return status
    if changed := [str(source) for source, content in before.items() if source.read_bytes() != content]:
        github.output(source=changed)
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
