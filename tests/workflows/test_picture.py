"""The report's picture on a branch of this repository. Git is real, and GitHub a bare repository on this machine."""

import subprocess

from ci import picture
from tests.workflows.test_comment import PNG

import pytest


def git(*arguments):
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def github(tmp_path, monkeypatch):
    """Return a function that runs the program in a run of that number, and returns its output `url`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GITHUB_SERVER_URL", f"file://{tmp_path}")
    monkeypatch.setenv("GITHUB_REPOSITORY", "origin")
    monkeypatch.setenv("GITHUB_RUN_ATTEMPT", "1")
    git("init", "--quiet", "--bare", str(tmp_path / "origin"))
    git("clone", "--quiet", str(tmp_path / "origin"), str(tmp_path / "checkout"))
    monkeypatch.chdir(tmp_path / "checkout")
    (tmp_path / "comparison.png").write_bytes(PNG)

    def run(number):
        output = tmp_path / f"output{number}"
        monkeypatch.setenv("GITHUB_RUN_ID", str(number))
        monkeypatch.setenv("GITHUB_OUTPUT", str(output))
        picture.main([str(tmp_path / "comparison.png")])
        return output.read_text() if output.exists() else ""

    run.origin, run.file = tmp_path / "origin", tmp_path / "comparison.png"
    return run


def kept(github):
    return git("-C", str(github.origin), "ls-tree", "--name-only", picture.BRANCH).splitlines()


def test_the_picture_is_on_a_branch_of_its_own_and_nothing_else_is(github):
    assert github(7) == f"url=file://{github.origin.parent}/origin/raw/report-pictures/7-1.png\n"
    assert git("-C", str(github.origin), "branch", "--format=%(refname:short)") == "report-pictures"
    shown = subprocess.run(
        ["git", "-C", str(github.origin), "show", "report-pictures:7-1.png"], check=True, capture_output=True
    ).stdout
    assert shown == PNG


def test_the_newest_are_kept_without_a_history(github, monkeypatch):
    monkeypatch.setattr(picture, "KEPT", 3)
    for number in (9, 10, 11, 100):
        github(number)
    assert sorted(kept(github)) == ["10-1.png", "100-1.png", "11-1.png"], "by number, not by letter"
    assert git("-C", str(github.origin), "rev-list", "--count", picture.BRANCH) == "1"


def test_two_runs_at_once_keep_both_pictures(github, monkeypatch):
    real, done = picture.shell.run, []

    def run(*command, **more):
        if "push" in command and not done:  # another run is faster, once
            done.append(True)
            github(8)
            monkeypatch.setenv("GITHUB_RUN_ID", "7")
        return real(*command, **more)

    monkeypatch.setattr(picture.shell, "run", run)
    github(7)
    assert sorted(kept(github)) == ["7-1.png", "8-1.png"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "comparison.png is missing or no regular file"),
        (b"<svg/>", "comparison.png is no PNG"),
        (PNG + bytes(500_000), "comparison.png has more than 500,000 bytes"),
        (PNG[:16] + bytes([0, 0, 255, 255, 0, 0, 0, 1]), "comparison.png has 65,535 x 1 pixels, more than 4,000"),
    ],
)
def test_what_is_no_small_png_is_not_kept(github, content, said, capsys):
    github.file.unlink()
    if content is not None:
        github.file.write_bytes(content)
    assert github(7) == ""
    assert f"::notice::There is no picture in the comment: {said}" in capsys.readouterr().out


def test_where_the_branch_takes_no_push_it_is_said_and_nothing_fails(github, capsys):
    hook = github.origin / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    assert github(7) == ""
    assert "There is no picture in the comment: `git -C` failed (exit status 1)." in capsys.readouterr().out
    assert git("status", "--porcelain") == ""
