import json
import re

from churn.config.contract import load_contract
from churn.core.errors import StageError
from churn.core.paths import TEST, TRAIN
from churn.data.featuring import to_arrow
from churn.quality.deciles import deciles_of
from churn.quality.profile import (
    _rounded_moments,
    customers_profile,
    load_profile,
    pooled_moments,
    profile_of,
    single_feature_roc_auc,
)
from churn.quality.profile_checks import profile_findings, standard_error
from tests.conftest import make_customers
from tests.frozen import copy_of

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML


def profile(frame, contract, like=None):
    with duckdb.connect() as database:
        database.register("train", to_arrow(frame.iloc[::2], contract))
        database.register("test", to_arrow(frame.iloc[1::2], contract))
        return profile_of(database, contract, like)


@pytest.fixture(scope="module")
def customers(contract) -> pd.DataFrame:
    return make_customers(contract, 6_000)


@pytest.fixture(scope="module")
def reference(customers, contract):
    return profile(customers, contract)


@pytest.fixture
def features(contract, tmp_path, monkeypatch):
    """Return a function that writes customers as both prepared tables."""
    monkeypatch.chdir(tmp_path)
    TRAIN.parent.mkdir(parents=True)
    return lambda frame: [pq.write_table(to_arrow(frame, contract), path) for path in (TRAIN, TEST)]


def shifts(frame, contract, reference):
    findings = profile_findings(contract, reference, profile(frame, contract, reference))
    return {(finding.rule, finding.column) for finding in findings}


def swapped(frame):
    return frame.assign(contract=frame["internet_service"].map({"No": "One year"}).fillna("Two year"))


CHANGES = {
    "charges in cents": (lambda frame: frame.assign(monthly_charges=frame["monthly_charges"] * 100), "mean"),
    "tenure in days": (lambda frame: frame.assign(tenure_months=frame["tenure_months"] * 30), "quantiles"),
    "a column frozen": (lambda frame: frame.assign(contract="One year"), "categories"),
    "another column's values": (swapped, "categories"),
    "a third blank": (
        lambda frame: frame.assign(total_charges=frame["total_charges"].where(np.arange(len(frame)) % 3 > 0)),
        "nulls_share",
    ),
    "labels late": (
        lambda frame: frame.assign(churn=frame["churn"].where(frame["contract"] != "Month-to-month", 0)),
        "label_rates",
    ),
    "a truncated file": (lambda frame: frame.head(5_000), "rows"),
    "a feature that knows the label": (
        lambda frame: frame.assign(monthly_charges=20.0 + 60 * frame["churn"] + np.arange(len(frame)) % 20),
        "leakage",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_customers_unlike_the_profile_are_found(name, customers, contract, reference):
    change, rule = CHANGES[name]
    assert rule in {rule for rule, _ in shifts(change(customers), contract, reference)}


def messages(frame, contract, reference):
    return [finding.sentence for finding in profile_findings(contract, reference, profile(frame, contract, reference))]


def test_the_sentence_on_the_last_bin_has_its_own_share(customers, contract, reference):
    """Not the sum of all shares, which is the share of the rows that have a value."""
    above = reference.features["monthly_charges"].edges[-1]
    filled = customers.assign(monthly_charges=customers["monthly_charges"].where(np.arange(6_000) % 4 > 0, above + 1))
    share = (filled["monthly_charges"] > above).mean()
    assert f"{share:.1%} of the rows have monthly_charges above {above:g}, 10.0% in profile.json" in messages(
        filled, contract, reference
    )


def test_the_sentence_on_a_bins_churn_names_both_of_its_ends(customers, contract, reference):
    lower, upper = reference.features["tenure_months"].edges[:2]
    inside = customers["tenure_months"].between(lower + 1, upper)
    late = customers.assign(churn=customers["churn"].where(~inside, 0))
    (message,) = (one for one in messages(late, contract, reference) if "tenure_months" in one)
    assert message.startswith(f"0.0% of the customers with tenure_months above {lower:g}, up to {upper:g} churned, ")


def test_a_number_without_a_value_has_no_mean_to_be_compared(customers, contract, reference):
    said = messages(customers.assign(total_charges=np.nan), contract, reference)
    mean = reference.features["total_charges"].mean
    assert f"total_charges has no value, and so no mean, {mean:.4g} in profile.json" in said


def test_a_number_that_was_none_and_one_that_is_none_any_more_are_named_as_such(customers, contract, reference):
    flag, number = "paperless_billing", "num_products"
    columns, ranges = dict(contract.columns), dict(contract.rules.ranges)
    columns[flag], columns[number] = columns[number], columns[flag]
    ranges[flag] = ranges.pop(number)
    rules = contract.rules.model_copy(update={"ranges": ranges})
    retyped = contract.model_copy(update={"columns": columns, "rules": rules})
    turned = customers.assign(**{flag: customers[number], number: customers[flag]})
    assert messages(turned, retyped, reference) == [
        f"{number} has the type boolean in contract.yaml, and is a number in profile.json",
        f"{flag} has the type integer in contract.yaml, and is not a number in profile.json",
    ]


def test_a_feature_is_described_alike_under_any_name(customers, contract, reference):
    names = {name: f"b{number}" for number, name in enumerate(reversed(contract.features))}
    named = contract.model_copy(update={"columns": {names.get(k, k): one for k, one in contract.columns.items()}})
    found = profile(customers.rename(columns=names), named)
    assert found.features == {names[name]: one for name, one in reference.features.items()}


@pytest.mark.parametrize("seed", range(5))
def test_a_new_draw_of_the_same_customers_is_like_the_profile(seed, customers, contract, reference):
    drawn = customers.sample(len(customers), replace=True, random_state=seed)
    assert shifts(drawn, contract, reference) == set()
    assert shifts(drawn.sample(frac=1, random_state=seed), contract, reference) == set()


@pytest.mark.parametrize("unit", [1e-6, 1e-12])
def test_a_number_of_a_small_unit_is_compared_as_closely_as_one_of_a_large_unit(unit, customers, contract):
    rates = np.random.default_rng(0).normal(2.49, 1.2, len(customers)) * unit
    before = customers.assign(monthly_charges=rates)
    known = profile(before, contract)
    assert shifts(before.assign(monthly_charges=rates + 0.05 * unit), contract, known) == set()
    assert ("mean", "monthly_charges") in shifts(before.assign(monthly_charges=rates * 2), contract, known)


def test_the_deviation_of_a_constant_in_partitions_is_none():
    mean, std = pooled_moments([(1, 0.1, 0.0), (2, 0.1, 0.0)])
    assert std > 0  # by rounding
    assert _rounded_moments(mean, std) == (0.1, 0.0)


def test_shares_that_were_rounded_up_are_no_more_than_all_of_many_customers():
    """Each is rounded to six places, so that the deciles' sum may be a little more than 1."""
    assert 0 < standard_error(1.000001, 1.000001, 10**7, 10**7) < 1e-6


def test_a_feature_that_came_or_went_asks_for_a_new_profile(customers, contract, reference):
    fewer = reference.model_copy(
        update={"features": {name: one for name, one in reference.features.items() if name != "partner"}}
    )
    assert shifts(customers, contract, fewer) == {("profile", "partner")}
    more = reference.model_copy(update={"features": reference.features | {"gone": reference.features["partner"]}})
    assert shifts(customers, contract, more) == {("profile", "gone")}


def test_the_roc_auc_of_a_feature_alone_is_that_of_its_bins(customers, reference):
    rates = customers.groupby("contract")["churn"].transform("mean")
    churned, stayed = rates[customers["churn"] == 1].to_numpy(), rates[customers["churn"] == 0].to_numpy()
    pairs = churned[:, None] - stayed[None, :]
    expected = ((pairs > 0).sum() + (pairs == 0).sum() / 2) / pairs.size
    assert single_feature_roc_auc(reference.features["contract"]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v.update(rows=0), "rows: input should be greater than 0"),
        (lambda v: v["features"]["tenure_months"].update(missing=5.0), "features.tenure_months.missing: input should"),
        (lambda v: v["features"]["tenure_months"].update(std=-1.0), "features.tenure_months.std: input"),
        (lambda v: v["features"]["tenure_months"].update(edges=[3, 2]), "features.tenure_months: the edges do not"),
        (lambda v: v["features"]["contract"]["bins"][0].update(share=-0.1), "features.contract.bins.0.share: input"),
    ],
)
def test_a_profile_of_impossible_numbers_is_one_sentence(tmp_path, change, said):
    """Fault in the settings: `profile.json` holds impossible numbers.

    validate fails: `profile.json: rows: input should be greater than 0 …`
    """
    values = json.loads((copy_of("profile.json")).read_text())
    change(values)
    (tmp_path / "profile.json").write_text(json.dumps(values))
    with pytest.raises(StageError, match=re.escape(said)):
        load_profile(tmp_path / "profile.json")


def test_the_columns_of_a_foreign_profile_are_one_line(customers, contract, reference):
    other = {f"x{number}": one for number, one in enumerate(reference.features.values())}
    foreign = reference.model_copy(update={"features": other, "rows": 10, "label_rate": 0.9})
    (sentence,) = messages(customers, contract, foreign)
    assert sentence == (
        "profile.json describes other columns; it lacks tenure_months, monthly_charges, total_charges, num_products,"
        " contract and 14 more; it has x0, x1, x2, x3, x4 and 14 more: `make profile` renews profile.json, to be"
        " reviewed and committed"
    )


def test_three_columns_that_came_or_went_are_one_line_beside_the_shifts_of_the_others(customers, contract, reference):
    features = {name: one for name, one in reference.features.items() if name not in ("partner", "dependents")}
    former = reference.model_copy(update={"features": features | {"gone": reference.features["partner"]}})
    assert messages(customers.assign(contract="One year"), contract, former)[0].startswith(
        "profile.json describes other columns; it lacks partner, dependents; it has gone: "
    )
    assert {("profile", ""), ("categories", "contract")} <= shifts(
        customers.assign(contract="One year"), contract, former
    )


@pytest.fixture
def called_missing(contract, customers):
    """A contract and customers in which a category has the value `missing`, beside nulls."""
    column = contract.columns["contract"]
    values, nulls = (*column.values[:-1], "missing"), {"nulls": "allow", "because": "a test"}
    changed = column.model_copy(update={"values": values} | nulls)
    plans = customers["contract"].replace(column.values[-1], "missing")
    frame = customers.assign(contract=plans.where(np.arange(len(customers)) % 4 > 0))
    return contract.model_copy(update={"columns": {**contract.columns, "contract": changed}}), frame


def test_the_share_of_a_value_that_is_called_missing_is_compared(called_missing, customers):
    """Fault in the source: the share of a category shifts whose name is `missing`, like that of the bin of nulls.

    validate fails: `plan: missing has vanished, … of the rows in profile.json`
    """
    changed, frame = called_missing
    for before in (frame, frame.assign(contract=frame["contract"].fillna("missing"))):
        moved = before.assign(contract=before["contract"].replace("missing", "One year"))
        found = messages(moved, changed, profile(before, changed))
        assert any(one.startswith("contract: missing has vanished, ") for one in found)


def test_the_churn_rate_of_a_value_that_is_called_missing_is_not_compared_with_that_of_nulls(called_missing):
    changed, frame = called_missing
    is_value = frame["contract"] == "missing"
    apart = frame.assign(churn=np.where(is_value, np.arange(len(frame)) % 10 < 6, frame["churn"]).astype(int))
    reference = profile(apart, changed)
    rates = {one.label_rate for one in reference.features["contract"].bins if one.name == "missing"}
    assert len(rates) == 2
    assert shifts(apart, changed, reference) == set()
    late = apart.assign(churn=apart["churn"].where(frame["contract"].notna(), 0))
    assert ("label_rates", "contract") in shifts(late, changed, reference)


@pytest.mark.parametrize(("values", "knows"), [(1_500, False), (250, False), (250, True), (1_500, True)])
def test_many_values_of_noise_do_not_know_the_label_and_many_that_do_are_found(contract, customers, values, knows):
    """Fault in the source: a category of many values knows the label, while as many values of noise do not.

    validate fails: `… alone ranks churners with a ROC AUC of …`
    """
    random = np.random.default_rng(99)  # not the customers' seed
    noise, churned = random.integers(0, values, len(customers)), customers["churn"].to_numpy(bool)
    low = random.integers(0, values // 2, len(customers))
    drawn = np.where(random.random(len(customers)) < 0.9, low + churned * (values // 2), noise) if knows else noise
    column = contract.columns["contract"].model_copy(update={"values": tuple(map(str, range(values)))})
    rules = contract.rules.model_copy(update={"max_single_feature_roc_auc": 0.6})
    columns = {name: contract.columns[name] for name in (contract.key, contract.label)} | {"contract": column}
    many = contract.model_copy(update={"columns": columns, "rules": rules})
    described = profile(customers.assign(contract=drawn.astype(str))[list(columns)], many)
    in_sample = described.features["contract"].model_copy(update={"out_of_fold": None})
    assert single_feature_roc_auc(in_sample) > 0.6
    area = single_feature_roc_auc(described.features["contract"])
    assert area > 0.85 if knows else abs(area - 0.5) < 0.04
    assert ("leakage" in {one.rule for one in profile_findings(many, described, described)}) == knows


def test_a_value_whose_labels_are_all_missing_is_left_out_of_the_measure_of_a_category(contract, customers):
    labels = customers["churn"].astype(object).where(customers["contract"] != "Two year")
    rules = contract.rules.model_copy(update={"max_single_feature_roc_auc": 0.51})
    described = profile(customers.assign(churn=labels), contract.model_copy(update={"rules": rules}))
    rates = {one.name: one.label_rate for one in described.features["contract"].bins}
    assert rates["Two year"] is None
    assert described.features["contract"].out_of_fold > 0.51


@pytest.mark.parametrize(
    ("change", "wrong"),
    [(lambda churn: churn + 1, 1), (lambda churn: 2 * churn - 1, 0), (lambda churn: churn.where(churn == 0), 1)],
    ids=["1 and 2", "-1 and 1", "0 and missing"],
)
def test_no_profile_is_made_where_a_label_is_neither_0_nor_1(contract, customers, change, wrong, features):
    """Fault in the source: `make profile` reads a label that is 1 and 2, or missing.

    It fails: `data/features/train.parquet: churn is neither 0 nor 1 in … rows: let the query give 1 for churn …`
    """
    features(customers.assign(churn=change(customers["churn"])))
    rows = f"{(customers['churn'] == wrong).sum():,} rows"
    said = f"train.parquet: churn is neither 0 nor 1 in {rows}: let the query give 1 for churn and 0 for none, then run"
    with pytest.raises(StageError, match=said):
        customers_profile(contract)


def test_no_profile_is_made_of_a_table_that_has_no_label(contract, customers, features):
    features(customers.drop(columns="churn"))
    with pytest.raises(StageError, match=r"train\.parquet has no churn, a column of integers: run `dvc repro prepare`"):
        customers_profile(contract)


def test_the_measure_of_a_category_is_in_no_file(contract, customers):
    rules = contract.rules.model_copy(update={"max_single_feature_roc_auc": 0.51})
    described = profile(customers, contract.model_copy(update={"rules": rules}))
    assert described.features["contract"].out_of_fold is not None
    assert "out_of_fold" not in described.model_dump(mode="json")["features"]["contract"]


def test_the_profile_of_a_wide_table_is_that_of_its_columns(contract, customers, monkeypatch):
    whole = profile(customers, contract)
    monkeypatch.setattr("churn.quality.profile.TOGETHER", 3)
    assert profile(customers, contract) == whole


def test_a_table_of_hundreds_of_columns_is_described_in_little_memory(contract, tmp_path):
    """All 310 columns in one query would take more than 1 GB."""
    names, random = [f"c{number}" for number in range(310)], np.random.default_rng(0)
    wide = YAML(typ="safe").load(copy_of("contract.yaml"))
    roles = {name: one for name, one in wide["columns"].items() if name in (contract.key, contract.label)}
    wide["columns"] = roles | {name: {"role": "feature", "type": "number"} for name in names}
    wide["rules"] |= {"ranges": {name: {"min": 0, "max": 1} for name in names}, "relations": {}}
    wide["rules"] = {name: rule for name, rule in wide["rules"].items() if name not in ("changes", "spikes")}
    YAML().dump(wide, tmp_path / "contract.yaml")
    columns = {contract.key: [f"{row}" for row in range(200)], contract.label: random.integers(0, 2, 200)}
    frame = pd.DataFrame(columns | {name: random.random(200) for name in names})
    with duckdb.connect(config={"memory_limit": "200MB"}) as database:
        database.register("train", frame.iloc[::2])
        database.register("test", frame.iloc[1::2])
        described = profile_of(database, load_contract(tmp_path / "contract.yaml"), None)
    assert described.features.keys() == {*names}


@pytest.mark.parametrize("values", [[3.0], [2.0, 2.0, 7.0, 1.0], list(np.random.default_rng(1).normal(size=1_003)), []])
def test_deciles_are_those_of_the_sorted_values_and_a_missing_one_is_none_of_them(values):
    with duckdb.connect() as database:
        database.register("customers", pd.DataFrame({"x": pd.Series([*values, None], dtype="float64")}))
        found = deciles_of(database, {"x": "if(isnan(x), NULL, x)"})["x"]
    if values:
        expected = np.quantile(values, np.arange(1, 10) / 10, method="inverted_cdf")
    assert found == (expected.tolist() if values else [])


def test_deciles_take_no_memory_for_each_row():
    """The rows are more than what DuckDB may keep, which goes on on disk."""
    values = {f"x{number}": f"hash(row, {number}) % 1000003" for number in range(4)}
    with duckdb.connect(config={"memory_limit": "36MB", "threads": "1"}) as database:
        database.execute("CREATE VIEW customers AS FROM range(600000) AS numbers(row)")
        found = deciles_of(database, values)
    for deciles in found.values():
        assert deciles == pytest.approx(np.arange(1, 10) * 100_000, rel=0.02)
