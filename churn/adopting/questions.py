"""The questions that nobody but the team can answer, and what init refuses.

On a terminal a person answers, with defaults where the table suggests one; otherwise the options do, and each refusal
names the missing one.
"""

from collections.abc import Callable, Sequence
from datetime import date, timedelta

from churn.adopting.answers import Answers, read_one_way
from churn.adopting.column import Column, cleaned, value
from churn.adopting.columns import one_row
from churn.adopting.dialects import Dialect
from churn.adopting.proposals import impossible, knowing, proposals
from churn.adopting.roles import as_text, key_of, key_text, label_of, refuse_few
from churn.adopting.sql import Plan
from churn.core.errors import StageError, number_of
from churn.data.as_of import uses_as_of
from churn.data.duckdb_helpers import identifier, literal

import duckdb

SQLITE_DAY = r"\d{4}-\d\d-\d\d"


def planned(answers: Answers, database: duckdb.DuckDBPyConnection, source: tuple[str, Dialect, str]) -> Plan:
    """Return what is to be written, after all questions. Raises StageError where the table is no base for a model."""
    if not answers.given or not answers.given[0].rows:
        raise StageError(f"{source[0]} gives no rows: name another source.")
    key, group, time = key_of(answers, database)
    label, churned, stayed = label_of(answers, database, key)
    is_churner = f"({as_text(label)} = {literal(churned)})::INT"
    customer = f"DISTINCT {key_text(group)}" if group else "*"
    counts = (
        f"count({customer}), count({customer}) FILTER ({is_churner} = 1), count({customer}) FILTER ({is_churner} = 0)"
    )
    rows, churners, stayers = one_row(database, f"SELECT {counts} FROM given")
    refuse_few(rows, churners, stayers)
    rate = one_row(database, f"SELECT avg({is_churner}) FROM given")[0]
    roles = {one.name for one in (key, label, group, time) if one}
    rest = [one for one in answers.given if one.name not in roles]
    left_out = _left_out(answers, database, rest)
    features = [one for one in rest if one.name not in left_out]
    known = knowing(database, features, is_churner)
    if known and not answers.on_terminal:
        every = "; ".join(f"{name} {how}" for name, how in known.items())
        raise StageError(f"{every}: nothing known before the churn does, so write --leave-out {' '.join(known)}.")
    for name, how in known.items():
        print(f"init: {name} {how}; it is left out")
        left_out[name] = f"{how}: known after the churn alone"
    features = [read_one_way(answers, database, one) for one in features if one.name not in left_out]
    days = _days(database, features, time) if time else {}
    for one in [one for one in features if one.name in days and not one.missing and len({*days[one.name]}) == 1]:
        left_out[one.name] = "constant: as many days before that of the row in every row"
        print(f"init: leave out {one.name}: {left_out[one.name]}")
        features.remove(one)
    if not features:
        raise StageError("no column is left that could be a feature: take some of them back by --keep.")
    dates = [one for one in features if one.kind == "date"]
    dates = [time, *dates] if time else dates
    if not source[1].parsed:
        _refuse_unread_dates(database, dates)
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
        days,
        rate,
    )


def _days(database: duckdb.DuckDBPyConnection, features: Sequence[Column], time: Column) -> dict[str, tuple[int, int]]:
    """Return the fewest and the most days from each date to that of its row, by the column's name."""
    until = f"CAST({value(time)} AS DATE)"
    since = {
        one.name: f"date_diff('day', CAST({value(one)} AS DATE), {until})" for one in features if one.kind == "date"
    }
    return {name: one_row(database, f"SELECT min({sql}), max({sql}) FROM given") for name, sql in since.items()}


def _left_out(answers: Answers, database: duckdb.DuckDBPyConnection, rest: Sequence[Column]) -> dict[str, str]:
    """Return the columns that are no features, by name, with the reason."""
    chosen = _named(answers, answers.asked.leave_out, rest, "--leave-out ")
    others = [one for one in rest if one.name not in chosen]
    kept = _named(answers, answers.asked.keep, rest, "--keep ", impossible)
    found = {name: why for name, why in proposals(database, others).items() if name not in kept}
    for name, why in found.items():
        print(f"init: leave out {name}: {why}")
    if answers.on_terminal:
        if found:
            kept = _typed(answers, "Which of these do you keep as features? [none] ", rest, impossible)
            found = {name: why for name, why in found.items() if name not in kept}
        question = "Which other columns are personal, or known only after the churn? [none] "
        chosen = chosen or _typed(answers, question, rest)
    return dict.fromkeys(chosen, "as init was told") | found


def _typed(
    answers: Answers, question: str, rest: Sequence[Column], refused: Callable[[Column], str | None] = lambda _: None
) -> dict[str, None]:
    """Return the columns that a person types, who is asked again about a wrong one."""
    while True:
        text = answers.typed(question)
        try:
            return _named(answers, text, rest, "", refused)
        except StageError as error:
            print(f"init: {error}")


def _named(
    answers: Answers,
    text: str | Sequence[str],
    rest: Sequence[Column],
    option: str,
    refused: Callable[[Column], str | None] = lambda _: None,
) -> dict[str, None]:
    """Return the listed columns. Raises StageError for one that has a role, or that is `refused` as a feature."""
    names = answers.names(text)
    if roles := [one.source for one in answers.given if one.name in names and one not in rest]:
        raise StageError(f"{option}{' '.join(roles)}: the key, the group, the time and the label are no features.")
    if columns := [one for one in rest if one.name in names and refused(one)]:
        reasons = dict.fromkeys((refused(one) or "").partition(": ")[0] for one in columns)
        listed = f"{option}{' '.join(one.source for one in columns)}"
        raise StageError(f"{listed}: no feature can be made of it ({'; '.join(reasons)}); convert it by --query.")
    return names


def _refuse_unread_dates(database: duckdb.DuckDBPyConnection, dates: Sequence[Column]) -> None:
    """Raise StageError when a column has a date of another format than 2026-11-24, which SQLite's date() takes."""
    for one in dates:
        text = f"{cleaned(one, identifier(one.source))}::VARCHAR"
        other = f"SELECT count(*) FROM given WHERE NOT regexp_matches({text}, '^{SQLITE_DAY}')"
        if one.day or one_row(database, other)[0]:
            how = f"as {one.day}" if one.day else "in another form than 2026-11-24"
            raise StageError(f"{one.name} has dates {how}, which SQLite does not read: convert them by --query.")


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
