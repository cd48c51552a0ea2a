"""Proposes which columns to leave out, each with its reason, and finds columns that know the label."""

import re
from collections.abc import Iterator, Sequence

from churn.adopting.column import Column, value
from churn.adopting.columns import all_rows, one_row
from churn.config.contract import MOST_VALUES
from churn.core.errors import number_of
from churn.data.duckdb_helpers import identifier, literal
from churn.quality.profile import LARGEST

import duckdb
import numpy as np

COMPARED = 20_000  # rows in which copies are looked for; all rows confirm them
SAME = 0.9999  # a correlation from here on is that of a copy: a charge rounded to cents has 0.99999 with its minutes
FEW = 50  # distinct values: a column of names has more
LARGE = 1_000_000  # a telephone number is larger, a number of calls is not
WORDS = {  # of a column's name, by what it holds
    "text": "name firstname lastname forename surname vorname nachname familienname nom prenom nombre email mail phone"
    " mobile telephone tel fax telefon handy street address strasse straße adresse plz zip postcode postal iban ssn"
    " passport ip",
    "integer": "phone mobile telephone tel fax iban ssn passport telefon handy",
    "date": "birth birthday birthdate dob geburt geburtstag geburtsdatum",
}
STREET = r"(stra(ß|ss)e|str\.|weg|platz|allee|gasse|street|st\.|avenue|ave|road|rd|lane|drive|rue|via|calle)"
SHAPES = {  # of nearly all values
    "e-mail addresses": r"[^@\s]+@[^@\s]+\.[^@\s]+",
    "telephone numbers": r"(\+|00)[1-9][\d ()/.-]{6,}|\(\d+\)[\d -]{6,}|\d{3}[ .-]\d{3}[ .-]\d{4}|0\d+[ /-][\d -]{5,}",
    "addresses": rf"(?i).*{STREET}.*\d.*|\d.*{STREET}.*",
    "names": r"(\p{Lu}[\p{L}.'-]*,? )+\p{Lu}[\p{L}'-]+",
}
BORN = 365 * 16  # days before the newest date: dates that are all older, over some decades, are birth dates


def proposals(database: duckdb.DuckDBPyConnection, columns: Sequence[Column]) -> dict[str, str]:
    """Return the columns that are no features, by name, with the reason; none of the roles is among `columns`."""
    reasons = {
        one.name: reason for one in columns if (reason := _useless(one) or _mixed(one) or _personal(database, one))
    }
    rest = [one for one in columns if one.name not in reasons]
    return reasons | dict(_copies(database, rest))


def impossible(column: Column) -> str | None:
    """Return why no contract can have a column as a feature, or None."""
    if column.kind == "empty" or column.missing == column.rows:
        return "empty in every row"
    if column.kind in ("integer", "number") and max(-column.least, column.most) >= LARGEST:
        return f"has numbers beyond {LARGEST}, whose squares no computer holds: divide them in the query"
    if column.kind == "other":
        return f"has the type {column.stored}, which no feature has: convert it in the query"
    if column.kind == "text":
        if column.unlike:
            return f"like {column.like}, but not in {number_of(column.unlike, 'rows')}: convert those in the query"
        many = f"{number_of(column.distinct, 'values')}, more than the {MOST_VALUES} of a category"
        return f"{many}, and neither numbers nor dates that init reads: group or convert them in the query"
    return None


def _useless(column: Column) -> str | None:
    """Return why nothing can be learned from a column, or None."""
    there = column.rows - column.missing
    if column.kind != "text" and (reason := impossible(column)):
        return reason
    if column.distinct == 1 and not column.missing:
        return "constant: the same value in every row"
    if column.distinct == there > FEW and column.kind in ("text", "integer", "category"):
        return "one value a row: it names the row"
    return None


def _mixed(column: Column) -> str | None:
    """Return why a column of numbers with several units is no number, or None."""
    units = [repr(unit) if unit else "no unit" for unit in column.units]
    return f"numbers with {units[0]} and with {units[1]}: convert them in the query" if len(units) > 1 else None


def _personal(database: duckdb.DuckDBPyConnection, column: Column) -> str | None:
    """Return why a column is about a person rather than a customer, by its name or the shape of its values."""
    kind = "text" if column.kind in ("category", "text") else column.kind
    words = {*re.split(r"_", column.name), *column.name.split("_of_")}
    named = words & {*WORDS.get(kind, "").split()}
    many = column.distinct > FEW or column.distinct > column.rows / 2
    if named and many and (kind != "integer" or column.most >= LARGE):
        return f"personal: the name has the word {min(named)}"
    if column.kind == "date" and (column.most - column.least).days > BORN and column.most.year < 2015:
        return "personal: the dates are like birth dates"
    if column.kind != "text" and not (column.kind == "category" and many):
        return None
    text = f"trim({identifier(column.source)}::VARCHAR)"
    for what, shape in SHAPES.items():
        like = f"regexp_full_match({text}, {literal(shape)})"
        share = one_row(database, f"SELECT avg(({like})::INT) FROM (FROM given WHERE {text} <> '' LIMIT {COMPARED})")[0]
        if share is not None and share > 0.9:
            return f"personal: the values are like {what}"
    return impossible(column)


def _copies(database: duckdb.DuckDBPyConnection, columns: Sequence[Column]) -> Iterator[tuple[str, str]]:
    """Yield the columns that an earlier one has all of, found in COMPARED rows and confirmed by all."""
    numbers = [one for one in columns if one.kind in ("integer", "number")]
    if len(numbers) > 1:
        listed = ", ".join(value(one) for one in numbers)
        read = database.execute(f"SELECT {listed} FROM given LIMIT {_compared(columns)}").fetchnumpy()
        matrix = np.array([np.ma.filled(one.astype(np.float64), np.nan) for one in map(np.ma.asarray, read.values())])
        missing = np.isnan(matrix)
        centred = np.where(missing, 0, matrix - np.nanmean(matrix, axis=1, keepdims=True))
        centred /= np.maximum(np.abs(centred).max(axis=1, keepdims=True), np.finfo(float).tiny)
        size = np.sqrt((centred**2).sum(axis=1))
        related = np.abs(centred @ centred.T) >= SAME * np.outer(size, size)
        yield from _confirmed(database, numbers, related & (size > 0))
    others = [one for one in columns if one.kind in ("category", "boolean", "date")]
    if len(others) > 1:
        listed = ", ".join(f"coalesce({value(one)}::VARCHAR, '')" for one in others)
        rows = all_rows(database, f"SELECT {listed} FROM given LIMIT {_compared(columns)}")
        codes = [tuple(np.unique(texts, return_inverse=True)[1]) for texts in zip(*rows, strict=True)]
        first = [_by_appearance(code) for code in codes]
        yield from _confirmed(database, others, np.array([[one == other for other in first] for one in first]))


def _compared(columns: Sequence[Column]) -> int:
    """Return the number of rows in which copies are looked for: fewer of a wide table."""
    return min(COMPARED, 4_000_000 // len(columns))


def _by_appearance(codes: Sequence[int]) -> bytes:
    """Return the codes numbered in the order in which they come, so that copies with other words are equal."""
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(code, len(numbers)) for code in codes], dtype=np.int32).tobytes()


def _confirmed(
    database: duckdb.DuckDBPyConnection, columns: Sequence[Column], related: object
) -> Iterator[tuple[str, str]]:
    """Yield each column that is a copy of an earlier one in all rows, not only in those that were compared."""
    gone: set[str] = set()
    for number, column in enumerate(columns):
        for earlier in np.flatnonzero(np.asarray(related)[number, :number]):
            other = columns[int(earlier)]
            if other.name in gone:
                continue
            one, two = value(column), value(other)
            if column.kind in ("integer", "number"):
                # NaN, the correlation of tiny numbers, is the largest number for DuckDB.
                alike = f"abs(corr({one}, {two})) BETWEEN {SAME} AND 1.01"
                same = f"{alike} AND count(*) FILTER (({one} IS NULL) <> ({two} IS NULL)) = 0"
                why = f"correlation 1 with {other.name}: a copy of it"
            else:
                pair = f"count(DISTINCT ({one}, {two}))"
                same = f"{pair} = count(DISTINCT ({one}, NULL)) AND {pair} = count(DISTINCT ({two}, NULL))"
                why = f"a copy of {other.name}, in other words"
            if one_row(database, f"SELECT {same} FROM given")[0]:
                gone.add(column.name)
                yield column.name, why
                break


def knowing(database: duckdb.DuckDBPyConnection, columns: Sequence[Column], label: str) -> dict[str, str]:
    """Return the columns that tell every churner, by name, and how; `label` is the SQL of the label, 0 or 1.

    Known before a churn they could not: such a column is the label under another name, or was filled in afterwards.
    """
    found = {}
    for column in columns:
        sql = value(column)
        if column.missing:
            missing = f"({sql} IS NULL)::INT"
            alike = f"SELECT bool_and({missing} = {label}) OR bool_and({missing} <> {label}) FROM given"
            if one_row(database, alike)[0]:
                found[column.name] = "is missing for all churners or for all stayers, and for nobody else"
                continue
        if column.kind in ("integer", "number", "date"):
            low, high, least, most = one_row(
                database,
                f"SELECT max({sql}) FILTER ({label} = 0), max({sql}) FILTER ({label} = 1),"
                f" min({sql}) FILTER ({label} = 0), min({sql}) FILTER ({label} = 1) FROM given",
            )
            if None not in (low, most) and (low < most or high < least) and not column.missing:
                found[column.name] = "separates churners from stayers without a single exception"
                continue
        if 1 < column.distinct <= MOST_VALUES and not column.missing:
            mixed = f"SELECT 1 FROM given GROUP BY {sql} HAVING count(DISTINCT {label}) > 1 LIMIT 1"
            if not all_rows(database, mixed):
                found[column.name] = "has no value that a churner and a stayer share: it equals the label"
    return found
