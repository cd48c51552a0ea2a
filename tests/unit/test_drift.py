import shutil
from dataclasses import astuple

from churn.config.memory import duckdb_limit, limit_duckdb
from churn.core.errors import StageError
from churn.data.featuring import to_arrow
from churn.quality.drift import DRIFTED, STABLE, RowChanges, arguments, feature_drift, main, row_changes
from tests.conftest import make_customers
from tests.frozen import SAMPLE

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import chi2_contingency, ks_2samp


@pytest.fixture
def tables(contract, tmp_path):
    """Return a function that writes two frames and returns their paths."""

    def written(before, after):
        paths = tmp_path / "before.parquet", tmp_path / "after.parquet"
        for frame, path in zip((before, after), paths, strict=True):
            pq.write_table(to_arrow(frame, contract), path)
        return paths

    return written


@pytest.fixture
def drift(contract, tables):
    """Return a function that gives the drift between two frames by feature: of all, or of those that are named."""

    def measured(before, after, *names):
        columns = {name: contract.columns[name] for name in names} or contract.columns
        chosen = contract.model_copy(update={"columns": columns})
        return {found.name: found for found in feature_drift(*tables(before, after), chosen)}

    return measured


def stability_index(before, after):
    """The PSI of two pandas columns by its definition: deciles, or values, and a bin of the missing."""
    if before.dtype.kind in "if":
        cuts = np.unique(np.quantile(before.dropna(), np.arange(1, 10) / 10, method="inverted_cdf"))
        binned = [np.searchsorted(cuts, column.dropna()) for column in (before, after)]
    else:
        binned = [column.dropna().to_numpy() for column in (before, after)]
    kinds = set(binned[0]) | set(binned[1])
    shares = [
        [np.sum(bins == kind) / len(column) for kind in kinds] + [column.isna().mean()]
        for bins, column in zip(binned, (before, after), strict=True)
    ]
    b, a = np.maximum(shares, 0.0001)
    return np.sum((a - b) * np.log(a / b))


def moved(contract):
    """Return two tables of unequal size that differ in a number with ties, one without, a category and a boolean."""
    before, after = make_customers(contract, 3_000, seed=1), make_customers(contract, 2_000, seed=2)
    after["tenure_months"] = (after["tenure_months"] * 0.8).astype("int64")
    after["monthly_charges"] *= 1.07
    after.loc[::9, "total_charges"] = np.nan
    after.loc[::7, "contract"] = "One year"
    after.loc[::5, "partner"] = True
    return before, after


def test_the_index_is_that_of_its_definition_for_every_feature(contract, drift):
    before, after = moved(contract)
    found = drift(before, after)
    assert set(found) == set(contract.features)
    for name, feature in found.items():
        assert feature.psi == pytest.approx(stability_index(before[name], after[name]), abs=1e-6), name
    assert found["tenure_months"].psi > 0.05


def test_the_p_value_is_scipys_for_every_feature(contract, drift):
    before, after = moved(contract)
    for name, feature in drift(before, after).items():
        if contract.columns[name].type in ("integer", "number"):
            expected = ks_2samp(before[name].dropna(), after[name].dropna(), method="asymp").pvalue
        else:
            both = pd.concat([before[name], after[name]], keys=["before", "after"])
            table = pd.crosstab(both.index.get_level_values(0), both.to_numpy())
            expected = chi2_contingency(table, correction=False).pvalue
        assert feature.p_value == pytest.approx(expected, abs=1e-6), name


def test_counting_in_several_batches_changes_nothing(contract, drift, monkeypatch):
    before, after = moved(contract)
    at_once = drift(before, after)
    monkeypatch.setattr("churn.quality.drift.BATCH", 100)  # DuckDB rounds up to its vectors of 2,048 values
    assert after["monthly_charges"].nunique() + before["monthly_charges"].nunique() > 2_048
    assert drift(before, after) == at_once


def test_a_table_has_not_drifted_from_itself(contract, drift, customers):
    for feature in drift(customers, customers).values():
        assert (feature.psi, feature.p_value, feature.level) == (0, 1, "stable")


def test_two_samples_of_the_same_customers_are_stable_and_rarely_significant(contract, drift):
    found = drift(make_customers(contract, 4_000, seed=1), make_customers(contract, 4_000, seed=2))
    assert {feature.level for feature in found.values()} == {"stable"}
    assert sum(feature.p_value < 0.05 for feature in found.values()) <= 4  # one in twenty of nineteen features


def test_missing_values_are_a_bin(contract, drift, customers):
    after = customers.copy()
    after.loc[::4, "total_charges"] = np.nan
    feature = drift(customers, after, "total_charges")["total_charges"]
    missing = [frame["total_charges"].isna().mean() for frame in (customers, after)]
    assert [feature.missing_before, feature.missing_after] == pytest.approx(missing, abs=1e-6)
    assert feature.level == "large"
    assert feature.p_value > 0.05  # the values that are there did not change


def test_nan_is_missing_whichever_way_a_table_was_written(contract, tables, customers):
    before, after = tables(customers, customers)
    table = pq.read_table(after)
    nan = pa.array(customers["total_charges"].to_numpy(), from_pandas=False)
    assert nan.null_count == 0
    at = table.column_names.index("total_charges")
    pq.write_table(table.set_column(at, "total_charges", nan), after)
    found = {feature.name: feature for feature in feature_drift(before, after, contract)}["total_charges"]
    assert found.psi == 0
    assert found.missing_before == found.missing_after > 0
    assert row_changes(before, after, contract) == RowChanges(0, 0, 0, len(customers))


def test_a_column_that_became_all_missing_has_an_index_and_no_test(contract, drift, customers):
    after = customers.assign(total_charges=np.nan)
    for tables in ((customers, after), (after, customers)):
        feature = drift(*tables, "total_charges")["total_charges"]
        assert (feature.level, feature.p_value) == ("large", None)


@pytest.mark.parametrize(("share", "level"), [(0.01, "stable"), (0.2, "moderate"), (0.5, "large")])
def test_levels_follow_the_size_of_the_move_not_its_significance(drift, customers, share, level):
    after = customers.copy()
    after.loc[: int(share * len(after)), "monthly_charges"] = 500.0
    feature = drift(customers, after, "monthly_charges")["monthly_charges"]
    assert feature.level == level
    assert feature.psi < 3


def test_a_value_never_seen_before_is_drift_but_not_endless(drift, customers):
    before = customers.assign(contract="One year")
    after = before.copy()
    after.loc[:0, "contract"] = "Two year"
    assert 0 < drift(before, after, "contract")["contract"].psi < 0.01
    assert drift(before, before.assign(contract="Two year"), "contract")["contract"].level == "large"


def test_the_largest_comes_first_after_what_only_one_table_has(contract, tables, customers):
    after = customers.assign(monthly_charges=customers["monthly_charges"] * 1.5)
    after = after.assign(tenure_months=(after["tenure_months"] * 0.95).astype("int64"))
    paths = tables(customers.drop(columns="partner"), after.drop(columns="num_products"))
    found = feature_drift(*paths, contract)
    assert [astuple(feature)[1:] for feature in found[:2]] == [(None, None, 0, None), (None, None, None, 0)]
    assert [(feature.name, feature.level) for feature in found[:2]] == [
        ("num_products", "removed"),
        ("partner", "added"),
    ]
    assert [feature.name for feature in found[2:4]] == ["monthly_charges", "tenure_months"]
    assert [feature.psi for feature in found[2:]] == sorted((feature.psi for feature in found[2:]), reverse=True)


def test_the_names_of_the_folders_above_a_table_hide_no_column_of_it(contract, tables, customers):
    before, after = tables(customers, customers)
    folder = before.parent / "tenure_months=1"
    folder.mkdir()
    assert max(one.psi for one in feature_drift(before.rename(folder / "a.parquet"), after, contract)) == 0


def test_what_neither_table_has_is_not_mentioned(contract, drift, customers):
    customers = customers.drop(columns="num_products")
    assert set(drift(customers, customers)) == set(contract.features) - {"num_products"}


def test_a_column_of_another_type_is_compared_by_the_contracts(contract, tmp_path, tables, customers):
    before, after = tables(customers, customers)
    as_number = customers.assign(partner=customers["partner"].astype("int64"), tenure_months="not known")
    as_number.to_parquet(before, index=False)
    found = {feature.name: feature for feature in feature_drift(before, after, contract)}
    assert found["partner"].psi == 0
    assert (found["tenure_months"].missing_before, found["tenure_months"].missing_after) == (1, 0)


def test_rows_that_came_went_changed_and_stayed_are_counted(contract, tables, customers, monkeypatch):
    after = customers.iloc[30:].copy()  # 30 went
    after = pd.concat([after, make_customers(contract, 12, seed=5)])  # 12 came
    after.iloc[0, after.columns.get_loc("monthly_charges")] += 0.01
    after.iloc[1, after.columns.get_loc("churn")] ^= 1
    after.iloc[2, after.columns.get_loc("total_charges")] = np.nan
    assert row_changes(*tables(customers, after), contract) == RowChanges(12, 30, 3, len(customers) - 33)
    monkeypatch.setattr("churn.quality.drift.ROWS", 97)  # of which some shares have none
    assert row_changes(*tables(customers, after), contract) == RowChanges(12, 30, 3, len(customers) - 33)


def test_the_order_of_rows_and_a_new_column_change_no_row(contract, tables, customers):
    shuffled = customers.sample(frac=1, random_state=0)
    paths = tables(customers.drop(columns="num_products"), shuffled)
    assert row_changes(*paths, contract) == RowChanges(0, 0, 0, len(customers))


def test_rows_add_up_where_a_key_occurs_twice(contract, tables, customers):
    after = pd.concat([customers, customers.iloc[:5]])
    changes = row_changes(*tables(customers, after), contract)
    assert (changes.added, changes.removed) == (5, 0)
    assert changes.changed + changes.kept == len(customers)


def test_a_table_without_the_key_is_told(contract, tables, customers):
    before, after = tables(customers, customers)
    customers.drop(columns="customer_id").to_parquet(after, index=False)
    with pytest.raises(StageError, match=r"after\.parquet has no column customer_id"):
        row_changes(before, after, contract)


@pytest.mark.parametrize("compare", [feature_drift, row_changes])
def test_a_file_that_cannot_be_compared_is_told_in_a_sentence(contract, tables, customers, compare):
    before, after = tables(customers, customers)
    tables(customers, customers.iloc[:0])
    with pytest.raises(StageError, match=r"after\.parquet has no rows\."):
        compare(before, after, contract)
    content = bytearray(before.read_bytes())
    pages = len(content) - 12 - int.from_bytes(content[-8:-4], "little")
    content[4 : 4 + pages] = bytes(pages)
    after.write_bytes(content)
    with pytest.raises(StageError, match=r"after\.parquet cannot be read: it is damaged, or of another kind\.$"):
        compare(before, after, contract)
    after.write_text("customer_id\n")
    with pytest.raises(StageError, match=r"after\.parquet does not exist or is not a Parquet file\."):
        compare(before, after, contract)
    after.unlink()
    with pytest.raises(StageError, match=r"after\.parquet does not exist"):
        compare(before, after, contract)


def test_results_hold_no_customer(contract, tables, customers):
    after = make_customers(contract, 500, seed=9)
    told = repr(feature_drift(*tables(customers, after), contract)) + repr(
        row_changes(*tables(customers, after), contract)
    )
    for secret in (*customers["customer_id"], *after["customer_id"], "Month-to-month", "Fiber optic"):
        assert secret not in told


def compared(paths, *more):
    return main(arguments().parse_args([str(paths[1]), "--before", str(paths[0]), *more]))


def test_another_sample_of_the_same_customers_is_stable(contract, tables, customers, capsys, monkeypatch):
    monkeypatch.chdir(SAMPLE)
    after = customers.iloc[20:].assign(monthly_charges=customers["monthly_charges"] + 0.01)
    assert compared(tables(customers, after)) == STABLE
    printed = capsys.readouterr().out
    assert f"customers: 0 added, 20 removed, {len(after):,} changed, 0 the same\ndrift: stable\n" in printed
    assert all(name in printed for name in contract.features)
    assert customers["customer_id"][0] not in printed


def test_drift_keeps_to_the_memory_of_params(tables, customers, params, tmp_path, monkeypatch):
    shutil.copytree(SAMPLE, tmp_path / "sample")
    with (tmp_path / "sample/params.yaml").open("a") as file:
        file.write("compute:\n  memory: 2GB\n")
    monkeypatch.chdir(tmp_path / "sample")
    try:
        assert compared(tables(customers, customers)) == STABLE
        assert duckdb_limit() == "1000MB"
    finally:
        limit_duckdb(params)


def test_what_is_beyond_the_bounds_is_named(tables, customers, capsys, monkeypatch):
    monkeypatch.chdir(SAMPLE)
    richer = tables(customers, customers.assign(monthly_charges=customers["monthly_charges"] * 1.5))
    assert compared(richer) == DRIFTED
    assert "drift: the PSI of monthly_charges is " in capsys.readouterr().out
    assert compared(richer, "--max-psi", "100") == STABLE

    others = tables(customers, customers.assign(customer_id="new-" + customers["customer_id"]))
    assert compared(others) == DRIFTED
    assert "drift: 200.0% of the customers came or went, more than 20.0%\n" in capsys.readouterr().out
    assert compared(others, "--max-turnover", "2") == STABLE

    assert compared(tables(customers, customers.drop(columns="partner"))) == DRIFTED
    assert "drift: the feature partner was removed\n" in capsys.readouterr().out
