"""A snapshot of the customers: the rows of the query, typed by the contract and sorted by key."""

import sys
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path

from churn.config.contract import MOST_VALUES, Contract, too_many_values
from churn.config.params import Fetch
from churn.core.errors import StageError, number_of
from churn.core.files import replacing
from churn.core.paths import ROWS
from churn.core.results import read_result
from churn.core.terminal import interactive, progress, working
from churn.data.as_of import read_query
from churn.data.duckdb_helpers import blank, cast_error, connection, identifier, in_chunks, literal, typed
from churn.data.engines import duckdb_fault
from churn.data.sources.files import begins_with
from churn.data.sources.hints import SQLITE, hints, nearest
from churn.data.sources.sqlite import MAGIC
from churn.data.sources.stream import record_batches, streaming, table_share

import duckdb
import pyarrow as pa

OWN = "__"  # how a column begins that the pipeline makes for itself
CAST_ERRORS = "__cast_errors"  # a column that the snapshot lacks: the columns and values that do not fit their type
BETWEEN, WITHIN = "\x1e", "\x1f"  # these, and a column and its value
VALUES, LENGTH = 1000, 40  # values of a column, and characters of each, whose shape a message needs
TOGETHER = 100  # categories in a query


def snapshot(params: Fetch, contract: Contract, target: Path) -> int:
    """Write the query's rows to `target` as Parquet, typed and sorted, and return their number.

    The key comes first, then the contract's columns in its order; a column that it does not declare stays as the query
    made it, for validate to refuse by name. Rows are sorted by key, then by every column, so that the same
    rows give the same bytes whatever order they came in. Raises StageError, see the module.
    """
    source, query = params.source, params.query
    sql = read_query(query)
    batches = record_batches(source, sql, query=query, as_of=params.as_of, timeout=params.timeout_minutes)
    try:
        with (
            closing(batches),
            replacing(target) as tmp,
            connection(tmp, bar=False, ordered=False, share=table_share(source)) as database,
        ):
            rows = load_typed(database, batches, contract, params, sql)
            if not rows:
                raise StageError(f"{source} gives no rows through {query}.")
            with working("fetch: sorting"):
                write_sorted(database, f"SELECT * EXCLUDE ({CAST_ERRORS}) FROM customers", tmp, contract)
    except duckdb.Error as error:
        fault = duckdb_fault(error, "")
        raise StageError(f"{target} cannot be made, the former one stays: {fault}.") from error
    return rows


def write_sorted(database: duckdb.DuckDBPyConnection, rows: str, target: Path, contract: Contract) -> None:
    """Write the rows of a SELECT as Parquet, sorted by every column from the first on.

    To the path itself: DuckDB writes to another one where a file is left of a task that failed, and may not.
    """
    database.execute(
        f"COPY ({rows} ORDER BY ALL) TO {literal(str(target))}"
        f" (FORMAT parquet, USE_TMP_FILE false, COMPRESSION zstd,"
        f" KV_METADATA {{columns: {literal(contract.columns_json())}}})"
    )


def load_typed(
    database: duckdb.DuckDBPyConnection,
    batches: Iterable[pa.RecordBatch],
    contract: Contract,
    params: Fetch,
    sql: str,
) -> int:
    """Make the table `customers` of the batches, typed, and return its number of rows.

    Cast here and not while it is written, since Parquet's bytes would depend on the types that the source has. Raises
    StageError when a column is missing, or when values are not of its type.
    """
    fetched = {name: column.type for name, column in contract.columns.items() if not column.computed}
    types: Mapping[str, str] = {contract.key: fetched[contract.key]} | fetched  # the key comes first
    with closing(shown(batches)) as seen, streaming(database, "given", seen) as given:
        declared = {name.lower() for name in types}
        there = {name.lower() for name in given}  # Snowflake writes a name in upper case
        if missing := [name for name in types if name.lower() not in there]:
            raise StageError(
                f"{params.query} gives no column {', '.join(missing)}, which contract.yaml declares: add it to the"
                f" query, or say `computed: true` if prepare makes it{_alike(missing, given, declared)}."
            )
        if own := [name for name in given if name.startswith(OWN)]:
            raise StageError(
                f"{params.query} gives the column {own[0]}, and names that begin with {OWN} are the pipeline's own:"
                " leave it out, or name it otherwise there."
            )
        columns = [f"{typed(name, kind)} AS {identifier(name)}" for name, kind in types.items()]
        columns += [identifier(name) for name in given if name.lower() not in declared]
        # In one query, which reads the stream once and with all processors, so each row lists its own errors.
        errors = ", ".join(
            f"CASE WHEN {cast_error(name, kind)} THEN"
            f" {literal(name + WITHIN)} || left({identifier(name)}::VARCHAR, {LENGTH}) END"
            for name, kind in types.items()
        )
        columns.append(f"nullif(concat_ws('{BETWEEN}', {errors}), '') AS {CAST_ERRORS}")
        database.execute(f"CREATE TEMP TABLE customers AS SELECT {', '.join(columns)} FROM given")
    rows, any_error = database.execute(f"SELECT count(*), count({CAST_ERRORS}) FROM customers").fetchall()[0]
    # protection: types come from the contract
    if any_error:
        errors = f"SELECT unnest(split({CAST_ERRORS}, '{BETWEEN}')) AS error FROM customers"
        parts = f"split_part(error, '{WITHIN}', 1) AS name, split_part(error, '{WITHIN}', 2) AS value"
        counted = database.execute(
            f"SELECT name, sum(rows)::BIGINT, list(value ORDER BY rows DESC, value)[:{VALUES}]"
            f" FROM (SELECT {parts}, count(*) AS rows FROM ({errors}) GROUP BY ALL) GROUP BY name"
        ).fetchall()
        found = {name: (count, values) for name, count, values in counted}
        faults = [
            f"{name} has {number_of(found[name][0], 'values')} not of the type {types[name]}"
            for name in types
            if name in found
        ]
        values = {name: found[name][1] for name in types if name in found}
        scheme = params.source.partition("://")[0] if "://" in params.source else ""
        scheme = SQLITE if begins_with(params.source, MAGIC) else scheme
        hint = hints(values, {**types, contract.label: "label"}, sql, params.query, scheme)
        raise StageError(f"{params.source} does not fit the types of contract.yaml: {'; '.join(faults)}.{hint}")
    many = [f"{name}: {too_many_values(count, name)}" for name, count in _many_values(database, types)]
    if many:
        raise StageError(f"{params.query}: {'; '.join(many)}.")
    key, kind = next(iter(types.items()))
    blanks = f"SELECT count(*) FROM customers WHERE {blank(key)}"
    if kind == "string" and (count := database.execute(blanks).fetchall()[0][0]):
        raise StageError(
            f"{params.query} gives {number_of(count, f'values of {key}')} that are empty, or begin or end with a blank:"
            f" nobody can tell whose rows they are; write trim({key}) there, or leave these rows out."
        )
    return int(rows)


def _alike(missing: Iterable[str], given: Iterable[str], declared: Collection[str]) -> str:
    """Return which columns that nobody declares are named nearly as the missing ones."""
    others = [name for name in given if name.lower() not in declared]
    found = {name: near for name in missing if (near := nearest(name, others))}
    return f"; it gives {', '.join(f'{near}, and not {name}' for name, near in found.items())}" if found else ""


def _many_values(database: duckdb.DuckDBPyConnection, types: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """Yield each category with more values than a model takes, and their number; validate refuses unlisted ones."""
    names = [name for name, kind in types.items() if kind == "category"]
    for some in in_chunks(names, TOGETHER):
        counts = ", ".join(f"approx_count_distinct({identifier(name)})" for name in some)
        for name, about in zip(some, database.execute(f"SELECT {counts} FROM customers").fetchall()[0], strict=True):
            if about > MOST_VALUES / 2:  # an estimate: counting exactly takes longer, and most categories have few
                exact = f"SELECT count(DISTINCT {identifier(name)}) FROM customers"
                if (count := database.execute(exact).fetchall()[0][0]) > MOST_VALUES:
                    yield name, count


def shown(batches: Iterable[pa.RecordBatch]) -> Generator[pa.RecordBatch]:
    """Yield the batches, with a bar on a terminal, where the rows of the last run tell the time that remains."""
    total = None
    if interactive(sys.stderr):
        with suppress(StageError):  # in the first run
            total = read_result(ROWS).get("fetched")
    with progress("fetch", total) as bar:
        for batch in batches:
            yield batch
            bar.update(batch.num_rows)
