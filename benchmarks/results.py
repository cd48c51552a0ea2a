"""Keeps what the benchmarks measured in benchmarks/results.json, and renews docs/benchmarks.md from it.

Usage: python -m benchmarks.results
"""

import argparse
import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT
from churn.core.files import replacing, write_json

RESULTS = ROOT / "benchmarks/results.json"
PAGE = ROOT / "docs/benchmarks.md"
LIBRARIES = ("dvc", "duckdb", "mlflow", "numpy", "pandas", "pyarrow", "scikit-learn")


def machine() -> dict[str, Any]:
    """Return what the numbers were measured on, and how busy it was with other things."""
    info = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    names = {name.strip(): value.strip() for name, value in info.items()}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "day": datetime.now(UTC).date().isoformat(),
        "processor": names.get("model name", platform.machine()),
        "cores": os.cpu_count(),
        "memory_gib": round(memory),
        "load": round(os.getloadavg()[1], 1),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in LIBRARIES},
    }


def record(part: str, values: Mapping[str, Any], **versions: str) -> None:
    """Put what a benchmark measured in the place of what it measured before, and renew the page.

    `versions` has those of other programs that were measured, too.
    """
    from benchmarks.page import draw, filled

    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    of = machine()
    results[part] = {"machine": of | {"versions": of["versions"] | versions}, **values}
    write_json(RESULTS, results)
    text = filled(PAGE.read_text(encoding="utf-8"), results)
    with replacing(PAGE) as tmp:
        tmp.write_text(text, encoding="utf-8")
    draw(results)


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m benchmarks.results", description=__doc__.partition("\n")[0]).parse_args()
