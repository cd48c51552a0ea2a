"""The start-up settings of a program, such as a stage; importing this module sets none of them.

A program calls `start_up` above its other imports, under `if __name__ == "__main__"`. `runner.run` is called after
them, which is too late: an import fails where a library is missing, and a library reads OpenMP's setting when it loads.
"""

import gc
import io
import os
import sys
import threading
from importlib import import_module
from importlib.util import find_spec
from types import TracebackType


def start_up(*first: str) -> None:
    """Set up this process before it imports libraries, and import `first`, or exit with the next step without one."""
    if not all(map(find_spec, ("duckdb", "mlflow", "pandas", "pydantic", "ruamel", "skops"))):
        sys.exit(
            f"{sys.executable} lacks what the stages need: run `make setup` once, then activate the environment with"
            " `source .venv/bin/activate`."
        )
    # OpenMP threads busy-wait by default; on a loaded machine that made scoring 100 times slower (0.6 s alone).
    # No spinning at all would slow down small tables.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # Pydantic asks every installed library whether it has a plugin for it, which takes a twentieth of a short stage.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # Imports make a million objects and no garbage: a collection every 700 objects takes a seventh of a stage's time.
    gc.set_threshold(100_000)
    # In a POSIX locale stdout is ASCII, and an arrow or an accent raises UnicodeEncodeError; stderr escapes them.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.excepthook = _report
    threading.excepthook = _report_raised
    sys.unraisablehook = _report_raised  # of an error in a destructor or a callback
    for name in first:
        import_module(name)


def _report(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """Print an error outside of `runner.attempt`, as of an import or a thread, without its text; see there."""
    from churn.core.errors import fault_of, on_terminal

    if error is None or on_terminal():
        sys.__excepthook__(kind, error or kind(), trace)
    else:
        print(f"{sys.argv[0]}: {fault_of(error)}", file=sys.stderr)


def _report_raised(raised: "threading.ExceptHookArgs | sys.UnraisableHookArgs") -> None:
    _report(raised.exc_type, raised.exc_value, raised.exc_traceback)
