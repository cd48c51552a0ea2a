"""A child process for code that this process does not run itself: a registered version's, or a branch's features.

The process is Python in isolated mode: it finds the code that it is asked to run and the installed libraries, not this
checkout. Its environment holds none of this process's secrets, its folder is a temporary one, and its output goes
nowhere. It runs as the same user, so the files of that user are not protected from it.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from churn.core.errors import on_terminal
from churn.registry import isolated

FAULT = "fault.json"
PASSED_ON = re.compile(r"PATH|LD_LIBRARY_PATH|TMPDIR|TZ|LANG|LC_\w+|\w+_NUM_THREADS|GOMP_SPINCOUNT")


@contextmanager
def isolated_process(task: Literal["serve", "recompute"]) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Start the process, which imports the libraries of its task at once, and yield it with its temporary folder.

    It waits for one line of JSON, see churn/registry/isolated.py. At the end it is killed, with what it has started.
    """
    with tempfile.TemporaryDirectory() as temporary:
        environment = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
        process = subprocess.Popen(
            [sys.executable, "-I", "-B", str(Path(isolated.__file__).resolve()), task],
            cwd=temporary,
            env=environment | {"HOME": temporary},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=None if on_terminal() else subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            umask=0o077,
        )
        try:
            yield process, Path(temporary)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def fault_text(fault: Path, status: int) -> str:
    """Return why the process ended, if its answer has the form that churn/registry/isolated.py gives it."""
    try:
        error = json.loads(fault.read_bytes()[:10_000])
        kind, file, line, module = (str(error[key]) for key in ("kind", "file", "line", "module"))
    except (OSError, ValueError, KeyError, TypeError):
        return f"its process ended with {status}"
    if not all(re.fullmatch(r"[\w./]{1,200}", one) for one in (kind, file, line, module)):
        return f"its process ended with {status}"
    place = "" if file == "None" else f" ({file}, line {line})"
    return f"{kind}{place}" if module == "None" else f"there is no module {module}{place}"
