"""The features of a customer, computed alike for the training and for a customer to be scored.

To add a feature: write a function here, name it in FEATURES, and declare its column in contract.yaml.
"""

from collections.abc import Callable, Iterator, Sequence
from traceback import walk_tb
from types import CodeType, FrameType
from typing import Any

from churn.contract import Contract
from churn.stage import StageError, place_of

import pandas as pd
import pyarrow as pa

ARROW_TYPES = {"string": "string", "category": "string", "integer": "int64", "number": "float64", "boolean": "bool"}


def add_num_products(customers: pd.DataFrame) -> pd.DataFrame:
    """Add num_products: how many of the nine services the customer subscribes to."""
    services = ["phone_service", "multiple_lines", "online_security", "online_backup", "device_protection"]
    services += ["has_tech_support", "streaming_tv", "streaming_movies"]
    has_internet = customers["internet_service"] != "No"
    return customers.assign(num_products=customers[services].sum(axis="columns") + has_internet)


# Each gives the frame back with more columns; a row's result depends on that row alone, so that batches, and a
# single customer at scoring time, give the same.
FEATURES: Sequence[Callable[[pd.DataFrame], pd.DataFrame]] = (add_num_products,)


def add_features(customers: pd.DataFrame) -> pd.DataFrame:
    """Apply every function of FEATURES to customers without their label, shape (rows, columns).

    Raises StageError when one changes what was there, rows or columns, or when the result for a row depends on others:
    half of the rows by themselves must give what they gave among all.
    """
    half = customers.iloc[::2]
    for function in FEATURES:
        before, customers = customers, _applied(function, customers)
        half = _applied(function, half)
        for name in before.columns:
            if name not in customers or not customers[name].equals(before[name]):
                raise StageError(f"{function.__name__} changes {name}: a feature gets a column of its own.")
        for name in half.columns:
            if not _same(half[name], customers[name].iloc[::2]):
                known = {*before.columns, *_texts_of(function.__code__)}  # another name may hold a value
                raise StageError(
                    f"{function.__name__} makes a customer's {name if name in known else 'feature'} from other"
                    " customers' rows: so the training table would know the holdout, and nobody could be scored alone."
                )
    return customers


def _same(one: pd.Series, other: pd.Series) -> bool:
    """Say whether two columns hold the same values; a half may have another type, as where nothing is missing."""
    return bool(((one == other) | (one.isna() & other.isna())).all())


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
            fault = f"fails with {type(error).__name__}{place_of(error)}; run it on a terminal to read more."
        raise StageError(f"{function.__name__} {fault}") from error
    if not isinstance(made, pd.DataFrame):
        raise StageError(f"{function.__name__} gives back {type(made).__name__}, not a pandas frame.")
    if not made.columns.is_unique:
        raise StageError(
            f"{function.__name__} makes the column {made.columns[made.columns.duplicated()][0]} more than once."
        )
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
            arrays[name] = pa.Array.from_pandas(values, type=ARROW_TYPES[declared])
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise StageError(f"{name} is declared {declared}, but a feature function made others.") from error
    return pa.table(arrays).replace_schema_metadata({"columns": contract.columns_json()})
