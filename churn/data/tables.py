"""Makes the training table and the holdout from a snapshot, batch by batch, so that memory does not grow with it."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from churn.config.contract import Contract
from churn.config.params import Prepare
from churn.core.errors import StageError, number_of
from churn.core.files import batches_in, refuse_other_types, refuse_twice, replacing
from churn.core.paths import PARAMS
from churn.core.terminal import progress
from churn.data.featuring import add_features, to_arrow
from churn.data.periods import Periods, drop_by_time, periods_of, refuse_half, with_periods
from churn.data.split import drop_declared, frame_of, in_holdout, key_lines

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

BATCH_ROWS, BATCH_CELLS = 262_144, 2**23  # of a batch: 64 MB of numbers


def batch_rows(columns: int) -> int:
    """Return the rows of a batch, fewer the more columns it has.

    Examples
    --------
    >>> batch_rows(20), batch_rows(1_000)
    (262144, 8388)
    """
    return max(1, min(BATCH_ROWS, BATCH_CELLS // columns))


@contextmanager
def reading(raw: Path) -> Iterator[None]:
    """Raise StageError where the snapshot cannot be read as Parquet."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:  # Arrow's OSError, of a page that cannot be unpacked, has no number
        if getattr(error, "errno", None):
            raise
        raise StageError(f"{raw} is not a Parquet file; `dvc repro --force` makes it again.") from error


def split_snapshot(
    raw: Path, params: Prepare, contract: Contract, tables: tuple[Path, Path], as_of: date | None = None
) -> dict[str, Any]:
    """Write both tables, of training and of the holdout, from the snapshot and return the row counts.

    Raises StageError when fetched rows are not train + test + dropped, or when a table is empty.
    """
    refuse_half(params, contract)
    with replacing(tables[0]) as train, replacing(tables[1]) as test:
        with reading(raw):
            periods = periods_of(raw, params, as_of, contract)
        counts = split_rows(raw, params, contract, (train, test), periods)
        refuse_lost(counts)
    return counts


def refuse_lost(counts: Mapping[str, Any]) -> None:
    """Raise StageError unless the row counts reconcile, and each table has a row."""
    # protection: the row counts reconcile
    if counts["train"] + counts["test"] + sum(counts["dropped"].values()) != counts["fetched"]:
        raise StageError(f"the row counts do not reconcile: {counts}.")
    if empty := [name for name in ("train", "test") if not counts[name]]:
        dropped = "".join(f", {rows:,} are dropped ({why})" for why, rows in counts["dropped"].items() if rows)
        raise StageError(
            f"the {empty[0]} table is empty: of {number_of(counts['fetched'], 'rows')} {counts['train']:,} train and"
            f" {counts['test']:,} test the model{dropped}; change prepare in {PARAMS}."
        )


def _write(table: pa.Table, holdout: npt.NDArray[np.bool_], writers: Sequence[pq.ParquetWriter]) -> dict[str, int]:
    """Write the rows of training by the first writer, the holdout's by the other; return how many each wrote."""
    parts = {"train": table.filter(pa.array(~holdout)), "test": table.filter(pa.array(holdout))}
    for writer, part in zip(writers, parts.values(), strict=True):
        writer.write_table(part)
    return {name: part.num_rows for name, part in parts.items()}


def split_rows(
    raw: Path, params: Prepare, contract: Contract, tables: tuple[Path, Path], periods: Periods | None
) -> dict[str, Any]:
    """Write the rows of a snapshot, or of a partition, to the files `tables`, and return their counts."""
    with ExitStack() as stack:
        with reading(raw):
            source = pq.ParquetFile(stack.enter_context(raw.open("rb")))
        refuse_twice(source.schema_arrow.names, raw)
        types = {name: column.type for name, column in contract.columns.items() if not column.computed}
        refuse_other_types(source.schema_arrow, types, raw)
        fetched, kept, dropped = source.metadata.num_rows, Counter[str](), Counter[str]()
        digest = hashlib.sha256()
        bar = stack.enter_context(progress("prepare", fetched))
        batches = batches_in(source, batch_rows(len(source.schema_arrow.names)))
        writers: list[pq.ParquetWriter] = []
        writing: Future[dict[str, int]] | None = None
        while True:
            with reading(raw):
                if (batch := next(batches, None)) is None:
                    if writing:
                        break
                    batch = pa.RecordBatch.from_pylist([], schema=source.schema_arrow)  # of an empty partition
            customers, lost = drop_declared(frame_of(batch, contract), params.drop, contract)
            dropped.update(lost)
            customers, lost = drop_by_time(customers, params, periods, contract)
            dropped.update(lost)
            names = sorted(contract.withheld, key=contract.label.__eq__)  # the label last: it is put first
            withheld = pd.DataFrame({name: customers.pop(name) for name in names if name in customers})
            features = add_features(customers)
            table = to_arrow(features, contract)
            for name, values in zip(withheld, to_arrow(withheld, contract).columns, strict=True):
                table = table.add_column(1, name, values)  # pandas is slow to insert into many columns, and warns
            table = with_periods(table, periods)
            whose = table[contract.customer].to_pandas(integer_object_nulls=True)
            holdout = in_holdout(whose, params.salt, params.holdout_share)
            digest.update(key_lines(customers.loc[holdout, contract.key]))
            if writing:
                kept.update(writing.result())
            else:
                for path in tables:
                    writers.append(stack.enter_context(pq.ParquetWriter(path, table.schema, compression="zstd")))
                beside = stack.enter_context(ThreadPoolExecutor(1))  # ends before the writers do
            writing = beside.submit(_write, table, holdout, writers)  # while the keys of the next batch are hashed
            bar.update(batch.num_rows)
        kept.update(writing.result())
        counts = {"fetched": fetched, "train": kept["train"], "test": kept["test"], "dropped": dict(dropped)}
        counts["holdout_sha256"] = [digest.hexdigest()]  # a list: DVC's tables of metrics leave it out
    return counts
