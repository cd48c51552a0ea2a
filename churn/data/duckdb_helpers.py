"""DuckDB in this process, in bounded memory: the engine of fetch and of validate."""

import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import chain
from math import ceil
from pathlib import Path
from typing import TypeVar

from churn.config.memory import duckdb_limit, duckdb_threads
from churn.core.cluster import scratch, task_memory
from churn.core.errors import StageError
from churn.core.partitions import files_of

import duckdb

Item = TypeVar("Item")
UNREADABLE = "cannot be read; run `dvc repro`, which makes it first"  # a table that a stage wrote
TOGETHER = 4_000_000  # rows in a share of hashes
BETWEEN = "; "  # the rules that a row violates
SQL_TYPES = {  # of the contract's types
    "string": "VARCHAR",
    "category": "VARCHAR",
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
    "date": "DATE",
}

FILES = (  # what is wrong with a file
    (r"No space left", "No space left on device"),
    (r"No such file|does not exist|No files found", "it does not exist"),
    (r"Permission denied", "Permission denied"),
    (r"(?i)lock on file|conflicting lock", "another process has it open for writing"),
    (r"(?i)version number|newer version|storage version", "it was written by another version of DuckDB"),
)
DAMAGED = r"(?i)magic bytes|failed to read file|in parquet file|corrupt|checksum"


@contextmanager
def connection(
    *files: str | Path, attached: str | None = None, bar: bool = True, ordered: bool = True, share: float = 1
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection whose queries read and write `files` alone, and change no setting.

    It spills to a temporary folder instead of growing beyond `duckdb_limit()`, or a third of the memory of a task on a
    Dask worker. Two that are open at once have a `share` of it each. The DuckDB file `attached` is opened read-only and
    used. With `bar`, DuckDB shows a bar on long queries on a terminal. Without `ordered`, only ORDER BY orders rows,
    and a table of ten million is made in three quarters of the time.
    """
    with (
        tempfile.TemporaryDirectory() as spill,
        duckdb.connect(config={**_limits(share), "temp_directory": spill}) as database,
    ):
        if most := duckdb_threads(share):
            (threads,) = database.execute("SELECT current_setting('threads')").fetchall()[0]
            database.execute(f"SET threads = {min(threads, most)}")
        database.execute("SET GLOBAL TimeZone = 'UTC'")  # the machine's would move days; GLOBAL also holds for a cursor
        database.execute("SET python_enable_replacements = false")  # a query's names are no Python variables
        database.execute(f"SET preserve_insertion_order = {str(ordered).lower()}")
        database.execute(f"SET enable_progress_bar = {str(bar and sys.stdout.isatty()).lower()}")
        if attached:
            database.execute(f"ATTACH {literal(attached)} AS warehouse (READ_ONLY)")
            database.execute("USE warehouse")
        database.execute(f"SET allowed_paths = [{', '.join(literal(str(file)) for file in files)}]")
        database.execute("SET enable_external_access = false")
        database.execute("SET lock_configuration = true")
        yield database


def _limits(share: float) -> dict[str, str]:
    """Return the settings that bound the memory: on a Dask worker one thread, because its task is one of several."""
    if (memory := task_memory()) is None:
        return {"memory_limit": duckdb_limit(share)}
    return {"memory_limit": f"{int(memory * share) // 3 // 2**20}MiB", "threads": "1"}


@cache
def expression_database() -> duckdb.DuckDBPyConnection:
    """Return the database that parses and computes expressions, without a file or a table. Opening one takes 15 ms."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "enable_external_access": False,
        "python_enable_replacements": False,
        "lock_configuration": True,
    }
    return duckdb.connect(config=settings)


@contextmanager
def parquet_views(files: Mapping[str, Path], otherwise: str = UNREADABLE) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection with a view of each Parquet file, or of all partitions of a table, by name.

    Raises StageError, the path and `otherwise`, when a file cannot be read.
    """
    parts = {name: files_of(path, scratch()) for name, path in files.items()}
    with connection(*chain.from_iterable(parts.values())) as database:
        for name, path in files.items():
            try:
                database.execute(f"CREATE TEMP VIEW {identifier(name)} AS SELECT * FROM {parquet_sql(parts[name])}")
            except duckdb.Error as error:
                raise StageError(f"{path} {otherwise}.") from error
        try:
            yield database
        except duckdb.Error as error:
            if not is_damaged(error, map(str, chain.from_iterable(parts.values()))):
                raise
            named = [str(path) for name, path in files.items() if any(str(one) in str(error) for one in parts[name])]
            which = " or ".join(named or map(str, files.values()))
            raise StageError(f"{which} cannot be read: {file_fault(error)}.") from error


def parquet_sql(files: Iterable[str | Path], *, of_folders: bool = False) -> str:
    """Return the SQL that reads Parquet files; with `of_folders` also the columns of folders such as day=2026-11-24.

    DuckDB would read those of any folder in a path, and put them in the place of a file's own columns.
    """
    return f"read_parquet([{', '.join(literal(str(one)) for one in files)}], hive_partitioning = {of_folders})"


def file_fault(error: BaseException) -> str:
    """Return why DuckDB cannot read or write a file."""
    known = (words for pattern, words in FILES if re.search(pattern, str(error)))
    return next(known, "it is damaged, or of another kind")


def is_damaged(error: BaseException, files: Iterable[str]) -> bool:
    """Return whether a query failed because one of the `files` cannot be read, rather than because of a value in it."""
    text = str(error)
    if "No space left" in text:  # for what a query spills: it writes no other file
        return False
    # DuckDB raises a plain Error for bytes that it cannot interpret.
    if text.startswith(("IO Error: ", "Invalid Error: ")) or type(error).__name__ == "Error":
        return True
    return bool(re.search(DAMAGED, text.partition("\n")[0])) and any(file in text for file in files)


def columns_of(database: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    """Return the SQL types of a table's columns by name, in their order."""
    described = database.execute(f"DESCRIBE {identifier(table)}").fetchall()
    return {name: kind for name, kind, *_ in described}


def in_chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Yield the items, at most `size` at a time, so that a query's memory does not grow with a table's columns."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def hash_shares(value: str, rows: int, together: int = TOGETHER) -> Iterator[str]:
    """Yield conditions that share so many rows out by a hash of `value`, at most about `together` at a time.

    Rows of equal values are in one share, NULL too. DuckDB's hash table of all texts would not go on on disk.

    Examples
    --------
    >>> [*hash_shares("customer_id", 9_000_000)][-1]
    'hash(customer_id) % 3 = 2'
    """
    shares = ceil(rows / together)
    for number in range(shares):
        yield f"hash({value}) % {shares} = {number}"


def violations_sql(rules: Iterable[tuple[str, str]]) -> str:
    """Return SQL that lists a row's violated rules with BETWEEN them, '' if none.

    Parameters
    ----------
    rules
        The text of each rule, and SQL that is true where a row violates it.

    Examples
    --------
    >>> sql = violations_sql([("a below 0", "a < 0"), ("b missing", "b IS NULL")])
    >>> with connection() as database:
    ...     database.execute(f"SELECT {sql} FROM (VALUES (-1, NULL), (1, 2)) t(a, b)").fetchall()
    [('a below 0; b missing',), ('',)]
    """
    texts = [f"CASE WHEN {sql} THEN {literal(text)} END" for text, sql in rules]
    return f"concat_ws({literal(BETWEEN)}, {', '.join([*texts, 'NULL'])})"


def tokens(sql: str) -> Iterator[tuple[str, str]]:
    """Yield the tokens of a statement by DuckDB's lexer, which reads PostgreSQL's strings and comments as well.

    Each is its kind (identifier, numeric_const, string_const, operator, keyword, comment) and its text, with the white
    space behind it; the first one's has also that before it.
    """
    text = sql.encode()
    places = duckdb.tokenize(sql)
    ends = [place for place, _ in places[1:]] + [len(text)]
    for (_, kind), start, end in zip(places, [0, *ends], ends, strict=False):
        yield kind.name, text[start:end].decode()


def identifier(name: str) -> str:
    """Quote a column's name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a text for SQL."""
    return "'" + text.replace("'", "''") + "'"


def blank(name: str) -> str:
    """Return the SQL of whether a text is empty, or begins or ends with white space of any alphabet.

    Only a text whose first or last character is not a printable one of ASCII meets the regular expression, which takes
    three times as long.
    """
    text = identifier(name)
    printable = f"{text} BETWEEN '!' AND '~' AND {text}[-1] BETWEEN '!' AND '~'"
    return f"CASE WHEN {printable} THEN false ELSE regexp_matches({text}, '^[\\s\\pZ]|[\\s\\pZ]$|^$') END"


def folded(sql: str) -> str:
    """Return the SQL of a text without blanks, in lower case: equal for keys that look alike."""
    return f"lower(regexp_replace({sql}, '[\\s\\pZ]', '', 'g'))"


def cast(name: str, kind: str) -> str:
    """Return the SQL of a column's value in a type of the contract, NULL where it does not fit.

    A date is one of ISO 8601, such as 2026-11-24, or a time at midnight without a zone, which would move it. Python has
    no year 0.
    """
    if kind == "date":
        text = f"CAST({identifier(name)} AS VARCHAR)"
        fits = f"regexp_full_match({text}, '\\d{{4}}-\\d\\d-\\d\\d( 00:00:00)?') AND {text} NOT LIKE '0000%'"
        return f"if({fits}, TRY_CAST({text}[:10] AS DATE), NULL)"
    return f"TRY_CAST({identifier(name)} AS {SQL_TYPES[kind]})"


def typed(name: str, kind: str) -> str:
    """Return the SQL of `cast` with NULL for NaN, because both are a missing number; `cast_error` needs the NaN.

    Not for a view of a Parquet file: its statistics lack NaN, so DuckDB 2.0 leaves the comparison out.
    """
    sql = cast(name, kind)
    return f"nullif({sql}, 'nan'::DOUBLE)" if kind == "number" else sql


def cast_error(name: str, kind: str) -> str:
    """Return SQL that is true where a value does not fit its column's type: a fraction no integer, and 2 no boolean."""
    sql = f"({identifier(name)} IS NOT NULL AND {cast(name, kind)} IS NULL)"
    if kind == "integer":
        sql += f" OR {cast(name, 'number')} <> {cast(name, kind)}"
    if kind == "boolean":  # of a text, the cast alone takes no other number, and a failing one is slow
        sql += f" OR (typeof({identifier(name)}) <> 'VARCHAR' AND {cast(name, 'number')} NOT IN (0, 1))"
    return sql
