"""What each stage costs beside its bare imports on the sample, and `dvc repro` with nothing to do beside `dvc status`.

The numbers are CPU seconds, and the medians of runs in turn. With --record they go to docs/benchmarks.md.
Usage: python -m benchmarks.stages [ROUNDS] [--record]
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import clone, cost_of, median, median_ratio, module_cost
from benchmarks.results import record

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


def main(rounds: int, recorded: bool) -> None:
    """Print a line a stage, and the ratio."""
    with tempfile.TemporaryDirectory() as temporary:
        repository = clone(Path(temporary, "repository"))
        cost_of("dvc", "repro", cwd=repository)
        found = {}
        for stage, names in IMPORTS.items():
            pairs = []
            for _ in range(rounds):
                imports = cost_of(sys.executable, "-c", f"import {names}", cwd=repository)[0]
                if stage == "register":  # for the first time, in a registry that is not there yet
                    (repository / "mlflow.db").unlink()
                pairs.append((module_cost(f"stages.{stage}", repository), imports))
            whole, bare = (median(column) for column in zip(*pairs, strict=True))
            found[stage] = {"cpu": round(whole.cpu, 2), "imports": round(bare.cpu, 2)}
            print(f"{stage:9} {whole.cpu:.2f} CPU s, of which imports {bare.cpu:.2f} s", flush=True)
        idle = [
            (cost_of("dvc", "repro", cwd=repository)[0], cost_of("dvc", "status", cwd=repository)[0])
            for _ in range(3 * rounds)
        ]
    nothing = {"cpu": round(median(ours for ours, _ in idle).cpu, 2), "ratio": round(median_ratio(idle), 2)}
    print(f"nothing to do: {nothing['cpu']:.2f} CPU s, {nothing['ratio']:.2f} of dvc status (at most 1.30)")
    if recorded:
        record("stages", {"stages": found, "nothing": nothing})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stages", description=__doc__.partition("\n")[0])
    parser.add_argument("rounds", nargs="?", type=int, default=3, help="at least 1; %(default)s by default")
    parser.add_argument("--record", action="store_true", help="renew docs/benchmarks.md")
    asked = parser.parse_args()
    if asked.rounds < 1:
        parser.error("rounds: at least 1")
    main(asked.rounds, asked.record)
