"""Start-up settings of a process: imported first by every stage and command line, and by nothing else.

It comes before any library, because it names the next step when one is missing, and because its settings apply while
libraries are imported.
"""

import gc
import io
import os
import sys
import threading
from importlib.util import find_spec
from types import TracebackType

if not all(map(find_spec, ("duckdb", "mlflow", "pandas", "pydantic", "ruamel", "skops"))):
    sys.exit(
        f"{sys.executable} lacks what the stages need: run `make setup` once, then activate the environment with"
        " `source .venv/bin/activate`."
    )

# OpenMP threads busy-wait by default; on a loaded machine that made scoring 100 times slower (0.6 s alone).
# No spinning at all would slow down small tables.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# Imports make many objects and hardly any garbage: a collection every 700 objects takes a seventh of a stage's time.
gc.set_threshold(100_000)

# In a POSIX locale stdout is ASCII and would raise UnicodeEncodeError for an arrow or an accent; stderr escapes them.
if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors="backslashreplace")


def _report(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """Print an error outside of `runner.attempt`, as of an import or a thread, without its text; see there."""
    from churn.core.errors import fault_of, on_terminal

    if error is None or on_terminal():
        sys.__excepthook__(kind, error or kind(), trace)
    else:
        print(f"{sys.argv[0]}: {fault_of(error)}", file=sys.stderr)


def _report_raised(raised: "threading.ExceptHookArgs | sys.UnraisableHookArgs") -> None:
    _report(raised.exc_type, raised.exc_value, raised.exc_traceback)


sys.excepthook = _report
threading.excepthook = _report_raised
sys.unraisablehook = _report_raised  # of an error in a destructor or a callback
