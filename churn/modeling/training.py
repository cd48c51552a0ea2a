"""Builds the classifier of params.yaml with the encoders before it, and fits it on every row.

A model's bytes are the same on every run, and for every number of threads.
"""

import importlib
import math
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from churn.config.contract import Contract
from churn.config.estimators import BOOSTING, LISTED, PACKAGES
from churn.config.params import Train
from churn.core.errors import StageError
from churn.modeling.boosting import NOT_YOURS as NOT_YOURS_IN
from churn.modeling.boosting import BoostedTrees, library_of
from churn.modeling.codes import fit_rows
from churn.modeling.constraints import by_position
from churn.modeling.model import read_batches

import numpy as np
import pandas as pd

SEEDS = {BOOSTING[0]: 2**31, BOOSTING[1]: 2**32}  # LightGBM drops the highest bit
BIN_BYTES = 2  # of a value on disk
DISK_ROWS, DISK_CELLS = 1_048_576, 20_000_000  # of a batch on disk; a cell takes four bytes
ESTIMATOR = "params.yaml: train.estimator"
HOLDS_BACK = "it holds rows back in silence, and no row may be dropped; set {} instead"
NOT_YOURS = {  # parameters that the pipeline sets
    "random_state": "set train.seed instead",
    "categorical_features": "the contract says which features are categories",
    "early_stopping": HOLDS_BACK.format("max_iter"),
}


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
    if "early_stopping" not in known and known.get("n_iter_no_change", 0) is None:  # a number is the switch
        not_yours |= {"n_iter_no_change": HOLDS_BACK.format("n_estimators")}
    for parameter, value in params.parameters.items():
        if parameter in not_yours and (parameter, value) != ("n_iter_no_change", None):
            raise StageError(f"params.yaml: train.parameters.{parameter}: {not_yours[parameter]}.")
        if parameter not in known:
            raise StageError(
                f"params.yaml: train.parameters.{parameter}: {name} has no such parameter; it has {', '.join(known)}."
            )
    if params.estimator in BOOSTING:
        _refuse_unsafe(params)
    settings: dict[str, Any] = {**params.parameters, "random_state": params.seed, "early_stopping": False}
    weights = settings.get("class_weight")
    if "class_weight" in known and weights is not None and not isinstance(weights, str):
        if not isinstance(weights, dict) or not _are_weights(weights):
            raise StageError(
                "params.yaml: train.parameters.class_weight: needs a number above 0 for each label, which is 0 or 1:"
                ' write {"0": 1, "1": 3}, or balanced.'
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


def _refuse_unsafe(params: Train) -> None:
    """Raise StageError for parameters of LightGBM or XGBoost that the library would take for something else.

    LightGBM gets all of them as one text, in which a value with a blank goes on as another parameter.
    """
    trees, seeds = params.parameters.get("n_estimators", 1), SEEDS[params.estimator]
    if isinstance(trees, bool) or not isinstance(trees, int) or trees < 1:
        raise StageError("params.yaml: train.parameters.n_estimators: needs a whole number from 1 on.")
    if params.seed >= seeds:
        raise StageError(f"params.yaml: train.seed: needs a number below {seeds:,} for {params.estimator}.")
    for name, value in params.parameters.items() if params.estimator == BOOSTING[0] else ():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str) and not re.fullmatch(r"[\w.:-]*", one, flags=re.ASCII):
                raise StageError(f"params.yaml: train.parameters.{name}: needs one word or number.")


def _are_weights(given: Mapping[str, Any]) -> bool:
    return bool(given) and all(label in ("0", "1") and _is_positive(one) for label, one in given.items())


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def build_model(classifier: Any, contract: Contract) -> Any:
    """Return an unfitted model that takes the contract's frame.

    Gradient boosting on histograms, LightGBM and XGBoost take categories and missing values natively. Any other
    classifier gets categories one-hot, missing numbers as their median with a flag beside, and all numbers
    standardised. The categories come from the contract, not from the data. Raises StageError when a constraint names
    no feature.
    """
    if type(classifier).__module__.partition(".")[0] in NOT_YOURS_IN:
        classifier.set_params(**by_position(classifier, contract, contract.features))
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
    constraints = by_position(classifier, contract, [*categories, *booleans, *numbers] if native else None)
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
        classifier.set_params(categorical_features=list(range(len(categories))), **constraints)
    return make_pipeline(encoder, classifier)


def refusal(error: Exception, classifier: Any) -> str:
    """Return why an estimator refuses to be fitted, without its words, which may quote a value of a customer."""
    if hasattr(classifier, "name"):  # of LightGBM or XGBoost
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
            fit_rows(model, features, labels)
    except StageError:
        raise
    except Exception as error:  # whatever an estimator makes of its parameters and the data
        raise StageError(f"the model cannot be fitted: {refusal(error, classifier)}.") from error
    if hasattr(classifier, "_bin_mapper"):
        classifier._bin_mapper.n_threads = 1  # n_threads is the only machine-dependent state
    if getattr(classifier, "n_jobs", None) is not None:
        classifier.n_jobs = None  # several threads add the trees of a forest up in any order, with other last bits
    return model


def fit_on_disk(model: Any, path: Path, contract: Contract, rows: int) -> Any:
    """Fit XGBoost on all `rows` rows of the table at `path`, in batches, and return the model. Raises like `fit`."""
    size = max(1, min(DISK_ROWS, DISK_CELLS // len(contract.features)))
    needed, free = rows * len(contract.features) * BIN_BYTES, shutil.disk_usage(tempfile.gettempdir()).free
    if free < needed:  # XGBoost would end the process, and leave its files
        raise StageError(
            f"XGBoost trains on disk, and needs about {needed / 10**9:.1f} GB in {tempfile.gettempdir()}, which has"
            f" {free / 10**9:.1f}: free some, set TMPDIR, or raise compute.memory."
        )
    try:
        model.fit_on_disk(read_batches(path, contract, model.columns, size))
    except StageError:
        raise
    except Exception as error:  # of the library
        raise StageError(f"the model cannot be fitted: {refusal(error, model)}.") from error
    if model.rows != rows:
        raise StageError(f"the model saw {model.rows:,} of the {rows:,} rows of the table; drop none.")
    return model
