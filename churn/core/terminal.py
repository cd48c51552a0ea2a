"""What a terminal shows and a log does not: colours, and the progress of long work with the time that remains."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from tqdm import tqdm

RED, GREEN, YELLOW = 31, 32, 33
STATUS = {"passed": GREEN, "failed": RED, "skipped": YELLOW, "inconclusive": YELLOW, "NOTE": YELLOW}


def interactive(stream: TextIO) -> bool:
    """Return whether a person sees what is printed, on a terminal that can change a line: no pipe, no log of CI."""
    return stream.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")


def coloured(text: str, colour: int, stream: TextIO | None = None) -> str:
    """Return a text in a colour, if `stream`, by default stdout, shows colours, and NO_COLOR is not set.

    Examples
    --------
    >>> coloured("passed", GREEN)  # which is no terminal here
    'passed'
    """
    if os.environ.get("NO_COLOR") or not interactive(stream or sys.stdout):
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"


def status(word: str, width: int = 0) -> str:
    """Return the status of a rule in its colour, in a column of `width` characters.

    Examples
    --------
    >>> status("failed", 8)
    'failed  '
    """
    return coloured(word, STATUS[word]) + " " * (width - len(word))


def progress(on: str, total: int | None = None, unit: str = "rows", form: str | None = None) -> "tqdm[Any]":
    """Return a bar that counts on a terminal, and nowhere else; with a `total` it shows the time that remains."""
    from tqdm import tqdm

    hidden = not interactive(sys.stderr)
    return tqdm(desc=on, total=total, unit=f" {unit}", unit_scale=True, bar_format=form, leave=False, disable=hidden)


@contextmanager
def working(on: str, total: int | None = None, done: Callable[[], int] | None = None) -> Iterator[None]:
    """Show on a terminal, and nowhere else, that the work goes on, and for how long by now.

    Where `done` counts the steps of `total`, it also shows the time that remains.
    """
    counts = total is not None and done is not None
    form = "{desc} ... {percentage:3.0f} %, {elapsed}, {remaining} left" if counts else "{desc} ... {elapsed}"
    with progress(on, total if counts else None, form=form) as line:
        ended = Event()

        def tick() -> None:
            while not line.disable and not ended.wait(1):
                if done and counts:
                    line.n = done()
                line.refresh()

        ticker = Thread(target=tick, daemon=True)
        ticker.start()
        try:
            yield
        finally:
            ended.set()
            ticker.join()
