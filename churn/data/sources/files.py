"""Files, by DuckDB: CSV, Parquet and DuckDB's own, in a folder or in S3."""

import csv
import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePath

from churn.core.errors import StageError
from churn.core.partitions import is_partitioned, partitions_of, s3_files
from churn.data.duckdb_helpers import columns_of, connection, file_fault, identifier, is_damaged, literal, parquet_sql
from churn.data.engines import duckdb_fault, identifiers, missing_column
from churn.data.sources import s3
from churn.data.sources.encodings import COMPRESSED, conversion, one_line_end, other_kind
from churn.data.sources.hints import conversion_hint, nearest
from churn.data.sources.query import BATCH_ROWS, KINDS, Query, at_least_one, column_label, repeated

import duckdb
import pyarrow as pa

SHARE = 0.5  # of DuckDB's memory, for the query; the rest is for the table that its rows go into
DELIMITERS = ",;\t|"  # of a CSV file
HEADER = 65_536  # bytes, of the lines that may be a CSV file's header
CONVERTED = {  # by the text of an error: the type that a value does not have
    r"(?i)date field|'DATE'|timestamp|format specifier": "DATE",
    r"(?i)to '?BOOL": "BOOLEAN",
    r"(?i)to '?(DOUBLE|DECIMAL|FLOAT|REAL)": "DOUBLE",
    r"(?i)to '?U?(BIG|TINY|SMALL|HUGE)?INT": "BIGINT",
}
CSV_FAULTS = r"Expected Number of Columns: \d+ Found: \d+|Invalid unicode|unterminated quote"


def read(source: str, query: Query) -> Generator[pa.RecordBatch]:
    """Yield the rows of the query; see churn/data/sources/query.py."""
    files = _listed(source)
    attached = source if begins_with(source, b"DUCK", 8) else None
    with ExitStack() as stack:
        try:
            of = () if attached else files
            database = stack.enter_context(connection(*of, attached=attached, bar=False, share=SHARE))
            if not attached:
                if any(name.startswith("s3://") for name in files):
                    database.register_filesystem(s3_files())
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
            message = _file_message(error, source, files, query) or _query_message(error, source, query, database)
            raise StageError(message + _conversion(error, query, database)) from error
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

    Files and folders whose name begins with _ or . are left out, as Spark's markers. Of a table of ours in partitions
    they are those of its manifest, which may lie elsewhere.
    """
    if is_partitioned(Path(source)):
        return {one.url: (one.size, one.sha256) for one in partitions_of(Path(source))}
    if source.startswith("s3://"):
        files = s3.objects(source)
    else:
        path = Path(source)
        if not path.exists():
            raise StageError(f"the source {source} does not exist; it may be {KINDS}.")
        inside = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
        files = {str(file): (file.stat().st_size, file.stat().st_mtime_ns) for file in inside}
    below = _below(source)
    files = {name: version for name, version in files.items() if not re.search(r"/[_.]", name.removeprefix(below))}
    if not files:
        raise StageError(f"{source} holds no file.")
    if pattern := next((name for name in files if re.search(r"[*?[]", name)), None):
        raise StageError(f"{pattern} has *, ? or [ in its name, which DuckDB reads as a pattern of names: rename it.")
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
    of_folders = _folder_columns(source, files)
    endings = {name: PurePath(name).suffix.lower() for name in files}
    if set(endings.values()) == {".parquet"}:
        if len(files) > 1:  # else DuckDB rounds to the first file's types, and leaves out what it lacks
            _refuse_unlike(_parquet_columns(database, paths))
        if of_folders:
            _refuse_hidden(of_folders, database.sql(f"FROM {parquet_sql(files)}").columns, source)
        return parquet_sql(files, of_folders=bool(of_folders))
    if set(endings.values()) == {".csv"} and not source.startswith("s3://"):
        # The header is read here, so that DuckDB has nothing left to guess.
        headers = {name: _csv_header(Path(name), known) for name in files}
        _refuse_unlike({name: [delimiter, *header] for name, (delimiter, header) in headers.items()})
        delimiter, header = next(iter(headers.values()))
        _refuse_hidden(of_folders, header, source)
        columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in header)
        return (
            f"read_csv({paths}, columns = {{{columns}}}, auto_detect = false, hive_partitioning = {bool(of_folders)},"
            f" header = true, delim = {literal(delimiter)}, quote = '\"', escape = '\"')"
        )
    in_s3 = source.startswith("s3://")
    name = next((name for name, ending in endings.items() if ending != ".parquet" and (in_s3 or ending != ".csv")), "")
    if not name:
        raise StageError(f"{source} holds files in .parquet and in .csv: leave those of one kind there.")
    only = ".parquet, the one kind read from S3" if in_s3 else ".parquet or .csv, all alike"
    raise StageError(
        f"{name} ends in {endings[name] or 'nothing'}, not in {only}; the source may be {KINDS}."
        + other_kind(Path(name))
    )


def _below(source: str) -> str:
    """Return what the names of the files in a folder begin with."""
    return source.rstrip("/") if "://" in source else str(Path(source))


def _folder_columns(source: str, files: Iterable[str]) -> list[str]:
    """Return the columns of the folders below the source that each file is in, such as day=2026-11-24.

    Those above it are no part of the table, and DuckDB would put theirs in the place of a file's own.
    """
    found = [
        [part.partition("=")[0] for part in name.removeprefix(_below(source)).split("/")[:-1] if "=" in part]
        for name in files
        if name.startswith(f"{_below(source)}/")
    ]
    return found[0] if found and all(one == found[0] for one in found) else []


def _refuse_hidden(of_folders: Iterable[str], columns: Iterable[str], source: str) -> None:
    """Raise StageError for a column of a folder and of its files: DuckDB would take the folder's."""
    own = {name.lower() for name in columns}
    if both := [name for name in of_folders if name.lower() in own]:
        raise StageError(
            f"{source} has folders {both[0]}=…, and its files have the column {both[0]}, too: leave it out of one."
        )


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
            raise StageError(
                f"{name} has not the columns of {first}, or of another type, or in another order: write both alike."
            )


def _csv_header(source: Path, known: Mapping[str, str]) -> tuple[str, list[str]]:
    """Return the delimiter, with which the header has the most columns, and the header. Raises StageError."""
    try:
        with source.open("rb") as file:
            line, *others = file.readlines(HEADER) or [b""]
        if line.startswith(COMPRESSED):
            raise StageError(f"{source} is no CSV file, but compressed: unpack it, and name what is inside.")
        if line.startswith(b"PAR1"):
            raise StageError(f"{source} is Parquet, not CSV: give it the ending .parquet.")
        if b"\0" in line:
            raise StageError(f"{source} is no CSV file in UTF-8: {conversion(source)}.")
        text = line.decode("utf-8-sig")
        if text.startswith(("{", "[")):
            raise StageError(f"{source} is JSON, not CSV.{other_kind(source, '.json')}")
        if "\r" in text.rstrip("\r\n"):
            raise StageError(f"{source} ends its lines with CR alone: {one_line_end(source)}.")
        if line and not text.strip():
            raise StageError(f"{source}, line 1 is blank, where the header should be: delete it.")
        if re.fullmatch(r'"?sep=.?"?\s*', text, re.IGNORECASE):
            raise StageError(f"{source}, line 1: `{text.strip()}` is a note for Excel: delete that line.")
        lines = [text, *(one.decode(errors="replace") for one in others)]  # as many as the quotes of a name span
        readers = {one: csv.reader(lines, delimiter=one) for one in DELIMITERS}
        headers = {one: next(reader, []) for one, reader in readers.items()}
        delimiter, header = max(headers.items(), key=lambda one: len(one[1]))  # of equals the first, a comma
        if (last := readers[delimiter].line_num) > 1 and "".join(lines[:last]).count('"') % 2:
            raise StageError(f"{source}, line 1: unterminated quote, in the name of a column.")
    except (UnicodeDecodeError, csv.Error) as error:
        what = conversion(source) if isinstance(error, UnicodeDecodeError) else "look at its first line"
        raise StageError(f"{source} is no CSV file in UTF-8: {what}.") from error
    if not header:
        raise StageError(f"{source} is empty: it has no header line.")
    if not all(header):
        raise StageError(
            f"{source} has a column without a name: number {header.index('') + 1} of its header; name it there."
        )
    if (number := repeated(header)) is not None:
        name = column_label(header, number, known)
        raise StageError(f"{source} has the column {name} more than once, if case does not count: rename one.")
    return delimiter, header


def _file_message(error: Exception, source: str, files: Mapping[str, object], query: Query) -> str | None:
    """Return what DuckDB found wrong with the files, if it is that; without the rows that it quotes."""
    text = str(error)
    if "Traceback (most recent call last)" in text:  # of s3fs, which DuckDB reads by
        return _changed(source) if "FileExpired" in text else f"{source} was lost half way: run it again."
    file = next((name for name in re.findall(r"(?m)^ +file = (.*)$", text) if name in files), source)
    if "CSV Parser state machine" in text:
        return f"{file} ends its lines in more than one way: {one_line_end(file, '-s ')}."
    if line := re.search(r"CSV Error on Line: (\d+)", text):
        fault, column = re.search(CSV_FAULTS, text), re.search(r'converting column "([^"]+)"', text)
        if column:  # a cast of the query
            name = identifiers(query.sql).get(column[1].lower(), "a value")
            return f"{file}, line {line[1]}: {name} cannot be converted as the query asks."
        if fault and "unicode" in fault[0]:
            found = conversion(Path(file))
            return f"{file}, line {line[1]}: {fault[0]}. {found[0].upper()}{found[1:]}."
        return f"{file}, line {line[1]}: {fault[0] if fault else 'cannot be read as CSV'}."
    return f"{source} cannot be read: {file_fault(error)}." if is_damaged(error, files) else None


def _query_message(error: Exception, source: str, query: Query, database: duckdb.DuckDBPyConnection) -> str:
    """Return what DuckDB found wrong with the query, or with a value that it came to."""
    if column := missing_column(str(error), query.sql):
        near = nearest(column, _columns(database))
        more = f"; the column {near} is nearest to it" if near else ""
        return f"{source} has no column {column}, which {query.name} reads{more}."
    fault = duckdb_fault(error, query.sql)
    if "syntax error" in fault:
        signs = [name for name in _columns(database) if not re.fullmatch(r"\w+", name)]
        bare = [name for name in signs if re.search(rf'(?i)(?<!["\w]){re.escape(name)}(?!["\w])', query.sql)]
        fault += f"; write the column {identifier(bare[0])} with these quotes" if bare else ""
    return f"{query.name} does not run: {fault}."


def _columns(database: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the columns of the view `source`, none where the source is a database."""
    try:
        return [*columns_of(database, "source")]
    except duckdb.Error:
        return []


def _conversion(error: Exception, query: Query, database: duckdb.DuckDBPyConnection) -> str:
    """Return what to write for values that the query cannot convert, a sentence that begins with a blank, or nothing.

    The column is the one that DuckDB names, or else each one that the query has.
    """
    text, known = str(error), identifiers(query.sql)
    text = "\n".join(line for line in text.splitlines()[:4] if not line.startswith("Original Line"))
    kind = next((kind for pattern, kind in CONVERTED.items() if re.search(pattern, text)), None)
    named = re.search(r'(?:converting column|casting from source column) "?([^"\n]+?)"?(?:\.|\n|$)', text)
    if kind is None:
        return ""
    for name in [named[1]] if named else [name for name in _columns(database) if name.lower() in known]:
        x = identifier(name)
        sql = f"SELECT DISTINCT {x}::VARCHAR FROM source WHERE {x} IS NOT NULL AND TRY_CAST({x} AS {kind}) IS NULL"
        try:
            values = [value for (value,) in database.execute(f"{sql} ORDER BY ALL LIMIT 1000").fetchall()]
        except duckdb.Error:
            return ""
        if values and (hint := conversion_hint(name, values, kind)):
            return f" In {query.name} write {hint}."
    return ""
