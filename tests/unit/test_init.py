"""init: what it guesses, asks, proposes to leave out and refuses, and the files that it writes."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import date, datetime

from churn.adopting import init, readings
from churn.adopting.answers import Answers
from churn.adopting.blocks import scalar
from churn.adopting.column import Column
from churn.adopting.columns import columns, snake_case, table
from churn.adopting.dialects import BIGQUERY, POSTGRESQL
from churn.adopting.questions import planned
from churn.adopting.readings import CLOCKS, DAYS, has_shape
from churn.adopting.sql import source_sql
from churn.adopting.texts import contract_text, params_text
from churn.config.contract import load_contract
from churn.config.params import load_params
from churn.core.errors import StageError
from churn.data.snapshot import snapshot
from churn.data.sources.stream import record_batches
from tests.frozen import REPLACED, ROOT, copy_of

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

ROWS = 420
CHURNED = [row * 37 % 11 < 4 for row in range(ROWS)]


def make_csv(between=",", **given):
    """Return a CSV with a key, a label, and columns: each a function of the row, or values that are repeated."""
    made = {"id": lambda row: f"c-{row:04}", "churn": lambda row: "yes" if CHURNED[row] else "no"} | given
    cells = [
        [value(row) if callable(value) else value[row % len(value)] for value in made.values()] for row in range(ROWS)
    ]
    return "".join(f"{between.join(map(str, line))}\n" for line in [[*made], *cells])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def plan(folder):
    """Return a function that gives the plan for a CSV file, or for another source, by the command's options."""

    def made(content, *options, name="customers.csv", roles=("--key", "id", "--label", "churn", "--churned", "yes")):
        if isinstance(content, str | bytes):
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        asked = init.arguments().parse_args([name, *roles, *options])
        source = init.origin(asked)
        with table(source[0], f"SELECT * FROM {source[2]}", None) as database:
            return planned(Answers(asked, columns(database)), database, source)

    return made


def fetched(plan):
    """Return the rows that source.sql gives."""
    (query := init.QUERY).write_text(source_sql(plan), encoding="utf-8")
    batches = record_batches(plan.place, query.read_text(encoding="utf-8"), query=str(query), as_of=plan.as_of)
    return pa.Table.from_batches(batches).to_pylist()


def contract_of(plan):
    init.CONTRACT.write_text(contract_text(plan), encoding="utf-8")
    return load_contract(init.CONTRACT)


def types(plan):
    contract = contract_of(plan)
    return {name: contract.columns[name].type for name in contract.features}


def test_each_spelling_of_a_value_is_read_as_what_it_is(plan):
    made = plan(
        make_csv(
            ";",
            **{
                "Monthly Charges (EUR)": lambda row: f"{row + 1}.{row % 900 + 100},{row % 90 + 10}",
                "straße": lambda row: ["Weg", " Allee ", "allee"][row % 3],
                "Kunde seit": lambda row: f"{row % 28 + 1}.{row % 12 + 1}.2025",
                "paperless": ["ja", "nein"],
                "StreamingTV": ["Yes", "no", " YES", "No", "No"],
                "score": ["1", "2.5", "-", "7e2"],
                "plz": ["01067", "04109", "10115", "80331", "50667"],
                "visits": ["3", "-1", "", "12"],
            },
        ),
        "--as-of=2026-11-24",
    )
    assert types(made) == {
        "monthly_charges_eur": "number",
        "straße": "category",
        "days_since_kunde_seit": "integer",
        "paperless": "category",
        "streaming_tv": "boolean",
        "score": "number",
        "plz": "category",
        "visits": "integer",
    }
    rows = fetched(made)
    assert {row["churn"] for row in rows} == {0, 1}
    assert float(rows[7]["monthly_charges_eur"]) == 8107.17
    assert [row["straße"] for row in rows[:3]] == ["weg", "allee", "allee"]
    assert rows[7]["days_since_kunde_seit"] == (date(2026, 11, 24) - date(2025, 8, 8)).days
    assert [row["score"] for row in rows[:4]] == ["1", "2.5", None, "7e2"]
    assert [row["streaming_tv"] for row in rows[:3]] == ["yes", "no", "yes"]
    contract = contract_of(made)
    assert contract.columns["straße"].values == ("allee", "weg")
    assert {name for name in contract.columns if contract.columns[name].nullable} == {"score", "visits"}
    text = init.QUERY.read_text(encoding="utf-8")
    for evidence in (
        "'.' between thousands, ',' before decimals",
        "dates as %d.%m.%Y",
        "missing is spelled '-'",
        "blanks",
    ):
        assert evidence in text


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1,234.50", "17", "0.5"], 1234.5),
        (["1 234,50", "17", "0,5"], 1234.5),
        (["1'234.50", "17", "0.5"], 1234.5),
        (["1234,50", "17", "0,5"], 1234.5),
        (["-3,5", "17", "0,25"], -3.5),
        (["9007199254740993123456", "17", "2"], 9007199254740993123456.0),
        (["12.5%", "17%", "0%"], 12.5),
        (["12,5 %", "17 %", "0 %"], 12.5),
        (["€1,234.50", "€17", "€0.5"], 1234.5),
        (["1.234,50 €", "17,00 €", "0,50 €"], 1234.5),
        (["-$3.50", "$17", "$0.25"], -3.5),
        (["EUR 3.50", "EUR 17", "-"], 3.5),
        (["(12.50)", "17", "0.5", "(null)"], -12.5),
        (["(1,234.50)", "17", "0.5"], -1234.5),
        (["$(1,234.50)", "$17", "$0.5"], -1234.5),
        (["(1.234,50 €)", "17,00 €", "0,50 €"], -1234.5),
        (["12.50-", "17.00 ", "-"], -12.5),
        (["-   1.234,50 €", "17,00 €", "-2,00 €"], -1234.5),
        (["1.234,50-", "17,00", "0,50"], -1234.5),
        (["12,50- EUR", "17,00 EUR", "0,50 EUR"], -12.5),
        (["\u22121,234.50", "17", "\u2013", "-2"], -1234.5),
        (["\u22123,5", "\u221217,25"], -3.5),
        ([f"{number + 0.5} GB" for number in range(21)], 0.5),
    ],
)
def test_a_number_is_read_with_its_decimal_sign_its_separators_and_its_unit(plan, values, expected):
    made = plan(make_csv("\t", charge=values))
    assert types(made) == {"charge": "number"}
    assert float(fetched(made)[0]["charge"]) == expected


def test_a_unit_beside_each_number_is_evidence_in_the_query_and_one_of_few_lengths_is_a_category(plan):
    made = plan(make_csv(discount=["12%", "5%", "n/a"], contract=["12 months", "24 months", "12 months", "1 month"]))
    assert types(made) == {"discount": "integer", "contract": "category"}
    sql = "trim(replace(nullif(trim(discount), 'n/a'), '%', '')) AS discount,"
    assert f"{sql} -- '%' beside each number; missing is spelled 'n/a'" in source_sql(made)
    assert [row["discount"] for row in fetched(made)[:3]] == ["12", "5", None]


def test_a_category_of_numbers_and_a_word_says_so_in_the_query(plan):
    late = [*range(60), "k. A.", "k. A."]
    made = plan(make_csv(late=late, grade=["1", "2", "3+"], region=[f"R{n}" for n in range(40)]))
    assert types(made) == {"late": "category", "grade": "category", "region": "category"}
    unlike = sum(late[row % len(late)] == "k. A." for row in range(ROWS))
    notes = [line.partition(" -- ")[2] for line in source_sql(made).splitlines() if " -- " in line]
    assert notes == [f"a category, because {unlike} rows have no number"]


@pytest.mark.parametrize("key", ["CUS{}", "EUR{}", "{}DE", "ACC-{}", "{} kg"])
def test_letters_beside_a_number_are_part_of_a_key_and_of_a_products_code(plan, key):
    codes = {"product": lambda row: f"SKU{100 + row % 30}", "seat": lambda row: f"{10 + row % 28}{'AB'[row % 2]}"}
    made = plan(make_csv(id=lambda row: key.format(1000 + row), **codes))
    assert types(made) == {"product": "category", "seat": "category"}
    assert made.key.kind == "text"
    assert [(row["id"], row["product"]) for row in fetched(made)[:2]] == [
        (key.format(1000), "SKU100"),
        (key.format(1001), "SKU101"),
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["2026-11-24", "2025-12-31"], 0),
        (["2026/11/24", "2025/12/31"], 0),
        (["24-11-2026", "31-12-2025"], 0),
        (["11/24/2026", "12/31/2025"], 0),
        (["11-24-2026", "12-31-2025"], 0),
        (["24.11.26", "31.12.25"], 0),
        (["24-11-26", "31-12-25"], 0),
        (["11-24-26", "12-31-25"], 0),
        (["24/11/26", "31/12/25"], 0),
        (["11/24/26", "12/31/25"], 0),
        (["11/24/26 10:00", "12/31/25 9:30"], 0),
        (["20261124", "20251231"], 0),
        (["2026-11-24 10:00:00", "2025-12-31 09:30:01"], 0),
        (["24.11.2026 10:00", "31.12.2025 09:30"], 0),
        (["24-NOV-2026", "31-DEC-2025"], 0),
        (["24-Nov-26", "31-Dec-25"], 0),
        (["24 Nov 2026", "31 Dec 2025"], 0),
        (["Nov 24, 2026", "Dec 31, 2025"], 0),
        (["November 24, 2026", "December 31, 2025"], 0),
        (["24. November 2026", "31. December 2025"], 0),
        (["11/24/2026 02:15 PM", "12/31/2025 12:05 am"], 0),
        (["11/24/2026, 2:15:00 PM", "12/31/2025, 12:05:00 AM"], 0),
        (["11/24/2026, 2:15 PM", "12/31/2025, 12:05 AM"], 0),
        (["24.11.2026, 14:15:00", "31.12.2025, 00:05:00"], 0),
        (["Nov 24 2026  2:15PM", "Dec 31 2025 12:05AM"], 0),
        (["24-NOV-26 02.15.00.000000 PM", "31-DEC-25 12.05.00.123456 AM"], 0),
        (["24.11.2026 14:15:00.123", "31.12.2025 00:05:00.5"], 0),
        (["2026-11-24T02:15:00Z", "2025-12-31T23:15:00.123Z"], 0),
        (["2026-11-24T00:15:00+02:00", "2025-12-31 23:15:00-0500"], 0),
        (["2026-11-24 02:15 PM", "2025-12-31 12:05 AM"], 0),
    ],
)
def test_a_date_becomes_the_days_before_the_day_of_the_data(plan, values, expected):
    made = plan(make_csv("\t", signup_date=values), "--as-of", "2026-11-24")
    assert types(made) == {"days_since_signup": "integer"}
    assert [row["days_since_signup"] for row in fetched(made)[:2]] == [expected, 328]
    assert contract_of(made).rules.ranges["days_since_signup"].max == 500


def test_each_text_that_duckdb_reads_by_a_format_of_dates_has_its_shape():
    forms = [*(day + clock for day in DAYS for clock in CLOCKS), *readings.MONTHS]
    times = [datetime(1901, 2, 3, 4, 5, 6), datetime(2026, 11, 24, 23, 59, 58), datetime(2031, 5, 12)]
    texts = [time.strftime(form) for form in forms for time in times]
    texts += [text.replace("0", "", 1) for text in texts]
    for old, new in (" ", "  "), (" ", ""), (" ", "\t"), ("-", " - "), (".", ". "), (":", ": "), (",", ""):
        texts += [text.replace(old, new) for text in texts[: len(forms) * len(times)]]
    with duckdb.connect() as database:
        for form in forms:
            asked = (
                f"SELECT t FROM (SELECT unnest($1) AS t) WHERE year(try_strptime(t, '{form}')) BETWEEN 1800 AND 2199"
            )
            found = [text for (text,) in database.execute(asked, [sorted({*texts})]).fetchall()]
            assert found
            assert [text for text in found if not has_shape(text, form)] == []


@pytest.mark.parametrize(
    "values",
    [
        ["2026-11", "2025-12"],
        ["2026/11", "2025/12"],
        ["11/2026", "12/2025", "1/2026"],
        ["11.2026", "12.2025", "01.2026"],
        ["11.2026", "12.2025"],
        ["2026.11", "2025.12"],
        ["Nov 2026", "Dec 2025"],
        ["Nov-2026", "Dec-2025"],
        ["November 2026", "December 2025"],
    ],
)
def test_a_month_is_its_first_day(plan, values):
    made = plan(make_csv(cohort=values), "--as-of", "2026-11-24")
    assert [row["days_since_cohort"] for row in fetched(made)[:2]] == [23, 358]


def test_signs_of_a_list_or_of_grades_make_no_numbers_below_zero(plan):
    assert types(plan(make_csv(rank=["(1)", "(2)", "(3)"], band=["1-", "2-"], grade=["1", "2-", "2", "3-", "3"]))) == {
        "rank": "category",
        "band": "category",
        "grade": "category",
    }


def test_a_day_that_stands_for_no_end_stays_a_date(plan):
    made = plan(make_csv(end_date=["2025-12-31", "9999-12-31"]), "--as-of", "2026-11-24")
    assert types(made) == {"days_since_end": "integer"}


def test_each_feature_has_a_name_of_its_own(plan):
    day, other = ["2026-01-01", "2025-03-01", "2024-07-01"], ["2026-02-01", "2025-01-01"]
    given = {"signup_date": day, "days_since_signup": [4, 1, 8, 2], "signup_on": other}
    made = plan(make_csv(**given), "--as-of=2026-11-24")
    assert set(types(made)) == {"days_since_signup", "days_since_signup_2", "days_since_signup_3"}
    first = fetched(made)[0]
    assert [int(first[f"days_since_signup{number}"]) for number in ("", "_2", "_3")] == [4, 327, 296]
    assert made.names["signup_date"] == "days_since_signup_2"
    label = {"days_since_churn": lambda row: int(CHURNED[row]), "churn_date": day}
    made = plan(make_csv(**label), "--as-of=2026-11-24", "--label=days_since_churn", "--churned=1", "--leave-out=churn")
    assert set(types(made)) == {"days_since_churn_2"}


@pytest.mark.parametrize(
    ("columns", "option", "expected"),
    [
        ({"charge": ["1,234", "2,500"]}, "--decimal=point", 1234),
        ({"charge": ["1,234", "2,500"]}, "--decimal=comma", 1.234),
        ({"charge": ["1.234", "2.500"]}, "--decimal=point", 1.234),
        ({"charge": ["1.234", "2.500"]}, "--decimal=comma", 1234),
        ({"charge": ["1.234", "2.500"], "other": ["1,5", "2,25", "7,1"]}, None, 1234),
        ({"day": ["3/4/2026", "5/6/2026"]}, "--dates=day-first", 235),
        ({"day": ["3/4/2026", "5/6/2026"]}, "--dates=month-first", 265),
        ({"day": ["3/4/26", "5/6/26"]}, "--dates=day-first", 235),
        ({"day": ["3/4/26", "5/6/26"]}, "--dates=month-first", 265),
        ({"day": ["03-04-26", "05-06-26"]}, "--dates=day-first", 235),
        ({"day": ["03-04-26", "05-06-26"]}, "--dates=month-first", 265),
        ({"day": ["03-04-2026", "05-06-2026"]}, "--dates=month-first", 265),
        ({"day": ["3/4/2026", "5/6/2026"], "other": ["11/24/2026", "1/2/2026", "2/2/2026"]}, None, 265),
    ],
)
def test_what_can_be_read_in_two_ways_is_asked_unless_another_column_tells(plan, columns, option, expected):
    content, day = make_csv(";", **columns), "--as-of=2026-11-24"
    options = (day,) if "day" in columns else ()
    if option:
        with pytest.raises(StageError, match=rf"^(a decimal|all dates).*: write {option.partition('=')[0]}\.$"):
            plan(content, *options)
        options = (*options, option)
    first = fetched(plan(content, *options))[0]
    assert float(first.get("charge") or first["days_since_day"]) == expected


def test_an_option_decides_between_two_readings_where_another_column_tells_the_other_one(plan):
    content = make_csv(day=["3/4/2026", "5/6/2026"], other=["11/24/2026", "1/2/2026", "2/2/2026"])
    rows = fetched(plan(content, "--as-of=2026-11-24", "--dates=day-first"))
    assert (rows[0]["days_since_day"], rows[0]["days_since_other"]) == (235, 0)


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("region", ["north"], "constant: the same value in every row"),
        ("notes", [""], "empty in every row"),
        ("account", lambda row: row * 7 + 100, "one value a row: it names the row"),
        ("code", lambda row: f"x{row}y", "one value a row: it names the row"),
        (
            "product",
            lambda row: f"product {row % 300}",
            "300 values, more than the 255 of a category, and neither numbers nor dates",
        ),
        (
            "spend",
            lambda row: f"{row}.5" if row % 60 else "n/v",
            "like numbers, but not in 7 rows: convert those in the",
        ),
        (
            "seen",
            lambda row: f"{row % 28 + 1}.{row % 12 + 1}.{row % 9 + 2010}" if row % 60 else "none yet",
            "like dates, ",
        ),
        ("huge", lambda row: f"{row}e300", "numbers beyond 1e+150, whose squares no computer holds: divide them"),
        ("charge_usd", lambda row: round((row % 90) * 1.08, 2), "correlation 1 with charge: a copy of it"),
        ("price", lambda row: f"{'€$'[row % 2]}{row % 60}", "numbers with '$' and with '€': convert them in the query"),
        ("used", lambda row: f"{row % 60}{'%' * (row % 3 > 0)}", "numbers with '%' and with no unit: convert them in"),
        ("plan_code", lambda row: "AB"[row % 2], "a copy of plan, in other words"),
        ("contact", lambda row: f"user{row % 400}@example.com", "personal: the values are like e-mail addresses"),
        ("reach", lambda row: f"+49 170 {row % 400 + 1000000}", "personal: the values are like telephone numbers"),
        ("who", lambda row: f"Anna-{chr(65 + row % 26)}a Ö{'abcdefghijklmnop'[row % 16]}e", "values are like names"),
        ("lives", lambda row: f"Hauptstraße {row % 400}b", "personal: the values are like addresses"),
        ("Vorname", lambda row: f"name{row % 60}", "personal: the name has the word vorname"),
        ("dateOfBirth", lambda row: f"19{row % 40 + 50}-01-0{row % 9 + 1}", "personal: the name has the word birth"),
        ("joined", lambda row: f"19{row % 40 + 50}-01-0{row % 9 + 1}", "personal: the dates are like birth dates"),
        ("mobile", lambda row: 4917000000 + row % 380, "personal: the name has the word mobile"),
    ],
)
def test_a_column_that_is_no_feature_is_left_out_with_the_reason(plan, capsys, name, values, reason):
    content = make_csv(charge=lambda row: row % 90, plan=["basic", "premium"], **{name: values})
    made = plan(content)
    (left,) = made.left_out
    assert reason in made.left_out[left]
    assert f"init: leave out {left}: " in capsys.readouterr().out
    assert f"-- Left out: {left}: {made.left_out[left]}." in source_sql(made)
    assert set(types(made)) == {"charge", "plan"}


def test_a_column_is_kept_or_left_out_as_the_options_say(plan):
    content = make_csv(
        charge=lambda row: row % 90, charge_usd=lambda row: row % 90 * 2, why_left=["price", "other", "move"]
    )
    made = plan(content, "--keep", "charge_usd", "--leave-out", "why_left")
    assert (set(types(made)), made.left_out) == ({"charge", "charge_usd"}, {"why_left": "as init was told"})


@pytest.mark.parametrize("option", ["--leave-out", "--keep"])
def test_a_column_with_a_role_is_neither_left_out_nor_kept_as_a_feature(plan, monkeypatch, capsys, option):
    content = make_csv(charge=lambda row: row % 90, plan=["basic", "plus"], same=["x"])
    said = "id churn: the key, the group, the time and the label are no features."
    with pytest.raises(StageError) as refused:
        plan(content, option, "churn", "plan", "id")
    assert str(refused.value) == f"{option} {said}"
    answers = iter([*["id, churn", "chrge", ""] * 2])
    monkeypatch.setattr("builtins.input", lambda _: next(answers))
    monkeypatch.setattr("churn.adopting.answers.is_interactive", lambda: True)
    assert plan(content).left_out == {"same": "constant: the same value in every row"}
    printed = capsys.readouterr().out
    assert printed.count(f"init: {said}\n") == 2
    assert printed.count("init: SOURCE has no column chrge (is it charge?).\n") == 2


IMPOSSIBLE = (
    "SELECT n AS id, (n % 3 = 0)::INT AS churn, n % 7 AS charge, 'x' || n % 300 AS product, NULL::INTEGER AS nothing,"
    " NULL::DATE AS day, NULL::BOOLEAN AS flag, 'NA' AS unknown, [n] AS many, n * 1e300 AS huge, 1 AS same"
    " FROM range(420) t(n)"
)
REASONS = {
    "product": "300 values, more than the 255 of a category, and neither numbers nor dates that init reads",
    "nothing": "empty in every row",
    "day": "empty in every row",
    "flag": "empty in every row",
    "unknown": "empty in every row",
    "many": "has the type BIGINT[], which no feature has",
    "huge": "has numbers beyond 1e+150, whose squares no computer holds",
}


SAID = {
    name: f"{name}: no feature can be made of it ({reason}); convert it by --query." for name, reason in REASONS.items()
}


@pytest.mark.parametrize("name", REASONS)
def test_no_column_is_kept_that_no_contract_can_have(plan, folder, name):
    duckdb.sql(f"COPY ({IMPOSSIBLE}) TO '{folder}/customers.parquet'")
    with pytest.raises(StageError) as refused:
        plan(None, "--keep", name, "same", name="customers.parquet", roles=ROLES)
    assert str(refused.value) == f"--keep {SAID[name]}"


def test_a_terminal_asks_again_where_no_contract_can_have_a_column_that_is_to_be_kept(
    plan, folder, monkeypatch, capsys
):
    duckdb.sql(f"COPY ({IMPOSSIBLE}) TO '{folder}/customers.parquet'")
    answers = iter([*(f"same, {name}" for name in REASONS), "same", *[""] * 10])
    monkeypatch.setattr("builtins.input", lambda _: next(answers))
    monkeypatch.setattr("churn.adopting.answers.is_interactive", lambda: True)
    made = plan(None, name="customers.parquet", roles=ROLES)
    printed = capsys.readouterr().out
    assert [said for said in SAID.values() if f"init: {said}\n" not in printed] == []
    assert set(types(made)) == {"charge", "same"}


@pytest.mark.parametrize("kind", ["BIGINT", "VARCHAR"])
@pytest.mark.parametrize("first", [123_456_789_012_345_678, 1_234_567_890_123_456_789])
def test_integers_of_19_digits_are_told_apart(plan, folder, kind, first):
    ids = f"({first} + n * 7)::{kind} AS id, ({first} + n * n)::{kind} AS account"
    sql = f"SELECT {ids}, if(n % 3 = 0, 'yes', 'no') AS churn, n % 7 AS charge FROM range(420) t(n)"
    duckdb.sql(f"COPY ({sql}) TO '{folder}/customers.parquet'")
    with pytest.raises(StageError, match=r"^a column must name the customer, and id has another value in each row"):
        plan(None, name="customers.parquet", roles=())
    made = plan(None, name="customers.parquet")
    assert made.left_out == {"account": "one value a row: it names the row"}
    assert [int(row["id"]) for row in fetched(made)[:2]] == [first, first + 7]


@pytest.mark.parametrize("kind", ["UBIGINT", "DECIMAL(38,0)"])
def test_an_integer_beyond_64_bits_is_text_as_a_key_and_a_number_as_a_feature(plan, folder, kind):
    long = "9223372036854775808::HUGEINT"
    columns = f"({long} + n)::{kind} AS id, ({long} + n % 40)::{kind} AS account, ({long} + n * n)::{kind} AS row_hash"
    sql = f"SELECT {columns}, if(n % 3 = 0, 'yes', 'no') AS churn FROM range(420) t(n)"
    duckdb.sql(f"COPY ({sql}) TO '{folder}/customers.parquet'")
    made = plan(None, name="customers.parquet")
    assert made.left_out == {"row_hash": "one value a row: it names the row"}
    contract = contract_of(made)
    assert (contract.columns["id"].type, types(made)) == ("string", {"account": "number"})
    init.QUERY.write_text(source_sql(made), encoding="utf-8")
    init.PARAMS.write_text(params_text(made, None), encoding="utf-8")
    assert snapshot(load_params().fetch, contract, folder / "snapshot.parquet") == 420
    first = duckdb.sql(f"SELECT min(id) FROM '{folder}/snapshot.parquet'").fetchall()
    assert first == [("9223372036854775808",)]


@pytest.mark.parametrize(("key", "is_noted"), [(lambda row: row + 1, True), (lambda row: row * 7 + 1, False)])
def test_a_key_that_counts_the_rows_is_noted(plan, capsys, key, is_noted):
    plan(make_csv(id=key, charge=[1, 2, 3]))
    assert ("init: id counts the rows: a later extract that counts anew moves" in capsys.readouterr().out) == is_noted


def test_a_word_in_the_name_of_a_service_or_a_count_is_not_personal(plan):
    content = make_csv(
        phone_service=["Yes", "No"],
        plan_name=["basic", "plus", "max"],
        mail_count=lambda row: row % 70,
        email_domain=["a.com", "b.org", "c.net", "d.io", "e.de"],
        ip_calls=lambda row: row * 7 % 61 / 2,
    )
    assert set(types(plan(content))) == {"phone_service", "plan_name", "mail_count", "email_domain", "ip_calls"}


@pytest.mark.parametrize(
    ("name", "values", "how"),
    [
        ("status", lambda row: "gone" if CHURNED[row] else "active", "has no value that a churner and a stayer share"),
        (
            "end_date",
            lambda row: f"2026-0{row % 9 + 1}-01" if CHURNED[row] else "",
            "is missing for all churners or for",
        ),
        ("refund", lambda row: row % 50 + 1 if CHURNED[row] else -row, "separates churners from stayers without"),
        ("Churn_2", lambda row: int(CHURNED[row]), "has no value that a churner and a stayer share"),
    ],
)
def test_a_feature_that_equals_the_label_is_refused_by_name(plan, name, values, how):
    content = make_csv(charge=lambda row: row % 90, **{name: values})
    with pytest.raises(StageError, match=rf"^{snake_case(name)} {how}.*write --leave-out {snake_case(name)}\.$"):
        plan(content)
    assert set(types(plan(content, "--leave-out", name))) == {"charge"}


def test_all_features_that_equal_the_label_are_named_at_once_and_left_out_beside_others(plan):
    gone = {name: lambda row: "gone" if CHURNED[row] else "active" for name in ("status", "state")}
    gone["refund"] = lambda row: row % 50 + 1 if CHURNED[row] else -row
    content = make_csv(charge=lambda row: row % 90, other=[1, 2, 3], **gone)
    options = ("--keep", "state", "--leave-out", "other")
    several = r"^status has .*; state has .*; refund separates .*write --leave-out [a-z ]+\.$"
    with pytest.raises(StageError, match=several) as refused:
        plan(content, *options)
    pasted = str(refused.value).partition("write ")[2].rstrip(".").split()
    assert {*pasted} == {"--leave-out", "status", "state", "refund"}
    assert set(types(plan(content, *options, *pasted))) == {"charge"}


def few(rows, churners):
    return "id,churn,charge\n" + "".join(f"{row},{int(row < churners)},{row % 7}\n" for row in range(rows))


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (few(50, 12), "", r"^50 customers, of whom 12 churned, are too few: at least 100 churners and 100 stayers"),
        (few(5_000, 40), "", r"^5,000 customers, of whom 40 churned, are too few"),
        (few(400, 350), "", r"^400 customers, of whom 350 churned, are too few"),
        (few(1, 1), "", r"^churn is no label: it has 1 value"),
        ("id,churn,charge\n", "", r"^customers\.csv gives no rows: name another source\.$"),
        ("", "", r"customers\.csv is empty: it has no header line\.$"),
        (make_csv(charge=[1, 2, 3]).replace("c-0001", "c-0000"), "", r"^id is no key: 420 rows have 419 v.* --group"),
        (make_csv(charge=[1, 2, 3]).replace("c-0001", " c-0000"), "", r"^id is no key: 420 rows have 419 v.* --group"),
        (make_csv(charge=[1]).replace("c-0001", "+1000").replace("c-0", "1"), "", r"^id is no key: 420 rows have 419"),
        (make_csv(charge=[1, 2, 3]).replace("c-0001", " "), "", r"^id is missing in 1 row: it names"),
        (make_csv(charge=[1, 2, 3]).replace(",no,", ",maybe,", 1), "", r"^churn is no label: it has 3 values"),
        (make_csv(charge=[1, 2, 3]).replace(",no,", ",,", 1), "", r"^churn is missing in 1 row: leave customers"),
        (make_csv(charge=[1, 2, 3]).replace(",no,", ",,"), "", r"^churn has one value, and is missing in 267 rows: if"),
        (make_csv(notes=["x"]), "", r"^no column is left that could be a feature"),
        (make_csv(charge=[1, 2, 3]), "--leave-out chrge", r"^SOURCE has no column chrge \(is it charge\?\)\.$"),
        (make_csv(charge=[1, 2, 3]), "--missing charge", r'^--missing charge: write COLUMN="MEANING"'),
        (make_csv(charge=[1, 2, 3]), "--churned maybe", r"^--churned maybe: churn has no and yes\.$"),
        (make_csv(charge=[1, 2, 3]), "--label id", r"^id is the key: --label names"),
        (make_csv(charge=[1, 2, 3], a=[""]), "--keep a", r"^--keep a: no feature can be made of it"),
        (make_csv(day=["2026-01-01", "2026-02-01", ""]), "--as-of soon", r"^--as-of soon: write a day, as in"),
    ],
)  # fmt: skip
def test_a_table_that_is_no_base_for_a_model_is_refused_in_one_sentence(plan, content, options, said):
    churned = "1" if content.startswith("id,churn,charge\n") and "yes" not in content else "yes"
    with pytest.raises(StageError, match=said) as refused:
        plan(content, "--churned", churned, *options.split())
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        ("", r"^a column must name the customer, and id has another value in each row: write --key\.$"),
        ("--key id", r"^a column must say who churned: write --label\.$"),
        ("--key id --label churn", r"^churn has no and yes, and one of them is a churner: write --churned\.$"),
        (
            "--key ID --label CHURN --churned YES",
            r"^dates become days before the day of the data \(day\): write --as-of\.$",
        ),
    ],
)
def test_without_a_terminal_each_refusal_names_the_missing_option(plan, roles, said):
    with pytest.raises(StageError, match=said):
        plan(make_csv(day=["2026-01-01", "2026-02-01", "2026-03-01"]), roles=roles.split())


def test_digits_beyond_64_bits_are_offered_as_the_key(plan):
    with pytest.raises(StageError, match=r"^a column must name the customer, and id has another value in each row: "):
        plan(make_csv(id=lambda row: f"{row + 10}{'7' * 20}", charge=[1, 2]), roles=())


@pytest.mark.parametrize(
    ("values", "churned", "expected"),
    [
        (["1", "0"], "1", {"0", "1"}),
        (["0", "1"], "0", {0, 1}),
        (["1.0", "0.0"], "1", {0, 1}),
        (["True", "False"], "true", {0, 1}),
        (["2", "1"], "2", {0, 1}),
        ([" Ja ", "nein"], "ja", {0, 1}),
        (["it's over", "stays"], "it's over", {0, 1}),
        (["t", "f"], "t", {0, 1}),
        (["-1", "1"], "-1", {0, 1}),
        (["Requested", "None"], "Requested", {0, 1}),
        (["1", "-"], "1", {0, 1}),
        (["n/a", "0"], "n/a", {0, 1}),
        ([" 1", "inf"], "1", {0, 1}),
        (["100%", "0%"], "100%", {0, 1}),
        (["€0", "0 €"], "€0", {0, 1}),
        (["1'000", "0"], "1'000", {0, 1}),
        (["2026-11-24", "0000-00-00"], "2026-11-24", {0, 1}),
    ],
)
def test_a_label_of_any_two_values_becomes_0_and_1(plan, values, churned, expected):
    made = plan(make_csv(churn=lambda row: values[not CHURNED[row]], charge=[1, 2, 3]), "--churned", churned)
    rows = fetched(made)
    assert {row["churn"] for row in rows} == expected
    assert [int(row["churn"]) for row in rows] == list(map(int, CHURNED))


@pytest.mark.parametrize(
    ("churned", "stayed", "told"),
    [
        ("DATE '2026-11-24'", "DATE '2000-01-01'", "2026-11-24"),
        ("1.0", "'inf'::DOUBLE", "1"),
        ("'nan'::DOUBLE", "0", "nan"),
        ("TIMESTAMP '2026-11-24 10:00:00'", "TIMESTAMP '2000-01-01'", "2026-11-24 10:00:00"),
        ("2::DECIMAL(4, 2)", "1", "2"),
        ("1e300", "0", "1e300"),
        ("'yes'::ENUM ('yes', 'None')", "'None'", "yes"),
    ],
)
def test_a_label_of_any_type_becomes_0_and_1(plan, folder, churned, stayed, told):
    sql = f"SELECT n AS id, if(n % 3 = 0, {churned}, {stayed}) AS churn, n % 7 AS charge FROM range(420) t(n)"
    duckdb.sql(f"COPY ({sql}) TO '{folder}/customers.parquet'")
    made = plan(None, name="customers.parquet", roles=("--key=id", "--label=churn", f"--churned={told}"))
    assert [row["churn"] for row in fetched(made)] == [int(row % 3 == 0) for row in range(420)]


def test_the_case_of_a_label_does_not_count(plan):
    made = plan(make_csv(churn=lambda row: ["Yes", "yes", "YES"][row % 3] if CHURNED[row] else "No", charge=[1, 2, 3]))
    assert [int(row["churn"]) for row in fetched(made)] == list(map(int, CHURNED))


@pytest.mark.parametrize("spelled", ["inf", "-Infinity", "0000-00-00", "00000000"])
def test_what_a_division_by_zero_or_a_day_that_nobody_set_left_is_a_missing_value(plan, spelled):
    values = ["2025-01-01", "2025-02-01"] if spelled.startswith("0") else ["1.5", "2"]
    made = plan(make_csv(x=[*values, spelled]), "--as-of", "2026-11-24")
    (name,) = contract_of(made).open_questions
    assert [row[name] is None for row in fetched(made)[:3]] == [False, False, True]


def test_infinity_among_the_numbers_of_parquet_is_a_missing_value(plan, folder):
    sql = "SELECT n AS id, n % 3 = 0 AS churn, if(n % 5 = 0, 'inf'::DOUBLE, n / 7) AS ratio FROM range(420) t(n)"
    duckdb.sql(f"COPY ({sql}) TO '{folder}/customers.parquet'")
    made = plan(None, name="customers.parquet", roles=("--key", "id", "--label", "churn", "--churned", "true"))
    assert contract_of(made).open_questions == ["ratio"]
    assert [row["ratio"] is None for row in fetched(made)[:2]] == [True, False]
    # BigQuery compares no text with a number.
    assert "nullif(ratio, CAST('inf' AS FLOAT64)) AS ratio" in source_sql(replace(made, dialect=BIGQUERY))


def test_values_that_yaml_would_read_as_something_else_are_quoted(plan):
    countries, codes = (
        ["NO", "on", "1e3", "a: b", "#x", "'q'", "ä", "- x", "n"],
        ["[a", "{b", "true", "*c", "&d", "!e", "~", "07"],
    )
    contract = contract_of(plan(make_csv("\t", country=countries, code=codes)))
    assert contract.columns["country"].values == tuple(sorted(countries))
    assert contract.columns["code"].values == tuple(sorted(codes))
    for text in (*countries, *codes, "One year", "Bank transfer (automatic)", "1", "x ", " ", "a#b", "a #b", "yes"):
        assert YAML(typ="safe").load(f"x: [{scalar(text)}, 1]")["x"][0] == text
    assert scalar("Bank transfer (automatic)") == "Bank transfer (automatic)"


def test_a_label_may_have_line_breaks_in_its_name_and_its_values(plan):
    cells = {'"left\nin May"': lambda row: '"gone\n# away"' if CHURNED[row] else "here"}
    roles = ("--key", "id", "--label", "left\nin May", "--churned", "gone\n# away", "--leave-out", "churn")
    made = plan(make_csv(charge=[1, 2, 3], **cells), roles=roles)
    assert contract_of(made).label == "left_in_may"
    assert "# 1 where left in May is gone # away\n" in contract_text(made)
    assert [row["left_in_may"] for row in fetched(made)] == [int(one) for one in CHURNED]


def test_a_long_category_of_signs_is_quoted_at_once():
    program = "from churn.adopting.blocks import scalar; print(scalar(f'Other {\"-\" * 5_000},'))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, check=True, capture_output=True)
    assert done.stdout.decode().strip() == f'"Other {"-" * 5_000},"'
    texts = ("a-b", "a -b", "a (b)", "a+", "a - -", "a-%", "a ", "a.", "a%", "-a", "a,b", "a / .b")
    assert [text for text in texts if scalar(text) == text] == ["a-b", "a -b", "a (b)", "a - -", "a-%", "a / .b"]


def test_a_missing_value_has_the_meaning_that_is_said_or_stays_a_question(plan):
    made = plan(make_csv(a=["1", "2", ""], b=["x", "y", "NA", "x", "y"]), "--missing", "a=Never billed.")
    contract = contract_of(made)
    assert (contract.columns["a"].because, contract.open_questions) == ("Never billed.", ["b"])
    assert contract.columns["b"].values == ("x", "y")
    assert [row["b"] for row in fetched(made)[:3]] == ["x", "y", None]


def months(row):
    return f"2026-{row % 6 + 1:02}-28"


MONTHS = {"id": lambda row: f"c-{row // 6:04}", "month": months, "since": lambda row: f"2025-{row % 9 + 1:02}-01"}
MONTHS |= {"churn": lambda row: "yes" if row % 6 == 5 and row % 7 < 6 else "no", "charge": lambda row: row % 90}
OVER_TIME = ("--group=id", "--time=month", "--label=churn", "--churned=yes", "--label-window=30", "--as-of=2026-07-31")


@pytest.mark.parametrize("customer", ["CUS{}", "{}DE"])
def test_letters_beside_a_number_are_part_of_a_group(plan, monkeypatch, customer):
    monkeypatch.setitem(make_csv.__globals__, "ROWS", 900)
    made = plan(make_csv(**MONTHS | {"id": lambda row: customer.format(1 + row // 6)}), roles=OVER_TIME)
    assert made.group.kind == "text"
    assert fetched(made)[0]["id"] == customer.format(1)


def test_rows_of_one_customer_over_time_get_a_group_a_time_and_a_key_of_both(plan, monkeypatch, folder):
    monkeypatch.setitem(make_csv.__globals__, "ROWS", 900)
    with pytest.raises(StageError, match=r"^id is no key: 900 rows have 150 values\. If a customer has several rows"):
        plan(make_csv(**MONTHS))
    with pytest.raises(StageError, match=r"write --label-window\.$"):
        plan(make_csv(**MONTHS), roles=[one for one in OVER_TIME if "window" not in one])
    made = plan(make_csv(**MONTHS), roles=OVER_TIME)
    contract = contract_of(made)
    assert (contract.key, contract.group, contract.time) == ("row_id", "id", "month")
    assert types(made) == {"days_since_since": "integer", "charge": "integer"}
    rows = fetched(made)
    assert (rows[1]["row_id"], str(rows[1]["month"])) == ("c-0000/2026-02-28", "2026-02-28")
    assert rows[1]["days_since_since"] == (date(2026, 2, 28) - date(2025, 2, 1)).days
    init.PARAMS.write_text(params_text(made, "main"))
    time = load_params(init.PARAMS).prepare.time
    assert (time.holdout_days, time.label_window_days) == (37, 30)
    assert source_sql(made).endswith('WHERE CAST("month" AS DATE) <= $as_of\n')
    key = "CAST(id AS STRING) || '/' || CAST(CAST(`month` AS DATE) AS STRING) AS row_id"
    assert key in source_sql(replace(made, dialect=BIGQUERY))


def test_a_dates_range_over_time_is_that_of_the_days_before_each_row(plan, monkeypatch):
    monkeypatch.setitem(make_csv.__globals__, "ROWS", 900)
    given = MONTHS | {"since": lambda row: f"2026-{row % 6 + 1:02}-{row % 9 + 1}", "day": MONTHS["month"]}
    made = plan(make_csv(**given), roles=OVER_TIME)
    assert made.left_out == {"day": "constant: as many days before that of the row in every row"}
    assert "days_since_since: {min: 0, max: 50} # 19 to 27 were seen" in contract_text(made)
    days = [row["days_since_since"] for row in fetched(made)]
    assert (min(days), max(days)) == (19, 27)


def test_a_number_of_a_year_and_a_month_is_a_day_as_the_time_alone(plan, monkeypatch):
    monkeypatch.setitem(make_csv.__globals__, "ROWS", 900)
    made = plan(
        make_csv(**MONTHS | {"month": lambda row: months(row)[:7].replace("-", ""), "since": ["202501", "202603"]}),
        roles=OVER_TIME,
    )
    assert types(made)["since"] == "integer"
    assert fetched(made)[1]["month"] == date(2026, 2, 1)


def test_how_the_dates_of_the_time_are_read_is_asked_and_obeyed(plan, monkeypatch):
    monkeypatch.setitem(make_csv.__globals__, "ROWS", 900)
    content = make_csv(**MONTHS | {"month": lambda row: f"{row % 6 + 1}/1/2026"})
    with pytest.raises(StageError, match=r"^all dates of month fit with the day first and .*: write --dates\.$"):
        plan(content, roles=OVER_TIME)
    made = plan(content, "--dates=month-first", roles=OVER_TIME)
    assert (made.time.day, made.time.least, made.time.most) == ("%m/%d/%Y", date(2026, 1, 1), date(2026, 6, 1))
    assert [str(row["month"]) for row in fetched(made)[:2]] == ["2026-01-01", "2026-02-01"]
    told = content.replace("since", "since,start", 1).replace(",2025-", ",12/31/2024,2025-")
    assert plan(told, roles=OVER_TIME).time.day == "%m/%d/%Y"


@pytest.mark.parametrize(
    ("name", "spelled", "shown"),
    [
        ("month", "%d.%m.%Y", "as %d.%m.%Y"),
        ("month", "%Y/%m/%d", "in another form than 2026-11-24"),
        ("since", "%d.%m.%Y", "as %d.%m.%Y"),
        ("since", "%Y/%m/%d", "in another form than 2026-11-24"),
    ],
)
def test_dates_that_sqlite_does_not_read_are_refused_in_a_feature_and_in_the_time(plan, folder, name, spelled, shown):
    given = MONTHS | {name: lambda row: date.fromisoformat(MONTHS[name](row)).strftime(spelled)}
    with closing(sqlite3.connect("customers.db")) as database:
        database.execute(f"CREATE TABLE customers ({', '.join(given)})")
        rows = [[str(value(row)) for value in given.values()] for row in range(900)]
        database.executemany("INSERT INTO customers VALUES (?, ?, ?, ?, ?)", rows)
        database.commit()
    with pytest.raises(StageError, match=rf"^{name} has dates {shown}, which SQLite does not read"):
        plan(None, name="customers.db#customers", roles=OVER_TIME)


@pytest.mark.parametrize("spelled", ["%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H:%M", "Parquet"])
def test_two_rows_of_a_customer_on_one_day_are_refused(plan, folder, spelled):
    content = make_csv(**MONTHS | {"month": lambda row: f"2026-0{row % 6 // 2 + 1}-28 {row % 2 + 10}:00:00"})
    days = "" if spelled == "Parquet" else f"strftime(month, '{spelled}')"
    (folder / "given.csv").write_text(content)
    given = f"SELECT * REPLACE ({days or 'month'} AS month, if(churn, 'yes', 'no') AS churn) FROM 'given.csv'"
    duckdb.sql(f"COPY ({given}) TO 'customers.parquet'")
    said = r"^id with month is no key: 420 rows have 210 values\. A customer has several rows of one day: name the row"
    with pytest.raises(StageError, match=said):
        plan(None, name="customers.parquet", roles=OVER_TIME)


def test_the_key_of_a_customer_and_a_day_has_no_name_of_a_column(plan, monkeypatch):
    monkeypatch.setitem(make_csv.__globals__, "ROWS", 900)
    made = plan(make_csv(**MONTHS, row_id=[3, 5, 6, 8]), roles=OVER_TIME)
    contract = contract_of(made)
    assert (contract.key, "row_id" in contract.features) == ("row_id_2", True)
    assert fetched(made)[1]["row_id_2"] == "c-0000/2026-02-28"


def test_the_key_of_a_customers_number_and_a_day_is_text(plan, monkeypatch, folder):
    monkeypatch.setitem(make_csv.__globals__, "ROWS", 900)
    numbered = MONTHS | {"id": lambda row: 1_000 + row // 6}
    made = plan(make_csv(**numbered), roles=OVER_TIME)
    assert (contract_of(made).columns["row_id"].type, contract_of(made).columns["id"].type) == ("string", "integer")
    assert fetched(made)[1]["row_id"] == "1000/2026-02-28"


def test_where_no_column_names_a_customer_the_roles_of_several_rows_are_offered(plan, monkeypatch):
    monkeypatch.setitem(make_csv.__globals__, "ROWS", 900)
    with pytest.raises(StageError, match=r"write --group and --time if a customer has several rows, else --key\.$"):
        plan(make_csv(**MONTHS), roles=())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            "--group=id --time=charge",
            r"^charge has no days that init reads, such as 2026-11-24, 11/24/2026 or 2026-11: ",
        ),
        (
            "--group=id --time=gaps",
            r"^gaps is missing in 150 rows: --time names the day of each row, so leave them out",
        ),
        ("--group=id --time=since", r"^id with since is no key: 900 rows have \d+ values"),
        ("--group=id --time=month --label-window=soon", r"^--label-window and --holdout-days: write a number"),
        ("--group=id --time=month --label-window=300", r"^no row is left to train on: month begins on 2026-01-28, and"),
        ("--group=id --time=month --label-window=9999999", r"^--label-window and --holdout-days: these are more days"),
        (
            "--group=id --time=month --label-window=3 --as-of=2027-07-31",
            r"^no row is left to test the model: month ends",
        ),
    ],
)
def test_a_wrong_group_or_time_is_refused_in_one_sentence(plan, monkeypatch, options, said):
    monkeypatch.setitem(make_csv.__globals__, "ROWS", 900)
    roles = ["--label=churn", "--churned=yes", "--as-of=2026-07-31", *options.split()]
    days = {"since": lambda row: "2025-01-01", "gaps": lambda row: months(row) if row % 6 else ""}
    with pytest.raises(StageError, match=said):
        plan(make_csv(**MONTHS | days), roles=roles)


@pytest.fixture
def template(folder):
    """The files of a clone of the template that init touches, with results of the sample."""
    for name in REPLACED:
        for target in (folder / name, folder / "tests" / "sample" / name.rpartition("/")[2]):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(copy_of(name).read_bytes())
    (folder / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    for name in ("dvc.lock", "metrics/gate.json", "plots/roc.csv", "models/churn.skops", "data/raw/customers.parquet"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_the_sample_and_its_results_are_replaced_and_all_files_are_as_their_readers_want_them(plan, template):
    assert init.refuse_to_overwrite(force=False)
    made = plan(make_csv(charge=[1, 2, 3]))
    init.write(made, is_first=True)
    assert load_contract(init.CONTRACT).features == ["charge"]
    assert load_params(init.PARAMS).fetch.source == "customers.csv"
    assert "FEATURES: Sequence[Callable[[pd.DataFrame], pd.DataFrame]] = ()" in init.FUNCTIONS.read_text()
    assert [
        path
        for path in ("dvc.lock", "metrics", "plots", "models", "data/raw", "profile.json")
        if (template / path).exists()
    ] == []
    assert (template / "dvc.yaml").read_bytes() == (ROOT / "dvc.yaml").read_bytes()
    assert (template / "tests/sample/contract.yaml").exists()


@pytest.mark.parametrize("name", ["contract", "params"])
def test_nothing_is_deleted_or_replaced_when_a_new_file_is_not_valid(plan, template, monkeypatch, name):
    def files():
        return {path: path.read_bytes() for path in template.rglob("*") if path.is_file()}

    made = plan(make_csv(charge=[1, 2, 3]))
    monkeypatch.setattr(init, f"{name}_text", lambda *_: "columns: {}\ncolumns: {}\n")
    before = files()
    with pytest.raises(StageError, match=rf"^nothing was written: {name}\.yaml is no valid YAML: line 2"):
        init.write(made, is_first=True)
    assert files() == before


def test_of_results_on_another_disk_the_link_is_removed_and_what_it_leads_to_stays(plan, template, tmp_path_factory):
    disk = tmp_path_factory.mktemp("disk")
    (disk / "customers.parquet").touch()
    shutil.rmtree(template / "data/raw")
    (template / "data/raw").symlink_to(disk)
    init.write(plan(make_csv(charge=[1, 2, 3])), is_first=True)
    assert not (template / "data/raw").is_symlink()
    assert (disk / "customers.parquet").exists()


def test_what_a_team_has_written_is_overwritten_by_force_alone(template):
    (template / "contract.yaml").write_text("columns: {}\n")
    with pytest.raises(
        StageError, match=r"^contract\.yaml would be overwritten: commit what you need, then add --force\.$"
    ):
        init.refuse_to_overwrite(force=False)
    assert not init.refuse_to_overwrite(force=True)


def test_dvc_hashes_a_file_and_no_url(plan, template):
    made, before = plan(make_csv(charge=[1, 2, 3])), (template / "dvc.yaml").read_text()
    init.write(replace(made, place="s3://bucket/customers/"), is_first=False)
    assert "${fetch.source}" not in (template / "dvc.yaml").read_text()
    assert load_params(init.PARAMS).fetch.source == "s3://bucket/customers/"
    init.write(made, is_first=False)
    assert (template / "dvc.yaml").read_text() == before


ROLES = ("--key", "id", "--label", "churn", "--churned", "1")
TABLE = (
    "SELECT 'c-' || n AS \"Id\", (n % 3 = 0)::INT AS churn, n % 7 AS \"Order\", DATE '2026-01-01' + (n % 5)::INT"
    " AS signup, if(n % 4 = 0, NULL, n % 9 / 2) AS charge, n % 2 = 0 AS paperless, n / 3.0 AS x, [n] AS many,"
    " encode('n') AS photo FROM range(420) t(n)"
)


def test_a_parquet_file_is_read_by_its_types(plan, folder):
    duckdb.sql(f"COPY ({TABLE}) TO '{folder}/customers.parquet' (FORMAT parquet)")
    made = plan(None, "--as-of", "2026-11-24", name="customers.parquet", roles=ROLES)
    expected = {
        "order": "integer",
        "days_since_signup": "integer",
        "charge": "number",
        "paperless": "boolean",
        "x": "number",
    }
    assert types(made) == expected
    assert "has the type BIGINT[], which no feature has" in made.left_out["many"]
    assert "has the type BLOB, which no feature has" in made.left_out["photo"]
    assert fetched(made)[1]["days_since_signup"] == 326


def test_a_column_without_a_type_in_parquet_is_empty(plan):
    table = pa.table(
        {"id": [f"c{n}" for n in range(ROWS)], "churn": CHURNED, "charge": range(ROWS), "x": pa.nulls(ROWS)}
    )
    pq.write_table(table, "customers.parquet")
    made = plan(None, "--keep=charge", name="customers.parquet", roles=(*ROLES[:-1], "true"))
    assert made.left_out == {"x": "empty in every row"}


@pytest.mark.parametrize("kind", ["duckdb", "sqlite"])
def test_a_table_of_a_database_is_read_in_its_dialect(plan, folder, kind):
    frame = duckdb.sql(
        TABLE.replace(", [n] AS many, encode('n') AS photo", "").replace("n % 2 = 0 AS", "(n % 2 = 0)::INT AS")
    )
    if kind == "duckdb":
        with closing(duckdb.connect("customers.db")) as database:
            database.execute(f"CREATE TABLE customers AS {TABLE}")
    else:
        rows, columns = frame.fetchall(), ", ".join(f'"{name}"' for name in frame.columns)
        with closing(sqlite3.connect("customers.db")) as database:
            database.execute(f"CREATE TABLE customers ({columns})")
            cells = [[str(one) if isinstance(one, date) else one for one in row] for row in rows]
            database.executemany(f"INSERT INTO customers VALUES ({', '.join('?' * len(frame.columns))})", cells)
            database.commit()
    with pytest.raises(StageError, match=r"customers\.db is a database: write customers\.db#TABLE, or --query FILE"):
        plan(None, name="customers.db", roles=ROLES)
    made = plan(None, "--as-of", "2026-11-24", name="customers.db#customers", roles=ROLES)
    assert made.place == "customers.db"
    assert types(made)["order"] == "integer"
    rows = {row["id"]: row for row in fetched(made)}
    assert int(rows["c-1"]["days_since_signup"]) == 326
    assert int(rows["c-3"]["churn"]) == 1


def test_a_query_of_the_teams_own_is_what_init_begins_from(plan, folder):
    (folder / "mine.sql").write_text(
        "SELECT *, charge::INT * 2 AS twice FROM source WHERE charge <> '3' -- of 2026;\n;\n"
    )
    made = plan(make_csv(charge=[1, 2, 3, 4]), "--query", "mine.sql", "--keep", "twice")
    assert (made.label.rows, set(types(made))) == (315, {"charge", "twice"})
    assert [row["twice"] for row in fetched(made)[:3]] == [2, 4, 8]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("gone.csv", r"^gone\.csv does not exist: name a CSV"),
        ("data/a #1.csv", r"^data/a #1\.csv does not exist: name a CSV"),
        (
            "data/raw/ours.csv",
            r"^data/raw/ours\.csv is where the stages write, and init empties it: move the table elsewhere",
        ),
        ("data", r"^data is where the stages write, and init empties it"),
        ("mlflow.db#runs", r"^mlflow\.db is where the stages write"),
        ("/etc/hosts", r"^/etc/hosts is outside of this repository, .*copy it to data/ first"),
        ("postgresql://me:secret@host/db#t", r"^SOURCE holds a password, which Git would keep"),
        (
            "postgresql://me@host/db",
            r"^postgresql://me@host/db is a database: write postgresql://me@host/db#TABLE",
        ),
    ],
)
def test_a_source_that_cannot_be_the_pipelines_is_refused(folder, source, said):
    (folder / "data" / "raw").mkdir(parents=True)
    for name in ("data/raw/ours.csv", "mlflow.db"):
        (folder / name).touch()
    with pytest.raises(StageError, match=said):
        init.origin(init.arguments().parse_args([source]))


def test_the_sql_for_postgresql_is_in_its_dialect(plan):
    made = plan(
        make_csv(
            "\t",
            **{
                "Charge EUR": ["1,5", "2"],
                "since": ["24.11.2025", "1.2.2026"],
                "paid": ["11/24/2025 2:15 PM", "1/2/2026 9:00 AM", "1/3/2026 9:00 AM"],
                "due": ["(1.50)", "2", "3", "4", "5"],
            },
        ),
        "--as-of=2026-11-24",
    )
    sql = source_sql(replace(made, dialect=POSTGRESQL, relation="public.customers"))
    assert "replace(replace(\"Charge EUR\", '.', ''), ',', '.') AS charge_eur" in sql
    assert "$as_of - to_date(since, 'DD.MM.YYYY') AS days_since_since" in sql
    assert "$as_of - to_date(paid, 'MM/DD/YYYY HH12:MI AM') AS days_since_paid" in sql
    assert "trim(replace(replace(due, '(', '-'), ')', '')) AS due -- (5) is 5 below zero" in sql
    assert sql.endswith("FROM public.customers\n")


def test_a_file_may_have_the_sign_in_its_name_that_precedes_a_table(plan):
    assert plan(make_csv(charge=[1, 2, 3]), name="customers#2.csv").place == "customers#2.csv"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--query day.sql", r"^day\.sql uses \$as_of, the day of the data: write --as-of\.$"),
        ("--query day.sql --as-of 24.11.2026", r"^--as-of 24\.11\.2026: write a day, as in"),
        ("--query wrong.sql", r"^wrong\.sql does not run: there is a syntax error at FROM \(line 2\)\.$"),
        ("--splits 9", r"^--splits 9: write 10 or more, because fewer tell the standard deviation badly\.$"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_written(template, options, said):
    (template / "customers.csv").write_text(make_csv(charge=[1, 2, 3]))
    (template / "day.sql").write_text("SELECT * FROM source WHERE day <= $as_of")
    (template / "wrong.sql").write_text("SELECT *\nFROM FROM source")
    before = (template / "contract.yaml").read_bytes()
    with pytest.raises(StageError, match=said):
        init.main(init.arguments().parse_args(["customers.csv", *ROLES, *options.split()]))
    assert (template / "contract.yaml").read_bytes() == before


@pytest.mark.parametrize("end", ["answers", "end of input"])
def test_on_a_terminal_a_person_is_asked_with_defaults(plan, monkeypatch, capsys, end):
    asked, answers = [], ["", "", "", "charge_usd", "why_left", "Not yet billed.", ""]

    def answer(question):
        asked.append(question)
        if end != "answers":
            raise EOFError
        return answers.pop(0)

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr("churn.adopting.answers.is_interactive", lambda: True)
    content = make_csv(
        charge=lambda row: row % 90 or "",
        charge_usd=lambda row: row % 90 * 2 or "",
        same=["x"],
        why_left=["price", "other", "move"],
        status=lambda row: "gone" if CHURNED[row] else "here",
    )
    if end != "answers":
        with pytest.raises(
            StageError, match=r"^no more answers; the options of `python -m churn init --help` take them"
        ):
            plan(content, roles=())
        return
    made = plan(content, roles=())
    assert asked[:3] == [
        "Which column names a customer [id]: ",
        "Which column says who churned [churn]: ",
        "Which of them is a churner, no or yes [yes]: ",
    ]
    assert (made.key.name, made.label.name, made.churned) == ("id", "churn", "yes")
    assert set(types(made)) == {"charge", "charge_usd"}
    assert made.meanings == {"charge": "Not yet billed."}
    assert (
        "status has no value that a churner and a stayer share: it equals the label; it is left out"
        in capsys.readouterr().out
    )


def test_an_integer_that_would_lose_digits_where_it_is_missing_is_a_number(plan):
    content = make_csv(
        agent=lambda row: 10**16 + row % 40 if row % 5 else "", whole=lambda row: 10**16 + row % 40, few=[1, 2, ""]
    )
    assert types(plan(content)) == {"agent": "number", "whole": "integer", "few": "integer"}


@pytest.mark.parametrize("typed", ["Konto offen, alt", "konto offen,alt", "konto_offen alt", "Konto offen,\talt ,"])
def test_a_name_with_a_blank_is_one_column(typed):
    given = [
        Column(source, name, "VARCHAR", "other", 3) for source, name in (("Konto offen", "konto_offen"), ("alt", "alt"))
    ]
    assert [*Answers(init.arguments().parse_args(["x.csv"]), given).names(typed)] == ["konto_offen", "alt"]


def test_the_message_on_a_table_that_is_not_there_has_the_query_that_ran(template):
    with closing(sqlite3.connect("customers.db")) as database:
        database.execute("CREATE TABLE customers (id)")
    with pytest.raises(
        StageError, match=r"^SELECT \* FROM clients \(--query has your own\) does not run in customers\.db:"
    ):
        init.main(init.arguments().parse_args(["customers.db#clients", *ROLES]))
