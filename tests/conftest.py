"""What the tests share: a small table that keeps the contract, and a clone in which the pipeline has run."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # two test processes with two threads each would wait for one another


import tests.frozen  # noqa: F401  # before churn

# isort: split
import atexit
import fcntl
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path

from churn.config.contract import Column, Contract, load_contract
from churn.config.params import Evaluate, Params, load_params
from churn.data.featuring import add_features
from tests.forkserver import SHARED, programs
from tests.frozen import REPLACED, RESULTS, ROOT, copy_of, put_sample

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

# At its very end a process prints pages of "nanobind: leaked" where objects of DuckDB's are left.
atexit.register(os.dup2, os.open(os.devnull, os.O_WRONLY), 2)


def pytest_xdist_auto_num_workers() -> int:
    """Return three for two cores, because the tests of servers wait for 45 % of their time."""
    return (os.cpu_count() or 2) * 3 // 2


def pytest_configure(config: pytest.Config) -> None:
    """Start a server of programs for all test processes: importing the libraries takes six seconds."""
    if getattr(config.option, "numprocesses", None):
        os.environ[SHARED] = programs()


@pytest.fixture(scope="session")
def contract() -> Contract:
    return load_contract(copy_of("contract.yaml"))


@pytest.fixture(scope="session")
def params() -> Params:
    return sample_params()


@cache
def sample_params() -> Params:
    return load_params(copy_of("params.yaml"))


def evaluate_at(threshold: float) -> Evaluate:
    """Return the sample's settings of evaluate, with another threshold."""
    return sample_params().evaluate.model_copy(update={"threshold": threshold})


def after_change(name, load, folder):
    """Return a function that changes the values of a YAML file of the sample and loads the result."""

    def loaded(change):
        values = YAML(typ="safe").load(copy_of(name))
        change(values)
        YAML(typ="safe").dump(values, folder / name)
        return load(folder / name)

    return loaded


def make_customers(contract: Contract, rows: int, seed: int = 0) -> pd.DataFrame:
    """Return customers that keep the contract, sorted by key, features computed; about 30 % churn."""
    return _customers(tuple(contract.columns.items()), rows, seed).copy()


@lru_cache(maxsize=16)  # most tests ask for one of a few tables
def _customers(columns: tuple[tuple[str, Column], ...], rows: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({"customer_id": [f"{seed:02}-{number:06}" for number in range(rows)]})
    for name, column in columns:
        if column.type == "category":
            frame[name] = pd.Series(random.choice(list(column.values), rows), dtype="str")
        elif column.type == "boolean":
            frame[name] = random.random(rows) < 0.5
    frame["tenure_months"] = random.integers(1, 73, rows)
    frame["monthly_charges"] = random.uniform(20, 110, rows).round(2)
    frame["total_charges"] = (frame["tenure_months"] * frame["monthly_charges"]).round(2)
    frame.loc[::50, "tenure_months"] = 0
    frame.loc[::50, "total_charges"] = np.nan
    chance = 0.1 + 0.5 * (frame["contract"] == "Month-to-month") * (frame["tenure_months"] < 30)
    frame["churn"] = (random.random(rows) < chance).astype("int64")
    return add_features(frame)[[name for name, _ in columns]]


@pytest.fixture
def customers(contract) -> pd.DataFrame:
    return make_customers(contract, 2_000)


class Clone:
    """A checkout of the repository in a folder of its own, with commands run in it."""

    def __init__(self, folder: Path):
        self.folder = folder
        home = folder.parent / "home"
        home.mkdir(exist_ok=True)
        self.environment = {
            "HOME": str(home),
            "PATH": os.pathsep.join([programs(), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "OMP_NUM_THREADS": "1",
            "GIT_AUTHOR_NAME": "test",
            "GIT_AUTHOR_EMAIL": "test@example.invalid",
            "GIT_COMMITTER_NAME": "test",
            "GIT_COMMITTER_EMAIL": "test@example.invalid",
        }

    @property
    def real(self) -> dict[str, str]:
        """The environment with the real `python` and `dvc`, where the processes themselves matter."""
        return self.environment | {"PATH": self.environment["PATH"].removeprefix(programs() + os.pathsep)}

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command; stdout and stderr together are its `stdout`."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def start(self, log: Path, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a command and return its process; what it prints goes into the file `log`."""
        with log.open("wb") as printed:
            return subprocess.Popen(
                command, cwd=self.folder, env=self.environment | environment, stdout=printed, stderr=printed
            )

    def ok(self, *command: str, **environment: str) -> str:
        """Run a command that must succeed and return what it printed."""
        done = self.run(*command, **environment)
        assert done.returncode == 0, f"{command} exited with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def commit(self, message: str = "Change") -> None:
        self.ok("git", "add", "--all")
        self.ok("git", "commit", "--quiet", "--allow-empty", "--message", message)

    def text(self, path: str) -> str:
        return (self.folder / path).read_text(encoding="utf-8")

    def replace(self, path: str, old: str, new: str) -> None:
        """Replace a text that occurs exactly once in a file."""
        text = self.text(path)
        assert text.count(old) == 1, f"{path} has {old!r} {text.count(old)} times"
        (self.folder / path).write_text(text.replace(old, new), encoding="utf-8")

    def stages_run(self) -> list[str]:
        """Run `dvc repro` and return the stages that were not skipped."""
        printed = self.ok("dvc", "repro")
        return [line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage")]


def give_environment(clone: Clone) -> None:
    """Make .venv in a clone as `make setup` does, but with the packages of the running Python."""
    venv = clone.folder / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (packages,) = venv.glob("lib/python*/site-packages")
    (packages / "shared.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    script = venv / "bin" / "dvc"
    script.write_text(f"#!{venv / 'bin' / 'python'}\nfrom dvc.cli import main\nraise SystemExit(main())\n")
    script.chmod(0o755)
    for done in (".python", ".runtime", ".dev"):
        (venv / done).touch()
    clone.environment["PATH"] = os.pathsep.join(
        part for part in os.environ["PATH"].split(os.pathsep) if Path(part) != Path(sys.executable).parent
    )
    clone.ok("make", "setup")


def link_environment(folder: Path) -> None:
    """Make an environment of links to the running one, whose `python` and `dvc` run in forks (see tests/forkserver)."""
    (folder / "bin").mkdir(parents=True)
    for stamp in (".python", ".startup", ".runtime", ".plots", ".dev"):  # make's, newer than any checkout
        (folder / stamp).touch()
    for path in Path(sys.prefix).glob("[!.]*"):
        if path.name != "bin":
            (folder / path.name).symlink_to(path)
    for path in [*Path(programs()).iterdir(), *Path(sys.prefix, "bin").iterdir()]:
        if not (link := folder / "bin" / path.name).is_symlink():
            link.symlink_to(path)


def clone_of_tree(folder: Path, *, live: bool = False) -> Clone:
    """Return a clone of the tree as it stands, with what is not committed yet, as one commit.

    The sample's copies are at the places of the live files; the results of a run, and tables under DVC, are left out;
    unless `live`.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    under_dvc = [name for name in listed if name.endswith(".dvc")]  # an adopter's tables, which DVC lets Git ignore
    under_dvc += [str(Path(name).parent / ".gitignore") for name in under_dvc if "/" in name]
    for name in filter(None, listed):
        theirs = name.startswith((*REPLACED, *RESULTS)) or name in under_dvc
        if (ROOT / name).exists() and (live or not theirs):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    if not live:
        put_sample(folder)
    clone = Clone(folder)
    clone.ok("git", "init", "--quiet", "--initial-branch", "main")
    clone.commit("Start")
    return clone


def run_pytest(clone: Clone, *arguments: str) -> str:
    """Run pytest in a clone, with the server of programs of this run, and return what it printed."""
    # In a fork libraries are loaded already whose plugins pytest would have rewritten.
    options = ("-o", "addopts=", "-q", "-W", "ignore:Module already imported")
    return clone.ok("python", "-m", "pytest", *options, *arguments, **{SHARED: programs()})


def made_once(tmp_path_factory, name: str, make: Callable[[Path], Clone]) -> Clone:
    """Return the clone that `make` makes; its `first_run` is what the pipeline printed.

    The first test process that needs it makes it for all.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    folder.mkdir(exist_ok=True)
    printed = folder / "first_run.txt"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if printed.exists():
            clone = Clone(folder / "repository")
        else:
            shutil.rmtree(folder / "repository", ignore_errors=True)
            clone = make(folder / "repository")
            printed.write_text(clone.first_run)
    clone.first_run = printed.read_text()
    return clone


def run_of_sample(folder: Path) -> Clone:
    clone = clone_of_tree(folder)
    clone.first_run = clone.ok("dvc", "repro")
    clone.commit("Record what the pipeline made")
    clone.ok("git", "repack", "-adq")  # one file, not a thousand: hundreds of clones are copied and fetched from it
    return clone


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Clone:
    """A clone in which `dvc repro` has run once on the sample; its results are committed. Read it, don't change it."""
    return made_once(tmp_path_factory, "finished", run_of_sample)


@pytest.fixture(scope="session")
def environment_of_links(tmp_path_factory) -> Path:
    """The folder of an environment, see link_environment: by a link a checkout has it as if `make setup` had run."""
    link_environment(folder := tmp_path_factory.mktemp("links") / "environment")
    return folder


@pytest.fixture
def clone(finished, tmp_path) -> Clone:
    """A copy of the finished clone, to change; its registry is empty, since paths in it are absolute."""
    return copy_without_registry(finished, tmp_path / "repository")


def copy_without_registry(clone: Clone, folder: Path) -> Clone:
    subprocess.run(["cp", "-a", clone.folder, folder], check=True)  # a fifth of shutil's time
    copy = Clone(folder)
    (copy.folder / "mlflow.db").unlink()
    shutil.rmtree(copy.folder / "mlartifacts")
    return copy
