"""Time the way from a clone to a registered model, with uv, and beside it the same with pip alone, as where uv fails.

Each starts without an environment and with an empty home, so with empty caches, and needs the network. The seconds of
the processor are those of all its processes: unlike the others, they hold on a machine that is busy with other things.
With --record they go to docs/benchmarks.md. Usage: python -m benchmarks.first_run [--record]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import clone
from benchmarks.results import record

NO_INDEX = {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "UV_HTTP_RETRIES": "0"}  # so that uv fails at once


def processor() -> float:
    """Return the seconds that the finished child processes have used of the processor."""
    used = os.times()
    return used.children_user + used.children_system


def first_run(folder: Path, **environment: str) -> tuple[float, float]:
    """Clone the repository and run it; return the seconds, and those of the processor."""
    home = folder / "home"
    home.mkdir(parents=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "UV_", "VIRTUAL_ENV"))}
    start, used = time.perf_counter(), processor()
    repository = clone(folder / "churn")
    for target in ("setup", "repro"):
        began, busy = time.perf_counter(), processor()
        subprocess.run(
            ["make", f"PYTHON={Path(sys.base_prefix, 'bin', 'python3')}", target],
            cwd=repository,
            env=kept | {"HOME": str(home)} | environment,
            check=True,
            capture_output=True,
        )
        print(f"  make {target}: {time.perf_counter() - began:.1f} s, processor {processor() - busy:.1f} s")
    return time.perf_counter() - start, processor() - used


def main(recorded: bool) -> None:
    """Print the times and the ratio."""
    with tempfile.TemporaryDirectory() as temporary:
        print("uv:")
        ours, busy = first_run(Path(temporary, "uv"))
        print("pip:")
        theirs, pips = first_run(Path(temporary, "pip"), **NO_INDEX)
    print(f"first run: {ours:.1f} s (at most 40), with pip {theirs:.1f} s; processor {busy:.1f} and {pips:.1f} s")
    print(f"first run: {ours / theirs:.2f} of that with pip (at most 0.50)")
    if recorded:
        by = {"uv": (ours, busy), "pip": (theirs, pips)}
        record("first_run", {name: {"wall": round(wall, 1), "cpu": round(cpu, 1)} for name, (wall, cpu) in by.items()})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_run", description=__doc__.partition("\n")[0])
    parser.add_argument("--record", action="store_true", help="renew docs/benchmarks.md")
    main(parser.parse_args().record)
