"""Features from which no model learns, keys that look alike, and tables too small to say anything."""

from churn.data.featuring import to_arrow
from churn.quality.feature_checks import feature_findings
from churn.quality.key_checks import customers_needed, key_notes, lookalike_findings, outcome_findings
from churn.quality.profile import profile_of
from tests.conftest import make_customers

import duckdb
import numpy as np
import pandas as pd
import pytest

FEATURES = ["tenure_months", "monthly_charges", "total_charges", "num_products", "contract", "partner", "dependents"]


@pytest.fixture
def few(contract):
    """The sample's contract with some of its features."""
    columns = {name: contract.columns[name] for name in (contract.key, contract.label, *FEATURES)}
    return contract.model_copy(update={"columns": columns})


@pytest.fixture
def described(few):
    """Return a function that describes customers, and the connection with their tables."""
    with duckdb.connect() as database:

        def describe(frame, like=None):
            for name, part in (("train", frame.iloc[::2]), ("test", frame.iloc[1::2])):
                database.register(name, to_arrow(part[list(few.columns)], few))
            return profile_of(database, few, like), database

        yield describe


@pytest.fixture
def checked(described, contract, few):
    """Return a function that checks customers against the profile of others, or of themselves."""

    def check(frame, before=None):
        reference, database = described(make_customers(contract, 1_000) if before is None else before)
        now = described(frame, reference)[0] if before is None else reference
        findings, notes = feature_findings(database, few, reference, now)
        return {(one.rule, one.column) for one in findings}, [note.split(":")[0] for note in notes]

    return check


@pytest.mark.parametrize("key", ["customer_id", "v0", "v1"])
def test_a_copy_is_found_whatever_the_key_is_called(contract, few, customers, key):
    columns = {key if name == few.key else name: one for name, one in few.columns.items()}
    named = few.model_copy(update={"columns": columns})
    copied = customers.rename(columns={few.key: key}).assign(dependents=customers["partner"])
    with duckdb.connect() as database:
        for name, part in (("train", copied.iloc[::2]), ("test", copied.iloc[1::2])):
            database.register(name, to_arrow(part[list(columns)], named))
        now = profile_of(database, named)
        _, (note,) = feature_findings(database, named, now, now)
    assert note.startswith("dependents equals partner in every row")


CONSTANTS = {
    "tenure_months": 7,
    "monthly_charges": 19.99,
    "partner": True,
    "contract": "One year",
    "num_products": -(2**53),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_feature_that_became_constant_is_found_and_one_that_was_so_before_is_a_note(checked, customers, name):
    constant = customers.assign(**{name: CONSTANTS[name]})
    assert checked(constant) == ({("constant", name)}, [])
    assert checked(constant, before=constant) == (
        set(),
        [f"{name} has the same value in every row, and no model learns from it"],
    )


def test_a_feature_with_missing_values_is_not_constant(checked, customers):
    varied = customers.assign(total_charges=np.where(np.arange(len(customers)) % 2, 5.0, np.nan))
    assert checked(varied) == (set(), [])


def test_a_tiny_deviation_is_not_constant(checked, customers):
    assert checked(customers.assign(monthly_charges=1 + np.arange(len(customers)) % 3 * 1e-9)) == (set(), [])


def test_a_feature_without_a_value_in_training_is_found(checked, customers):
    assert checked(customers.assign(total_charges=np.nan))[0] == {("empty", "total_charges")}
    in_the_holdout = np.where(np.arange(len(customers)) == 1, 5.0, np.nan)
    assert checked(customers.assign(total_charges=in_the_holdout))[0] == {("empty", "total_charges")}
    in_training = np.where(np.arange(len(customers)) == 0, 5.0, np.nan)
    assert checked(customers.assign(total_charges=in_training))[0] == set()


@pytest.mark.parametrize(
    ("name", "of"),
    [("dependents", "partner"), ("num_products", "tenure_months"), ("monthly_charges", "tenure_months")],
)
def test_a_feature_that_became_a_copy_is_found_and_one_that_was_so_before_is_a_note(checked, customers, name, of):
    twice = customers.assign(**{name: customers[of]})
    first, second = sorted((name, of), key=list(customers.columns).index)
    assert checked(twice) == ({("duplicate", second)}, [])
    assert checked(twice, before=twice) == (set(), [f"{second} equals {first} in every row, and adds nothing to it"])


def test_features_with_equal_moments_are_no_copies(checked, customers):
    """Another order has the same mean, deviation, and shares."""
    assert checked(customers.assign(num_products=np.roll(customers["tenure_months"], 1)))[0] == set()
    assert checked(customers.assign(dependents=np.roll(customers["partner"], 1)))[0] == set()


def keyed(database, keys, kind="VARCHAR"):
    """Make the tables of a few customers with these keys."""
    frame = pd.DataFrame({"customer_id": pd.Series(keys, dtype=object), "churn": 0})
    database.register("given", frame)
    for name in ("fetched", "train", "test"):
        only = "LIMIT 0" if name == "test" else ""
        database.execute(
            f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT customer_id::{kind} AS customer_id, churn FROM given {only}"
        )


@pytest.mark.parametrize(
    ("keys", "alike"),
    [
        (["A-1", "A-2", "A-3"], 0),
        (["a 1", "b 1", "C-1"], 0),
        (["a-1", "A-1", "b-2"], 2),
        (["a 1", "a1", "b"], 2),
        (["a\u00a01", "A1", "a 1", "x"], 3),
        (["É1", "é1"], 2),
        (["ab", "ab"], 0),  # `unique` finds equal ones
        ([], 0),
    ],
)
def test_keys_that_differ_by_blanks_or_case_alone_are_found(contract, keys, alike):
    with duckdb.connect() as database:
        keyed(database, keys)
        assert [(one.rule, one.count) for one in lookalike_findings(database, contract)] == (
            [("lookalike", alike)] if alike else []
        )


@pytest.mark.parametrize(
    ("keys", "kind", "noted"),
    [
        (range(1, 400), "BIGINT", True),
        (range(400), "VARCHAR", True),
        ([f"{number:06}" for number in range(400)], "VARCHAR", True),
        ([f"row-{number}" for number in range(17, 400)], "VARCHAR", True),
        ([*range(1, 400), 1_000], "BIGINT", False),
        ([2 * number for number in range(400)], "BIGINT", False),
        ([f"{'ab'[number % 2]}{number}" for number in range(400)], "VARCHAR", False),
        (["7590-VHVEG", "5575-GNVDE"], "VARCHAR", False),
        ([2**63 - 1, 5], "BIGINT", False),
        (["9" * 40, "1"], "VARCHAR", False),
        ([7], "BIGINT", False),
        ([], "VARCHAR", False),
    ],
)
def test_keys_that_count_the_rows_are_noted(contract, keys, kind, noted):
    with duckdb.connect() as database:
        keyed(database, list(keys), kind)
        assert ["counts the customers without a gap" in note for note in key_notes(database, contract)] == [
            True
        ] * noted


def outcomes(contract, train, test):
    with duckdb.connect() as database:
        for name, (rows, churners) in (("train", train), ("test", test)):
            database.execute(f"CREATE TABLE {name} AS SELECT (i < {churners})::BIGINT AS churn FROM range({rows}) t(i)")
        return [(one.table, one.sentence) for one in outcome_findings(database, contract)]


def test_fifty_customers_are_refused_with_how_many_it_takes(contract):
    found = outcomes(contract, (40, 11), (10, 3))
    assert [table for table, _ in found] == ["test"]
    assert found[0][1] == (
        "the holdout has 3 churners among 10 customers, and a model is measured with at least 10 churners and 10"
        " others: at this churn rate that takes about 290 customers in all; fetch more, such as those of a year"
    )
    assert outcomes(contract, (232, 65), (58, 16)) == []


@pytest.mark.parametrize("size", [(0, 0), (1, 0), (1, 1), (2, 2), (500, 0), (500, 500)])
def test_a_table_with_one_outcome_or_no_row_is_a_finding_and_no_crash(contract, size):
    assert {table for table, _ in outcomes(contract, size, size)} == {"train", "test"}


def test_few_stayers_are_as_bad_as_few_churners(contract):
    assert customers_needed(0.98, 0.2) == customers_needed(0.02, 0.2) == 4_000
    assert [table for table, _ in outcomes(contract, (1_000, 980), (100, 98))] == ["test"]
