"""DuckDB in this process, in bounded memory: the engine of fetch and of validate."""

import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

MEMORY_LIMIT = "1GB"
SQL_TYPES = {  # of the contract's types
    "string": "VARCHAR",
    "category": "VARCHAR",
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
}


@contextmanager
def connection(
    *files: str | Path, attached: str | None = None, bar: bool = True
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection whose queries read and write `files` alone, and change no setting.

    It spills to a temporary folder instead of growing beyond MEMORY_LIMIT. The DuckDB file `attached` is opened
    read-only and used. With `bar`, DuckDB shows a bar on long queries where a person is looking.
    """
    with (
        tempfile.TemporaryDirectory() as spill,
        duckdb.connect(config={"memory_limit": MEMORY_LIMIT, "temp_directory": spill}) as database,
    ):
        database.execute("SET python_enable_replacements = false")  # a query's names are no Python variables
        database.execute(f"SET enable_progress_bar = {str(bar and sys.stdout.isatty()).lower()}")
        if attached:
            database.execute(f"ATTACH {literal(attached)} AS warehouse (READ_ONLY)")
            database.execute("USE warehouse")
        database.execute(f"SET allowed_paths = [{', '.join(literal(str(file)) for file in files)}]")
        database.execute("SET enable_external_access = false")
        database.execute("SET lock_configuration = true")
        yield database


def noted(faults: Iterable[tuple[str, str]], separator: str) -> str:
    """Return the SQL that joins the texts of a row's faults, each a text and when it holds; empty where none does."""
    told = [f"CASE WHEN {sql} THEN {literal(text)} END" for text, sql in faults]
    return f"concat_ws({literal(separator)}, {', '.join([*told, 'NULL'])})"


def identifier(name: str) -> str:
    """Quote a column's name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a text for SQL."""
    return "'" + text.replace("'", "''") + "'"


def blank(name: str) -> str:
    """Return the SQL of whether a text is empty, or begins or ends with white space of any alphabet."""
    return f"regexp_matches({identifier(name)}, '^[\\s\\pZ]|[\\s\\pZ]$|^$')"


def cast(name: str, kind: str) -> str:
    """Return the SQL of a column's value in a type of the contract, NULL where it does not fit."""
    return f"TRY_CAST({identifier(name)} AS {SQL_TYPES[kind]})"


def misfit(name: str, kind: str) -> str:
    """Return the SQL of whether a value is not of its column's type: a fraction is no integer, and 2 no boolean."""
    sql = f"({identifier(name)} IS NOT NULL AND {cast(name, kind)} IS NULL)"
    if kind == "integer":
        sql += f" OR {cast(name, 'number')} <> {cast(name, kind)}"
    if kind == "boolean":  # of a text, the cast alone takes no other number, and a failing one is slow
        sql += f" OR (typeof({identifier(name)}) <> 'VARCHAR' AND {cast(name, 'number')} NOT IN (0, 1))"
    return sql
