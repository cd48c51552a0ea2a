"""The report on a change: `python -m report --base origin/main`, on a laptop as in a pull request.

It writes build/report/: report.md, the page report.html with all tables and plots, comparison.png where there is a
model to draw, outcome.json with the verdict, its headline, the stage that stopped it and each reason, and
judgement.json for the dossier of a version. No customer's key or value is in them.
"""

import argparse
import fcntl
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from churn.core.start import start_up

    start_up("scipy.special")  # for `churn.modeling.model`, which reads or writes the model

from churn.core.files import replacing, write_json
from churn.core.git import default_branch
from churn.core.paths import JUDGEMENT
from churn.core.runner import command
from churn.core.terminal import GREEN, RED, coloured, working
from report.collect import collect, judges_itself
from report.data import FOLDER, ReportData
from report.render import JUDGED, headline, markdown, page, terminal

OWN_CODE = 3
EXITS = """\
exit status:
  0  the model may pass: every stage passed, and so did the judgement against the base
  1  it may not, also where there is no base to compare with, or the report failed
  2  usage error
  3  nothing was judged: it is approved that this checkout's own code judges, and this is other code

environment:
  BASE_NAME    what the report calls the base
  APPROVED     the ids of the faults that a code owner approved, separated by blanks
  APPROVED_BY  who that is
"""


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m report",
        description="Report on this checkout, and judge it by the rules of a commit.",
        epilog=EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = "a full hash, or a name, from which the commit is taken that this checkout started from"
    parser.add_argument("--base", metavar="COMMIT", help=f"{where} (default: origin's default branch)")
    return parser


def judgement(data: ReportData, inputs: Sequence[Any]) -> dict[str, Any]:
    """Return what the dossier of the version shows of the judgement, if a version is made of this evaluation."""
    return {
        "base": data.base,
        "commit": data.page.commit,
        "inputs": inputs,
        "approved": [{"id": fault.mark, "message": fault.message} for fault in data.approved],
        "approved_by": data.approval.by,
        "rules": [rule.model_dump() for rule in data.rules if rule.kind in JUDGED],
    }


@contextmanager
def alone() -> Iterator[None]:
    """Wait for another report in this checkout, because both write to the same folders."""
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(FOLDER.parent, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("report: waits for another report in this folder", file=sys.stderr)
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def main(asked: argparse.Namespace) -> int:
    """Make the report while no other one is made here; see `reported`."""
    with alone():
        return reported(asked)


def reported(asked: argparse.Namespace) -> int:
    """Write the report and print what a terminal has room for; return 0 only where the model may pass."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    base = asked.base or default_branch()
    if Path(__file__).resolve().parents[1] != Path.cwd() and judges_itself(base):
        print("The code of this checkout judges, because a code owner approved that.")
        return OWN_CODE
    with working(f"report: judging against {os.environ.get('BASE_NAME') or base}"):
        data = collect(base, os.environ.get("BASE_NAME") or base)
    with replacing(FOLDER / "report.md") as tmp:
        tmp.write_text(markdown(data), encoding="utf-8")
    outcome, verdict = data.outcome, "passed" if data.outcome.passed else "blocked"
    result = {"verdict": verdict, "headline": headline(data), "stage": outcome.stage, "reasons": outcome.reasons}
    write_json(FOLDER / "outcome.json", result)
    if data.evaluation:
        write_json(JUDGEMENT, judgement(data, data.evaluation["inputs"]))
    with replacing(FOLDER / "report.html") as tmp:
        tmp.write_text(page(data), encoding="utf-8")
    first, _, rest = terminal(data).partition("\n")
    print(coloured(first, GREEN if outcome.passed else RED), rest, sep="\n")
    return int(not outcome.passed)


if __name__ == "__main__":
    command(main, arguments())
