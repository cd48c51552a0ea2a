"""The dossier of a version: dossier.html beside its model, one of the files that its digest covers.

It has the data, the contract, the metrics with their intervals, what the gate could not detect, what was approved, and
how champion moved before. The same files and moves give the same bytes. It holds counts, rates and curves only.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from churn.config.contract import Contract
from churn.config.params import Params
from churn.core.errors import StageError
from churn.core.paths import EVALUATION, GATE, JUDGEMENT, PLOTS, ROWS, VALIDATION
from churn.core.results import RuleOutcome, read_result
from churn.page.charts import charts, read_confusion, read_curves, read_importance
from churn.page.render import rendered

TAGS = {
    "commit": "Commit",
    "uncommitted_changes": "Uncommitted changes",
    "lock_sha256": "dvc.lock",
    "model_sha256": "Model",
    "train_sha256": "Training table",
    "test_sha256": "Holdout",
    "code_sha256": "Packaged code",
    "made_by": "Made by",
}


def dossier(params: Params, contract: Contract, tags: Mapping[str, str], moves: Sequence[Mapping[str, str]]) -> str:
    """Return the dossier of a version with these `tags`, as HTML.

    Parameters
    ----------
    params, contract
        Those of this checkout, whose metrics/ and plots/ it reads.
    tags
        The tags of the version, as register writes them.
    moves
        How champion moved until now, the oldest first.

    Raises
    ------
    StageError
        When a file of metrics/ or plots/ is not what its stage writes.
    """
    evaluation = read_result(EVALUATION)
    return rendered(
        "dossier.html.j2",
        model=params.registration.model,
        commit=tags["commit"],
        lineage={name: tags[tag] for tag, name in TAGS.items()},
        unit=contract.unit,
        params=params,
        contract=contract,
        moves=moves,
        evaluation=evaluation,
        rules=rules_of(read_result(GATE)),
        account=read_result(ROWS),
        validation=read_result(VALIDATION),
        judgement=_judgement(tags["commit"], evaluation),
        charts=charts({"this model": read_curves(PLOTS)}),
        counts=read_confusion(PLOTS),
        importance=read_importance(PLOTS),
    )


def rules_of(result: Mapping[str, Any]) -> tuple[RuleOutcome, ...]:
    """Return the rules of gate.json or judgement.json as objects."""
    return tuple(RuleOutcome(**rule) for rule in result["rules"])


def _judgement(commit: str, evaluation: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the report's judgement of this evaluation on this commit, None where there is none."""
    with suppress(StageError):
        judgement = read_result(JUDGEMENT)
        if judgement["commit"] == commit and judgement["inputs"] == evaluation["inputs"]:
            return judgement | {"rules": rules_of(judgement)}
    return None
