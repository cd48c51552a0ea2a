"""Main's side of the report, rebuilt from its commit: a branch cannot forge it.

Where the commit's dvc.lock fits its code, parameters and data, main's results are copied from DVC's cache, each checked
against the hash in that lock. Else `dvc repro` in a clone of the commit takes them from the cache or the remote, or
makes them.
"""

import configparser
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from churn.config.params import load_params
from churn.core.dvc_files import copy_cached, hash_of
from churn.core.errors import StageError
from churn.core.files import delete
from churn.core.git import git
from churn.core.paths import LOCK, LOG, MODEL, PARAMS, RAW, TEST, TRAIN
from churn.lock import ORDER, locked, stages_of
from report.state import dvc, logged_runs

CLONE = Path(".cache/baseline")
CONFIG, LOCAL_CONFIG = Path(".dvc/config"), Path(".dvc/config.local")


@contextmanager
def checked_out(commit: str, clone: Path = CLONE) -> Iterator[Path]:
    """Yield a folder with the pipeline of `commit` as Git has it; `clone`, in which it lies, is gone afterwards."""
    with suppress(OSError):
        clone.unlink()  # a link, to a folder that may hold anything
    shutil.rmtree(clone, ignore_errors=True)  # what a killed run left
    try:
        clone.mkdir(parents=True)
    except OSError as error:
        raise StageError(f"{clone} cannot be made: delete it, then make the report again") from error
    try:
        yield _check_out(commit, clone)
    finally:
        shutil.rmtree(clone, ignore_errors=True)


def build(folder: Path, stage: str) -> None:
    """Make the results up to a stage in a folder that was `checked_out`.

    Raises StageError, with the reason, where they cannot be made.
    """
    if _restored(folder, stage):
        return
    has_remote = _configure(folder)
    _keep_snapshot(folder, has_remote)
    # Else evaluate would run, because `dvc repro` restores no stage that also has results in Git.
    dvc("checkout", "--quiet", "--allow-missing", folder=folder)
    # Not from the run-cache, where the branch could have planted a run.
    done = dvc("repro", "--no-run-cache", *(["--pull"] if has_remote else []), stage, folder=folder)
    if done.returncode:
        faults = [f"{stage}: {one['fault']}" for stage, one in logged_runs(folder / LOG).items() if one["fault"]]
        message = faults[0] if faults else f"`dvc repro {stage}` fails in a checkout of main's commit"
        raise StageError(f"its pipeline does not run: {message}")
    refuse_damaged(folder)


def unchanged(folder: Path) -> set[Path]:
    """Return which of the tables and the model here are main's, by dvc.lock of its commit in `folder`.

    None are where that lock does not fit the commit's own files.
    """
    outs = locked(folder, _upto("evaluate")) or {}
    here = [path for path in (RAW, TRAIN, TEST, MODEL) if path.exists()]  # DVC deletes the outputs of a failed stage
    return {path for path in here if str(path) in outs and hash_of(path) == outs[str(path)].md5}


def same_features(folder: Path, same: Collection[Path]) -> bool:
    """Return whether the tables here have the features of main's commit in `folder`, by the same code.

    `same` is what `unchanged` returned: with main's snapshot and tables, prepare's other deps have to be main's.
    """
    if not {RAW, TRAIN, TEST} <= {*same}:
        return False
    prepare = stages_of((folder / LOCK).read_text(encoding="utf-8"))["prepare"]
    others = [(Path(dep["path"]), dep["md5"]) for dep in prepare["deps"] if dep["path"] != str(RAW)]
    return all(path.exists() and hash_of(path) == md5 for path, md5 in others)


def fetched(folder: Path) -> bool:
    """Copy the results that dvc.lock in `folder` names from DVC's cache or remote; return whether all are there.

    Unlike `build` it makes none again.
    """
    if _restored(folder, "evaluate"):
        return True
    return _configure(folder) and not dvc("fetch", folder=folder).returncode and _restored(folder, "evaluate")


def _restored(folder: Path, stage: str) -> bool:
    """Copy the results up to a stage from DVC's cache to `folder`; return whether all have the hashes in its dvc.lock.

    In any other case, also an unclear one, DVC decides.
    """
    if (outs := locked(folder, _upto(stage))) is None:
        return False
    try:
        own = configparser.ConfigParser(interpolation=None)
        own.read([CONFIG, LOCAL_CONFIG], encoding="utf-8")
        cache = CONFIG.parent / own.get("cache", "dir", fallback="cache") / "files/md5"
        for name, out in outs.items():
            path = folder / name
            if not path.resolve().is_relative_to(folder.resolve()):
                return False
            if not out.in_git:
                copy_cached(cache, out.md5, path)
            if hash_of(path) != out.md5:  # of the copy, because the cache could change after a check
                delete(path)
                return False
    except (OSError, configparser.Error, UnicodeDecodeError, StageError):
        return False
    return True


def _upto(stage: str) -> tuple[str, ...]:
    return ORDER[: ORDER.index(stage) + 1]


def _configure(folder: Path) -> bool:
    """Let DVC in `folder` use this clone's cache and remote; return whether there is a remote."""
    settings = dict(line.partition("=")[::2] for line in dvc("config", "--list").stdout.splitlines())
    local = configparser.ConfigParser(interpolation=None)
    local.read(LOCAL_CONFIG, encoding="utf-8")  # where the remote is
    local["cache"] = {"dir": str((LOCAL_CONFIG.parent / settings.get("cache.dir", "cache")).resolve())}
    with (folder / LOCAL_CONFIG).open("w", encoding="utf-8") as file:
        local.write(file)
    return bool(settings.get("core.remote"))


def _check_out(commit: str, clone: Path) -> Path:
    """Check the pipeline of `commit` out into `clone` and return its folder there, which a larger repository may hold.

    It is no worktree of this clone, whose settings, hooks and attributes may change what is checked out: in CI the
    branch's code has run here. Raises StageError where the commit has no pipeline in this folder.
    """
    prefix = git("rev-parse", "--show-prefix") or ""
    git("init", "--quiet", str(clone))
    objects = git("rev-parse", "--path-format=absolute", "--git-path", "objects")
    (clone / ".git/objects/info/alternates").write_text(f"{objects}\n", encoding="utf-8")  # also of a shallow clone
    if (pipeline := git("-C", str(clone), "ls-tree", "--name-only", commit, f"{prefix}.dvc")) == "":
        raise StageError(f"{commit[:8]} has no pipeline in {prefix or 'its root'}")
    if not pipeline or git("-C", str(clone), "checkout", "--quiet", commit, "--", prefix or ".") is None:
        filtered = (git("config", "--get-regexp", r"^remote\..*\.promisor$") or "").partition(".promisor")[0]
        files = f"this clone lacks files: run `git fetch --refetch --no-filter {filtered.removeprefix('remote.')}`"
        raise StageError(f"git cannot check {commit[:8]} out{f', because {files}' if filtered else ''}")
    return clone / prefix


def refuse_damaged(folder: Path) -> None:
    """Raise StageError where a result in `folder` is not what its dvc.lock names.

    DVC does not verify what it takes from this machine's cache, to which the branch's code could have written.
    """
    for stage in stages_of((folder / LOCK).read_text(encoding="utf-8")).values():
        for out in stage.get("outs", ()):
            path = folder / out["path"]
            if path.exists() and hash_of(path) != out["md5"]:
                where = f".dvc/cache/files/md5/{out['md5'][:2]}/{out['md5'][2:]}"
                raise StageError(f"{out['path']} of main is damaged in DVC's cache: delete {where} and run it again")


def _keep_snapshot(folder: Path, has_remote: bool) -> None:
    """Let main keep the snapshot that its model was trained on, where its source may hold other customers by now.

    Raises StageError when that snapshot is nowhere: retraining main on newer data would change the baseline.
    """
    try:
        source = load_params(folder / PARAMS).fetch.source
    except StageError:
        return
    if "://" in source or not (folder / source).resolve().is_relative_to(folder.resolve()):
        dvc("pull" if has_remote else "checkout", "fetch", folder=folder)
        if not (folder / RAW).exists():
            raise StageError("the snapshot that it was trained on is in no DVC cache or remote")
        dvc("commit", "--force", "fetch", folder=folder)
