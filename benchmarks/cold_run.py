"""Time a cold `dvc repro`, through register, beside the four scripts that a tutorial would give you.

Both start from the sample in an empty folder with the environment installed, and run in turn, so that the
ratio holds on a machine that is busy with other things. Then each stage is timed beside its bare imports, and
a `dvc repro` with nothing to do beside `dvc status`. Usage: python -m benchmarks.cold_run [ROUNDS]
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TUTORIAL = ("check", "train", "evaluate", "register")
STAGES = ("fetch", "prepare", "validate", "train", "evaluate", "gate", "register")
IMPORTS = {
    "fetch": "duckdb, pydantic, ruamel.yaml",
    "prepare": "pandas, pyarrow.parquet, pydantic, ruamel.yaml",
    "validate": "duckdb, pydantic, ruamel.yaml",
    "train": "pandas, pyarrow.parquet, skops.io, sklearn.ensemble, sklearn.compose, sklearn.impute",
    "evaluate": "pandas, pyarrow.parquet, skops.io, sklearn.ensemble, sklearn.compose, scipy.stats",
    "gate": "pydantic, ruamel.yaml",
    "register": "pandas, pyarrow.parquet, skops.io, sklearn.ensemble, mlflow.pyfunc, jinja2,"
    " mlflow.store.tracking.sqlalchemy_store, mlflow.store.model_registry.sqlalchemy_store",
}


def seconds(*command: str, cwd: Path) -> float:
    """Run a command quietly and return its wall time in seconds. Raises CalledProcessError when it fails."""
    start = time.perf_counter()
    subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True)
    return time.perf_counter() - start


def clone(folder: Path) -> Path:
    """Return a fresh clone of the repository's last commit, without any cache."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    return folder


def tutorial_run(folder: Path) -> float:
    """Return the seconds that the four scripts take, one after the other."""
    folder.mkdir()
    shutil.copy(ROOT / "data/sample/telco_customers.csv", folder)
    return sum(seconds(sys.executable, str(ROOT / f"benchmarks/tutorial/{name}.py"), cwd=folder) for name in TUTORIAL)


def main(rounds: int) -> None:
    """Print the times and the ratios."""
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for number in range(rounds + 1):
            theirs.append(tutorial_run(folder / f"tutorial{number}"))
            repository = clone(folder / f"pipeline{number}")
            ours.append(seconds("dvc", "repro", cwd=repository))
            name = f"round {number}" if number else "warm-up"
            print(f"{name}: dvc repro {ours[-1]:.1f} s, four scripts {theirs[-1]:.1f} s")
        ratio = statistics.median(a / b for a, b in zip(ours[1:], theirs[1:], strict=True))
        print(f"cold run: {ratio:.2f} of the four scripts (at most 0.65)")

        for stage in STAGES:
            pairs = []
            for _ in range(rounds):
                imports = seconds(sys.executable, "-c", f"import {IMPORTS[stage]}", cwd=repository)
                if stage == "register":  # for the first time, in a registry that is not there yet
                    (repository / "mlflow.db").unlink()
                pairs.append((seconds(sys.executable, "-m", f"stages.{stage}", cwd=repository), imports))
            whole, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
            print(f"{stage:9} {whole:.2f} s, of which imports {bare:.2f} s: {whole - bare:+.2f} s (at most +1.00)")

        pairs = [  # many, for one costs half a second, and a tenth of it is noise
            (seconds("dvc", "repro", cwd=repository), seconds("dvc", "status", cwd=repository))
            for _ in range(10 * rounds)
        ]
        print(f"nothing to do: {statistics.median(a / b for a, b in pairs):.2f} of dvc status (at most 1.30)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold_run", description=__doc__.partition("\n")[0])
    parser.add_argument("rounds", nargs="?", type=int, default=3, help="at least 1; %(default)s by default")
    asked = parser.parse_args()
    if asked.rounds < 1:
        parser.error("rounds: at least 1")
    main(asked.rounds)
