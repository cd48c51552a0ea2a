"""Collects the data of a report on this checkout, also when a stage failed."""

import os
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from churn.config.contract import load_contract
from churn.config.params import load_params
from churn.core.errors import StageError, number_of
from churn.core.git import git
from churn.core.paths import CONTRACT, EVALUATION, GATE, MODEL, PARAMS, PLOTS, RAW, ROWS, TEST, TRAIN, VALIDATION
from churn.core.results import RuleOutcome, read_result
from churn.gate.rules import root_causes, unexplained
from churn.lock import ORDER
from churn.page.charts import read_confusion, read_curves, read_importance
from report.anchor import vs_earlier
from report.baseline import build, checked_out, same_features, unchanged
from report.changes import (
    HASH,
    base_commit,
    changed_files,
    claim_notes,
    judge_notes,
    own_judge,
    profile_changes,
    uncommitted_notes,
    unknown_base,
    value_changes,
    without_renamed,
)
from report.comparison import comparison, data_change, picture_alone
from report.data import FOLDER, Note, OtherKeys, Outcome, PageData, ReportData, Run
from report.faults import Fault, given_approval, missing_comparison
from report.identity import renamed_features
from report.judge import candidate, judged, profile_notes
from report.problem import other_names, other_problem
from report.recompute import recomputing
from report.sample import sample_note
from report.settings import mains_contract, renamed_conditions
from report.state import blocked, logged_runs, outcome_of, outdated_stages, result_of, stage_runs
from report.values import spike_notes, value_notes

PICTURE = FOLDER / "comparison.png"
GAP = 0.02  # of the ROC AUC, over time: from here on the report names a fall that is beyond its interval
ROOT_CAUSES = ("max_gain", "slice_size")  # rules whose failure explains that of others, which come later


def collect(base: str, name: str) -> ReportData:
    """Return the data of the report on this checkout against `base`, which the report calls `name`."""
    runs, outcome = stages_here()
    data = ReportData(
        reproduce=commands(name, base_commit(base)),
        base=name[:8] if HASH.fullmatch(name) else name.removeprefix("origin/"),
        outcome=outcome,
        evaluation=result_of("evaluate", EVALUATION, runs),
        rules=tuple(RuleOutcome(**rule) for rule in (result_of("gate", GATE, runs) or {}).get("rules", ())),
        broken=tuple((result_of("validate", VALIDATION, runs) or {}).get("broken", ())),
        account=result_of("prepare", ROWS, runs),
        runs=runs,
    )
    with suppress(StageError):  # which the outcome names
        data.unit = load_contract().unit
    done = {run.stage for run in runs if run.state in ("ran", "reused")}
    data.approval, code = given_approval(), None
    if commit := base_commit(base):
        with suppress(StageError):  # the outcome already names a params.yaml that cannot be read
            data.changes = (*value_changes(commit), *profile_changes(commit))
        files = changed_files(commit)
        code = own_judge(files)
        missing = compare_with_main(data, commit, done, own=code is not None and data.approval.covers(code))
        notes = list(judge_notes(() if data.problem else data.changes, files))
        if data.comparison and data.comparison.easier:
            before, here = data.comparison.easier
            easier = (
                f"The holdout became easier: main's model has a ROC AUC of {here:.3f} on it, and of {before:.3f} on"
                " main's; compare models on this holdout alone, and look at which customers and labels changed"
            )
            notes.append(Note(easier))
        if commit != git("rev-parse", "HEAD"):  # else nothing is committed yet that could claim anything
            with suppress(StageError):
                notes += claim_notes()
    else:
        reason = f"Nothing to compare with: {unknown_base(name)}"
        # CI gives a hash, which is known there unless the branch's code has damaged the clone.
        missing, notes = [Fault(reason) if HASH.fullmatch(base) else missing_comparison(reason)], []
    notes += [*uncommitted_notes(), *map(Note, over_time(data.evaluation or {}))]
    with suppress(StageError):  # which the outcome names
        notes += map(Note, early_labels())
    if outcome.passed or outcome.stage == "gate":
        notes += map(Note, settle(data, missing, code))
    else:
        notes += [Note(fault.message) for fault in missing]
    if "evaluate" in done and not data.same_model and not PICTURE.exists():
        with suppress(StageError):  # of settings that this code does not know
            picture_alone(PICTURE)
    validated = (result_of("validate", VALIDATION, runs) or {}).get("notes", ())
    data.page = page_data(data, commit)
    data.notes, data.has_picture = (*data.notes, *notes, *map(Note, validated)), PICTURE.exists()
    return data


def page_data(data: ReportData, commit: str | None) -> PageData:
    """Return what only the page shows, as far as it can be read here: settings, lineage and the plots' tables."""
    lineage = {"Commit": git("rev-parse", "HEAD") or "unknown", f"Commit of {data.base}": commit or "unknown"}
    lineage |= dict((data.evaluation or {}).get("inputs", ()))
    found: dict[str, Any] = {"commit": lineage["Commit"], "lineage": lineage}
    readers: dict[str, Callable[[], Any]] = {"params": load_params, "contract": load_contract}
    if data.evaluation:
        tables = {"curves": read_curves, "counts": read_confusion, "importance": read_importance}
        readers |= {name: partial(read, PLOTS) for name, read in tables.items()}
    for name, read in readers.items():
        with suppress(StageError):  # the outcome names settings, and a branch may write other plots
            found[name] = read()
    return PageData(**found)


@contextmanager
def noted(reasons: list[str]) -> Iterator[None]:
    """Add to `reasons` why something of main's side cannot be made: it may be of any age and shape."""
    try:
        yield
    except StageError as error:
        reasons.append(f"The comparison with main is not whole: {error}")
    except Exception as error:
        reasons.append(f"The comparison with main is not whole: it fails with {type(error).__name__}")


def compare_with_main(data: ReportData, commit: str, done: Collection[str], own: bool) -> list[Fault]:
    """Add the comparison with main's `commit`, and its judgement, to `data`, as far as the stages here are `done`.

    Return a fault for each part that is missing. A missing comparison of models can be approved, because the judgement
    is made all the same. A missing judgement cannot, unless the branch's `own` code is approved as the judge.
    """
    uncompared, unjudged = list[str](), list[str]()
    prepared, evaluated = "prepare" in done, "evaluate" in done
    if "fetch" not in done:
        return []  # nothing to compare, so main need not be rebuilt
    with noted(unjudged), ExitStack() as stack:
        main = stack.enter_context(checked_out(commit))
        same = unchanged(main)
        again = evaluated and not same_features(main, same)
        differences = stack.enter_context(recomputing()) if again else None
        if not own:  # else mains_params and mains_contract read them as far as this code knows their keys
            load_params(main / PARAMS)
            load_contract(main / CONTRACT)
        names, rekeyed, problem = dict[str, str](), None, None
        with noted(uncompared):
            tables, model = {RAW, *[TRAIN] * prepared}, {MODEL, TEST} if evaluated else set()
            if not other_names(main) and not tables | model <= same:
                build(main, "evaluate" if evaluated else "prepare")
                same = same or unchanged(main)  # by the lock of what was built
            if problem := other_problem(main):
                data.problem = problem.reason
            else:
                with suppress(StageError):  # main's own code may have written another shape
                    data.base_account = read_result(main / ROWS)
                if not tables <= same and (found := data_change(main, prepared)):
                    data.data, rekeyed = found, found.rekeyed
                names = renamed_features(main) if evaluated else {}
        if evaluated:
            since: tuple[RuleOutcome, ...] = ()
            reference = Path() if problem else main
            ours = candidate(reference, names, data.approval)
            data.changes = without_renamed(data.changes, names | renamed_conditions(reference, names))
            if not uncompared and not problem:
                with noted(uncompared):
                    data.same_model = {MODEL, TEST} <= same
                    data.comparison = None if data.same_model else comparison(main, ours, rekeyed, PICTURE)
                    if data.comparison:
                        since, data.memory = vs_earlier(main, commit, ours, data.comparison, data.account)
            data.rules, data.faults = judged(main, ours, data.comparison, data.data)
            data.rules += since
            data.faults += tuple(map(Fault, differences() if differences else ()))
            if problem and problem.fault:
                data.faults = (problem.fault, *data.faults)
            data.notes = (
                *((Note(text, warns=False),) if (text := sample_note()) else ()),
                *(Note(text, warns=False) for text in same_under_other_names(ours.names, rekeyed)),
                *map(Note, (*profile_notes(reference, ours.contract), *value_notes(data.data, ours.strict))),
                *map(Note, spike_notes(mains_contract(reference), ours.contract, ours.names)),
            )
    missing = [missing_comparison(reason) for reason in uncompared]
    return missing + [missing_comparison(reason) if own else Fault(reason) for reason in unjudged]


def over_time(evaluation: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence where the model is worse on later rows than on other customers of its own time, beyond noise."""
    found = evaluation.get("roc_auc_over_time") or {}
    fall, (_, high) = found.get("difference"), found.get("interval", (None, None))
    if fall is not None and high is not None and fall < -GAP and high < 0:
        before, day = evaluation["random_by_customer"]["roc_auc"], evaluation["train_until"]
        yield (
            f"The ROC AUC falls from {before:.3f} on held-out customers of the training's time to"
            f" {evaluation['roc_auc']:.3f} after {day}: customers drift, or a feature knows what is known only later"
        )


def early_labels() -> Iterator[str]:
    """Yield a sentence where `fetch.as_of` is later than the commit, because labels would then count too early."""
    day, made = load_params().fetch.as_of, git("log", "-1", "--format=%cs")
    if load_contract().time and day and made and day > date.fromisoformat(made):
        yield (
            f"{PARAMS}: fetch.as_of is {day}, and this commit is of {made}: labels may count whose window is open;"
            " `python -m churn as-of yesterday` sets the newest closed day"
        )


def same_under_other_names(names: Mapping[str, str], rekeyed: OtherKeys | None) -> Iterator[str]:
    """Yield a sentence for each feature that has another name than on main, and one for the customers."""
    for before, after in names.items():
        yield f"{before} is called {after} here, with the same values: main's rules and slices follow the name"
    if rekeyed and len(rekeyed.pairs):
        yield (
            f"{number_of(len(rekeyed.pairs), 'customers')} of the snapshot have another key than on main, by which they"
            " are no new customers: they are matched by their other columns"
        )


def settle(data: ReportData, missing: list[Fault], code: Fault | None) -> list[str]:
    """Set the outcome, and part the faults, with those of what is `missing`, into the approved ones and the others.

    `code` is offered for approval where main's code could not judge, or finds a fault that has no id: the branch's own
    code may know better. Return a note on ids that are approved, and that no fault has.
    """
    covers, found = data.approval.covers, (*data.faults, *missing)
    data.faults = tuple(fault for fault in found if not covers(fault))
    data.outcome = outcome_beside_main(data)
    known = (code, *found) if code else found
    data.approved = tuple(filter(covers, known))
    no_verdict = not data.outcome.passed and not data.outcome.reasons  # gate.json is not what this code knows
    if code and not covers(code) and (no_verdict or any(fault.alone for fault in data.faults)):
        data.own_judge = code
    unknown, by = sorted(data.approval.ids - {fault.id for fault in known}), data.approval.by
    return [f"{by} approved {', '.join(unknown)}, which no fault has as its id: compare the letters"] if unknown else []


def outcome_beside_main(data: ReportData) -> Outcome:
    """Return the outcome by main's judgement: nothing passes while a fault is left that nobody approved.

    What the gate has blocked stays its own, with the reasons of the judgement as well. The first reason is the likely
    cause of the others: other settings, rows or columns, then leakage, then a vanished slice, then metrics.
    """
    outcome, failed = data.outcome, [rule for rule in data.rules if rule.status == "failed"]
    causes = [rule.message for kind in ROOT_CAUSES for rule in failed if rule.kind == kind]
    if failed and data.evaluation:
        causes += root_causes(data.evaluation)
    failed = list(unexplained(failed, data.evaluation or {}))
    reasons = [*(fault.message for fault in data.faults), *causes, *outcome.reasons, *(rule.message for rule in failed)]
    return blocked(list(dict.fromkeys(reasons)), outcome.stage or "comparison") if reasons else outcome


def judges_itself(base: str) -> bool:
    """Return whether it is approved that this checkout's own code judges it against `base`."""
    commit = base_commit(base)
    code = own_judge(changed_files(commit)) if commit else None
    return code is not None and given_approval().covers(code)


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


def commands(base: str, commit: str | None) -> tuple[str, ...]:
    """Return the commands that make the report on this very commit elsewhere, of a pull request on its merge."""
    head = git("rev-parse", "HEAD") or "HEAD"
    named = f"BASE_NAME={shlex.quote(base)} " if commit and not HASH.fullmatch(base) else ""
    remote = bool(os.environ.get("DVC_REMOTE_URL"))
    return (
        f"git fetch origin {head} && git switch --detach {head}",
        f"make setup{' remote # with DVC_REMOTE_URL and its keys in the environment' if remote else ''}",
        "source .venv/bin/activate",
        "python -m churn lock drop",
        f"dvc repro{' --pull' if remote else ''} gate",
        f"{named}python -m report --base {shlex.quote(commit or base)}",
    )
