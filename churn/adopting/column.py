"""A column of the source, as init has read it, and the SQL of its values."""

from dataclasses import dataclass
from typing import Any

from churn.adopting.dialects import DUCKDB, Dialect
from churn.adopting.readings import MINUS, Kind
from churn.data.duckdb_helpers import identifier, literal

NO_NUMBERS = {"NaN", "Infinity", "-Infinity"}  # values of PostgreSQL's NUMERIC, which has no blanks to trim


@dataclass(frozen=True)
class Column:
    """A column of the source: its name there and here, what it holds, and what a reader needs to know of it."""

    source: str
    name: str
    stored: str  # DuckDB's type
    kind: Kind
    rows: int
    missing: int = 0
    markers: tuple[str, ...] = ()  # the spellings of missing values
    distinct: int = 0  # exact up to MOST_VALUES, and where each row might have a value of its own
    values: tuple[str, ...] = ()  # of a category
    least: Any = None
    most: Any = None
    units: tuple[str, ...] = ()  # beside numbers in text, as in 12% or €1.50: a number has one
    minus: str = ""  # how a number below zero is written in text, a key of MINUS
    separators: tuple[str, str] | None = None  # of a number in text: of thousands, and before decimals
    day: str = ""  # the format of a date in text, if it is not ISO's
    other: "Column | None" = None  # a second reading, which fits as well and gives other values
    padded: bool = False
    like: str = ""  # of text: what most rows hold, numbers or dates
    unlike: int = 0  # the other rows
    lower: bool = False  # values that differ by case alone are one value

    @property
    def decimal(self) -> str:
        """What stands before the decimals of a number."""
        return self.separators[1] if self.separators else "."

    @property
    def is_text(self) -> bool:
        """Whether the source has text here."""
        return self.stored == "VARCHAR"

    @property
    def is_long(self) -> bool:
        """Whether an integer has more than the 64 bits of the contract's, as a hash in UBIGINT."""
        return self.kind == "integer" and self.least is not None and not -(2**63) <= self.least <= self.most < 2**63


def cleaned(column: Column, sql: str, dialect: Dialect = DUCKDB) -> str:
    """Return a dialect's SQL of the value `sql` as the contract takes it: NULL where it is missing."""
    quoted = dialect.literal
    spelled = {*column.markers} - NO_NUMBERS if column.is_text else {}
    sql = f"trim({sql})" if column.padded or spelled else sql
    sql = f"lower({sql})" if column.lower else sql
    for marker in column.markers:
        nothing = quoted(marker) if column.is_text else f"CAST({quoted(marker)} AS {dialect.real})"
        sql = f"nullif({sql}, {nothing})"
    if column.units and column.kind in ("integer", "number"):
        sql = f"trim(replace({sql}, {quoted(column.units[0])}, ''))"
    if column.minus and column.kind in ("integer", "number"):
        sql = MINUS[column.minus][1].format(sql)
    if column.separators:
        thousands, decimal = column.separators
        sql = f"replace({sql}, {quoted(thousands)}, '')"
        sql = f"replace({sql}, {quoted(decimal)}, '.')" if decimal != "." else sql
    return sql


def value(column: Column) -> str:
    """Return DuckDB's SQL of a column's value: a number, a date, or the text or boolean as it is."""
    sql = cleaned(column, identifier(column.source))
    if column.kind == "integer":
        return f"TRY_CAST({sql} AS HUGEINT)"  # a DOUBLE has 15 digits
    if column.kind == "number":
        number = f"TRY_CAST({sql} AS DOUBLE)"
        return f"if(isfinite({number}), {number}, NULL)"
    if column.kind == "date":
        return f"try_strptime({sql}, {literal(column.day)})::DATE" if column.day else f"TRY_CAST({sql} AS DATE)"
    return sql
