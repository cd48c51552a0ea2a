"""Step 3 of the pipeline that tutorials give: a few metrics and one plot."""

import argparse
import json
from pathlib import Path

import joblib
import matplotlib.pyplot as plt
import pandas as pd
from sklearn.metrics import RocCurveDisplay, accuracy_score, f1_score, roc_auc_score

if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()

model = joblib.load("model.pkl")
customers = pd.read_csv("test.csv")
X, y = customers.drop(columns=["Churn"]), customers["Churn"]
scores = model.predict_proba(X)[:, 1]
metrics = {
    "accuracy": accuracy_score(y, scores >= 0.5),
    "f1": f1_score(y, scores >= 0.5),
    "roc_auc": roc_auc_score(y, scores),
}
Path("metrics.json").write_text(json.dumps(metrics))
RocCurveDisplay.from_predictions(y, scores)
plt.savefig("roc.png")
