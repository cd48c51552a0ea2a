"""The text of source.sql: one SELECT in the source's dialect that gives the contract's columns."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property

from churn.adopting.column import Column, cleaned
from churn.adopting.columns import unused
from churn.adopting.dialects import Dialect
from churn.adopting.readings import NUMBER
from churn.core.errors import number_of


@dataclass(frozen=True)
class Plan:
    """What init was told and has found: where the customers come from, and the role of each column."""

    place: str  # fetch.source
    dialect: Dialect
    relation: str  # what the query reads from
    key: Column  # without a name in the source where group and time make it
    group: Column | None
    time: Column | None
    label: Column
    churned: str  # the label of a churner, and that of a stayer
    stayed: str
    features: Sequence[Column]
    left_out: dict[str, str]  # the reason by name
    meanings: dict[str, str]  # of a missing value, by name
    as_of: date | None
    periods: dict[str, int]  # prepare.time, empty without a time
    days: dict[str, tuple[int, int]]  # of a date before the day of its row: the fewest and the most, by name
    churn_rate: float

    @cached_property
    def names(self) -> dict[str, str]:
        """The feature that each column gives, by the column's name: a date gives the days since then."""
        names = {one.name: one.name for one in self.features if one.kind != "date"}
        taken = {*names, *(one.name for one in (self.key, self.group, self.time, self.label) if one)}
        for one in self.features:
            if one.kind == "date":
                name = unused(f"days_since_{re.sub('_(date|day|on|at)$', '', one.name)}", taken)
                names[one.name] = name
                taken.add(name)
        return names


def label_sql(label: Column, churned: str, stayed: str, dialect: Dialect) -> str:
    """Return the SQL of the label: 1 for a churner, 0 for a stayer, and NULL for a new spelling."""
    sql = dialect.name(label.source)
    if label.stored == "BOOLEAN":
        positive, negative = (sql, f"NOT {sql}") if churned == "true" else (f"NOT {sql}", sql)
        return f"CASE WHEN {positive} THEN 1 WHEN {negative} THEN 0 END"
    if (churned, stayed) == ("1", "0"):
        return cleaned(label, sql, dialect)
    is_plain = not label.is_text and all(re.fullmatch(NUMBER, one) for one in (churned, stayed))
    one, other = (churned, stayed) if is_plain else map(dialect.literal, (churned, stayed))
    return f"CASE {cleaned(label, sql, dialect)} WHEN {one} THEN 1 WHEN {other} THEN 0 END"


def day_sql(column: Column, dialect: Dialect) -> str:
    """Return the SQL of a date."""
    sql = cleaned(column, dialect.name(column.source), dialect)
    return dialect.parsed.format(sql, dialect.format(column.day)) if column.day else dialect.day.format(sql)


def feature_sql(column: Column, plan: Plan) -> str:
    """Return the SQL of a feature: of a date the days before the day of the row, or of the data."""
    if column.kind != "date":
        return cleaned(column, plan.dialect.name(column.source), plan.dialect)
    until = day_sql(plan.time, plan.dialect) if plan.time else "$as_of"
    return plan.dialect.days.format(day_sql(column, plan.dialect), until)


def evidence(column: Column) -> str:
    """Return what is remarkable in how the source spells a column, as a comment, or nothing."""
    told = []
    if column.separators:
        told.append(f"{column.separators[0]!r} between thousands, {column.separators[1]!r} before decimals")
    if column.units and column.kind in ("integer", "number"):
        told.append(f"{column.units[0]!r} beside each number")
    if column.minus and column.kind in ("integer", "number"):
        told.append(f"{column.minus} is 5 below zero")
    if column.day:
        told.append(f"dates as {column.day}")
    if column.lower:
        told.append("spellings that differ by case alone")
    if column.padded:
        told.append("blanks around values")
    if column.kind == "category" and column.like == "numbers" and column.unlike:
        told.append(f"a category, because {number_of(column.unlike, 'rows')} have no number")
    if spelled := [one for one in column.markers if one]:
        told.append(f"missing is spelled {', '.join(map(repr, spelled))}")
    return f" -- {'; '.join(told)}" if told else ""


def source_sql(plan: Plan) -> str:
    """Return the text of source.sql."""
    selected = [(_key_sql(plan), plan.key.name, " -- blanks around values" if plan.key.padded else "")]
    if plan.group:
        selected.append((_named_row(plan.group, plan.dialect), plan.group.name, ""))
    if plan.time:
        selected.append((day_sql(plan.time, plan.dialect), plan.time.name, ""))
    selected.append((label_sql(plan.label, plan.churned, plan.stayed, plan.dialect), plan.label.name, ""))
    selected += [(feature_sql(one, plan), plan.names[one.name], evidence(one)) for one in plan.features]
    lines = list(_selected(selected, plan.dialect))
    notes = [f"-- Left out: {name}: {reason}." for name, reason in plan.left_out.items()]
    head = [
        "-- Maps the source's columns to those of contract.yaml; `python -m churn init` wrote it. Columns of a CSV are",
        "-- text. Each result is cast to the contract's type, so a new spelling is an error.",
    ]
    where = [f"WHERE {day_sql(plan.time, plan.dialect)} <= $as_of"] if plan.time else []
    return "\n".join([*head, *notes, "SELECT", *lines, f"FROM {plan.relation}", *where]) + "\n"


def _named_row(column: Column, dialect: Dialect) -> str:
    """Return the SQL of a key or a group."""
    sql = dialect.name(column.source)
    return f"trim({sql})" if column.padded else sql


def _key_sql(plan: Plan) -> str:
    """Return the SQL of the key, of the customer and the day where no column has another value in each row."""
    if plan.key.source or not plan.group or not plan.time:
        return _named_row(plan.key, plan.dialect)
    customer, day = _named_row(plan.group, plan.dialect), day_sql(plan.time, plan.dialect)
    return f"CAST({customer} AS {plan.dialect.text}) || '/' || CAST({day} AS {plan.dialect.text})"


def _selected(expressions: Iterable[tuple[str, str, str]], dialect: Dialect) -> Iterable[str]:
    """Yield the lines of the SELECT."""
    every = list(expressions)
    for number, (sql, name, note) in enumerate(every):
        alias = "" if sql == dialect.alias(name) else f" AS {dialect.alias(name)}"
        yield f"    {sql}{alias}{',' if number < len(every) - 1 else ''}{note}"
