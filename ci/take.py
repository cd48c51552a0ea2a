"""Copy the results of an artifact into the checkout, and refuse an artifact with anything else.

    python3 -m ci.take FOLDER                 # dvc.lock, metrics, plots and build/report
    python3 -m ci.take --retraining FOLDER    # also params.yaml, and the .dvc files that Git lists

FOLDER is outside of the checkout. The job that made the artifact ran feature functions, which need no code owner, so
its files may be anything. The job that calls this program runs the checkout's code with a token that writes.

The results replace those of the checkout. The checkout keeps no former result, but for the .dvc files.
"""

import argparse
import shutil
import sys
from pathlib import Path

from ci import github, shell
from ci.artifact import RefusedError

LOCK, REPORT = "dvc.lock", "build/report"
FOLDERS = ("metrics", "plots")  # which are committed
DATA = (".csv", ".json", ".png", ".svg", ".tsv")  # no code, no .gitattributes, and no dvc.yaml with stages of its own


def is_result(name: str, single: list[str]) -> bool:
    """Return whether a file of the artifact is one of `single`, data in FOLDERS, or a part of the report."""
    folder = name.partition("/")[0]
    return name in single or (folder in FOLDERS and name.endswith(DATA)) or name.startswith(f"{REPORT}/")


def results_in(folder: Path, single: list[str]) -> list[str]:
    """Return the files of the artifact. Raises RefusedError unless all of them are results, and the lock is one."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise RefusedError(f"{name!r} is a link or no regular file")
        if path.is_file():
            if not is_result(name, single):
                raise RefusedError(f"{name!r} is not a result")
            found.append(name)
    if LOCK not in found:
        raise RefusedError(f"{LOCK} is missing")
    return found


def check_places(names: list[str]) -> None:
    """Raise RefusedError where a folder of the checkout is a link, which could lead to any other."""
    for name in names:
        for place in Path(name).parents:
            if place.is_symlink():
                raise RefusedError(f"in the checkout {place.as_posix()!r} is a link")


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def take(folder: Path, *, retraining: bool) -> None:
    """Replace the checkout's results by those of the artifact. Raises RefusedError, and then changes nothing."""
    settings = ["params.yaml"] if retraining else []
    sources = shell.run("git", "ls-files", "-z", "--", "*.dvc").split("\0") if retraining else []
    replaced = [LOCK, *FOLDERS, REPORT, *settings]
    names = results_in(folder, [LOCK, *settings, *sources])
    check_places([REPORT, *set(names).intersection(sources)])
    for name in replaced:
        remove(Path(name))
    for name in names:
        remove(Path(name))
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, name)


def main(arguments: list[str]) -> int:
    """Return the exit status; where the artifact is refused, the output `fault` has the reason, for alert.py."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--retraining", action="store_true", help="also take params.yaml and the .dvc files of Git")
    parser.add_argument("folder", type=Path)
    given = parser.parse_args(arguments)
    try:
        take(given.folder, retraining=given.retraining)
    except RefusedError as refused:
        fault = f"The artifact of the results is refused, because {refused}."
        github.output(fault=fault)
        print(f"::error::{fault}")
        return 1
    return 0


if __name__ == "__main__":
    github.run_program(lambda: main(sys.argv[1:]))
