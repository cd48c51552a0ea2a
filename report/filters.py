"""Filters of the report's templates beside those of churn/page/filters.py: escaping for Markdown, and orders."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from churn.evaluation.paired import SliceDifferences
from churn.page.filters import CONTROL
from churn.page.filters import FILTERS as SHARED
from churn.quality.drift import FeatureDrift
from report.data import DataChange

from markupsafe import Markup

SLICE_METRICS = ("roc_auc", "recall", "expected_calibration_error")


def escaped(text: object, longest: int = 160) -> Markup:
    """Return a text that means nothing in Markdown or HTML, notifies nobody, and stays on its line.

    What stands between backticks, such as a command, is shown as code. Markup, which a macro or a filter returns, is
    escaped already.
    """
    if isinstance(text, Markup):
        return text
    line = CONTROL.sub(" ", str(text))
    if len(line) > longest:
        line = f"{line[: longest - 1]}…"
    line = re.sub(r"[\\`*\[\]<>|&@#~]", lambda found: f"&#{ord(found[0])};", line)
    live = r"(?<![^\W_])_+|_+(?![^\W_])|://|(?i:(?<=www)\.)"
    line = re.sub(live, lambda found: "".join(f"&#{ord(one)};" for one in found[0]), line)
    line = re.sub("&#96;(.+?)&#96;", r"<code>\1</code>", line)  # Markdown's own would show the escapes
    return Markup(line)  # its characters are escaped above


def plain(text: object) -> Markup:
    """Return a text on one line and without control characters, as a terminal and a block of code need it."""
    return Markup(CONTROL.sub(" ", str(text)))


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


ORDERS = (movement, by_movement, by_drift, by_change)
FILTERS = (*SHARED, escaped, plain, *ORDERS)
