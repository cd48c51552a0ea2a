"""Make synthetic customers, of any number, in the sample's columns: each is one of the sample's, a little changed.

A row of the sample is drawn for each customer. Its charges move together by up to five percent, and the key is unique
and in no order. The same seed gives the same customers. With --months, a customer has a row for each month, with a
column for it, growing tenure and charges, and the label in the last month alone. The file is written as a stream, as
CSV or Parquet by its name. Usage: python -m benchmarks.customers ROWS FILE [--seed SEED] [--months MONTHS]
"""

import argparse
from pathlib import Path

from benchmarks.measure import SAMPLE

import duckdb

JITTER = 0.05
FIRST_MONTH = "DATE '2025-01-01'"


def customers_sql(rows: int, seed: int = 0, months: int = 1) -> str:
    """Return the query that makes `rows` rows of a table `sample`, all text, whose rows have a number `line`.

    The key is the customer's number times an odd number, modulo a power of two, so that no two are alike.
    """
    monthly = f"(MonthlyCharges::DOUBLE * (1 + {JITTER} * (hash(number, {seed}, 1) % 20001 / 10000.0 - 1)))"
    billed = f"if(trim(TotalCharges) = '', 0, TotalCharges::DOUBLE) * {monthly} / MonthlyCharges::DOUBLE"
    columns = {
        "customerID": "lpad(CAST(number * 2654435761 % 4294967296 AS VARCHAR), 10, '0') || '-' || customerID",
        "MonthlyCharges": f"CAST(round({monthly}, 2) AS VARCHAR)",
        "TotalCharges": "if(trim(TotalCharges) = '' AND month = 0, ' ',"
        f" CAST(round({billed} + month * {monthly}, 2) AS VARCHAR))",
        "tenure": "CAST(tenure::INTEGER + month AS VARCHAR)",
        "Churn": f"if(month = {months - 1}, Churn, 'No')",
    }
    replaced = ", ".join(f"{value} AS {name}" for name, value in columns.items())
    month = f", CAST({FIRST_MONTH} + to_months(month::INTEGER) AS DATE)::VARCHAR AS month" if months > 1 else ""
    drawn = f"SELECT row // {months} AS number, row % {months} AS month FROM range({rows}) AS rows(row)"
    return f"""
        SELECT sample.* EXCLUDE (line) REPLACE ({replaced}){month}
        FROM (SELECT *, hash(number, {seed}) % (SELECT count(*) FROM sample) AS line FROM ({drawn})) AS drawn
        JOIN sample USING (line)"""


def make_customers(target: Path, rows: int, seed: int = 0, months: int = 1) -> None:
    """Write `rows` rows to a Parquet file, or to a CSV file if the name ends so."""
    form = "csv, HEADER" if target.suffix == ".csv" else "parquet, COMPRESSION zstd"
    with duckdb.connect(config={"memory_limit": "1GB"}) as database:
        lines = (
            f"SELECT *, CAST(row_number() OVER () - 1 AS UBIGINT) AS line FROM read_csv('{SAMPLE}', all_varchar = true)"
        )
        database.execute(f"CREATE TABLE sample AS {lines}")
        database.execute(f"COPY ({customers_sql(rows, seed, months)}) TO '{target}' (FORMAT {form})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.customers", description=__doc__.partition("\n")[0])
    parser.add_argument("rows", type=int)
    parser.add_argument("file", type=Path, help="a name that ends in .csv or .parquet")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--months", type=int, default=1, help="rows of each customer; %(default)s by default")
    asked = parser.parse_args()
    if asked.rows < 1 or asked.months < 1 or asked.file.suffix not in (".csv", ".parquet"):
        parser.error("rows and months: at least 1; file: its name ends in .csv or .parquet")
    make_customers(asked.file, asked.rows, asked.seed, asked.months)
