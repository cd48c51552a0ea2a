"""The versions of our model in the registry: the one version of each content, and its files.

A version stands for a content: the hashes of the model, of both tables and of the packaged files, and whether a commit
of main made it (tag `made_by`), so that main never adopts a version of a laptop. MLflow cannot say "only if there is
none", so two registrations may both make one. But it numbers versions in the order in which they appear, uses no number
again, and a version appears at once with the tags of its content, after its files. So whoever looks after making one
sees every lower number, and all agree: **the lowest number is the version of its content**, and the others go. Only the
lowest is ever verified (its tag `verified` is written last) and named by an alias, by whoever comes by: what a run that
was killed left, the next one completes.
"""

import errno
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from churn.core.errors import StageError
from churn.core.files import sha256_of
from churn.registry.client import experiment_id, failed_with, write
from churn.registry.package import ADDED, MODEL_FILE, digest_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

GONE = (None, errno.ENOENT)  # of an OSError; MLflow's own for a local file has no number
FILES = "files_sha256"  # the tag with the digest of a version's files
PACKAGED = "code_sha256"  # the tag with the digest of a Package; older versions have none, and are of another content
AGAIN = "delete the version in MLflow, then run `dvc repro --force --single-item register`"
VERIFIED = "verified"  # the tag of a version that was served from its own files and predicted the same
MADE_BY = "made_by"  # MAIN or ELSEWHERE; a version without this tag is from before it, and counts as made elsewhere
MAIN, ELSEWHERE = "main", "elsewhere"


def versions_of(client: "MlflowClient", model: str) -> "list[ModelVersion]":
    """Return all versions of the model, the lowest number first."""
    found = client.search_model_versions(f"name='{model}'", max_results=10_000)
    return sorted(found, key=lambda version: int(version.version))


def is_foreign(version: "ModelVersion") -> bool:
    """Say whether something else than this pipeline registered the version."""
    return "model_sha256" not in version.tags


def foreign(version: "ModelVersion") -> str:
    """Return the sentence about a version that this pipeline did not register."""
    name = f"version {version.version} of {version.name}"
    return f"{name} was not registered by this pipeline: take another (`make registry`), or `make rollback` champion"


def the_version(client: "MlflowClient", model: str, content: Mapping[str, str]) -> "ModelVersion | None":
    """Return the version that has the tags `content`, if there is one: of several the lowest, and the others go.

    One that somebody gave an alias is tagged `duplicate_of` instead.
    """
    from mlflow.exceptions import MlflowException

    found = [version for version in versions_of(client, model) if content.items() <= version.tags.items()]
    for other in found[1:]:
        try:
            if client.get_model_version(model, other.version).aliases:
                write(client.set_model_version_tag, model, other.version, "duplicate_of", found[0].version)
            else:
                client.delete_model_version(model, other.version)
        except MlflowException as error:
            if not failed_with(error, "RESOURCE_DOES_NOT_EXIST"):  # its maker was faster, or the answer was lost
                raise
    return found[0] if found else None


def only_version(
    client: "MlflowClient", model: str, content: Mapping[str, str], create: Callable[[], None]
) -> "tuple[ModelVersion, bool]":
    """Return the one version of `content`, and whether it was there; if not, `create` makes it.

    Runs of the same content that led to no version, of a registration that was killed or came second, are set aside by
    the tag `set_aside`; one that is still running may go on, and sets aside its own. Raises StageError when somebody
    deletes the version meanwhile.
    """
    known = the_version(client, model, content)
    if not known:
        create()
    version = known or the_version(client, model, content)
    if not version:
        raise StageError(f"the version of {model} was deleted while it was registered; run this again.")
    same = " and ".join(f"tags.{name} = '{value}'" for name, value in content.items())
    for run in client.search_runs([experiment_id(client, model)], same):
        if run.info.run_id != version.run_id and "set_aside" not in run.data.tags:
            client.set_terminated(run.info.run_id, "KILLED")
            write(client.set_tag, run.info.run_id, "set_aside", f"version {version.version} has this content")
    return version, bool(known)


@contextmanager
def files_of(version: "ModelVersion") -> Iterator[Path]:
    """Yield a folder with the version's files.

    Raises StageError when they are gone, when the version has no digest of them, and when they are not the files of
    the digest, or the model is not the one of its SHA-256. Until then nothing reads what they hold.
    """
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    name = f"version {version.version} of {version.name}"
    if FILES not in version.tags:
        raise StageError(f"{without_digest(version)}. Nothing reads them: {AGAIN}.")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        try:
            _download(f"models:/{version.name}/{version.version}", temporary)
        except RequestException:
            raise
        except (OSError, MlflowException) as error:
            gone = "No such artifact" in str(error) if isinstance(error, MlflowException) else error.errno in GONE
            if not gone:
                raise
        if not (folder / MODEL_FILE).exists():
            raise StageError(f"the files of {name} are gone: bring them back, or {AGAIN}.")
        (folder / ADDED).unlink(missing_ok=True)
        for compiled in [*folder.rglob("__pycache__")]:  # written there by Python where the local registry was served
            shutil.rmtree(compiled)
        if (found := sha256_of(folder / MODEL_FILE)) != (wanted := version.tags.get("model_sha256")):
            raise StageError(
                f"{name} holds another model file: SHA-256 {found}, but its tag model_sha256 is {wanted}."
                f" Nothing reads it: bring the file back, or {AGAIN}."
            )
        if digest_of(folder) != version.tags[FILES]:
            raise StageError(
                f"{name} holds other files than register wrote: the digest of all files is not its tag {FILES}."
                f" Nothing reads them: bring the files back, or {AGAIN}."
            )
        yield folder


def without_digest(version: "ModelVersion") -> str:
    """Return the clause for a version that carries no digest of its files."""
    return (
        f"version {version.version} of {version.name} has no tag {FILES}: register did not make it, or did so before"
        f" it recorded the files"
    )


def _download(uri: str, folder: str) -> None:
    """Download files; once more where the connection broke in the middle of one, which MLflow's client lets pass."""
    import mlflow
    from mlflow.exceptions import MlflowException

    for wait in (1, 2, 4, 8, None):
        try:
            mlflow.artifacts.download_artifacts(uri, dst_path=folder)
            return
        except MlflowException as error:
            if wait is None or "Connection broken" not in str(error):
                raise
            time.sleep(wait)
