"""The split of a snapshot's partitions into those of a training table and of a holdout, on Dask's workers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from churn.config.contract import Contract
from churn.config.params import Compute, Prepare
from churn.core.cluster import connected, for_each, scratch
from churn.core.files import replacing
from churn.core.partitions import Partition, local_file, partitions_of, store, write_manifest
from churn.data.periods import Days, Periods, days_of, periods_of, refuse_half
from churn.data.split import digest_of
from churn.data.tables import refuse_lost, split_rows


@dataclass(frozen=True)
class Split:
    """What the workers need to split a partition, and where they put its tables."""

    params: Prepare
    contract: Contract
    folders: tuple[Path, Path]
    storage: str | None
    periods: Periods | None = None


def split_partitions(  # noqa: PLR0913  # as split_snapshot, and where
    raw: Path,
    params: Prepare,
    contract: Contract,
    tables: tuple[Path, Path],
    *,
    compute: Compute,
    as_of: date | None = None,
) -> dict[str, Any]:
    """Split each partition of the snapshot on Dask's workers into one of either table; see `split_snapshot`."""
    partitions = partitions_of(raw)
    refuse_half(params, contract)
    with replacing(tables[0]) as train, replacing(tables[1]) as test, connected(compute) as cluster:
        made = Split(params, contract, (train.absolute(), test.absolute()), compute.storage)
        if contract.time:
            days = cluster.map(for_each(_days_of_one, as_of=as_of, contract=contract), partitions)
            made = replace(made, periods=periods_of(raw, params, as_of, contract, days))
        found = cluster.map(for_each(_split_one, made=made), [*enumerate(partitions)])
        for folder, number in ((train, 0), (test, 1)):
            write_manifest(folder, [both[number] for both, _ in found])
        counts = added([one for _, one in found])
        refuse_lost(counts)
    return counts


def _days_of_one(partition: Partition, as_of: date | None, contract: Contract) -> Days:
    return days_of(local_file(partition, scratch()), as_of, contract)


def _split_one(item: tuple[int, Partition], made: Split) -> tuple[tuple[Partition, Partition], dict[str, Any]]:
    number, partition = item
    files = (scratch() / f"train-{number}.parquet", scratch() / f"test-{number}.parquet")
    counts = split_rows(local_file(partition, scratch()), made.params, made.contract, files, made.periods)
    train, test = (
        store(file, folder, number, counts[name], made.storage)
        for file, folder, name in zip(files, made.folders, ("train", "test"), strict=True)
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
