"""A query of a source, and what the readers of all kinds of sources share.

A reader is a function `read(source, query)` that yields Arrow record batches, at least one, which has the schema.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import pyarrow as pa

BATCH_ROWS = 20_000
KINDS = (
    "a CSV or Parquet file, a folder of them, a DuckDB or SQLite file, Parquet in s3://…, postgresql://…, snowflake://…,"
    " or bigquery://…"
)


@dataclass(frozen=True)
class Query:
    """A SELECT, its name in messages, the day that `$as_of` stands for, and the minutes that a server may take."""

    sql: str
    name: str = "the query"
    as_of: date | None = None
    minutes: float | None = None


Read = Callable[[str, Query], Generator[pa.RecordBatch]]


def repeated(names: Sequence[str]) -> int | None:
    """Return the index of a column that has the name of a later one; case does not count, as in SQL."""
    lower = [name.lower() for name in names]
    return next((number for number, name in enumerate(lower) if name in lower[number + 1 :]), None)


def column_label(names: Sequence[str], number: int, known: Mapping[str, str]) -> str:
    """Return a column's name if the query has it, else its number.

    An unknown name may be a customer's value: in a CSV file without a header, or where a query pivots.
    """
    return names[number] if names[number].lower() in known else f"number {number + 1}"


def at_least_one(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """Yield an empty batch, which has the schema, then those of the reader."""
    yield pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in reader.schema], schema=reader.schema)
    yield from reader
