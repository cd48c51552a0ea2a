"""What ci/take.py copies from an artifact into a checkout, and what it refuses. Git and the files are real."""

import os
import subprocess
from pathlib import Path

from ci import take

import pytest

RESULTS = {
    "dvc.lock": "new lock",
    "metrics/gate.json": "new gate",
    "plots/roc.csv": "new curve",
    "build/report/report.md": "new report",
    "build/report/outcome.json": "new outcome",
}
COMMITTED = {
    "dvc.lock": "old lock",
    "metrics/gate.json": "old gate",
    "metrics/gone.json": "of a stage that failed now",
    "plots/roc.csv": "old curve",
    "params.yaml": "old settings",
    "data/customers.csv.dvc": "old source",
    "data/others.csv.dvc": "other source",
    "ci/record.py": "main's program",
}


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def texts(folder):
    """Return the texts of a folder's files, by name, without those of Git."""
    found = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_text() for path in found}


@pytest.fixture
def artifact(tmp_path, monkeypatch):
    """The artifact's folder, beside a checkout, which is the working directory."""
    checkout = tmp_path / "checkout"
    write(checkout, COMMITTED)
    write(checkout, {"build/report/picture.png": "old picture"})
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    git = ("git", "-c", "user.name=test", "-c", "user.email=t@example.invalid")
    for command in (["init", "--quiet"], ["add", *COMMITTED], ["commit", "--quiet", "--message=Start"]):
        subprocess.run([*git, *command], check=True)
    write(tmp_path / "results", RESULTS)
    return tmp_path / "results"


def refused(artifact, capsys, *options):
    """Return why the artifact is refused, which has to leave the checkout as it was."""
    before = texts(Path())
    assert take.main([*options, str(artifact)]) == 1
    assert texts(Path()) == before
    printed = capsys.readouterr().out
    output = (artifact.parent / "output").read_text()
    assert printed == f"::error::{output.removeprefix('fault=')}"
    assert printed.count("\n") == 1
    return printed.removeprefix("::error::The artifact of the results is refused, because ").removesuffix(".\n")


def test_the_results_take_the_place_of_the_checkouts_and_nothing_else_changes(artifact):
    assert take.main([str(artifact)]) == 0
    kept = ("params.yaml", "data/customers.csv.dvc", "data/others.csv.dvc", "ci/record.py")
    assert texts(Path()) == RESULTS | {name: COMMITTED[name] for name in kept}


def test_a_retraining_also_brings_its_settings_and_the_sources_that_git_lists(artifact):
    write(artifact, new := {"params.yaml": "new settings", "data/customers.csv.dvc": "new source"})
    assert take.main(["--retraining", str(artifact)]) == 0
    kept = ("data/others.csv.dvc", "ci/record.py")
    assert texts(Path()) == RESULTS | new | {name: COMMITTED[name] for name in kept}


@pytest.mark.parametrize(
    "name",
    [
        "ci/record.py",
        "ci.py",
        "Makefile",
        "params.yaml",
        "data/customers.csv.dvc",
        "metrics/dvc.yaml",
        "metrics/customers.csv.dvc",
        "metrics/__init__.py",
        "plots/.gitattributes",
        "plots",
        "build/lib/json.py",
        "metrics.json",
        ".dvc/config",
    ],
)
def test_a_file_that_is_not_a_result_is_refused(artifact, capsys, name):
    """Fault in CI and the judge: a feature function on main adds a program, a stage or a setting to the artifact.

    The job `register` fails before a step has a token: `The artifact of the results is refused, because 'ci/record.py'
    is not a result.`
    """
    if name == "plots":
        (artifact / "plots/roc.csv").unlink()
        (artifact / "plots").rmdir()
    write(artifact, {name: "planted"})
    assert refused(artifact, capsys) == f"{name!r} is not a result"


@pytest.mark.parametrize("name", ["data/new.csv.dvc", "Makefile", "ci/take.py", ".dvc/config"])
def test_a_retraining_brings_no_source_that_git_does_not_list_and_no_other_file(artifact, capsys, name):
    write(artifact, {name: "planted"})
    write(Path(), {"data/new.csv.dvc": "not committed"})
    assert refused(artifact, capsys, "--retraining") == f"{name!r} is not a result"


@pytest.mark.parametrize("name", ["metrics/other.json", "build/report/other.md", "other"])
@pytest.mark.parametrize("target", ["file", "folder", "nothing"])
def test_a_link_is_refused(artifact, capsys, tmp_path, name, target):
    write(tmp_path, {"file": "of the runner", "folder/file.json": "of the runner"})
    (artifact / name).symlink_to(tmp_path / target)
    assert refused(artifact, capsys) == f"{name!r} is a link or no regular file"


def test_a_pipe_is_refused_unread(artifact, capsys):
    os.mkfifo(artifact / "metrics" / "pipe.json")
    assert refused(artifact, capsys) == "'metrics/pipe.json' is a link or no regular file"


def test_a_folder_of_the_checkout_that_is_a_link_is_not_written_to(artifact, capsys):
    """A branch can commit build as a link to any folder of the checkout."""
    write(Path(), {"report/report.md": "a template"})
    Path("build").rename("former")
    Path("build").symlink_to(".")
    assert refused(artifact, capsys) == "in the checkout 'build' is a link"


def test_a_result_that_is_a_link_in_the_checkout_is_replaced_and_its_target_stays(artifact, tmp_path):
    write(tmp_path, {"file": "of the runner", "folder/gate.json": "of the runner"})
    write(artifact, {"data/customers.csv.dvc": "new source"})
    for name, target in (("dvc.lock", "file"), ("metrics", "folder"), ("data/customers.csv.dvc", "file")):
        take.remove(Path(name))
        Path(name).symlink_to(tmp_path / target)
    assert take.main(["--retraining", str(artifact)]) == 0
    assert texts(Path()).items() >= RESULTS.items()
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "gate.json").read_text() == "of the runner"


@pytest.mark.parametrize("lost", ["lock", "folder"])
def test_without_a_lock_nothing_is_taken(artifact, capsys, lost):
    take.remove(artifact / "dvc.lock" if lost == "lock" else artifact)
    assert refused(artifact, capsys) == "dvc.lock is missing"


def test_a_name_with_a_line_break_gives_the_runner_no_second_command(artifact, capsys):
    write(artifact, {"a\n::add-path::b": ""})
    assert refused(artifact, capsys) == r"'a\n::add-path::b' is not a result"
