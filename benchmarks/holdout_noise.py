"""How far the rules of params.yaml lie from an honest model's values, and whether they tell a bad model.

Trains on RUNS splits of the snapshot, as `python -m churn bounds` does; prints for every bound the median,
the standard deviation, the far end of the honest values and the room between; then how many honest models the rules
block, and how many that were spoilt on purpose. Usage: python -m benchmarks.holdout_noise [RUNS]
"""

from collections.abc import Iterator

from benchmarks.command import repetitions
from benchmarks.false_alarms import Spoil, applicable, failed, honest
from churn.adopting.noise import splits_of
from churn.config.contract import Contract, load_contract
from churn.config.params import Params, load_params
from churn.core.paths import RAW
from churn.core.results import RuleOutcome
from churn.gate.rules import evaluate_rules

import numpy as np


def judged(spoil: Spoil, runs: int, params: Params, contract: Contract) -> Iterator[list[RuleOutcome]]:
    """Yield the outcomes of every rule on a model of each split, spoilt by `spoil`."""
    for split in splits_of(runs, RAW, params, contract):
        scores = split.scores(*spoil(split.X, split.y))
        yield evaluate_rules(split.holdout.evaluation(scores, params.evaluate), params.gate)


def main(runs: int) -> None:
    """Print the noise of the honest model, and what the gate says of each."""
    params, contract = load_params(), load_contract()
    outcomes = list(judged(honest, runs, params, contract))
    print(f"{runs} splits of the same customers, default model")
    print(f"{'rule':42}{'bound':>10}{'median':>9}{'SD':>9}{'1 % end':>9}{'room in SD':>12}")
    for rules in zip(*([one for one in each if one.kind == "bound"] for each in outcomes), strict=True):
        rule = rules[0]
        values = np.array([np.nan if each.value is None else each.value for each in rules])
        deviation, middle = float(np.std(values, ddof=1)), float(np.median(values))
        end = float(np.quantile(values, 0.01 if rule.bound == "min" else 0.99))
        room = abs(middle - rule.limit) / deviation
        name = f"{rule.scope} {rule.metric}"
        print(f"{name:42}{rule.bound:>4} {rule.limit:<5g}{middle:9.4f}{deviation:9.4f}{end:9.4f}{room:12.1f}")
    for spoil in (honest, *applicable(contract)):
        rules_of = outcomes if spoil is honest else list(judged(spoil, max(runs // 5, 10), params, contract))
        blocked = sum(bool(failed(each)) for each in rules_of)
        print(f"{spoil.__name__.replace('_', ' '):42}blocked {blocked} of {len(rules_of)}")


if __name__ == "__main__":
    main(repetitions("holdout_noise", __doc__, "runs", default=150, least=10))
