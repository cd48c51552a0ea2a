"""What a model came from: the commit that is checked out, and the lock of the stages that made it."""

import hashlib
import json
import subprocess
from pathlib import Path

from churn.stage import LOCK, StageError

from ruamel.yaml import YAML


def lock_digest(lock: Path) -> str:
    """Return the SHA-256 of dvc.lock's stages before register, as sorted JSON: what is there before registering."""
    stages = YAML(typ="safe").load(lock)["stages"] if lock.exists() else {}
    kept = {name: stage for name, stage in stages.items() if name != "register"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def commit_tags() -> dict[str, str]:
    """Return the commit that is checked out, and whether anything but results differs from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", ".", ":!metrics", ":!plots", f":!{LOCK}")
        return {"commit": git("rev-parse", "HEAD"), "uncommitted_changes": str(bool(changed)).lower()}
    except (OSError, subprocess.CalledProcessError) as error:
        raise StageError("git has no commit to register the model under: commit first.") from error
