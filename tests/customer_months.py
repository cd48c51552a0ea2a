"""A table with one row for each customer and month, in which a customer's rows are alike and the label is late.

A customer has numbers that nobody else has, and that say nothing of churn but who the customer is. A model that has
seen one of a customer's months therefore knows the customer, and recalls whether they are one who churns. The table
ends with a month whose labels are not known yet: they are 0.
"""

from pathlib import Path

from tests.other_table import SETTINGS as OTHERS
from tests.other_table import put_table

import numpy as np
import pandas as pd

CUSTOMERS, MONTHS = 1_500, 14
SOURCE = "data/months.csv"
TRAITS = ("trait_a", "trait_b", "trait_c")
AS_OF = "2025-12-20"
CONTRACT = """\
columns:
  row_id: {role: key, type: string}
  customer: {role: group, type: integer}
  month: {role: time, type: date}
  churned: {role: label, type: integer}
  usage: {role: feature, type: number}
  complaints: {role: feature, type: integer}
  plan: {role: feature, type: category, values: [basic, plus]}
  trait_a: {role: feature, type: number}
  trait_b: {role: feature, type: number}
  trait_c: {role: feature, type: number}
  usage_per_complaint: {role: feature, type: number, computed: true}
rules:
  min_rows: 1000
  label_rate: {min: 0.02, max: 0.6}
  max_single_feature_roc_auc: 0.9
  profile: {rows: {min: 0.9, max: 1.5}, nulls: 0.05, mean: 0.3, quantiles: 0.1, categories: 0.1, label_rate: 0.1}
  ranges:
    usage: {min: 0, max: 1000}
    complaints: {min: 0, max: 50}
    trait_a: {min: -10, max: 10}
    trait_b: {min: -10, max: 10}
    trait_c: {min: -10, max: 10}
    usage_per_complaint: {min: 0, max: 1000}
  relations: {}
"""
QUERY = """\
SELECT customer || '/' || month AS row_id, customer, month, churned, usage, complaints, plan, trait_a, trait_b, trait_c
FROM source WHERE CAST(month AS DATE) <= $as_of
"""
FEATURES = '''\
"""The features of a customer's month that are computed."""

from collections.abc import Callable, Sequence

import pandas as pd


def add_usage_per_complaint(months: pd.DataFrame) -> pd.DataFrame:
    """Add usage_per_complaint."""
    return months.assign(usage_per_complaint=months["usage"] / (1 + months["complaints"]))


FEATURES: Sequence[Callable[[pd.DataFrame], pd.DataFrame]] = (add_usage_per_complaint,)
'''
SETTINGS = {  # what replaces the sections of the sample's params.yaml
    "fetch": f'fetch:\n  source: {SOURCE}\n  query: months.sql\n  as_of: "{AS_OF}"\n  timeout_minutes: 30\n',
    "prepare": "prepare:\n  holdout_share: 0.3\n  salt: churn\n  drop: {}\n"
    "  time: {holdout_days: 90, label_window_days: 30}\n",
    "evaluate": "evaluate:\n  threshold: 0.5\n  campaign: {capacity: 0.2}\n"
    "  slices: {columns: [plan], conditions: {complaining: complaints > 1}}\n",
    "gate": OTHERS["gate"].replace("tier=bronze", "plan=basic"),
}


def customer_months(as_of: str = AS_OF, customers: int = CUSTOMERS, seed: int = 0) -> pd.DataFrame:
    """Return the source as of a day: a row for each customer and month, in which labels younger than 30 days are 0."""
    random = np.random.default_rng(seed)
    inclined = random.normal(size=customers)  # a customer's own, which no column tells
    number, month = np.repeat(np.arange(customers), MONTHS), np.tile(np.arange(MONTHS), customers)
    days = pd.date_range("2025-01-01", periods=MONTHS, freq="MS")[month]
    frame = pd.DataFrame({"customer": number + 1_000, "month": days.strftime("%Y-%m-%d")})
    frame["usage"] = random.gamma(4, 25, len(frame)).round(2)
    frame["complaints"] = random.poisson(0.8, len(frame))
    frame["plan"] = np.where(random.random(customers) < 0.6, "basic", "plus")[number]
    for trait in TRAITS:
        frame[trait] = random.normal(size=customers).round(6)[number]
    logit = -1.4 + 1.6 * inclined[number] + 0.5 * frame["complaints"] - 0.012 * (frame["usage"] - 100)
    churned = random.random(len(frame)) < 1 / (1 + np.exp(-logit))
    frame["churned"] = (churned & (days + pd.Timedelta(days=30) <= as_of)).astype(int)
    return frame[days <= as_of].reset_index(drop=True)


def put_customer_months(folder: Path) -> None:
    """Put the table in the place of the sample in a checkout; `make profile` and `dvc repro` are left to do."""
    texts = {SOURCE: customer_months().to_csv(index=False), "contract.yaml": CONTRACT, "months.sql": QUERY}
    put_table(folder, SETTINGS, texts | {"churn/features.py": FEATURES})
