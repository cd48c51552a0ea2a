"""Dask: a function runs on each partition of a table, on the workers of a cluster, and small results come back.

A worker that dies costs the tasks that it had: Dask gives them to another one. A task writes under a name that follows
from its content or number, so a second run changes nothing. Dask is imported when a cluster is asked for.
"""

import logging
import pickle
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial, reduce
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, TypeVar

from churn.core.errors import MORE, StageError, fault_of
from churn.core.files import sha256_of


class Where(Protocol):
    """The settings of `compute` in params.yaml that say where the workers are."""

    @property
    def scheduler(self) -> str | None: ...  # noqa: D102
    @property
    def workers(self) -> int: ...  # noqa: D102
    @property
    def memory(self) -> str | None: ...  # noqa: D102


Item = TypeVar("Item")
Result = TypeVar("Result")
TOGETHER = 8  # results that a worker combines into one
AHEAD = 4  # tasks for each worker that wait or run
MEMORY = 3 * 2**30  # of a worker without a limit
CONNECTING = "10s"
WAITING, SETTLING, ATTEMPTS = 60, 2, 3  # seconds, and times
LIBRARIES = ("distributed", "duckdb", "numpy", "pandas", "pyarrow", "scikit-learn", "skops", "xgboost-cpu", "xgboost")
INSTALL = "`uv pip install --require-hashes -r requirements-dask.txt` installs it, here and on the workers"


class TaskError(StageError):
    """The error of a library in a task on a worker, by its kind and place."""


class Map(Protocol):
    """Whatever runs a function on each partition, and combines small results."""

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Return the function of each item, in their order."""

    def reduce(
        self, function: Callable[[Item], Result], items: Iterable[Item], combine: Callable[[Result, Result], Result]
    ) -> Result:
        """Return the functions of all items, combined in the order of the items."""


class Here:
    """One partition after another in this process, where no worker is trusted: the report."""

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Return the function of each item, in their order."""
        return [function(item) for item in items]

    def reduce(
        self, function: Callable[[Item], Result], items: Iterable[Item], combine: Callable[[Result, Result], Result]
    ) -> Result:
        """Return the functions of all items, combined in the order of the items."""
        return reduce(combine, map(function, items))


class Cluster:
    """The workers of a Dask cluster, as a map over partitions and its reduction."""

    def __init__(self, client: Any, name: str) -> None:
        self.client, self.name = client, name

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Return the function of each item, in their order; the results are small.

        The scheduler has AHEAD tasks for each worker at most, because each holds what its function needs: a model.
        """
        results: list[Result] = []
        waiting: list[Any] = []
        with self.watched():
            ahead = AHEAD * max(len(self.workers()), 1)
            for future in self._submitted(function, items):
                waiting.append(future)
                if len(waiting) >= ahead:
                    results.append(self._result(waiting.pop(0)))
            return results + [self._result(one) for one in waiting]

    def reduce(
        self, function: Callable[[Item], Result], items: Iterable[Item], combine: Callable[[Result, Result], Result]
    ) -> Result:
        """Return the functions of all items, combined on the workers in the order of the items."""
        with self.watched():
            futures = list(self._submitted(function, items))
            while len(futures) > 1:
                futures = [
                    self._submit(for_each(_combined, combine), *futures[start : start + TOGETHER])
                    for start in range(0, len(futures), TOGETHER)
                ]
            result: Result = self._result(futures[0])
            return result

    def workers(self) -> list[str]:
        """Return the addresses of the workers, in one order."""
        # client.scheduler_info() may return what Dask's own poll, which asks for no worker, got in between.
        return sorted(self.client.sync(self.client.scheduler.identity, n_workers=-1)["workers"])

    def wait_for(self, count: int) -> list[str]:
        """Return the addresses of `count` workers, after those that died have started again.

        Raises StageError when there are fewer after a minute.
        """
        with self.watched():
            try:
                self.client.wait_for_workers(count, timeout=WAITING)
            except TimeoutError as error:
                raise self._too_few(count) from error
            return self.workers()[:count]

    def on_worker(self, function: Callable[..., Result], worker: str, **arguments: Any) -> Result | None:
        """Run a function on one worker, beside its tasks; return None when the worker died."""
        with self.watched():
            found: Mapping[str, Result] = self.client.run(function, workers=[worker], on_error="ignore", **arguments)
            return found.get(worker)

    def together(self, tasks: Sequence[tuple[str, Callable[[Item], Result], Item]]) -> list[Result] | None:
        """Return the results of tasks that need each other, each on its worker; None when a worker died.

        Raises the StageError of a task, if no worker died.
        """
        from distributed import wait

        with self.watched():
            futures = [
                self._submit(for_each(_guarded, function, item, versions()), workers=worker, allow_other_workers=False)
                for worker, function, item in tasks
            ]
            there = {worker for worker, _, _ in tasks}
            while not all(one.done() for one in futures):
                with suppress(TimeoutError):
                    wait(futures, timeout=1)  # type: ignore[no-untyped-call]
                if any(one.status == "error" for one in futures) or not there <= {*self.workers()}:
                    break
            if all(one.status == "finished" for one in futures):
                return list(self.client.gather(futures))
            time.sleep(SETTLING)  # until the scheduler knows which worker is gone
            left = there & {*self.workers()}
            fault = next((one.exception() for one in futures if one.status == "error"), None)
            self.client.cancel(futures, force=True)
            if fault and left == there:
                raise fault
            self.client.restart_workers([*left], timeout=WAITING)
            return None

    def _too_few(self, count: int) -> StageError:
        few = f"fewer than {count} workers" if count > 1 else "no worker"
        return StageError(f"{self.name} has {few}: start others.")

    def _result(self, future: Any) -> Any:
        """Return the result of a task. Raises StageError when no worker is there for a minute."""
        while True:
            with suppress(TimeoutError):
                return future.result(timeout=WAITING)
            if not self.workers():
                raise self._too_few(1)

    def _submitted(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Any]:
        # To any worker: Dask never runs a task that prefers one, after all workers have died and come back.
        for item in items:
            yield self._submit(for_each(_guarded, function, item, versions()))

    def _submit(self, function: Callable[..., Any], *futures: Any, **place: Any) -> Any:
        """Give a worker a function of the results of futures, as bytes: the scheduler does not have our code."""

        def call(content: bytes, *results: Any) -> Any:  # which Dask sends by value, as it is nowhere to be imported
            return __import__("pickle").loads(content)(*results)

        return self.client.submit(call, pickle.dumps(function), *futures, pure=False, **place)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Raise Dask's errors as a StageError: a worker's memory is too small, or the scheduler is lost."""
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError

        try:
            yield
        except KilledWorker as error:
            raise StageError(
                "a partition killed several workers, most likely because a worker's memory is too small for it: raise"
                " compute.memory, or lower compute.partition_rows and run `dvc repro --force fetch`."
            ) from error
        except (FutureCancelledError, OSError, AttributeError) as error:
            # Dask's own error of a lost connection has no number, and its client then no scheduler.
            lost = self.client.scheduler is None or (isinstance(error, OSError) and error.errno is None)
            if not lost and not isinstance(error, FutureCancelledError):
                raise
            raise StageError(f"{self.name} is lost: start it again, then run `dvc repro`.") from error


def task_memory() -> int | None:
    """Return the memory in bytes for a task on the Dask worker that runs this, None elsewhere."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    with suppress(ValueError):  # not on a worker
        worker = get_worker()
        return int(worker.memory_manager.memory_limit or MEMORY) // worker.state.nthreads  # each has a task
    return None


def scratch() -> Path:
    """Return a folder of this process, deleted at its end: on a worker that of Dask, else one of the system."""
    if task_memory() is None:
        folder = Path(_temporary().name)
    else:
        from distributed import get_worker

        folder = Path(get_worker().local_directory) / "churn"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


_folders: list[tempfile.TemporaryDirectory[str]] = []


def _temporary() -> tempfile.TemporaryDirectory[str]:
    if not _folders:
        _folders.append(tempfile.TemporaryDirectory())
    return _folders[0]


def _guarded(function: Callable[[Item], Result], item: Item, here: Mapping[str, str]) -> Result:
    """Run a task on a worker; another library's error, whose text may hold a value, becomes its kind and place.

    Raises StageError when the worker, which may have come since the stage began, has other versions than `here`.
    """
    from distributed import get_worker

    refuse_others({get_worker().address: versions()}, here)
    try:
        return function(item)
    except StageError as error:
        raise type(error)(str(error)) from None
    except Exception as error:
        raise TaskError(f"a task on a partition {fault_of(error).replace(MORE, '')}") from None


def _combined(combine: Callable[[Result, Result], Result], *results: Result) -> Result:
    return reduce(combine, results)


@contextmanager
def connected(compute: Where) -> Iterator[Cluster]:
    """Yield the cluster of `compute.scheduler`, or one of this machine with `compute.workers` workers.

    Raises StageError when Dask is not installed, and when nothing answers at the scheduler's address.
    """
    try:
        import dask
        from distributed import Client, LocalCluster
        from distributed.diagnostics.plugin import UploadFile
    except ImportError as error:
        raise StageError(f"compute.engine in params.yaml is dask, and Dask is not installed: {INSTALL}.") from error
    for logger in [one for one in logging.root.manager.loggerDict if one.partition(".")[0] == "distributed"]:
        logging.getLogger(logger).setLevel(logging.CRITICAL)  # their lines quote arguments
    settings = {
        "distributed.comm.timeouts.connect": CONNECTING,
        "distributed.worker.daemon": True,
        "distributed.worker.memory.pause": False,  # as Code below says
        "distributed.admin.large-graph-warning-threshold": "1GB",
        "distributed.diagnostics.nvml": False,
        "logging.distributed": "critical",
    }
    with dask.config.set(settings), tempfile.TemporaryDirectory() as folder:
        if compute.scheduler is None:
            with (
                LocalCluster(  # type: ignore[no-untyped-call]  # Dask has no types
                    n_workers=compute.workers,
                    threads_per_worker=1,
                    memory_limit=compute.memory or "auto",
                    dashboard_address=None,
                    host="127.0.0.1",
                    local_directory=folder,
                    silence_logs=logging.CRITICAL,
                ) as cluster,
                Client(cluster) as client,  # type: ignore[no-untyped-call]
            ):
                yield Cluster(client, "the Dask cluster of this machine")
            return
        name = f"the Dask scheduler {compute.scheduler}"
        try:
            client = Client(compute.scheduler, timeout=CONNECTING)  # type: ignore[no-untyped-call]
        except (OSError, ValueError, ImportError) as error:
            raise StageError(
                f"nothing answers at {compute.scheduler}, which is compute.scheduler in params.yaml: start it with"
                " `dask scheduler` and its workers with `dask worker`; docs/scale.md has the commands."
            ) from error
        with client:
            cluster, archive = Cluster(client, name), _code(Path(folder))

            class Code(UploadFile):  # also for workers that start later; Dask sends it by value
                async def setup(self, worker: Any) -> None:
                    # A task is one partition, so a pause saves no memory. It would last for ever, and so would its
                    # tasks, where libraries keep what they have freed.
                    worker.memory_manager.memory_pause_fraction = False
                    if worker.status.name == "paused":
                        worker.status = type(worker.status).running
                    await super().setup(worker)  # type: ignore[no-untyped-call]

            plugin = Code(str(archive))
            for _ in range(ATTEMPTS):  # in each of which a worker may die
                with suppress(OSError, AttributeError):  # the latter of a client that has lost its scheduler
                    client.register_plugin(plugin, name="churn")
                    cluster.wait_for(1)
                    refuse_others(client.run(_import_from, archive.name, on_error="ignore"), versions())
                    break
                time.sleep(SETTLING)
            else:
                raise StageError(f"{name} is lost: start it again, then run `dvc repro`.")
            yield cluster


@cache
def versions() -> dict[str, str]:
    """Return the versions that a task's result may depend on: of Python and of some libraries, `none` if missing."""
    found = {"Python": ".".join(map(str, sys.version_info[:2]))}
    for name in LIBRARIES:
        found[name] = "none"
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def refuse_others(workers: Mapping[str, Mapping[str, str]], here: Mapping[str, str]) -> None:
    """Raise StageError when a worker has other versions than this machine.

    Examples
    --------
    >>> refuse_others({"tcp://10.0.0.6:1": {"Python": "3.11"}}, {"Python": "3.11"})
    """
    for worker, there in sorted(workers.items()):
        if other := [
            f"{name} {there.get(name, 'none')} and not {one}" for name, one in here.items() if there.get(name) != one
        ]:
            raise StageError(
                f"the worker {worker} has {', '.join(other)}, as this machine has: install requirements.txt and"
                " requirements-dask.txt of this commit there, and start it again."
            )


def _import_from(archive: str) -> dict[str, str]:
    """Let a worker, which may have run other code, import the package from an archive, and return its versions."""
    others = [
        path for path in sys.path if re.fullmatch(r"churn-\w+\.zip", Path(path).name) and Path(path).name != archive
    ]
    sys.path[:] = [path for path in sys.path if path not in others]
    for name in [name for name in sys.modules if name.partition(".")[0] == "churn"]:
        del sys.modules[name]
    return versions()


def _code(folder: Path) -> Path:
    """Return an archive of the package `churn` here, whose name follows from its content."""
    import zipfile

    root = Path(__file__).resolve().parents[1]
    made = folder / "churn.zip"
    with zipfile.ZipFile(made, "w") as file:
        for path in sorted([root, *(one for one in root.rglob("*") if one.suffix == ".py" or one.is_dir())]):
            name = path.relative_to(root.parent).as_posix()  # a package without __init__.py needs its folder
            file.writestr(
                zipfile.ZipInfo(f"{name}/" if path.is_dir() else name), b"" if path.is_dir() else path.read_bytes()
            )
    return made.rename(folder / f"churn-{sha256_of(made)[:16]}.zip")


def for_each(function: Callable[..., Result], *fixed: Any, **named: Any) -> Callable[..., Result]:
    """Return a function of an item alone, which a worker gets with its other arguments."""
    return partial(function, *fixed, **named)
