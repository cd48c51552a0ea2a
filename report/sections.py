"""The sections of the report in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from churn.core.errors import number_of
from churn.core.results import RuleOutcome
from churn.evaluation.paired import Difference
from churn.gate.rules import OVERALL
from report.facts import Change, Comparison, DataChange, Run, Slice
from report.words import METRIC_ORDER, escaped, folded, name_of, number, table, value

ROWS_SHOWN = 12
DRIFTED_NAMED = 3
BROKEN_SHOWN = 6  # so that the metrics and the picture stay in sight
MARKS = {"better": "🟢", "worse": "🔴"}
SLICE_METRICS = ("roc_auc", "recall", "expected_calibration_error")
ELSEWHERE = " in the run's artifact `results`"


def broken_contract(broken: Sequence[Mapping[str, Any]]) -> str:
    """Return the broken rules of the data contract."""
    rows = [
        [escaped(one["sentence"], 300), escaped(one["table"]), f"{one['count']:,}", f"{one['share']:.2%}"]
        for one in broken
    ]
    text = table(["What is wrong", "Table", "Rows", "Share"], rows, ROWS_SHOWN, ELSEWHERE)
    return f"### Broken rules of the data contract: {len(rows)}\n\n{text}"


def metrics_beside(found: Comparison, base: str) -> str:
    """Return every metric of both models on the same rows."""
    rows = []
    for metric in METRIC_ORDER:
        one = found.overall[metric]
        name = f"**{name_of(metric)}**" if metric == "roc_auc" else name_of(metric)
        values = [number(one.main), number(one.branch), number(one.difference, signed=True), _interval(one)]
        rows.append([name, *values, f"{MARKS.get(one.verdict, '')} {one.verdict}".strip()])
    text = "### Metrics\n\n" + table(["Metric", escaped(base), "This branch", "Difference", "95 % interval", ""], rows)
    which = f"the same {found.rows:,} customers of the holdout"
    if found.rows != found.holdout:
        which = f"those {found.rows:,} of {found.holdout:,} customers of the holdout that {escaped(base)} has not seen"
    return f"{text}\n\n<sub>Both models on {which}. ↓: smaller is better.</sub>"


def _interval(one: Difference) -> str:
    if one.low is None or one.high is None:
        return "-"
    return f"{number(one.low, signed=True)} to {number(one.high, signed=True)}"


def metrics_alone(evaluation: Mapping[str, Any]) -> str:
    """Return every metric of the branch's model, where there is none beside it."""
    rows = []
    for metric in METRIC_ORDER:
        low, high = evaluation["intervals"][metric]
        rows.append([name_of(metric), number(evaluation[metric]), f"{number(low)} to {number(high)}"])
    return "### Metrics\n\n" + table(["Metric", "This branch", "95 % interval"], rows)


def broken_rules(broken: Sequence[RuleOutcome], judged: int) -> str:
    """Return the broken rules among those `judged`: the first of them, and the others folded."""
    ordered = _ordered(broken)
    text = f"### Broken rules of the gate: {len(broken)} of {judged}\n\n{_rules(ordered[:BROKEN_SHOWN])}"
    if rest := ordered[BROKEN_SHOWN:]:
        text += "\n\n" + folded(f"The other {len(rest):,}", _rules(rest))
    return text


def kept_rules(kept: Sequence[RuleOutcome], judged: int, skipped: Sequence[RuleOutcome]) -> str:
    """Return the rules that were kept, folded, and the slices that nobody can judge, in a line."""
    text = folded(f"The gate: {len(kept)} of {number_of(judged, 'rules')} kept", _rules(_ordered(kept)))
    if skipped:
        listed = [f"{escaped(rule.scope)} ({rule.value:.0f})" for rule in skipped[:ROWS_SHOWN]]
        more = f" and {len(skipped) - ROWS_SHOWN} more" if len(skipped) > ROWS_SHOWN else ""
        text += f"\n\n<sub>Too few customers in the holdout to be judged: {', '.join(listed)}{more}.</sub>"
    return text


def _ordered(judged: Sequence[RuleOutcome]) -> list[RuleOutcome]:
    """Return rules in the order of what matters: those on all customers, then by margin, the narrowest first."""

    def rank(rule: RuleOutcome) -> tuple[bool, float]:
        return rule.scope != OVERALL, float("-inf") if rule.margin is None else rule.margin

    return sorted(judged, key=rank)


def _rules(judged: Sequence[RuleOutcome]) -> str:
    rows = []
    for rule in judged:
        wanted, value, sign = f"{rule.limit:.4g}", number(rule.value), "≥" if rule.bound == "min" else "≤"
        if rule.statistic == "gain":
            wanted = f"{abs(rule.limit):.4f} {'worse' if sign == '≥' else 'better'}"
            sign = "at most"
            if rule.value is not None:
                value = f"{abs(rule.value):.4f} {'worse' if rule.value < 0 else 'better'}"
        name, margin = name_of(rule.label, arrow=False), number(rule.margin, signed=True)
        rows.append([escaped(rule.scope), name, f"{sign} {wanted}", value, margin])
    return table(["Customers", "Metric", "Rule", "Value", "Margin"], rows, rest=ELSEWHERE)


def movement(part: Slice) -> float:
    """Return how far a slice moved: its greatest difference that is shown, in units of half the interval's width."""
    moved = [0.0]
    for one in (part.differences[metric] for metric in SLICE_METRICS):
        if one.difference and one.low is not None and one.high is not None:
            moved.append(abs(one.difference) / max((one.high - one.low) / 2, 1e-9))
    return max(moved)


def slices(found: Comparison, base: str) -> str:
    """Return the slices that moved most, and the others folded."""
    ordered = sorted(found.slices, key=lambda part: (-movement(part), part.name))
    rows = []
    for part in ordered:
        cells = [escaped(part.name), f"{part.rows:,}"]
        for one in (part.differences[metric] for metric in SLICE_METRICS):
            difference = f"{number(one.difference, signed=True)} {MARKS.get(one.verdict, '')}".strip()
            cells.append(f"{number(one.branch)} ({difference})")
        rows.append(cells)
    header = ["Slice", "Customers", *map(name_of, SLICE_METRICS)]
    moved = sum(movement(part) > 1 for part in ordered)
    shown = max(min(moved, ROWS_SHOWN), 3)
    title = f"{moved} of {len(ordered)} moved beyond noise" if moved else "none moved beyond noise"
    text = f"### Slices: {title}\n\n{table(header, rows[:shown])}\n\n"
    text += (
        f"<sub>In brackets the difference to {escaped(base)}; {MARKS['better']} better, {MARKS['worse']} worse beyond"
    )
    text += " its 95 % interval: of twenty such marks one is chance.</sub>"
    if len(rows) > shown:
        rest = table(header, rows[shown:], rest=ELSEWHERE)
        text += "\n\n" + folded(f"The other {number_of(len(rows) - shown, 'slices')}", rest)
    return text


def changed_values(changes: Sequence[Change], base: str) -> str:
    """Return the values of params.yaml, contract.yaml and profile.json that differ from main's."""
    rows = [
        [f"{escaped(one.file)}: {escaped(one.key)}", escaped(value(one.before)), escaped(value(one.after))]
        for one in changes
    ]
    title = f"Parameters, contract and profile: {len(rows)} changed"
    text = table(["Value", escaped(base), "This branch"], rows)
    return folded(title, text) if len(rows) > ROWS_SHOWN else f"### {title}\n\n{text}"


def changed_data(data: DataChange, base: str) -> str:
    """Return the customers that came and went, and the features that drifted."""
    ordered = sorted(data.drift, key=lambda one: (-(one.psi or 0), one.name))
    rows = [
        [
            escaped(one.name),
            "-" if one.psi is None else f"{one.psi:.3f}",
            one.level,
            "-" if one.p_value is None else f"{one.p_value:.2g}",
            f"{_share(one.missing_before)} → {_share(one.missing_after)}",
        ]
        for one in ordered
    ]
    drifted = [escaped(one.name) for one in ordered if one.level != "stable"]
    counts = data.rows
    added = number_of(counts.added, "customers")
    text = f"### Data: {added} added, {counts.removed:,} removed, {counts.changed:,} changed\n\n"
    of_all = f"{len(drifted) or 'None'} of {number_of(len(rows), 'features')}"
    title = f"{of_all} drifted from the data that {escaped(base)} was trained on"
    if drifted:
        title += f": {', '.join(drifted[:DRIFTED_NAMED])}{' …' if len(drifted) > DRIFTED_NAMED else ''}"
    return text + folded(title, table(["Feature", "PSI", "Drift", "p-value", "Missing"], rows))


def _share(missing: float | None) -> str:
    return "-" if missing is None else f"{missing:.1%}"


def account(here: Mapping[str, Any], there: Mapping[str, Any] | None, base: str) -> str:
    """Return the row account, and main's where it is another."""

    def sentence(rows: Mapping[str, Any]) -> str:
        dropped = "".join(f" + {count:,} dropped ({escaped(why)})" for why, count in rows["dropped"].items())
        return f"{rows['fetched']:,} fetched = {rows['train']:,} train + {rows['test']:,} holdout{dropped}"

    before = f"; {escaped(base)}: {sentence(there)}" if there and there != here else ""
    return f"**Row account**: {sentence(here)}{before}"


def stages(runs: Sequence[Run]) -> str:
    """Return what became of each stage, with seconds."""
    ran = [run for run in runs if run.seconds is not None]
    reused = sum(run.state == "reused" for run in runs)
    seconds = sum(run.seconds or 0 for run in ran)
    rows = [[run.stage, run.state, "-" if run.seconds is None else f"{run.seconds:.1f}"] for run in runs]
    return folded(f"Stages: {len(ran)} run in {seconds:.1f} s, {reused} reused", table(["Stage", "", "Seconds"], rows))


def reproduce(commands: Sequence[str]) -> str:
    """Return the commands that make this report on anyone's machine."""
    return folded("Reproduce it on your machine", "\n".join(["```console", *commands, "```"]))
