"""Compares the values of customers that main knows, and counts near-duplicates across the training table and holdout.

docs/gate.md, "Values", has the limits. Results are counts and shares: no key, no value.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from pathlib import Path

from churn.config.contract import Contract
from churn.core.errors import number_of
from churn.core.paths import CONTRACT, TEST, TRAIN
from churn.data.duckdb_helpers import SQL_TYPES, cast, identifier, in_chunks, parquet_views
from churn.quality.profile_checks import REACH, standard_error
from report.data import AgainCount, DataChange, LabelChanges, TwinCount
from report.faults import Fault

import duckdb
import pyarrow as pa

TOGETHER = 100  # counts in a query
NOTED = 0.05  # of main's customers: from here on a column without a limit is named in a warning
COLUMNS_NOTED = 5
TWINS = 0.05  # of the holdout, beyond main's share and chance
AGAIN = 0.01  # of all customers may be main's again, under another key
GRID = 50  # steps of ln(1 + number): twins differ by 2 % at most, and a cent moves 1 of 40 across a step
APPROVAL = "or let a code owner approve the reason"


def customer_changes(
    main: Path, theirs: Contract, ours: Contract, rekeyed: pa.Table, names: Mapping[str, str]
) -> tuple[LabelChanges, dict[str, int]]:
    """Return what became of main's customers and labels here, and for each feature how many have another value.

    Read from the prepared tables, because a feature function may compute a column. `rekeyed` has the keys that are
    others here, `before` and `after`; `names` the features that have another name, by main's. Numbers count as equal
    in single precision, because another order of a sum changes the last digits. Raises StageError when a table cannot
    be read.
    """
    features = _shared(theirs, ours, names)
    differ = [
        f"count(*) FILTER (after.__key IS NOT NULL AND {_value('before', before, kind)} IS DISTINCT FROM"
        f" {_value('after', after, kind)})"
        for before, after, kind in features
    ]
    of_labels = [
        *("count(*) FILTER (after.__key IS NULL)", "sum(before.__label) FILTER (after.__key IS NULL)"),
        *("count(after.__key)", "sum(before.__label) FILTER (after.__key IS NOT NULL)"),
        "count(*) FILTER (after.__label > before.__label)",
        "count(*) FILTER (after.__label < before.__label)",
    ]
    before, after = (_customers(side, contract) for side, contract in (("before", theirs), ("after", ours)))
    with parquet_views(_files(main)) as database:
        database.register("rekeyed", rekeyed)
        counts = [
            int(count or 0)
            for some in in_chunks([*of_labels, *differ], TOGETHER)
            for count in database.execute(
                f"SELECT {', '.join(some)} FROM ({before}) before LEFT JOIN rekeyed ON before.__key = rekeyed.before"
                f" LEFT JOIN ({after}) after ON after.__key = coalesce(rekeyed.after, before.__key)"
                " WHERE before.__label IS NOT NULL"
            ).fetchall()[0]
        ]
    labels, values = counts[: len(of_labels)], counts[len(of_labels) :]
    return LabelChanges(*labels), {after: count for (_, after, _), count in zip(features, values, strict=True)}


def twins(main: Path, theirs: Contract, ours: Contract, names: Mapping[str, str]) -> tuple[TwinCount, TwinCount] | None:
    """Return how many customers of the holdout have a near-duplicate in the training table, on main and here.

    A near-duplicate is equal in all features that both sides have; numbers are equal on a grid of 2 %. None where no
    feature is shared.
    """
    if not (features := _shared(theirs, ours, names)):
        return None
    counts = []
    with parquet_views(_files(main)) as database:
        for side, place in (("before", 0), ("after", 1)):
            content = ", ".join(coarse(feature[place], feature[2]) for feature in features)
            counted = f"SELECT count(*) FROM {side}_"
            twin = f"{counted}test WHERE hash({content}) IN (SELECT hash({content}) FROM {side}_train)"
            counts.append(database.execute(f"SELECT ({twin}), ({counted}test), ({counted}train)").fetchall()[0])
    before, after = (TwinCount(*count) for count in counts)
    return before, after


def again(
    main: Path, theirs: Contract, ours: Contract, rekeyed: pa.Table, names: Mapping[str, str]
) -> AgainCount | None:
    """Return how many new customers have a near-duplicate among those that main knows, and how many are expected to.

    None where a customer has several rows, because these are alike, and where no feature is shared.
    """
    if ours.group or not (features := _shared(theirs, ours, names)):
        return None
    columns = [coarse(after, kind) for _, after, kind in features]
    with parquet_views(_files(main)) as database:
        database.register("rekeyed", rekeyed)
        before, after = (_customers(side, contract) for side, contract in (("before", theirs), ("after", ours)))
        rows = f"""
            WITH here AS (
                SELECT {kinds(columns)}, hash({", ".join(columns)}) AS content,
                    __key IN (SELECT __key FROM ({before}) UNION ALL SELECT after FROM rekeyed) AS known
                FROM ({after})
            ), contents AS (SELECT content, count(*) AS has FROM here WHERE known GROUP BY content)
            SELECT here.*, coalesce(has, 0) > known::INTEGER AS alike FROM here LEFT JOIN contents USING (content)
        """
        new, new_alike, known, known_alike = database.execute(
            "SELECT count(*) FILTER (NOT known), count(*) FILTER (NOT known AND alike), count(*) FILTER (known),"
            f" count(*) FILTER (known AND alike) FROM ({rows})"
        ).fetchall()[0]
        count = AgainCount(new, new_alike, known, known_alike / max(known, 1))
        if list(_again_faults(count)):
            count = count._replace(expected=expected_alike(database, rows, len(columns)))
    return count


def kinds(columns: Sequence[str]) -> str:
    """Return the SQL of columns as `expected_alike` finds them."""
    return ", ".join(f"{column} AS __{place}" for place, column in enumerate(columns))


def expected_alike(database: duckdb.DuckDBPyConnection, rows: str, columns: int) -> float:
    """Return which share of the new rows is alike, if each is as often so as the known ones of its kind.

    `rows` is the SQL of all rows, with `known`, `alike` and `kinds`. New customers are of the first month, in which
    customers are more alike than later. So a kind is a value of one column, and of another one with it: of those
    columns that make the share largest. Copies of known customers stay beyond it, because they are of no such kind.
    """
    database.execute(f"CREATE TEMP TABLE likeness AS {rows}")

    def share(*by: int) -> float:
        grouped = ", ".join(f"__{place}" for place in by)
        (found,) = database.execute(
            f"""
            SELECT sum(new * alike / nullif(known, 0)) / sum(new)
            FROM (
                SELECT count(*) FILTER (NOT known) AS new, count(*) FILTER (known) AS known,
                    count(*) FILTER (known AND alike) AS alike
                FROM likeness GROUP BY {grouped or "()"}
            )
            """
        ).fetchall()[0]
        return float(found or 0.0)

    places = range(columns)
    best = max(places, key=share, default=0)
    return max([share(), *(share(best, place) for place in places)])


def _shared(theirs: Contract, ours: Contract, names: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Return the features of both sides: the name on main, the name here, and the type here."""
    pairs = [(name, names.get(name, name)) for name in theirs.features]
    return [(before, after, ours.columns[after].type) for before, after in pairs if after in ours.features]


def _files(main: Path) -> dict[str, Path]:
    sides = {"before": main, "after": Path()}
    return {f"{side}_{path.stem}": root / path for side, root in sides.items() for path in (TRAIN, TEST)}


def _customers(side: str, contract: Contract) -> str:
    """Return the SQL of all customers of a side, whose key, as text, and label have the same names on both sides."""
    key = f"{cast(contract.key, contract.columns[contract.key].type)}::VARCHAR"
    return " UNION ALL BY NAME ".join(
        f"SELECT *, {key} AS __key, {cast(contract.label, 'integer')} AS __label FROM {side}_{path.stem}"
        for path in (TRAIN, TEST)
    )


def _value(side: str, name: str, kind: str) -> str:
    return f"TRY_CAST({side}.{identifier(name)} AS {'FLOAT' if kind == 'number' else SQL_TYPES[kind]})"


def coarse(name: str, kind: str) -> str:
    """Return the SQL of a value as near-duplicates share it."""
    value = cast(name, kind)
    return f"round(sign({value}) * ln(1 + abs({value})) * {GRID})" if kind in ("integer", "number") else value


def value_faults(change: DataChange, contract: Contract) -> Iterator[Fault]:
    """Yield a fault where more of main's customers changed than the contract allows, and where twins came up."""
    known = change.labels.kept if change.labels else 0
    for name, limit in contract.rules.changes.items():
        changed, allowed = change.values.get(name, 0), ceil(limit * known)
        # protection: known customers keep their values
        if changed > allowed:
            yield Fault(
                f"{name} changed for {changed:,} of the {known:,} customers that main knows ({changed / known:.1%}),"
                f" where {CONTRACT}: rules.changes allows {allowed:,}: look for another unit, an ELSE or a default,"
                f" {APPROVAL}",
                "values",
                (name,),
            )
    if change.twins:
        before, after = change.twins
        grown = min(1.0, before.share * max(1.0, after.training / max(before.training, 1)))
        # protection: no more near-duplicates than on main
        if beyond_chance(after.share, grown, after.holdout, before.holdout):
            yield Fault(
                f"{number_of(after.twins, 'customers')} of the holdout have a near-duplicate in the training table"
                f" ({after.share:.1%}, on main {before.share:.1%}): look for customers with several keys, {APPROVAL}",
                "duplicates",
                ("holdout",),
            )
    if change.again:
        yield from _again_faults(change.again)


def _again_faults(count: AgainCount) -> Iterator[Fault]:
    """Yield a fault where customers that main knows came again under other keys, beyond chance."""
    new, alike, known, expected = count
    if not new or not known:
        return
    # protection: customers that main knows are not new
    if alike - expected * new > AGAIN * (new + known) and beyond_chance(alike / new, expected, new, known):
        yield Fault(
            f"{alike:,} of the {new:,} new customers have a near-duplicate among those that main knows"
            f" ({alike / new:.1%}, and {expected:.1%} are expected): look for customers with several keys, {APPROVAL}",
            "duplicates",
            ("new",),
        )


def beyond_chance(share: float, expected: float, rows: float, others: float, least: float = TWINS) -> bool:
    """Return whether a share of `rows` is larger than that `expected` of `others`, by `least` and beyond chance."""
    return share > expected + least + REACH * standard_error(expected, share, others, rows)


def value_notes(change: DataChange | None, contract: Contract) -> Iterator[str]:
    """Yield a sentence on the columns without a limit that changed for many of main's customers."""
    known = change.labels.kept if change and change.labels else 0
    changed = change.values if change else {}
    many = [
        f"{name} for {count / known:.1%}"
        for name, count in sorted(changed.items(), key=lambda one: -one[1])
        if count > NOTED * known and name not in contract.rules.changes
    ]
    if many:
        more = f" and {len(many) - COLUMNS_NOTED} more columns" if len(many) > COLUMNS_NOTED else ""
        yield (
            f"Values of the {known:,} customers that main knows changed: {', '.join(many[:COLUMNS_NOTED])}{more};"
            f" {CONTRACT}: rules.changes can set a limit"
        )


def spike_notes(theirs: Contract, ours: Contract, names: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each declared spike of a new feature: nobody has reviewed its reason yet."""
    for name, spikes in ours.rules.spikes.items():
        if name not in theirs.columns and name not in names.values():
            for value, reason in spikes.items():
                yield f"{name} is a new feature, and many customers share its value {value:.10g}: {reason}"
