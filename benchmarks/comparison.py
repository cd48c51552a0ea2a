"""The paired comparison of two models beside a bootstrap of the same metrics, on a million customers.

The comparison has all metrics with their 95 % intervals in one pass. A bootstrap draws the customers again, with
replacement, and computes all metrics of both models on each draw; DRAWS draws are measured and the time of 2,000 is
theirs times 2,000 / DRAWS. With --record the numbers go to docs/benchmarks.md.
Usage: python -m benchmarks.comparison [ROWS] [--record]
"""

import argparse
import time

from benchmarks.results import record
from churn.config.params import load_params
from churn.core.start import start_up
from churn.evaluation.metrics import all_metrics
from churn.evaluation.paired import compare

import numpy as np

DRAWS, USUAL = 5, 2_000


def main(rows: int, recorded: bool) -> None:
    """Print both times and their ratio."""
    params, random = load_params().evaluate, np.random.default_rng(0)
    odds = random.normal(-1.2, 1.5, rows)
    labels = (random.random(rows) < 1 / (1 + np.exp(-odds))).astype(float)
    main_scores, scores = (1 / (1 + np.exp(-(odds + random.normal(0, 0.25, rows)))) for _ in range(2))
    started = time.process_time()
    differences = compare(labels, main_scores, scores, params)
    ours = time.process_time() - started
    started = time.process_time()
    for _ in range(DRAWS):
        drawn = random.integers(0, rows, rows)
        for one in (main_scores, scores):
            all_metrics(labels[drawn], one[drawn], params)
    draws = (time.process_time() - started) * USUAL / DRAWS
    print(
        f"{rows:,} customers, {len(differences)} metrics: compared in {ours:.2f} CPU s; {USUAL:,} draws {draws:,.0f} s"
    )
    if recorded:
        values = {"rows": rows, "metrics": len(differences), "draws": USUAL}
        record("comparison", values | {"cpu": round(ours, 2), "bootstrap_cpu": round(draws)})


if __name__ == "__main__":
    start_up()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.comparison", description=__doc__.partition("\n")[0])
    parser.add_argument("rows", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--record", action="store_true", help="renew docs/benchmarks.md")
    asked = parser.parse_args()
    if asked.rows < 1_000:
        parser.error("rows: at least 1000")
    main(asked.rows, asked.record)
