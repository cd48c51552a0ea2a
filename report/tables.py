"""Whether the tables of this checkout are what the split makes of its snapshot: every row once, with its label."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from churn.config.contract import Contract
from churn.config.params import Prepare, load_params
from churn.core.cluster import scratch
from churn.core.errors import StageError, number_of
from churn.core.files import batches_in
from churn.core.partitions import files_of
from churn.core.paths import RAW, TEST, TRAIN
from churn.data.periods import Periods, days_of, excluded, periods_of, train_until
from churn.data.split import among, drop_declared, frame_of, in_holdout

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

TRAINING, HOLDOUT = "the training table", "the holdout"


def table_faults(prepare: Prepare, contract: Contract, whose: str = "main's") -> Iterator[str]:
    """Yield a sentence for each way in which the tables are not what `prepare` makes of the snapshot's customers.

    Every customer is in one table, by the split of `prepare`, with the label of the snapshot. `whose` names the split.
    Of partitioned tables, partition by partition. Raises StageError when their numbers of partitions differ.
    """
    files = [files_of(table, scratch()) for table in (RAW, TRAIN, TEST)]
    if len({*map(len, files)}) > 1:
        raise StageError(f"{RAW}, {TRAIN} and {TEST} do not have equally many partitions")
    day = load_params().fetch.as_of
    days = [days_of(one, day, contract) for one in files[0]] if contract.time else ()
    periods, found = periods_of(RAW, prepare, day, contract, days), Counter[str]()
    for raw, train, test in zip(*files, strict=True):
        found.update(_split_counts(raw, {TRAINING: train, HOLDOUT: test}, prepare, contract, periods))
        if periods and train_until(test) != periods.train_until:
            found["another day"] += 1
    if found["lost"]:
        yield (
            f"{found['lost']:,} of {found['kept']:,} {contract.unit} of the snapshot are in neither table, and {whose}"
            " prepare.drop does not cover them"
        )
    if found["seen"]:
        yield f"{TRAINING} has {number_of(found['seen'], 'customers')} whom {whose} split holds out"
    if found["moved"]:
        who = number_of(found["moved"], "customers")
        yield f"{HOLDOUT} has {who} whom {whose} split does not hold out: it is another holdout"
    for name in (TRAINING, HOLDOUT):
        if wrong := found[f"{name} late"]:
            yield (
                f"{name} has {number_of(wrong, 'rows')} that {whose} prepare.time leaves out: their labels are not"
                " final, or later than the training"
            )
    if found["another day"]:
        day = periods.train_until if periods else None
        yield f"{TEST} does not have the last day of training of {whose} prepare.time, {day}"
    for name in (TRAINING, HOLDOUT):
        if wrong := found[f"{name} labels"]:
            yield f"{name} gives {number_of(wrong, 'customers')} another {contract.label} than the snapshot"
        if len(files[0]) > 1 and (wrong := found[f"{name} strays"]):
            yield f"{name} has {number_of(wrong, 'rows')} that the same partition of the snapshot does not have"


def _split_counts(
    raw: Path, files: Mapping[str, Path], prepare: Prepare, contract: Contract, periods: Periods | None
) -> dict[str, int]:
    """Return how many rows of a snapshot, or of a partition, were kept, lost, seen in training and so on."""
    key, label = contract.key, contract.label
    kept, held_out, left_out = [], [], []
    for batch in batches_in(pq.ParquetFile(raw)):
        customers, _ = drop_declared(frame_of(batch, contract), prepare.drop, contract)
        if periods:
            out = np.logical_or.reduce(list(excluded(customers, prepare, periods, contract).values()))
            left_out.append(customers[key][out])
            customers = customers[~out]
        kept.append(customers[[key, label]] if label in customers else customers[[key]])
        held_out.append(pd.Series(in_holdout(customers[contract.customer], prepare.salt, prepare.holdout_share)))
    tables = {name: pq.read_table(path, columns=[key, label]).to_pandas() for name, path in files.items()}
    train, test = tables.values()
    if not kept:  # an empty partition
        return {f"{name} strays": len(table) for name, table in tables.items()}
    snapshot = pd.concat(kept, ignore_index=True).assign(holdout=pd.concat(held_out, ignore_index=True))
    lost = ~among(snapshot[key], train[key]) & ~among(snapshot[key], test[key])
    counts = {
        "kept": len(snapshot),
        "lost": int(lost.sum()),
        "seen": int(among(snapshot[key][snapshot["holdout"]], train[key]).sum()),
        "moved": int(among(test[key], snapshot[key][~snapshot["holdout"]]).sum()),
    }
    for name, table in tables.items():
        late = among(table[key], pd.concat(left_out)) if periods else np.zeros(len(table), dtype=bool)
        counts[f"{name} late"] = int(late.sum())
        counts[f"{name} strays"] = int((~among(table[key], snapshot[key]) & ~late).sum())
        if label in snapshot:
            both = table.merge(snapshot, on=key, suffixes=("", " before"))
            counts[f"{name} labels"] = int((both[label] != both[f"{label} before"]).sum())
    return counts
