"""validate: whether both tables comply with the contract.

In: both tables, contract.yaml, profile.json, the row counts and the snapshot. Out: metrics/validation.json. All
violated rules are reported together, and then the stage fails; a note does not fail it. The file holds counts, never a
customer's value; the terminal also shows a few row numbers.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict

if __name__ == "__main__":
    from churn.core.start import start_up

    start_up()

from churn.config.check import checked_settings
from churn.config.contract import Contract
from churn.config.params import LOCAL, Compute
from churn.core.errors import StageError, number_of
from churn.core.files import refuse_twice, sha256_of, write_json
from churn.core.paths import CONTRACT, RAW, ROWS, TEST, TRAIN, VALIDATION
from churn.core.results import read_result
from churn.core.runner import run
from churn.core.terminal import status
from churn.data.conditions import condition_faults
from churn.data.duckdb_helpers import identifier
from churn.data.reducing import Database, leaves_of, totals, views
from churn.quality.feature_checks import feature_findings
from churn.quality.key_checks import key_notes, lookalike_findings, outcome_findings
from churn.quality.profile import Profile, load_profile, profile_of
from churn.quality.profile_checks import BOTH_TABLES, profile_findings
from churn.quality.row_checks import Finding, table_findings

TABLES = {"train": TRAIN, "test": TEST}


def key_findings(database: Database, contract: Contract) -> Iterator[Finding]:
    """Yield a finding when customers are in both tables."""
    customer = identifier(contract.customer)
    count = f"SELECT count(DISTINCT {customer}) FROM test"
    (shared,) = totals(database, f"{count} SEMI JOIN train USING ({customer})")
    # protection: no customer in both tables
    if shared:
        (total,) = totals(database, count)
        message = f"the training table has {number_of(shared, 'customers of the holdout')}, too"
        yield Finding("test", "disjoint", contract.customer, shared, round(shared / total, 6), message)


def question_findings(contract: Contract, rows: int) -> Iterator[Finding]:
    """Yield the columns of which nobody has said what a missing value means."""
    for name in contract.open_questions:
        message = f"{CONTRACT}: columns.{name}.because is still a question: write what a missing value means"
        yield Finding(BOTH_TABLES, "because", name, rows, 1.0, message)


def row_count_findings(recorded: Mapping[str, object], counted: Mapping[str, int], min_rows: int) -> Iterator[Finding]:
    """Yield what is wrong with the row counts that prepare `recorded`; `counted` has those of fetched, train and test.

    They reconcile when fetched = train + test + dropped, each as counted here.
    """
    total = counted["train"] + counted["test"]
    for name, rows in counted.items():
        if (before := recorded.get(name)) != rows:
            off = abs(rows - before) if isinstance(before, int) else rows
            message = f"{ROWS} has {before} rows {name}, but there are {rows:,}"
            yield Finding(name, "row_counts", "", off, round(off / max(rows, 1), 6), message)
    dropped = recorded.get("dropped")
    declared = sum(rows for rows in dropped.values() if isinstance(rows, int)) if isinstance(dropped, dict) else 0
    # protection: validate counts the rows itself
    if lost := counted["fetched"] - total - declared:
        fetched = counted["fetched"]
        message = f"of {fetched:,} fetched rows {lost:,} got lost: in no table, and dropped for no declared reason"
        yield Finding("fetched", "row_counts", "", abs(lost), round(abs(lost) / max(fetched, 1), 6), message)
    if total < min_rows:
        message = f"{number_of(total, 'rows')}, fewer than the {min_rows:,} that the contract wants"
        yield Finding(BOTH_TABLES, "min_rows", "", total, 1.0, message)


def validate(
    contract: Contract, profile: Profile, recorded: Mapping[str, object], compute: Compute = LOCAL
) -> tuple[dict[str, int], list[Finding], list[str]]:
    """Return the numbers of rows, every violated rule, and notes. Raises StageError when a table cannot be read."""
    files = {"fetched": RAW, **TABLES}
    with views(files, compute) as database:
        counted = {name: totals(database, f"SELECT count(*) FROM {name}")[0] for name in files}
        for name, path in files.items():
            refuse_twice(leaves_of(database, name, path), path)
        findings = [finding for table in TABLES for finding in table_findings(database, table, contract)]
        unusable = {finding.column for finding in findings if finding.rule in ("required", "type")}
        now = profile_of(database, contract, profile)
        findings += profile_findings(contract, profile, now)
        notes: list[str] = []
        if not {contract.key, contract.customer} & unusable:
            columns, notes = feature_findings(database, contract, profile, now)
            findings += [*columns, *key_findings(database, contract), *lookalike_findings(database, contract)]
            notes += key_notes(database, contract)
        if contract.label not in unusable:
            findings += outcome_findings(database, contract)
    findings += question_findings(contract, counted["train"] + counted["test"])
    return counted, [*findings, *row_count_findings(recorded, counted, contract.rules.min_rows)], notes


def main() -> None:
    """Validate, write the result, and fail when a rule is violated."""
    params, contract = checked_settings(condition_faults)
    counted, findings, notes = validate(contract, load_profile(), read_result(ROWS), params.compute)
    result = {
        "passed": not findings,
        "tables": {name: {"rows": counted[name], "sha256": sha256_of(path)} for name, path in TABLES.items()},
        "broken": [{key: value for key, value in asdict(finding).items() if key != "rows"} for finding in findings],
    }
    write_json(VALIDATION, result | ({"notes": notes} if notes else {}))
    for note in notes:
        print(f"validate: {status('NOTE')}: {note}")
    for finding in findings:
        rows = f", rows {', '.join(map(str, finding.rows))}" if finding.rows else ""
        print(f"validate: {finding.table}: {finding.sentence} ({finding.share:.2%}{rows})", file=sys.stderr)
    if findings:
        raise StageError(
            f"the data break {number_of(len(findings), 'rules')} of {CONTRACT}; see above and {VALIDATION}."
        )
    print(f"validate: {counted['train']:,} + {counted['test']:,} rows keep {CONTRACT}")


if __name__ == "__main__":
    run(main)
