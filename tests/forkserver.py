"""A server that runs Python programs in children forked from itself, with the libraries imported: milliseconds each.

`programs` makes a folder with a `python` and a `dvc` for PATH. They hand their arguments, environment, folder and open
streams to the server, and end as the child does; a shim that is killed takes the child with it. The server imports
libraries only: each child imports the code of the checkout that it runs in. tests/shortcuts.py has what is made once.
What a fork cannot show is left to the real Python: a terminal (act's is none, and an isolated program draws nothing on
it), another start-up setting of Python's, and any program that is none of ours.

Where pytest measures coverage, the children measure theirs, unless their environment has UNMEASURED: measuring takes
a third of the time, and what defects, act, the walkthrough and another table run is run by the other tests as well.
"""

import atexit
import gc
import importlib.util
import marshal
import os
import re
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager, nullcontext
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path

from coverage import Coverage, CoverageData

ROOT = Path(__file__).resolve().parent.parent
OURS = ("churn", "ci", "report", "stages")  # whose coverage is measured
INSIDE = re.compile(rf".*/((?:{'|'.join(OURS)})/.*)")
# fmt: off
LIBRARIES = [
    "alembic.command", "alembic.config", "alembic.migration", "duckdb", "dvc.analytics", "dvc.cachemgr",
    "dvc.cli.parser", "dvc.data_cloud", "dvc.dirs", "dvc.lock", "dvc.repo.artifacts", "dvc.repo.datasets",
    "dvc.repo.graph", "dvc.repo.index", "dvc.repo.metrics", "dvc.repo.open_repo", "dvc.repo.params", "dvc.repo.plots",
    "dvc.repo.reproduce", "dvc.repo.stage", "dvc.rwlock", "dvc.scm", "dvc.stage.cache", "dvc.stage.run",
    "dvc.utils.strictyaml", "dvc_data.hashfile.db.local", "dvc_data.hashfile.status", "dvc_data.index",
    "fsspec.implementations.memory", "jinja2", "matplotlib.backends.backend_agg", "matplotlib.figure", "mlflow.models",
    "mlflow.sklearn", "mlflow.store.model_registry.sqlalchemy_store", "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_workspace_store", "mlflow.tracing.export", "mlflow.tracking",
    "narwhals._pandas_like.dataframe", "narwhals._pandas_like.namespace", "narwhals.stable.v2._namespace", "networkx",
    "numpy", "opentelemetry.sdk.metrics", "pandas", "PIL.Image", "pyarrow.compute", "pyarrow.csv", "pyarrow.dataset",
    "pyarrow.parquet", "pydantic", "ruamel.yaml", "s3fs", "scipy.special", "scipy.stats", "scmrepo.git",
    "sklearn.calibration", "sklearn.compose", "sklearn.ensemble", "sklearn.linear_model", "sklearn.metrics",
    "sklearn.model_selection", "sklearn.pipeline", "sklearn.preprocessing", "skops.io", "sqlalchemy.dialects.sqlite",
    "threadpoolctl", "tqdm", "zc.lockfile",
]
# fmt: on
SHARED = "SHARED_PROGRAMS"  # in the environment of pytest-xdist's processes
SITE_CACHE = f"{sys.prefix}/dvc"  # as the environment's start-up has it, see the Makefile
KNOWN = ("PYTHONPATH", "PYTHONSAFEPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE")  # of Python's settings

SHIM = """#!{python} -IS
import os, sys
real, arguments, environment = {python!r}, sys.argv[1:], os.environ
if os.path.basename(sys.argv[0]) == "dvc":
    arguments = ["-m", "dvc", *arguments]
flags = [one for one in arguments[:2] if one in ("-I", "-B", "-P")]
ours = arguments[len(flags) :]
roots = ("dvc", "mlflow", "pytest", "stages", "churn", "ci", "report", "benchmarks")
forked = (
    (ours[:1] == ["-m"] and ours[1:2] and ours[1].split(".")[0] in roots)
    or (ours and ours[0].endswith(".py"))
) and not (
    any(os.isatty(stream) for stream in (0, 1, 2)) and "FORK_ON_TERMINAL" not in environment and "-I" not in flags
    or any(name.startswith("PYTHON") and name not in {known!r} for name in environment)
    or environment.get("LC_ALL", "").startswith("C")
    or environment.get("OMP_NUM_THREADS") != "1"
)
if not forked:
    os.execv(real, [real, *arguments])
import _socket, array, marshal
server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
server.connect({address!r})
mask = os.umask(0)
asked = marshal.dumps((sys.argv[0], flags, ours, os.getcwd(), dict(environment), mask))
streams = array.array("i", [0, 1, 2])
server.sendmsg([len(asked).to_bytes(8, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
while asked:
    asked = asked[server.send(asked) :]
if len(answer := server.recv(4)) < 4:
    sys.exit("the server of tests/forkserver.py has ended: nobody knows how the program did")
status = int.from_bytes(answer, "big", signed=True)
if status < 0:
    os.kill(os.getpid(), -status)
os._exit(status)
"""


@cache
def programs(*libraries: str) -> str:
    """Start a server that ends with this process, and return the folder with the shims that ask it.

    It imports all of LIBRARIES when the first shim asks, unless a few are named: then it answers sooner. The processes
    of pytest-xdist share the one that tests/conftest.py has started.
    """
    if SHARED in os.environ and not libraries:
        return os.environ[SHARED]
    folder = tempfile.TemporaryDirectory(prefix="forks-")
    atexit.register(folder.cleanup)
    address = f"{folder.name}/socket"
    bin_folder = Path(folder.name, "bin")
    bin_folder.mkdir()
    for name in ("python", "dvc"):
        shim = bin_folder / name
        shim.write_text(SHIM.format(python=sys.executable, address=address, known=KNOWN))
        shim.chmod(0o755)
    running = Coverage.current()
    settings = {"HOME": folder.name, "MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"}
    settings["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"  # a fifth fewer page faults, which take a tenth of a report
    server = subprocess.Popen(
        [sys.executable, "-P", __file__, address, str(ROOT / running.config.data_file) if running else "", *libraries],
        cwd=folder.name,
        env=os.environ | settings,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert server.stdout.readline() == b"ready\n"
    atexit.register(server.stdin.close)
    return str(bin_folder)


class Connection:
    """A shim that waits, and the child that runs for it."""

    def __init__(self, shim: socket.socket, pid: int):
        self.shim, self.pid = shim, pid
        self.process = os.pidfd_open(pid)


def listening(address: str) -> socket.socket:
    """Return the socket to which the shims connect, once the first one does."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(address)
    listener.listen(64)
    print("ready", flush=True)
    if listener not in select.select([listener, 0], [], [])[0]:
        sys.exit()
    return listener


def serve(listener: socket.socket) -> tuple:
    """Fork a child for each shim that connects. Return, in the child only, what the shim asked for."""
    waiting = selectors.DefaultSelector()
    waiting.register(listener, selectors.EVENT_READ)
    waiting.register(0, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fileobj == 0:
                os._exit(0)  # past DuckDB's page of "nanobind: leaked"
            elif key.fileobj is listener:
                shim, _ = listener.accept()
                header, streams, _, _ = socket.recv_fds(shim, 8, 3)
                asked = b""
                while len(asked) < int.from_bytes(header, "big"):
                    asked += shim.recv(1 << 20)
                if not (pid := os.fork()):
                    for number, stream in enumerate(streams):
                        os.dup2(stream, number)
                    for stream in streams:
                        os.close(stream)
                    return marshal.loads(asked)
                for stream in streams:
                    os.close(stream)
                one = Connection(shim, pid)
                waiting.register(one.shim, selectors.EVENT_READ, one)
                waiting.register(one.process, selectors.EVENT_READ, one)
            else:
                one = key.data
                if key.fileobj is one.shim:  # it was killed
                    os.kill(one.pid, signal.SIGKILL)
                    waiting.unregister(one.shim)
                    one.shim.close()
                    continue
                _, status = os.waitpid(one.pid, 0)
                waiting.unregister(one.process)
                os.close(one.process)
                if one.shim.fileno() >= 0:
                    waiting.unregister(one.shim)
                    one.shim.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))
                    one.shim.close()


def measuring() -> Coverage:
    """Return what measures a child. Its first start takes 0.36 s with the libraries loaded: the server pays it once."""
    coverage = Coverage(
        data_file=None, branch=True, config_file=False, include=[f"*/{folder}/**/*.py" for folder in OURS]
    )
    coverage.set_option("run:disable_warnings", ["no-data-collected"])  # of a program that runs none of them
    coverage.start()
    coverage.stop()
    return coverage


@contextmanager
def measured(coverage: Coverage, data_file: str, known: Path):
    """Add to the coverage what is run of each file that has the same bytes in the checkout under test.

    `known` has what former children added: most run the same lines again, and writing these takes 0.03 s.
    """
    coverage.start()
    try:
        yield
    finally:
        coverage.stop()
        before = marshal.loads(known.read_bytes()) if known.exists() else {}
        arcs = {}
        for name in (data := coverage.get_data()).measured_files():
            own = ROOT / INSIDE.fullmatch(name)[1]
            if own.exists() and Path(name).exists() and own.read_bytes() == Path(name).read_bytes():
                arcs[str(own)] = {*data.arcs(name)} - before.get(str(own), set())
        if any(arcs.values()):
            together = CoverageData(data_file, suffix=True)
            together.add_arcs(arcs)
            together.write()
            part = known.with_suffix(f".{os.getpid()}")
            part.write_bytes(marshal.dumps(before | {name: before.get(name, set()) | arcs[name] for name in arcs}))
            part.rename(known)


def with_shortcuts(folder: Path) -> None:
    """Take those of tests/shortcuts.py, without a package `tests`, which a child has to find in its own checkout."""
    spec = importlib.util.spec_from_file_location("shortcuts", Path(__file__).with_name("shortcuts.py"))
    shortcuts = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(shortcuts)
    shortcuts.take(folder)


def become(asked: tuple, coverage: Coverage | None, data_file: str) -> None:
    """Make this child what the real Python would be at its start, run the program, and end."""
    import numpy as np
    from colorama.initialise import reset_all

    known = Path(sys.argv[1]).with_name("known")
    program, flags, arguments, folder, environment, mask = asked
    os.chdir(folder)
    os.umask(mask)
    os.environ.clear()
    os.environ.update({"DVC_SITE_CACHE_DIR": SITE_CACHE} | environment)
    atexit.unregister(reset_all)  # what DVC's colours leave behind, also where DVC does not run
    np.random.seed()  # else each child would draw the same numbers
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", errors="backslashreplace", closefd=False)
    sys.stdout.reconfigure(write_through=bool(environment.get("PYTHONUNBUFFERED")))
    sys.stderr.reconfigure(line_buffering=True)
    sys.executable = str(Path(program).with_name("python"))
    sys.dont_write_bytecode = "-B" in flags or bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    if isolated := "-I" in flags:
        del SourceFileLoader.source_to_code  # tests/shortcuts.py's: the program notes which files are opened
    paths = [] if isolated else [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    safe = isolated or "-P" in flags or environment.get("PYTHONSAFEPATH")
    module = arguments[0] == "-m"
    if not safe:
        paths.insert(0, folder if module else str(Path(arguments[0]).resolve().parent))
    sys.path[:0] = paths
    sys.argv = arguments[1:] if module else arguments
    try:
        ours = arguments[1:2] not in (["dvc"], ["mlflow"], ["pytest"])
        counts = coverage and ours and "UNMEASURED" not in environment
        with measured(coverage, data_file, known) if counts else nullcontext():
            if module:
                runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if not isinstance(end.code, int | None):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    else:
        status = 0
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # past the end of the interpreter, where the libraries are taken apart


if __name__ == "__main__":
    connected = listening(sys.argv[1])
    for name in sys.argv[3:] or LIBRARIES:
        importlib.import_module(name)
    with_shortcuts(Path(sys.argv[1]).parent)
    coverage = measuring() if sys.argv[2] else None
    gc.collect()
    gc.freeze()
    become(serve(connected), coverage, sys.argv[2])
