"""Download what CI recorded of the work that main now holds, so that main need not train again.

    python .github/scripts/recorded.py    # in a run on main, with GH_TOKEN

Looked for are the runs of the merged pull request at its head, then those of main, newest first. A fork's run is no
record: whoever owns the fork could have changed what it does. What is found lies in build/recorded; nothing is there
if nothing was found, and then everything is computed.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RECORDED = Path("build/recorded")
REMOTE = Path(".cache/remote")  # what stands for the DVC remote where there is none


def gh(*arguments: str) -> str:
    """Return what the GitHub CLI printed."""
    return subprocess.run(["gh", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def api(path: str) -> Any:
    """Return what GitHub's API says about this repository."""
    return json.loads(gh("api", f"repos/{os.environ['GITHUB_REPOSITORY']}/{path}"))


def ours(of: Any) -> bool:
    """Return whether a head's repository is this one; a deleted fork is null."""
    return bool(of) and of["full_name"] == os.environ["GITHUB_REPOSITORY"]


def runs(query: str) -> Iterator[int]:
    """Yield the runs of this workflow in which the job `pipeline` succeeded, whatever became of the others."""
    for run in api(f"actions/workflows/pipeline.yml/runs?per_page=20&{query}")["workflow_runs"]:
        if ours(run["head_repository"]):
            jobs = api(f"actions/runs/{run['id']}/jobs")["jobs"]
            if any(job["name"] == "pipeline" and job["conclusion"] == "success" for job in jobs):
                yield run["id"]


def candidates() -> Iterator[int]:
    """Yield the runs that may have recorded what this commit holds, the likeliest first."""
    for pull in api(f"commits/{os.environ['GITHUB_SHA']}/pulls"):
        if pull["merged_at"] and ours(pull["head"]["repo"]):
            yield from runs(f"head_sha={pull['head']['sha']}")
    yield from runs("branch=main")


def download(run: int, name: str, folder: Path) -> bool:
    """Return whether the artifact of a run is in `folder` now; it may have expired."""
    shutil.rmtree(folder, ignore_errors=True)
    where = ("--repo", os.environ["GITHUB_REPOSITORY"], "--dir", str(folder))
    return subprocess.run(["gh", "run", "download", str(run), "--name", name, *where], check=False).returncode == 0


def main() -> None:
    """Download the record of the first run that still has it."""
    try:
        for run in candidates():
            if (os.environ["DVC_REMOTE_URL"] or download(run, "dvc-remote", REMOTE)) and download(
                run, "results", RECORDED
            ):
                print(f"Taken over: what run {run} recorded.")
                return
        print("No run has recorded this work: everything is computed.")
    except (OSError, subprocess.CalledProcessError, ValueError, KeyError, TypeError) as error:
        print(f"::warning::GitHub could not be asked for recorded runs, so everything is computed ({error}).")


if __name__ == "__main__":
    main()
