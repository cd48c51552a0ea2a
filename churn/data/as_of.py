"""The as-of date of a query, `$as_of`: the last day that it includes, so that a half-loaded day stays out.

The date is a parameter, fetch.as_of: a snapshot can be made again, and no stage knows the time. The caller of a run
knows it: `python -m churn as-of 2026-11-24`, or `yesterday`, writes the date to params.yaml, where the query uses it.
"""

import argparse
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from churn.config.params import load_params, write_value
from churn.core.errors import StageError
from churn.core.paths import PARAMS
from churn.data.duckdb_helpers import tokens

YESTERDAY = "yesterday"


def uses_as_of(sql: str) -> bool:
    """Return whether a query reads the date: `$as_of` outside of texts, quoted names and comments.

    Examples
    --------
    >>> uses_as_of("SELECT * FROM days WHERE day <= $as_of")
    True
    >>> uses_as_of("SELECT $$ it's $as_of $$ -- $as_of")
    False
    """
    return with_as_of(sql, "") != sql


def with_as_of(sql: str, value: str) -> str:
    """Return the query with `value` in the place of `$as_of`."""
    done, former = "", ""
    for kind, text in tokens(sql):
        if (former, kind, text.strip()) == ("operator", "identifier", "as_of") and done.endswith("$"):
            done = done.removesuffix("$") + value + text.removeprefix("as_of")
        else:
            done += text
        former = kind
    return done


def check_as_of(sql: str, as_of: date | None, query: str) -> None:
    """Raise StageError, with the name of the `query`, when it uses a date that is not set, or not one that is."""
    if as_of is None and uses_as_of(sql):
        raise StageError(f'{query} uses $as_of, but no date is set: fetch.as_of in {PARAMS}, as in "2026-11-24".')
    if as_of is not None and not uses_as_of(sql):
        raise StageError(f"{query} does not use $as_of, so fetch.as_of in {PARAMS} would change nothing: set null.")


def read_query(query: str) -> str:
    """Return the text of the query's file. Raises StageError when it is not text in UTF-8."""
    try:
        return Path(query).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise StageError(f"{query} is not text in UTF-8: save it so.") from error
    except OSError as error:
        raise StageError(f"{query} cannot be read as the query ({error.strerror}): name its file.") from error


def as_day(text: str) -> date:
    """Return the day that a command line names: a date, or `yesterday` (UTC). Raises ValueError when it is neither."""
    return datetime.now(UTC).date() - timedelta(days=1) if text == YESTERDAY else date.fromisoformat(text)


def set_as_of(day: date) -> bool:
    """Write the date to params.yaml and return True, or False where the query uses none.

    Raises StageError when fetch.as_of has no line of its own.
    """
    if not uses_as_of(read_query(load_params().fetch.query)):
        return False
    write_value("fetch", "as_of", day)
    return True


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m churn as-of", description="Set fetch.as_of in params.yaml.")
    parser.add_argument(
        "day",
        help=f"the last day that the query takes, such as 2026-11-24; {YESTERDAY} is the newest closed day (UTC)",
    )
    return parser


def main(asked: argparse.Namespace) -> None:
    """Write the day to params.yaml, where the query uses it."""
    try:
        day = as_day(asked.day)
    except ValueError as error:
        raise StageError("say a day, as in `python -m churn as-of 2026-11-24`, or `yesterday`.") from error
    print(f"as_of: {day}" if set_as_of(day) else f"as_of: the query uses no $as_of, so {PARAMS} stays")
