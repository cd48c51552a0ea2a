"""Verification: a version, served from its own files by a process of its own, gives the pipeline's scores."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from churn.core.errors import StageError
from churn.registry.isolation import FAULT, fault_text, isolated_process
from churn.registry.package import CODE, FORMER_LOADER, LOADER, MODEL_FILE
from churn.registry.versions import AGAIN

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]
# Arguments: the version's name, its folder, a Parquet file of customers, the columns to take of it, and a step: of the
# rows, the first is scored, and each that is so many after one.
Serve = Callable[[str, Path, Path, Sequence[str], int], Scores]
SCORES = "scores.npy"


@contextmanager
def serving_process() -> Iterator[Serve]:
    """Start the process, which imports its libraries at once, and yield a function that has it score customers, once.

    The function returns the probability of churn for each customer. It raises StageError, naming the version, when
    the version cannot be served from its files.
    """
    with isolated_process("serve") as (process, folder):

        def serve(name: str, files: Path, customers: Path, columns: Sequence[str], step: int) -> Scores:
            asked = {
                "code": str(files / CODE),
                "loader": _loader_of(name, files),
                "data": str(files / MODEL_FILE),
                "customers": str(customers.resolve()),
                "columns": list(columns),
                "step": step,
                "scores": str(folder / SCORES),
                "fault": str(folder / FAULT),
            }
            try:
                process.communicate(json.dumps(asked) + "\n")
            except StageError as error:  # the deadline of churn/registry/client.py
                raise StageError(f"{name} gave no scores in time, and was stopped; champion stays.") from error
            return _answer(name, folder, process.returncode)

        yield serve


def _answer(name: str, folder: Path, status: int) -> Scores:
    if status:
        raise StageError(
            f"{name} cannot be served from its own files: {fault_text(folder / FAULT, status)}; champion stays."
            f" Mend the code that churn/registry/serving.py imports, {AGAIN}."
        )
    try:
        scores: Scores = np.load(folder / SCORES, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise StageError(f"{name} gives no scores; champion stays.") from error
    if scores.dtype != np.float64 or scores.ndim != 2 or scores.shape[1] != 2:
        raise StageError(f"{name} does not give two probabilities for each customer; champion stays.")
    return scores[:, 1]


def _loader_of(name: str, files: Path) -> str:
    """Return the module that MLmodel has MLflow run. Raises StageError unless register wrote it there."""
    from mlflow.models import Model

    ours = {"loader_module": (LOADER, FORMER_LOADER), "code": (CODE,), "data": (MODEL_FILE,)}
    try:
        flavour = Model.load(str(files)).flavors["python_function"]
        differs = [entry for entry, values in ours.items() if flavour.get(entry) not in values]
    except Exception as error:  # of YAML, or of MLflow: whatever is in the file
        raise StageError(f"MLmodel of {name} cannot be read: nothing of it is run; {AGAIN}.") from error
    if differs:
        raise StageError(
            f"MLmodel of {name} has another {differs[0]} than register wrote: nothing of it is run; {AGAIN}."
        )
    return str(flavour["loader_module"])
