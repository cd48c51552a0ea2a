"""Exports contract.yaml in the Open Data Contract Standard, version 3.1.0: `python -m churn contract --odcs`.

A rule goes where the standard has a place for it: types, keys, ranges and categories as such, conditions as SQL. The
others, such as the distance from profile.json, are rules in words. The export has no data of customers.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

from churn.config.contract import Column, Contract, load_contract
from churn.config.params import load_params
from churn.core.files import YAML_LENGTH
from churn.data.duckdb_helpers import SQL_TYPES, identifier

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

API = "v3.1.0"
PROFILE_RULES = {
    "rows": "The number of rows is {min:g} to {max:g} times that of profile.json.",
    "nulls": "The share of missing values in each feature differs from profile.json by at most {limit:g}.",
    "mean": "The mean of each number differs from profile.json by at most {limit:g} standard deviations.",
    "quantiles": "The share of rows below each decile of profile.json differs by at most {limit:g}.",
    "categories": "The share of each category differs from profile.json by at most {limit:g}.",
    "label_rate": "The share of churners, overall and by value, differs from profile.json by at most {limit:g}.",
}


def exported(contract: Contract, name: str) -> dict[str, Any]:
    """Return the contract of the model `name` as the standard has it; its version is a hash of its content.

    Examples
    --------
    >>> from pathlib import Path
    >>> found = exported(load_contract(Path("tests/sample/contract.yaml")), "churn")
    >>> found["apiVersion"], found["schema"][0]["properties"][0]["primaryKey"]
    ('v3.1.0', True)
    """
    content = json.dumps(contract.model_dump(mode="json"), sort_keys=True)
    return {
        "apiVersion": API,
        "kind": "DataContract",
        "id": name,
        "name": name,
        "version": sha256(content.encode()).hexdigest()[:12],
        "status": "active",
        "description": {
            "purpose": "The customers by which a churn model is trained, evaluated and applied.",
            "limitations": "Rules in words are checked by the pipeline's stage validate, and by its report.",
        },
        "schema": [
            {
                "name": "customers",
                "logicalType": "object",
                "physicalType": "table",
                "dataGranularityDescription": f"One row for each {contract.key}.",
                "properties": [_property(one, column, contract) for one, column in contract.columns.items()],
                "quality": [*_table_rules(contract)],
            }
        ],
    }


def _property(name: str, column: Column, contract: Contract) -> dict[str, Any]:
    """Return a column as a property."""
    found: dict[str, Any] = {
        "name": name,
        "logicalType": {"category": "string"}.get(column.type, column.type),
        "physicalType": SQL_TYPES[column.type],
        "required": not column.nullable,
        "tags": [column.role],
    }
    if column.role == "key":
        found |= {"primaryKey": True, "primaryKeyPosition": 1, "unique": True}
    if column.because:
        found["description"] = f"Missing: {column.because}"
    if column.computed:
        found["transformDescription"] = "A function in churn/features.py computes it from the other columns."
    if bounds := contract.rules.ranges.get(name):
        ends = {"minimum": bounds.min, "maximum": bounds.max}
        found["logicalTypeOptions"] = {end: int(one) if one.is_integer() else one for end, one in ends.items()}
    if rules := [*_column_rules(name, column, contract)]:
        found["quality"] = rules
    return found


def _column_rules(name: str, column: Column, contract: Contract) -> Iterator[dict[str, Any]]:
    """Yield the rules of a column that its type and range do not have."""
    values = [0, 1] if column.role == "label" else column.values and [*column.values]
    if values:
        yield {"type": "library", "metric": "invalidValues", "arguments": {"validValues": values}, "mustBe": 0}
    for value, reason in contract.rules.spikes.get(name, {}).items():
        yield _text(f"{name} {value:.10g} spike", f"Many customers share the value {value:.10g}: {reason}")
    if (limit := contract.rules.changes.get(name, 1)) < 1:
        what = f"Of the customers that main knows, at most {100 * limit:g} % have another value."
        yield _text(f"{name} changes", what)


def _table_rules(contract: Contract) -> Iterator[dict[str, Any]]:
    """Yield the rules of the table as a whole."""
    rules, label = contract.rules, contract.rules.label_rate
    yield {"name": "min_rows", "type": "library", "metric": "rowCount", "mustBeGreaterOrEqualTo": rules.min_rows}
    query = f"SELECT avg({identifier(contract.label)}) FROM ${{table}}"
    limit = {"mustBeBetween": [label.min, label.max]} if label.min < label.max else {"mustBe": label.min}
    yield {"name": "label_rate", "type": "sql", "query": query, **limit}
    for name, relation in rules.relations.items():
        query = f"SELECT count(*) FROM ${{table}} WHERE NOT ({' '.join(relation.holds.split())})"
        what = f"{relation.column}: {' '.join(relation.because.split())}"
        yield {"name": name, "description": what, "type": "sql", "query": query, "mustBe": 0}
    what = f"No feature ranks churners by itself with a ROC AUC above {rules.max_single_feature_roc_auc:g}."
    yield _text("max_single_feature_roc_auc", what)
    for name, rule in rules.profile:
        numbers = rule.model_dump() if name == "rows" else {"limit": rule}
        yield _text(f"profile.{name}", PROFILE_RULES[name].format(**numbers))


def _text(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "type": "text", "description": description}


def _quoted(value: Any) -> Any:
    """Return a value with its texts in quotes, because `No` is a boolean in YAML 1.1, which most tools read."""
    if isinstance(value, Mapping):
        return {key: _quoted(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_quoted(one) for one in value]
    return DoubleQuotedScalarString(value) if isinstance(value, str) else value


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m churn contract", description="Export contract.yaml.")
    parser.add_argument(
        "--odcs", action="store_true", required=True, help=f"in the Open Data Contract Standard {API}, as YAML"
    )
    return parser


def main(_: argparse.Namespace) -> None:
    """Print the contract."""
    yaml = YAML()
    yaml.width = YAML_LENGTH
    yaml.dump(_quoted(exported(load_contract(), load_params().registration.model)), sys.stdout)
