"""The registered model as MLflow serves it: from the columns that are fetched to two probabilities for each customer.

This module, all first-party modules that it imports, and contract.yaml go into the registry beside the model. So a
server takes the columns of the warehouse, and computes features as they were computed for the training.
"""

from pathlib import Path
from typing import Any

from churn.config.contract import Contract, load_contract
from churn.core.errors import StageError, number_of
from churn.core.paths import CONTRACT
from churn.data.featuring import add_features, to_arrow
from churn.modeling.model import model_frame, read_model

import numpy as np
import pandas as pd


class ServedModel:
    """The model with the contract that it was trained by."""

    def __init__(self, model: Any, contract: Contract) -> None:
        self.model, self.contract = model, contract

    def predict(self, customers: pd.DataFrame) -> Any:
        """Return the probabilities to stay and to churn, shape (rows, 2), for customers with the fetched features.

        Raises StageError when a feature is missing where contract.yaml allows no nulls, or has a value that it does not
        list.
        """
        for name in self.contract.fetched_features:
            column, given = self.contract.columns[name], customers[name]
            if not column.nullable and (rows := given.isna().sum()):
                raise StageError(f"{name} is missing for {number_of(rows, 'customers')}: {CONTRACT} allows no nulls.")
            if column.values and (rows := (given.notna() & ~given.isin(column.values)).sum()):
                raise StageError(f"{name} has another value than {CONTRACT} lists for {number_of(rows, 'customers')}.")
        features = to_arrow(add_features(customers.reset_index(drop=True)), self.contract)
        return np.asarray(self.model.predict_proba(model_frame(features, self.contract)))


def _load_pyfunc(path: str) -> ServedModel:
    """Return what MLflow calls; `path` is that of the model's file."""
    return ServedModel(read_model(Path(path)), load_contract(Path(path).with_name(CONTRACT.name)))
