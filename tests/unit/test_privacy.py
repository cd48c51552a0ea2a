"""No value and no key of a customer gets into a message, a log or a file: canaries go through all that evaluates them.

A place more is a line more in a table below. Each case has to fail, without the canary in what is printed and written.
The servers' cases are in tests/services/test_private_servers.py, those of runs in tests/pipeline/test_private_runs.py.
"""

import gc
import logging
import os
import shutil
import sqlite3
import sys
import threading
import warnings
from contextlib import closing
from pathlib import Path

import churn.core.start
import churn.features
from churn.config.contract import Relation
from churn.config.params import Fetch, Slices, Train
from churn.core.errors import StageError
from churn.core.files import write_json
from churn.core.paths import RAW, TEST, TRAIN
from churn.core.runner import run
from churn.data.featuring import add_features, to_arrow
from churn.data.snapshot import snapshot
from churn.data.sources.stream import record_batches
from churn.data.split import drop_declared
from churn.evaluation.holdout import scores_of
from churn.evaluation.slices import slice_masks
from churn.modeling.training import build_classifier, build_model, fit
from churn.quality.drift import feature_drift, row_changes
from churn.quality.profile import customers_profile, load_profile
from churn.quality.row_checks import table_findings
from churn.registry.client import fault_of_registry
from churn.scoring_rows import score
from stages.validate import validate
from tests.conftest import make_customers
from tests.frozen import copy_of

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

CANARY = "CANARY-7f3a91"
NUMBER = 9_223_372_036_854_775_801  # another canary, near the end of BIGINT
TABLE = f"SELECT '{CANARY}' AS id, '{CANARY}' AS plan, {NUMBER} AS amount, '[\"{CANARY}\"' AS broken"


@pytest.fixture
def told(tmp_path, monkeypatch, capfd):
    """Return a function that runs work as a stage, in an empty folder, and returns all that it prints and writes.

    The work has to fail. The interpreter itself prints the sentence with which a stage exits.
    """

    def run_as_a_stage(work):
        (folder := tmp_path / "run").mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["stages/prepare.py"])
        monkeypatch.setattr(gc, "freeze", lambda: None)  # this process goes on
        monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # which a stage replaces
        factory = logging.getLogRecordFactory()
        try:
            with pytest.raises(SystemExit) as left:
                run(work)
        finally:
            logging.setLogRecordFactory(factory)
        assert isinstance(left.value.code, str)
        written = "".join(file.read_bytes().decode(errors="replace") for file in folder.rglob("*") if file.is_file())
        assert '"fault": "was killed"' in written
        return "\n".join([left.value.code, *capfd.readouterr(), written])

    return run_as_a_stage


def refuse_canaries(text):
    for canary in (CANARY, CANARY[:6], CANARY[-6:], str(NUMBER)):
        assert canary.lower() not in text.lower(), text


# Queries


def csv_file(folder):
    duckdb.sql(f"COPY ({TABLE}) TO '{folder}/customers.csv'")
    return folder / "customers.csv"


def parquet_file(folder):
    duckdb.sql(f"COPY ({TABLE}) TO '{folder}/customers.parquet'")
    return folder / "customers.parquet"


def duckdb_file(folder):
    with closing(duckdb.connect(str(folder / "customers.duckdb"))) as database:
        database.execute(f"CREATE TABLE source AS {TABLE}")
    return folder / "customers.duckdb"


def sqlite_file(folder):
    with closing(sqlite3.connect(folder / "customers.db")) as database:
        database.execute(f"CREATE TABLE source AS {TABLE}")
        database.commit()
    return folder / "customers.db"


IN_DUCKDB = {
    "cast": "SELECT CAST(id AS INTEGER) AS x FROM source",
    "cast to a date": "SELECT CAST(plan AS DATE) AS x FROM source",
    "cast to an enum": "SELECT id::ENUM('a', 'b') AS x FROM source",
    "cast to a decimal": "SELECT id::DECIMAL(3, 1) AS x FROM source",
    "cast to a small number": "SELECT amount::BIGINT::TINYINT AS x FROM source",
    "format of a date": "SELECT strptime(id, '%Y-%m-%d') AS x FROM source",
    "unit of time": "SELECT date_trunc(id, DATE '2026-11-24') AS x FROM source",
    "time zone": "SELECT timezone(id, TIMESTAMP '2026-11-24') AS x FROM source",
    "regular expression": "SELECT regexp_matches('a', id || '(') AS x FROM source",
    "JSON": "SELECT json_extract(broken, '$.a') AS x FROM source",
    "error": "SELECT error(id) AS x FROM source",
    "error like one of DuckDB's own": "SELECT error('Referenced column \"' || id || '\" not found') AS x FROM source",
    "error like one of a file": "SELECT error(' file = ' || id || chr(10) || 'CSV Error on Line: 3') FROM source",
    "overflow": "SELECT amount::BIGINT * 10 AS x FROM source",
    "characters": "SELECT chr((amount::HUGEINT % 2000000000)::INTEGER) AS x FROM source",
    "base64": "SELECT from_base64(id) AS x FROM source",
    "columns called by a value": "WITH p AS (PIVOT source ON plan USING first(id)) SELECT *, p.* EXCLUDE (id) FROM p",
    "file": "SELECT * FROM source, read_csv('/nowhere/' || 'x.csv')",
}  # fmt: skip
IN_SQLITE = {
    "JSON": "SELECT json_extract('{}', id) AS x FROM source",
    "broken JSON": "SELECT json(broken) AS x FROM source",
    "overflow": "SELECT sum(amount) AS x FROM (SELECT amount FROM source UNION ALL SELECT amount FROM source)",
    "no text": "SELECT CAST(x'ff' || id AS TEXT) AS x FROM source",
    "match": "SELECT id MATCH plan AS x FROM source",
}
QUERIES = [(csv_file, sql) for sql in IN_DUCKDB.values()]
QUERIES += [(make, IN_DUCKDB[name]) for make in (parquet_file, duckdb_file) for name in ("cast", "error", "overflow")]
QUERIES += [(sqlite_file, sql) for sql in IN_SQLITE.values()]


@pytest.mark.parametrize(("make", "sql"), QUERIES)
def test_a_query_that_fails_on_a_value_says_nothing_of_it(told, tmp_path, make, sql):
    """Fault in messages: a value fails a function, a cast or a number in the query.

    fetch fails: `source.sql does not run: a value of tenure cannot be converted as it asks (line 4).`
    """
    source = str(make(tmp_path))
    text = told(lambda: list(record_batches(source, sql, query="source.sql")))
    refuse_canaries(text)
    assert "source.sql" in text or "cannot be read" in text or "line 2" in text


def test_a_first_line_that_is_a_customer_is_not_repeated(told, tmp_path):
    """Fault in messages: a CSV file has no header, or a query names columns by values.

    fetch fails. The message has the number of the column, not its name.
    """
    (tmp_path / "headless.csv").write_text(f"{CANARY},No,{CANARY}\n{CANARY},No,No\n")
    text = told(lambda: list(record_batches(str(tmp_path / "headless.csv"), "SELECT * FROM source")))
    refuse_canaries(text)
    assert "has the column number 1 more than once" in text


@pytest.mark.parametrize("asked", ["fetch", "query", "score"])
def test_a_first_line_that_is_a_customer_is_nobodys_nearest_name(told, tmp_path, contract, asked):
    frame = make_customers(contract, 20)
    frame.to_csv(tmp_path / "headless.csv", index=False, header=["customer-0042", *frame.columns[1:]])
    (tmp_path / "source.sql").write_text(query := "SELECT * FROM source")
    source = str(tmp_path / "headless.csv")
    fetch = Fetch(source=source, query=str(tmp_path / "source.sql"), as_of=None, timeout_minutes=1.0)
    work = {
        "fetch": lambda: snapshot(fetch, contract, tmp_path / "raw.parquet"),
        "query": lambda: list(record_batches(source, query.replace("*", "customer_id"))),
        "score": lambda: score(source, str(tmp_path / "scores.csv"), None, contract, 1),
    }
    text = told(work[asked])
    assert "customer_id" in text
    assert "0042" not in text


@pytest.mark.parametrize("column", ["churn", "tenure_months", "monthly_charges", "partner"])
def test_a_value_that_is_not_of_its_type_is_counted_not_shown(told, tmp_path, contract, column):
    customers = make_customers(contract, 20).astype(object)
    customers[column] = CANARY
    customers.to_csv(tmp_path / "customers.csv", index=False)
    (tmp_path / "source.sql").write_text("SELECT * FROM source")
    settings = {"source": str(tmp_path / "customers.csv"), "query": str(tmp_path / "source.sql")}
    fetch = Fetch(**settings, as_of=None, timeout_minutes=1.0)
    text = told(lambda: snapshot(fetch, contract, tmp_path / "raw.parquet"))
    refuse_canaries(text)
    assert f"{column} has 20 values not of the type" in text


# Conditions


def dropping(customers, contract, condition):
    drop_declared(customers, {"reason": condition}, contract)


def slicing(customers, contract, condition):
    list(slice_masks(customers, Slices(columns=(), conditions={"some": condition}), contract))


def relating(customers, contract, condition):
    relation = Relation(column="contract", holds=condition, because="a test")
    rules = contract.rules.model_copy(update={"relations": {"some": relation}})
    with closing(duckdb.connect()) as database:
        database.register("train", pa.Table.from_pandas(customers, preserve_index=False))
        list(table_findings(database, "train", contract.model_copy(update={"rules": rules})))


@pytest.mark.parametrize("place", [dropping, slicing, relating])
@pytest.mark.parametrize("condition", ["CAST({} AS INTEGER) > 0", "{} = 7", "regexp_matches('a', {} || '(')"])
def test_a_condition_that_fails_on_a_value_says_nothing_of_it(told, contract, place, condition):
    """Fault in messages: a value fails `prepare.drop`, a slice condition or a relation.

    The stage fails. The message has the setting and the kind of fault.
    """
    customers = make_customers(contract, 20).astype({"contract": object})
    customers.loc[7, ["contract", "customer_id"]] = CANARY
    column = "contract" if place is slicing else "customer_id"
    text = told(lambda: place(customers, contract, condition.format(column)))
    refuse_canaries(text)
    assert "params.yaml: " in text or "contract.yaml: " in text


# Feature functions


def converting(frame):
    return frame.assign(x=frame["customer_id"].astype(int))


def reading_a_column_named_by_a_value(frame):
    return frame.assign(x=frame[frame["customer_id"].iloc[0]])


def looking_up_a_value(frame):
    prices = {"known": 1}
    return frame.assign(x=[prices[key] for key in frame["customer_id"]])


def asserting(frame):
    assert frame["customer_id"].iloc[0] == "known", frame["customer_id"].iloc[0]
    return frame


def opening(frame):
    return frame.assign(x=open(frame["customer_id"].iloc[0]).read())  # noqa: PTH123


def leaving(frame):
    sys.exit(frame["customer_id"].iloc[0])


def leaving_silently(frame):
    raise SystemExit


def grouping_errors(frame):
    raise ExceptionGroup(frame["customer_id"].iloc[0], [ValueError(frame["customer_id"].iloc[0])])


def logging_and_failing(frame):
    logging.getLogger("features").error("no %s", frame["customer_id"].iloc[0], exc_info=ValueError(CANARY))
    raise ValueError(frame["customer_id"].iloc[0])


def chaining(frame):
    try:
        int(frame["customer_id"].iloc[0])
    except ValueError as error:
        raise RuntimeError(str(error)) from error


def naming_columns_by_values(frame):
    return frame.assign(**{CANARY.lower() + frame["customer_id"].iloc[0]: len(frame)})


def naming_columns_by_one_value(frame):
    key = frame["customer_id"].iloc[0]
    return pd.concat([frame, pd.DataFrame({key: [1, 2, 3]}), pd.DataFrame({key: [1, 2, 3]})], axis="columns")


FAILING = [converting, reading_a_column_named_by_a_value, looking_up_a_value, asserting, opening, leaving]
FAILING += [
    leaving_silently,
    grouping_errors,
    logging_and_failing,
    chaining,
    naming_columns_by_values,
    naming_columns_by_one_value,
]


@pytest.mark.parametrize("function", FAILING)
def test_a_feature_function_that_fails_on_a_value_says_nothing_of_it(told, monkeypatch, function):
    """Fault in messages: a feature function raises an error.

    prepare and scoring fail: `add_x fails with ValueError in churn/features.py, line 31; …`
    """
    monkeypatch.setattr(churn.features, "FEATURES", (function,))
    text = told(lambda: add_features(pd.DataFrame({"customer_id": [CANARY, "b", "c"]})))
    refuse_canaries(text)
    assert function.__name__ in text
    if function not in {naming_columns_by_values, naming_columns_by_one_value}:
        assert "tests/unit/test_privacy.py, line " in text


def reading_the_environment(frame):
    return frame.assign(x=float(os.environ["RATE_OF_THE_DAY"]))


def reading_a_column_that_is_gone(frame):
    helper = lambda part: part[["customer_id", "gone"]]  # noqa: E731
    return frame.assign(x=helper(frame)["gone"])


def reading_an_attribute_that_is_gone(frame):
    return frame.assign(x=frame.gone)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (reading_the_environment, "fails with KeyError in tests/unit/test_privacy.py, line "),
        (reading_a_column_that_is_gone, "reads 'gone', which is not there"),
        (reading_an_attribute_that_is_gone, "reads 'gone', which is not there"),
    ],
)
def test_a_missing_column_is_told_by_name_and_nothing_else_for_one(told, monkeypatch, function, said):
    """Fault in messages: a feature function reads a column that does not exist.

    prepare and scoring fail: `add_x reads 'fax', which is not there: …`
    """
    monkeypatch.setattr(churn.features, "FEATURES", (function,))
    assert said in told(lambda: add_features(pd.DataFrame({"customer_id": ["a", "b"]})))


@pytest.mark.parametrize("value", [CANARY, {CANARY: 1}, 10**30, b"\xff"])
def test_a_feature_of_another_type_is_named_not_shown(told, contract, value):
    customers = make_customers(contract, 3).assign(num_products=[1, 2, value])
    text = told(lambda: to_arrow(customers, contract))
    refuse_canaries(text)
    assert "num_products is declared integer" in text


# Models


class Quoting:
    """A model that repeats a value, as scikit-learn's encoders do for a category that they don't know."""

    feature_names_in_ = ()

    def predict_proba(self, frame):
        raise TypeError(f"unknown {frame.iloc[0].to_dict()}")


def test_a_model_that_cannot_take_a_value_says_nothing_of_it(told):
    text = told(lambda: scores_of(Quoting(), pd.DataFrame({"plan": [CANARY]})))
    refuse_canaries(text)
    assert "the model cannot score the holdout: it raises TypeError" in text


@pytest.mark.parametrize("estimator", ["HistGradientBoostingClassifier", "RandomForestClassifier"])
@pytest.mark.parametrize("column", ["contract", "monthly_charges"])
def test_training_on_a_value_that_the_encoder_does_not_know_says_nothing_of_it(told, contract, estimator, column):
    """Fault in messages: an estimator refuses a value or a parameter.

    train or evaluate fails: `the model cannot be fitted: RandomForestClassifier raises ValueError; …`
    """
    customers = make_customers(contract, 50).astype({column: object})
    customers.loc[7, column] = CANARY
    model = build_model(
        build_classifier(Train(estimator=f"sklearn.ensemble.{estimator}", parameters={}, seed=1)), contract
    )
    text = told(lambda: fit(model, customers[list(contract.features)], customers["churn"], 50))
    refuse_canaries(text)
    assert f"the model cannot be fitted: {estimator} raises ValueError" in text


# Scoring


class Even:
    """A model for which all customers are alike."""

    def predict_proba(self, frame):
        return np.full((len(frame), 2), 0.5)


def scored(contract, tmp_path, model, **columns):
    customers = make_customers(contract, 30).drop(columns=["churn", "num_products"])
    customers["customer_id"] = [CANARY, *customers["customer_id"][1:]]
    pq.write_table(pa.Table.from_pandas(customers.assign(**columns)), tmp_path / "customers.parquet")
    score(str(tmp_path / "customers.parquet"), str(tmp_path / "run" / "scores.parquet"), model, contract, 1)


def test_scoring_says_nothing_of_the_customers(told, contract, tmp_path, monkeypatch):
    """Fault in scoring: the model raises an error.

    Scoring fails: `the model raises TypeError: nothing is written.`
    """
    params = (copy_of("params.yaml")).read_text()

    def work():
        (tmp_path / "run" / "params.yaml").write_text(params)
        scored(contract, tmp_path, Quoting())

    text = told(work)
    (tmp_path / "run" / "params.yaml").unlink()
    refuse_canaries(text)
    assert "the model raises TypeError: nothing is written." in text


# Checks


def test_profile_validation_and_drift_count_values_and_show_none(told, contract):
    customers = make_customers(contract, 200)
    customers.loc[:50, ["contract", "customer_id"]] = CANARY

    def work():
        for path in (RAW, TRAIN, TEST):
            path.parent.mkdir(parents=True, exist_ok=True)
            customers.to_parquet(path, index=False)
        write_json(Path("profile.json"), customers_profile(contract).model_dump(mode="json"))
        counted, findings, _ = validate(contract, load_profile(), {"fetched": 1})
        print(counted, findings)
        print(feature_drift(RAW, TEST, contract), row_changes(RAW, TEST, contract))
        shutil.rmtree("data")
        raise StageError(f"{len(findings)} findings.")

    text = told(work)
    refuse_canaries(text)
    assert "contract has 51 values that the contract does not list" in text


# The registry's answers, threads


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (
            "API request to endpoint /x failed with error code 418 != 200. Response body: '%s'",
            "INTERNAL_ERROR",
            "HTTP status 418",
        ),
        ("PERMISSION_DENIED: %s", "PERMISSION_DENIED", "this account may not do that"),
        (
            "the response body was not in a valid JSON format. Response body: '%s'",
            "INTERNAL_ERROR",
            "its answer is not MLflow's",
        ),
        ("%s", "INTERNAL_ERROR", "it answers INTERNAL_ERROR"),
    ],
)
def test_what_a_registry_answers_is_told_by_its_code(text, code, said):
    from mlflow.exceptions import ErrorCode, MlflowException  # a second of imports

    fault = fault_of_registry(MlflowException(text % CANARY, ErrorCode.Value(code)))
    refuse_canaries(fault)
    assert said in fault


def test_an_error_in_a_thread_or_in_a_destructor_is_told_without_its_text(capfd):
    """Fault in messages: a thread or a destructor crashes.

    It prints the kind of error and its place.
    """

    def fail():
        raise ValueError(CANARY)

    class Failing:
        def __del__(self):
            raise ValueError(CANARY)

    with pytest.MonkeyPatch.context() as change:  # pytest has hooks of its own
        change.setattr(threading, "excepthook", churn.core.start._report_raised)
        change.setattr(sys, "unraisablehook", churn.core.start._report_raised)
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
        Failing()
        gc.collect()
    printed = "".join(capfd.readouterr())
    refuse_canaries(printed)
    assert printed.count("crashed with ValueError in tests/unit/test_privacy.py, line ") == 2
