"""Files, by DuckDB: CSV, Parquet and DuckDB's own, in a folder or in S3."""

import csv
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePath

from churn.core.errors import StageError
from churn.data.duckdb_helpers import connection, literal
from churn.data.engines import duckdb_fault, file_fault, identifiers, is_damaged, missing_column
from churn.data.sources import s3
from churn.data.sources.query import BATCH_ROWS, KINDS, Query, at_least_one, column_label, repeated

import duckdb
import pyarrow as pa

DELIMITERS = ",;\t|"  # of a CSV file
CSV_FAULTS = r"Expected Number of Columns: \d+ Found: \d+|Invalid unicode|unterminated quote"


def read(source: str, query: Query) -> Generator[pa.RecordBatch]:
    """Yield the rows of the query; see churn/data/sources/query.py."""
    files = _listed(source)
    attached = source if begins_with(source, b"DUCK", 8) else None
    with ExitStack() as stack:
        try:
            database = stack.enter_context(connection(*([] if attached else files), attached=attached, bar=False))
            if not attached:
                if source.startswith("s3://"):
                    database.register_filesystem(s3.filesystem())
                relation = _relation(database, source, files, identifiers(query.sql))
                database.execute(f"CREATE TEMP VIEW source AS SELECT * FROM {relation}")
        except duckdb.Error as error:
            message = _file_message(error, source, files, query) or f"{source} cannot be read: {file_fault(error)}."
            raise StageError(message) from error
        try:
            if [one.type for one in duckdb.extract_statements(query.sql)] != [duckdb.StatementType.SELECT]:
                raise StageError(f"{query.name} does not run: it is no SELECT, or more than one.")
            rows = database.sql(query.sql, params={"as_of": query.as_of} if query.as_of else None)
            yield from at_least_one(rows.to_arrow_reader(BATCH_ROWS))
        except duckdb.PermissionException as error:
            raise StageError(f"{query.name} reads another file than {source}: leave it out, no query may.") from error
        except (duckdb.Error, OSError) as error:  # the latter from within the stream
            message = _file_message(error, source, files, query) or _query_message(error, source, query)
            raise StageError(message) from error
    if _listed(source) != files:
        raise StageError(_changed(source))


def begins_with(source: str, magic: bytes, offset: int = 0) -> bool:
    """Return whether the source is a file that has these bytes there."""
    if "://" in source or not Path(source).is_file():
        return False
    with Path(source).open("rb") as file:
        file.seek(offset)
        return file.read(len(magic)) == magic


def _changed(source: str) -> str:
    return f"{source} changed while it was read: run it again when nobody writes there."


def _listed(source: str) -> dict[str, tuple[object, ...]]:
    """Return the files of the source, by name, with their size and version. Raises StageError if there are none.

    Files and folders whose name begins with _ or . are left out, as Spark's markers.
    """
    if source.startswith("s3://"):
        files = s3.objects(source)
    else:
        path = Path(source)
        if not path.exists():
            raise StageError(f"the source {source} does not exist; it may be {KINDS}.")
        inside = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
        files = {str(file): (file.stat().st_size, file.stat().st_mtime_ns) for file in inside}
    below = source.rstrip("/")
    files = {name: version for name, version in files.items() if not re.search(r"/[_.]", name.removeprefix(below))}
    if not files:
        raise StageError(f"{source} holds no file.")
    return files


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
        _refuse_unlike({name: [delimiter, *header] for name, (delimiter, header) in headers.items()})
        delimiter, header = next(iter(headers.values()))
        columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in header)
        return (
            f"read_csv({paths}, columns = {{{columns}}}, auto_detect = false,"
            f" header = true, delim = {literal(delimiter)}, quote = '\"', escape = '\"')"
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


def _csv_header(source: Path, known: Mapping[str, str]) -> tuple[str, list[str]]:
    """Return the delimiter, with which the header has the most columns, and the header. Raises StageError."""
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
        headers = {one: next(csv.reader([text], delimiter=one), []) for one in DELIMITERS}
        delimiter, header = max(headers.items(), key=lambda one: len(one[1]))  # of equals the first, a comma
    except (UnicodeDecodeError, csv.Error) as error:
        raise StageError(f"{source} is no CSV file in UTF-8: look at its first line.") from error
    if not header:
        raise StageError(f"{source} is empty: it has no header line.")
    if not all(header):
        raise StageError(f"{source} has a column without a name: number {header.index('') + 1} of its header.")
    if (number := repeated(header)) is not None:
        raise StageError(f"{source} has the column {column_label(header, number, known)} more than once.")
    return delimiter, header


def _file_message(error: Exception, source: str, files: Mapping[str, object], query: Query) -> str | None:
    """Return what DuckDB found wrong with the files, if it is that; without the rows that it quotes."""
    text = str(error)
    if "Traceback (most recent call last)" in text:  # of s3fs, which DuckDB reads by
        return _changed(source) if "FileExpired" in text else f"{source} was lost half way: run it again."
    if line := re.search(r"CSV Error on Line: (\d+)", text):
        file = next((name for name in re.findall(r"(?m)^ +file = (.*)$", text) if name in files), source)
        fault, column = re.search(CSV_FAULTS, text), re.search(r'converting column "([^"]+)"', text)
        if column:  # a cast of the query
            name = identifiers(query.sql).get(column[1].lower(), "a value")
            return f"{file}, line {line[1]}: {name} cannot be converted as the query asks."
        return f"{file}, line {line[1]}: {fault[0] if fault else 'cannot be read as CSV'}."
    return f"{source} cannot be read: {file_fault(error)}." if is_damaged(error, files) else None


def _query_message(error: Exception, source: str, query: Query) -> str:
    """Return what DuckDB found wrong with the query, or with a value that it came to."""
    if column := missing_column(str(error), query.sql):
        return f"{source} has no column {column}, which {query.name} reads."
    return f"{query.name} does not run: {duckdb_fault(error, query.sql)}."
