"""Scores the customers of a table on Dask's workers: each scores some partitions, and the client has no table.

The rows stream through the client in pieces, and are partitioned by a hash of the key, as fetch does. So equal keys are
in one partition, and each is scored like a table of its own.
"""

from collections import Counter
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from churn.config.contract import Contract
from churn.config.params import Params
from churn.core.cluster import connected, for_each, scratch
from churn.core.errors import StageError
from churn.core.files import delete, replacing
from churn.core.partitions import Partition, local_file, store, temporary, write_manifest
from churn.data.duckdb_helpers import cast, connection, identifier, parquet_sql
from churn.data.partitioning import HASH, Snapshot, hash_of_text, pieces_of, ranges_of_hashes, write_by_hash
from churn.data.sinks import beside
from churn.modeling.distributed import model_of
from churn.modeling.model import reproducible_bytes
from churn.scoring_rows import score

import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True)
class Scoring:
    """What the workers need to score a partition: the model, and where they put both tables."""

    model: bytes
    contract: Contract
    number: int
    folders: tuple[Path, Path]
    storage: str | None


def score_on_workers(  # noqa: PLR0913  # as score, and where
    batches: Generator[pa.RecordBatch],
    wanted: Path,
    model: Any,
    params: Params,
    contract: Contract,
    *,
    number: int,
) -> tuple[int, int, dict[str, int]]:
    """Write the scores, and beside them the rejected customers, as folders of partitions; return as `score` does.

    Raises StageError when the key is missing, and when rows get lost.
    """
    compute, rejected = params.compute, beside(wanted, "rejected")
    made_here: list[Partition] = []
    with (
        closing(batches),
        replacing(wanted) as tmp,
        replacing(rejected) as other,
        connected(compute) as cluster,
        temporary(made_here),
    ):
        # Apart, because these objects are deleted: one of the snapshot with the same bytes has the same name.
        apart = compute.storage and f"{compute.storage.rstrip('/')}/scoring"
        made = Snapshot(params.fetch, contract, "", tmp.absolute() / "customers", apart)
        hashed = cluster.map(for_each(_hashed, made=made), pieces_of(batches, made, compute.partition_rows, made_here))
        read = sum(one.rows for one in made_here)
        made_here += hashed
        parts = [one for one in ranges_of_hashes(cluster, hashed, made, compute.partition_rows) if one.rows]
        made_here += parts
        if not parts:
            raise StageError("there are no customers to score.")
        folders = (tmp.absolute(), other.absolute())
        scoring = Scoring(reproducible_bytes(model), contract, number, folders, compute.storage)
        found = cluster.map(for_each(_score_part, scoring=scoring), [*enumerate(parts)])
        delete(made.folder)
        write_manifest(tmp, [scores for scores, _, _ in found])
        write_manifest(other, [others for _, others, _ in found])
        by_rule = Counter[str]()
        for _, _, counts in found:
            by_rule.update(counts)
        rows, left = sum(scores.rows for scores, _, _ in found), sum(others.rows for _, others, _ in found)
        if rows + left != read:
            raise StageError(f"{read:,} read are not {rows:,} scored + {left:,} rejected: nothing is written.")
    return read, rows, dict(sorted(by_rule.items()))


def _hashed(piece: tuple[int, Partition], made: Snapshot) -> Partition:
    """Sort the rows of a piece by the hash of the key, in the contract's type where it has that."""
    (number, given), contract = piece, made.contract
    target, source = scratch() / f"sorted-{number}.parquet", local_file(piece[1], scratch())
    if contract.key.lower() not in [name.lower() for name in pq.read_schema(source).names]:
        raise StageError(f"the customers have no column {contract.key}, which contract.yaml declares.")
    key = identifier(contract.key)
    text = f"coalesce({cast(contract.key, contract.columns[contract.key].type)}::VARCHAR, {key}::VARCHAR, '')"
    with connection(source, target, bar=False) as database:
        selected = f"SELECT {hash_of_text(text)} AS {HASH}, * FROM {parquet_sql([source])}"
        write_by_hash(database, selected, target, given.rows)
    return store(target, made.folder / "sorted", number, given.rows, made.storage)


def _score_part(item: tuple[int, Partition], scoring: Scoring) -> tuple[Partition, Partition, dict[str, int]]:
    (number, part), contract = item, scoring.contract
    path = scratch() / f"scored-{number}.parquet"
    model = model_of(scoring.model)
    read, rows, counts = score(str(local_file(part, scratch())), str(path), model, contract, scoring.number)
    files = (path, beside(path, "rejected"))
    scores, rejected = (
        store(file, folder, number, count, scoring.storage)
        for file, folder, count in zip(files, scoring.folders, (rows, read - rows), strict=True)
    )
    return scores, rejected, counts
