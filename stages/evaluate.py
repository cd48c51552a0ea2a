"""evaluate: how good the model is on the holdout, for all customers and for each slice of them.

Where rows have a day, the model is judged on those later than its training, and measured on the others beside them.

In: the model, the test table, and the digest of its keys that prepare took. Out: metrics/evaluation.json,
plots/*.csv, and a score for every row of the holdout in data/predictions/test.parquet. Fails when the model is not
the file that train wrote, when the holdout is not the one that prepare made or has one outcome alone, when a score
is missing, not finite or not a probability, and when all are equal.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from churn.core.start import start_up

    start_up("scipy.special")  # for `churn.modeling.model`, which reads or writes the model

from churn.config.check import checked_settings
from churn.config.contract import Contract
from churn.config.memory import refuse_large_holdout
from churn.config.params import Params
from churn.core.cluster import connected, scratch
from churn.core.errors import StageError
from churn.core.files import replacing, sha256_of, write_json
from churn.core.partitions import local_file, partitions_of
from churn.core.paths import EVALUATION, MODEL, PLOTS, PREDICTIONS, ROWS, TEST
from churn.core.results import read_result
from churn.core.runner import run
from churn.core.terminal import working
from churn.data.conditions import condition_faults
from churn.data.periods import train_until
from churn.data.split import digest_of, key_lines
from churn.evaluation.curves import curves
from churn.evaluation.holdout import EARLIER, evaluation_of, judged_rows, outcomes_of, scores_of, with_groups
from churn.evaluation.metrics import Floats, roc_auc
from churn.evaluation.partitioned import (
    count_partitions,
    entries_of,
    evaluation_of_counts,
    score_partitions,
    weights_of,
)
from churn.modeling.model import load_model, read_table

import numpy as np
import numpy.typing as npt
import pandas as pd

IMPORTANCE_ROWS = 2_000
IMPORTANCE_OUTCOMES = 50  # of these rows with either outcome, if the holdout has so many
IMPORTANCE_REPEATS = 3
IMPORTANCE_SCORED = 600_000  # rows for the model: each of more than 100 features is permuted in fewer rows
IMPORTANCE_CELLS = 4_000_000  # values in a table for the model: about 32 MB


def refuse_another_holdout(keys: pd.Series, counts: Mapping[str, Any]) -> None:
    """Raise StageError unless `keys` are those that prepare put into the holdout, by the digest in its row counts."""
    refuse_another_digest(hashlib.sha256(key_lines(keys)).hexdigest(), len(keys), counts)


def refuse_another_digest(digest: str, rows: int, counts: Mapping[str, Any]) -> None:
    """Raise StageError unless the `digest` of the holdout's keys is that of the row counts."""
    # protection: the holdout is the one that prepare made
    if [digest] != counts.get("holdout_sha256"):
        raise StageError(
            f"{TEST} does not hold the customers that prepare put into the holdout: {rows:,} are there, and {ROWS}"
            f" is about {counts.get('test')}; run `dvc repro --force --single-item prepare`."
        )


def encoded(model: Any, frame: pd.DataFrame) -> tuple[Callable[[pd.DataFrame], Floats], pd.DataFrame]:
    """Return the scores of a frame as a function, and the frame: encoded, if that gives one number for each feature.

    The encoding takes nearly all the time of scoring a thousand features, and has to be done once.
    """
    if hasattr(model, "steps") and hasattr(model[0], "transformers_"):
        numbers = np.asarray(model[:-1].transform(frame))
        names = [name for _, _, columns in model[0].transformers_ for name in columns]
        if numbers.shape[1] == len(names) == frame.shape[1]:
            return lambda some: model[-1].predict_proba(some.to_numpy())[:, 1], pd.DataFrame(numbers, columns=names)
    return lambda some: model.predict_proba(some)[:, 1], frame


def distinct(rows: npt.NDArray[np.intp], values: pd.Series) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return where each pair of a row and a value is first, and the number of each pair's first among these."""
    codes, known = pd.factorize(values)
    _, first, number = np.unique(rows * (len(known) + 1) + codes, return_index=True, return_inverse=True)
    return first, number


def permutation_importance(model: Any, features: pd.DataFrame, labels: pd.Series) -> pd.DataFrame:
    """Return by how much the ROC AUC falls when a feature's values change places (Breiman 2001), greatest first.

    The mean over IMPORTANCE_REPEATS permutations of at most IMPORTANCE_ROWS rows. Unlike scikit-learn's own, the model
    sees only the rows that got another value, each with a value once, and of many features at once.
    """
    random = np.random.default_rng(0)
    most = min(IMPORTANCE_ROWS, IMPORTANCE_SCORED // (IMPORTANCE_REPEATS * features.shape[1]))
    drawn, y = random.permutation(len(features)), labels.to_numpy(np.float64)
    number = np.where(y[drawn] == 1, np.cumsum(y[drawn] == 1), np.cumsum(y[drawn] == 0))  # of its outcome
    drawn = drawn[np.argsort(number > min(IMPORTANCE_OUTCOMES, most // 2), kind="stable")]  # a ROC AUC needs both
    rows = np.sort(drawn[:most])
    frame, y = features.iloc[rows].reset_index(drop=True), y[rows]
    scores_of_frame, frame = encoded(model, frame)
    order = np.concatenate([random.permutation(len(frame)) for _ in range(IMPORTANCE_REPEATS)])
    repeated = pd.concat([frame] * IMPORTANCE_REPEATS, ignore_index=True)

    def area(scores: Floats) -> float:
        value = roc_auc(y, scores).value
        return np.nan if value is None else value

    unpermuted = scores_of_frame(frame)
    base, falls = area(unpermuted), {}
    together = max(1, IMPORTANCE_CELLS // repeated.size)
    for start in range(0, frame.shape[1], together):
        names = list(frame.columns[start : start + together])
        permuted = frame[names].take(order).set_axis(repeated.index)
        others = {name: np.flatnonzero(permuted[name] != repeated[name]) for name in names}
        pairs = {name: distinct(other % len(frame), permuted[name].iloc[other]) for name, other in others.items()}
        firsts = {name: others[name][first] for name, (first, _) in pairs.items()}
        changed = pd.concat(
            [repeated.iloc[some].assign(**{name: permuted[name].iloc[some]}) for name, some in firsts.items()]
        )
        given = scores_of_frame(changed) if len(changed) else np.empty(0)
        parts = np.split(given, np.cumsum([len(some) for some in firsts.values()])[:-1])
        for (name, other), part in zip(others.items(), parts, strict=True):
            scores = np.tile(unpermuted, IMPORTANCE_REPEATS)
            scores[other] = part[pairs[name][1]]
            falls[name] = base - float(np.mean([area(one) for one in scores.reshape(IMPORTANCE_REPEATS, -1)]))
    return pd.DataFrame({"feature": list(falls), "fall_in_roc_auc": list(falls.values())}).sort_values(
        ["fall_in_roc_auc", "feature"], ascending=[False, True]
    )


def print_metrics(measured: Mapping[str, Any], rows: int, contract: Contract) -> None:
    """Print a line for each metric, and what was measured."""
    for name in measured["intervals"]:
        day = measured.get("train_until")
        beside = f"  until {day}: {_shown(measured[EARLIER], name)}" if day else ""
        print(f"evaluate: {name:27}{_shown(measured, name)}{beside}")
    slices, threshold = len(measured["slices"]), measured["threshold"]
    print(f"evaluate: {rows:,} {contract.unit}, {slices} slices, threshold {threshold:g}, 95 % intervals")


def _shown(measured: Mapping[str, Any], name: str) -> str:
    value, low, high = ("none" if x is None else f"{x:.4f}" for x in (measured[name], *measured["intervals"][name]))
    return f"{value:>6}  ({low} to {high})"


def write_plots(tables: Mapping[str, pd.DataFrame]) -> None:
    """Write the data of the plots."""
    for name, table in tables.items():
        with replacing(PLOTS / f"{name}.csv") as tmp:
            table.to_csv(tmp, index=False, float_format="%.6f", lineterminator="\n")


def first_judged(table: Path, contract: Contract) -> tuple[pd.DataFrame, pd.Series]:
    """Return features and labels of the rows by which the model is judged, of as few partitions as have both outcomes.

    The customers of a partition are there at random, by their hash.
    """
    found: list[tuple[pd.DataFrame, pd.Series]] = []
    for path in (local_file(one, scratch()) for one in partitions_of(table)):
        features, labels, keys = read_table(path, contract)
        judged = judged_rows(with_groups(pd.DataFrame({contract.key: keys}), path, contract))
        found.append((features[judged], labels[judged]))
        if len(set().union(*(some for _, some in found))) > 1:
            break
    features, labels = (pd.concat(some, ignore_index=True) for some in zip(*found, strict=True))
    return features, labels


def main_on_partitions(settings: Params, contract: Contract) -> None:
    """Score and measure the partitions of the holdout on Dask's workers; see churn/evaluation/partitioned.py."""
    params, compute = settings.evaluate, settings.compute
    model = load_model(MODEL)
    with connected(compute) as cluster:
        with replacing(PREDICTIONS) as tmp, working("evaluate: scoring"):
            scored = score_partitions(cluster, MODEL.read_bytes(), contract, compute.storage, (TEST, tmp))
            rows = sum(one.partition.rows for one in scored)
            refuse_another_digest(digest_of([one.digest for one in scored]), rows, read_result(ROWS))
        with working("evaluate: measuring"):
            counted = count_partitions(cluster, scored, (TEST, PREDICTIONS), params, contract)
    measured = evaluation_of_counts(counted, params)
    until = train_until(local_file(partitions_of(TEST)[0], scratch())) if contract.time else None
    measured |= {"train_until": str(until)} if until else {}
    write_json(EVALUATION, measured | {"inputs": [[str(path), sha256_of(path)] for path in (MODEL, TEST)]})
    given, scores, _ = entries_of(counted.judged)
    importance = {"importance": permutation_importance(model, *first_judged(TEST, contract))}
    write_plots(curves(given.labels, scores, params.threshold, weights_of(given)) | importance)
    print_metrics(measured, round(weights_of(given).sum()), contract)


def main() -> None:
    """Score the holdout, measure, and write it all."""
    settings, contract = checked_settings(condition_faults)
    if settings.compute.engine == "dask":
        main_on_partitions(settings, contract)
        return
    params, counts = settings.evaluate, read_result(ROWS)
    refuse_large_holdout(settings, contract, counts["test"])
    model = load_model(MODEL)
    features, labels, keys = read_table(TEST, contract)
    refuse_another_holdout(keys, counts)
    with working("evaluate: scoring"):
        scores = scores_of(model, features)
    with replacing(PREDICTIONS) as tmp:
        predictions = pd.DataFrame({contract.key: keys, contract.label: labels, "score": scores})
        predictions = with_groups(predictions, TEST, contract)
        predictions.to_parquet(tmp, index=False, compression="zstd")
    with working("evaluate: measuring"):
        outcomes, judged = outcomes_of(predictions, contract), judged_rows(predictions)
        measured = evaluation_of(features, outcomes, scores, params, contract)
    day = train_until(TEST) if contract.time else None
    until = {"train_until": str(day)} if day else {}
    inputs = [[str(path), sha256_of(path)] for path in (MODEL, TEST)]
    write_json(EVALUATION, measured | until | {"inputs": inputs})
    if day:
        features, labels, scores = features[judged], labels[judged], scores[judged]
    with working("evaluate: drawing"):
        tables = curves(labels.to_numpy(), scores, params.threshold) | {
            "importance": permutation_importance(model, features, labels)
        }
    write_plots(tables)
    print_metrics(measured | until, len(labels), contract)


if __name__ == "__main__":
    run(main)
