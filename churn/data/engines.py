"""Messages for the errors of DuckDB, SQLite and warehouses, because their own texts quote customers' values.

Each function completes a sentence such as `source.sql does not run: …`. A name that a text quotes is repeated only
where the statement has it as an identifier: then it comes from the code, not from a row.
"""

import re
from collections.abc import Iterable

from churn.core.errors import MEMORY, SPILLED, no_space_to_spill
from churn.data.duckdb_helpers import file_fault, tokens

MISSING_COLUMN = (
    r'Referenced column "([^"]+)"|have a column named "([^"]+)"|Column "([^"]+)" in \w+ list'
    r'|Column "([^"]+)" referenced that exists in the SELECT clause'  # a missing column whose name is its alias
    r'|no such column: (\S+)|column "?([^\s"]+)"? does not exist'
    r"|invalid identifier '([^']+)'|Unrecognized name: `?([^\s`;]+)|Name (\S+) not found inside"
)
NAMED = (  # where the texts quote a name, and what is wrong with it: with the name, and without
    (MISSING_COLUMN, "the column {} does not exist", "a column does not exist"),
    (
        r'Table with name (\S+) does not exist|Referenced table "([^"]+)" not found|no such table: (\S+)'
        r'|relation "([^"]+)" does not exist|FROM-clause entry for table "([^"]+)"'
        r"|(?:Object|Table) '([^']+)' does not exist|Not found: Table (\S+) was not found|Table \"([^\"]+)\" must be",
        "the table {} does not exist",
        "a table does not exist",
    ),
    (
        r"""[Ss]chema (?:with name )?["']?([^\s"']+)["']? does not exist""",
        "the schema {} does not exist",
        "a schema does not exist",
    ),
    (
        r"Function with name (\S+) does not exist|no such function: (\S+)|function ([^\s(]+)\(.*\) does not exist"
        r"|argument types '([^\s(]+)\(|arguments to function (\w+)\(|[Uu]nknown function (\w+)"
        r"|Function not found: ([^\s;]+)",
        "the function {} does not exist, or not for such arguments",
        "a function or an operator does not exist for such arguments",
    ),
    (r'[Tt]ype (?:with name )?"?([^\s"]+)"? does not exist', "the type {} does not exist", "a type does not exist"),
    (
        r'Ambiguous reference to column name "([^"]+)"|ambiguous column name: (\S+)'
        r'|column reference "([^"]+)" is ambiguous',
        "the column {} is in more than one table",
        "a column is in more than one table",
    ),
    (
        r'column "([^"]+)" must appear in the GROUP BY clause',
        "the column {} is neither grouped nor aggregated",
        "a column is neither grouped nor aggregated",
    ),
    (
        r'syntax error at or near "([^"]+)"|near "([^"]+)": syntax error|Syntax error: .*"([^"]+)"'
        r"|syntax error line .* unexpected '([^']+)'",
        "there is a syntax error at {}",
        "there is a syntax error",
    ),
)
REFUSED = "a function refuses a value"
VALUES = (  # what is wrong with a value, by what the texts have in common; none of the value itself
    (
        r"Values were not provided|Binding \d+ has no name|value for binding parameter",
        "it has a parameter, which nothing sets",
    ),
    (r"[Dd]ivision by zero", "a value is divided by zero"),
    (r"(?i)out of range|overflow", "a number is out of range"),
    (r"invalid input syntax for type|invalid input value for enum", "a value cannot be converted as it asks"),
    (r"Could not parse string|for \"[YMDHSI]+\"|date/time", "a value is no date or time of the format it asks for"),
    (r"(?i)json", "a value is no valid JSON, or a path does not fit it"),
    (r"(?i)missing \)|regular expression|regex", "a regular expression is invalid"),
    (r"(?i)more than one row returned|sub-?select returns", "a sub-query gives more than one row"),
    (r"(?i)too large|too big|maximum", "a value is too large"),
)
DUCKDB = {  # by the kind with which DuckDB's texts begin
    "Conversion Error": "a value cannot be converted as it asks",
    "Out of Range Error": "a number is out of range",
    "Parser Error": "there is a syntax error",
    "Syntax Error": "there is a syntax error",
    "Binder Error": "its columns, functions and types do not fit together",
    "Catalog Error": "a name in it does not exist",
    "Permission Error": "it may not do that: it accesses files, settings or extensions",
    "Not implemented Error": "it asks for something that DuckDB cannot do",
    "Constraint Error": "a constraint is broken",
    "Out of Memory Error": f"the memory does not suffice: {MEMORY}",
    "Invalid Input Error": REFUSED,
}
SQLITE = {  # by SQLite's own name of the error
    "SQLITE_READONLY": "it writes, and the source is opened read-only",
    "SQLITE_CORRUPT": "the file is damaged",
    "SQLITE_NOTADB": "the file is damaged",
    "SQLITE_BUSY": "another process has locked the file",
    "SQLITE_LOCKED": "another process has locked the file",
    "SQLITE_CANTOPEN": "the file cannot be opened",
    "SQLITE_TOOBIG": "a value is too large",
    "SQLITE_FULL": "No space left on device",
}
POSTGRESQL = (  # by the beginning of the SQLSTATE, the longest first
    ("22012", "a value is divided by zero"),
    ("22003", "a number is out of range"),
    ("22P02", "a value cannot be converted as it asks"),
    ("22P03", "a column has another type in the table"),
    ("22007", "a value is no date or time of the format it asks for"),
    ("22008", "a number is out of range"),
    ("2201B", "a regular expression is invalid"),
    ("42501", "the user has no permission for that"),
    ("42601", "there is a syntax error, or more than one statement"),
    ("42P02", "it has a parameter, which nothing sets"),
    ("57014", "the statement was cancelled"),
    ("21", "a sub-query gives more than one row"),
    ("22", REFUSED),
    ("23", "a constraint of the table is broken"),
    ("25", "it writes, in a read-only transaction"),
    ("40", "another transaction is in its way"),
    ("42", "its columns, functions and types do not fit together"),
    ("53100", "the server's disk is full"),
    ("53", "the server lacks resources"),
    ("54", "a value is too large"),
    ("55", "another session has locked what it reads"),
    ("P0", "a function of the database raised an error"),
)
CONNECTION = (  # why libpq does not connect
    (r"password authentication failed|Peer authentication|authentication failed", "password authentication failed"),
    (r"no password supplied", "no password supplied"),
    (r"database \"[^\"]*\" does not exist", "the database does not exist"),
    (r"role \"[^\"]*\" does not exist", "the user does not exist"),
    (
        r"no pg_hba.conf entry|not permitted to log in|permission denied",
        "the server does not admit this user",
    ),
    (r"translate host name", "the host's name is unknown"),
    (r"Connection refused", "Connection refused"),
    (r"timeout expired|timed out", "timeout expired"),
    (r"(?i)ssl|certificate", "the server and this machine agree on no SSL"),
    (r"too many|remaining connection slots", "the server has too many connections"),
    (r"starting up|shutting down|recovery", "the server is starting up or shutting down"),
    (r"service \"[^\"]*\" not found", "PGSERVICE names no service of the service file"),
    (r"invalid (connection option|URI|integer|port)", "the URL has an invalid part"),
    (r"unreachable|No route", "the network has no route to it"),
)
LOST = r"PQgetCopyData|closed the connection|terminating connection|not receive data|connection .*(lost|closed)"


def identifiers(sql: str) -> dict[str, str]:
    """Return a statement's words and quoted names, as it spells them, by their lower case."""
    words = [text.strip() for kind, text in tokens(sql) if kind in ("identifier", "keyword")]
    names = [word[1:-1].replace('""', '"') if word.startswith(('"', "`")) else word for word in words]
    return {name.lower(): name for name in names}


def _named(text: str, pattern: str, sql: str) -> tuple[bool, str | None]:
    """Return whether a text has the pattern, and the name that it quotes, as the statement spells it, if it does."""
    if not (found := re.search(pattern, text)):
        return False, None
    known, name = identifiers(sql), next(filter(None, found.groups()), "")
    if name.lower() in known and name in sql:  # an alias may spell it otherwise
        return True, name
    parts = [known.get(part.strip('"`').lower()) for part in re.split("[.:]", name)]
    return True, known.get(name.lower()) or (".".join(map(str, parts)) if all(parts) else parts[-1])


def name_fault(text: str, sql: str) -> str | None:
    """Return what is wrong with a name, if an error's text is about one."""
    for pattern, words, nameless in NAMED:
        matches, name = _named(text, pattern, sql)
        if matches:
            return words.format(name) if name else nameless
    return None


def missing_column(text: str, sql: str) -> str | None:
    """Return the column that `sql` names and that does not exist, if an error's text is about one."""
    return _named(text, MISSING_COLUMN, sql)[1]


def duckdb_fault(error: BaseException, sql: str) -> str:
    """Return what DuckDB found wrong while it ran `sql`."""
    text = str(error)
    kind, _, message = text.partition(": ")
    if SPILLED in text:
        return no_space_to_spill()
    if kind == "IO Error":
        return file_fault(error)
    words = name_fault(text, sql) if kind in ("Binder Error", "Catalog Error", "Parser Error") else None
    if kind == "Invalid Input Error":
        words = _first(VALUES, message)
    if kind == "Conversion Error":
        _, name = _named(message, r'(?m)when casting from source column "?([^"\n]+?)"?$', sql)
        words = f"a value of {name} cannot be converted as it asks" if name else None
    return (words or DUCKDB.get(kind, "DuckDB failed")) + _line(text, sql)


def sqlite_fault(error: BaseException, sql: str) -> str:
    """Return what SQLite found wrong while it ran `sql`."""
    text, code = str(error), str(getattr(error, "sqlite_errorname", ""))
    known = next((words for name, words in SQLITE.items() if code.startswith(name)), None)
    if known is None and "one statement at a time" in text:
        known = "it is more than one statement"
    if known is None and re.search("incomplete input|unrecognized token", text):
        known = "there is a syntax error"
    if known is None and "decode to UTF-8" in text:
        known = "a value is no text in UTF-8"
    return known or name_fault(text, sql) or _first(VALUES, text) or "SQLite refuses it, or a value in it"


def postgresql_fault(error: BaseException, sql: str) -> str:
    """Return what PostgreSQL, or its driver, found wrong while it ran `sql`, or why it cannot be reached."""
    text, state = str(error), str(getattr(error, "sqlstate", None) or "")
    if "Failed to connect" in text:
        return _first(CONNECTION, text) or "the server does not answer as PostgreSQL does"
    if re.search(LOST, text):
        return "the connection was lost"
    named = name_fault(text, sql) if state.startswith("42") or not state else None
    known = next((words for start, words in POSTGRESQL if state.startswith(start)), None)
    if named or known:
        return (named or str(known)) + _line(text, sql)
    if "in target table" in text:
        return "the table has other columns than those that are written"
    return _first(VALUES, text.partition("\n")[0]) or (f"its error is {state}" if state else REFUSED)


def _first(kinds: Iterable[tuple[str, str]], text: str) -> str | None:
    return next((words for pattern, words in kinds if re.search(pattern, text)), None)


def _line(text: str, sql: str) -> str:
    """Return the line of a statement of several lines that a text points at."""
    found, lines = re.search(r"^LINE (\d+):", text, re.MULTILINE), sql.count("\n") + 1
    return f" (line {found[1]})" if found and lines > 1 and 1 <= int(found[1]) <= lines else ""
