"""Step 4 of the pipeline that tutorials give: log the model, register it, set an alias."""

import argparse
import json
from pathlib import Path

import joblib
import mlflow
import pandas as pd

if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()

model = joblib.load("model.pkl")
example = pd.read_csv("test.csv").drop(columns=["Churn"]).head(5)
mlflow.set_tracking_uri("sqlite:///mlflow.db")
mlflow.set_experiment("churn")
with mlflow.start_run():
    mlflow.log_metrics(json.loads(Path("metrics.json").read_text()))
    info = mlflow.sklearn.log_model(
        model,
        name="model",
        input_example=example,
        registered_model_name="churn",
        serialization_format="cloudpickle",
    )
mlflow.MlflowClient().set_registered_model_alias("churn", "champion", info.registered_model_version)
