"""How often the whole gate blocks an honest retraining, and how often a model that is truly worse than main's.

In each run the fetched customers are drawn anew (a bootstrap) and split by another salt; main's model is trained with
the seed of params.yaml and an honest challenger with another, on the same rows. The gate then judges the challenger as
CI does: the rules for all customers and for slices, and the paired comparison with main. Then it judges challengers
that were spoilt on purpose. Usage: python -m benchmarks.false_alarms [RUNS]
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from benchmarks.holdout_noise import (
    Spoil,
    contract_lost,
    honest,
    labels_shuffled,
    new_customers_labelled_late,
    two_hundred_rows,
    without_new_customers,
)
from churn.challenge import against_main
from churn.contract import load_contract
from churn.evaluation import evaluation_of, scores_of
from churn.metrics import Floats
from churn.model import read_table
from churn.paired import compare
from churn.params import Params, load_params
from churn.slices import slice_masks
from churn.split import in_holdout
from churn.stage import TEST, TRAIN
from churn.verdict import judge_all
from stages.train import build_classifier, build_model, fit

import numpy as np
import pandas as pd
from tqdm import tqdm

Rules = list[dict[str, Any]]


def half_the_rows(X: pd.DataFrame, y: pd.Series) -> tuple[pd.DataFrame, pd.Series]:
    """Lose half of the rows in silence."""
    return X.iloc[::2], y.iloc[::2]


def without_contract(X: pd.DataFrame, y: pd.Series) -> tuple[pd.DataFrame, pd.Series]:
    """Freeze one strong column."""
    return X.assign(contract="Month-to-month"), y


SPOILT = (without_new_customers, new_customers_labelled_late, contract_lost, without_contract, labels_shuffled)


class Bench:
    """The fetched customers, and what judges models of them."""

    def __init__(self) -> None:
        self.params, self.contract = load_params(), load_contract()
        tables = [read_table(path, self.contract) for path in (TRAIN, TEST)]
        self.X: pd.DataFrame = pd.concat([table[0] for table in tables], ignore_index=True)
        self.y: pd.Series = pd.concat([table[1] for table in tables], ignore_index=True)
        self.keys: pd.Series = pd.concat([table[2] for table in tables], ignore_index=True)

    def scores(self, spoil: Spoil, seed: int, rows: Any, holdout: Any) -> Floats:
        """Train on `rows` with a seed, and return the scores of the rows of `holdout`."""
        train = self.params.train.model_copy(update={"seed": seed})
        X, y = spoil(self.X.iloc[rows].reset_index(drop=True), self.y.iloc[rows].reset_index(drop=True))
        model = fit(build_model(build_classifier(train), self.contract), X, y, len(X))
        return scores_of(model, self.X.iloc[holdout])

    def judged(self, run: int, spoils: tuple[Spoil, ...]) -> Iterator[Rules]:
        """Yield the outcomes of every rule on a challenger spoilt by each of `spoils`."""
        params: Params = self.params
        drawn = np.random.default_rng(run).integers(0, len(self.X), len(self.X))
        held_out = in_holdout(self.keys, f"false alarms {run}", params.prepare.holdout_share)[drawn]
        rows, holdout = drawn[~held_out], drawn[held_out]  # a customer drawn twice is on one side
        features: pd.DataFrame = self.X.iloc[holdout].reset_index(drop=True)
        y = self.y.iloc[holdout].to_numpy()
        theirs, threshold = self.scores(honest, params.train.seed, rows, holdout), params.evaluate.threshold
        masks = list(slice_masks(features, params.evaluate.slices, self.contract))
        for spoil in spoils:
            ours = self.scores(spoil, params.train.seed + run + 1, rows, holdout)
            slices = [
                (name, compare(y[part], theirs[part], ours[part], threshold))
                for name, part in masks
                if part.sum() >= params.gate.min_slice_rows
            ]
            evaluation = evaluation_of(features, y, ours, params.evaluate, self.contract)
            beside = compare(y, theirs, ours, threshold)
            yield [*judge_all(evaluation, params.gate), *against_main(beside, slices, params.gate.against_main)]


def broken(rules: Rules) -> list[str]:
    """Return the broken rules by name."""
    return [f"{rule['scope']} {rule['metric']}" for rule in rules if rule["outcome"] == "broken"]


def main(runs: int) -> None:
    """Print the share of honest retrainings that are blocked and by what, then that of spoilt ones."""
    bench = Bench()
    blocked = [
        broken(rules)
        for run in tqdm(range(runs), desc="honest", leave=False, disable=None)
        for rules in bench.judged(run, (honest,))
    ]
    print(f"honest retrainings blocked: {sum(map(bool, blocked))} of {runs}")
    for name, count in Counter(name for names in blocked for name in names).most_common():
        print(f"    {name}: {count}")
    spoils = (*SPOILT, half_the_rows, two_hundred_rows)
    some = max(runs // 10, 10)
    found = [
        [broken(rules) for rules in bench.judged(run, spoils)]
        for run in tqdm(range(some), desc="spoilt", leave=False, disable=None)
    ]
    for spoil, names in zip(spoils, zip(*found, strict=True), strict=True):
        against = sum(any("against main" in name for name in each) for each in names)
        says = f"blocked {sum(map(bool, names))} of {some}, {against} of them by the comparison with main"
        print(f"{spoil.__name__.replace('_', ' '):32}{says}")


if __name__ == "__main__":
    if len(sys.argv) > 2 or (len(sys.argv) == 2 and not re.fullmatch("[1-9][0-9]+", sys.argv[1])):
        sys.exit(__doc__)
    main(int(sys.argv[1]) if len(sys.argv) == 2 else 200)
