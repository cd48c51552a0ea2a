"""What fetch, prepare, the profile and validate cost on ten million customers: seconds, and the peak of memory.

The customers are those of the sample, over and over, each time with another key, in no order. Runs the stages one after
the other in a temporary folder (about 1 GB). Usage: python -m benchmarks.scale [ROWS]
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "data/sample/telco_customers.csv"


def make_source(target: Path, rows: int) -> None:
    """Write a Parquet file of `rows` customers, all columns text as in the CSV, with keys that are unique."""
    duckdb.execute(f"""
        COPY (
            SELECT sample.* REPLACE (lpad(CAST(number * 7919 % {rows} AS VARCHAR), 9, '0') || customerID AS customerID)
            FROM range({rows}) AS numbers(number)
            JOIN (SELECT *, row_number() OVER () - 1 AS line FROM read_csv('{SAMPLE}', all_varchar = true)) AS sample
            ON number % 7043 = line
        ) TO '{target}' (FORMAT parquet)""")


def run_module(module: str, folder: Path) -> tuple[float, float]:
    """Run a module with its arguments, and return its wall time in seconds and its peak resident memory in MiB."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", *module.split()], cwd=folder)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{module} failed.")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main(rows: int) -> None:
    """Print a line a stage."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in ("churn", "stages"):
            shutil.copytree(ROOT / name, folder / name)
        for name in ("contract.yaml", "source.sql"):
            shutil.copy(ROOT / name, folder)
        make_source(folder / "customers.parquet", rows)
        params = (ROOT / "params.yaml").read_text(encoding="utf-8")
        (folder / "params.yaml").write_text(params.replace(str(SAMPLE.relative_to(ROOT)), "customers.parquet"))
        for module in ("stages.fetch", "stages.prepare", "churn profile", "stages.validate"):
            seconds, peak = run_module(module, folder)
            print(f"{module:16} {seconds:6.1f} s {peak:7,.0f} MiB", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.partition("\n")[0])
    parser.add_argument("rows", nargs="?", type=int, default=10_000_000)
    asked = parser.parse_args()
    if asked.rows < 1:
        parser.error("rows: at least 1")
    main(asked.rows)
