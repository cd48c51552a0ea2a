"""Apply the feature functions of churn/features.py, check what they return, and give it the contract's types."""

from collections.abc import Callable, Iterator
from traceback import walk_tb
from types import CodeType, FrameType
from typing import Any

from churn import features
from churn.config.contract import Contract
from churn.core.errors import MORE, StageError, place_of
from churn.core.files import ARROW_TYPES

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pandas.api.types import is_float_dtype

ROUNDING = 1e-9  # of a computed number, relative
OF_NUMBERS = tuple(  # what Arrow makes of a column, also of digits in texts
    getattr(pa.types, f"is_{kind}")
    for kind in ("null", "boolean", "integer", "floating", "decimal", "string", "large_string")
)


def add_features(customers: pd.DataFrame) -> pd.DataFrame:
    """Apply every function of FEATURES to customers without their label, shape (rows, columns).

    Raises StageError when one changes what was there, rows or columns, or when the result for a row depends on others:
    half of the rows by themselves must give what they gave among all.
    """
    half = customers.iloc[::2]
    for function in features.FEATURES:
        before, customers = customers, _applied(function, customers)
        half = _applied(function, half)
        for name in before.columns:
            # protection: a feature function changes nothing
            if name not in customers or not customers[name].equals(before[name]):
                raise StageError(f"{function.__name__} changes {name}: a feature gets a column of its own.")
        for name in half.columns:
            try:
                alone = _same(half[name], customers[name].iloc[::2])
            except (TypeError, ValueError) as error:  # of arrays
                what = "values that cannot be compared, such as arrays: a feature is a number, a text or a boolean"
                raise StageError(f"{function.__name__} makes {what}.") from error
            # protection: a row's features depend on that row alone
            if not alone:
                known = _is_known(name, function, before)
                raise StageError(
                    f"{function.__name__} makes a customer's {name if known else 'feature'}"
                    f" {_wrong_origin(function, name, before, customers)}."
                )
    return customers


def _wrong_origin(
    function: Callable[[pd.DataFrame], pd.DataFrame], name: str, before: pd.DataFrame, customers: pd.DataFrame
) -> str:
    """Return of what, besides the row, a function made the column `name` of `customers`, and what follows from it."""
    again = _applied(function, before)
    if name not in again or not _same(again[name], customers[name]):
        return "at random, or from the time: the same rows give other values, and no score could be computed again"
    # Each second row is now a copy of the one above, so that the others keep their places, but not their neighbours.
    twins = before.iloc[np.arange(len(before)) // 2 * 2].set_axis(before.index)
    among_others = _applied(function, twins)
    if name in among_others and _same(among_others[name].iloc[::2], customers[name].iloc[::2]):
        return "from its row's place in the table: nobody has the same place when they are scored"
    return "from other customers' rows: so the training table would know the holdout, and nobody could be scored alone"


def _same(one: pd.Series, other: pd.Series) -> bool:
    """Say whether two columns hold the same values; a half may have another type, as where nothing is missing.

    The last bits of a number may differ: NumPy adds up a row of eight numbers in another order than many rows.
    """
    if isinstance(one.dtype, pd.CategoricalDtype):  # whose values in a half may be fewer
        one, other = one.astype(object), other.astype(object)
    same = (one == other) | (one.isna() & other.isna())
    if not same.all() and is_float_dtype(one) and is_float_dtype(other):
        same |= np.isclose(one.to_numpy(float, na_value=np.nan), other.to_numpy(float, na_value=np.nan), ROUNDING, 0)
    return bool(same.all())


def _applied(function: Callable[[pd.DataFrame], pd.DataFrame], customers: pd.DataFrame) -> pd.DataFrame:
    """Return what a feature function makes; see add_features. An error's text may hold a value, and is left out."""
    try:
        made = function(customers.copy())
    except (StageError, KeyboardInterrupt):
        raise
    except BaseException as error:
        if column := _missing_column(error, customers):
            fault = f"reads {column!r}, which is not there: neither is the label when a customer is scored."
        else:
            what = "since sys.exit was called" if isinstance(error, SystemExit) else f"with {type(error).__name__}"
            fault = f"fails {what}{place_of(error)}{MORE}."
        raise StageError(f"{function.__name__} {fault}") from error
    if not isinstance(made, pd.DataFrame):
        raise StageError(f"{function.__name__} gives back {type(made).__name__}, not a pandas frame.")
    if not all(isinstance(name, str) for name in made.columns):
        raise StageError(f"{function.__name__} makes a column whose name is not text: name it, as in assign(name=...).")
    if not made.columns.is_unique:
        name = made.columns[made.columns.duplicated()][0]
        what = f"the column {name}" if _is_known(name, function, customers) else "a column"
        raise StageError(f"{function.__name__} makes {what} more than once.")
    if not made.index.equals(customers.index):
        raise StageError(
            f"{function.__name__} was given {len(customers):,} rows and gave back {len(made):,}, or in"
            " another order: a feature function keeps every row; declare what is missing, don't drop it."
        )
    return made


def _missing_column(error: BaseException, customers: pd.DataFrame) -> str | None:
    """Return the column that pandas does not find, if the code that asks for it has the name as a constant."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    if not frames or not _is_pandas(frames[-1]):  # else another mapping lacks a key, such as os.environ
        return None
    asked = repr(error.name) if isinstance(error, AttributeError) else str(error) if isinstance(error, KeyError) else ""
    known = {text for frame in frames if not _is_pandas(frame) for text in _texts_of(frame.f_code)}
    return min((text for text in known if repr(text) in asked and text not in customers.columns), default=None)


def _is_known(name: object, function: Callable[..., object], customers: pd.DataFrame) -> bool:
    """Say whether a column's name comes from the table or the function's code; another may be a customer's value."""
    return name in customers.columns or name in set(_texts_of(function.__code__))


def _is_pandas(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).startswith("pandas.")


def _texts_of(constant: Any) -> Iterator[str]:
    """Yield the names and the constant texts of a function's code, also of functions inside it."""
    if isinstance(constant, str):
        yield constant
    elif isinstance(constant, CodeType):
        yield from constant.co_names
        constant = constant.co_consts
    if isinstance(constant, tuple | frozenset):
        for part in constant:
            yield from _texts_of(part)


def to_arrow(customers: pd.DataFrame, contract: Contract) -> pa.Table:
    """Return the frame as a table of the contract's types; a column that it does not declare becomes text.

    Validate refuses that by name. Raises StageError when a value does not fit its type, as a fraction in an integer.
    """
    arrays = {}
    for name in customers.columns:
        declared = contract.columns[name].type if name in contract.columns else "string"
        try:
            values = customers[name] if name in contract.columns else customers[name].astype("str")
            arrays[name] = _converted(values, declared)
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise StageError(f"{name} is declared {declared}, but a feature function made others.") from error
    return pa.table(arrays).replace_schema_metadata({"columns": contract.columns_json()})


def _converted(values: pd.Series, declared: str) -> pa.Array:
    """Return a column in a type of the contract. Raises ValueError where Arrow would make another value instead.

    It would take a time as its microseconds, a decimal without its fraction, and 2 for true.
    """
    if declared not in ("boolean", "integer", "number"):
        return pa.Array.from_pandas(values, type=ARROW_TYPES[declared])
    made = pa.Array.from_pandas(values)
    if pa.types.is_dictionary(made.type):
        made = made.cast(made.type.value_type)
    if not any(is_kind(made.type) for is_kind in OF_NUMBERS):
        raise ValueError(f"{made.type} is no number")
    counted = declared == "boolean" and not pa.types.is_boolean(made.type)
    if counted and pc.any(pc.and_(pc.not_equal(made, 0), pc.not_equal(made, 1))).as_py():
        raise ValueError("a number is neither 0 nor 1")
    return made.cast(ARROW_TYPES[declared])
