"""Open a pull request with the results in the work tree, and let it merge when its checks have passed.

    python3 -m ci.propose --branch retrain/1a2b3c4d --title TITLE

It is proposed to the branch that the run is on, which is the default branch.
CML opens it; where CML is missing or fails, git and the GitHub CLI do. What was proposed before, whatever became of it,
is not proposed again. If an attempt failed after it opened the pull request, the next one continues there.

GH_TOKEN opens the pull request: if it is the run's own token (DISPATCH_TOKEN), GitHub starts no checks, and if main
requires none, GitHub has nothing to wait for. In both cases the pipeline is dispatched on the branch, and merges the
pull request in its job `land`.

Older pull requests of the same kind, such as retrain/, are superseded: they are closed, and their branches are deleted,
also those of merged ones.
"""

import argparse
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from ci import github, shell

RESULTS = ("dvc.lock", "metrics", "params.yaml", "plots")
OUTCOME = Path("build/report/outcome.json")
AUTO_MERGE = (
    "mutation($id: ID!) {"
    " enablePullRequestAutoMerge(input: {pullRequestId: $id, mergeMethod: SQUASH}) {clientMutationId} }"
)


def results() -> list[str]:
    """Return the paths that a pull request holds: RESULTS, and the .dvc file of a source that was updated."""
    changed = shell.run("git", "diff", "--name-only", "-z", "--", "*.dvc")  # else Git writes ü as \303\274
    return [*RESULTS, *filter(None, changed.split("\0"))]


def open_by_cml(branch: str, title: str, body: str) -> int:
    """Return the number of the pull request that CML opened. Raises ValueError when it opened none."""
    printed = shell.run(
        *("cml", "pr", "create", "--driver=github", f"--target-branch={os.environ['GITHUB_REF_NAME']}"),
        *(
            f"--branch={branch}",
            f"--title={title}",
            f"--body={body}",
            f"--user-name={github.BOT}",
            f"--user-email={github.BOT_EMAIL}",
        ),
        f"--message={title}",  # without it CML adds [skip ci], and nothing would be checked
        *(f"{name}/**" if Path(name).is_dir() else name for name in results()),  # with fetch.as_of
    )
    if not (found := re.fullmatch(r"https://\S+/pull/(\d+)", printed)):
        raise ValueError("it gave no address")
    return int(found[1])


def open_by_git(branch: str, title: str, body: str) -> int:
    """Return the number of the pull request that git and the GitHub CLI opened, also after CML gave up half-way."""
    shell.run("git", "config", "credential.helper", "!gh auth git-credential")
    shell.run("git", "switch", "--quiet", "--force-create", branch)
    shell.run("git", "add", *results())
    if shell.run("git", "diff", "--cached", "--name-only"):
        identity = ("-c", f"user.name={github.BOT}", "-c", f"user.email={github.BOT_EMAIL}")
        shell.run("git", *identity, "commit", "--quiet", f"--message={title}")
    shell.run("git", "push", "--quiet", "--force", "origin", f"HEAD:refs/heads/{branch}")
    values = {"base": os.environ["GITHUB_REF_NAME"], "head": branch, "title": title, "body": body}
    fields = [part for name, value in values.items() for part in ("-f", f"{name}={value}")]
    try:
        return int(github.api("pulls", *fields)["number"])
    except shell.FailedError as error:
        allow = "let GitHub Actions create pull requests, or set up an app (docs/ci.md, Settings of the repository)"
        raise shell.FailedError(f"{error}, so {branch} has no pull request: {allow}") from error


def merges_itself(number: int) -> bool:
    """Return whether GitHub merges the pull request when its checks have passed.

    `gh pr merge --auto` is not used: where no check is required, it merges at once.
    """
    try:
        github.graphql(AUTO_MERGE, "-f", f"id={github.api(f'pulls/{number}')['node_id']}")
    except shell.FailedError:
        return False
    return True


def unfinished(pull: Any) -> bool:
    """Return whether a pull request is open, and the attempt that opened it left nothing that merges it."""
    if pull["state"] != "open" or pull["auto_merge"]:
        return False
    dispatched = f"event=workflow_dispatch&branch={pull['head']['ref']}&per_page=1"
    answer = github.api(f"actions/workflows/pipeline.yml/runs?{dispatched}", token="DISPATCH_TOKEN")
    return not answer["workflow_runs"]


def remove_former(branch: str, number: int) -> None:
    """Close the open pull requests of the branch's kind before `number`, and delete the branches of all of them."""
    kind, repository = branch.partition("/")[0] + "/", os.environ["GITHUB_REPOSITORY"]
    pulls = github.api("pulls?state=all&sort=created&direction=desc&per_page=100")
    former = [
        pull
        for pull in pulls
        if pull["head"]["ref"].startswith(kind) and github.ours(pull["head"]["repo"]) and pull["number"] < number
    ]
    for pull in former:
        if pull["state"] == "open":
            closed = str(pull["number"])
            shell.run("gh", "pr", "close", closed, "--repo", repository, "--comment", f"Superseded by #{number}.")
    there = {one["ref"] for one in github.api(f"git/matching-refs/heads/{kind}")}
    for ref in sorted(there & {f"refs/heads/{pull['head']['ref']}" for pull in former} - {f"refs/heads/{branch}"}):
        shell.run("gh", "api", "--method=DELETE", f"repos/{repository}/git/{ref}")


def open_pull(branch: str, title: str) -> int:
    """Open the pull request with the gate's result, and return its number."""
    headline = json.loads(OUTCOME.read_text(encoding="utf-8"))["headline"]
    body = f"{headline}\n\n[This run]({github.run_url()}) made the results. The report is the comment below."
    try:
        number = open_by_cml(branch, title, body)
    except (shell.FailedError, ValueError) as error:
        print(f"CML opened no pull request, so the GitHub CLI does: {error}.")
        number = open_by_git(branch, title, body)
    print(f"::notice::Pull request {number}: {title}")
    return number


def main(arguments: list[str]) -> None:
    """Open the pull request, once, and see that something merges it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--branch", required=True)
    parser.add_argument("--title", required=True)
    given = parser.parse_args(arguments)

    owner = os.environ["GITHUB_REPOSITORY"].partition("/")[0]
    former = github.api(f"pulls?state=all&head={owner}:{given.branch}")
    if former and not unfinished(former[0]):
        print(f"::notice::Proposed before: {former[0]['html_url']}")
        return
    if former:
        number = former[0]["number"]
        print(f"::notice::An earlier attempt opened pull request {number}, and started no checks that merge it.")
    else:
        number = open_pull(given.branch, given.title)
    try:
        remove_former(given.branch, number)
    except shell.FailedError as error:
        print(f"::warning::Former pull requests are left as they are: {error}.")
    if os.environ["GH_TOKEN"] == os.environ["DISPATCH_TOKEN"] or not merges_itself(number):
        github.dispatch(given.branch, "-f", f"pull_request={number}", token="DISPATCH_TOKEN")


if __name__ == "__main__":
    github.run_program(lambda: main(sys.argv[1:]))
