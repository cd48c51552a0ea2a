"""Equal models have the same bytes: in another process, and for every number of threads."""

import hashlib
import json
import subprocess
import sys

from churn.config.params import Train
from churn.modeling.model import reproducible_bytes
from churn.modeling.training import build_classifier, build_model, fit
from tests.conftest import ROOT
from tests.frozen import SAMPLE
from tests.training import frame_of

import pytest

SAMPLED = {"n_estimators": 20, "subsample": 0.5, "colsample_bytree": 0.5}
ESTIMATORS = {
    "sklearn.ensemble.HistGradientBoostingClassifier": {"max_iter": 30},
    "lightgbm.LGBMClassifier": SAMPLED | {"subsample_freq": 1},
    "xgboost.XGBClassifier": SAMPLED,
}
PROGRAM = """
import json, sys, tests.frozen
import pandas as pd
from churn.config.contract import load_contract
from tests.pipeline.test_equal_bytes import digests

contract, features = load_contract(), pd.read_pickle(sys.argv[1])
print(json.dumps(digests(contract, features, features.pop(contract.label))))
"""


def digests(contract, features, labels):
    """Return the SHA-256 of the model of each estimator."""
    found = {}
    for estimator, parameters in ESTIMATORS.items():
        train = Train(estimator=estimator, parameters=parameters, seed=1)
        model = fit(build_model(build_classifier(train), contract), features, labels, len(features))
        found[estimator] = hashlib.sha256(reproducible_bytes(model)).hexdigest()
    return found


def test_equal_models_have_equal_bytes_in_another_process_and_for_any_number_of_threads(contract, tmp_path):
    for library in ("lightgbm", "xgboost"):
        pytest.importorskip(library)
    features, labels = frame_of(contract)
    features.assign(**{contract.label: labels}).to_pickle(tmp_path / "features.pickle")
    here = digests(contract, features, labels)
    for number in ("2", "3"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, tmp_path / "features.pickle"],
            cwd=SAMPLE,
            env={"OMP_NUM_THREADS": number, "PYTHONHASHSEED": number, "PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
            text=True,
        )
        assert json.loads(done.stdout) == here
