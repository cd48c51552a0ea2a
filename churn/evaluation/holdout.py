"""Evaluates a model's scores on the holdout. evaluate runs it, and the report recomputes it."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from churn.config.contract import Contract
from churn.config.params import Evaluate
from churn.core.errors import StageError
from churn.data.periods import train_until
from churn.evaluation.metrics import (
    Floats,
    Outcomes,
    Weights,
    Z,
    all_metrics,
    as_json,
    outcomes,
    roc_auc,
    sum_of,
    value_at,
)
from churn.evaluation.slices import slice_masks
from churn.modeling.codes import churn_probability
from churn.modeling.model import read_parquet, types_of

import numpy as np
import numpy.typing as npt
import pandas as pd

FEW_PREDICTED = 0.1  # of the churners: below it, the threshold does not fit the churn rate
LATE = "out_of_time"  # the column of the predictions that says whether a row is later than the training
EARLIER = "random_by_customer"  # the key of the metrics on the other rows
NONE_LATER = "no row of the holdout is later than the training: look at prepare.time in params.yaml."
Mask = npt.NDArray[np.bool_]


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
    scores = probabilities(model, features)
    refuse_equal(float(scores.min()), float(scores.max()), len(scores))
    return scores


def probabilities(model: Any, features: pd.DataFrame) -> Floats:
    """Return the model's probability of churn for each row, which may be equal. Raises StageError, see scores_of."""
    try:
        scores = churn_probability(model, features)
    except Exception as error:  # whatever an estimator makes of the features
        raise StageError(f"the model cannot score the holdout: it raises {type(error).__name__}.") from error
    if len(scores) != len(features):
        raise StageError(f"the model gave {len(scores):,} scores for {len(features):,} rows.")
    # protection: scores are probabilities
    if wrong := int((~((scores >= 0) & (scores <= 1))).sum()):
        raise StageError(f"{wrong:,} of {len(scores):,} scores are not probabilities.")
    return scores


def refuse_equal(least: float, most: float, count: int) -> None:
    """Raise StageError when the least of so many scores is the greatest one."""
    # protection: scores differ
    if least == most:
        raise StageError(f"all {count:,} scores are {least:g}: the model tells no customer from another.")


def with_groups(predictions: pd.DataFrame, path: Path, contract: Contract) -> pd.DataFrame:
    """Return predictions for the rows of the table at `path` with its group, and with LATE where it has a day.

    Raises StageError when the table lacks a column, has it in another type, or does not say until which day the
    training goes.
    """
    if not (named := [name for name in (contract.group, contract.time) if name]):
        return predictions
    table = read_parquet(path, types_of(named, contract))
    if contract.group:
        predictions = predictions.assign(**{contract.group: table[contract.group].to_pandas()})
    if contract.time:
        if (until := train_until(path)) is None:
            raise StageError(f"{path} does not say until which day the training goes; `dvc repro prepare` makes it.")
        days = np.asarray(table[contract.time].to_numpy(), "datetime64[D]")
        predictions = predictions.assign(**{LATE: days > np.datetime64(until)})
    return predictions


def outcomes_of(predictions: pd.DataFrame, contract: Contract) -> Outcomes:
    """Return the labels of predictions, their customers, and which rows are later than the training."""
    customers = pd.factorize(predictions[contract.group])[0].astype(np.intp) if contract.group else None
    late = predictions[LATE].to_numpy(bool) if contract.time else None
    return Outcomes(predictions[contract.label].to_numpy(np.float64), customers, late)


def judged_rows(predictions: pd.DataFrame) -> Mask:
    """Return the rows by which a model is judged, shape (rows,): the later ones where there is a day, else all."""
    return predictions[LATE].to_numpy(bool) if LATE in predictions else np.ones(len(predictions), dtype=bool)


def evaluation_of(
    features: pd.DataFrame,
    labels: npt.ArrayLike | Outcomes,
    scores: Floats,
    params: Evaluate,
    contract: Contract,
) -> dict[str, Any]:
    """Return all metrics and their intervals, for all customers and for each slice.

    Parameters
    ----------
    features : pandas.DataFrame, shape (rows, features)
        As `churn.modeling.model.model_frame` returns it.
    labels : array_like, shape (rows,), or Outcomes
        1 where the customer churned, else 0. Outcomes may have customers with several rows, and later rows: all values
        are of these then, and `random_by_customer` has the metrics on the others.
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
        the numbers of `rows`, `churners` and `predicted` churners, with groups also of `customers`; the same for each
        of `slices`, with its `name` and `kind`. Also `suitable_threshold`, if the threshold is not: hardly anybody or
        everybody is predicted.

    Raises
    ------
    StageError
        When all or none of the customers churned, when a slice cannot be made, and when two have one name.
    """
    given = outcomes(labels)
    if (late := given.late) is not None:
        if not late.any():
            raise StageError(NONE_LATER)
        after = replace(given[late], late=None)
        return evaluation_of(features[late], after, scores[late], params, contract) | {
            EARLIER: measured_of(given[~late], scores[~late], params),
            "roc_auc_over_time": area_over_time(given, scores, late),
        }
    y = given.labels
    if not 0 < y.sum() < len(y):
        raise StageError(f"{int(y.sum()):,} of {len(y):,} customers of the holdout churned; metrics need both.")

    def measured(rows: Mask) -> dict[str, Any]:
        return measured_of(given, scores, params, rows)

    slices = [
        {"name": one.name, "kind": one.kind} | measured(one.rows)
        for one in slice_masks(features, params.slices, contract)
    ]
    return with_slices(measured(np.ones(len(y), dtype=bool)), slices, given, scores, params)


def with_slices(
    whole: dict[str, Any], slices: list[dict[str, Any]], given: Outcomes, scores: Floats, params: Evaluate
) -> dict[str, Any]:
    """Return the evaluation of all customers with that of the slices and the settings; see evaluation_of."""
    if twice := [name for name, count in Counter(part["name"] for part in slices).items() if count > 1]:
        raise StageError(f"params.yaml: evaluate.slices: {twice[0]} is the name of two slices; rename the condition.")
    settings = {"threshold": params.threshold, "capacity": params.campaign.capacity}
    if not FEW_PREDICTED * whole["churners"] <= whole["predicted"] < whole["rows"]:
        settings |= suitable_threshold(given, scores)
    return whole | settings | {"slices": slices}


def suitable_threshold(labels: npt.ArrayLike | Outcomes, scores: Floats) -> dict[str, float]:
    """Return the score from which on about as many customers are predicted as churned, unless it is 0 or 1.

    Examples
    --------
    >>> suitable_threshold(np.array([0, 0, 1, 1]), np.array([0.01, 0.12345, 0.02, 0.3]))
    {'suitable_threshold': 0.123}
    """
    given = outcomes(labels)
    rows, churners = (sum_of(one, given.customers) for one in (np.ones(len(scores)), given.labels))
    least = float(f"{value_at([int(rows - churners)], scores, given.customers)[0]:.3g}")
    return {"suitable_threshold": least} if 0 < least < 1 else {}


def measured_of(given: Outcomes, scores: Floats, params: Evaluate, rows: Mask | None = None) -> dict[str, Any]:
    """Return the counts and the metrics, or those of some `rows`."""
    rows = np.ones(len(scores), dtype=bool) if rows is None else rows
    inside, predicted = given[rows], (scores[rows] >= params.threshold).astype(np.float64)
    counted = {"rows": np.ones(len(predicted)), "churners": inside.labels, "predicted": predicted}
    counts = {name: round(sum_of(values, inside.customers)) for name, values in counted.items()}
    if isinstance(inside.customers, np.ndarray):
        counts["customers"] = inside.number
    return counts | as_json(all_metrics(given, scores, params, rows))


def area_over_time(given: Outcomes, scores: Floats, late: Mask) -> dict[str, Any]:
    """Return the ROC AUC of the later rows less that of the others, and its 95 % interval; None where one is undefined.

    A customer with rows on both sides counts once, by the difference of both influences (DeLong et al. 1988).
    """
    customers = np.arange(len(scores)) if given.customers is None else given.customers
    after, before = (roc_auc(given.labels[rows], scores[rows], customers[rows]) for rows in (late, ~late))
    if after.value is None or before.value is None or after.influences is None or before.influences is None:
        return {"difference": None, "interval": [None, None]}
    if isinstance(customers, Weights) and customers.known is None:  # each row is of another customer
        influences = np.concatenate([after.influences, before.influences])
    else:
        influences = np.zeros(max(len(after.influences), len(before.influences)))
        influences[: len(after.influences)] += after.influences
        influences[: len(before.influences)] -= before.influences
    difference, reach = after.value - before.value, Z * float(np.sqrt(np.sum(influences**2)))
    ends = [round(difference - reach, 6), round(difference + reach, 6)]
    return {"difference": round(difference, 6), "interval": ends}
