"""Other frameworks, installed outside of the repository, and the contract's settings for the same steps there."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from churn.config.contract import load_contract
from churn.config.params import load_params

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = Path.home() / ".cache/churn-benchmarks"
SHARED = ("duckdb", "joblib", "matplotlib", "mlflow", "numpy", "pandas", "pyarrow", "scikit-learn")
NAMES = {
    "customerID": "customer_id",
    "Churn": "churn",
    "tenure": "tenure_months",
    "MonthlyCharges": "monthly_charges",
    "TotalCharges": "total_charges",
    "Contract": "contract",
    "PaymentMethod": "payment_method",
    "PaperlessBilling": "paperless_billing",
    "SeniorCitizen": "senior_citizen",
    "Partner": "partner",
    "Dependents": "dependents",
    "InternetService": "internet_service",
    "PhoneService": "phone_service",
    "MultipleLines": "multiple_lines",
    "OnlineSecurity": "online_security",
    "OnlineBackup": "online_backup",
    "DeviceProtection": "device_protection",
    "TechSupport": "has_tech_support",
    "StreamingTV": "streaming_tv",
    "StreamingMovies": "streaming_movies",
}


def environment(name: str, *extra: str) -> Path:
    """Return the Python of a framework's environment, made once by uv: its pinned file, and this pipeline's libraries.

    The libraries have the versions of the environment that runs the benchmark, so all measure the same pandas.
    """
    folder, pinned = ENVIRONMENTS / name, (HERE / f"{name}.txt").read_text(encoding="utf-8")
    wanted = "\n".join([pinned, *(f"{one}=={version(one)}" for one in (*SHARED, *extra))]) + "\n"
    python, lock = folder / "bin/python", folder / "requirements.txt"
    if not lock.exists() or lock.read_text(encoding="utf-8") != wanted:
        print(f"{name}: installing into {folder} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "uv", "venv", "--quiet", "--clear", str(folder)], check=True)
        given = folder / "wanted.txt"
        given.write_text(wanted, encoding="utf-8")
        install = ["pip", "install", "--quiet", "--python", str(python), "-r", str(given)]
        subprocess.run([sys.executable, "-m", "uv", *install], check=True)
        given.rename(lock)  # so that an environment that failed half way is made again
    return python


def settings() -> dict[str, Any]:
    """Return what params.yaml and contract.yaml say to each step of steps.py; `data` is also for validators.py."""
    params, contract = load_params(), load_contract()
    gate, evaluate = params.gate.model_dump(mode="json", exclude_none=True), params.evaluate
    categories = {name: [*(contract.columns[name].values or ())] for name in contract.features_of("category")}
    frame = {"features": [*contract.features], "categories": categories}
    rate = contract.rules.label_rate
    return {
        "data": {
            "names": NAMES,
            "booleans": [*contract.features_of("boolean")],
            "numbers": ["tenure_months", "monthly_charges", "total_charges"],
            "categories": categories,
            "ranges": {name: [one.min, one.max] for name, one in contract.rules.ranges.items()},
            "required": [name for name, column in contract.columns.items() if not column.nullable],
            "label_rate": [rate.min, rate.max],
        },
        "prepare": {"holdout_share": params.prepare.holdout_share},
        "model": frame | {"parameters": dict(params.train.parameters), "seed": params.train.seed},
        "evaluate": frame
        | {
            "threshold": evaluate.threshold,
            "slice_columns": [*evaluate.slices.columns],
            "slice_conditions": dict(evaluate.slices.conditions),
        },
        "gate": {"overall": gate["overall"], "slices": gate["slices"]},
    }
