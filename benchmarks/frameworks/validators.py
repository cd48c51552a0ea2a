"""The same checks of one table by several engines. Prints the number of checks that fail.

They are the keys (unique), ranges, categories, missing values, the label and the relation of contract.yaml. Run by
`python -m benchmarks.validation`, as: python validators.py ENGINE TABLE SETTINGS
"""

import json
import os
import sys
from typing import Any

Settings = dict[str, Any]
RELATION = "the total of the charges fits the months"


def this_pipeline(table: str, settings: Settings) -> int:
    """Return the broken rules as validate finds them, which also checks order and spelling."""
    from pathlib import Path

    from churn.config.contract import load_contract
    from churn.data.duckdb_helpers import parquet_views
    from churn.quality.row_checks import table_findings

    with parquet_views({"customers": Path(table)}, "") as database:
        return len([*table_findings(database, "customers", load_contract(Path(settings["contract"])))])


def pandas_script(table: str, settings: Settings) -> int:
    """Return the broken checks of a script like the tutorials'."""
    import pandas as pd

    frame = pd.read_parquet(table)
    checks = [frame["customer_id"].is_unique, frame["churn"].isin([0, 1]).all()]
    checks += [frame[name].notna().all() for name in settings["required"]]
    checks += [frame[name].dropna().between(*bounds).all() for name, bounds in settings["ranges"].items()]
    checks += [frame[name].isin(values).all() for name, values in settings["categories"].items()]
    expected = frame["tenure_months"] * frame["monthly_charges"]
    distance = (frame["total_charges"] - expected).abs().fillna(0)
    checks.append((distance <= 3 * frame["monthly_charges"] + 0.2 * expected).where(expected.notna(), True).all())
    return len(checks) - sum(map(bool, checks))


def pandera_pandas(table: str, settings: Settings) -> int:
    """Return the failed checks of a DataFrameSchema, validated lazily."""
    import pandas as pd
    import pandera.pandas as pa

    def fits(frame: pd.DataFrame) -> Any:
        expected = frame["tenure_months"] * frame["monthly_charges"]
        distance = (frame["total_charges"] - expected).abs().fillna(0)
        return (distance <= 3 * frame["monthly_charges"] + 0.2 * expected).where(expected.notna(), True)

    relation = pa.Check(fits, name=RELATION)
    schema = pa.DataFrameSchema(_columns(pa, settings), checks=relation)
    return _lazily(pa, schema, pd.read_parquet(table))


def pandera_polars(table: str, settings: Settings) -> int:
    """Return the failed checks of a DataFrameSchema on a LazyFrame; by default it would look at the schema alone."""
    os.environ["PANDERA_VALIDATION_DEPTH"] = "SCHEMA_AND_DATA"
    import pandera.polars as pa
    import polars as pl

    def fits(data: Any) -> Any:
        expected = pl.col("tenure_months") * pl.col("monthly_charges")
        near = (pl.col("total_charges") - expected).abs() <= 3 * pl.col("monthly_charges") + 0.2 * expected
        return data.lazyframe.select(near.fill_null(True))

    schema = pa.DataFrameSchema(_columns(pa, settings), checks=pa.Check(fits, name=RELATION))
    return _lazily(pa, schema, pl.scan_parquet(table))


def _columns(pa: Any, settings: Settings) -> dict[str, Any]:
    checks = {name: pa.Check.in_range(*bounds) for name, bounds in settings["ranges"].items()}
    checks |= {name: pa.Check.isin(values) for name, values in settings["categories"].items()}
    checks["churn"] = pa.Check.isin([0, 1])
    names = [*settings["required"], "total_charges"]
    return {
        name: pa.Column(checks=checks.get(name), nullable=name == "total_charges", unique=name == "customer_id")
        for name in names
    }


def _lazily(pa: Any, schema: Any, frame: Any) -> int:
    try:
        checked = schema.validate(frame, lazy=True)
        if hasattr(checked, "collect"):
            checked.select(checked.collect_schema().names()[0]).head(1).collect()
    except pa.errors.SchemaErrors as errors:
        return len({(one.schema.name, str(one.check)) for one in errors.schema_errors})
    return 0


def pointblank_polars(table: str, settings: Settings) -> int:
    """Return the failed steps of a Validate on a table of polars'."""
    import pointblank as pb
    import polars as pl

    frame = pl.read_parquet(table)
    expected = pl.col("tenure_months") * pl.col("monthly_charges")
    near = (pl.col("total_charges") - expected).abs() <= 3 * pl.col("monthly_charges") + 0.2 * expected
    steps = pb.Validate(frame).rows_distinct(columns_subset="customer_id").col_vals_in_set("churn", [0, 1])
    steps = steps.col_vals_not_null(settings["required"]).col_vals_expr(near.fill_null(True))
    for name, bounds in settings["ranges"].items():
        steps = steps.col_vals_between(name, *bounds, na_pass=True)
    for name, values in settings["categories"].items():
        steps = steps.col_vals_in_set(name, values)
    done = steps.interrogate(collect_extracts=False)
    return sum(not step.all_passed for step in done.validation_info)


def great_expectations(table: str, settings: Settings) -> int:
    """Return the failed expectations of a suite on a table of pandas'."""
    import great_expectations as gx
    import pandas as pd

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("customers").add_dataframe_asset("customers")
    frame = pd.read_parquet(table)
    expected = frame["tenure_months"] * frame["monthly_charges"]
    distance = (frame["total_charges"] - expected).abs().fillna(0) - 3 * frame["monthly_charges"] - 0.2 * expected
    suite = gx.ExpectationSuite(name="customers")
    expectations = [gx.expectations.ExpectColumnValuesToBeUnique(column="customer_id")]
    expectations.append(gx.expectations.ExpectColumnValuesToBeInSet(column="churn", value_set=[0, 1]))
    for name in settings["required"]:
        expectations.append(gx.expectations.ExpectColumnValuesToNotBeNull(column=name))
    for name, (low, high) in settings["ranges"].items():
        expectations.append(gx.expectations.ExpectColumnValuesToBeBetween(column=name, min_value=low, max_value=high))
    for name, values in settings["categories"].items():
        expectations.append(gx.expectations.ExpectColumnValuesToBeInSet(column=name, value_set=values))
    expectations.append(gx.expectations.ExpectColumnValuesToBeBetween(column="distance", max_value=0))
    for one in expectations:
        suite.add_expectation(one)
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame.assign(distance=distance)})
    return sum(not one.success for one in batch.validate(suite, result_format="BOOLEAN_ONLY").results)


ENGINES = {
    one.__name__: one
    for one in (
        this_pipeline,
        pandas_script,
        pandera_pandas,
        pandera_polars,
        pointblank_polars,
        great_expectations,
    )
}

if __name__ == "__main__":
    engine, table, settings = sys.argv[1:]
    print(ENGINES[engine](table, json.loads(settings)), "checks fail")
