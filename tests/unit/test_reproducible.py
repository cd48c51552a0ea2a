"""Queries that cannot give the same rows again: which are refused, and which only look so."""

from churn.core.errors import StageError
from churn.data.sources.reproducible import refuse_irreproducible
from churn.data.sources.stream import record_batches

import pytest


def refused(sql, *, ordered=True):
    try:
        refuse_irreproducible(sql, "source.sql", ordered=ordered)
    except StageError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("SELECT * FROM t WHERE day < now()", "now()"),
        ("SELECT * FROM t WHERE day < NOW ( )", "NOW()"),
        ("SELECT date_diff('day', start, Today()) AS days FROM t", "Today()"),
        ("SELECT *, random() AS x FROM t", "random()"),
        ("SELECT *, RAND() AS x FROM t", "RAND()"),
        ("SELECT current_date - signup AS days FROM t", "current_date"),
        ("SELECT Current_Date() - signup AS days FROM t", "Current_Date()"),
        ("SELECT * FROM t WHERE at < CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP"),
        ("SELECT * FROM t WHERE at < localtimestamp", "localtimestamp"),
        ("SELECT getdate(), sysdate FROM t", "getdate()"),
        ("SELECT sysdate FROM t", "sysdate"),
        ("SELECT SYSDATE() FROM t", "SYSDATE()"),
        ("SELECT uuid() AS id FROM t", "uuid()"),
        ("SELECT gen_random_uuid() AS id FROM t", "gen_random_uuid()"),
        ("SELECT pg_catalog.now() FROM t", "now()"),
        ("SELECT transaction_timestamp() FROM t", "transaction_timestamp()"),
        ("SELECT getvariable('day') FROM t", "getvariable()"),
        ("SELECT nextval('s') FROM t", "nextval()"),
        ("SELECT * FROM t TABLESAMPLE (10)", "TABLESAMPLE"),
        ("SELECT * FROM t tablesample bernoulli (10)", "tablesample"),
        ("SELECT * FROM t USING SAMPLE 10%", "SAMPLE"),
        ("SELECT * FROM (SELECT * FROM t) SAMPLE (10)", "SAMPLE"),
        ("SELECT * FROM t SAMPLE BERNOULLI (10)", "SAMPLE"),
        ("SELECT DATE 'today' - signup FROM t", "'today'"),
        ("SELECT 'now'::timestamp - signup FROM t", "'now'"),
        ("SELECT CAST('yesterday' AS date) FROM t", "'yesterday'"),
        ("SELECT julianday('now') - julianday(signup) FROM t", "'now'"),
        ("SELECT strftime('%Y', 'now') FROM t", "'now'"),
        ("SELECT date() FROM t", "date()"),
        ("SELECT age(born) FROM t", "age()"),
    ],
)
def test_the_clock_chance_and_a_sample_are_refused_by_name_in_any_case(sql, named):
    message = refused(sql)
    assert message.startswith(f"source.sql uses {named}, which changes from run to run: use $as_of for the day")
    assert "\n" not in message


@pytest.mark.parametrize(
    "sql",
    [
        'SELECT \'now()\', "random", "current_date" FROM t -- now()',
        "SELECT $$ random() $$, E'it\\'s now()' FROM t /* current_date /* uuid() */ */",
        "SELECT random, today, now, uuid, seed FROM t ORDER BY random",
        "SELECT t.now, t.random, t.current_date, customers.sysdate FROM t",
        "SELECT `current_date`, `now` FROM `project.data.random`",
        "SELECT last_day AS today, uuid AS current_date FROM t WHERE uuid IN ('a')",
        "WITH today(day) AS (SELECT $as_of) SELECT * FROM today JOIN sample ON (sample.id = today.id)",
        "SELECT sample FROM sample WHERE sample = 'now'",
        "SELECT CASE label WHEN 'today' THEN 1 ELSE 0 END, cast('now' AS text) FROM t",
        "SELECT age(DATE '2026-11-24', born), date(signup), now_playing(x) FROM t",
        "SELECT is_random(x), setting, date '2026-11-24' FROM t",
    ],
)
def test_a_column_an_alias_a_text_a_comment_and_a_quoted_name_are_not(sql):
    assert refused(sql) is None


def test_the_line_is_named_where_there_are_several():
    message = refused("SELECT id,\n  'a\nb' AS c,\n  -- now()\n  now() AS d\nFROM t")
    assert message.startswith("source.sql, line 5, uses now(), which")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM t LIMIT 5",
        "SELECT * FROM (SELECT * FROM t ORDER BY id) AS u FETCH FIRST 5 ROWS ONLY",
        "SELECT * FROM (SELECT * FROM t LIMIT 5) AS u ORDER BY id",
        "SELECT TOP 5 * FROM t",
    ],
)
def test_some_rows_of_a_server_need_an_order_and_those_of_a_file_have_one(sql):
    assert "LIMIT without ORDER BY" in refused(sql, ordered=False)
    assert refused(sql) is None


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM t ORDER BY id LIMIT 5",
        "SELECT TOP 5 * FROM t ORDER BY id",
        "SELECT * FROM (SELECT * FROM t ORDER BY id LIMIT 5) AS u",
        "SELECT * FROM t LIMIT 0",
        "SELECT \"limit\", t.fetch, 'LIMIT 5', top FROM t",
    ],
)
def test_ordered_rows_of_a_server_may_be_cut(sql):
    assert refused(sql, ordered=False) is None


@pytest.mark.parametrize("source", ["nowhere.csv", "postgresql://me@nowhere.invalid/db", "snowflake://nowhere/db"])
def test_every_kind_of_source_refuses_it_before_it_reads_or_connects(source):
    """Fault in the source: the query calls the clock or chance, such as `now()`, `current_date` or `random()`.

    fetch fails before it connects: `source.sql uses now(), which changes from run to run: use $as_of for the day …`
    """
    with pytest.raises(StageError, match=r"source\.sql uses now\(\)"):
        list(record_batches(source, "SELECT id FROM customers WHERE day < now()", query="source.sql"))


def test_the_first_rows_of_a_file_are_the_same_each_time(tmp_path):
    file = tmp_path / "customers.csv"
    file.write_text("id\n" + "\n".join(map(str, range(300_000))) + "\n")
    sql = "SELECT id FROM source WHERE id::INT % 7 = 3 LIMIT 40000 OFFSET 500"
    first, again = ([batch.to_pydict() for batch in record_batches(str(file), sql)] for _ in range(2))
    assert first == again
