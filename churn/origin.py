"""What a model came from: the commit that is checked out, and the lock of the stages that made it."""

import hashlib
import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from churn.stage import LOCK, StageError, md5_of, refuse_conflict

from ruamel.yaml import YAML


def refuse_unlocked(paths: Iterable[Path], lock: Path) -> None:
    """Raise StageError unless dvc.lock has each of the files as a stage before register made it, by its MD5."""
    locked = {
        out["path"]: out.get("md5", "")
        for name, stage in _stages(lock).items()
        if name != "register"
        for out in stage.get("outs", ())
    }
    for path in paths:
        if locked.get(str(path)) != md5_of(path):
            raise StageError(f"{path} is not the one in {lock}: nothing is registered; run `dvc repro`.")


def lock_digest(lock: Path) -> str:
    """Return the SHA-256 of dvc.lock's stages before register, as sorted JSON: what is there before registering."""
    kept = {name: stage for name, stage in _stages(lock).items() if name != "register"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _stages(lock: Path) -> dict[str, Any]:
    refuse_conflict(lock)
    return dict(YAML(typ="safe").load(lock)["stages"]) if lock.exists() else {}


def commit_tags() -> dict[str, str]:
    """Return the commit that is checked out, and whether anything but results differs from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", ".", ":!metrics", ":!plots", f":!{LOCK}")
        return {"commit": git("rev-parse", "HEAD"), "uncommitted_changes": str(bool(changed)).lower()}
    except (OSError, subprocess.CalledProcessError) as error:
        raise StageError("git has no commit to register the model under: commit first.") from error
