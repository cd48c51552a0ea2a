"""What every stage has in common: where files lie, how they are written, and how a fault is told.

Paths are relative to the repository's root, from where DVC runs each stage. Files are whole or absent, and the
same bytes for the same content. A fault that a user can mend is one sentence and an exit status, no traceback.
"""

import gc
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
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


class StageError(Exception):
    """A fault that the user can mend, told in one sentence that says where it is and what to do."""


def run(main: Callable[[], None]) -> None:
    """Run a stage's `main`; on a fault print `stage: sentence` to stderr and exit with 1."""
    stage = Path(sys.argv[0]).stem
    try:
        main()
    except StageError as error:
        sys.exit(f"{stage}: {error}")
    except FileNotFoundError as error:
        sys.exit(f"{stage}: {error.filename} does not exist; `dvc repro` makes what a stage reads.")
    except OSError as error:
        sys.exit(f"{stage}: {error.strerror}: {error.filename}." if error.filename else f"{stage}: {error}.")
    except KeyboardInterrupt:
        sys.exit(f"{stage}: interrupted.")
    finally:
        if "sklearn" in sys.modules:
            gc.freeze()  # or the interpreter walks a million objects on its way out, for up to a second


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
