"""Which entries of dvc.lock to believe: the lock in a commit is a claim, the one that CI recorded is not.

`python -m report.claims drop`: keep nothing, so that `dvc repro` makes everything anew or restores it from its
run-cache. `python -m report.claims take FILE`: instead of the committed entries take those of FILE, the lock that a
former run recorded, for the stages that cost time; what judges a model is judged anew. Either way fetch is kept
where the source is a database, whose snapshot nobody can make again. `python -m report.claims compare COMMIT`: name
the first stage whose entry differs from that of COMMIT, and exit with 1.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import churn.start  # noqa: F401
from churn.params import load_params
from churn.stage import LOCK, StageError, command, replacing, stages_in
from report.git import git

from ruamel.yaml import YAML

COSTLY = ("fetch", "prepare", "train")
ORDER = ("fetch", "prepare", "validate", "train", "evaluate", "gate")
Stages = Mapping[str, Any]


def stages_of(lock: str) -> dict[str, Any]:
    """Return the entries of a lock, given as text, by stage. Raises StageError when it is no lock."""
    try:
        return stages_in(lock, str(LOCK))
    except StageError as error:
        raise StageError(f"{LOCK} is no lock that DVC wrote.") from error


def first_difference(one: Stages, other: Stages) -> str | None:
    """Return the first stage before register, in the order of the pipeline, whose entries differ, or None."""
    return next((stage for stage in ORDER if one.get(stage) != other.get(stage)), None)


def believed(committed: Stages, recorded: Stages, source: str) -> dict[str, Any]:
    """Return the entries to start from: `recorded` ones of COSTLY stages, and fetch's of a `source` by URL."""
    fetched = {"fetch": committed["fetch"]} if "://" in source and "fetch" in committed else {}
    return {stage: recorded[stage] for stage in COSTLY if stage in recorded} | fetched


def committed_lock(commit: str) -> str:
    """Return dvc.lock as `commit` has it; empty where it has none. Raises StageError for an unknown commit."""
    if git("rev-parse", "--quiet", "--verify", f"{commit}^{{commit}}") is None:
        raise StageError(f"{commit} is no commit of this clone; fetch it first, with its history.")
    return git("show", f"{commit}:{LOCK}") or ""


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m report.claims", description=f"Which entries of {LOCK} to believe.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("drop", help="believe nothing that is committed")
    commands.add_parser("take", help="believe what a run of CI recorded").add_argument("file", type=Path)
    commands.add_parser("compare", help="exit with 1 where the lock of a commit differs").add_argument("commit")
    return parser


def main(asked: argparse.Namespace) -> None:
    """Compare dvc.lock with that of a commit, or reduce it to what is believed."""
    if asked.command == "compare":
        stage = first_difference(stages_of(committed_lock(asked.commit)), stages_of(LOCK.read_text("utf-8")))
        if stage:
            raise StageError(f"{LOCK} differs from that of {asked.commit}, first in {stage}.")
        print(f"claims: {LOCK} is that of {asked.commit}")
        return
    recorded = stages_of(asked.file.read_text("utf-8")) if asked.command == "take" else {}
    committed = stages_of(LOCK.read_text("utf-8")) if LOCK.exists() else {}
    try:
        source = load_params().fetch.source
    except StageError:  # dvc repro will say what is wrong with params.yaml
        source = ""
    kept = believed(committed, recorded, source)
    with replacing(LOCK) as beside:
        YAML().dump({"schema": "2.0", "stages": kept}, beside)
    print(f"claims: of {LOCK} {', '.join(kept) or 'nothing'} is believed")


if __name__ == "__main__":
    command(main, arguments())
