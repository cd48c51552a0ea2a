"""Runs the checks of a tutorial over the cases of tests/defects that change the table: `python -m tests.tutorial`.

The checks are benchmarks/tutorial/check.py, and a forest as in benchmarks/tutorial/train.py that has to reach FLOORS.
Cases that change the query's columns, the code or the settings are left out: a tutorial has no check of those.
"""

import contextlib
import io
import runpy
import shutil
import tempfile
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

from churn.core.start import start_up
from tests.conftest import ROOT
from tests.defects.cases_data import DATA_CASES, SELECTION_CASES
from tests.defects.harness import SOURCE
from tests.frozen import put_sample

import duckdb
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import train_test_split

TABLE = "telco_customers.csv"
FLOORS = {"roc_auc": 0.78, "accuracy": 0.75}  # of the sample, the forest has 0.803 and 0.780


@dataclass
class Files:
    """The files of a branch that a case may change without a pipeline."""

    folder: Path

    def text(self, path: str) -> str:
        return (self.folder / path).read_text(encoding="utf-8")

    def replace(self, path: str, old: str, new: str) -> None:
        (self.folder / path).write_text(self.text(path).replace(old, new), encoding="utf-8")


def checked(folder: Path) -> str | None:
    """Return what refuses the table in a folder, None where nothing does."""
    with chdir(folder):
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                runpy.run_path(str(ROOT / "benchmarks/tutorial/check.py"))
            customers = pd.read_csv("clean.csv")
            X, y = customers.drop(columns=["Churn"]), customers["Churn"]
            X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=42)
            model = RandomForestClassifier(n_estimators=200, random_state=42).fit(X_train, y_train)
        except AssertionError:
            return "an assertion"
        except Exception as error:
            return f"a crash, {type(error).__name__}"
        scores = model.predict_proba(X_test)[:, 1]
        found = {"roc_auc": roc_auc_score(y_test, scores), "accuracy": accuracy_score(y_test, scores >= 0.5)}
    below = [name for name, least in FLOORS.items() if found[name] < least]
    return f"the floor of {below[0]}" if below else None


def changed_table(change, folder: Path) -> bool:
    """Make a case's change, and return whether it changed the customers."""
    put_sample(folder)
    path = folder / SOURCE
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / SOURCE, path)
    before = path.read_bytes()
    change(Files(folder))
    _, _, condition = (folder / "source.sql").read_text(encoding="utf-8").rpartition("FROM source")
    if condition.strip():
        with duckdb.connect() as database:
            database.execute(f"CREATE VIEW source AS FROM read_csv('{path}', all_varchar = true)")
            database.execute(f"COPY (SELECT * FROM source {condition}) TO '{folder / TABLE}'")
        return True
    shutil.copy(path, folder / TABLE)
    return path.read_bytes() != before


def main() -> None:
    """Print a row for each case, and the counts."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(ROOT / SOURCE, Path(folder, TABLE))
        print(f"| the sample | nothing | {checked(Path(folder)) or 'nothing'} |")
    for case in (*DATA_CASES, *SELECTION_CASES):
        with tempfile.TemporaryDirectory() as folder:
            if changed_table(case.change, Path(folder)):
                by = case.refused_by.replace("|", " or ")
                rows.append((f"{case.family}: {case.name}", by, checked(Path(folder))))
                print(f"| {' | '.join(one or 'nothing' for one in rows[-1])} |", flush=True)
    print(f"the checks of a tutorial refuse {sum(bool(found) for *_, found in rows)} of {len(rows)}")


if __name__ == "__main__":
    start_up()
    main()
