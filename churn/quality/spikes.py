"""Spikes: values that far more rows have than the values beside them, as a filled missing value leaves one.

docs/adapt.md, "Spikes", has the rule and its limits.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isclose
from typing import Annotated

from churn.config.params import StrictModel
from churn.data.reducing import Database, PartitionedViews, rows_of

from pydantic import Field

SPIKE = 0.05  # of the rows
LISTED = 0.025  # of the rows; profile.json lists a spike from here on, so that a small rise is no new one
BESIDE = 3  # times the rows of the values beside it are explained; 20.00 among the sample's rounded prices has 5 times
FEW = 20  # distinct values: on average each has 5 % of the rows, so none of them stands out
BUCKETS = 1024


class Spike(StrictModel):
    """A value of a number, the share of the rows that have it, and the part of that which its neighbours leave open."""

    value: float
    share: Annotated[float, Field(gt=0, le=1)]
    unexplained: Annotated[float, Field(gt=0, le=1)]


def spikes_of(database: Database, values: Mapping[str, str], rows: int) -> dict[str, list[Spike]]:
    """Return the spikes of each number among the `rows` of the view `customers`, in ascending order.

    `values` has the SQL of each number by name. The values of a number are counted where many rows share a hash, which
    spares grouping by millions of distinct values where no value is frequent.
    """
    crowded = _crowded(database, values)
    return {name: list(_spikes(database, value, rows)) for name, value in values.items() if name in crowded}


def _crowded(database: Database, values: Mapping[str, str]) -> set[str]:
    """Return the numbers of which a bucket of hashes has as many rows of a partition as a spike has of all."""
    if not values:
        return set()
    buckets = [
        f"SELECT {number} FROM (SELECT hash({value}) % {BUCKETS} AS bucket FROM customers WHERE {value} IS NOT NULL)"
        f" GROUP BY bucket HAVING count(*) > {LISTED} * (SELECT count(*) FROM customers)"
        for number, value in enumerate(values.values())
    ]
    names = list(values)
    return {names[number] for (number,) in rows_of(database, " UNION ".join(buckets))}


def _spikes(database: Database, value: str, rows: int) -> Iterator[Spike]:
    """Yield each value whose rows exceed LISTED after BESIDE times the second largest of its four neighbours."""
    counted = f"SELECT {value} AS value, count(*) AS has FROM customers WHERE {value} IS NOT NULL GROUP BY 1"
    frequent = "SELECT value, has FROM counted WHERE has > " + f"{LISTED} * (SELECT count(*) FROM customers)"
    if isinstance(database, PartitionedViews):  # a value that is frequent among all rows is so in a partition
        found = {one for one, _ in rows_of(database, f"WITH counted AS ({counted}) {frequent}")}
        if not found:
            return
        given = ", ".join(f"('{one!r}'::{'BIGINT' if isinstance(one, int) else 'DOUBLE'})" for one in sorted(found))
        frequent = (
            f"SELECT value, coalesce(has, 0) AS has FROM (VALUES {given}) given(value) LEFT JOIN counted USING (value)"
        )
    nearest = "{pick}((other.value, other.has), other.value, 2) FILTER (other.value {side} one.value)".format
    answers = rows_of(
        database,
        f"""
        WITH counted AS MATERIALIZED ({counted})
        SELECT one.value, one.has, {nearest(pick="max_by", side="<")}, {nearest(pick="min_by", side=">")},
            min(other.value, {FEW + 1})
        FROM ({frequent}) one, counted other GROUP BY ALL ORDER BY 1
        """,
    )
    for number in sorted({row[0] for row in answers}):
        has, below, above, least = zip(*(row[1:] for row in answers if row[0] == number), strict=True)
        if (total := sum(has)) > LISTED * rows and len({one for some in least for one in some}) > FEW:
            beside = [*_two_nearest(below, last=True), *_two_nearest(above, last=False)]
            _, second, *_ = sorted(beside, reverse=True)
            if (left := total - BESIDE * second) > LISTED * rows:
                yield Spike(value=number, share=round(total / rows, 6), unexplained=round(left / rows, 6))


def _two_nearest(found: Iterable[Sequence[tuple[float, int]] | None], *, last: bool) -> list[int]:
    """Return the rows of the two values that are nearest, of the two nearest ones in each partition.

    A partition that has one of both has it among its own two, because no other value lies between.
    """
    rows: Counter[float] = Counter()
    for some in found:
        rows.update(dict(some or ()))
    return [rows[value] for value in sorted(rows, reverse=last)[:2]]


def new_spikes(here: Sequence[Spike], known: Sequence[Spike], declared: Mapping[float, str]) -> list[Spike]:
    """Return the spikes that neither `known` ones nor a `declared` reason explain.

    Examples
    --------
    >>> zero = Spike(value=0, share=0.15, unexplained=0.14)
    >>> new_spikes([zero], [], {}) == [zero]
    True
    >>> new_spikes([zero], [Spike(value=0, share=0.12, unexplained=0.11)], {})
    []
    >>> new_spikes([zero], [], {0: "The customer was never billed."})
    []
    """
    before = {one.value: one.unexplained for one in known}
    return [
        one
        for one in here
        if one.unexplained - before.get(one.value, 0.0) > SPIKE
        and not any(isclose(one.value, value, rel_tol=1e-9) for value in declared)
    ]


def spike_sentence(name: str, spike: Spike, known: Sequence[Spike]) -> str:
    """Return what is wrong with a new spike of the feature `name`, and what to do."""
    before = next((f", and {one.share:.1%} in profile.json" for one in known if one.value == spike.value), "")
    return (
        f"{name} is {spike.value:.10g} in {spike.share:.1%} of the rows{before}, far more than the values beside it:"
        f" leave a missing value NULL, or give the reason in contract.yaml: rules.spikes.{name}:"
        f' {{"{spike.value:.10g}": REASON}}'
    )
