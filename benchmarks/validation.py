"""The same checks of a table by this pipeline's engine, by pandas, pandera, pointblank and Great Expectations.

First each engine has to accept a good table and to find five faults in a bad one. Then all check a table of each size,
in turn, each in a process of its own. The pipeline's engine is also limited to 1 GB by itself. Great Expectations
stops at a million rows, and what holds the table in memory at ten million, because this machine's memory ends there.
With --record the numbers go to docs/benchmarks.md. Usage: python -m benchmarks.validation [ROWS ...] [--record]
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.customers import make_customers
from benchmarks.frameworks import HERE, environment, settings
from benchmarks.measure import ROOT, Cost, cost_of, median
from benchmarks.results import earlier, record
from churn.config.contract import load_contract
from churn.data.duckdb_helpers import cast

import duckdb

ENGINES = {  # and the most rows that each gets
    "this_pipeline": 100_000_000,
    "pandas_script": 10_000_000,
    "pandera_pandas": 10_000_000,
    "pandera_polars": 100_000_000,
    "pointblank_polars": 10_000_000,
    "great_expectations": 1_000_000,
}
SIZES = (7_043, 1_000_000)
ROUNDS = 3
FAULTS = {  # in the bad table
    "customer_id": "if(row = 2, lag(customer_id) OVER (ORDER BY row), customer_id)",
    "tenure_months": "if(row = 3, -1, tenure_months)",
    "contract": "if(row = 4, 'Weekly', contract)",
    "monthly_charges": "if(row = 5, NULL, monthly_charges)",
    "total_charges": "if(row = 6, 50000, total_charges)",
}


def make_table(target: Path, rows: int) -> None:
    """Write a table of so many customers as prepare does: typed by the contract, with all features, sorted by key."""
    contract = load_contract()
    source = target.with_suffix(".source.parquet")
    make_customers(source, rows)
    query = (ROOT / "source.sql").read_text(encoding="utf-8")
    fetched = [name for name, column in contract.columns.items() if not column.computed]
    typed = ", ".join(f"{cast(name, contract.columns[name].type)} AS {name}" for name in fetched)
    services = "phone_service multiple_lines online_security online_backup device_protection has_tech_support"
    counted = [*services.split(), "streaming_tv", "streaming_movies", "(internet_service <> 'No')"]
    products = " + ".join(f"{name}::BIGINT" for name in counted)
    with duckdb.connect(
        config={"memory_limit": "2GB", "temp_directory": str(target.with_suffix(".spill"))}
    ) as database:
        database.execute(f"CREATE VIEW source AS FROM '{source}'")
        database.execute(
            f"COPY (SELECT *, {products} AS num_products FROM (SELECT {typed} FROM ({query}))"
            f" ORDER BY customer_id) TO '{target}' (FORMAT parquet, COMPRESSION zstd)"
        )
    source.unlink()


def spoil(good: Path, bad: Path) -> None:
    """Write the bad table: the good one with five faults."""
    replaced = ", ".join(f"{value} AS {name}" for name, value in FAULTS.items())
    numbered = f"SELECT *, row_number() OVER () AS row FROM '{good}'"
    duckdb.execute(f"COPY (SELECT * EXCLUDE (row) REPLACE ({replaced}) FROM ({numbered})) TO '{bad}' (FORMAT parquet)")


def run(engine: str, table: Path, python: str, given: str) -> tuple[Cost, int]:
    """Return what an engine costs, and how many checks fail."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "DO_NOT_TRACK": "1", "GX_ANALYTICS_ENABLED": "false"}
    cost, printed = cost_of(python, str(HERE / "validators.py"), engine, str(table), given, cwd=table.parent, env=env)
    return cost, int(printed.strip().splitlines()[-1].split()[0])


def measured(rows: int, folder: Path, pythons: dict[str, str], given: str) -> dict[str, Any]:
    """Return the cost of each engine on a table of so many rows."""
    table = folder / f"{rows}.parquet"
    make_table(table, rows)
    engines = [name for name, most in ENGINES.items() if rows <= most]
    rounds = ROUNDS if rows <= 1_000_000 else 1
    costs: dict[str, list[Cost]] = {name: [] for name in engines}
    for _ in range(rounds):
        for name in engines:
            cost, failed = run(name, table, pythons[name], given)
            if failed:
                sys.exit(f"{name}: {failed} checks fail on a good table.")
            costs[name].append(cost)
    table.unlink()
    found = {}
    for name in engines:
        found[name] = median(costs[name]).as_json()
        print(
            f"{rows:>11,}  {name:20}",
            "{wall:7.1f} s, CPU {cpu:7.1f} s {peak:7,.0f} MiB".format(**found[name]),
            flush=True,
        )
    return found


def main(sizes: list[int], recorded: bool) -> None:
    """Check the engines, and measure each size."""
    theirs = str(environment("validators"))
    pythons = {name: sys.executable if name == "this_pipeline" else theirs for name in ENGINES}
    given = json.dumps(settings()["data"] | {"contract": str(ROOT / "contract.yaml")})
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        good, bad = folder / "good.parquet", folder / "bad.parquet"
        make_table(good, SIZES[0])
        spoil(good, bad)
        for name in ENGINES:
            passed, found = (run(name, table, pythons[name], given)[1] for table in (good, bad))
            if passed or found < len(FAULTS):
                sys.exit(
                    f"{name}: {passed} checks fail on the good table, and {found} on the one with {len(FAULTS)} faults."
                )
        for rows in sizes:
            costs = measured(rows, folder, pythons, given)
            if recorded:
                record("validation", {"rows": earlier("validation", "rows") | {str(rows): costs}}, **versions())


def versions() -> dict[str, str]:
    """Return the versions of the other engines."""
    pinned = (HERE / "validators.txt").read_text(encoding="utf-8").split()
    return dict(one.replace("[polars]", "").split("==") for one in pinned)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.validation", description=__doc__.partition("\n")[0])
    parser.add_argument("rows", nargs="*", type=int, default=[*SIZES])
    parser.add_argument("--record", action="store_true", help="renew docs/benchmarks.md")
    asked = parser.parse_args()
    if min(asked.rows) < 1:
        parser.error("rows: at least 1")
    main(asked.rows, asked.record)
