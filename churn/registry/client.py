"""The client of the model registry: connection, errors, and the logging of a version."""

import errno
import logging
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from churn.config.contract import Contract
from churn.core.errors import StageError, without_password
from churn.core.files import write_json
from churn.core.paths import CONTRACT, MODEL
from churn.core.time_limits import deadline
from churn.modeling.model import TRUSTED_TYPES
from churn.registry.local_store import LOCAL_ARTIFACTS, LOCAL_STORE, artifacts_here, file_of, opening
from churn.registry.package import CODE, LOADER, MODEL_FILE, Package, copy_code, digest_of

import pandas as pd

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

RETRIES = {  # of each request: 5xx and dropped connections after 0, 2, 4, 8 and 16 seconds, by MLflow's own client
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
}
ACCOUNT, TOKEN = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"
MLFLOW_FAULTS = (  # by what MLflow's texts have in common
    (r"timed out|timeout exception", "it does not answer in time"),
    (r"valid JSON format", "its answer is not MLflow's: look at MLFLOW_TRACKING_URI, and at what lies between"),
    (r"(?i)unsupported uri", "MLflow knows no address of this kind: look at MLFLOW_TRACKING_URI"),
    (r"maintenance mode", "a folder cannot be a registry: name sqlite:///… or a server in MLFLOW_TRACKING_URI"),
    (r"database is locked", "another process has locked its database"),
    (r"readonly database|read-only", "its database is read-only"),
    (r"unable to open database file", "its database cannot be opened"),
    (r"(?i)disk is full|No space left", "No space left on device"),
    (r"out-of-date database schema|no such table", "its database is of another version of MLflow: `mlflow db upgrade`"),
)
REQUEST_FAULTS = {  # by the class of the error, of requests and urllib3
    "ConnectTimeout": "it does not answer in time",
    "ReadTimeout": "it does not answer in time",
    "SSLError": "its certificate is refused",
    "ProxyError": "the proxy before it refuses",
    "RetryError": "it answers every try with an error",
    "ResponseError": "it answers every try with an error",
    "InvalidURL": "its address is invalid",
    "InvalidSchema": "its address is invalid",
    "MissingSchema": "its address is invalid",
    "ConnectionError": "it cannot be reached",
    "ChunkedEncodingError": "the connection breaks off",
}
SECONDS = 900.0  # for all requests together


@contextmanager
def registry() -> Iterator["MlflowClient"]:
    """Yield a client of the registry that MLFLOW_TRACKING_URI names, by default a local SQLite store.

    Raises StageError, naming the registry, when it refuses, cannot be reached, or takes longer than SECONDS, and when
    a disk of this machine is full.
    """
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    quiet["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # MLFLOW_TRACKING_URI may have a password
    for name, value in (quiet | RETRIES).items():
        os.environ.setdefault(name, value)
    logging.disable(logging.INFO)  # of MLflow and of its migrations; a stage prints a few lines of its own
    import mlflow
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    mlflow.set_tracking_uri(os.environ.get("MLFLOW_TRACKING_URI") or LOCAL_STORE)
    name = without_password(mlflow.get_tracking_uri())
    try:
        with deadline(
            SECONDS,
            f"the registry at {name} took longer than {SECONDS:g} seconds; what is half done, the next run completes.",
        ):
            with opening(mlflow.get_tracking_uri()):
                client = _client(name)
            yield client
    except (MlflowException, OSError) as error:
        if _is_full(error):
            folder = os.environ.get("TMPDIR", "/tmp")
            raise StageError(f"the disk is full, here or in {folder} (TMPDIR): make room, and run it again.") from error
        if not isinstance(error, MlflowException | RequestException):
            raise
        late: BaseException | None = error
        while late is not None and not isinstance(late, StageError):
            late = late.__cause__ or late.__context__
        if late is not None:  # the deadline's, which MLflow takes for a failure of its request
            raise StageError(str(late)) from error
        raise StageError(f"the registry at {name} failed: {fault_of_registry(error)}.") from error


def _client(name: str) -> "MlflowClient":
    """Return MLflow's client. Raises StageError when the driver of the database that is the registry is missing."""
    import mlflow

    try:
        return mlflow.MlflowClient()
    except ModuleNotFoundError as error:
        what = f"the registry at {name} needs the Python module {error.name}"
        raise StageError(f"{what}: install it, or name a server in MLFLOW_TRACKING_URI.") from error


def fault_of_registry(error: BaseException | None) -> str:
    """Return why the registry fails, in our own words: MLflow repeats what a server, or anything before it, answers."""
    from mlflow.protos.databricks_pb2 import ErrorCode

    text, code = str(error), str(getattr(error, "error_code", ""))
    account = TOKEN if os.environ.get(TOKEN) and not os.environ.get("MLFLOW_TRACKING_PASSWORD") else ACCOUNT
    if status := re.search(r"failed with error code (\d{3}) ", text):
        look = {"401": account, "403": account, "404": "the path in MLFLOW_TRACKING_URI"}.get(status[1])
        return f"it answers with the HTTP status {status[1]}{f': look at {look}' if look else ''}"
    if words := next((words for pattern, words in MLFLOW_FAULTS if re.search(pattern, text)), None):
        return words
    cause: BaseException | None = error
    while cause is not None:
        if words := REQUEST_FAULTS.get(type(cause).__name__):
            return words
        cause = cause.__cause__ or cause.__context__
    if code in ("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"):
        return f"this account may not do that: look at {account}"
    return f"it answers {code}" if code in dict(ErrorCode.items()) else f"it fails with {type(error).__name__}"


def _is_full(error: Exception) -> bool:
    """Say whether a disk of this machine is full; of a server's disk, the server itself tells."""
    from mlflow.exceptions import MlflowException, RestException

    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return True
    signs = (os.strerror(errno.ENOSPC), "database or disk is full")
    is_local = isinstance(error, MlflowException) and not isinstance(error, RestException)
    return is_local and any(sign in str(error) for sign in signs)


def failed_with(error: Exception, code: str) -> bool:
    """Say whether MLflow failed with this code of its own."""
    return getattr(error, "error_code", None) == code


def write(call: Callable[..., Any], *arguments: Any) -> None:
    """Write a row, such as a tag's; once more where another registration has made the same row at the same moment.

    MLflow looks for the row before it makes it, and the database refuses the second of two.
    """
    from mlflow.exceptions import MlflowException

    try:
        call(*arguments)
    except MlflowException as error:
        if not failed_with(error, "BAD_REQUEST"):
            raise
        call(*arguments)


def experiment_id(client: "MlflowClient", name: str) -> str:
    """Return the id of the experiment, made if it is not there. Raises StageError when its files lie elsewhere."""
    from mlflow.exceptions import MlflowException

    location = artifacts_here() if file_of(client.tracking_uri) else None  # a server has a place of its own
    if not client.get_experiment_by_name(name):
        try:
            write(client.create_experiment, name, location)
        except MlflowException as error:
            if not failed_with(error, "RESOURCE_ALREADY_EXISTS"):  # another registration was faster
                raise
    experiment = client.get_experiment_by_name(name)
    if not experiment or not experiment.experiment_id:
        raise no_mlflow(client)
    if experiment.lifecycle_stage != "active":
        raise StageError(f"the experiment {name} was deleted in MLflow: restore it there.")
    if location and experiment.artifact_location != location:
        raise StageError(
            f"the registry at {client.tracking_uri} keeps its files in {experiment.artifact_location}, and they are not"
            f" in {LOCAL_ARTIFACTS} here: bring that folder here, too, or start anew by deleting the registry."
        )
    return str(experiment.experiment_id)


def no_mlflow(client: "MlflowClient") -> StageError:
    """Return the error of a registry whose answers have not what MLflow's have."""
    name = without_password(client.tracking_uri)
    return StageError(f"{name} answers, but not as an MLflow server: check MLFLOW_TRACKING_URI.")


def ensure_model(client: "MlflowClient", model: str) -> None:
    """Make the registered model, unless it is there."""
    from mlflow.exceptions import MlflowException

    try:
        if not client.search_registered_models(f"name='{model}'"):
            write(client.create_registered_model, model)
    except MlflowException as error:
        if not failed_with(error, "RESOURCE_ALREADY_EXISTS"):
            raise


def signature(contract: Contract) -> "ModelSignature":
    """Return the model's signature: the contract's fetched features by name and type in, two probabilities out.

    An integer that may be missing is a double, since MLflow's long has no missing value.
    """
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    types = {
        "category": DataType.string,
        "boolean": DataType.boolean,
        "integer": DataType.long,
        "number": DataType.double,
    }
    inputs: list[ColSpec | TensorSpec] = []
    for name in contract.fetched_features:
        column = contract.columns[name]
        kind = DataType.double if column.type == "integer" and column.nullable else types[column.type]
        inputs.append(ColSpec(kind, name))
    return ModelSignature(Schema(inputs), Schema([TensorSpec(np.dtype("float64"), (-1, 2))]))


def input_example(contract: Contract) -> pd.DataFrame:
    """Return one row of the contract's types and ranges, first values and middles of ranges, so not of a customer."""
    row: dict[str, Any] = {}
    for name in contract.fetched_features:
        column = contract.columns[name]
        if column.type in ("integer", "number"):
            bounds = contract.rules.ranges[name]
            middle = (bounds.min + bounds.max) / 2
            row[name] = int(middle) if column.type == "integer" and not column.nullable else middle
        else:
            row[name] = column.values[0] if column.values else False
    return pd.DataFrame([row])


def log_model(
    client: "MlflowClient", run_id: str, contract: Contract, package: Package, pages: Mapping[str, str]
) -> tuple[str, str]:
    """Log the model under the run, as serving.py serves it; return its MLflow id, and its files' digest.

    `pages` are texts that lie beside it, by the name of their file.

    The file goes in byte by byte, so that its SHA-256 holds in the registry too. mlflow.sklearn.log_model would
    write it anew, in other bytes each time, and read it back before each.
    """
    import mlflow
    from mlflow.models import Model

    logged = client.create_logged_model(client.get_run(run_id).info.experiment_id, "model", run_id)
    model = Model(logged.artifact_location, run_id, model_uuid=logged.model_id, model_id=logged.model_id)
    model.signature = signature(contract)
    model.saved_input_example_info = {
        "artifact_path": "input_example.json",
        "serving_input_path": "serving_input_example.json",
        "type": "dataframe",
        "pandas_orient": "split",
    }
    environments = {"conda_env": "conda.yaml", "python_env": "python_env.yaml"}  # MLflow reads both for uv
    mlflow.pyfunc.add_to_model(model, loader_module=LOADER, data=MODEL_FILE, code=CODE, **environments)
    if package.library == "sklearn":
        model.add_flavor(
            package.library,
            pickled_model=MODEL_FILE,  # MLflow's word for any format
            sklearn_version=version("scikit-learn"),
            serialization_format="skops",
            skops_trusted_types=list(TRUSTED_TYPES),
            code=None,
        )
    example = input_example(contract).to_dict(orient="split", index=False)
    python = platform.python_version()
    conda = [f"python={python}", "pip", {"pip": package.requirements}]  # JSON is YAML
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copyfile(MODEL, folder / MODEL_FILE)
        shutil.copyfile(CONTRACT, folder / CONTRACT.name)
        copy_code(package.code, folder)
        write_json(folder / "input_example.json", example)
        write_json(folder / "serving_input_example.json", {"dataframe_split": example})
        write_json(folder / "python_env.yaml", {"python": python, "dependencies": ["-r requirements.txt"]})
        write_json(folder / "conda.yaml", {"name": "churn", "channels": ["conda-forge"], "dependencies": conda})
        (folder / "requirements.txt").write_text("\n".join(package.requirements) + "\n", encoding="utf-8")
        for page, text in pages.items():
            (folder / page).write_text(text, encoding="utf-8")
        model.save(str(folder / "MLmodel"))
        digest = digest_of(folder)
        client.log_model_artifacts(logged.model_id, name)
    client.finalize_logged_model(logged.model_id, "READY")
    return str(logged.model_id), digest
