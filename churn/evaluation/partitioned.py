"""Evaluates a model on the partitions of a holdout: workers score and count, and the metrics are those of the counts.

The quantiles of each partition's scores are the edges of bins, so each score of a small holdout has a bin of its own,
and the metrics are exact. A bin counts the churners and the others in it, for all customers and for each slice; an
entry of `Weights` stands for them, with their mean score. The threshold and the limits of the calibration bins are
edges, too. So only the order within a bin is lost, which moves the ROC AUC by at most the pairs within it.

Where customers have several rows, an interval needs to know which rows are of one customer. That is kept for the first
partitions, up to KNOWN rows: a fair sample, because customers are in a partition by their hash. Where rows have a day,
the later ones and the others are counted apart.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from math import ceil
from operator import add
from pathlib import Path
from typing import Any, NamedTuple

from churn.config.contract import Contract
from churn.config.params import Evaluate
from churn.core.cluster import Map, for_each, scratch
from churn.core.errors import StageError
from churn.core.partitions import Partition, local_file, partitions_of, store, write_manifest
from churn.data.split import key_lines
from churn.evaluation.holdout import (
    EARLIER,
    LATE,
    NONE_LATER,
    area_over_time,
    measured_of,
    probabilities,
    refuse_equal,
    with_groups,
    with_slices,
)
from churn.evaluation.metrics import CALIBRATION_BINS, Floats, Known, Outcomes, Weights, customers_in
from churn.evaluation.slices import slice_masks
from churn.modeling.distributed import model_of
from churn.modeling.model import read_table

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

BINS = 65_536
KNOWN = 1_000_000  # rows whose customers are kept
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
    customers: npt.NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp))  # of all, and of each slice
    known: "KnownRows | None" = None

    def __add__(self, other: "Counted") -> "Counted":
        return Counted(
            self.rows + other.rows,
            self.sums + other.sums,
            np.minimum(self.least, other.least),
            np.maximum(self.most, other.most),
            self.slices + other.slices,
            self.customers + other.customers,
            self.known + other.known if self.known and other.known else self.known or other.known,
        )


@dataclass(frozen=True, eq=False)
class KnownRows:
    """Rows whose customers are known: their place in the counts, as `label * bins + bin`, and the customer's number.

    `slices`, shape (slices, rows), says which rows are in a slice, and `number` how many customers there are.
    """

    cells: npt.NDArray[np.intp]
    customers: npt.NDArray[np.intp]
    slices: npt.NDArray[np.bool_]
    number: int

    def __add__(self, other: "KnownRows") -> "KnownRows":
        return KnownRows(
            np.concatenate([self.cells, other.cells]),
            np.concatenate([self.customers, other.customers + self.number]),
            np.concatenate([self.slices, other.slices], axis=1),
            self.number + other.number,
        )


class Evaluated(NamedTuple):
    """The counts of the rows by which the model is judged, of the earlier ones where rows have a day, and the slices.

    `slices` are their names and kinds.
    """

    judged: Counted
    earlier: Counted | None
    slices: Sequence[tuple[str, str]]

    def __add__(self, other: "Evaluated") -> "Evaluated":  # type: ignore[override]  # a sum of counts, not a longer tuple
        earlier = self.earlier + other.earlier if self.earlier and other.earlier else None
        return Evaluated(self.judged + other.judged, earlier, self.slices)


@dataclass(frozen=True)
class Scoring:
    """What the workers need to score the holdout, and where they put the predictions."""

    model: bytes
    contract: Contract
    folder: Path
    storage: str | None
    bins: int


def score_partitions(
    cluster: Map, model: bytes, contract: Contract, storage: str | None, tables: tuple[Path, Path]
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
    table = local_file(partition, scratch())
    features, labels, keys = read_table(table, contract)
    scores = probabilities(model_of(scoring.model), features) if len(features) else np.empty(0)
    path = scratch() / f"scores-{number}.parquet"
    frame = pd.DataFrame({contract.key: keys, contract.label: labels, "score": scores})
    frame = with_groups(frame, table, contract)
    frame.to_parquet(path, index=False, compression="zstd")
    digest = hashlib.sha256(key_lines(keys)).hexdigest()
    made = store(path, scoring.folder, number, len(scores), scoring.storage)
    return Scored(made, digest, _quantiles(scores, scoring.bins))


def _quantiles(scores: Floats, count: int) -> Floats:
    """Return each distinct score, or so many quantiles of them where there are more."""
    distinct = np.unique(scores)
    if len(distinct) <= count:
        return distinct
    return np.unique(np.quantile(scores, np.arange(count + 1) / count, method="lower"))


def count_partitions(
    cluster: Map, scored: list[Scored], tables: tuple[Path, Path], params: Evaluate, contract: Contract
) -> Evaluated:
    """Return the counts by bin of the score in the holdout and its predictions."""
    fixed = [params.threshold, *np.arange(CALIBRATION_BINS) / CALIBRATION_BINS, *np.arange(SHOWN_BINS) / SHOWN_BINS]
    edges = np.union1d(np.concatenate([one.quantiles for one in scored]), fixed)
    pairs = [*zip(*map(partitions_of, tables), strict=True)]
    upto = accumulate(test.rows for test, _ in pairs)
    known = [contract.group is not None and (not n or rows <= KNOWN) for n, rows in enumerate(upto)]
    task = for_each(_count_one, edges=edges, params=params, contract=contract)
    found: Evaluated = cluster.reduce(task, [*zip(pairs, known, strict=True)], add)
    return found


def _count_one(
    item: tuple[tuple[Partition, Partition], bool], edges: Floats, params: Evaluate, contract: Contract
) -> Evaluated:
    pair, known = item
    table, scored = (local_file(one, scratch()) for one in pair)
    features, labels, _ = read_table(table, contract)
    columns = ["score", *([contract.group] if contract.group else []), *([LATE] if contract.time else [])]
    predictions = pq.read_table(scored, columns=columns).to_pandas()
    scores = predictions["score"].to_numpy(np.float64)
    bins = np.searchsorted(edges, scores, "right") - 1
    cells = labels.to_numpy(np.intp) * len(edges) + bins
    slices = [*slice_masks(features, params.slices, contract)]
    masks = np.array([one.rows for one in slices], dtype=bool).reshape(len(slices), len(scores))
    customers = pd.factorize(predictions[contract.group])[0].astype(np.intp) if contract.group else None
    number = int(customers.max()) + 1 if customers is not None and len(customers) else 0

    def counted(rows: npt.NDArray[np.bool_], parts: npt.NDArray[np.bool_]) -> Counted:
        def counts(inside: Any, weights: Any = None) -> Floats:
            found = np.bincount(cells[inside], weights=weights, minlength=2 * len(edges))
            return found.reshape(2, len(edges)).astype(np.float64)

        least, most = np.full(len(edges), np.inf), np.full(len(edges), -np.inf)
        np.minimum.at(least, bins[rows], scores[rows])
        np.maximum.at(most, bins[rows], scores[rows])
        inside = np.array([counts(rows & one) for one in parts]).reshape(len(parts), 2, len(edges))
        one = Counted(counts(rows), counts(rows, scores[rows]), least, most, inside)
        if customers is None:
            return one
        there = np.array([customers_in(customers[some]) for some in (rows, *(rows & part for part in parts))])
        kept = KnownRows(cells[rows], customers[rows], parts[:, rows], number) if known else None
        return replace(one, customers=there, known=kept)

    names = [(one.name, one.kind) for one in slices]
    if not contract.time:
        return Evaluated(counted(np.ones(len(scores), dtype=bool), masks), None, names)
    late = predictions[LATE].to_numpy(bool)
    return Evaluated(counted(late, masks), counted(~late, masks[:0]), names)


def entries_of(counted: Counted, part: int | None = None) -> tuple[Outcomes, Floats, Any]:
    """Return the counts as weighted entries: their outcomes and scores, and which are those of the slice `part`."""
    scores = np.divide(counted.sums, counted.rows, out=np.zeros_like(counted.sums), where=counted.rows > 0)
    labels = np.repeat([[0.0], [1.0]], counted.rows.shape[1], axis=1)
    inside = counted.rows if part is None else counted.slices[part]
    rows = np.stack([inside, counted.rows - inside])
    there = rows > 0
    known = None
    if counted.known:
        outside = np.zeros(len(counted.known.cells), bool) if part is None else ~counted.known.slices[part]
        places = there.ravel().cumsum() - 1
        entries = places[counted.known.cells + outside * counted.rows.size]
        each = float(counted.customers[0] / max(customers_in(counted.known.customers), 1))
        known = Known(entries, counted.known.customers, each)
    outcomes = Outcomes(np.stack([labels, labels])[there], Weights(rows[there], known))
    return outcomes, np.stack([scores, scores])[there], np.indices(rows.shape)[0][there] == 0


def both_periods(judged: Counted, earlier: Counted) -> tuple[Outcomes, Floats, npt.NDArray[np.bool_]]:
    """Return the later rows and the earlier ones as weighted entries, with those that are later."""
    (after, of_after, _), (before, of_before, _) = entries_of(judged), entries_of(earlier)
    rows = np.concatenate([weights_of(after), weights_of(before)])
    late = np.arange(len(rows)) < len(of_after)
    known = None
    one, other = (given.customers.known for given in (after, before))  # type: ignore[union-attr]  # both have weights
    if one and other:
        entries = np.concatenate([one.entries, other.entries + len(of_after)])
        number = np.concatenate([one.customers, other.customers])
        known = Known(entries, number, max(one.each, other.each))
    labels = np.concatenate([after.labels, before.labels])
    return Outcomes(labels, Weights(rows, known)), np.concatenate([of_after, of_before]), late


def weights_of(given: Outcomes) -> Floats:
    """Return the number of rows of each entry."""
    return given.customers.rows if isinstance(given.customers, Weights) else np.ones(len(given.labels))


def evaluation_of_counts(found: Evaluated, params: Evaluate) -> dict[str, Any]:
    """Return the evaluation of the counts, as `churn.evaluation.holdout.evaluation_of` does of rows.

    Raises StageError when all or none of the customers churned, and when no row is later than the training.
    """
    counted = found.judged
    stayed, churned = counted.rows.sum(axis=1)
    if found.earlier and not stayed + churned:
        raise StageError(NONE_LATER)
    if not stayed or not churned:
        raise StageError(
            f"{churned:,.0f} of {stayed + churned:,.0f} customers of the holdout churned; metrics need both."
        )

    def measured(part: int | None, of: Counted = counted) -> dict[str, Any]:
        given, scores, inside = entries_of(of, part)
        number = {"customers": int(of.customers[0 if part is None else part + 1])} if len(of.customers) else {}
        return measured_of(given, scores, params, inside) | number

    slices = [{"name": name, "kind": kind} | measured(part) for part, (name, kind) in enumerate(found.slices)]
    given, scores, _ = entries_of(counted)
    result = with_slices(measured(None), slices, given, scores, params) | {"binning_error": binning_error(counted)}
    if found.earlier:
        over_time = area_over_time(*both_periods(counted, found.earlier))
        result |= {EARLIER: measured(None, found.earlier), "roc_auc_over_time": over_time}
    return result


def binning_error(counted: Counted) -> float:
    """Return by how much the ROC AUC of all customers may differ from that of the single scores.

    Examples
    --------
    >>> one = np.array([0.2, 0.5])
    >>> counted = Counted(np.array([[3.0, 1], [1, 1]]), np.zeros((2, 2)), one, one + [0.1, 0], np.zeros((0, 2, 2)))
    >>> binning_error(counted)  # of 8 pairs, 3 are within the bin that has more than one score
    0.375
    """
    mixed = counted.most > counted.least
    within = float((counted.rows[0] * counted.rows[1])[mixed].sum())
    stayed, churned = counted.rows.sum(axis=1)
    return float(np.ceil(within / (stayed * churned) * 1e9) / 1e9)
