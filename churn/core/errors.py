"""The error that a user can mend, and the messages for all errors.

The text of another library's error may hold a customer's data: it is shown on a terminal only.
"""

import os
import re
import sys
import tempfile
import traceback
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

MORE = "; run it on a terminal to read more"
MEMORY = "raise compute.memory in params.yaml, or add memory"
IN_REPORT = "DuckDB keeps to 1 GB in the report: run it on a machine with fewer processors, or with more memory"
SPILLED = "failed to offload data block"  # in DuckDB's text where its temporary files find no space


class StageError(Exception):
    """An error that the user can mend. Its text is one sentence: where it is, what is wrong, and what to do.

    The error of another library is its cause (`raise … from error`), and not part of the sentence.
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
        return _fault_of_system(error)
    if re.search(f"{SPILLED}|^IO Error: .*No space left", str(error)):  # DuckDB's, or of its stream
        return f"{no_space_to_spill()}."
    if isinstance(error, MemoryError) or str(error).startswith("Out of Memory Error"):  # DuckDB's, or of its stream
        in_report = any(path.parts[0] == "report" for path, _ in _places(error))
        return f"the memory does not suffice{place_of(error)}: {IN_REPORT if in_report else MEMORY}."
    what = "sys.exit was called" if isinstance(error, SystemExit) else f"crashed with {type(error).__name__}"
    return f"{what}{place_of(error)}{MORE}."


def no_space_to_spill() -> str:
    """Return why DuckDB cannot go on on the disk, and the next step."""
    folder = tempfile.gettempdir()
    return f"No space left on device: DuckDB's temporary files fill {folder}; free some, or set TMPDIR to a larger disk"


def _fault_of_system(error: OSError) -> str:
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"{error.filename} does not exist; `dvc repro` makes what a stage reads."
    if isinstance(error, IsADirectoryError) and error.filename:
        engine = "after a change of compute.engine run `dvc repro --force --downstream fetch`"
        return f"{error.filename} is a folder, where a file is read; {engine}."
    return f"{os.strerror(error.errno or 0)}{f': {error.filename}' if error.filename else ''}."


def place_of(error: BaseException) -> str:
    """Return the innermost line of this repository that an error came from."""
    places = _places(error)
    return f" in {places[-1][0]}, line {places[-1][1]}" if places else ""


def _places(error: BaseException) -> list[tuple[Path, int | None]]:
    """Return the lines of this repository that an error came through, the innermost last."""
    if isinstance(error, SyntaxError) and error.filename:
        frames = [(error.filename, error.lineno)]
    else:
        frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    root = Path(__file__).resolve().parents[2]
    ours = [(Path(name), line) for name, line in frames if Path(name).is_relative_to(root) and ".venv" not in name]
    return [(path.relative_to(root), line) for path, line in ours]


def without_password(text: str) -> str:
    """Return a text without the users and passwords of its URLs; a password may hold a raw @.

    Examples
    --------
    >>> without_password("the registry at https://me:s@cret@host/mlflow failed")
    'the registry at https://host/mlflow failed'
    """
    return re.sub(r"//[^/\s]*@", "//", text)


def has_password(url: str) -> bool:
    """Return whether a URL holds a password, a token or a key; libpq and others also take it as a parameter.

    Examples
    --------
    >>> has_password("postgresql://me@host/db"), has_password("postgresql://me@host/db?password=secret")
    (False, True)
    """
    secret = r"[?&]\w*(password|passphrase|passcode|token|secret|private_?key|credentials)\w*="
    return bool(re.search(rf"://[^@]*:[^@]*@|{secret}", url, re.IGNORECASE))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a question with the one of the `known` names that is most like `name`, or nothing.

    Examples
    --------
    >>> nearest("Tenure", ["tenure_months", "contract"]), nearest("age", ["tenure_months"])
    (' (is it tenure_months?)', '')
    """
    near = closest(name, known, 0.6)
    return f" (is it {near}?)" if near else ""


def closest(name: str, known: Iterable[str], cutoff: float) -> str | None:
    """Return the one of the `known` names that is most like `name`, whatever its case, blanks and signs, or None.

    `cutoff` is the least likeness, as of `difflib`. No name is given that looks like a value, with an @ or with three
    digits that `name` does not have: the columns of a file without a header are named after a customer.

    Examples
    --------
    >>> closest("customerID", ["Customer ID", "gender"], 0.7), closest("tenure", ["city"], 0.7)
    ('Customer ID', None)
    >>> closest("customer_id", ["customer-0001"], 0.7), closest("spend_2026", ["Spend2026"], 0.7)
    (None, 'Spend2026')
    """

    def folded(one: str) -> str:
        return re.sub(r"[\W_]", "", one).lower() or one

    by_folded: dict[str, str] = {}
    for one in known:
        if "@" in one or {*re.findall(r"\d{3,}", one)} - {*re.findall(r"\d{3,}", name)}:
            continue
        by_folded.setdefault(folded(one), one)
    near = get_close_matches(folded(name), by_folded, 1, cutoff)
    return by_folded[near[0]] if near else None


def number_of(count: float, things: str) -> str:
    """Return a number of things in words.

    Parameters
    ----------
    count
        The number, which is rounded.
    things
        The plural, which ends in s; words may follow it.

    Examples
    --------
    >>> number_of(1, "rows of the table"), number_of(7043, "rows")
    ('1 row of the table', '7,043 rows')
    """
    number, (noun, space, rest) = f"{count:,.0f}", things.partition(" ")
    return f"{number} {noun.removesuffix('s') if number == '1' else noun}{space}{rest}"
