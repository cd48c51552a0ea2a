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

FEW_PREDICTED = 0.1  # of the churners: below it, the threshold does not fit the churn rate


def scores_of(model: Any, features: pd.DataFrame) -> Floats:
    """Return the model's probability of churn for each row.

    Parameters
    ----------
    model : classifier
        With `predict_proba`, as `churn.modeling.model.load_model` returns it.
    features : pandas.DataFrame, shape (rows, features)
        As `churn.modeling.model.model_frame` returns it.

    Returns
    -------
    numpy.ndarray of float64, shape (rows,)
        Each in [0, 1].

    Raises
    ------
    StageError
        When the model fails, when a score is not a probability, and when all scores are equal.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> months = pd.DataFrame({"tenure_months": [1, 2, 60, 70]})
    >>> scores_of(LogisticRegression().fit(months, [1, 1, 0, 0]), months).round(2)
    array([1., 1., 0., 0.])
    """
    try:
        scores = np.asarray(model.predict_proba(features)[:, 1], dtype=np.float64)
    except Exception as error:  # whatever an estimator makes of the features
        raise StageError(f"the model cannot score the holdout: it raises {type(error).__name__}.") from error
    if len(scores) != len(features):
        raise StageError(f"the model gave {len(scores):,} scores for {len(features):,} rows.")
    # protection: scores are probabilities
    if wrong := int((~((scores >= 0) & (scores <= 1))).sum()):
        raise StageError(f"{wrong:,} of {len(scores):,} scores are not probabilities.")
    # protection: scores differ
    if np.ptp(scores) == 0:
        raise StageError(f"all {len(scores):,} scores are {scores[0]:g}: the model tells no customer from another.")
    return scores


def evaluation_of(
    features: pd.DataFrame, labels: npt.ArrayLike, scores: Floats, params: Evaluate, contract: Contract
) -> dict[str, Any]:
    """Return all metrics and their intervals, for all customers and for each slice.

    Parameters
    ----------
    features : pandas.DataFrame, shape (rows, features)
        As `churn.modeling.model.model_frame` returns it.
    labels : array_like, shape (rows,)
        1 where the customer churned, else 0.
    scores : numpy.ndarray, shape (rows,)
        The probability of churn, in [0, 1].
    params : Evaluate
        The threshold, the campaign and the slices.
    contract : Contract
        Declares the values that a column of slices may have.

    Returns
    -------
    dict
        The content of metrics/evaluation.json without `inputs`: each metric, `intervals`, `threshold`, `capacity`, and
        the numbers of `rows`, `churners` and `predicted` churners; the same for each of `slices`, with its `name` and
        `kind`. Also `suitable_threshold`, if the threshold is not: hardly anybody or everybody is predicted.

    Raises
    ------
    StageError
        When all or none of the customers churned, when a slice cannot be made, and when two have one name.
    """
    y = np.asarray(labels)
    if not 0 < y.sum() < len(y):
        raise StageError(f"{int(y.sum()):,} of {len(y):,} customers of the holdout churned; metrics need both.")

    def measured(rows: npt.NDArray[np.bool_]) -> dict[str, Any]:
        predicted = int((scores[rows] >= params.threshold).sum())
        counts = {"rows": int(rows.sum()), "churners": int(y[rows].sum()), "predicted": predicted}
        return counts | as_json(all_metrics(y, scores, params, rows))

    slices = [
        {"name": one.name, "kind": one.kind} | measured(one.rows)
        for one in slice_masks(features, params.slices, contract)
    ]
    if twice := [name for name, count in Counter(part["name"] for part in slices).items() if count > 1]:
        raise StageError(f"params.yaml: evaluate.slices: {twice[0]} is the name of two slices; rename the condition.")
    settings = {"threshold": params.threshold, "capacity": params.campaign.capacity}
    whole = measured(np.ones(len(y), dtype=bool))
    if not FEW_PREDICTED * whole["churners"] <= whole["predicted"] < whole["rows"]:
        settings |= suitable_threshold(y, scores)
    return whole | settings | {"slices": slices}


def suitable_threshold(y: npt.NDArray[np.integer], scores: Floats) -> dict[str, float]:
    """Return the score from which on about as many customers are predicted as churned, unless it is 0 or 1.

    Examples
    --------
    >>> suitable_threshold(np.array([0, 0, 1, 1]), np.array([0.01, 0.12345, 0.02, 0.3]))
    {'suitable_threshold': 0.123}
    """
    least = float(f"{np.sort(scores)[-int(y.sum())]:.3g}")
    return {"suitable_threshold": least} if 0 < least < 1 else {}
