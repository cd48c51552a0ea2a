"""The child process of verification.py: it serves a version from the version's files, and from nothing else.

`python -I -B churn/registry/isolated.py` imports no module of this checkout. It reads one line of JSON from stdin, so
that its libraries are imported while the parent still works. It writes the scores, or the fault, to a file. A fault
holds the kind of the error, its place in the packaged code, and the name of a missing module, never an error's text.
"""

import argparse
import gc
import importlib
import json
import os
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

# First scipy.special: see churn/modeling/model.py.
LIBRARIES = (
    "scipy.special",
    "pandas",
    "pyarrow.parquet",
    "pyarrow.dataset",  # pyarrow.parquet imports it when it reads a file
    "pydantic.main",
    "ruamel.yaml",
    "sklearn.ensemble",
    "skops.io",
)


def serve(asked: Mapping[str, Any]) -> None:
    """Load the version, as MLflow's pyfunc does, and write its scores of the customers as NumPy's file."""
    import numpy as np
    import pyarrow.parquet as pq

    model = importlib.import_module(asked["loader"])._load_pyfunc(asked["data"])
    customers = pq.read_table(asked["customers"], columns=asked["columns"]).to_pandas()
    np.save(asked["scores"], np.asarray(model.predict(customers)), allow_pickle=False)


def fault_of(error: BaseException, code: Path) -> dict[str, Any]:
    """Return the kind of an error's first cause, its innermost line in the packaged code, and a missing module."""
    while error.__cause__:
        error = error.__cause__
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        frames.append((str(error.filename), error.lineno))
    ours = [(Path(name), line) for name, line in frames if Path(name).is_relative_to(code)]
    return {
        "kind": type(error).__name__,
        "file": str(ours[-1][0].relative_to(code)) if ours else None,
        "line": ours[-1][1] if ours else None,
        "module": error.name if type(error) is ModuleNotFoundError else None,
    }


def main() -> None:
    """Serve what the parent asks for, and exit with 0 if that went well."""
    gc.set_threshold(100_000)
    for name in LIBRARIES:
        with suppress(ImportError):  # the packaged code may do without; where it does not, it is named there
            importlib.import_module(name)
    if not (line := sys.stdin.readline()):
        return  # the parent has ended
    asked = json.loads(line)
    code = Path(asked["code"])
    package = Path(__file__).parent.parent.name  # also in a checkout that a .pth file adds
    sys.path[:] = [str(code), *(entry for entry in sys.path if not (Path(entry) / package).exists())]
    status = 0
    try:
        serve(asked)
    except BaseException as error:
        traceback.print_exc()  # the parent shows it on a terminal only
        Path(asked["fault"]).write_text(json.dumps(fault_of(error, code)), encoding="utf-8")
        status = 1
    sys.stderr.flush()
    os._exit(status)  # past the end of the interpreter, which takes up to a second


if __name__ == "__main__":
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    main()
