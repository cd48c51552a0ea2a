"""evaluate: how good the model is on the holdout, for all customers and for each slice of them.

In: the model and the test table. Out: metrics/evaluation.json, plots/*.csv, and a score for every row of the
holdout in data/predictions/test.parquet. Fails when a score is missing, not finite or no probability, when all
are equal, and when the holdout has one outcome alone.
"""

from collections import Counter
from typing import Any

from churn.contract import load_contract
from churn.curves import curves
from churn.metrics import Floats, all_metrics, as_json, roc_auc
from churn.model import load_model, read_table
from churn.params import load_params
from churn.slices import slice_masks
from churn.stage import (
    EVALUATION,
    MODEL,
    PLOTS,
    PREDICTIONS,
    TEST,
    StageError,
    replacing,
    run,
    sha256_of,
    working,
    write_json,
)

import numpy as np
import numpy.typing as npt
import pandas as pd

IMPORTANCE_ROWS = 2_000
IMPORTANCE_REPEATS = 3


def scores_of(model: Any, features: pd.DataFrame) -> Floats:
    """Return each row's probability of churn, shape (rows,). Raises StageError when it is none, or all are equal."""
    try:
        scores = np.asarray(model.predict_proba(features)[:, 1], dtype=np.float64)
    except ValueError as error:
        raise StageError(f"the model cannot score the holdout: {' '.join(str(error).split())}") from error
    if len(scores) != len(features):
        raise StageError(f"the model gave {len(scores):,} scores for {len(features):,} rows.")
    if wrong := int((~((scores >= 0) & (scores <= 1))).sum()):
        raise StageError(f"{wrong:,} of {len(scores):,} scores are no probabilities.")
    if np.ptp(scores) == 0:
        raise StageError(f"all {len(scores):,} scores are {scores[0]:g}: the model tells no customer from another.")
    return scores


def permutation_importance(model: Any, features: pd.DataFrame, labels: pd.Series) -> pd.DataFrame:
    """Return by how much the ROC AUC falls when a feature's values change places (Breiman 2001), greatest first.

    The mean over IMPORTANCE_REPEATS permutations of at most IMPORTANCE_ROWS rows. Unlike scikit-learn's own, the
    model is called once a feature, not once a permutation: a call costs more than the rows in it.
    """
    random = np.random.default_rng(0)
    rows = np.sort(random.permutation(len(features))[:IMPORTANCE_ROWS])
    frame, y = features.iloc[rows].reset_index(drop=True), labels.to_numpy(np.float64)[rows]
    order = np.concatenate([random.permutation(len(frame)) for _ in range(IMPORTANCE_REPEATS)])
    repeated = pd.concat([frame] * IMPORTANCE_REPEATS, ignore_index=True)

    def area(scores: Floats) -> float:
        value = roc_auc(y, scores).value
        return np.nan if value is None else value

    base, falls = area(model.predict_proba(frame)[:, 1]), {}
    for name in frame.columns:
        permuted = repeated.assign(**{name: frame[name].take(order).set_axis(repeated.index)})
        scores = model.predict_proba(permuted)[:, 1].reshape(IMPORTANCE_REPEATS, -1)
        falls[name] = base - float(np.mean([area(part) for part in scores]))
    return pd.DataFrame({"feature": list(falls), "fall_in_roc_auc": list(falls.values())}).sort_values(
        ["fall_in_roc_auc", "feature"], ascending=[False, True]
    )


def main() -> None:
    """Score the holdout, measure, and write it all."""
    params, contract = load_params().evaluate, load_contract()
    model = load_model(MODEL)
    features, labels, keys = read_table(TEST, contract)
    with working("evaluate: scoring"):
        scores = scores_of(model, features)
    with replacing(PREDICTIONS) as beside:
        predictions = pd.DataFrame({contract.key: keys, contract.label: labels, "score": scores})
        predictions.to_parquet(beside, index=False, compression="zstd")
    y = labels.to_numpy()
    if not 0 < y.sum() < len(y):
        raise StageError(f"{int(y.sum()):,} of {len(y):,} customers in {TEST} churned: the metrics need both outcomes.")

    def measured(rows: npt.NDArray[np.bool_]) -> dict[str, Any]:
        counts = {"rows": int(rows.sum()), "churners": int(y[rows].sum())}
        return counts | as_json(all_metrics(y[rows], scores[rows], params.threshold))

    with working("evaluate: measuring"):
        slices = [{"name": name} | measured(rows) for name, rows in slice_masks(features, params.slices, contract)]
    if twice := [name for name, count in Counter(part["name"] for part in slices).items() if count > 1]:
        raise StageError(f"params.yaml: evaluate.slices: {twice[0]} is the name of two slices; rename the condition.")
    inputs = [[str(path), sha256_of(path)] for path in (MODEL, TEST)]
    overall = measured(np.ones(len(y), dtype=bool))
    write_json(EVALUATION, overall | {"threshold": params.threshold, "inputs": inputs, "slices": slices})
    with working("evaluate: drawing"):
        tables = curves(y, scores, params.threshold) | {"importance": permutation_importance(model, features, labels)}
    for name, table in tables.items():
        with replacing(PLOTS / f"{name}.csv") as beside:
            table.to_csv(beside, index=False, float_format="%.6f", lineterminator="\n")
    for name, interval in overall["intervals"].items():
        value, low, high = ("none" if x is None else f"{x:.4f}" for x in (overall[name], *interval))
        print(f"evaluate: {name:27}{value:>6}  ({low} to {high})")
    print(f"evaluate: {len(y):,} customers, {len(slices)} slices, threshold {params.threshold:g}")


if __name__ == "__main__":
    run(main)
