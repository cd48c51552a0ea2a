"""Take over what CI recorded of the work that main now holds, so that main need not train again, and check it.

    python -m ci.recorded take            # with GH_TOKEN, and nothing that was committed counts
    python -m ci.recorded cache COMMIT    # where there is no remote

Looked for are the runs of the merged pull request at its head, then those of main, the branch DEFAULT_BRANCH, newest
first. A run counts only if its workflow is main's or that of the merged commit. So these are not records: a run of a
fork, of a tag that is called main, and of a pull request to another branch, which runs the workflow of that merge, also
where that pull request goes to main by now.

The record lies in build/recorded, its run's number is the output `run`, and its objects are fetched: from the prefix of
its branch in the DVC remote, or from a folder where there is no remote. Without a record everything is computed.
After the gate `fits` compares what was made with what was recorded.

`cache` puts into DVC's cache what a remote would have: what the newest runs on main left, until the snapshot is there
that COMMIT was trained on, which is what the report compares with; and, on the branch retrain/SNAPSHOT, what the
retraining made. Main itself, and retraining, get no run-cache by it.
"""

import argparse
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ci import github, shell

RECORDED = Path("build/recorded")
FOLDER = Path(".cache/recorded")  # what stood for the DVC remote, where there is none
CACHE = Path(".dvc/cache")  # laid out as a remote is
SNAPSHOT = "data/raw/customers.parquet"
PROPOSED = """query($owner: String!, $name: String!, $branch: String!) { repository(owner: $owner, name: $name) {
  pullRequests(headRefName: $branch, last: 100) { nodes { baseRefName isCrossRepository timelineItems(
    last: 1, itemTypes: [BASE_REF_CHANGED_EVENT, AUTOMATIC_BASE_CHANGE_SUCCEEDED_EVENT]
  ) { nodes {
    ... on BaseRefChangedEvent { createdAt }
    ... on AutomaticBaseChangeSucceededEvent { createdAt }
  } } } } } }"""
EVALUATION, GATE = Path("metrics/evaluation.json"), Path("metrics/gate.json")


def of_main(workflow: str) -> Iterator[Any]:
    """Yield the runs of a workflow on main's own commits, newest first; GitHub also finds those of a tag or a fork."""
    main = os.environ["DEFAULT_BRANCH"]
    for run in github.api(f"actions/workflows/{workflow}/runs?per_page=20&branch={main}")["workflow_runs"]:
        its_own = run["event"] in ("push", "schedule", "workflow_dispatch", "repository_dispatch")
        if github.ours(run["head_repository"]) and its_own and in_main(run["head_sha"]):
            yield run


def in_main(commit: str) -> bool:
    """Return whether main's history has a commit."""
    main = f"refs/remotes/origin/{os.environ['DEFAULT_BRANCH']}"
    return shell.holds("git", "merge-base", "--is-ancestor", commit, main)


def passed(run: Any) -> bool:
    """Return whether the job `pipeline` of a run succeeded, whatever became of the others."""
    jobs = github.api(f"actions/runs/{run['id']}/jobs")["jobs"]
    return any(job["name"] == "pipeline" and job["conclusion"] == "success" for job in jobs)


def of_pull(pull: Any) -> Iterator[Any]:
    """Yield the runs at the head of a pull request.

    GitHub does not say to which branch the pull request of a run went. So the run of a pull request counts only if all
    from that branch go to main, and if it began after the last of them got main as its base.
    """
    head, (owner, name) = pull["head"], os.environ["GITHUB_REPOSITORY"].split("/")
    answer = github.graphql(PROPOSED, "-f", f"owner={owner}", "-f", f"name={name}", "-f", f"branch={head['ref']}")
    found = answer["data"]["repository"]["pullRequests"]["nodes"]
    proposed = [one for one in found if not one["isCrossRepository"]]
    only_to_main = {one["baseRefName"] for one in proposed} == {os.environ["DEFAULT_BRANCH"]}
    since = max((change["createdAt"] for one in proposed for change in one["timelineItems"]["nodes"]), default="")
    for run in github.api(f"actions/workflows/pipeline.yml/runs?per_page=20&head_sha={head['sha']}")["workflow_runs"]:
        to_main = only_to_main and run["created_at"] > since
        by_pull = run["event"] == "pull_request" and run["head_branch"] == head["ref"] and to_main
        if github.ours(run["head_repository"]) and (by_pull or run["event"] == "workflow_dispatch"):
            yield run


def candidates() -> Iterator[tuple[int, str]]:
    """Yield the runs that may have recorded what this commit holds, the likeliest first, and where each one wrote.

    That is the prefix that pipeline.yml gave it, below the DVC remote; main's own is empty.
    """
    for pull in github.api(f"commits/{os.environ['GITHUB_SHA']}/pulls"):
        into_main = pull["merged_at"] and pull["base"]["ref"] == os.environ["DEFAULT_BRANCH"]
        if into_main and github.ours(pull["head"]["repo"]):
            for run in filter(passed, of_pull(pull)):
                by_pull = run["event"] == "pull_request"
                yield run["id"], f"branches/{pull['number'] if by_pull else 'refs/heads/' + run['head_branch']}"
    for run in filter(passed, of_main("pipeline.yml")):
        yield run["id"], ""


def download(run: int, name: str, folder: Path) -> bool:
    """Return whether the artifact of a run is in `folder` now; it may have expired."""
    shutil.rmtree(folder, ignore_errors=True)
    where = ("--repo", os.environ["GITHUB_REPOSITORY"], "--dir", str(folder))
    return shell.call("gh", "run", "download", str(run), "--name", name, *where) == 0


def found() -> tuple[int, str] | None:
    """Download the record of the first run that still has it, and return the run and where its objects lie."""
    remote = os.environ["DVC_REMOTE_URL"]
    for run, prefix in candidates():
        downloaded = (remote or download(run, "dvc-remote", FOLDER)) and download(run, "results", RECORDED)
        if downloaded and Path(RECORDED, "dvc.lock").exists():
            print(f"Taken over: what run {run} recorded.", flush=True)
            return run, f"{remote}/{prefix}" if remote and prefix else "" if remote else str(FOLDER.absolute())
    print("No run has recorded this work: everything is computed.", flush=True)
    return None


def start_from(taken: tuple[int, str] | None) -> int:
    """Let dvc.lock claim what a record does, or nothing, and fetch what it names; return an exit status."""
    if taken is None:
        return shell.call("python", "-m", "churn", "lock", "drop")
    run, place = taken
    github.output(run=run)
    status = shell.call("python", "-m", "churn", "lock", "take", f"{RECORDED}/dvc.lock")
    if place and not status:
        status = shell.call("make", "remote", DVC_BRANCH_URL=place)
        missing = shell.call("dvc", "fetch", "--remote", "branch", "fetch", "prepare", "train")
        if missing:
            print("\n::notice::Not all that was recorded is there.", flush=True)  # what is missing is made anew
    return status


def has_snapshot(commit: str) -> bool:
    """Return whether the cache holds the snapshot that dvc.lock names in `commit`, or it names none."""
    lock = shell.run("git", "show", f"{commit}:dvc.lock", check=False) + "\n"
    named = re.search(rf"path: {SNAPSHOT}\n +hash: md5\n +md5: ([0-9a-f]{{32}})\n", lock)
    return not named or Path(CACHE, "files", "md5", named[1][:2], named[1][2:]).exists()


def into_cache(found: Iterable[Any], name: str, commit: str) -> None:
    """Copy the artifacts of runs into DVC's cache, the newest first, until the snapshot of `commit` is there."""
    for run in found:
        if download(run["id"], name, FOLDER):
            left_out = shutil.ignore_patterns("runs") if github.on_main() else None
            shutil.copytree(FOLDER, CACHE, dirs_exist_ok=True, ignore=left_out)
            print(f"In the cache: {name} of run {run['id']}.")
            if has_snapshot(commit):
                return
    print(f"No more runs have kept {name}.")


def fill_cache(base: str) -> None:
    """Take what main has, back to `base`, and on the branch of a retraining what that made, also if its gate failed."""
    into_cache(filter(passed, of_main("pipeline.yml")), "dvc-remote", base)
    branch = os.environ.get("GITHUB_HEAD_REF") or os.environ["GITHUB_REF_NAME"]
    if branch.startswith("retrain/"):
        into_cache(of_main("retrain.yml"), f"dvc-remote-{branch.removeprefix('retrain/')}", "HEAD")


def difference() -> str | None:
    """Return what main made otherwise than the run recorded it: the model, its evaluation, or None."""
    try:
        made, recorded = [
            (json.loads((folder / GATE).read_bytes())["model_sha256"], json.loads((folder / EVALUATION).read_bytes()))
            for folder in (Path(), RECORDED)
        ]
    except (OSError, ValueError, LookupError, TypeError):
        return "evaluation, which one of them lacks"
    if not made[0] or made[0] != recorded[0]:
        return "model"
    return None if made[1] == recorded[1] else "evaluation"


def fits() -> bool:
    """Return whether what was made is what the run RUN recorded; a warning says what is not."""
    if what := difference():
        # It begins with a line's end, since dvc leaves a colour code on the line.
        recorded = f"What run {os.environ['RUN']} recorded is not what main finds"
        print(f"\n::warning::{recorded}: the {what}. All is made anew.", flush=True)
    return not what


def main(arguments: list[str]) -> int:
    """Take a record over, or fill the cache. Without GitHub's answer there is no record, and the cache stays empty."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("take", help="start from what a run recorded, or from an empty lock")
    commands.add_parser("cache", help="fill DVC's cache where there is no remote").add_argument("commit")
    asked, taken = parser.parse_args(arguments), None
    try:
        if asked.command == "cache":
            fill_cache(asked.commit)
        elif github.on_main() and os.environ["ALWAYS_RETRAIN"] != "true":
            taken = found()
    except (shell.FailedError, OSError, ValueError, KeyError, TypeError) as error:
        said = f"GitHub could not be asked for recorded runs, so everything is computed ({type(error).__name__})."
        print(f"::warning::{said}", flush=True)
    return start_from(taken) if asked.command == "take" else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
