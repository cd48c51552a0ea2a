"""How often the whole gate blocks an honest retraining, and how often a model that is truly worse than main's.

In each run the customers are split by another salt, and the training rows drawn anew from the training table (a
bootstrap: the same number, some of them more than once); main's model is trained with the seed of params.yaml and an
honest challenger with another. The gate then judges the challenger as CI does: the rules for all customers and for
slices, and the paired comparison with main. Then it judges challengers that were spoilt on purpose, and says what each
margin of the ROC AUC would do alone. Drawing the holdout anew as well would count its noise twice: the split is its
draw. Usage: python -m benchmarks.false_alarms [RUNS]
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.command import repetitions
from churn.config.contract import Contract, load_contract
from churn.config.params import OVERALL, Params, Train, load_params
from churn.core.paths import TEST, TRAIN
from churn.core.results import RuleOutcome
from churn.data.split import in_holdout
from churn.evaluation.holdout import evaluation_of, scores_of
from churn.evaluation.metrics import Floats
from churn.evaluation.paired import Difference, compare, compare_slices
from churn.evaluation.slices import slice_masks
from churn.gate.baseline import vs_baseline
from churn.gate.rules import evaluate_rules
from churn.modeling.model import read_parquet, read_table, types_of
from churn.modeling.training import build_classifier, build_model, fit

import numpy as np
import pandas as pd
from tqdm import tqdm

Rules = list[RuleOutcome]
Spoil = Callable[[pd.DataFrame, pd.Series], tuple[pd.DataFrame, pd.Series]]
NEEDED = {"without_new_customers": {"tenure_months"}, "new_customers_labelled_late": {"tenure_months"}}
NEEDED |= {"contract_lost": {"contract", "tenure_months"}, "without_contract": {"contract"}}  # other tables lack some


def honest(X: pd.DataFrame, y: pd.Series) -> tuple[pd.DataFrame, pd.Series]:
    """Leave the training table as it is."""
    return X, y


def without_new_customers(X: pd.DataFrame, y: pd.Series) -> tuple[pd.DataFrame, pd.Series]:
    """Lose in silence who is new, as a feature that is NaN for them and a dropna would."""
    return X[X["tenure_months"] >= 6], y[X["tenure_months"] >= 6]


def new_customers_labelled_late(X: pd.DataFrame, y: pd.Series) -> tuple[pd.DataFrame, pd.Series]:
    """Believe that no new customer churned, as with labels that arrive months later."""
    return X, y.where(X["tenure_months"] >= 6, 0)


def contract_lost(X: pd.DataFrame, y: pd.Series) -> tuple[pd.DataFrame, pd.Series]:
    """Freeze the two strongest columns, as a broken join does."""
    return X.assign(contract=X["contract"].mode()[0], tenure_months=1), y


def labels_shuffled(X: pd.DataFrame, y: pd.Series) -> tuple[pd.DataFrame, pd.Series]:
    """Shuffle two labels in five."""
    random = np.random.default_rng(0)
    mixed = y.to_numpy().copy()
    chosen = random.permutation(len(y))[: len(y) * 2 // 5]
    mixed[chosen] = random.permutation(mixed[chosen])
    return X, pd.Series(mixed, index=y.index)


def two_hundred_rows(X: pd.DataFrame, y: pd.Series) -> tuple[pd.DataFrame, pd.Series]:
    """Train on what is left when nearly all rows are lost."""
    return X.head(200), y.head(200)


def half_the_rows(X: pd.DataFrame, y: pd.Series) -> tuple[pd.DataFrame, pd.Series]:
    """Lose half of the rows in silence."""
    return X.iloc[::2], y.iloc[::2]


def without_contract(X: pd.DataFrame, y: pd.Series) -> tuple[pd.DataFrame, pd.Series]:
    """Freeze one strong column."""
    return X.assign(contract=X["contract"].mode()[0]), y


SPOILT = (
    without_new_customers,
    new_customers_labelled_late,
    contract_lost,
    without_contract,
    half_the_rows,
    two_hundred_rows,
    labels_shuffled,
)
MARGINS = (0.003, 0.005, 0.01)


def applicable(contract: Contract) -> tuple[Spoil, ...]:
    """Return the ways to spoil a model for which the contract has the column."""
    return tuple(one for one in SPOILT if NEEDED.get(one.__name__, set()) <= contract.columns.keys())


def trained(train: Train, contract: Contract, X: pd.DataFrame, y: pd.Series) -> Any:
    """Return the model of `train` in params.yaml, trained on these rows."""
    return fit(build_model(build_classifier(train), contract), X, y, len(X))


class Bench:
    """The fetched customers, and what judges models of them."""

    def __init__(self) -> None:
        self.params, self.contract = load_params(), load_contract()
        tables = [read_table(path, self.contract) for path in (TRAIN, TEST)]
        self.X: pd.DataFrame = pd.concat([table[0] for table in tables], ignore_index=True)
        self.y: pd.Series = pd.concat([table[1] for table in tables], ignore_index=True)
        customer = types_of([self.contract.customer], self.contract)
        names = [read_parquet(path, customer)[self.contract.customer] for path in (TRAIN, TEST)]
        self.keys: pd.Series = pd.concat([name.to_pandas() for name in names], ignore_index=True)  # of the customers

    def scores(self, spoil: Spoil, seed: int, rows: Any, holdout: Any) -> Floats:
        """Train on `rows` with a seed, and return the scores of the rows of `holdout`."""
        train = self.params.train.model_copy(update={"seed": seed})
        X, y = spoil(self.X.iloc[rows].reset_index(drop=True), self.y.iloc[rows].reset_index(drop=True))
        return scores_of(trained(train, self.contract, X, y), self.X.iloc[holdout])

    def rules(self, features: pd.DataFrame, y: Floats, scores: tuple[Floats, Floats]) -> tuple[Rules, Difference]:
        """Return the outcomes of every rule on a challenger, and how its ROC AUC differs; main's scores come first."""
        evaluate, gate = self.params.evaluate, self.params.gate
        masks = slice_masks(features, evaluate.slices, self.contract)
        slices = compare_slices(masks, y, scores, evaluate, gate.min_slice_rows)
        evaluation = evaluation_of(features, y, scores[1], evaluate, self.contract)
        beside = compare(y, *scores, evaluate)
        return [*evaluate_rules(evaluation, gate), *vs_baseline(len(y), beside, slices, gate)], beside["roc_auc"]

    def judged(self, run: int, spoils: tuple[Spoil, ...]) -> Iterator[tuple[Rules, Difference]]:
        """Yield the outcomes of every rule on a challenger spoilt by each of `spoils`, and how its ROC AUC differs."""
        params: Params = self.params
        held_out = in_holdout(self.keys, f"false alarms {run}", params.prepare.holdout_share)
        table, holdout = np.flatnonzero(~held_out), np.flatnonzero(held_out)
        rows = np.random.default_rng(run).choice(table, len(table))
        features: pd.DataFrame = self.X.iloc[holdout].reset_index(drop=True)
        y = self.y.iloc[holdout].to_numpy()
        theirs = self.scores(honest, params.train.seed, rows, holdout)
        for spoil in spoils:
            ours = self.scores(spoil, params.train.seed + run + 1, rows, holdout)
            yield self.rules(features, y, (theirs, ours))

    def blocked_by_margin(self, margin: float, differences: list[Difference]) -> str:
        """Return how many of the differences in ROC AUC a margin alone would block, in percent."""
        rules = self.params.gate.vs_baseline.model_copy(update={"margins": {"roc_auc": margin}})
        gate = self.params.gate.model_copy(update={"vs_baseline": rules})
        blocked = [vs_baseline(0, {"roc_auc": one}, [], gate)[0].status == "failed" for one in differences]
        return f"{sum(blocked) / len(blocked):8.1%}"


def failed(rules: Rules) -> Rules:
    """Return the rules that failed."""
    return [rule for rule in rules if rule.status == "failed"]


def main(runs: int) -> None:
    """Print the share of honest retrainings that are blocked and by what, that of spoilt ones, and that by margin."""
    bench = Bench()
    judged = [
        one
        for run in tqdm(range(runs), desc="honest", leave=False, disable=None)
        for one in bench.judged(run, (honest,))
    ]
    blocked = [failed(rules) for rules, _ in judged]
    print(f"honest retrainings blocked: {sum(map(bool, blocked))} of {runs}")
    for name, count in Counter(f"{rule.scope} {rule.label}" for rules in blocked for rule in rules).most_common():
        print(f"    {name}: {count}")
    print("honest differences from main's model: SD")
    overall = [rule for rules, _ in judged for rule in rules if rule.kind == "vs_baseline" and rule.scope == OVERALL]
    for metric in bench.params.gate.vs_baseline.margins:
        gains = [np.nan if rule.value is None else rule.value for rule in overall if rule.metric == metric]
        print(f"    {metric}: {np.std(gains):.4f}")
    some = max(runs // 10, 10)
    spoilt = applicable(bench.contract)
    found = [list(bench.judged(run, spoilt)) for run in tqdm(range(some), desc="spoilt", leave=False, disable=None)]
    differences = {"honest": [difference for _, difference in judged]}
    for spoil, outcomes in zip(spoilt, zip(*found, strict=True), strict=True):
        blocked = [failed(rules) for rules, _ in outcomes]
        against = sum(any(rule.kind == "vs_baseline" for rule in rules) for rules in blocked)
        title = spoil.__name__.replace("_", " ")
        print(f"{title:32}blocked {sum(map(bool, blocked))} of {some}, {against} of them by the comparison with main")
        differences[title] = [difference for _, difference in outcomes]
    print(f"{'by the ROC AUC alone, margin':30}" + "".join(f"{margin:8}" for margin in MARGINS))
    for title, each in differences.items():
        print(f"    {title:26}" + "".join(bench.blocked_by_margin(margin, each) for margin in MARGINS))


if __name__ == "__main__":
    main(repetitions("false_alarms", __doc__, "runs", default=200, least=10))
