"""Dask: a function runs on each partition of a table, on the workers of a cluster, and small results come back.

A worker that dies costs the tasks that it had: Dask gives them to another one. A task writes under a name that follows
from its content or number, so a second run changes nothing. Dask is imported when a cluster is asked for.
"""

import logging
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from churn.core.errors import StageError, fault_of

if TYPE_CHECKING:
    from churn.config.params import Compute

Item = TypeVar("Item")
Result = TypeVar("Result")
TOGETHER = 8  # results that a worker combines into one
CONNECTING = "10s"
INSTALL = "`uv pip install --require-hashes -r requirements-dask.txt` installs it, here and on the workers"


class Cluster:
    """The workers of a Dask cluster, as a map over partitions and its reduction."""

    def __init__(self, client: Any, name: str) -> None:
        self.client, self.name = client, name

    def map(self, function: Callable[[Item], Result], items: Iterable[Item], ahead: int | None = None) -> list[Result]:
        """Return the function of each item, in their order; the results are small.

        Items that are made on the way wait until at most `ahead` of those before are still in work.
        """
        results: list[Result] = []
        waiting: list[Any] = []
        with self._watched():
            for future in self._submitted(function, items):
                waiting.append(future)
                if ahead and len(waiting) >= ahead:
                    results.append(waiting.pop(0).result())
            return results + list(self.client.gather(waiting))

    def reduce(
        self, function: Callable[[Item], Result], items: Iterable[Item], combine: Callable[[Result, Result], Result]
    ) -> Result:
        """Return the functions of all items, combined on the workers in the order of the items."""
        with self._watched():
            futures = list(self._submitted(function, items))
            while len(futures) > 1:
                futures = [
                    self.client.submit(_combined, combine, futures[start : start + TOGETHER], pure=False)
                    for start in range(0, len(futures), TOGETHER)
                ]
            result: Result = futures[0].result()
            return result

    def workers(self) -> list[str]:
        """Return the addresses of the workers, in one order."""
        return sorted(self.client.scheduler_info(n_workers=-1)["workers"])

    def _submitted(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Any]:
        """Give each item to a worker, the same partition to the same one if that is free: it has the file then."""
        workers = self.workers()
        for number, item in enumerate(items):
            place = {"workers": workers[number % len(workers)], "allow_other_workers": True} if workers else {}
            yield self.client.submit(_guarded, function, item, pure=False, **place)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError
        from distributed.comm.core import CommClosedError

        try:
            yield
        except KilledWorker as error:
            raise StageError(
                "a partition killed several workers, most likely because a worker's memory is too small for it: raise"
                " compute.memory, or lower compute.partition_rows and run `dvc repro --force fetch`."
            ) from error
        except (FutureCancelledError, CommClosedError, TimeoutError) as error:
            raise StageError(f"{self.name} is lost: start it again, then run `dvc repro`.") from error


def scratch() -> Path:
    """Return a folder of this process, deleted at its end: on a worker that of Dask, else one of the system."""
    try:
        from distributed import get_worker

        folder = Path(get_worker().local_directory) / "churn"
    except (ImportError, ValueError):  # not on a worker
        folder = Path(_temporary().name)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


_folders: list[tempfile.TemporaryDirectory[str]] = []


def _temporary() -> tempfile.TemporaryDirectory[str]:
    if not _folders:
        _folders.append(tempfile.TemporaryDirectory())
    return _folders[0]


def _guarded(function: Callable[[Item], Result], item: Item) -> Result:
    """Run a task on a worker; another library's error, whose text may hold a value, becomes its kind and place."""
    try:
        return function(item)
    except StageError as error:
        raise StageError(str(error)) from None
    except Exception as error:
        raise StageError(f"a task on a partition {fault_of(error)}") from None


def _combined(combine: Callable[[Result, Result], Result], results: Sequence[Result]) -> Result:
    return reduce(combine, results)


@contextmanager
def connected(compute: "Compute") -> Iterator[Cluster]:
    """Yield the cluster of `compute.scheduler`, or one of this machine with `compute.workers` workers.

    Raises StageError when Dask is not installed, and when nothing answers at the scheduler's address.
    """
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # its lines quote arguments
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise StageError(f"compute.engine in params.yaml is dask, and Dask is not installed: {INSTALL}.") from error
    settings = {
        "distributed.comm.timeouts.connect": CONNECTING,
        "distributed.worker.daemon": True,
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
            client.upload_file(str(_code(Path(folder))))
            yield Cluster(client, name)


def _code(folder: Path) -> Path:
    """Return an archive of the package `churn` here, which the workers import in the place of an older one."""
    root = Path(__file__).resolve().parents[1]
    archive = folder / "churn.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(root.rglob("*.py")):
            file.write(path, path.relative_to(root.parent))
    return archive


def for_each(function: Callable[..., Result], **fixed: Any) -> Callable[[Any], Result]:
    """Return a function of an item alone, which a worker gets with its other arguments."""
    return partial(function, **fixed)
