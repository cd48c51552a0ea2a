"""What a message says to write, for files and values that a query or the contract cannot read as they are."""

import shlex
import sqlite3
import subprocess
from contextlib import closing

from churn.config.contract import Contract, load_contract
from churn.config.params import Fetch
from churn.core.errors import StageError
from churn.data.duckdb_helpers import connection
from churn.data.snapshot import snapshot
from churn.data.sources.encodings import likely_encoding
from churn.data.sources.hints import SQLITE, hints, nearest, source_of
from churn.quality.row_checks import table_findings
from tests.frozen import copy_of
from tests.unit.test_fetch import CONTRACT

import pyarrow.parquet as pq
import pytest

ROWS = "id,Churn,Charges,Paperless,Plan\na,1,2,Yes,a\nb,0,3.5,No,b\n"
QUERY = """SELECT
    id,
    Churn AS churn,
    Charges AS charges,
    Paperless AS paperless, -- yes or no
    Plan AS plan
FROM source
"""


@pytest.fixture
def fetched(tmp_path):
    """Return a function that makes a snapshot of a CSV file by a query and returns its rows."""

    def fetch(content, query=QUERY, **changed):
        (tmp_path / "in.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
        (tmp_path / "source.sql").write_text(query)
        contract = CONTRACT | {"columns": CONTRACT["columns"] | changed}
        params = Fetch(
            source=str(tmp_path / "in.csv"), query=str(tmp_path / "source.sql"), as_of=None, timeout_minutes=1.0
        )
        snapshot(params, Contract.model_validate(contract, strict=False), tmp_path / "out.parquet")
        return pq.read_table(tmp_path / "out.parquet").to_pylist()

    return fetch


def message(fetched, tmp_path, *given, **changed):
    """Return the one line that refuses a source, with the names of the files alone."""
    with pytest.raises(StageError) as refused:
        fetched(*given, **changed)
    assert "\n" not in str(refused.value)
    return str(refused.value).replace(f"{tmp_path}/", "")


# Columns


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("Churned?", 'in.csv has no column Churn, which source.sql reads; the column "Churned?" is nearest to it.'),
        (" Churn ", 'in.csv has no column Churn, which source.sql reads; the column " Churn " is nearest to it.'),
        ("Chrun", "in.csv has no column Churn, which source.sql reads; the column Chrun is nearest to it."),
        ("left", "in.csv has no column Churn, which source.sql reads."),
    ],
)
def test_a_missing_column_is_named_with_the_nearest_header_also_where_its_alias_has_its_name(
    fetched, tmp_path, header, said
):
    """Fault in the source: a column is missing, and the query gives another one its name.

    fetch fails: `… has no column Churn, which source.sql reads; the column "Churned?" is nearest to it.`
    """
    assert message(fetched, tmp_path, ROWS.replace("Churn", header, 1)) == said


@pytest.mark.parametrize(
    ("missing", "header", "shown"),
    [("Orders", "order", '"order"'), ("gebuehr", "gebühr", "gebühr"), ("fee", "2fee", '"2fee"'), ("a", 'a"', '"a"""')],
)
def test_a_header_is_shown_as_sql_takes_it(missing, header, shown):
    assert nearest(missing, ["city", header]) == shown


def test_a_header_with_a_blank_that_stands_in_the_query_without_quotes_is_shown_with_them(fetched, tmp_path):
    rows = ROWS.replace("Charges", "Monthly Charges", 1)
    said = message(fetched, tmp_path, rows, QUERY.replace("Charges AS", "Monthly Charges AS"))
    assert said.endswith('; write the column "Monthly Charges" with these quotes.')
    assert fetched(rows, QUERY.replace("Charges AS", '"Monthly Charges" AS'))[0]["charges"] == 2


def test_a_column_that_the_query_gives_under_a_like_name_is_named(fetched, tmp_path):
    said = message(fetched, tmp_path, ROWS, QUERY.replace("AS charges", "AS charge"))
    assert said.startswith("source.sql gives no column charges, which contract.yaml declares: add it")
    assert said.endswith("; it gives charge, and not charges.")


def test_a_name_in_another_case_is_the_same_as_in_sql(fetched):
    upper = fetched(ROWS, QUERY.replace("AS churn", "AS CHURN").replace("    id", "    id AS ID"))
    assert upper == fetched(ROWS)
    assert [*upper[0]] == ["id", "churn", "charges", "paperless", "plan"]


# Values: each failing value says what to write, and that then works


@pytest.mark.parametrize(
    "case",
    [
        ("Charges", ["12,5", "3"], "replace(Charges, ',', '.') AS charges", "line 4: decimal commas", [12.5, 3]),
        (
            "Charges",
            ["1,234.50", "1,000"],
            "replace(Charges, ',', '') AS charges",
            "line 4: commas between thousands",
            [1234.5, 1000],
        ),
        (
            "Charges",
            ["1.234,50", "2,5"],
            "replace(replace(Charges, '.', ''), ',', '.') AS charges",
            "line 4: decimal commas, and points between thousands",
            [1234.5, 2.5],
        ),
        (
            "Charges",
            ["1,234", "2,345"],
            "replace(Charges, ',', '') AS charges",
            "line 4: commas between thousands; of decimal commas replace(Charges, ',', '.')",
            [1234, 2345],
        ),
        ("Charges", [" ", "3"], "nullif(trim(Charges), '') AS charges", "line 4: empty texts", [None, 3]),
        ("Charges", ["n/a", "3"], "nullif(Charges, 'n/a') AS charges", "line 4: texts such as n/a", [None, 3]),
        (
            "Charges",
            ["€ 12.50", "3"],
            "regexp_replace(Charges, '[^0-9.+-]', '', 'g') AS charges",
            "line 4: a currency or a unit",
            [12.5, 3],
        ),
        (
            "Churn",
            ["Yes", "No"],
            "CASE Churn WHEN 'Yes' THEN 1 WHEN 'No' THEN 0 END AS churn",
            "line 3: texts for yes and no",
            [1, 0],
        ),
        (
            "Churn",
            ["TRUE", "False"],
            "CASE Churn WHEN 'TRUE' THEN 1 WHEN 'False' THEN 0 END AS churn",
            "line 3: texts for yes and no",
            [1, 0],
        ),
        (
            "Paperless",
            ["ja", "nein"],
            "CASE Paperless WHEN 'ja' THEN true WHEN 'nein' THEN false END AS paperless",
            "line 5: texts for yes and no",
            [True, False],
        ),
        (
            "Paperless",
            ["1.0", "0.0"],
            "CAST(Paperless AS INTEGER) AS paperless",
            "line 5: numbers with a decimal point",
            [True, False],
        ),
    ],
)
def test_values_that_do_not_fit_are_counted_and_the_sql_that_is_written_for_them_reads_them(fetched, tmp_path, case):
    """Fault in the source: numbers have decimal commas or thousands separators, or a label is Yes and No.

    fetch fails: `… charges has 1 value not of the type number. In source.sql write replace(Charges, ',', '.') AS
    charges (line 4: decimal commas).`
    """
    column, values, written, words, becomes = case
    base = {"Churn": "1", "Charges": "2", "Paperless": "Yes", "Plan": "a"}
    rows = [",".join(["id", *base])]
    rows += [
        ",".join([key, *(f'"{one}"' for one in (base | {column: value}).values())])
        for key, value in zip("ab", values, strict=True)
    ]
    content = "\n".join(rows) + "\n"
    said = message(fetched, tmp_path, content)
    assert f" not of the type {CONTRACT['columns'][column.lower()]['type']}. In source.sql write " in said
    assert said.endswith(f" In source.sql write {written} ({words}).")
    mended = QUERY.replace(f"{column} AS {column.lower()}", written)
    assert [row[column.lower()] for row in fetched(content, mended)] == becomes


def test_a_label_of_other_words_is_told_the_case_without_a_value(fetched, tmp_path):
    said = message(fetched, tmp_path, ROWS.replace("a,1", "a,gone").replace("b,0", "b,stays"))
    assert said.endswith("CASE Churn WHEN … THEN 1 WHEN … THEN 0 END AS churn (line 3: the label is 0 or 1).")
    assert "gone" not in said


def test_several_columns_are_one_message_and_no_value_of_a_customer_is_in_it(fetched, tmp_path):
    content = ROWS.replace("a,1,2,", 'a,Yes,"secret",').replace("b,0,3.5,", 'b,No,"7,5",')
    said = message(fetched, tmp_path, content)
    assert "churn has 2 values not of the type integer; charges has 2 values not of the type number. In" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("values", "written"),
    [
        (["24.11.2026", "1.2.2026"], "strptime(Signup, '%d.%m.%Y')::DATE for Signup (dates, day.month.year)"),
        (["11/24/2026", "12/01/2026"], "strptime(Signup, '%m/%d/%Y')::DATE for Signup (dates, with slashes)"),
        (
            ["03/04/2026", "04/05/2026"],
            "strptime(Signup, '%d/%m/%Y')::DATE for Signup (dates, with slashes; or '%m/%d/%Y')",
        ),
        (["24/11/2026", "01/12/2026"], "strptime(Signup, '%d/%m/%Y')::DATE for Signup (dates, with slashes)"),
    ],
)
@pytest.mark.parametrize(
    "read", ["Signup::DATE", "CAST(Signup AS DATE)", "trim(Signup)::DATE", "strptime(Signup, '%Y-%m-%d')"]
)
def test_a_date_of_another_format_is_told_its_column_and_the_strptime_that_reads_it(
    fetched, tmp_path, values, written, read
):
    """Fault in the source: dates are written 24.11.2026, and the query casts them.

    fetch fails: `… In source.sql write strptime(signup, '%d.%m.%Y')::DATE for signup (dates, day.month.year).`
    """
    lines = ROWS.splitlines()
    content = "\n".join([f"{lines[0]},Signup", f"{lines[1]},{values[0]}", f"{lines[2]},{values[1]}"]) + "\n"
    days = QUERY.replace("Charges AS charges", "DATE '2026-12-31' - ({})::DATE AS charges")
    said = message(fetched, tmp_path, content, days.format(read))
    assert said.endswith(f" In source.sql write {written}.")
    assert values[0] not in said
    assert fetched(content, days.format(written.partition(" for ")[0]))[0]["charges"] > 0


@pytest.mark.parametrize(
    ("value", "kind", "written"),
    [
        ("24.11.2026", "date", "strptime(Signup, '%d.%m.%Y')::DATE AS signup (dates, day.month.year)"),
        ("2026-11-24 13:00:00", "date", "CAST(Signup AS DATE) AS signup (dates with a time)"),
        ("24.11.2026", "integer", "$as_of - strptime(Signup, '%d.%m.%Y')::DATE AS signup (days since one of dates"),
    ],
)
def test_a_date_that_the_contract_declares_is_told_what_reads_it(value, kind, written):
    said = hints({"signup": [value]}, {"signup": kind}, "SELECT Signup AS signup FROM t", "source.sql", "")
    assert said.startswith(f" In source.sql write {written}")


@pytest.mark.parametrize(
    ("scheme", "written"),
    [
        ("postgresql", "$as_of - to_date(Signup, 'DD.MM.YYYY') AS signup"),
        ("snowflake", "$as_of - to_date(Signup, 'DD.MM.YYYY') AS signup"),
        ("bigquery", "date_diff($as_of, parse_date('%d.%m.%Y', Signup), DAY) AS signup"),
    ],
)
def test_a_date_of_a_warehouse_is_told_in_its_dialect(scheme, written):
    sql = "SELECT Signup AS signup FROM t"
    assert f" write {written} (" in hints({"signup": ["24.11.2026"]}, {"signup": "integer"}, sql, "source.sql", scheme)


@pytest.mark.parametrize(
    ("value", "kind", "written"),
    [
        ("2026-11-24 10:00", "date", "date(x)"),
        ("2026-11-24", "integer", "julianday($as_of) - julianday(date(x))"),
        ("€ 12.50", "number", "replace(replace(x, ' ', ''), '€', '')"),
        ("12.5", "integer", "round(CAST(x AS DOUBLE))"),
        ("1.0", "boolean", "CAST(x AS INTEGER)"),
    ],
)
def test_what_is_told_of_an_sqlite_file_runs_in_sqlite(value, kind, written):
    said = hints({"x": [value]}, {"x": kind}, "SELECT x FROM t", "source.sql", SQLITE)
    assert said.startswith(f" In source.sql write {written} AS x (")
    with closing(sqlite3.connect(":memory:")) as database:
        ((read,),) = database.execute(f"SELECT {written} FROM (SELECT '{value}' AS x)", {"as_of": "2026-11-25"})
    assert read in ("2026-11-24", 1, "12.50", 13)


def test_an_sqlite_file_is_told_nothing_that_sqlite_lacks(fetched, tmp_path):
    with closing(sqlite3.connect(tmp_path / "in.csv")) as database:
        database.execute(
            "CREATE TABLE source AS SELECT 'a' AS id, 1 AS Churn, '€ 2' AS Charges, 1 AS Paperless, 'a' AS Plan"
        )
        database.commit()
    said = message(fetched, tmp_path, (tmp_path / "in.csv").read_bytes())
    assert said.endswith("write replace(replace(Charges, ' ', ''), '€', '') AS charges (line 4: a currency or a unit).")
    assert hints({"x": ["24.11.2026"]}, {"x": "date"}, "SELECT x FROM t", "source.sql", SQLITE) == ""


@pytest.mark.parametrize(
    ("value", "kind", "scheme", "written"),
    [
        ("12.5", "integer", "postgresql", "round(CAST(x AS DOUBLE PRECISION))"),
        ("12.5", "integer", "bigquery", "round(CAST(x AS FLOAT64))"),
        ("5 %", "number", "snowflake", "replace(replace(x, ' ', ''), '%', '')"),
        ("2026-11-24", "integer", "", "$as_of - CAST(x AS DATE)"),
        ("18446744073709551615", "integer", "", "CAST(x AS VARCHAR)"),
    ],
)
def test_a_number_is_told_in_the_dialect_and_by_its_shape(value, kind, scheme, written):
    said = hints({"x": [value]}, {"x": kind}, "SELECT x FROM t", "source.sql", scheme)
    assert said.startswith(f" In source.sql write {written} AS x (")


def test_no_unit_and_no_other_form_is_told_where_there_is_none():
    of_label = hints({"x": ["0.4"]}, {"x": "label"}, "SELECT x FROM t", "source.sql", "")
    assert "currency" not in of_label
    assert hints({"x": ["2026-02-30"]}, {"x": "date"}, "SELECT x FROM t", "source.sql", "") == ""


def test_the_expression_of_a_column_is_found_in_its_item_of_the_query_alone():
    sql = """SELECT DISTINCT id, -- fee
    replace(trim(a, ','), '(', '') AS "odd, name", t.fee, CASE WHEN b THEN (SELECT c AS d FROM u) END AS e
    , count(*) OVER (PARTITION BY x, y) AS n FROM source AS t"""
    assert source_of("odd, name", sql) == ("replace(trim(a, ','), '(', '')", 2)
    assert source_of("fee", sql) == ("t.fee", 2)
    assert source_of("e", sql) == ("CASE WHEN b THEN (SELECT c AS d FROM u) END", 2)
    assert source_of("n", sql) == ("count(*) OVER (PARTITION BY x, y)", 3)
    assert source_of("z", sql) == ("z", None)


# Encodings


TEXT = "id,Churn,Charges,Paperless,Plan\n" + "a,1,2,Yes,a\n" * 2 + "Orléans,1,2,Yes,a\nMüller,1,2,Yes,a\n"


@pytest.mark.parametrize(
    ("codec", "named"),
    [
        ("cp1252", "WINDOWS-1252"),
        ("latin-1", "WINDOWS-1252"),
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16LE"),
        ("utf-16-be", "UTF-16BE"),
        ("mac_roman", "MACINTOSH"),
        ("cp850", "CP850"),
    ],
)
@pytest.mark.parametrize("deep", [0, 60_000], ids=["at the begin", "deep in the file"])
def test_another_encoding_is_named_with_the_command_that_converts_it(fetched, tmp_path, codec, named, deep):
    """Fault in the source: a CSV file is not UTF-8, as Excel writes it.

    fetch fails: `in.csv, line 4: Invalid unicode. It is likely WINDOWS-1252: iconv -f WINDOWS-1252 -t utf-8 in.csv >
    in.utf8.csv converts it, …`
    """
    content = TEXT.replace("\na,1", "\na,1" + ",2,Yes,a\na,1" * deep, 1)
    said = message(fetched, tmp_path, content.encode(codec))
    command = f"iconv -f {named} -t utf-8 in.csv > in.utf8.csv"
    assert said.endswith(f"t is likely {named}: `{command}` converts it; name the new file instead.")
    assert "Orl" not in said
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    assert (tmp_path / "in.utf8.csv").read_text("utf-8-sig") == content


def test_a_header_in_another_encoding_is_named_and_an_unknown_encoding_is_asked_for(fetched, tmp_path):
    assert "is likely WINDOWS-1252" in message(fetched, tmp_path, "id,jährlich\na,1\n".encode("cp1252"))
    said = message(fetched, tmp_path, "id,\u0413\u043e\u0440\u043e\u0434\na,1\n".encode("cp1251"))
    assert "ask who wrote it for its ENCODING: `iconv -f ENCODING -t utf-8 in.csv > in.utf8.csv`" in said


def test_a_path_with_a_blank_is_quoted_in_the_command_and_utf_8_has_no_other_encoding(tmp_path):
    from churn.data.sources.encodings import conversion

    file = tmp_path / "our customers.csv"
    file.write_bytes("Orléans\n".encode("cp1252"))
    assert shlex.quote(str(file)) in conversion(file)
    file.write_text("Orléans, \u6771\u4eac\n", "utf-8")
    assert likely_encoding(file) is None


# What is right stays so


def test_a_mark_at_the_begin_windows_line_ends_and_quoted_line_ends_are_read(fetched):
    content = '\ufeffid,Churn,Charges,Paperless,Plan,Note\r\na,1,2,Yes,a,"two\nlines, ""quoted"""\r\nb,0,3,No,b,\r\n'
    assert fetched(content) == [
        {"id": "a", "churn": 1, "charges": 2, "paperless": True, "plan": "a"},
        {"id": "b", "churn": 0, "charges": 3, "paperless": False, "plan": "b"},
    ]


def test_upper_case_headers_are_read_by_any_spelling(fetched):
    assert fetched(ROWS.replace("id,Churn,Charges,Paperless,Plan", "ID,CHURN,CHARGES,PAPERLESS,PLAN")) == fetched(ROWS)


def test_an_integer_key_and_labels_with_a_point_are_read(fetched):
    content = ROWS.replace("a,1,", "10,1.0,").replace("b,0,", "9,0.0,")
    rows = fetched(content, id={"role": "key", "type": "integer"})
    assert [(row["id"], row["churn"]) for row in rows] == [(9, 0), (10, 1)]


def test_countries_that_yaml_takes_for_a_boolean_are_texts_with_quotes_or_an_error(tmp_path):
    text = copy_of("contract.yaml").read_text()
    unquoted = "[NO, SE, DK]"
    (tmp_path / "contract.yaml").write_text(text.replace("[Month-to-month, One year, Two year]", unquoted))
    assert load_contract(tmp_path / "contract.yaml").columns["contract"].values == ("NO", "SE", "DK")


@pytest.mark.parametrize("content", ["id,Churn,Charges,Paperless,Plan\na,1,2,Yes,a\n", ROWS], ids=["one row", "two"])
def test_a_file_of_one_row_or_with_a_column_that_is_always_missing_is_read(fetched, content):
    assert fetched(content)
    empty = QUERY.replace("Charges AS charges", "NULL AS charges")
    assert {row["charges"] for row in fetched(content, empty)} == {None}


# Categories, and a label that is 1 and 2


def findings(contract, sql):
    with connection() as database:
        database.execute(f"CREATE VIEW train AS {sql}")
        return [one.sentence for one in table_findings(database, "train", contract)]


def test_categories_that_differ_by_blanks_or_case_alone_are_counted(contract):
    found = findings(
        contract,
        "SELECT unnest(['month-to-month', 'One year ', '\u00a0Two year', 'One year', 'Three years']) AS contract",
    )
    assert (
        "contract has 4 values that the contract does not list, 3 of which differ from a listed one by blanks or case"
        " alone: trim() or a CASE in the query makes them equal"
    ) in found
    (all_alike,) = [one for one in findings(contract, "SELECT 'one year' AS contract") if "list" in one]
    assert "has 1 value that the contract does not list, which differ from a listed one by blanks" in all_alike
    (other,) = [one for one in findings(contract, "SELECT 'Three years' AS contract") if "list" in one]
    assert other == "contract has 1 value that the contract does not list"


def test_a_label_of_1_and_2_has_no_rate_and_one_of_0_and_1_has(contract):
    coded = findings(contract, "SELECT (1 + range % 2)::BIGINT AS churn FROM range(100)")
    assert "churn has 50 values other than 0 and 1" in coded
    assert not [one for one in coded if "churn is 1 in" in one]
    assert "churn is 1 in 100.0% of the rows, outside 5% to 60%" in findings(contract, "SELECT 1::BIGINT AS churn")
