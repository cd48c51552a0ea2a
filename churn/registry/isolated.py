"""The child process of isolation.py: it serves a version from the version's files, or recomputes a branch's features.

`python -I -B churn/registry/isolated.py TASK` imports no module of this checkout. It reads one line of JSON from stdin,
so that its libraries are imported while the parent still works. It writes its results, or the fault, to files. A fault
holds the kind of the error, its place in the given code, and the name of a missing module, never an error's text.
"""

import argparse
import ctypes
import datetime
import gc
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

LIBRARIES = {
    "serve": (
        "scipy.special",  # first: see churn/modeling/model.py
        "pandas",
        "pyarrow.parquet",
        "pydantic.main",
        "ruamel.yaml",
        "sklearn.ensemble",
        "sklearn.cluster",  # of skops, which would import all of scikit-learn here: see churn/modeling/model.py
    ),
    "recompute": ("pandas", "pyarrow.parquet", "pyarrow.dataset"),
}
AHEAD = 400 * 86_400 + 7 * 3_600  # seconds: another year, month, weekday and hour
TIME_ZONE = "<+14>-14"
FIRST_INDEX = 1_000_000_001
BATCH_ROWS = 65_536
READING = ("open", "sqlite3.connect")  # audit events whose first argument is a path
LEAVING = ("os.exec", "os.posix_spawn", "os.system", "socket.connect", "subprocess.Popen")
SYSTEM = ("/dev", "/etc/localtime", "/proc", "/sys", "/usr/share/zoneinfo")


def serve(asked: Mapping[str, Any]) -> None:
    """Load the version, as MLflow's pyfunc does, and write its scores of each `step`th customer as NumPy's file."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    model = importlib.import_module(asked["loader"])._load_pyfunc(asked["data"])
    taken, start, step = [], 0, asked["step"]
    with pq.ParquetFile(asked["customers"]) as file:
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, asked["columns"])
            taken.append(rows.take(np.arange(-start % step, rows.num_rows, step)))
            start += rows.num_rows
    np.save(asked["scores"], np.asarray(model.predict(pa.concat_tables(taken).to_pandas())), allow_pickle=False)


def recompute(asked: Mapping[str, Any]) -> None:
    """Apply the feature functions to the customers, under other circumstances than in prepare; write the result.

    The clock, the time zone, the order of the rows, their index and the size of the batches are others. A feature that
    depends on one of them gets another value. The files that were opened are written, too, also after an error.
    """
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    customers = pq.read_table(asked["customers"])
    order = np.random.default_rng(0).permutation(customers.num_rows)
    os.chdir(asked["code"])
    os.environ["TZ"] = TIME_ZONE
    time.tzset()
    turn_clock(AHEAD)
    accessed = set[str]()
    record_access(Path(asked["code"]), asked["allowed"], accessed)
    try:
        functions = importlib.import_module("churn.features").FEATURES
        batches, start, size = [], 0, 1
        while start < len(order):
            batch = customers.take(order[start : start + size]).to_pandas()
            batch.index = pd.RangeIndex(FIRST_INDEX - start, FIRST_INDEX - start - len(batch), -1)
            for function in functions:
                batch = function(batch)
            batches.append(batch)
            start, size = start + size, min(2 * size, BATCH_ROWS)
        features = pa.Table.from_pandas(pd.concat(batches), preserve_index=False)
        pq.write_table(features, asked["features"])
    finally:
        Path(asked["accessed"]).write_text(json.dumps(sorted(accessed)), encoding="utf-8")


def turn_clock(seconds: float) -> None:
    """Put the clocks that Python code reads forward: those of `time` and `datetime`, and with them those of pandas.

    NumPy's `datetime64("now")`, and a library in C that asks the system itself, keep the true time.
    """
    clock, clock_ns = time.time, time.time_ns
    localtime, gmtime, strftime, asctime, ctime = time.localtime, time.gmtime, time.strftime, time.asctime, time.ctime
    replaced = {
        "time": lambda: clock() + seconds,  # date.today() calls it as well
        "time_ns": lambda: clock_ns() + int(seconds * 10**9),
        "localtime": lambda at=None: localtime(time.time() if at is None else at),
        "gmtime": lambda at=None: gmtime(time.time() if at is None else at),
        "ctime": lambda at=None: ctime(time.time() if at is None else at),
        "strftime": lambda form, at=None: strftime(form, time.localtime() if at is None else at),
        "asctime": lambda at=None: asctime(time.localtime() if at is None else at),
    }
    for name, function in replaced.items():
        setattr(time, name, function)
    # Code holds the type itself, by `from datetime import datetime`, so the type is changed, not its name.
    methods = gc.get_referents(datetime.datetime.__dict__)[0]
    methods["now"] = classmethod(lambda kind, tz=None: kind.fromtimestamp(time.time(), tz))
    methods["utcnow"] = classmethod(lambda kind: kind.utcfromtimestamp(time.time()))
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime.datetime))


def record_access(code: Path, allowed: Iterable[str], accessed: set[str]) -> None:
    """Add to `accessed` each file that Python code opens from now on, and each way out to a process or a server.

    Left out are files that exist below `code`, the `allowed` ones, and those of the interpreter, its libraries and the
    system. Python reports no file that a library in C opens itself, as Arrow and DuckDB do.
    """
    inside = os.path.realpath(code)
    libraries = [sys.prefix, sys.base_prefix, *sys.path]
    free = {place.rstrip("/") for one in (*libraries, *allowed, *SYSTEM) for place in (one, os.path.realpath(one))}

    def below(path: str, folders: Iterable[str]) -> bool:
        return any(path == folder or path.startswith(f"{folder}/") for folder in folders)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in LEAVING:
            accessed.add(event)
        elif event in READING and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            # Python looks for compiled code before it reads a module.
            there = Path(path).exists() or path.endswith(".pyc")
            if not (there if below(path, [inside]) else below(path, free)):
                accessed.add(path)

    sys.addaudithook(hook)


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


def main(task: str) -> None:
    """Do what the parent asks for, and exit with 0 if that went well."""
    gc.set_threshold(100_000)
    for name in LIBRARIES[task]:
        with suppress(ImportError):  # the given code may do without; where it does not, it is named there
            importlib.import_module(name)
    if not (line := sys.stdin.readline()):
        return  # the parent has ended
    asked = json.loads(line)
    code = Path(asked["code"])
    package = Path(__file__).parent.parent.name  # also in a checkout that a .pth file adds
    sys.path[:] = [str(code), *(entry for entry in sys.path if not (Path(entry) / package).exists())]
    status = 0
    try:
        {"serve": serve, "recompute": recompute}[task](asked)
    except BaseException as error:
        traceback.print_exc()  # the parent shows it on a terminal only
        Path(asked["fault"]).write_text(json.dumps(fault_of(error, code)), encoding="utf-8")
        status = 1
    sys.stderr.flush()
    os._exit(status)  # past the end of the interpreter, which takes up to a second


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("task", choices=LIBRARIES)
    main(parser.parse_args().task)
