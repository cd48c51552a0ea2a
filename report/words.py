"""How the report writes names, numbers and tables in Markdown."""

import re
from collections.abc import Sequence

from churn.config.params import METRICS
from churn.core.errors import has_password

FOLDED_ROWS = 60
NAMES = {
    "average_precision": "Average precision",
    "brier_score": "Brier score ↓",
    "expected_calibration_error": "Calibration error ↓",
    "f1": "F1",
    "log_loss": "Log loss ↓",
    "predicted_to_actual_ratio": "Predicted to churn, for each churner",
    "roc_auc": "ROC AUC",
}
METRIC_ORDER = sorted(METRICS, key=lambda metric: (metric != "roc_auc", metric))


def name_of(metric: str, arrow: bool = True) -> str:
    """Return a metric's name as people write it, with ↓ where smaller is better; what follows the name stays."""
    stem, rest = re.fullmatch(r"(\w*)(.*)", metric, re.DOTALL).groups()  # type: ignore[union-attr]  # fits any text
    name = NAMES.get(stem, stem.capitalize())
    return (name if arrow else name.removesuffix(" ↓")) + rest


def escaped(text: object, longest: int = 160) -> str:
    """Return a text that means nothing in Markdown or HTML, notifies nobody, and stays on its line."""
    line = re.sub(r"[^\S ]|[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+", " ", str(text))
    if len(line) > longest:
        line = f"{line[: longest - 1]}…"
    line = re.sub(r"[\\`*\[\]<>|&@#~]", lambda found: f"&#{ord(found[0])};", line)
    return re.sub(r"(?<![^\W_])_+|_+(?![^\W_])|://", lambda found: "".join(f"&#{ord(one)};" for one in found[0]), line)


def number(value: object, signed: bool = False) -> str:
    """Return a metric's value with four decimals, a hyphen where there is none."""
    if not isinstance(value, int | float):
        return "-"
    rounded = round(value, 4) + 0.0  # of which -0.0 is no more than 0
    return f"{rounded:+.4f}" if signed else f"{rounded:.4f}"


def value(of: object) -> str:
    """Return a value of a YAML file as people read it, but no password."""
    return "none" if of is None else "a URL with a password" if has_password(str(of)) else str(of)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], limit: int = FOLDED_ROWS, rest: str = "") -> str:
    """Return a Markdown table of at most `limit` rows, and a line that says how many more there are, and where."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, *rows[:limit])]
    numeric = [all(re.match(r"[-+≥≤]?( ?\d|$)", row[column]) for row in rows) for column in range(len(header))]
    lines.insert(1, "|" + "".join(" ---: |" if right else " --- |" for right in numeric))
    if len(rows) > limit:
        lines += ["", f"… and {len(rows) - limit:,} more{rest}."]
    return "\n".join(lines)


def folded(title: str, text: str) -> str:
    """Return a section that opens on a click."""
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"
