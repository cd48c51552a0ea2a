"""The questions that nobody but the team can answer, and what init refuses.

On a terminal a person answers, with defaults where the table suggests one; otherwise the options do, and each refusal
names the missing one.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

from churn.adopting.columns import Column, Kind, all_rows, described, one_row
from churn.adopting.dialects import Dialect
from churn.adopting.proposals import is_too_large, knowing, proposals
from churn.adopting.sql import Plan
from churn.core.errors import StageError, nearest, number_of, on_terminal
from churn.data.as_of import uses_as_of
from churn.data.duckdb_helpers import identifier, literal
from churn.gate.rules import LEAST_OUTCOMES

import duckdb

HOLDOUT = 0.2
NO_FEATURE = ("empty", "other", "text")  # kinds of columns
WORDS = ("churn", "exit", "attrition", "cancel", "left")  # in the name of a label, the surest first
LIKELY = ("1", "1.0", "yes", "y", "true", "t", "churned", "left", "exited", "cancelled")  # as a churner's label


def is_interactive() -> bool:
    """Return whether a person can answer."""
    return sys.stdin.isatty() and on_terminal()


class Answers:
    """What the command line says, and on a terminal what a person answers."""

    def __init__(self, asked: argparse.Namespace, given: Sequence[Column]) -> None:
        self.asked, self.given = asked, given
        self.on_terminal = is_interactive()

    def ask(self, option: str, question: str, need: str, default: str = "") -> str:
        """Return an option's value, or what a person answers. Raises StageError, which says what is needed and how."""
        if told := getattr(self.asked, option.removeprefix("--").replace("-", "_")):
            return str(told)
        if not self.on_terminal:
            raise StageError(f"{need}: write {option}.")
        return (
            self.typed(f"{question}{f' [{default}]' if default else ''}: ")
            or default
            or self.ask(option, question, need)
        )

    def typed(self, question: str) -> str:
        """Return what a person types."""
        try:
            return input(question).strip()
        except EOFError as error:
            raise StageError("no more answers; the options of `python -m churn init --help` take them, too.") from error

    def column(self, name: str) -> Column:
        """Return a column by its name in the source or in the contract. Raises StageError with the nearest names."""
        fits = [one for one in self.given if name in (one.source, one.name)]
        fits = fits or [one for one in self.given if name.lower() in (one.source.lower(), one.name)]
        if len(fits) == 1:
            return fits[0]
        known = [one.source for one in self.given]
        raise StageError(f"SOURCE has no column {name}{nearest(name, known) or f'; it has {len(known):,} others'}.")

    def names(self, text: str | Sequence[str]) -> dict[str, None]:
        """Return the contract's names of columns that are listed with blanks or commas."""
        listed = text.replace(",", " ").split() if isinstance(text, str) else text
        return {self.column(one).name: None for one in listed}


def planned(answers: Answers, database: duckdb.DuckDBPyConnection, source: tuple[str, Dialect, str]) -> Plan:
    """Return what is to be written, after all questions. Raises StageError where the table is no base for a model."""
    if not answers.given or not answers.given[0].rows:
        raise StageError(f"{source[0]} gives no rows: name another source.")
    key, group, time = _key(answers, database)
    label, churned, stayed = _label(answers, database, key)
    is_churner = f"({_text(label)} = {literal(churned)})::INT"
    customer = f"DISTINCT {_text(group)}" if group else "*"
    counts = (
        f"count({customer}), count({customer}) FILTER ({is_churner} = 1), count({customer}) FILTER ({is_churner} = 0)"
    )
    rows, churners, stayers = one_row(database, f"SELECT {counts} FROM given")
    _refuse_few(rows, churners, stayers)
    rate = one_row(database, f"SELECT avg({is_churner}) FROM given")[0]
    roles = {one.name for one in (key, label, group, time) if one}
    rest = [one for one in answers.given if one.name not in roles]
    left_out = _left_out(answers, database, rest)
    features = [one for one in rest if one.name not in left_out]
    for name, how in knowing(database, features, is_churner).items():
        if not answers.on_terminal:
            raise StageError(f"{name} {how}: nothing known before the churn does, so write --leave-out {name}.")
        print(f"init: {name} {how}; it is left out")
        left_out[name] = f"{how}: known after the churn alone"
    features = [_read_one_way(answers, database, one) for one in features if one.name not in left_out]
    if not source[1].parsed and (one := next((one for one in features if one.day), None)):
        raise StageError(f"{one.name} has dates as {one.day}, which SQLite does not read: convert them by --query.")
    if not features:
        raise StageError("no column is left that could be a feature: take some of them back by --keep.")
    dates = [one for one in features if one.kind == "date"]
    dates = [time, *dates] if time else dates
    as_of = _day(answers, dates) if dates or uses_as_of(source[2]) else None
    periods = _periods(answers, time, as_of) if time and as_of else {}
    return Plan(
        *source,
        key,
        group,
        time,
        label,
        churned,
        stayed,
        features,
        left_out,
        _meanings(answers, features),
        as_of,
        periods,
        rate,
    )


def _key(answers: Answers, database: duckdb.DuckDBPyConnection) -> tuple[Column, Column | None, Column | None]:
    """Return the key of a row, and the group and the time where a customer has several rows. Raises StageError."""
    group, time = (answers.column(one) if one else None for one in (answers.asked.group, answers.asked.time))
    if time and (time.kind != "date" or time.missing):
        raise StageError(f"{time.source} is no day, or is missing in some rows: --time names the day of a row.")
    group = _as_name(group) if group else None
    if group and time and not answers.asked.key:
        key = replace(group, source="", name="row_id", kind="text", padded=False)
        text = f"{_text(group)} || '/' || {identifier(time.source)}::VARCHAR"
    else:
        unique = [
            one for one in answers.given if one.kind in ("text", "integer", "category") and one.distinct == one.rows
        ]
        likely = unique[0].source if unique else ""
        if not (likely or answers.asked.key or answers.on_terminal):
            raise StageError(
                "no column has another value in each row: write --group and --time if a customer has several rows, else"
                " --key."
            )
        need = f"a column must name the customer, and {likely} has another value in each row"
        key = _as_name(answers.column(answers.ask("--key", "Which column names a customer", need, likely)))
        text = _text(key)
    for name, sql in (
        (key.source or "the pair of --group and --time", text),
        *([(group.source, _text(group))] if group else []),
    ):
        if missing := one_row(database, f"SELECT count(*) FILTER (nullif({sql}, '') IS NULL) FROM given")[0]:
            raise StageError(f"{name} is missing in {number_of(missing, 'rows')}: it names each row's customer.")
    distinct = one_row(database, f"SELECT count(DISTINCT {text}) FROM given")[0]
    if distinct < key.rows and answers.on_terminal and not group:
        print(f"init: {key.source} repeats: {key.rows:,} rows have {distinct:,} values")
        answers.asked.group, answers.asked.key = key.source, ""
        answers.asked.time = answers.ask("--time", "Which column is the day of a row", "")
        return _key(answers, database)
    if distinct < key.rows:
        name = key.source or f"{group.source if group else ''} with {time.source if time else ''}"
        raise StageError(
            f"{name} is no key: {key.rows:,} rows have {distinct:,} values. If a customer has several rows, write"
            " --group CUSTOMER and --time DAY; otherwise name another --key, or a query with one row each for --query."
        )
    if key.source and key.kind == "integer" and key.most - key.least + 1 == key.rows:
        print(f"init: {key.source} counts the rows: a later extract that counts anew moves customers across the split")
    return key, group, time


def _as_name(column: Column) -> Column:
    """Return a column as a key or a group: a number without a fraction, or text."""
    kind: Kind = "integer" if column.kind == "integer" else "text"
    return replace(column, kind=kind, markers=(), lower=False, separators=None)


def _text(column: Column) -> str:
    """Return DuckDB's SQL of a key or a label as text, without blanks around it, or a case that says nothing."""
    sql = f"trim({identifier(column.source)}::VARCHAR)"
    return f"lower({sql})" if column.lower else sql


def _label(answers: Answers, database: duckdb.DuckDBPyConnection, key: Column) -> tuple[Column, str, str]:
    """Return the label, and its values for a churner and a stayer. Raises StageError unless it has these two alone."""
    two = [one.source for one in answers.given if one.distinct == 2 and not one.missing]
    likely = next((one for word in WORDS for one in two if word in one.lower()), "")
    column = answers.column(
        answers.ask("--label", "Which column says who churned", "a column must say who churned", likely)
    )
    if column.name == key.name:
        raise StageError(f"{column.source} is the key: --label names the column that says who churned.")
    missing = one_row(database, f"SELECT count(*) FILTER (nullif({_text(column)}, '') IS NULL) FROM given")[0]
    if missing:
        raise StageError(
            f"{column.source} is missing in {number_of(missing, 'rows')}: leave customers whose outcome is unknown out"
            " by --query."
        )
    values = [one for (one,) in all_rows(database, f"SELECT DISTINCT {_text(column)} FROM given ORDER BY 1 LIMIT 3")]
    if len(values) != 2:
        distinct = one_row(database, f"SELECT count(DISTINCT {_text(column)}) FROM given")[0]
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
    try:
        return float(one) == float(other)
    except ValueError:
        return one.lower() == other.strip().lower()


def _refuse_few(rows: int, churners: int, stayers: int) -> None:
    """Raise StageError when the holdout would have too few churners or stayers for any statement."""
    least = round(LEAST_OUTCOMES / HOLDOUT)
    if min(churners, stayers) < least:
        raise StageError(
            f"{number_of(rows, 'customers')}, of whom {churners:,} churned, are too few: at least {least} churners and"
            f" {least} stayers are needed, so that the holdout of {HOLDOUT:.0%} has {LEAST_OUTCOMES} of either. Take"
            " more customers, or customers of more months."
        )


def _left_out(answers: Answers, database: duckdb.DuckDBPyConnection, rest: Sequence[Column]) -> dict[str, str]:
    """Return the columns that are no features, by name, with the reason."""
    asked = answers.asked
    chosen = dict.fromkeys(answers.names(asked.leave_out), "as init was told")
    kept = answers.names(asked.keep)
    others = [one for one in rest if one.name not in chosen]
    found = {name: why for name, why in proposals(database, others).items() if name not in kept}
    if impossible := [
        one.source for one in others if one.name in kept and (one.kind in NO_FEATURE or is_too_large(one))
    ]:
        raise StageError(f"--keep {' '.join(impossible)}: no feature can be made of it; convert it by --query.")
    for name, why in found.items():
        print(f"init: leave out {name}: {why}")
    if answers.on_terminal:
        if found:
            for name in answers.names(answers.typed("Which of these do you keep as features? [none] ")):
                found.pop(name, None)
        question = "Which other columns are personal, or known only after the churn? [none] "
        chosen |= dict.fromkeys(answers.names(answers.typed(question)), "as init was told") if not chosen else {}
    return chosen | found


def _read_one_way(answers: Answers, database: duckdb.DuckDBPyConnection, column: Column) -> Column:
    """Return a column that can be read in two ways as other columns are, or as a person says."""
    if column.other is None:
        return column
    if column.kind == "number":
        option, ways = "--decimal", {"point": ".", "comma": ","}
        sure = {one.decimal for one in answers.given if one.is_text and one.kind == "number" and not one.other}
        question = f"Is 1.234 in {column.source} below 2 (point) or above 1,000 (comma)"
        need = f"a decimal point and a decimal comma fit all numbers of {column.source}, such as 1,234"
        readings = {one.decimal: one for one in (column, column.other)}
    else:
        option, ways = "--dates", {"day-first": "%d", "month-first": "%m"}
        sure = {
            one.day[:2] for one in answers.given if one.kind == "date" and not one.other and one.day[:2] in ("%d", "%m")
        }
        question = f"Is 3/4/2026 in {column.source} in April (day-first) or in March (month-first)"
        need = f"all dates of {column.source} fit with the day first and with the month first, such as 3/4/2026"
        readings = {one.day[:2]: one for one in (column, column.other)}
    way = sure.pop() if len(sure) == 1 else ways.get(answers.ask(option, question, need), "")
    if way not in readings:
        raise StageError(f"{option}: write {' or '.join(ways)}.")
    return described(database, replace(readings[way], other=None))


def _periods(answers: Answers, time: Column, as_of: date) -> dict[str, int]:
    """Return prepare.time of a table whose rows have a day. Raises StageError where no row is left for a table."""
    window = answers.ask(
        "--label-window",
        "After how many days is it known who churned",
        "a row's label is final some days after its day",
    )
    tested = (
        answers.ask(
            "--holdout-days",
            "How many of the last days test the model",
            "",
            str(min((time.most - time.least).days // 4, 90)),
        )
        if answers.on_terminal or answers.asked.holdout_days
        else str(min((time.most - time.least).days // 4, 90))
    )
    if not (window.isdigit() and tested.isdigit()):
        raise StageError("--label-window and --holdout-days: write a number of days, as in --label-window 30.")
    periods = {"holdout_days": max(int(tested), 1), "label_window_days": int(window)}
    try:
        final_until = as_of - timedelta(days=periods["label_window_days"])
        train_until = final_until - timedelta(days=periods["holdout_days"])
        learned_until = train_until - timedelta(days=periods["label_window_days"])
    except OverflowError as error:
        raise StageError("--label-window and --holdout-days: these are more days than a calendar has.") from error
    # As churn/data/periods.py has it.
    if time.least > min(learned_until, as_of):
        raise StageError(
            f"no row is left to train on: {time.source} begins on {time.least}, and the last day to train on is"
            f" {learned_until}. Write fewer days for --holdout-days or --label-window, or take more months."
        )
    if time.most <= train_until:
        raise StageError(
            f"no row is left to test the model: {time.source} ends on {time.most}, and the holdout begins after"
            f" {train_until}. Write an earlier --as-of, or more --holdout-days."
        )
    return periods


def _day(answers: Answers, dates: Sequence[Column]) -> date:
    """Return the day that dates are counted back from. Raises StageError when it is none."""
    newest = max((one.most for one in dates), default="")
    need = f"dates become days before the day of the data ({dates[0].source if dates else '$as_of'})"
    return as_day(answers.ask("--as-of", "Of which day are the data, as 2026-11-24", need, str(newest)))


def as_day(told: str) -> date:
    """Return the day of the data. Raises StageError when it is none."""
    try:
        return date.fromisoformat(told)
    except ValueError as error:
        raise StageError(f"--as-of {told}: write a day, as in --as-of 2026-11-24.") from error


def _meanings(answers: Answers, features: Sequence[Column]) -> dict[str, str]:
    """Return what a missing value means, by the column's name; an open question is left out."""
    told = {}
    for one in answers.asked.missing:
        name, _, meaning = one.partition("=")
        if not meaning.strip():
            raise StageError(f'--missing {one}: write COLUMN="MEANING", as in --missing end_date="The contract runs."')
        told[answers.column(name).name] = meaning.strip()
    for column in features if answers.on_terminal else ():
        if column.missing and column.name not in told:
            gaps = number_of(column.missing, "rows")
            told[column.name] = answers.typed(f"What does it mean that {column.source} is missing in {gaps}? [later] ")
    return {name: meaning for name, meaning in told.items() if meaning}
