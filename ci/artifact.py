"""Read the files of an artifact. A branch's own code made them, so each may be meant to harm whoever reads it."""

import re
from pathlib import Path

INVISIBLE = "\u200b"  # a space of no width: put behind a token, it looks the same and does nothing any more
SIGN = r"\#(?:42|60|62|91|92|93|95|96|124|126);"  # after &: as the report escapes *, <, >, [, \, ], _, `, | and ~
HARMFUL = re.compile(
    rf"""  & (?! (?:amp|lt|gt|quot|nbsp); | {SIGN} ) \#? [a-z0-9]+ ;       # &#64;somebody, too
        | (?<![a-z0-9]) @ (?=[a-z0-9&])                                 # @somebody would be told
        | (?<! (?<!\\) & (?={SIGN}) ) \# (?=[0-9&]) | \b GH- (?=[0-9&]) # #1 would leave a trace over there
        | ! (?=\[)                                                      # a foreign picture can change afterwards
        | < (?=[a-z/!?]) (?! /?(?:details|summary|br|sub|sup|code)\ ?/?> )   # HTML, and comments that nobody sees
    """,
    re.IGNORECASE | re.VERBOSE,
)
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # the last ones turn text round


class RefusedError(Exception):
    """A file is not what it should be; the message is one sentence without its full stop."""


def read_bytes(path: Path, limit: int) -> bytes:
    """Return what is in a regular file of at most `limit` bytes; a link could lead to any file of the runner."""
    if path.is_symlink() or not path.is_file():
        raise RefusedError(f"{path.name} is missing or no regular file")
    if path.stat().st_size > limit:
        raise RefusedError(f"{path.name} has more than {limit:,} bytes")
    return path.read_bytes()


def read_text(path: Path, limit: int) -> str:
    """Return the text of a file, as `read_bytes` does."""
    try:
        return read_bytes(path, limit).decode("utf-8")
    except UnicodeDecodeError as error:
        raise RefusedError(f"{path.name} is not UTF-8") from error


LEADING = re.compile(
    r"""  (?<=\]) (?=[(\[:])                  # [text](address), [text][name], [name]: address
        | (?<=:) (?=//) | \b www (?=\.)      # https://..., www....
        | (?<=```|~~~) (?=\ *[a-z])          # ```mermaid
        | \$ (?=[$`])                        # formulas
    """,
    re.IGNORECASE | re.VERBOSE,
)


def unverified(text: str) -> str:
    """Return a stranger's Markdown as `neutral` does; no link in it leads anywhere, and no fence draws a diagram."""
    return LEADING.sub(rf"\g<0>{INVISIBLE}", neutral(text))


def neutral(text: str) -> str:
    """Return Markdown that looks the same on GitHub and can do nothing but be read."""
    return HARMFUL.sub(rf"\g<0>{INVISIBLE}", CONTROL.sub(" ", text))
