"""Tables of other shapes than the sample's: wide, rare, small."""

import re
import shutil

from benchmarks.measure import module_cost
from benchmarks.scale import DATA, make_wide
from tests.conftest import ROOT, Clone
from tests.frozen import copy_of

import pytest

SOURCE = "data/sample/telco_customers.csv"
MIB = 500  # of a stage, with 310 features


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Return a function that makes a table of random customers, in a folder of its own with the code."""
    monkeypatch.delenv("PYTHONPATH", raising=False)

    def make(rows, columns, churners=30):
        clone = Clone(tmp_path / "repository")
        for name in ("churn", "stages"):
            shutil.copytree(ROOT / name, clone.folder / name, ignore=shutil.ignore_patterns("features.py"))
        shutil.copy(copy_of("churn/features.py"), clone.folder / "churn")
        params = copy_of("params.yaml").read_text().replace(SOURCE, "customers.parquet")
        (clone.folder / "params.yaml").write_text(params)
        make_wide(clone.folder, rows, columns, churners)
        return clone

    return make


def run(folder, module):
    """Run a module, and return its exit status and what it printed."""
    done = folder.run("python", "-m", *module.split())
    assert "Traceback" not in done.stdout, done.stdout
    assert "crashed with" not in done.stdout, done.stdout
    return done.returncode, done.stdout


def test_hundreds_of_features_are_described_and_checked_in_little_memory(table):
    """One query over all of them took more than DuckDB's limit of 1 GB."""
    folder = table(1_000, 310)
    for module in DATA:
        assert module_cost(module, folder.folder).peak < MIB, module


def test_where_two_of_a_hundred_churn_the_gate_names_the_threshold_that_lets_them_be_predicted(table):
    """Fault in the settings: `evaluate.threshold` is so high that nobody is predicted to churn.

    gate fails with one reason: `the model predicts that nobody churns: …: set evaluate.threshold to about …`
    """
    folder = table(15_000, 10, churners=2)
    for module in (*DATA, "stages.train", "stages.evaluate"):
        assert run(folder, module)[0] == 0, module
    status, printed = run(folder, "stages.gate")
    assert status == 1
    assert re.search(
        "gate: blocked: the model predicts that (nobody|hardly anybody) churns: .* a score of 0.5", printed
    )
    assert "predicted where" not in printed
    suitable = re.search("set evaluate.threshold to about ([0-9.]+), where as many are predicted as churned. ", printed)
    folder.replace("params.yaml", "threshold: 0.5", f"threshold: {suitable[1]}")
    assert run(folder, "stages.evaluate")[0] == 0
    status, printed = run(folder, "stages.gate")
    assert status == 0, printed


@pytest.mark.parametrize(
    ("rows", "churners", "refused"),
    [
        (2, 30, "prepare: the"),  # one of the tables is empty
        (50, 30, "validate: test: the holdout has .* and a model is measured with at least 10 churners and 10 others"),
        (300, 0, "validate: train: the training table has 0 churners among 2.. customers, .* look at how"),
        (
            300,
            100,
            "validate: train: the training table has 2.. churners among 2.. customers, .* look at how",
        ),
    ],
)
def test_too_little_to_learn_from_is_refused_with_advice(table, rows, churners, refused):
    """Fault in the source: there are 50 customers, or one outcome alone.

    validate fails: `the holdout has 3 churners among 10 customers, …: at this churn rate that takes about …`
    """
    folder, printed = table(rows, 5, churners), ""
    for module in DATA:
        status, text = run(folder, module)
        printed += text
        if status:
            break
    assert status == 1
    assert re.search(refused, printed), printed
