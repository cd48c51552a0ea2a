"""Decides whether a version becomes champion: it must not be worse than the present one on the same customers.

Both score the present holdout, and are compared as on a pull request (churn/gate/baseline.py, with the margins of
`gate.vs_baseline`), but without the noise of other training customers, because the champion's table is not at hand.
The champion must not have trained on these customers: those that its own split, which its run recorded, did not hold
out are left out. Where rows have a day, only those later than the training count. Where the champion needs a column
that is gone by now, there is nothing to compare, and the challenger, which has passed the gate, follows: else no
feature could ever go. Where anything else keeps them from being compared, the champion stays. The gate checks for
leakage, not this module.

Only a clean checkout of main promotes. What is registered elsewhere becomes `candidate`.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from churn.config.contract import Contract, load_contract
from churn.config.params import Params
from churn.core.cluster import scratch
from churn.core.errors import StageError
from churn.core.partitions import first_files
from churn.core.paths import CONTRACT, PREDICTIONS, TEST
from churn.core.results import RuleOutcome
from churn.data.split import in_holdout
from churn.evaluation.holdout import LATE, judged_rows, scores_of
from churn.evaluation.metrics import Outcomes
from churn.evaluation.paired import compare, compare_slices
from churn.evaluation.slices import slice_masks
from churn.gate.baseline import vs_baseline
from churn.modeling.model import read_model, read_parquet, read_table, types_of
from churn.registry.champion import ALIAS, CANDIDATE, DECISION, NOBODY, ROLLED_BACK, champion_of, move, moves_of
from churn.registry.client import failed_with, write
from churn.registry.package import MODEL_FILE
from churn.registry.versions import FILES, PACKAGED, files_of, foreign, is_foreign, versions_of, without_digest

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

COMPARED = 1_000_000  # customers of a partitioned holdout; with more, intervals are far below the margins
MADE_OF = {"model_sha256": "model", "train_sha256": "data", "test_sha256": "data", PACKAGED: "packaged files"}
BY_HAND = f"to follow it all the same, set the alias {ALIAS} in MLflow"


def promote(client: "MlflowClient", version: "ModelVersion", params: Params, contract: Contract) -> str:
    """Move the alias to `version` unless it is worse than the champion; return the outcome as a sentence.

    `params` are those of main. The version's tag `decision` says why. Raises StageError when the champion's files are
    gone or are others.
    """
    model, number = version.name, str(version.version)
    while True:
        champion = champion_of(client.get_registered_model(model))
        if champion == number:
            return f"is {ALIAS}"
        wins, why = decision(client, version, champion, params, contract)
        write(
            client.set_model_version_tag, model, number, DECISION, f"{ALIAS}: {why}" if wins else f"not {ALIAS}: {why}"
        )
        if not wins:
            return f"is not {ALIAS}, version {champion} stays: {why}"
        before = client.get_registered_model(model)
        if champion_of(before) == champion:  # else another registration was faster
            now = move(client, before, number, why)
            return f"is {ALIAS}: {why}" if now == number else f"was {ALIAS} until version {now} followed it at once"


def nominate(client: "MlflowClient", version: "ModelVersion", why: str) -> str:
    """Give the version, which was not made by main, the alias candidate; return the outcome as a sentence.

    `why` says why champion stays, and what would move it.
    """
    model, number = version.name, str(version.version)
    write(client.set_model_version_tag, model, number, DECISION, f"not {ALIAS}: {why}")
    write(client.set_registered_model_alias, model, CANDIDATE, number)
    champion = champion_of(client.get_registered_model(model))
    stays = f"there is no {ALIAS}" if champion == NOBODY else f"{ALIAS} stays version {champion}"
    return f"is {CANDIDATE}, and {stays}: {why}"


def decision(
    client: "MlflowClient", version: "ModelVersion", champion: str, params: Params, contract: Contract
) -> tuple[bool, str]:
    """Return whether `version` may follow the version with the number `champion`, and why."""
    same = (one for one in versions_of(client, version.name) if not _differences(one, version))
    if rolled_back := next((one for one in same if ROLLED_BACK in one.tags), None):
        name = "it" if rolled_back.version == version.version else f"version {rolled_back.version}, the same model,"
        what = f"{name} was rolled back {rolled_back.tags[ROLLED_BACK]}"
        return False, f"{what}; delete its tag {ROLLED_BACK} to let it compete"
    if champion == NOBODY:
        moves = moves_of(client.get_registered_model(version.name))
        return True, f"no version was, since version {moves[-1]['to']} lost the alias" if moves else "the first"
    present = client.get_model_version(version.name, champion)
    if is_foreign(present):
        return False, foreign(present)
    if present.tags["model_sha256"] == version.tags["model_sha256"]:
        differing = _differences(present, version)
        others = f", with other {' and '.join(differing)}" if differing else ""
        return True, f"the same model as version {champion}{others}"
    return against_champion(client, version, present, params, contract)


def _differences(one: "ModelVersion", other: "ModelVersion") -> list[str]:
    """Return what differs between two versions; packaged files that one does not record count as the same."""
    known = [tag for tag in MADE_OF if tag != PACKAGED or (PACKAGED in one.tags and PACKAGED in other.tags)]
    differing = [MADE_OF[tag] for tag in known if one.tags.get(tag) != other.tags.get(tag)]
    return [*dict.fromkeys(differing)]


def against_champion(
    client: "MlflowClient", version: "ModelVersion", present: "ModelVersion", params: Params, contract: Contract
) -> tuple[bool, str]:
    """Return whether `version` may follow the version `present` by their scores of the present holdout, and why."""
    champion = present.version
    if FILES not in present.tags:
        return False, f"{without_digest(present)}; {BY_HAND}"
    tables = [read_table(path, contract) for path in first_files(TEST, COMPARED, scratch())]
    features = pd.concat([one for one, _, _ in tables], ignore_index=True)
    labels = pd.concat([one for _, one, _ in tables], ignore_index=True)
    with files_of(present) as folder:
        if _group_of(folder) != contract.group:
            what = f"version {champion} was split by another column than {contract.customer}"
            return False, f"{what}, so it may have trained on these customers; {BY_HAND}"
        try:
            theirs = read_model(folder / MODEL_FILE)
            needed = list(theirs.feature_names_in_)
            if gone := [name for name in needed if name not in features]:
                what = f"there is no {', '.join(gone)}"
                return True, f"version {champion} cannot score the present holdout ({what}), so they were not compared"
            scores = scores_of(theirs, features[needed])
        except Exception as error:  # whatever other versions of its libraries, or other values, make of it
            what = f"{error}".rstrip(".") if isinstance(error, StageError) else type(error).__name__
            what = what.replace(f"{folder}/", "")
            return False, f"version {champion} cannot score the present holdout ({what}); {BY_HAND}"
    types = types_of([contract.customer], contract) | {"score": "number"} | ({LATE: "boolean"} if contract.time else {})
    scored = [read_parquet(path, types).to_pandas() for path in first_files(PREDICTIONS, COMPARED, scratch())]
    predictions = pd.concat(scored, ignore_index=True)
    unseen = held_out(client, present, predictions[contract.customer])
    rows = judged_rows(predictions) if unseen is None else unseen & judged_rows(predictions)
    both = pd.DataFrame({"label": labels, "theirs": scores, "ours": predictions["score"]})
    if contract.group:
        both["customer"] = predictions[contract.group]
    wins, why = not_worse(features[rows], both[rows], params, contract)
    doubt = ", some of which it may have trained on" if unseen is None else ""
    next_step = f"; {BY_HAND}" if wins is None else ""
    return bool(wins), f"{why}, against version {champion} on {int(rows.sum()):,} customers{doubt}{next_step}"


def _group_of(folder: Path) -> str | None:
    """Return the group of a version's contract; None where it has none, or cannot be read by this code."""
    with suppress(StageError):
        return load_contract(folder / CONTRACT.name).group
    return None


def held_out(client: "MlflowClient", version: "ModelVersion", keys: pd.Series) -> npt.NDArray[np.bool_] | None:
    """Say of each customer whether the version's own split held it out: shape (rows,); None where its run is gone."""
    from mlflow.exceptions import MlflowException

    try:
        recorded = client.get_run(str(version.run_id)).data.params
        salt, share = (json.loads(recorded[f"prepare.{name}"]) for name in ("salt", "holdout_share"))
    except (MlflowException, KeyError) as error:
        if isinstance(error, MlflowException) and not failed_with(error, "RESOURCE_DOES_NOT_EXIST"):
            raise
        return None
    return in_holdout(keys, salt, share)


def not_worse(
    features: pd.DataFrame, scores: pd.DataFrame, params: Params, contract: Contract
) -> tuple[bool | None, str]:
    """Return whether the scores `ours` are not worse than `theirs`, overall and for any slice, and why.

    Both frames have the same rows, `scores` also the label, and the customer where one has several rows. None is for
    customers that cannot tell: too few, of one outcome alone, or without a value of a metric.
    """
    y, theirs, ours = (scores[name].to_numpy() for name in ("label", "theirs", "ours"))
    customers = pd.factorize(scores["customer"])[0].astype(np.intp) if "customer" in scores else None
    given = Outcomes(y.astype(np.float64), customers)
    if (size := given.number) < params.gate.min_slice_rows:
        least = f"fewer than {params.gate.min_slice_rows} (gate.min_slice_rows)"
        return None, f"only {size:,} customers of the holdout are new to both, {least}"
    if not 0 < y.sum() < len(y):
        return None, f"{int(y.sum()):,} of {len(y):,} customers churned, and a comparison needs both"
    overall = compare(given, theirs, ours, params.evaluate)
    masks = slice_masks(features, params.evaluate.slices, contract)
    slices = compare_slices(masks, given, (theirs, ours), params.evaluate, params.gate.min_slice_rows)
    outcomes = [one for one in vs_baseline(len(y), overall, slices, params.gate) if one.kind == "vs_baseline"]
    if failed := [one for one in outcomes if one.status == "failed"]:
        return _refusal(failed)
    area = overall["roc_auc"].difference
    return True, f"not worse, ROC AUC {area:+.4f}" if area is not None else "not worse"


def _refusal(failed: Sequence[RuleOutcome]) -> tuple[bool | None, str]:
    """Return False with the losses, or None with what cannot be told where no loss is shown."""
    lost, few, missing = [], [], []
    for one in failed:
        what = f"{one.metric} of {one.scope}"
        if one.value is None:
            missing.append(f"{what} cannot be compared")
        elif -one.value > max(-one.limit, one.noise or 0.0):
            lost.append(f"{what} by {-one.value:.4f} (allowed are {-one.limit:.4f})")
        else:
            few.append(what)
    if lost:
        return False, f"worse in {'; '.join(lost)}"
    doubt = [f"the customers are too few to tell whether it is worse in {', '.join(few)}"] if few else []
    return None, "; ".join([*missing, *doubt])
