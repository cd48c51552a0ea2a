"""Whether dvc.lock fits the files of a folder, as `dvc status` would find, without a process of DVC.

Only the plain case is answered: fixed paths, no option that changes when a stage runs. In any other, DVC is asked.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from churn.core.dvc_files import filled, hash_of, value_at
from churn.core.errors import StageError
from churn.core.files import read_yaml
from churn.core.paths import LOCK, PARAMS
from report.claims import stages_of

# What a stage, and dvc.yaml as a whole, may have; with another key DVC decides.
KNOWN = {"cmd", "deps", "params", "outs", "metrics", "plots", "desc"}
KNOWN_ABOVE = {"stages", "plots", "metrics", "params"}


class Out(NamedTuple):
    """A result: its hash in dvc.lock, and whether Git holds it and not DVC's cache."""

    md5: str
    in_git: bool


def locked(folder: Path, stages: Collection[str]) -> dict[str, Out] | None:
    """Return the results of `stages` by path, as dvc.lock has them.

    None where a command, a parameter or a file that a stage reads differs from dvc.lock, or nobody but DVC can say. A
    result that another stage reads has to be the one in dvc.lock; whether the file is there, the caller looks at.
    """
    try:
        pipeline = _yaml(folder, Path("dvc.yaml"))
        lock = stages_of((folder / LOCK).read_text(encoding="utf-8"))
        params, found = _yaml(folder, PARAMS), dict[str, Out]()
        if set(pipeline) - KNOWN_ABOVE:
            return None
        for name in stages:
            stage, entry = pipeline["stages"][name], lock[name]
            outs = dict(_named(out) for kind in ("outs", "metrics", "plots") for out in stage.get(kind, ()))
            hashes = {out["path"]: out["md5"] for out in entry["outs"]}
            deps = [filled(dep, params) for dep in stage["deps"]]
            read = {dep["path"]: dep["md5"] for dep in entry["deps"]}
            if not (
                set(stage) <= KNOWN
                and stage["cmd"] == entry["cmd"]
                and set(outs) == set(hashes)
                and all(set(options) <= {"cache"} for options in outs.values())
                and _json(_params(folder, stage)) == _json(entry.get("params", {}))
                and set(deps) == set(read)
                and all(
                    md5 == (found[path].md5 if path in found else hash_of(folder / path)) for path, md5 in read.items()
                )
            ):
                return None
            found |= {path: Out(hashes[path], options.get("cache") is False) for path, options in outs.items()}
    except (StageError, OSError, LookupError, TypeError, AttributeError, ValueError):
        return None
    return found


def _yaml(folder: Path, name: Path) -> Any:
    return read_yaml((folder / name).read_text(encoding="utf-8"), str(name))


def _named(out: Any) -> tuple[str, Mapping[str, Any]]:
    """Return the path of an output in dvc.yaml, and its options."""
    if isinstance(out, str):
        return out, {}
    ((name, options),) = out.items()
    return name, options


def _params(folder: Path, stage: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the values that a stage depends on, by file and key, as dvc.lock has them."""
    found: dict[str, dict[str, Any]] = {}
    for one in stage.get("params", ()):
        for file, keys in one.items() if isinstance(one, Mapping) else [(str(PARAMS), [one])]:
            values = _yaml(folder, Path(file))
            found.setdefault(file, {}).update({key: value_at(values, key) for key in keys})
    return found


def _json(values: Any) -> str:
    return json.dumps(values, sort_keys=True)  # unlike ==, it keeps True and 1 apart
