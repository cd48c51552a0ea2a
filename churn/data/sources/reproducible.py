"""Refuses a query that cannot give the same rows again: the clock, chance, a sample, a setting of the session.

The words of DuckDB, SQLite, PostgreSQL, Snowflake and BigQuery count for every source, because another engine lacks the
function or means the same by it. A quoted name, a column such as `random` or `t.now`, a text and a comment do not.
"""

import re

from churn.core.errors import StageError
from churn.data.duckdb_helpers import tokens

WORDS = frozenset(  # without brackets; in SQL some of them are reserved
    re.findall(
        r"\w+",
        "current_date current_time current_timestamp current_datetime localtime localtimestamp sysdate systimestamp",
    )
)
FUNCTIONS = WORDS | frozenset(
    re.findall(
        r"\w+",
        """
        now today getdate getutcdate sysdatetime transaction_timestamp statement_timestamp clock_timestamp timeofday
        current_localtime current_localtimestamp get_current_time get_current_timestamp utc_date utc_time utc_timestamp
        random rand randn randstr randomblob random_normal setseed uniform normal zipf seq1 seq2 seq4 seq8
        uuid uuidv1 uuidv4 uuidv7 uuid_string gen_random_uuid gen_random_bytes generate_uuid newid
        uuid_generate_v1 uuid_generate_v1mc uuid_generate_v4 nextval currval lastval setval
        txid_current current_transaction_id current_connection_id current_query_id pg_backend_pid pg_current_xact_id
        pg_current_wal_lsn getvariable current_setting
        """,
    )
)
NOW = frozenset(("now", "today", "tomorrow", "yesterday"))  # texts that a date type or function reads as the clock
DATES = frozenset(re.findall(r"\w+", "date datetime time timetz timestamp timestamptz timestamp_tz timestamp_ltz"))
SQLITE_CLOCKS = frozenset(["date", "datetime", "time", "julianday", "unixepoch", "strftime", "timediff"])
EMPTY_CLOCKS = SQLITE_CLOCKS - {"strftime", "timediff"}  # the clock where they have no argument
CASTS = frozenset(("cast", "try_cast", "safe_cast"))
SAMPLES = frozenset(("bernoulli", "system", "block", "row"))
SUBJECT = ("identifier", "keyword")

Token = tuple[str, str]  # the kind, and the text as it compares: lower case, with the quotes of a quoted name


def refuse_irreproducible(sql: str, query: str, *, ordered: bool) -> None:
    """Raise StageError for a query whose rows change from run to run, although its tables do not.

    Parameters
    ----------
    sql
        One SELECT in the source's dialect.
    query
        Its name in messages.
    ordered
        Whether the source keeps the order of its rows, so that LIMIT takes the same ones each time. A server does not.

    Examples
    --------
    >>> refuse_irreproducible("SELECT random, t.now, 'now()' FROM t -- now()", "source.sql", ordered=True)
    >>> refuse_irreproducible("SELECT id FROM source WHERE day < Now()", "source.sql", ordered=True)
    Traceback (most recent call last):
    churn.core.errors.StageError: source.sql uses Now(), which changes from run to run: use $as_of for the day \
(fetch.as_of in params.yaml), and a condition on the key for a sample.
    """
    line, found, spelled = 1, list[Token](), list[tuple[str, int]]()
    for kind, text in tokens(sql):
        if kind != "comment":
            word = text.strip()
            found.append((kind, word.lower()))
            spelled.append((word, line + text[: len(text) - len(text.lstrip())].count("\n")))
        line += text.count("\n")
    if (place := _first(found)) is not None:
        number, called = place
        word, line = spelled[number]
        at = f", line {line}," if "\n" in sql.strip() else ""
        raise StageError(
            f"{query}{at} uses {word}{'()' if called else ''}, which changes from run to run: use $as_of for the day"
            " (fetch.as_of in params.yaml), and a condition on the key for a sample."
        )
    if not ordered and _cuts(found):
        raise StageError(
            f"{query} has LIMIT without ORDER BY, so the server may give other rows at each run: order them by the key."
        )


def _first(found: list[Token]) -> tuple[int, bool] | None:
    """Return the first token that is not reproducible, and whether it is a function that is called."""
    calls: list[tuple[int, bool]] = []  # of each open bracket: the token before it, and whether it has a comma
    for number, (kind, word) in enumerate(found):
        before, after = _at(found, number - 1), _at(found, number + 1)
        if word == "(":
            calls.append((number - 1, False))
        elif word == ")" and calls:
            opened, comma = calls.pop()
            if opened >= 0 and found[opened][0] in SUBJECT:
                name, empty = found[opened][1], opened == number - 2
                # The age of one argument is that at today's date.
                if (name in EMPTY_CLOCKS and empty) or (name == "age" and not comma and not empty):
                    return opened, True
        elif word == "," and calls:
            calls[-1] = (calls[-1][0], True)
        elif kind in SUBJECT and before not in ("as", "with", "recursive"):
            if word in FUNCTIONS and after == "(":
                return number, True
            if word in WORDS and before != "." and after != "." and kind != "keyword":
                return number, False
            if word == "tablesample" or (word == "sample" and _is_sample(found, number)):
                return number, False
        elif kind == "string_const" and word.strip("'") in NOW and _is_clock(found, number, calls):
            return number, False
    return None


def _at(found: list[Token], number: int) -> str:
    return found[number][1] if 0 <= number < len(found) else ""


def _is_sample(found: list[Token], number: int) -> bool:
    """Return whether the word sample begins a sample, and is no name of a table or a column."""
    if (before := _at(found, number - 1)) == "using":
        return True
    of_table = before == ")" or (found[number - 1][0] == "identifier" if number else False)
    return of_table and (_at(found, number + 1) == "(" or _at(found, number + 1) in SAMPLES)


def _is_clock(found: list[Token], number: int, calls: list[tuple[int, bool]]) -> bool:
    """Return whether a text such as 'now' is read as a date: by a type, a cast, or a function of SQLite."""
    before, after, then = _at(found, number - 1), _at(found, number + 1), _at(found, number + 2)
    if before in DATES or (after == "::" and then in DATES):
        return True
    inside = _at(found, calls[-1][0]) if calls and calls[-1][0] >= 0 else ""
    return inside in SQLITE_CLOCKS or (inside in CASTS and after == "as" and then in DATES)


def _cuts(found: list[Token]) -> bool:
    """Return whether LIMIT, FETCH FIRST or TOP takes some rows where no ORDER BY in the same brackets says which."""
    scopes = [[False, False]]  # of each open bracket: whether some rows are taken, and whether they are ordered
    for number, (kind, word) in enumerate(found):
        before, after = _at(found, number - 1), _at(found, number + 1)
        if word == "(":
            scopes.append([False, False])
        elif word == ")" and len(scopes) > 1:
            if scopes.pop() == [True, False]:
                return True
        elif kind == "keyword" and word == "order":
            scopes[-1][1] = True
        elif (
            (kind == "keyword" and word == "limit" and after not in ("0", "all", "null"))
            or (kind == "keyword" and word == "fetch" and after in ("first", "next"))
            or (word == "top" and before in ("select", "distinct") and after.isdigit())
        ):
            scopes[-1][0] = True
    return [True, False] in scopes
