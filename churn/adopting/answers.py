"""What init is told: by the options of the command line, and on a terminal by a person."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from churn.adopting.column import Column
from churn.adopting.columns import described
from churn.core.errors import StageError, nearest, on_terminal

import duckdb


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
        if told := self.option(option):
            return told
        if not self.on_terminal:
            raise StageError(f"{need}: write {option}.")
        return (
            self.typed(f"{question}{f' [{default}]' if default else ''}: ")
            or default
            or self.ask(option, question, need)
        )

    def option(self, option: str) -> str:
        """Return an option's value, or nothing."""
        return str(getattr(self.asked, option.removeprefix("--").replace("-", "_")) or "")

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
        """Return the contract's names of columns that are listed with commas, or, if no name has one, with blanks."""
        if not isinstance(text, str):
            return {self.column(one).name: None for one in text}
        spelled = {name.lower() for one in self.given for name in (one.source, one.name)}
        parts = [part.strip() for part in text.split(",") if part.strip()]
        apart = (one for part in parts for one in ([part] if part.lower() in spelled else part.split()))
        return {self.column(one).name: None for one in apart}


def read_one_way(answers: Answers, database: duckdb.DuckDBPyConnection, column: Column) -> Column:
    """Return a column that can be read in two ways as its option says, as other columns are, or as a person says."""
    if column.other is None:
        return column
    both = (column, column.other)
    if column.kind == "number":
        option, ways = "--decimal", {"point": ".", "comma": ","}
        sure = {one.decimal for one in answers.given if one.is_text and one.kind == "number" and not one.other}
        question = f"Is 1.234 in {column.source} below 2 (point) or above 1,000 (comma)"
        need = f"a decimal point and a decimal comma fit all numbers of {column.source}, such as 1,234"
        readings = {one.decimal: one for one in both}
    else:
        option, ways = "--dates", {"day-first": "%d", "month-first": "%m"}
        sure = {one.day[:2] for one in answers.given if one.kind == "date" and not one.other} & {*ways.values()}
        question = f"Is 3/4/2026 in {column.source} in April (day-first) or in March (month-first)"
        need = f"all dates of {column.source} fit with the day first and with the month first, such as 3/4/2026"
        readings = {one.day[:2]: one for one in both}
    is_asked = len(sure) != 1 or answers.option(option)
    way = ways.get(answers.ask(option, question, need), "") if is_asked else sure.pop()
    if way not in readings:
        raise StageError(f"{option}: write {' or '.join(ways)}.")
    return described(database, replace(readings[way], other=None))
