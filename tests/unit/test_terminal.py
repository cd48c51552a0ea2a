"""What a terminal shows, and a pipe, a log of CI and a dumb terminal do not."""

import io
import os
import pty
import subprocess
import sys
import termios

from churn.core.terminal import RED, coloured, interactive, progress, status
from churn.data.snapshot import shown
from tests.conftest import ROOT

import pyarrow as pa
import pytest

WORK = """if True:
    import sys, time
    from churn.core.terminal import working
    with working("evaluate: scoring"):
        time.sleep(float(sys.argv[1]))
    with working("train: fitting", 8, lambda: 2):
        time.sleep(float(sys.argv[1]))"""


class Terminal(io.StringIO):
    """A stream that a person reads."""

    def isatty(self):
        return True


@pytest.fixture
def environment(monkeypatch):
    """Return a function that sets variables; at first none of those that count is set."""
    for name in ("CI", "NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch.setenv


def test_long_work_shows_on_a_terminal_how_long_it_goes_on_and_what_remains_and_is_silent_elsewhere(environment):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    os.set_blocking(ours, False)
    subprocess.run([sys.executable, "-c", WORK, "2.5"], check=True, cwd=ROOT, stdout=theirs, stderr=theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(theirs)
    os.close(ours)
    assert "evaluate: scoring ... 00:02" in shown
    assert "train: fitting ...  25 %, 00:02, 00:06 left" in shown
    done = subprocess.run([sys.executable, "-c", WORK, "0"], check=True, cwd=ROOT, capture_output=True)
    assert done.stdout + done.stderr == b""


def test_a_status_has_its_colour_on_a_terminal_and_takes_its_column(environment):
    assert coloured("failed", RED, Terminal()) == "\x1b[31mfailed\x1b[0m"
    assert coloured("failed", RED, io.StringIO()) == "failed"
    assert status("passed", 8) == "passed  "


@pytest.mark.parametrize(
    ("name", "value", "plain"),
    [
        ("NO_COLOR", "1", True),
        ("NO_COLOR", "", False),
        ("TERM", "dumb", True),
        ("TERM", "xterm", False),
        ("CI", "true", True),
    ],
)
def test_who_wants_no_colours_gets_none(environment, name, value, plain):
    environment(name, value)
    assert (coloured("failed", RED, Terminal()) == "failed") == plain


def test_a_first_fetch_on_a_terminal_has_no_last_run_to_look_at(environment, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert [*shown([batch := pa.record_batch({"id": [1, 2]})])] == [batch]
    assert "fetch: 0.00 rows" in sys.stderr.getvalue()


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("CI", "true")])
def test_there_is_no_bar_where_a_line_cannot_change(environment, monkeypatch, name, value):
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert interactive(sys.stderr)
    environment(name, value)
    with progress("fetch", 10) as bar:
        bar.update(10)
    assert sys.stderr.getvalue() == ""
