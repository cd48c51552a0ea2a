"""Conditions on customers: boolean SQL expressions over the contract's columns, which docs/adapt.md describes.

`prepare.drop` and `evaluate.slices.conditions` of params.yaml and `rules.relations` of contract.yaml use this one
language. DuckDB's own parser reads an expression, each node of its tree has to be on a list here, and the SQL that runs
is made from that tree again. So an expression can compare and compute, and has no way to read a file or to write one.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from churn.config.contract import Contract
from churn.config.params import Params
from churn.core.errors import StageError, nearest
from churn.core.paths import CONTRACT, PARAMS
from churn.data.duckdb_helpers import SQL_TYPES, cast, expression_database, identifier

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

if TYPE_CHECKING:
    import pandas as pd

LENGTH, DEPTH = 1_000, 50  # of a condition: its characters, and its brackets within brackets
SHOWN = 200  # of its characters, in a message
DOCUMENTED = 'docs/adapt.md, "Conditions", lists what there is'
NODES = re.compile(
    r"COMPARE_(EQUAL|NOTEQUAL|(LESS|GREATER)THAN(OREQUALTO)?|IN|BETWEEN|(NOT_)?DISTINCT_FROM)|CONJUNCTION_(AND|OR)"
    r"|OPERATOR_(NOT|IS_NULL|IS_NOT_NULL|COALESCE|CAST)|CASE_EXPR|COLUMN_REF|VALUE_CONSTANT|FUNCTION|TYPE"
)
NAMES = {"SUBQUERY": "a sub-query", "STAR": "*", "VALUE_PARAMETER": "a parameter", "ARRAY_EXTRACT": "[ ]"}
# Their results are about as long as what they get: `repeat` or `replace` could fill the memory.
FUNCTIONS = re.compile(
    r"[-+*/%^]|//|\*\*|\|\||!?~~\*?"  # the last ones are LIKE and ILIKE
    r"|abs|round|floor|ceil|ceiling|trunc|sign|greatest|least|sqrt|ln|log|log2|log10|exp|pow|power|mod"
    r"|lower|upper|trim|ltrim|rtrim|length|substring|substr|left|right|contains|starts_with|ends_with"
    r"|regexp_matches|regexp_full_match|nullif|if|isfinite|isinf|isnan"
)
TYPES = {"BOOLEAN", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL", "VARCHAR"}
PLAIN_FUNCTION = {"schema": "", "catalog": "", "filter": None, "distinct": False, "export_state": False}
QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*\"""")
# What pandas, which read these settings before, spells otherwise; each is searched outside of quotes.
PANDAS = {
    r"==": "`==` is written `=`",
    r"&": "`&` is written AND",
    r"(?<!\|)\|(?!\|)": "`|` is written OR",
    r"~": "`~` is written NOT",
    r"@": "`@` is not in the language",
    r"`": 'a name is quoted as in "name"',
    r"(?i)\bin\s*\[": "`in [...]` is written IN (...)",
    r"\.\s*(isna|isnull)\b": "`x.isna()` is written x IS NULL",
    r"\.\s*(notna|notnull)\b": "`x.notna()` is written x IS NOT NULL",
    r"\.\s*isin\b": "`x.isin([...])` is written x IN (...)",
    r"\.\s*str\b": "`x.str` is written as a function: lower(x), contains(x, 'text')",
}


@dataclass(frozen=True)
class Condition:
    """A checked condition: the setting that holds it, its text there, its SQL, and the columns that it reads."""

    where: str
    text: str
    sql: str
    columns: tuple[str, ...]

    def refused(self, error: Exception) -> StageError:
        """Return the error of a condition that DuckDB cannot compute for some row; DuckDB's text may hold a value."""
        cast = "ConversionException" in f"{type(error).__name__} {error}"  # the latter of a task on a worker
        what = "a cast fails" if cast else "a number is out of range"
        return StageError(
            f"{self.where}: `{self.text}` cannot be computed for every customer: {what}; TRY_CAST(x AS DOUBLE) gives"
            " NULL where a cast fails."
        )


def drop_condition(reason: str, text: str, contract: Contract) -> Condition:
    """Return the condition of `prepare.drop.<reason>`. Raises StageError, see _checked."""
    reads = [name for name, column in contract.columns.items() if not column.computed]
    why = "is computed by churn/features.py, after rows are dropped"
    return _checked(f"{PARAMS}: prepare.drop.{reason}", text, _types(contract), tuple(reads), why)


def slice_condition(name: str, text: str, contract: Contract) -> Condition:
    """Return the condition of `evaluate.slices.conditions.<name>`. Raises StageError, see _checked."""
    why = "is not a feature, and slices are made of features"
    return _checked(
        f"{PARAMS}: evaluate.slices.conditions.{name}", text, _types(contract), tuple(contract.features), why
    )


def relation_condition(name: str, text: str, contract: Contract) -> Condition:
    """Return the condition of `rules.relations.<name>.holds`. Raises StageError, see _checked."""
    return _checked(f"{CONTRACT}: rules.relations.{name}.holds", text, _types(contract), tuple(contract.columns), "")


def _types(contract: Contract) -> tuple[tuple[str, str], ...]:
    return tuple((name, column.type) for name, column in contract.columns.items())


@cache
def tree_of(text: str) -> Mapping[str, Any]:
    """Return DuckDB's tree of a condition, which is the same for texts that differ in white space and brackets alone.

    Of a text that is no expression it is a node of the type TEXT.

    Examples
    --------
    >>> tree_of("(a<1)") == tree_of("a < 1"), tree_of("a < 1") == tree_of("a < 2")
    (True, False)
    """
    if _fault_of_text(text) is None:
        with expression_database().cursor() as database:
            tree = _placeless(_tree(database, text))
        expressions = [] if tree["error"] else tree["statements"][0]["node"]["select_list"]
        if len(expressions) == 1:
            return dict(expressions[0])
    return {"type": "TEXT", "text": text}


def renamed_in(text: str, names: Mapping[str, str]) -> str:
    """Return a condition with other names of its columns: `names` has the new ones by the former ones.

    Examples
    --------
    >>> renamed_in("length < 3 OR length(plan) > 1", {"length": "months", "plan": "two words"})
    '(("months" < 3) OR (length("two words") > 1))'
    """
    if not names:
        return text
    with expression_database().cursor() as database:
        tree = _tree(database, text)
        columns = [node for node in _nodes(tree) if node["type"] == "COLUMN_REF"]
        if not any(node["column_names"][0] in names for node in columns):
            return text
        for node in columns:
            node["column_names"] = [names.get(part, part) for part in node["column_names"]]
        sql = database.execute("SELECT json_deserialize_sql(?::JSON)", [json.dumps(tree)]).fetchall()[0][0]
    return str(sql).removeprefix("SELECT ")


def condition_faults(params: Params, contract: Contract) -> Iterator[str]:
    """Yield what is wrong with each reason to drop a row, slice and relation."""
    for check, conditions in (
        (drop_condition, params.prepare.drop),
        (slice_condition, params.evaluate.slices.conditions),
        (relation_condition, {name: one.holds for name, one in contract.rules.relations.items()}),
    ):
        for name, text in conditions.items():
            try:
                check(name, text, contract)
            except StageError as error:
                yield str(error).removesuffix(".")


def rows_where(customers: "pd.DataFrame", condition: Condition, contract: Contract) -> npt.NDArray[np.bool_]:
    """Return for which customers the condition holds, shape (rows,); where it is NULL, it does not.

    Raises StageError when a column is missing, or when the condition cannot be computed for a row.
    """
    if missing := [name for name in condition.columns if name not in customers]:
        raise StageError(f"{condition.where}: the customers have no column {', '.join(missing)}.")
    # pandas' missing values become NULL here: DuckDB would take NaN for the greatest number.
    table = pa.table({name: pa.Array.from_pandas(customers[name]) for name in condition.columns})
    typed = [f"{cast(name, contract.columns[name].type)} AS {identifier(name)}" for name in condition.columns]
    with expression_database().cursor() as database:
        database.register("customers", table)
        query = f"SELECT coalesce({condition.sql}, false) AS holds FROM (SELECT {', '.join(typed)} FROM customers)"
        try:
            holds = database.sql(query).to_arrow_table()["holds"]
        except duckdb.Error as error:
            raise condition.refused(error) from error
    result: npt.NDArray[np.bool_] = holds.to_numpy()
    return result


@cache  # scoring asks for each batch
def _checked(where: str, text: str, types: tuple[tuple[str, str], ...], reads: tuple[str, ...], why: str) -> Condition:
    """Return the condition that `text` is, over the columns `reads`; `why` says what the others of `types` are.

    Raises StageError, naming `where`, unless it is one boolean expression of the language.
    """

    def refuse(what: str) -> StageError:
        return StageError(f"{where}: `{text if len(text) <= SHOWN else f'{text[:SHOWN]}…'}`: {what}.")

    if (fault := _fault_of_text(text)) is not None:
        raise refuse(fault)
    declared = dict(types)
    with expression_database().cursor() as database:
        try:
            tree = _tree(database, text)
            plain, as_json = _tree(database, "1"), json.dumps(tree)
        except (duckdb.Error, RecursionError, ValueError) as error:
            raise refuse("is nested too deeply") from error
        if tree["error"]:
            raise refuse(f"is not an SQL expression{_place(tree, text)}; {DOCUMENTED}")
        expressions = [one for statement in tree["statements"] for one in statement["node"].get("select_list", [])]
        nodes = list(_nodes(expressions))
        if fault := next(filter(None, map(_fault, nodes)), None):
            raise refuse(fault)
        plain["statements"][0]["node"]["select_list"] = expressions
        if len(expressions) != 1 or expressions[0]["alias"] or _placeless(tree) != _placeless(plain):
            raise refuse("is not one expression: leave out AS, FROM, WHERE and the like")
        columns = tuple(dict.fromkeys(node["column_names"][0] for node in nodes if node["type"] == "COLUMN_REF"))
        if unknown := [name for name in columns if name not in reads]:
            raise refuse(f"{unknown[0]} {why}" if unknown[0] in declared else _undeclared(unknown[0], reads))
        if not columns:
            raise refuse("reads no column, so it is the same for every customer")
        sql = database.execute("SELECT json_deserialize_sql(?::JSON)", [as_json]).fetchall()[0][0]
        sql = f"({sql.removeprefix('SELECT ')})"
        nulls = ", ".join(f"NULL::{SQL_TYPES[declared[name]]} AS {identifier(name)}" for name in columns)
        try:
            found = database.sql(f"SELECT {sql} FROM (SELECT {nulls})")
            kind = found.types[0]
            found.fetchall()
        except duckdb.Error as error:
            given = ", ".join(f"{name} is {declared[name]}" for name in columns)
            raise refuse(f"compares or computes what does not go together ({given})") from error
    if kind != "BOOLEAN":
        raise refuse("is not true or false for each customer")
    return Condition(where, text, sql, columns)


def _tree(database: duckdb.DuckDBPyConnection, expression: str) -> dict[str, Any]:
    """Return DuckDB's tree of `SELECT expression`, or its error."""
    parsed = database.execute("SELECT json_serialize_sql(?::VARCHAR)", [f"SELECT {expression}"]).fetchall()[0][0]
    return dict(json.loads(parsed))


def _place(error: Mapping[str, Any], text: str) -> str:
    """Return where the parser stopped in the text, or what to write instead, as far as it is known."""
    if "Chained comparisons" in error.get("error_message", ""):
        return ": 0 < x < 6 is written 0 < x AND x < 6"
    at = str(error.get("position", ""))
    near = text[int(at) - len("SELECT ") :][:20].strip() if at.isdigit() else ""
    return f": look at `{near}`" if near else ""


def _fault_of_text(text: str) -> str | None:
    """Return why a text is not in the language, as far as it can be said without parsing it, or None."""
    if len(text) > LENGTH:
        return f"has {len(text):,} characters, and a condition at most {LENGTH:,}"
    bare = QUOTED.sub(lambda found: found[0][0] * 2, text)
    if ";" in bare:
        return "`;` would begin a second statement: write one expression"
    if "--" in bare or "/*" in bare:
        return "a comment could hide a part of it: write it beside, after # in YAML"
    if spelt := [how for pattern, how in PANDAS.items() if re.search(pattern, bare)]:
        return f"is not SQL: {spelt[0]}; {DOCUMENTED}"
    depth = 0
    for character in bare:
        depth += (character in "([{") - (character in ")]}")
        if depth > DEPTH:
            return f"has more than {DEPTH} brackets within one another"
    return None


def _placeless(tree: Any) -> Any:
    """Return the tree without the places of its nodes in the text."""
    return json.loads(json.dumps(tree), object_hook=lambda node: {k: v for k, v in node.items() if "location" not in k})


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every node of a tree: each mapping that has a class."""
    waiting = [value]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, dict):
            if "class" in one:
                yield one
            waiting = [*one.values(), *waiting]
        elif isinstance(one, list):
            waiting = [*one, *waiting]


def _fault(node: Mapping[str, Any]) -> str | None:
    """Return why a node is not in the language, or None."""
    kind = node["type"]
    if kind == "FUNCTION":
        name, arguments = node["function_name"].lower(), [one["expression"] for one in node["arguments"]]
        plain = {key: node.get(key) for key in PLAIN_FUNCTION} == PLAIN_FUNCTION
        plain = plain and not any(one["name"] for one in node["arguments"])
        if not FUNCTIONS.fullmatch(name) or not plain or node["order_bys"]["orders"]:
            what = f"{name}()" if name.isidentifier() else f"the operator {name}"
            return f"{what} is not in the language; {DOCUMENTED}"
        if name.startswith("regexp") and any(one["type"] != "VALUE_CONSTANT" for one in arguments[1:]):
            return f"the pattern of {name}() has to be a text, not a column"
    elif kind == "TYPE":
        if node["type_name"].upper() not in TYPES or node["catalog"] or node["schema"] or node["children"]:
            return f"a cast to {node['type_name']} is not in the language; it has {', '.join(sorted(TYPES))}"
    elif kind == "COLUMN_REF":
        if len(node["column_names"]) != 1:
            return f"{'.'.join(node['column_names'])} is not a column: a column's name has no point"
    elif not NODES.fullmatch(kind):
        what = NAMES.get(kind, NAMES.get(node["class"], kind.lower().replace("_", " ")))
        return f"{what} is not in the language; {DOCUMENTED}"
    return None


def _undeclared(name: str, reads: Collection[str]) -> str:
    """Return what to say of a name that is no column of the contract."""
    if name in ("None", "nan", "NaN"):
        return f"{name} is written NULL: x IS NULL"
    return f"{CONTRACT} declares no column {name}{nearest(name, reads)}; a text has single quotes"
