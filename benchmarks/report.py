"""Time the report on a branch with another model, beside its imports and beside one that asks DVC for main's side.

Main's results lie in DVC's cache, from which the report restores them. In the second repository dvc.yaml says something
that only DVC understands, so the report lets `dvc repro` make main's side, as a report without that short way does. All
run in turn. The seconds are those of the processor, with child processes. With --record the medians go to
docs/benchmarks.md. Usage: python -m benchmarks.report [ROUNDS] [--record]
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import clone
from benchmarks.results import record

SEED = ("seed: 42", "seed: 43")
IDENTITY = {
    f"GIT_{who}_{what}": "bench@example.invalid" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
}


def processor(*command: str, cwd: Path) -> tuple[float, str]:
    """Run a command; return the seconds that it used of the processor, and its stderr. Exits when it fails.

    A report that has nothing to compare with would take less.
    """
    before = os.times()
    done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True)
    after = os.times()
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return used, done.stderr


def branch(folder: Path, pipeline: str) -> Path:
    """Return a clone whose main has `pipeline` added to dvc.yaml, on a branch with another model; both have run."""
    repository = clone(folder)

    def commit() -> None:
        subprocess.run(["dvc", "repro", "--quiet"], cwd=repository, check=True, capture_output=True)
        subprocess.run(
            ["git", "commit", "--quiet", "--all", "--allow-empty", "--message", "Run"],
            cwd=repository,
            env=os.environ | IDENTITY,
            check=True,
        )

    with (repository / "dvc.yaml").open("a", encoding="utf-8") as file:
        file.write(pipeline)
    commit()
    params = repository / "params.yaml"
    text = params.read_text(encoding="utf-8")
    if SEED[0] not in text:
        raise SystemExit(f"params.yaml has no `{SEED[0]}` to change: this benchmark knows the sample alone.")
    params.write_text(text.replace(*SEED), encoding="utf-8")
    commit()
    return repository


def imports(said: str) -> str:
    """Return a program that imports what `python -X importtime` has told of, in that order.

    It tells also of optional modules that a library has tried in vain: they fail here as they did there.
    """
    names = re.findall(r"^import time:.*\| {1,}([\w.]+)$", said, flags=re.MULTILINE)
    return f"""
import importlib
for name in {json.dumps(names)}:
    try:
        importlib.import_module(name)
    except ImportError:
        pass
"""


def main(rounds: int, recorded: bool) -> None:
    """Print the times and the ratios."""
    with tempfile.TemporaryDirectory() as temporary:
        restored = branch(Path(temporary, "restored"), "")
        asked = branch(Path(temporary, "asked"), "artifacts: {}\n")
        report = ("-m", "report", "--base", "main~1")
        program = imports(processor(sys.executable, "-X", "importtime", *report, cwd=restored)[1])
        rows = []
        for _ in range(rounds + 1):
            ours, theirs = (processor(sys.executable, *report, cwd=where)[0] for where in (restored, asked))
            rows.append((ours, theirs, processor(sys.executable, "-c", program, cwd=restored)[0]))
            print("report {:.1f} s, by dvc repro {:.1f} s, imports {:.1f} s".format(*rows[-1]))
    ours, theirs, bare = (statistics.median(column) for column in zip(*rows[1:], strict=True))
    print(f"report: {ours / bare:.2f} of its imports (at most 1.50)")
    print(f"report: {ours / theirs:.2f} of one for which `dvc repro` makes main's side")
    if recorded:
        medians = {"cpu": ours, "by_dvc": theirs, "imports": bare}
        record("report", {name: round(value, 2) for name, value in medians.items()})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__.partition("\n")[0])
    parser.add_argument("rounds", nargs="?", type=int, default=3, help="at least 1; %(default)s by default")
    parser.add_argument("--record", action="store_true", help="renew docs/benchmarks.md")
    asked = parser.parse_args()
    if asked.rounds < 1:
        parser.error("rounds: at least 1")
    main(asked.rounds, asked.record)
