"""PostgreSQL, by ADBC: see docs/decisions.md."""

import re
from collections.abc import Generator

from churn.core.errors import StageError
from churn.core.time_limits import within
from churn.data.as_of import with_as_of
from churn.data.duckdb_helpers import tokens
from churn.data.engines import LOST, postgresql_fault
from churn.data.sources.query import Query, at_least_one

import pyarrow as pa

# A server that vanished is noticed within a minute, not after the two hours of the system's default, if at all.
LIMITS = {
    "connect_timeout": 30,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
GRACE = 60.0  # seconds beyond fetch.timeout_minutes, in which the server should have stopped the query itself


def read(source: str, query: Query) -> Generator[pa.RecordBatch]:
    """Return the rows of the query; see churn/data/sources/query.py."""
    if not query.minutes:
        return _rows(source, query)
    message = (
        f"{source} is silent: after {query.minutes:g} minutes (fetch.timeout_minutes) {query.name} has neither ended"
        " nor been stopped. Look at what is between here and there, and run it again."
    )
    return within(query.minutes * 60 + GRACE, message, _rows(source, query))


def _rows(source: str, query: Query) -> Generator[pa.RecordBatch]:
    import adbc_driver_postgresql.dbapi as postgresql
    from adbc_driver_manager import Error

    rows = 0
    # A transaction that is read-only lets COPY ... TO PROGRAM pass.
    if not _is_select(query.sql):
        raise StageError(f"{query.name} does not run in {source}: it is no SELECT.")
    # ADBC streams by COPY, which takes no parameters. The literal is a date by its type.
    sql = with_as_of(query.sql, f"DATE '{query.as_of}'")
    try:
        with postgresql.connect(with_limits(source)) as server, server.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            # The same rows are the same text wherever this runs.
            cursor.execute("SET LOCAL timezone = 'UTC'")
            cursor.execute("SET LOCAL client_encoding = 'UTF8'")
            cursor.execute(f"SET LOCAL statement_timeout = {round((query.minutes or 0) * 60_000)}")
            cursor.execute(f"{sql}\n")  # which may end in a comment
            for batch in at_least_one(cursor.fetch_record_batch()):
                rows += batch.num_rows
                yield batch
    except (Error, OSError) as error:  # the latter from within the stream
        raise StageError(_message(error, source, query, rows)) from error


def _is_select(sql: str) -> bool:
    """Return whether a statement's first word, after comments and brackets, begins a query."""
    words = (text.strip().upper() for kind, text in tokens(sql) if kind != "comment")
    return next((word for word in words if word != "("), "") in ("SELECT", "WITH", "VALUES", "TABLE")


def with_limits(url: str) -> str:
    """Return PostgreSQL's URL with LIMITS, less those that it sets itself."""
    added = "&".join(f"{name}={value}" for name, value in LIMITS.items() if f"{name}=" not in url)
    return f"{url}{'&' if '?' in url else '?'}{added}"


def _message(error: Exception, source: str, query: Query, rows: int) -> str:
    """Return what is wrong, by the error of the server or the driver."""
    text, fault = str(error), postgresql_fault(error, query.sql)
    if "statement timeout" in text:
        return f"{query.name} was stopped by {source} after {query.minutes:g} minutes (fetch.timeout_minutes)."
    if "Failed to connect" in text:
        return f"{source} cannot be reached: {fault}; PGPASSWORD or ~/.pgpass has the password."
    if re.search(LOST, text):
        return f"the connection to {source} was lost after {rows:,} rows: run it again."
    return f"{query.name} does not run in {source}: {fault}."
