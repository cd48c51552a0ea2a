"""The query of fetch, for customers whose label nobody knows yet."""

import json
from collections.abc import Iterator
from typing import Any

from churn.data.duckdb_helpers import connection, literal

import duckdb

NULL = {"class": "CONSTANT", "type": "VALUE_CONSTANT", "literal": {"kind": "NULL_LITERAL", "text": ""}}


def without_label(sql: str, label: str) -> str:
    """Return a query in DuckDB's dialect that gives NULL for the label, so that it reads no column for it.

    A query without a column of that name, or one that DuckDB cannot parse, stays as it is.

    Examples
    --------
    >>> without_label("SELECT id, CASE Churn WHEN 'Yes' THEN 1 ELSE 0 END AS churn FROM source", "churn")
    'SELECT id, NULL AS churn FROM "source"'
    >>> without_label("SELECT * REPLACE (Churn = 'Yes' AS churn) FROM source WHERE day = $as_of", "churn")
    'SELECT * FROM "source" WHERE ("day" = $as_of)'
    """
    with connection(bar=False) as database:
        if not (tree := _tree(database, sql)):
            return sql
        read, before = set[str](), json.dumps(tree)
        for node in _nodes(tree, "select_list"):
            for number, item in enumerate(node["select_list"]):
                name = item["alias"] or (item.get("column_names") or [""])[-1]
                if name.lower() == label.lower():
                    read |= {one["column_names"][-1].lower() for one in _nodes(item, "column_names")}
                    node["select_list"][number] = NULL | {"alias": name, "query_location": 0}
        for node in _nodes(tree, "replace_list"):
            node["replace_list"] = [one for one in node["replace_list"] if one["key"].lower() != label.lower()]
        for node in _nodes(tree, "select_list"):
            node["select_list"] = [_without(database, item, read) for item in node["select_list"]]
        if json.dumps(tree) == before:
            return sql
        return str(database.execute("SELECT json_deserialize_sql(?::JSON)", [json.dumps(tree)]).fetchall()[0][0])


def _tree(database: duckdb.DuckDBPyConnection, sql: str) -> dict[str, Any] | None:
    parsed = json.loads(database.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()[0][0])
    return None if parsed["error"] else parsed


def _without(database: duckdb.DuckDBPyConnection, item: dict[str, Any], read: set[str]) -> dict[str, Any]:
    """Return `* EXCLUDE (…)` so that it excludes a column that the label was made of where there is one."""
    excluded = [name.lower() for name in item.get("exclude_list") or ()]
    if not read & {*excluded} or item["relation_name"] or item["replace_list"] or item["rename_list"]:
        return item
    tree = _tree(
        database, f"SELECT COLUMNS(lambda c: lower(c) NOT IN ({', '.join(map(literal, excluded))})) FROM source"
    )
    return dict(tree["statements"][0]["node"]["select_list"][0]) if tree else item


def _nodes(value: Any, key: str) -> Iterator[dict[str, Any]]:
    """Yield each node of a tree that has a key."""
    if isinstance(value, dict):
        if key in value:
            yield value
        value = list(value.values())
    for one in value if isinstance(value, list) else ():
        yield from _nodes(one, key)
