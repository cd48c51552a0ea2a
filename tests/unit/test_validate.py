import json

from churn.config.contract import Contract
from churn.core.errors import StageError
from churn.data.featuring import to_arrow
from churn.quality.profile import profile_of
from stages.validate import question_findings, validate
from tests.conftest import make_customers

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

TRAIN_ROWS, TEST_ROWS = 1_600, 400


@pytest.fixture(scope="module")
def profile(contract):
    """The profile of both tables together, unchanged."""
    customers = pd.concat([make_customers(contract, TRAIN_ROWS, seed=1), make_customers(contract, TEST_ROWS, seed=2)])
    with duckdb.connect() as database:
        database.register("train", to_arrow(customers, contract))
        database.register("test", to_arrow(customers.head(0), contract))
        return profile_of(database, contract)


@pytest.fixture
def tables(contract, profile, tmp_path, monkeypatch):
    """Return a function that validates a training and a test table after changes to them."""
    monkeypatch.chdir(tmp_path)
    for folder in ("data/raw", "data/features", "metrics"):
        (tmp_path / folder).mkdir(parents=True)

    def check(change_train=lambda frame: frame, change_test=lambda frame: frame, account=None, of=contract):
        train = change_train(make_customers(contract, TRAIN_ROWS, seed=1))
        test = change_test(make_customers(contract, TEST_ROWS, seed=2))
        for frame, name in ((train, "train"), (test, "test")):
            pq.write_table(to_arrow(frame, contract), f"data/features/{name}.parquet")
        raw = pd.DataFrame({"customer_id": range(TRAIN_ROWS + TEST_ROWS)})
        raw.to_parquet("data/raw/customers.parquet", index=False)
        fitting = {"fetched": TRAIN_ROWS + TEST_ROWS, "train": len(train), "test": len(test), "dropped": {}}
        _, findings, check.notes = validate(of, profile, fitting if account is None else account)
        return findings

    return check


def setting(column, rows, value):
    """Return a change that sets some rows of a column, by their numbers from 1 on."""

    def change(frame):
        frame = frame.copy()
        frame.loc[[row - 1 for row in rows], column] = value
        return frame

    return change


def told(findings):
    return [(finding.table, finding.rule, finding.column, finding.count) for finding in findings]


def test_tables_that_keep_the_contract_have_no_findings(tables):
    assert tables() == []


@pytest.mark.parametrize(
    ("change", "rule", "column", "rows"),
    [
        (setting("monthly_charges", [3, 9], np.nan), "nulls", "monthly_charges", (3, 9)),
        (setting("contract", [5], None), "nulls", "contract", (5,)),
        (setting("contract", [5, 6, 8], "Three years"), "values", "contract", (5, 6, 8)),
        (setting("tenure_months", [1], 121), "range", "tenure_months", (1,)),
        (setting("monthly_charges", [2], -0.01), "range", "monthly_charges", (2,)),
        (setting("monthly_charges", [2], 1e300), "range", "monthly_charges", (2,)),
        (setting("churn", [7], 2), "values", "churn", (7,)),
        (setting("total_charges", [4], np.inf), "finite", "total_charges", (4,)),
        (setting("total_charges", [4], 50_000.0), "total_charges_fit_tenure", "total_charges", (4,)),
        (setting("customer_id", [12], "01-000010"), "unique", "customer_id", (12,)),
        (setting("customer_id", [12], "00-000000"), "sorted", "customer_id", (12,)),
    ],
)
def test_a_broken_rule_is_found_with_its_rows(tables, change, rule, column, rows):
    findings = [finding for finding in tables(change) if finding.rule == rule]
    assert [(found.table, found.column, found.count, found.rows) for found in findings] == [
        ("train", column, len(rows), rows)
    ]
    assert findings[0].share == round(len(rows) / TRAIN_ROWS, 6)
    assert column in findings[0].sentence


def test_only_the_first_rows_are_named(tables):
    (finding,) = tables(setting("monthly_charges", range(101, 201), np.nan))
    assert finding.count == 100
    assert finding.rows == (101, 102, 103, 104, 105)
    assert finding.sentence == "monthly_charges has 100 nulls that the contract does not allow"


def test_all_broken_rules_of_both_tables_are_found_together(tables):
    findings = tables(
        lambda frame: setting("contract", [1], "Weekly")(setting("tenure_months", [2], 500)(frame)),
        setting("monthly_charges", [3], np.nan),
    )
    assert told(findings) == [
        ("train", "range", "tenure_months", 1),
        ("train", "values", "contract", 1),
        ("train", "total_charges_fit_tenure", "total_charges", 1),
        ("test", "nulls", "monthly_charges", 1),
    ]


def test_allowed_nulls_are_allowed(tables):
    assert tables(setting("total_charges", range(1, 40), np.nan)) == []


def test_a_column_that_is_missing_or_not_declared_is_found(tables):
    findings = tables(lambda frame: frame.drop(columns="partner").assign(days_since_last_purchase=np.nan))
    assert told(findings) == [
        ("train", "required", "partner", TRAIN_ROWS),
        ("train", "undeclared", "days_since_last_purchase", TRAIN_ROWS),
    ]


def test_a_relation_waits_until_its_columns_are_there(tables):
    findings = tables(lambda frame: frame.drop(columns="tenure_months").assign(total_charges=50_000.0))
    assert told(findings)[0] == ("train", "required", "tenure_months", TRAIN_ROWS)
    assert "total_charges_fit_tenure" not in {finding.rule for finding in findings}


def test_a_missing_key_or_label_is_a_finding_and_no_crash(tables):
    findings = tables(lambda frame: frame.drop(columns=["customer_id", "churn"]))
    assert told(findings) == [
        ("train", "required", "customer_id", TRAIN_ROWS),
        ("train", "required", "churn", TRAIN_ROWS),
    ]


def test_a_column_of_another_type_is_found(tables, contract):
    columns = dict(contract.columns)
    columns["num_products"] = columns["num_products"].model_copy(update={"type": "number"})
    changed = Contract.model_construct(columns=columns, rules=contract.rules)
    assert told(tables(of=changed)) == [
        ("train", "type", "num_products", TRAIN_ROWS),
        ("test", "type", "num_products", TEST_ROWS),
    ]


@pytest.mark.parametrize("label", [0, 1])
def test_a_label_rate_beyond_its_bounds_is_found(tables, label):
    finding = tables(change_test=lambda frame: frame.assign(churn=label))[0]
    assert (finding.table, finding.rule) == ("test", "label_rate")
    assert (finding.count, finding.share) == (TEST_ROWS, 1.0)
    assert f"{label:.1%} of the rows, outside 5% to 60%" in finding.sentence


@pytest.mark.parametrize(
    ("labels", "wrong"),
    [
        (lambda churn: churn + 1, lambda churn: churn == 1),
        (lambda churn: 2 * churn - 1, lambda churn: churn == 0),
        (lambda churn: churn.where(churn.index > 0, 2), lambda churn: churn.index == 0),
    ],
    ids=["1 and 2", "-1 and 1", "one 2"],
)
def test_labels_other_than_0_and_1_are_the_only_finding_on_the_label(tables, labels, wrong):
    """Fault in the source: the label is 1 and 2, or -1 and 1.

    validate fails: `churn has … values other than 0 and 1`
    """
    train, test = [], []

    def coded(counts):
        def change(frame):
            counts.append(int(wrong(frame["churn"]).sum()))
            return frame.assign(churn=labels(frame["churn"]))

        return change

    findings = tables(coded(train), coded(test))
    assert told(findings) == [("train", "values", "churn", *train), ("test", "values", "churn", *test)]
    assert findings[0].sentence.startswith(f"churn has {train[0]:,} value")


def test_the_churn_rate_of_a_bin_is_of_the_customers_with_a_label(tables):
    findings = tables(lambda frame: frame.assign(churn=frame["churn"].astype(object).where(frame.index % 3 > 0)))
    assert {finding.rule for finding in findings} == {"nulls"}


def test_customers_of_the_holdout_in_the_training_table_are_found(tables, contract):
    leaked = make_customers(contract, TRAIN_ROWS, seed=1).head(30)
    findings = tables(change_test=lambda frame: pd.concat([leaked, frame.iloc[30:]]))
    assert told(findings) == [("test", "disjoint", "customer_id", 30)]
    assert findings[0].sentence == "the training table has 30 customers of the holdout, too"


def test_too_few_rows_are_found(tables):
    findings = tables(lambda frame: frame.head(500))
    assert ("train and test", "min_rows", "", 900) in told(findings)


def test_rows_lost_in_silence_are_found_whatever_the_account_says(tables):
    findings = tables(lambda frame: frame.head(TRAIN_ROWS - 11))
    assert [finding.sentence for finding in findings] == [
        "of 2,000 fetched rows 11 got lost: in no table, and dropped for no declared reason"
    ]


def test_rows_dropped_for_a_declared_reason_are_no_finding(tables):
    account = {"fetched": 2_000, "train": TRAIN_ROWS - 11, "test": TEST_ROWS, "dropped": {"test_account": 11}}
    assert tables(lambda frame: frame.head(TRAIN_ROWS - 11), account=account) == []


def test_an_account_that_is_off_is_found_with_how_much(tables):
    account = {"fetched": 2_000, "train": TRAIN_ROWS, "test": TEST_ROWS - 1, "dropped": {"nonsense": "many"}}
    (finding,) = tables(account=account)
    assert (finding.table, finding.count, finding.share) == ("test", 1, 0.0025)


@pytest.mark.parametrize(
    "account", [{}, {"fetched": "2000", "train": 1_600, "test": 400}, {"fetched": 1, "train": 2, "test": 3}]
)
def test_an_account_that_says_something_else_is_found(tables, account):
    assert "row_counts" in [finding.rule for finding in tables(account=account)]


def with_relation(contract, holds):
    """Return the contract with one relation, `other`."""
    relation = contract.rules.relations["total_charges_fit_tenure"].model_copy(update={"holds": holds})
    rules = contract.rules.model_copy(update={"relations": {"other": relation}})
    return contract.model_copy(update={"rules": rules})


def test_a_relation_that_is_no_sql_is_one_sentence(tables, contract):
    with pytest.raises(StageError, match=r"contract\.yaml: rules\.relations\.other\.holds: `total_charges >`"):
        tables(of=with_relation(contract, "total_charges >"))


def test_a_relation_that_cannot_be_computed_for_a_row_is_named_without_a_value(tables, contract):
    with pytest.raises(StageError, match=r"relations\.other\.holds: `.*` cannot be .*: a cast fails") as refused:
        tables(of=with_relation(contract, "CAST(customer_id AS BIGINT) > 0"))
    assert "000" not in str(refused.value)


def test_a_relation_that_is_null_in_every_row_of_a_table_is_broken(tables, contract):
    """Fault in the settings: a relation is NULL in every row.

    validate fails: `… is NULL in every row, so it tests nothing: …`
    """
    nowhere = with_relation(contract, "nullif(tenure_months, tenure_months) > 0")
    assert [(one.table, one.rule, one.count) for one in tables(of=nowhere)] == [
        ("train", "other", TRAIN_ROWS),
        ("test", "other", TEST_ROWS),
    ]
    assert "other is NULL in every row, so it tests nothing" in tables(of=nowhere)[0].sentence
    seldom = with_relation(contract, "nullif(total_charges, 0) >= 0")  # NULL in the first month
    assert tables(of=seldom) == []


def test_findings_hold_no_value_of_a_customer(tables):
    findings = tables(lambda frame: setting("customer_id", [5], "00-secret")(setting("contract", [9], "secret")(frame)))
    assert len(findings) == 2
    assert "secret" not in json.dumps([vars(finding) for finding in findings])


@pytest.mark.parametrize("key", ["", " ", " 01-000005", "01-000005\t", "01-000005\u00a0"])
def test_an_empty_key_or_one_with_a_blank_at_an_end_is_a_finding(tables, key):
    findings = tables(setting("customer_id", [6], key))
    assert ("train", "blank", "customer_id", 1) in told(findings)


def test_a_table_with_two_columns_of_one_name_is_one_sentence(tables, monkeypatch):
    write = pq.write_table

    def write_twice(table, path, **options):
        write(table.append_column("churn", table["churn"]) if "churn" in table.column_names else table, path, **options)

    monkeypatch.setattr(pq, "write_table", write_twice)
    with pytest.raises(StageError, match=r"train\.parquet has the column churn more than once"):
        tables()


def test_a_missing_value_without_a_meaning_is_a_finding_until_the_question_is_answered(contract):
    """Fault in the settings: the meaning of a missing value is still a question of init's.

    validate fails: `contract.yaml: columns.total_charges.because is still a question: write what …`.
    """
    assert list(question_findings(contract, 10)) == []
    column = contract.columns["total_charges"].model_copy(update={"because": "What does a missing charge mean? "})
    asked = contract.model_copy(update={"columns": {**contract.columns, "total_charges": column}})
    (finding,) = question_findings(asked, 10)
    assert finding.sentence.startswith("contract.yaml: columns.total_charges.because is still a question: write what")
