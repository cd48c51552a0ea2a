"""Models of LightGBM and XGBoost: trained on the contract's features as they are, kept in the library's own format.

Both take categories as codes and missing values natively. The model is an object of skops' format that holds the
library's name, the features with their codes, the number of rows, and the file of the library: LightGBM's text or
XGBoost's UBJSON. No part is a pickle. The library reads its file after lightgbm_file.py or xgboost_file.py checked it.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from churn.config.contract import Contract
from churn.config.estimators import BOOSTING, how_to_install
from churn.core.errors import StageError
from churn.modeling import lightgbm_file, xgboost_file
from churn.modeling.encoding import Columns, batches_of, categories, columns_of, encoded, matrix
from churn.modeling.trees import TreeError

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

ESTIMATORS = dict(path.split(".") for path in BOOSTING)
BATCH_ROWS = 262_144
Batches = Callable[[], Iterator[tuple[pa.Table, npt.NDArray[np.float32]]]]  # codes and labels, from the first row on
LENGTH = 2**28  # of the library's file, in bytes: 100,000 trees of 30 leaves
# Parameters that the pipeline sets, or that change what is predicted, by library; beside those of scikit-learn's.
NOT_YOURS = {
    "lightgbm": {
        "objective": "the pipeline predicts the probability of churn",
        "n_jobs": "the result is the same for each number of threads; OMP_NUM_THREADS sets it",
        "importance_type": "evaluate measures the importance of features",
    },
    "xgboost": {
        "objective": "the pipeline predicts the probability of churn",
        "n_jobs": "the result is the same for each number of threads; OMP_NUM_THREADS sets it",
        "importance_type": "evaluate measures the importance of features",
        "callbacks": "code is no setting",
        "device": "the pipeline trains on CPUs",
        "early_stopping_rounds": "it holds rows back, and no row may be dropped; set n_estimators instead",
        "enable_categorical": "the contract says which features are categories",
        "eval_metric": "evaluate measures the model",
        "feature_weights": "the pipeline weighs all features alike",
        "feature_types": "the contract says which features are categories",
        "missing": "the contract says where values may be missing",
        "tree_method": "categories and external memory need hist",
    },
}


class BoostedTrees:
    """A classifier of LightGBM or XGBoost that takes the model's frame.

    Its name and module are part of each model's file.

    Parameters
    ----------
    classifier : lightgbm.LGBMClassifier or xgboost.XGBClassifier
        Not fitted, with the parameters of params.yaml.
    contract : Contract
        Declares the features, and the values of categories.

    Attributes
    ----------
    library : str
        `lightgbm` or `xgboost`.
    parameters : dict
        What the library's `train` takes, without the number of rounds.
    rounds : int
        The number of boosting rounds.
    columns : Columns
        The features in the order in which the library sees them, with the values that have codes.
    rows : int or None
        How many rows the library was trained on.
    """

    def __init__(self, classifier: Any, contract: Contract) -> None:
        self.library = type(classifier).__module__.partition(".")[0]
        self.columns: Columns = columns_of(contract)
        self.rows: int | None = None
        self._file = b""
        self._booster: Any = None
        given = {name: value for name, value in classifier.get_params().items() if value is not None}
        self.class_weight = given.pop("class_weight", None)
        self.rounds = given.pop("n_estimators", 100)
        if self.library == "lightgbm":
            fixed: dict[str, Any] = {
                "objective": "binary",
                "deterministic": True,
                "force_col_wise": True,
                "verbosity": -1,
            }
            fixed["enable_bundle"] = False  # with half of the features a tree, bundles take a third longer
            given.pop("importance_type")
        else:
            fixed = {"objective": "binary:logistic", "tree_method": "hist"}
            given = {name: value for name, value in classifier.get_xgb_params().items() if name in given}
            for name in ("enable_categorical", "missing", "n_estimators"):
                given.pop(name, None)
            if signs := given.get("monotone_constraints"):
                given["monotone_constraints"] = tuple(signs)
            if groups := given.get("interaction_constraints"):  # as text, because XGBoost reads a list as names
                given["interaction_constraints"] = str(groups)
        self.parameters: dict[str, Any] = given | fixed

    @property
    def name(self) -> str:
        """The name of the estimator."""
        return ESTIMATORS[self.library]

    @property
    def feature_names_in_(self) -> list[str]:
        """The features that the model takes, as scikit-learn's classifiers name them."""
        return [*self.columns]

    def fit(self, features: pd.DataFrame | pa.Table, labels: npt.ArrayLike) -> "BoostedTrees":
        """Train on the rows, and return the model."""
        labels = np.asarray(labels, dtype=np.float32)
        codes = encoded(features, self.columns)
        if self.library == "lightgbm":
            return self.fitted(*_train_lightgbm(self, codes, labels))

        def batches() -> Iterator[tuple[pa.Table, npt.NDArray[np.float32]]]:
            for start in range(0, len(labels), BATCH_ROWS):
                yield codes.slice(start, BATCH_ROWS), labels[start : start + BATCH_ROWS]

        return self.fitted(*train_xgboost(self, batches))

    def fit_on_disk(self, batches: Batches) -> "BoostedTrees":
        """Train XGBoost on batches of rows, which it keeps on disk in its own form, and return the model."""
        with TemporaryDirectory() as folder:
            return self.fitted(*train_xgboost(self, batches, Path(folder)))

    def fitted(self, file: bytes, rows: int) -> "BoostedTrees":
        """Take the file that the library made, and the number of rows that it saw; return the model.

        Raises StageError when the file is not that of a model of these features, as after absurd parameters.
        """
        self._file, self.rows = file, rows
        try:
            self._read()
        except StageError as error:
            raise StageError(f"the model cannot be fitted: {error}; look at train in params.yaml.") from error
        return self

    def weights(self, labels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
        """Return the weight of each row by `class_weight`, or None."""
        if self.class_weight is None:
            return None
        share = float(labels.mean())
        balanced = {0: 0.5 / (1 - share), 1: 0.5 / share}
        by_label = balanced if self.class_weight == "balanced" else {0: 1, 1: 1} | dict(self.class_weight)
        return np.where(labels == 1, by_label[1], by_label[0]).astype(np.float32)

    def predict_proba(self, features: pd.DataFrame | pa.Table) -> npt.NDArray[np.float64]:
        """Return the probabilities to stay and to churn, shape (rows, 2)."""
        codes = encoded(features, self.columns)
        churn = np.concatenate([np.empty(0), *map(self._predict, batches_of(codes, BATCH_ROWS))])
        return np.column_stack([1 - churn, churn])

    def _predict(self, codes: pa.Table) -> npt.NDArray[np.float64]:
        if self.library == "lightgbm":
            return np.asarray(self._booster.predict(codes.rename_columns(lightgbm_file.names(len(self.columns)))))
        return np.asarray(self._booster.inplace_predict(matrix(codes, np.float32)), dtype=np.float64)

    def __getstate__(self) -> dict[str, Any]:
        """Return what the model's file holds."""
        columns = [[name, values] for name, values in self.columns.items()]
        return {"library": self.library, "columns": columns, "rows": self.rows, "trees": self._file}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Take what a model's file holds. Raises StageError or ValueError when it is not a model of this class."""
        self.library, columns, self.rows, self._file = (state[key] for key in ("library", "columns", "rows", "trees"))
        self.columns = dict(columns)
        if self.library not in ESTIMATORS or not isinstance(self._file, bytes) or not isinstance(self.rows, int):
            raise ValueError("it is not one that the pipeline wrote")
        self._read()

    def _read(self) -> None:
        """Check the file, and have the library read it. Raises StageError when it is another library's, or damaged."""
        library, known = library_of(self.library), [*self.columns.values()]
        codes = {place: sum(one is not None for one in known[place] or ()) for place in categories(self.columns)}
        check = lightgbm_file.check if self.library == "lightgbm" else xgboost_file.check
        try:
            if len(self._file) > LENGTH:
                raise TreeError(f"it is longer than {LENGTH // 2**20} MiB")
            # protection: a library reads its file after the check
            check(self._file, len(known), codes)
            if self.library == "lightgbm":
                self._booster = library.Booster(model_str=self._file.decode())
            else:
                self._booster = library.Booster()
                self._booster.load_model(bytearray(self._file))
        except Exception as error:  # of the check, or of the library
            why = error if isinstance(error, TreeError) else type(error).__name__
            raise StageError(f"its file of {self.library} cannot be read: {why}") from error


def library_of(name: str) -> Any:
    """Import LightGBM or XGBoost. Raises StageError when it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise StageError(f"the model needs {name}, which is not installed: {how_to_install(name)}.") from error


def _train_lightgbm(model: BoostedTrees, codes: pa.Table, labels: npt.NDArray[np.float32]) -> tuple[bytes, int]:
    """Return the file of a booster that was trained on the rows, and their number."""
    library = library_of("lightgbm")
    data = library.Dataset(
        codes.rename_columns(lightgbm_file.names(codes.num_columns)),
        label=labels,
        weight=model.weights(labels),
        categorical_feature=categories(model.columns),
        params=model.parameters,
    )
    booster = library.train(model.parameters, data, model.rounds)
    return lightgbm_file.kept(booster.model_to_string(num_iteration=-1)), data.num_data()


class Untrained(Protocol):
    """What a training needs to know of a model."""

    parameters: dict[str, Any]
    rounds: int
    columns: Columns


def train_xgboost(model: Untrained, batches: Batches, folder: Path | None = None) -> tuple[bytes, int]:
    """Return the file of a booster that was trained on the rows, and their number.

    With a `folder`, the binned rows are files there, and the trees are the same.
    """
    library = library_of("xgboost")

    class Given(library.DataIter):  # type: ignore[misc, name-defined]
        """Gives XGBoost the rows in batches, as often as it asks."""

        def reset(self) -> None:
            self.rows = batches()

        def next(self, input_data: Any) -> bool:
            for codes, labels in self.rows:
                input_data(data=matrix(codes, np.float32), label=labels, feature_types=xgboost_types(model.columns))
                return True
            return False

    kind = library.QuantileDMatrix if folder is None else library.ExtMemQuantileDMatrix
    place = {} if folder is None else {"cache_prefix": str(folder / "rows"), "on_host": False}
    data = kind(Given(**place), max_bin=model.parameters.get("max_bin", 256), enable_categorical=True)
    booster = library.train(model.parameters, data, model.rounds)
    return bytes(booster.save_raw("ubj")), data.num_row()


def xgboost_types(columns: Columns) -> list[str]:
    """Return the type of each feature in XGBoost's words: c for a category, q for a number."""
    places = {*categories(columns)}
    return ["c" if place in places else "q" for place in range(len(columns))]
