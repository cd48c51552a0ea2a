"""Measures the noise of the prepared customers: the model of params.yaml on random splits, and on pairs of halves.

Trains on SPLITS splits of the snapshot, as prepare makes them, and on the halves of PAIRS training tables. Of a large
snapshot it takes some customers, and scales their noise to all. docs/gate.md has the statistics.
"""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from math import ceil, log10
from pathlib import Path
from typing import Any

from churn.config.contract import Contract
from churn.config.params import Evaluate, Params, Slices
from churn.core.cluster import scratch
from churn.core.files import batches_in, refuse_other_types
from churn.core.partitions import files_of
from churn.core.paths import RAW
from churn.core.terminal import progress
from churn.data.split import in_holdout
from churn.data.tables import reading, split_snapshot
from churn.evaluation.holdout import evaluation_of, judged_rows, outcomes_of, scores_of, with_groups
from churn.evaluation.metrics import Floats, Outcomes, Z
from churn.evaluation.paired import compare
from churn.modeling.model import read_parquet, read_table, types_of
from churn.modeling.training import build_classifier, build_model, fit

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

Flags = npt.NDArray[np.bool_]  # of each customer
SPLITS, PAIRS = 30, 10
SLICE_COLUMNS, SLICE_VALUES = 4, 10  # columns with slices, and the values that one of them may have
MOST_ROWS = 100_000  # of a snapshot, on which the models are trained
NEVER_EMPTY = 40  # customers of a value that the holdout is expected to have, so that the slice is in each
MARGINS = {
    "roc_auc": 0.005,
    "average_precision": 0.015,
    "lift_at_capacity": 0.2,
    "accuracy": 0.01,
    "brier_score": 0.003,
}


@dataclass(frozen=True)
class Noise:
    """What honest models measured: the evaluation of each split, and the standard errors of pairs by metric."""

    evaluations: Sequence[Mapping[str, Any]]
    errors: Mapping[str, float]
    evaluate: Evaluate
    churn_rate: float
    share: float = 1.0  # of the customers, on whom it was measured

    def values(self, metric: str, scope: str | None = None) -> Floats:
        """Return a metric of all customers or of a slice on each split, without those that do not define it."""
        parts = [
            next((one for one in each["slices"] if one["name"] == scope), {}) if scope else each
            for each in self.evaluations
        ]
        return np.array([one[metric] for one in parts if one.get(metric) is not None])

    def scaled(self, deviation: float) -> float:
        """Return a standard deviation as it is of all customers: it falls with the root of their number."""
        return deviation * float(np.sqrt(self.share))

    @property
    def caution(self) -> float:
        """How many times further a near bound must be than with SPLITS splits, because few tell a deviation badly.

        Student's t of a further value, at the tail that 2.5 standard deviations have.
        """
        from scipy.stats import norm, t

        def width(splits: int) -> float:
            return float(t.isf(norm.sf(2.5), splits - 1)) * float(np.sqrt(1 + 1 / splits))

        return max(width(max(len(self.evaluations), 2)) / width(SPLITS), 1.0)

    def spread(self, metric: str, scope: str | None = None) -> tuple[float, float] | None:
        """Return the median and the standard deviation of a metric, or None where there is no noise."""
        values = self.values(metric, scope)
        if len(values) < 2 or not (deviation := float(np.std(values, ddof=1))):
            return None
        return float(np.median(values)), self.scaled(deviation)


@dataclass(frozen=True)
class Holdout:
    """What a model is measured on: a row's features, its outcome, and whether it is judged."""

    features: pd.DataFrame
    outcomes: Outcomes
    judged: Flags
    contract: Contract

    def evaluation(self, scores: Floats, evaluate: Evaluate) -> dict[str, Any]:
        """Return what evaluate would write of the holdout."""
        return evaluation_of(self.features, self.outcomes, scores, evaluate, self.contract)

    def of_slices(self, slices: Slices) -> "Holdout":
        """Return the holdout without the features that form no slice: 30 of a wide table are kept."""
        wanted = {*slices.columns, *(name for name, column in self.contract.columns.items() if column.nullable)}
        names = [name for name in self.features if slices.conditions or name in wanted]
        return replace(self, features=self.features[names].copy())


@dataclass(frozen=True)
class Split:
    """Both tables as prepare makes them with another salt: what a model learns from, and its holdout."""

    X: pd.DataFrame
    y: pd.Series
    customers: pd.Series
    holdout: Holdout
    params: Params

    def scores(self, X: pd.DataFrame, y: pd.Series) -> Floats:
        """Train the model of params.yaml, and return its scores of the holdout."""
        model = build_model(build_classifier(self.params.train), self.holdout.contract)
        return scores_of(fit(model, X, y, len(X)), self.holdout.features)


@contextmanager
def some_customers(contract: Contract, most: int) -> Iterator[tuple[Path, float]]:
    """Yield the snapshot, or a file with as many of its customers as have about `most` rows; and their share."""
    files = files_of(RAW, scratch())
    with reading(RAW):
        share = min(most / max(sum(map(_rows_of, files)), 1), 1.0)
    if share == 1.0 and files == [RAW]:
        yield RAW, share
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "customers.parquet")
        with reading(RAW), pq.ParquetWriter(path, pq.read_schema(files[0])) as writer:
            refuse_other_types(writer.schema, types_of([contract.customer], contract), RAW)
            for batch in chain.from_iterable(batches_in(pq.ParquetFile(file)) for file in files):
                whose = batch[contract.customer].to_pandas(integer_object_nulls=True)
                some = in_holdout(whose, "some customers", share)
                writer.write_batch(batch.filter(pa.array(some)))
        yield path, share


def _rows_of(file: Path) -> int:
    with file.open("rb") as opened:  # Arrow's own error of a missing file has no name
        return int(pq.read_metadata(opened).num_rows)


def splits_of(runs: int, raw: Path, params: Params, contract: Contract) -> Iterator[Split]:
    """Yield random splits of a snapshot. Raises StageError where it is missing."""
    for run in range(runs):
        salted = params.prepare.model_copy(update={"salt": f"noise {run}"})
        with tempfile.TemporaryDirectory() as folder:
            train, test = Path(folder, "train.parquet"), Path(folder, "test.parquet")
            split_snapshot(raw, salted, contract, (train, test), params.fetch.as_of)
            X, y, _ = read_table(train, contract)
            features, labels, keys = read_table(test, contract)
            customers = read_parquet(train, types_of([contract.customer], contract))[contract.customer].to_pandas()
            predictions = with_groups(pd.DataFrame({contract.key: keys, contract.label: labels}), test, contract)
        outcomes = outcomes_of(predictions, contract)
        holdout = Holdout(features, outcomes, judged_rows(predictions), contract)
        yield Split(X, y, customers, holdout, params)


def measure(params: Params, contract: Contract, runs: int) -> Noise:
    """Train on each split, and return what the models measured."""
    with some_customers(contract, MOST_ROWS) as (raw, share):
        if share < 1:
            rows = pq.read_metadata(raw).num_rows
            print(f"bounds: {rows:,} {contract.unit} are drawn, and their noise is scaled to all", flush=True)
        return _measured(params, contract, runs, (raw, share))


def _measured(params: Params, contract: Contract, runs: int, source: tuple[Path, float]) -> Noise:
    raw, share = source
    drawn: list[tuple[Holdout, Floats]] = []
    pairs: list[tuple[Holdout, Floats, Floats]] = []
    build_model(build_classifier(params.train), contract)  # imports scikit-learn before the clock runs
    started = time.monotonic()
    slices = params.evaluate.slices
    with progress("bounds", runs, "splits") as bar:
        for run, split in enumerate(splits_of(runs, raw, params, contract)):
            if run == 0:
                slices = Slices(columns=_slice_columns(split.holdout), conditions=slices.conditions)
            holdout = split.holdout.of_slices(slices)
            drawn.append((holdout, split.scores(split.X, split.y)))
            if run == 0 and bar.disable:  # elsewhere the bar shows the time that remains
                seconds = (time.monotonic() - started) * (runs + min(PAIRS, runs))
                print(f"bounds: {runs} splits, about {max(seconds / 60, 0.1):.1f} minutes ...", flush=True)
            if run < PAIRS:
                half = in_holdout(split.customers, f"half {run}", 0.5)
                one, other = (split.scores(split.X[rows], split.y[rows]) for rows in (half, ~half))
                pairs.append((holdout, one, other))
            bar.update()
    rate = float(np.median([holdout.outcomes.labels[holdout.judged].mean() for holdout, _ in drawn]))
    # As many customers are predicted to churn as churn, so the threshold fits where churn is rare.
    quantiles = [np.quantile(scores[holdout.judged], 1 - rate) for holdout, scores in drawn]
    update = {"threshold": _rounded_share(float(np.median(quantiles))), "slices": slices}
    evaluate = params.evaluate.model_copy(update=update)
    compared = [compare(holdout.outcomes, one, other, evaluate, holdout.judged) for holdout, one, other in pairs]
    widths = [{name: one.high - one.low for name, one in each.items() if one.high and one.low} for each in compared]
    return Noise(
        [holdout.evaluation(scores, evaluate) for holdout, scores in drawn],
        {name: float(np.median([one[name] for one in widths if name in one] or [0])) / (2 * Z) for name in MARGINS},
        evaluate,
        rate,
        share,
    )


def _slice_columns(holdout: Holdout) -> tuple[str, ...]:
    """Return the columns whose values all have enough customers, those whose churn rates differ most first."""
    spread, features, y = {}, holdout.features[holdout.judged], holdout.outcomes.labels[holdout.judged]
    for name in holdout.contract.features_of("category", "boolean"):
        values = holdout.contract.columns[name].values or (False, True)
        rows = [(features[name] == value).to_numpy(bool) for value in values]
        if len(values) <= SLICE_VALUES and all(one.sum() >= NEVER_EMPTY for one in rows):
            rates = [float(y[one].mean()) for one in rows]
            spread[name] = max(rates) - min(rates)
    return tuple(sorted(spread, key=lambda name: -spread[name])[:SLICE_COLUMNS])


def _rounded_share(value: float) -> float:
    """Return a threshold with two digits, above 0 and below 1."""
    digits = 2 if value >= 0.1 else 2 - ceil(log10(max(value, 1e-6)))
    return min(max(round(value, digits), 10.0**-digits), 0.99)
