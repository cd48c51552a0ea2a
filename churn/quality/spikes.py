"""Spikes: values that far more rows have than the values beside them, as a filled missing value leaves one.

docs/adapt.md, "Spikes", has the rule and its limits.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import isclose
from typing import Annotated

from churn.config.params import StrictModel

import duckdb
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


def spikes_of(database: duckdb.DuckDBPyConnection, values: Mapping[str, str], rows: int) -> dict[str, list[Spike]]:
    """Return the spikes of each number among the `rows` of the view `customers`, in ascending order.

    `values` has the SQL of each number by name. The values of a number are counted where many rows share a hash, which
    spares grouping by millions of distinct values where no value is frequent.
    """
    crowded = _crowded(database, values, rows)
    return {name: list(_spikes(database, value, rows)) for name, value in values.items() if name in crowded}


def _crowded(database: duckdb.DuckDBPyConnection, values: Mapping[str, str], rows: int) -> set[str]:
    """Return the numbers of which a bucket of hashes has as many rows as a spike has."""
    if not values:
        return set()
    buckets = [
        f"SELECT {number} FROM (SELECT hash({value}) % {BUCKETS} AS bucket FROM customers WHERE {value} IS NOT NULL)"
        f" GROUP BY bucket HAVING count(*) > {LISTED * rows}"
        for number, value in enumerate(values.values())
    ]
    names = list(values)
    return {names[number] for (number,) in database.execute(" UNION ".join(buckets)).fetchall()}


def _spikes(database: duckdb.DuckDBPyConnection, value: str, rows: int) -> Iterator[Spike]:
    """Yield each value whose rows exceed LISTED after BESIDE times the second largest of its four neighbours."""
    frequent = database.execute(
        f"""
        WITH counted AS MATERIALIZED (
            SELECT {value} AS value, count(*) AS has FROM customers WHERE {value} IS NOT NULL GROUP BY 1
        )
        SELECT one.value, one.has, max_by(other.has, other.value, 2) FILTER (other.value < one.value),
            min_by(other.has, other.value, 2) FILTER (other.value > one.value)
        FROM (FROM counted WHERE has > {LISTED * rows}) one, counted other
        GROUP BY ALL HAVING count(*) > {FEW} ORDER BY 1
        """
    ).fetchall()
    for number, has, below, above in frequent:
        _, second, *_ = sorted([*(below or ()), *(above or ())], reverse=True)
        if (left := has - BESIDE * second) > LISTED * rows:
            yield Spike(value=number, share=round(has / rows, 6), unexplained=round(left / rows, 6))


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
