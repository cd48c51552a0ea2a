"""GitHub's API through the GitHub CLI, and the origin and the outputs of a run."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ci import shell

BOT, BOT_EMAIL = "github-actions[bot]", "41898282+github-actions[bot]@users.noreply.github.com"  # of a workflow's token


def api(path: str, *options: str, **more: Any) -> Any:
    """Return the API's answer about this repository; options and `more` as for `gh api` and shell.run."""
    return json.loads(shell.run("gh", "api", f"repos/{os.environ['GITHUB_REPOSITORY']}/{path}", *options, **more))


def graphql(query: str, *fields: str, check: bool = True) -> Any:
    """Return the answer to a query with the `-f` and `-F` fields of `gh api`; with `check=False` also a partial one."""
    return json.loads(shell.run("gh", "api", "graphql", "-f", f"query={query}", *fields, check=check))


def dispatch(ref: str, *fields: str, token: str = "GH_TOKEN") -> None:
    """Start the pipeline on a branch."""
    repository = ("--repo", os.environ["GITHUB_REPOSITORY"])
    shell.run("gh", "workflow", "run", "pipeline.yml", *repository, "--ref", ref, *fields, token=token)


def on_main() -> bool:
    """Return whether the run is on the default branch."""
    return os.environ["GITHUB_REF"] == f"refs/heads/{os.environ['DEFAULT_BRANCH']}"


def ours(repository: Any) -> bool:
    """Return whether a head's repository is this one; a deleted fork is null."""
    return bool(repository) and repository["full_name"] == os.environ["GITHUB_REPOSITORY"]


def run_before() -> Any:
    """Return the run that started this one by `workflow_run`, or None."""
    return _event()["workflow_run"] if os.environ["GITHUB_EVENT_NAME"] == "workflow_run" else None


def action() -> str:
    """Return the activity type of the event, such as completed."""
    return str(_event()["action"])


def _event() -> Any:
    return json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_text(encoding="utf-8"))


def commit() -> str:
    """Return the commit that the run is about: that of a pull request, and not its merge, which has no name."""
    if before := run_before():
        return str(before["head_sha"])
    if os.environ["GITHUB_EVENT_NAME"] == "pull_request":
        return str(_event()["pull_request"]["head"]["sha"])
    return os.environ["GITHUB_SHA"]


def run_url() -> str:
    """Return the address of this run."""
    return "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}".format_map(os.environ)


def output(**values: object) -> None:
    """Set outputs of the step, each on one line, and a list on a line for each. On a desk there are none to set."""
    if path := os.environ.get("GITHUB_OUTPUT"):
        with Path(path).open("a", encoding="utf-8") as file:
            for name, value in values.items():
                lines = [" ".join(str(one).splitlines()) for one in (value if isinstance(value, list) else [value])]
                file.write(f"{name}={lines[0]}\n" if len(lines) == 1 else "\n".join([f"{name}<<.", *lines, ".\n"]))


def run_program(main: Callable[[], int | None]) -> None:
    """Exit with the status of a program; where a command of it failed, the output `fault` says so, for alert.py."""
    try:
        status = main()
    except shell.FailedError as error:
        fault = f"{Path(sys.argv[0]).stem}: {error}."
        output(fault=fault)
        print(f"::error::{fault}")
        status = 1
    sys.exit(status)
