"""Checks of the key that a look at one row does not make, and whether both tables have enough of either outcome."""

from collections.abc import Iterator
from math import ceil

from churn.config.contract import Contract
from churn.core.errors import number_of
from churn.data.duckdb_helpers import folded, identifier
from churn.data.reducing import Database, rows_of, totals, types_of
from churn.quality.profile_checks import BOTH_TABLES
from churn.quality.row_checks import Finding

# Churners, and stayers, of either table. With ten churners the 95 % interval of a ROC AUC of 0.8 is 0.3 wide.
LEAST_OUTCOMES = 10
LIKELY = 16  # the expected number, of which chance leaves LEAST_OUTCOMES in 95 of 100 splits
PREFIX, DIGITS = r"^(\D*)(\d{1,18})$", 2  # a key that ends in a number; the group with the number


def lookalike_findings(database: Database, contract: Contract) -> Iterator[Finding]:
    """Yield a finding when keys, or customers, of the views `train` and `test` differ by blanks or case alone.

    Names that have no blank, and are all of one case, need no comparison.
    """
    for name in dict.fromkeys((contract.key, contract.customer)):
        if contract.columns[name].type != "string":
            continue
        key = identifier(name)
        keys = f"SELECT {key} AS key FROM train UNION ALL SELECT {key} AS key FROM test"
        blanks, lower, upper = totals(
            database,
            "SELECT count(*) FILTER (regexp_matches(key, '[\\s\\pZ]')), count(*) FILTER (key <> upper(key)),"
            f" count(*) FILTER (key <> lower(key)) FROM ({keys})",
        )
        if not blanks and not (lower and upper):
            continue
        twins, total = totals(
            database,
            f"SELECT coalesce(sum(rows) FILTER (keys > 1), 0), sum(rows) FROM"
            f" (SELECT count(DISTINCT key) AS keys, count(*) AS rows FROM ({keys}) GROUP BY {folded('key')})",
        )
        if twins:
            sentence = (
                f"{number_of(twins, 'rows')} have a {name} that differs from another by blanks or case alone: write it"
                " in one way in the query, or take another column if they are different customers"
            )
            yield Finding(BOTH_TABLES, "lookalike", name, int(twins), round(twins / total, 6), sentence)


def key_notes(database: Database, contract: Contract) -> Iterator[str]:
    """Yield a sentence when the customers of the view `fetched` are numbered without a gap."""
    name, key = contract.customer, identifier(contract.customer)
    if name not in types_of(database, "fetched"):
        return
    parts = f"regexp_extract({key}::VARCHAR, '{PREFIX}', "
    some = f"SELECT {key} FROM fetched LIMIT 100"  # nearly all other keys differ here already
    if totals(database, f"SELECT count(*) FILTER ({parts}{DIGITS}) = '') FROM ({some})")[0]:
        return
    found = rows_of(
        database,
        "SELECT count(*) - count(number), count(DISTINCT number), min(number), max(number), min(prefix), max(prefix)"
        f" FROM (SELECT TRY_CAST({parts}{DIGITS}) AS BIGINT) AS number, {parts}1) AS prefix FROM fetched)",
    )
    there = [row for row in found if row[1]]  # an empty partition has no numbers
    if any(row[0] for row in found) or not there:
        return
    _, numbers, leasts, mosts, firsts, lasts = zip(*there, strict=True)
    if 1 < sum(numbers) == max(mosts) - min(leasts) + 1 and min(firsts) == max(lasts):
        yield (
            f"{name} counts the customers without a gap: if it is a row's number in the file, another export"
            " gives each customer another one, and moves it between training and holdout; take a key that stays with it"
        )


def outcome_findings(database: Database, contract: Contract) -> Iterator[Finding]:
    """Yield a finding for each of the views `train` and `test` that has too few churners, or stayers."""
    label = identifier(contract.label)
    counted = {
        table: totals(database, f"SELECT count(*), coalesce(sum({label}), 0) FROM {table}")
        for table in ("train", "test")
    }
    total, churners = (sum(one[side] for one in counted.values()) for side in (0, 1))
    for table, (rows, churned) in counted.items():
        rarer = min(int(churned), rows - int(churned))
        if 0 <= rarer < LEAST_OUTCOMES:
            sentence = (
                f"the {'holdout' if table == 'test' else 'training table'} has {number_of(churned, 'churners')} among"
                f" {number_of(rows, 'customers')}, and a model is measured with at least {LEAST_OUTCOMES} churners and"
                f" {LEAST_OUTCOMES} others: {_advice(total, int(churners), rows)}"
            )
            yield Finding(table, "outcomes", contract.label, rarer, round(rarer / max(rows, 1), 6), sentence)


def _advice(total: int, churners: int, rows: int) -> str:
    if not 0 < churners < total:
        return "look at how the query makes the label, because it is the same for all customers"
    needed = customers_needed(churners / total, rows / total)
    return f"at this churn rate that takes about {needed:,} customers in all; fetch more, such as those of a year"


def customers_needed(label_rate: float, share: float) -> int:
    """Return how many customers a table with `share` of them needs, to have enough churners and stayers.

    Examples
    --------
    >>> customers_needed(0.26, 0.2)
    310
    """
    return ceil(LIKELY / (min(label_rate, 1 - label_rate) * max(share, 0.01)) / 10) * 10
