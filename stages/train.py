"""train: a classifier that has seen every row of the training table.

In: the training table and its passed validation. Out: models/churn.skops, the same bytes on every run and
for every number of threads, and its SHA-256 beside it. Fails when the validation did not pass or was of another
table, when params.yaml names no classifier that can do the work, when the model saw fewer rows than the table has,
and when anything looks at the holdout.
"""

import importlib
import math
import os
import re
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from churn.core.start import start_up

    start_up()

from churn.config.check import checked_settings
from churn.config.contract import Contract
from churn.config.estimators import BOOSTING, LISTED, PACKAGES
from churn.config.params import Compute, Train
from churn.core.errors import StageError
from churn.core.files import sha256_of
from churn.core.paths import MODEL, PREDICTIONS, RAW, TEST, TRAIN, VALIDATION
from churn.core.results import read_result
from churn.core.runner import run
from churn.core.terminal import working
from churn.modeling.boosting import NOT_YOURS as NOT_YOURS_IN
from churn.modeling.boosting import BoostedTrees, library_of
from churn.modeling.model import read_table, save_model

import numpy as np
import pandas as pd

HIDDEN = {path.resolve() for path in (RAW, TEST, PREDICTIONS)}  # whatever holds the holdout's customers
ESTIMATOR = "params.yaml: train.estimator"
NOT_YOURS = {  # parameters that the pipeline sets
    "random_state": "set train.seed instead",
    "categorical_features": "the contract says which features are categories",
    "early_stopping": "it holds rows back in silence, and no row may be dropped; set max_iter instead",
}


def refuse_holdout(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise StageError when a file with the holdout's customers is opened: an audit hook of Python's (PEP 578)."""
    if event == "open" and isinstance(arguments[0], str | os.PathLike):
        path = Path(arguments[0]).resolve()
        if {path, path.parent} & HIDDEN:
            raise StageError(
                f"{arguments[0]} is not for training: what has seen the holdout cannot be evaluated on it."
            )


def build_classifier(params: Train) -> Any:
    """Return the unfitted classifier of params.yaml, its random state set to `params.seed` if it has one.

    Early stopping is off: scikit-learn's own default holds a tenth of every larger table back in silence.
    Raises StageError when the path names no classifier with probabilities, or a parameter is unknown.
    """
    kind, name = _class_of(params.estimator), params.estimator.rpartition(".")[2]
    try:
        classifier = kind()
    except (TypeError, ValueError) as error:
        raise StageError(f"{ESTIMATOR}: {params.estimator} cannot be made without arguments: name another.") from error
    known = classifier.get_params(deep=False)
    not_yours = NOT_YOURS | NOT_YOURS_IN.get(params.estimator.partition(".")[0], {})
    for parameter in params.parameters:
        if parameter in not_yours:
            raise StageError(f"params.yaml: train.parameters.{parameter}: {not_yours[parameter]}.")
        if parameter not in known:
            raise StageError(
                f"params.yaml: train.parameters.{parameter}: {name} has no such parameter; it has {', '.join(known)}."
            )
    settings: dict[str, Any] = {**params.parameters, "random_state": params.seed, "early_stopping": False}
    if isinstance(weights := settings.get("class_weight"), dict):
        if not weights or not all(label in ("0", "1") and _is_positive(one) for label, one in weights.items()):
            raise StageError(
                "params.yaml: train.parameters.class_weight: needs a number above 0 for each label, which is 0 or 1:"
                " write {0: 1, 1: 3}."
            )
        settings["class_weight"] = {int(label): weight for label, weight in weights.items()}
    classifier.set_params(**{name: value for name, value in settings.items() if name in known})
    if not hasattr(classifier, "predict_proba"):  # which may depend on the parameters
        raise StageError(f"{ESTIMATOR}: {params.estimator} is not a classifier with predict_proba.")
    return classifier


def _class_of(path: str) -> Any:
    """Return the class that train.estimator names. Raises StageError unless it is a classifier of a listed package.

    Nothing outside of PACKAGES and BOOSTING is imported, and nothing is called: `os.system` is a path, too.
    """
    module, _, name = path.rpartition(".")
    if path in BOOSTING:
        return getattr(library_of(module), name)
    if path.partition(".")[0] not in PACKAGES or not module:
        raise StageError(f"{ESTIMATOR}: {path} is not from a listed package: {LISTED}.")
    from sklearn.base import BaseEstimator, ClassifierMixin

    try:
        kind = getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever the import of a module raises
        raise StageError(f"{ESTIMATOR}: {path} does not exist: {LISTED}.") from error
    ours = isinstance(kind, type) and kind.__module__.partition(".")[0] in PACKAGES
    if not ours or not issubclass(kind, ClassifierMixin) or not issubclass(kind, BaseEstimator):
        raise StageError(f"{ESTIMATOR}: {path} is not a classifier with predict_proba.")
    return kind


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def build_model(classifier: Any, contract: Contract) -> Any:
    """Return an unfitted model that takes the contract's frame.

    Gradient boosting on histograms, LightGBM and XGBoost take categories and missing values natively. Any other
    classifier gets categories one-hot, missing numbers as their median with a flag beside, and all numbers
    standardised. The categories come from the contract, not from the data.
    """
    if type(classifier).__module__.partition(".")[0] in NOT_YOURS_IN:
        return BoostedTrees(classifier, contract)
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

    def values(name: str) -> list[Any]:
        column = contract.columns[name]
        return [*(column.values or (False, True)), *([np.nan] if column.nullable else [])]

    categories, numbers = contract.features_of("category"), contract.features_of("integer", "number")
    booleans = contract.features_of("boolean")
    native = "categorical_features" in classifier.get_params(deep=False)
    one_hot = OneHotEncoder(categories=[values(name) for name in categories], sparse_output=False)
    codes = OrdinalEncoder(categories=[values(name) for name in categories])
    flags = OrdinalEncoder(categories=[np.array(values(name), dtype=object) for name in booleans])
    fill = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    encoder = ColumnTransformer(
        [
            ("categories", codes if native else one_hot, categories),
            ("booleans", flags if native else make_pipeline(flags, fill), booleans),
            ("numbers", "passthrough" if native else fill, numbers),
        ]
    )
    if native:
        classifier.set_params(categorical_features=list(range(len(categories))))
    return make_pipeline(encoder, classifier)


def refusal(error: Exception, classifier: Any) -> str:
    """Return why an estimator refuses to be fitted, without its words, which may quote a value of a customer."""
    if isinstance(classifier, BoostedTrees):
        return f"{classifier.name} raises {type(error).__name__}; look at train in params.yaml"
    refused, known = re.match(r"The '(\w+)' parameter of", str(error)), classifier.get_params(deep=False)
    if isinstance(error, ValueError) and refused and refused[1] in known:
        return f"{type(classifier).__name__} does not take train.parameters.{refused[1]} = {known[refused[1]]!r}"
    return f"{type(classifier).__name__} raises {type(error).__name__}; look at train in params.yaml"


def fit(model: Any, features: pd.DataFrame, labels: pd.Series, rows: int) -> Any:
    """Fit the model on all `rows` rows and return it.

    BLAS runs on one thread, since the last bits of its sums depend on how many there are; gradient boosting
    has threads of its own, on which its result does not depend. Raises StageError when a row is missing or
    when the library refuses the parameters or the data.
    """
    from threadpoolctl import threadpool_limits

    # protection: training counts its rows
    if not len(features) == len(labels) == rows:
        raise StageError(f"the model would see {len(features):,} of the {rows:,} rows of the table; drop none.")
    classifier = model[-1] if hasattr(model, "steps") else model
    try:
        with threadpool_limits(limits=1, user_api="blas"):
            model.fit(features, labels)
    except StageError:
        raise
    except Exception as error:  # whatever an estimator makes of its parameters and the data
        raise StageError(f"the model cannot be fitted: {refusal(error, classifier)}.") from error
    if hasattr(classifier, "_bin_mapper"):
        classifier._bin_mapper.n_threads = 1  # n_threads is the only machine-dependent state
    return model


def fit_partitions(model: BoostedTrees, rows: int, contract: Contract, compute: Compute) -> BoostedTrees:
    """Fit the model on all `rows` rows of the training table's partitions, on Dask's workers, and return it.

    Raises StageError when a row is missing, or when the library refuses the parameters or the data.
    """
    from churn.core.cluster import connected
    from churn.core.partitions import partitions_of
    from churn.modeling.distributed import Training, train_partitions

    with connected(compute) as cluster, working("train: fitting"):
        training = Training(model.parameters, model.rounds, model.columns, contract)
        file, seen = train_partitions(cluster, training, partitions_of(TRAIN))
    if seen != rows:
        raise StageError(f"the model has seen {seen:,} of the {rows:,} rows of the table; drop none.")
    return model.fitted(file, seen)


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
    name = params.estimator.rpartition(".")[2]
    if settings.compute.engine == "dask":
        save_model(fit_partitions(model, validated["rows"], contract, settings.compute), MODEL)
        print(f"train: {MODEL}, {name} on {validated['rows']:,} customers, {len(contract.features)} features")
        return
    features, labels, _ = read_table(TRAIN, contract)
    print(f"train: {name} on {len(features):,} {contract.unit}, {len(contract.features)} features ...", flush=True)
    steps = model[-1].max_iter if name == "HistGradientBoostingClassifier" else None
    with working("train: fitting", steps, lambda: len(getattr(model[-1], "_predictors", ()))):
        model = fit(model, features, labels, validated["rows"])
    save_model(model, MODEL)
    print(f"train: {MODEL}, {MODEL.stat().st_size // 1024:,} KiB")


if __name__ == "__main__":
    run(main)
