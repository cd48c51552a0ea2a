"""Runs as a user has them: no customer's value or key gets out of the tables, but for a person at a terminal."""

import os
import pty
import re
import subprocess
import sys
from contextlib import suppress

from churn.core.paths import LOG
from tests.conftest import Clone

import pandas as pd
import pytest

CANARY = "CANARY-7f3a91"
KEY = r"\d{4}-[A-Z]{5}"
TABLES = ("data", ".dvc", ".git", "models/churn.skops")


@pytest.fixture
def planted(clone: Clone) -> Clone:
    """The clone, in which the canary is the key of a customer, and a value that no column of the contract takes."""
    lines = clone.text("data/sample/telco_customers.csv").splitlines(keepends=True)
    key, gender, rest = lines[7].split(",", 2)
    assert gender in {"Male", "Female"}
    lines[7] = f"{CANARY},{CANARY},{rest}"
    (clone.folder / "data/sample/telco_customers.csv").write_text("".join(lines))
    (clone.folder / LOG).unlink(missing_ok=True)
    assert key not in "".join(lines)
    return clone


def everything(clone: Clone) -> str:
    """Return the text of all files that a run leaves, but for the tables, the model, and what lies in Git."""
    files = [file for file in clone.folder.rglob("*") if file.is_file()]
    names = [str(file.relative_to(clone.folder)) for file in files]
    return "".join(
        file.read_bytes().decode(errors="replace")
        for file, name in zip(files, names, strict=True)
        if not name.startswith(TABLES) and file.suffix not in {".pyc", ".py", ".sql"}
    )


def test_no_key_of_any_customer_is_in_what_a_run_leaves_beside_its_tables(finished: Clone):
    keys = pd.read_parquet(finished.folder / "data/raw/customers.parquet", columns=["customer_id"])["customer_id"]
    left = everything(finished) + finished.first_run
    assert "holdout_sha256" in left, "metrics"
    assert '{"stage": "fetch"' in left, "the log"
    assert "model_sha256" in left, "the registry's tags"
    assert "What the gate could not detect" in left, "the dossier"
    assert keys.str.fullmatch(KEY).all()
    assert not {*re.findall(KEY, left)} & {*keys}


def test_a_failed_query_is_in_log_and_report_without_the_value(planted: Clone):
    planted.replace("source.sql", "tenure AS tenure_months", "strptime(customerID, '%Y') AS tenure_months")
    printed = planted.run("dvc", "repro").stdout
    said = "source.sql does not run: a value is no date or time of the format it asks for"
    assert f"fetch: {said}" in printed
    printed += planted.run("python", "-m", "report", "--base", "nowhere").stdout
    left = everything(planted)
    assert left.count(said) >= 3, "the log, report.md and outcome.json"
    assert CANARY not in printed + left


FAILING = """
def failing(customers):
    import logging, warnings
    key = customers.loc[customers["customer_id"].str.startswith("CANARY"), "customer_id"].iloc[0]
    warnings.warn(key)
    logging.error(key)
    return customers.assign(x=float(key))

FEATURES = (failing,)
"""
IMPORTING = """
def _rate():
    raise LookupError(*pd.read_parquet("data/raw/customers.parquet")["customer_id"])

RATE = _rate()
"""


def test_a_feature_function_that_fails_warns_or_logs_is_told_by_its_line(planted: Clone):
    """Fault in messages: a feature function warns, logs, or crashes at import.

    The message has the kind and the line: `crashed with LookupError in churn/features.py, line 31`
    """
    planted.ok("python", "-m", "stages.fetch")
    features = planted.text("churn/features.py")
    (planted.folder / "churn/features.py").write_text(features + FAILING)
    done = planted.run("python", "-m", "stages.prepare")
    assert done.returncode == 1
    lines = features.count("\n")
    assert f"prepare: failing fails with ValueError in churn/features.py, line {lines + 7}" in done.stdout
    assert f"prepare: UserWarning at {planted.folder}/churn/features.py, line {lines + 5}\n" in done.stdout
    assert f"ERROR of root at {planted.folder}/churn/features.py, line {lines + 6}\n" in done.stdout
    (planted.folder / "churn/features.py").write_text(features + IMPORTING)
    imported = planted.run("python", "-m", "stages.prepare")
    assert imported.returncode == 1
    assert f"crashed with LookupError in churn/features.py, line {lines + 3}" in imported.stdout
    assert "CANARY" not in done.stdout + imported.stdout + everything(planted)


def test_a_person_at_a_terminal_reads_the_librarys_text_and_the_log_does_not_have_it(planted: Clone):
    """Fault in messages: a value fails the query, and a terminal is attached.

    The terminal also shows the library's text. The log does not.
    """
    planted.replace("source.sql", "tenure AS tenure_months", "strptime(customerID, '%Y') AS tenure_months")
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "stages.fetch"]
    with subprocess.Popen(command, cwd=planted.folder, env=planted.environment, stdout=end, stderr=end) as process:
        os.close(end)
        shown = b""
        with suppress(OSError):  # which is how a terminal ends
            while part := os.read(terminal, 4096):
                shown += part
    os.close(terminal)
    assert process.returncode == 1
    assert b"fetch: InvalidInputException: Invalid Input Error: Could not parse string" in shown
    assert "Could not parse" not in everything(planted)
