"""The steps of the pipeline as a team writes them with pandas and scikit-learn, for every other framework.

They read the same customers, hold out a fifth of them by key, compute the same feature, check the same rules, train
the same estimator, measure nine metrics for all customers and for each slice, apply the same bounds and register the
model in MLflow. They measure no intervals and no importance, compare with no profile, and do not serve the version
that they register.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

Settings = dict[str, Any]
BINS = 10  # of the calibration error


def fetch(source: str, settings: Settings) -> pd.DataFrame:
    """Read the source, name the columns and give them their types."""
    raw = pd.read_csv(source, dtype=str) if source.endswith(".csv") else pd.read_parquet(source)
    table = raw.rename(columns=settings["names"])[list(settings["names"].values())]
    for name in settings["booleans"]:
        values = table[name].replace({"No phone service": "No", "No internet service": "No"})
        table[name] = values.map({"Yes": True, "No": False, "1": True, "0": False}).astype(bool)
    for name in settings["numbers"]:
        table[name] = pd.to_numeric(table[name].str.strip(), errors="coerce")
    return table.assign(churn=(table["churn"] == "Yes").astype("int64")).sort_values("customer_id", ignore_index=True)


def add_features(customers: pd.DataFrame) -> pd.DataFrame:
    """Add num_products: how many of the nine services the customer subscribes to."""
    services = ["phone_service", "multiple_lines", "online_security", "online_backup", "device_protection"]
    services += ["has_tech_support", "streaming_tv", "streaming_movies"]
    has_internet = customers["internet_service"] != "No"
    return customers.assign(num_products=customers[services].sum(axis="columns") + has_internet)


def prepare(customers: pd.DataFrame, settings: Settings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the training table and the holdout, split by a hash of the key."""
    features = add_features(customers)
    held_out = pd.util.hash_array(features["customer_id"].to_numpy(object)) % 1000 < 1000 * settings["holdout_share"]
    return features[~held_out].reset_index(drop=True), features[held_out].reset_index(drop=True)


def validate(train: pd.DataFrame, test: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    """Check both tables, and raise ValueError when a rule is broken."""
    broken = []
    for name, table in (("train", train), ("test", test)):
        if not table["customer_id"].is_unique:
            broken.append(f"{name}: customer_id")
        for column, bounds in settings["ranges"].items():
            if not table[column].dropna().between(*bounds).all():
                broken.append(f"{name}: {column}")
        for column, values in settings["categories"].items():
            if not table[column].isin(values).all():
                broken.append(f"{name}: {column}")
        broken += [f"{name}: {column}" for column in settings["required"] if table[column].isna().any()]
        expected = table["tenure_months"] * table["monthly_charges"]
        distance = (table["total_charges"].fillna(0) - expected).abs()
        if (distance > 3 * table["monthly_charges"] + 0.2 * expected).any():
            broken.append(f"{name}: total_charges_fit_tenure")
    if test["customer_id"].isin(train["customer_id"]).any():
        broken.append("both: disjoint")
    rate = pd.concat([train["churn"], test["churn"]]).mean()
    if not settings["label_rate"][0] <= rate <= settings["label_rate"][1]:
        broken.append("both: label_rate")
    if broken:
        raise ValueError(f"the data break {broken}")
    return {"passed": True, "train": len(train), "test": len(test), "label_rate": float(rate)}


def frame(table: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Return the features as the model takes them."""
    types = {name: pd.CategoricalDtype(values) for name, values in settings["categories"].items()}
    return table[settings["features"]].astype(types)


def train_model(train: pd.DataFrame, validation: dict[str, Any], settings: Settings) -> Any:
    """Fit the estimator."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    if not validation["passed"]:
        raise ValueError("the data did not pass")
    parameters = settings["parameters"] | {"random_state": settings["seed"], "early_stopping": False}
    model = HistGradientBoostingClassifier(categorical_features="from_dtype", **parameters)
    return model.fit(frame(train, settings), train["churn"])


def measures(labels: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, float | None]:
    """Return nine metrics; None where there is one class alone."""
    from sklearn import metrics

    if len(set(labels)) < 2:
        return {}
    predicted = scores >= threshold
    bins = pd.DataFrame({"y": labels, "p": scores}).groupby(np.minimum((scores * BINS).astype(int), BINS - 1))
    gaps = bins["y"].mean() - bins["p"].mean()
    return {
        "roc_auc": float(metrics.roc_auc_score(labels, scores)),
        "average_precision": float(metrics.average_precision_score(labels, scores)),
        "accuracy": float(metrics.accuracy_score(labels, predicted)),
        "precision": float(metrics.precision_score(labels, predicted, zero_division=0)),
        "recall": float(metrics.recall_score(labels, predicted)),
        "f1": float(metrics.f1_score(labels, predicted)),
        "log_loss": float(metrics.log_loss(labels, scores)),
        "brier_score": float(metrics.brier_score_loss(labels, scores)),
        "expected_calibration_error": float((gaps.abs() * bins.size()).sum() / len(labels)),
    }


def evaluate(model: Any, test: pd.DataFrame, settings: Settings) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the metrics of all customers and of each slice, and the ROC curve."""
    from sklearn.metrics import roc_curve

    labels, scores = test["churn"].to_numpy(), model.predict_proba(frame(test, settings))[:, 1]
    slices = {"overall": np.full(len(test), True)}
    for column in settings["slice_columns"]:
        for value in sorted(test[column].unique()):
            name = str(value).lower() if isinstance(value, bool | np.bool_) else value
            slices[f"{column}={name}"] = (test[column] == value).to_numpy()
    slices |= {name: test.eval(condition).to_numpy() for name, condition in settings["slice_conditions"].items()}
    found = {name: measures(labels[rows], scores[rows], settings["threshold"]) for name, rows in slices.items()}
    false, true, _ = roc_curve(labels, scores)
    step = max(len(false) // 200, 1)
    return found, pd.DataFrame({"false_positive_rate": false[::step], "true_positive_rate": true[::step]})


def gate(metrics: dict[str, Any], validation: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Apply the bounds, and raise ValueError when one is broken."""
    broken = []
    for scope, bounds in {"overall": settings["overall"], **settings["slices"]}.items():
        for metric, bound in bounds.items():
            value = metrics.get(scope, {}).get(metric)
            if value is None or value < bound.get("min", -np.inf) or value > bound.get("max", np.inf):
                broken.append(f"{scope} {metric} {value}")
    if broken or not validation["passed"]:
        raise ValueError(f"blocked: {broken}")
    return {"verdict": "passed"}


def register(
    model: Any, metrics: dict[str, Any], verdict: dict[str, Any], train: pd.DataFrame, settings: Settings
) -> int:
    """Log the model with its metrics, make a version of it and set the alias champion. Return the version."""
    import mlflow

    if verdict["verdict"] != "passed":
        raise ValueError("there is no passed verdict")
    mlflow.set_tracking_uri(f"sqlite:///{Path('mlflow.db').resolve()}")
    mlflow.set_experiment("churn")
    example = frame(train.head(100), settings)
    with mlflow.start_run():
        mlflow.log_params(settings["parameters"])
        mlflow.log_metrics(metrics["overall"])
        info = mlflow.sklearn.log_model(
            model,
            name="model",
            signature=mlflow.models.infer_signature(example, model.predict_proba(example)),
            registered_model_name="churn",
            pip_requirements=["scikit-learn", "pandas"],  # else MLflow imports the model again to find them
            serialization_format="cloudpickle",
        )
    mlflow.MlflowClient().set_registered_model_alias("churn", "champion", info.registered_model_version)
    return int(info.registered_model_version)


def digest(source: str) -> str:
    """Return the SHA-256 of a file, for frameworks that look at the values of inputs alone."""
    with Path(source).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
