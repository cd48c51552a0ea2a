"""Which true losses the comparison with main blocks, by the holdout's size; and what many small losses add up to.

All customers are scored by models that did not learn from them. A challenger's scores are main's with more noise, so
its true loss is known: the mean fall of the ROC AUC on all customers. Holdouts are drawn from them with replacement,
and judged as `python -m report` does, for all customers. Beside it stand the fixed floors of the ROC AUC and the
accuracy in params.yaml, where it has them, which is what a tutorial checks. Usage: python -m benchmarks.power [RUNS]
"""

from typing import Any, NamedTuple

from benchmarks.command import repetitions
from benchmarks.false_alarms import Bench, honest
from churn.core.results import RuleOutcome
from churn.data.split import in_holdout
from churn.evaluation.metrics import Floats, Z, all_metrics, as_json, roc_auc
from churn.evaluation.paired import Differences, compare
from churn.gate.anchor import Compared, vs_anchor
from churn.gate.baseline import vs_baseline
from churn.gate.rules import evaluate_bounds

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

FOLDS = 5
LOSSES = (0.0, 0.004, 0.008, 0.012, 0.016, 0.02, 0.03, 0.04)  # of the ROC AUC
SIZES = (100, 400, 1_452, 6_000)  # customers in the holdout; the sample has 1,452
DISAGREEMENT = 0.25  # SD of the noise on an honest model's log odds
FLOORS = ("roc_auc", "accuracy")
PROPOSALS, EACH = 40, (0.002, 0.004)  # a week one after the other, and what each would lose of the ROC AUC
WEEKS = 13  # that the anchor lies back
HALF = 0.019  # of a leak; gate.vs_baseline.max_gain allows 0.02


class Judged(NamedTuple):
    """The rule on the ROC AUC, whether any rule of the comparison blocked, and whether a fixed floor did."""

    area: RuleOutcome
    blocked: bool
    by_floors: bool


class Pool:
    """All customers' labels, and log odds of models that did not learn from them."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.params, self.random = self.bench.params, np.random.default_rng(0)
        self.labels: Floats = self.bench.y.to_numpy(np.float64)
        self.odds = self.learned_from(np.ones(len(self.labels), dtype=bool))

    def learned_from(self, some: npt.NDArray[np.bool_]) -> Floats:
        """Return each customer's log odds by a model that learned from `some` of the others."""
        bench, scores = self.bench, np.empty(len(some))
        fold = np.full(len(some), FOLDS - 1)
        for number in range(FOLDS - 1):
            fold[(fold == FOLDS - 1) & in_holdout(bench.keys, f"fold {number}", 1 / (FOLDS - number))] = number
        for number in range(FOLDS):
            inside, others = np.flatnonzero(fold == number), np.flatnonzero((fold != number) & some)
            scores[inside] = bench.scores(honest, bench.params.train.seed, others, inside)
        odds: Floats = np.log(scores / (1 - scores))
        return odds

    def noise(self) -> Floats:
        """Return a standard normal number for each customer."""
        return self.random.normal(size=len(self.odds))

    def area(self, odds: Floats) -> float:
        """Return the ROC AUC of all customers."""
        value = roc_auc(self.labels, odds).value
        return np.nan if value is None else value

    def spread(self, odds: Floats, loss: float, least: float = 0.0) -> float:
        """Return the SD of the noise on `odds` that loses so much more of the ROC AUC than `least` does."""
        low, high, noises = least, 5.0, [self.noise() for _ in range(20)]

        def mean(spread: float) -> float:
            return float(np.mean([self.area(odds + spread * noise) for noise in noises]))

        wanted = mean(least) - loss
        for _ in range(20):
            middle = (low + high) / 2
            low, high = (middle, high) if mean(middle) > wanted else (low, middle)
        return low

    def compared(self, main: Floats, branch: Floats, rows: Any) -> Differences:
        """Compare two models by their log odds on a holdout."""
        theirs, ours = (1 / (1 + np.exp(-odds[rows])) for odds in (main, branch))
        return compare(self.labels[rows], theirs, ours, self.params.evaluate)

    def judged(self, main: Floats, branch: Floats, rows: Any, anchor: Floats | None = None) -> Judged:
        """Judge a challenger by its log odds on a holdout, also against an anchor if there is one."""
        evaluate, gate, y = self.params.evaluate, self.params.gate, self.labels[rows]
        step, ours = self.compared(main, branch, rows), 1 / (1 + np.exp(-branch[rows]))
        outcomes = vs_baseline(len(y), step, [], gate)
        if anchor is not None:
            total = Compared(len(y), self.compared(anchor, branch, rows))
            outcomes += vs_anchor(total, Compared(len(y), step), gate, "the anchor with")
        evaluation = as_json(all_metrics(y, ours, evaluate))
        floors = list(
            evaluate_bounds("all", evaluation, {name: gate.overall[name] for name in FLOORS if name in gate.overall})
        )
        area = next(one for one in outcomes if one.kind == "vs_baseline" and one.metric == "roc_auc")
        return Judged(area, *(any(one.status == "failed" for one in rules) for rules in (outcomes, floors)))


def power(pool: Pool, runs: int) -> None:
    """Print the share of challengers that is blocked, by true loss and holdout size, and that at the stated loss."""

    def judged(loss: float, size: int) -> list[Judged]:
        """Judge challengers with this true loss, each on a holdout of its own."""
        spread, found = pool.spread(pool.odds, loss, DISAGREEMENT), []
        for _ in range(runs):
            main, branch = (pool.odds + one * pool.noise() for one in (DISAGREEMENT, spread))
            found.append(pool.judged(main, branch, pool.random.integers(len(pool.odds), size=size)))
        return found

    print("challengers that the comparison with main blocks (and a fixed floor), by their true loss of ROC AUC;")
    print("and the loss that the rule on the ROC AUC states to block in 80 of 100 holdouts, and how many it blocks")
    print(f"{'holdout':>9}" + "".join(f"{loss:14g}" for loss in LOSSES) + f"{'stated':>10}{'blocked':>9}")
    for size in SIZES:
        cells, stated = [], []
        for loss in tqdm(LOSSES, desc=f"{size:,}", leave=False, disable=None):
            found = judged(loss, size)
            blocked, by_floors = (np.mean([getattr(one, name) for one in found]) for name in ("blocked", "by_floors"))
            cells.append(f"{blocked:7.0%} ({by_floors:4.0%})")
            stated.append(float(np.mean([one.area.detects or 0.0 for one in found])))
        # The loss that holdouts of challengers with this loss state.
        cross = float(np.interp(0.0, np.array(LOSSES) - np.array(stated), LOSSES))
        by_area = np.mean([one.area.status == "failed" for one in judged(cross, size)])
        print(f"{size:9,}" + "".join(f"{one:>14}" for one in cells) + f"{cross:10.4f}{by_area:9.0%}")


def disagreement(pool: Pool, runs: int) -> None:
    """Print how far two honest models differ on a holdout of the sample's size, and with which standard error."""
    half = in_holdout(pool.bench.keys, "half", 0.5)
    noisy = tuple(pool.odds + DISAGREEMENT * pool.noise() for _ in range(2))
    print(f"two honest models on {SIZES[2]:,} customers: SD of the difference, and mean standard error")
    for name, (one, other) in (
        ("trained on disjoint halves", tuple(map(pool.learned_from, (half, ~half)))),
        (f"noise {DISAGREEMENT:g} on the log odds", noisy),
    ):
        found = [pool.compared(one, other, pool.random.integers(len(half), size=SIZES[2])) for _ in range(runs)]
        for metric in pool.params.gate.vs_baseline.margins:
            values = [each[metric].difference for each in found]
            errors = [(each[metric].high - each[metric].low) / 2 / Z for each in found]  # type: ignore[operator]
            print(f"    {name:30}{metric:20}{np.std(np.array(values, float)):9.4f}{np.mean(errors):9.4f}")


def small_steps(pool: Pool, holdouts: int) -> None:
    """Print what proposals that each lose a little add up to, and how far a leak in two halves comes."""
    grid = np.linspace(DISAGREEMENT, 4.0, 40)
    noises = [pool.noise() for _ in range(10)]
    areas = np.array([np.mean([pool.area(pool.odds + spread * noise) for noise in noises]) for spread in grid])

    def year(each: float, rows: Any, gated: bool, anchored: bool) -> tuple[int, float]:
        spread, merged = DISAGREEMENT, 0
        mains = [pool.odds + spread * pool.noise()]
        for _ in range(PROPOSALS):
            wider = float(np.interp(np.interp(spread, grid, areas) - each, areas[::-1], grid[::-1]))
            proposal = mains[-1] + np.sqrt(wider**2 - spread**2) * pool.noise()
            anchor = mains[max(len(mains) - WEEKS, 0)] if anchored and len(mains) > 1 else None
            passes = not gated or not pool.judged(mains[-1], proposal, rows, anchor).blocked
            mains.append(proposal if passes else mains[-1])
            spread, merged = (wider, merged + 1) if passes else (spread, merged)
        return merged, pool.area(mains[0]) - pool.area(mains[-1])

    places = [pool.random.permutation(len(pool.odds))[: SIZES[2]] for _ in range(holdouts)]
    for each in EACH:
        print(f"{PROPOSALS} weekly proposals that each lose {each:g} of ROC AUC: merged, and the total loss")
        for name, gated, anchored in (("none", False, False), ("main", True, False), ("main and anchor", True, True)):
            found = [year(each, rows, gated, anchored) for rows in tqdm(places, desc=name, leave=False, disable=None)]
            merged, lost = np.mean(found, axis=0)
            print(f"    {name:16}{merged:6.1f}{lost:9.4f}")
    knows = pool.labels - pool.labels.mean()

    def leaked(odds: Floats) -> Floats:
        low, high, wanted = 0.0, 10.0, pool.area(odds) + HALF
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (low, middle) if pool.area(odds + middle * knows) > wanted else (middle, high)
        shifted: Floats = odds + low * knows
        return shifted

    honest_one = pool.odds + DISAGREEMENT * pool.noise()
    first = leaked(honest_one)
    second = leaked(first)
    print(f"a leak in two halves of {HALF:g} each: blocked")
    for name, main, branch, anchor in (
        ("the first", honest_one, first, None),
        ("the second, by main", first, second, None),
        ("the second, by main and anchor", first, second, honest_one),
    ):
        print(f"    {name:32}{np.mean([pool.judged(main, branch, rows, anchor).blocked for rows in places]):6.0%}")


def main(runs: int) -> None:
    """Print the power, and what small steps add up to."""
    pool = Pool()
    power(pool, runs)
    disagreement(pool, runs)
    small_steps(pool, max(runs // 10, 5))


if __name__ == "__main__":
    main(repetitions("power", __doc__, "runs", default=200, least=10))
