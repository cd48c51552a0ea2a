"""Warehouses, by ADBC: one stream of Arrow batches from any driver. docs/warehouses.md has a column for each.

A warehouse is a module that makes a Warehouse, its line in WAREHOUSES of churn/data/sources/stream.py, a lock of its
driver (requirements-NAME.txt) unless requirements.txt has it, and a column of that page.
"""

import importlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from churn.core.errors import StageError
from churn.core.time_limits import within
from churn.data.as_of import with_as_of
from churn.data.duckdb_helpers import tokens
from churn.data.sources.query import Query, at_least_one

import pyarrow as pa

GRACE = 60.0  # seconds beyond fetch.timeout_minutes, in which the server should have stopped the query itself


@dataclass(frozen=True)
class Fault:
    """What an error means: the time limit, no connection, a lost one, or a fault of the query; and the words for it."""

    kind: Literal["timeout", "unreachable", "lost", "query"]
    words: str = ""


@dataclass(frozen=True)
class Session:
    """How to connect and what to run first.

    The arguments of the driver's `connect`, those of each statement, and the statements before the query. The last
    ones make the session read-only, in UTC and limited in time, where the arguments cannot.
    """

    arguments: Mapping[str, Any]
    options: Mapping[str, str | int] = field(default_factory=dict)
    statements: Sequence[str] = ()


@dataclass(frozen=True)
class Warehouse:
    """A kind of warehouse: its driver, where its credentials come from, its sessions and its errors.

    `session` raises StageError for a URL or an environment that lacks something. `fault` repeats no value of a row.
    """

    name: str
    driver: str  # the module with `connect`, of the Python database API
    credentials: str  # the variables of the environment, in messages
    session: Callable[[str, Query], Session]
    fault: Callable[[Exception, str], Fault]
    day: str = "DATE '{}'"  # the literal in the place of `$as_of`, a date by its type


def read(warehouse: Warehouse, source: str, query: Query) -> Generator[pa.RecordBatch]:
    """Return the rows of the query; see churn/data/sources/query.py."""
    if not query.minutes:
        return _rows(warehouse, source, query)
    message = (
        f"{source} is silent: after {query.minutes:g} minutes (fetch.timeout_minutes) {query.name} has neither ended"
        " nor been stopped. Look at what is between here and there, and run it again."
    )
    return within(query.minutes * 60 + GRACE, message, _rows(warehouse, source, query))


def _rows(warehouse: Warehouse, source: str, query: Query) -> Generator[pa.RecordBatch]:
    # A transaction that is read-only lets PostgreSQL's COPY ... TO PROGRAM pass, and other warehouses have none.
    if not _is_select(query.sql):
        raise StageError(f"{query.name} does not run in {source}: it is no SELECT.")
    session, driver = warehouse.session(source, query), _driver(warehouse, source)
    # PostgreSQL streams by COPY, which takes no parameters.
    sql = with_as_of(query.sql, warehouse.day.format(query.as_of))
    rows, connected = 0, False
    try:
        with driver.connect(**session.arguments) as server, _cursor(server, session) as cursor:
            connected = True
            for statement in session.statements:
                cursor.execute(statement)
            cursor.execute(f"{sql}\n")  # which may end in a comment
            for batch in at_least_one(cursor.fetch_record_batch()):
                rows += batch.num_rows
                yield _readable(batch)
    except (driver.Error, OSError, pa.ArrowException) as error:  # the latter two from within the stream
        fault = warehouse.fault(error, query.sql)
        if not connected and fault.kind == "query":
            fault = Fault("unreachable", "the driver refuses the URL or the credentials")
        raise StageError(_message(fault, warehouse, source, query, rows)) from error


def _driver(warehouse: Warehouse, source: str) -> Any:
    try:
        return importlib.import_module(warehouse.driver)
    except ModuleNotFoundError as error:
        package = warehouse.driver.partition(".")[0].replace("_", "-")
        raise StageError(
            f"{source} is read by {package}, which is not installed: `make setup` installs it if fetch.source names"
            " such a URL, and so does `make init SOURCE=URL`."
        ) from error


def _cursor(server: Any, session: Session) -> Any:
    return server.cursor(adbc_stmt_kwargs=dict(session.options)) if session.options else server.cursor()


def _readable(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch with decimals of more than 38 digits as text, because DuckDB takes no wider ones."""
    wide = [number for number, one in enumerate(batch.schema) if pa.types.is_decimal256(one.type)]
    for number in wide:
        name = batch.schema.field(number).name
        batch = batch.set_column(number, pa.field(name, pa.string()), batch.column(number).cast(pa.string()))
    return batch


def _is_select(sql: str) -> bool:
    """Return whether a statement's first word, after comments and brackets, begins a query."""
    words = (text.strip().upper() for kind, text in tokens(sql) if kind != "comment")
    return next((word for word in words if word != "("), "") in ("SELECT", "WITH", "VALUES", "TABLE")


def _message(fault: Fault, warehouse: Warehouse, source: str, query: Query, rows: int) -> str:
    match fault.kind:
        case "timeout":
            return f"{query.name} was stopped by {source} after {query.minutes:g} minutes (fetch.timeout_minutes)."
        case "unreachable":
            return f"{source} cannot be reached: {fault.words}; {warehouse.credentials}."
        case "lost":
            return f"the connection to {source} was lost after {rows:,} rows: run it again."
    return f"{query.name} does not run in {source}: {fault.words}."
