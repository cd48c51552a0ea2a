"""What the stages cost on millions of customers, or on a thousand columns: seconds, and the peak of memory.

The customers are those of `benchmarks.customers`. With --columns they are random, and three of five features are
numbers. The stages run one after the other in a temporary folder, which takes 1 GB for ten million customers; --until
names the last one. The stages up to validate run once, the others for each estimator. `xgboost:2GB` sets
`compute.memory`, beyond which XGBoost trains on disk. `dvc` is DVC's share: its hashes and its copies of the outputs.
With --record the numbers go to docs/benchmarks.md.
Usage: python -m benchmarks.scale [ROWS ...] [--until STAGE] [--columns COLUMNS] [--record]
    [--estimator sklearn lightgbm xgboost xgboost:2GB ...]
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

from benchmarks.customers import make_customers
from benchmarks.measure import ROOT, SAMPLE, clone, module_cost, processor_seconds
from benchmarks.results import earlier, record
from benchmarks.tables import SHARED

import duckdb

DATA = ("stages.fetch", "stages.prepare", "churn profile", "stages.validate")
COMMIT = "dvc commit --force --quiet fetch prepare validate train evaluate gate"  # dvc.lock, which register asks for
MODEL = ("stages.train", "stages.evaluate", "stages.gate", COMMIT, "stages.register")
SCORE = (
    "churn score data/raw/customers.parquet scores.parquet --version 1",
    "churn drift --before data/raw/customers.parquet",
)
UNIFORM = "(hash(row, {0}) % 10000 / 10000)"
KINDS = (  # of the columns that --columns asks for: the declaration, and the SQL of a value
    ("number", f"round(6 * ({UNIFORM} + hash(row, {{0}}, 1) % 1000 / 1000) + churn, 3)"),
    ("number, nulls: allow, because: Unknown.", f"if({UNIFORM} < 0.1, NULL, hash(row) % 977 / 7 + {{0}})"),
    ("integer", f"CAST(99 * {UNIFORM} AS BIGINT)"),
    ("category, values: [low, middle, high]", f"if({UNIFORM} < 0.4, 'low', if({UNIFORM} < 0.8, 'middle', 'high'))"),
    ("boolean", f"{UNIFORM} < 0.3"),
)
RULES = """\
rules:
  min_rows: 1000
  label_rate: {min: 0.01, max: 0.6}
  max_single_feature_roc_auc: 0.85
  profile: {rows: {min: 0.9, max: 1.5}, nulls: 0.05, mean: 0.3, quantiles: 0.1, categories: 0.1, label_rate: 0.1}
  relations: {}
"""
SETTINGS = """
evaluate: {threshold: 0.5, campaign: {capacity: 0.1}, slices: {columns: [c3, c4], conditions: {low: c0 < 6}}}
gate:
  overall: {roc_auc: {min: 0.5}}
  min_slice_rows: 100
  slices: {}
  every_slice: {max_roc_auc_gap: 0.9, calibration_error: 0.9, predicted_to_actual_ratio: 0.1}
  vs_baseline:
    margins: {roc_auc: 0.1}
    slice_margins: {roc_auc: 0.2}
    tolerance: 9
    familywise_alpha: 0.01
    max_gain: {roc_auc: 0.1}
  when_inconclusive: {overall: pass, slices: pass}
  anchor: {days: 90, margins: {roc_auc: 0.2}, slice_margins: {roc_auc: 0.4}, max_gain: {roc_auc: 0.2}}
"""


ESTIMATORS = {  # like those of params.yaml: 200 trees of 8 leaves, of half of the features
    "lightgbm": """\
  estimator: lightgbm.LGBMClassifier
  parameters: {learning_rate: 0.05, n_estimators: 200, num_leaves: 8, min_child_samples: 40, colsample_bytree: 0.5}
""",
    "xgboost": """\
  estimator: xgboost.XGBClassifier
  parameters: {learning_rate: 0.05, n_estimators: 200, max_depth: 3, min_child_weight: 5, colsample_bytree: 0.5}
""",
}


def with_settings(params: str, estimator: str, memory: str | None = None) -> str:
    """Return params.yaml with another estimator and `compute.memory`."""
    if estimator in ESTIMATORS:
        start, end = params.index("  estimator:"), params.index("  seed:")
        params = params[:start] + ESTIMATORS[estimator] + params[end:]
    return f"{params}\ncompute:\n  memory: {memory}\n" if memory else params


def make_wide(folder: Path, rows: int, columns: int, churners: int = 30) -> None:
    """Write a source of random customers with so many features and churners per hundred, and the settings for it."""
    chosen = {f"c{number}": KINDS[number % len(KINDS)] for number in range(columns)}
    values = ", ".join(f"{value.format(name[1:])} AS {name}" for name, (_, value) in chosen.items())
    labelled = f"SELECT row, CAST(hash(row) % 100 < {churners} AS INTEGER) AS churn FROM range({rows}) AS numbers(row)"
    source = folder / "customers.parquet"
    duckdb.execute(f"COPY (SELECT 'k' || md5(row::VARCHAR) AS id, churn, {values} FROM ({labelled})) TO '{source}'")
    declared = "".join(f"  {name}: {{role: feature, type: {kind}}}\n" for name, (kind, _) in chosen.items())
    numbers = [name for name, (kind, _) in chosen.items() if kind.startswith(("number", "integer"))]
    (folder / "contract.yaml").write_text(
        "columns:\n  id: {role: key, type: string}\n  churn: {role: label, type: integer}\n"
        f"{declared}{RULES}  ranges: {{{', '.join(f'{name}: {{min: 0, max: 2000}}' for name in numbers)}}}\n"
    )
    (folder / "source.sql").write_text("SELECT * FROM source\n")
    params = (folder / "params.yaml").read_text(encoding="utf-8")
    start, end = params.index("\nevaluate:"), params.index("\nregister:")
    (folder / "params.yaml").write_text(params[:start] + SETTINGS + params[end:])
    features = (folder / "churn/features.py").read_text(encoding="utf-8")
    (folder / "churn/features.py").write_text(features.replace("= (add_num_products,)", "= ()"))


def folder_with(folder: Path, rows: int, columns: int = 0) -> Path:
    """Clone the last commit into a folder, put a source of so many customers there, and return it."""
    clone(folder)
    params = (folder / "params.yaml").read_text(encoding="utf-8")
    (folder / "params.yaml").write_text(params.replace(str(SAMPLE.relative_to(ROOT)), "customers.parquet"))
    if columns:
        make_wide(folder, rows, columns)
    else:
        make_customers(folder / "customers.parquet", rows)
    return folder


def short(module: str) -> str:
    """Return the name of a stage or command."""
    return module.removeprefix("stages.").removeprefix("churn ").split()[0]


def measured(
    folder: Path, modules: Iterable[str], until: str, rows: int, name: str
) -> tuple[dict[str, Any], str | int | None]:
    """Run stages or commands until the named one, print a line for each, and return what each cost, and a failure.

    Beside them stands `other`: how many processors other processes used meanwhile, without which wall time says little.
    """
    costs, began, busy, failure = {}, time.perf_counter(), processor_seconds(), None
    for module in modules:
        try:
            costs[short(module)] = cost = module_cost(module, folder)
        except SystemExit as end:  # those before it may have taken an hour
            failure = end.code
            break
        wall, cpu, peak = cost
        ends = "" if name == SHARED else f"  {name}"
        print(f"{rows:>11,}  {short(module):9} {wall:7.1f} s, CPU {cpu:7.1f} s {peak:7,.0f} MiB{ends}", flush=True)
        if short(module) == until:
            break
    other = processor_seconds() - busy - sum(cost.cpu for cost in costs.values())
    found: dict[str, Any] = {stage: cost.as_json() for stage, cost in costs.items()}
    return found | {"other": round(max(other / (time.perf_counter() - began), 0), 1)}, failure


def keep(rows: int, name: str, found: dict[str, Any]) -> None:
    """Put what was measured of one estimator, or of the stages before it, into the results."""
    sizes, installed = earlier("scale", "rows"), packages_distributions()
    values = {"rows": sizes | {str(rows): sizes.get(str(rows), {}) | {name: found}}}
    record("scale", values, **{one: version(installed[one][0]) for one in ESTIMATORS if one in installed})


def main(asked: argparse.Namespace) -> None:
    """Measure each size, and each estimator on it."""
    for rows in asked.rows:
        with tempfile.TemporaryDirectory() as temporary:
            folder = folder_with(Path(temporary, "repository"), rows, asked.columns)
            params = folder / "params.yaml"
            given = params.read_text(encoding="utf-8")
            for name in (SHARED, *asked.estimator):
                if name != SHARED:
                    params.write_text(with_settings(given, *name.split(":")), encoding="utf-8")
                    (folder / "mlflow.db").unlink(missing_ok=True)  # so that each makes its registry and version 1
                found, failure = measured(folder, DATA if name == SHARED else (*MODEL, *SCORE), asked.until, rows, name)
                if asked.record:
                    keep(rows, name, found)
                if failure:
                    sys.exit(failure)
                if name == SHARED and asked.until in found:
                    break


if __name__ == "__main__":
    names = [short(module) for module in (*DATA, *MODEL, *SCORE)]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.partition("\n")[0])
    parser.add_argument("rows", nargs="*", type=int, default=[1_000_000])
    parser.add_argument("--until", choices=names, default="drift", help="the last one to run")
    parser.add_argument("--columns", type=int, default=0, help="features of random customers, instead of the sample's")
    parser.add_argument("--estimator", nargs="+", default=["sklearn"], help="sklearn, lightgbm, xgboost, xgboost:2GB")
    parser.add_argument("--record", action="store_true", help="renew docs/benchmarks.md")
    asked = parser.parse_args()
    if min(asked.rows) < 1 or asked.columns < 0:
        parser.error("rows: at least 1, and columns at least 0")
    if unknown := {name.partition(":")[0] for name in asked.estimator} - {"sklearn", *ESTIMATORS}:
        parser.error(f"estimator: {', '.join(sorted(unknown))} is none of sklearn, {', '.join(ESTIMATORS)}")
    main(asked)
