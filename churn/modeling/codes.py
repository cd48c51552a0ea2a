"""Fits and scores scikit-learn's pipelines; those that take codes, without the time that its encoder needs for them.

`build_model` puts a ColumnTransformer of codes and unchanged numbers before gradient boosting on histograms. It goes
through an object for each value; PyArrow does not, and gives the same numbers in a twentieth of the time. The model
keeps the ColumnTransformer, with which the version in the registry scores: register compares the two.
"""

from typing import Any

from churn.modeling.encoding import Columns, encoded, matrix

import numpy as np
import numpy.typing as npt
import pandas as pd


def _columns_of(model: Any) -> Columns | None:
    """Return the features of a pipeline's encoder with the values that have codes, None for every other model."""
    if len(getattr(model, "steps", ())) != 2:  # an encoder and a classifier
        return None
    columns: dict[str, list[Any] | None] = {}
    for _, part, names in getattr(model[0], "transformers", ()):
        if type(part).__name__ == "OrdinalEncoder":
            columns |= zip(
                names, ([None if pd.isna(one) else one for one in given] for given in part.categories), strict=True
            )
        elif part == "passthrough":
            columns |= dict.fromkeys(names)
        else:
            return None
    return columns or None


def fit_rows(model: Any, features: pd.DataFrame, labels: pd.Series) -> None:
    """Fit a classifier on the model's frame, shape (rows, features). Raises what the library raises."""
    if columns := _columns_of(model):
        model[0].fit(features.head(1))  # which says the names; the values come from the contract
        model[-1].fit(_codes(features, columns), labels)
    else:
        model.fit(features, labels)


def churn_probability(model: Any, features: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return the classifier's probability of churn for the model's frame, shape (rows,).

    Raises what the library raises, and ValueError when a value has no code.
    """
    columns = _columns_of(model)
    classifier, given = (model[-1], _codes(features, columns)) if columns else (model, features)
    return np.asarray(classifier.predict_proba(given)[:, 1], dtype=np.float64)


def _codes(features: pd.DataFrame, columns: Columns) -> npt.NDArray[np.float64]:
    return matrix(encoded(features, columns), np.float64)
