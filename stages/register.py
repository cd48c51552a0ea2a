"""register: an MLflow version of the model, with its whole lineage, and on main the alias champion on it.

In: the model, both tables, the predictions, metrics/ and plots/. Out: the version, with its dossier, in the registry
that MLFLOW_TRACKING_URI names (by default mlflow.db in this folder), and a receipt that stays out of Git and of DVC's
cache, so that no other machine takes it for its own. Fails when the gate did not pass exactly this model and these
tables, when dvc.lock has others, when the version, served from its own files, predicts something else or fails, and
when the registry fails. The same model, data and packaged files make no second version, and what is worse than the
champion does not follow it. Outside of a clean checkout of main (churn/registry/mainline.py) the version is at most
`candidate`.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    from churn.core.start import start_up

    start_up("scipy.special")  # for `churn.modeling.model`, which reads the model of champion

from churn.config.contract import Contract, load_contract
from churn.config.memory import refuse_large_holdout
from churn.config.params import METRICS, Params, load_params
from churn.core.cluster import scratch
from churn.core.errors import StageError, number_of
from churn.core.files import sha256_of, write_json
from churn.core.partitions import first_files
from churn.core.paths import (
    EVALUATION,
    GATE,
    LOCK,
    MODEL,
    PLOTS,
    PREDICTIONS,
    REGISTRATION,
    ROWS,
    TEST,
    TRAIN,
    VALIDATION,
)
from churn.core.results import read_result
from churn.core.runner import run
from churn.evaluation.holdout import EARLIER
from churn.gate.rules import shown
from churn.modeling.model import read_scores
from churn.registry.champion import moves_of
from churn.registry.client import ensure_model, experiment_id, log_model, registry, write
from churn.registry.dossier import dossier
from churn.registry.lineage import commit_tags, lock_digest, refuse_unlocked
from churn.registry.mainline import promoting_branch, settings_of, why_not
from churn.registry.package import DOSSIER, Package, package_of
from churn.registry.promotion import nominate, promote
from churn.registry.verification import Serve, serving_process
from churn.registry.versions import ELSEWHERE, FILES, MADE_BY, MAIN, PACKAGED, VERIFIED, files_of, only_version

import numpy as np

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

BATCH = 100  # the most parameters that MLflow takes at once
SERVED = 20_000  # customers whom a version scores at most: a fault of one in 5,000 is missed in 2 % of the cases
LONGEST = 200  # characters of a name: MLflow takes 250, and that of a slice is followed by a metric's
ROUNDING = 1e-9  # of a score; a linear model's last bits depend on which rows are scored together


def content_of(result: Mapping[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of the model and of both tables.

    Raises StageError unless the gate's `result` passed just these, and dvc.lock has them and all of metrics/.
    """
    if result.get("verdict") != "passed":
        raise StageError(f"{GATE} has {result.get('verdict')!r}, not 'passed': nothing is registered.")
    files = {"model_sha256": MODEL, "train_sha256": TRAIN, "test_sha256": TEST}
    content = {name: sha256_of(path) for name, path in files.items()}
    for name, path in files.items():
        if result.get(name) != content[name]:
            raise StageError(f"{GATE} is the result for another {path}: nothing is registered; run `dvc repro`.")
    refuse_unlocked((*files.values(), ROWS, VALIDATION, EVALUATION, GATE), LOCK)
    return content


def mlflow_name(text: str) -> str:
    """Return `text` in the characters that MLflow takes in a name, the others by their code point, `+` as `_2B_`.

    The end of a long one is replaced by a hash.
    """
    name = re.sub(r"[^\w .:-]", lambda found: f"_{ord(found[0]):X}_", text.replace("=", ": "))
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 13]}_{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def metrics_of(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield every metric that has a value: by name, then by slice and name, then those of the training's time."""
    earlier = [evaluation[EARLIER] | {"name": EARLIER}] if EARLIER in evaluation else []
    for part in [evaluation, *evaluation["slices"], *earlier]:
        for metric in METRICS:
            if part[metric] is not None:
                yield (f"{mlflow_name(part['name'])}/{metric}" if "name" in part else metric), part[metric]


def parameters_of(params: Params) -> dict[str, str]:
    """Return params.yaml as dotted keys and JSON values."""

    def flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict) and value:
            for key, part in value.items():
                yield from flat(f"{prefix}.{key}" if prefix else key, part)
        else:
            yield prefix, json.dumps(value)

    return dict(flat("", params.model_dump(mode="json", by_alias=True)))


def create_version(
    client: "MlflowClient", params: Params, contract: Contract, package: Package, tags: Mapping[str, str]
) -> None:
    """Log a run with everything the model came from, and, when all is there, make a version of it."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

    model, evaluation = params.registration.model, read_result(EVALUATION)
    run = client.create_run(experiment_id(client, model), run_name=f"{model} {tags['commit'][:8]}", tags=dict(tags))
    run_id = run.info.run_id
    metrics = [Metric(name, value, run.info.start_time, 0) for name, value in metrics_of(evaluation)]
    parameters = [Param(mlflow_name(name), value) for name, value in parameters_of(params).items()]
    for start in range(0, max(len(metrics), len(parameters)), BATCH):
        client.log_batch(run_id, metrics[start : start + BATCH], parameters[start : start + BATCH])
    tables = {"training": (TRAIN, tags["train_sha256"]), "evaluation": (TEST, tags["test_sha256"])}
    datasets = [
        DatasetInput(Dataset(path.stem, digest[:36], "local", str(path)), [InputTag("mlflow.data.context", context)])
        for context, (path, digest) in tables.items()
    ]
    write(client.log_inputs, run_id, datasets)  # the rows of datasets belong to the experiment
    client.log_artifacts(run_id, str(PLOTS), "plots")
    for file in (EVALUATION, GATE, LOCK, Path("requirements.txt")):
        if file.exists():
            client.log_artifact(run_id, str(file))
    page = dossier(params, contract, tags, moves_of(client.get_registered_model(model)))
    model_id, digest = log_model(client, run_id, contract, package, {DOSSIER: page})
    client.set_terminated(run_id)
    version = client.create_model_version(
        model, f"models:/{model_id}", run_id, {**tags, FILES: digest}, model_id=model_id
    )
    known = [{"name": model, "version": str(version.version)}]  # or the page of the model calls it not registered
    client.set_logged_model_tags(model_id, {"mlflow.modelVersions": json.dumps(known)})


def verify(client: "MlflowClient", version: "ModelVersion", contract: Contract, serve: Serve) -> None:
    """Have the version score the holdout, or its first partition, from its own files, and tag it.

    Of more than SERVED customers it scores every second, third, and so on. Raises StageError, see the module.
    """
    name = f"version {version.version} of {version.name}"
    customers, predictions = (first_files(table, 1, scratch())[-1] for table in (TEST, PREDICTIONS))
    scored = read_scores(predictions)
    step = -(-len(scored) // SERVED)
    expected = scored[::step]
    with files_of(version) as folder:
        scores = serve(name, folder, customers, contract.fetched_features, step)
    same = len(scores) == len(expected) and np.isclose(scores, expected, rtol=0, atol=ROUNDING)
    if differing := len(expected) - int(np.sum(same)):
        raise StageError(f"{name} scores {number_of(differing, 'customers')} differently; champion stays.")
    write(client.set_model_version_tag, version.name, version.version, VERIFIED, "true")


def main() -> None:
    """Register what the gate passed, once, and move the alias champion to it on main, else the alias candidate."""
    params, contract = load_params(), load_contract()
    result = read_result(GATE)
    content = content_of(result)
    refuse_large_holdout(params, contract, read_result(ROWS)["test"])
    model, area = params.registration.model, read_result(EVALUATION)["roc_auc"]
    commit, branch = commit_tags(), promoting_branch(params)
    why = why_not(params, branch)
    with serving_process() as serve, registry() as client:
        package = package_of(params.train.estimator.partition(".")[0])
        content |= {PACKAGED: package.digest}
        made = content | {MADE_BY: ELSEWHERE if why else MAIN}
        tags = made | commit | {"lock_sha256": lock_digest(LOCK), "verdict": "passed"}
        ensure_model(client, model)
        version, known = only_version(
            client, model, made, lambda: create_version(client, params, contract, package, tags)
        )
        verify(client, version, contract, serve)
        outcome = nominate(client, version, why) if why else promote(client, version, settings_of(branch), contract)
    write_json(REGISTRATION, {"model": model} | content)
    rules = sum(rule["status"] == "passed" for rule in result["rules"])
    print(f"register: ROC AUC {shown(area)}, {rules} rules of the gate passed; `make ui` shows the registry")
    print(f"register: {model} version {version.version}{' (there already)' if known else ''} {outcome}")


if __name__ == "__main__":
    run(main)
