"""PostgreSQL, by ADBC: see docs/decisions.md."""

import re

from churn.data.engines import LOST, postgresql_fault
from churn.data.sources.adbc import Fault, Session, Warehouse
from churn.data.sources.query import Query

# A server that vanished is noticed within a minute, not after the two hours of the system's default, if at all.
LIMITS = {
    "connect_timeout": 30,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


def _session(source: str, query: Query) -> Session:
    statements = (
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        # The same rows are the same text wherever this runs.
        "SET LOCAL timezone = 'UTC'",
        "SET LOCAL client_encoding = 'UTF8'",
        f"SET LOCAL statement_timeout = {round((query.minutes or 0) * 60_000)}",
    )
    return Session({"uri": with_limits(source)}, statements=statements)


def with_limits(url: str) -> str:
    """Return PostgreSQL's URL with LIMITS, less those that it sets itself."""
    added = "&".join(f"{name}={value}" for name, value in LIMITS.items() if f"{name}=" not in url)
    return f"{url}{'&' if '?' in url else '?'}{added}"


def _fault(error: Exception, sql: str) -> Fault:
    text, words = str(error), postgresql_fault(error, sql)
    if "statement timeout" in text:
        return Fault("timeout")
    if "Failed to connect" in text:
        return Fault("unreachable", words)
    return Fault("lost") if re.search(LOST, text) else Fault("query", words)


POSTGRESQL = Warehouse(
    name="PostgreSQL",
    driver="adbc_driver_postgresql.dbapi",
    credentials="PGPASSWORD or ~/.pgpass has the password",
    session=_session,
    fault=_fault,
)
