"""The slices: groups of customers, by name, for which the metrics are computed as for all."""

from collections.abc import Iterator

from churn.config.contract import Contract
from churn.config.params import Slices
from churn.core.errors import StageError
from churn.data.conditions import rows_where, slice_condition

import numpy as np
import numpy.typing as npt
import pandas as pd


def slice_masks(
    features: pd.DataFrame, slices: Slices, contract: Contract
) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Yield each slice's name and its rows, shape (rows,).

    One for each value of each column of `slices.columns`, as the contract declares the values, so that one
    that no customer has is there and empty; one for each condition; one for each nullable feature missing.
    Raises StageError when a column has no fixed values or a condition cannot be read.
    """
    for name in slices.columns:
        column = contract.columns.get(name)
        if column is None or column.type not in ("category", "boolean"):
            raise StageError(f"params.yaml: evaluate.slices.columns: {name} is no category or boolean of the contract.")
        for value in column.values or (False, True):
            yield (
                f"{name}={str(value).lower() if column.type == 'boolean' else value}",
                (features[name] == value).to_numpy(bool),
            )
    for name, condition in slices.conditions.items():
        yield name, rows_where(features, slice_condition(name, condition, contract), contract)
    for name in contract.features:
        if contract.columns[name].nullable:
            yield f"{name} is missing", features[name].isna().to_numpy()
