"""A table of many partitions: a folder whose manifest names a Parquet file, its rows, bytes and SHA-256 for each.

The folder stands at the path of the file that a local run writes, so dvc.yaml and the readers keep one path. Without a
storage the folder holds the files. With one, S3 or a folder that all machines share, it holds the manifest alone: the
files lie there under their SHA-256. So a file never changes, an older manifest stays valid, and work that is done twice
writes the same object.
"""

import shutil
import tempfile
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

from churn.core.errors import StageError
from churn.core.files import MANIFEST, read_json, sha256_of, write_json

AGAIN = "restore it, or make it again by `dvc repro --force --downstream fetch`"
LIMITS = {"connect_timeout": 20, "read_timeout": 20}  # seconds, of each try


@dataclass(frozen=True)
class Partition:
    """A Parquet file: its path or URL, its rows, its bytes and their SHA-256."""

    url: str
    rows: int
    size: int
    sha256: str


def is_partitioned(table: Path) -> bool:
    """Return whether a table is a folder of partitions."""
    return (table / MANIFEST).is_file()


def partitions_of(table: Path) -> list[Partition]:
    """Return the partitions of a table in their order.

    Raises StageError when it is a single file, or when its manifest is none of ours.
    """
    if not is_partitioned(table):
        raise StageError(f"{table} has no {MANIFEST}: `dvc repro --force --downstream fetch` makes it again.")
    listed = read_json(table / MANIFEST).get("partitions")
    try:
        found = [Partition(**one) for one in listed or ()]
        if not found or any(list(map(type, asdict(one).values())) != [str, int, int, str] for one in found):
            raise TypeError("another type")
    except TypeError as error:
        raise StageError(
            f"{table / MANIFEST} is not what a stage writes: `dvc repro --force` makes it again."
        ) from error
    here = (one.url if "/" in one.url else str(table / one.url) for one in found)
    return [Partition(url, one.rows, one.size, one.sha256) for url, one in zip(here, found, strict=True)]


def write_manifest(table: Path, partitions: Sequence[Partition]) -> None:
    """Write the manifest of a table, whose folder `table` may be a temporary one."""
    table.mkdir(parents=True, exist_ok=True)
    listed = [asdict(one) | {"url": one.url.removeprefix(f"{table.absolute()}/")} for one in partitions]
    write_json(table / MANIFEST, {"partitions": listed})


def store(made: Path, table: Path, number: int, rows: int, storage: str | None) -> Partition:
    """Move the file `made` to partition `number` of a table, or to the storage, and return the partition.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (made := Path(folder, "made")).write_bytes(b"PAR1")
    ...     one = store(made, Path(folder), 0, 0, None)
    ...     made.exists(), Path(one.url).name, one.size
    4
    (False, 'part-00000.parquet', 4)

    Raises StageError when the storage cannot be written.
    """
    digest, size = sha256_of(made), made.stat().st_size
    if storage is None:
        table.mkdir(parents=True, exist_ok=True)
        path = table / f"part-{number:05}.parquet"
        shutil.move(made, path)
        return Partition(str(path), rows, size, digest)
    url = f"{storage.rstrip('/')}/{digest}.parquet"
    files, is_object = _files(url), url.startswith("s3://")
    try:
        if not files.exists(url) or files.size(url) != size:
            part = url if is_object else f"{url}.{number}.part"  # an object is there as a whole or not at all
            files.put_file(str(made), part)
            if not is_object:
                Path(part).replace(url)
    except Exception as error:  # s3fs', botocore's and the system's own
        raise StageError(
            f"{url} cannot be written ({type(error).__name__}): look at compute.storage in params.yaml, and at what may"
            " write there."
        ) from error
    made.unlink()
    return Partition(url, rows, size, digest)


def local_file(partition: Partition, folder: Path) -> Path:
    """Return a partition as a file of this machine, verified by its SHA-256; one in S3 is kept in `folder`.

    Raises StageError when it is not there or has other bytes.
    """
    path = Path(partition.url)
    if partition.url.startswith("s3://"):
        path = folder / f"{partition.sha256}.parquet"
        if path.exists():
            return path
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as tmp:
            pass
        try:
            _files(partition.url).get_file(partition.url, tmp.name)
        except Exception as error:  # s3fs', botocore's and the system's own
            raise StageError(f"{partition.url} cannot be read ({type(error).__name__}): {AGAIN}.") from error
        _refuse_other(Path(tmp.name), partition)
        Path(tmp.name).replace(path)
        return path
    _refuse_other(path, partition)
    return path


def _refuse_other(path: Path, partition: Partition) -> None:
    if not path.is_file() or _sha256(path, path.stat().st_mtime_ns) != partition.sha256:
        raise StageError(f"{partition.url} is missing or has other bytes than its manifest names: {AGAIN}.")


def s3_files() -> Any:
    """Return S3 as a file system of fsspec, with the credentials that open the DVC remote."""
    import s3fs

    return s3fs.S3FileSystem(use_listings_cache=False, config_kwargs=LIMITS)


@cache
def _sha256(path: Path, _: int) -> str:
    """Return the SHA-256 of a file as of its time, so that a process takes it once."""
    return sha256_of(path)


def _files(url: str) -> Any:
    if url.startswith("s3://"):
        return s3_files()
    from fsspec.implementations.local import LocalFileSystem

    return LocalFileSystem(auto_mkdir=True)


def first_files(table: Path, rows: int, folder: Path) -> list[Path]:
    """Return the first partitions that have so many rows together, as files; a table that is one file is that file.

    Customers are in a partition at random, by their hash. So the first ones are a fair sample, and those of another
    table of the same stages have the same customers.
    """
    if not is_partitioned(table):
        return [table]
    partitions = partitions_of(table)
    upto = [*accumulate(one.rows for one in partitions)]
    return [local_file(one, folder) for one in partitions[: bisect_left(upto, rows) + 1]]


def files_of(table: Path, folder: Path) -> list[Path]:
    """Return all partitions of a table as files of this machine, verified; a table that is one file is that file."""
    return [local_file(one, folder) for one in partitions_of(table)] if is_partitioned(table) else [table]


@contextmanager
def temporary(partitions: list[Partition]) -> Iterator[None]:
    """Delete the partitions of a list, which may grow in the block, at its end: only one stage needs them."""
    try:
        yield
    except BaseException:
        with suppress(Exception):  # a storage that is gone is the first error already
            _discard(partitions)
        raise
    _discard(partitions)


def _discard(partitions: Iterable[Partition]) -> None:
    for one in partitions:
        if _files(one.url).exists(one.url):
            _files(one.url).rm_file(one.url)
