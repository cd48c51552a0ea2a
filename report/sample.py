"""A fair sample of the customers, where tables are partitioned: the report compares models on it, in pairs.

A partition is a range of the customer's hash. The sample has the customers of the first ranges of the snapshot here,
until these have CUSTOMERS rows, and the same customers of main's tables, however many partitions these have. It is
written to one file, sorted by key, in the place of the table. The evaluation, the split, the rules of the contract, the
profile and the drift are of all partitions instead, which this process reads one after another.
"""

from math import ceil
from pathlib import Path

from churn.config.contract import Contract
from churn.core.cluster import scratch
from churn.core.files import replacing, sha256_of
from churn.core.partitions import files_of, is_partitioned, local_file, partitions_of
from churn.core.paths import RAW
from churn.data.duckdb_helpers import connection, identifier, literal, parquet_sql
from churn.data.partitioning import hash_of_customer

import pyarrow.parquet as pq

CUSTOMERS = 1_000_000  # rows of the snapshot
OURS = (b"ARROW:schema", b"pandas")  # entries of a file's metadata that its writer makes


def limit() -> int:
    """Return the hash below which a customer is in the sample: 2**64 where all are."""
    if not is_partitioned(RAW):
        return 2**64
    partitions, rows = partitions_of(RAW), 0
    for number, one in enumerate(partitions, start=1):
        rows += one.rows
        if rows >= CUSTOMERS:
            return ceil(number * 2**64 / len(partitions))
    return 2**64


def sample_note() -> str | None:
    """Return a sentence where a sample stands for all customers."""
    if (end := limit()) == 2**64:
        return None
    return (
        f"The models are compared on {end / 2**64:.2%} of the customers, a fair sample by a hash; the evaluation, the"
        " split and the contract are checked on all"
    )


def sampled(table: Path, contract: Contract) -> Path:
    """Return a table as one file: itself, unless it or the snapshot here is partitioned, else that of the sample."""
    end = limit()
    if not is_partitioned(table) and end == 2**64:
        return table
    target = scratch() / f"{sha256_of(table)}-{end:x}.parquet"
    if target.exists():
        return target
    files = [table]
    if is_partitioned(table):
        partitions = partitions_of(table)
        files = [local_file(one, scratch()) for one in partitions[: ceil(end * len(partitions) / 2**64)]]
    known = pq.read_schema(files[0]).metadata or {}
    kept = ", ".join(f"{name.decode()}: {literal(value.decode())}" for name, value in known.items() if name not in OURS)
    with replacing(target) as tmp, connection(*files, tmp, bar=False) as database:
        within = "" if end == 2**64 else f" WHERE {hash_of_customer(contract)} < {end}::UBIGINT"
        source = parquet_sql(files)
        database.execute(
            f"COPY (SELECT * FROM {source}{within} ORDER BY {identifier(contract.key)}) TO {literal(str(tmp))}"
            f" (FORMAT parquet, USE_TMP_FILE false, COMPRESSION zstd{f', KV_METADATA {{{kept}}}' if kept else ''})"
        )
    return target


def rows_in(table: Path) -> int:
    """Return the number of rows of a table, by its files."""
    return sum(pq.read_metadata(file).num_rows for file in files_of(table, scratch()))
