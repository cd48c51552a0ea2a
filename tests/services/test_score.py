"""Scoring through files and a real PostgreSQL; the registry is a local one."""

import subprocess
import sys

import churn.data.sources.adbc
from churn.config.params import load_params
from churn.core.errors import StageError
from churn.scoring_rows import score
from tests.servers import cutting_proxy
from tests.unit.test_score_rows import Constant

import pandas as pd
import psycopg2
import pytest

BREAKS = {  # row, column, value as in a CSV, the rule that it breaks
    "nulls": (1, "partner", ""),
    "type": (2, "tenure_months", "ten"),
    "fraction": (3, "tenure_months", "2.5"),
    "values": (4, "contract", "Annual"),
    "range": (5, "monthly_charges", "5000"),
    "finite": (6, "monthly_charges", "inf"),
    "boolean": (7, "phone_service", "2"),
}


@pytest.fixture(scope="module")
def scoring(finished):
    """The finished clone, the customers that were fetched, and the pipeline's scores of the holdout."""
    customers = pd.read_parquet(finished.folder / "data/raw/customers.parquet")
    expected = pd.read_parquet(finished.folder / "data/predictions/test.parquet").set_index("customer_id")["score"]
    return finished, customers, expected


def run(clone, *arguments, **environment):
    return clone.run("python", "-m", "churn", "score", *map(str, arguments), **environment)


def ok(clone, *arguments, **environment):
    done = run(clone, *arguments, **environment)
    assert done.returncode == 0, done.stdout
    return done.stdout.splitlines()


def test_every_customer_gets_the_pipelines_score(scoring, tmp_path):
    clone, customers, expected = scoring
    said = ok(clone, "data/raw/customers.parquet", tmp_path / "scores.parquet")
    assert said == ["score: 7,043 read = 7,043 scored by version 1 of churn + 0 rejected"]
    scores = pd.read_parquet(tmp_path / "scores.parquet")
    assert list(scores) == ["customer_id", "score", "model_version"]
    assert scores["customer_id"].tolist() == sorted(customers["customer_id"])
    assert scores.set_index("customer_id")["score"][expected.index].tolist() == expected.tolist()
    assert set(scores["model_version"]) == {1}
    assert pd.read_parquet(tmp_path / "scores.rejected.parquet").empty
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scores.parquet", "scores.rejected.parquet"]


def test_a_csv_in_any_order_and_without_the_label_gives_the_same_bytes(scoring, tmp_path):
    clone, customers, expected = scoring
    shuffled = customers.sample(frac=1, random_state=0).drop(columns="churn")
    shuffled[sorted(shuffled)].to_csv(tmp_path / "customers.csv", index=False)
    ok(clone, tmp_path / "customers.csv", tmp_path / "scores.csv")
    ok(clone, "data/raw/customers.parquet", tmp_path / "others.csv", "--version", "1")
    assert (tmp_path / "scores.csv").read_bytes() == (tmp_path / "others.csv").read_bytes()
    scores = pd.read_csv(tmp_path / "scores.csv").set_index("customer_id")["score"]
    assert scores[expected.index].tolist() == expected.tolist()


def test_the_sources_own_table_without_its_label_gives_the_same_scores_by_the_query(scoring, tmp_path):
    clone, customers, expected = scoring
    source = pd.read_csv(clone.folder / "data/sample/telco_customers.csv", dtype=str, keep_default_na=False)
    source.drop(columns="Churn").to_csv(tmp_path / "customers.csv", index=False)
    said = ok(clone, tmp_path / "customers.csv", tmp_path / "scores.csv", "--query")
    assert said == [f"score: {len(customers):,} read = {len(customers):,} scored by version 1 of churn + 0 rejected"]
    scores = pd.read_csv(tmp_path / "scores.csv").set_index("customer_id")["score"]
    assert scores[expected.index].tolist() == expected.tolist()
    done = run(clone, tmp_path / "customers.csv", tmp_path / "scores.csv")
    assert done.returncode == 1
    assert done.stdout.startswith("score: the customers have no column customer_id (is it customerID?), ")
    assert done.stdout.count("\n") == 1


def test_customers_that_break_the_contract_are_kept_out_by_name_of_the_rule(scoring, tmp_path):
    """Fault in scoring: customers break the contract.

    They are rejected by the rule's name, and all others are scored: `score: 2 break contract values`
    """
    clone, customers, _ = scoring
    frame = customers.drop(columns="churn").head(30).astype(object)
    for row, column, value in BREAKS.values():
        frame.loc[row, column] = value
    frame.loc[8, ["partner", "contract"]] = ["", "Annual"]
    frame.loc[9, "customer_id"] = frame.loc[10, "customer_id"]
    frame.loc[11, "total_charges"] = 50_000  # within its range, but not with this tenure
    frame.loc[12, "customer_id"] = ""
    frame.to_csv(tmp_path / "customers.csv", index=False)
    said = ok(clone, tmp_path / "customers.csv", tmp_path / "scores.csv")
    assert said[-1] == "score: 30 read = 18 scored by version 1 of churn + 12 rejected"
    assert "score: 2 break customer_id unique" in said
    assert "score: 2 break contract values" in said
    scores = pd.read_csv(tmp_path / "scores.csv")
    rejected = pd.read_csv(tmp_path / "scores.rejected.csv")
    assert len(scores) == 18
    assert not set(scores["customer_id"]) & set(rejected["customer_id"])
    rules = rejected.set_index("customer_id")["rule"]
    for name, (row, column, _) in BREAKS.items():
        rule = {"fraction": "type", "boolean": "type"}.get(name, name)
        assert rules[frame.loc[row, "customer_id"]].startswith(f"{column} {rule}"), name
    assert rules[frame.loc[8, "customer_id"]] == "contract values; partner nulls"
    assert rules[frame.loc[10, "customer_id"]].tolist() == ["customer_id unique"] * 2
    assert rules[frame.loc[11, "customer_id"]] == "total_charges total_charges_fit_tenure"
    assert rules[rules.index.isna()].tolist() == ["customer_id nulls"]


def test_a_table_of_postgresql_is_read_and_written_in_one_transaction(
    scoring, postgres, contract, tmp_path, monkeypatch
):
    """Fault in scoring: PostgreSQL fails while scores are written.

    The former scores stay: `score: postgresql://…#crm.scores failed: …`
    """
    clone, customers, expected = scoring
    url, password = postgres
    frame = customers.drop(columns="churn").head(2_000)
    frame.loc[5, "monthly_charges"] = 5_000.0
    frame.to_csv(tmp_path / "customers.csv", index=False)
    types = {"object": "text", "str": "text", "int64": "bigint", "float64": "double precision", "bool": "boolean"}
    columns = ", ".join(f"{name} {types[str(frame[name].dtype)]}" for name in frame)
    with psycopg2.connect(url, password=password["PGPASSWORD"]) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA crm; CREATE TABLE crm.customers ({columns})")
        with (tmp_path / "customers.csv").open() as file:
            cursor.copy_expert("COPY crm.customers FROM STDIN (FORMAT csv, HEADER)", file)
    connection.close()

    def rows(sql):
        with psycopg2.connect(url, password=password["PGPASSWORD"]) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            found = cursor.fetchall()
        connection.close()
        return found

    given, wanted = f"{url}#crm.customers", f"{url}#crm.scores"
    said = ok(clone, given, wanted, **password)
    assert said[-1] == "score: 2,000 read = 1,999 scored by version 1 of churn + 1 rejected"
    scores = dict(rows("SELECT customer_id, score FROM crm.scores"))
    assert len(scores) == 1_999
    both = [key for key in expected.index if key in scores]
    assert len(both) > 300
    assert [scores[key] for key in both] == expected[both].tolist()
    broken = ("monthly_charges range", "total_charges total_charges_fit_tenure")
    assert rows("SELECT rule FROM crm.scores_rejected") == [("; ".join(broken),)]

    monkeypatch.setenv("PGPASSWORD", password["PGPASSWORD"])
    monkeypatch.chdir(clone.folder)
    assert score(given, wanted, Constant(), contract, 2) == (2_000, 1_999, dict.fromkeys(broken, 1))
    assert rows("SELECT count(*), min(model_version) FROM crm.scores") == [(1_999, 2)]  # the former ones are gone

    rows("ALTER TABLE crm.scores_rejected RENAME rule TO reason; SELECT 1")
    with pytest.raises(StageError, match=rf"^{url.replace('churn@', '')}#crm\.scores failed: "):
        score(given, wanted, Constant(), contract, 3)
    assert rows("SELECT count(*), min(model_version) FROM crm.scores") == [(1_999, 2)]
    with pytest.raises(StageError, match="names no table"):
        score(url, wanted, Constant(), contract, 3)
    with pytest.raises(StageError, match=r"crm\.nobody"):
        score(f"{url}#crm.nobody", wanted, Constant(), contract, 3)
    with pytest.raises(StageError, match="holds a password, which Git would keep") as told:
        score(given.replace("churn@", "churn:wrong@"), wanted, Constant(), contract, 3)
    assert "wrong" not in str(told.value)
    monkeypatch.setenv("PGPASSWORD", "wrong")
    with pytest.raises(StageError, match=r"cannot be reached: .*password authentication failed") as told:
        score(given, wanted, Constant(), contract, 3)
    assert "wrong" not in str(told.value)


def test_a_server_that_falls_silent_while_it_gives_the_customers_is_given_up(
    clone, postgres, contract, tmp_path, monkeypatch
):
    """Fault in scoring: PostgreSQL sends nothing while customers are read.

    It is given up as in fetch, by `fetch.timeout_minutes`: `score: postgresql://… is silent: after 30 minutes …`
    """
    url, password = postgres
    clone.replace("params.yaml", "timeout_minutes: 30", "timeout_minutes: 0.02")
    monkeypatch.chdir(clone.folder)
    port = url.rpartition(":")[2].partition("/")[0]
    monkeypatch.setenv("PGPASSWORD", password["PGPASSWORD"])
    monkeypatch.setattr(churn.data.sources.adbc, "GRACE", 1.0)
    with cutting_proxy(int(port), after=0, hold=True) as silent:
        given, wanted = f"{url.replace(port, str(silent))}#pg_class", tmp_path / "scores.csv"
        with pytest.raises(StageError, match="is silent: after"):
            score(given, str(wanted), Constant(), contract, 1, timeout=load_params().fetch.timeout_minutes)
    assert not wanted.exists()


def test_scoring_that_is_killed_leaves_the_former_scores_and_is_completed_by_the_next(scoring, tmp_path):
    """Fault in scoring: `kill -9` ends scoring.

    The former scores stay. The next run completes it.
    """
    clone, customers, _ = scoring
    many = pd.concat([customers.assign(customer_id=customers["customer_id"] + f"-{part}") for part in range(60)])
    many.to_parquet(tmp_path / "customers.parquet", index=False)
    (tmp_path / "scores.parquet").write_bytes(b"the former ones")
    command = [sys.executable, "-m", "churn", "score", tmp_path / "customers.parquet", tmp_path / "scores.parquet"]
    process = subprocess.Popen(command, cwd=clone.folder, env=clone.environment)
    while not (part := tmp_path / f".scores.parquet.{process.pid}.part").exists():
        assert process.poll() is None, "it has ended"
    process.kill()
    process.wait()
    assert part.exists(), "it was killed too late"
    assert (tmp_path / "scores.parquet").read_bytes() == b"the former ones"
    said = ok(clone, *command[-2:])
    assert said[-1] == f"score: {len(many):,} read = {len(many):,} scored by version 1 of churn + 0 rejected"
    assert len(pd.read_parquet(tmp_path / "scores.parquet")) == len(many)
    assert not part.exists()


def test_a_disk_that_is_full_when_scores_are_written_leaves_the_former_ones(scoring, small_disk, tmp_path):
    """Fault in scoring: the disk is full when scores are written.

    The former scores stay: `score: … No space left on device`
    """
    clone, *_ = scoring
    small_disk(tmp_path / "small", 64)
    former = tmp_path / "small" / "scores.csv"
    former.write_text("the former ones")
    done = run(clone, "data/raw/customers.parquet", former)
    assert done.returncode == 1
    assert done.stdout.startswith("score: ")
    assert "No space left on device" in done.stdout
    assert done.stdout.count("\n") == 1
    assert former.read_text() == "the former ones"
    assert list(former.parent.iterdir()) == [former]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("7", "the registry has no version 7 of churn: `make registry` shows what it has."),
        ("champion", "--version champion is no number of a version: `make registry` shows the versions."),
        ("9" * 20, f"--version {'9' * 20} is no number of a version: `make registry` shows the versions."),
    ],
    ids=["unknown", "a word", "too large"],
)
def test_a_version_that_is_not_there_is_one_sentence(scoring, tmp_path, asked, said):
    clone, *_ = scoring
    done = run(clone, "data/raw/customers.parquet", tmp_path / "scores.csv", "--version", asked)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [f"score: {said}"]
