"""The query of fetch, for customers whose label nobody knows yet."""

import json
from collections.abc import Iterator
from typing import Any

from churn.data.duckdb_helpers import connection

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
        tree = json.loads(database.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()[0][0])
        found = False
        for node in _selects(tree):
            for number, item in enumerate(node["select_list"]):
                name = item["alias"] or (item.get("column_names") or [""])[-1]
                replaced = [one for one in item.get("replace_list") or () if one["key"].lower() == label.lower()]
                if name.lower() == label.lower():
                    node["select_list"][number] = NULL | {"alias": name, "query_location": 0}
                elif replaced:
                    item["replace_list"] = [one for one in item["replace_list"] if one not in replaced]
                found = found or bool(replaced) or name.lower() == label.lower()
        if not found:
            return sql
        return str(database.execute("SELECT json_deserialize_sql(?::JSON)", [json.dumps(tree)]).fetchall()[0][0])


def _selects(value: Any) -> Iterator[dict[str, Any]]:
    """Yield each SELECT in a tree, also those of sub-queries."""
    if isinstance(value, dict):
        if "select_list" in value:
            yield value
        value = list(value.values())
    for one in value if isinstance(value, list) else ():
        yield from _selects(one)
