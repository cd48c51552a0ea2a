"""How much the metrics of an honest model move with the split alone, and whether the gate tells a bad one.

Draws RUNS splits of the fetched customers, as prepare does but each with another salt; trains and evaluates the
model of params.yaml on each, as the stages do; and prints for every rule of the gate the middle, the spread and
the far end of the honest values, how many spreads lie between, and how many honest models the rules block. Then the
same rules judge models that were spoilt on purpose. Usage: python -m benchmarks.holdout_noise [RUNS]
"""

from collections.abc import Callable, Iterator

from benchmarks.command import repetitions
from churn.config.contract import Contract, load_contract
from churn.config.params import Params, load_params
from churn.core.paths import TEST, TRAIN
from churn.data.split import in_holdout
from churn.evaluation.holdout import evaluation_of, scores_of
from churn.gate.rules import evaluate_rules
from churn.modeling.model import read_table
from stages.train import build_classifier, build_model, fit

import numpy as np
import pandas as pd
from tqdm import tqdm

Spoil = Callable[[pd.DataFrame, pd.Series], tuple[pd.DataFrame, pd.Series]]


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
    return X.assign(contract="Month-to-month", tenure_months=1), y


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


def evaluations(spoil: Spoil, runs: int, params: Params, contract: Contract) -> Iterator[dict[str, object]]:
    """Yield an evaluation, as metrics/evaluation.json has it, for each of `runs` salts."""
    (X_1, y_1, keys_1), (X_2, y_2, keys_2) = (read_table(path, contract) for path in (TRAIN, TEST))
    X, y = pd.concat([X_1, X_2], ignore_index=True), pd.concat([y_1, y_2], ignore_index=True)
    keys = pd.concat([keys_1, keys_2], ignore_index=True)
    for run in tqdm(range(runs), desc=spoil.__name__, leave=False, disable=None):
        holdout = in_holdout(keys, f"noise {run}", params.prepare.holdout_share)
        X_train, y_train = spoil(X[~holdout], y[~holdout])
        model = fit(build_model(build_classifier(params.train), contract), X_train, y_train, len(X_train))
        scores = scores_of(model, X[holdout])
        yield evaluation_of(X[holdout], y[holdout], scores, params.evaluate, contract)


def main(runs: int) -> None:
    """Print the noise of the honest model, and what the gate says of each."""
    params, contract = load_params(), load_contract()
    outcomes = [
        [rule for rule in evaluate_rules(evaluation, params.gate) if rule.kind == "bound"]
        for evaluation in evaluations(honest, runs, params, contract)
    ]
    print(f"{runs} splits of the same customers, default model")
    print(f"{'rule':42}{'bound':>10}{'median':>9}{'spread':>9}{'1 % end':>9}{'room in spreads':>17}")
    for rules in zip(*outcomes, strict=True):
        rule = rules[0]
        values = np.array([np.nan if each.value is None else each.value for each in rules])
        spread, middle = float(np.std(values, ddof=1)), float(np.median(values))
        end = float(np.quantile(values, 0.01 if rule.bound == "min" else 0.99))
        room = abs(middle - rule.limit) / spread
        name = f"{rule.scope} {rule.metric}"
        print(f"{name:42}{rule.bound:>5}{rule.limit:>5g}{middle:9.4f}{spread:9.4f}{end:9.4f}{room:17.1f}")
    for spoil in (
        honest,
        without_new_customers,
        new_customers_labelled_late,
        contract_lost,
        labels_shuffled,
        two_hundred_rows,
    ):
        spoilt = () if spoil is honest else evaluations(spoil, max(runs // 5, 10), params, contract)
        judged = [evaluate_rules(each, params.gate) for each in spoilt] or outcomes
        blocked = sum(any(rule.status == "failed" for rule in rules) for rules in judged)
        print(f"{spoil.__name__.replace('_', ' '):42}blocked {blocked} of {len(judged)}")


if __name__ == "__main__":
    main(repetitions("holdout_noise", __doc__, "runs", default=150, least=10))
