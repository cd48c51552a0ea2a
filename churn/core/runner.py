"""Runs a stage or a command line: its log, and how an error ends it."""

import argparse
import atexit
import gc
import json
import logging
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from churn.core.dvc_files import refuse_damaged
from churn.core.errors import StageError, fault_of, on_terminal, without_password
from churn.core.paths import LOG
from churn.core.terminal import RED, coloured

KILLED = "was killed"  # how the log begins with a stage; true as long as no later line of it says otherwise
STARTED = time.perf_counter()


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
                text = without_password(str(cause))
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
        # protection: what a stage reads is what the one before wrote
        refuse_damaged()
        main()

    _, fault = attempt(stage, staged)
    log(stage, fault)
    if fault:
        sys.exit(_with_name(stage, fault))


def _with_name(name: str, fault: str) -> str:
    """Return a fault with the name before each of its lines, of which several settings have several."""
    begin = coloured(f"{name}:", RED, sys.stderr)
    return "\n".join(f"{begin} {line}" for line in fault.splitlines())


def command(
    main: Callable[[argparse.Namespace], int | None],
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None = None,
    failed: int = 1,
) -> None:
    """Run a command line, and exit with the status that `main` returns.

    On an error print `name: sentence` to stderr and exit with `failed`. The name is the end of the parser's `prog`:
    `score` of `python -m churn score`.
    """
    asked = parser.parse_args(arguments)
    name = parser.prog.rpartition(" ")[2].rpartition(".")[2]
    status, fault = attempt(name, lambda: main(asked))
    if fault:
        print(_with_name(name, fault), file=sys.stderr)
    sys.exit(failed if fault else status)


def log(stage: str, fault: str | None) -> None:
    """Add a line to LOG: the stage, its seconds until now, and its fault. Untracked: time is no result."""
    line = {"stage": stage, "seconds": round(time.perf_counter() - STARTED, 1), "fault": fault}
    with suppress(OSError):  # the report will say less; no reason to fail a stage
        LOG.parent.mkdir(parents=True, exist_ok=True)
        with LOG.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
