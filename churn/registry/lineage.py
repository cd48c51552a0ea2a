"""The lineage of a model: the commit that is checked out, and its lock."""

import hashlib
import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from churn.core.dvc_files import hash_of, stages_in
from churn.core.errors import StageError
from churn.core.files import YAML_LENGTH, read_text, refuse_conflict
from churn.core.paths import LOCK


def refuse_unlocked(paths: Iterable[Path], lock: Path) -> None:
    """Raise StageError unless dvc.lock has each file or folder as a stage before register made it, by its MD5."""
    locked = {
        out["path"]: out.get("md5", "")
        for name, stage in _stages(lock).items()
        if name != "register"
        for out in stage.get("outs", ())
    }
    for path in paths:
        if not path.exists() or locked.get(str(path)) != hash_of(path):
            raise StageError(f"{path} is not the one in {lock}: nothing is registered; run `dvc repro`.")


def lock_digest(lock: Path) -> str:
    """Return the SHA-256 of dvc.lock's stages before register, as sorted JSON: what is there before registering."""
    kept = {name: stage for name, stage in _stages(lock).items() if name != "register"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _stages(lock: Path) -> dict[str, Any]:
    refuse_conflict(lock)
    return stages_in(read_text(lock, YAML_LENGTH), str(lock)) if lock.exists() else {}


def commit_tags() -> dict[str, str]:
    """Return the commit that is checked out, and whether anything but results differs from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], check=True, capture_output=True, encoding="utf-8", errors="replace")
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", ".", ":!metrics", ":!plots", f":!{LOCK}")
        return {"commit": git("rev-parse", "HEAD"), "uncommitted_changes": str(bool(changed)).lower()}
    except (OSError, subprocess.CalledProcessError) as error:
        if "safe.directory" in str(getattr(error, "stderr", "")):  # as in a folder that is mounted into a container
            allow = f"`git config --global --add safe.directory {Path.cwd()}`"
            raise StageError(
                f"this folder belongs to another account, so git refuses to read it: run {allow}."
            ) from error
        raise StageError("git has no commit to register the model under: commit first.") from error
