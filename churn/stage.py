"""What every stage has in common: where files lie, how they are written, and how a fault is told.

Paths are relative to the repository's root, from where DVC runs each stage. Files are whole or absent, and the
same bytes for the same content. A fault that a user can mend is one sentence and an exit status, no traceback.
"""

import gc
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Thread
from typing import Any

# Stages import this module before any library: the likeliest mistake of all is told in a sentence.
if not all(map(find_spec, ("duckdb", "mlflow", "pandas", "pydantic", "ruamel", "skops"))):
    sys.exit(
        f"{sys.executable} lacks what the stages need: run `make setup` once, then activate the environment with"
        " `source .venv/bin/activate`."
    )

# Threads of OpenMP wait for each other awake, and starve each other wherever a core has other work: scoring that takes
# 0.6 s alone took a minute beside another. So they fall asleep sooner; at once would be slow for a small table.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# Imports make many objects and hardly any garbage: looking for it every 700 objects takes a seventh of a stage's time.
gc.set_threshold(100_000)

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
KILLED = "was killed"  # how the log begins with a stage; true as long as no later line of it says otherwise
STARTED = time.perf_counter()


class StageError(Exception):
    """A fault that the user can mend, told in one sentence that says where it is and what to do."""


def run(main: Callable[[], None]) -> None:
    """Run a stage's `main`; on a fault print `stage: sentence` to stderr and exit with 1. The log has it, too."""
    stage, fault = Path(sys.argv[0]).stem, None
    log(stage, KILLED)
    try:
        refuse_damaged()
        main()
    except StageError as error:
        fault = str(error)
    except FileNotFoundError as error:
        fault = f"{error.filename} does not exist; `dvc repro` makes what a stage reads."
    except OSError as error:
        fault = f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}."
    except KeyboardInterrupt:
        fault = "interrupted."
    except BaseException as error:
        log(stage, fault=f"crashed with {type(error).__name__}")  # and no more: its text may hold a customer's data
        raise
    finally:
        if "sklearn" in sys.modules:
            gc.freeze()  # or the interpreter walks a million objects on its way out, for up to a second
    log(stage, fault)
    if fault:
        sys.exit(f"{stage}: {fault}")


def refuse_damaged() -> None:
    """Under `dvc repro`, raise StageError when a file that the stage reads has other bytes than dvc.lock names.

    DVC looks at the bytes of what it fetches, but not of what it takes out of the cache of this machine. What is in no
    cache is left to DVC: a stage that failed may just have written it.
    """
    if (stage := os.environ.get("DVC_STAGE")) is None or not LOCK.exists():
        return
    from ruamel.yaml import YAML

    stages, locked = [YAML(typ="safe").load(path).get("stages", {}) for path in (Path("dvc.yaml"), LOCK)]
    cached = {out for one in stages.values() for out in one.get("outs", ()) if isinstance(out, str)}
    made = {out["path"]: out["md5"] for entry in locked.values() for out in entry.get("outs", ())}
    for path in map(Path, stages.get(stage, {}).get("deps", ())):
        if str(path) in cached and path.is_file() and (md5 := made.get(str(path))) and md5_of(path) != md5:
            raise StageError(
                f"{path} is damaged: its bytes are not those that {LOCK} names. Delete it and"
                f" .dvc/cache/files/md5/{md5[:2]}/{md5[2:]}, then `dvc repro --pull` restores it or makes it anew."
            )


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


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object. Raises StageError when it is broken."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StageError(f"{path} is no valid JSON: {error}; `dvc repro --force` makes it again.") from error
    if not isinstance(value, dict):
        raise StageError(f"{path} holds no JSON object; `dvc repro --force` makes it again.")
    return value


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
