"""gate: whether the model passes every rule of params.yaml.

In: metrics/evaluation.json and metrics/validation.json. Out: metrics/gate.json, with the bound, value, margin
and status of each rule, and the exit status: 1 when any fails (churn/gate/rules.py).
"""

if __name__ == "__main__":
    from churn.core.start import start_up

    start_up()

from churn.config.check import checked_settings
from churn.core.errors import StageError, number_of
from churn.core.files import write_json
from churn.core.paths import EVALUATION, GATE, MODEL, PARAMS, TEST, VALIDATION
from churn.core.results import RuleOutcome, read_result
from churn.core.runner import run
from churn.core.terminal import status
from churn.gate.rules import Values, evaluate_rules, loose_bounds, root_causes, shown, unexplained

NAMED = 3  # reasons in the last line; the table above has all


def lineage(evaluation: Values, validation: Values) -> dict[str, str | None]:
    """Return the SHA-256 of the evaluated model and of both tables; None where it is not recorded."""
    evaluated = dict(evaluation.get("inputs") or [])
    return {
        "model_sha256": evaluated.get(str(MODEL)),
        "test_sha256": evaluated.get(str(TEST)),
        "train_sha256": validation.get("tables", {}).get("train", {}).get("sha256"),
    }


def evidence_faults(evaluation: Values, validation: Values) -> list[str]:
    """Return what is wrong with the evidence itself: a failed validation, missing hashes, another holdout."""
    faults, hashes = [], lineage(evaluation, validation)
    if validation.get("passed") is not True:
        faults.append("the data did not pass its validation")
    faults += [f"no {name} is recorded" for name, value in hashes.items() if not value]
    if hashes["test_sha256"] != validation.get("tables", {}).get("test", {}).get("sha256"):
        faults.append("the model was not evaluated on the holdout that was validated")
    return faults


def print_table(outcomes: list[RuleOutcome], failed: list[RuleOutcome]) -> None:
    """Print a line for each bound of params.yaml, and for each rule that failed for a reason of its own, aligned."""
    listed = [rule for rule in outcomes if rule.kind == "bound" or rule in failed]
    scopes, labels = (max(len(getattr(rule, name)) for rule in listed) for name in ("scope", "label"))
    for rule in listed:
        margin = "" if rule.margin is None else f"margin {rule.margin:+.4f}"
        name, limit = f"{rule.scope:{scopes}}  {rule.label:{labels}}", f"{rule.bound} {rule.limit:g}"
        print(f"gate: {status(rule.status, 7)}  {name}  {shown(rule.value):>7}  {limit:10}  {margin}".rstrip())


def main() -> None:
    """Evaluate the rules, write the result, and fail when a rule failed."""
    params, _ = checked_settings()
    evaluation, validation = read_result(EVALUATION), read_result(VALIDATION)
    outcomes = evaluate_rules(evaluation, params.gate)
    faults = evidence_faults(evaluation, validation)
    causes = list(root_causes(evaluation))
    if any(rule.status == "failed" for rule in outcomes):
        faults += [*causes, *(rule.message for rule in unexplained(outcomes, evaluation))]
    result = {"verdict": "blocked" if faults else "passed", "reasons": faults}
    rules = [rule.model_dump() for rule in outcomes]
    write_json(GATE, result | {"rules": rules} | lineage(evaluation, validation))
    print_table(outcomes, list(unexplained(outcomes, evaluation)))
    for note in (*loose_bounds(outcomes), *(() if faults else causes)):
        print(f"gate: {status('NOTE')}: {note}")
    if faults:
        more = f"; and {len(faults) - NAMED} more, see above" if len(faults) > NAMED else ""
        named = "; ".join(faults[:NAMED])
        raise StageError(f"blocked: {named}{more}. The rules are in {PARAMS}, the result in {GATE}.")
    for rule in outcomes:
        if rule.status == "skipped":
            print(f"gate: {status('skipped')}  {rule.message.removesuffix(': skipped')}")
    print(f"gate: {status('passed')}, {number_of(sum(rule.status == 'passed' for rule in outcomes), 'rules')}")


if __name__ == "__main__":
    run(main)
