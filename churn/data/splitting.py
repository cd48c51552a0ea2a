"""The split of a snapshot's partitions into those of a training table and of a holdout, on Dask's workers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from churn.config.contract import Contract
from churn.config.params import Compute, Prepare
from churn.core.cluster import connected, for_each, scratch
from churn.core.files import replacing
from churn.core.partitions import Partition, local_file, partitions_of, store, write_manifest
from churn.data.split import digest_of
from churn.data.tables import refuse_lost, split_rows


def split_partitions(
    raw: Path, params: Prepare, contract: Contract, tables: tuple[Path, Path], compute: Compute
) -> dict[str, Any]:
    """Split each partition of the snapshot on Dask's workers into one of either table; see `split_snapshot`."""
    partitions = partitions_of(raw)
    with replacing(tables[0]) as train, replacing(tables[1]) as test, connected(compute) as cluster:
        folders = (train.absolute(), test.absolute())
        task = for_each(_split_one, params=params, contract=contract, folders=folders, storage=compute.storage)
        made = cluster.map(task, [*enumerate(partitions)])
        for folder, number in ((train, 0), (test, 1)):
            write_manifest(folder, [both[number] for both, _ in made])
        counts = added([one for _, one in made])
        refuse_lost(counts)
    return counts


def _split_one(
    item: tuple[int, Partition], params: Prepare, contract: Contract, folders: tuple[Path, Path], storage: str | None
) -> tuple[tuple[Partition, Partition], dict[str, Any]]:
    number, partition = item
    files = (scratch() / f"train-{number}.parquet", scratch() / f"test-{number}.parquet")
    counts = split_rows(local_file(partition, scratch()), params, contract, files, None)
    train, test = (
        store(file, folder, number, counts[name], storage)
        for file, folder, name in zip(files, folders, ("train", "test"), strict=True)
    )
    return (train, test), counts


def added(counts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the row counts of all partitions together."""
    dropped = Counter[str]()
    for one in counts:
        dropped.update(one["dropped"])
    total = {name: sum(one[name] for one in counts) for name in ("fetched", "train", "test")}
    digests = [digest for one in counts for digest in one["holdout_sha256"]]
    return total | {"dropped": dict(dropped), "holdout_sha256": [digest_of(digests)]}
