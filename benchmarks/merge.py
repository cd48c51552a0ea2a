"""What main's pipeline costs after a merge, with and without what the pull request's run recorded.

Without a record, main makes everything from the source to the gate. With one it fetches what fetch, prepare and train
made, from a remote that is a folder here, and validates, evaluates and judges itself (ci/recorded.py, ci/reproduce.py).
With --record the numbers go to docs/benchmarks.md. Usage: python -m benchmarks.merge [--rows ROWS] [--record]
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from benchmarks.measure import Cost, cost_of, module_cost
from benchmarks.pipelines import SAMPLE_ROWS, Repro, make_sources
from benchmarks.results import earlier, record

STAGES = ("fetch", "prepare", "train")  # as ci/recorded.py fetches


def costs(rows: int) -> tuple[Cost, Cost]:
    """Return the cost of a run that makes everything, and of one that starts from its record."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sources = make_sources(folder, rows)
        branch, main = Repro(folder / "branch", sources).folder, Repro(folder / "main", sources).folder
        remote = ("dvc", "remote", "add", "--quiet", "--local", "--default", "branch", str(folder / "remote"))
        for repository in (branch, main):
            cost_of(*remote, cwd=repository)
        shutil.rmtree(main / ".dvc/cache", ignore_errors=True)
        whole = cost_of("dvc", "repro", "--no-run-cache", "gate", cwd=branch)[0]
        cost_of("dvc", "push", "--quiet", *STAGES, cwd=branch)
        shutil.copy(branch / "dvc.lock", folder / "recorded.lock")
        taken = module_cost(f"churn lock take {folder / 'recorded.lock'}", main)
        fetched = cost_of("dvc", "fetch", "--quiet", "--remote", "branch", *STAGES, cwd=main)[0]
        made = cost_of("dvc", "repro", "--pull", "--no-run-cache", "gate", cwd=main)[0]
    parts = (taken, fetched, made)
    return whole, Cost(sum(one.wall for one in parts), sum(one.cpu for one in parts), max(one.peak for one in parts))


def main(rows: int, recorded: bool) -> None:
    """Print both and their ratio."""
    whole, reused = costs(rows)
    ratio = reused.cpu / whole.cpu
    print(
        f"{rows:,} customers: everything {whole.cpu:.1f} CPU s, from the record {reused.cpu:.1f} s, {ratio:.2f} of it"
    )
    if recorded:
        sizes = earlier("merge", "rows") | {str(rows): {"whole": whole.as_json(), "reused": reused.as_json()}}
        record("merge", {"rows": sizes})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.merge", description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=SAMPLE_ROWS, help="%(default)s, the sample, by default")
    parser.add_argument("--record", action="store_true", help="renew docs/benchmarks.md")
    asked = parser.parse_args()
    if asked.rows < 1_000:
        parser.error("rows: at least 1000")
    main(asked.rows, asked.record)
