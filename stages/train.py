"""train: a classifier that has seen every row of the training table.

In: the training table and its passed validation. Out: models/churn.skops, the same bytes on every run and
for every number of threads, and its SHA-256 beside it. Fails when the validation did not pass or was of another
table, when params.yaml names no classifier that can do the work, when the model saw fewer rows than the table has,
and when anything looks at the holdout.
"""

import os
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from churn.core.start import start_up

    start_up("scipy.special")  # for `churn.modeling.model`, which reads or writes the model

from churn.config.check import checked_settings
from churn.config.memory import trains_on_disk
from churn.core.errors import StageError
from churn.core.files import sha256_of
from churn.core.partitions import partitions_of
from churn.core.paths import MODEL, PREDICTIONS, RAW, TEST, TRAIN, VALIDATION
from churn.core.results import read_result
from churn.core.runner import run
from churn.core.terminal import working
from churn.modeling.distributed import fit_partitions
from churn.modeling.model import read_table, save_model
from churn.modeling.training import build_classifier, build_model, fit, fit_on_disk

HIDDEN = {path.resolve() for path in (RAW, TEST, PREDICTIONS)}  # whatever holds the holdout's customers


def refuse_holdout(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise StageError when a file with the holdout's customers is opened: an audit hook of Python's (PEP 578)."""
    if event == "open" and isinstance(arguments[0], str | os.PathLike):
        path = Path(arguments[0]).resolve()
        if {path, path.parent} & HIDDEN:
            raise StageError(
                f"{arguments[0]} is not for training: what has seen the holdout cannot be evaluated on it."
            )


def main() -> None:
    """Train on the validated table and write the model."""
    # protection: training cannot open the holdout
    sys.addaudithook(refuse_holdout)
    (settings, contract), validation = checked_settings(), read_result(VALIDATION)
    params = settings.train
    validated = validation["tables"]["train"]
    if not validation["passed"] or validated["sha256"] != sha256_of(TRAIN):
        raise StageError(f"{VALIDATION} holds no passed validation of {TRAIN}; run `dvc repro`.")
    model = build_model(build_classifier(params), contract)
    name, rows = params.estimator.rpartition(".")[2], validated["rows"]
    print(f"train: {name} on {rows:,} {contract.unit}, {len(contract.features)} features ...", flush=True)
    if settings.compute.engine == "dask":
        with working("train: fitting"):
            save_model(fit_partitions(model, partitions_of(TRAIN), contract, rows, settings.compute), MODEL)
        print(f"train: {MODEL}, {MODEL.stat().st_size // 1024:,} KiB")
        return
    if trains_on_disk(settings, contract, rows):
        with working("train: fitting"):
            save_model(fit_on_disk(model, TRAIN, contract, rows), MODEL)
        print(f"train: {MODEL}, in batches on disk, because the table is too large for compute.memory")
        return
    features, labels, _ = read_table(TRAIN, contract)
    steps = model[-1].max_iter if name == "HistGradientBoostingClassifier" else None
    with working("train: fitting", steps, lambda: len(getattr(model[-1], "_predictors", ()))):
        model = fit(model, features, labels, validated["rows"])
    save_model(model, MODEL)
    print(f"train: {MODEL}, {MODEL.stat().st_size // 1024:,} KiB")


if __name__ == "__main__":
    run(main)
