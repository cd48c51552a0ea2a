"""Compares a challenger with the baseline, main's model: not worse in any slice, and not implausibly better.

Both scored the same rows. Worse means beyond the margin and significant; docs/decisions.md has the false alarms of
either condition alone. Intervals of slices have Bonferroni's correction, because one of many looks worse by chance.
"""

from collections.abc import Iterable, Iterator
from statistics import NormalDist

from churn.config.params import SMALLER_IS_BETTER, VsBaseline
from churn.core.results import RuleOutcome
from churn.evaluation.metrics import Z
from churn.evaluation.paired import Difference, Differences, SliceDifferences
from churn.gate.rules import OVERALL, check_limit, finite, shown


def vs_baseline(overall: Differences, slices: Iterable[SliceDifferences], rules: VsBaseline) -> list[RuleOutcome]:
    """Return the outcomes of the comparison with main's model.

    Parameters
    ----------
    overall : mapping of str to Difference
        By the metric's name, on all customers. A metric of a rule without a difference fails it.
    slices : iterable of SliceDifferences
        A slice's metric without an interval is skipped.
    rules : VsBaseline
        `load_params().gate.vs_baseline`.

    Returns
    -------
    list of RuleOutcome
        The rules for all customers, for each slice, and against implausible gains. The value is the gain in the
        metric's unit, positive where the challenger is better; the limit is the least, or the greatest, gain allowed.

    Examples
    --------
    >>> metric = {"roc_auc": 0.005}
    >>> rules = VsBaseline(margins=metric, slice_margins=metric, familywise_alpha=0.01, max_gain=metric)
    >>> loss = Difference(main=0.86, branch=0.84, difference=-0.02, low=-0.03, high=-0.01)
    >>> [(rule.kind, rule.limit, rule.value, rule.status) for rule in vs_baseline({"roc_auc": loss}, [], rules)]
    [('vs_baseline', -0.01, -0.02, 'failed'), ('max_gain', 0.005, -0.02, 'passed')]
    """
    # protection: not worse than main
    outcomes = [_not_worse(OVERALL, metric, overall.get(metric), rules.margins[metric], Z) for metric in rules.margins]
    # protection: not worse than main in any slice
    tests = [
        (name, metric, differences[metric])
        for name, _, differences in slices
        for metric in rules.slice_margins
        if differences.get(metric, Difference()).low is not None
    ]
    reach = NormalDist().inv_cdf(1 - rules.familywise_alpha / (2 * max(len(tests), 1)))
    outcomes += [_not_worse(name, metric, one, rules.slice_margins[metric], reach) for name, metric, one in tests]
    # protection: too good to be true
    return [*outcomes, *_plausible(overall, rules)]


def gain(metric: str, one: Difference) -> float | None:
    """Return by how much the challenger is better, in the metric's unit."""
    if one.difference is None:
        return None
    return round(-one.difference if metric in SMALLER_IS_BETTER else one.difference, 6)


def _not_worse(scope: str, metric: str, one: Difference | None, margin: float, reach: float) -> RuleOutcome:
    """Return the outcome of non-inferiority, its interval `reach` standard errors wide to either side."""
    rule = {"kind": "vs_baseline", "scope": scope, "metric": metric, "statistic": "gain"}
    value, low, high = (None, None, None) if one is None else map(finite, (gain(metric, one), one.low, one.high))
    if one is None or value is None or low is None or high is None:
        message = f"{metric} of {scope} cannot be compared with main's"
        return check_limit(("min", -margin), None, message, **rule)
    allowed = max(margin, (high - low) / 2 * reach / Z)
    message = (
        f"{metric} of {scope} is {shown(one.branch)} against main's {shown(one.main)}: {abs(value):.4f} worse, where"
        f" {allowed:.4f} is allowed"
    )
    return check_limit(("min", -round(allowed, 6)), value, message, **rule)


def _plausible(overall: Differences, rules: VsBaseline) -> Iterator[RuleOutcome]:
    for metric, most in rules.max_gain.items():
        one = overall.get(metric, Difference())
        value = finite(gain(metric, one))
        message = (
            f"{metric} of {OVERALL} is {shown(one.branch)} against main's {shown(one.main)}: a gain of more than"
            f" {most:g} is too good to be true; look for what knows the label, or let a code owner approve a higher"
            " gate.vs_baseline.max_gain"
        )
        yield check_limit(
            ("max", most), value, message, kind="max_gain", scope=OVERALL, metric=metric, statistic="gain"
        )
