import gc
import json
import math
import os
import pty
import subprocess
import sys
import termios

from churn.stage import LOG, StageError, number_of, read_json, replacing, run, write_json
from tests.conftest import ROOT

import pytest


def test_a_file_takes_its_place_only_when_it_is_whole(tmp_path):
    path = tmp_path / "folder" / "file.txt"
    with replacing(path) as beside:
        beside.write_text("first")
    with pytest.raises(RuntimeError), replacing(path) as beside:  # noqa: PT012 - the fault comes half way
        beside.write_text("sec")
        raise RuntimeError
    assert path.read_text() == "first"
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]


def test_long_work_shows_on_a_terminal_how_long_it_goes_on_and_is_silent_elsewhere():
    work = """if True:
        import time
        from churn.stage import working
        with working("train: fitting"):
            time.sleep(2.5)"""
    command = [sys.executable, "-c", work]
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    os.set_blocking(ours, False)
    subprocess.run(command, check=True, cwd=ROOT, stdout=theirs, stderr=theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(theirs)
    os.close(ours)
    assert "train: fitting ... 00:02" in shown
    done = subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    assert done.stdout + done.stderr == b""


def test_json_is_sorted_and_refuses_what_json_cannot_hold(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"b": 1, "a": [None, 0.5]})
    assert path.read_text() == '{\n  "a": [\n    null,\n    0.5\n  ],\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match="nan"):
        write_json(path, {"a": math.nan})
    assert read_json(path) == {"a": [None, 0.5], "b": 1}


@pytest.mark.parametrize("content", ["{", "[1]", ""])
def test_a_broken_json_file_is_one_sentence(tmp_path, content):
    path = tmp_path / "file.json"
    path.write_text(content)
    with pytest.raises(StageError, match=r"file\.json .*dvc repro --force"):
        read_json(path)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (StageError("no customers."), "train: no customers."),
        (FileNotFoundError(2, "No such file", "data/x"), "train: data/x does not exist; `dvc repro` makes what a"),
        (OSError(28, "No space left on device", "data/x"), "train: No space left on device: data/x."),
        (KeyboardInterrupt(), "train: interrupted."),
    ],
)
def test_a_fault_of_the_user_is_one_sentence_after_the_stages_name(monkeypatch, tmp_path, fault, said):
    def main():
        raise fault

    monkeypatch.setattr(sys, "argv", ["stages/train.py"])
    monkeypatch.setattr(gc, "freeze", lambda: None)  # this process goes on
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        run(main)
    assert str(exit_.value.code).startswith(said)
    assert said.startswith(f"train: {logged()[-1]['fault']}"[: len(said)])


def logged():
    return [json.loads(line) for line in LOG.read_text().splitlines()]


def test_the_log_says_which_stages_ran_how_long_and_what_became_of_them(monkeypatch, tmp_path):
    def crash():
        raise RuntimeError("7590-VHVEG")

    monkeypatch.setattr(sys, "argv", ["stages/train.py"])
    monkeypatch.setattr(gc, "freeze", lambda: None)
    monkeypatch.chdir(tmp_path)
    run(lambda: None)
    assert [line["fault"] for line in logged()] == ["was killed", None]
    assert logged()[-1]["seconds"] >= logged()[0]["seconds"] >= 0
    with pytest.raises(RuntimeError):
        run(crash)
    assert logged()[-1]["fault"] == "crashed with RuntimeError"
    assert "7590" not in LOG.read_text()


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 rows of it"), (1, "1 row of it"), (1.2, "1 row of it"), (1_100, "1,100 rows of it")]
)
def test_one_thing_is_told_in_the_singular(count, said):
    assert number_of(count, "rows of it") == said
