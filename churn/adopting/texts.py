"""The texts of contract.yaml, params.yaml and churn/features.py, with the evidence of each guess as a comment."""

import json
from collections.abc import Iterator, Sequence
from math import floor, log10

from churn.adopting.blocks import scalar
from churn.adopting.column import Column
from churn.adopting.sql import Plan

WHOLE = 9e15  # below the contract's limit for an integer that may be missing, and short
WIDTH = 118
ROUND = (1, 2, 3, 4, 5, 6, 8, 10)
ROOM = 1.5  # times the greatest observed value
QUESTION = "What does a missing {} mean?"  # validate fails as long as a reason is a question

FEATURES = '''\
"""The features of a customer that are computed, alike for the training and for a customer to be scored.

To add a feature: write a function here, name it in FEATURES, and declare its column in contract.yaml with
`computed: true`. Nothing else in churn/ needs an edit; churn/data/featuring.py applies the functions and checks them.
"""

from collections.abc import Callable, Sequence

import pandas as pd

# Each gives the frame back with more columns; a row's result depends on that row alone, so that batches, and a single
# customer at scoring time, give the same.
FEATURES: Sequence[Callable[[pd.DataFrame], pd.DataFrame]] = ()
'''

PARAMS = """\
# `python -m churn init` wrote this file. `make bounds` renews evaluate.threshold, evaluate.slices.columns, and the
# bounds and margins of gate from the noise of your customers; all else is yours.
fetch:
  source: {source}
  query: source.sql
  as_of: {as_of} # the date of $as_of in the query, quoted for DVC; retraining sets yesterday
  timeout_minutes: 30 # of the query in a database server, until its last row

prepare:
  holdout_share: 0.2
  salt: churn # another salt makes another split
  drop: {{}} # reason: condition; metrics/rows.json counts them
{periods}
train:
  estimator: sklearn.ensemble.HistGradientBoostingClassifier
  parameters:
    learning_rate: 0.05
    max_iter: 200
    max_leaf_nodes: 8
    min_samples_leaf: 40
    l2_regularization: 1.0
    max_features: 0.5
  seed: 42

evaluate:
  threshold: 0.5
  campaign:
    capacity: 0.1 # the share of customers that a campaign can contact: those with the highest scores
    # profit: {{retained_value: 200, offer_cost: 11, success_rate: 0.3}} # for profit_per_customer; see docs/metrics.md
  slices:
    columns: []
    conditions: {{}} # name: condition

gate: # docs/gate.md has the statistics
  overall:
    roc_auc: {{min: 0.5}}
  min_slice_rows: 100
  slices: {{}}
  every_slice: {{max_roc_auc_gap: 0.2, calibration_error: 0.05, predicted_to_actual_ratio: 0.4}}
  vs_baseline: # paired with main's model, on the same customers, by `python -m report`
    margins: {{roc_auc: 0.005}}
    slice_margins: {{roc_auc: 0.02}}
    tolerance: 4 # a loss passes if it is shown to be below so many margins
    familywise_alpha: 0.01 # for all slices together
    max_gain: {{roc_auc: 0.02}}
  anchor: # main's model of some time ago, because small losses and leaks add up; its margins are twice vs_baseline's
    days: 90 # before main's commit; a younger repository takes its first model
    margins: {{roc_auc: 0.01}}
    slice_margins: {{roc_auc: 0.04}}
    max_gain: {{roc_auc: 0.03}} # one step and a half, because an old model ages
  when_inconclusive: # neither is a loss shown, nor that it is below the tolerance
    overall: block # the holdout is too small for the margins
    slices: pass # few slices are large enough; the report counts them

register:
  model: churn
  promote_from: {branch} # only a clean checkout of this branch, null for the default, moves champion
"""


def params_text(plan: Plan, branch: str | None) -> str:
    """Return params.yaml with bounds that `bounds` replaces."""
    as_of = f'"{plan.as_of}"' if plan.as_of else "null"
    days = ", ".join(f"{name}: {number}" for name, number in plan.periods.items())
    periods = f"  time: {{{days}}} # see docs/adapt.md, Customers over time\n" if days else ""
    return PARAMS.format(periods=periods, source=scalar(plan.place), as_of=as_of, branch=branch or "null")


def contract_text(plan: Plan) -> str:
    """Return contract.yaml."""
    rate = plan.churn_rate
    churner = " ".join(f"1 where {plan.label.source} is {plan.churned}".split())  # either may have line breaks
    lines = [
        "# The columns of a customer, and the rules for them. `python -m churn init` wrote this file.",
        "",
        "columns:",
        f"  {scalar(plan.key.name)}: {{role: key, type: {key_type(plan.key)}}}",
        *([f"  {scalar(plan.group.name)}: {{role: group, type: {key_type(plan.group)}}}"] if plan.group else []),
        *([f"  {scalar(plan.time.name)}: {{role: time, type: date}}"] if plan.time else []),
        f"  {scalar(plan.label.name)}: {{role: label, type: integer}} # {churner}",
        "",
        *(line for column in plan.features for line in _feature(column, plan)),
        "",
        "rules: # A change reruns validate, and register, which makes a version: the contract is part of it.",
        f"  {least_rows(plan.label.rows)}",
        f"  label_rate: {{min: {_two(rate / 3)}, max: {min(_two(rate * 2.5), 0.95)}}} # {rate:.1%} churned",
        "  max_single_feature_roc_auc: 0.85 # a higher value suggests leakage",
        "  profile: # the allowed difference from profile.json, beyond four standard errors; `make profile` renews it",
        "    rows: {min: 0.95, max: 1.5} # times the profile's; finds a truncated file, a missing month, duplicates",
        "    nulls: 0.05",
        "    mean: 0.3 # standard deviations",
        "    quantiles: 0.1 # of the customers, below any decile of the profile",
        "    categories: 0.1",
        "    label_rate: 0.1 # overall, in any bin or category, and at most a third of that rate; finds late labels",
    ]
    ranges = list(_ranges(plan))
    lines += ["  ranges:", *ranges] if ranges else ["  ranges: {}"]
    return "\n".join([*lines, "  relations: {}"]) + "\n"


def least_rows(rows: int) -> str:
    """Return the line of rules.min_rows: half of the rows that were seen."""
    return f"min_rows: {_rounded_down(rows / 2)} # of both tables together; {rows:,} were seen"


def key_type(column: Column) -> str:
    """Return the type of a key: integer only where no text of digits would lose its zeros."""
    return "integer" if column.kind == "integer" else "string"


def feature_type(column: Column) -> str:
    """Return the contract's type of a feature: a number for an integer that the contract's would not hold."""
    if column.kind == "date":
        return "integer"
    loses = column.kind == "integer" and column.missing and max(-column.least, column.most) > WHOLE
    return "number" if loses or column.is_long else column.kind


def _feature(column: Column, plan: Plan) -> Iterator[str]:
    """Yield the lines of a feature."""
    name, nullable = plan.names[column.name], bool(column.missing)
    parts = ["role: feature", f"type: {feature_type(column)}"]
    values = [scalar(one) for one in column.values] if column.kind == "category" else []
    listed = [f"values: [{', '.join(values)}]"] if values else []
    short = f"  {scalar(name)}: {{{', '.join([*parts, *listed])}}}"
    if len(short) <= WIDTH and not nullable:
        yield short
        return
    yield f"  {scalar(name)}:" + (f" # {column.missing:,} of {column.rows:,} rows have none" if nullable else "")
    yield from (f"    {part}" for part in parts)
    if values:
        yield from _wrapped("    values: [", values)
    if nullable:
        yield "    nulls: allow"
        yield f"    because: {json.dumps(plan.meanings.get(column.name) or QUESTION.format(name), ensure_ascii=False)}"


def _wrapped(start: str, values: Sequence[str]) -> Iterator[str]:
    """Yield a list over as many lines as it needs."""
    line = start
    for number, one in enumerate(values):
        part = f"{one}{']' if number == len(values) - 1 else ','}"
        if len(line) + len(part) > WIDTH and line.strip():
            yield line.rstrip()
            line = "      "
        line += f"{part} "
    yield line.rstrip()


def _ranges(plan: Plan) -> Iterator[str]:
    """Yield the range of each number, wider than what was seen."""
    for column in plan.features:
        least, most = column.least, column.most
        if column.name in plan.days:
            least, most = plan.days[column.name]
        elif column.kind == "date" and plan.as_of:
            least, most = (plan.as_of - column.most).days, (plan.as_of - column.least).days
        elif column.kind not in ("integer", "number"):
            continue
        wide = widened(float(least), float(most))
        if feature_type(column) == "integer" and column.missing:
            wide = (max(wide[0], -WHOLE), min(wide[1], WHOLE))
        low, high, least, most = map(_number, (*wide, least, most))
        yield f"    {scalar(plan.names[column.name])}: {{min: {low}, max: {high}}} # {least} to {most} were seen"


def _number(number: float) -> str:
    return f"{number:.0f}" if number == int(number) and abs(number) < 1e15 else f"{number:g}"


def widened(least: float, most: float) -> tuple[float, float]:
    """Return a range of round numbers around what was seen; no number is negative where none was.

    Examples
    --------
    >>> widened(0, 351.5), widened(18.25, 118.75), widened(-3, 12), widened(0, 0)
    ((0.0, 600.0), (0.0, 200.0), (-5.0, 20.0), (0.0, 1.0))
    """
    low, high = -_round_up(-least * ROOM), _round_up(most * ROOM)
    return (low if low < 0 else 0.0), (high if high > low else low + 1 if low < 0 else 1.0)


def _round_up(number: float) -> float:
    """Return the next round number from a positive one on, else 0."""
    if number <= 0:
        return 0.0
    unit = 10.0 ** floor(log10(number))
    return float(f"{next(one for one in ROUND if one * unit >= number * (1 - 1e-9)) * unit:.12g}")


def _rounded_down(number: float) -> int:
    unit = 10 ** floor(log10(max(number, 1)))
    return max(int(number // unit * unit), 1)


def _two(number: float) -> float:
    return float(f"{number:.2g}")
