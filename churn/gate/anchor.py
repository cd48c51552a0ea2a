"""Compares a challenger with the anchor, an earlier model of main, because small losses and small leaks add up."""

import re

from churn.config.params import Gate
from churn.core.results import RuleOutcome
from churn.evaluation.paired import Difference, Differences
from churn.gate.baseline import gain, vs_baseline
from churn.gate.rules import finite


def vs_anchor(total: Differences, step: Differences, rules: Gate, owner: str) -> list[RuleOutcome]:
    """Return the outcomes of the comparison with the anchor, on all customers.

    Parameters
    ----------
    total : mapping of str to Difference
        From the anchor to the challenger. A metric that it lacks is not compared.
    step : mapping of str to Difference
        From main's model to the challenger.
    rules : Gate
        `load_params().gate`.
    owner : str
        Whose values the messages name, such as "main's model of 2026-08-29 (abc1234)".

    Returns
    -------
    list of RuleOutcome
        Those of `vs_baseline` with the limits of `gate.anchor`, or the total's noise where it is larger. If main itself
        is beyond a limit, which takes an approval, the limit is main's own total and the noise of the step.

    Examples
    --------
    >>> from pathlib import Path
    >>> from churn.config.params import load_params
    >>> total = Difference(main=0.86, branch=0.845, difference=-0.015, low=-0.02, high=-0.01)
    >>> step = Difference(main=0.849, branch=0.845, difference=-0.004, low=-0.007, high=-0.001)
    >>> gate = load_params(Path("tests/sample/params.yaml")).gate
    >>> rule, *_ = vs_anchor({"roc_auc": total}, {"roc_auc": step}, gate, "main's model of 2026-08-29 (abc1234)")
    >>> rule.status, rule.limit
    ('failed', -0.01)
    """
    limits = rules.vs_baseline.model_copy(
        update={
            "margins": {metric: most for metric, most in rules.anchor.margins.items() if metric in total},
            "max_gain": {
                metric: max(most, _reach(total[metric]) or 0)
                for metric, most in rules.anchor.max_gain.items()
                if metric in total
            },
        }
    )
    # protection: small steps add up
    return [_beyond_main(rule, step.get(rule.metric), owner) for rule in vs_baseline(total, (), limits)]


def _reach(one: Difference) -> float | None:
    """Return half the width of the interval."""
    low, high = finite(one.low), finite(one.high)
    return None if low is None or high is None else (high - low) / 2


def _beyond_main(rule: RuleOutcome, step: Difference | None, owner: str) -> RuleOutcome:
    """Return the anchor's outcome, by main's own total where main itself is beyond the limit, and the step is noise."""
    if rule.status == "failed" and rule.value is not None and step is not None:
        last, reach = finite(gain(rule.metric, step)), _reach(step)
        if last is not None and reach is not None:
            sign = 1 if rule.bound == "min" else -1
            before, limit = sign * (rule.value - last), sign * rule.limit
            if before < limit and before - reach <= sign * rule.value:
                own = round(sign * (before - reach), 6)
                margin = round(sign * (rule.value - own), 6)
                rule = rule.model_copy(update={"limit": own, "margin": margin, "status": "passed"})
    message = re.sub("main's( ?)", lambda found: f"{owner} with " if found[1] else owner, rule.message)
    message = message.replace("gate.vs_baseline.", "gate.anchor.")
    return rule.model_copy(update={"kind": "vs_anchor", "message": message})
