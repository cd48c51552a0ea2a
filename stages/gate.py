"""gate: whether the model keeps every rule of params.yaml.

In: metrics/evaluation.json and metrics/validation.json. Out: metrics/gate.json, with the bound, value, margin
and outcome of each rule, and the exit status: 1 when any is broken. What is missing, null, NaN or no number
breaks its rule, and so does a slice that is not there.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from churn.params import Bound, Gate, load_params
from churn.stage import (
    EVALUATION,
    GATE,
    MODEL,
    PARAMS,
    TEST,
    VALIDATION,
    StageError,
    read_json,
    run,
    write_json,
)

Values = Mapping[str, Any]
OVERALL = "all customers"


def finite(value: object) -> float | None:
    """Return `value` if it is a finite number, else None; True is no number."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if number else None  # type: ignore[arg-type]  # narrowed above


def shown(value: float | None) -> str:
    """Return a metric's value as people read it."""
    return "missing" if value is None else f"{value:.4f}"


def judge(scope: str, values: Values, bounds: Mapping[str, Bound]) -> Iterator[dict[str, Any]]:
    """Yield the outcome of each bound on the metrics `values` of `scope`: all customers, or a slice's name.

    The margin is how far the value lies inside its bound, in the metric's unit; it is negative, or None where
    there is no value, when the rule is broken.
    """
    for metric, bound in bounds.items():
        for kind, limit in (("min", bound.min), ("max", bound.max)):
            if limit is None:
                continue
            value = finite(values.get(metric))
            margin = None if value is None else value - limit if kind == "min" else limit - value
            passed = margin is not None and margin >= 0
            yield {
                "scope": scope,
                "metric": metric,
                "bound": kind,
                "limit": limit,
                "value": value,
                "margin": None if margin is None else round(margin, 6),
                "outcome": "passed" if passed else "broken",
                "sentence": f"{metric} of {scope} is {shown(value)}, {kind}imum {limit:g}",
            }


def judge_all(evaluation: Values, rules: Gate) -> list[dict[str, Any]]:
    """Return the outcomes of the rules for all customers, then of those for each slice.

    A slice that is not there, is there twice, or is smaller than `min_slice_rows` has no values.
    """
    outcomes = list(judge(OVERALL, evaluation, rules.overall))
    for name, bounds in rules.slices.items():
        parts = [part for part in evaluation.get("slices") or [] if part.get("name") == name]
        rows = finite(parts[0].get("rows")) if len(parts) == 1 else None
        scope = name
        if rows is None:
            scope += " (no such slice)" if not parts else " (not one slice)"
        elif rows < rules.min_slice_rows:
            scope += f" ({rows:.0f} rows, too few to judge)"
        outcomes += judge(scope, parts[0] if scope == name else {}, bounds)
    return outcomes


def origin(evaluation: Values, validation: Values) -> dict[str, str | None]:
    """Return the SHA-256 of the model and of both tables that the evidence is about; None where it doesn't say."""
    evaluated = dict(evaluation.get("inputs") or [])
    train = validation.get("tables", {}).get("train", {}).get("sha256")
    return {
        "model_sha256": evaluated.get(str(MODEL)),
        "test_sha256": evaluated.get(str(TEST)),
        "train_sha256": train,
    }


def evidence_faults(evaluation: Values, validation: Values) -> list[str]:
    """Return what is wrong with the evidence itself: a failed validation, missing hashes, another holdout."""
    faults, hashes = [], origin(evaluation, validation)
    if validation.get("passed") is not True:
        faults.append("the data did not pass its validation")
    faults += [f"no {name} is recorded" for name, value in hashes.items() if not value]
    if hashes["test_sha256"] != validation.get("tables", {}).get("test", {}).get("sha256"):
        faults.append("the model was not evaluated on the holdout that was validated")
    return faults


def print_table(outcomes: list[dict[str, Any]]) -> None:
    """Print a line a rule, aligned."""
    width = max(len(f"{rule['scope']} {rule['metric']}") for rule in outcomes)
    for rule in outcomes:
        margin = "" if rule["margin"] is None else f"margin {rule['margin']:+.4f}"
        name, limit = f"{rule['scope']} {rule['metric']}", f"{rule['bound']} {rule['limit']:g}"
        print(f"gate: {rule['outcome']:6}  {name:{width}}  {shown(rule['value']):>7}  {limit:10} {margin}".rstrip())


def main() -> None:
    """Judge, write the verdict, and fail when a rule is broken."""
    evaluation, validation = read_json(EVALUATION), read_json(VALIDATION)
    outcomes = judge_all(evaluation, load_params().gate)
    faults = evidence_faults(evaluation, validation)
    faults += [rule["sentence"] for rule in outcomes if rule["outcome"] == "broken"]
    verdict = {"verdict": "blocked" if faults else "passed", "because": faults, "rules": outcomes}
    write_json(GATE, verdict | origin(evaluation, validation))
    print_table(outcomes)
    if faults:
        raise StageError(f"blocked: {'; '.join(faults)}. The rules are in {PARAMS}, the verdict in {GATE}.")
    print(f"gate: passed, {len(outcomes)} rules kept")


if __name__ == "__main__":
    run(main)
