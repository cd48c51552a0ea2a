"""fetch: one snapshot of the customers, typed by the contract and sorted by key.

In: `fetch.source`, a CSV or Parquet file, through the query `fetch.query`. Out: data/raw/customers.parquet.
Fails when the source is missing, unreadable or empty, when the query does not run or lacks a column that
the contract declares, and when a value does not fit its column's type.
"""

import csv
import re
from collections.abc import Mapping
from pathlib import Path

from churn.contract import Contract, load_contract
from churn.duck import SQL_TYPES, connection, identifier, literal
from churn.params import load_params
from churn.stage import RAW, StageError, replacing, run

import duckdb

CSV_FAULTS = r'Expected Number of Columns: \d+ Found: \d+|Invalid unicode|unterminated quote|converting column "[^"]+"'


def source_relation(source: str) -> str:
    """Return the SQL that reads the source: a CSV's columns all as text, a Parquet file's as they are.

    Raises StageError when the file is missing, is neither, or has no header, and for any URL.
    """
    if "://" in source:
        scheme = source.partition("://")[0]  # the rest may hold a password
        raise StageError(f"fetch.source: {scheme}:// cannot be read; name a CSV or Parquet file in params.yaml.")
    path = Path(source)
    if not path.is_file():
        raise StageError(f"fetch.source: {source} does not exist; name a CSV or Parquet file in params.yaml.")
    match path.suffix.lower():
        case ".parquet":
            return f"read_parquet({literal(source)})"
        case ".csv":
            # The header is read here, so that DuckDB has nothing left to guess.
            columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in _csv_header(path))
            return (
                f"read_csv({literal(source)}, columns = {{{columns}}}, auto_detect = false,"
                " header = true, delim = ',', quote = '\"', escape = '\"')"
            )
        case other:
            raise StageError(f"fetch.source: {source} ends in {other or 'nothing'}, not in .csv or .parquet.")


def _csv_header(source: Path) -> list[str]:
    try:
        with source.open("rb") as file:
            header = next(csv.reader([file.readline().decode("utf-8-sig")]), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise StageError(f"{source} is no CSV file in UTF-8: {error}.") from error
    if not header:
        raise StageError(f"{source} is empty: it has no header line.")
    if not all(header):
        raise StageError(f"{source} has a column without a name: number {header.index('') + 1} of its header.")
    names = [name.lower() for name in header]  # SQL does not tell them apart by case
    if twice := [name for name in header if names.count(name.lower()) > 1]:
        raise StageError(f"{source} has the column {twice[0]} more than once.")
    return header


def snapshot(source: str, query: Path, contract: Contract, target: Path) -> int:
    """Write the query's rows to `target` as Parquet, typed and sorted, and return their number.

    The key comes first, then the contract's columns in its order; a column that it does not declare stays as the query
    made it, for validate to refuse by name. Rows are sorted by key, then by every column, so that the same
    rows give the same bytes whatever order they came in. Raises StageError, see the module.
    """
    relation = source_relation(source)
    try:
        sql = query.read_text(encoding="utf-8").rstrip().rstrip(";")
    except UnicodeDecodeError as error:
        raise StageError(f"{query} is no text in UTF-8: {error}.") from error
    with connection() as database:
        try:
            database.execute(f"CREATE TEMP VIEW source AS SELECT * FROM {relation}")
            database.execute(f"CREATE TEMP TABLE fetched AS {sql}")
        except duckdb.Error as error:
            raise StageError(_sentence(error, source, query)) from error
        rows: int = database.execute("SELECT count(*) FROM fetched").fetchall()[0][0]
        if not rows:
            raise StageError(f"{source} gives no rows through {query}.")
        given = [name for name, *_ in database.execute("DESCRIBE fetched").fetchall()]
        declared = {name: column for name, column in contract.columns.items() if not column.computed}
        if missing := [name for name in declared if name not in given]:
            raise StageError(
                f"{query} gives no column {', '.join(missing)}, which contract.yaml declares: add it to the"
                " query, or say `computed: true` if prepare makes it."
            )
        types = {name: SQL_TYPES[column.type] for name, column in declared.items()}
        _refuse_misfits(database, {name: column.type for name, column in declared.items()}, source)
        names = [contract.key, *(name for name in types if name != contract.key)]
        columns = [f"CAST({identifier(name)} AS {types[name]}) AS {identifier(name)}" for name in names]
        columns += [identifier(name) for name in given if name not in declared]
        with replacing(target) as beside:
            database.execute(
                f"COPY (SELECT {', '.join(columns)} FROM fetched ORDER BY ALL)"
                f" TO {literal(str(beside))} (FORMAT parquet, COMPRESSION zstd,"
                f" KV_METADATA {{columns: {literal(contract.columns_json())}}})"
            )
    return rows


def _refuse_misfits(database: duckdb.DuckDBPyConnection, types: Mapping[str, str], source: str) -> None:
    """Raise StageError when a value is not of its column's type: a fraction is no integer, and 2 no boolean."""
    counts = []
    for name, kind in types.items():
        column, cast = identifier(name), f"TRY_CAST({identifier(name)} AS {SQL_TYPES[kind]})"
        misfit = f"{column} IS NOT NULL AND {cast} IS NULL"
        if kind == "integer":
            misfit += f" OR TRY_CAST({column} AS DOUBLE) <> {cast}"
        if kind == "boolean":
            misfit += f" OR TRY_CAST({column} AS DOUBLE) NOT IN (0, 1)"
        counts.append(f"count(*) FILTER (WHERE {misfit})")
    found = database.execute(f"SELECT {', '.join(counts)} FROM fetched").fetchall()[0]
    misfits = zip(types.items(), found, strict=True)
    if faults := [f"{name} has {count:,} values that are no {kind}" for (name, kind), count in misfits if count]:
        raise StageError(f"{source} does not fit the types of contract.yaml: {'; '.join(faults)}.")


def _sentence(error: duckdb.Error, source: str, query: Path) -> str:
    """Say what DuckDB found, without the rows that it quotes."""
    text = str(error)
    if line := re.search(r"CSV Error on Line: (\d+)", text):
        what = re.search(CSV_FAULTS, text)
        return f"{source}, line {line[1]}: {what[0] if what else 'cannot be read as CSV'}."
    if column := re.search(r'Referenced column "([^"]+)" not found', text):
        return f"{source} has no column {column[1]}, which {query} reads."
    if isinstance(error, duckdb.InvalidInputException | duckdb.IOException):
        return f"{source} cannot be read: {text.splitlines()[0].split(': ', 1)[-1]}."
    if isinstance(error, duckdb.ConversionException):
        return f"{query} does not run: a value cannot be converted as it asks."  # the value may be a customer's
    return f"{query} does not run: {text.splitlines()[0]}."


def main() -> None:
    """Fetch what params.yaml names."""
    params = load_params().fetch
    rows = snapshot(params.source, Path(params.query), load_contract(), RAW)
    print(f"fetch: {rows:,} customers from {params.source}")


if __name__ == "__main__":
    run(main)
