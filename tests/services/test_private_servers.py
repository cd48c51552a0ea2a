"""What PostgreSQL and a registry answer about a customer gets into no message: canaries go through real servers."""

import http.server
import logging
import threading
import warnings

from churn.core.runner import attempt
from churn.data.sinks import sink
from churn.data.sources.stream import record_batches
from churn.registry.client import fault_of_registry, registry
from tests.servers import postgresql_server

import pyarrow as pa
import pytest

CANARY = "CANARY-7f3a91"


@pytest.fixture(scope="module")
def server():
    """PostgreSQL with a customer who is a canary, and tables that refuse it."""
    with postgresql_server() as running:
        running.sql(
            f"""
            CREATE TABLE source AS SELECT '{CANARY}'::text AS id, 9223372036854775801 AS amount;
            CREATE TYPE plan AS ENUM ('a');
            CREATE FUNCTION failing(text) RETURNS text LANGUAGE plpgsql AS $$
                BEGIN RAISE EXCEPTION 'invalid input syntax for type %: no %', $1, $1 USING DETAIL = $1; END $$;
            CREATE TABLE checked (customer_id text CHECK (customer_id <> '{CANARY}'), score float8);
            CREATE TABLE once (customer_id text PRIMARY KEY, score float8);
            CREATE TABLE typed (customer_id integer, score float8);
            CREATE TABLE other (name text)
            """
        )
        yield running


@pytest.fixture
def told(server, monkeypatch, capfd):
    """Return a function that runs work which has to fail, and returns all that it prints, with its sentence."""
    monkeypatch.setenv("PGPASSWORD", server.environment["PGPASSWORD"])
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    factory = logging.getLogRecordFactory()

    def attempted(work):
        status, fault = attempt("stage", work)
        assert (status, bool(fault)) == (1, True)
        return "\n".join([str(fault), *capfd.readouterr()])

    yield attempted
    logging.setLogRecordFactory(factory)


def refuse_canaries(text):
    assert "canary" not in text.lower(), text
    assert "7f3a91" not in text
    assert "92233720" not in text


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT id::int AS x FROM source", "a value cannot be converted as it asks"),
        ("SELECT id::date AS x FROM source", "a value cannot be converted as it asks"),
        ("SELECT id::plan AS x FROM source", "a value cannot be converted as it asks"),
        ("SELECT id::json AS x FROM source", "a value cannot be converted as it asks"),
        ("SELECT to_date(id, 'YYYY') AS x FROM source", "a value is no date or time of the format it asks for"),
        ("SELECT regexp_replace(id, id || '(', '') AS x FROM source", "a regular expression is invalid"),
        ("SELECT amount * 10 AS x FROM source", "a number is out of range"),
        ("SELECT amount / (length(id) - 13) AS x FROM source", "a value is divided by zero"),
        ("SELECT xmlparse(DOCUMENT id)::text AS x FROM source", "a function refuses a value"),
        ("SELECT pg_size_bytes(id) AS x FROM source", "a function refuses a value"),
        ("SELECT failing(id) AS x FROM source", "a value cannot be converted as it asks"),
        ("SELECT (SELECT id FROM generate_series(1, 2)) AS x FROM source", "a sub-query gives more than one row"),
        (f"SELECT '{CANARY}'::int AS x", "a value cannot be converted as it asks"),
        (f"SELECT id FROM source WHERE id = {CANARY.partition('-')[0]!r} GROUP BY amount", "neither grouped nor"),
    ],
)
def test_a_query_that_fails_on_a_value_says_nothing_of_it(told, server, sql, said):
    """Fault in messages: the same in PostgreSQL.

    fetch fails with the query's line and the kind of fault.
    """
    text = told(lambda: list(record_batches(server.url, sql, query="source.sql")))
    refuse_canaries(text)
    assert f"source.sql does not run in {server.url}: " in text
    assert said in text


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("checked", "a constraint of the table is broken"),
        ("once", "a constraint of the table is broken"),
        ("typed", "a column has another type in the table"),
        ("other", "the table has other columns than those that are written"),
        ("nowhere.scores", "the schema nowhere does not exist"),
    ],
)
def test_a_table_that_refuses_a_score_says_nothing_of_its_customer(told, server, table, said):
    """Fault in messages: a constraint of the target table rejects a score.

    Scoring fails: `postgresql://…#crm.scores failed: a constraint of the table is broken.`
    """
    scores = pa.table({"customer_id": [CANARY, CANARY], "score": [0.5, 0.5]})

    def work():
        with sink(f"{server.url}#{table}") as write:
            write("", scores.schema, [scores])

    text = told(work)
    refuse_canaries(text)
    assert f"#{table} failed: {said}" in text


class _Echoing(http.server.BaseHTTPRequestHandler):
    """A registry, or a proxy before one, whose answers hold a customer's value."""

    def do_GET(self):
        status, body = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        """Say nothing."""


def test_a_token_that_the_registry_refuses_is_named_where_it_is_what_signs_in(monkeypatch):
    refused = Exception("API request failed with error code 401 != 200")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", CANARY)
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD", raising=False)
    assert fault_of_registry(refused) == "it answers with the HTTP status 401: look at MLFLOW_TRACKING_TOKEN"
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", CANARY)
    assert fault_of_registry(refused).endswith("look at MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (400, f'{{"error_code": "PERMISSION_DENIED", "message": "{CANARY}"}}', "this account may not do that"),
        (400, f'{{"error_code": "{CANARY}", "message": "{CANARY}"}}', "it "),
        (401, CANARY, "it answers with the HTTP status 401: look at MLFLOW_TRACKING_USERNAME"),
        (404, CANARY, "it answers with the HTTP status 404: look at the path in MLFLOW_TRACKING_URI"),
        (503, CANARY, "it answers every try with an error"),
        (200, CANARY, "its answer is not MLflow's"),
    ],
)
def test_a_registry_that_repeats_a_value_is_told_by_its_status(told, monkeypatch, status, body, said):
    """Fault in messages: a registry or its proxy answers with an error.

    register fails: `the registry at … failed: it answers with the HTTP status 403: look at MLFLOW_TRACKING_USERNAME
    and …`
    """
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Echoing) as echoing:
        echoing.answer = (status, body)
        threading.Thread(target=echoing.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:hunter2@127.0.0.1:{echoing.server_port}")

        def work():
            with registry() as client:
                client.search_registered_models()

        text = told(work)
        echoing.shutdown()
    logging.disable(logging.NOTSET)
    refuse_canaries(text)
    assert "hunter2" not in text
    assert f"the registry at http://127.0.0.1:{echoing.server_port} failed: {said}" in text
