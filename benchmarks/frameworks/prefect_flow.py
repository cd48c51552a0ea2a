"""The steps as a Prefect flow: one task a step, cached by its inputs and code, as its pages on caching say."""

import json
from pathlib import Path

import steps
from prefect import flow, task
from prefect.cache_policies import INPUTS, TASK_SOURCE

cached = {"cache_policy": INPUTS + TASK_SOURCE, "persist_result": True}
SETTINGS = json.loads(Path("settings.json").read_text())
CODE = Path(steps.__file__).read_text()  # TASK_SOURCE sees this file alone


@task(**cached)
def fetch(source, data, settings, code):
    """Fetch: `data` is the hash of the file."""
    return steps.fetch(source, settings)


@task(**cached)
def prepare(customers, settings, code):
    """Prepare."""
    return steps.prepare(customers, settings)


@task(**cached)
def validate(tables, settings):
    """Validate."""
    return steps.validate(*tables, settings)


@task(**cached)
def train(tables, validation, settings):
    """Train."""
    return steps.train_model(tables[0], validation, settings)


@task(**cached)
def evaluate(model, tables, settings):
    """Evaluate."""
    return steps.evaluate(model, tables[1], settings)


@task(**cached)
def gate(metrics, validation, settings):
    """Gate."""
    return steps.gate(metrics, validation, settings)


@task(**cached)
def register(model, metrics, verdict, tables, settings):
    """Register."""
    return steps.register(model, metrics, verdict, tables[0], settings)


@flow
def churn():
    """Make a registered model of the customers."""
    given = SETTINGS
    customers = fetch(given["source"], steps.digest(given["source"]), given["data"], CODE)
    tables = prepare(customers, given["prepare"], CODE)
    validation = validate(tables, given["data"])
    model = train(tables, validation, given["model"])
    metrics, _ = evaluate(model, tables, given["evaluate"])
    verdict = gate(metrics, validation, given["gate"])
    register(model, metrics, verdict, tables, given["model"])


if __name__ == "__main__":
    churn()
