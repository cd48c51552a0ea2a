"""Customers to train on, here and in other processes, whose models have to have the same bytes."""

import subprocess
import sys

from churn.data.featuring import to_arrow
from churn.modeling.model import model_frame
from tests.conftest import ROOT, make_customers
from tests.frozen import SAMPLE

PROGRAM = """
import hashlib, sys, tests.frozen
import pandas as pd
from churn.config.contract import load_contract
from churn.config.params import Train
from churn.modeling.model import reproducible_bytes
from churn.modeling.training import build_classifier, build_model, fit

contract, features = load_contract(), pd.read_pickle(sys.argv[1])
labels = features.pop(contract.label)
train = Train(estimator=sys.argv[2], parameters=eval(sys.argv[3]), seed=1)
model = fit(build_model(build_classifier(train), contract), features, labels, len(features))
print(hashlib.sha256(reproducible_bytes(model)).hexdigest())
"""


def frame_of(contract, rows=600, seed=0):
    """Return the features of some customers as the model takes them, and their labels."""
    customers = make_customers(contract, rows, seed)
    return model_frame(to_arrow(customers, contract), contract), customers["churn"]


def digests_elsewhere(contract, folder, estimator, parameters, threads):
    """Return the SHA-256 of the model that each of the processes makes, each with so many threads and a hash seed."""
    pickle = folder / "features.pickle"
    features, labels = frame_of(contract)
    features.assign(**{contract.label: labels}).to_pickle(pickle)
    return {
        subprocess.run(
            [sys.executable, "-c", PROGRAM, pickle, estimator, repr(parameters)],
            cwd=SAMPLE,
            env={"OMP_NUM_THREADS": number, "PYTHONHASHSEED": number, "PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for number in threads
    }
