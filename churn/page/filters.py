"""Filters of the templates of comment and page: metrics' names, numbers, rules and their order."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from churn.config.params import METRICS, OVERALL
from churn.core.errors import has_password, number_of
from churn.core.results import RuleOutcome

from markupsafe import Markup, escape

CONTROL = re.compile(r"[^\S ]|[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+")  # also what turns the text around
NAMES = {
    "brier_score": "Brier score ↓",
    "expected_calibration_error": "Calibration error ↓",
    "f1": "F1",
    "log_loss": "Log loss ↓",
    "predicted_to_actual_ratio": "Predicted to churn, for each churner",
    "roc_auc": "ROC AUC",
}
METRIC_ORDER = sorted(METRICS, key=lambda metric: (metric != "roc_auc", metric))


def flat(values: Any, name: str = "") -> dict[str, Any]:
    """Return the values of nested mappings by dotted name.

    Examples
    --------
    >>> flat({"gate": {"overall": {"roc_auc": {"min": 0.82}}}})
    {'gate.overall.roc_auc.min': 0.82}
    """
    if not isinstance(values, Mapping):
        return {name: values} if name else {}
    return {
        key: one for part, inner in values.items() for key, one in flat(inner, f"{name}.{part}".lstrip(".")).items()
    }


def metric(name: str, arrow: bool = True) -> str:
    """Return a metric's name as people write it, with ↓ where smaller is better; what follows the name stays."""
    stem, rest = re.fullmatch(r"(\w*)(.*)", name, re.DOTALL).groups()  # type: ignore[union-attr]  # fits any text
    shown = NAMES.get(stem, stem.capitalize().replace("_", " "))
    return (shown if arrow else shown.removesuffix(" ↓")) + rest


def number(value: float | None, spec: str = ",.4f") -> str:
    """Return a number in one of Python's formats, a hyphen where there is none."""
    return "-" if value is None else format(value, spec)


def prose(text: str) -> Markup:
    """Return a sentence as HTML, in which what stands between backticks is code.

    Examples
    --------
    >>> str(prose("x < y: run `dvc repro`"))
    'x &lt; y: run <code>dvc repro</code>'
    """
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(CONTROL.sub(" ", text)))))  # escaped first


def interval(ends: Sequence[float | None], spec: str = ",.4f") -> str:
    """Return both ends of an interval, a hyphen where one is missing."""
    low, high = ends
    return "-" if low is None or high is None else f"{low:{spec}} to {high:{spec}}"


def signed(value: float | None) -> str:
    """Return a difference with four decimals and its sign; that of a zero is +."""
    return number(value, "+z,.4f")


def value(of: object) -> str:
    """Return a value of a YAML file as people read it, but no password."""
    return "none" if of is None else "a URL with a password" if has_password(str(of)) else str(of)


def limit(rule: RuleOutcome) -> str:
    """Return what a rule demands."""
    if rule.statistic == "gain":
        return f"at most {abs(rule.limit):,.4f} {'worse' if rule.bound == 'min' else 'better'}"
    digits = ".4g" if abs(rule.limit) < 1_000 else ",.10g"  # of a profit
    return f"{'≥' if rule.bound == 'min' else '≤'} {rule.limit:{digits}}"


def measured(rule: RuleOutcome) -> str:
    """Return the value that a rule looked at, and its noise."""
    shown = number(rule.value, ",.0f" if rule.kind == "slice_size" else ",.4f")
    if rule.statistic == "gain" and rule.value is not None:
        shown = f"{abs(rule.value):,.4f} {'worse' if rule.value < 0 else 'better'}"
    return shown if rule.noise is None else f"{shown} ± {rule.noise:,.4f}"


def margin(rule: RuleOutcome) -> str:
    """Return how far the value lies inside the limit."""
    return number(rule.margin, "+,.0f" if rule.kind == "slice_size" else "+z,.4f")


def by_importance(rules: Iterable[RuleOutcome]) -> list[RuleOutcome]:
    """Return rules in the order of what matters: those on all customers, then by margin, the narrowest first."""

    def rank(rule: RuleOutcome) -> tuple[bool, float]:
        return rule.scope != OVERALL, float("-inf") if rule.margin is None else rule.margin

    return sorted(rules, key=rank)


FILTERS = (flat, prose, metric, number, signed, value, number_of, interval, limit, measured, margin, by_importance)
