"""`mlflow models predict`, as whoever serves the champion calls it."""

import json

from tests.conftest import Clone

import numpy as np
import pandas as pd
import pytest


def assert_mlflow_predicts_the_scores(clone, registry, folder):
    """Assert that its scores are the pipeline's, for a CSV file as the warehouse gives it.

    With missing values, without computed columns, and in a folder that has none of our code.
    """
    customers = pd.read_parquet(clone.folder / "data/raw/customers.parquet")
    expected = pd.read_parquet(clone.folder / "data/predictions/test.parquet").set_index("customer_id")["score"]
    table = customers[customers["customer_id"].isin(expected.index)]
    chosen = table.iloc[sorted({*range(20), *np.flatnonzero(table["total_charges"].isna())})]
    assert "num_products" not in chosen
    assert chosen["total_charges"].isna().any()
    chosen.to_csv(folder / "customers.csv", index=False)
    command = ["python", "-m", "mlflow", "models", "predict", "--model-uri", "models:/churn@champion"]
    command += ["--input-path", str(folder / "customers.csv"), "--output-path", str(folder / "scores.json")]
    Clone(folder).ok(*command, "--content-type", "csv", "--env-manager", "local", MLFLOW_TRACKING_URI=registry)
    scores = [row[1] for row in json.loads((folder / "scores.json").read_text())["predictions"]]
    assert scores == pytest.approx(expected[chosen["customer_id"]].tolist(), abs=1e-12)
