"""BigQuery, by ADBC: `bigquery://PROJECT/DATASET[?location=…]`.

A query sees one state of its tables there, and no session is read-only: the account's roles decide what it may do.
"""

import os
import re
from urllib.parse import parse_qsl, unquote, urlsplit

from churn.core.errors import StageError
from churn.data.engines import name_fault
from churn.data.sources.adbc import Fault, Session, Warehouse
from churn.data.sources.query import Query

OPTION = "adbc.bigquery.sql."
SHAPE = "bigquery://PROJECT/DATASET"
CONNECTION = (
    (r"could not find default credentials|no default credentials", "there are no credentials"),
    (
        r"(?i)credentials.*(json|type|file|invalid)|unexpected end of JSON|invalid character",
        "the credentials are no JSON of Google's",
    ),
    (r"readSessionUser", "the account lacks the role BigQuery Read Session User"),
    (r"(?i)invalid_grant|cannot fetch token: 4|Error 401|unauthori[sz]ed", "the credentials are refused"),
    (r"Error 403", "the account has no permission for that"),
    (r"(?i)not found: project|project .*not found", "the project does not exist"),
    (r"(?i)not found: dataset", "the dataset does not exist there; look at the location"),
    (r"(?i)no such host|connection refused|i/o timeout|cannot fetch token", "the server does not answer"),
)
FAULTS = (  # none of the value itself
    (r"(?i)division by zero", "a value is divided by zero"),
    (r"(?i)bad (double|int64|numeric|bool)|invalid cast|could not cast", "a value cannot be converted as it asks"),
    (
        r"(?i)invalid (date|timestamp|datetime|time)|failed to parse",
        "a value is no date or time of the format it asks for",
    ),
    (r"(?i)overflow|out of range", "a number is out of range"),
    (r"(?i)more than one (element|row)", "a sub-query gives more than one row"),
    (r"(?i)quota|rate limit|resources exceeded", "the project's quota or the query's resources do not suffice"),
    (r"(?i)syntax error|expected end of input", "there is a syntax error, or more than one statement"),
    (r"(?i)no matching signature", "its columns, functions and types do not fit together"),
)


def _session(source: str, query: Query) -> Session:
    parts = urlsplit(source)
    project, dataset = parts.netloc, unquote(parts.path).strip("/")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := given.keys() - {"location"}:
        raise StageError(f"the source {source} has the parameter {min(unknown)}; it may have location.")
    if not project or not dataset or "/" in dataset:
        raise StageError(f"the source {source} lacks its project or its dataset: write {SHAPE}.")
    names = {"project_id": project, "dataset_id": dataset, "location": given.get("location", "")}
    arguments = {OPTION + name: value for name, value in names.items() if value}
    if key := os.environ.get("GOOGLE_CREDENTIALS"):
        arguments[f"{OPTION}auth_type"] = f"{OPTION}auth_type.json_credential_string"
        arguments[f"{OPTION}auth_credentials"] = key
    options: dict[str, str | int] = {
        f"{OPTION}query.default_project_id": project,
        f"{OPTION}query.default_dataset_id": dataset,
    }
    if query.minutes:
        options[f"{OPTION}query.job_timeout"] = round(query.minutes * 60_000)  # milliseconds
    return Session({"db_kwargs": arguments, "autocommit": True}, options)


def _fault(error: Exception, sql: str) -> Fault:
    text = str(error)
    if re.search(r"(?i)job (execution )?.*(timed out|timeout)|stopped.*timeout", text):
        return Fault("timeout")
    if named := name_fault(text, sql):
        return Fault("query", named)
    for pattern, words in CONNECTION:
        if re.search(pattern, text):
            return Fault("unreachable", words)
    if re.search(r"(?i)unexpected EOF|connection reset|broken pipe|transport is closing|code = Unavailable", text):
        return Fault("lost")
    words = next((words for pattern, words in FAULTS if re.search(pattern, text)), "it refuses it, or a value in it")
    return Fault("query", words)


BIGQUERY = Warehouse(
    name="BigQuery",
    driver="adbc_driver_bigquery.dbapi",
    credentials="GOOGLE_CREDENTIALS has the key of a service account, or GOOGLE_APPLICATION_CREDENTIALS its file",
    session=_session,
    fault=_fault,
)
