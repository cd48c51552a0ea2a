"""Every program of the repository explains itself, and does nothing where it is asked for something unknown."""

import shutil
import subprocess

from churn.__main__ import COMMANDS
from churn.core.files import sha256_of
from tests.conftest import ROOT, Clone

import pytest

BLOCK = '\nif __name__ == "__main__":\n'


def programs():
    """Return the files in Git outside of the tests that have a main block."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "*.py", ":!tests"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [name for name in listed.stdout.split() if BLOCK in (ROOT / name).read_text(encoding="utf-8")]


@pytest.fixture
def registered(finished, tmp_path):
    """A copy of the finished clone, with its registry, in which no other test process works."""
    return Clone(shutil.copytree(finished.folder, tmp_path / "repository", symlinks=True))


def tree(folder):
    """Return the digest of every file, ignored ones and the registry too, but for Python's own cache."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {str(path.relative_to(folder)): sha256_of(path) for path in found}


def outcomes(clone, argument):
    """Return what each program, and each command of churn, is called by, its exit status, and what it printed."""
    called = [
        [name] if name.startswith(".") else ["-m", name.removesuffix(".py").replace("/", ".")] for name in programs()
    ]
    called += [["-m", "churn", name] for name in COMMANDS]
    found = {}
    for one in called:
        done = clone.run("python", *one, argument)
        found[" ".join(one)] = done.returncode, done.stdout
    return found


def test_help_prints_usage_and_does_nothing_whatever_the_program(registered):
    before = tree(registered.folder)
    assert "mlflow.db" in before
    found = outcomes(registered, "--help")
    assert len(found) > 20
    assert {name: done for name, done in found.items() if done[0] != 0 or not done[1].startswith("usage: ")} == {}
    assert tree(registered.folder) == before


def test_an_unknown_option_ends_with_2_and_does_nothing_whatever_the_program(registered):
    before = tree(registered.folder)
    found = outcomes(registered, "--no-such-option")
    assert {name: done for name, done in found.items() if done[0] != 2 or "usage: " not in done[1]} == {}
    assert tree(registered.folder) == before


def test_without_a_command_all_are_listed(finished):
    done = finished.run("python", "-m", "churn")
    assert done.returncode == 2
    assert {name for name in COMMANDS if f"\n    {name} " in done.stdout} == set(COMMANDS)
