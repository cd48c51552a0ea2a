"""How a database spells names, texts and dates, for the queries that init writes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from churn.data.duckdb_helpers import identifier

import duckdb

TO_CHAR = {  # by strptime's letters
    "d": "DD",
    "m": "MM",
    "Y": "YYYY",
    "y": "YY",
    "b": "MON",
    "B": "MONTH",
    "H": "HH24",
    "I": "HH12",
    "p": "AM",
    "f": "US",
    "M": "MI",
    "S": "SS",
}
# Reserved in Snowflake or BigQuery, and not in DuckDB.
RESERVED = {
    *("account", "assert_rows_modified", "connect", "connection", "contains", "current", "define", "gscluster", "hash"),
    *("increment", "issue", "lookup", "minus", "organization", "proto", "regexp", "rlike", "start", "treat", "trigger"),
    "whenever",
}


@dataclass(frozen=True)
class Dialect:
    """A database's SQL. In its patterns {0} and {1} are the SQL of values."""

    plain: str = r"[A-Za-z_]\w*"  # a name that needs no quotes
    quote: str = '"'
    escapes: Mapping[str, str] = field(default_factory=lambda: {"'": "''"})  # in a text
    text: str = "VARCHAR"
    real: str = "DOUBLE PRECISION"
    day: str = "CAST({0} AS DATE)"
    parsed: str = ""  # a date of a text {0} by its format {1}, if there is a function for it
    letters: Mapping[str, str] | None = None  # of a format, by strptime's
    days: str = "date_diff('day', {0}, {1})"  # from one date to another

    def name(self, name: str) -> str:
        """Return a name, in quotes where it needs them."""
        kinds = [kind.name for _, kind in duckdb.tokenize(name)] if re.fullmatch(self.plain, name, re.ASCII) else []
        plain = kinds == ["identifier"] and name.lower() not in RESERVED
        return name if plain else f"`{name}`" if self.quote == "`" else identifier(name)

    def alias(self, name: str) -> str:
        """Return the name that a result gets: fetch compares it in any case."""
        return self.name(name.upper() if self is SNOWFLAKE else name)

    def table(self, name: str) -> str:
        """Return a table's name as somebody typed it, with its schema: a word stays as it is but for PostgreSQL."""
        parts = name.split(".")
        return ".".join(one if self is SNOWFLAKE and re.fullmatch(r"\w+", one) else self.name(one) for one in parts)

    def literal(self, text: str) -> str:
        r"""Return a text in quotes.

        Examples
        --------
        >>> print(DUCKDB.literal("it's"), SNOWFLAKE.literal("\\n"), BIGQUERY.literal("it's"))
        'it''s' '\\n' 'it\x27s'
        """
        return f"'{''.join(self.escapes.get(sign, sign) for sign in text)}'"

    def format(self, day: str) -> str:
        """Return a text with strptime's format of a date as the database writes it.

        Examples
        --------
        >>> print(POSTGRESQL.format("%d.%m.%YT%H:%M"), BIGQUERY.format("%d.%m.%Y %H:%M:%S.%f"))
        'DD.MM.YYYY"T"HH24:MI' '%d.%m.%Y %H:%M:%E*S'
        """
        if letters := self.letters:
            day = re.sub(r"%(\w)", lambda one: letters[one[1]], day.replace("T%H", '"T"%H'))
        elif self is BIGQUERY:
            day = day.replace("%S.%f", "%E*S")
        return self.literal(day)


DUCKDB = Dialect(parsed="strptime({0}, {1})::DATE")
SQLITE = Dialect(day="date({0})", days="CAST(julianday({1}) - julianday({0}) AS INTEGER)")
POSTGRESQL = Dialect(plain=r"[a-z_][a-z0-9_]*", parsed="to_date({0}, {1})", letters=TO_CHAR, days="{1} - {0}")
SNOWFLAKE = Dialect(  # a backslash begins an escape; names without quotes are upper case
    plain=r"[A-Z_][A-Z0-9_]*",
    escapes={"'": "''", "\\": "\\\\"},
    parsed="CAST(to_timestamp({0}, {1}) AS DATE)",
    letters=TO_CHAR | {"B": "MMMM", "f": "FF"},
    days="datediff('day', {0}, {1})",
)
BIGQUERY = Dialect(  # '' ends a text there, and an escaped quote would end it for DuckDB, which finds $as_of in queries
    quote="`",
    escapes={"'": r"\x27", "\\": "\\\\"},
    text="STRING",
    real="FLOAT64",
    parsed="DATE(parse_datetime({1}, {0}))",
    days="date_diff({1}, {0}, DAY)",
)
OF_SCHEME = {"postgresql": POSTGRESQL, "postgres": POSTGRESQL, "snowflake": SNOWFLAKE, "bigquery": BIGQUERY}
