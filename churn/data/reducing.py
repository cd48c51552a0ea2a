"""Queries that each partition answers by itself, and the reduction of their answers: one implementation of each rule.

On this machine a table is one partition, in the views of a DuckDB connection. Under Dask, `PartitionedViews` stands in
the place of that connection: the same SQL runs on each partition, where the workers are, and small rows come back.
Partition `n` of each table has the rows of the same customers, so a query may join tables by customer.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

from churn.config.params import Compute
from churn.core.cluster import Map, connected, for_each, scratch
from churn.core.errors import StageError
from churn.core.partitions import Partition, local_file, partitions_of
from churn.data.duckdb_helpers import UNREADABLE, columns_of, hash_shares, identifier, literal, parquet_views

import duckdb
import numpy as np
import numpy.typing as npt

Row = tuple[Any, ...]
HASHES = 16_000_000  # that are compared at once, in a quarter of a gigabyte


@dataclass(frozen=True)
class PartitionedViews:
    """Views of the partitions of some tables, which have equally many, on workers or in this process."""

    cluster: Map
    tables: Mapping[str, Path]
    views: dict[str, str] = field(default_factory=dict)  # the SQL of the views that `defined` adds

    @cached_property
    def partitions(self) -> list[dict[str, Partition]]:
        """The partitions, by the name of the table. Raises StageError when a table has another number of them."""
        found = {name: partitions_of(path) for name, path in self.tables.items()}
        if len({len(one) for one in found.values()}) > 1:
            raise StageError(
                f"{' and '.join(map(str, self.tables.values()))} do not have equally many partitions: run `dvc repro"
                " --force --downstream prepare`."
            )
        return [dict(zip(found, some, strict=True)) for some in zip(*found.values(), strict=True)]

    def run(self, sql: str, some: slice = slice(None)) -> list[list[Row]]:
        """Return the rows of a query on each partition."""
        return self.cluster.map(for_each(_answer, sql=sql, views=dict(self.views)), self.partitions[some])

    @cached_property
    def columns(self) -> dict[str, dict[str, str]]:
        """The SQL types of each table's columns, as its first partition has them."""
        return self.cluster.map(_columns, self.partitions[:1])[0]

    def offsets(self, table: str) -> list[int]:
        """Return how many rows of a table are before each partition."""
        return [0, *accumulate(one[table].rows for one in self.partitions)]


Database = duckdb.DuckDBPyConnection | PartitionedViews


@contextmanager
def views(tables: Mapping[str, Path], compute: Compute, otherwise: str = UNREADABLE) -> Iterator[Database]:
    """Yield views of some tables, here or on Dask's workers; see `churn.data.duckdb_helpers.parquet_views`."""
    if compute.engine == "dask":
        with connected(compute) as cluster:
            yield PartitionedViews(cluster, tables)
    else:
        with parquet_views(tables, otherwise) as database:
            yield database


@contextmanager
def _opened(files: Mapping[str, Partition]) -> Iterator[duckdb.DuckDBPyConnection]:
    local = {name: local_file(one, scratch()) for name, one in files.items()}
    with parquet_views(local) as database:
        yield database


def _answer(files: Mapping[str, Partition], sql: str, views: Mapping[str, str]) -> list[Row]:
    with _opened(files) as database:
        for name, query in views.items():
            database.execute(f"CREATE TEMP VIEW {identifier(name)} AS {query}")
        return database.execute(sql).fetchall()


def _columns(files: Mapping[str, Partition]) -> dict[str, dict[str, str]]:
    with _opened(files) as database:
        return {name: columns_of(database, name) for name in files}


def by_partition(database: Database, sql: str) -> list[list[Row]]:
    """Return the rows of a query on each partition."""
    if isinstance(database, PartitionedViews):
        return database.run(sql)
    return [database.execute(sql).fetchall()]


def rows_of(database: Database, sql: str) -> list[Row]:
    """Return the rows of a query on each partition, one after another."""
    return [*chain.from_iterable(by_partition(database, sql))]


def totals(database: Database, sql: str) -> Row:
    """Return the sum of each column of a query that has one row; None where no partition has a value.

    Examples
    --------
    >>> from churn.data.duckdb_helpers import connection
    >>> with connection() as database:
    ...     totals(database, "SELECT count(*), sum(x) FROM (VALUES (1), (2)) t(x)")
    (2, 3)
    """
    return tuple(map(total, zip(*rows_of(database, sql), strict=True)))


def total(values: Sequence[Any]) -> Any:
    """Return the sum of the values that are there, or None."""
    there = [value for value in values if value is not None]
    return sum(there) if there else None


def grouped(database: Database, sql: str, keys: int) -> list[Row]:
    """Return the rows of a query with the sums of its columns after the first `keys`, which are equal in a group."""
    found: dict[Row, list[Row]] = {}
    for row in rows_of(database, sql):
        found.setdefault(row[:keys], []).append(row[keys:])
    return [(*key, *map(total, zip(*some, strict=True))) for key, some in found.items()]


def in_several(database: Database, table: str, column: str) -> int:
    """Return how many rows have a value of the column that another partition has, too; each but the first counts.

    Of each value 8 bytes of a hash come here, a share of the values at a time, so that memory stays bounded.
    """
    if not isinstance(database, PartitionedViews):
        return 0
    count = 0
    for share in hash_shares(identifier(column), database.offsets(table)[-1], HASHES):
        task = for_each(_hashes, table=table, column=column, share=share)
        found = np.concatenate(database.cluster.map(task, database.partitions))
        found.sort()
        count += int(np.sum(found[1:] == found[:-1]))
    return count


def _hashes(files: Mapping[str, Partition], table: str, column: str, share: str) -> npt.NDArray[np.uint64]:
    """Return the hash of each distinct value, of one share of them."""
    with _opened({table: files[table]}) as database:
        sql = f"SELECT DISTINCT hash({identifier(column)}) AS value FROM {identifier(table)} WHERE {share}"
        return np.asarray(database.execute(sql).fetchnumpy()["value"], dtype=np.uint64)


def types_of(database: Database, table: str) -> dict[str, str]:
    """Return the SQL types of a table's columns by name, in their order."""
    return database.columns[table] if isinstance(database, PartitionedViews) else columns_of(database, table)


def leaves_of(database: Database, table: str, path: Path) -> list[str]:
    """Return the names of a table's columns as its file has them, of which DuckDB renames equal ones."""
    if isinstance(database, PartitionedViews):
        return [*database.columns[table]]  # as a stage wrote them, which refuses equal ones
    names = f"SELECT name FROM parquet_schema({literal(str(path))}) WHERE type IS NOT NULL"
    return [name for (name,) in database.execute(names).fetchall()]


@contextmanager
def defined(database: Database, name: str, sql: str, *, kept: bool) -> Iterator[None]:
    """Let queries read `name`, a view of a query, as long as the block lasts; `kept` if its rows are made once here."""
    if isinstance(database, PartitionedViews):
        database.views[name] = sql
        yield
        del database.views[name]
        return
    kind = "TABLE" if kept else "VIEW"
    database.execute(f"CREATE TEMP {kind} {identifier(name)} AS {sql}")
    yield
    database.execute(f"DROP {kind} {identifier(name)}")


def first_rows(database: Database, table: str, sql: str, most: int) -> list[int]:
    """Return the first `most` row numbers, from 1 on, that a query gives of a table's rows."""
    starts = database.offsets(table) if isinstance(database, PartitionedViews) else [0]
    answers = zip(by_partition(database, sql), starts, strict=False)
    return [start + number for rows, start in answers for (number,) in rows][:most]
