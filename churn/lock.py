"""dvc.lock: the entries that a run starts from, and whether they fit the files of a folder.

The lock in a commit is a claim of whoever committed it; the lock that CI recorded is not. So CI starts from an empty
lock, and `dvc repro` makes everything or restores it from its run-cache. Or it starts from the entries that a former
run recorded, of the stages that cost time; evaluate and gate always run. The entry of fetch stays where the source is
a database, because nobody can make its snapshot again.
"""

import argparse
import json
import re
from collections.abc import Collection, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from churn.config.params import load_params
from churn.core.dvc_files import filled, hash_of, stages_in, value_at
from churn.core.errors import StageError
from churn.core.files import YAML_LENGTH, read_text, read_yaml, refuse_conflict, replacing
from churn.core.git import git
from churn.core.paths import GATE, LOCK, PARAMS, PLOTS

from ruamel.yaml import YAML

RESULTS = (str(LOCK), str(GATE.parent), str(PLOTS))  # what the pipeline makes, and Git holds
# What Git keeps while it waits for a conflict to be resolved, and the command that goes on.
WAITING = {
    "MERGE_HEAD": "git commit",
    "rebase-merge": "git rebase --continue",
    "rebase-apply": "git rebase --continue",
    "CHERRY_PICK_HEAD": "git cherry-pick --continue",
    "REVERT_HEAD": "git revert --continue",
}
COSTLY = ("fetch", "prepare", "train")
ORDER = ("fetch", "prepare", "validate", "train", "evaluate", "gate")
# What a stage, and dvc.yaml as a whole, may have; with another key DVC decides.
KNOWN = {"cmd", "deps", "params", "outs", "metrics", "plots", "desc"}
KNOWN_ABOVE = {"stages", "plots", "metrics", "params"}
Stages = Mapping[str, Any]


@lru_cache(maxsize=8)  # a report reads two locks seven times, 0.04 s each
def stages_of(lock: str) -> Stages:
    """Return the entries of a lock, given as text, by stage. Raises StageError when it is no lock."""
    refuse_conflict(LOCK, lock.encode())
    try:
        return stages_in(lock, str(LOCK))
    except StageError as error:
        raise StageError(f"{LOCK} is no lock that DVC wrote: `git checkout HEAD -- {LOCK}` restores it.") from error


def first_difference(one: Stages, other: Stages) -> str | None:
    """Return the first stage before register, in the order of the pipeline, whose entries differ, or None."""
    return next((stage for stage in ORDER if one.get(stage) != other.get(stage)), None)


def kept(committed: Stages, recorded: Stages, source: str) -> dict[str, Any]:
    """Return the entries to start from: the `recorded` ones of COSTLY stages, and fetch's of a `source` by URL."""
    fetched = {"fetch": committed["fetch"]} if "://" in source and "fetch" in committed else {}
    return {stage: recorded[stage] for stage in COSTLY if stage in recorded} | fetched


class Out(NamedTuple):
    """A result: its hash in dvc.lock, and whether Git holds it and not DVC's cache."""

    md5: str
    in_git: bool


def locked(folder: Path, stages: Collection[str]) -> dict[str, Out] | None:
    """Return the results of `stages` by path, as dvc.lock has them.

    None where a command, a parameter or a file that a stage reads differs from dvc.lock, or where only DVC can say:
    where a path is not fixed, or an option changes when a stage runs. A result that another stage reads has to be the
    one in dvc.lock. The caller checks whether the file exists.
    """
    try:
        pipeline = _yaml(folder, Path("dvc.yaml"))
        lock = stages_of((folder / LOCK).read_text(encoding="utf-8"))
        params, found = _yaml(folder, PARAMS), dict[str, Out]()
        hash_once = cache(hash_of)  # stages share folders of code
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
                    md5 == (found[path].md5 if path in found else hash_once(folder / path))
                    for path, md5 in read.items()
                )
            ):
                return None
            found |= {path: Out(hashes[path], options.get("cache") is False) for path, options in outs.items()}
    except (StageError, OSError, LookupError, TypeError, AttributeError, ValueError):
        return None
    return found


def _yaml(folder: Path, name: Path) -> Any:
    return _values((folder / name).read_text(encoding="utf-8"), str(name))


@lru_cache(maxsize=8)  # each stage reads params.yaml
def _values(text: str, name: str) -> Any:
    return read_yaml(text, name)


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


def arrange(commit: str) -> str:
    """Write the lock in the order of that of `commit`, with its lines for each stage that is equal, or missing here.

    So a commit of the results changes the lines of the stages that differ, and no others. Return what was done. Raises
    StageError for an unknown commit.
    """
    former = _blocks(_committed(commit))
    text = read_text(LOCK, YAML_LENGTH)
    made, entries, committed = _blocks(text), stages_of(text), stages_of("".join(former.values()))
    same = {name for name in former if name in committed and entries.get(name, committed[name]) == committed[name]}
    names = [*(name for name in former if name in same or name in made), *(name for name in made if name not in former)]
    with replacing(LOCK) as tmp:
        tmp.write_text("".join(former[name] if name in same else made[name] for name in names), encoding="utf-8")
    return f"{LOCK} has the order of that of {commit}"


def _committed(commit: str) -> str:
    """Return the lock of a commit, empty where it has none. Raises StageError for an unknown commit."""
    if git("rev-parse", "--quiet", "--verify", f"{commit}^{{commit}}") is None:
        raise StageError(f"{commit or 'an empty name'} is no commit of this clone; fetch it first, with its history.")
    return git("show", f"{commit}:./{LOCK}") or ""


def _blocks(lock: str) -> dict[str, str]:
    """Return the lines of each stage of a lock by its name, the lines before the first one by an empty name."""
    blocks, name = {"": ""}, ""
    for line in lock.splitlines(keepends=True):
        if found := re.match(r"  (\w+):\s*$", line):
            name = found[1]
        blocks[name] = blocks.get(name, "") + line
    return blocks


def resolve() -> str:
    """Where dvc.lock, metrics or plots have a conflict, take all of them from the newest commit without one.

    All of one side, because parts of both would be results that no run has made. Return what was done, and what comes
    next. Raises StageError where no commit has them.
    """
    unmerged = git("diff", "--name-only", "--relative", "--diff-filter=U", "-z")
    if unmerged is None:
        raise StageError("this is not a Git repository.")
    ours: list[str] = []
    others: list[str] = []
    for name in filter(None, unmerged.split("\0")):
        (ours if name.partition("/")[0] in RESULTS else others).append(name)
    by_hand = f" Resolve and `git add` by hand: {', '.join(others)}." if others else ""
    if not ours and not _marked():
        return f"no conflict in {', '.join(RESULTS)}.{by_hand}"
    commits = (git("rev-list", "--first-parent", "HEAD") or "").split()
    commit = next((one for one in commits if not _marked(one)), None)
    if commit is None:
        raise StageError(f"no commit has results without a conflict: `rm -r {' '.join(RESULTS)}`, then `make repro`.")
    git("rm", "-r", "--force", "--quiet", "--ignore-unmatch", "--", *RESULTS)
    there = [name for name in RESULTS if git("ls-tree", commit, "--", name)]
    if there and git("checkout", commit, "--", *there) is None:
        raise StageError(f"git cannot check out {', '.join(there)} of {commit}: `git status` says more.")
    goes_on = [then for name, then in WAITING.items() if Path(str(git("rev-parse", "--git-path", name))).exists()]
    return (
        f"{', '.join(RESULTS)} are those of the commit {commit[:8]}.{by_hand} Then run `make repro`,"
        f" `git add {' '.join(RESULTS)}` and `{(goes_on or ['git commit'])[0]}`."
    )


def _marked(*commit: str) -> bool:
    """Return whether one of RESULTS holds the marks of a conflict, in this folder or in a commit."""
    return git("grep", "--quiet", "-e", "^<<<<<<< ", *commit, "--", *RESULTS) is not None


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m churn lock", description="Set dvc.lock to what a run starts from.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("drop", help="keep no entry, but that of fetch where the source is a database")
    commands.add_parser("take", help="take the entries that a run of CI recorded").add_argument("file", type=Path)
    arranging = commands.add_parser("arrange", help="keep a commit's order, and its lines where nothing differs")
    arranging.add_argument("commit")
    commands.add_parser("compare", help="exit with 1 where the lock of a commit differs").add_argument("commit")
    commands.add_parser("resolve", help="after a merge conflict, take the results of the newest commit")
    return parser


def main(asked: argparse.Namespace) -> None:
    """Run a subcommand, and print its result in one line."""
    if asked.command == "resolve":
        message = resolve()
    elif asked.command == "arrange":
        message = arrange(asked.commit)
    elif asked.command == "compare":
        message = compare(asked.commit)
    else:
        message = reduce(stages_of(read_text(asked.file, YAML_LENGTH)) if asked.command == "take" else {})
    print(f"lock: {message}")


def compare(commit: str) -> str:
    """Return a message where the lock is that of `commit`. Raises StageError for another lock or an unknown commit."""
    committed = stages_of(_committed(commit))
    here = stages_of(read_text(LOCK, YAML_LENGTH))
    if stage := first_difference(committed, here):
        if stage not in here:
            raise StageError(f"{LOCK} ends before {stage}, because the run stopped there; its output says why.")
        raise StageError(f"{LOCK} differs from that of {commit}, first in {stage}.")
    return f"{LOCK} is that of {commit}"


def reduce(recorded: Stages) -> str:
    """Write the entries to start from to the lock, and return a message that names them."""
    committed = stages_of(read_text(LOCK, YAML_LENGTH)) if LOCK.exists() else {}
    try:
        source = load_params().fetch.source
    except StageError:  # `dvc repro` will say what is wrong with params.yaml
        source = ""
    entries = kept(committed, recorded, source)
    with replacing(LOCK) as tmp:
        YAML().dump({"schema": "2.0", "stages": entries}, tmp)
    return f"{LOCK} keeps {', '.join(entries) or 'no entry'}"
