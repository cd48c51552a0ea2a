"""The whole report: the verdict first, details below or folded, within GitHub's limit of length.

Every name and sentence that comes from a branch is escaped: a column may be called anything.
"""

from collections.abc import Iterator

from report import sections
from report.facts import Facts
from report.words import METRIC_ORDER, escaped, name_of, number

LIMIT = 60_000  # characters; GitHub refuses a comment of more than 65,536
NOTES_SHOWN = 12
IN_WORDS = {"better": "better beyond noise", "worse": "worse beyond noise", "noise": "within noise"}


def headline(facts: Facts) -> str:
    """Return the verdict in one sentence: the outcome, and where it passes how it stands against main."""
    said = facts.outcome.sentence
    if not facts.outcome.passed:
        return said
    if facts.comparison is None:
        alone = (facts.evaluation or {}).get("roc_auc")
        known = f": ROC AUC {alone:.3f}" if isinstance(alone, float) else ""
        if facts.same_model:
            return f"{said}{known}, +0.000 against {facts.base}, the same model"
        return f"{said}{known}, not compared with {facts.base}"
    overall = facts.comparison.overall
    area = overall["roc_auc"]
    if area.branch is None or area.difference is None:
        return f"{said}, with no ROC AUC to compare with {facts.base}"
    said += f": ROC AUC {area.branch:.3f}, {area.difference:+.3f} against {facts.base}, {IN_WORDS[area.verdict]}"
    for verdict in ("worse", "better"):
        names = [name_of(name, arrow=False) for name in METRIC_ORDER[1:] if overall[name].verdict == verdict]
        if names:
            said += f"; {verdict}: {', '.join(names[:2])}{f' and {len(names) - 2} more' if len(names) > 2 else ''}"
    return said


def markdown(facts: Facts) -> str:
    """Return the whole report, without the least important sections, which it names, where it would be too long."""
    worse = facts.comparison and any(one.verdict == "worse" for one in facts.comparison.overall.values())
    doubtful = worse or any("looser" in note for note in facts.notes)
    mark = "⛔" if not facts.outcome.passed else "⚠️" if doubtful else "✅"
    text, left_out = f"## {mark} {escaped(headline(facts), 400)}\n", []
    if facts.notes:
        text += "\n> [!WARNING]\n" + "".join(f"> - {escaped(note, 400)}\n" for note in facts.notes[:NOTES_SHOWN])
    if len(facts.notes) > NOTES_SHOWN:
        text += f"> - … and {len(facts.notes) - NOTES_SHOWN:,} more\n"
    for title, section in _sections(facts):
        if len(text) + len(section) < LIMIT:
            text += f"\n{section}\n"
        else:
            left_out.append(title)
    if left_out:
        titles = ", ".join(left_out)
        text += f"\nOmitted because the comment is too long: {titles}. The run's artifact `results` holds the data.\n"
    return text


def _sections(facts: Facts) -> Iterator[tuple[str, str]]:
    """Yield each section's title and text, the most important first."""
    failed, kept, skipped = (
        [rule for rule in facts.rules if rule.status == status] for status in ("failed", "passed", "skipped")
    )
    judged = len(failed) + len(kept)
    if facts.broken:
        yield "broken rules of the contract", sections.broken_contract(facts.broken)
    if facts.faults:
        listed = "\n".join(f"- {escaped(fault, 400)}" for fault in facts.faults)
        yield "what is not as on main", f"### Refused by main's judge\n\n{listed}"
    if failed:
        yield "broken rules of the gate", sections.broken_rules(failed, judged)
    if facts.comparison:
        yield "metrics", sections.metrics_beside(facts.comparison, facts.base)
    elif facts.evaluation:
        yield "metrics", sections.metrics_alone(facts.evaluation)
    if facts.same_model:
        yield "same model", escaped(_same(facts))
    if facts.has_picture:
        yield "picture", "![ROC, precision and recall, calibration and scores of both models](comparison.png)"
    if kept:
        yield "kept rules of the gate", sections.kept_rules(kept, judged, skipped)
    if facts.comparison:
        yield "slices", sections.slices(facts.comparison, facts.base)
    if facts.changes:
        yield "changed values", sections.changed_values(facts.changes, facts.base)
    if facts.data:
        yield "changed data", sections.changed_data(facts.data, facts.base)
    if facts.account:
        yield "row account", sections.account(facts.account, facts.base_account, facts.base)
    yield "stages", sections.stages(facts.runs)
    yield "how to reproduce it", sections.reproduce(facts.reproduce)


def _same(facts: Facts) -> str:
    return f"The model and the holdout are those of {facts.base}: there is nothing to compare."


def terminal(facts: Facts) -> str:
    """Return what a terminal has room for: the verdict, what must not be missed, the metrics, what is broken."""
    lines = [headline(facts), *(f"! {note}" for note in facts.notes)]
    if facts.comparison:
        lines += ["", f"{'':21}{facts.base:>8}  this branch  difference"]
        for metric in METRIC_ORDER:
            one = facts.comparison.overall[metric]
            values = f"{number(one.main):>8}  {number(one.branch):>11}  {number(one.difference, signed=True):>10}"
            lines.append(f"{name_of(metric):21}{values}  {one.verdict}")
    if facts.same_model:
        lines.append(_same(facts))
    broken = [one["sentence"] for one in facts.broken]
    broken += [rule.message for rule in facts.rules if rule.status == "failed"]
    told = [f"refused: {fault}" for fault in facts.faults] + [f"broken: {sentence}" for sentence in broken]
    lines += ["", *told[:NOTES_SHOWN]] if told else []
    lines += [f"… and {len(told) - NOTES_SHOWN} more"] if len(told) > NOTES_SHOWN else []
    return "\n".join([*lines, "", "All of it: build/report/report.md"])
