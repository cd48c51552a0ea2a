"""Reads a source once, and guesses from all of its rows what each column holds: type, range, categories, gaps.

DuckDB does the work column by column, and spills to a temporary folder, so that memory does not grow with rows or
columns. A guess that two readings fit, such as 1,234 or 03/04/2026, is left to the user.
"""

import re
from collections.abc import Container, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import date
from itertools import chain, compress, count
from typing import Any

from churn.adopting.column import Column, value
from churn.adopting.readings import DATE_LIKE, FEW_NUMBERS, MINUS, dates, numbers
from churn.config.contract import MOST_VALUES, READ_AS_MISSING
from churn.data.duckdb_helpers import columns_of, connection, identifier, literal
from churn.data.sources.stream import batches_with_bytes, streaming, table_share

import duckdb

SAMPLED = 2_000  # rows that choose the reading which all rows then confirm
MARKERS = {  # spellings that are missing values among numbers or dates
    "",
    "-",
    "--",
    "?",
    ".",
    "#n/a",
    "(null)",
    "<na>",
    "\\n",
    "missing",
    "n/a",
    "na",
    "nan",
    "nil",
    "none",
    "null",
}
MARKERS |= {"unknown", "inf", "-inf", "infinity", "-infinity"}  # infinity is what a division by zero left
MARKERS |= {"\u2013", "\u2014", "\u2212"}  # dashes
MARKERS |= {"00000000", "00.00.0000", "0000-00-00", "0000-00-00 00:00:00"}  # no day
NOTHING = f"lower(t) IN ({', '.join(map(literal, sorted(MARKERS)))})"  # SQL of a text t
SPELLINGS = [{"0", "1"}, {"no", "yes"}, {"false", "true"}, {"n", "y"}, {"f", "t"}]  # that fetch casts to booleans
CURRENCIES = (  # by ISO 4217; any three letters would be a product's code, such as SKU100
    "AED|ARS|AUD|BGN|BRL|CAD|CHF|CLP|CNY|COP|CZK|DKK|EGP|EUR|GBP|HKD|HUF|IDR|ILS|INR|JPY|KRW|MXN|MYR|NGN|NOK|NZD|PEN"
    "|PHP|PLN|RON|RUB|SAR|SEK|SGD|THB|TRY|TWD|UAH|USD|VND|ZAR"
)
SIGNS = rf"%|\p{{Sc}}|{CURRENCIES}"  # before or after each number
DIGITS = "[-+()\u2212\u20130-9.,'\u2019\\s\u00a0\u202f]"  # and signs of a number
WORD = r"[A-Za-z]{1,9}"  # after each number, as in 12 months


@contextmanager
def table(source: str, sql: str, as_of: date | None, name: str = "SOURCE") -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection with the table `given`: all rows of the query, read once; `name` is the query's in messages.

    Raises StageError.
    """
    with connection(bar=False, share=table_share(source)) as database:
        batches = batches_with_bytes(source, sql, query=name, as_of=as_of, timeout=60)
        with closing(batches), streaming(database, "batch", batches):
            database.execute("CREATE TABLE given AS FROM batch")
        yield database


def columns(database: duckdb.DuckDBPyConnection) -> list[Column]:
    """Return what each column of the table `given` holds, in its order."""
    types, taken = columns_of(database, "given"), list[str]()
    rows = one_row(database, "SELECT count(*) FROM given")[0]
    for source in types:
        taken.append(unused(snake_case(source), taken))
    return [
        _column(database, Column(source, name, stored, "other", rows))
        for (source, stored), name in zip(types.items(), taken, strict=True)
    ]


def unused(name: str, taken: Container[str]) -> str:
    """Return a name that is not among `taken`, with a number if it needs one.

    Examples
    --------
    >>> unused("charge", ["id"]), unused("charge", ["charge", "charge_2"])
    ('charge', 'charge_3')
    """
    numbered = (f"{name}_{number}" for number in count(2))
    return next(one for one in chain([name], numbered) if one not in taken)


def snake_case(name: str) -> str:
    """Return a name as the contract has it, which needs no quotes in a condition.

    Examples
    --------
    >>> [snake_case(name) for name in ("customerID", "StreamingTV", "Monthly Charges (EUR)", "2nd line", "__x")]
    ['customer_id', 'streaming_tv', 'monthly_charges_eur', 'column_2nd_line', 'x']
    """
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    plain = re.sub(r"[\W_]+", "_", apart).strip("_").lower()
    return plain if plain and not plain[0].isdigit() else f"column_{plain}".rstrip("_")


def _column(database: duckdb.DuckDBPyConnection, column: Column) -> Column:
    """Return the column with all that its rows say."""
    stored = column.stored
    if stored == '"NULL"':
        return replace(column, kind="empty", missing=column.rows)
    if stored.startswith("ENUM") or stored == "UUID":
        column = replace(column, stored="VARCHAR")
    if column.is_text:
        return _text(database, column)
    if stored.startswith("DATE") or stored.startswith("TIMESTAMP"):
        return described(database, replace(column, kind="date"))
    if re.fullmatch(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL.*", stored):
        whole = re.fullmatch(r"U?(TINY|SMALL|BIG)?INT(EGER)?|DECIMAL\(\d+,0\)", stored)
        infinite = (
            f"SELECT DISTINCT {identifier(column.source)}::VARCHAR FROM given WHERE isinf({identifier(column.source)})"
        )
        found = all_rows(database, f"{infinite} ORDER BY 1") if stored in ("FLOAT", "DOUBLE") else []
        markers = tuple(text for (text,) in found)
        column = described(database, replace(column, kind="integer" if whole else "number", markers=markers))
        return replace(column, kind="boolean") if (column.least, column.most, column.distinct) == (0, 1, 2) else column
    return described(database, replace(column, kind="boolean")) if stored == "BOOLEAN" else column


def _text(database: duckdb.DuckDBPyConnection, column: Column) -> Column:
    """Return what a column of text holds, by the first reading that all values fit but for spellings of nothing."""
    raw = f"{identifier(column.source)}::VARCHAR"
    given, blank, padded = one_row(
        database,
        f"SELECT count({raw}), count(*) FILTER (trim({raw}) = ''), count(*) FILTER ({raw} <> trim({raw})) FROM given",
    )
    column = replace(column, padded=padded > 0, markers=("",) if blank else ())
    if given == blank:
        return replace(column, kind="empty", missing=column.rows)
    texts = f"(SELECT trim({raw}) AS t FROM given WHERE trim({raw}) <> '')"
    values = [
        one for (one,) in all_rows(database, f"SELECT DISTINCT t FROM {texts} ORDER BY t LIMIT {MOST_VALUES + 1}")
    ]
    if {one.lower() for one in values} in SPELLINGS:
        return described(database, replace(column, kind="boolean", lower=len(values) > 2))
    if len(values) > MOST_VALUES or any(re.search("[0-9]", one) for one in values):
        column = _with_digits(database, column, texts, len(values))
        if column.kind != "other":
            return described(database, column)
    lower = len({one.lower() for one in values}) < len(values)
    spelled = {one: one.lower() if lower else one for one in values}
    missing = {spelled[one] for one in values if one in READ_AS_MISSING}
    column = replace(column, lower=lower, markers=(*column.markers, *sorted(missing)))
    return described(database, replace(column, kind="category", values=tuple(sorted({*spelled.values()} - missing))))


def _with_digits(database: duckdb.DuckDBPyConnection, column: Column, texts: str, distinct: int) -> Column:
    """Return a column of numbers or dates, or of text that is no category; a category as it was, with its units."""
    if read := _read(database, column, texts):
        return read
    column = replace(column, units=_units(database, texts))
    if len(column.units) == 1:
        texts = _rewritten(texts, f"trim(replace(t, {literal(column.units[0])}, ''))")
    if minus := _minus(database, texts):
        column, texts = replace(column, minus=minus), _rewritten(texts, MINUS[minus][1].format("t"))
    if len(column.units) == 1 or minus:
        read = _read(database, column, texts)
        if read and read.kind in ("integer", "number"):
            return read
    like, unlike = _unlike(database, texts) if distinct > FEW_NUMBERS else ("", 0)
    if distinct > MOST_VALUES or (like == "dates" and unlike):
        column = replace(column, kind="text")
    return replace(column, like=like, unlike=unlike)


def _read(database: duckdb.DuckDBPyConnection, column: Column, texts: str) -> Column | None:
    """Return the column by the first reading that all `texts` fit; a sample of them chooses the readings to try."""
    sample = f"(FROM {texts} WHERE NOT {NOTHING} LIMIT {SAMPLED})"
    like = f"SELECT coalesce(bool_and(regexp_matches(t, '{DATE_LIKE}')), true), any_value(t) FROM {sample}"
    are_dates, text = one_row(database, like)
    if text is None:
        return None
    readings = [*numbers(), *(dates(text) if are_dates else ())]
    fit = ", ".join(f"coalesce(bool_and({fits}), true)" for _, _, fits in readings)
    fitted = one_row(database, f"SELECT {fit} FROM {sample}")
    if not (readings := list(compress(readings, fitted))):
        return None
    counts = []
    for _, details, fits in readings:
        # A reading with separators needs one: without any, the number is read as it is.
        needed = " OR ".join(f"contains(t, {literal(sign)})" for sign in details.get("separators", ())) or "true"
        counts += [f"bool_and(({fits}) OR {NOTHING})", f"bool_or(({fits}) AND ({needed}))"]
    answers = one_row(database, f"SELECT {', '.join(counts)} FROM {texts}")
    found: Column | None = None
    for (kind, details, fits), all_fit, some_fit in zip(readings, answers[::2], answers[1::2], strict=True):
        one = replace(column, kind=kind, **details)
        if not (all_fit and some_fit) or (found and not _differ(found, one)):
            continue
        if found:
            return replace(found, other=replace(one, markers=found.markers))
        unfit = all_rows(database, f"SELECT DISTINCT t FROM {texts} WHERE NOT ({fits}) ORDER BY t")
        found = replace(one, markers=(*column.markers, *(text for (text,) in unfit)))
    return found


def _units(database: duckdb.DuckDBPyConnection, texts: str) -> tuple[str, ...]:
    """Return the signs or words that stand beside the numbers of `texts`; none unless each text is such a number."""
    signs, word = f"(u = '' OR regexp_full_match(u, '{SIGNS}'))", f"regexp_matches(t, '[0-9] ?{WORD}$')"
    split = f"(SELECT t, regexp_replace(t, {literal(DIGITS)}, '', 'g') AS u FROM {texts} WHERE NOT {NOTHING})"
    numbers = f"regexp_matches(t, '[0-9]') AND ({signs} OR (regexp_full_match(u, '{WORD}') AND {word}))"
    fit, all_signs, distinct = one_row(
        database, f"SELECT bool_and({numbers}), bool_and({signs}), count(DISTINCT t) FROM {split}"
    )
    if not fit:
        return ()
    found = [u for (u,) in all_rows(database, f"SELECT u FROM {split} GROUP BY u ORDER BY count(*) DESC, u LIMIT 3")]
    are_codes = not all_signs and len({*found} - {""}) > 1  # 10A and 10B
    is_category = are_codes or (distinct <= FEW_NUMBERS and (not all_signs or len(found) > 1))
    return () if is_category or found == [""] else tuple(found)


def _rewritten(texts: str, sql: str) -> str:
    """Return the SQL of `texts` with another text for each `t` but for spellings of nothing."""
    return f"(SELECT if({NOTHING}, t, {sql}) AS t FROM {texts})"


def _minus(database: duckdb.DuckDBPyConnection, texts: str) -> str:
    """Return how `texts` spell a number below zero where it is not -5: a key of MINUS, '' for none or several."""
    spelled = one_row(
        database, f"SELECT {', '.join(some for some, _ in MINUS.values())} FROM {texts} WHERE NOT {NOTHING}"
    )
    found = list(compress(MINUS, spelled))
    return found[0] if len(found) == 1 else ""


def _unlike(database: duckdb.DuckDBPyConnection, texts: str) -> tuple[str, int]:
    """Return what most of `texts` hold, numbers or dates, and the number of the others; nothing where most are text."""
    given = f"(FROM {texts} WHERE NOT {NOTHING})"
    rows, day = one_row(
        database, f"SELECT count(*), any_value(t) FILTER (regexp_matches(t, '{DATE_LIKE}')) FROM {given}"
    )
    readings = [*numbers(), *(dates(day) if day else ())]
    fitted = one_row(
        database, f"SELECT {', '.join(f'count(*) FILTER ({fits})' for _, _, fits in readings)} FROM {given}"
    )
    most = max(range(len(readings)), key=lambda number: fitted[number])
    like = "dates" if readings[most][0] == "date" else "numbers"
    return (like, rows - fitted[most]) if fitted[most] > rows / 2 else ("", 0)


def _differ(first: Column, one: Column) -> bool:
    """Return whether two readings of one text may give other values: 1,234 or 1.234, the day or the month first."""
    signs = {*(first.separators or ",."), *(one.separators or ",.")}
    numbers = first.kind == one.kind == "number" and first.decimal != one.decimal and signs == {",", "."}
    return numbers or {first.day[:2], one.day[:2]} == {"%d", "%m"}


def described(database: duckdb.DuckDBPyConnection, column: Column) -> Column:
    """Return the column with the numbers of its missing and distinct values, and the least and the greatest."""
    sql = value(column)
    ends = f"min({sql}), max({sql})" if column.kind in ("integer", "number", "date") else "NULL, NULL"
    there, about, least, most = one_row(
        database, f"SELECT count({sql}), approx_count_distinct({sql}), {ends} FROM given"
    )
    if about <= 4 * MOST_VALUES or about > 0.9 * there:  # the estimate is off by a few percent
        about = one_row(database, f"SELECT count(DISTINCT {sql}) FROM given")[0]
    return replace(column, missing=column.rows - there, distinct=about, least=least, most=most)


def one_row(database: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    """Return the first row of a query."""
    row: tuple[Any, ...] = all_rows(database, sql)[0]
    return row


def all_rows(database: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query."""
    return database.execute(sql).fetchall()
