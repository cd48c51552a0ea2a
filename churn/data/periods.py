"""The periods of `prepare.time`, for tables with a day in each row: training, then evaluation, then open labels.

    rows to train on, in the training table    rows to judge by, in the holdout    labels not final yet
    ... train_until - label_window_days        train_until + 1 ... final_until     final_until + 1 ... as_of

A label is final `label_window_days` after its row's day. So `final_until` is that many days before `fetch.as_of`, and
`train_until` is `holdout_days` before `final_until`. A training label is final by `train_until`, when the rows to judge
by begin: the model knows nothing of their time. All days follow from `fetch.as_of`, so a retraining moves them.
Without `fetch.as_of` the newest day of the table counts, because the extract is at least as young.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

from churn.config.check import half_of_time
from churn.config.contract import Contract
from churn.config.params import AFTER_TRAINING, WINDOW_OPEN, Prepare
from churn.core.errors import StageError, number_of
from churn.core.files import refuse_other_types
from churn.core.paths import PARAMS
from churn.data.split import in_holdout

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

TRAIN_UNTIL = b"train_until"  # in the metadata of both tables


class Periods(NamedTuple):
    """The last day that training knows, the last day with a final label, and the days until a label is final."""

    train_until: date
    final_until: date
    window: int


def refuse_half(prepare: Prepare, contract: Contract) -> None:
    """Raise StageError where only one of a column of the role time and `prepare.time` is there."""
    if fault := half_of_time(prepare, contract):
        raise StageError(f"{fault}.")


class Days(NamedTuple):
    """The days of the rows of a file: the newest, how many rows have none, and how many a later one than `as_of`."""

    newest: date | None
    missing: int
    later: int


def days_of(file: Path, as_of: date | None, contract: Contract) -> Days:
    """Return the days of a snapshot's rows, or of a partition's."""
    refuse_other_types(pq.read_schema(file), {str(contract.time): "date"}, file)
    days = pq.read_table(file, columns=[contract.time])[0]
    later = pc.sum(pc.greater(days, as_of)).as_py() if as_of else 0
    return Days(pc.max(days).as_py(), days.null_count, later or 0)


def periods_of(
    raw: Path, prepare: Prepare, as_of: date | None, contract: Contract, parts: Sequence[Days] = ()
) -> Periods | None:
    """Return the periods of a snapshot, None without a column for the day or without `prepare.time`.

    `parts` are the days of its partitions, if it has some. Raises StageError when a row has no day, or one after
    `as_of`, and when the periods begin before the calendar.
    """
    if contract.time is None or prepare.time is None:
        return None
    found = parts or [days_of(raw, as_of, contract)]
    missing, later = sum(one.missing for one in found), sum(one.later for one in found)
    newest = max((one.newest for one in found if one.newest), default=None)
    if missing or newest is None:
        raise StageError(f"{raw}: {contract.time} is missing in {number_of(missing, 'rows')}: give each a day.")
    if later:
        raise StageError(
            f"{raw}: {number_of(later, 'rows')} have a day in {contract.time} after fetch.as_of, {as_of}: let the query"
            f" stop there, with `WHERE CAST({contract.time} AS DATE) <= $as_of`."
        )
    until = as_of or newest
    try:
        final_until = until - timedelta(days=prepare.time.label_window_days)
        train_until = final_until - timedelta(days=prepare.time.holdout_days)
    except OverflowError as error:
        raise StageError(
            f"{raw}: {contract.time} ends on {until}, and prepare.time in {PARAMS} counts back beyond the year 1: look"
            " at the days that the query gives."
        ) from error
    return Periods(train_until, final_until, prepare.time.label_window_days)


def drop_by_time(
    customers: pd.DataFrame, prepare: Prepare, periods: Periods | None, contract: Contract
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Drop the rows that `excluded` returns; return the rest, and the count for each reason."""
    if periods is None:
        return customers, {}
    reasons = excluded(customers, prepare, periods, contract)
    gone = np.logical_or.reduce(list(reasons.values()))
    return customers[~gone], {reason: int(rows.sum()) for reason, rows in reasons.items()}


def excluded(
    customers: pd.DataFrame, prepare: Prepare, periods: Periods, contract: Contract
) -> dict[str, npt.NDArray[np.bool_]]:
    """Return the rows that are in neither table, by the reason, shape (rows,).

    Parameters
    ----------
    customers : pandas.DataFrame
        With the customer and the day of each row.
    prepare : Prepare
        The split by customer.
    periods : Periods
        As `periods_of` returns them.
    contract : Contract
        Names the columns.

    Examples
    --------
    >>> from churn.config.contract import Column
    >>> contract = Contract.model_construct(columns={
    ...     "id": Column(role="key", type="string"), "day": Column(role="time", type="date")})
    >>> rows = pd.DataFrame({"id": list("aab"), "day": [date(2026, 3, 1), date(2026, 5, 1), date(2026, 6, 20)]})
    >>> periods = Periods(date(2026, 4, 1), date(2026, 6, 1), 30)
    >>> everybody_trains = Prepare(holdout_share=1e-9, salt="churn", drop={})
    >>> {why: rows.tolist() for why, rows in excluded(rows, everybody_trains, periods, contract).items()}
    {'label_window_open': [False, False, True], 'after_training': [False, True, False]}
    """
    days = np.asarray(customers[contract.time], dtype="datetime64[D]")
    held_out = in_holdout(customers[contract.customer], prepare.salt, prepare.holdout_share)
    # A label counts only after its window has closed.
    is_open = days > np.datetime64(periods.final_until)
    # No label of the time that is evaluated is trained on.
    too_late = days + np.timedelta64(periods.window, "D") > np.datetime64(periods.train_until)
    return {WINDOW_OPEN: is_open, AFTER_TRAINING: too_late & ~held_out & ~is_open}


def with_periods(table: pa.Table, periods: Periods | None) -> pa.Table:
    """Return the table with the last day that training knows in its metadata, for `train_until` to read."""
    if periods is None:
        return table
    return table.replace_schema_metadata(table.schema.metadata | {TRAIN_UNTIL: periods.train_until.isoformat()})


def train_until(path: Path) -> date | None:
    """Return the last day that training knows, as prepare wrote it into a table; None where the table has none."""
    day = (pq.read_schema(path).metadata or {}).get(TRAIN_UNTIL)
    try:
        return date.fromisoformat(day.decode()) if day else None
    except ValueError:
        return None
