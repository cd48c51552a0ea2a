"""The features are computed again from the snapshot: here in a folder with tables, without DVC."""

import shutil
import sys
from pathlib import Path

from churn.core.paths import RAW, TEST, TRAIN
from churn.data.featuring import add_features, to_arrow
from churn.registry.isolated import LIBRARIES
from report import recompute
from report.recompute import recomputing
from tests.conftest import ROOT, make_customers
from tests.forkserver import programs
from tests.frozen import copy_of

import pandas as pd
import pyarrow.parquet as pq
import pytest

FUNCTION = "def add_num_products(customers: pd.DataFrame) -> pd.DataFrame:\n"
RESULT = '    return customers.assign(num_products=customers[services].sum(axis="columns") + has_internet)\n'


@pytest.fixture
def checkout(tmp_path, contract, monkeypatch):
    """A folder with a snapshot, both tables and prepare's deps, in which the child is forked; the test runs in it."""
    for name in ("dvc.yaml", "churn", "stages"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile)(ROOT / name, tmp_path / name)
    for name in ("params.yaml", "contract.yaml", "churn/features.py"):
        shutil.copyfile(copy_of(name), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", f"{programs(*LIBRARIES['serve'])}/python")
    customers = make_customers(contract, 300)
    fetched = customers[[contract.key, *contract.fetched_features, contract.label]]
    features = add_features(fetched.drop(columns=contract.label)).assign(churn=customers[contract.label])
    for path in (RAW, TEST):
        path.parent.mkdir(parents=True)
    pq.write_table(to_arrow(fetched, contract), RAW)
    pq.write_table(to_arrow(features.iloc[::7], contract), TEST)
    pq.write_table(to_arrow(features.drop(features.index[::7]), contract), TRAIN)
    return tmp_path


def found():
    with recomputing() as differences:
        return list(differences())


def features_with(line, imports=""):
    path = Path("churn/features.py")
    text = path.read_text().replace("import pandas as pd\n", f"import pandas as pd\n{imports}\n")
    assert text.count(RESULT) == 1
    path.write_text(text.replace(RESULT, f"    extra = {line}\n{RESULT.replace(' + has', ' + extra + has')}"))


def changed(path, change):
    frame = pd.read_parquet(path)
    change(frame)
    table = pq.read_table(path)
    pq.write_table(table.from_pandas(frame, schema=table.schema, preserve_index=False), path)


def test_tables_that_hold_what_the_functions_make_of_the_snapshot_have_no_fault(checkout, monkeypatch):
    assert found() == []
    monkeypatch.setattr(recompute, "TRAINING_ROWS", 50)
    assert found() == []


@pytest.mark.parametrize(
    ("line", "imports"),
    [
        ("1 - int(customers.index.min() < 10**6)", ""),
        ("customers.index[0] - customers.index[-1]", ""),
        ("len(customers)", ""),
        ("customers['monthly_charges'].shift(fill_value=1) > 60", ""),
        ("int(os.environ.get('PRICE_INDEX', 7))", "import os"),
        ("int(os.environ['HOME'] != os.getcwd())", "import os"),
        ("datetime.now().year - 2020", "from datetime import datetime"),
        ("date.today().year - 2020", "from datetime import date"),
        ("int(strftime('%Y')) - 2020", "from time import strftime"),
        ("int(time() // 86_400) - 20_000", "from time import time"),
        ("pd.Timestamp.now().year - 2020", ""),
        ("pd.Timestamp('today').year - 2020", ""),
        ("pd.to_datetime('now').year - 2020", ""),
        ("int(datetime.fromtimestamp(0).hour)", "from datetime import datetime"),
        ("np.random.default_rng().integers(1, 9, len(customers))", "import numpy as np"),
    ],
)
def test_a_feature_of_anything_but_its_row_is_another_in_the_child(checkout, line, imports):
    features_with(line, imports)
    faults = found()
    assert len(faults) == 2
    assert faults[0].startswith("the holdout: num_products of ")
    assert faults[1].startswith("the training table: num_products of ")
    again = "differs when computed again, at another time, in another order and without this environment: let"
    assert all(again in fault for fault in faults)


@pytest.mark.parametrize("path", [TEST, TRAIN])
def test_a_value_that_was_changed_after_the_functions_is_named_with_its_table(checkout, path):
    changed(path, lambda frame: frame.__setitem__("total_charges", frame["total_charges"].fillna(0)))
    (fault,) = found()
    table = {TEST: "the holdout", TRAIN: "the training table"}[path]
    assert fault.startswith(f"{table}: total_charges of ")
    assert fault.endswith("is not that of the snapshot: remove what changes it after the query, as scoring would not")


def test_the_last_digit_of_a_number_is_no_difference_but_a_cent_is(checkout):
    changed(TEST, lambda frame: frame.__setitem__("monthly_charges", frame["monthly_charges"] * (1 + 2e-16)))
    assert found() == []
    changed(TEST, lambda frame: frame.__setitem__("monthly_charges", frame["monthly_charges"] + 0.01))
    assert "monthly_charges of 43 of 43 customers is not" in found()[0]


def test_a_column_that_the_functions_do_not_make_and_an_unknown_customer_are_named(checkout, contract):
    table = pq.read_table(TEST)
    table = table.append_column("score", table["monthly_charges"]).drop_columns("tenure_months")
    pq.write_table(table, TEST)
    changed(TEST, lambda frame: frame.__setitem__(contract.key, ["nobody", *frame[contract.key][1:]]))
    unknown, alone, lacks = found()
    assert unknown == "the holdout: 1 customer unknown to the snapshot: let prepare add none"
    assert alone.startswith("the holdout has score, which is neither in the snapshot nor made by churn/features.py")
    assert lacks.startswith("the holdout lacks tenure_months, which churn/features.py makes of the snapshot")


OWN_ROWS = "let it use the rows that it is given"
DEP = "opens data/prices.csv: name it in the deps of prepare, in dvc.yaml"
OPENED = {
    "a file of this checkout": ("'data/prices.csv'", DEP),
    "one by its whole path": ("{root!r} + '/data/prices.csv'", DEP),
    "the snapshot": ("'data/raw/customers.parquet'", f"opens data/raw/customers.parquet: {OWN_ROWS}"),
    "a file with a customer's key": (
        "'/' + customers['customer_id'].iloc[0]",
        f"opens a file that does not exist: {OWN_ROWS}",
    ),
}


@pytest.mark.parametrize("case", OPENED)
def test_a_file_that_is_no_dep_is_named_if_it_is_there(checkout, case):
    (checkout / "data/prices.csv").write_text("1\n")
    path, said = OPENED[case]
    features_with(f"opened({path.format(root=str(checkout))})", "from contextlib import suppress\n\n\n" + OPENING)
    assert found() == [f"churn/features.py {said}"]


OPENING = """def opened(path):
    with suppress(OSError), open(path, "rb"):
        pass
    return 0
"""


def test_a_file_that_is_a_dep_may_be_read(checkout):
    (checkout / "data/prices.csv").write_text("0\n")
    pipeline = Path("dvc.yaml")
    text = pipeline.read_text()
    pipeline.write_text(
        text.replace("      - churn/features.py\n", "      - churn/features.py\n      - data/prices.csv\n", 1)
    )
    features_with("int(open('data/prices.csv').read())")
    assert found() == []


@pytest.mark.parametrize(
    ("line", "imports", "said"),
    [
        ("subprocess.run(['true']).returncode", "import subprocess", "starts a process: "),
        ("abs(socket.socket().connect_ex(('127.0.0.1', 9))) * 0", "import socket", "connects to a server: "),
    ],
)
def test_a_function_that_leaves_its_process_is_named(checkout, line, imports, said):
    features_with(line, imports)
    assert found()[0].startswith(f"churn/features.py {said}")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("1 // 0", "ZeroDivisionError (churn/features.py, line "),
        ("exit(0)", "SystemExit"),
        ("os._exit(3)", "its process ended with 3"),
        ("os._exit(0)", "its process ended with 0"),
    ],
)
def test_functions_that_fail_in_the_child_are_one_sentence(checkout, line, why):
    features_with(line, "import os")
    (fault,) = found()
    assert fault.startswith(f"churn/features.py fails on the snapshot's rows in a process without this checkout: {why}")


def test_functions_that_do_not_end_are_stopped(checkout, monkeypatch):
    monkeypatch.setattr(recompute, "SECONDS", 0.5)
    features_with("time.sleep(60)", "import time")
    assert found() == ["churn/features.py does not compute the features within 0 minutes: make it faster"]


def test_the_child_knows_no_secret_and_gives_none_of_its_own_words(checkout, monkeypatch, capfd):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    features_with("print('7590-CANARY') or int('AWS_SECRET_ACCESS_KEY' in os.environ)", "import os")
    assert found() == []
    assert capfd.readouterr() == ("", "")
