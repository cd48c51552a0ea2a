"""The rows of a query as a stream of Arrow record batches: memory does not grow with their number.

| source | the query runs |
|---|---|
| a CSV or Parquet file, a folder of them, `s3://bucket/key.parquet`, `s3://bucket/prefix/` | in DuckDB, over `source` |
| a DuckDB file | in DuckDB, over its tables, opened read-only |
| an SQLite file | in SQLite; each value comes as text, since its columns have no fixed type |
| `postgresql://user@host/database` | in PostgreSQL, in one transaction that is read-only |
| `snowflake://account/database/schema?warehouse=name` | in Snowflake |
| `bigquery://project/dataset` | in BigQuery |

Passwords come from the environment: those of a warehouse as docs/warehouses.md has them, for S3 what DVC's remote
takes. In a query `$as_of` stands for a date. DuckDB's extensions are not used: they are downloaded at run time, and no
lock has them.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from functools import partial
from itertools import chain

from churn.core.errors import StageError, has_password
from churn.data.as_of import check_as_of
from churn.data.duckdb_helpers import tokens
from churn.data.engines import identifiers
from churn.data.sources import adbc, files, sqlite
from churn.data.sources.bigquery import BIGQUERY
from churn.data.sources.postgresql import POSTGRESQL
from churn.data.sources.query import KINDS, Query, Read, column_label, repeated
from churn.data.sources.reproducible import refuse_irreproducible
from churn.data.sources.snowflake import SNOWFLAKE

import duckdb
import pyarrow as pa

WAREHOUSES = {  # by the scheme of the URL
    "postgresql": POSTGRESQL,
    "postgres": POSTGRESQL,
    "snowflake": SNOWFLAKE,
    "bigquery": BIGQUERY,
}


def record_batches(
    source: str, sql: str, *, query: str = "the query", as_of: date | None = None, timeout: float | None = None
) -> Generator[pa.RecordBatch]:
    r"""Yield the rows of a query, at least one batch, so that the schema is known.

    Parameters
    ----------
    source
        A path or a URL, of the kinds in this module's table.
    sql
        One SELECT in the source's dialect.
    query
        The name of the query in messages.
    as_of
        The date that `$as_of` stands for.
    timeout
        The minutes that a server may work on the query.

    Returns
    -------
    Generator of pyarrow.RecordBatch
        In the source's types; PostgreSQL's NUMERIC comes as text with all digits.

    Raises
    ------
    StageError
        When the source cannot be read or changes meanwhile, and when the query does not run, cannot give the same rows
        again, or gives bytes or two columns of one name.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
    ...     _ = file.write("id,day\na,2026-11-24\nb,2026-11-25\n")
    ...     file.flush()
    ...     batches = record_batches(file.name, "FROM source WHERE day::DATE <= $as_of", as_of=date(2026, 11, 24))
    ...     pa.Table.from_batches(batches).to_pylist()
    [{'id': 'a', 'day': '2026-11-24'}]
    """
    batches = batches_with_bytes(source, sql, query=query, as_of=as_of, timeout=timeout)
    for number, batch in enumerate(batches):
        if not number:
            _refuse_types(batch.schema, query, identifiers(sql), _is_binary)
        yield batch


def batches_with_bytes(
    source: str, sql: str, *, query: str, as_of: date | None, timeout: float | None
) -> Generator[pa.RecordBatch]:
    """Yield what `record_batches` yields, and columns of bytes as they are."""
    warehouse = WAREHOUSES.get(source.partition("://")[0]) if "://" in source else None
    if has_password(source):
        given = warehouse.credentials if warehouse else "the environment has it, as in AWS's variables"
        raise StageError(f"the source's URL holds a password, which Git would keep: leave it out; {given}.")
    sql = _without_end(sql)
    check_as_of(sql, as_of, query)
    refuse_irreproducible(sql, query, ordered=warehouse is None)
    for number, batch in enumerate(_reader(source)(source, Query(sql, query, as_of, timeout))):
        if not number:
            _refuse_twins(batch.schema, query, identifiers(sql))
            _refuse_types(batch.schema, query, identifiers(sql), _is_money)
        yield batch


def _without_end(sql: str) -> str:
    """Return a statement without the semicolons at its end, and what is behind them, which no server's driver takes.

    A comment before them stays, as servers log it.
    """
    parts = [*tokens(sql.rstrip())]
    end = len(parts)
    for number, (kind, text) in reversed([*enumerate(parts)]):
        if text.strip() == ";":
            end = number
        elif kind != "comment" and text.strip():
            break
    return "".join(text for _, text in parts[:end])


def table_share(source: str) -> float:
    """Return the share of DuckDB's memory for the table that the rows go into: half where DuckDB reads the source."""
    elsewhere = source.startswith(tuple(f"{scheme}://" for scheme in WAREHOUSES))
    return 1 if elsewhere or files.begins_with(source, sqlite.MAGIC) else 1 - files.SHARE


def _reader(source: str) -> Read:
    """Return the reader of the source's kind."""
    scheme = source.partition("://")[0] if "://" in source else ""
    if scheme in WAREHOUSES:
        return partial(adbc.read, WAREHOUSES[scheme])
    if scheme not in ("", "s3"):
        raise StageError(f"the source {source} cannot be read: it is neither {KINDS}.")
    return sqlite.read if files.begins_with(source, sqlite.MAGIC) else files.read


def _refuse_twins(schema: pa.Schema, query: str, known: Mapping[str, str]) -> None:
    """Raise StageError for two columns of one name."""
    if (number := repeated(schema.names)) is not None:
        raise StageError(f"{query} gives the column {column_label(schema.names, number, known)} more than once.")


def _refuse_types(
    schema: pa.Schema, query: str, known: Mapping[str, str], is_refused: Callable[[pa.Field], bool]
) -> None:
    """Raise StageError for a column of a type that no contract has."""
    for number, field in enumerate(schema):
        if is_refused(field):
            name, declared = column_label(schema.names, number, known), _declared(field)
            raise StageError(f"{query} gives {name} as {declared}: cast it to a text or a number there.")


def _declared(field: pa.Field) -> str:
    """Return the type that PostgreSQL has for a column which Arrow cannot name."""
    return str((field.metadata or {}).get(b"POSTGRESQL:type", b"bytes").decode())


def _is_money(field: pa.Field) -> bool:
    """Return whether PostgreSQL has money there, which the driver hands on in hundredths, as a mere integer."""
    return _declared(field) == "money"


def _is_binary(field: pa.Field) -> bool:
    stored = getattr(field.type, "storage_type", field.type)
    return bool(pa.types.is_binary(stored) or pa.types.is_large_binary(stored))


@contextmanager
def streaming(database: duckdb.DuckDBPyConnection, name: str, batches: Iterator[pa.RecordBatch]) -> Iterator[list[str]]:
    """Make a view of the batches, at least one, and yield its columns.

    One query in the block may read it; an error of the batches reaches the caller as it was raised.
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
            raise raised[0] from raised[0].__cause__  # DuckDB's text for it contains a traceback
        raise
    finally:
        database.unregister(name)
