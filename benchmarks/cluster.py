"""What the stages cost on a Dask cluster of this machine, and what a billion customers would take at these rates.

CPU seconds of the client and of its workers together, and the bytes of the tables. The estimate multiplies them, and
docs/scale.md has it: --record renews the page. Its machines and price are those of MACHINES.
Usage: python -m benchmarks.cluster [ROWS] [--workers 2] [--memory 3GB] [--record]
"""

import argparse
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, module_cost
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
BILLION = 10**9
MACHINES, CORES, GIB, PRICE = 10, 16, 64, 0.768  # AWS's m6i.4xlarge, its list price in dollars an hour
SPEED = 0.5  # of the ideal, because workers wait for each other and for the storage


def measured(rows: int, workers: int, memory: str) -> dict[str, Any]:
    """Run the stages on so many customers, and return the cost of each and the bytes of each table."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = folder_with(Path(temporary, "repository"), rows)
        params = folder / "params.yaml"
        text = with_settings(params.read_text(encoding="utf-8"), "xgboost", None)
        params.write_text(f"{text}\ncompute:\n  engine: dask\n  workers: {workers}\n  memory: {memory}\n")
        costs = {}
        for stage in STAGES:
            if stage == "validate":
                module_cost("churn profile", folder)
            costs[stage] = module_cost(f"stages.{stage}", folder)
            print(f"{rows:>11,}  {stage:9} {costs[stage].wall:7.1f} s, CPU {costs[stage].cpu:7.1f} s", flush=True)
        sizes = {name: size_of(folder / table) for name, table in TABLES.items()}
    return {"rows": rows, "costs": {name: cost.as_json() for name, cost in costs.items()}, "bytes": sizes}


def size_of(table: Path) -> int:
    """Return the bytes of a table's partitions."""
    return sum(one["size"] for one in read_json(table / MANIFEST)["partitions"])


def estimate(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the estimate for a billion customers.

    Examples
    --------
    >>> costs = {stage: {"cpu": 36.0, "wall": 20.0} for stage in STAGES}
    >>> found = {"rows": 10_000_000, "costs": costs, "bytes": dict.fromkeys(TABLES, 10**8)}
    >>> [*estimate(found)][2]
    '| fetch | 36 | 1.0 |'
    """
    rows, times = found["rows"], BILLION / found["rows"]
    yield f"| stage | CPU seconds, {rows:,} customers | core hours, a billion |"
    yield "|---|---|---|"
    hours = {name: found["costs"][name]["cpu"] * times / 3600 for name in STAGES}
    for name, some in hours.items():
        yield f"| {name} | {found['costs'][name]['cpu']:.0f} | {some:.1f} |"
    yield f"| all | {sum(cost['cpu'] for cost in found['costs'].values()):.0f} | {sum(hours.values()):.1f} |"
    yield ""
    stream = found["costs"]["fetch"]["wall"] * times / 3600
    time = stream + (sum(hours.values()) - hours["fetch"]) / (MACHINES * CORES * SPEED)
    sizes = {name: size * times / 10**9 for name, size in found["bytes"].items()}
    yield f"- Machines: {MACHINES} with {CORES} cores and {GIB} GB."
    yield (
        f"- Time: {time:.1f} hours. The query and its stream through the client take {stream:.1f} of them, at the"
        f" rate of one client; the rest is at {SPEED:.0%} of the ideal speed."
    )
    yield f"- Bytes: {', '.join(f'{size:.0f} GB {name}' for name, size in sizes.items())}."
    yield f"- Cost: {time * MACHINES * PRICE:.0f} dollars at {PRICE} an hour and machine."


def main(asked: argparse.Namespace) -> None:
    """Measure, print the estimate, and put it on the page if asked."""
    found = measured(asked.rows, asked.workers, asked.memory)
    of = machine()
    made = f"Measured on {of['day']} with {asked.workers} workers: {of['processor']}, {of['cores']} cores."
    lines = [*estimate(found), "", made]
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
