"""The report on a change: `python -m report --base origin/main`, the same here as in a pull request.

Out: build/report/ with report.md, comparison.png where there is something to compare, and outcome.json, which holds
the verdict, its headline, what stopped it and each reason. The report is made from what there is, also when a stage
failed, and holds no customer's key or value. The exit status is 1 unless the model may pass: every stage has passed,
and so does the judgement against the base; without a base to compare with nothing passes. The base is a full hash, or a
name, of which the commit counts that this checkout started from. In the environment BASE_NAME is what the report calls
the base, and APPROVED_BY the code owner who has approved what this checkout changes of its own judge.
"""

import argparse
import os
import re
import shlex
import shutil
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from churn.core.start import start_up

    start_up()

from churn.config.contract import load_contract
from churn.config.params import load_params
from churn.core.errors import StageError
from churn.core.files import replacing, write_json
from churn.core.git import default_branch, git
from churn.core.paths import EVALUATION, GATE, MODEL, RAW, ROWS, TEST, TRAIN, VALIDATION
from churn.core.results import RuleOutcome, read_result
from churn.core.runner import command
from report.baseline import build, checked_out, comparison, data_change, picture_alone, unchanged
from report.changes import changed_files, claim_notes, judge_notes, profile_changes, value_changes
from report.claims import ORDER
from report.data import Judgement, Outcome, ReportData, Run
from report.judge import candidate, judged
from report.render import headline, markdown, terminal
from report.state import blocked, logged_runs, outcome_of, outdated_stages, result_of, stage_runs

FOLDER = Path("build/report")
PICTURE = FOLDER / "comparison.png"
HASH = re.compile("[0-9a-f]{40}")


def main_side(commit: str, done: Collection[str], approved: bool) -> tuple[dict[str, Any], list[str]]:
    """Return what the report says of main's `commit` beside the stages `done` here, and why the rest is missing."""
    found: dict[str, Any] = {}
    if "fetch" not in done:
        return found, []  # nothing to compare, so main need not be rebuilt
    prepared, evaluated = "prepare" in done, "evaluate" in done
    try:
        with checked_out(commit) as main:
            same, data, model = unchanged(main), {RAW, *[TRAIN] * prepared}, {MODEL, TEST} if evaluated else set()
            if not data | model <= same:
                build(main, "evaluate" if evaluated else "prepare")
                same = same or unchanged(main)  # by the lock of what was built
            with suppress(StageError, OSError):  # main's own code may have written another shape
                found["base_account"] = read_result(main / ROWS)
            found["data"] = None if data <= same else data_change(main, prepared)
            if evaluated:
                ours = candidate(main, approved)
                beside = None if model <= same else comparison(main, ours, PICTURE)
                found |= {"comparison": beside, "same_model": beside is None}
                found["judgement"] = judged(main, ours, beside, approved)
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


def judged_outcome(outcome: Outcome, judgement: Judgement | None, reasons: Sequence[str], approved: bool) -> Outcome:
    """Return the outcome after the judgement against main; where there is none, nothing passes without approval.

    What the gate has blocked stays its own, with the reasons of the judgement as well.
    """
    if judgement is None:
        return blocked(reasons, "comparison") if outcome.passed and not approved else outcome
    failed = [rule.message for rule in judgement.rules if rule.status == "failed"]
    faults = dict.fromkeys((*outcome.because, *judgement.faults, *failed))
    return blocked(tuple(faults), outcome.stage or "comparison") if faults else outcome


def commands(base: str) -> tuple[str, ...]:
    """Return the commands that make the report on this commit elsewhere; a pull request's merge has no name there."""
    pull = re.fullmatch(r"refs/pull/(\d+)/merge", os.environ.get("GITHUB_REF", ""))
    what = git("rev-parse", "--short=8", "HEAD") or "HEAD"
    checkout = f"git fetch origin pull/{pull[1]}/head" if pull else "git fetch origin"
    checkout += f" && git switch --detach {'FETCH_HEAD' if pull else what}"
    remote = " remote # with DVC_REMOTE_URL and its keys in the environment" if os.environ.get("DVC_REMOTE_URL") else ""
    repro = f"dvc repro{' --pull' if remote else ''} gate"
    environment = "source .venv/bin/activate"
    return checkout, f"make setup{remote}", environment, "python -m report.claims drop", repro, _report(base)


def _report(base: str) -> str:
    return f"python -m report --base {shlex.quote(base)}"


def base_commit(base: str) -> str | None:
    """Return the commit to compare with, or None where this clone does not know it.

    A full hash is that commit, wherever HEAD is by now: CI takes it down before it runs the code of the branch.
    """
    if HASH.fullmatch(base):
        return git("rev-parse", "--quiet", "--verify", f"{base}^{{commit}}")
    return git("merge-base", "HEAD", base)


def found_out(base: str, name: str) -> ReportData:
    """Gather everything that the report says about this checkout against `base`, which it calls `name`."""
    runs, outcome = stages_here()
    done = {run.stage for run in runs if run.state in ("ran", "reused")}
    commit, notes, approver = base_commit(base), list[str](), os.environ.get("APPROVED_BY", "")
    found: dict[str, Any] = {}
    reasons = [f"Nothing to compare with: this clone does not know {name}; fetch it with its history"]
    if commit is None:
        notes += reasons
    else:
        with suppress(StageError):  # params.yaml that nobody can read is what the outcome says already
            found["changes"] = (*value_changes(commit), *profile_changes(commit))
        notes += judge_notes(found.get("changes", ()), changed_files(commit))
        main, reasons = main_side(commit, done, bool(approver))
        found, notes = found | main, notes + reasons
        if commit != git("rev-parse", "HEAD"):  # else nothing is committed yet that could claim anything
            with suppress(StageError, OSError):
                notes += claim_notes()
    judgement = found.pop("judgement", None)
    if approver:
        notes.append(f"{approver} approved this: it is judged by its own code and rules")
    if outcome.passed or outcome.stage == "gate":
        outcome = judged_outcome(outcome, judgement, reasons, bool(approver))
    if "evaluate" in done and not found.get("same_model") and not PICTURE.exists():
        picture_alone(PICTURE)
    gate = result_of("gate", GATE, runs) or {}
    return ReportData(
        reproduce=commands(name),
        base=name[:8] if HASH.fullmatch(name) else name.removeprefix("origin/"),
        outcome=outcome,
        notes=tuple(notes),
        evaluation=result_of("evaluate", EVALUATION, runs),
        rules=judgement.rules if judgement else tuple(RuleOutcome(**rule) for rule in gate.get("rules", ())),
        faults=judgement.faults if judgement else (),
        broken=tuple((result_of("validate", VALIDATION, runs) or {}).get("broken", ())),
        account=result_of("prepare", ROWS, runs),
        runs=runs,
        has_picture=PICTURE.exists(),
        **found,
    )


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m report", description="Report on this checkout against a commit.")
    parser.add_argument("--base", help="the commit to compare with (default: origin's default branch)")
    return parser


def main(asked: argparse.Namespace) -> int:
    """Write the report and print what a terminal has room for; return 0 only where the model may pass."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    base = asked.base or default_branch()
    data = found_out(base, os.environ.get("BASE_NAME") or base)
    with replacing(FOLDER / "report.md") as tmp:
        tmp.write_text(markdown(data), encoding="utf-8")
    outcome, verdict = data.outcome, "passed" if data.outcome.passed else "blocked"
    said = {"headline": headline(data), "stage": outcome.stage, "because": list(outcome.because)}
    write_json(FOLDER / "outcome.json", {"verdict": verdict} | said)
    print(terminal(data))
    return int(not outcome.passed)


if __name__ == "__main__":
    command(main, arguments())
