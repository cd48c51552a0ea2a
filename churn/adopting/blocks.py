"""Replaces values in a YAML file by lines of text, and leaves all other lines as they are, with their comments."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from churn.core.errors import StageError
from churn.core.files import YAML_LENGTH, read_text, read_yaml, replacing

# A text that needs no quotes, unless YAML reads it as something else.
PLAIN = re.compile(r"[^\W\d]\w*([ /.+()<>=-][\w /.+()<>=%-]*[\w()%+-])?")
WORDS = {"yes", "no", "on", "off", "true", "false", "null", "y", "n", "none", "nan", "inf"}  # of YAML 1.1 or 1.2


def scalar(text: str) -> str:
    """Return a text as YAML has it, in quotes where it needs them.

    Examples
    --------
    >>> [scalar(text) for text in ("One year", "No", "1", "on/off", "a: b", "Ja, bitte", "#1")]
    ['One year', '"No"', '"1"', 'on/off', '"a: b"', '"Ja, bitte"', '"#1"']
    """
    plain = PLAIN.fullmatch(text) and text.lower() not in WORDS
    return text if plain else json.dumps(text, ensure_ascii=False)


def replace_blocks(path: Path, blocks: Mapping[str, Sequence[str]]) -> None:
    """Write the lines of each block in the place of its dotted key, with the key's indentation; keep all other lines.

    Raises StageError, and leaves the file, when a key is missing or shares its line with another.
    """
    from ruamel.yaml import YAML

    lines = read_text(path, YAML_LENGTH).splitlines()
    before, mapping = read_yaml("\n".join(lines), str(path)), YAML().load("\n".join(lines))
    places = {key: _place(lines, mapping, key, path) for key in blocks}
    for key, (start, end, indent) in sorted(places.items(), key=lambda one: -one[1][0]):
        lines[start:end] = [f"{' ' * indent}{line}" for line in blocks[key]]
    text = "\n".join(lines) + "\n"
    if _without(read_yaml(text, str(path)), blocks) != _without(before, blocks):
        raise StageError(f"{path} cannot be written: write each key of {', '.join(blocks)} on a line of its own.")
    with replacing(path) as tmp:
        tmp.write_text(text, encoding="utf-8")


def _place(lines: Sequence[str], mapping: Any, key: str, path: Path) -> tuple[int, int, int]:
    """Return the first line of a key, the line after its value, and its indentation."""
    *parents, last = key.split(".")
    for parent in parents:
        mapping = mapping.get(parent) if hasattr(mapping, "lc") and hasattr(mapping, "get") else None
    if not hasattr(mapping, "get") or last not in mapping:
        raise StageError(f"{path}: {key}: is missing.")
    start, indent = mapping.lc.key(last)
    if lines[start][:indent].strip():
        raise StageError(f"{path}: {key}: shares its line with another key; write it on a line of its own.")
    end = start + 1
    while end < len(lines) and (not lines[end].strip() or _indent(lines[end]) > indent or lines[end].startswith("#")):
        end += 1
    while not lines[end - 1].strip() or (lines[end - 1].lstrip().startswith("#") and _indent(lines[end - 1]) <= indent):
        end -= 1
    return start, end, indent


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _without(values: Any, keys: Mapping[str, object]) -> Any:
    """Return the values without those of the dotted keys."""
    for key in keys:
        mapping, (*parents, last) = values, key.split(".")
        for parent in parents:
            mapping = mapping[parent]
        mapping.pop(last, None)
    return values
