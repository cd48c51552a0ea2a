"""dvc.yaml and dvc.lock: their stages, the settings that they name, and the hashes of files and folders."""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from churn.core.errors import StageError
from churn.core.files import JSON_LENGTH, YAML_LENGTH, md5_of, read_text, read_yaml, refuse_conflict
from churn.core.paths import LOCK


def stages_in(text: str, name: str) -> dict[str, Any]:
    """Return the stages of dvc.yaml or of a lock, given as text, by name; none of an empty one.

    Raises StageError when it is not what DVC reads or writes.
    """
    value = read_yaml(text, name) or {}
    stages = value.get("stages") or {} if isinstance(value, dict) else None
    if not isinstance(stages, dict) or not all(isinstance(one, dict) for one in stages.values()):
        raise StageError(f"{name} holds no stages as DVC has them.")
    return stages


def refuse_damaged() -> None:
    """Under `dvc repro`, raise StageError when a file that the stage reads has other bytes than dvc.lock names.

    DVC looks at the bytes of what it fetches, but not of what it takes out of the cache of this machine. What is in no
    cache is left to DVC: a stage that failed may just have written it.
    """
    if (stage := os.environ.get("DVC_STAGE")) is None or not LOCK.exists():
        return
    refuse_conflict(LOCK)
    stages, locked = [stages_in(read_text(path, YAML_LENGTH), str(path)) for path in (Path("dvc.yaml"), LOCK)]
    cached = {out for one in stages.values() for out in one.get("outs", ()) if isinstance(out, str)}
    made = {out["path"]: out.get("md5") for entry in locked.values() for out in entry.get("outs", ())}
    for path in map(Path, stages.get(stage, {}).get("deps", ())):
        if str(path) in cached and path.is_file() and (md5 := made.get(str(path))) and md5_of(path) != md5:
            raise StageError(
                f"{path} is damaged: its bytes are not those that {LOCK} names. Delete it and"
                f" .dvc/cache/files/md5/{md5[:2]}/{md5[2:]}, then `dvc repro --pull` restores it or makes it anew."
            )


def hash_of(path: Path) -> str:
    """Return the name that DVC gives a file, its MD5, or a folder: the MD5 of its files' MD5s and paths, and `.dir`.

    As .dvcignore has it, Python's own cache does not count.
    """
    if not path.is_dir():
        return md5_of(path)
    files = (one for one in path.rglob("*") if not one.is_dir() and "__pycache__" not in one.parts)
    listed = sorted((one.relative_to(path).as_posix(), md5_of(one)) for one in files)
    content = json.dumps([{"md5": md5, "relpath": name} for name, md5 in listed])
    return hashlib.md5(content.encode(), usedforsecurity=False).hexdigest() + ".dir"


def copy_cached(cache: Path, md5: str, path: Path) -> None:
    """Copy a file, or a folder of partitions, out of DVC's cache, whose hash the caller checks.

    Raises OSError where a file is not there, and StageError where a folder's list is not, or not what a stage makes.
    """
    cached = cache / md5[:2] / md5[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    if not md5.endswith(".dir"):
        shutil.copyfile(cached, path)
        return
    try:
        listed = [(str(one["relpath"]), str(one["md5"])) for one in json.loads(read_text(cached, JSON_LENGTH))]
    except (ValueError, LookupError, TypeError) as error:
        raise StageError(f"{cached} is damaged: delete it, then run this again.") from error
    for name, one in listed:
        if Path(name).name != name:
            raise StageError(f"{cached} names {name}, which no stage writes.")
        copy_cached(cache, one, path / name)


def value_at(values: Any, key: str) -> Any:
    """Return the value at a dotted key, such as `fetch.source`, or None."""
    for part in key.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


def filled(path: str, params: Any) -> str:
    """Return a path of dvc.yaml with the values of params.yaml in the place of `${...}`."""
    return re.sub(r"\$\{([\w.]+)\}", lambda found: str(value_at(params, found[1])), path)
