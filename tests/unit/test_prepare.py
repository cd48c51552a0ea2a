import hashlib

import stages.prepare
from churn.params import Prepare
from churn.split import drop_declared, in_holdout, key_lines
from churn.stage import StageError
from stages.prepare import add_features, add_num_products, split, to_arrow
from tests.conftest import make_customers

import pandas as pd
import pyarrow.parquet as pq
import pytest

SETTINGS = Prepare(holdout_share=0.2, salt="salt", drop={})


@pytest.fixture
def raw(contract, tmp_path):
    """The path of a snapshot of 2,000 customers, as fetch writes it."""
    path = tmp_path / "customers.parquet"
    make_customers(contract, 2_000).drop(columns="num_products").to_parquet(path, index=False)
    return path


def split_to(folder, raw, contract, settings=SETTINGS):
    train, test = folder / "train.parquet", folder / "test.parquet"
    account = split(raw, settings, contract, train, test)
    return account, pq.read_table(train), pq.read_table(test)


def test_num_products_counts_each_service(contract):
    customer = make_customers(contract, 1).drop(columns="num_products")
    services = [name for name in customer if customer[name].dtype == bool]
    none = customer.assign(internet_service="No", **dict.fromkeys(services, False))
    assert add_num_products(none)["num_products"].tolist() == [0]
    assert add_num_products(none.assign(internet_service="DSL"))["num_products"].tolist() == [1]
    assert add_num_products(none.assign(has_tech_support=True))["num_products"].tolist() == [1]
    assert add_num_products(none.assign(partner=True))["num_products"].tolist() == [0]
    everything = customer.assign(internet_service="DSL", **dict.fromkeys(services, True))
    assert add_num_products(everything)["num_products"].tolist() == [9]


def test_every_feature_is_row_wise(customers):
    whole = add_features(customers)
    parts = pd.concat([add_features(customers.iloc[:7]), add_features(customers.iloc[7:])])
    alone = pd.concat([add_features(customers.iloc[[row]]) for row in range(20)])
    pd.testing.assert_frame_equal(whole, parts)
    pd.testing.assert_frame_equal(whole.head(20), alone)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda frame: frame.dropna(), "was given 2,000 rows and gave back 1,960"),
        (lambda frame: frame.sort_values("monthly_charges"), "or in another order"),
        (lambda frame: frame.reset_index(drop=True).set_axis(range(1, 2_001)), "or in another order"),
    ],
)
def test_a_feature_function_that_does_not_keep_the_rows_is_refused(monkeypatch, customers, function, said):
    monkeypatch.setattr(stages.prepare, "FEATURES", [function])
    with pytest.raises(StageError, match="a feature function keeps every row") as told:
        add_features(customers)
    assert said in str(told.value)


def overwriting_the_label(frame):
    return frame.assign(churn=(frame["contract"] == "Month-to-month").astype("int64"))


def overwriting_in_place(frame):
    frame["customer_id"] = "someone else"
    return frame


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (overwriting_the_label, "overwriting_the_label changes churn: a feature gets a column of its own"),
        (overwriting_in_place, "overwriting_in_place changes customer_id: a feature gets a column of its own"),
        (lambda frame: frame.drop(columns="partner"), "changes partner: a feature gets a column of its own"),
        (lambda frame: None, "gives back NoneType, not a pandas frame"),
    ],
)
def test_a_feature_function_that_changes_what_was_fetched_is_refused(monkeypatch, customers, function, said):
    monkeypatch.setattr(stages.prepare, "FEATURES", [function])
    with pytest.raises(StageError, match=said):
        add_features(customers)


def test_an_account_that_does_not_balance_is_refused(raw, contract, tmp_path, monkeypatch):
    monkeypatch.setattr(stages.prepare, "drop_declared", lambda frame, reasons: (frame.iloc[1:], {}))
    with pytest.raises(StageError, match="the row account does not balance"):
        split_to(tmp_path, raw, contract)
    assert not (tmp_path / "train.parquet").exists()


def test_a_customer_stays_on_its_side_whoever_else_comes_or_goes():
    keys = pd.Series([f"customer {number}" for number in range(5_000)])
    sides = pd.Series(in_holdout(keys, "salt", 0.2), index=keys)
    other = keys.sample(frac=0.5, random_state=0)
    assert in_holdout(other, "salt", 0.2).tolist() == sides[other].tolist()
    assert 0.18 < sides.mean() < 0.22
    assert set(sides[sides].index) <= set(keys[in_holdout(keys, "salt", 0.3)])
    assert in_holdout(keys, "pepper", 0.2).tolist() != sides.tolist()


def test_the_split_is_the_one_of_the_former_month():
    """Written down, since a champion must never have seen this month's holdout."""
    keys = pd.Series(["0002-ORFBO", "0003-MKNFE", 5574, 5575])
    assert in_holdout(keys, "churn", 0.2).tolist() == [False, False, False, True]


def test_both_tables_hold_every_row_once_in_the_order_of_the_key(raw, contract, tmp_path):
    account, train, test = split_to(tmp_path, raw, contract)
    digest = hashlib.sha256(key_lines(test["customer_id"].to_pylist())).hexdigest()
    assert account == {
        "fetched": 2_000,
        "train": train.num_rows,
        "test": test.num_rows,
        "dropped": {},
        "holdout_sha256": [digest],
    }
    keys = [*train["customer_id"].to_pylist(), *test["customer_id"].to_pylist()]
    assert sorted(keys) == pq.read_table(raw)["customer_id"].to_pylist()
    assert train["customer_id"].to_pylist() == sorted(train["customer_id"].to_pylist())


def test_batches_make_no_difference(raw, contract, tmp_path, monkeypatch):
    _, train, test = split_to(tmp_path, raw, contract)
    monkeypatch.setattr(stages.prepare, "BATCH_ROWS", 97)
    account, train_in_batches, test_in_batches = split_to(tmp_path / "batches", raw, contract)
    assert train_in_batches.equals(train)
    assert test_in_batches.equals(test)
    assert account["fetched"] == 2_000


def test_rows_are_dropped_for_declared_reasons_alone_and_counted(raw, contract, tmp_path):
    reasons = {"first_month": "tenure_months == 0", "short": "tenure_months < 3"}
    settings = Prepare(holdout_share=0.2, salt="salt", drop=reasons)
    account, train, test = split_to(tmp_path, raw, contract, settings)
    assert account["dropped"]["first_month"] == 40
    assert account["dropped"]["short"] > 0
    assert train.num_rows + test.num_rows + sum(account["dropped"].values()) == 2_000
    assert min(train["tenure_months"].to_pylist()) == 3


def test_a_row_that_fits_two_reasons_counts_once():
    frame = pd.DataFrame({"a": [1, 2, 3]})
    kept, dropped = drop_declared(frame, {"small": "a < 3", "tiny": "a < 2"})
    assert kept["a"].tolist() == [3]
    assert dropped == {"small": 2, "tiny": 0}


def test_an_empty_table_is_refused_and_not_written(raw, contract, tmp_path):
    settings = Prepare(holdout_share=0.2, salt="salt", drop={"all": "tenure_months >= 0"})
    with pytest.raises(StageError, match="the train table is empty"):
        split_to(tmp_path, raw, contract, settings)
    assert [path.name for path in tmp_path.iterdir()] == ["customers.parquet"]


def test_a_snapshot_that_is_no_parquet_is_one_sentence(contract, tmp_path):
    raw = tmp_path / "customers.parquet"
    raw.write_text("half a fi")
    with pytest.raises(StageError, match="is no Parquet file"):
        split_to(tmp_path, raw, contract)


def test_columns_get_the_types_of_the_contract(customers, contract):
    table = to_arrow(customers.astype({"num_products": "float64"}), contract)
    types = {field.name: str(field.type) for field in table.schema}
    assert types["num_products"] == "int64"
    assert types["total_charges"] == "double"
    assert types["contract"] == "string"
    assert types["partner"] == "bool"
    assert table["total_charges"].null_count == 40


def test_a_fraction_in_an_integer_is_refused_by_name(customers, contract):
    with pytest.raises(StageError, match="num_products is declared integer, but prepare made values that are none"):
        to_arrow(customers.assign(num_products=1.5), contract)


def test_an_undeclared_column_reaches_validate_whatever_its_type(customers, contract):
    table = to_arrow(customers.assign(days_since_last_purchase=[None, {}] * 1_000), contract)
    assert str(table.schema.field("days_since_last_purchase").type) == "string"


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (
            lambda frame: frame.assign(above=frame["monthly_charges"] > frame["monthly_charges"].mean()),
            "makes a customer's above from other customers' rows",
        ),
        (lambda frame: frame.assign(leak=frame["churn"]), "reads 'churn', which is not there"),
    ],
)
def test_a_feature_comes_from_its_own_row_alone_and_never_from_the_label(customers, monkeypatch, function, said):
    monkeypatch.setattr(stages.prepare, "FEATURES", (function,))
    with pytest.raises(StageError, match=said):
        add_features(customers.drop(columns="churn"))


def test_a_feature_of_its_own_row_may_be_missing(customers, monkeypatch):
    function = lambda frame: frame.assign(age=frame["tenure_months"].where(frame["tenure_months"] > 70))  # noqa: E731
    monkeypatch.setattr(stages.prepare, "FEATURES", (function,))
    assert add_features(customers.drop(columns="churn"))["age"].isna().any()
