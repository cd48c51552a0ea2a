"""Which columns name the customer, the row and its day, and which says who churned: each is asked, never guessed."""

from dataclasses import replace

from churn.adopting.answers import Answers, read_one_way
from churn.adopting.column import Column, value
from churn.adopting.columns import all_rows, described, one_row, unused
from churn.adopting.readings import Kind
from churn.core.errors import StageError, number_of
from churn.data.duckdb_helpers import identifier
from churn.gate.rules import LEAST_OUTCOMES

import duckdb

HOLDOUT = 0.2
WORDS = ("churn", "exit", "attrition", "cancel", "left")  # in the name of a label, the surest first
LIKELY = ("1", "1.0", "yes", "y", "true", "t", "churned", "left", "exited", "cancelled")  # as a churner's label


def key_of(answers: Answers, database: duckdb.DuckDBPyConnection) -> tuple[Column, Column | None, Column | None]:
    """Return the key of a row, and the group and the time where a customer has several rows. Raises StageError."""
    group, time = (answers.column(one) if one else None for one in (answers.asked.group, answers.asked.time))
    time = read_one_way(answers, database, _as_day(database, time)) if time else None
    group = _as_name(group) if group else None
    if group and time and not answers.asked.key:
        key = replace(
            group, source="", name=unused("row_id", [one.name for one in answers.given]), kind="text", padded=False
        )
        text = f"{key_text(group)} || '/' || {value(time)}::VARCHAR"
    else:
        unique = [one for one in answers.given if one.distinct == one.rows and _is_likely_name(one)]
        likely = unique[0].source if unique else ""
        if not (likely or answers.asked.key or answers.on_terminal):
            raise StageError(
                "no column has another value in each row: write --group and --time if a customer has several rows, else"
                " --key."
            )
        need = f"a column must name the customer, and {likely} has another value in each row"
        key = _as_name(answers.column(answers.ask("--key", "Which column names a customer", need, likely)))
        text = key_text(key)
    for name, sql in (
        (key.source or "the pair of --group and --time", text),
        *([(group.source, key_text(group))] if group else []),
    ):
        if missing := one_row(database, f"SELECT count(*) FILTER (nullif({sql}, '') IS NULL) FROM given")[0]:
            raise StageError(f"{name} is missing in {number_of(missing, 'rows')}: it names each row's customer.")
    distinct = one_row(database, f"SELECT count(DISTINCT {text}) FROM given")[0]
    if distinct < key.rows and answers.on_terminal and not group:
        print(f"init: {key.source} repeats: {key.rows:,} rows have {distinct:,} values")
        answers.asked.group, answers.asked.key = key.source, ""
        answers.asked.time = answers.ask("--time", "Which column is the day of a row", "")
        return key_of(answers, database)
    if distinct < key.rows:
        name = key.source or f"{group.source if group else ''} with {time.source if time else ''}"
        several = (
            "If a customer has several rows, write --group CUSTOMER and --time DAY; otherwise name another --key, or a"
            " query with one row each for --query."
        )
        of_one_day = "A customer has several rows of one day: name the row by --key, or take one a day by --query."
        raise StageError(
            f"{name} is no key: {key.rows:,} rows have {distinct:,} values. {several if key.source else of_one_day}"
        )
    if key.source and key.kind == "integer" and key.most - key.least + 1 == key.rows:
        print(f"init: {key.source} counts the rows: a later extract that counts anew moves customers across the split")
    return key, group, time


def _is_likely_name(column: Column) -> bool:
    """Return whether a column may name the customer: a hash of digits reads as a number."""
    is_hash = column.kind == "number" and column.is_text and column.most >= 2**63
    return is_hash or column.kind in ("text", "integer", "category")


def _as_day(database: duckdb.DuckDBPyConnection, time: Column) -> Column:
    """Return the column of --time as a date, as which 202611 is a month, too. Raises StageError where it is none."""
    if time.kind == "integer" and time.is_text:
        month = described(database, replace(time, kind="date", day="%Y%m"))
        time = month if month.missing == time.missing and month.least.year >= 1800 else time
    if time.kind != "date":
        known = "2026-11-24, 11/24/2026 or 2026-11"
        raise StageError(
            f"{time.source} has no days that init reads, such as {known}: convert it to a date by --query, or name"
            " another column by --time."
        )
    if time.missing:
        gaps = number_of(time.missing, "rows")
        raise StageError(
            f"{time.source} is missing in {gaps}: --time names the day of each row, so leave them out by --query."
        )
    return time


def _as_name(column: Column) -> Column:
    """Return a column as a key or a group: an integer, or text, as 1000DE, EUR7 and a hash of 64 bits are."""
    kind: Kind = "integer" if column.kind == "integer" and not (column.units or column.is_long) else "text"
    return replace(column, kind=kind, units=(), markers=(), lower=False, separators=None, minus="")


def key_text(column: Column) -> str:
    """Return DuckDB's SQL of a key or a group as text: +5 and 5 are one number."""
    text = as_text(column)
    return f"TRY_CAST({text} AS HUGEINT)::VARCHAR" if column.kind == "integer" else text


def as_text(column: Column) -> str:
    """Return DuckDB's SQL of a key or a label as text, without blanks around it, or a case that says nothing."""
    sql = f"trim({identifier(column.source)}::VARCHAR)"
    return f"lower({sql})" if column.lower else sql


def label_of(answers: Answers, database: duckdb.DuckDBPyConnection, key: Column) -> tuple[Column, str, str]:
    """Return the label, and its values for a churner and a stayer. Raises StageError unless it has these two alone."""
    two = [one.source for one in answers.given if one.distinct == 2 and not one.missing]
    likely = next((one for word in WORDS for one in two if word in one.lower()), "")
    column = answers.column(
        answers.ask("--label", "Which column says who churned", "a column must say who churned", likely)
    )
    # As it is counted here: none or - may be a stayer, and 100% a churner.
    column = replace(column, markers=(), units=(), separators=None, minus="")
    if column.name == key.name:
        raise StageError(f"{column.source} is the key: --label names the column that says who churned.")
    missing = one_row(database, f"SELECT count(*) FILTER (nullif({as_text(column)}, '') IS NULL) FROM given")[0]
    if missing and column.distinct < 2:
        raise StageError(
            f"{column.source} has one value, and is missing in {number_of(missing, 'rows')}: if those stayed, write a"
            " CASE with ELSE for --query, else name another by --label."
        )
    if missing:
        raise StageError(
            f"{column.source} is missing in {number_of(missing, 'rows')}: leave customers whose outcome is unknown out"
            " by --query."
        )
    values = [one for (one,) in all_rows(database, f"SELECT DISTINCT {as_text(column)} FROM given ORDER BY 1 LIMIT 3")]
    if len(values) != 2:
        distinct = one_row(database, f"SELECT count(DISTINCT {as_text(column)}) FROM given")[0]
        raise StageError(
            f"{column.source} is no label: it has {number_of(distinct, 'values')}, not one for churners and"
            " one for stayers. Name another by --label, or write a CASE for --query."
        )
    default = next((one for one in values if one.lower() in LIKELY), "")
    need = f"{column.source} has {values[0]} and {values[1]}, and one of them is a churner"
    told = answers.ask("--churned", f"Which of them is a churner, {values[0]} or {values[1]}", need, default)
    churned = next((one for one in values if _alike(one, told)), None)
    if churned is None:
        raise StageError(f"--churned {told}: {column.source} has {values[0]} and {values[1]}.")
    return column, churned, next(one for one in values if one != churned)


def _alike(one: str, other: str) -> bool:
    """Return whether two spellings are one value: case does not count, and 1.0 is 1."""
    if one.lower() == other.strip().lower():
        return True
    try:
        return float(one) == float(other)
    except ValueError:
        return False


def refuse_few(rows: int, churners: int, stayers: int) -> None:
    """Raise StageError when the holdout would have too few churners or stayers for any statement."""
    least = round(LEAST_OUTCOMES / HOLDOUT)
    if min(churners, stayers) < least:
        raise StageError(
            f"{number_of(rows, 'customers')}, of whom {churners:,} churned, are too few: at least {least} churners and"
            f" {least} stayers are needed, so that the holdout of {HOLDOUT:.0%} has {LEAST_OUTCOMES} of either. Take"
            " more customers, or customers of more months."
        )
