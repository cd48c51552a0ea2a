"""Bounds for the gate from the noise of this table: `python -m churn bounds` (`make bounds`); init runs it, too.

Trains the model of params.yaml on SPLITS random splits of the snapshot, as prepare makes them, and on the halves of
PAIRS training tables. The metrics of these honest models tell how far a bound must lie, and two models that learned
from other customers how wide a margin must be; docs/gate.md has the statistics. Writes the threshold, the columns of
slices, the bounds and the margins into params.yaml, each with its reason, and nothing else.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor, log10
from pathlib import Path
from typing import Any

from churn.adopting.blocks import replace_blocks, scalar
from churn.config.contract import Contract, load_contract
from churn.config.params import METRICS, SMALLER_IS_BETTER, Evaluate, EverySlice, Params, Slices, load_params
from churn.core.errors import StageError
from churn.core.paths import PARAMS, RAW
from churn.core.terminal import progress
from churn.data.split import in_holdout
from churn.data.splitting import split as prepare
from churn.evaluation.holdout import evaluation_of, judged_rows, outcomes_of, scores_of, with_groups
from churn.evaluation.metrics import Floats, Outcomes, Z
from churn.evaluation.paired import compare
from churn.gate.rules import LEAST_OUTCOMES, evaluate_slice
from churn.modeling.model import read_parquet, read_table
from stages.train import build_classifier, build_model, fit

import numpy as np
import numpy.typing as npt
import pandas as pd

Flags = npt.NDArray[np.bool_]  # of each customer
SPLITS, PAIRS = 30, 10
FAR, NEAR = 4, 2.5  # standard deviations from the median: honest models get no further; where FAR is too far for teeth
BOUNDED = ("roc_auc", "accuracy", "average_precision", "recall", "brier_score", "expected_calibration_error")
MARGINS = {
    "roc_auc": 0.005,
    "average_precision": 0.015,
    "lift_at_capacity": 0.2,
    "accuracy": 0.01,
    "brier_score": 0.003,
}
SLICE_MARGINS = {"roc_auc": 0.02, "recall": 0.1, "brier_score": 0.01}
SLICE_COLUMNS, SLICE_VALUES = 4, 10  # columns with slices, and the values that one of them may have
LEAST_ROWS = 100  # of a slice that is judged
NEVER_EMPTY = 40  # customers of a value that the holdout is expected to have, so that the slice is in each


@dataclass(frozen=True)
class Noise:
    """What honest models measured: the evaluation of each split, and the standard errors of pairs by metric."""

    evaluations: Sequence[Mapping[str, Any]]
    errors: Mapping[str, float]
    evaluate: Evaluate
    churn_rate: float

    def values(self, metric: str, scope: str | None = None) -> Floats:
        """Return a metric of all customers or of a slice on each split, without those that do not define it."""
        parts = [
            next((one for one in each["slices"] if one["name"] == scope), {}) if scope else each
            for each in self.evaluations
        ]
        return np.array([one[metric] for one in parts if one.get(metric) is not None])


@dataclass(frozen=True)
class Split:
    """Both tables as prepare makes them with another salt: what a model learns from, and what it is measured on."""

    X: pd.DataFrame
    y: pd.Series
    customers: pd.Series
    features: pd.DataFrame
    outcomes: Outcomes
    judged: Flags
    params: Params
    contract: Contract

    def scores(self, X: pd.DataFrame, y: pd.Series) -> Floats:
        """Train the model of params.yaml, and return its scores of the holdout."""
        model = build_model(build_classifier(self.params.train), self.contract)
        return scores_of(fit(model, X, y, len(X)), self.features)

    def evaluation(self, scores: Floats, evaluate: Evaluate) -> dict[str, Any]:
        """Return what evaluate would write of the holdout."""
        return evaluation_of(self.features, self.outcomes, scores, evaluate, self.contract)


def splits_of(runs: int, params: Params, contract: Contract) -> Iterator[Split]:
    """Yield random splits of the snapshot. Raises StageError where it is missing."""
    for run in range(runs):
        salted = params.prepare.model_copy(update={"salt": f"noise {run}"})
        with tempfile.TemporaryDirectory() as folder:
            train, test = Path(folder, "train.parquet"), Path(folder, "test.parquet")
            prepare(RAW, salted, contract, (train, test), params.fetch.as_of)
            X, y, _ = read_table(train, contract)
            features, labels, keys = read_table(test, contract)
            customers = read_parquet(train, contract.customer)[contract.customer].to_pandas()
            predictions = with_groups(pd.DataFrame({contract.key: keys, contract.label: labels}), test, contract)
        outcomes = outcomes_of(predictions, contract)
        yield Split(X, y, customers, features, outcomes, judged_rows(predictions), params, contract)


def measure(params: Params, contract: Contract, runs: int) -> Noise:
    """Train on each split, and return what the models measured."""
    drawn: list[tuple[Split, Floats]] = []
    pairs: list[tuple[Split, Floats, Floats]] = []
    build_model(build_classifier(params.train), contract)  # imports scikit-learn before the clock runs
    started = time.monotonic()
    with progress("bounds", runs, "splits") as bar:
        for run, split in enumerate(splits_of(runs, params, contract)):
            light = replace(split, X=split.X[:0], y=split.y[:0], customers=split.customers[:0])
            drawn.append((light, split.scores(split.X, split.y)))
            if run == 0 and bar.disable:  # elsewhere the bar shows the time that remains
                seconds = (time.monotonic() - started) * (runs + min(PAIRS, runs))
                print(f"bounds: {runs} splits, about {max(seconds / 60, 0.1):.1f} minutes ...", flush=True)
            if run < PAIRS:
                half = in_holdout(split.customers, f"half {run}", 0.5)
                one, other = (split.scores(split.X[rows], split.y[rows]) for rows in (half, ~half))
                pairs.append((light, one, other))
            bar.update()
    rate = float(np.median([split.outcomes.labels[split.judged].mean() for split, _ in drawn]))
    # As many customers are predicted to churn as churn, so the threshold fits where churn is rare.
    quantiles = [np.quantile(scores[split.judged], 1 - rate) for split, scores in drawn]
    slices = Slices(columns=_slice_columns(drawn[0][0]), conditions=params.evaluate.slices.conditions)
    update = {"threshold": _rounded_share(float(np.median(quantiles))), "slices": slices}
    evaluate = params.evaluate.model_copy(update=update)
    compared = [compare(split.outcomes, one, other, evaluate, split.judged) for split, one, other in pairs]
    widths = [{name: one.high - one.low for name, one in each.items() if one.high and one.low} for each in compared]
    return Noise(
        [split.evaluation(scores, evaluate) for split, scores in drawn],
        {name: float(np.median([one[name] for one in widths if name in one] or [0])) / (2 * Z) for name in MARGINS},
        evaluate,
        rate,
    )


def _slice_columns(split: Split) -> tuple[str, ...]:
    """Return the columns whose values all have enough customers, those whose churn rates differ most first."""
    spread, features, y = {}, split.features[split.judged], split.outcomes.labels[split.judged]
    for name in split.contract.features_of("category", "boolean"):
        values = split.contract.columns[name].values or (False, True)
        rows = [(features[name] == value).to_numpy(bool) for value in values]
        if len(values) <= SLICE_VALUES and all(one.sum() >= NEVER_EMPTY for one in rows):
            rates = [float(y[one].mean()) for one in rows]
            spread[name] = max(rates) - min(rates)
    return tuple(sorted(spread, key=lambda name: -spread[name])[:SLICE_COLUMNS])


def _rounded_share(value: float) -> float:
    """Return a threshold with two digits, above 0 and below 1."""
    digits = 2 if value >= 0.1 else 2 - ceil(log10(max(value, 1e-6)))
    return min(max(round(value, digits), 10.0**-digits), 0.99)


def settings(noise: Noise, required: Mapping[str, float]) -> dict[str, list[str]]:
    """Return the lines of each block of params.yaml that follows from the noise, by its dotted key."""
    rate, evaluate = noise.churn_rate, noise.evaluate
    # The least number of rows that has LEAST_OUTCOMES churners at the churn rate of all customers, in steps of 50.
    rows = max(LEAST_ROWS, ceil(LEAST_OUTCOMES / rate / 50) * 50)
    every = _every_slice(noise, rows)
    margins = {name: max(least, _upwards(noise.errors[name])) for name, least in MARGINS.items()}
    times = margins["roc_auc"] / MARGINS["roc_auc"]
    slice_margins = {name: _digits(least * times) for name, least in SLICE_MARGINS.items()}
    gain = {
        name: _digits(4 * margins["roc_auc"] if name == "roc_auc" else 10 / 3 * margins[name])
        for name in ("roc_auc", "average_precision")
    }
    threshold = f"threshold: {evaluate.threshold} # so many customers are predicted to churn as churn, {rate:.1%}"
    columns = f"columns: [{', '.join(map(scalar, evaluate.slices.columns))}]"
    return {
        "evaluate.threshold": [threshold],
        "evaluate.slices.columns": [f"{columns} # each value has {NEVER_EMPTY} customers of the holdout or more"],
        "gate.overall": ["overall:", *(f"  {line}" for line in _overall(noise, required))],
        "gate.min_slice_rows": [
            f"min_slice_rows: {rows} # a smaller or missing slice fails its rules; at {rate:.1%} so many have"
            f" {LEAST_OUTCOMES} churners"
        ],
        "gate.slices": _slices(noise, rows),
        "gate.every_slice": [
            "every_slice: # the favourable end of the 95 % interval is compared; a slice that vanished fails"
        ]
        + [f"  {line}" for line in every],
        "gate.vs_baseline.margins": [
            "margins: # at least the standard error (SE) of two models that learned from disjoint halves",
            *(f"  {name}: {margin:g} # SE {noise.errors[name]:.4f}" for name, margin in margins.items()),
        ],
        "gate.vs_baseline.slice_margins": [f"slice_margins: {_mapping(slice_margins)}"],
        "gate.vs_baseline.max_gain": [f"max_gain: {_mapping(gain)} # a larger gain suggests leakage"],
        "gate.anchor.margins": [f"margins: {_mapping({name: _digits(2 * one) for name, one in margins.items()})}"],
        "gate.anchor.slice_margins": [
            f"slice_margins: {_mapping({name: _digits(2 * one) for name, one in slice_margins.items()})}"
        ],
        "gate.anchor.max_gain": [f"max_gain: {_mapping({name: _digits(1.5 * one) for name, one in gain.items()})}"],
    }


def _overall(noise: Noise, required: Mapping[str, float]) -> Iterator[str]:
    """Yield the stricter of the noise's bound and what is required for each metric, or why there is none."""
    nobody = {"accuracy": 1 - noise.churn_rate, "average_precision": noise.churn_rate, "recall": 0.0, "roc_auc": 0.5}
    for metric in [*BOUNDED, *(name for name in required if name not in BOUNDED)]:
        values, side = noise.values(metric), "max" if metric in SMALLER_IS_BETTER else "min"
        stricter = min if side == "max" else max
        floor_of_noise = _limit(values, side, FAR)
        trivial = nobody.get(metric)
        if trivial is not None and floor_of_noise is not None and floor_of_noise <= trivial:
            # A bound that predicting nobody passes has no teeth; a nearer one refuses more honest models.
            nearer = _limit(values, side, NEAR)
            floor_of_noise = nearer if nearer is not None and nearer > trivial else None
            if metric == "roc_auc":
                floor_of_noise = floor_of_noise or trivial
        limits = [one for one in (floor_of_noise, required.get(metric)) if one is not None]
        if not limits:
            yield f"# {metric}: no bound, because a model that predicts nobody to churn has {trivial or 0:.3f}"
            continue
        told = f"; {required[metric]:g} is required" if metric in required else ""
        yield f"{metric}: {{{side}: {stricter(limits):g}}} # {_reason(values, stricter(limits))}{told}"


def _limit(values: Floats, side: str, far: float) -> float | None:
    """Return a number so many standard deviations from the median, rounded outwards to the deviation's first digit."""
    if len(values) < 2 or not (deviation := float(np.std(values, ddof=1))):
        return None
    middle, step = float(np.median(values)), 10.0 ** floor(log10(deviation))
    outwards = ceil((middle + far * deviation) / step) if side == "max" else floor((middle - far * deviation) / step)
    return min(max(round(outwards * step, 6), 0.0), 1.0)


def _reason(values: Floats, limit: float) -> str:
    """Return how far a limit lies from what honest models have."""
    middle, deviation = float(np.median(values)), float(np.std(values, ddof=1))
    return f"median {middle:.3f}, SD {deviation:.4f}: {abs(middle - limit) / max(deviation, 1e-9):.1f} SD away"


def _slices(noise: Noise, rows: int) -> list[str]:
    """Return the bounds on each slice that has enough customers, churners and stayers in all splits."""
    lines = []
    for name in (one["name"] for one in noise.evaluations[0]["slices"]):
        parts = [next(one for one in each["slices"] if one["name"] == name) for each in noise.evaluations]
        if min(one.get("customers", one["rows"]) for one in parts) < rows or any(
            min(one["churners"], one["rows"] - one["churners"]) < LEAST_OUTCOMES for one in parts
        ):
            continue
        told = []
        for metric in ("roc_auc", "recall"):
            values = noise.values(metric, name)
            if limit := _limit(values, "min", FAR):
                told.append(f"    {metric}: {{min: {limit:g}}} # {_reason(values, limit)}")
        lines += [f"  {scalar(name)}:", *told] if told else []
    return ["slices:", *lines] if lines else ["slices: {} # none has enough churners in each split to be judged"]


def _every_slice(noise: Noise, rows: int) -> Iterator[str]:
    """Yield the rules for every slice: the sample's, or wider ones where an honest model came near them."""
    loose = EverySlice(max_roc_auc_gap=0.99, calibration_error=0.99, predicted_to_actual_ratio=0.001)
    worst = {"roc_auc": 0.0, "expected_calibration_error": 0.0, "predicted_to_actual_ratio": 1.0}
    for each in noise.evaluations:
        for part in each["slices"]:
            for one in evaluate_slice(part, each, loose, rows):
                if one.value is None or one.kind != "every_slice":
                    continue
                gap = one.value if one.metric != "roc_auc" else (each["roc_auc"] or 1) - one.value
                nearer = min if one.metric == "predicted_to_actual_ratio" else max
                worst[one.metric] = nearer(worst[one.metric], gap)
    gap, error, ratio = worst.values()
    yield f"max_roc_auc_gap: {min(max(0.2, ceil(gap * 30) / 20), 0.95):g} # honest models: {gap:.2f} at most"
    yield f"calibration_error: {min(max(0.05, ceil(error * 150) / 100), 0.95):g} # honest models: {error:.3f} at most"
    least = max(min(0.4, floor(ratio / 1.5 * 20) / 20), 0.01)
    yield f"predicted_to_actual_ratio: {least:g} # honest models: {ratio:.2f} at least, where churn is above average"


def _upwards(value: float) -> float:
    """Return a number rounded up to its first digit."""
    step = 10.0 ** floor(log10(value)) if value > 0 else 1.0
    return _digits(ceil(round(value / step, 9)) * step)


def _digits(value: float) -> float:
    return float(f"{value:.2g}")


def _mapping(values: Mapping[str, float]) -> str:
    return "{" + ", ".join(f"{name}: {value:g}" for name, value in values.items()) + "}"


def required_metrics(given: Sequence[str]) -> dict[str, float]:
    """Return the bounds that are asked for, METRIC=VALUE, by the metric. Raises StageError."""
    found = {}
    for one in given:
        name, _, number = one.partition("=")
        try:
            found[name] = float(number)
        except ValueError as error:
            raise StageError(f"--require {one}: write METRIC=NUMBER, as in --require roc_auc=0.88.") from error
        if name not in METRICS:
            raise StageError(f"--require {one}: {name} is not a metric; evaluate computes {', '.join(METRICS)}.")
    return found


def write_bounds(splits: int, required: Mapping[str, float]) -> None:
    """Measure, write the settings to params.yaml, and print what the gate now asks for."""
    noise = measure(load_params(), load_contract(), splits)
    replace_blocks(PARAMS, settings(noise, required))
    churners = int(np.median([each["churners"] for each in noise.evaluations]))
    if churners < LEAST_OUTCOMES:
        print(
            f"bounds: the gate sees little: the holdout has {churners} churners, and a ROC AUC needs {LEAST_OUTCOMES};"
            f" raise prepare.holdout_share or prepare.time.holdout_days in {PARAMS}"
        )
    bounds = load_params().gate.overall
    for metric, bound in bounds.items():
        values, limit = noise.values(metric), bound.min if bound.min is not None else bound.max
        side = "min" if bound.min is not None else "max"
        print(f"bounds: {metric:27}{side} {limit:<8g} median {np.median(values):.4f}, SD {np.std(values, ddof=1):.4f}")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of bounds, which init has, too."""
    parser.add_argument(
        "--require",
        action="append",
        default=[],
        metavar="METRIC=VALUE",
        help="a bound for all customers that is no looser, as roc_auc=0.88; may be repeated",
    )
    parser.add_argument("--splits", type=int, default=SPLITS, help="random splits to train on (default: %(default)s)")


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m churn bounds",
        description="Measure the noise of the prepared customers, and write the gate's bounds.",
    )
    add_options(parser)
    return parser


def main(asked: argparse.Namespace) -> None:
    """Write the bounds into params.yaml."""
    if asked.splits < 2:
        raise StageError("--splits: two or more splits have a standard deviation.")
    write_bounds(asked.splits, required_metrics(asked.require))
    print(f"bounds: {PARAMS} has the bounds, each with its reason; review it, then `dvc repro`")
