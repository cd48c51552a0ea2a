"""Prints the JSON Schema of contract.yaml and params.yaml for editors, or every key as Markdown.

A key's description is the text below its field in churn/config/, and this module reads it there. docs/reference.md is
the Markdown.
"""

import argparse
import ast
import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from types import ModuleType
from typing import Any

from churn.config.contract import Contract
from churn.config.params import Params, StrictModel
from churn.config.stricter import Stricter, classes_in
from churn.core.paths import CONTRACT, PARAMS

from pydantic.json_schema import models_json_schema

FILES: Mapping[str, type[StrictModel]] = {str(CONTRACT): Contract, str(PARAMS): Params}
LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
STRICTER = " Stricter: "
REFERENCE = """\
# Every key of contract.yaml and params.yaml

`python -m churn schema --markdown` prints this page from the types in `churn/config/`. For an editor,
`python -m churn schema FILE` prints the JSON Schema of a file:

```console
mkdir -p build
python -m churn schema contract.yaml > build/contract.schema.json
```

The first line of `contract.yaml` then names it:

```yaml
# yaml-language-server: $schema=build/contract.schema.json
```

`python -m churn contract --odcs` prints the contract in the [Open Data Contract Standard](https://bitol.io) 3.1.0,
as YAML for a catalogue. Types, keys, ranges, categories and conditions are rules there; the others are rules in words.

You choose a NAME. A key without a default is required. The column "stricter" is the side that counts where main and a
pull request differ: with "main's", neither side is stricter, and another value takes an [approval](ci.md#approval).
"""


def schema_of(file: str | None = None) -> dict[str, Any]:
    """Return the JSON Schema of contract.yaml or params.yaml, or without a name one that fits either."""
    kinds = [FILES[file]] if file else [*FILES.values()]
    named, schema = models_json_schema([(kind, "validation") for kind in kinds])
    for kind in {kind: None for root in kinds for kind in _models(root)}:
        _describe(schema["$defs"][kind.__name__], kind)
    roots = [named[kind, "validation"] for kind in kinds]
    root = {"anyOf": roots} if file is None else roots[0]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **root, **schema}


def _models(kind: type[StrictModel]) -> Iterator[type[StrictModel]]:
    """Yield a class, and all classes in its fields."""
    yield kind
    for field in kind.model_fields.values():
        for one in classes_in(field.annotation):
            if issubclass(one, StrictModel):
                yield from _models(one)


def _describe(schema: dict[str, Any], kind: type[StrictModel]) -> None:
    """Add to a class's schema the description of each key, and which value is stricter."""
    texts = _texts(sys.modules[kind.__module__])[kind.__name__]
    for name, field in kind.model_fields.items():
        key = schema["properties"][field.alias or name]
        key.pop("title", None)
        key["description"] = texts.get(name, "")
        if side := next((one for one in field.metadata if isinstance(one, Stricter)), None):
            key["x-stricter"] = side.value
            key["description"] += f"{STRICTER}{side.value}."


@cache
def _texts(module: ModuleType) -> dict[str, dict[str, str]]:
    """Return the text below each field, by class and field. Python keeps the docstring of no attribute."""
    found = {}
    for one in ast.parse(inspect.getsource(module)).body:
        if isinstance(one, ast.ClassDef):
            found[one.name] = {
                field.target.id: " ".join(text.value.value.split())
                for field, text in pairwise(one.body)
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
                if isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            }
    return found


def rows(schema: Mapping[str, Any], kind: str, path: str = "", side: str = "") -> Iterator[tuple[str, ...]]:
    """Yield key, type, default, stricter side and meaning of each key of a class, and of the keys below."""
    one = schema["$defs"][kind]
    for name, key in one["properties"].items():
        here, stricter = f"{path}{name}", key.get("x-stricter", side)
        default = "" if name in one.get("required", ()) else _default(key["default"])
        below, steps = _below(key)
        shown = "" if below else _type(key)
        yield f"{here}{steps}", shown, default, "" if below else stricter, key["description"].partition(STRICTER)[0]
        if below:
            yield from rows(schema, below, f"{here}{steps}.", stricter)


def _default(value: object) -> str:
    return "none" if value is None else f"`{json.dumps(value)}`"


def _below(key: Mapping[str, Any], steps: str = "") -> tuple[str | None, str]:
    """Return the class that a key leads to, or None, and the names on the way."""
    if "$ref" in key:
        name = key["$ref"].rpartition("/")[2]
        return (None if name == "JsonValue" else name), steps
    for one in key.get("anyOf", ()):
        if (found := _below(one, steps))[0]:
            return found
    if isinstance(inner := key.get("additionalProperties"), Mapping):
        return _below(inner, f"{steps}.{'METRIC' if 'enum' in key.get('propertyNames', {}) else 'NAME'}")
    return None, steps


def _type(key: Mapping[str, Any]) -> str:
    """Return the type of a value in words."""
    if "anyOf" in key:
        return " or ".join(dict.fromkeys(_type(one) for one in key["anyOf"]))
    if "enum" in key or "const" in key:
        return " or ".join(f"`{one}`" for one in key.get("enum", [key.get("const")]))
    if isinstance(inner := key.get("additionalProperties"), Mapping):
        return _type(inner)
    if "items" in key:
        return f"list of {_type(key['items'])}s"
    name = {"string": "text", "boolean": "`true` or `false`", "null": "`null`"}.get(
        key.get("type", ""), key.get("type", "any value")
    )
    if key.get("format") == "date":
        return "date"
    return " ".join(
        [name, ", ".join(f"{sign} {key[limit]:,}" for limit, sign in LIMITS.items() if limit in key)]
    ).strip()


def markdown() -> str:
    """Return the reference of every key."""
    pages, schema = [REFERENCE], schema_of()
    for file, kind in FILES.items():
        heads = ("key", "type", "default", "stricter", "meaning"), ("---",) * 5
        table = [*heads, *((f"`{key}`", *rest) for key, *rest in rows(schema, kind.__name__))]
        pages.append(f"## {file}\n\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in table))
    return "\n".join(pages)


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m churn schema", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "file", nargs="?", choices=FILES, help="the file whose schema is printed (default: one for both)"
    )
    parser.add_argument("--markdown", action="store_true", help="print docs/reference.md instead")
    return parser


def main(asked: argparse.Namespace) -> None:
    """Print what the command line asks for."""
    print(
        markdown() if asked.markdown else json.dumps(schema_of(asked.file), indent=2),
        end="" if asked.markdown else "\n",
    )
