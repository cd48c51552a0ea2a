"""LightGBM and XGBoost from `dvc repro` to a registered version that scores, judged against main's other estimator."""

import re

from tests.defects.cases_model import estimator
from tests.defects.harness import branch_of, judged

import pandas as pd
import pytest

PARAMETERS = {
    "lightgbm.LGBMClassifier": "{n_estimators: 150, learning_rate: 0.05, num_leaves: 8, min_child_samples: 40}",
    "xgboost.XGBClassifier": "{n_estimators: 150, learning_rate: 0.05, max_depth: 3, min_child_weight: 5}",
}


@pytest.mark.parametrize("path", PARAMETERS)
def test_another_estimator_passes_registers_and_scores(finished, path, tmp_path):
    branch = branch_of(finished, tmp_path)
    estimator(path, PARAMETERS[path])(branch)
    found = judged(branch)
    assert found.verdict == "passed", found.says
    assert not {"fetch", "prepare"} & {*found.ran}
    report = branch.text("build/report/report.md")
    assert "train.estimator" in report
    said = branch.ok("dvc", "repro")
    assert "register: churn version 1 is candidate" in said
    (files,) = (branch.folder / "mlartifacts").glob("models/*/artifacts")
    library = path.partition(".")[0]
    assert re.search(rf"^{library}(-cpu)?==", (files / "requirements.txt").read_text(), re.MULTILINE)
    branch.ok("python", "-m", "churn", "score", "data/raw/customers.parquet", "scores.csv", "--alias", "candidate")
    scores = pd.read_csv(branch.folder / "scores.csv").set_index("customer_id")["score"]
    expected = pd.read_parquet(branch.folder / "data/predictions/test.parquet").set_index("customer_id")["score"]
    assert scores[expected.index].tolist() == expected.tolist()
