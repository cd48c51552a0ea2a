"""The model's input frame, and its file.

The file is in skops' format: not a pickle, so that reading it runs no code of the file's choosing. An estimator, or
what it holds beside numbers and text, is read only when its type is listed here.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from churn.config.contract import Contract
from churn.core.errors import StageError
from churn.core.files import batches_in, refuse_other_types, refuse_twice, replacing, sha256_of
from churn.modeling import sklearn_trees
from churn.modeling.boosting import Batches, BoostedTrees
from churn.modeling.encoding import Columns, encoded
from churn.modeling.trees import TreeError

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

# What scikit-learn's classifiers with probabilities, and the encoders before them, are made of. Reading one of these
# runs nothing but scikit-learn's own constructors. Add a type after reading what it does, never because a file asks
# for it.
# protection: a model holds types that are known
TRUSTED_TYPES = (
    "churn.modeling.boosting.BoostedTrees",  # which checks the file of LightGBM or XGBoost in it
    "functools.partial",
    "numpy.dtype",
    "sklearn.calibration.CalibratedClassifierCV",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.compose._column_transformer.ColumnTransformer",
    "sklearn.discriminant_analysis.LinearDiscriminantAnalysis",
    "sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis",
    "sklearn.dummy.DummyClassifier",
    "sklearn.ensemble._bagging.BaggingClassifier",
    "sklearn.ensemble._forest.ExtraTreesClassifier",
    "sklearn.ensemble._forest.RandomForestClassifier",
    "sklearn.ensemble._gb.GradientBoostingClassifier",
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingClassifier",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.ensemble._weight_boosting.AdaBoostClassifier",
    "sklearn.gaussian_process._gpc.GaussianProcessClassifier",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    "sklearn.impute._base.MissingIndicator",
    "sklearn.impute._base.SimpleImputer",
    "sklearn.linear_model._logistic.LogisticRegression",
    "sklearn.linear_model._logistic.LogisticRegressionCV",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.naive_bayes.BernoulliNB",
    "sklearn.naive_bayes.CategoricalNB",
    "sklearn.naive_bayes.ComplementNB",
    "sklearn.naive_bayes.GaussianNB",
    "sklearn.naive_bayes.MultinomialNB",
    "sklearn.neighbors._classification.KNeighborsClassifier",
    "sklearn.neighbors._classification.RadiusNeighborsClassifier",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neighbors._nearest_centroid.NearestCentroid",
    "sklearn.neural_network._multilayer_perceptron.MLPClassifier",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.pipeline.Pipeline",
    "sklearn.preprocessing._data.StandardScaler",
    "sklearn.preprocessing._encoders.OneHotEncoder",
    "sklearn.preprocessing._encoders.OrdinalEncoder",
    "sklearn.preprocessing._function_transformer.FunctionTransformer",
    "sklearn.preprocessing._label.LabelBinarizer",
    "sklearn.preprocessing._label.LabelEncoder",
    "sklearn.semi_supervised._label_propagation.LabelPropagation",
    "sklearn.semi_supervised._label_propagation.LabelSpreading",
    "sklearn.svm._classes.LinearSVC",
    "sklearn.tree._classes.DecisionTreeClassifier",
    "sklearn.tree._classes.DecisionTreeRegressor",
    "sklearn.tree._classes.ExtraTreeClassifier",
    "sklearn.tree._tree.Tree",
    "sklearn.utils.validation.check_array",
)


def model_frame(table: pa.Table, contract: Contract) -> pd.DataFrame:
    """Return the features as the model takes them.

    Parameters
    ----------
    table : pyarrow.Table
        Customers, with at least the contract's features.
    contract : Contract
        Declares the features, their order and their types.

    Returns
    -------
    pandas.DataFrame, shape (rows, features)
        Categories are text, or pandas' categories where the table has dictionaries of them. Booleans are bool, numbers
        int64 or float64. Where the contract allows nulls, a missing value is NaN.

    Raises
    ------
    StageError
        When a feature is missing.
    """
    if missing := [name for name in contract.features if name not in table.column_names]:
        raise StageError(f"the table has no column {', '.join(missing)}, which contract.yaml declares a feature.")
    frame: pd.DataFrame = table.select(contract.features).to_pandas()
    for name in contract.features_of("boolean"):
        if contract.columns[name].nullable:
            frame[name] = frame[name].astype(object).where(frame[name].notna(), np.nan)
    return frame


def read_table(path: Path, contract: Contract) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    """Read a table of customers: the model's frame, the labels (0 or 1) and the keys, each of as many rows.

    Categories are pandas' categories, a byte a row: the text would take ten times as much. Raises StageError when the
    file is not Parquet, lacks a column, has one in another type, or has labels other than 0 and 1.
    """
    columns = (contract.key, contract.label, *contract.features)
    table = read_parquet(path, types_of(columns, contract), contract.features_of("category"))
    labels = table[contract.label]
    if not pc.all(pc.is_in(labels, pa.array([0, 1])), min_count=0).as_py():
        raise StageError(
            f"{path}: {contract.label} is neither 0 nor 1 in some rows: let the query give 1 for churn and 0 for none,"
            " then run `dvc repro`."
        )
    return model_frame(table, contract), labels.to_pandas(), table[contract.key].to_pandas()


def types_of(columns: Iterable[str], contract: Contract) -> dict[str, str]:
    """Return the contract's types of some columns by name."""
    return {name: contract.columns[name].type for name in columns}


def read_batches(path: Path, contract: Contract, columns: Columns, rows: int) -> Batches:
    """Return a function that reads a table of customers in batches, as codes and labels: never all of it is in memory.

    Raises StageError when the file is not Parquet, lacks a column, or has one in another type.
    """
    types = types_of([*columns, contract.label], contract)

    def batches() -> Iterator[tuple[pa.Table, npt.NDArray[np.float32]]]:
        with _opened(path, types, contract.features_of("category")) as given:
            for batch in batches_in(given, rows, [*types]):
                table = pa.Table.from_batches([batch])
                yield encoded(table, columns), table[contract.label].to_numpy().astype(np.float32)

    return batches


def read_scores(path: Path) -> npt.NDArray[np.float64]:
    """Return the scores that evaluate wrote, shape (rows,). Raises StageError when the file is none of evaluate's."""
    scores = read_parquet(path, {"score": "number"})["score"]
    if not len(scores):
        raise StageError(f"{path} has no rows; `dvc repro --force` makes it again.")
    return np.asarray(scores.to_numpy())


def read_parquet(path: Path, types: Mapping[str, str], dictionaries: Sequence[str] = ()) -> pa.Table:
    """Read a table of another stage, with `dictionaries` for columns of text that have few values.

    Raises StageError when it is not Parquet, or lacks a column of `types`, or has one in another type.
    """
    with _opened(path, types, dictionaries) as given:
        return given.read()


@contextmanager
def _opened(path: Path, types: Mapping[str, str], dictionaries: Sequence[str]) -> Iterator[pq.ParquetFile]:
    """Yield a file of Parquet. Raises StageError when it is none, also while it is read, or has not these types."""
    with path.open("rb") as file:
        try:
            given = pq.ParquetFile(file)
            refuse_twice(given.schema_arrow.names, path)
            refuse_other_types(given.schema_arrow, types, path)
            # Not before the types are known: for a column of lists it raises KeyError.
            yield pq.ParquetFile(file, read_dictionary=[*dictionaries], metadata=given.metadata)
        except (pa.ArrowException, OSError) as error:  # the latter for a page that cannot be unpacked
            raise StageError(f"{path} is not a Parquet file; `dvc repro --force` makes it again.") from error


def save_model(model: Any, path: Path) -> None:
    """Write the model to `path` and the SHA-256 of the file beside it. Raises StageError, see load_model."""
    with replacing(path) as tmp, replacing(hash_file(path)) as tmp_hash:
        tmp.write_bytes(reproducible_bytes(model))
        read_model(tmp, path)  # refused now rather than by the next stage
        tmp_hash.write_text(f"{sha256_of(tmp)}\n", encoding="utf-8")


def hash_file(path: Path) -> Path:
    """Return where the SHA-256 of the model at `path` is written."""
    return path.with_suffix(".sha256")


def load_model(path: Path) -> Any:
    """Read the model at `path`, after its SHA-256 was found to be the one that train wrote beside it.

    Raises StageError when it is another file, holds a type that is not trusted, or is broken.
    """
    if sha256_of(path) != hash_file(path).read_text(encoding="utf-8", errors="replace").strip():
        raise StageError(f"{path} is not the file that train wrote: nothing reads it; run `dvc repro --force train`.")
    return read_model(path)


def read_model(file: Path, named: Path | None = None) -> Any:
    """Read a model whose SHA-256 the caller has checked; messages call it `named`. Raises like load_model."""
    path, skops_io = named or file, _skops_io()
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        _refuse_compressed(file)
        model = skops_io.load(file, trusted=list(TRUSTED_TYPES))
        sklearn_trees.check(model)
    except UntrustedTypesFoundException as error:
        types = ", ".join(re.findall(r"'([\w.]+)'", str(error))) or "a type that is not trusted"
        raise StageError(
            f"{path} holds {types}. TRUSTED_TYPES in churn/modeling/model.py lists what may be read: use another"
            " estimator, or add the type after reading what it does."
        ) from error
    except (StageError, TreeError) as error:
        raise StageError(f"{path}: {error}; run `dvc repro --force train`.") from error
    except Exception as error:  # of zipfile, json, NumPy, skops or scikit-learn, which the file calls as it likes
        raise StageError(f"{path} is not a model in skops' format; run `dvc repro --force train`.") from error
    if not hasattr(model, "predict_proba"):
        raise StageError(f"{path} holds {type(model).__name__}, not a classifier; run `dvc repro --force train`.")
    return model


def _refuse_compressed(path: Path) -> None:
    """Raise StageError when a file would be larger in memory than on the disk: `reproducible_bytes` compresses none."""
    with zipfile.ZipFile(path) as file:
        sizes = [one.file_size for one in file.infolist() if one.compress_type == zipfile.ZIP_STORED]
    if len(sizes) < len(file.infolist()) or sum(sizes) > path.stat().st_size:
        raise StageError("it is compressed")


def rows_seen(model: Any) -> int | None:
    """Return the number of rows that a pipeline was fitted on, as its parts store it, or None where none does.

    It is read from the trees, neighbours or class counts of the classifier. A classifier that draws samples, or stores
    no count, leaves it to the scaler of the numbers before it.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> rows_seen(make_pipeline(DecisionTreeClassifier()).fit([[0], [1], [2]], [0, 0, 1]))
    3
    """
    if isinstance(model, BoostedTrees):
        return model.rows
    classifier = model[-1] if hasattr(model, "steps") else model
    if hasattr(classifier, "_predictors"):  # gradient boosting on histograms
        return int(classifier._predictors[0][0].nodes["count"][0])
    if not getattr(classifier, "bootstrap", False) and getattr(classifier, "subsample", 1) == 1:
        first = getattr(classifier, "estimators_", [classifier])[0]
        first = first[0] if isinstance(first, np.ndarray) else first  # a tree for each class
        if hasattr(first, "tree_"):
            return int(first.tree_.n_node_samples[0])
    if hasattr(classifier, "n_samples_fit_"):  # nearest neighbours
        return int(classifier.n_samples_fit_)
    if hasattr(classifier, "class_count_"):  # naive Bayes
        return int(np.sum(classifier.class_count_))
    scalers = [part for part in _parts(model) if hasattr(part, "n_samples_seen_")]
    return int(np.max(scalers[0].n_samples_seen_)) if scalers else None


def _parts(model: Any) -> Iterator[Any]:
    """Yield the steps of a pipeline and of the column transformers in it."""
    yield model
    fitted: Any = getattr(model, "transformers_", None) or getattr(model, "steps", ())
    for _, part, *_ in fitted:
        yield from _parts(part)


def reproducible_bytes(model: Any) -> bytes:
    """Return the model in skops' format, free of memory addresses, dates and compression.

    skops names objects and array files by memory address; they are renumbered in the order in which the
    schema mentions them. Entries are stored, not deflated, since zlib's output differs between its builds.
    """
    with zipfile.ZipFile(io.BytesIO(_skops_io().dumps(model))) as given:
        schema = json.loads(given.read("schema.json"))
        numbers: dict[str, int] = {}
        files: dict[str, str] = {}
        for node in _nodes(schema):
            if "__id__" in node:
                node["__id__"] = numbers.setdefault(node["__id__"], len(numbers))
            if "file" in node:
                suffix = node["file"].rpartition(".")[2]
                node["file"] = files.setdefault(node["file"], f"{len(files)}.{suffix}")
        contents = {new: given.read(old) for old, new in files.items()}
    contents["schema.json"] = json.dumps(schema).encode()
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as target:
        for name, content in contents.items():
            target.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
    return written.getvalue()


def _skops_io() -> Any:
    """Return skops.io, imported without the list of all of scikit-learn's estimators, which it would trust.

    TRUSTED_TYPES says what is read, and the list takes half a second in three processes: all of scikit-learn is
    imported. skops looks for each function of scipy.special in all modules, in the order in which they came, until it
    finds it. So a program whose first import is scipy.special waits a tenth of a second less, half a one with MLflow.
    """
    import sklearn.utils

    listing = sklearn.utils.all_estimators
    sklearn.utils.all_estimators = list
    try:
        import skops.io
    finally:
        sklearn.utils.all_estimators = listing
    return skops.io


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every mapping of a JSON value, outermost first."""
    if isinstance(value, dict):
        yield value
        for part in value.values():
            yield from _nodes(part)
    elif isinstance(value, list):
        for part in value:
            yield from _nodes(part)
