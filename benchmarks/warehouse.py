"""ADBC and ConnectorX side by side, reading the same customers from PostgreSQL: rows a second, and peak memory.

Makes a table of the sample's customers, over and over, reads it by each in turn, three times, as Arrow batches, and
drops it. ADBC also with a bound parameter, which it does not stream. ConnectorX is not locked: `pip install connectorx`
first. PGPASSWORD has the password. Usage: python -m benchmarks.warehouse postgresql://… [ROWS]
"""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import adbc_driver_postgresql.dbapi as postgresql
import duckdb

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "data/sample/telco_customers.csv"
TABLE = "benchmark_customers"
READ = {
    "ADBC": """
import adbc_driver_postgresql.dbapi as postgresql
with postgresql.connect(url) as server, server.cursor() as cursor:
    cursor.execute(f"SELECT * FROM {table}")
    rows = sum(batch.num_rows for batch in cursor.fetch_record_batch())
""",
    "ADBC, parameter bound": """
import adbc_driver_postgresql.dbapi as postgresql
with postgresql.connect(url) as server, server.cursor() as cursor:
    cursor.execute(f"SELECT * FROM {table} WHERE tenure_months >= $1", parameters=[0])
    rows = sum(batch.num_rows for batch in cursor.fetch_record_batch())
""",
    "ConnectorX": """
import connectorx
batches = connectorx.read_sql(url, f"SELECT * FROM {table}", return_type="arrow_stream", batch_size=100_000)
rows = sum(batch.num_rows for batch in batches)
""",
}
MEASURE = """
import resource, sys, time
url, table, program = sys.argv[1:]
start = time.perf_counter()
exec(program)
print(rows / (time.perf_counter() - start), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def make_table(url: str, rows: int) -> None:
    """Make the table in the contract's columns, numbers as numeric."""
    query = (ROOT / "source.sql").read_text(encoding="utf-8").rstrip()
    with duckdb.connect() as database:
        database.execute(f"CREATE VIEW source AS SELECT * FROM read_csv('{SAMPLE}', all_varchar = true)")
        database.execute(f"CREATE TABLE customers AS {query}")
        customers = database.table("customers").to_arrow_table()
    with postgresql.connect(url) as server, server.cursor() as cursor:
        cursor.adbc_ingest(f"{TABLE}_sample", customers, mode="create", temporary=True)
        flags = ", ".join(f"{name} = 'Yes' AS {name}" for name in ("partner", "dependents", "phone_service"))
        cursor.execute(
            f"CREATE TABLE {TABLE} AS SELECT number || customer_id AS customer_id, churn,"
            " tenure_months::int AS tenure_months, monthly_charges::numeric AS monthly_charges,"
            " total_charges::numeric AS total_charges, contract, payment_method, internet_service, multiple_lines,"
            f" online_security, online_backup, device_protection, has_tech_support, streaming_tv, {flags}"
            f" FROM {TABLE}_sample, generate_series(1, {-(-rows // customers.num_rows)}) number LIMIT {rows}"
        )
        server.commit()


def with_password(url: str) -> str:
    """Return the URL with the password of PGPASSWORD: ConnectorX reads none from the environment."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(os.environ['PGPASSWORD'], safe='')}@{host}"))


def main(url: str, rows: int) -> None:
    """Print a line a way, and the ratio of the two that stream."""
    make_table(url, rows)
    found: dict[str, list[list[float]]] = {name: [] for name in READ}
    try:
        for name in list(READ) * 3:  # in turn, so that a noisy moment meets all of them
            address = with_password(url) if name == "ConnectorX" else url
            command = [sys.executable, "-c", MEASURE, address, TABLE, READ[name]]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[name].append([float(number) for number in printed.split()])
    finally:
        with postgresql.connect(url) as server, server.cursor() as cursor:
            cursor.execute(f"DROP TABLE {TABLE}")
            server.commit()
    speed = {name: statistics.median(run[0] for run in runs) for name, runs in found.items()}
    for name, runs in found.items():
        print(f"{name:22} {speed[name]:9,.0f} rows/s {max(run[1] for run in runs):7,.0f} MiB")
    print(f"ADBC / ConnectorX: {speed['ADBC'] / speed['ConnectorX']:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.warehouse", description=__doc__.partition("\n")[0])
    parser.add_argument("url", help="postgresql://user@host/database; PGPASSWORD has the password")
    parser.add_argument("rows", nargs="?", type=int, default=2_000_000)
    asked = parser.parse_args()
    if "PGPASSWORD" not in os.environ:
        parser.error("set PGPASSWORD")
    main(asked.url, asked.rows)
