"""The steps as a Metaflow flow: one method a step, artifacts as attributes of self."""

import json
from pathlib import Path

import steps
from metaflow import FlowSpec, step


class Churn(FlowSpec):
    """Customers to a registered model."""

    @step
    def start(self):
        """Fetch."""
        self.settings = json.loads(Path("settings.json").read_text())
        self.customers = steps.fetch(self.settings["source"], self.settings["data"])
        self.next(self.prepare)

    @step
    def prepare(self):
        """Prepare."""
        self.train_table, self.test_table = steps.prepare(self.customers, self.settings["prepare"])
        self.next(self.validate)

    @step
    def validate(self):
        """Validate."""
        self.validation = steps.validate(self.train_table, self.test_table, self.settings["data"])
        self.next(self.train)

    @step
    def train(self):
        """Train."""
        self.model = steps.train_model(self.train_table, self.validation, self.settings["model"])
        self.next(self.evaluate)

    @step
    def evaluate(self):
        """Evaluate."""
        self.metrics, self.roc = steps.evaluate(self.model, self.test_table, self.settings["evaluate"])
        self.next(self.gate)

    @step
    def gate(self):
        """Gate."""
        self.verdict = steps.gate(self.metrics, self.validation, self.settings["gate"])
        self.next(self.register)

    @step
    def register(self):
        """Register."""
        self.version = steps.register(self.model, self.metrics, self.verdict, self.train_table, self.settings["model"])
        self.next(self.end)

    @step
    def end(self):
        """End: Metaflow wants a last step."""


if __name__ == "__main__":
    Churn()
