"""What every benchmark needs: the cost of a command with all of its processes, and a clean clone to run it in."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "data/sample/telco_customers.csv"
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # as the Makefile does; else each stage would compile all its modules

# Linux counts the memory of the process that starts another as that one's, too. So a small process starts the command.
# A daemon that the command leaves behind becomes a child of that small process (PR_SET_CHILD_SUBREAPER), and ends here.
WATCH = """
import ctypes, json, os, resource, signal, subprocess, sys, time
ctypes.CDLL(None).prctl(36, 1)
start = time.perf_counter()
status = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode
wall = time.perf_counter() - start
while left := open(f"/proc/self/task/{os.getpid()}/children").read().split():
    for one in left:
        os.kill(int(one), signal.SIGKILL)
    for one in left:
        os.waitpid(int(one), 0)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps((wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)))
sys.exit(status)
"""


class Cost(NamedTuple):
    """Of a command: wall seconds, CPU seconds of all its processes, and the peak MiB of the largest of them."""

    wall: float
    cpu: float
    peak: float

    def as_json(self) -> dict[str, float]:
        """Return the numbers as the results have them."""
        return {"wall": round(self.wall, 2), "cpu": round(self.cpu, 2), "peak": round(self.peak)}


def cost_of(
    *command: str, cwd: Path, env: Mapping[str, str] | None = None, accept: tuple[int, ...] = (0,)
) -> tuple[Cost, str]:
    """Run a command, and return its cost and what it printed. Exits when its status is not one of `accept`."""
    watched = (sys.executable, "-ISc", WATCH, *command)
    done = subprocess.run(watched, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode not in accept:
        sys.exit(f"{' '.join(command)[:300]} failed with {done.returncode}:\n{done.stderr[-6000:]}")
    return Cost(*json.loads(done.stdout)), done.stderr


def module_cost(module: str, folder: Path) -> Cost:
    """Run a Python module with its arguments in a folder, and return its cost."""
    return cost_of(sys.executable, "-m", *module.split(), cwd=folder)[0]


def processor_seconds() -> float:
    """Return the CPU seconds that all processes of this machine have used since it started."""
    user, nice, system = Path("/proc/stat").read_text(encoding="utf-8").split()[1:4]
    return (int(user) + int(nice) + int(system)) / os.sysconf("SC_CLK_TCK")


def median(costs: Iterable[Cost]) -> Cost:
    """Return the median of each number."""
    return Cost(*map(statistics.median, zip(*costs, strict=True)))


def median_ratio(pairs: Iterable[tuple[Cost, Cost]], of: Callable[[Cost], float] = lambda one: one.cpu) -> float:
    """Return the median ratio of pairs that ran one after the other, so that other load disturbs both alike."""
    return statistics.median(of(ours) / of(theirs) for ours, theirs in pairs)


def clone(folder: Path) -> Path:
    """Return a fresh clone of the repository's last commit, without any cache."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    return folder
