"""Scoring a table in the source's columns: the query of fetch runs over it, and no customer has a label yet."""

import sqlite3
from datetime import date

from churn.core.errors import StageError
from churn.data.sources.query import Query
from churn.data.unlabeled import without_label
from churn.scoring import asked_query
from churn.scoring_rows import score
from tests.conftest import ROOT
from tests.frozen import SAMPLE, copy_of
from tests.unit.test_score_rows import Constant

import duckdb
import pandas as pd
import pytest

SQL = copy_of("source.sql").read_text(encoding="utf-8")
QUERY = Query(SQL, "source.sql")


@pytest.fixture(autouse=True)
def in_the_folder_of_params(monkeypatch):
    monkeypatch.chdir(SAMPLE)


@pytest.fixture(scope="module")
def source():
    """The first customers of the sample, as its source has them."""
    path = ROOT / "data/sample/telco_customers.csv"
    return pd.read_csv(path, dtype=str, keep_default_na=False, nrows=200)


def scored(source, contract, folder, query=QUERY, ending="csv"):
    path = folder / f"customers.{ending}"
    source.to_csv(path, index=False) if ending == "csv" else source.to_parquet(path, index=False)
    score(str(path), str(folder / "scores.csv"), Constant(), contract, 1, query=query)
    return pd.read_csv(folder / "scores.csv", dtype={"customer_id": str})


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("labeled", [True, False])
def test_a_table_in_the_sources_columns_is_scored_with_or_without_the_label(
    source, contract, tmp_path, ending, labeled
):
    scores = scored(source if labeled else source.drop(columns="Churn"), contract, tmp_path, ending=ending)
    assert scores["customer_id"].tolist() == sorted(source["customerID"])
    tenures = source.set_index("customerID")["tenure"].astype(float)
    assert scores["score"].tolist() == pytest.approx((tenures[scores["customer_id"]] / 100).tolist())


LABELS = [
    "SELECT id, CASE Churn WHEN 'Yes' THEN 1 WHEN 'No' THEN 0 END AS churn FROM source",
    "SELECT id, Churn FROM source",
    "SELECT s.id, s.CHURN FROM source AS s",
    "SELECT id, (Exited::INTEGER > 0)::INTEGER AS churn FROM source",
    'SELECT id, "Kündigung am" IS NOT NULL AS "CHURN" FROM source -- left',
    "SELECT id, churn: Left_On <= '2026-11-24' FROM source;",
    "SELECT * REPLACE (Churn = 'Yes' AS churn) FROM source",
    "WITH known AS (SELECT id, Churn = 'Yes' AS churn FROM source) SELECT id, churn FROM known",
    "SELECT id, churn FROM (SELECT *, lower(Churn) AS churn FROM source)",
    "SELECT id, Churn = 'Yes' AS churn FROM source UNION ALL SELECT id, Churn = 'Yes' AS churn FROM source WHERE false",
    "SELECT * EXCLUDE (Churn), CASE Churn WHEN 'Yes' THEN 1 ELSE 0 END AS churn FROM source",
    "SELECT * FROM source",
    "FROM source",
]


@pytest.mark.parametrize("sql", LABELS)
def test_no_column_is_read_for_the_label_however_the_query_makes_it(sql, contract, tmp_path):
    path = tmp_path / "customers.csv"
    path.write_text("id\na\n")
    with pytest.raises(StageError, match=r"^q\.sql gives no column customer_id"):  # so it ran
        score(str(path), str(tmp_path / "s.csv"), Constant(), contract, 1, query=Query(sql, "q.sql"))


def test_a_query_without_the_label_or_in_another_dialect_stays_as_it_is():
    for sql in (
        "SELECT id, churned FROM source",
        "SELECT id::text FROM t WHERE x ~* 'a' LIMIT $1 OFFSET",
        "PIVOT t ON a",
    ):
        assert without_label(sql, "churn") == sql


def test_a_column_that_the_label_is_made_of_stays_out_if_the_file_has_it():
    sql = without_label("SELECT * EXCLUDE (Exited), Exited > 0 AS churn FROM source", "churn")
    for columns in ("1 AS id", "1 AS id, 1 AS Exited"):
        assert duckdb.sql(f"WITH source AS (SELECT {columns}) {sql}").columns == ["id", "churn"]


def test_a_day_stays_a_parameter_of_the_query(contract, source, tmp_path):
    sql = f"{SQL.rstrip()} WHERE $as_of > DATE '2026-01-01'"
    assert len(scored(source.drop(columns="Churn"), contract, tmp_path, Query(sql, "q.sql", date(2026, 11, 24)))) == 200


def test_a_condition_on_the_label_is_named(contract, source, tmp_path):
    """Fault in scoring: the query leaves out customers without a label.

    Scoring fails: `score: … has no column Exited, which source.sql reads`, or `… source.sql gives none; …`
    """
    query = Query(f"{SQL.rstrip()} WHERE Churn <> ''", "source.sql")
    with pytest.raises(
        StageError, match=r"no customers to score: source.sql gives none; look for a condition on churn"
    ):
        scored(source.drop(columns="Churn"), contract, tmp_path, query)
    query = Query(f"{SQL.rstrip().replace('CASE Churn', 'CASE Exited')} WHERE Exited <> ''", "source.sql")
    with pytest.raises(StageError, match=r"customers.csv has no column Exited, which source.sql reads"):
        scored(source.drop(columns="Churn"), contract, tmp_path, query)


def test_an_sqlite_file_is_scored_by_a_query_of_its_tables(contract, source, tmp_path):
    with sqlite3.connect(tmp_path / "crm.db") as database:
        source.to_sql("source", database, index=False)
    sql = SQL.replace("trim(TotalCharges)", "trim(TotalCharges, ' ')")
    score(str(tmp_path / "crm.db"), str(tmp_path / "s.csv"), Constant(), contract, 1, query=Query(sql, "q.sql"))
    assert len(pd.read_csv(tmp_path / "s.csv")) == 200


def test_a_table_in_the_sources_columns_without_a_query_names_the_nearest_ones_in_one_line(contract, source, tmp_path):
    """Fault in scoring: the table has the source's columns, or misspelt ones.

    Scoring fails with the nearest names: `score: the customers have no column customer_id (is it customerID?), …`
    """
    with pytest.raises(StageError) as told:
        scored(source, contract, tmp_path, query=None)
    assert str(told.value) == (
        "the customers have no column customer_id (is it customerID?), tenure_months (is it tenure?), monthly_charges"
        " (is it MonthlyCharges?), total_charges (is it TotalCharges?), payment_method (is it PaymentMethod?) and 11"
        " more, which contract.yaml declares; `--query` takes a table in the source's columns."
    )


def test_a_header_that_is_no_name_is_not_shown(contract, source, tmp_path):
    odd = {name: f"{'x' * 90}\n{name}" for name in source}
    with pytest.raises(StageError) as told:
        scored(source.rename(columns=odd), contract, tmp_path, query=None, ending="parquet")
    assert "is it" not in str(told.value)
    assert len(str(told.value)) < 300


def test_a_column_that_a_query_does_not_give_is_named_with_the_query(contract, source, tmp_path):
    query = Query(SQL.replace(" AS paperless_billing", " AS paperless"), "source.sql")
    with pytest.raises(StageError, match=r"source.sql gives no column paperless_billing \(is it paperless\?\), which"):
        scored(source, contract, tmp_path, query)


@pytest.mark.parametrize(
    ("path", "day", "says"),
    [
        (None, "2026-11-24", "--as-of is the day of $as_of in a query: add --query."),
        ("nothing.sql", None, "nothing.sql cannot be read as the query (No such file or directory): name its file."),
        ("fetch.query", "2026-11-24", "source.sql does not use $as_of: leave --as-of out."),
        ("day.sql", None, "day.sql uses $as_of: add --as-of DAY or --as-of yesterday."),
        ("day.sql", "24.11.2026", "--as-of 24.11.2026 is no day: write 2026-11-24, or yesterday."),
    ],
)
def test_a_query_that_cannot_run_is_one_sentence(tmp_path, monkeypatch, path, day, says):
    for name in ("params.yaml", "source.sql"):
        (tmp_path / name).write_bytes(copy_of(name).read_bytes())
    (tmp_path / "day.sql").write_text("SELECT * FROM source WHERE day <= $as_of")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StageError) as told:
        asked_query(path, day)
    assert str(told.value) == says


def test_the_options_give_the_query_and_its_day():
    assert asked_query(None, None) is None
    assert asked_query("fetch.query", None) == QUERY


def test_a_table_of_a_server_is_named_by_the_query_alone(contract, tmp_path):
    with pytest.raises(StageError, match=r"^postgresql://h/d#t: the query names its tables itself, so leave #t out\.$"):
        score("postgresql://h/d#t", str(tmp_path / "s.csv"), Constant(), contract, 1, query=QUERY)
