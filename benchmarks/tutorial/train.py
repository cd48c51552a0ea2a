"""Step 2 of the pipeline that tutorials give: a random forest, in an MLflow run."""

import argparse

import joblib
import mlflow
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()

customers = pd.read_csv("clean.csv")
X, y = customers.drop(columns=["Churn"]), customers["Churn"]
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=42)
mlflow.set_tracking_uri("sqlite:///mlflow.db")
mlflow.set_experiment("churn")
with mlflow.start_run():
    model = RandomForestClassifier(n_estimators=200, random_state=42).fit(X_train, y_train)
    mlflow.log_params(model.get_params())
    mlflow.log_metric("accuracy", model.score(X_test, y_test))
joblib.dump(model, "model.pkl")
X_test.assign(Churn=y_test).to_csv("test.csv", index=False)
