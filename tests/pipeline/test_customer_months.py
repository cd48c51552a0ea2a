"""A table with a row for each customer and month goes from fetch to a registered version, and through a retraining."""

import json
import re

from tests.conftest import clone_of_tree
from tests.customer_months import SOURCE, customer_months, put_customer_months

import pytest

LATER = "2026-01-20"


@pytest.fixture(scope="module")
def adopted(tmp_path_factory):
    """A clone whose team has its own table of customer-months, a registered version, and committed results."""
    clone = clone_of_tree(tmp_path_factory.mktemp("months") / "repository")
    put_customer_months(clone.folder)
    clone.ok("dvc", "repro", "prepare")
    clone.ok("python", "-m", "churn", "profile")
    clone.commit("Describe our customers")
    clone.first_run = clone.ok("dvc", "repro")
    clone.commit("Record what the pipeline made")
    return clone


def test_customer_months_go_from_fetch_to_a_registered_version(adopted):
    assert re.search(r"register: churn version 1 is (champion|candidate)", adopted.first_run)
    evaluation = json.loads(adopted.text("metrics/evaluation.json"))
    assert evaluation["train_until"] == "2025-08-22"
    assert evaluation["roc_auc"] < 0.7  # a split by row gives more than 0.75
    rows = json.loads(adopted.text("metrics/rows.json"))
    assert rows["fetched"] == rows["train"] + rows["test"] + sum(rows["dropped"].values())


def test_the_tests_of_the_live_files_pass(adopted):
    adopted.ok("python", "-m", "pytest", "-o", "addopts=", "-q", "tests/own")


def test_a_retraining_moves_the_day_alone_and_is_compared_with_main(adopted):
    """Main's model and the new one score the rows after the new training; the days since main's are no fault of its."""
    (adopted.folder / SOURCE).write_text(customer_months(LATER).to_csv(index=False))
    adopted.ok("git", "switch", "--quiet", "--create", "retraining")
    adopted.ok("python", "-m", "churn", "as-of", LATER)
    adopted.ok("dvc", "repro", "gate")
    adopted.commit("Retrain")
    printed = adopted.ok("python", "-m", "report", "--base", "main")
    assert printed.startswith("Passes the gate: ROC AUC 0."), printed
    assert "on customers at random" in printed
    report = adopted.text("build/report/report.md")
    assert "on rows after 2025-09-22, by which the model is judged" in report
    assert "dropped (label_window_open)" in report
    assert re.search(r"Both models on the same [\d,]+ rows of the holdout", report)
