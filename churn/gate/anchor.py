"""Compares a challenger with the anchor, an earlier model of main, because small losses and small leaks add up."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from churn.config.params import OVERALL, Gate, WhenInconclusive
from churn.core.results import RuleOutcome
from churn.evaluation.paired import Difference, Differences, SliceDifferences
from churn.gate.baseline import Known, gain, vs_baseline
from churn.gate.rules import finite


class Compared(NamedTuple):
    """The customers that two models scored, the differences on all and on slices, and the `training_noise`."""

    rows: int
    overall: Differences
    slices: Sequence[SliceDifferences] = ()
    training: float = 0.0

    def of(self, scope: str, metric: str) -> Difference | None:
        """Return the difference in a metric of all customers or of a slice."""
        parts = {part.name: part.differences for part in self.slices} | {OVERALL: self.overall}
        return parts.get(scope, {}).get(metric)


def vs_anchor(total: Compared, step: Compared, gate: Gate, owner: str, known: Known | None = None) -> list[RuleOutcome]:
    """Return the outcomes of the comparison with the anchor.

    Parameters
    ----------
    total : Compared
        From the anchor to the challenger. A metric that it lacks is not compared.
    step : Compared
        From main's model to the challenger.
    gate : Gate
        `load_params().gate`.
    owner : str
        Whose values the messages name, such as "main's model of 2026-08-29 (abc1234)".
    known : Known, optional
        What main compares with the anchor, see `vs_baseline`.

    Returns
    -------
    list of RuleOutcome
        Those of `vs_baseline` with the margins and gains of `gate.anchor`. A gain may be as large as its noise, and
        doubt never blocks, because the comparison with main has ruled a large loss out. If main itself is beyond a
        limit, on these customers or by an approval, its own total and the noise of the step are the limit.

    Examples
    --------
    >>> from pathlib import Path
    >>> from churn.config.params import load_params
    >>> total = Difference(main=0.86, branch=0.845, difference=-0.015, low=-0.02, high=-0.01)
    >>> step = Difference(main=0.849, branch=0.845, difference=-0.004, low=-0.007, high=-0.001)
    >>> gate = load_params(Path("tests/sample/params.yaml")).gate
    >>> compared = (Compared(1_452, {"roc_auc": one}) for one in (total, step))
    >>> rule, *_ = vs_anchor(*compared, gate, "main's model of 2026-08-29 (abc1234)")
    >>> rule.status, rule.limit
    ('failed', -0.01)
    """
    margins = {metric: most for metric, most in gate.anchor.margins.items() if metric in total.overall}
    gains = {
        metric: max(most, _noise(total.overall[metric]) or 0)
        for metric, most in gate.anchor.max_gain.items()
        if metric in total.overall
    }
    limits = {"margins": margins, "max_gain": gains, "slice_margins": gate.anchor.slice_margins}
    rules = gate.model_copy(
        update={
            "vs_baseline": gate.vs_baseline.model_copy(update=limits),
            "when_inconclusive": WhenInconclusive(overall="pass", slices="pass"),
        }
    )
    # protection: small steps add up
    outcomes = vs_baseline(total.rows, total.overall, total.slices, rules, total.training, known=known)
    return [_beyond_main(rule, step.of(rule.scope, rule.metric), owner) for rule in outcomes]


def _noise(one: Difference) -> float | None:
    """Return half the width of the interval."""
    low, high = finite(one.low), finite(one.high)
    return None if low is None or high is None else (high - low) / 2


def _beyond_main(rule: RuleOutcome, step: Difference | None, owner: str) -> RuleOutcome:
    """Return the anchor's outcome, by main's own total where main itself is beyond the limit, and the step is noise."""
    message = re.sub("main's( ?)", lambda found: f"{owner} with " if found[1] else owner, rule.message)
    message = message.replace("gate.vs_baseline.", "gate.anchor.")
    rule = rule.model_copy(update={"kind": "vs_anchor", "message": message})
    if rule.status != "failed" or rule.value is None or step is None:
        return rule
    last, noise, sign = finite(gain(rule.metric, step)), _noise(step), -1 if rule.bound == "min" else 1
    if last is None or noise is None:
        return rule
    mains, total = sign * (rule.value - last), sign * rule.value  # how far in the direction of the limit
    if mains <= max(sign * rule.limit, rule.noise or 0) or total > mains + noise:
        return rule
    margin = {"limit": round(sign * (mains + noise), 6), "margin": round(mains + noise - total, 6)}
    return rule.model_copy(update={"status": "passed"} | margin)
