"""SQLite files, by Python's own module. Each value comes as text, since SQLite's columns have no fixed type."""

import sqlite3
from collections.abc import Generator, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from churn.core.errors import StageError
from churn.data.engines import identifiers, sqlite_fault
from churn.data.sources.query import BATCH_ROWS, Query, column_label

import pyarrow as pa

MAGIC = b"SQLite format 3\0"


def read(source: str, query: Query) -> Generator[pa.RecordBatch]:
    """Yield the rows of the query; see churn/data/sources/query.py."""
    known = identifiers(query.sql)
    try:
        address = f"{Path(source).resolve().as_uri()}?mode=ro"
        # DuckDB consumes the batches in another thread, one at a time.
        with closing(sqlite3.connect(address, uri=True, check_same_thread=False)) as database:
            database.set_authorizer(_only_select)
            cursor = database.execute(query.sql, {"as_of": str(query.as_of)} if query.as_of else {})
            if cursor.description is None:
                raise StageError(f"{query.name} does not run: it is no SELECT.")
            names = [name for name, *_ in cursor.description]
            labels = [column_label(names, number, known) for number in range(len(names))]
            rows: list[Any] = []
            while True:
                columns = zip(*rows, strict=True) if rows else ([] for _ in names)
                texts = [
                    _texts(column, f"{query.name} gives {label}") for label, column in zip(labels, columns, strict=True)
                ]
                yield pa.RecordBatch.from_arrays(texts, names)
                if not (rows := cursor.fetchmany(BATCH_ROWS)):
                    break
    except (sqlite3.Error, sqlite3.Warning) as error:  # the latter for a second statement
        if "not authorized" in str(error) or "prohibited" in str(error):
            raise StageError(f"{query.name} does not run in {source}: it may only SELECT from its tables.") from error
        raise StageError(f"{query.name} does not run in {source}: {sqlite_fault(error, query.sql)}.") from error


def _only_select(action: int, *_: str | None) -> int:
    """Return whether SQLite may do what a query asks: no ATTACH, PRAGMA or other statement, only a SELECT."""
    allowed = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)
    return sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY


def _texts(values: Iterable[Any], what: str) -> pa.Array:
    """Return SQLite's values as text, a float with all of its digits. Raises StageError for bytes."""
    texts = [value if value is None or isinstance(value, str | bytes) else repr(value) for value in values]
    if any(isinstance(text, bytes) for text in texts):
        raise StageError(f"{what} as bytes: cast it to a text or a number there.")
    return pa.array(texts, pa.string())
