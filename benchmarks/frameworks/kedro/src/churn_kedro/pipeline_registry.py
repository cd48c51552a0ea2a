"""The pipeline: one node a step."""

import steps
from kedro.pipeline import Pipeline, node


def register_pipelines() -> dict[str, Pipeline]:
    """Return the pipeline under the name that `kedro run` runs."""
    nodes = [
        node(steps.fetch, ["params:source", "params:data"], "customers", name="fetch"),
        node(steps.prepare, ["customers", "params:prepare"], ["train", "test"], name="prepare"),
        node(steps.validate, ["train", "test", "params:data"], "validation", name="validate"),
        node(steps.train_model, ["train", "validation", "params:model"], "model", name="train"),
        node(steps.evaluate, ["model", "test", "params:evaluate"], ["metrics", "roc"], name="evaluate"),
        node(steps.gate, ["metrics", "validation", "params:gate"], "verdict", name="gate"),
        node(steps.register, ["model", "metrics", "verdict", "train", "params:model"], "version", name="register"),
    ]
    return {"__default__": Pipeline(nodes)}
