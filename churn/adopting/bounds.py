"""Bounds for the gate from the noise of this table: `python -m churn bounds` (`make bounds`); init runs it, too.

The metrics of honest models tell how far a bound must lie, and two models that learned from other customers how wide a
margin must be. Writes the threshold, the columns of slices, the bounds and the margins into params.yaml, each with its
reason, and nothing else.
"""

import argparse
from collections.abc import Iterator, Mapping
from math import ceil, floor, inf, isfinite, log10, sqrt

from churn.adopting.blocks import replace_blocks, scalar
from churn.adopting.noise import MARGINS, NEVER_EMPTY, SPLITS, Noise, measure
from churn.config.contract import load_contract
from churn.config.params import METRICS, SMALLER_IS_BETTER, Evaluate, EverySlice, Gate, load_params
from churn.core.errors import StageError
from churn.core.paths import PARAMS
from churn.gate.rules import LEAST_OUTCOMES, evaluate_slice

import numpy as np

FAR, NEAR = 4, 2.5  # standard deviations from the median: honest models get no further; where FAR is too far for teeth
BOUNDED = ("roc_auc", "accuracy", "average_precision", "recall", "brier_score", "expected_calibration_error")
SLICE_MARGINS = {"roc_auc": 0.02, "recall": 0.1, "brier_score": 0.01}
LEAST_ROWS = 100  # of a slice that is judged
MOST_SLICES = 20  # with bounds: of 424 rules of 212 slices, a new seed broke one
LEAST_SPLITS = 10  # whose standard deviation lies within 45 % of the true one in 19 of 20 cases; of 5, within 67 %
MORE_ROWS = f"raise prepare.holdout_share or prepare.time.holdout_days in {PARAMS}"
Spread = tuple[float, float]  # the median of a metric, and its standard deviation


def settings(noise: Noise, required: Mapping[str, float]) -> dict[str, list[str]]:
    """Return the lines of each block of params.yaml that follows from the noise, by its dotted key."""
    rate, evaluate = noise.churn_rate, noise.evaluate
    # The least number of rows that has LEAST_OUTCOMES churners at the churn rate of all customers, in steps of 50.
    rows = max(LEAST_ROWS, ceil(LEAST_OUTCOMES / rate / 50) * 50)
    every = _every_slice(noise, rows)
    margins = {name: max(least, _upwards(noise.scaled(noise.errors[name]))) for name, least in MARGINS.items()}
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
            *(f"  {name}: {margin:g} # SE {noise.scaled(noise.errors[name]):.4f}" for name, margin in margins.items()),
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
        spread, side = noise.spread(metric), "max" if metric in SMALLER_IS_BETTER else "min"
        stricter, possible = min if side == "max" else max, _possible(metric, noise.evaluate)
        floor_of_noise = _limit(spread, side, FAR, possible)
        trivial = nobody.get(metric)
        if trivial is not None and floor_of_noise is not None and floor_of_noise <= trivial:
            # A bound that predicting nobody passes has no teeth; a nearer one refuses more honest models.
            nearer = _limit(spread, side, NEAR * noise.caution, possible)
            floor_of_noise = nearer if nearer is not None and nearer > trivial else None
            if metric == "roc_auc":
                floor_of_noise = floor_of_noise or trivial
        limits = [one for one in (floor_of_noise, required.get(metric)) if one is not None]
        if not limits:
            yield f"# {metric}: no bound, because a model that predicts nobody to churn has {trivial or 0:.3f}"
            continue
        told = f"; {required[metric]:g} is required" if metric in required else ""
        yield f"{metric}: {{{side}: {stricter(limits):g}}} # {_reason(spread, stricter(limits))}{told}"


def _limit(spread: Spread | None, side: str, far: float, possible: tuple[float, float] = (0.0, 1.0)) -> float | None:
    """Return a possible number so many standard deviations from the median, rounded outwards to their first digit."""
    if not spread:
        return None
    middle, deviation = spread
    step = 10.0 ** floor(log10(deviation))
    outwards = ceil((middle + far * deviation) / step) if side == "max" else floor((middle - far * deviation) / step)
    return min(max(round(outwards * step, 6), possible[0]), possible[1])


def _reason(spread: Spread | None, limit: float) -> str:
    """Return how far a limit lies from what honest models have."""
    if not spread:
        return "no noise was measured"
    middle, deviation = spread
    return f"median {middle:.3f}, SD {deviation:.4f}: {abs(middle - limit) / deviation:.1f} SD away"


def _slices(noise: Noise, rows: int) -> list[str]:
    """Return the bounds on the largest slices that have enough customers, churners and stayers in all splits.

    The holdout may have fewer than the least of them, by two standard deviations: the root of the count at most.
    """
    found: dict[str, tuple[int, list[str]]] = {}
    for name in (one["name"] for one in noise.evaluations[0]["slices"]):
        parts = [next(one for one in each["slices"] if one["name"] == name) for each in noise.evaluations]
        size = min(one.get("customers", one["rows"]) for one in parts)
        if size < rows + 2 * sqrt(rows) or any(
            min(one["churners"], one["rows"] - one["churners"]) < LEAST_OUTCOMES for one in parts
        ):
            continue
        told = []
        for metric in ("roc_auc", "recall"):
            spread = noise.spread(metric, name)
            if limit := _limit(spread, "min", FAR):
                told.append(f"    {metric}: {{min: {limit:g}}} # {_reason(spread, limit)}")
        if told:
            found[name] = size, [f"  {scalar(name)}:", *told]
    if not found:
        return ["slices: {} # none has enough churners in each split to be judged"]
    largest = sorted(found, key=lambda name: -found[name][0])[:MOST_SLICES]
    few = f" # the {MOST_SLICES} largest of {len(found)}; every_slice holds for all" if len(found) > MOST_SLICES else ""
    return [f"slices:{few}", *(line for name in found if name in largest for line in found[name][1])]


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


def _possible(metric: str, evaluate: Evaluate | None = None) -> tuple[float, float]:
    """Return the least and the greatest value that a metric can have."""
    match metric:
        case "profit_per_customer":
            return -inf, inf
        case "log_loss":
            return 0.0, inf
        case "lift_at_capacity":  # all churners are among the contacted customers
            return 0.0, 1 / (evaluate or load_params().evaluate).campaign.capacity
    return 0.0, 1.0


def _too_wide(noise: Noise, gate: Gate) -> Iterator[str]:
    """Yield the margins, by their dotted keys, that are as wide as all that the median model could lose."""
    for name, rules in (("vs_baseline", gate.vs_baseline), ("anchor", gate.anchor)):
        for key, margins in (("margins", rules.margins), ("slice_margins", rules.slice_margins)):
            for metric, margin in margins.items():
                least, most = _possible(metric, noise.evaluate)
                worst = most if metric in SMALLER_IS_BETTER else 0.5 if metric == "roc_auc" else least
                values = noise.values(metric)
                if len(values) and margin >= abs(float(np.median(values)) - worst):
                    yield f"gate.{name}.{key}.{metric}"


def required_metrics(asked: argparse.Namespace) -> dict[str, float]:
    """Return the bounds that are asked for, METRIC=VALUE, by the metric. Raises StageError for any wrong option."""
    if asked.splits < LEAST_SPLITS:
        raise StageError(
            f"--splits {asked.splits}: write {LEAST_SPLITS} or more, because fewer tell the standard deviation badly."
        )
    found = {}
    for one in asked.require:
        name, _, number = one.partition("=")
        try:
            found[name] = float(number)
            if not isfinite(found[name]):
                raise ValueError(number)
        except ValueError as error:
            raise StageError(f"--require {one}: write METRIC=NUMBER, as in --require roc_auc=0.88.") from error
        if name not in METRICS:
            raise StageError(f"--require {one}: {name} is not a metric; evaluate computes {', '.join(METRICS)}.")
        least, most = _possible(name)
        if not least <= found[name] <= most:
            within = f"between {least:g} and {most:g}" if isfinite(most) else f"{least:g} or more"
            raise StageError(f"--require {one}: no model can meet it, because {name} is {within}; write such a number.")
    return found


def write_bounds(splits: int, required: Mapping[str, float]) -> None:
    """Measure, write the settings to params.yaml, and print what the gate now asks for."""
    noise = measure(load_params(), load_contract(), splits)
    replace_blocks(PARAMS, settings(noise, required))
    churners = round(float(np.median([each["churners"] for each in noise.evaluations])) / noise.share)
    gate = load_params().gate
    if churners < LEAST_OUTCOMES:
        print(
            f"bounds: the gate sees little: the holdout has {churners} churners, and a ROC AUC needs {LEAST_OUTCOMES};"
            f" {MORE_ROWS}"
        )
    if wide := list(_too_wide(noise, gate)):
        print(f"bounds: honest models differ so much that no loss is too large for {', '.join(wide)}; {MORE_ROWS}")
    for metric, bound in gate.overall.items():
        side, limit = ("min", bound.min) if bound.min is not None else ("max", bound.max)
        spread = noise.spread(metric)
        told = f"median {spread[0]:.4f}, SD {spread[1]:.4f}" if spread else "no noise was measured"
        print(f"bounds: {metric:27}{side} {limit:<8g} {told}")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of bounds, which init has, too."""
    parser.add_argument(
        "--require",
        action="append",
        default=[],
        metavar="METRIC=VALUE",
        help="a bound for all customers that is no looser, as roc_auc=0.88; may be repeated",
    )
    parser.add_argument(
        "--splits",
        type=int,
        default=SPLITS,
        help=f"random splits to train on, {LEAST_SPLITS} or more (default: %(default)s)",
    )


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
    write_bounds(asked.splits, required_metrics(asked))
    print(f"bounds: {PARAMS} has the bounds, each with its reason; review it, then `dvc repro`")
