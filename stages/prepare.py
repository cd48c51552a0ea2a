"""prepare: the features of every customer, in two tables, and the row counts.

In: the snapshot. Out: data/features/train.parquet and test.parquet, metrics/rows.json. The snapshot goes
through batch by batch, so that memory does not grow with it. With a column for the day, later rows are held out, too
(churn/data/periods.py). Fails when a feature function loses, adds or reorders rows, when a result is not of its
contract's type, and when the row counts do not reconcile.
"""

from collections.abc import Iterator

if __name__ == "__main__":
    from churn.core.start import start_up

    start_up()

from churn.config.check import checked_settings
from churn.config.contract import Contract
from churn.config.params import Params
from churn.core.files import write_json
from churn.core.paths import RAW, ROWS, TEST, TRAIN
from churn.core.runner import run
from churn.data.splitting import split_partitions
from churn.data.tables import split_snapshot


def drop_faults(params: Params, contract: Contract) -> Iterator[str]:
    """Yield what is wrong with conditions, if a row may be dropped by one: else nothing here needs DuckDB."""
    if params.prepare.drop:
        from churn.data.conditions import condition_faults

        yield from condition_faults(params, contract)


def main() -> None:
    """Prepare both tables and write the row counts."""
    params, contract = checked_settings(drop_faults)
    if params.compute.engine == "dask":
        counts = split_partitions(
            RAW, params.prepare, contract, (TRAIN, TEST), compute=params.compute, as_of=params.fetch.as_of
        )
    else:
        counts = split_snapshot(RAW, params.prepare, contract, (TRAIN, TEST), params.fetch.as_of)
    write_json(ROWS, counts)
    dropped = "".join(f" + {rows:,} dropped ({reason})" for reason, rows in counts["dropped"].items())
    print(f"prepare: {counts['fetched']:,} fetched = {counts['train']:,} train + {counts['test']:,} test{dropped}")


if __name__ == "__main__":
    run(main)
