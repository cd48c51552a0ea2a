"""What the stages cost on ten million customers, or on a thousand columns: wall and CPU seconds, and memory.

The customers are those of the sample, over and over, each time with another key, in no order. With --columns they are
random, and three of five features are numbers. Runs one stage after the other in a temporary folder (about 1 GB).
Usage: python -m benchmarks.scale [ROWS] [--columns COLUMNS] [--estimator sklearn|lightgbm|xgboost] [--memory 3GB]
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "data/sample/telco_customers.csv"
DATA = ("stages.fetch", "stages.prepare", "churn profile", "stages.validate")
MODEL = ("stages.train", "stages.evaluate", "stages.gate", "churn drift --before data/raw/customers.parquet")
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
  anchor: {days: 90, margins: {roc_auc: 0.2}, max_gain: {roc_auc: 0.2}}
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

# Linux counts the memory of the process that starts another as that one's, too. So a small process starts the module.
PEAK = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_maxrss, used.ru_utime + used.ru_stime)
sys.exit(status)
"""


def make_source(target: Path, rows: int) -> None:
    """Write a Parquet file of `rows` customers, all columns text as in the CSV, with keys that are unique."""
    duckdb.execute(f"""
        COPY (
            SELECT sample.* REPLACE (lpad(CAST(number * 7919 % {rows} AS VARCHAR), 9, '0') || customerID AS customerID)
            FROM range({rows}) AS numbers(number)
            JOIN (SELECT *, row_number() OVER () - 1 AS line FROM read_csv('{SAMPLE}', all_varchar = true)) AS sample
            ON number % 7043 = line
        ) TO '{target}' (FORMAT parquet)""")


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


def run_module(module: str, folder: Path) -> tuple[float, float, float]:
    """Run a module with its arguments; return its wall time, its CPU time in seconds, and its peak memory in MiB."""
    start = time.perf_counter()
    command = (sys.executable, "-ISc", PEAK, sys.executable, "-m", *module.split())
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        sys.exit(f"{module} failed.")
    peak, cpu = done.stdout.split()
    return time.perf_counter() - start, float(cpu), int(peak) / 1024


def main(rows: int, columns: int, estimator: str, memory: str | None) -> None:
    """Print a line a stage."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in ("churn", "stages"):
            shutil.copytree(ROOT / name, folder / name)
        for name in ("contract.yaml", "source.sql"):
            shutil.copy(ROOT / name, folder)
        params = (ROOT / "params.yaml").read_text(encoding="utf-8")
        params = params.replace(str(SAMPLE.relative_to(ROOT)), "customers.parquet")
        if estimator in ESTIMATORS:
            start, end = params.index("  estimator:"), params.index("  seed:")
            params = params[:start] + ESTIMATORS[estimator] + params[end:]
        if memory:
            params += f"\ncompute:\n  memory: {memory}\n"
        (folder / "params.yaml").write_text(params)
        if columns:
            make_wide(folder, rows, columns)
        else:
            make_source(folder / "customers.parquet", rows)
        whole = []
        for module in (*DATA, *MODEL):
            whole.append(run_module(module, folder))
            print(line(" ".join(module.split()[:2]), whole[-1]), flush=True)
        seconds, cpu, peak = zip(*whole, strict=True)
        print(line("all", (sum(seconds), sum(cpu), max(peak))))


def line(name: str, used: tuple[float, float, float]) -> str:
    """Return a row of the table."""
    seconds, cpu, peak = used
    return f"{name:16} {seconds:6.1f} s {cpu:6.1f} CPU s {peak:7,.0f} MiB"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.partition("\n")[0])
    parser.add_argument("rows", nargs="?", type=int, default=10_000_000)
    parser.add_argument("--columns", type=int, default=0, help="features of random customers, instead of the sample's")
    parser.add_argument("--estimator", choices=("sklearn", *ESTIMATORS), default="sklearn")
    parser.add_argument("--memory", help="compute.memory, such as 3GB")
    asked = parser.parse_args()
    if asked.rows < 1 or asked.columns < 0:
        parser.error("rows: at least 1, and columns at least 0")
    main(asked.rows, asked.columns, asked.estimator, asked.memory)
