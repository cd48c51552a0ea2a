"""What the stages cost on a Dask cluster of this machine, and what a billion customers would take at these rates.

CPU seconds of the client and of its workers together, and the bytes of the tables, on ROWS customers and on a quarter
of them. The estimate multiplies the difference, so the imports of each process count once. docs/scale.md has it:
--record renews the page. Its machines and their price are constants of this program.
Usage: python -m benchmarks.cluster [ROWS] [--workers 2] [--memory 3GB] [--record]
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, cost_of, module_cost
from benchmarks.results import machine
from benchmarks.scale import folder_with, with_settings
from churn.core.files import MANIFEST, read_json, replacing

PAGE = ROOT / "docs/scale.md"
TABLE = re.compile(r"(?<=<!-- python -m benchmarks.cluster -->\n).*?(?=<!-- end -->)", re.DOTALL)
STAGES = ("fetch", "prepare", "validate", "train", "evaluate")
TABLES = {
    "snapshot": "data/raw/customers.parquet",
    "training table": "data/features/train.parquet",
    "holdout": "data/features/test.parquet",
    "predictions": "data/predictions/test.parquet",
}
STREAM = """
from pathlib import Path
from churn.config.contract import load_contract
from churn.config.params import load_params
from churn.data.as_of import read_query
from churn.data.partitioning import Snapshot, pieces_of
from churn.data.sources.stream import record_batches
params, contract = load_params(), load_contract()
sql = read_query(params.fetch.query)
batches = record_batches(params.fetch.source, sql, query=params.fetch.query, timeout=60)
made = Snapshot(params.fetch, contract, sql, Path("pieces").absolute(), None)
for _ in pieces_of(batches, made, params.compute.partition_rows, []):
    pass
"""
BILLION = 10**9
MACHINES, CORES, GIB, PRICE = 10, 16, 64, 0.768  # AWS's m6i.4xlarge, its list price in dollars an hour
SPEED = 0.5  # of the ideal, because workers wait for each other and for the storage


def measured(rows: int, workers: int, memory: str) -> dict[str, Any]:
    """Run the stages on so many customers, and return the CPU seconds of each and the bytes of each table."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = folder_with(Path(temporary, "repository"), rows)
        params = folder / "params.yaml"
        text = with_settings(params.read_text(encoding="utf-8"), "xgboost")
        params.write_text(f"{text}\ncompute:\n  engine: dask\n  workers: {workers}\n  memory: {memory}\n")
        costs = {"stream": cost_of(sys.executable, "-c", STREAM, cwd=folder)[0].cpu}
        for stage in STAGES:
            if stage == "validate":
                module_cost("churn profile", folder)
            costs[stage] = module_cost(f"stages.{stage}", folder).cpu
        sizes = {name: size_of(folder / table) for name, table in TABLES.items()}
    for name, cpu in costs.items():
        print(f"{rows:>11,}  {name:9} CPU {cpu:7.1f} s", flush=True)
    return {"rows": rows, "costs": costs, "bytes": sizes}


def size_of(table: Path) -> int:
    """Return the bytes of a table's partitions."""
    return sum(one["size"] for one in read_json(table / MANIFEST)["partitions"])


def estimate(small: Mapping[str, Any], large: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the estimate for a billion customers, from what two sizes took.

    Examples
    --------
    >>> small, large = (
    ...     {"rows": rows, "costs": dict.fromkeys(["stream", *STAGES], cpu), "bytes": dict.fromkeys(TABLES, 100 * rows)}
    ...     for rows, cpu in ((1_000_000, 10.0), (2_000_000, 13.6))
    ... )
    >>> lines = [*estimate(small, large)]
    >>> lines[2], lines[-2][:17]
    ('| fetch | 10 | 14 | 1.0 |', '- Bytes: 100 GB s')
    """
    times = BILLION / (large["rows"] - small["rows"])
    hours = {name: (cpu - small["costs"][name]) * times / 3600 for name, cpu in large["costs"].items()}
    stream = hours.pop("stream")
    sizes = " | ".join(f"CPU seconds, {one['rows']:,} customers" for one in (small, large))
    yield f"| stage | {sizes} | core hours, a billion |"
    yield "|---|---|---|---|"
    for name, some in hours.items():
        yield f"| {name} | {small['costs'][name]:.0f} | {large['costs'][name]:.0f} | {some:.1f} |"
    yield ""
    time = stream + (sum(hours.values()) - stream) / (MACHINES * CORES * SPEED)
    gigabytes = {name: (size - small["bytes"][name]) * times / 10**9 for name, size in large["bytes"].items()}
    yield f"- Machines: {MACHINES} with {CORES} cores and {GIB} GB each."
    yield (
        f"- Time: {time:.1f} hours. The query and its stream take {stream:.1f} of them, because they run in the client"
        f" alone; the other {sum(hours.values()) - stream:.1f} core hours are at {SPEED:.0%} of the ideal speed."
    )
    yield f"- Bytes: {', '.join(f'{size:.0f} GB {name}' for name, size in gigabytes.items())}."
    yield f"- Cost: {time * MACHINES * PRICE:.0f} dollars, at {PRICE} dollars an hour and machine."


def main(asked: argparse.Namespace) -> None:
    """Measure, print the estimate, and put it on the page if asked."""
    small, large = (measured(rows, asked.workers, asked.memory) for rows in (asked.rows // 4, asked.rows))
    of = machine()
    made = f"Measured on {of['day']} with {asked.workers} workers: {of['processor']}, {of['cores']} cores."
    lines = [*estimate(small, large), "", made]
    print("\n".join(lines))
    if asked.record:
        text = PAGE.read_text(encoding="utf-8")
        with replacing(PAGE) as tmp:
            tmp.write_text(TABLE.sub(lambda _: "\n" + "\n".join(lines) + "\n\n", text), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__.partition("\n")[0])
    parser.add_argument("rows", nargs="?", type=int, default=2_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory", default="3GB", help="of each worker")
    parser.add_argument("--record", action="store_true", help="renew docs/scale.md")
    main(parser.parse_args())
