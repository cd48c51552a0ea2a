"""Evaluates a model on the partitions of a holdout: workers score and count, and the metrics are those of the counts.

The quantiles of each partition's scores are the edges of bins, so each score of a small holdout has a bin of its own,
and the metrics are exact. A bin counts the churners and the others in it, for all customers and for each slice; an
entry of `Weights` stands for them, with their mean score. The threshold and the limits of the calibration bins are
edges, too. So only the order within a bin is lost, which moves the ROC AUC by at most half of the pairs within it.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any

from churn.config.contract import Contract
from churn.config.params import Evaluate
from churn.core.cluster import Cluster, for_each, scratch
from churn.core.errors import StageError
from churn.core.partitions import Partition, local_file, partitions_of, store, write_manifest
from churn.data.split import key_lines
from churn.evaluation.holdout import measured_of, probabilities, refuse_equal, with_slices
from churn.evaluation.metrics import CALIBRATION_BINS, Floats, Outcomes, Weights
from churn.evaluation.slices import slice_masks
from churn.modeling.model import read_model, read_table

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

BINS = 65_536
SHOWN_BINS = 20  # of the picture of the scores, see churn/evaluation/curves.py


@dataclass(frozen=True)
class Scored:
    """A scored partition: the file, the digest of its keys, and some quantiles of its scores with both ends."""

    partition: Partition
    digest: str
    quantiles: Floats


@dataclass(frozen=True, eq=False)
class Counted:
    """The rows of each bin: of all customers by label, shape (2, bins), and of each slice, shape (slices, 2, bins).

    `sums` are those of the scores, `least` and `most` their ends in each bin.
    """

    rows: Floats
    sums: Floats
    least: Floats
    most: Floats
    slices: Floats

    def __add__(self, other: "Counted") -> "Counted":
        return Counted(
            self.rows + other.rows,
            self.sums + other.sums,
            np.minimum(self.least, other.least),
            np.maximum(self.most, other.most),
            self.slices + other.slices,
        )


@dataclass(frozen=True)
class Scoring:
    """What the workers need to score the holdout, and where they put the predictions."""

    model: bytes
    contract: Contract
    folder: Path
    storage: str | None
    bins: int


def score_partitions(
    cluster: Cluster, model: bytes, contract: Contract, storage: str | None, tables: tuple[Path, Path]
) -> list[Scored]:
    """Write a partition of predictions, into the folder of the second table, for each of the first; return them all.

    Raises StageError when a score is no probability, and when all are equal.
    """
    partitions, folder = partitions_of(tables[0]), tables[1].absolute()
    scoring = Scoring(model, contract, folder, storage, ceil(BINS / len(partitions)))
    scored = cluster.map(for_each(_score_one, scoring=scoring), [*enumerate(partitions)])
    quantiles = np.concatenate([one.quantiles for one in scored])
    refuse_equal(quantiles.min(), quantiles.max(), sum(one.partition.rows for one in scored))
    write_manifest(folder, [one.partition for one in scored])
    return scored


def _score_one(item: tuple[int, Partition], scoring: Scoring) -> Scored:
    (number, partition), contract = item, scoring.contract
    features, labels, keys = read_table(local_file(partition, scratch()), contract)
    scores = probabilities(_model(scoring.model), features) if len(features) else np.empty(0)
    path = scratch() / f"scores-{number}.parquet"
    frame = pd.DataFrame({contract.key: keys, contract.label: labels, "score": scores})
    frame.to_parquet(path, index=False, compression="zstd")
    digest = hashlib.sha256(key_lines(keys)).hexdigest()
    made = store(path, scoring.folder, number, len(scores), scoring.storage)
    return Scored(made, digest, _quantiles(scores, scoring.bins))


@cache
def _model(content: bytes) -> Any:
    path = scratch() / "model"
    path.write_bytes(content)
    return read_model(path)


def _quantiles(scores: Floats, count: int) -> Floats:
    """Return each distinct score, or so many quantiles of them where there are more."""
    distinct = np.unique(scores)
    if len(distinct) <= count:
        return distinct
    return np.unique(np.quantile(scores, np.arange(count + 1) / count, method="lower"))


def count_partitions(
    cluster: Cluster, scored: list[Scored], tables: tuple[Path, Path], params: Evaluate, contract: Contract
) -> tuple[Counted, list[tuple[str, str]]]:
    """Return the counts by bin of the score in the holdout and its predictions, and the names and kinds of slices."""
    fixed = [params.threshold, *np.arange(CALIBRATION_BINS) / CALIBRATION_BINS, *np.arange(SHOWN_BINS) / SHOWN_BINS]
    edges = np.union1d(np.concatenate([one.quantiles for one in scored]), fixed)
    pairs = [*zip(*map(partitions_of, tables), strict=True)]
    task = for_each(_count_one, edges=edges, params=params, contract=contract)
    counted, names = cluster.reduce(task, pairs, _added)
    return counted, names


def _added(one: tuple[Counted, Any], other: tuple[Counted, Any]) -> tuple[Counted, Any]:
    return one[0] + other[0], one[1]


def _count_one(
    pair: tuple[Partition, Partition], edges: Floats, params: Evaluate, contract: Contract
) -> tuple[Counted, list[tuple[str, str]]]:
    table, predictions = (local_file(one, scratch()) for one in pair)
    features, labels, _ = read_table(table, contract)
    scores = pq.read_table(predictions, columns=["score"])["score"].to_numpy()
    y = labels.to_numpy(np.intp)
    bins = np.searchsorted(edges, scores, "right") - 1
    cell, shape = y * len(edges) + bins, (2, len(edges))

    def counts(rows: Any, weights: Any = None) -> Floats:
        return np.bincount(cell[rows], weights=weights, minlength=2 * len(edges)).reshape(shape).astype(np.float64)

    everybody = slice(None)
    least, most = np.full(len(edges), np.inf), np.full(len(edges), -np.inf)
    np.minimum.at(least, bins, scores)
    np.maximum.at(most, bins, scores)
    slices = [*slice_masks(features, params.slices, contract)]
    inside = np.array([counts(one.rows) for one in slices]).reshape(-1, *shape)
    whole = Counted(counts(everybody), counts(everybody, scores), least, most, inside)
    return whole, [(one.name, one.kind) for one in slices]


def entries_of(counted: Counted, part: Floats | None = None) -> tuple[Outcomes, Floats, Any]:
    """Return the counts as weighted entries: their outcomes and scores, and which are those of a slice `part`."""
    scores = np.divide(counted.sums, counted.rows, out=np.zeros_like(counted.sums), where=counted.rows > 0)
    labels = np.repeat([[0.0], [1.0]], counted.rows.shape[1], axis=1)
    inside = counted.rows if part is None else part
    rows = np.stack([inside, counted.rows - inside])
    there = rows > 0
    outcomes = Outcomes(np.stack([labels, labels])[there], Weights(rows[there]))
    return outcomes, np.stack([scores, scores])[there], np.indices(rows.shape)[0][there] == 0


def weights_of(given: Outcomes) -> Floats:
    """Return the number of rows of each entry."""
    return given.customers.rows if isinstance(given.customers, Weights) else np.ones(len(given.labels))


def evaluation_of_counts(counted: Counted, names: list[tuple[str, str]], params: Evaluate) -> dict[str, Any]:
    """Return the evaluation of the counts, as `churn.evaluation.holdout.evaluation_of` does of rows.

    Raises StageError when all or none of the customers churned.
    """
    stayed, churned = counted.rows.sum(axis=1)
    if not stayed or not churned:
        raise StageError(
            f"{churned:,.0f} of {stayed + churned:,.0f} customers of the holdout churned; metrics need both."
        )
    given, scores, _ = entries_of(counted)
    slices = []
    for (name, kind), part in zip(names, counted.slices, strict=True):
        some, of_some, inside = entries_of(counted, part)
        slices.append({"name": name, "kind": kind} | measured_of(some, of_some, params, inside))
    whole = with_slices(measured_of(given, scores, params), slices, given, scores, params)
    return whole | {"binning_error": binning_error(counted)}


def binning_error(counted: Counted) -> float:
    """Return by how much the ROC AUC of all customers may differ from that of the single scores.

    Examples
    --------
    >>> one = np.array([0.2, 0.5])
    >>> counted = Counted(np.array([[3.0, 1], [1, 1]]), np.zeros((2, 2)), one, one + [0.1, 0], np.zeros((0, 2, 2)))
    >>> binning_error(counted)  # of 8 pairs, 3 are within the bin that has more than one score, and count half
    0.1875
    """
    mixed = counted.most > counted.least
    within = float((counted.rows[0] * counted.rows[1])[mixed].sum())
    stayed, churned = counted.rows.sum(axis=1)
    return float(np.ceil(within / (2 * stayed * churned) * 1e9) / 1e9)
