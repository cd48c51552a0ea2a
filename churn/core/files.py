"""Reading and writing files: atomic and deterministic writes, strict JSON and YAML within limits, hashes."""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from datetime import date
from functools import lru_cache
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from churn.core.errors import StageError, fault_of

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

# Of a YAML file, so that reading it takes less than a second: characters, values with aliases written out, and depth.
YAML_LENGTH, YAML_NODES, YAML_DEPTH = 1_000_000, 50_000, 50
JSON_LENGTH = 20_000_000  # of a JSON file
ROW_GROUPS, GROUP_CELLS = 8, 20_000_000  # of a Parquet file, in an iteration
ARROW_TYPES = {  # of the contract's types, in a table between stages
    "string": "string",
    "category": "string",
    "integer": "int64",
    "number": "float64",
    "boolean": "bool",
    "date": "date32",
}
NAMES_SHOWN = 5  # of missing columns
MANIFEST = "_manifest.json"  # in the folder of a table of many partitions, see churn/core/partitions.py


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file atomically: yield a temporary path in the same folder, which replaces `path` at the end.

    Parameters
    ----------
    path
        The file to make; its folder is made too. An error in the block leaves the former file. A folder made at the
        temporary path replaces a file or a folder in the same way.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder, replacing(path := Path(folder, "new", "rows.txt")) as tmp:
    ...     _ = tmp.write_text("7043")
    ...     path.exists()
    False
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = path.with_name(f".{path.name}.{os.getpid()}.part")
    for part in path.parent.glob(f".{escape(path.name)}.*.part"):
        if part == tmp or not _runs(part.name.split(".")[-2]):  # of a process that was killed
            delete(part)
    try:
        yield tmp
        if tmp.is_dir() or path.is_dir():  # the system replaces a file by a file alone
            delete(path)
        tmp.replace(path)
    finally:
        delete(tmp)


def _runs(process: str) -> bool:
    """Return whether a process of this number runs."""
    try:
        os.kill(int(process), 0)
    except PermissionError:  # it is another user's
        return True
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    return True


def delete(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` with sorted keys. Raises ValueError when it holds NaN or infinity."""
    with replacing(path) as tmp:
        tmp.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def read_text(path: Path, most: int) -> str:
    """Read a text in UTF-8 of at most `most` bytes. Raises StageError when it has more, or cannot be read."""
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise StageError(fault_of(error)) from None
    if len(content) > most:
        raise StageError(f"{path} has more than {most:,} bytes: it is not read.")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise StageError(f"{path} is not text in UTF-8: restore it, or save it so.") from error


def read_json(path: Path, again: str = "`dvc repro --force` makes it again") -> dict[str, Any]:
    """Read a JSON file that holds an object. Raises StageError, which ends in `again`, when it is broken."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(value := dict(pairs)) < len(pairs):
            raise ValueError("duplicate key")
        return value

    def never(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    text = read_text(path, JSON_LENGTH)
    refuse_conflict(path, text.encode())
    try:
        value = json.loads(text, object_pairs_hook=once, parse_constant=never)
    except (ValueError, RecursionError) as error:
        place = f": look at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise StageError(f"{path} is no valid JSON{place}; {again}.") from error
    if not isinstance(value, dict):
        raise StageError(f"{path} holds no JSON object; {again}.")
    return value


def read_yaml(text: str, name: str) -> Any:
    """Return what a YAML text holds: plain values, lists, and mappings whose keys are text.

    Raises StageError, which names the text, when it is anything else, or beyond YAML_LENGTH, YAML_NODES or YAML_DEPTH.
    """
    from ruamel.yaml.constructor import DuplicateKeyError

    try:
        return deepcopy(_parsed(text))
    except StageError as error:
        raise StageError(f"{name} is no valid YAML: {error}") from error
    except Exception as error:  # also what Python's own int, float and date raise
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        what = "duplicate key" if isinstance(error, DuplicateKeyError) else "it cannot be read"
        raise StageError(f"{name} is no valid YAML: {place}{what}.") from error


@lru_cache(maxsize=16)  # a report reads the same settings and locks sixty times, which took a tenth of its time
def _parsed(text: str) -> Any:
    from ruamel.yaml import YAML

    # ruamel.yaml builds nested values by recursion: beyond some depth it crashes the interpreter.
    _refuse_absurd(YAML(typ="safe").parse(text), len(text))
    value = YAML(typ="safe").load(text)
    _refuse_odd(value)
    return value


def _refuse_absurd(events: Iterable[Any], length: int) -> None:
    """Raise StageError when a text is too long, too deep, or has too many values once its aliases are written out."""
    if length > YAML_LENGTH:
        raise StageError(f"it has more than {YAML_LENGTH:,} characters.")
    total, opened, sizes = 0, list[tuple[str | None, int]](), dict[str, int]()  # sizes of the values with an anchor
    for event in events:
        kind, anchor = type(event).__name__, getattr(event, "anchor", None)
        if kind == "AliasEvent":
            if anchor in (name for name, _ in opened):
                raise StageError(f"the alias *{anchor} stands within its own value.")
            total += sizes.get(str(anchor), 0)
        elif kind in ("MappingStartEvent", "SequenceStartEvent"):
            opened.append((anchor, total))
            total += 1
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            name, before = opened.pop()
            if name:
                sizes[name] = total - before
        elif kind == "ScalarEvent":
            total += 1
            if anchor:
                sizes[anchor] = 1
        if len(opened) > YAML_DEPTH:
            raise StageError(f"line {event.start_mark.line + 1}: more than {YAML_DEPTH} levels within one another.")
        if total > YAML_NODES:
            raise StageError(f"it holds more than {YAML_NODES:,} values.")


def _refuse_odd(value: Any, level: int = 0) -> None:
    """Raise StageError for a key that is not text, and for a value of a kind that JSON does not have, but for dates."""
    if level > YAML_DEPTH:  # by aliases of aliases
        raise StageError(f"its aliases make more than {YAML_DEPTH} levels within one another.")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise StageError(f"the key {key} is not text: write it in quotes.")
            _refuse_odd(inner, level + 1)
    elif isinstance(value, list):
        for inner in value:
            _refuse_odd(inner, level + 1)
    elif isinstance(value, int) and value.bit_length() > 1_000:
        raise StageError("it holds a number of more than 300 digits.")
    elif value is not None and not isinstance(value, str | int | float | date):
        raise StageError(
            f"it holds a value of the kind {type(value).__name__}: write text, a number, or true or false."
        )


def refuse_conflict(path: Path, content: bytes | None = None) -> None:
    """Raise StageError when Git has left a merge conflict in a file that the pipeline made, or in its `content`."""
    if content is None:
        content = path.read_bytes() if path.exists() else b""
    if b"\n<<<<<<< " in b"\n" + content:
        raise StageError(f"{path} has a merge conflict: run `make resolve`, then `make repro`.")


def batches_in(file: "pq.ParquetFile", rows: int = 65_536, columns: Sequence[str] | None = None) -> Iterator[Any]:
    """Yield the rows of a Parquet file as Arrow's record batches, of at most so many rows.

    Arrow keeps memory for each row group until the last one of an iteration was read, so an iteration has a few, or one
    of a wide table.
    """
    cells = file.metadata.num_rows * len(columns or file.schema_arrow.names) // max(file.num_row_groups, 1)
    together = max(1, min(ROW_GROUPS, GROUP_CELLS // max(cells, 1)))
    for start in range(0, file.num_row_groups, together):
        some = range(start, min(start + together, file.num_row_groups))
        yield from file.iter_batches(rows, row_groups=[*some], columns=columns)


def refuse_twice(columns: Iterable[str], path: Path) -> None:
    """Raise StageError when a table between stages, at `path`, has two columns of one name."""
    if twice := [name for name, count in Counter(columns).items() if count > 1]:
        raise StageError(f"{path} has the column {twice[0]} more than once; `dvc repro --force` makes it again.")


def refuse_other_types(schema: "pa.Schema", types: Mapping[str, str], path: Path) -> None:
    """Raise StageError when a table between stages, at `path`, lacks one of the columns, or has it in another type.

    The types are the contract's. Arrow's dictionaries of texts, and its large texts, are texts.
    """
    import pyarrow as pa

    if missing := [name for name in types if name not in schema.names]:
        more = f" and {len(missing) - NAMES_SHOWN} more" if len(missing) > NAMES_SHOWN else ""
        raise StageError(
            f"{path} has no column {', '.join(missing[:NAMES_SHOWN])}{more}; `dvc repro --force` makes it again."
        )
    for name, kind in types.items():
        found = schema.field(name).type
        found = found.value_type if pa.types.is_dictionary(found) else found
        found = pa.string() if pa.types.is_large_string(found) else found
        if found != pa.type_for_alias(ARROW_TYPES[kind]):
            raise StageError(f"{path}: {name} is not of the type {kind}; `dvc repro --force` makes it again.")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal; of a table of partitions it is its manifest's."""
    with (path / MANIFEST if path.is_dir() else path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5_of(path: Path) -> str:
    """Return the MD5 of a file's bytes, by which DVC names it; nothing here is safe by it alone."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
