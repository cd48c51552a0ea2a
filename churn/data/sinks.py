"""Reads and writes tables of customers for scoring: files, or tables of PostgreSQL, in bounded memory.

Passwords come from libpq's variables (PGPASSWORD, PGPASSFILE), not from the URL.
"""

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from churn.core.errors import StageError, without_password
from churn.core.files import replacing
from churn.core.partitions import is_partitioned
from churn.data.duckdb_helpers import identifier
from churn.data.engines import postgresql_fault
from churn.data.sources import files, sqlite
from churn.data.sources.postgresql import with_limits
from churn.data.sources.query import Query
from churn.data.sources.stream import record_batches, streaming
from churn.data.unlabeled import without_label

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

SERVERS = ("postgresql://", "postgres://")
Write = Callable[[str, pa.Schema, Iterable[pa.Table]], int]


def load_table(
    database: duckdb.DuckDBPyConnection, name: str, timeout: float, label: str, query: Query | None = None
) -> None:
    """Make the table `given` of the rows of `batches_of`."""
    with closing(batches_of(name, timeout, label, query)) as batches, streaming(database, "batch", batches):
        database.execute("CREATE TABLE given AS FROM batch")


def batches_of(name: str, timeout: float, label: str, query: Query | None = None) -> Generator[pa.RecordBatch]:
    """Return the rows of all that churn/data/sources/ reads, of a database the table behind #, in batches.

    With a `query`, the table is in the source's columns. It may then lack those that only the `label` is made of, in a
    file. Raises StageError when it cannot be read, or a server takes longer than `timeout` minutes.
    """
    place, _, table = name.partition("#")
    if query:
        if table:
            raise StageError(f"{without_password(name)}: the query names its tables itself, so leave #{table} out.")
        sql = query.sql
        if place.partition("://")[0] in (place, "s3") and not files.begins_with(place, sqlite.MAGIC):
            sql = without_label(sql, label)
        return record_batches(place, sql, query=query.name, as_of=query.as_of, timeout=timeout)
    if place.startswith(SERVERS) and not table:
        raise StageError(f"{without_password(name)} names no table: end it in #table or #schema.table.")
    schema, _, table = table.rpartition(".")
    sql = f"SELECT * FROM {_qualified(schema, table) if table else 'source'}"
    return record_batches(place, sql, query=f"`{sql}`", timeout=timeout)


@contextmanager
def sink(name: str) -> Iterator[Write]:
    """Yield a function that writes a table from batches, and returns its number of rows.

    It takes a word that is added to the name, the schema, and the tables. Nothing is there before all is written: files
    take their place then, and tables of PostgreSQL change in one transaction. Raises StageError when it is neither.
    """
    if name.startswith(SERVERS):
        with server(name) as (connection, inside, table), connection.cursor() as cursor:

            def fill(word: str, schema: pa.Schema, tables: Iterable[pa.Table]) -> int:
                return _fill(cursor, (inside, f"{table}_{word}" if word else table), schema, tables)

            yield fill
            connection.commit()
        return
    refuse_place(name)
    path = Path(name)
    with ExitStack() as stack:

        def write(word: str, schema: pa.Schema, tables: Iterable[pa.Table]) -> int:
            tmp = stack.enter_context(replacing(beside(path, word) if word else path))
            kind, rows = pyarrow.csv.CSVWriter if path.suffix.lower() == ".csv" else pq.ParquetWriter, 0
            try:
                with kind(tmp, schema) as file:
                    for table in tables:
                        file.write_table(table.cast(schema))
                        rows += table.num_rows
            except OSError as error:
                if error.errno is None:  # of the tables' stream
                    raise
                raise StageError(f"{path} cannot be written: {os.strerror(error.errno)}.") from error
            return rows

        yield write


def refuse_place(name: str) -> None:
    """Raise StageError where `sink` cannot write, or would replace a folder that is not a table of partitions."""
    if name.startswith(SERVERS):
        return
    path = Path(name)
    if "://" in name or path.suffix.lower() not in (".csv", ".parquet"):
        raise StageError(
            f"{without_password(name).strip() or 'an empty name'} is neither a file here that ends in .parquet or .csv,"
            " nor a table of PostgreSQL."
        )
    for one in (path, beside(path, "rejected")):
        if one.is_dir() and not is_partitioned(one):
            raise StageError(f"{one} is a folder, and would be replaced: name another file, or delete it.")
    folder = next(one for one in path.absolute().parents if one.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise StageError(f"{path} cannot be written, because {folder} is no folder that you may write: name another.")


def beside(path: Path, word: str) -> Path:
    """Return the file beside `path` whose name has the word added.

    Examples
    --------
    >>> beside(Path("build/scores.csv"), "rejected").as_posix()
    'build/scores.rejected.csv'
    """
    return path.parent / f"{path.stem}.{word}{path.suffix}"


def _fill(cursor: Any, name: tuple[str | None, str], schema: pa.Schema, tables: Iterable[pa.Table]) -> int:
    """Empty a table, made if it is not there, and fill it: rights on it, and views of it, stay."""
    rows, inside = 0, {"mode": "create_append", "db_schema_name": name[0]}
    cursor.adbc_ingest(name[1], schema.empty_table(), **inside)
    cursor.execute(f"DELETE FROM {_qualified(*name)}")
    for table in tables:
        cursor.adbc_ingest(name[1], table.cast(schema), **inside)
        rows += table.num_rows
    return rows


@contextmanager
def server(name: str) -> Iterator[tuple[Any, str | None, str]]:
    """Yield a connection to PostgreSQL, the schema and the table of a URL. Raises StageError, without its password."""
    from adbc_driver_manager import Error
    from adbc_driver_postgresql import dbapi

    url, _, table = name.partition("#")
    schema, _, table = table.rpartition(".")
    shown = without_password(name)
    if not table:
        raise StageError(f"{shown} names no table: end it in #table or #schema.table.")
    try:
        with dbapi.connect(with_limits(url)) as connection:
            yield connection, schema or None, table
    except Error as error:
        fault = postgresql_fault(error, _qualified(schema, table))
        raise StageError(f"{shown} failed: {fault}.") from error


def _qualified(schema: str | None, table: str) -> str:
    return f"{identifier(schema)}.{identifier(table)}" if schema else identifier(table)
