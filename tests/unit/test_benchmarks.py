"""The benchmarks' customers, and the page of their results."""

import subprocess

from benchmarks.customers import make_customers
from benchmarks.false_alarms import SPOILT, applicable
from benchmarks.page import PAGE, TABLE, filled, results
from benchmarks.tables import estimators
from benchmarks.targets import measured_targets, scale_targets, targets
from churn.config.contract import load_contract
from tests.frozen import ROOT
from tests.other_table import CONTRACT

import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest


@pytest.mark.parametrize("months", [1, 5])
def test_the_same_seed_makes_the_same_customers_and_each_month_of_one_once(tmp_path, months):
    first, again, other = (tmp_path / f"{name}.parquet" for name in ("first", "again", "other"))
    for path, seed in ((first, 1), (again, 1), (other, 2)):
        make_customers(path, 1_000, seed, months)
    table = pq.read_table(first)
    assert table.num_rows == 1_000
    assert len(pc.unique(table["customerID"])) == 1_000 // months
    assert ("month" in table.column_names) == (months > 1)
    assert table == pq.read_table(again)
    assert table != pq.read_table(other)


def test_only_the_last_month_of_a_customer_has_a_churner(tmp_path):
    make_customers(tmp_path / "months.parquet", 1_200, months=12)
    table = pq.read_table(tmp_path / "months.parquet")
    churners = table.filter(pc.equal(table["Churn"], "Yes"))
    assert set(churners["month"].to_pylist()) == {"2025-12-01"}
    assert 10 < churners.num_rows < 50


def test_the_page_has_what_the_results_say():
    page = PAGE.read_text(encoding="utf-8")
    assert filled(page, results()) == page, "run python -m benchmarks.page"


def test_the_page_has_a_table_for_each_part_that_was_measured():
    assert results().keys() <= {match["part"] for match in TABLE.finditer(PAGE.read_text(encoding="utf-8"))}


def test_a_target_that_is_missed_is_called_so():
    def row(cold):
        return {
            column: {"cpu": cost} for column, cost in zip(("cold", "nothing", "gate", "training"), cold, strict=True)
        }

    found = {
        "pipelines": {
            "rows": {"7043": {"dvc repro": row((9, 1, 1, 1)), "tutorial": row((10,) * 4), "Kedro": row((4,) * 4)}}
        }
    }
    assert [(limit, round(value, 2)) for _, limit, value in measured_targets(found)] == [(0.65, 0.9), (1, 0.75)]
    assert [row[-1] for row in targets(found)][1:] == ["missed", "met"]


def test_the_best_estimator_counts_and_one_that_was_not_run_to_the_end_does_not():
    def stages(names, **cost):
        return {name: {"wall": 10, "cpu": 10, "peak": 100} | cost for name in names} | {"other": 0}

    model = ("train", "evaluate", "gate", "dvc", "register")
    found = {
        "data": stages(("fetch", "prepare", "profile", "validate")),
        "sklearn": stages(model, peak=900),
        "xgboost:2GB": stages(model, wall=9),
        "lightgbm": stages(("train",), wall=1),
    }
    small = {"rows": {"1000000": found, "10000000": found}}
    assert [(limit, value) for _, limit, value in scale_targets(small)] == [(120, 75), (3072, 100)]
    assert [row[1] for row in estimators({"scale": small})] == [
        "estimator",
        *("HistGradientBoosting", "XGBoost, 2GB", "LightGBM") * 2,
    ]
    large = {"rows": small["rows"] | {"50000000": found | {"data": stages(("fetch", "prepare", "validate"), peak=120)}}}
    assert [value for *_, value in scale_targets(large)][2:] == [0.02, 0.02, 1.2]


def test_make_bench_measures_a_cold_run_the_report_and_a_first_run():
    planned = subprocess.run(
        ["make", "--dry-run", "bench"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    for name in ("pipelines", "report", "first_run"):
        assert f"python -m benchmarks.{name}" in planned


@pytest.mark.parametrize("column", ["  contract: {role: feature, type: boolean}\n", ""])
def test_another_tables_models_are_spoilt_in_each_way_for_which_it_has_the_columns(tmp_path, contract, column):
    assert applicable(contract) == SPOILT
    (tmp_path / "contract.yaml").write_text(CONTRACT.replace("rules:\n", f"{column}rules:\n", 1))
    other = load_contract(tmp_path / "contract.yaml")
    X = pd.DataFrame({name: [1.0, 2.0, 2.0] * 100 for name in other.features})
    y = pd.Series([0, 1, 1] * 100)
    spoilt = {spoil.__name__: spoil(X, y) for spoil in applicable(other)}
    assert spoilt.keys() == {"half_the_rows", "two_hundred_rows", "labels_shuffled"} | (
        {"without_contract"} if column else set()
    )
    for features, labels in spoilt.values():
        assert features.dtypes.equals(X.dtypes)
        assert not (features.equals(X) and labels.equals(y))
