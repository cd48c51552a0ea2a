"""Trains XGBoost on the partitions of a table: each Dask worker holds the bins of its own, and they add up histograms.

It is the training of one machine, in XGBoost's own collective. xgboost.dask would hold each partition's numbers in
memory, and would leave to Dask which worker has which; here the rows stream into bins, and the same number of workers
makes the same bytes. A worker that dies ends the training everywhere, and it starts again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from urllib.parse import urlsplit

from churn.config.contract import Contract
from churn.core.cluster import Cluster, Where, connected, for_each, scratch
from churn.core.errors import StageError
from churn.core.partitions import Partition, local_file
from churn.modeling.boosting import BATCH_ROWS, BoostedTrees, library_of, train_xgboost
from churn.modeling.encoding import Columns, encoded
from churn.modeling.model import read_model
from churn.modeling.training import refusal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

ATTEMPTS = 3
TIMEOUT = 300  # seconds until all workers have to have joined
_trackers: list[Any] = []  # on the worker that has it, as long as a training lasts


@dataclass
class Training:
    """What a worker needs to train: the estimator's name, parameters and rounds, the features and their contract."""

    name: str
    parameters: dict[str, Any]
    rounds: int
    columns: Columns
    contract: Contract


def fit_partitions(
    model: BoostedTrees, partitions: Sequence[Partition], contract: Contract, rows: int, compute: Where
) -> BoostedTrees:
    """Fit the model on all `rows` rows of the partitions, on Dask's workers, and return it.

    Raises StageError when a row is missing, or when the library refuses the parameters or the data.
    """
    with connected(compute) as cluster:
        training = Training(model.name, model.parameters, model.rounds, model.columns, contract)
        file, seen = train_partitions(cluster, training, partitions, compute.workers)
    if seen != rows:
        raise StageError(f"the model has seen {seen:,} of the {rows:,} rows of the table; drop none.")
    return model.fitted(file, seen)


def train_partitions(
    cluster: Cluster, training: Training, partitions: Sequence[Partition], workers_wanted: int
) -> tuple[bytes, int]:
    """Return XGBoost's file of a booster that was trained on all partitions, and the number of rows that it saw.

    So many workers train together, also where one is just starting again: their number has a say in the result.

    Raises StageError when XGBoost refuses the parameters, and when workers die in ATTEMPTS trainings.
    """
    there = [one for one in partitions if one.rows]  # XGBoost refuses a worker without a row
    count = min(workers_wanted, len(there))
    shares = [there[rank::count] for rank in range(count)]
    for _ in range(ATTEMPTS):
        workers = cluster.wait_for(count)
        tracker = cluster.on_worker(_start_tracker, workers[0], count=count, host=urlsplit(workers[0]).hostname)
        tasks = [
            (worker, for_each(_train_share, training=training, tracker=tracker, rank=rank), share)
            for rank, (worker, share) in enumerate(zip(workers, shares, strict=True))
        ]
        if tracker and (found := cluster.together(tasks)) is not None:
            (file, _), *_ = found
            return file, sum(rows for _, rows in found)
    raise StageError(
        f"a worker died in each of {ATTEMPTS} trainings, most likely because its memory is too small for its share of"
        " the bins, a byte for each value: add workers, or raise compute.memory."
    )


def _start_tracker(count: int, host: str) -> dict[str, Any]:
    """Start the process-wide tracker by which the workers find each other, and return its address."""
    from xgboost.tracker import RabitTracker

    tracker = RabitTracker(count, host, sortby="task", timeout=TIMEOUT)
    tracker.start()
    _trackers[:] = [tracker]
    return dict(tracker.worker_args())


def _train_share(share: list[Partition], training: Training, tracker: dict[str, Any], rank: int) -> tuple[bytes, int]:
    """Train with the other workers on a share of the partitions; the first one returns the booster's file."""
    from distributed import get_worker

    library, collective = library_of("xgboost"), library_of("xgboost.collective")
    threads = get_worker().state.nthreads  # else one, which Dask sets for OpenMP; they have no say in the result
    training = replace(training, parameters=training.parameters | {"nthread": threads})
    try:
        with collective.CommunicatorContext(**tracker, dmlc_task_id=f"{rank:05}"):
            file, rows = train_xgboost(training, lambda: _batches(share, training))
    except library.core.XGBoostError as error:
        raise StageError(f"the model cannot be fitted: {refusal(error, training)}.") from error
    return (file if rank == 0 else b""), rows


def _batches(share: list[Partition], training: Training) -> Iterator[tuple[pa.Table, npt.NDArray[np.float32]]]:
    """Yield the features of some rows after others, as numbers, and their labels."""
    label = training.contract.label
    for one in share:
        with pq.ParquetFile(local_file(one, scratch())) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=[*training.columns, label]):
                table = pa.Table.from_batches([batch])
                yield encoded(table, training.columns), table[label].to_numpy().astype(np.float32)


@cache
def model_of(content: bytes) -> Any:
    """Return the model of a file with this content, which a process reads once."""
    with NamedTemporaryFile(dir=scratch()) as file:  # another thread may read it as well
        file.write(content)
        file.flush()
        return read_model(Path(file.name))
