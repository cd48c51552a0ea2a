"""A user's error, and the sentence that an error is told in.

The text of another library's error may hold a customer's data: it is shown on a terminal only.
"""

import os
import re
import sys
import traceback
from pathlib import Path


class StageError(Exception):
    """An error that the user can mend, told in one sentence that says where it is and what to do.

    The error of another library is its cause (`raise … from error`), and no part of its sentence.
    """


def on_terminal() -> bool:
    """Return whether a person alone sees what is printed: neither stdout nor stderr is redirected."""
    return sys.stdout.isatty() and sys.stderr.isatty()


def fault_of(error: BaseException) -> str:
    """Return one sentence for an error: its own for a StageError, else its kind and place, never its text."""
    if isinstance(error, StageError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted."
    if isinstance(error, OSError) and error.errno is not None:
        if isinstance(error, FileNotFoundError) and error.filename:
            return f"{error.filename} does not exist; `dvc repro` makes what a stage reads."
        return f"{os.strerror(error.errno)}{f': {error.filename}' if error.filename else ''}."
    what = "sys.exit was called" if isinstance(error, SystemExit) else f"crashed with {type(error).__name__}"
    return f"{what}{place_of(error)}; run it on a terminal to read more."


def place_of(error: BaseException) -> str:
    """Return the innermost line of this repository that an error came from."""
    if isinstance(error, SyntaxError) and error.filename:
        frames = [(error.filename, error.lineno)]
    else:
        frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    root = Path(__file__).resolve().parents[2]
    ours = [(Path(name), line) for name, line in frames if Path(name).is_relative_to(root) and ".venv" not in name]
    return f" in {ours[-1][0].relative_to(root)}, line {ours[-1][1]}" if ours else ""


def without_password(text: str) -> str:
    """Return a text without the users and passwords of its URLs."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def has_password(url: str) -> bool:
    """Return whether a URL holds a password."""
    return bool(re.search(r"://[^@]*:[^@]*@|[?&](password|sslpassword)=", url, re.IGNORECASE))


def number_of(count: float, things: str) -> str:
    """Return a number of things, whose name begins with the plural: `1 row of the table`, `2 rows of the table`."""
    number, (noun, space, rest) = f"{count:,.0f}", things.partition(" ")
    return f"{number} {noun.removesuffix('s') if number == '1' else noun}{space}{rest}"
