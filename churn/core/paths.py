"""Where the pipeline's files lie, relative to the repository's root, from where DVC runs each stage."""

from pathlib import Path

PARAMS = Path("params.yaml")
CONTRACT = Path("contract.yaml")
PROFILE = Path("profile.json")
LOCK = Path("dvc.lock")

RAW = Path("data/raw/customers.parquet")
TRAIN = Path("data/features/train.parquet")
TEST = Path("data/features/test.parquet")
PREDICTIONS = Path("data/predictions/test.parquet")
MODEL = Path("models/churn.skops")
REGISTRATION = Path("models/registration.json")

ROWS = Path("metrics/rows.json")
VALIDATION = Path("metrics/validation.json")
EVALUATION = Path("metrics/evaluation.json")
GATE = Path("metrics/gate.json")
PLOTS = Path("plots")
JUDGEMENT = Path("build/report/judgement.json")  # of the report
LOG = Path(".cache/stages.jsonl")  # which stages ran here, for the report
