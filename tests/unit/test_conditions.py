import re
import time

from churn.config.params import Slices
from churn.core.errors import StageError
from churn.data.conditions import condition_faults, drop_condition, relation_condition, rows_where, slice_condition
from tests.conftest import ROOT, make_customers

import pandas as pd
import pytest
from ruamel.yaml import YAML

CUSTOMERS = pd.DataFrame(
    {
        "tenure_months": [1, 9, 3],
        "total_charges": [10.0, None, 30.0],
        "contract": ["One year", "Two year", "One year"],
        "partner": pd.Series([True, None, False], dtype=object),
    }
)


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("tenure_months < 6", [True, False, True]),
        ("total_charges > 15", [False, False, True]),
        ("NOT total_charges > 15", [True, False, False]),
        ("contract = 'One year' AND tenure_months > 1", [False, False, True]),
        ("total_charges IS NULL", [False, True, False]),
        ("coalesce(total_charges, 0) = 0", [False, True, False]),
        ("partner", [True, False, False]),
        ("NOT partner", [False, False, True]),
        ("contract IN ('Two year', 'none')", [False, True, False]),
        ("contract LIKE 'Two%' OR tenure_months BETWEEN 2 AND 4", [False, True, True]),
        ("CASE WHEN partner THEN tenure_months = 1 ELSE contract <> 'One year' END", [True, True, False]),
        ("TRY_CAST(contract AS DOUBLE) > 3", [False, False, False]),
        ("regexp_matches(lower(contract), '^two') AND tenure_months % 2 = 1", [False, True, False]),
        ("9**9**9 > tenure_months", [True, True, True]),
    ],
)
def test_a_condition_holds_for_rows_and_never_for_a_missing_value(contract, condition, rows):
    assert rows_where(CUSTOMERS, relation_condition("test", condition, contract), contract).tolist() == rows


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        # more than one expression, or none
        ("tenure_months <", "is not an SQL expression: look at `<`"),
        ("tenure_months > 1) OR (true", "is not an SQL expression: look at `\\) OR \\(true`"),
        ("0 < tenure_months < 6", "0 < x < 6 is written 0 < x AND x < 6"),
        ("partner; COPY (SELECT 1) TO 'x'", "`;` would begin a second statement"),
        ("partner -- or not", "a comment could hide a part of it"),
        ("partner /* or not */", "a comment could hide a part of it"),
        ("partner AS x", "is not one expression"),
        ("partner, partner", "is not one expression"),
        ("partner FROM customers", "is not one expression"),
        ("partner WHERE false", "is not one expression"),
        ("partner LIMIT 1", "is not one expression"),
        ("DISTINCT partner", "is not one expression"),
        ("partner UNION SELECT true", "is not one expression"),
        # what reads, writes, or depends on more than the row
        ("tenure_months IN (SELECT 1)", "a sub-query is not in the language"),
        ("EXISTS (SELECT 1)", "a sub-query is not in the language"),
        ("read_text('/etc/passwd') = contract", r"read_text\(\) is not in the language; docs/adapt.md"),
        ("getenv('HOME') = contract", r"getenv\(\) is not in the language"),
        ("query('SELECT 1') = contract", r"query\(\) is not in the language"),
        ("error(contract)", r"error\(\) is not in the language"),
        ("random() < tenure_months", r"random\(\) is not in the language"),
        ("sum(tenure_months) > 1", r"sum\(\) is not in the language"),
        ("row_number() OVER () > tenure_months", "window row number is not in the language"),
        ("repeat(contract, 1000000000) = ''", r"repeat\(\) is not in the language"),
        ("abs(tenure_months) FILTER (WHERE true) > 1", r"abs\(\) is not in the language"),
        ("other.abs(tenure_months) > 1", r"abs\(\) is not in the language"),
        ("contract[1] = 'x'", r"\[ \] is not in the language"),
        ("x -> x > tenure_months", "lambda is not in the language"),
        ("* = 'x'", r"\* is not in the language"),
        ("$1 > tenure_months", "a parameter is not in the language"),
        ("contract::DATE > contract", "a cast to DATE is not in the language"),
        ("regexp_matches(contract, contract)", "has to be a text"),
        # columns
        ("tenure_monhts > 3", r"contract.yaml declares no column tenure_monhts \(is it tenure_months\?\)"),
        ("current_date > contract", "declares no column current_date"),
        ('contract = "One year"', "declares no column One year; a text has single quotes"),
        ("t.contract = 'x'", "t.contract is not a column"),
        ("9**9**9 > 1", "reads no column"),
        # types
        ("tenure_months + 1", "is not true or false for each customer"),
        ("contract > 5", r"compares or computes what does not go together \(contract is category\)"),
        # pandas, which read these settings before
        ("tenure_months == 1", "is not SQL: `==` is written `=`"),
        ("(partner) & (tenure_months > 1)", "is not SQL: `&` is written AND"),
        ("partner | partner", "is not SQL: `|` is written OR"),
        ("~partner", "is not SQL: `~` is written NOT"),
        ("@pd.io.common.os.system('true')", "is not SQL: `@` is not in the language"),
        ("total_charges.isna()", r"`x.isna\(\)` is written x IS NULL"),
        ("contract.str.len() > 3", "`x.str` is written as a function"),
        ("contract in ['One year']", r"`in \[...\]` is written IN \(...\)"),
        ("`contract` = 'x'", "a name is quoted"),
        ("tenure_months.to_csv('x')", r"to_csv\(\) is not in the language"),
        ("total_charges = None", "None is written NULL"),
    ],
)
def test_what_is_not_in_the_language_is_refused_in_one_sentence(contract, condition, says):
    """Fault in the settings: a condition is not in the [language](adapt.md#conditions), or is written for pandas.

    The stage fails before it runs the condition: `params.yaml: prepare.drop.test: …: read_text() is not in the
    language; …`
    """
    with pytest.raises(StageError, match=rf"^contract\.yaml: rules\.relations\.test\.holds: `.*{says}") as refused:
        relation_condition("test", condition, contract)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "condition",
    [
        "(" * 900,
        "(" * 400 + "partner" + ")" * 400,
        "tenure_months" + "+1" * 480 + " > 1",
        "partner OR " * 10_000,
        "CASE WHEN " * 80 + "partner",
        "\x00partner",
        "partner AND é",
        " ",
    ],
)
def test_an_absurd_condition_is_refused_at_once_and_in_a_short_sentence(contract, condition):
    relation_condition("test", "partner", contract)  # DuckDB is imported
    started = time.perf_counter()
    with pytest.raises(StageError, match=r"^contract\.yaml: rules\.relations\.test\.holds: `") as refused:
        relation_condition("test", condition, contract)
    assert time.perf_counter() - started < 1
    assert len(str(refused.value)) < 500


def test_each_setting_reads_the_columns_that_are_there_then(contract):
    assert drop_condition("test", "churn = 1", contract).columns == ("churn",)
    with pytest.raises(StageError, match=r"^params\.yaml: prepare\.drop\.test: .*num_products is computed by"):
        drop_condition("test", "num_products = 1", contract)
    assert slice_condition("test", "num_products = 1", contract).columns == ("num_products",)
    for name in (contract.key, contract.label):
        with pytest.raises(StageError, match=rf"^params\.yaml: evaluate\.slices\.conditions\.test: .*{name} is not a"):
            slice_condition("test", f"{name} IS NULL", contract)


def test_reasons_to_drop_slices_and_relations_are_checked_together(contract, params):
    slices = Slices(columns=(), conditions={"loyal": "tenure_months == 72"})
    wrong = params.model_copy(
        update={
            "evaluate": params.evaluate.model_copy(update={"slices": slices}),
            "prepare": params.prepare.model_copy(update={"drop": {"test": "num_products = 1", "fine": "partner"}}),
        }
    )
    relation = contract.rules.relations["total_charges_fit_tenure"].model_copy(update={"holds": "total_charges >"})
    rules = contract.rules.model_copy(update={"relations": {"fits": relation}})
    found = list(condition_faults(wrong, contract.model_copy(update={"rules": rules})))
    assert [one.split("`")[0] for one in found] == [
        "params.yaml: prepare.drop.test: ",
        "params.yaml: evaluate.slices.conditions.loyal: ",
        "contract.yaml: rules.relations.fits.holds: ",
    ]
    assert "`==` is written `=`" in found[1]
    assert list(condition_faults(params, contract)) == []


def test_a_condition_that_cannot_be_computed_for_a_row_is_one_sentence_without_its_value(contract):
    """Fault in the settings: a condition fails on one row.

    The stage fails: `… cannot be computed for every customer: a cast fails; TRY_CAST(x AS DOUBLE) gives NULL …`
    """
    condition = drop_condition("test", "CAST(contract AS BIGINT) > 0", contract)
    with pytest.raises(StageError, match=r"prepare\.drop\.test: .* cannot be .*: a cast fails; TRY_CAST") as refused:
        rows_where(CUSTOMERS, condition, contract)
    assert "One year" not in str(refused.value)
    with pytest.raises(StageError, match="the customers have no column monthly_charges"):
        rows_where(CUSTOMERS, drop_condition("test", "monthly_charges = 0", contract), contract)


def test_rows_keep_their_order_beyond_what_duckdb_takes_at_a_time(contract):
    customers = make_customers(contract, 5_000)
    customers = pd.concat([customers] * 60, ignore_index=True)
    holds = rows_where(customers, relation_condition("test", "monthly_charges > 60", contract), contract)
    assert (holds == (customers["monthly_charges"] > 60)).all()


def test_a_column_may_have_the_name_of_a_word_of_sql_or_a_space(contract):
    columns = contract.columns | dict.fromkeys(("order", "Net Sales", "current_date"), contract.columns["num_products"])
    wide = contract.model_copy(update={"columns": columns})
    condition = relation_condition("test", '"order" > 1 AND "Net Sales" > 1 AND current_date > 1', wide)
    frame = pd.DataFrame({"order": [2, 2], "Net Sales": [2, 0], "current_date": [2, 2]})
    assert rows_where(frame, condition, wide).tolist() == [True, False]


def test_the_documented_conditions_are_conditions_and_the_documented_functions_exist(contract):
    section = (ROOT / "docs" / "adapt.md").read_text().split("## Conditions\n")[1].split("\n## ")[0]
    example = YAML(typ="safe").load(section.split("```yaml\n")[1].split("```")[0])
    for name, text in example["evaluate"]["slices"]["conditions"].items():
        assert slice_condition(name, text, contract).columns
    words = {
        word for row in section.splitlines() if row.startswith("|") for word in re.findall(r"`([a-z_0-9]+)[`(]", row)
    }
    for word in words - {"a", "x"}:
        calls = [f"{word}({given})" for given in ("tenure_months", "tenure_months, 1", "contract", "contract, 'x'")]
        calls += [f"{word}(contract, 1)", f"{word}(partner, 1, 2)"]
        refused = []
        for call in calls:
            try:
                relation_condition("test", f"({call}) IS NULL", contract)
                break
            except StageError as error:
                refused.append(str(error))
        else:
            pytest.fail(f"{word}: {refused}")
    assert len(words) > 30
