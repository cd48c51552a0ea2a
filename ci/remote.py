"""Tell DVC its remotes, fetch from the remote or push to it, with the run-cache; say in one sentence what went wrong.

    python -m ci.remote set              # `make remote`: tell DVC its remotes
    python -m ci.remote fetch            # `make pull`, which also checks out
    python -m ci.remote push [REMOTE]    # `make push`

The last two are `dvc fetch --run-cache` and `dvc push --run-cache`, and what they leave out: an entry of the run-cache
that was cut short would stop `dvc repro`, so it is deleted; an object that is missing or damaged in the remote is
named; and what is damaged there is replaced by the whole one that is here, which `dvc push` takes for the same.

Without REMOTE that is the default one, which is main's. Another, such as a branch's, gets the objects without the
run-cache: nothing reads runs from there, so that no branch can plant one.

This is the one program of ci/ that needs more than the standard library: DVC's commands name no damaged object, put
nothing whole in its place, and stop at a damaged entry.
"""

import argparse
import errno
import logging
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ci import github

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from dvc.config import Config, ConfigError, NoRemoteError  # type: ignore[import-untyped]  # DVC has no types
from dvc.exceptions import DvcException  # type: ignore[import-untyped]
from dvc.repo import Repo  # type: ignore[import-untyped]
from dvc.utils.serialize import YAMLFileCorruptedError, load_yaml  # type: ignore[import-untyped]
from dvc_data.hashfile.hash import file_md5

FOLDER = ".cache/remote"  # the remote of a repository that has no other
LOOK = "look at DVC_REMOTE_URL and AWS_ENDPOINT_URL_S3"
KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
CONNECTIONS = {  # by botocore's class
    "EndpointConnectionError": "nothing answers there",
    "ConnectTimeoutError": "no answer in time",
    "ReadTimeoutError": "no answer in time",
    "ConnectionClosedError": "the connection was closed",
}


class RemoteError(Exception):
    """A fault of the remote, told in one sentence that says what to do."""


class Faults(logging.Handler):
    """Collects DVC's error for each object, because its final exception has only a count."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[BaseException] = []
        for name in ("dvc", "dvc_data", "dvc_objects"):
            logging.getLogger(name).handlers = [self]

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the exception of a record."""
        if record.exc_info and record.exc_info[1]:
            self.found.append(record.exc_info[1])


def sentence(error: BaseException, url: str) -> str:
    """Say what an exception of DVC, of S3 or of the disk means."""
    said = " ".join(f"{error} {error.__cause__ or ''}".split())
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full: make room, and do it again; what has come over whole is kept."
    if isinstance(error, NoCredentialsError):
        return f"{url} asks for credentials, and there are none: set {KEYS}, or take on a role."
    if isinstance(error, PermissionError):
        what = "takes nothing from" if "PutObject" in said or "Upload" in said else "refuses"
        return f"{url} {what} these credentials ({code_of(error) or 'Forbidden'}): look at {KEYS}."
    if isinstance(error, FileNotFoundError):
        return f"{url} does not exist: {LOOK}, or make the bucket."
    if isinstance(error, BotoCoreError | OSError):
        why = code_of(error) or CONNECTIONS.get(type(error).__name__) or type(error).__name__
        return f"{url} cannot be reached ({why}): {LOOK}, and do it again; nothing here is lost."
    return f"{url}: {code_of(error) or type(error).__name__}. Do it again; nothing here is lost."


def code_of(error: BaseException | None) -> str | None:
    """Return S3's code for an error, or for what caused it: a word, and nothing of the text beside it."""
    while error is not None:
        code = str(error.response.get("Error", {}).get("Code")) if isinstance(error, ClientError) else ""
        if re.fullmatch(r"\w{1,50}", code):
            return code
        error = error.__cause__ or error.__context__
    return None


def set_remotes(urls: Mapping[str, str]) -> None:
    """Tell DVC the address of each remote, the default one first, in .dvc/config.local. Raises RemoteError.

    One `dvc remote` for each setting would take a second each.
    """
    try:
        with Config.from_cwd(validate=False).edit("local") as settings:
            settings["core"]["remote"] = next(iter(urls))
            settings["remote"] |= {name: {"url": url, "verify": "true"} for name, url in urls.items()}
    except ConfigError as error:
        raise RemoteError("DVC takes no such address: look at DVC_REMOTE_URL and DVC_BRANCH_URL.") from error


def addresses(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the address of the default remote, `ci`, a folder unless DVC_REMOTE_URL names it, and of `branch`, if any.

    A slash at the end of DVC_REMOTE_URL makes two within DVC_BRANCH_URL, where the branch's role may not write.
    """
    urls = {"ci": environment.get("DVC_REMOTE_URL") or str(Path.cwd() / FOLDER)}
    if branch := environment.get("DVC_BRANCH_URL"):
        urls["branch"] = re.sub("([^:/])/+", r"\1/", branch)
    return urls


def connect(repo: Any, name: str | None) -> Any:
    """Return the object database of a remote that answers. Raises RemoteError when it does not."""
    odb = repo.cloud.get_remote_odb(name, "check", hash_name="md5")
    url = odb.fs.unstrip_protocol(repo.cloud.get_remote(name).path)
    try:
        odb.fs.ls(odb.path)
    except FileNotFoundError as error:  # so it is when nothing was pushed yet
        if "specified bucket" in str(error):
            raise RemoteError(sentence(error, url)) from error
    except (BotoCoreError, OSError) as error:
        raise RemoteError(sentence(error, url)) from error
    return odb


def names_results(entry: Path) -> bool:
    """Return whether an entry of the run-cache is whole enough for DVC to use it."""
    try:
        return "outs" in load_yaml(str(entry))
    except (YAMLFileCorruptedError, TypeError):
        return False


def fetch_runs(repo: Any, odb: Any) -> None:
    """Fetch the run-cache of the default remote, whose object database is `odb`.

    An entry that names no results would stop `dvc repro`, and so would the empty folder that DVC leaves of it: it is
    deleted, here and there. Raises RemoteError where these credentials may not.
    """
    for key, value in repo.stage_cache.pull(None):
        path = Path(repo.stage_cache.cache_dir, key[:2], key, value)
        if path.exists() and not names_results(path):
            path.unlink()
            with suppress(OSError):  # it is not empty
                path.parent.rmdir()
            there = odb.fs.join(odb.path.removesuffix("files/md5"), "runs", key[:2], key, value)
            try:
                odb.fs.rm_file(there)
            except PermissionError as error:
                raise RemoteError(
                    f"{there} is damaged, and these credentials may not delete it: ask somebody whose may, or run"
                    " `dvc repro --pull --no-run-cache`."
                ) from error
            print(f"remote: {there} was damaged and is deleted; its stage may run again.")


def damaged(odb: Any, oid: str, size: int) -> bool:
    """Return whether an object in a remote has another size, or other bytes than its name, an MD5, says.

    S3 mostly knows the MD5 as the ETag, so that nothing is read; that of an upload in parts is another, and of such an
    object only the size is compared: whoever fetches it verifies it.
    """
    path, digest = odb.oid_to_path(oid), oid.partition(".")[0]
    there = odb.fs.info(path)
    etag = str(there.get("ETag", "")).strip('"')
    return there["size"] != size or (etag != digest and "-" not in etag and file_md5(path, odb.fs) != digest)


def objects(repo: Any) -> dict[str, str]:
    """Return the names of what dvc.lock names, by hash."""
    return {entry.value: entry.obj_name for entries in repo.used_objs().values() for entry in entries}


def row_counts(repo: Any) -> list[Any]:
    """Return the hash of what prepare writes and Git has: without that object its run cannot be restored.

    `dvc push` leaves it out. What else Git has, such as an evaluation, is of stages that run each time.
    """
    outs = [out for stage in repo.index.stages if getattr(stage, "name", None) == "prepare" for out in stage.outs]
    return [out.hash_info for out in outs if not out.use_cache and repo.cache.local.exists(out.hash_info.value)]


def fetch(repo: Any) -> str:
    """Fetch all that dvc.lock names, and the run-cache; return a summary. Raises RemoteError."""
    odb, cache = connect(repo, None), repo.cache.local
    fetch_runs(repo, odb)
    files = repo.fetch()
    for oid, name in objects(repo).items():
        if not cache.exists(oid):
            there = odb.exists(oid)
            what = f"is damaged in the remote ({odb.oid_to_path(oid)}) and was not taken" if there else "is missing"
            print(f"remote: {name} {what}; `dvc repro --pull` makes it anew, then `make push`.")
    return f"{files} files fetched"


def push(repo: Any, name: str | None) -> str:
    """Push all that dvc.lock names, and to the default remote the run-cache; return a summary. Raises RemoteError."""
    odb, cache = connect(repo, name), repo.cache.local
    here = {oid: path for oid, path in objects(repo).items() if cache.exists(oid)}
    new = [oid for oid in here if not odb.exists(oid)]
    broken = [oid for oid in here if oid not in new and damaged(odb, oid, cache.fs.size(cache.oid_to_path(oid)))]
    for oid in new + broken:
        if file_md5(path := cache.oid_to_path(oid), cache.fs) != oid.partition(".")[0]:
            raise RemoteError(
                f"{here[oid]} is damaged in DVC's cache, and nothing was pushed: delete it and {os.path.relpath(path)},"
                " then `dvc repro --pull` makes it anew."
            )
    for oid in broken:
        odb.fs.put_file(cache.oid_to_path(oid), odb.oid_to_path(oid))
        print(f"remote: {here[oid]} was damaged in the remote ({odb.oid_to_path(oid)}) and is replaced.")
    pushed = repo.push(run_cache=name is None, remote=name)
    if name is None:
        pushed += len(repo.cloud.push(row_counts(repo)).transferred)
    return f"{pushed} files pushed"


def main(arguments: list[str]) -> None:
    """Set, fetch or push. Raises RemoteError."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("set", help="tell DVC its remotes, by DVC_REMOTE_URL and DVC_BRANCH_URL")
    commands.add_parser("fetch", help="fetch from the default remote, with its run-cache")
    commands.add_parser("push", help="push to a remote").add_argument("remote", nargs="?")
    asked = parser.parse_args(arguments)
    if asked.command == "set":
        set_remotes(addresses(os.environ))
        return
    faults = Faults()
    with Repo() as repo:
        name = asked.remote if asked.command == "push" else None
        try:
            remote = repo.cloud.get_remote(name)
        except NoRemoteError as error:
            raise RemoteError("there is none yet: run `make remote` first (docs/ci.md).") from error
        try:
            done = push(repo, name) if asked.command == "push" else fetch(repo)
        except (DvcException, BotoCoreError, OSError) as error:
            faults.found.append(error)
        if faults.found:
            raise RemoteError(sentence(faults.found[0], remote.fs.unstrip_protocol(remote.path)))
    print(f"remote: {done}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (RemoteError, DvcException) as raised:
        error = (
            raised if isinstance(raised, RemoteError) else f"DVC fails with {type(raised).__name__}; run `dvc status`."
        )
        if "GITHUB_OUTPUT" in os.environ:
            github.output(fault=f"The DVC remote: {error}")  # for alert.py
            print(f"\n::error::The DVC remote: {error}")  # on a new line: dvc leaves a colour code on its own
        sys.exit(f"remote: {error}")
