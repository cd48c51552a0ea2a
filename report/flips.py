"""Counts the customers that another model decides differently: main's, and the branch's with another seed.

Main's code trains the branch's model again, with the branch's `train` settings and training table and the next seed. So
the report shows how many decisions differ by chance alone.
"""

from churn.config.contract import Contract
from churn.config.params import Evaluate, Train
from churn.core.errors import StageError
from churn.core.paths import TRAIN
from churn.evaluation.holdout import scores_of
from churn.evaluation.metrics import Floats, contacted
from churn.modeling.model import read_table
from churn.modeling.training import build_classifier, build_model, fit
from report.data import Flips
from report.sample import sampled

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

TRAINING_ROWS = 50_000  # beyond, no model is trained; the sample's takes 2 CPU seconds with copies of its customers


def flips(one: Floats, other: Floats, params: Evaluate) -> Flips:
    """Return how many customers two models decide differently, by their scores of the same customers."""
    decisions = int(((one >= params.threshold) != (other >= params.threshold)).sum())
    moved = [contacted(scores, params.campaign.capacity) for scores in (one, other)]
    return Flips(decisions, round(float(np.abs(moved[0] - moved[1]).sum()) / 2))


def flips_by_seed(
    features: pd.DataFrame, scores: Floats, train: Train, params: Evaluate, contract: Contract
) -> Flips | None:
    """Return the flips between the branch's `scores` of some customers and those with another seed.

    None where the training table is larger than TRAINING_ROWS, or where this code cannot train the model.
    """
    try:
        train_table = sampled(TRAIN, contract)
        if pq.read_metadata(train_table).num_rows > TRAINING_ROWS:
            return None
        table, labels, _ = read_table(train_table, contract)
        other = build_classifier(train.model_copy(update={"seed": (train.seed + 1) % 2**32}))
        model = fit(build_model(other, contract), table, labels, len(table))
        return flips(scores, scores_of(model, features), params)
    except StageError:
        return None
