"""Evaluates the gate's rules on an evaluation. gate runs it, and the report runs it by main's rules.

A rule fails when its metric is missing, null, NaN or not a number, and when its slice is missing.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from churn.config.params import OVERALL, Bound, EverySlice, Gate
from churn.core.errors import number_of
from churn.core.results import RuleOutcome

Values = Mapping[str, Any]
LEAST_OUTCOMES = 20  # churners, and stayers: with fewer, the interval of a ROC AUC is too narrow
CHANCE = 0.55  # a ROC AUC below it, whose interval includes 0.5, is called chance
SUITABLE = "suitable_threshold"  # a key of an evaluation by whose threshold hardly anybody, or everybody, is predicted
OF_PREDICTED = ("f1", "precision", "recall", "predicted_to_actual_ratio")
FARTHEST = 8.0  # standard deviations of a metric at its bound, between its value and the bound
POWER = 0.4294  # a true value fails a limit with 80 % power if it is beyond by this part of a half 95 % interval


def finite(value: object) -> float | None:
    """Return `value` if it is a finite number, else None; True is not a number."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if number else None  # type: ignore[arg-type]  # narrowed above


def shown(value: float | None) -> str:
    """Return a metric's value with four decimals, or `missing`."""
    return "missing" if value is None else f"{value:.4f}"


def check_limit(limit: tuple[str, float], value: float | None, message: str, **rule: Any) -> RuleOutcome:
    """Return the outcome of `rule` (kind, scope, metric, statistic): a value against its limit (min or max, number)."""
    bound, number = limit
    margin = None if value is None else value - number if bound == "min" else number - value
    return RuleOutcome(
        **rule,
        bound=bound,  # type: ignore[arg-type]  # pydantic checks it
        limit=number,
        value=value,
        margin=None if margin is None else round(margin, 6),
        status="passed" if margin is not None and margin >= 0 else "failed",
        message=message,
    )


def evaluate_bounds(scope: str, values: Values, bounds: Mapping[str, Bound]) -> Iterator[RuleOutcome]:
    """Yield the outcome of each bound on the metrics `values` of `scope`: all customers, or a slice's name."""
    for metric, bound in bounds.items():
        for kind, limit in (("min", bound.min), ("max", bound.max)):
            if limit is not None:
                value = finite(values.get(metric))
                message = f"{metric} of {scope} is {shown(value)}, {kind}imum {limit:g}"
                rule = check_limit((kind, limit), value, message, kind="bound", scope=scope, metric=metric)
                yield _with_power(rule, values)


def _ends(values: Values, metric: str) -> tuple[float | None, float | None]:
    """Return the ends of a metric's 95 % interval."""
    interval = (values.get("intervals") or {}).get(metric)
    low, high = interval if isinstance(interval, list | tuple) and len(interval) == 2 else (None, None)
    return finite(low), finite(high)


def _customers(part: Values) -> float | None:
    """Return the number of customers, of whom each has one row unless they are counted."""
    return finite(part.get("customers", part.get("rows")))


def _with_power(rule: RuleOutcome, values: Values) -> RuleOutcome:
    """Return the outcome of a rule on a metric of `values`, with its noise and the loss that it would detect."""
    low, high = _ends(values, rule.metric)
    if low is None or high is None or rule.margin is None:
        return rule
    noise = (high - low) / 2
    return rule.model_copy(update=stated(noise, rule.margin + POWER * noise))


def stated(noise: float, detects: float) -> dict[str, float]:
    """Return what a rule states of its noise, half an interval, and of the smallest change that it detects."""
    return {"noise": round(noise, 6), "detects": round(max(detects, 0.0), 6)}


def evaluate_slice(part: Values, everyone: Values, rules: EverySlice, min_rows: int) -> Iterator[RuleOutcome]:
    """Yield the outcomes of the rules for every slice, named or not: `part` is one, `everyone` all customers.

    The favourable end of the 95 % interval is compared, so that noise rarely fails a rule. The ROC AUC needs
    LEAST_OUTCOMES customers of either outcome. A slice of fewer than `min_rows` customers is skipped. An empty slice
    has vanished and fails, unless it is one of missing values.
    """
    name, rows, size = str(part.get("name")), finite(part.get("rows")), _customers(part)
    if rows is None or size is None or size < min_rows:
        message = f"{name} has {number_of(size or 0, 'customers')} in the holdout, fewer than {min_rows}: skipped"
        small = check_limit(("min", min_rows), size, message, kind="slice_size", scope=name, metric="rows")
        # protection: no slice vanishes
        gone = rows is None or (rows == 0 and part.get("kind") != "missing")
        if gone:
            message = f"no customer of the holdout is in {name}: the slice has vanished"
        yield small.model_copy(update={"status": "failed" if gone else "skipped", "message": message})
        return

    rule = {"kind": "every_slice", "scope": name}
    churners, predicted = finite(part.get("churners")), finite(part.get("predicted"))
    whole, area = finite(everyone.get("roc_auc")), _ends(part, "roc_auc")[1]
    # protection: no slice far behind
    if churners is not None and LEAST_OUTCOMES <= churners <= rows - LEAST_OUTCOMES:
        least = round((1.0 if whole is None else whole) - rules.max_roc_auc_gap, 6)
        message = (
            f"roc_auc of {name} is at most {shown(area)}, more than {rules.max_roc_auc_gap:g} behind that of {OVERALL},"
            f" {shown(whole)}"
        )
        yield _with_power(check_limit(("min", least), area, message, **rule, metric="roc_auc", statistic="high"), part)
    error = _ends(part, "expected_calibration_error")[0]
    message = f"expected_calibration_error of {name} is at least {shown(error)}, maximum {rules.calibration_error:g}"
    limit = ("max", rules.calibration_error)
    calibrated = check_limit(limit, error, message, **rule, metric="expected_calibration_error", statistic="low")
    # protection: calibration of each slice
    yield _with_power(calibrated, part)
    rate = (finite(everyone.get("churners")) or 0) / (finite(everyone.get("rows")) or 1)
    # protection: predictions of each slice
    if churners is None or churners >= rate * rows:
        ratio = predicted / churners if churners and predicted is not None else None
        message = (
            f"{name}: {number_of(predicted or 0, 'churners')} predicted where {churners or 0:.0f} of"
            f" {number_of(rows, 'customers')} churned, minimum {rules.predicted_to_actual_ratio:g} for each"
        )
        limit = ("min", rules.predicted_to_actual_ratio)
        predicts = check_limit(limit, ratio, message, **rule, metric="predicted_to_actual_ratio")
        noise = _ratio_noise(part, rows / size)
        if noise is not None and predicts.margin is not None:
            predicts = predicts.model_copy(update=stated(noise, predicts.margin + POWER * noise))
        yield predicts


def _ratio_noise(part: Values, each: float) -> float | None:
    """Return half the 95 % interval of predicted churners for each actual one, by the delta method.

    A customer has `each` rows, whose outcomes may be the same.
    """
    churners, predicted, recall = (finite(part.get(name)) for name in ("churners", "predicted", "recall"))
    if not churners or predicted is None or recall is None:
        return None
    ratio = predicted / churners
    return 1.96 * math.sqrt(each * max(predicted - 2 * ratio * recall * churners + ratio**2 * churners, 0)) / churners


def evaluate_rules(evaluation: Values, rules: Gate) -> list[RuleOutcome]:
    """Return the outcome of every rule of `gate` in params.yaml that needs no baseline.

    Parameters
    ----------
    evaluation : mapping
        metrics/evaluation.json, or `churn.evaluation.holdout.evaluation_of`.
    rules : Gate
        `load_params().gate`.

    Returns
    -------
    list of RuleOutcome
        The bounds for all customers, the bounds for slices by name, and the rules for every slice. A named slice has
        no values, so its bounds fail, when it is missing, there twice, or smaller than `min_slice_rows`.

    Examples
    --------
    >>> from pathlib import Path
    >>> from churn.config.params import load_params
    >>> rule, *_ = evaluate_rules({"roc_auc": 0.7}, load_params(Path("tests/sample/params.yaml")).gate)
    >>> rule.status, rule.message
    ('failed', 'roc_auc of all customers is 0.7000, minimum 0.82')
    """
    # protection: bounds for all customers
    outcomes = list(evaluate_bounds(OVERALL, evaluation, rules.overall))
    slices = evaluation.get("slices") or []
    # protection: bounds for named slices
    for name, bounds in rules.slices.items():
        parts = [part for part in slices if part.get("name") == name]
        rows = _customers(parts[0]) if len(parts) == 1 else None
        scope = name
        if rows is None:
            scope += " (no such slice)" if not parts else " (not one slice)"
        elif rows < rules.min_slice_rows:
            scope += f" ({number_of(rows, 'customers' if 'customers' in parts[0] else 'rows')}, too few)"
        outcomes += evaluate_bounds(scope, parts[0] if scope == name else {}, bounds)
    for part in slices:
        outcomes += evaluate_slice(part, evaluation, rules.every_slice, rules.min_slice_rows)
    return outcomes


def root_causes(evaluation: Values) -> Iterator[str]:
    """Yield what is wrong with all scores at once, and breaks many rules: the first reason where any rule failed.

    Examples
    --------
    >>> list(root_causes({"rows": 1452, "churners": 385, "predicted": 0, "threshold": 0.5}))
    ['the model predicts that nobody churns: none of 1,452 customers has a score of 0.5 or more']
    """
    area, (low, high) = finite(evaluation.get("roc_auc")), _ends(evaluation, "roc_auc")
    if area is not None and low is not None and high is not None and low <= 0.5 and area < CHANCE:
        what = "ranks stayers above churners" if high < 0.5 else "ranks customers no better than chance"
        yield f"the model {what}: its ROC AUC is {area:.3f} ({low:.3f} to {high:.3f}), and chance has 0.5"
    rows, predicted, threshold = (evaluation.get(key) for key in ("rows", "predicted", "threshold"))
    if not rows or not (predicted in (0, rows) or SUITABLE in evaluation):
        return
    suitable = evaluation.get(SUITABLE)
    advice = (
        f": set evaluate.threshold to about {suitable:g}, where as many are predicted as churned" if suitable else ""
    )
    who, has = {0: ("nobody churns", "none of {} has"), rows: ("everybody churns", "each of {} has")}.get(
        predicted, ("hardly anybody churns", f"{predicted:,} of {{}} have")
    )
    what = f"{has.format(f'{rows:,} customers')} a score of {threshold:g} or more"
    yield f"the model predicts that {who}: {what}{advice}"


def unexplained(outcomes: Iterable[RuleOutcome], evaluation: Values) -> Iterator[RuleOutcome]:
    """Yield the failed rules, without those that fail because hardly anybody is predicted: a root cause names that."""
    rows, predicted = evaluation.get("rows"), evaluation.get("predicted")
    nobody = bool(rows) and (predicted == 0 or (SUITABLE in evaluation and predicted != rows))
    for rule in outcomes:
        if rule.status == "failed" and not (
            nobody and rule.kind in ("bound", "every_slice") and rule.metric in OF_PREDICTED
        ):
            yield rule


def loose_bounds(outcomes: Iterable[RuleOutcome]) -> Iterator[str]:
    """Yield a sentence for each bound that lies so far from its metric that no bad model would break it."""
    for rule in outcomes:
        if rule.kind == "bound" and rule.margin and (deviation := _deviation_at_limit(rule)):
            if (distance := rule.margin / deviation) <= FARTHEST:
                continue
            path = "overall" if rule.scope == OVERALL else f"slices.{rule.scope}"
            side = "below" if rule.bound == "min" else "above"
            yield (
                f"gate.{path}.{rule.metric}.{rule.bound} {rule.limit:g} lies {distance:.0f} standard deviations {side}"
                f" {shown(rule.value)}, and blocks hardly any model: `make bounds` sets it"
            )


def _deviation_at_limit(rule: RuleOutcome) -> float:
    """Return the standard deviation that a metric has where its true value is at the limit, 0 if it is unknown.

    The holdout's own 95 % interval has it at the value. A share's variance is proportional to p (1 - p), so that a ROC
    AUC of 0.98 varies a third as much as one of 0.8.
    """
    deviation = (rule.noise or 0.0) / 1.96
    if rule.value is not None and rule.limit is not None and 0 < rule.value < 1 and 0 < rule.limit < 1:
        deviation *= max(math.sqrt(rule.limit * (1 - rule.limit) / (rule.value * (1 - rule.value))), 1.0)
    return deviation
