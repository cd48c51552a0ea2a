"""Judges this checkout: recomputes its results, and applies the stricter of main's rules and its own.

Taken from the checkout are its snapshot, its tables and its model. The split, the evaluation and the verdict are made
anew by this code (in CI that of main's commit) and by the stricter of main's rules and the checkout's. Whatever loosens
what judges is a fault with an id. Where a code owner has approved that id, the checkout's value of that setting counts.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from churn.config.check import slice_names
from churn.config.contract import Contract, load_contract
from churn.config.params import METRICS, Evaluate, Gate, Prepare, load_params
from churn.core.cluster import Here, scratch
from churn.core.files import read_json
from churn.core.partitions import is_partitioned
from churn.core.paths import EVALUATION, MODEL, PROFILE, TEST, TRAIN
from churn.core.results import RuleOutcome, read_result
from churn.data.duckdb_helpers import parquet_views
from churn.data.reducing import Database, PartitionedViews
from churn.evaluation.holdout import EARLIER, evaluation_of, outcomes_of, scores_of, with_groups
from churn.evaluation.partitioned import count_partitions, evaluation_of_counts, score_partitions
from churn.gate.baseline import Known, vs_baseline
from churn.gate.rules import evaluate_rules
from churn.gate.rules import shown as metric_shown
from churn.lock import ORDER, Stages, stages_of
from churn.modeling.model import load_model, read_table, rows_seen
from churn.quality.feature_checks import feature_findings
from churn.quality.profile import load_profile, profile_of
from churn.quality.profile_checks import profile_findings
from churn.quality.row_checks import table_findings
from report.data import Comparison, DataChange
from report.faults import Approval, Fault
from report.sample import rows_in, sampled
from report.selection import new_faults, selection_faults, vanished_slices
from report.settings import (
    BY_APPROVAL,
    loosened_settings,
    mains_settings,
    merged,
    possible_slices,
    renamed_slices,
    shown,
    stricter_contract,
)
from report.tables import table_faults
from report.values import value_faults

import pandas as pd

TABLES = {"train": TRAIN, "test": TEST}


@dataclass(frozen=True)
class Candidate:
    """The model to judge: the rules that count, and its scores of the holdout, made anew; rows in the same order."""

    reference: Path  # whose settings, profile and slices count: main, or this checkout if main has another problem
    gate: Gate
    mains_gate: Gate
    mains_slices: Collection[str]
    evaluate: Evaluate
    prepare: Prepare  # main's, but for what is approved
    contract: Contract  # the checkout's
    strict: Contract
    lenient: Contract | None  # if settings are not approved: the contract as it would be if they were
    loosened: tuple[Fault, ...]  # settings, also those approved
    features: pd.DataFrame
    predictions: pd.DataFrame  # key, label, score, and the group and whether the row is late where they are declared
    rows_seen: int | None  # that the model was trained on, as its file has it
    names: Mapping[str, str]  # of features that main has under another name, by main's

    def known(self, rules: Literal["vs_baseline", "anchor"]) -> Known:
        """Return what main compares by its own settings."""
        mains = getattr(self.mains_gate, rules)
        return Known(mains.margins, self.mains_slices, mains.slice_margins)


def pipeline_faults(main: Stages, branch: Stages) -> Iterator[Fault]:
    """Yield a fault for each stage of dvc.yaml that runs something else than on main, or is frozen."""
    for stage in (*ORDER, "register"):
        for key in ("cmd", "frozen"):
            before, after = (stages.get(stage, {}).get(key) for stages in (main, branch))
            if before != after:
                message = f"dvc.yaml: {stage}.{key} is {shown(after)}, on main {shown(before)}: {BY_APPROVAL}"
                yield Fault(message, "stages", (stage, key), after)


def candidate(reference: Path, names: Mapping[str, str], approval: Approval) -> Candidate:
    """Return what is judged, by the stricter rules or, where the branch's setting is approved, by that.

    `names` are those of features that have another name here, by main's. Raises StageError when the settings, the model
    or the holdout cannot be read, or the scores are none.
    """
    params, contract = load_params(), load_contract()
    test = sampled(TEST, contract)
    features, labels, keys = read_table(test, contract)
    model = load_model(MODEL)
    scores, seen = scores_of(model, features), rows_seen(model)
    predictions = pd.DataFrame({contract.key: keys, contract.label: labels, "score": scores})
    predictions = with_groups(predictions, test, contract)
    theirs, their_contract = mains_settings(reference, names)
    loosened = tuple(loosened_settings(theirs, params, their_contract, contract))
    approved = {fault.place for fault in loosened if approval.covers(fault)}
    evaluate = merged(theirs.evaluate, params.evaluate, "evaluate", approved=approved)
    own = {section: value for section, value in params.prepare if ("prepare", section) in approved}
    places = {fault.place for fault in loosened}
    return Candidate(
        reference=reference,
        gate=merged(theirs.gate, params.gate, "gate", approved=approved),
        mains_gate=theirs.gate,
        mains_slices=slice_names(possible_slices(theirs.evaluate.slices, their_contract), their_contract),
        evaluate=evaluate.model_copy(update={"slices": possible_slices(evaluate.slices, contract)}),
        prepare=theirs.prepare.model_copy(update=own),
        contract=contract,
        strict=stricter_contract(their_contract, contract, approved),
        lenient=stricter_contract(their_contract, contract, places) if places > approved else None,
        loosened=loosened,
        features=features,
        predictions=predictions,
        rows_seen=seen,
        names=names,
    )


@contextmanager
def _views() -> Iterator[Database]:
    """Yield both tables; of partitions one after another, because a rule on the order of rows is of each."""
    if is_partitioned(TRAIN):
        yield PartitionedViews(Here(), TABLES)
    else:
        with parquet_views(TABLES) as database:
            yield database


def row_faults(contract: Contract) -> Iterator[str]:
    """Yield a sentence for each rule of a contract that a table breaks."""
    with _views() as database:
        for name in TABLES:
            yield from (finding.sentence for finding in table_findings(database, name, contract))


def contract_faults(contract: Contract, reference: Path, names: Mapping[str, str]) -> Iterator[Fault]:
    """Yield a fault for each rule of the stricter contract that a table breaks, or both by a profile.

    Only the latter can be approved: a looser contract is a setting, and a table that breaks it contradicts validate.
    """
    yield from map(Fault, row_faults(contract))
    yield from profile_faults(contract, reference, names)


def profile_faults(contract: Contract, reference: Path, names: Mapping[str, str]) -> Iterator[Fault]:
    """Yield a fault for each shift of both tables from the profile in `reference`, or in this checkout if new."""
    theirs, ours = load_profile(reference / PROFILE), load_profile()
    # A new feature has no spike that main knows, although its profile is the branch's.
    new = {name: one.model_copy(update={"spikes": ()}) for name, one in ours.features.items()}
    features = new | {names.get(name, name): one for name, one in theirs.features.items()}
    known = theirs.model_copy(update={"features": {name: features[name] for name in ours.features}})
    with _views() as database:
        now = profile_of(database, contract, known)
        columns, _ = feature_findings(database, contract, known, now)
        for finding in (*profile_findings(contract, known, now), *columns):
            yield Fault(finding.sentence, "profile", (finding.rule, finding.column))


def profile_notes(reference: Path, contract: Contract) -> Iterator[str]:
    """Yield a sentence where the profile here is neither that in `reference` nor what these tables give."""
    ours, left_out = load_profile(), {"spikes": (), "out_of_fold": None}  # `make profile` leaves out some spikes
    if ours == load_profile(reference / PROFILE):
        return
    with _views() as database:
        now = profile_of(database, contract).features
    both = ((name, ours.features[name], now[name]) for name in now if name in ours.features)
    if other := [name for name, *sides in both if len({repr(one.model_copy(update=left_out)) for one in sides}) > 1]:
        yield (
            f"{PROFILE} differs from main's, and does not describe these tables: {', '.join(other[:5])}"
            f"{' …' if len(other) > 5 else ''}; it will judge later changes, so run `make profile`"
        )


def evaluation_faults(recorded: Mapping[str, Any], recomputed: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each number that the branch recorded, and that is another when it is recomputed."""
    claims = {None: recorded} | {part.get("name"): part for part in recorded.get("slices") or []}
    parts = {None: recomputed, **{part["name"]: part for part in recomputed["slices"]}}
    if EARLIER in recomputed:
        parts[EARLIER], claims[EARLIER] = recomputed[EARLIER], recorded.get(EARLIER) or {}
        if recorded.get("roc_auc_over_time") != recomputed["roc_auc_over_time"]:
            yield f"{EVALUATION} has another roc_auc_over_time than is found when it is evaluated anew"
    yield from (f"{EVALUATION} has {name}, which is no slice" for name in claims if name not in parts)
    for name, part in parts.items():
        scope = name or "all customers"
        if name not in claims:
            yield f"{EVALUATION} leaves out {scope}"
            continue
        claimed = _numbers(claims[name])
        for metric, value in _numbers(part).items():
            if not _same(claim := claimed.get(metric), value):
                yield (
                    f"{EVALUATION} says {metric} of {scope} is {_number(claim)}, but evaluated anew it is"
                    f" {_number(value)}"
                )


def _numbers(part: Mapping[str, Any]) -> dict[str, Any]:
    """Return the counts, settings and metrics of an evaluation or of a slice by name, and the ends of each interval."""
    named = ("rows", "customers", "churners", "predicted", "threshold", "capacity", *METRICS)
    numbers = {name: part[name] for name in named if name in part}
    for metric, ends in part.get("intervals", {}).items():
        numbers |= {f"the {end} end of {metric}": one for end, one in zip(("lower", "upper"), ends, strict=True)}
    return numbers


def _same(claim: object, value: float | None) -> bool:
    if claim is None or value is None:
        return claim is value
    return isinstance(claim, int | float) and abs(claim - value) <= 2e-6  # they are rounded to six places


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else metric_shown(value if isinstance(value, float) else None)


def evaluator(one: Candidate) -> Callable[[Evaluate], dict[str, Any]]:
    """Return the evaluation of the model by some settings, on all rows of the holdout, as a function.

    Partitions are scored one after another, so the model scores all of the holdout once.
    """
    if not is_partitioned(TEST):
        outcomes, scores = outcomes_of(one.predictions, one.contract), one.predictions["score"].to_numpy()
        return lambda evaluate: evaluation_of(one.features, outcomes, scores, evaluate, one.contract)
    tables = (TEST, scratch() / "predictions")
    scored = score_partitions(Here(), MODEL.read_bytes(), one.contract, None, tables)
    return lambda evaluate: evaluation_of_counts(
        count_partitions(Here(), scored, tables, evaluate, one.contract), evaluate
    )


def judged(
    main: Path, one: Candidate, compared: Comparison | None, change: DataChange | None
) -> tuple[tuple[RuleOutcome, ...], tuple[Fault, ...]]:
    """Return the outcome of every rule on the candidate, and each fault beyond the rules, also those approved.

    `compared` is the comparison with main's model, None where the candidate is that model; `change` is None where the
    customers are main's. Raises StageError when a table or main's evaluation cannot be read.
    """
    params, labels, new = load_params(), change.labels if change else None, compared.new if compared else None
    evaluated = evaluator(one)
    evaluation = evaluated(params.evaluate)
    # protection: the evaluation is made anew
    evidence = list(evaluation_faults(read_result(EVALUATION), evaluation))
    rows = rows_in(TRAIN)
    # protection: the model knows how many rows it has seen
    if one.rows_seen not in (None, rows):
        evidence.insert(0, f"the model was trained on {one.rows_seen:,} rows, but {TRAIN} has {rows:,}: train on all")
    known = one.reference / EVALUATION
    before = read_json(known) if known.exists() else {"slices": ()}  # main is not rebuilt
    changed = any(fault.place[0] == "prepare" for fault in one.loosened)
    split = "the approved" if changed and one.prepare == params.prepare else "main's"
    if one.reference == Path():
        split = "its own"
    faults = [
        # protection: settings are main's or stricter
        *one.loosened,
        # protection: stages run what main's run
        *pipeline_faults(*(stages_of((root / "dvc.yaml").read_text("utf-8")) for root in (main, Path()))),
        # protection: the split is main's
        *map(Fault, table_faults(one.prepare, one.strict, split)),
        *(selection_faults(labels, one.strict.rules.profile, one.strict.label) if labels else ()),
        *(new_faults(new, one.strict.rules.profile, one.strict.label) if new else ()),
        *(value_faults(change, one.strict) if change else ()),
        # protection: no slice loses its churners
        *vanished_slices(before, evaluation, renamed_slices(one.strict, one.names)),
        # protection: the contract is checked anew
        *contract_faults(one.strict, one.reference, one.names),
        *map(Fault, evidence),
    ]
    if one.lenient:
        stay = {*table_faults(params.prepare, one.lenient, split), *row_faults(one.lenient), *evidence}
        faults = [replace(fault, follows=fault.id is None and fault.message not in stay) for fault in faults]
        ids = {fault.id for fault in faults}  # a new value is in the profile only once it may be there
        more = profile_faults(one.lenient, one.reference, one.names)
        faults += [fault for fault in more if fault.id not in ids]
    # protection: the verdict is made anew
    rules = evaluate_rules(evaluation if one.evaluate == params.evaluate else evaluated(one.evaluate), one.gate)
    if compared:
        step = compared.compared
        rules += vs_baseline(
            step.rows, step.overall, step.slices, one.gate, step.training, known=one.known("vs_baseline")
        )
    return tuple(rules), tuple(faults)
