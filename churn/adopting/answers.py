"""What init is told: by the options of the command line, and on a terminal by a person."""

import argparse
import sys
from collections.abc import Sequence

from churn.adopting.columns import Column
from churn.core.errors import StageError, nearest, on_terminal


def is_interactive() -> bool:
    """Return whether a person can answer."""
    return sys.stdin.isatty() and on_terminal()


class Answers:
    """What the command line says, and on a terminal what a person answers."""

    def __init__(self, asked: argparse.Namespace, given: Sequence[Column]) -> None:
        self.asked, self.given = asked, given
        self.on_terminal = is_interactive()

    def ask(self, option: str, question: str, need: str, default: str = "") -> str:
        """Return an option's value, or what a person answers. Raises StageError, which says what is needed and how."""
        if told := getattr(self.asked, option.removeprefix("--").replace("-", "_")):
            return str(told)
        if not self.on_terminal:
            raise StageError(f"{need}: write {option}.")
        return (
            self.typed(f"{question}{f' [{default}]' if default else ''}: ")
            or default
            or self.ask(option, question, need)
        )

    def typed(self, question: str) -> str:
        """Return what a person types."""
        try:
            return input(question).strip()
        except EOFError as error:
            raise StageError("no more answers; the options of `python -m churn init --help` take them, too.") from error

    def column(self, name: str) -> Column:
        """Return a column by its name in the source or in the contract. Raises StageError with the nearest names."""
        fits = [one for one in self.given if name in (one.source, one.name)]
        fits = fits or [one for one in self.given if name.lower() in (one.source.lower(), one.name)]
        if len(fits) == 1:
            return fits[0]
        known = [one.source for one in self.given]
        raise StageError(f"SOURCE has no column {name}{nearest(name, known) or f'; it has {len(known):,} others'}.")

    def names(self, text: str | Sequence[str]) -> dict[str, None]:
        """Return the contract's names of columns that are listed with blanks or commas."""
        listed = text.replace(",", " ").split() if isinstance(text, str) else text
        return {self.column(one).name: None for one in listed}
