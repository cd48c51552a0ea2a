"""Features as numbers, for the libraries that take categories as codes and missing values as they are."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from churn.config.contract import Contract

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

# By feature: the values of a category or a boolean, in the order of their codes, with None where it may be missing.
# A number has None instead.
Columns = Mapping[str, Sequence[str | bool | None] | None]
Number = TypeVar("Number", np.float32, np.float64)
CODES = {pa.int8(): 2**7, pa.int16(): 2**15, pa.int32(): 2**31}  # by type: how many values it tells apart


def columns_of(contract: Contract) -> Columns:
    """Return the contract's features with the values that have codes. The data have no say in it."""

    def values(name: str) -> Sequence[str | bool | None] | None:
        column = contract.columns[name]
        if column.type not in ("category", "boolean"):
            return None
        return [*(column.values or (False, True)), *([None] if column.nullable else [])]

    return {name: values(name) for name in contract.features}


def categories(columns: Columns) -> list[int]:
    """Return the positions of the features that are categories; booleans are the numbers 0 and 1."""
    return [place for place, values in enumerate(columns.values()) if values and isinstance(values[0], str)]


def encoded(features: pd.DataFrame | pa.Table, columns: Columns) -> pa.Table:
    """Return the features as numbers.

    Parameters
    ----------
    features : pandas.DataFrame or pyarrow.Table, shape (rows, features)
        As `churn.modeling.model.model_frame` returns it, or as prepare writes it.
    columns : Columns
        The features in the order of the result, see `columns_of`.

    Returns
    -------
    pyarrow.Table, shape (rows, features)
        Categories and booleans are their codes, numbers are unchanged, missing values are null.

    Raises
    ------
    ValueError
        When a value has no code or another type, and when one is missing where none may be.

    Examples
    --------
    >>> plans = pd.DataFrame({"plan": ["large", None, "small"], "months": [1, 2, 3]})
    >>> encoded(plans, {"months": None, "plan": ["small", "large", None]}).to_pydict()
    {'months': [1, 2, 3], 'plan': [1, None, 0]}
    """
    try:
        if isinstance(features, pd.DataFrame):
            features = pa.Table.from_pandas(features[[*columns]], preserve_index=False)
        return pa.table({name: _codes(name, features[name], values) for name, values in columns.items()})
    except pa.ArrowException as error:  # whose words may quote a value
        raise ValueError("a feature has another type than the model expects") from error


def _codes(name: str, column: pa.ChunkedArray, values: Sequence[str | bool | None] | None) -> pa.ChunkedArray:
    if values is None:
        return column
    known = [value for value in values if value is not None]
    kind = next(kind for kind, most in CODES.items() if len(known) <= most)
    codes = pa.chunked_array([_chunk(chunk, pa.array(known)).cast(kind) for chunk in column.chunks], kind)
    if codes.null_count > column.null_count:
        raise ValueError(f"{name} has a value that the model does not know")
    if column.null_count and None not in values:
        raise ValueError(f"{name} is missing where the model expects a value")
    return codes


def _chunk(chunk: pa.Array, known: pa.Array) -> pa.Array:
    """Return the code of each value, null for others. A dictionary's values are looked up once."""
    if pa.types.is_dictionary(chunk.type):
        return _chunk(chunk.dictionary, known).take(chunk.indices)
    if pa.types.is_null(chunk.type):
        return pa.nulls(len(chunk), pa.int32())
    return pc.index_in(chunk, value_set=known.cast(chunk.type), skip_nulls=True)


def batches_of(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    """Yield the table in slices of at most so many rows."""
    for start in range(0, table.num_rows, rows):
        yield table.slice(start, rows)


def matrix(codes: pa.Table, kind: type[Number]) -> npt.NDArray[Number]:
    """Return what `encoded` returns as one array, missing values as NaN, shape (rows, features)."""
    numbers = np.empty((codes.num_rows, codes.num_columns), dtype=kind, order="F")
    for place, column in enumerate(codes.columns):
        numbers[:, place] = column.to_numpy()
    return numbers
