"""Keeps what the benchmarks measured in benchmarks/results.json, from which benchmarks/page.py makes the page."""

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.page import RESULTS, renew, results
from churn.core.files import write_json

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


def earlier(part: str, name: str) -> dict[str, Any]:
    """Return what was measured so far of one part, for a run that measures one size more."""
    found: dict[str, Any] = results().get(part, {}).get(name, {})
    return found


def record(part: str, values: Mapping[str, Any], **versions: str) -> None:
    """Put what a benchmark measured in the place of what it measured before, and renew the page.

    `versions` has those of other programs that were measured, too.
    """
    of = machine()
    found = results() | {part: {"machine": of | {"versions": of["versions"] | versions}, **values}}
    write_json(RESULTS, found)
    renew(found)
