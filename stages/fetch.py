"""fetch: one snapshot of the customers, typed by the contract and sorted by key.

In: `fetch.source`, of the kinds that churn/data/sources/stream.py names, through the query `fetch.query`. Out:
data/raw/customers.parquet. Fails when the source is missing, unreachable or empty, when it is lost half way, when the
query does not run or lacks a column that the contract declares, and when a value does not fit its column's type.
"""

import sys

if __name__ == "__main__":
    from churn.core.start import start_up

    start_up()

from churn.config.check import checked_settings, profile_note
from churn.core.paths import RAW
from churn.core.runner import run
from churn.core.terminal import status
from churn.data.conditions import condition_faults
from churn.data.partitioning import partitioned_snapshot
from churn.data.snapshot import snapshot


def main() -> None:
    """Fetch what params.yaml names."""
    settings, contract = checked_settings(condition_faults)
    if note := profile_note(contract):
        print(f"fetch: {status('NOTE')}: {note}", file=sys.stderr)
    params = settings.fetch
    if settings.compute.engine == "dask":
        rows = partitioned_snapshot(params, contract, RAW, settings.compute)
    else:
        rows = snapshot(params, contract, RAW)
    print(f"fetch: {rows:,} {contract.unit} from {params.source}{f' as of {params.as_of}' if params.as_of else ''}")


if __name__ == "__main__":
    run(main)
