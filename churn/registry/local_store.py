"""The local registry: an SQLite file, and its artifacts in this folder.

MLflow keeps the artifacts' absolute paths. So they are rewritten when the folder was moved, copied or mounted
elsewhere. Two processes that find no store make it one after the other, because MLflow's migrations fail when two run.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from churn.core.errors import StageError

LOCAL_STORE = "sqlite:///mlflow.db"
LOCAL_ARTIFACTS = Path("mlartifacts")
LOCATIONS = (  # the columns that hold an artifact's address
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def artifacts_here() -> str:
    """Return the address of the artifacts in this folder, as MLflow keeps it."""
    return LOCAL_ARTIFACTS.resolve().as_uri()


def file_of(uri: str) -> Path | None:
    """Return the file of an SQLite store, or None where the registry is another."""
    _, is_sqlite, path = uri.partition("sqlite:///")
    return Path(path.partition("?")[0]) if is_sqlite and path else None


@contextmanager
def opening(uri: str) -> Iterator[None]:
    """Hold a lock on the folder of an SQLite store while MLflow opens the store, and makes it where there is none.

    Raises StageError when there is no file, or its folder does not exist, and when the file is not an SQLite database
    or cannot be written.
    """
    file = file_of(uri)
    if uri.startswith("sqlite:") and (file is None or file.name == ":memory:"):
        raise StageError(
            f"the registry at {uri} names no file, so nothing would be kept: set MLFLOW_TRACKING_URI to {LOCAL_STORE}."
        )
    if file is None:
        yield
        return
    if not file.parent.is_dir():
        raise StageError(f"the registry at {uri} has no folder: make {file.parent}, or set MLFLOW_TRACKING_URI.")
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if file.exists():
            follow(file)
        yield
    finally:
        os.close(folder)


def follow(file: Path) -> None:
    """Let the store name the artifacts that lie in this folder, if it names them where they were before."""
    try:
        with closing(sqlite3.connect(file, timeout=60)) as database, database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
            if {table for table, _ in LOCATIONS} <= tables:
                for former in _former(database, file):
                    _rewrite(database, former)
    except sqlite3.Error as error:
        raise StageError(
            f"{file} cannot be read, or not be written, as the registry: make it writable, or restore it; to start anew"
            f" delete it and {LOCAL_ARTIFACTS}."
        ) from error


def _former(database: sqlite3.Connection, file: Path) -> list[str]:
    """Return the addresses of folders that the store names, and whose files now lie here.

    A store elsewhere may serve several folders: then only those count that are gone.
    """
    here, is_ours = artifacts_here(), file.resolve().parent == Path.cwd()
    known = (
        "SELECT DISTINCT artifact_location FROM experiments WHERE artifact_location LIKE ? AND artifact_location <> ?"
    )
    former = [location for (location,) in database.execute(known, (f"file:%/{LOCAL_ARTIFACTS}", here))]
    return [one for one in former if (is_ours or not _path(one).exists()) and _lies_here(database, one)]


def _lies_here(database: sqlite3.Connection, former: str) -> bool:
    rows = database.execute("SELECT artifact_location FROM logged_models")
    return any(
        (LOCAL_ARTIFACTS / _path(location).relative_to(_path(former))).exists()
        for (location,) in rows
        if location.startswith(f"{former}/")
    )


def _path(uri: str) -> Path:
    return Path(unquote(urlsplit(uri).path))


def _rewrite(database: sqlite3.Connection, former: str) -> None:
    for table, column in LOCATIONS:
        database.execute(
            f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} = ? OR substr({column}, 1, ?) = ?",
            (artifacts_here(), len(former) + 1, former, len(former) + 1, f"{former}/"),
        )
