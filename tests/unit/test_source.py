"""Sources that are files: what each kind gives, and what is refused. Servers: tests/services/test_warehouse.py."""

import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import date

from churn.core.errors import StageError
from churn.data.sources.stream import record_batches
from tests.conftest import ROOT

import duckdb
import pyarrow as pa
import pytest

QUERY = "SELECT id, charge FROM source ORDER BY id"


def rows(source, sql=QUERY, **options):
    return pa.Table.from_batches(record_batches(str(source), sql, **options)).to_pylist()


def write(folder, **files):
    """Write each query's rows to a Parquet file of that name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, query in files.items():
        duckdb.sql(f"COPY ({query}) TO '{folder / name}.parquet' (FORMAT parquet)")
    return folder


def test_a_folder_of_parquet_files_is_one_table_and_markers_are_left_out(tmp_path):
    folder = write(tmp_path / "customers", a="SELECT 'a' AS id, 1.5 AS charge", b="SELECT 'b' AS id, 2.5 AS charge")
    write(folder / "_temporary", c="SELECT 'c' AS id, 3.5 AS charge")
    (folder / "_SUCCESS").touch()
    assert [(row["id"], float(row["charge"])) for row in rows(folder)] == [("a", 1.5), ("b", 2.5)]


def test_a_folder_of_csv_files_is_one_table_and_a_fault_names_the_file(tmp_path):
    (tmp_path / "a.csv").write_text("id,charge\na,1\n")
    (tmp_path / "b.csv").write_text("id,charge\nb,2\n")
    assert rows(tmp_path) == [{"id": "a", "charge": "1"}, {"id": "b", "charge": "2"}]
    (tmp_path / "b.csv").write_text("id,charge\nb\n")
    with pytest.raises(StageError, match=r"b\.csv, line 2: Expected Number of Columns: 2 Found: 1\.$"):
        rows(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id;charge\na;1,5\n", {"id": "a", "charge": "1,5"}),
        ("id\tcharge\na\t1;5\n", {"id": "a", "charge": "1;5"}),
        ("id|charge\na|1\n", {"id": "a", "charge": "1"}),
        ('"charge, EUR";id;charge\r\n1;"a;""b""\n";2,5\r\n', {"id": 'a;"b"\n', "charge": "2,5"}),
        ("charge,id;old\n1.5,a;b\n", {"id": "a;b", "charge": "1.5"}),
        ('charge,"long\r\n""name""",id\r\n1.5,b,a\r\n', {"id": "a", "charge": "1.5"}),
    ],
    ids=["semicolon", "tab", "bar", "quotes", "as many commas", "a name of two lines"],
)
def test_the_header_says_what_is_between_the_columns_of_a_csv_file(tmp_path, text, expected):
    (tmp_path / "a.csv").write_bytes(text.encode())
    name = '"id;old" AS id' if "id;old" in text else "id"
    assert rows(tmp_path / "a.csv", f"SELECT {name}, charge FROM source") == [expected]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_name_with_a_line_break_is_one_column_wherever_it_stands(tmp_path, end):
    text = f'id,"Charge{end}(EUR)",y,"so{end}new"{end}a,1,2,3{end}'
    (tmp_path / "a.csv").write_bytes(text.encode())
    expected = {"id": "a", f"Charge{end}(EUR)": "1", "y": "2", f"so{end}new": "3"}
    assert rows(tmp_path / "a.csv", "FROM source") == [expected]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
def test_a_time_with_a_zone_is_its_day_in_utc_on_every_machine(tmp_path, zone):
    """Fault in the source: the machine that fetches is in another time zone.

    The snapshot is the same: a time with a zone is cast to its date in UTC.
    """
    (tmp_path / "a.csv").write_text("id,seen\na,2026-11-24 02:00Z\nb,2026-11-24 23:30+01\n")
    query = "SELECT id, CAST(CAST(seen AS TIMESTAMPTZ) AS DATE) AS day FROM source"
    code = f"""
from churn.data.duckdb_helpers import connection
from churn.data.sources.stream import record_batches
days = [str(day) for batch in record_batches({str(tmp_path / "a.csv")!r}, {query!r}) for day in batch["day"]]
with connection() as database, database.cursor() as cursor:
    print(*days, *cursor.execute("SELECT CAST(TIMESTAMPTZ '2026-11-24 02:00Z' AS DATE)").fetchone())
"""
    command = [sys.executable, "-c", code]  # because DuckDB reads TZ once in a process
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"TZ": zone}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2026-11-24"] * 3


def test_csv_files_with_something_else_between_their_columns_are_no_table(tmp_path):
    (tmp_path / "a.csv").write_text("id,charge\na,1\n")
    (tmp_path / "b.csv").write_text("id;charge\nb;2\n")
    with pytest.raises(StageError, match=r"b\.csv has not the columns of .*a\.csv"):
        rows(tmp_path)


@pytest.mark.parametrize(
    "other",
    [
        "SELECT 'b' AS id, 2.5::DOUBLE AS charge",  # DuckDB would round it to 3
        "SELECT 'b' AS id, 2 AS charge, 1 AS more",  # and leave this out
        "SELECT 2 AS charge, 'b' AS id",
        "SELECT 'b' AS id",
    ],
    ids=["type", "more", "order", "less"],
)
def test_files_of_other_columns_or_types_are_refused_not_fitted(tmp_path, other):
    write(tmp_path, a="SELECT 'a' AS id, 1 AS charge", b=other)
    with pytest.raises(StageError, match=r"b\.parquet has not the columns of .*a\.parquet, or of another type"):
        rows(tmp_path)


def test_csv_files_whose_columns_are_in_another_order_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("id,charge\na,1\n")
    (tmp_path / "b.csv").write_text("charge,id\n2,b\n")
    with pytest.raises(StageError, match=r"b\.csv has not the columns of .*a\.csv"):
        rows(tmp_path)


def test_a_folder_with_something_else_in_it_is_refused(tmp_path):
    write(tmp_path, a="SELECT 'a' AS id")
    (tmp_path / "b.csv.gz").touch()
    with pytest.raises(StageError, match=r"b\.csv\.gz ends in \.gz, not in \.parquet or \.csv"):
        rows(tmp_path)
    (tmp_path / "b.csv.gz").rename(tmp_path / "b.csv")
    with pytest.raises(StageError, match=r" holds files in \.parquet and in \.csv: leave those of one kind there\.$"):
        rows(tmp_path)


@pytest.mark.parametrize("name", ["a[1].csv", "a?.parquet", "*.csv"])
def test_a_file_whose_name_is_a_pattern_of_names_is_refused(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(StageError, match=r"/.* has \*, \? or \[ in its name, .*: rename it\.$"):
        rows(tmp_path / name)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(StageError, match="holds no file"):
        rows(tmp_path)


def test_a_source_that_is_written_to_while_it_is_read_is_refused(tmp_path):
    """Fault in the source: a source file changes while fetch reads it.

    fetch fails: `… changed while it was read: run it again when nobody writes there.`
    """
    write(tmp_path, a="SELECT 'a' AS id, 1 AS charge")
    batches = record_batches(str(tmp_path), QUERY)
    next(batches)
    write(tmp_path, b="SELECT 'b' AS id, 2 AS charge")
    with pytest.raises(StageError, match="changed while it was read"):
        list(batches)


def test_a_query_runs_over_the_tables_of_a_duckdb_file_which_it_cannot_change(tmp_path):
    file = tmp_path / "warehouse.db"
    with closing(duckdb.connect(str(file))) as database:
        database.execute("CREATE TABLE customers AS SELECT 'a' AS id, 1.5::DOUBLE AS charge")
    assert rows(file, "SELECT id, charge FROM customers;") == [{"id": "a", "charge": 1.5}]
    with pytest.raises(StageError, match="does not run: the table orders does not exist"):
        rows(file, "SELECT * FROM orders")
    with pytest.raises(StageError, match="it is no SELECT, or more than one"):
        rows(file, "DELETE FROM customers RETURNING *")


@pytest.mark.parametrize("kind", ["csv", "parquet", "duckdb"])
def test_a_query_reads_its_source_alone_writes_nothing_and_changes_no_setting(tmp_path, monkeypatch, kind):
    """Fault in the source: the query reads another file, writes, or changes a setting.

    fetch fails before it reads or writes: `source.sql reads another file than …: leave it out, no query may.`
    """
    monkeypatch.setenv("PGPASSWORD", "secret")
    given, other = tmp_path / f"customers.{kind}", tmp_path / "other.csv"
    other.write_text("id,charge\nanother,1\n")
    if kind == "csv":
        given.write_text("id,charge\na,1\n")
    elif kind == "parquet":
        write(tmp_path, customers="SELECT 'a' AS id, 1 AS charge")
    else:
        with closing(duckdb.connect(str(given))) as database:
            database.execute("CREATE TABLE source AS SELECT 'a' AS id, 1 AS charge")
            database.execute(f"CREATE VIEW elsewhere AS SELECT * FROM read_csv('{other}')")
    there = sorted(tmp_path.iterdir())
    only = r"^source\.sql reads another file than .*: leave it out, no query may\.$"
    for sql, says in {
        "SELECT * FROM read_text('/etc/passwd')": only,
        f"SELECT * FROM read_csv('{other}')": only,
        f"SELECT id, (SELECT count(*) FROM read_csv('{other}')) AS charge FROM source": only,
        f"SELECT * FROM '{other}'": only,
        f"SELECT * FROM glob('{tmp_path}/*')": only,
        f"SELECT * FROM parquet_schema('{other}')": only,
        "SELECT getenv('PGPASSWORD') AS id": "source.sql does not run",
        "SELECT * FROM duckdb_secrets()": only,
        "SELECT * FROM files": "source.sql does not run",  # a variable of the code that runs it
        f"COPY (SELECT 1) TO '{tmp_path}/written.csv'": "it is no SELECT, or more than one",
        f"SELECT 1; COPY (SELECT 1) TO '{tmp_path}/written.csv'": "it is no SELECT, or more than one",
        f"ATTACH '{tmp_path}/written.db'": "it is no SELECT, or more than one",
        "INSTALL httpfs": "it is no SELECT, or more than one",
        "LOAD httpfs": "it is no SELECT, or more than one",
        "SET enable_external_access = true": "it is no SELECT, or more than one",
        "SELECT set_config('enable_external_access', 'true', false) AS id": "source.sql does not run",
    }.items() | ({"SELECT * FROM elsewhere": only}.items() if kind == "duckdb" else set()):
        with pytest.raises(StageError, match=says) as refused:
            rows(given, sql, query="source.sql")
        assert not re.search("secret|root:|another,", str(refused.value))
        if sql.startswith("SELECT *"):  # the query with a parameter takes another way through DuckDB
            with pytest.raises(StageError, match=says):
                rows(given, f"{sql} WHERE $as_of > '2026-01-01'", query="source.sql", as_of=date(2026, 11, 24))
    assert [row["id"] for row in rows(given, "SELECT * FROM source")] == ["a"]
    assert sorted(tmp_path.iterdir()) == there


def test_a_duckdb_file_that_somebody_writes_to_is_told(tmp_path):
    file = tmp_path / "warehouse.duckdb"
    with closing(duckdb.connect(str(file))), pytest.raises(StageError, match=r"warehouse\.duckdb"):
        rows(file, "SELECT 1")


@pytest.fixture
def sqlite(tmp_path):
    """A SQLite file, whose column x holds values of all kinds."""
    file = tmp_path / "customers.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE customers (id TEXT, x, day TEXT)")
        given = [("a", 0.1 + 0.2), ("b", None), ("c", 7), ("d", "none"), ("e", b"\0")]
        database.executemany("INSERT INTO customers VALUES (?, ?, '2026-11-24')", given)
        database.commit()
    return file


def test_a_query_runs_in_sqlite_and_gives_text_with_all_digits(sqlite, monkeypatch):
    monkeypatch.setattr("churn.data.sources.sqlite.BATCH_ROWS", 2)
    assert rows(sqlite, "SELECT id, x FROM customers WHERE id < 'e' ORDER BY id") == [
        {"id": "a", "x": "0.30000000000000004"},
        {"id": "b", "x": None},
        {"id": "c", "x": "7"},
        {"id": "d", "x": "none"},
    ]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT x FROM customers", "gives x as bytes: cast it to a text or a number there"),
        ("SELECT y FROM customers", "does not run in .*: the column y does not exist"),
        ("SELECT id FROM customers WHERE id > $day", r"does not run in .*: it has a parameter, which nothing sets\."),
        ("SELECT id FROM customers WHERE id > ?", r"does not run in .*: it has a parameter, which nothing sets\."),
        ("DELETE FROM customers", r"does not run in .*: it may only SELECT from its tables\."),
        ("ATTACH '/etc/passwd' AS other", r"it may only SELECT from its tables\."),
        ("PRAGMA database_list", r"it may only SELECT from its tables\."),
        ("SELECT * FROM pragma_database_list", r"it may only SELECT from its tables\."),
        ("SELECT load_extension('evil')", "it may only SELECT from its tables"),
        ("SELECT x FROM customers; SELECT 1", "does not run in .*: it is more than one statement"),
    ],
)
def test_what_sqlite_cannot_give_is_told(sqlite, sql, said):
    with pytest.raises(StageError, match=said):
        rows(sqlite, sql)


def test_no_rows_are_one_batch_that_has_the_columns(sqlite, tmp_path):
    write(tmp_path / "files", a="SELECT 'a' AS id, 1 AS charge")
    for source, sql in ((sqlite, "SELECT id FROM customers WHERE 1 = 0"), (tmp_path / "files", f"{QUERY} LIMIT 0")):
        (batch,) = record_batches(str(source), sql)
        assert (batch.num_rows, batch.schema.names[0]) == (0, "id")


def test_the_query_sees_the_date_as_of_which_it_is_asked(sqlite, tmp_path):
    write(tmp_path / "files", a="SELECT DATE '2026-11-24' AS day, 'a' AS id UNION ALL SELECT DATE '2026-11-25', 'b'")
    for source, sql, first in (
        (tmp_path / "files", "SELECT id FROM source WHERE day <= $as_of -- not '$as_of'", "a"),
        (tmp_path / "files", "SELECT '$as_of', id FROM source WHERE day = $as_of - 0", "a"),
        (tmp_path / "files", r"SELECT id, E'\' $as_of', $$ it's $as_of $$ FROM source WHERE $as_of = day", "a"),
        (sqlite, "SELECT id FROM customers WHERE day = $as_of ORDER BY id LIMIT 1", "a"),
    ):
        found = rows(source, sql, as_of=date(2026, 11, 24))
        assert [row["id"] for row in found] == [first]


def test_a_date_that_is_not_set_or_not_used_is_refused(tmp_path):
    """Fault in the source: `$as_of` has no date, or no query uses the date.

    fetch fails before it connects: `source.sql uses $as_of, but no date is set: …`
    """
    write(tmp_path, a="SELECT 'a' AS id, 1 AS charge")
    with pytest.raises(StageError, match=r"source\.sql uses \$as_of, but no date is set: fetch\.as_of"):
        rows(tmp_path, "SELECT $as_of AS day", query="source.sql")
    with pytest.raises(StageError, match=r"source\.sql does not use \$as_of, so fetch\.as_of in params\.yaml"):
        rows(tmp_path, query="source.sql", as_of=date(2026, 11, 24))


@pytest.mark.parametrize(
    "source",
    [
        "postgresql://me:hunter2@host/db",
        "postgresql://me:hun/ter2@host/db",
        "postgresql://me@host/db?password=hunter2",
        "s3://key:hunter2@bucket/customers.parquet",
        "mysql://me:hunter2@host/db",
    ],
)
def test_a_url_with_a_password_is_refused_without_a_word_of_it(source):
    """Fault in the source: the URL holds a password.

    fetch fails before it connects: `the source's URL holds a password, which Git would keep: …`
    """
    with pytest.raises(StageError, match="the source's URL holds a password, which Git would keep") as told:
        rows(source)
    assert "hun" not in str(told.value)


def test_another_scheme_is_refused():
    with pytest.raises(StageError, match="mysql://me@host/db cannot be read: it is neither a CSV or Parquet file"):
        rows("mysql://me@host/db")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_folder_with_a_value_in_its_name_is_a_column_below_the_source_and_never_hides_a_files_own(tmp_path, kind):
    for day in (23, 24):
        folder = tmp_path / "plan=a" / "days" / f"day=2026-11-{day}"
        folder.mkdir(parents=True)
        duckdb.sql(f"COPY (SELECT 'k{day}' AS id, 'b' AS plan) TO '{folder}/rows.{kind}' (FORMAT {kind})")
    sql = "SELECT * FROM source"
    assert rows(folder, sql) == rows(folder / f"rows.{kind}", sql) == [{"id": "k24", "plan": "b"}]
    days = "SELECT id, day::VARCHAR AS day FROM source"
    other = (tmp_path / "plan=a").rename(tmp_path / "2026") / "days"
    assert rows(other, days) == [{"id": f"k{day}", "day": f"2026-11-{day}"} for day in (23, 24)]
    other.rename(tmp_path / "plan=c")
    (tmp_path / "2026").rmdir()
    message = r" has folders plan=…, and its files have the column plan, too: leave it out of one\.$"
    with pytest.raises(StageError, match=message):
        rows(tmp_path)
