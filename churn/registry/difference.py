"""Shows how two versions differ, as the registry has them: origin, settings and metrics.

`python -m churn registry compare 7 9`.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from churn.config.params import METRICS
from churn.core.errors import StageError
from churn.registry.client import failed_with
from churn.registry.versions import is_foreign, versions_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import RunData
    from mlflow.entities.model_registry import ModelVersion

ORIGIN = {  # the tags of a version, and what they are of
    "commit": "commit",
    "model_sha256": "model",
    "train_sha256": "training table",
    "test_sha256": "holdout",
    "code_sha256": "packaged code",
    "files_sha256": "files",
    "lock_sha256": "dvc.lock",
}
HASH_SHOWN, SLICES_SHOWN = 12, 10


def difference(client: "MlflowClient", model: str, numbers: Sequence[str]) -> Iterator[list[list[str]]]:
    """Yield three tables of how the second version differs from the first: origin, settings, metrics.

    The metrics are all those of all customers, then those of slices that differ most. Raises StageError when a version
    does not exist, was not registered by this pipeline, or lost its run.
    """
    found = {str(one.version): one for one in versions_of(client, model)}
    for number in numbers:
        if number not in found or is_foreign(found[number]):
            known = ", ".join(number for number, one in found.items() if not is_foreign(one)) or "none"
            raise StageError(f"{model} has no version {number} of this pipeline: it has {known}.")
    versions = [found[number] for number in numbers]
    runs = [_run_of(client, one) for one in versions]
    names = [f"version {number}" for number in numbers]

    yield [
        ["", *names],
        *([what, *(one.tags.get(tag, "")[:HASH_SHOWN] for one in versions)] for tag, what in ORIGIN.items()),
    ]
    first, second = (run.params for run in runs)
    changed = [name for name in sorted({*first, *second}) if first.get(name) != second.get(name)]
    settings = [[name, first.get(name, ""), second.get(name, "")] for name in changed]
    yield [["setting", *names], *settings] if settings else [["no setting differs"]]
    before, after = (run.metrics for run in runs)
    slices = {name: after[name] - before[name] for name in {*before} & {*after} if "/" in name}
    moved = sorted((name for name in slices if slices[name]), key=lambda name: (-abs(slices[name]), name))
    alike = versions[0].tags.get("test_sha256") == versions[1].tags.get("test_sha256")
    rows = [["metric", *names, "difference" if alike else "difference, on other holdouts"]]
    for name in (*METRICS, *moved[:SLICES_SHOWN]):
        one, other = before.get(name), after.get(name)
        by = "" if one is None or other is None else f"{other - one:+z.4f}"
        rows.append([name, *("" if value is None else f"{value:.4f}" for value in (one, other)), by])
    yield rows


def _run_of(client: "MlflowClient", version: "ModelVersion") -> "RunData":
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(str(version.run_id)).data
    except MlflowException as error:
        if not failed_with(error, "RESOURCE_DOES_NOT_EXIST"):
            raise
        raise StageError(
            f"version {version.version} of {version.name} has lost its run, with settings and metrics: compare another."
        ) from error
