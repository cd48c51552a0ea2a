"""Judge what the pipeline made, and show the report in the run's summary.

    python -m ci.judge --base COMMIT                   # by the code of this checkout
    python -P -m ci.judge --base COMMIT --clone DIR    # by the code of COMMIT, from DIR

A branch could judge itself by its own code. So main's judges it, unless main has no judge (JUDGE), or main's code finds
that a code owner has approved the branch's code as the judge: that has an id, too, see APPROVED in `report --help`.

The branch's code has run in this checkout: its refs, settings, hooks and attributes may be anything by now. DIR is a
clone without them. It holds the judge, and shows whether the files that are judged are still those of the commit. The
output `written` is true when there is a report, also of what is blocked.
"""

import argparse
import os
import re
import sys
from pathlib import Path

from ci import github, shell

REPORT = Path("build/report/report.md")
OWN_CODE = 3  # the exit status of the report where the checkout's own code is to judge
OWN = {"PYTHONSAFEPATH": "", "PYTHONPATH": ""}
RESULTS = (":!dvc.lock", ":!metrics", ":!plots")


def changed(clone: Path) -> list[str]:
    """Return the files of the run's commit that are not in the checkout as they were committed, other than results."""
    git = ("git", "--git-dir", f"{clone}/.git", "--work-tree", ".")
    shell.run(*git, "read-tree", os.environ["GITHUB_SHA"])
    return shell.run(*git, "diff", "--name-only", "--", ".", *RESULTS).splitlines()


def judges_by(base: str, clone: Path | None) -> dict[str, str]:
    """Return the environment in which Python finds the code that judges; that of main is checked out first."""
    if clone is None or os.environ["JUDGE"] == "own":
        return OWN
    shell.run("git", "-C", str(clone), "checkout", "--quiet", "--force", "--detach", base)
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(clone)}


def main(arguments: list[str]) -> int:
    """Return the exit status of the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--base", required=True)
    parser.add_argument("--clone", type=Path)
    given = parser.parse_args(arguments)
    if given.clone and (files := changed(given.clone)):
        fault = f"While the pipeline ran, files of the commit were changed, so nothing is judged: {', '.join(files)}"
        github.output(fault=fault)  # for alert.py
        print(f"::error::{fault}")
        return 1

    def report(code: dict[str, str]) -> int:
        return shell.call("python", "-m", "report", "--base", given.base, **code)

    status = report(judges_by(given.base, given.clone))
    if status == OWN_CODE:
        status = report(OWN)
    if not REPORT.exists():
        return status or 1
    if number := os.environ.get("PULL_REQUEST"):
        REPORT.with_name("pull_request.txt").write_text(f"{number}\n", encoding="utf-8")  # for fork-comment.yml
    picture = re.compile(r"^!\[.*\]\(comparison\.png\)$", re.MULTILINE)
    text = picture.sub("_The picture is in the artifact `results`._", REPORT.read_text(encoding="utf-8"))
    with Path(os.environ["GITHUB_STEP_SUMMARY"]).open("a", encoding="utf-8") as summary:
        summary.write(text)
    github.output(written="true")
    return status


if __name__ == "__main__":
    github.run_program(lambda: main(sys.argv[1:]))
