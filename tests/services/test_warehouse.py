"""fetch against a real PostgreSQL and a real S3 server on loopback, and what it does when they fail."""

import hashlib
import os
import pty
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import termios
import time
from contextlib import closing, contextmanager, suppress
from datetime import date

import churn.core.partitions
import churn.data.sources.adbc
import churn.data.sources.postgresql
from churn.config.params import Fetch
from churn.core.errors import StageError
from churn.data.snapshot import snapshot
from churn.data.sources.stream import record_batches
from tests.baseline import rebuilt
from tests.conftest import ROOT, Clone
from tests.frozen import copy_of
from tests.servers import BUCKET, S3_KEYS, cutting_proxy, postgresql_server, s3_client, s3_server

import duckdb
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs

SAMPLE = ROOT / "data" / "sample" / "telco_customers.csv"
ENDLESS = "SELECT customers.* FROM customers, generate_series(1, 1000)"


@pytest.fixture(scope="module")
def warehouse():
    """PostgreSQL with the sample in it, in the contract's columns and the server's own types."""
    with postgresql_server() as server:
        server.sql(f"CREATE TABLE source ({', '.join(f'{name} text' for name in SAMPLE.open().readline().split(','))})")
        server.sql(f"\\copy source FROM '{SAMPLE}' CSV HEADER")
        query = (copy_of("source.sql")).read_text().replace("FROM source", "FROM source ORDER BY random()")
        server.sql(f"CREATE TABLE customers AS {query}")
        server.sql(
            """
            CREATE TYPE plan AS ENUM ('Month-to-month', 'One year', 'Two year');
            ALTER TABLE customers ALTER monthly_charges TYPE numeric(8, 2) USING monthly_charges::numeric,
                ALTER total_charges TYPE numeric USING total_charges::numeric,
                ALTER tenure_months TYPE smallint USING tenure_months::smallint,
                ALTER contract TYPE plan USING contract::plan,
                ALTER partner TYPE boolean USING partner::boolean
            """
        )
        yield server


@pytest.fixture
def at(warehouse, monkeypatch):
    """The warehouse, whose password this test has in its environment."""
    monkeypatch.setenv("PGPASSWORD", warehouse.environment["PGPASSWORD"])
    return warehouse


@pytest.fixture
def own():
    """Return a context manager of a server that a test may stop."""

    @contextmanager
    def serving(monkeypatch):
        with postgresql_server() as server:
            monkeypatch.setenv("PGPASSWORD", server.environment["PGPASSWORD"])
            server.sql("CREATE TABLE customers AS SELECT repeat('x', 100) FROM generate_series(1, 10000)")
            yield server

    return serving


@pytest.fixture
def fetched(contract, tmp_path):
    """Return a function that makes a snapshot of a source and returns its path."""

    def fetch(source, sql="SELECT * FROM customers", *, as_of=None, minutes=1.0):
        query, target = tmp_path / "query.sql", tmp_path / "raw" / "customers.parquet"
        query.write_text(sql)
        snapshot(Fetch(source=str(source), query=str(query), as_of=as_of, timeout_minutes=minutes), contract, target)
        return target

    return fetch


def rows(source, sql, **options):
    return pa.Table.from_batches(record_batches(source, sql, **options)).to_pylist()


# What comes over


def test_the_same_customers_are_the_same_bytes_from_whichever_source(fetched, at, contract, finished, tmp_path):
    expected = (finished.folder / "data/raw/customers.parquet").read_bytes()
    assert fetched(at.url).read_bytes() == expected, "PostgreSQL, in an order of its own"
    table = pq.read_table(finished.folder / "data/raw/customers.parquet")
    with closing(duckdb.connect(str(tmp_path / "warehouse.duckdb"))) as database:
        database.register("snapshot", table)
        database.execute("CREATE TABLE customers AS FROM snapshot ORDER BY hash(customer_id)")
    assert fetched(tmp_path / "warehouse.duckdb").read_bytes() == expected
    with closing(sqlite3.connect(tmp_path / "warehouse.sqlite")) as database:
        database.execute(f"CREATE TABLE customers ({', '.join(table.column_names)})")
        places = ", ".join("?" * table.num_columns)
        database.executemany(
            f"INSERT INTO customers VALUES ({places})", [*zip(*table.to_pydict().values(), strict=True)]
        )
        database.commit()
    assert fetched(tmp_path / "warehouse.sqlite").read_bytes() == expected


def test_the_clock_and_the_encoding_of_a_machine_change_no_byte(at, monkeypatch):
    sql = "SELECT TIMESTAMPTZ '2026-11-24 23:30+00'::date AS day, 'é' AS name"
    expected = rows(at.url, sql)
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    assert rows(at.url, sql) == expected
    assert expected == [{"day": date(2026, 11, 24), "name": "é"}]


def test_a_decimal_keeps_all_of_its_digits(at):
    assert rows(at.url, "SELECT 12345678901234.0123456789012345 AS x") == [{"x": "12345678901234.0123456789012345"}]


@pytest.mark.parametrize(
    ("value", "kind"), [("'\\x00'::bytea", "bytea"), ("1.5::money", "money"), ("'10.0.0.1'::inet", "inet")]
)
def test_a_type_that_would_come_over_as_something_else_is_refused(at, value, kind):
    """Fault in the source: a column's type has no exact equivalent, such as money.

    fetch fails: `source.sql gives … as money: cast it to a text or a number there.`
    """
    with pytest.raises(StageError, match=f"gives x as {kind}: cast it to a text or a number there"):
        rows(at.url, f"SELECT {value}::{kind} AS x")


def test_the_query_takes_the_newest_closed_day(at):
    at.sql(
        "CREATE TABLE days AS SELECT day::date FROM generate_series('2026-11-20', '2026-11-28', '1 day'::interval) day"
    )
    sql = "SELECT max(day) AS newest FROM days WHERE day <= $as_of -- $as_of is a date"
    assert rows(at.url, sql, as_of=date(2026, 11, 24)) == [{"newest": date(2026, 11, 24)}]
    strings = r"SELECT E'\' $as_of' AS a, $$ it's $as_of $$ AS b, $x$ $$ $x$ AS c, $as_of AS d /* /* */ ' $as_of */"
    assert [*rows(at.url, strings, as_of=date(2026, 11, 24))[0].values()] == [
        "' $as_of",
        " it's $as_of ",
        " $$ ",
        date(2026, 11, 24),
    ]


def test_a_writer_meanwhile_is_not_seen(at):
    """Fault in the source: another session writes to PostgreSQL during the query.

    fetch reads one state of the database, without those writes.
    """
    at.sql("CREATE TABLE versions AS SELECT 1 AS version, repeat('x', 100) AS more FROM generate_series(1, 300000)")
    batches = record_batches(at.url, "SELECT * FROM versions")
    seen = [next(batches), next(batches)]
    at.sql("UPDATE versions SET version = 2; INSERT INTO versions SELECT 2 FROM generate_series(1, 1000)")
    table = pa.Table.from_batches([*seen, *batches])
    assert seen[1].num_rows < table.num_rows == 300_000
    assert table["version"].unique().to_pylist() == [1]


def test_the_query_can_change_nothing_in_the_warehouse(at, tmp_path):
    """Fault in the source: the query writes to PostgreSQL, or is more than one SELECT.

    The server refuses it: `source.sql does not run in …: it writes, in a read-only transaction.`
    """
    at.sql("CREATE TABLE kept AS SELECT 1 AS number")
    with pytest.raises(StageError, match="it writes, in a read-only transaction"):
        rows(at.url, "WITH gone AS (DELETE FROM kept RETURNING *) SELECT * FROM gone")
    with pytest.raises(StageError, match="it is no SELECT"):
        rows(at.url, "DELETE FROM kept RETURNING *")
    with pytest.raises(StageError, match="there is a syntax error, or more than one statement"):
        rows(at.url, "SELECT 1; DROP TABLE kept")
    program = f"TO PROGRAM 'touch {tmp_path}/ran'"  # which this user, unlike one with SELECT alone, may run
    for sql in (
        f"COPY kept {program}",
        f"/* a */ copy (SELECT 1) {program}",
        f"SELECT 1) {program} --",
        f"/* /* */ SELECT */ COPY kept {program}",
    ):
        with pytest.raises(StageError, match=r"it is no SELECT|there is a syntax error"):
            rows(at.url, sql)
    assert not list(tmp_path.iterdir())
    assert rows(at.url, "-- a\n/* b */ (WITH c AS (SELECT 1 AS x) SELECT x FROM c);") == [{"x": 1}]
    assert at.sql("SELECT count(*) FROM kept") == "1"


def test_memory_does_not_grow_with_the_rows(at):
    program = (
        "import resource, sys\nfrom churn.data.sources.stream import record_batches\n"
        "sql = \"SELECT n, repeat('x', 200) AS text FROM generate_series(1, %s) n\" % sys.argv[2]\n"
        "print(sum(batch.nbytes for batch in record_batches(sys.argv[1], sql)))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)\n"
    )

    def measured(count):
        command = [sys.executable, "-c", program, at.url, str(count)]
        printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        return map(int, printed.split())

    _, few = measured(1000)
    came_over, many = measured(1_500_000)
    assert came_over > 300_000_000
    assert many - few < 100_000_000


def test_a_bar_on_a_terminal_counts_the_rows_and_nowhere_else(clone):
    command = [sys.executable, "-m", "stages.fetch"]
    environment = {name: value for name, value in clone.environment.items() if name != "CI"}  # where no line changes
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (40, 100))
    with subprocess.Popen(command, cwd=clone.folder, env=environment, stdout=end, stderr=end) as process:
        os.close(end)
        shown = b""
        with suppress(OSError):  # which is how a terminal ends
            while part := os.read(terminal, 4096):
                shown += part
    os.close(terminal)
    assert process.returncode == 0
    assert re.search(rb"fetch: +\d+%\|.*/7\.04k \[[\d:]+<.*, .* rows/s\]", shown)
    assert shown.strip().endswith(b"fetch: 7,043 customers from data/sample/telco_customers.csv")
    assert clone.ok(*command).count("\n") == 1


# Faults


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT * FROM customers WHERE false", r"gives no rows through .*query\.sql"),
        (
            "SELECT customer_id FROM customers",
            r"query\.sql gives no column churn, tenure_months, .* which",
        ),
        ("SELECT customer FROM customers", r"query\.sql does not run in .*: the column customer does not exist"),
        ("SELECT * FROM clients", r"query\.sql does not run in .*: the table clients does not exist"),
        (
            "SELECT *, customer_id::int AS x FROM customers",
            r"does not run in .*: a value cannot be converted as it asks\.$",
        ),
        (
            "SELECT *, 1/(length(contract::text) - 8) AS x FROM customers",
            r"does not run in .*: a value is divided by zero\.$",
        ),
        ("SELECT * FROM customers WHERE $as_of > '2026-01-01'", r"uses \$as_of, but no date is set"),
    ],
    ids=["no rows", "a column too few", "a column too much", "no table", "no number", "half way", "no date"],
)
def test_a_query_that_gives_no_customers_is_one_sentence_and_leaves_the_former_snapshot(fetched, at, sql, said):
    """Fault in the source: the query returns no rows, lacks a column, or names a missing table.

    fetch fails. The message has the column, table or type.
    """
    before = fetched(at.url).read_bytes()
    with pytest.raises(StageError, match=said) as told:
        fetched(at.url, sql)
    assert "\n" not in str(told.value)
    assert at.sql("SELECT customer_id FROM customers LIMIT 1") not in str(told.value)
    assert fetched(at.url).read_bytes() == before


def test_a_wrong_or_missing_password_is_told_and_never_shown(fetched, at, monkeypatch):
    """Fault in the source: the password is wrong or missing.

    fetch fails: `… cannot be reached: password authentication failed; PGPASSWORD or ~/.pgpass has the password.`
    """
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    with pytest.raises(StageError, match=r"churn@127.* cannot be reached: password authentication failed") as told:
        fetched(at.url)
    assert "hunter2" not in str(told.value)
    monkeypatch.delenv("PGPASSWORD")
    monkeypatch.setenv("PGPASSFILE", os.devnull)
    with pytest.raises(StageError, match=r"no password supplied; PGPASSWORD or ~/\.pgpass has the password"):
        fetched(at.url)


def test_libpqs_other_ways_to_a_password_work(at, tmp_path, monkeypatch):
    monkeypatch.delenv("PGPASSWORD")
    (tmp_path / "pgpass").write_text(f"127.0.0.1:*:*:churn:{at.environment['PGPASSWORD']}\n")
    (tmp_path / "pgpass").chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "pgpass"))
    assert rows(at.url, "SELECT 1 AS x") == [{"x": 1}]
    (tmp_path / "services").write_text(f"[warehouse]\nhost=127.0.0.1\nport={at.port}\nuser=churn\ndbname=postgres\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    assert rows("postgresql://?service=warehouse", "SELECT 1 AS x") == [{"x": 1}]


def test_a_statement_that_takes_too_long_is_stopped_by_the_server(fetched, at):
    """Fault in the source: the query takes too long.

    The server stops it: `source.sql was stopped by … after 30 minutes (fetch.timeout_minutes).`
    """
    with pytest.raises(StageError, match=r"was stopped by .* after 0\.01 minutes \(fetch\.timeout_minutes\)"):
        fetched(at.url, "SELECT *, pg_sleep(60) IS NULL FROM customers", minutes=0.01)
    with pytest.raises(StageError, match=r"was stopped by .* after 0\.02 minutes"):
        fetched(at.url, ENDLESS, minutes=0.02)
    assert at.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY (%'") == "0"


def test_a_server_that_stops_half_way_is_one_sentence(own, monkeypatch):
    """Fault in the source: the server stops during the query.

    fetch fails at once: `the connection to … was lost after 90,222 rows: run it again.`
    """
    with own(monkeypatch) as server:
        batches = record_batches(server.url, ENDLESS)
        assert next(batches).num_rows + next(batches).num_rows > 0
        server.process.send_signal(signal.SIGQUIT)
        with pytest.raises(StageError, match=r"the connection to .* was lost after [\d,]+ rows: run it again"):
            list(batches)
        server.process.wait()
        with pytest.raises(StageError, match=r"cannot be reached: .*Connection refused"):
            next(record_batches(server.url, "SELECT 1"))


def test_a_connection_that_is_cut_leaves_the_former_snapshot(fetched, at):
    """Fault in the source: the connection is cut during the query.

    fetch fails with the same message, and leaves no temporary file.
    """
    target = fetched(at.url)
    before = target.read_bytes()
    with cutting_proxy(at.port, after=500_000) as port:
        through = at.url.replace(str(at.port), str(port))
        assert rows(through, "SELECT 1 AS x") == [{"x": 1}], "the proxy lets little through"
        with pytest.raises(StageError, match=r"the connection to .* was lost after [\d,]+ rows: run it again"):
            fetched(through)
    assert target.read_bytes() == before
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_connection_that_falls_silent_is_given_up_in_time_and_leaves_the_former_snapshot(fetched, at, monkeypatch):
    """Fault in the source: the connection stays open and sends nothing.

    fetch gives up one minute after `fetch.timeout_minutes`: `… is silent: after 30 minutes (fetch.timeout_minutes)
    source.sql has neither ended nor been stopped. …`
    """
    target = fetched(at.url)
    before = target.read_bytes()
    monkeypatch.setattr(churn.data.sources.adbc, "GRACE", 1.0)
    for after, sql in ((500_000, ENDLESS), (0, "SELECT * FROM customers")):
        with cutting_proxy(at.port, after, hold=True) as port:
            started = time.monotonic()
            with pytest.raises(StageError, match=r"is silent: after 0\.02 minutes \(fetch\.timeout_minutes\) .*query"):
                fetched(at.url.replace(str(at.port), str(port)), sql, minutes=0.02)
            assert time.monotonic() - started < 10
    assert target.read_bytes() == before


def test_a_server_that_does_not_even_answer_is_given_up(at, monkeypatch):
    """Fault in the source: the server accepts the connection and never answers.

    fetch gives up within 30 seconds: `… cannot be reached: timeout expired; …`
    """
    monkeypatch.setitem(churn.data.sources.postgresql.LIMITS, "connect_timeout", 2)  # the least that libpq takes
    with (
        cutting_proxy(at.port, after=0, hold=True) as port,
        pytest.raises(StageError, match="reached: timeout expired"),
    ):
        rows(at.url.replace(str(at.port), str(port)), "SELECT 1")


def test_a_slow_connection_gives_the_same_customers(fetched, at):
    """Fault in the source: the connection is slow.

    fetch takes longer and makes the same snapshot.
    """
    expected = fetched(at.url).read_bytes()
    with cutting_proxy(at.port, after=10**9, delay=0.05) as port:
        assert fetched(at.url.replace(str(at.port), str(port))).read_bytes() == expected


# Under DVC


@pytest.fixture
def pointed(clone, warehouse):
    """The clone, pointed at the warehouse as docs/adapt.md says."""
    clone.environment |= warehouse.environment
    clone.replace("params.yaml", f"source: {SAMPLE.relative_to(ROOT)}", f"source: {warehouse.url}")
    lines = clone.text("dvc.yaml").splitlines(keepends=True)
    (clone.folder / "dvc.yaml").write_text("".join(line for line in lines if "${fetch.source}" not in line))
    (clone.folder / "source.sql").write_text("SELECT * FROM customers\n")
    return clone


def test_a_url_that_dvc_still_takes_for_a_file_is_dvcs_to_refuse(clone, warehouse):
    clone.replace("params.yaml", f"source: {SAMPLE.relative_to(ROOT)}", f"source: {warehouse.url}")
    assert "Unsupported URL type postgresql://" in clone.run("dvc", "repro").stdout


def test_killed_at_any_time_fetch_loses_nothing(pointed: Clone, warehouse):
    """Fault in the source: `kill -9` ends fetch under `dvc repro`.

    `dvc checkout` restores the former snapshot. The next `dvc repro` completes it.
    """
    before = (pointed.folder / "data/raw/customers.parquet").read_bytes()
    (pointed.folder / "source.sql").write_text(f"{ENDLESS} -- endless\n")
    dvc = subprocess.Popen(["dvc", "repro", "gate"], cwd=pointed.folder, env=pointed.real, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while warehouse.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY (%-- endless%'") != "1":
        assert time.monotonic() < deadline, "fetch does not come to its query"
        time.sleep(0.1)
    (stage,) = [one for one in psutil.Process(dvc.pid).children(recursive=True) if "stages.fetch" in one.cmdline()]
    stage.kill()
    dvc.communicate(timeout=60)
    assert dvc.returncode != 0
    assert pointed.run("dvc", "checkout").returncode == 0, "DVC takes a stage's outputs away before it runs"
    assert (pointed.folder / "data/raw/customers.parquet").read_bytes() == before
    (pointed.folder / "source.sql").write_text("SELECT * FROM customers\n")
    assert "train" not in pointed.stages_run(), "the same customers, so the same bytes"
    assert (pointed.folder / "data/raw/customers.parquet").read_bytes() == before


def test_a_full_disk_leaves_the_former_snapshot(pointed: Clone, small_disk):
    """Fault in the source: the disk is full.

    fetch fails and leaves no temporary file: `data/raw/customers.parquet cannot be made, the former one stays: … No
    space left on device`
    """
    raw = pointed.folder / "data" / "raw"
    before = (raw / "customers.parquet").read_bytes()
    shutil.rmtree(raw)
    small_disk(raw, 160)
    (raw / "customers.parquet").write_bytes(before)
    done = pointed.run("python", "-m", "stages.fetch")
    assert done.returncode == 1
    assert done.stdout.startswith("fetch: data/raw/customers.parquet cannot be made, the former one stays: ")
    assert "No space left on device" in done.stdout
    assert done.stdout.count("\n") == 1
    assert (raw / "customers.parquet").read_bytes() == before
    assert [path.name for path in raw.iterdir()] == ["customers.parquet"]


def test_a_source_that_shrank_is_refused_before_anything_is_trained(pointed: Clone):
    """Fault in the source: the source shrank.

    validate fails: `6,381 rows are 0.91 times the 7,043 of profile.json: the source shrank or grew, outside 0.95 to
    1.5`
    """
    (pointed.folder / "source.sql").write_text("SELECT * FROM customers WHERE left(customer_id, 1) <> '1'\n")
    done = pointed.run("dvc", "repro")
    assert done.returncode != 0
    assert (
        "rows are 0.91 times the 7,043 of profile.json: the source shrank or grew, outside 0.95 to 1.5" in done.stdout
    )
    assert "Running stage 'train'" not in done.stdout
    assert "validate: the data break 1 rule of contract.yaml; see above" in done.stdout


def test_the_report_takes_todays_customers_never_for_those_that_main_was_trained_on(pointed: Clone, monkeypatch):
    pointed.ok("dvc", "repro", "fetch")
    pointed.commit("Point at the warehouse")
    digest = hashlib.md5((pointed.folder / "data/raw/customers.parquet").read_bytes()).hexdigest()
    monkeypatch.chdir(pointed.folder)
    monkeypatch.setenv("PGPASSWORD", pointed.environment["PGPASSWORD"])
    (pointed.folder / f".dvc/cache/files/md5/{digest[:2]}/{digest[2:]}").unlink()
    commit = pointed.ok("git", "rev-parse", "HEAD").strip()
    with pytest.raises(StageError, match="the snapshot that it was trained on is in no DVC cache"), rebuilt(commit):
        pass


# S3


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """The address of an S3 server that has the sample as two Parquet files below a prefix, and as one."""
    with s3_server(tmp_path_factory.mktemp("s3")) as address:
        folder, client = tmp_path_factory.mktemp("files"), s3_client(address)
        table = f"read_csv('{SAMPLE}', all_varchar = true)"
        parts = {"sample/a": "hash(customerID) % 2 = 0", "sample/b": "hash(customerID) % 2 = 1", "one": "true"}
        for key, condition in parts.items():
            file = folder / f"{key.replace('/', '-')}.parquet"
            duckdb.sql(f"COPY (SELECT * FROM {table} WHERE {condition} ORDER BY tenure) TO '{file}' (FORMAT parquet)")
            client.put_object(Bucket=BUCKET, Key=f"{key}.parquet", Body=file.read_bytes())
        client.put_object(Bucket=BUCKET, Key="sample/_SUCCESS", Body=b"")
        client.put_object(Bucket=BUCKET, Key="table.csv", Body=b"id\n1\n")
        yield address


@pytest.fixture
def in_s3(s3, monkeypatch):
    """The environment in which the server answers."""
    for name, value in {"AWS_ENDPOINT_URL_S3": s3, "AWS_DEFAULT_REGION": "us-east-1", **S3_KEYS}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    return s3


@pytest.mark.usefixtures("in_s3")
def test_parquet_in_s3_gives_the_same_bytes_from_one_object_or_from_many(fetched, finished):
    expected, sql = (finished.folder / "data/raw/customers.parquet").read_bytes(), (copy_of("source.sql")).read_text()
    for source in (f"s3://{BUCKET}/sample/", f"s3://{BUCKET}/one.parquet"):
        assert fetched(source, sql).read_bytes() == expected, source
    with pytest.raises(StageError, match="reads another file than s3://"):
        fetched(f"s3://{BUCKET}/one.parquet", f"SELECT * FROM read_parquet('s3://{BUCKET}/sample/a.parquet')")


@pytest.mark.usefixtures("in_s3")
@pytest.mark.parametrize(
    ("source", "environment", "said"),
    [
        ("nothing/", {}, "holds no file"),
        ("table.csv", {}, r"table\.csv ends in \.csv, not in \.parquet, the one kind read from S3"),
        ("one.parquet", {"AWS_SECRET_ACCESS_KEY": "hunter2"}, "cannot be read: .*; AWS's variables say where"),
        (
            "one.parquet",
            {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"},
            "cannot be read: nothing answers at its address",
        ),
    ],
    ids=["nothing there", "another kind", "wrong secret", "no server"],
)
def test_what_s3_does_not_give_is_one_sentence(fetched, monkeypatch, source, environment, said):
    """Fault in the source: the S3 object is missing, the keys are wrong, or nothing listens.

    fetch fails: `s3://… cannot be read: nothing answers at its address; AWS's variables say where, and who asks.`
    """
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StageError, match=said) as told:
        fetched(f"s3://{BUCKET}/{source}")
    assert "\n" not in str(told.value)
    assert "hunter2" not in str(told.value)


def test_an_object_that_is_cut_off_half_way_leaves_the_former_snapshot(fetched, in_s3, monkeypatch):
    """Fault in the source: the download of an S3 object breaks off.

    fetch fails: `s3://… was lost half way: run it again.`
    """
    target = fetched(f"s3://{BUCKET}/one.parquet", (copy_of("source.sql")).read_text())
    before = target.read_bytes()
    with cutting_proxy(int(in_s3.rpartition(":")[2]), after=20_000) as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
        s3fs.S3FileSystem.clear_instance_cache()
        with pytest.raises(StageError, match=rf"s3://{BUCKET}/one\.parquet was lost half way: run it again\.$"):
            fetched(f"s3://{BUCKET}/one.parquet", (copy_of("source.sql")).read_text())
    assert target.read_bytes() == before


def test_an_s3_server_that_falls_silent_is_given_up_in_time_and_leaves_the_former_snapshot(fetched, in_s3, monkeypatch):
    """Fault in the source: an S3 server accepts and sends nothing.

    Each attempt ends after 20 seconds, all of them in a few minutes: `s3://… cannot be read: the answer does not
    come in time; …`
    """
    source, sql = f"s3://{BUCKET}/one.parquet", (copy_of("source.sql")).read_text()
    target = fetched(source, sql)
    before = target.read_bytes()
    monkeypatch.setitem(churn.core.partitions.LIMITS, "read_timeout", 0.5)
    for after, said in (
        (0, "cannot be read: the answer does not come in time"),
        (20_000, "was lost half way: run it again"),
    ):
        with cutting_proxy(int(in_s3.rpartition(":")[2]), after, hold=True) as port:
            monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
            s3fs.S3FileSystem.clear_instance_cache()
            started = time.monotonic()
            with pytest.raises(StageError, match=said):
                fetched(source, sql)
            assert time.monotonic() - started < 60
    assert target.read_bytes() == before


def test_a_prefix_or_an_object_that_is_written_to_meanwhile_is_refused(in_s3):
    """Fault in the source: an S3 object or prefix changes while fetch reads it.

    fetch fails with the same message.
    """
    client = s3_client(in_s3)
    written = client.get_object(Bucket=BUCKET, Key="one.parquet")["Body"].read()
    client.put_object(Bucket=BUCKET, Key="changing/a.parquet", Body=written)
    for key in ("changing/b.parquet", "changing/a.parquet"):
        batches = record_batches(f"s3://{BUCKET}/changing/", "SELECT * FROM source")
        next(batches)
        client.put_object(Bucket=BUCKET, Key=key, Body=written if key.endswith("b.parquet") else b"PAR1")
        with pytest.raises(StageError, match="changed while it was read: run it again when nobody writes there"):
            list(batches)
