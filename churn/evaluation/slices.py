"""Slices: named groups of customers, for each of which all metrics are computed."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from churn.config.contract import Contract
from churn.config.params import Slices
from churn.core.errors import StageError
from churn.data.conditions import rows_where, slice_condition

import numpy as np
import numpy.typing as npt
import pandas as pd


class Slice(NamedTuple):
    """A group of customers: its name, why it is one, and which rows are in it, shape (rows,)."""

    name: str
    kind: Literal["value", "condition", "missing"]
    rows: npt.NDArray[np.bool_]


def slice_masks(features: pd.DataFrame, slices: Slices, contract: Contract) -> Iterator[Slice]:
    """Yield the slices.

    One for each value of each column of `slices.columns`, as the contract declares the values, so that one
    that no customer has is there and empty; one for each condition; one for each nullable feature missing.
    Raises StageError when a column has no fixed values or a condition cannot be read.
    """
    for name in slices.columns:
        column = contract.columns.get(name)
        if column is None or column.type not in ("category", "boolean"):
            raise StageError(f"params.yaml: evaluate.slices.columns: {name} is no category or boolean of the contract.")
        for value in column.values or (False, True):
            shown = str(value).lower() if column.type == "boolean" else value
            yield Slice(f"{name}={shown}", "value", (features[name] == value).to_numpy(bool))
    for name, condition in slices.conditions.items():
        rows = rows_where(features, slice_condition(name, condition, contract), contract)
        yield Slice(name, "condition", rows)
    for name in contract.features:
        if contract.columns[name].nullable:
            yield Slice(f"{name} is missing", "missing", features[name].isna().to_numpy())
