"""The rows of a query as a stream of Arrow record batches: memory does not grow with their number.

| source | the query runs |
|---|---|
| a CSV or Parquet file, a folder of them, `s3://bucket/key.parquet`, `s3://bucket/prefix/` | in DuckDB, over `source` |
| a DuckDB file | in DuckDB, over its tables, opened read-only |
| an SQLite file | in SQLite; each value comes as text, since its columns have no fixed type |
| `postgresql://user@host/database` | in PostgreSQL, in one transaction that is read-only |

Passwords come from the environment: libpq's (PGPASSWORD, ~/.pgpass, PGSERVICE), and for S3 what DVC's remote takes. In
a query `$as_of` stands for a date. DuckDB's extensions are not used: they are downloaded at run time, and no lock has
them.
"""

import csv
import re
import sqlite3
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import date
from itertools import chain
from pathlib import Path, PurePath
from queue import Empty, Queue
from threading import Event, Thread
from typing import Any

from churn.core.errors import StageError
from churn.data.as_of import with_as_of
from churn.data.duckdb_helpers import connection, literal
from churn.data.engines import (
    LOST,
    duckdb_fault,
    file_fault,
    identifiers,
    is_damaged,
    missing_column,
    postgresql_fault,
    sqlite_fault,
)

import duckdb
import pyarrow as pa

BATCH_ROWS = 20_000
KINDS = "a CSV or Parquet file, a folder of them, a DuckDB or SQLite file, Parquet in s3://…, or postgresql://…"
# A transaction that is read-only lets COPY ... TO PROGRAM pass.
SELECT = re.compile(r"(\s|--[^\n]*\n|/\*.*?\*/|\()*(SELECT|WITH|VALUES|TABLE)\b", re.IGNORECASE | re.DOTALL)
PASSWORD = re.compile(r"://[^@]*:[^@]*@|[?&](password|sslpassword)=", re.IGNORECASE)
CSV_FAULTS = r"Expected Number of Columns: \d+ Found: \d+|Invalid unicode|unterminated quote"
# A server that vanished is noticed within a minute, not after the two hours of the system's default, if at all.
LIMITS = {
    "connect_timeout": 30,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
S3_FAULTS = {  # by botocore's class, or S3's code
    "EndpointConnectionError": "nothing answers at its address",
    "ConnectTimeoutError": "its address does not answer in time",
    "ReadTimeoutError": "the answer does not come in time",
    "ConnectionClosedError": "the connection was closed",
    "NoCredentialsError": "there are no credentials",
    "ProfileNotFound": "the profile does not exist",
    "FileNotFoundError": "it does not exist",
    "PermissionError": "the credentials are refused",
}
S3_LIMITS = {"connect_timeout": 20, "read_timeout": 20}  # seconds, of each try
GRACE = 60.0  # seconds beyond fetch.timeout_minutes, in which the server should have stopped the query itself


def record_batches(
    source: str, sql: str, *, query: str = "the query", as_of: date | None = None, timeout: float | None = None
) -> Generator[pa.RecordBatch]:
    """Yield the rows that `sql` gives of `source`, at least one batch, so that its schema is known.

    `query` is what faults call the query, and `timeout` the minutes that a server may work on it. PostgreSQL's numeric
    comes as text, with all of its digits. Raises StageError when the source cannot be read or changed meanwhile, when
    the query does not run, or gives bytes, or two columns of one name.
    """
    if PASSWORD.search(source):
        raise StageError(
            "the source's URL holds a password, which Git would keep: leave it out; PGPASSWORD, ~/.pgpass or AWS's"
            " variables give it."
        )
    sql = with_as_of(sql.rstrip().rstrip(";"), as_of, query, kind="" if _is_sqlite(source) else "DATE ")
    scheme = source.partition("://")[0] if "://" in source else ""
    if scheme in ("postgresql", "postgres"):
        batches = _of_postgresql(source, sql, query, timeout)
        if timeout:
            says = (
                f"{source} is silent: after {timeout:g} minutes (fetch.timeout_minutes) {query} has neither ended nor"
                " been stopped. Look at what is between here and there, and run it again."
            )
            batches = _limited(batches, timeout * 60 + GRACE, says)
    elif scheme not in ("", "s3"):
        raise StageError(f"the source {source} cannot be read: it is neither {KINDS}.")
    elif _is_sqlite(source):
        batches = _of_sqlite(source, sql, query)
    else:
        batches = _of_duckdb(source, sql, query)
    for number, batch in enumerate(batches):
        if not number:
            _refuse_columns(batch.schema, query, identifiers(sql))
        yield batch


def _refuse_columns(schema: pa.Schema, query: str, known: Mapping[str, str]) -> None:
    """Raise StageError for two columns of one name, and for values that are no text, number, date or truth.

    A name that is not `known` from the query may be a value, as where a pivot makes it.
    """
    if (twice := _twice(schema.names)) is not None:
        raise StageError(f"{query} gives the column {_told(schema.names, twice, known)} more than once.")
    for number, field in enumerate(schema):
        stored = getattr(field.type, "storage_type", field.type)
        declared = (field.metadata or {}).get(b"POSTGRESQL:type", b"bytes").decode()
        # The driver hands on money in hundredths, as a mere integer.
        if pa.types.is_binary(stored) or pa.types.is_large_binary(stored) or declared == "money":
            name = _told(schema.names, number, known)
            raise StageError(f"{query} gives {name} as {declared}: cast it to a text or a number there.")


def _twice(names: Sequence[str]) -> int | None:
    """Return which of the columns has the name of a later one; SQL does not tell them apart by case."""
    lower = [name.lower() for name in names]
    return next((number for number, name in enumerate(lower) if name in lower[number + 1 :]), None)


def _told(names: Sequence[str], number: int, known: Mapping[str, str]) -> str:
    """Return a column's name if the query has it; else its number, since the name may be a customer's value.

    So it is in a CSV file without a header, and where a query turns values into columns.
    """
    return names[number] if names[number].lower() in known else f"number {number + 1}"


def _at_least_one(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    yield pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in reader.schema], schema=reader.schema)
    yield from reader


@contextmanager
def streaming(database: duckdb.DuckDBPyConnection, name: str, batches: Iterator[pa.RecordBatch]) -> Iterator[list[str]]:
    """Make a view of the batches, at least one, and yield its columns.

    One query in the block may read it; it ends with the very error that they do.
    """
    first = next(batches)
    raised: list[BaseException] = []

    def watched() -> Iterator[pa.RecordBatch]:
        try:
            yield from chain([first], batches)
        except GeneratorExit:
            raise
        except BaseException as error:
            raised.append(error)
            raise

    database.register(name, pa.RecordBatchReader.from_batches(first.schema, watched()))
    try:
        yield first.schema.names
    except duckdb.Error:
        if raised:
            raise raised[0] from raised[0].__cause__  # DuckDB's words for it have a traceback in them
        raise
    finally:
        database.unregister(name)


# Files, by DuckDB


def _of_duckdb(source: str, sql: str, query: str) -> Generator[pa.RecordBatch]:
    files = _listed(source)
    attached = source if _begins_with(source, b"DUCK", 8) else None
    with ExitStack() as stack:
        try:
            database = stack.enter_context(connection(*([] if attached else files), attached=attached, bar=False))
            if not attached:
                if source.startswith("s3://"):
                    database.register_filesystem(_s3())
                relation = _relation(database, source, files, identifiers(sql))
                database.execute(f"CREATE TEMP VIEW source AS SELECT * FROM {relation}")
        except duckdb.Error as error:
            fault = _file_sentence(error, source, files, sql) or f"{source} cannot be read: {file_fault(error)}."
            raise StageError(fault) from error
        try:
            if [statement.type for statement in duckdb.extract_statements(sql)] != [duckdb.StatementType.SELECT]:
                raise StageError(f"{query} does not run: it is no SELECT, or more than one.")
            yield from _at_least_one(database.sql(sql).to_arrow_reader(BATCH_ROWS))
        except duckdb.PermissionException as error:
            raise StageError(f"{query} reads another file than {source}: leave it out, no query may.") from error
        except (duckdb.Error, OSError) as error:  # the latter from within the stream
            fault = _file_sentence(error, source, files, sql) or _query_sentence(error, source, query, sql)
            raise StageError(fault) from error
    if _listed(source) != files:
        raise StageError(_changed(source))


def _changed(source: str) -> str:
    return f"{source} changed while it was read: run it again when nobody writes there."


def _s3() -> Any:
    """Return S3 as s3fs has it: by DVC's own library, so that what opens the DVC remote opens the source."""
    import s3fs

    return s3fs.S3FileSystem(use_listings_cache=False, config_kwargs=S3_LIMITS)


def _listed(source: str) -> dict[str, tuple[object, ...]]:
    """Return the files of the source, by name, and what tells that one has changed.

    Left out are those whose name, or folder, begins with _ or . as Spark's markers do. Raises StageError for none.
    """
    files: dict[str, tuple[object, ...]]
    if source.startswith("s3://"):
        try:
            entries = _s3().find(source, detail=True)
        except Exception as error:  # s3fs', botocore's and the system's own
            raise StageError(
                f"{source} cannot be read: {_s3_fault(error)}; AWS's variables say where, and who asks."
            ) from error
        files = {f"s3://{name}": (entry["size"], entry.get("ETag")) for name, entry in entries.items() if entry["size"]}
    else:
        path = Path(source)
        if not path.exists():
            raise StageError(f"the source {source} does not exist; it may be {KINDS}.")
        inside = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
        files = {str(file): (file.stat().st_size, file.stat().st_mtime_ns) for file in inside}
    below = source.rstrip("/")
    files = {name: seen for name, seen in files.items() if not re.search(r"/[_.]", name.removeprefix(below))}
    if not files:
        raise StageError(f"{source} holds no file.")
    return files


def _s3_fault(error: BaseException) -> str:
    """Return why S3 refuses, in our own words: s3fs makes an OSError of botocore's, which is the cause then."""
    from botocore.exceptions import ClientError

    for one in (error, error.__cause__, error.__context__):
        if isinstance(one, ClientError) and re.fullmatch(r"\w+", code := str(one.response["Error"].get("Code"))):
            return f"S3 answers {S3_FAULTS.get(code, code)}"
        if one is not None and (words := S3_FAULTS.get(type(one).__name__)):
            return words
    return f"it fails with {type(error).__name__}"


def _relation(
    database: duckdb.DuckDBPyConnection,
    source: str,
    files: Sequence[str] | Mapping[str, object],
    known: Mapping[str, str],
) -> str:
    """Return the SQL that reads the files: a CSV's columns all as text, a Parquet file's as they are.

    Raises StageError when they are of another kind, or do not all have the same columns.
    """
    paths = f"[{', '.join(map(literal, files))}]"
    endings = {name: PurePath(name).suffix.lower() for name in files}
    if set(endings.values()) == {".parquet"}:
        if len(files) > 1:  # else DuckDB rounds to the first file's types, and leaves out what it lacks
            _refuse_unlike(_parquet_columns(database, paths))
        return f"read_parquet({paths})"
    if set(endings.values()) == {".csv"} and not source.startswith("s3://"):
        # The header is read here, so that DuckDB has nothing left to guess.
        headers = {name: _csv_header(Path(name), known) for name in files}
        _refuse_unlike(headers)
        columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in next(iter(headers.values())))
        return (
            f"read_csv({paths}, columns = {{{columns}}}, auto_detect = false,"
            " header = true, delim = ',', quote = '\"', escape = '\"')"
        )
    name = next((name for name, ending in endings.items() if ending not in (".parquet", ".csv")), source)
    only = ".parquet, the one kind read from S3" if source.startswith("s3://") else ".parquet or .csv, all alike"
    raise StageError(f"{name} ends in {endings.get(name) or 'nothing'}, not in {only}; the source may be {KINDS}.")


def _parquet_columns(database: duckdb.DuckDBPyConnection, paths: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    leaf = "concat_ws(' ', name, type, logical_type)"
    for name, column in database.execute(
        f"SELECT file_name, {leaf} FROM parquet_schema({paths}) WHERE type IS NOT NULL"
    ).fetchall():
        found.setdefault(name, []).append(column)
    return found


def _refuse_unlike(columns: Mapping[str, Sequence[str]]) -> None:
    """Raise StageError unless all files have the same columns, of the same types, in the same order."""
    first, *others = columns
    for name in others:
        if columns[name] != columns[first]:
            raise StageError(f"{name} has not the columns of {first}, or of another type, or in another order.")


def _csv_header(source: Path, known: Mapping[str, str]) -> list[str]:
    try:
        with source.open("rb") as file:
            line = file.readline()
        if line.startswith((b"\x1f\x8b", b"PK\x03\x04")):
            raise StageError(
                f"{source} is no CSV file, but compressed (gzip or zip): unpack it, and name what is inside."
            )
        text = line.decode("utf-8-sig")
        if re.fullmatch(r'"?sep=.?"?\s*', text, re.IGNORECASE):
            raise StageError(f"{source}, line 1: `{text.strip()}` is a note for Excel: delete that line.")
        header = next(csv.reader([text]), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise StageError(f"{source} is no CSV file in UTF-8: look at its first line.") from error
    if not header:
        raise StageError(f"{source} is empty: it has no header line.")
    if len(header) == 1 and (between := re.search(r"[;\t|]", header[0])):
        raise StageError(f"{source} has {between[0]!r} between its columns: write it with commas.")
    if not all(header):
        raise StageError(f"{source} has a column without a name: number {header.index('') + 1} of its header.")
    if (twice := _twice(header)) is not None:
        raise StageError(f"{source} has the column {_told(header, twice, known)} more than once.")
    return header


def _file_sentence(error: Exception, source: str, files: Mapping[str, object], sql: str) -> str | None:
    """Say what DuckDB found wrong with the files, if it is that; without the rows that it quotes."""
    text = str(error)
    if "Traceback (most recent call last)" in text:  # of s3fs, which DuckDB reads by
        return _changed(source) if "FileExpired" in text else f"{source} was lost half way: run it again."
    if line := re.search(r"CSV Error on Line: (\d+)", text):
        file = next((name for name in re.findall(r"(?m)^ +file = (.*)$", text) if name in files), source)
        what, column = re.search(CSV_FAULTS, text), re.search(r'converting column "([^"]+)"', text)
        if column:  # a cast of the query
            name = identifiers(sql).get(column[1].lower(), "a value")
            return f"{file}, line {line[1]}: {name} cannot be converted as the query asks."
        return f"{file}, line {line[1]}: {what[0] if what else 'cannot be read as CSV'}."
    return f"{source} cannot be read: {file_fault(error)}." if is_damaged(error, files) else None


def _query_sentence(error: Exception, source: str, query: str, sql: str) -> str:
    """Say what DuckDB found wrong with the query, or with a value that it came to."""
    if column := missing_column(str(error), sql):
        return f"{source} has no column {column}, which {query} reads."
    return f"{query} does not run: {duckdb_fault(error, sql)}."


# SQLite, by Python's own module


def _is_sqlite(source: str) -> bool:
    return _begins_with(source, b"SQLite format 3\0", 0)


def _begins_with(source: str, magic: bytes, offset: int) -> bool:
    """Say whether the source is a file that has these bytes there."""
    if "://" in source or not Path(source).is_file():
        return False
    with Path(source).open("rb") as file:
        file.seek(offset)
        return file.read(len(magic)) == magic


def _of_sqlite(source: str, sql: str, query: str) -> Generator[pa.RecordBatch]:
    known = identifiers(sql)
    try:
        address = f"{Path(source).resolve().as_uri()}?mode=ro"
        # DuckDB reads on in a thread of its own, one at a time.
        with closing(sqlite3.connect(address, uri=True, check_same_thread=False)) as database:
            database.set_authorizer(_only_select)
            cursor = database.execute(sql)
            if cursor.description is None:
                raise StageError(f"{query} does not run: it is no SELECT.")
            names = [name for name, *_ in cursor.description]
            rows: list[Any] = []
            while True:
                columns = zip(*rows, strict=True) if rows else ([] for _ in names)
                told = [_told(names, number, known) for number in range(len(names))]
                texts = [_texts(column, f"{query} gives {name}") for name, column in zip(told, columns, strict=True)]
                yield pa.RecordBatch.from_arrays(texts, names)
                if not (rows := cursor.fetchmany(BATCH_ROWS)):
                    break
    except (sqlite3.Error, sqlite3.Warning) as error:  # the latter for a second statement
        if "not authorized" in str(error) or "prohibited" in str(error):
            raise StageError(f"{query} does not run in {source}: it may only SELECT from its tables.") from error
        raise StageError(f"{query} does not run in {source}: {sqlite_fault(error, sql)}.") from error


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


# PostgreSQL, by ADBC: see docs/decisions.md


def with_limits(url: str) -> str:
    """Return PostgreSQL's URL with LIMITS, less those that it sets itself."""
    added = "&".join(f"{name}={value}" for name, value in LIMITS.items() if f"{name}=" not in url)
    return f"{url}{'&' if '?' in url else '?'}{added}"


def _limited(batches: Generator[pa.RecordBatch], seconds: float, says: str) -> Generator[pa.RecordBatch]:
    """Yield the batches; raise StageError, which `says` so, when they are not all there after the seconds.

    They are read in a thread of their own, since nothing interrupts a driver that waits for an answer.
    """
    handed: Queue[pa.RecordBatch | BaseException | None] = Queue(2)
    end, stopped = time.monotonic() + seconds, Event()

    def read() -> None:
        last = None
        try:
            with closing(batches):
                for batch in batches:
                    handed.put(batch)
                    if stopped.is_set():
                        break
        except BaseException as error:
            last = error
        handed.put(last)

    reader = Thread(target=read, daemon=True)
    reader.start()
    try:
        while (got := handed.get(timeout=max(end - time.monotonic(), 0))) is not None:
            if isinstance(got, BaseException):
                raise got
            yield got
    except Empty:
        raise StageError(says) from None
    finally:
        stopped.set()
        with suppress(Empty):
            while True:
                handed.get_nowait()
        reader.join(1)  # one that waits for a silent server is left behind


def _of_postgresql(source: str, sql: str, query: str, timeout: float | None) -> Generator[pa.RecordBatch]:
    import adbc_driver_postgresql.dbapi as postgresql
    from adbc_driver_manager import Error

    rows = 0
    if not SELECT.match(sql):
        raise StageError(f"{query} does not run in {source}: it is no SELECT.")
    try:
        with postgresql.connect(with_limits(source)) as server, server.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            # The same rows are the same text wherever this runs.
            cursor.execute("SET LOCAL timezone = 'UTC'")
            cursor.execute("SET LOCAL client_encoding = 'UTF8'")
            cursor.execute(f"SET LOCAL statement_timeout = {round((timeout or 0) * 60_000)}")
            cursor.execute(f"{sql}\n")  # which may end in a comment
            for batch in _at_least_one(cursor.fetch_record_batch()):
                rows += batch.num_rows
                yield batch
    except (Error, OSError) as error:  # the latter from within the stream
        if "statement timeout" in str(error):
            fault = f"{query} was stopped by {source} after {timeout:g} minutes (fetch.timeout_minutes)."
        else:
            fault = _postgresql_sentence(error, source, query, sql, rows)
        raise StageError(fault) from error


def _postgresql_sentence(error: Exception, source: str, query: str, sql: str, rows: int) -> str:
    """Say what the server, or the driver, found."""
    text, fault = str(error), postgresql_fault(error, sql)
    if "Failed to connect" in text:
        return f"{source} cannot be reached: {fault}; PGPASSWORD or ~/.pgpass has the password."
    if re.search(LOST, text):
        return f"the connection to {source} was lost after {rows:,} rows: run it again."
    return f"{query} does not run in {source}: {fault}."
