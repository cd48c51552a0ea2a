"""Filters of the report's templates: escaping, which applies by default, metrics' names, numbers and orders."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from churn.config.params import METRICS
from churn.core.errors import has_password, number_of
from churn.core.results import RuleOutcome
from churn.evaluation.paired import SliceDifferences
from churn.gate.rules import OVERALL
from churn.quality.drift import FeatureDrift
from report.data import DataChange

from markupsafe import Markup

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
SLICE_METRICS = ("roc_auc", "recall", "expected_calibration_error")


def escaped(text: object, longest: int = 160) -> Markup:
    """Return a text that means nothing in Markdown or HTML, notifies nobody, and stays on its line.

    Markup, which a macro or a filter returns, is escaped already.
    """
    if isinstance(text, Markup):
        return text
    line = CONTROL.sub(" ", str(text))
    if len(line) > longest:
        line = f"{line[: longest - 1]}…"
    line = re.sub(r"[\\`*\[\]<>|&@#~]", lambda found: f"&#{ord(found[0])};", line)
    line = re.sub(r"(?<![^\W_])_+|_+(?![^\W_])|://", lambda found: "".join(f"&#{ord(one)};" for one in found[0]), line)
    return Markup(line)  # its characters are escaped above


def plain(text: object) -> Markup:
    """Return a text on one line and without control characters, as a terminal and a block of code need it."""
    return Markup(CONTROL.sub(" ", str(text)))


def metric(name: str, arrow: bool = True) -> str:
    """Return a metric's name as people write it, with ↓ where smaller is better; what follows the name stays."""
    stem, rest = re.fullmatch(r"(\w*)(.*)", name, re.DOTALL).groups()  # type: ignore[union-attr]  # fits any text
    shown = NAMES.get(stem, stem.capitalize().replace("_", " "))
    return (shown if arrow else shown.removesuffix(" ↓")) + rest


def number(value: float | None, spec: str = ".4f") -> str:
    """Return a number in one of Python's formats, a hyphen where there is none."""
    return "-" if value is None else format(value, spec)


def signed(value: float | None) -> str:
    """Return a difference with four decimals and its sign; that of a zero is +."""
    return number(value, "+z.4f")


def value(of: object) -> str:
    """Return a value of a YAML file as people read it, but no password."""
    return "none" if of is None else "a URL with a password" if has_password(str(of)) else str(of)


def limit(rule: RuleOutcome) -> str:
    """Return what a rule demands."""
    if rule.statistic == "gain":
        return f"at most {abs(rule.limit):.4f} {'worse' if rule.bound == 'min' else 'better'}"
    return f"{'≥' if rule.bound == 'min' else '≤'} {rule.limit:.4g}"


def measured(rule: RuleOutcome) -> str:
    """Return the value that a rule looked at, and its noise."""
    shown = number(rule.value)
    if rule.statistic == "gain" and rule.value is not None:
        shown = f"{abs(rule.value):.4f} {'worse' if rule.value < 0 else 'better'}"
    return shown if rule.noise is None else f"{shown} ± {rule.noise:.4f}"


def by_importance(rules: Iterable[RuleOutcome]) -> list[RuleOutcome]:
    """Return rules in the order of what matters: those on all customers, then by margin, the narrowest first."""

    def rank(rule: RuleOutcome) -> tuple[bool, float]:
        return rule.scope != OVERALL, float("-inf") if rule.margin is None else rule.margin

    return sorted(rules, key=rank)


def movement(part: SliceDifferences) -> float:
    """Return how far a slice moved: its greatest difference that is shown, in units of half the interval's width."""
    moved = [0.0]
    for one in (part.differences[name] for name in SLICE_METRICS):
        if one.difference and one.low is not None and one.high is not None:
            moved.append(abs(one.difference) / max((one.high - one.low) / 2, 1e-9))
    return max(moved)


def by_movement(parts: Iterable[SliceDifferences]) -> list[SliceDifferences]:
    """Return slices, the one that moved most first."""
    return sorted(parts, key=lambda part: (-movement(part), part.name))


def by_drift(features: Iterable[FeatureDrift]) -> list[FeatureDrift]:
    """Return features, the one that drifted most first."""
    return sorted(features, key=lambda one: (-(one.psi or 0), one.name))


@dataclass(frozen=True)
class Moved:
    """A column that has another value for some of the customers that main knows."""

    name: str
    customers: int
    share: float


def by_change(data: DataChange) -> list[Moved]:
    """Return the columns that changed for customers that main knows, the one that changed for most first."""
    known = data.labels.kept if data.labels else 0
    moved = [Moved(name, count, count / known) for name, count in data.values.items() if count]
    return sorted(moved, key=lambda one: (-one.customers, one.name))


FILTERS = (
    *(escaped, plain, metric, number, signed, value, number_of),
    *(limit, measured, by_importance, movement, by_movement, by_drift, by_change),
)
