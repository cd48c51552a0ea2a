"""Judges this checkout: recomputes its results, and applies the stricter of main's rules and its own.

Taken from the checkout are its snapshot, its tables and its model. The split, the evaluation and the verdict are made
anew by this code (in CI that of main's commit) and by the stricter of main's rules and the checkout's. Whatever loosens
what judges is a fault, until a code owner has approved it: then the checkout's own rules count.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from churn.config.contract import Contract, load_contract
from churn.config.params import METRICS, Evaluate, Gate, Prepare, load_params
from churn.core.errors import number_of
from churn.core.paths import EVALUATION, MODEL, RAW, TEST, TRAIN
from churn.core.results import RuleOutcome, read_result
from churn.data.duckdb_helpers import parquet_views
from churn.data.split import among, drop_declared, in_holdout
from churn.evaluation.holdout import evaluation_of, scores_of
from churn.gate.baseline import vs_baseline
from churn.gate.rules import evaluate_rules
from churn.gate.rules import shown as metric_shown
from churn.lock import ORDER, Stages, stages_of
from churn.modeling.model import load_model, read_table, rows_seen
from churn.quality.profile import PROFILE, load_profile, profile_of
from churn.quality.profile_checks import profile_findings
from churn.quality.row_checks import table_findings
from report.data import Comparison, DataChange
from report.identity import renamed_features
from report.selection import selection_faults, vanished_slices
from report.settings import (
    BY_APPROVAL,
    loosened_settings,
    mains_settings,
    merged,
    possible_slices,
    shown,
    slice_names,
    stricter_contract,
)
from report.values import value_faults

import pandas as pd
import pyarrow.parquet as pq


@dataclass(frozen=True)
class Candidate:
    """The model to judge: the rules that count, and its scores of the holdout, made anew; rows in the same order."""

    gate: Gate
    evaluate: Evaluate
    contract: Contract
    features: pd.DataFrame
    predictions: pd.DataFrame  # key, label, score
    rows_seen: int | None  # that the model was trained on, as its file has it
    names: Mapping[str, str]  # of features that main has under another name, by main's


def pipeline_faults(main: Stages, branch: Stages) -> Iterator[str]:
    """Yield a sentence for each stage of dvc.yaml that runs something else than on main, or is frozen."""
    for stage in (*ORDER, "register"):
        for key in ("cmd", "frozen"):
            before, after = (stages.get(stage, {}).get(key) for stages in (main, branch))
            if before != after:
                yield f"dvc.yaml: {stage}.{key} is {shown(after)}, on main {shown(before)}: {BY_APPROVAL}"


def candidate(main: Path, approved: bool) -> Candidate:
    """Return what is judged, by the stricter rules or, where the branch's are `approved`, by its own.

    Raises StageError when the model or the holdout cannot be read, or the scores are none.
    """
    params, contract = load_params(), load_contract()
    features, labels, keys = read_table(TEST, contract)
    model = load_model(MODEL)
    scores, seen = scores_of(model, features), rows_seen(model)
    predictions = pd.DataFrame({contract.key: keys, contract.label: labels, "score": scores})
    if approved:
        return Candidate(params.gate, params.evaluate, contract, features, predictions, seen, {})
    names = renamed_features(main)
    theirs, _ = mains_settings(main, names)
    evaluate = merged(theirs.evaluate, params.evaluate)
    slices = possible_slices(evaluate.slices, contract)
    evaluate = evaluate.model_copy(update={"threshold": theirs.evaluate.threshold, "slices": slices})
    return Candidate(merged(theirs.gate, params.gate), evaluate, contract, features, predictions, seen, names)


def table_faults(prepare: Prepare, contract: Contract) -> Iterator[str]:
    """Yield a sentence for each way in which the tables are not what `prepare` makes of the snapshot's customers.

    Every customer is in one table, by the split of `prepare`, with the label of the snapshot.
    """
    key, label = contract.key, contract.label
    kept, held_out = [], []
    for batch in pq.ParquetFile(RAW).iter_batches():
        customers, _ = drop_declared(batch.to_pandas(), prepare.drop, contract)
        kept.append(customers[[key, label]] if label in customers else customers[[key]])
        held_out.append(pd.Series(in_holdout(customers[key], prepare.salt, prepare.holdout_share)))
    snapshot = pd.concat(kept, ignore_index=True).assign(holdout=pd.concat(held_out, ignore_index=True))
    tables = {}
    for name, path in (("the training table", TRAIN), ("the holdout", TEST)):
        tables[name] = pq.read_table(path, columns=[key, label]).to_pandas()
    train, test = tables.values()
    lost = snapshot[~among(snapshot[key], train[key]) & ~among(snapshot[key], test[key])]
    if len(lost):
        yield (
            f"{len(lost):,} of {len(snapshot):,} customers of the snapshot are in neither table, and main's"
            " prepare.drop does not cover them"
        )
    seen = int(among(snapshot[key][snapshot["holdout"]], train[key]).sum())
    if seen:
        yield f"the training table has {number_of(seen, 'customers')} whom main's split holds out"
    moved = int(among(test[key], snapshot[key][~snapshot["holdout"]]).sum())
    if moved:
        who = number_of(moved, "customers")
        yield f"the holdout has {who} whom main's split does not hold out: it is another holdout"
    if label in snapshot:
        for name, table in tables.items():
            both = table.merge(snapshot, on=key, suffixes=("", " before"))
            if wrong := int((both[label] != both[f"{label} before"]).sum()):
                yield f"{name} gives {number_of(wrong, 'customers')} another {label} than the snapshot"


def contract_faults(contract: Contract, main: Path, names: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each rule of the stricter contract that a table breaks, or both, against main's profile."""
    theirs, ours = load_profile(main / PROFILE), load_profile()
    # A new feature has no spike that main knows, although its profile is the branch's.
    new = {name: one.model_copy(update={"spikes": ()}) for name, one in ours.features.items()}
    features = new | {names.get(name, name): one for name, one in theirs.features.items()}
    reference = theirs.model_copy(update={"features": {name: features[name] for name in ours.features}})
    tables = {"train": TRAIN, "test": TEST}
    with parquet_views(tables, "cannot be read; run `dvc repro`, which makes it first") as database:
        for name in tables:
            yield from (finding.sentence for finding in table_findings(database, name, contract))
        now = profile_of(database, contract, reference)
        yield from (finding.sentence for finding in profile_findings(contract, reference, now))


def evaluation_faults(recorded: Mapping[str, Any], recomputed: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each number that the branch recorded, and that is another when it is recomputed."""
    claims = {None: recorded} | {part.get("name"): part for part in recorded.get("slices") or []}
    for name, part in {None: recomputed, **{part["name"]: part for part in recomputed["slices"]}}.items():
        scope = name or "all customers"
        if name not in claims:
            yield f"{EVALUATION} leaves out {scope}"
            continue
        for metric in ("rows", "churners", "predicted", *METRICS):
            claim, value = claims[name].get(metric), part[metric]
            if not _same(claim, value):
                yield (
                    f"{EVALUATION} says {metric} of {scope} is {_number(claim)}, but evaluated anew it is"
                    f" {_number(value)}"
                )


def _same(claim: object, value: float | None) -> bool:
    if claim is None or value is None:
        return claim is value
    return isinstance(claim, int | float) and abs(claim - value) <= 2e-6  # they are rounded to six places


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else metric_shown(value if isinstance(value, float) else None)


def judged(
    main: Path, one: Candidate, compared: Comparison | None, change: DataChange | None, approved: bool
) -> tuple[tuple[RuleOutcome, ...], tuple[str, ...]]:
    """Return the outcome of every rule on the candidate, and a sentence for each fault beyond the rules.

    `compared` is the comparison with main's model, None where the candidate is that model; `change` is None where the
    customers are main's. Raises StageError when a table or main's evaluation cannot be read.
    """
    params, labels = load_params(), change.labels if change else None
    y, scores = one.predictions[one.contract.label].to_numpy(), one.predictions["score"].to_numpy()

    def evaluated(evaluate: Evaluate) -> dict[str, Any]:
        return evaluation_of(one.features, y, scores, evaluate, one.contract)

    evaluation = evaluated(params.evaluate)
    # protection: the evaluation is made anew
    faults = list(evaluation_faults(read_result(EVALUATION), evaluation))
    rows = pq.read_metadata(TRAIN).num_rows
    # protection: the model knows how many rows it has seen
    if one.rows_seen not in (None, rows):
        faults.insert(0, f"the model was trained on {one.rows_seen:,} rows, but {TRAIN} has {rows:,}: train on all")
    if not approved:  # else main's settings may be of another shape
        theirs, contract = mains_settings(main, one.names)
        strict = stricter_contract(contract, one.contract)
        faults = [
            # protection: settings are main's or stricter
            *loosened_settings(theirs, params, contract, one.contract),
            # protection: stages run what main's run
            *pipeline_faults(*(stages_of((root / "dvc.yaml").read_text("utf-8")) for root in (main, Path()))),
            # protection: the split is main's
            *table_faults(theirs.prepare, contract),
            *(selection_faults(labels, strict.rules.profile, contract.label) if labels else ()),
            *(value_faults(change, strict) if change else ()),
            # protection: no slice loses its churners
            *vanished_slices(read_result(main / EVALUATION), evaluation, slice_names(contract, one.names)),
            # protection: the contract is checked anew
            *contract_faults(strict, main, one.names),
            *faults,
        ]
    # protection: the verdict is made anew
    rules = evaluate_rules(evaluation if one.evaluate == params.evaluate else evaluated(one.evaluate), one.gate)
    if compared:
        rules += vs_baseline(compared.overall, compared.slices, one.gate.vs_baseline)
    return tuple(rules), tuple(faults)
