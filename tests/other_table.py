"""A table of other customers: other columns, key, label, categories and rules, and a feature function of its own."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

ROWS = 2_000
SOURCE = "data/members.csv"
CONTRACT = """\
columns:
  member: {role: key, type: integer}
  cancelled: {role: label, type: integer}
  visits: {role: feature, type: integer}
  fee: {role: feature, type: number}
  days_since_visit:
    role: feature
    type: number
    nulls: allow
    because: A member who never came has no last visit.
  fee_per_visit: {role: feature, type: number, computed: true}
  tier: {role: feature, type: category, values: [bronze, silver, gold]}
  student: {role: feature, type: boolean}
rules:
  min_rows: 1000
  label_rate: {min: 0.05, max: 0.6}
  max_single_feature_roc_auc: 0.9
  profile: {rows: {min: 0.9, max: 1.5}, nulls: 0.05, mean: 0.3, quantiles: 0.1, categories: 0.1, label_rate: 0.1}
  ranges:
    visits: {min: 0, max: 100}
    fee: {min: 0, max: 200}
    days_since_visit: {min: 0, max: 400}
    fee_per_visit: {min: 0, max: 200}
  relations:
    fee_covers_visits:
      column: fee_per_visit
      holds: fee_per_visit <= fee
      because: One visit costs at most the monthly fee.
"""
QUERY = """\
SELECT id AS member, gone AS cancelled, visits, fee, nullif(days, '') AS days_since_visit, tier, student
FROM source
"""
FEATURES = '''\
"""The features of a member that are computed."""

from collections.abc import Callable, Sequence

import pandas as pd


def add_fee_per_visit(members: pd.DataFrame) -> pd.DataFrame:
    """Add fee_per_visit: the monthly fee for each visit, and the fee where there was none."""
    return members.assign(fee_per_visit=members["fee"] / members["visits"].clip(lower=1))


FEATURES: Sequence[Callable[[pd.DataFrame], pd.DataFrame]] = (add_fee_per_visit,)
'''
SETTINGS = {  # what replaces the sections of the sample's params.yaml
    "fetch": f"fetch:\n  source: {SOURCE}\n  query: members.sql\n  as_of: null\n  timeout_minutes: 30\n",
    "evaluate": "evaluate:\n  threshold: 0.5\n  campaign: {capacity: 0.2}\n"
    "  slices: {columns: [tier], conditions: {absent: visits < 2}}\n",
    "gate": """\
gate:
  overall: {roc_auc: {min: 0.55}}
  min_slice_rows: 20
  slices: {tier=bronze: {roc_auc: {min: 0.5}}}
  every_slice: {max_roc_auc_gap: 0.9, calibration_error: 0.5, predicted_to_actual_ratio: 0.01}
  vs_baseline:
    margins: {roc_auc: 0.01}
    slice_margins: {roc_auc: 0.05}
    tolerance: 10
    familywise_alpha: 0.01
    max_gain: {roc_auc: 0.05}
  when_inconclusive: {overall: block, slices: pass}
  anchor: {days: 90, margins: {roc_auc: 0.02}, slice_margins: {roc_auc: 0.1}, max_gain: {roc_auc: 0.1}}
""",
}


def members(rows: int = ROWS) -> str:
    """Return the source as CSV."""
    random = np.random.default_rng(0)
    visits = random.poisson(6, rows)
    visits[random.random(rows) < 0.1] = 0
    tier = random.choice(["bronze", "silver", "gold"], rows, p=[0.5, 0.3, 0.2])
    fee = random.uniform(10, 90, rows).round(2)
    chance = 1 / (1 + np.exp(0.2 * visits - 0.02 * fee - 0.8 * (tier == "bronze") + 0.6))
    frame = pd.DataFrame({"id": np.arange(rows) + 100, "gone": (random.random(rows) < chance).astype(int)})
    frame["visits"], frame["fee"], frame["tier"] = visits, fee, tier
    frame["days"] = np.where(visits > 0, random.integers(0, 300, rows).astype(str), "")
    frame["student"] = random.random(rows) < 0.3
    return frame.to_csv(index=False)


def put_other_table(folder: Path) -> None:
    """Put another table in the place of the sample in a checkout; `make profile` and `dvc repro` are left to do."""
    files = {SOURCE: members(), "contract.yaml": CONTRACT, "members.sql": QUERY, "churn/features.py": FEATURES}
    put_table(folder, SETTINGS, files)


def put_table(folder: Path, settings: dict[str, str], files: dict[str, str]) -> None:
    """Put files, and the sections of params.yaml that `settings` has, in the place of the sample's."""
    params = (folder / "params.yaml").read_text(encoding="utf-8")
    for section, text in settings.items():
        params, count = re.subn(rf"(?ms)^{section}:\n.*?(?=^\S|\Z)", lambda _, text=text: f"{text}\n", params)
        assert count == 1, section
    for name, text in (files | {"params.yaml": params}).items():
        (folder / name).write_text(text, encoding="utf-8")
    for name in ("source.sql", "profile.json"):
        (folder / name).unlink(missing_ok=True)
