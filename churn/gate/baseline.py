"""Compares a challenger with the baseline, main's model: not worse in any slice, and not implausibly better.

Both scored the same rows. A comparison fails where the loss is beyond the margin and significant, and passes where the
loss is shown to be below a tolerance (non-inferiority, Piaggio et al. 2012). Else it is inconclusive. docs/gate.md has
the statistics. Significance has Bonferroni's correction, because of many metrics and slices one looks worse by chance.
The intervals hold the noise of the holdout; models that learned from other customers have that of their training, too.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from math import ceil, sqrt
from statistics import NormalDist
from typing import NamedTuple

from churn.config.params import AT_EQUAL_NUMBER, OVERALL, SMALLER_IS_BETTER, Gate, VsBaseline
from churn.core.results import RuleOutcome
from churn.evaluation.metrics import Z
from churn.evaluation.paired import Difference, Differences, SliceDifferences
from churn.gate.rules import POWER, check_limit, finite, shown, stated

FAMILY = 0.05  # two-sided, for all metrics of all customers together; slices have rules.familywise_alpha
MOST_CUSTOMERS = 10**12  # that a message names


class Known(NamedTuple):
    """What main compares by its own settings: the metrics of all customers, the slices, and the metrics of these."""

    margins: Collection[str]
    slices: Collection[str]
    slice_margins: Collection[str]


def vs_baseline(  # noqa: PLR0913  # the last two are of the report alone
    rows: int,
    overall: Differences,
    slices: Iterable[SliceDifferences],
    gate: Gate,
    training: float = 0.0,
    *,
    known: Known | None = None,
) -> list[RuleOutcome]:
    """Return the outcomes of the comparison with main's model.

    Parameters
    ----------
    rows : int
        The number of customers whom both models scored.
    overall : mapping of str to Difference
        By the metric's name, on all of them. A metric of a rule without a difference fails it.
    slices : iterable of SliceDifferences
        A slice's metric without an interval is skipped.
    gate : Gate
        `load_params().gate`.
    training : float, optional
        The variance of a difference by other training customers, in variances by the holdout; see `training_noise`.
    known : Known, optional
        What main compares, where `gate` is the stricter of main's and a branch's. A comparison that a branch adds makes
        none of main's less strict.

    Returns
    -------
    list of RuleOutcome
        The rules for all customers, for each slice, and against implausible gains. The value is the gain in the
        metric's unit, positive where the challenger is better; the limit is the least, or the greatest, gain allowed.
        An inconclusive comparison has that status, or has failed where `gate.when_inconclusive` blocks it.

    Examples
    --------
    >>> from pathlib import Path
    >>> from churn.config.params import load_params
    >>> gate = load_params(Path("tests/sample/params.yaml")).gate
    >>> loss = Difference(main=0.86, branch=0.84, difference=-0.02, low=-0.03, high=-0.01)
    >>> rule, *_ = vs_baseline(1_452, {"roc_auc": loss}, [], gate)
    >>> rule.limit, rule.value, rule.noise, rule.status
    (-0.005, -0.02, 0.013142, 'failed')
    """
    rules, when = gate.vs_baseline, gate.when_inconclusive

    def reach(alpha: float, tests: int) -> float:
        return NormalDist().inv_cdf(1 - alpha / (2 * max(tests, 1)))

    def tests(alpha: float, block: bool, mains: Sequence[bool]) -> Iterator[_Test]:
        """Yield the test of each comparison, corrected for all of them, or for main's where it is one of main's."""
        ours, theirs = (
            _Test(reach(alpha, count), rules.tolerance, block, spread) for count in (len(mains), sum(mains))
        )
        yield from (theirs if of_main else ours for of_main in mains)

    everyone = SliceDifferences(OVERALL, rows, overall)
    spread = sqrt(1 + training)
    mains = [known is None or metric in known.margins for metric in rules.margins]
    # protection: not worse than main
    outcomes = [
        _not_worse(everyone, metric, margin, test)
        for (metric, margin), test in zip(
            rules.margins.items(), tests(FAMILY, when.overall == "block", mains), strict=True
        )
    ]
    # protection: not worse than main in any slice
    compared = [
        (part, metric, margin)
        for part in slices
        for metric, margin in rules.slice_margins.items()
        if part.differences.get(metric, Difference()).low is not None
    ]
    mains = [
        known is None or (part.name in known.slices and metric in known.slice_margins) for part, metric, _ in compared
    ]
    each = tests(rules.familywise_alpha, when.slices == "block", mains)
    outcomes += [_not_worse(*one, test) for one, test in zip(compared, each, strict=True)]
    # protection: too good to be true
    return [*outcomes, *_plausible(overall, rules, spread)]


class Trained(NamedTuple):
    """The customers that a model learned from, and how many of them the other model did not."""

    customers: int
    alone: int


def training_noise(compared: int, *models: Trained) -> float:
    """Return the variance of a difference by the training of both models, in variances by the holdout.

    Two models that learned from other customers differ by chance, and the paired interval holds only the chance of the
    holdout. As Nadeau & Bengio 2003 do, a customer counts as much where a model learns from them as where it is judged
    by them, so the ratio is that of the sizes. What both models learned from cancels out.

    Parameters
    ----------
    compared : int
        The customers whom both models scored.
    *models : Trained
        What either model learned from.

    Examples
    --------
    >>> training_noise(1_452, Trained(5_591, 0), Trained(5_591, 0))
    0.0
    >>> round(training_noise(1_452, Trained(5_591, 5_591), Trained(5_591, 5_591)), 2)
    0.52
    """
    return sum(compared * one.alone / max(one.customers, 1) ** 2 for one in models)


def gain(metric: str, one: Difference) -> float | None:
    """Return by how much the challenger is better, in the metric's unit."""
    if one.difference is None:
        return None
    return round(-one.difference if metric in SMALLER_IS_BETTER else one.difference, 6)


class _Test(NamedTuple):
    """The standard errors beyond which a loss is significant, the tolerance in margins, and whether doubt blocks.

    `spread` is by how much the training widens a standard error.
    """

    reach: float
    tolerance: float
    block: bool
    spread: float


def _not_worse(part: SliceDifferences, metric: str, margin: float, test: _Test) -> RuleOutcome:
    """Return the outcome of the comparison in one metric."""
    scope, rows, one = part.name, part.rows, part.differences.get(metric, Difference())
    rule = {"kind": "vs_baseline", "scope": scope, "metric": metric, "statistic": "gain"}
    value, low, high = map(finite, (gain(metric, one), one.low, one.high))
    if value is None or low is None or high is None:
        message = f"{metric} of {scope} cannot be compared with main's"
        return check_limit(("min", -margin), None, message, **rule)
    half, tolerated = test.spread * (high - low) / 2, test.tolerance * margin
    noise, largest = test.reach / Z * half, half - value
    least = max(margin, noise)  # the observed loss that is blocked
    if test.block:
        least = min(least, tolerated - half)
    needed = min(ceil(rows * ((test.reach / Z + POWER) * half / margin) ** 2), MOST_CUSTOMERS)
    power = stated(noise, least + POWER * half) | {"needed": needed}
    equally = ", at as many predicted customers" if metric in AT_EQUAL_NUMBER else ""
    message = f"{metric} of {scope} is {shown(one.branch)} against main's {shown(one.main)}{equally}: "
    passed = check_limit(("min", -margin), value, "", **rule, **power)
    if -value > max(margin, noise):
        message += f"{-value:.4f} worse, where {margin:.4f} is allowed"
        return passed.model_copy(update={"status": "failed", "message": message})
    # protection: a loss that the holdout is too small to show
    if largest >= tolerated:
        message += (
            f"the loss may be as large as {largest:.4f}, and it is to be shown below {tolerated:.4f};"
            f" {rows:,} customers are too few, about {needed:,} would do"
        )
        return passed.model_copy(update={"status": "failed" if test.block else "inconclusive", "message": message})
    message += f"a loss of {tolerated:.4f} or more is ruled out"
    return passed.model_copy(update={"status": "passed", "message": message})


def _plausible(overall: Differences, rules: VsBaseline, spread: float) -> Iterator[RuleOutcome]:
    for metric, most in rules.max_gain.items():
        one = overall.get(metric, Difference())
        value = finite(gain(metric, one))
        message = (
            f"{metric} of {OVERALL} is {shown(one.branch)} against main's {shown(one.main)}: a gain of more than"
            f" {most:g} is too good to be true; look for what knows the label, or let a code owner approve a higher"
            " gate.vs_baseline.max_gain"
        )
        rule = {"kind": "max_gain", "scope": OVERALL, "metric": metric, "statistic": "gain"}
        outcome, low, high = check_limit(("max", most), value, message, **rule), finite(one.low), finite(one.high)
        if low is not None and high is not None:
            noise = spread * (high - low) / 2
            outcome = outcome.model_copy(update=stated(noise, most + POWER * noise))
        yield outcome
