"""The ways in which a text can be read as a number or a date, as SQL of a text `t` that is true where one fits."""

import re
from collections.abc import Iterator
from itertools import product
from typing import Any, Literal

from churn.data.duckdb_helpers import literal

Kind = Literal["boolean", "integer", "number", "date", "category", "text", "empty", "other"]
INTEGER = r"[+-]?(0|[1-9]\d{0,17}|[1-8]\d{18})"  # a BIGINT; no leading zero: 01067 is a postcode
NUMBER = r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?"
SEPARATORS = ((",", "."), (".", ","), (" ", ","), ("\u00a0", ","), ("\u202f", ","), ("'", "."), ("\u2019", "."))
DATE_LIKE = (
    r"^(\d{4}[-/]\d{1,2}|\d{1,2}[-./]\d{4}|[A-Za-z]{3,9}[- ]\d{4}|\d{1,4}[-./]\d{1,2}[-./]\d{1,4}"
    r"|\d{1,2}\.?[- ][A-Za-z]{3,9}[- ]\d{2,4}|[A-Za-z]{3,9} \d{1,2},? \d{4})(\D|$)"
)
ISO_LIKE = r"^\d{4}[-/]\d{1,2}[-/]\d{1,2}(\D|$)"
DAYS = (
    *("%Y/%m/%d", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%Y", "%m/%d/%Y"),
    *("%d.%m.%y", "%d-%m-%y", "%m-%d-%y", "%d/%m/%y", "%m/%d/%y"),
    *("%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%b %d, %Y", "%b %d %Y"),  # 24-NOV-2026, Nov 24, 2026
    *("%d %B %Y", "%d. %B %Y", "%B %d, %Y", "%B %d %Y"),  # 24 November 2026
)
MONTHS = ("%Y-%m", "%Y/%m", "%m/%Y", "%m.%Y", "%m-%Y", "%b %Y", "%b-%Y", "%B %Y")  # which are their first days
CLOCKS = (
    *("", " %H:%M", " %H:%M:%S", "T%H:%M:%S", " %H:%M:%S.%f", ", %H:%M", ", %H:%M:%S"),
    *(" %I:%M %p", " %I:%M:%S %p", ", %I:%M %p", ", %I:%M:%S %p", " %I:%M%p", " %I.%M.%S.%f %p"),
)
FEW_NUMBERS = 20  # distinct values: 12 months and 24 months, 10% and €5, or grades such as 2-, are categories
AMOUNTS = f"(count(DISTINCT t) > {FEW_NUMBERS} OR bool_or(regexp_matches(t, '[.,]')))"
MINUS = {  # spellings of -5: SQL of texts `t` that is true where some have it, and SQL of a text {0} as a number has it
    # Around or behind all numbers, these signs may be a list's.
    "(5)": (
        rf"{AMOUNTS} AND bool_or(regexp_full_match(t, '\(.+\)')) AND NOT bool_and(regexp_full_match(t, '\(.+\)'))",
        "trim(replace(replace({0}, '(', '-'), ')', ''))",
    ),
    "5-": (
        f"{AMOUNTS} AND bool_or(regexp_full_match(t, '[0-9].*-')) AND NOT bool_and(regexp_full_match(t, '[0-9].*-'))",
        "CASE WHEN {0} LIKE '%-' THEN '-' || trim(replace({0}, '-', '')) ELSE {0} END",
    ),
    "- 5": (
        "bool_or(regexp_full_match(t, '- .*'))",
        "CASE WHEN {0} LIKE '- %' THEN '-' || trim(replace({0}, '-', '')) ELSE {0} END",
    ),
    **{f"{sign}5": (f"bool_or(contains(t, '{sign}'))", f"replace({{0}}, '{sign}', '-')") for sign in "\u2212\u2013"},
}
COMPACT = {  # dates that are numbers, too: 20261124, 2026.11, 11.2026
    "%Y%m%d": r"(19|20)\d\d[01]\d[0-3]\d",
    "%Y.%m": r"(19|20)\d\d\.[01]\d",
    "%m.%Y": r"[01]\d\.(19|20)\d\d",
}


def numbers() -> Iterator[tuple[Kind, dict[str, Any], str]]:
    """Yield each way to read a text `t` as a number: the kind, what follows for the column, and SQL that is true."""
    for day, shape in COMPACT.items():
        yield "date", {"day": day}, f"(regexp_full_match(t, '{shape}') AND try_strptime(t, '{day}') IS NOT NULL)"
    yield "integer", {}, f"regexp_full_match(t, {literal(INTEGER)})"
    yield "number", {}, f"regexp_full_match(t, {literal(NUMBER)})"
    for thousands, decimal in SEPARATORS:
        whole = rf"([1-9]\d{{0,2}}({re.escape(thousands)}\d{{3}})+|0|[1-9]\d*)"
        pattern = rf"[+-]?{whole}({re.escape(decimal)}\d+)?"
        yield "number", {"separators": (thousands, decimal)}, f"regexp_full_match(t, {literal(pattern)})"


def dates(text: str) -> Iterator[tuple[Kind, dict[str, Any], str]]:
    """Yield each way to read a text `t` as a date, as `numbers` does, that might fit one `text`.

    DuckDB takes a millisecond to plan each.
    """
    # DuckDB also casts 15-03-24, to the year 15.
    yield "date", {"day": ""}, f"(regexp_matches(t, '{ISO_LIKE}') AND TRY_CAST(t AS TIMESTAMP) IS NOT NULL)"
    for day in (*map("".join, product(DAYS, CLOCKS)), *MONTHS):
        if not has_shape(text, day):
            continue
        year = f"year(try_strptime(t, {literal(day)}))"  # %Y also takes 26
        yield "date", {"day": day}, f"coalesce({year} BETWEEN 1800 AND 2199, false)"


def has_shape(text: str, form: str) -> bool:
    """Return whether a text has numbers, words and signs where a format of dates has them.

    Examples
    --------
    >>> has_shape("24.11.2026", "%d.%m.%y"), has_shape("24.11.26", "%m.%d.%y"), has_shape("24 Nov 2026", "%d %B %Y")
    (False, True, True)
    """
    pattern = re.escape(form).replace("%Y", r"\d{1,4}").replace(r"\ ", r"\s*")  # as DuckDB reads them
    pattern = pattern.replace("%f", r"\d{1,9}").replace("%p", "[AaPp][Mm]")
    pattern = re.sub("%[bB]", "[A-Za-z]+", re.sub("%[dmyHIMS]", r"\\d{1,2}", pattern))
    return re.fullmatch(pattern, text) is not None
