"""The steps as Dagster assets, kept by its default IO manager; `dagster asset materialize` runs a process an asset."""

import json
from pathlib import Path

import steps
from dagster import AssetOut, Definitions, asset, multi_asset

SETTINGS = json.loads(Path("settings.json").read_text())


@asset
def customers():
    """Fetch."""
    return steps.fetch(SETTINGS["source"], SETTINGS["data"])


@multi_asset(outs={"train": AssetOut(), "test": AssetOut()})
def prepare(customers):
    """Prepare."""
    return steps.prepare(customers, SETTINGS["prepare"])


@asset
def validation(train, test):
    """Validate."""
    return steps.validate(train, test, SETTINGS["data"])


@asset
def model(train, validation):
    """Train."""
    return steps.train_model(train, validation, SETTINGS["model"])


@multi_asset(outs={"metrics": AssetOut(), "roc": AssetOut()})
def evaluate(model, test):
    """Evaluate."""
    return steps.evaluate(model, test, SETTINGS["evaluate"])


@asset
def verdict(metrics, validation):
    """Gate."""
    return steps.gate(metrics, validation, SETTINGS["gate"])


@asset
def version(model, metrics, verdict, train):
    """Register."""
    return steps.register(model, metrics, verdict, train, SETTINGS["model"])


defs = Definitions(assets=[customers, prepare, validation, model, evaluate, verdict, version])
