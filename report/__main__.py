"""The report on a change: `python -m report --base origin/main`, the same here as in a pull request.

Out: build/report/ with report.md, comparison.png where there is something to compare, and outcome.json, which holds
the verdict, its headline and the stage that failed. The report is made from what there is, also when a stage failed;
the exit status says only whether it could be written. It holds no customer's key or value.
"""

import argparse
import os
import re
import shutil
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from churn.contract import load_contract
from churn.params import load_params
from churn.stage import EVALUATION, GATE, ROWS, VALIDATION, StageError, read_json, replacing, write_json
from report.baseline import comparison, data_change, picture_alone, rebuilt
from report.changes import changed_files, claim_notes, judge_notes, value_changes
from report.claims import ORDER
from report.facts import Facts, Outcome, Run
from report.git import git
from report.state import logged_runs, outcome_of, outdated_stages, result_of, stage_runs
from report.text import headline, markdown, terminal

FOLDER = Path("build/report")
PICTURE = FOLDER / "comparison.png"


def main_side(commit: str, done: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    """Return what the report says of main's `commit` beside the stages `done` here, and why the rest is missing."""
    found: dict[str, Any] = {}
    try:
        with rebuilt(commit) as main:
            found["base_account"] = read_json(main / ROWS)
            if "fetch" in done:
                found["data"] = data_change(main, prepared="prepare" in done)
            if "evaluate" in done:
                found["comparison"] = comparison(main, PICTURE)
    except StageError as error:
        return found, [f"The comparison with main is not whole: {error}"]
    except Exception as error:  # main's side may be of any age and shape; the branch is reported all the same
        return found, [f"The comparison with main is not whole: it fails with {type(error).__name__}"]
    return found, []


def settings_fault() -> str | None:
    """Return what is wrong with params.yaml or contract.yaml."""
    try:
        load_params()
        load_contract()
    except StageError as error:
        return str(error)
    return None


def stages_here() -> tuple[tuple[Run, ...], Outcome]:
    """Return what became of the stages, and the outcome, also where DVC cannot read its own files."""
    try:
        runs = stage_runs(outdated_stages(), logged_runs())
    except StageError as error:
        runs = stage_runs(set(ORDER), logged_runs())
        return runs, Outcome(False, f"Blocked: {settings_fault() or error}")
    outcome = outcome_of(runs)
    if not outcome.passed and (fault := settings_fault()):
        outcome = Outcome(False, f"Blocked: {fault}", outcome.stage)
    return runs, outcome


def checkout_command() -> str:
    """Return the command that checks out what the report is about; a pull request's merge has no name to fetch by."""
    pull = re.fullmatch(r"refs/pull/(\d+)/merge", os.environ.get("GITHUB_REF", ""))
    if pull:
        return f"git fetch origin pull/{pull[1]}/head && git switch --detach FETCH_HEAD"
    return f"git fetch origin && git switch --detach {git('rev-parse', '--short=8', 'HEAD')}"


def found_out(base: str) -> Facts:
    """Gather everything that the report says about this checkout against the commit `base`."""
    runs, outcome = stages_here()
    done = {run.stage for run in runs if run.state in ("ran", "reused")}
    commit, notes = git("merge-base", "HEAD", base), list[str]()
    found: dict[str, Any] = {}
    if commit is None:
        notes.append(f"Nothing to compare with: this clone does not know {base}; fetch it with its history")
    else:
        with suppress(StageError):  # params.yaml that nobody can read is what the outcome says already
            found["changes"] = value_changes(commit)
        notes += judge_notes(found.get("changes", ()), changed_files(commit))
        main, reasons = main_side(commit, done)
        found, notes = found | main, notes + reasons
        if commit != git("rev-parse", "HEAD"):  # else nothing is committed yet that could claim anything
            with suppress(StageError, OSError):
                notes += claim_notes()
    if "evaluate" in done and not PICTURE.exists():
        picture_alone(PICTURE)
    return Facts(
        checkout=checkout_command(),
        base=base[:8] if re.fullmatch("[0-9a-f]{40}", base) else base.removeprefix("origin/"),
        outcome=outcome,
        notes=tuple(notes),
        evaluation=result_of("evaluate", EVALUATION, runs),
        rules=tuple((result_of("gate", GATE, runs) or {}).get("rules", ())),
        broken=tuple((result_of("validate", VALIDATION, runs) or {}).get("broken", ())),
        account=result_of("prepare", ROWS, runs),
        runs=runs,
        has_picture=PICTURE.exists(),
        **found,
    )


def main() -> None:
    """Write the report and print what a terminal has room for."""
    parser = argparse.ArgumentParser(prog="python -m report", description="Report on this checkout against a commit.")
    parser.add_argument("--base", default="origin/main", help="the commit to compare with (default: origin/main)")
    base = parser.parse_args().base
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    facts = found_out(base)
    with replacing(FOLDER / "report.md") as beside:
        beside.write_text(markdown(facts), encoding="utf-8")
    verdict = "passed" if facts.outcome.passed else "blocked"
    write_json(FOLDER / "outcome.json", {"verdict": verdict, "headline": headline(facts), "stage": facts.outcome.stage})
    print(terminal(facts))


if __name__ == "__main__":
    try:
        main()
    except (StageError, OSError) as error:
        sys.exit(f"report: {error}")
