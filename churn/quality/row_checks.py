"""The rules of the data contract on one table, checked by DuckDB in one pass.

validate applies them to both tables, and scoring to the customers that come in.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from churn.config.contract import Contract
from churn.core.cluster import TaskError
from churn.core.errors import StageError, number_of
from churn.data.conditions import Condition, relation_condition
from churn.data.duckdb_helpers import SQL_TYPES, blank, identifier, in_chunks, literal
from churn.data.reducing import Database, by_partition, first_rows, in_several, totals, types_of

import duckdb

ROWS_SHOWN = 5
TOGETHER = 100  # rules in a query
SEVERAL_ROWS = (
    ": leave copies out in the query; or if a customer has a row for each day or month, declare a key of the row,"
    " `role: group` for the customer and `role: time` for the day"
)


@dataclass(frozen=True)
class RowRule:
    """A rule on single rows: the message for those that violate it, SQL that is true for them, and its relation."""

    rule: str
    column: str
    message: str
    violated: str
    relation: Condition | None = None


@dataclass(frozen=True)
class Finding:
    """A violated rule: its table, column, number and share of rows, the sentence, and a few row numbers."""

    table: str
    rule: str
    column: str
    count: int
    share: float
    sentence: str
    rows: tuple[int, ...] = ()


def row_rules(contract: Contract, types: Mapping[str, str]) -> Iterator[RowRule]:
    """Yield the rules on the columns that are there with the declared type, in the contract's order.

    `__previous_key` is the key of the row above: in a table sorted by key, as fetch makes it, looking at the
    neighbour is all that uniqueness takes. Relations wait until every column is there.
    """
    checkable = [name for name, column in contract.columns.items() if types.get(name) == SQL_TYPES[column.type]]
    for name in checkable:
        column, sql = contract.columns[name], identifier(name)
        # protection: nulls must be declared
        if not column.nullable:
            yield RowRule("nulls", name, "nulls that the contract does not allow", f"{sql} IS NULL")
        if column.role == "key":
            advice = "" if contract.group else SEVERAL_ROWS
            # protection: keys are unique
            yield RowRule("unique", name, f"rows with the key of another row{advice}", f"{sql} = __previous_key")
            yield RowRule("sorted", name, "rows out of the order of the key", f"{sql} < __previous_key")
        if column.role in ("key", "group") and column.type == "string":
            yield RowRule("blank", name, f"{column.role}s that are empty, or begin or end with a blank", blank(name))
        if column.role == "label":
            yield RowRule("values", name, "values other than 0 and 1", f"{sql} NOT IN (0, 1)")
        if column.type == "number":
            yield RowRule("finite", name, "values other than finite numbers", f"NOT isfinite({sql})")
        # protection: categories come from the contract
        if column.values is not None:
            values = ", ".join(map(literal, column.values))
            yield RowRule("values", name, "values that the contract does not list", f"{sql} NOT IN ({values})")
        if bounds := contract.rules.ranges.get(name):
            beyond = f"{sql} NOT BETWEEN {bounds.min} AND {bounds.max}"
            message = f"values outside {bounds.min:g} to {bounds.max:g}"
            yield RowRule(
                "range", name, message, f"isfinite({sql}) AND {beyond}" if column.type == "number" else beyond
            )
    # protection: relations between columns
    if len(checkable) == len(contract.columns):
        for name, relation in contract.rules.relations.items():
            condition = relation_condition(name, relation.holds, contract)
            yield RowRule(name, relation.column, f"rows against {name}", f"NOT {condition.sql}", condition)


def column_findings(table: str, types: Mapping[str, str], contract: Contract, rows: int) -> Iterator[Finding]:
    """Yield the columns that are missing, of another type, or not declared."""
    for name, column in contract.columns.items():
        if name not in types:
            yield Finding(table, "required", name, rows, 1.0, f"{name} is declared in the contract, but missing")
        elif types[name] != SQL_TYPES[column.type]:
            message = f"{name} is {types[name]}, but the contract declares it {column.type}"
            yield Finding(table, "type", name, rows, 1.0, message)
    for name in types:
        # protection: columns must be declared
        if name not in contract.columns:
            yield Finding(table, "undeclared", name, rows, 1.0, f"{name} is not declared in the contract")


def table_findings(database: Database, table: str, contract: Contract) -> Iterator[Finding]:
    """Yield the violated rules of one table. A relation that is NULL in every row is a finding: it tests nothing.

    Parameters
    ----------
    database : duckdb.DuckDBPyConnection or PartitionedViews
        Has a view or table of that name.
    table : str
        An SQL identifier.
    contract : Contract
        The rules.

    Yields
    ------
    Finding
        With the number and the share of rows that violate the rule, and at most ROWS_SHOWN row numbers.

    Raises
    ------
    StageError
        When a relation cannot be read or computed, and when the table cannot be read.

    Examples
    --------
    >>> from pathlib import Path
    >>> from churn.config.contract import load_contract
    >>> from churn.data.duckdb_helpers import connection
    >>> with connection() as database:
    ...     _ = database.execute("CREATE VIEW train AS SELECT 'a' AS customer_id, 2 AS churn FROM range(3)")
    ...     found = list(table_findings(database, "train", load_contract(Path("tests/sample/contract.yaml"))))
    >>> next((one.sentence.partition(":")[0], one.count) for one in found if one.rule == "unique")
    ('customer_id has 2 rows with the key of another row', 2)
    """
    types = types_of(database, table)
    rules = list(row_rules(contract, types))
    label = identifier(contract.label) if types.get(contract.label) == "BIGINT" else "NULL"
    key = f"lag({identifier(contract.key)}) OVER ()" if contract.key in types else "NULL"
    numbered = f"(SELECT *, {key} AS __previous_key FROM {table})"
    try:
        total, labelled, churned = totals(database, f"SELECT count(*), count({label}), sum({label}) FROM {table}")
        of_key = {rule: rule.column == contract.key for rule in rules}
        broken = _violations(database, table, [rule for rule in rules if not of_key[rule]])
        broken |= _violations(database, numbered, [rule for rule in rules if of_key[rule]])
        for rule in rules:
            # Partitions follow the customer, so two customers' rows with one key are in two partitions.
            if contract.group is not None and rule.rule == "unique":
                broken[rule] += in_several(database, table, rule.column)
        untested = {rule for rule in rules if rule.relation and not _tested(database, table, rule.relation)}
    except (duckdb.Error, TaskError) as error:
        for rule in rules:
            if rule.relation:
                try:
                    by_partition(database, f"SELECT count({rule.relation.sql}) FROM {table}")
                except (duckdb.Error, TaskError) as its_own:
                    raise rule.relation.refused(its_own) from its_own
        raise StageError(f"the {table} table cannot be read: `dvc repro --force` makes it again.") from error
    yield from column_findings(table, types, contract, total)
    for rule in rules:
        count = broken[rule]
        if rule in untested and total:
            sentence = f"{rule.rule} is NULL in every row, so it tests nothing: write it over columns that have values"
            yield Finding(table, rule.rule, rule.column, total, 1.0, sentence)
        if count:
            rows = first_rows(
                database,
                table,
                f"SELECT __row FROM (SELECT *, {key} AS __previous_key, row_number() OVER () AS __row FROM {table})"
                f" WHERE {rule.violated} ORDER BY __row LIMIT {ROWS_SHOWN}",
                ROWS_SHOWN,
            )
            sentence = f"{rule.column} has {number_of(count, rule.message)}"
            if rule.rule == "values" and (values := contract.columns[rule.column].values):
                sentence += _misspelt(database, table, rule, values, count)
            share = round(count / total, 6)
            yield Finding(table, rule.rule, rule.column, count, share, sentence, tuple(rows))
    rate = contract.rules.label_rate
    # Of labels other than 0 and 1 the mean is no rate.
    coded = any(rule.rule == "values" and rule.column == contract.label for rule in rules if broken[rule])
    label_rate = churned / labelled if labelled else None
    if label_rate is not None and not coded and not rate.min <= label_rate <= rate.max:
        message = f"{contract.label} is 1 in {label_rate:.1%} of the rows, outside {rate.min:.0%} to {rate.max:.0%}"
        yield Finding(table, "label_rate", contract.label, total, 1.0, message)


def _violations(database: Database, rows: str, rules: Sequence[RowRule]) -> dict[RowRule, int]:
    """Return how many of the `rows`, a table or a subquery, violate each rule.

    Counting the rows that violate any rule takes a third of the time, and nearly always there are none.
    """
    counted = dict.fromkeys(rules, 0)
    for some in in_chunks(rules, TOGETHER):
        conditions = [f"({rule.violated})" for rule in some]
        if totals(database, f"SELECT count(*) FROM {rows} WHERE {' OR '.join(conditions)}")[0]:
            counts = ", ".join(f"count(*) FILTER (WHERE {condition})" for condition in conditions)
            counted |= zip(some, totals(database, f"SELECT {counts} FROM {rows}"), strict=True)
    return counted


def _tested(database: Database, table: str, relation: Condition) -> bool:
    """Return whether a relation is true or false in a row; the first one found is enough."""
    found = f"SELECT 1 FROM {table} WHERE ({relation.sql}) IS NOT NULL LIMIT 1"
    return bool(totals(database, f"SELECT count(*) FROM ({found})")[0])


def _misspelt(database: Database, table: str, rule: RowRule, values: Collection[str], count: int) -> str:
    """Return how many of the values that a category does not list would be listed without blanks and case."""
    bare = "lower(regexp_replace({}, '^[\\s\\pZ]+|[\\s\\pZ]+$', '', 'g'))".format
    listed = ", ".join(bare(literal(value)) for value in values)
    sql = f"SELECT count(*) FROM {table} WHERE {rule.violated} AND {bare(identifier(rule.column))} IN ({listed})"
    (alike,) = totals(database, sql)
    if not alike:
        return ""
    some = "which" if alike == count else f"{alike:,} of which"
    return f", {some} differ from a listed one by blanks or case alone: trim() or a CASE in the query makes them equal"
