"""Conditions on customers that params.yaml writes as pandas expressions, such as `tenure_months < 6`."""

from typing import Any

from churn.stage import PARAMS, StageError

import numpy as np
import numpy.typing as npt
import pandas as pd


def rows_where(customers: pd.DataFrame, condition: str, key: str) -> npt.NDArray[np.bool_]:
    """Return for which customers the condition holds, shape (rows,); where a value is missing, it does not.

    Raises StageError, naming the `key` of params.yaml, when it cannot be read or is not true or false.
    """
    try:
        holds: Any = customers.eval(condition, engine="python")
    except Exception as error:  # pandas raises whatever Python makes of the expression
        raise StageError(f"{PARAMS}: {key}: `{condition}` cannot be read: {error}.") from error
    if not isinstance(holds, pd.Series) or not pd.api.types.is_bool_dtype(holds.dtype):
        raise StageError(f"{PARAMS}: {key}: `{condition}` is not true or false for each customer.")
    result: npt.NDArray[np.bool_] = holds.fillna(False).to_numpy(bool)
    return result
