"""Evaluates a model's scores on the holdout. evaluate runs it, and the report recomputes it."""

from collections import Counter
from typing import Any

from churn.config.contract import Contract
from churn.config.params import Evaluate
from churn.core.errors import StageError
from churn.evaluation.metrics import Floats, all_metrics, as_json
from churn.evaluation.slices import slice_masks

import numpy as np
import numpy.typing as npt
import pandas as pd


def scores_of(model: Any, features: pd.DataFrame) -> Floats:
    """Return each row's probability of churn, shape (rows,). Raises StageError when it is none, or all are equal."""
    try:
        scores = np.asarray(model.predict_proba(features)[:, 1], dtype=np.float64)
    except Exception as error:  # whatever an estimator makes of the features
        raise StageError(f"the model cannot score the holdout: it raises {type(error).__name__}.") from error
    if len(scores) != len(features):
        raise StageError(f"the model gave {len(scores):,} scores for {len(features):,} rows.")
    # protection: scores are probabilities
    if wrong := int((~((scores >= 0) & (scores <= 1))).sum()):
        raise StageError(f"{wrong:,} of {len(scores):,} scores are no probabilities.")
    # protection: scores differ
    if np.ptp(scores) == 0:
        raise StageError(f"all {len(scores):,} scores are {scores[0]:g}: the model tells no customer from another.")
    return scores


def evaluation_of(
    features: pd.DataFrame, labels: npt.ArrayLike, scores: Floats, params: Evaluate, contract: Contract
) -> dict[str, Any]:
    """Return all metrics and their intervals for all customers and, under `slices`, for each slice by name.

    Labels and scores have the shape (rows,). Beside the metrics stand the numbers of rows, of churners, and of those
    predicted to churn. Raises StageError when the rows have one outcome alone, and for a slice that cannot be made.
    """
    y = np.asarray(labels)
    if not 0 < y.sum() < len(y):
        raise StageError(f"{int(y.sum()):,} of {len(y):,} customers of the holdout churned; metrics need both.")

    def measured(rows: npt.NDArray[np.bool_]) -> dict[str, Any]:
        predicted = int((scores[rows] >= params.threshold).sum())
        counts = {"rows": int(rows.sum()), "churners": int(y[rows].sum()), "predicted": predicted}
        return counts | as_json(all_metrics(y[rows], scores[rows], params.threshold))

    slices = [
        {"name": one.name, "kind": one.kind} | measured(one.rows)
        for one in slice_masks(features, params.slices, contract)
    ]
    if twice := [name for name, count in Counter(part["name"] for part in slices).items() if count > 1]:
        raise StageError(f"params.yaml: evaluate.slices: {twice[0]} is the name of two slices; rename the condition.")
    return measured(np.ones(len(y), dtype=bool)) | {"threshold": params.threshold, "slices": slices}
