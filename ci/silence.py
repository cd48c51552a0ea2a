"""Find out whether the pipeline runs on the default branch BRANCH, and when retraining last ran by itself.

Pull requests that CI opened, and nobody has merged or closed in a week, are faults, too.

    python3 -m ci.silence    # in a checkout, with GH_TOKEN

Exits with 1 on a fault, and sets the first one as the output `fault`.
"""

import os
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path

from ci import github, shell

RETRAINED = timedelta(days=7, hours=12)  # on Mondays 05:00 the run of Sunday 02:00 is 27 hours old
OPEN = timedelta(days=7)
FILES = ("pipeline.yml", "suite.yml")
TRIGGER = re.compile(r"^  (?:push|pull_request):.*(?:\n    .*)*", re.MULTILINE)
BRANCHES = re.compile(r"^    branches:(.*(?:\n +- .*)*)", re.MULTILINE)  # in brackets, or one a line


def runs_on(branch: str, trigger: str) -> bool:
    """Return whether a trigger fits a branch; without a list of branches it fits each."""
    found = BRANCHES.search(trigger)
    names = re.findall(r"[^\s,\[\]'\"]+", re.sub(r" #.*", "", found[1])) if found else ["*"]
    return any(fnmatchcase(branch, name) for name in names)


def triggers() -> Iterator[str]:
    """Yield a sentence if the workflows ignore the default branch."""
    branch = os.environ["BRANCH"]
    texts = [Path(".github/workflows", name).read_text(encoding="utf-8") for name in FILES]
    named = [runs_on(branch, trigger) for text in texts for trigger in TRIGGER.findall(text)]
    if named != [True] * 3:
        ignored = f"{' or '.join(FILES)} ignores the default branch {branch}"
        yield f"{ignored}: add it to each line branches: [main, master, trunk]."


def retraining() -> Iterator[str]:
    """Yield a sentence if no schedule has retrained since the Sunday before, or GitHub does not say so."""
    query = "event=schedule&status=success&per_page=1"
    try:
        if runs := github.api(f"actions/workflows/retrain.yml/runs?{query}")["workflow_runs"]:
            last = runs[0]["created_at"]
        else:  # the workflow may be new
            last = github.api("actions/workflows/retrain.yml")["created_at"]
    except shell.FailedError as error:
        yield f"GitHub does not say when retrain.yml last ran by itself: {error}."
        return
    if older(last, RETRAINED):
        yield f"No scheduled retraining has succeeded since {last}: see whether retrain.yml is switched off, or fails."


def proposals() -> Iterator[str]:
    """Yield a sentence for each pull request with results that is open for too long, or if GitHub does not say so."""
    try:
        pulls = github.api("pulls?state=open&sort=created&direction=asc&per_page=100")
    except shell.FailedError as error:
        yield f"GitHub does not list the open pull requests: {error}."
        return
    for pull in pulls:
        head, since = pull["head"], pull["created_at"]
        if github.ours(head["repo"]) and head["ref"].startswith(("retrain/", "record/")) and older(since, OPEN):
            yield f"Pull request {pull['number']} from {head['ref']} is open since {since}: merge or close it."


def older(time: str, than: timedelta) -> bool:
    """Return whether a time of GitHub's lies further back."""
    return datetime.fromisoformat(time) < datetime.now(UTC) - than


def main() -> int:
    """Print the faults, each as soon as it is known."""
    status = 0
    for fault in chain(triggers(), retraining(), proposals()):
        print(f"::error::{fault}")
        if not status:
            github.output(fault=fault)  # for alert.py
        status = 1
    return status


if __name__ == "__main__":
    shell.no_arguments(__doc__)
    sys.exit(main())
