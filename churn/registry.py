"""The model registry: what an MLflow version of our model is made of, and how one is found again."""

import logging
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from churn.contract import Contract
from churn.model import TRUSTED_TYPES
from churn.stage import StageError, sha256_of, write_json

import pandas as pd

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

PASSWORD = re.compile(r"//[^/@\s]*@")  # in a URL, with its user
LOCAL_STORE = "sqlite:///mlflow.db"
LOCAL_ARTIFACTS = Path("mlartifacts")
MODEL_FILE = "model.skops"  # the name that MLflow's scikit-learn flavour gives it
LIBRARIES = ("mlflow", "numpy", "pandas", "scikit-learn", "scipy", "skops")


@contextmanager
def registry() -> Iterator["MlflowClient"]:
    """Yield a client of the registry that MLFLOW_TRACKING_URI names, by default a local SQLite store.

    Raises StageError, naming the registry, when it refuses or cannot be reached.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    logging.disable(logging.INFO)  # of MLflow and of its migrations; a stage prints a few lines of its own
    import mlflow
    from mlflow.exceptions import MlflowException

    mlflow.set_tracking_uri(os.environ.get("MLFLOW_TRACKING_URI") or LOCAL_STORE)
    try:
        yield mlflow.MlflowClient()
    except MlflowException as error:
        uri, fault = (PASSWORD.sub("//", text) for text in (mlflow.get_tracking_uri(), str(error).splitlines()[0]))
        raise StageError(f"the registry at {uri} failed: {fault}") from error


def experiment_id(client: "MlflowClient", name: str) -> str:
    """Return the id of the experiment, made if it is not there. Raises StageError when its files lie elsewhere."""
    is_local = client.tracking_uri.startswith("sqlite:")
    location = LOCAL_ARTIFACTS.resolve().as_uri() if is_local else None  # a server has a place of its own
    if experiment := client.get_experiment_by_name(name):
        if location and experiment.artifact_location != location:
            raise StageError(
                f"the registry at {client.tracking_uri} keeps its files in {experiment.artifact_location}, not here:"
                f" move this folder back, or start anew by deleting the registry and {LOCAL_ARTIFACTS}."
            )
        return str(experiment.experiment_id)
    return str(client.create_experiment(name, artifact_location=location))


def find_version(client: "MlflowClient", model: str, content: Mapping[str, str]) -> "ModelVersion | None":
    """Return the version of `model` that has the tags `content`, the hashes of model and data, if there is one."""
    for candidate in client.search_model_versions(f"name='{model}'", max_results=10_000):
        if content.items() <= candidate.tags.items():
            return candidate
    return None


def signature(contract: Contract) -> "ModelSignature":
    """Return the model's signature: the contract's features by name and type in, two probabilities out.

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
    for name in contract.features:
        column = contract.columns[name]
        kind = DataType.double if column.type == "integer" and column.nullable else types[column.type]
        inputs.append(ColSpec(kind, name))
    return ModelSignature(Schema(inputs), Schema([TensorSpec(np.dtype("float64"), (-1, 2))]))


def input_example(contract: Contract) -> pd.DataFrame:
    """Return one row of the contract's types and ranges, first values and middles of ranges, that is no customer."""
    row: dict[str, Any] = {}
    for name in contract.features:
        column = contract.columns[name]
        if column.type in ("integer", "number"):
            bounds = contract.rules.ranges[name]
            middle = (bounds.min + bounds.max) / 2
            row[name] = int(middle) if column.type == "integer" and not column.nullable else middle
        else:
            row[name] = column.values[0] if column.values else False
    return pd.DataFrame([row])


def log_model(client: "MlflowClient", run_id: str, file: Path, contract: Contract) -> str:
    """Log the model `file` under the run, in the scikit-learn flavour of MLflow, and return its MLflow id.

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
    mlflow.pyfunc.add_to_model(
        model,
        loader_module="mlflow.sklearn",
        model_path=MODEL_FILE,
        python_env="python_env.yaml",
        predict_fn="predict_proba",
    )
    model.add_flavor(
        "sklearn",
        pickled_model=MODEL_FILE,  # MLflow's word for any format
        sklearn_version=version("scikit-learn"),
        serialization_format="skops",
        skops_trusted_types=list(TRUSTED_TYPES),
        code=None,
    )
    example = input_example(contract).to_dict(orient="split", index=False)
    requirements = [f"{name}=={version(name)}" for name in LIBRARIES]
    environment = {"python": platform.python_version(), "dependencies": ["-r requirements.txt"]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copyfile(file, folder / MODEL_FILE)
        write_json(folder / "input_example.json", example)
        write_json(folder / "serving_input_example.json", {"dataframe_split": example})
        write_json(folder / "python_env.yaml", environment)  # JSON is YAML
        (folder / "requirements.txt").write_text("\n".join(requirements) + "\n", encoding="utf-8")
        model.save(str(folder / "MLmodel"))
        client.log_model_artifacts(logged.model_id, name)
    client.finalize_logged_model(logged.model_id, "READY")
    return str(logged.model_id)


def load_version(model: str, number: str, sha256: str) -> Any:
    """Load a version as whoever serves it would.

    Raises StageError when its file is gone, or is not the one of that SHA-256.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        folder = Path(mlflow.artifacts.download_artifacts(f"models:/{model}/{number}"))
    except (OSError, MlflowException) as error:
        if isinstance(error, MlflowException) and "No such artifact" not in str(error):
            raise
        raise StageError(
            f"the files of version {number} of {model} are gone: bring them back, or delete the version in MLflow and"
            " run `dvc repro --force --single-item register`."
        ) from error
    if (found := sha256_of(folder / MODEL_FILE)) != sha256:
        raise StageError(f"version {number} of {model} holds another model file: SHA-256 {found}, not {sha256}.")
    return mlflow.pyfunc.load_model(str(folder))
