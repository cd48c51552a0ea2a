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
    """Yield the slices of some customers.

    Parameters
    ----------
    features : pandas.DataFrame, shape (rows, features)
        As `churn.modeling.model.model_frame` returns it.
    slices : Slices
        `load_params().evaluate.slices`.
    contract : Contract
        Declares the values of a column, so that a value without a customer is an empty slice.

    Yields
    ------
    Slice
        One for each value of each column, for each condition, and for each nullable feature where it is missing.

    Raises
    ------
    StageError
        When a column has no fixed values, or a condition cannot be read.

    Examples
    --------
    >>> from pathlib import Path
    >>> from churn.config.contract import load_contract
    >>> contract = load_contract(Path("tests/sample/contract.yaml"))
    >>> customers = pd.DataFrame({"partner": [True, False, True], "total_charges": [20.0, np.nan, 30.0]})
    >>> for one in slice_masks(customers, Slices(columns=("partner",), conditions={}), contract):
    ...     print(one.name, one.rows)
    partner=false [False  True False]
    partner=true [ True False  True]
    total_charges is missing [False  True False]
    """
    for name in slices.columns:
        column = contract.columns.get(name)
        if column is None or column.type not in ("category", "boolean"):
            raise StageError(
                f"params.yaml: evaluate.slices.columns: {name} is not a category or boolean of the contract."
            )
        for value in column.values or (False, True):
            yield Slice(f"{name}={_shown(value)}", "value", (features[name] == value).to_numpy(bool))
    for name, condition in slices.conditions.items():
        rows = rows_where(features, slice_condition(name, condition, contract), contract)
        yield Slice(name, "condition", rows)
    for name in contract.features:
        if contract.columns[name].nullable:
            yield Slice(f"{name} is missing", "missing", features[name].isna().to_numpy())


def _shown(value: str | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else value
