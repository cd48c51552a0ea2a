"""prepare: the features of every customer, in two tables, and the account of every row.

In: the snapshot. Out: data/features/train.parquet and test.parquet, metrics/rows.json. The snapshot goes
through batch by batch, so that memory does not grow with it. Fails when a feature function loses, adds or
reorders rows, when a result is not of its contract's type, and when the account does not balance.

To add a feature: write a function here, name it in FEATURES, and declare its column in contract.yaml.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from churn.contract import Contract, load_contract
from churn.params import Prepare, load_params
from churn.split import drop_declared, in_holdout, key_lines
from churn.stage import RAW, ROWS, TEST, TRAIN, StageError, replacing, run, write_json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

BATCH_ROWS = 262_144
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
                raise StageError(
                    f"{function.__name__} makes a customer's {name} from other customers' rows: so the training"
                    " table would know the holdout, and nobody could be scored alone."
                )
    return customers


def _same(one: pd.Series, other: pd.Series) -> bool:
    """Say whether two columns hold the same values; a half may have another type, as where nothing is missing."""
    return bool(((one == other) | (one.isna() & other.isna())).all())


def _applied(function: Callable[[pd.DataFrame], pd.DataFrame], customers: pd.DataFrame) -> pd.DataFrame:
    """Return what a feature function makes; see add_features."""
    try:
        made = function(customers.copy())
    except KeyError as error:
        raise StageError(
            f"{function.__name__} reads {error}, which is not there: neither is the label when a customer is scored."
        ) from error
    if not isinstance(made, pd.DataFrame):
        raise StageError(f"{function.__name__} gives back {type(made).__name__}, not a pandas frame.")
    if not made.index.equals(customers.index):
        raise StageError(
            f"{function.__name__} was given {len(customers):,} rows and gave back {len(made):,}, or in"
            " another order: a feature function keeps every row; declare what is missing, don't drop it."
        )
    return made


def to_arrow(customers: pd.DataFrame, contract: Contract) -> pa.Table:
    """Return the frame as a table of the contract's types; a column that it does not declare becomes text.

    Validate refuses that by name. Raises StageError when a value does not fit its type, as a fraction in an integer.
    """
    arrays = {}
    for name in customers.columns:
        declared = contract.columns[name].type if name in contract.columns else "string"
        values = customers[name] if name in contract.columns else customers[name].astype("str")
        try:
            arrays[name] = pa.Array.from_pandas(values, type=ARROW_TYPES[declared])
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise StageError(f"{name} is declared {declared}, but prepare made values that are none.") from error
    return pa.table(arrays).replace_schema_metadata({"columns": contract.columns_json()})


def split(raw: Path, params: Prepare, contract: Contract, train: Path, test: Path) -> dict[str, Any]:
    """Write both tables from the snapshot and return the row account.

    Raises StageError when fetched rows are not train + test + dropped, or when a table is empty.
    """
    with ExitStack() as stack:
        try:
            source = pq.ParquetFile(stack.enter_context(raw.open("rb")))
        except pa.ArrowInvalid as error:
            raise StageError(f"{raw} is no Parquet file: {error}; `dvc repro --force` makes it again.") from error
        fetched, kept, dropped = source.metadata.num_rows, Counter[str](), Counter[str]()
        digest = hashlib.sha256()
        paths = {"train": stack.enter_context(replacing(train)), "test": stack.enter_context(replacing(test))}
        writers: dict[str, pq.ParquetWriter] = {}
        progress = stack.enter_context(tqdm(total=fetched, unit=" rows", leave=False, disable=None))
        for batch in source.iter_batches(BATCH_ROWS):
            customers, lost = drop_declared(batch.to_pandas(), params.drop)
            dropped.update(lost)
            labels = customers.pop(contract.label) if contract.label in customers else None
            features = add_features(customers)
            if labels is not None:
                features.insert(1, contract.label, labels)
            table = to_arrow(features, contract)
            holdout = in_holdout(customers[contract.key], params.salt, params.holdout_share)
            digest.update(key_lines(customers.loc[holdout, contract.key]))
            for name, mask in (("train", ~holdout), ("test", holdout)):
                if name not in writers:
                    writer = pq.ParquetWriter(paths[name], table.schema, compression="zstd")
                    writers[name] = stack.enter_context(writer)
                part = table.filter(pa.array(mask))
                writers[name].write_table(part)
                kept[name] += part.num_rows
            progress.update(batch.num_rows)
        account = {"fetched": fetched, "train": kept["train"], "test": kept["test"], "dropped": dict(dropped)}
        account["holdout_sha256"] = [digest.hexdigest()]  # a list: DVC's tables of metrics leave it out
        if kept.total() + dropped.total() != fetched:
            raise StageError(f"the row account does not balance: {account}.")
        if empty := [name for name in paths if not kept[name]]:
            raise StageError(f"the {empty[0]} table is empty: {account}; look at prepare in params.yaml.")
    return account


def main() -> None:
    """Prepare both tables and write the account."""
    account = split(RAW, load_params().prepare, load_contract(), TRAIN, TEST)
    write_json(ROWS, account)
    dropped = "".join(f" + {rows:,} dropped ({reason})" for reason, rows in account["dropped"].items())
    print(f"prepare: {account['fetched']:,} fetched = {account['train']:,} train + {account['test']:,} test{dropped}")


if __name__ == "__main__":
    run(main)
