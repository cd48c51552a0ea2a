"""The steps as a ZenML pipeline: one step a function, cached by its inputs and its code, which is ZenML's default."""

import json
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import steps
from sklearn.base import ClassifierMixin
from zenml import pipeline, step
from zenml.client import Client

SETTINGS = json.loads(Path("settings.json").read_text())
CODE = Path(steps.__file__).read_text()  # ZenML sees the code of this file alone


@step
def fetch(source: str, data: str, settings: dict[str, Any], code: str) -> Annotated[pd.DataFrame, "customers"]:
    """Fetch: `data` is the hash of the file."""
    return steps.fetch(source, settings)


@step
def prepare(
    customers: pd.DataFrame, settings: dict[str, Any], code: str
) -> tuple[Annotated[pd.DataFrame, "train"], Annotated[pd.DataFrame, "test"]]:
    """Prepare."""
    train, test = steps.prepare(customers, settings)
    return train, test  # a tuple in this place tells ZenML that there are two


@step
def validate(
    train: pd.DataFrame, test: pd.DataFrame, settings: dict[str, Any]
) -> Annotated[dict[str, Any], "validation"]:
    """Validate."""
    return steps.validate(train, test, settings)


@step
def train_model(
    train: pd.DataFrame, validation: dict[str, Any], settings: dict[str, Any]
) -> Annotated[ClassifierMixin, "model"]:
    """Train."""
    return steps.train_model(train, validation, settings)


@step
def evaluate(
    model: ClassifierMixin, test: pd.DataFrame, settings: dict[str, Any]
) -> tuple[Annotated[dict[str, Any], "metrics"], Annotated[pd.DataFrame, "roc"]]:
    """Evaluate."""
    metrics, roc = steps.evaluate(model, test, settings)
    return metrics, roc


@step
def gate(
    metrics: dict[str, Any], validation: dict[str, Any], settings: dict[str, Any]
) -> Annotated[dict[str, Any], "verdict"]:
    """Gate."""
    return steps.gate(metrics, validation, settings)


@step
def register(
    model: ClassifierMixin,
    metrics: dict[str, Any],
    verdict: dict[str, Any],
    train: pd.DataFrame,
    settings: dict[str, Any],
) -> Annotated[int, "version"]:
    """Register."""
    return steps.register(model, metrics, verdict, train, settings)


@pipeline
def churn() -> None:
    """Make a registered model of the customers."""
    customers = fetch(SETTINGS["source"], steps.digest(SETTINGS["source"]), SETTINGS["data"], CODE)
    train, test = prepare(customers, SETTINGS["prepare"], CODE)
    validation = validate(train, test, SETTINGS["data"])
    model = train_model(train, validation, SETTINGS["model"])
    metrics, _ = evaluate(model, test, SETTINGS["evaluate"])
    verdict = gate(metrics, validation, SETTINGS["gate"])
    register(model, metrics, verdict, train, SETTINGS["model"])


if __name__ == "__main__":
    Client()  # makes ZenML's database where there is none
    churn()
