"""Checks the rows of a table by the contract, and scores those that break no rule, in bounded memory."""

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from churn.config.contract import Contract
from churn.core.errors import StageError, nearest, without_password
from churn.core.files import ARROW_TYPES
from churn.core.paths import CONTRACT
from churn.core.terminal import progress, working
from churn.data.conditions import relation_condition
from churn.data.duckdb_helpers import (
    BETWEEN,
    SQL_TYPES,
    cast,
    cast_error,
    columns_of,
    connection,
    hash_shares,
    identifier,
    literal,
    typed,
    violations_sql,
)
from churn.data.engines import duckdb_fault
from churn.data.featuring import add_features, to_arrow
from churn.data.sinks import load_table, sink
from churn.data.sources.query import Query
from churn.data.sources.stream import table_share
from churn.data.tables import batch_rows
from churn.modeling.codes import churn_probability
from churn.modeling.model import model_frame
from churn.quality.row_checks import row_rules

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

COLUMNS_SHOWN, NAME_LENGTH = 5, 60  # in a message
TIMEOUT = 30.0  # minutes


def scored_contract(contract: Contract) -> Contract:
    """Return the contract less the label, the group and the day, and less the relations that read one of them."""
    relations = {
        name: one
        for name, one in contract.rules.relations.items()
        if not {*contract.withheld} & {*relation_condition(name, one.holds, contract).columns}
    }
    columns = {name: column for name, column in contract.columns.items() if name not in contract.withheld}
    rules = contract.rules.model_copy(update={"relations": relations})
    return contract.model_copy(update={"columns": columns, "rules": rules})


def incoming_contract(contract: Contract) -> Contract:
    """Return the contract of what comes in: without the label, computed columns, and relations that need them.

    A row that breaks another relation is rejected before a feature function sees it, which may rely on that.
    """
    whole = scored_contract(contract)
    columns = {name: column for name, column in whole.columns.items() if not column.computed}
    relations = {
        name: one
        for name, one in whole.rules.relations.items()
        if columns.keys() >= {*relation_condition(name, one.holds, contract).columns}
    }
    rules = whole.rules.model_copy(update={"relations": relations})
    return whole.model_copy(update={"columns": columns, "rules": rules})


def rules_of_rows(contract: Contract, names: Collection[str]) -> list[tuple[str, str]]:
    """Return the rules on single rows of the columns `names`: the column and the rule, and SQL that is true if broken.

    The columns have the contract's types.
    """
    rules = row_rules(contract, {name: SQL_TYPES[contract.columns[name].type] for name in names})
    return [(f"{one.column} {one.rule}", one.violated) for one in rules if one.rule not in ("unique", "sorted")]


def _unless_misfit(rule: str, sql: str) -> str:
    """Return the SQL of a rule; for nulls, without the values that were given and do not fit their type."""
    column, _, kind = rule.rpartition(" ")
    if kind != "nulls":
        return sql
    misfits = f"{literal(BETWEEN)} || __cast_errors || {literal(BETWEEN)}"
    return f"{sql} AND NOT contains({misfits}, {literal(f'{BETWEEN}{column} type{BETWEEN}')})"


def _with_nearest(lacking: Sequence[str], given: Sequence[str]) -> str:
    """Return the names of missing columns, the first of them with the nearest name of a given column."""
    short = [name for name in given if len(name) <= NAME_LENGTH]
    named = [f"{name}{nearest(name, short)}" for name in lacking[:COLUMNS_SHOWN]]
    more = f" and {len(lacking) - COLUMNS_SHOWN} more" if len(lacking) > COLUMNS_SHOWN else ""
    return f"{', '.join(named)}{more}"


def find_twins(database: duckdb.DuckDBPyConnection, key: str) -> None:
    """Make the table `twins` of the keys that several rows of `given` have; `key` is the SQL of a row's key."""
    database.execute(f"CREATE TABLE twins AS SELECT {key} AS key FROM given LIMIT 0")
    (rows,) = database.execute("SELECT count(*) FROM given").fetchall()[0]
    for share in hash_shares(key, rows):
        some = f"SELECT {key} AS key FROM given WHERE {share} AND {key} IS NOT NULL"
        database.execute(f"INSERT INTO twins SELECT key FROM ({some}) GROUP BY key HAVING count(*) > 1")


def read_incoming(database: duckdb.DuckDBPyConnection, contract: Contract, query: str | None = None) -> int:
    """Make of `given` the table `customers`, typed, with the rules that each row breaks, and `rejected`.

    Return the number of rows. Rows with duplicate keys are rejected. Raises StageError when there are no rows, and when
    a column is missing or not declared. `query` is the name of that which made it.
    """
    whole, expected = scored_contract(contract), incoming_contract(contract)
    given = {name.lower(): name for name in columns_of(database, "given")}  # names count in any case, as in fetch
    declared = {name.lower() for name in (*expected.columns, *contract.withheld)}
    if lacking := [name for name in expected.columns if name.lower() not in given]:
        others = [name for folded, name in given.items() if folded not in declared]
        who, instead = (query, "") if query else ("the customers", "; `--query` takes a table in the source's columns")
        verb = "gives" if query else "have"
        raise StageError(
            f"{who} {verb} no column {_with_nearest(lacking, others)}, which {CONTRACT} declares{instead}."
        )
    if unknown := [folded for folded in given if folded not in declared]:
        computed = unknown[0] in {name.lower() for name in whole.columns}
        why = "is computed here" if computed else f"is not declared in {CONTRACT}"
        first = re.fullmatch(r"(.+)_\d+", unknown[0])
        if first and first[1] in declared:  # DuckDB numbers the second of two names in a Parquet file
            why += f", or is a second {first[1]} in upper or lower case"
        raise StageError(f"the customers have a column {given[unknown[0]]}, which {why}: leave it out.")
    key = identifier(contract.key)
    casts = [f"{typed(name, column.type)} AS {identifier(name)}" for name, column in expected.columns.items()]
    cast_errors = [(f"{name} type", cast_error(name, column.type)) for name, column in expected.columns.items()]
    rules = [(f"{contract.key} unique", f"{key} IN (FROM twins)")]
    rules += [(rule, _unless_misfit(rule, sql)) for rule, sql in rules_of_rows(expected, expected.columns)]
    find_twins(database, cast(contract.key, expected.columns[contract.key].type))
    database.execute(
        f"""
        CREATE TABLE customers AS
        SELECT * EXCLUDE (__cast_errors),
            concat_ws('{BETWEEN}', nullif(__cast_errors, ''), nullif({violations_sql(rules)}, '')) AS __broken
        FROM (SELECT {", ".join(casts)}, {violations_sql(cast_errors)} AS __cast_errors FROM given)
        """
    )
    database.execute("DROP TABLE given")
    rows = int(database.execute("SELECT count(*) FROM customers").fetchall()[0][0])
    if not rows:
        why = f": {query} gives none; look for a condition on {contract.label}, which nobody has yet" if query else ""
        raise StageError(f"there are no customers to score{why}.")
    database.execute(f"CREATE TABLE rejected AS SELECT {key}, __broken AS rule FROM customers WHERE __broken <> ''")
    return rows


def _batches(database: duckdb.DuckDBPyConnection, sql: str, columns: int) -> Iterator[pa.Table]:
    """Return the rows of a query in batches that are small enough for so many columns."""
    return map(pa.table, database.cursor().sql(sql).to_arrow_reader(batch_rows(columns)))


def score_batches(
    database: duckdb.DuckDBPyConnection, model: Any, contract: Contract, number: int
) -> Iterator[pa.Table]:
    """Yield key, score and version of the customers that break no rule, in batches.

    Those that break one only with their computed features are added to `rejected`. Raises StageError when a score is
    no probability.
    """
    key, whole, expected = contract.key, scored_contract(contract), incoming_contract(contract)
    names = ", ".join(map(identifier, expected.columns))
    for given in _batches(database, f"SELECT {names} FROM customers WHERE __broken = ''", len(whole.columns)):
        table = to_arrow(add_features(given.to_pandas()), whole)
        declared = [name for name in table.column_names if name in whole.columns]
        sql = violations_sql(rules_of_rows(whole, declared))
        database.register("features", table)
        broken = f"SELECT * FROM (SELECT {identifier(key)}, {sql} AS __broken FROM features) WHERE __broken <> ''"
        found = database.sql(broken).to_arrow_table()
        database.register("found", found)
        database.execute("INSERT INTO rejected FROM found")
        table = table.filter(pc.invert(pc.is_in(table[key], found[key])))  # no two of these rows have one key
        if not table.num_rows:
            continue
        try:
            scores = churn_probability(model, model_frame(table, contract))
        except Exception as error:  # whatever an estimator makes of the features
            raise StageError(f"the model raises {type(error).__name__}: nothing is written.") from error
        if wrong := int((~((scores >= 0) & (scores <= 1))).sum()):
            raise StageError(f"{wrong:,} of {len(scores):,} scores are not probabilities: nothing is written.")
        versions = np.full(len(scores), number, dtype=np.int32)
        yield pa.table({key: table[key], "score": scores, "model_version": versions})


@contextmanager
def _failing(given: str, contract: Contract) -> Iterator[None]:
    """Raise an error of DuckDB's as a StageError without the values that it quotes."""
    try:
        yield
    except (duckdb.Error, OSError) as error:  # the latter from within a stream, and without a number
        if getattr(error, "errno", None):
            raise
        relations = "\n".join(one.holds for one in contract.rules.relations.values())
        fault = duckdb_fault(error, relations)
        raise StageError(f"{without_password(given)} cannot be scored: {fault}.") from error


def score(  # noqa: PLR0913  # the last two are options
    given: str,
    wanted: str,
    model: Any,
    contract: Contract,
    number: int,
    *,
    query: Query | None = None,
    timeout: float = TIMEOUT,
) -> tuple[int, int, dict[str, int]]:
    """Score the customers of `given` into `wanted`; return how many were read and scored, and how many broke each rule.

    With a `query`, `given` is in the source's columns. A server may take `timeout` minutes to give them. Raises
    StageError, see the module.
    """
    key = {contract.key: pa.type_for_alias(ARROW_TYPES[contract.columns[contract.key].type])}
    share = table_share(given.partition("#")[0])
    with _failing(given, contract), connection(bar=False, ordered=False, share=share) as database:
        load_table(database, given, timeout, contract.label, query)
        with working("score: checking"):
            read = read_incoming(database, contract, query.name if query else None)
        types = pa.schema(key | {"score": pa.float64(), "model_version": pa.int32()})
        database.register("batch", types.empty_table())
        database.execute("CREATE TABLE scored AS FROM batch")
        with sink(wanted) as write, progress("score", read) as bar:
            for table in score_batches(database, model, contract, number):
                database.register("batch", table)
                database.execute("INSERT INTO scored FROM batch")
                bar.update(table.num_rows)
            database.execute("DROP TABLE customers")  # before the sort, which needs the memory
            rows = write("", types, _batches(database, f"FROM scored ORDER BY {identifier(contract.key)}", len(types)))
            rejected = _batches(database, "FROM rejected ORDER BY ALL", len(types))
            left = write("rejected", pa.schema(key | {"rule": pa.string()}), rejected)
            if rows + left != read:
                raise StageError(f"{read:,} read are not {rows:,} scored + {left:,} rejected: nothing is written.")
        rules = f"SELECT unnest(split(rule, '{BETWEEN}')) AS rule FROM rejected"
        by_rule = database.execute(f"SELECT rule, count(*) FROM ({rules}) GROUP BY rule ORDER BY rule").fetchall()
        return read, rows, dict(by_rule)
