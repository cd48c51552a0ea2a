"""Which entries of dvc.lock to believe: the lock in a commit is a claim, the one that CI recorded is not.

`python -m report.claims drop`: keep nothing, so that `dvc repro` makes everything anew or restores it from its
run-cache. `python -m report.claims take FILE`: instead of the committed entries take those of FILE, the lock that a
former run recorded, for the stages that cost time; what judges a model is judged anew. Either way fetch is kept
where the source is a database, whose snapshot nobody can make again. `python -m report.claims compare COMMIT`: name
the first stage whose entry differs from that of COMMIT, and exit with 1. `python -m report.claims resolve`: after a
merge, rebase or cherry-pick that conflicts in dvc.lock, metrics or plots, take all of them from the newest commit.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from churn.core.start import start_up

    start_up()

from churn.config.params import load_params
from churn.core.dvc_files import stages_in
from churn.core.errors import StageError
from churn.core.files import refuse_conflict, replacing
from churn.core.git import git
from churn.core.paths import GATE, LOCK, PLOTS
from churn.core.runner import command

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
Stages = Mapping[str, Any]


def stages_of(lock: str) -> dict[str, Any]:
    """Return the entries of a lock, given as text, by stage. Raises StageError when it is no lock."""
    refuse_conflict(LOCK, lock.encode())
    try:
        return stages_in(lock, str(LOCK))
    except StageError as error:
        raise StageError(f"{LOCK} is no lock that DVC wrote: `git checkout HEAD -- {LOCK}` restores it.") from error


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
    return git("show", f"{commit}:./{LOCK}") or ""


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
    parser = argparse.ArgumentParser(prog="python -m report.claims", description=f"Which entries of {LOCK} to believe.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("drop", help="believe nothing that is committed")
    commands.add_parser("take", help="believe what a run of CI recorded").add_argument("file", type=Path)
    commands.add_parser("resolve", help="after a merge conflict, take the results of the newest commit")
    commands.add_parser("compare", help="exit with 1 where the lock of a commit differs").add_argument("commit")
    return parser


def main(asked: argparse.Namespace) -> None:
    """Compare dvc.lock with that of a commit, reduce it to what is believed, or resolve a conflict in results."""
    if asked.command == "resolve":
        print(f"claims: {resolve()}")
        return
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
    with replacing(LOCK) as tmp:
        YAML().dump({"schema": "2.0", "stages": kept}, tmp)
    print(f"claims: of {LOCK} {', '.join(kept) or 'nothing'} is believed")


if __name__ == "__main__":
    command(main, arguments())
