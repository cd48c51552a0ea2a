from decimal import Decimal

import churn.features
from churn.core.errors import StageError
from churn.data.featuring import add_features, to_arrow
from churn.features import add_num_products
from tests.conftest import make_customers

import numpy as np
import pandas as pd
import pytest


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
    monkeypatch.setattr(churn.features, "FEATURES", [function])
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
    monkeypatch.setattr(churn.features, "FEATURES", [function])
    with pytest.raises(StageError, match=said):
        add_features(customers)


def test_columns_get_the_types_of_the_contract(customers, contract):
    table = to_arrow(customers.astype({"num_products": "float64"}), contract)
    types = {field.name: str(field.type) for field in table.schema}
    assert types["num_products"] == "int64"
    assert types["total_charges"] == "double"
    assert types["contract"] == "string"
    assert types["partner"] == "bool"
    assert table["total_charges"].null_count == 40


def test_a_fraction_in_an_integer_is_refused_by_name(customers, contract):
    with pytest.raises(StageError, match="num_products is declared integer, but a feature function made others"):
        to_arrow(customers.assign(num_products=1.5), contract)


@pytest.mark.parametrize(
    ("declared", "values"),
    [
        ("integer", [Decimal("1.5"), Decimal(2)]),
        ("integer", pd.to_timedelta([1, 2], unit="D")),
        ("integer", pd.to_datetime(["2026-11-24", "2026-11-25"])),
        ("integer", pd.Series(pd.to_datetime(["2026-11-24", "2026-11-25"]), dtype=object)),
        ("integer", pd.period_range("2026", "2027", freq="Y")),
        ("boolean", [0, 2]),
        ("boolean", [0.5, np.nan]),
        ("boolean", pd.Categorical([0, 2])),
    ],
)
def test_a_value_that_arrow_would_change_is_refused(contract, declared, values):
    name = {"integer": "num_products", "boolean": "partner"}[declared]
    with pytest.raises(StageError, match=f"{name} is declared {declared}, but a feature function made others"):
        to_arrow(pd.DataFrame({name: values}), contract)


@pytest.mark.parametrize(
    "values", [[0, 1], [0.0, 1.0], [False, True], ["0", "1"], pd.Categorical([0, 1]), [Decimal(0), Decimal("1.0")]]
)
def test_zero_and_one_are_an_integer_in_any_form(contract, values):
    assert to_arrow(pd.DataFrame({"num_products": values}), contract)["num_products"].to_pylist() == [0, 1]


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
        (
            lambda frame: frame.assign(ahead=frame["monthly_charges"].cumsum()),
            "makes a customer's ahead from other customers' rows",
        ),
        (
            lambda frame: frame.assign(luck=np.random.default_rng().random(len(frame))),
            "makes a customer's luck at random, or from the time: the same rows give other values",
        ),
        (
            lambda frame: frame.assign(luck=np.random.default_rng(0).random(len(frame))),
            "makes a customer's luck from its row's place in the table",
        ),
        (
            lambda frame: frame.assign(early=np.arange(len(frame)) < 1_000),
            "makes a customer's early from its row's place in the table",
        ),
        (lambda frame: frame.assign(leak=frame["churn"]), "reads 'churn', which is not there"),
    ],
)
def test_a_feature_comes_from_its_own_row_alone_and_never_from_the_label(customers, monkeypatch, function, said):
    monkeypatch.setattr(churn.features, "FEATURES", (function,))
    with pytest.raises(StageError, match=said):
        add_features(customers.drop(columns="churn"))


def test_a_mean_over_many_columns_is_of_its_own_row_though_its_last_bit_differs(monkeypatch):
    """NumPy adds up one row of ten numbers in another order than several rows."""
    names = [f"n{number}" for number in range(10)]
    monkeypatch.setattr(churn.features, "FEATURES", (lambda frame: frame.assign(mean=frame[names].mean(axis=1)),))
    random = np.random.default_rng(0)
    for _ in range(50):
        assert len(add_features(pd.DataFrame(random.random((2, 10)) * 100, columns=names))) == 2


def test_a_feature_of_its_own_row_may_be_missing(customers, monkeypatch):
    function = lambda frame: frame.assign(age=frame["tenure_months"].where(frame["tenure_months"] > 70))  # noqa: E731
    monkeypatch.setattr(churn.features, "FEATURES", (function,))
    assert add_features(customers.drop(columns="churn"))["age"].isna().any()


def test_a_feature_may_be_a_category_whose_rare_value_half_of_the_rows_lack(monkeypatch):
    monkeypatch.setattr(
        churn.features, "FEATURES", (lambda frame: frame.assign(tier=frame["plan"].astype("category")),)
    )
    plans = pd.DataFrame({"plan": ["a", "rare", "a", "b"]})
    assert add_features(plans)["tier"].tolist() == plans["plan"].tolist()


def test_a_feature_function_that_makes_arrays_is_refused(monkeypatch):
    def shares(frame):
        return frame.assign(shares=[np.ones(2)] * len(frame))

    monkeypatch.setattr(churn.features, "FEATURES", (shares,))
    with pytest.raises(StageError, match="shares makes values that cannot be compared, such as arrays"):
        add_features(pd.DataFrame({"plan": ["a", "b"]}))


def test_a_feature_function_that_makes_a_column_without_a_name_is_refused(monkeypatch, customers):
    def unnamed(frame):
        return pd.concat([frame, pd.Series(1, index=frame.index)], axis=1)

    monkeypatch.setattr(churn.features, "FEATURES", (unnamed,))
    with pytest.raises(StageError, match="unnamed makes a column whose name is not text: name it, as in assign"):
        add_features(customers)


def test_a_feature_function_that_makes_a_column_twice_is_refused(monkeypatch, customers):
    """Fault in the settings: a feature function makes a column twice.

    prepare fails: `add_x makes the column y more than once.`
    """

    def twice(frame):
        return pd.concat([frame, frame[["churn"]]], axis=1)

    monkeypatch.setattr(churn.features, "FEATURES", (twice,))
    with pytest.raises(StageError, match="twice makes the column churn more than once"):
        add_features(customers)
