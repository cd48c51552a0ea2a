"""What every warehouse gives, whichever its ADBC driver: one contract, on all that can run here.

| warehouse | the driver | the server |
|---|---|---|
| PostgreSQL | its own | PostgreSQL |
| Snowflake | its own | fakesnow, which has DuckDB behind Snowflake's protocol |
| DuckDB | its own, by a Warehouse of this test | DuckDB: it shows what another driver takes |
| BigQuery | a stand-in at the connection, and its own as far as it gets without Google | none |

docs/warehouses.md repeats this table.
"""

import contextlib
import json
import os
import sys
import threading
import time
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import ModuleType, SimpleNamespace

import churn.data.sources.adbc
import churn.data.sources.stream
from churn.adopting import init
from churn.adopting.answers import Answers
from churn.adopting.columns import columns as init_columns
from churn.adopting.columns import table as init_table
from churn.adopting.dialects import DUCKDB as DUCKDB_SQL
from churn.adopting.questions import planned
from churn.adopting.sql import source_sql
from churn.adopting.texts import contract_text
from churn.config.contract import load_contract
from churn.core.errors import StageError
from churn.data.engines import name_fault
from churn.data.sources.adbc import Fault, Session, Warehouse
from churn.data.sources.bigquery import BIGQUERY
from churn.data.sources.query import Query
from churn.data.sources.snowflake import SNOWFLAKE
from churn.data.sources.stream import WAREHOUSES, record_batches
from tests.conftest import ROOT
from tests.servers import postgresql_server

import duckdb
import pyarrow as pa
import pytest

VALUES = "SELECT 1 AS n, 'é' AS name, true AS flag, DATE '2026-11-24' AS day, CAST(NULL AS integer) AS nothing"
ROWS = 4_000


def rows(source, sql, **options):
    return pa.Table.from_batches(record_batches(source, sql, **options)).to_pylist()


def lower(found):
    """Return rows with their columns in lower case, since Snowflake has the others."""
    return [{name.lower(): value for name, value in row.items()} for row in found]


def cryptic(text):
    """Return an error as a driver raises it, with a value of a customer in it."""
    return RuntimeError(f"{text}: 'secret'")


@contextlib.contextmanager
def a_postgresql(_, environment):
    with postgresql_server() as server:
        environment.setenv("PGPASSWORD", server.environment["PGPASSWORD"])
        yield SimpleNamespace(url=server.url, change=server.sql, secret="PGPASSWORD")


@cache
def fake_snowflake():
    """Return fakesnow's function; its first call puts a module of that name in its place."""
    return pytest.importorskip("fakesnow", reason="fakesnow is missing: `make check` installs it").server


@contextlib.contextmanager
def a_snowflake(_, environment):
    import adbc_driver_snowflake.dbapi as driver

    serve = fake_snowflake()

    environment.setenv("SNOWFLAKE_PASSWORD", "a secret of the tests")
    with serve(session_parameters={"FAKESNOW_DB_PATH": ":isolated:"}) as at:
        url = f"snowflake://me@fakesnow/churn/crm?host={at['host']}&port={at['port']}&protocol=http&warehouse=small"
        session = SNOWFLAKE.session(url, Query("SELECT 1"))
        with driver.connect(**session.arguments) as server, server.cursor() as cursor:

            def change(sql):
                for one in sql.split(";"):
                    cursor.execute(one)

            change("CREATE DATABASE IF NOT EXISTS churn; CREATE SCHEMA IF NOT EXISTS churn.crm; USE SCHEMA churn.crm")
            yield SimpleNamespace(url=url, change=change, secret="SNOWFLAKE_PASSWORD")


# All that another driver takes.
DUCKDB = Warehouse(
    name="DuckDB",
    driver="adbc_driver_duckdb.dbapi",
    credentials="a file has none",
    session=lambda source, query: Session(
        {"path": source.removeprefix("duckdb://")}, statements=["SET TimeZone = 'UTC'"]
    ),
    fault=lambda error, sql: Fault("query", name_fault(str(error), sql) or "it refuses it, or a value in it"),
)


@contextlib.contextmanager
def a_duckdb(folder, environment):
    environment.setitem(WAREHOUSES, "duckdb", DUCKDB)
    with contextlib.closing(duckdb.connect(str(folder / "warehouse.db"))) as database:
        database.execute("CREATE TABLE started AS SELECT 1 AS n")

    def change(sql):
        with contextlib.closing(duckdb.connect(str(folder / "warehouse.db"))) as database:
            database.execute(sql)

    yield SimpleNamespace(url=f"duckdb://{folder / 'warehouse.db'}", change=change, secret=None)


KINDS = {"PostgreSQL": a_postgresql, "Snowflake": a_snowflake, "DuckDB": a_duckdb}


@pytest.fixture(scope="module", params=KINDS)
def warehouse(request, tmp_path_factory):
    """A warehouse of each kind: its url, the variable with its password, and a function that changes it by SQL."""
    with (
        pytest.MonkeyPatch.context() as environment,
        KINDS[request.param](tmp_path_factory.mktemp("warehouse"), environment) as one,
    ):
        one.kind = request.param
        yield one


def test_types_and_nulls_come_over_as_they_are(warehouse):
    (row,) = lower(rows(warehouse.url, VALUES, timeout=1))
    assert row == {"n": 1, "name": "é", "flag": True, "day": date(2026, 11, 24), "nothing": None}


def test_a_decimal_keeps_all_of_its_digits_in_every_warehouse(warehouse):
    (row,) = lower(rows(warehouse.url, "SELECT CAST('12345678901234.0123456789' AS NUMERIC(30, 10)) AS x"))
    assert Decimal(row["x"]) == Decimal("12345678901234.0123456789")


def test_a_time_with_its_zone_is_the_same_instant_wherever_it_is_read(warehouse, monkeypatch):
    kind = "timestamp_tz" if warehouse.kind == "Snowflake" else "timestamptz"
    sql = f"SELECT CAST('2026-11-24 23:30:00+01:00' AS {kind}) AS x"
    for zone in ("UTC", "Asia/Tokyo"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        (row,) = lower(rows(warehouse.url, sql))
        assert row["x"].astimezone(UTC) == datetime(2026, 11, 24, 22, 30, tzinfo=UTC)
    monkeypatch.undo()
    time.tzset()


def test_no_rows_are_one_batch_that_has_the_columns_of_every_warehouse(warehouse):
    (batch, *others) = record_batches(warehouse.url, f"{VALUES} LIMIT 0")
    assert [name.lower() for name in batch.schema.names] == ["n", "name", "flag", "day", "nothing"]
    assert sum(one.num_rows for one in (batch, *others)) == 0


def test_a_query_sees_one_state_whatever_is_written_meanwhile(warehouse):
    if warehouse.kind == "DuckDB":
        pytest.skip("a file of DuckDB has one writer or several readers")
    digits = f"SELECT a.n * {ROWS // 10} + b.n AS id, 1 AS version FROM "
    warehouse.change(
        f"CREATE TABLE digits (n integer); INSERT INTO digits VALUES {', '.join(f'({n})' for n in range(400))}"
    )
    warehouse.change(f"CREATE TABLE versions AS {digits} digits a, digits b WHERE a.n < 10")
    batches = record_batches(warehouse.url, "SELECT * FROM versions", timeout=1)
    seen = [next(batches), next(batches)]
    warehouse.change("UPDATE versions SET version = 2")
    table = pa.Table.from_batches([*seen, *batches]).rename_columns(["id", "version"])
    assert table.num_rows == ROWS
    assert {int(version) for version in table["version"].to_pylist()} == {1}


def test_the_day_is_a_date_in_every_warehouse(warehouse):
    (row,) = lower(rows(warehouse.url, "SELECT $as_of AS day", as_of=date(2026, 11, 24)))
    assert row == {"day": date(2026, 11, 24)}


@pytest.mark.parametrize("end", [";", "; -- the end", ";\n-- the end;\n", " -- the end\n;\n/* no more */ ;\n"])
def test_a_statement_may_end_in_semicolons_and_comments_in_every_warehouse(warehouse, end):
    assert lower(rows(warehouse.url, f"SELECT ';' AS sign{end}")) == [{"sign": ";"}]


def test_what_is_wrong_with_a_query_is_one_sentence_of_ours(warehouse):
    with pytest.raises(StageError, match=r"^source\.sql does not run in .*: the table nowhere does not exist\.$"):
        rows(warehouse.url, "SELECT * FROM nowhere", query="source.sql")
    with pytest.raises(StageError, match=r"^source\.sql does not run in .*: it is no SELECT\.$"):
        rows(warehouse.url, "DELETE FROM digits", query="source.sql")


def test_a_warehouse_without_its_password_says_which_variable_has_it(warehouse, monkeypatch):
    if warehouse.secret is None:
        pytest.skip("a file has no password")
    monkeypatch.delenv(warehouse.secret)
    monkeypatch.setenv("PGPASSFILE", os.devnull)
    with pytest.raises(StageError, match=rf"cannot be reached: .*{warehouse.secret}"):
        rows(warehouse.url, "SELECT 1 AS x")
    with pytest.raises(StageError, match=f"Git would keep: leave it out; .*{warehouse.secret}"):
        rows(warehouse.url.replace("@", ":hunter2@"), "SELECT 1 AS x")


def test_a_warehouse_that_falls_silent_is_given_up(warehouse, monkeypatch):
    """Fault in the source: a warehouse neither ends the query nor stops it in time.

    fetch gives up one minute after `fetch.timeout_minutes`, with any driver: `… is silent: after 30 minutes …`
    """
    monkeypatch.setattr(churn.data.sources.adbc, "GRACE", 0.5)
    held = threading.Event()
    driver = ModuleType("silent")
    driver.Error, driver.connect = RuntimeError, lambda **_: held.wait(30)
    monkeypatch.setattr(churn.data.sources.adbc, "_driver", lambda *_: driver)
    started = time.monotonic()
    with pytest.raises(StageError, match=r"is silent: after 0\.01 minutes \(fetch\.timeout_minutes\) the query has"):
        rows(warehouse.url, "SELECT 1 AS x", timeout=0.01)
    assert time.monotonic() - started < 10
    held.set()


# The limit of time, and the other arguments of each driver


@pytest.mark.parametrize(
    ("url", "limit"),
    [
        ("postgresql://me@host/db", "SET LOCAL statement_timeout = 90000"),
        ("snowflake://me@account/db/schema?warehouse=small", ("STATEMENT_TIMEOUT_IN_SECONDS", "90")),
        ("bigquery://project/dataset", ("adbc.bigquery.sql.query.job_timeout", 90_000)),
    ],
)
def test_the_server_is_told_the_limit_of_time(url, limit, monkeypatch):
    monkeypatch.setenv("SNOWFLAKE_PASSWORD", "a secret")
    session = WAREHOUSES[url.partition("://")[0]].session(url, Query("SELECT 1", minutes=1.5))
    assert limit in [*session.statements, *session.options.items(), *session.arguments.get("db_kwargs", {}).items()]


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("postgresql://me@host/db", "canceling statement due to statement timeout"),
        ("snowflake://me@account/db", "Statement reached its statement or warehouse timeout of 90 second(s)"),
        ("bigquery://project/dataset", "googleapi: Error 400: Job execution was cancelled: Job timed out after 90s"),
    ],
)
def test_a_query_that_the_server_stopped_is_told_as_such_and_a_value_is_not(url, text, monkeypatch):
    monkeypatch.setenv("SNOWFLAKE_PASSWORD", "a secret")
    raising = ModuleType("raising")
    raising.Error = RuntimeError

    def connect(**_):
        raise cryptic(text)

    raising.connect = connect
    monkeypatch.setattr(churn.data.sources.adbc, "_driver", lambda *_: raising)
    with pytest.raises(StageError, match=r"was stopped by .* after 1\.5 minutes") as told:
        rows(url, "SELECT 1 AS x", timeout=1.5)
    assert "secret" not in str(told.value)


def test_a_missing_driver_is_one_sentence_with_the_command_that_installs_it(monkeypatch):
    """Fault in the source: the driver of Snowflake or BigQuery is not installed.

    fetch fails: `… is read by adbc-driver-snowflake, which is not installed: make setup installs it, …`
    """
    monkeypatch.setenv("SNOWFLAKE_PASSWORD", "a secret")
    for url in ("snowflake://me@account/db", "bigquery://project/dataset"):
        name = url.partition("://")[0]
        monkeypatch.setitem(sys.modules, f"adbc_driver_{name}", None)
        monkeypatch.setitem(sys.modules, f"adbc_driver_{name}.dbapi", None)
        with pytest.raises(StageError, match=f"is read by adbc-driver-{name}, which is not installed: `make setup`"):
            rows(url, "SELECT 1 AS x")
        assert (ROOT / f"requirements-{name}.txt").exists()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("snowflake://me@account", r"lacks its account or its database: write snowflake://ACCOUNT/DATABASE/SCHEMA"),
        ("snowflake://account/db", r"has no user: write snowflake://USER@account/…, or set SNOWFLAKE_USER"),
        ("snowflake://me@account/db?warehose=w", "has the parameter warehose; it may have warehouse, role, host"),
        ("snowflake://me@account/db?token=hunter2", "holds a password"),
        ("bigquery://project", "lacks its project or its dataset: write bigquery://PROJECT/DATASET"),
        ("bigquery://project/a/b", "lacks its project or its dataset"),
        ("bigquery://project/dataset?region=EU", "has the parameter region; it may have location"),
    ],
)
def test_a_url_that_lacks_something_is_refused_before_it_connects(url, said, monkeypatch):
    monkeypatch.delenv("SNOWFLAKE_USER", raising=False)
    monkeypatch.setenv("SNOWFLAKE_PASSWORD", "hunter2")
    with pytest.raises(StageError, match=said) as told:
        rows(url, "SELECT 1 AS x")
    assert "hunter2" not in str(told.value)


# Snowflake


def test_a_private_key_opens_snowflake_and_a_wrong_passphrase_does_not(monkeypatch, tmp_path):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    with pytest.MonkeyPatch.context() as environment, a_snowflake(tmp_path, environment) as one:
        environment.delenv("SNOWFLAKE_PASSWORD")
        encryption = serialization.BestAvailableEncryption(b"a passphrase")
        key = rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )
        environment.setenv("SNOWFLAKE_PRIVATE_KEY_RAW", key.decode())
        for passphrase in ("", "wrong"):
            environment.setenv("SNOWFLAKE_PRIVATE_KEY_PASSPHRASE", passphrase)
            with pytest.raises(StageError, match="the private key cannot be read, or its passphrase is wrong"):
                rows(one.url, "SELECT 1 AS x")
        environment.setenv("SNOWFLAKE_PRIVATE_KEY_PASSPHRASE", "a passphrase")
        assert lower(rows(one.url, "SELECT 1 AS x")) == [{"x": 1}]


@pytest.mark.parametrize(
    ("number", "text", "fault"),
    [
        (
            904,
            "SQL compilation error: error line 1 at position 7\ninvalid identifier 'FEE'",
            ("query", "the column fee does not exist"),
        ),
        (
            2003,
            "Object 'DB.CRM.CUSTOMERS' does not exist or not authorized.",
            ("query", "the table customers does not exist"),
        ),
        (1003, "syntax error line 1 at position 0 unexpected 'selec'.", ("query", "there is a syntax error at selec")),
        (2140, "Unknown function RANK_OF", ("query", "the function rank_of does not exist, or not for such arguments")),
        (100038, "Numeric value 'secret' is not recognized", ("query", "a value cannot be converted as it asks")),
        (100051, "Division by zero", ("query", "a value is divided by zero")),
        (
            606,
            "No active warehouse selected",
            ("query", "no warehouse runs it: name one in the URL, as in ?warehouse=NAME"),
        ),
        (390100, "Incorrect username or password was specified.", ("unreachable", "the user or the password is wrong")),
        (0, "read tcp 1.2.3.4: connection reset by peer", ("lost", "")),
        (0, "secret", ("query", "it refuses it, or a value in it")),
    ],
)
def test_an_error_of_snowflake_is_told_by_its_number_and_the_names_of_the_query(number, text, fault):
    error = cryptic(text)
    error.vendor_code = number
    assert SNOWFLAKE.fault(error, "selec fee, rank_of(x) FROM customers") == Fault(*fault)


# BigQuery


@pytest.fixture
def bigquery(monkeypatch):
    """A stand-in for the driver of BigQuery: what it was given, and the table that it answers with."""
    given = SimpleNamespace(arguments={}, options={}, statements=[], answer=pa.table({"x": [1]}))

    @contextlib.contextmanager
    def cursor(adbc_stmt_kwargs):
        given.options = adbc_stmt_kwargs
        yield SimpleNamespace(execute=given.statements.append, fetch_record_batch=given.answer.to_reader)

    @contextlib.contextmanager
    def connect(**arguments):
        given.arguments = arguments
        yield SimpleNamespace(cursor=cursor)

    driver = ModuleType("stand-in")
    driver.Error, driver.connect = RuntimeError, connect
    monkeypatch.setattr(churn.data.sources.adbc, "_driver", lambda *_: driver)
    return given


def test_bigquery_gets_its_dataset_its_key_and_the_query_alone(bigquery, monkeypatch):
    monkeypatch.setenv("GOOGLE_CREDENTIALS", '{"type": "service_account"}')
    assert rows(
        "bigquery://project/crm?location=EU", "SELECT x FROM t WHERE d = $as_of", as_of=date(2026, 11, 24), timeout=1
    ) == [{"x": 1}]
    assert bigquery.statements == ["SELECT x FROM t WHERE d = DATE '2026-11-24'\n"]
    prefix = "adbc.bigquery.sql."
    assert bigquery.arguments == {
        "autocommit": True,
        "db_kwargs": {
            f"{prefix}project_id": "project",
            f"{prefix}dataset_id": "crm",
            f"{prefix}location": "EU",
            f"{prefix}auth_type": f"{prefix}auth_type.json_credential_string",
            f"{prefix}auth_credentials": '{"type": "service_account"}',
        },
    }
    assert bigquery.options == {
        f"{prefix}query.default_project_id": "project",
        f"{prefix}query.default_dataset_id": "crm",
        f"{prefix}query.job_timeout": 60_000,
    }


def test_bigquerys_types_come_over_exactly(bigquery):
    big = Decimal("1234567890123456789012345678901234567.12345678901234567890123456789012345678")
    instant = datetime(2026, 11, 24, 22, 30, tzinfo=UTC)
    bigquery.answer = pa.table(
        {
            "numeric": pa.array([Decimal("1.500000000"), None], pa.decimal128(38, 9)),
            "bignumeric": pa.array([big, None], pa.decimal256(76, 38)),
            "at": pa.array([instant, None], pa.timestamp("us", "UTC")),
            "nothing": pa.nulls(2, pa.int64()),
        }
    )
    first, missing = rows("bigquery://project/crm", "SELECT * FROM t")
    assert (first["numeric"], Decimal(first["bignumeric"]), first["at"]) == (Decimal("1.5"), big, instant)
    assert {*missing.values()} == {None}
    batches = record_batches("bigquery://project/crm", "SELECT * FROM t")
    with duckdb.connect() as database, churn.data.sources.stream.streaming(database, "given", batches):
        assert database.execute("SELECT bignumeric FROM given").fetchall()[0] == (str(big),)


class Refusing(BaseHTTPRequestHandler):
    """Google's server of tokens, which refuses a key."""

    def do_POST(self):
        """Answer as Google does."""
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"error": "invalid_grant"}'
        self.send_response_only(400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_the_real_driver_of_bigquery_takes_the_options_and_says_what_the_credentials_lack(monkeypatch):
    pytest.importorskip("adbc_driver_bigquery")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    fetch = partial(rows, "bigquery://project/dataset?location=EU", "SELECT 1 AS x", timeout=1)
    for text, said in (
        ("nonsense", "the credentials are no JSON of Google's"),
        ('{"type": "service_account"}', "the driver refuses the URL or the credentials"),
    ):
        monkeypatch.setenv("GOOGLE_CREDENTIALS", text)
        with pytest.raises(StageError, match=f"cannot be reached: {said}; GOOGLE_CREDENTIALS has the key"):
            fetch()
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {"type": "service_account", "project_id": "project", "private_key_id": "1", "private_key": key.decode()}
    account |= {"client_email": "me@project.example", "client_id": "1"}
    with HTTPServer(("127.0.0.1", 0), Refusing) as google:
        threading.Thread(target=google.serve_forever, daemon=True).start()
        monkeypatch.setenv(
            "GOOGLE_CREDENTIALS", json.dumps(account | {"token_uri": f"http://127.0.0.1:{google.server_port}/token"})
        )
        with pytest.raises(StageError, match="cannot be reached: the credentials are refused; GOOGLE_CREDENTIALS has"):
            fetch()
        google.shutdown()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "Error 404: Not found: Table p:crm.customers was not found in location EU",
            ("query", "the table customers does not exist"),
        ),
        ("Error 400: Unrecognized name: fee at [1:8]", ("query", "the column fee does not exist")),
        (
            'Error 400: Syntax error: Unexpected identifier "selec" at [1:1]',
            ("query", "there is a syntax error at selec"),
        ),
        ("Error 400: Bad double value: secret", ("query", "a value cannot be converted as it asks")),
        ("Error 400: division by zero: 1 / 0", ("query", "a value is divided by zero")),
        ("auth: cannot fetch token: 401 Unauthorized", ("unreachable", "the credentials are refused")),
        ("Error 403: Access Denied: Project p", ("unreachable", "the account has no permission for that")),
        ("rpc error: code = Unavailable desc = transport is closing", ("lost", "")),
        ("secret", ("query", "it refuses it, or a value in it")),
    ],
)
def test_an_error_of_bigquery_is_told_by_its_kind_and_the_names_of_the_query(text, fault):
    assert BIGQUERY.fault(cryptic(text), "selec fee FROM crm.customers") == Fault(*fault)


# What init writes for a warehouse

CRM = [  # as text, but for the date and the flag; a backslash and an apostrophe are in no query by themselves
    (
        f"c-{row}",
        ("it's over", "stays")[row * 37 % 11 >= 4],
        f"{row % 28 + 1:02}.{row % 12 + 1:02}.2025",
        "\\n" if row % 9 == 0 else f"{row % 7 + 1}.{row % 900 + 100},5 €",
        f"{date(2025, row * 5 % 11 + 1, row % 27 + 1):%B %d, %Y}",
        str(date(2026, 1, 1 + row % 28)),
        row % 3 == 0,
    )
    for row in range(420)
]


def written(url, table, folder, monkeypatch):
    """Return what init writes for a table of a warehouse: the query, and the contract with the day of the data."""
    monkeypatch.chdir(folder)
    roles = ["--key=id", "--label=state", "--churned=it's over", "--as-of=2026-11-24", "--missing=charge=Never billed."]
    asked = init.arguments().parse_args([f"{url}#{table}", *roles])
    source = init.origin(asked)
    with init_table(source[0], f"SELECT * FROM {source[2]}", None) as database:
        plan = planned(Answers(asked, init_columns(database)), database, source)
    (folder / "contract.yaml").write_text(contract_text(plan))
    return source_sql(plan), load_contract(folder / "contract.yaml")


def expected(contract):
    """Assert that the contract has the table's columns, and return the rows of the query."""
    types = {name: contract.columns[name].type for name in contract.features}
    assert types == {
        "days_since_kunde_seit": "integer",
        "charge": "number",
        "days_since_renewed": "integer",
        "days_since_login": "integer",
        "paperless": "boolean",
    }
    assert contract.columns["charge"].nullable
    day = date(2026, 11, 24)
    for key, state, since, charge, renewed, login, paperless in CRM:
        dotted = datetime.strptime(since, "%d.%m.%Y").date()
        number = None if charge == "\\n" else float(charge.removesuffix(" €").replace(".", "").replace(",", "."))
        days = (day - dotted).days, (day - date.fromisoformat(login)).days
        yield {
            "id": key,
            "state": int(state == "it's over"),
            "days_since_kunde_seit": days[0],
            "charge": number,
            "days_since_renewed": (day - datetime.strptime(renewed, "%B %d, %Y").date()).days,
            "days_since_login": days[1],
            "paperless": paperless,
        }


def compared(found):
    return [row | {"charge": None if row["charge"] is None else float(row["charge"])} for row in found]


def test_the_query_that_init_writes_runs_in_its_warehouse(warehouse, tmp_path, monkeypatch):
    """It has decimal commas and a unit, dates with dots or a month's name, a backslash, an apostrophe, a blank."""
    if warehouse.kind == "DuckDB":
        pytest.skip("init knows no warehouse of this test's own")
    text = "varchar" if warehouse.kind == "Snowflake" else "text"
    cells = ", ".join(f"({', '.join([*map(DUCKDB_SQL.literal, row[:6]), str(row[6])])})" for row in CRM)
    if warehouse.kind == "Snowflake":
        cells = cells.replace("\\", "\\\\")
    warehouse.change(
        f'CREATE TABLE customers (id {text}, state {text}, "Kunde seit" {text}, charge {text}, renewed {text},'
        f" login date, paperless boolean); INSERT INTO customers VALUES {cells}"
    )
    sql, contract = written(warehouse.url, "customers", tmp_path, monkeypatch)
    found = lower(rows(warehouse.url, sql, as_of=date(2026, 11, 24), timeout=1))
    assert sorted(compared(found), key=lambda row: row["id"]) == sorted(expected(contract), key=lambda row: row["id"])


def test_the_query_that_init_writes_for_bigquery_is_in_its_dialect(bigquery, tmp_path, monkeypatch):
    """sqlglot reads it as BigQuery's, and DuckDB runs what it translates to; the service itself has not run it."""
    sqlglot = pytest.importorskip("sqlglot")
    names = ["id", "state", "Kunde seit", "charge", "renewed", "login", "paperless"]
    table = pa.table([list(one) for one in zip(*CRM, strict=True)], names=names)
    bigquery.answer = table.set_column(5, "login", table["login"].cast(pa.date32()))
    sql, contract = written("bigquery://my-project/crm", "my-project.crm.customers", tmp_path, monkeypatch)
    assert bigquery.statements == ["SELECT * FROM `my-project`.crm.customers\n"]
    for part in (
        r"CASE state WHEN 'it\x27s over' THEN 1 WHEN 'stays' THEN 0 END AS state",
        "date_diff($as_of, DATE(parse_datetime('%d.%m.%Y', `Kunde seit`)), DAY) AS days_since_kunde_seit",
        r"replace(replace(trim(replace(nullif(trim(charge), '\\n'), '€', '')), '.', ''), ',', '.') AS charge",
        "date_diff($as_of, DATE(parse_datetime('%B %d, %Y', renewed)), DAY) AS days_since_renewed",
        "date_diff($as_of, CAST(login AS DATE), DAY) AS days_since_login",
    ):
        assert part in sql
    rows("bigquery://my-project/crm", sql, as_of=date(2026, 11, 24))
    (translated,) = sqlglot.transpile(bigquery.statements[-1], read="bigquery", write="duckdb")
    with duckdb.connect() as database:
        database.execute('ATTACH \':memory:\' AS "my-project"; CREATE SCHEMA "my-project".crm')
        database.register("given", bigquery.answer)
        database.execute('CREATE TABLE "my-project".crm.customers AS FROM given')
        found = database.sql(translated).to_arrow_table().to_pylist()
    assert compared(found) == list(expected(contract))
