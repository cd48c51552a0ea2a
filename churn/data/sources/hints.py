"""What to write in the query where values do not fit their type, by the shape of these values.

A message names a value only if it is one of YES, NO or MISSING, which say nothing about a customer.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

from churn.core.errors import closest
from churn.data.duckdb_helpers import identifier, literal, tokens

YES = frozenset(("yes", "y", "true", "t", "ja", "j", "oui", "o", "si", "sí", "sim", "on", "wahr", "vrai"))
NO = frozenset(("no", "n", "false", "f", "nein", "non", "não", "nao", "off", "falsch", "faux"))
MISSING = frozenset(("n/a", "na", "#n/a", "null", "none", "nan", "-", "--", "?", ".", "unknown", "missing"))
NUMBERS = ("integer", "number", "label")
COMMA = r"[+-]?\d+,\d+"  # 12,5
GROUPS = r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?"  # 1,234.50
POINTS = r"[+-]?\d{1,3}(?:\.\d{3})+(?:,\d+)?"  # 1.234,50
DATES = {  # by the shape: the words, and the formats that may be meant
    r"\d{1,2}\.\d{1,2}\.\d{4}": ("day.month.year", ("%d.%m.%Y",)),
    r"\d{1,2}\.\d{1,2}\.\d{2}": ("day.month.year", ("%d.%m.%y",)),
    r"\d{1,2}/\d{1,2}/\d{4}": ("with slashes", ("%d/%m/%Y", "%m/%d/%Y")),
    r"\d{1,2}-\d{1,2}-\d{4}": ("with hyphens", ("%d-%m-%Y", "%m-%d-%Y")),
    r"\d{4}/\d{1,2}/\d{1,2}": ("year/month/day", ("%Y/%m/%d",)),
    r"\d{4}\.\d{1,2}\.\d{1,2}": ("year.month.day", ("%Y.%m.%d",)),
    r"\d{4}-\d{1,2}-\d{1,2}": ("without leading zeros", ("%Y-%m-%d",)),
    r"\d{8}": ("yearmonthday", ("%Y%m%d",)),
}
DAY = r"\d{4}-\d\d-\d\d"
TIME = rf"{DAY}[T ]\d\d:\d\d.*"
FRACTION, MONEY = r"[+-]?\d*\.\d+", r"(?=.*[€$£¥%])[€$£¥]? ?[+-]?\d[\d.]* ?[€$£¥%]?"
WIDE, FLAG = r"[+-]?\d{19,}", r"[01]\.0+"  # an integer beyond 64 bits, and a boolean that pandas wrote beside nulls
SQLITE = "sqlite"  # in the place of a URL's scheme
PLACES = {"postgresql": "to_date", "postgres": "to_date", "snowflake": "to_date", "bigquery": "parse_date"}
FLOATS = {"postgresql": "DOUBLE PRECISION", "postgres": "DOUBLE PRECISION", "bigquery": "FLOAT64"}
COLUMNS_SHOWN, EXPRESSION = 3, 60  # of a message


def hints(values: Mapping[str, Collection[str]], types: Mapping[str, str], sql: str, query: str, scheme: str) -> str:
    """Return what to write in the query, a sentence that begins with a blank, or nothing where no shape is known.

    Parameters
    ----------
    values
        The distinct values that do not fit, by column.
    types
        The contract's types by column; that of its label is `label`.
    sql, query
        The query and its name.
    scheme
        That of the source's URL, SQLITE for such a file, or '' for any other: it decides the dialect.

    Examples
    --------
    >>> hints({"fee": ["12,5"]}, {"fee": "number"}, "SELECT Fee AS fee FROM source", "source.sql", "")
    " In source.sql write replace(Fee, ',', '.') AS fee (decimal commas)."
    """
    found = []
    for name, some in values.items():
        expression, line = source_of(name, sql)
        if hint := _hint(expression, some, types[name], scheme):
            rewritten, words = hint
            at = f"line {line}: " if line else ""
            found.append(f"{rewritten} AS {_name(name)} ({at}{words})")
    more = f"; and likewise for {len(found) - COLUMNS_SHOWN} more" if len(found) > COLUMNS_SHOWN else ""
    return f" In {query} write {'; '.join(found[:COLUMNS_SHOWN])}{more}." if found else ""


def conversion_hint(column: str, values: Sequence[str], kind: str) -> str | None:
    """Return what to write, in DuckDB's SQL, for a column whose values a query cannot convert to one of SQL's types.

    Examples
    --------
    >>> conversion_hint("signup", ["24.11.2026"], "DATE")
    "strptime(signup, '%d.%m.%Y')::DATE for signup (dates, day.month.year)"
    """
    x = _name(column)
    ours = {"BOOLEAN": "boolean", "DOUBLE": "number", "BIGINT": "integer", "DATE": "date"}[kind]
    hint = _hint(x, values, ours, "")
    return f"{hint[0]} for {x} ({hint[1]})" if hint else None


def source_of(name: str, sql: str) -> tuple[str, int | None]:
    """Return the expression that a query gives a name to, and its line in a query of several; else the name."""
    # Of each open bracket: the item of a SELECT that is being read, and all of its text.
    items: list[list[tuple[str, int]]] = [[]]
    texts, given, line = [""], list[list[tuple[str, int]]](), 1
    for kind, text in [*tokens(sql), ("operator", ",")]:
        word = text.strip()
        texts[-1] += text if kind != "comment" else " "
        if word == "(":
            items.append([])
            texts.append(text)
        elif word == ")" and len(items) > 1:
            items.pop()
            inside = texts.pop()
            items[-1].append((inside, line - inside.count("\n")))
            texts[-1] += inside.removeprefix("(")
        elif kind == "keyword" and word.lower() in ("select", "distinct", "all"):
            items[-1] = []
        elif word == "," or (kind == "keyword" and word.lower() == "from"):
            given.append(items[-1])
            items[-1] = []
        elif kind != "comment":
            items[-1].append((text, line))
        line += text.count("\n")
    for item in reversed(given):
        words = [text.strip() for text, _ in item]
        if not words or _plain(words[-1]) != name.lower():
            continue
        named = len(words) > 2 and words[-2].lower() == "as"
        if named or len(words) == 1 or words[-2] == ".":
            expression = "".join(text for text, _ in (item[:-2] if named else item)).strip()
            short = " ".join(expression.split())
            return (short if len(short) <= EXPRESSION else _name(name)), item[0][1] if "\n" in sql.strip() else None
    return _name(name), None


def nearest(name: str, others: Iterable[str]) -> str | None:
    """Return the name among others that is most like a missing one: by case, blanks and signs, or by a few letters.

    Examples
    --------
    >>> nearest("customerID", ["Customer ID", "gender"]), nearest("Churn", ["Churned?"]), nearest("tenure", ["city"])
    ('"Customer ID"', '"Churned?"', None)
    """
    close = closest(name, others, 0.7)
    return _name(close) if close else None


def date_sql(scheme: str, expression: str, form: str) -> str:
    """Return the SQL that reads a date of a format, in the dialect of a source: a URL's scheme, or '' for a file."""
    function = PLACES.get(scheme)
    if function == "parse_date":
        return f"parse_date({literal(form)}, {expression})"
    if function:
        for ours, theirs in {"%d": "DD", "%m": "MM", "%Y": "YYYY", "%y": "YY"}.items():
            form = form.replace(ours, theirs)
        return f"to_date({expression}, {literal(form)})"
    return f"strptime({expression}, {literal(form)})::DATE"


def _hint(x: str, values: Collection[str], kind: str, scheme: str) -> tuple[str, str] | None:
    """Return the expression that reads the values, and the words for them; x is the present one."""
    rest = [value.strip() for value in values]
    filled = [value for value in rest if value]
    placeholders = sorted({value for value in filled if value.lower() in MISSING})
    filled = [value for value in filled if value.lower() not in MISSING]
    words = []
    if len(rest) > len(filled) + len(placeholders) or "" in rest:
        x, words = f"nullif(trim({x}), '')", ["empty texts"]
    for value in placeholders:
        x = f"nullif({x}, {literal(value)})"
    words += [f"texts such as {placeholders[0]}"] if placeholders else []
    if filled:
        if kind == "date":
            absent = any(re.fullmatch(DAY, value) for value in filled)  # such as 2026-02-30
            hint = None if absent else _of_dates(x, filled, scheme)
        else:
            hint = _of_flags(x, filled, kind)
        if hint is None and kind in NUMBERS:
            hint = _of_numbers(x, filled, kind, scheme)
        if hint is None and kind == "label":
            hint = f"CASE {x} WHEN … THEN 1 WHEN … THEN 0 END", "the label is 0 or 1"
        if hint is None:
            return None
        x, words = hint[0], [*words, hint[1]]
    return (x, " and ".join(words)) if words else None


def _of_flags(x: str, values: Collection[str], kind: str) -> tuple[str, str] | None:
    lower = {value.lower() for value in values}
    if kind == "boolean" and all(re.fullmatch(FLAG, value) for value in values):
        return f"CAST({x} AS INTEGER)", "numbers with a decimal point"
    if not lower <= YES | NO or kind == "number":
        return None
    one, zero = ("1", "0") if kind in NUMBERS else ("true", "false")
    said = sorted(set(values), key=lambda value: (value.lower() in NO, value))
    cases = " ".join(f"WHEN {literal(value)} THEN {one if value.lower() in YES else zero}" for value in said)
    return f"CASE {x} {cases} END", "texts for yes and no"


def _of_numbers(x: str, values: Sequence[str], kind: str, scheme: str) -> tuple[str, str] | None:
    def fit(*patterns: str) -> bool:
        return all(any(re.fullmatch(one, value) for one in patterns) for value in values)

    if dates := _of_dates(x, values, scheme):
        forms = {"bigquery": "date_diff($as_of, {}, DAY)", SQLITE: "julianday($as_of) - julianday({})"}
        return forms.get(scheme, "$as_of - {}").format(dates[0]), f"days since one of {dates[1]}"
    bare = f"regexp_replace({x}, '[^0-9.+-]', '', 'g')"
    if scheme not in ("", "postgresql", "postgres"):  # whose function has other arguments, or is not there
        bare = x
        for sign in sorted({*"".join(values)} & {*"€$£¥% "}):
            bare = f"replace({bare}, {literal(sign)}, '')"
    known = (
        ((GROUPS,), f"replace({x}, ',', '')", "commas between thousands"),
        ((COMMA,), f"replace({x}, ',', '.')", "decimal commas"),
        ((COMMA, POINTS), f"replace(replace({x}, '.', ''), ',', '.')", "decimal commas, and points between thousands"),
        (
            (FRACTION if kind == "integer" else "",),
            f"round(CAST({x} AS {FLOATS.get(scheme, 'DOUBLE')}))",
            "fractions; or declare the type number",
        ),
        (
            (WIDE if kind == "integer" else "",),
            f"CAST({x} AS VARCHAR)",
            "integers beyond 64 bits: declare a key the type string, a feature the type number",
        ),
        ((MONEY,), bare, "a currency or a unit"),
    )
    found = next(((sql, words) for patterns, sql, words in known if fit(*patterns)), None)
    if found and fit(GROUPS) and fit(COMMA):  # such as 1,234 alone
        return found[0], f"{found[1]}; of decimal commas replace({x}, ',', '.')"
    return found


def _of_dates(x: str, values: Collection[str], scheme: str) -> tuple[str, str] | None:
    """Return the SQL that reads dates, and the words for their format."""
    for pattern, words in ((DAY, "dates"), (TIME, "dates with a time")):
        if values and all(re.fullmatch(pattern, value) for value in values):
            return (f"date({x})" if scheme == SQLITE else f"CAST({x} AS DATE)"), words
    if scheme == SQLITE:  # which reads no other form
        return None
    for pattern, (words, forms) in DATES.items():
        if values and all(re.fullmatch(pattern, value) for value in values):
            fit = [form for form in forms if _fits_all(values, form)] or [forms[0]]
            also = f"; or {literal(fit[1])}" if len(fit) > 1 else ""
            return date_sql(scheme, x, fit[0]), f"dates, {words}{also}"
    return None


def _fits_all(values: Collection[str], form: str) -> bool:
    try:
        return all(datetime.strptime(value, form) for value in values)
    except ValueError:
        return False


def _plain(word: str) -> str:
    return word[1:-1].replace('""', '"').lower() if word.startswith('"') else word.lower()


def _name(name: str) -> str:
    """Return a name as SQL takes it: in quotes, where it has a sign or is a word of SQL."""
    plain = bool(re.fullmatch(r"[^\W\d]\w*", name)) and [kind for kind, _ in tokens(name)] == ["identifier"]
    return name if plain else identifier(name)
