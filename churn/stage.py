"""What every stage and command line has in common: where files lie, how they are written, how an error ends a process.

Paths are relative to the repository's root, from where DVC runs each stage. Writes are atomic and deterministic. A
user's error prints one line and exits with 1. The text of another library's error may hold a customer's data: it is
shown on a terminal only, and reaches no file and no log.
"""

import argparse
import atexit
import gc
import hashlib
import json
import logging
import os
import re
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from threading import Event, Thread
from typing import Any

PARAMS = Path("params.yaml")
CONTRACT = Path("contract.yaml")
LOCK = Path("dvc.lock")

RAW = Path("data/raw/customers.parquet")
TRAIN = Path("data/features/train.parquet")
TEST = Path("data/features/test.parquet")
PREDICTIONS = Path("data/predictions/test.parquet")
MODEL = Path("models/churn.skops")
REGISTRATION = Path("models/registration.json")

ROWS = Path("metrics/rows.json")
VALIDATION = Path("metrics/validation.json")
EVALUATION = Path("metrics/evaluation.json")
GATE = Path("metrics/gate.json")
PLOTS = Path("plots")
LOG = Path(".cache/stages.jsonl")  # which stages ran here, for the report
# Of a YAML file, so that reading it takes less than a second: characters, values with aliases written out, and depth.
YAML_LENGTH, YAML_NODES, YAML_DEPTH = 1_000_000, 50_000, 50
JSON_LENGTH = 20_000_000  # of a JSON file
KILLED = "was killed"  # how the log begins with a stage; true as long as no later line of it says otherwise
STARTED = time.perf_counter()


class StageError(Exception):
    """An error that the user can mend, told in one sentence that says where it is and what to do.

    The error of another library is its cause (`raise … from error`), and no part of its sentence.
    """


def on_terminal() -> bool:
    """Return whether a person alone sees what is printed: neither stdout nor stderr is redirected."""
    return sys.stdout.isatty() and sys.stderr.isatty()


def fault_of(error: BaseException) -> str:
    """Return one sentence for an error: its own for a StageError, else its kind and place, never its text."""
    if isinstance(error, StageError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted."
    if isinstance(error, OSError) and error.errno is not None:
        if isinstance(error, FileNotFoundError) and error.filename:
            return f"{error.filename} does not exist; `dvc repro` makes what a stage reads."
        return f"{os.strerror(error.errno)}{f': {error.filename}' if error.filename else ''}."
    what = "sys.exit was called" if isinstance(error, SystemExit) else f"crashed with {type(error).__name__}"
    return f"{what}{place_of(error)}; run it on a terminal to read more."


def place_of(error: BaseException) -> str:
    """Return the innermost line of this repository that an error came from."""
    if isinstance(error, SyntaxError) and error.filename:
        frames = [(error.filename, error.lineno)]
    else:
        frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    root = Path(__file__).resolve().parent.parent
    ours = [(Path(name), line) for name, line in frames if Path(name).is_relative_to(root) and ".venv" not in name]
    return f" in {ours[-1][0].relative_to(root)}, line {ours[-1][1]}" if ours else ""


def attempt(name: str, work: Callable[[], int | None]) -> tuple[int, str | None]:
    """Return the exit status of `work`, and one sentence for the error that ended it, if one did.

    On a terminal the traceback, or the library's error behind a StageError, is printed, too.
    """
    if not on_terminal():  # a library's warning or log line, like its error, may quote a value
        warnings.formatwarning = lambda _, kind, file, line, *__: f"{name}: {kind.__name__} at {file}, line {line}\n"
        logging.setLogRecordFactory(_without_text)
    try:
        return work() or 0, None
    except BaseException as error:
        if on_terminal():
            cause: BaseException | None = error.__cause__
            if not isinstance(error, StageError | OSError | KeyboardInterrupt):
                traceback.print_exception(error)
            elif cause is not None and not isinstance(cause, StageError):
                text = re.sub(r"//[^/@\s]+@", "//", str(cause))  # a URL's password is shown nowhere
                print(f"{name}: {type(cause).__name__}: {text}", file=sys.stderr)
        return 1, fault_of(error)
    finally:
        if "sklearn" in sys.modules:
            gc.freeze()  # or the interpreter visits a million objects at exit, for up to a second
            # DuckDB prints a page of "nanobind: leaked" for its frozen objects, after all else that is printed.
            atexit.register(os.dup2, os.open(os.devnull, os.O_WRONLY), 2)


def _without_text(logger: str, level: int, file: str, line: int, *_: Any, **__: Any) -> logging.LogRecord:
    """Return the record of a log line as its level and place, without its text and its error."""
    text = f"{logging.getLevelName(level)} of {logger} at {file}, line {line}"
    return logging.LogRecord(logger, level, file, line, text, None, None)


def run(main: Callable[[], None]) -> None:
    """Run a stage's `main`; on an error print `stage: sentence` to stderr and exit with 1. The log has it, too."""
    stage = Path(sys.argv[0]).stem
    description = (sys.modules["__main__"].__doc__ or "").partition("\n")[0]
    argparse.ArgumentParser(prog=f"python -m stages.{stage}", description=description).parse_args()
    log(stage, KILLED)

    def staged() -> None:
        refuse_damaged()
        main()

    _, fault = attempt(stage, staged)
    log(stage, fault)
    if fault:
        sys.exit(f"{stage}: {fault}")


def command(main: Callable[[argparse.Namespace], int | None], parser: argparse.ArgumentParser, failed: int = 1) -> None:
    """Run a command line, and exit with the status that `main` returns.

    On an error print `name: sentence` to stderr and exit with `failed`. The name is the end of the parser's `prog`:
    `score` of `python -m churn.score`.
    """
    asked = parser.parse_args()
    name = parser.prog.rpartition(" ")[2].rpartition(".")[2]
    status, fault = attempt(name, lambda: main(asked))
    if fault:
        print(f"{name}: {fault}", file=sys.stderr)
    sys.exit(failed if fault else status)


def refuse_damaged() -> None:
    """Under `dvc repro`, raise StageError when a file that the stage reads has other bytes than dvc.lock names.

    DVC looks at the bytes of what it fetches, but not of what it takes out of the cache of this machine. What is in no
    cache is left to DVC: a stage that failed may just have written it.
    """
    if (stage := os.environ.get("DVC_STAGE")) is None or not LOCK.exists():
        return
    refuse_conflict(LOCK)
    stages, locked = [stages_in(read_text(path, YAML_LENGTH), str(path)) for path in (Path("dvc.yaml"), LOCK)]
    cached = {out for one in stages.values() for out in one.get("outs", ()) if isinstance(out, str)}
    made = {out["path"]: out["md5"] for entry in locked.values() for out in entry.get("outs", ())}
    for path in map(Path, stages.get(stage, {}).get("deps", ())):
        if str(path) in cached and path.is_file() and (md5 := made.get(str(path))) and md5_of(path) != md5:
            raise StageError(
                f"{path} is damaged: its bytes are not those that {LOCK} names. Delete it and"
                f" .dvc/cache/files/md5/{md5[:2]}/{md5[2:]}, then `dvc repro --pull` restores it or makes it anew."
            )


def refuse_conflict(path: Path, content: bytes | None = None) -> None:
    """Raise StageError when Git has left a merge conflict in a file that the pipeline made, or in its `content`."""
    if content is None:
        content = path.read_bytes() if path.exists() else b""
    if b"\n<<<<<<< " in b"\n" + content:
        raise StageError(f"{path} has a merge conflict: run `make resolve`, then `make repro`.")


def log(stage: str, fault: str | None) -> None:
    """Add a line to LOG: the stage, its seconds until now, and its fault. Untracked: time is no result."""
    line = {"stage": stage, "seconds": round(time.perf_counter() - STARTED, 1), "fault": fault}
    with suppress(OSError):  # the report will say less; no reason to fail a stage
        LOG.parent.mkdir(parents=True, exist_ok=True)
        with LOG.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


@contextmanager
def working(on: str) -> Iterator[None]:
    """Show on a terminal, and nowhere else, that the work goes on, and for how long by now."""
    from tqdm import tqdm

    with tqdm(desc=on, bar_format="{desc} ... {elapsed}", leave=False, disable=None) as line:
        done = Event()

        def tick() -> None:
            while not line.disable and not done.wait(1):
                line.refresh()

        ticker = Thread(target=tick, daemon=True)
        ticker.start()
        try:
            yield
        finally:
            done.set()
            ticker.join()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes the place of `path` only if nothing was raised."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` with sorted keys. Raises ValueError when it holds NaN or infinity."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def read_text(path: Path, most: int) -> str:
    """Read a file of at most `most` bytes as UTF-8. Raises StageError when it has more, or is not text."""
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise StageError(f"{path} has more than {most:,} bytes: it is not read.")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise StageError(f"{path} is not text in UTF-8.") from error


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


def refuse_twice(columns: Iterable[str], path: Path) -> None:
    """Raise StageError when a table between stages, at `path`, has two columns of one name."""
    if twice := [name for name, count in Counter(columns).items() if count > 1]:
        raise StageError(f"{path} has the column {twice[0]} more than once; `dvc repro --force` makes it again.")


def read_yaml(text: str, name: str) -> Any:
    """Return what a YAML text holds: plain values, lists, and mappings whose keys are text.

    Raises StageError, which names the text, when it is anything else, or beyond YAML_LENGTH, YAML_NODES or YAML_DEPTH.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import DuplicateKeyError

    try:
        # ruamel.yaml builds nested values by recursion: beyond some depth it crashes the interpreter.
        _refuse_absurd(YAML(typ="safe").parse(text), len(text))
        value = YAML(typ="safe").load(text)
        _refuse_odd(value)
    except StageError as error:
        raise StageError(f"{name} is no valid YAML: {error}") from error
    except Exception as error:  # also what Python's own int, float and date raise
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        what = "duplicate key" if isinstance(error, DuplicateKeyError) else "it cannot be read"
        raise StageError(f"{name} is no valid YAML: {place}{what}.") from error
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


def stages_in(text: str, name: str) -> dict[str, Any]:
    """Return the stages of dvc.yaml or of a lock, given as text, by name; none of an empty one.

    Raises StageError when it is not what DVC reads or writes.
    """
    value = read_yaml(text, name) or {}
    stages = value.get("stages") or {} if isinstance(value, dict) else None
    if not isinstance(stages, dict) or not all(isinstance(one, dict) for one in stages.values()):
        raise StageError(f"{name} holds no stages as DVC has them.")
    return stages


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5_of(path: Path) -> str:
    """Return the MD5 of a file's bytes, by which DVC names it; nothing here is safe by it alone."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def number_of(count: float, things: str) -> str:
    """Return a number of things, whose name begins with the plural: `1 row of the table`, `2 rows of the table`."""
    number, (noun, space, rest) = f"{count:,.0f}", things.partition(" ")
    return f"{number} {noun.removesuffix('s') if number == '1' else noun}{space}{rest}"
