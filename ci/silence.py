"""Find out whether the pipeline runs on the default branch BRANCH, and when retraining last ran by itself.

    python3 -m ci.silence    # in a checkout, with GH_TOKEN

Exits with 1 on a fault, and sets the first one as the output `fault`.
"""

import os
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path

from ci import github, shell

FILES = ("pipeline.yml", "suite.yml")
TRIGGER = re.compile(r"^  (?:push|pull_request):.*(?:\n    .*)*", re.MULTILINE)
BRANCHES = re.compile(r"^    branches:(.*(?:\n +- .*)*)", re.MULTILINE)  # in brackets, or one a line


def runs_on(branch: str, trigger: str) -> bool:
    """Return whether a trigger fits a branch; without a list of branches it fits each."""
    found = BRANCHES.search(trigger)
    names = re.findall(r"[^\s,\[\]'\"]+", re.sub(r" #.*", "", found[1])) if found else ["*"]
    return any(fnmatchcase(branch, name) for name in names)


def faults() -> Iterator[str]:
    """Yield a sentence for each fault."""
    branch = os.environ["BRANCH"]
    texts = [Path(".github/workflows", name).read_text(encoding="utf-8") for name in FILES]
    named = [runs_on(branch, trigger) for text in texts for trigger in TRIGGER.findall(text)]
    if named != [True] * 3:
        ignored = f"{' or '.join(FILES)} ignores the default branch {branch}"
        yield f"{ignored}: add it to each line branches: [main, master, trunk]."
    query = "event=schedule&status=success&per_page=1"
    try:
        if runs := github.api(f"actions/workflows/retrain.yml/runs?{query}")["workflow_runs"]:
            last = runs[0]["created_at"]
        else:  # the workflow may be new
            last = github.api("actions/workflows/retrain.yml")["created_at"]
    except shell.FailedError as error:
        yield f"GitHub does not say when retrain.yml last ran by itself: {error}."
        return
    if datetime.fromisoformat(last) < datetime.now(UTC) - timedelta(days=9):
        yield f"No scheduled retraining has succeeded since {last}: see whether retrain.yml is switched off, or fails."


def main() -> int:
    """Print the faults, each as soon as it is known."""
    status = 0
    for fault in faults():
        print(f"::error::{fault}")
        if not status:
            github.output(fault=fault)  # for alert.py
        status = 1
    return status


if __name__ == "__main__":
    shell.no_arguments(__doc__)
    sys.exit(main())
