"""Snowflake, by ADBC: `snowflake://[USER@]ACCOUNT/DATABASE[/SCHEMA][?warehouse=…&role=…]`.

A SELECT sees one state of its tables there, and no transaction is read-only: the role decides what a query may do.
"""

import os
import re
from urllib.parse import parse_qsl, unquote, urlsplit

from churn.core.errors import StageError
from churn.data.engines import name_fault
from churn.data.sources.adbc import Fault, Session, Warehouse
from churn.data.sources.query import Query

OPTION = "adbc.snowflake.sql."
PARAMETERS = {  # of the URL, and the driver's options
    "warehouse": "warehouse",
    "role": "role",
    "host": "uri.host",
    "port": "uri.port",
    "protocol": "uri.protocol",
}
SHAPE = "snowflake://ACCOUNT/DATABASE/SCHEMA?warehouse=NAME"
CREDENTIALS = "SNOWFLAKE_PASSWORD (also a programmatic access token) or SNOWFLAKE_PRIVATE_KEY_RAW"
FAULTS = {  # by Snowflake's number of the error, or that of its Go driver
    606: "no warehouse runs it: name one in the URL, as in ?warehouse=NAME",
    1003: "there is a syntax error",
    2003: "a table does not exist, or the role may not read it",
    2043: "an object does not exist, or the role may not use it",
    3001: "the role has no permission for that",
    8: "it is more than one statement",
    100035: "a value is no date or time of the format it asks for",
    100038: "a value cannot be converted as it asks",
    100037: "a value cannot be converted as it asks",
    100040: "a value is no date or time of the format it asks for",
    100046: "a number is out of range",
    100051: "a value is divided by zero",
    100078: "a value is too large",
    100069: "a value is no valid JSON",
    100090: "a sub-query gives more than one row",
}
CONNECTION = {
    250001: "the server does not answer",
    260008: "the server does not answer; look at the account's name",
    261004: "the server does not answer",
    261006: "the server does not answer",
    390100: "the user or the password is wrong",
    390101: "the user or the password is wrong",
    390102: "the user is locked or disabled",
    390144: "the private key is not the user's",
    390189: "the role does not exist, or not for this user",
    390201: "the database, the schema or the warehouse does not exist",
    390422: "the network policy does not admit this machine",
}


def _session(source: str, query: Query) -> Session:
    parts = urlsplit(source)
    user, _, account = parts.netloc.rpartition("@")
    user = unquote(user) or os.environ.get("SNOWFLAKE_USER", "")
    database, _, schema = unquote(parts.path).strip("/").partition("/")
    given = parse_qsl(parts.query, keep_blank_values=True)
    if unknown := [name for name, _ in given if name not in PARAMETERS]:
        raise StageError(f"the source {source} has the parameter {unknown[0]}; it may have {', '.join(PARAMETERS)}.")
    if not account or not database:
        raise StageError(f"the source {source} lacks its account or its database: write {SHAPE}.")
    if not user:
        raise StageError(f"{source} has no user: write snowflake://USER@{account}/…, or set SNOWFLAKE_USER.")
    names = {"account": account, "db": database, "schema": schema} | {PARAMETERS[name]: value for name, value in given}
    arguments = {OPTION + name: value for name, value in names.items() if value} | {"username": user}
    arguments |= _credentials(source) | {
        # The driver makes a parameter of the session of an option that it does not know.
        "TIMEZONE": "UTC",
        f"{OPTION}client_option.use_high_precision": "true",
        f"{OPTION}client_option.login_timeout": "30s",
        f"{OPTION}client_option.tracing": "fatal",  # its log may quote the query
    }
    if query.minutes:
        arguments["STATEMENT_TIMEOUT_IN_SECONDS"] = str(max(round(query.minutes * 60), 1))
    return Session({"db_kwargs": arguments, "autocommit": True})


def _credentials(source: str) -> dict[str, str]:
    """Return the options for the key or the password of the environment. Raises StageError if there is none."""
    if key := os.environ.get("SNOWFLAKE_PRIVATE_KEY_RAW"):
        options = {"auth_type": "auth_jwt", "client_option.jwt_private_key_pkcs8_value": key}
        if passphrase := os.environ.get("SNOWFLAKE_PRIVATE_KEY_PASSPHRASE"):
            options["client_option.jwt_private_key_pkcs8_password"] = passphrase
        return {OPTION + name: value for name, value in options.items()}
    if password := os.environ.get("SNOWFLAKE_PASSWORD"):
        return {"password": password}
    raise StageError(f"{source} cannot be reached: there are no credentials; {CREDENTIALS} has them.")


def _fault(error: Exception, sql: str) -> Fault:
    text, number = str(error), getattr(error, "vendor_code", None) or 0
    if re.search(r"(?i)statement or warehouse timeout", text):
        return Fault("timeout")
    if number in CONNECTION:
        return Fault("unreachable", CONNECTION[number])
    if re.search(r"(?i)private key|pkcs8|PEM block", text):
        return Fault("unreachable", "the private key cannot be read, or its passphrase is wrong")
    if re.search(r"(?i)no such host|connection refused|i/o timeout|failed to auth|login.*timeout|HTTP: 40[34]", text):
        return Fault("unreachable", "the server does not answer; look at the account's name")
    if re.search(
        r"(?i)unexpected EOF|connection reset|broken pipe|context deadline|use of closed|HTTP Status: 5", text
    ):
        return Fault("lost")
    words = name_fault(text, sql) or FAULTS.get(number)
    return Fault("query", words or (f"its error is {number}" if number > 0 else "it refuses it, or a value in it"))


SNOWFLAKE = Warehouse(
    name="Snowflake",
    driver="adbc_driver_snowflake.dbapi",
    credentials=f"{CREDENTIALS} has the credentials",
    session=_session,
    fault=_fault,
)
