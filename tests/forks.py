"""Stages in processes of their own, forked from one that has imported everything: milliseconds each, not seconds."""

import os

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"


import tests.frozen  # noqa: F401  # before churn

# isort: split
import multiprocessing
import runpy
import sys
from pathlib import Path

import stages.evaluate
import stages.fetch
import stages.gate
import stages.prepare
import stages.register
import stages.train
import stages.validate
from churn.stage import run

import sklearn.compose
import sklearn.ensemble  # noqa: F401

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([__name__])


def stage(name: str, folder: str, environment: dict[str, str], log: str) -> None:
    """Run a stage in `folder` as `python -m stages.NAME` does, with all that it prints in the file `log`."""
    os.chdir(folder)
    os.environ.update(environment)
    for stream in (1, 2):
        os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND), stream)
    sys.argv = [name]
    run(getattr(stages, name).main)


def started(name: str, folder: Path, environment: dict[str, str], log: Path):
    """Return the running process of a stage."""
    process = FORKS.Process(target=stage, args=(name, str(folder), environment, str(log)))
    process.start()
    return process


def program(path: str, root: str, folder: str, argument: str, log: str) -> None:
    """Run a program of the repository `root` in `folder`, as `python -m` or `python` does."""
    os.chdir(folder)
    for stream in (1, 2):
        os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), stream)
    sys.argv = [path, argument]
    sys.path.insert(0, str(Path(root, path).parent))
    runpy.run_path(str(Path(root, path)), run_name="__main__")


def ended(path: str, root: Path, folder: Path, argument: str, log: Path) -> tuple[int | None, str]:
    """Run a program with an argument, and return its exit status, None after two minutes, and what it printed."""
    process = FORKS.Process(target=program, args=(path, str(root), str(folder), argument, str(log)))
    process.start()
    process.join(120)
    process.kill()
    return process.exitcode, log.read_text(encoding="utf-8")
