"""The snapshot in partitions by the hash of the customer, made on Dask's workers.

The query runs once, and its rows stream through in pieces of `compute.partition_rows`. A worker types each piece and
sorts it by the hash. Then each worker takes some partitions, which are ranges of the hash, out of all sorted pieces. So
all rows of a customer, and equal keys, are in one partition. Its bytes depend on the rows alone, not on the pieces.
"""

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from pathlib import Path

from churn.config.contract import Contract
from churn.config.params import Compute, Fetch
from churn.core.cluster import Cluster, connected, for_each, scratch
from churn.core.errors import StageError
from churn.core.files import delete, replacing
from churn.core.partitions import Partition, local_file, s3_files, store, temporary, write_manifest
from churn.data.as_of import read_query
from churn.data.duckdb_helpers import connection, folded, identifier, literal, parquet_sql
from churn.data.snapshot import CAST_ERRORS, load_typed, shown, write_sorted
from churn.data.sources.stream import record_batches

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

HASH = "__hash"  # of the customer, in a piece alone
BUCKETS = 64  # row groups of a piece, and the most ranges of partitions: a worker reads the row groups of its range
MOST = 50_000  # partitions, whose manifest has 13 MB
LEAST_GROUP = 2_048  # rows, as DuckDB writes them


@dataclass(frozen=True)
class Snapshot:
    """What the workers need for a snapshot: its settings, its query, and where they put what they make."""

    params: Fetch
    contract: Contract
    sql: str
    folder: Path
    storage: str | None


def partitioned_snapshot(params: Fetch, contract: Contract, target: Path, compute: Compute) -> int:
    """Write the query's rows to the folder `target` as partitions, and return their number.

    Raises StageError, see `churn.data.snapshot.snapshot`; the values that do not fit are those of the first piece with
    one.
    """
    sql = read_query(params.query)
    batches = record_batches(params.source, sql, query=params.query, as_of=params.as_of, timeout=params.timeout_minutes)
    pieces: list[Partition] = []
    with replacing(target) as tmp, connected(compute) as cluster, closing(batches), temporary(pieces):
        made = Snapshot(params, contract, sql, tmp.absolute(), compute.storage)
        given = pieces_of(shown(batches), made, compute.partition_rows, pieces)
        sorted_pieces = cluster.map(for_each(_sorted, made=made), given)
        pieces += sorted_pieces  # and kept until the end: a worker that dies leaves its work to another
        if not (rows := sum(one.rows for one in sorted_pieces)):
            raise StageError(f"{params.source} gives no rows through {params.query}.")
        found = ranges_of_hashes(cluster, sorted_pieces, made, compute.partition_rows)
        if rows != (kept := sum(one.rows for one in found)):
            raise StageError(f"{rows:,} rows of {params.source} are not the {kept:,} in partitions: nothing is kept.")
        for folder in ("given", "sorted"):
            delete(tmp / folder)
        write_manifest(tmp, found)
    return rows


def ranges_of_hashes(cluster: Cluster, pieces: list[Partition], made: Snapshot, rows: int) -> list[Partition]:
    """Return partitions of about so many rows, ranges of the hash, that workers make of all sorted pieces.

    Raises StageError when there would be more than MOST.
    """
    count = max(1, ceil(sum(one.rows for one in pieces) / rows))
    if count > MOST:
        raise StageError(
            f"compute.partition_rows in params.yaml is {rows:,}, which makes {count:,} partitions, and a manifest names"
            f" {MOST:,} at most: raise it."
        )
    ends = [count * part // min(count, BUCKETS) for part in range(min(count, BUCKETS) + 1)]
    ranges = [range(start, end) for start, end in pairwise(ends)]
    found = cluster.map(for_each(_partitions, pieces=pieces, count=count, made=made), ranges)
    return [one for some in found for one in some]


def pieces_of(
    batches: Iterable[pa.RecordBatch], made: Snapshot, most: int, given: list[Partition]
) -> Iterator[tuple[int, Partition]]:
    """Yield the rows of the query as numbered files of at least `most` rows, but the last one; list them in `given`."""
    rows, writer, path = 0, None, scratch() / "given.parquet"

    def piece() -> tuple[int, Partition]:
        given.append(store(path, made.folder / "given", len(given), rows, made.storage))
        return len(given) - 1, given[-1]

    for batch in batches:
        if writer is None:
            writer = pq.ParquetWriter(path, batch.schema, compression="lz4")
        writer.write_batch(batch)
        rows += batch.num_rows
        if rows >= most:
            writer.close()
            yield piece()
            rows, writer = 0, None
    if writer is not None:
        writer.close()
        yield piece()


def _sorted(piece: tuple[int, Partition], made: Snapshot) -> Partition:
    """Type the rows of a piece, and sort them by the hash of the customer."""
    number, given = piece
    target = scratch() / f"sorted-{number}.parquet"
    with connection(target, bar=False, ordered=False) as database:
        with pq.ParquetFile(local_file(given, scratch())) as file:
            rows = load_typed(database, _at_least_one(file), made.contract, made.params, made.sql)
        columns = f"{hash_of_customer(made.contract)} AS {HASH}, * EXCLUDE ({CAST_ERRORS})"
        write_by_hash(database, f"SELECT {columns} FROM customers", target, rows)
    return store(target, made.folder / "sorted", number, rows, made.storage)


def write_by_hash(database: duckdb.DuckDBPyConnection, selected: str, target: Path, rows: int) -> None:
    """Write the `rows` that a query gives, sorted by their HASH, in row groups that ranges of it are read by."""
    group = max(LEAST_GROUP, rows // BUCKETS // LEAST_GROUP * LEAST_GROUP)
    database.execute(
        f"COPY ({selected} ORDER BY {HASH}) TO {literal(str(target))}"
        f" (FORMAT parquet, USE_TMP_FILE false, COMPRESSION lz4, ROW_GROUP_SIZE {group})"
    )


def hash_of_text(sql: str) -> str:
    """Return the SQL of the hash of a text, equal for texts that look alike."""
    return f"md5_number_lower({folded(sql)})::UBIGINT"


def hash_of_customer(contract: Contract) -> str:
    """Return the SQL of the hash by which a customer's rows are in a partition, also those without a customer."""
    return hash_of_text(f"coalesce({identifier(contract.customer)}::VARCHAR, '')")


def _at_least_one(file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    yield pa.RecordBatch.from_pylist([], schema=file.schema_arrow)
    yield from file.iter_batches(20_000)


def _partitions(numbers: range, pieces: list[Partition], count: int, made: Snapshot) -> list[Partition]:
    """Make the partitions of these numbers, of `count`, out of all pieces."""
    files = [one.url for one in pieces]
    with connection(*files, *(scratch() / f"part-{number}.parquet" for number in numbers), bar=False) as database:
        if any(url.startswith("s3://") for url in files):
            database.register_filesystem(s3_files())
        ends = [ceil(number * 2**64 / count) for number in (numbers.start, numbers.stop)]
        within = f"{HASH} BETWEEN {ends[0]}::UBIGINT AND {ends[1] - 1}::UBIGINT"
        database.execute(f"CREATE TEMP TABLE range_of_hashes AS FROM {parquet_sql(files)} WHERE {within}")
        found = []
        for number in numbers:
            ends = [ceil(one * 2**64 / count) for one in (number, number + 1)]
            within = f"{HASH} BETWEEN {ends[0]}::UBIGINT AND {ends[1] - 1}::UBIGINT"
            rows = database.execute(f"SELECT count(*) FROM range_of_hashes WHERE {within}").fetchall()[0][0]
            path = scratch() / f"part-{number}.parquet"
            write_sorted(
                database, f"SELECT * EXCLUDE ({HASH}) FROM range_of_hashes WHERE {within}", path, made.contract
            )
            found.append(store(path, made.folder, number, rows, made.storage))
    return found
