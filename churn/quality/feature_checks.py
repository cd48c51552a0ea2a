"""Features from which no model learns: empty, constant, and duplicated ones.

Only features that the profile shows to be alike, by their moments or the share of each value, are compared row by row.
So a thousand columns, or ten million rows, cost nothing more.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import reduce
from operator import xor

from churn.config.contract import Contract
from churn.core.paths import CONTRACT, PROFILE
from churn.data.duckdb_helpers import identifier
from churn.data.reducing import Database, rows_of, totals
from churn.quality.profile import FeatureProfile, Profile
from churn.quality.profile_checks import BOTH_TABLES
from churn.quality.row_checks import Finding

LEAVE_OUT = f"leave it out of the query and {CONTRACT}"


def feature_findings(
    database: Database, contract: Contract, reference: Profile, now: Profile
) -> tuple[list[Finding], list[str]]:
    """Return the empty features, and those that became constant or equal to another since `reference`; and notes.

    A note is a sentence on a feature that is constant or a copy in `reference` as well, or new. `database` has the
    views `train` and `test`, which `now` describes.
    """
    findings, notes = [], []
    for name, feature in now.features.items():
        if feature.missing > 0.5 and contract.columns[name].nullable and not _has_values(database, name):
            sentence = f"{name} is missing in every row of the training table, and no model can use it: {LEAVE_OUT}"
            findings.append(Finding("train", "empty", name, now.rows, 1.0, sentence))
        if now.rows > 1 and _may_be_constant(feature) and _is_constant(database, name):
            before = reference.features.get(name)
            sentence = f"{name} has the same value in every row"
            if before and not _may_be_constant(before):
                sentence += f", and other values in {PROFILE}: look at what fills it in the query"
                findings.append(Finding(BOTH_TABLES, "constant", name, now.rows, 1.0, sentence))
            else:
                notes.append(f"{sentence}, and no model learns from it: {LEAVE_OUT}")
    for name, other in _duplicates(database, contract, now):
        one, another = reference.features.get(name), reference.features.get(other)
        sentence = f"{name} equals {other} in every row"
        if one and another and _content(one) != _content(another):
            sentence += f", and not in {PROFILE}: look at what fills it in the query"
            findings.append(Finding(BOTH_TABLES, "duplicate", name, now.rows, 1.0, sentence))
        else:
            notes.append(f"{sentence}, and adds nothing to it: {LEAVE_OUT}")
    return findings, notes


def _may_be_constant(feature: FeatureProfile) -> bool:
    """Return whether a feature can be constant, by its profile, whose numbers are rounded."""
    if feature.missing:
        return False
    return feature.std == 0 if feature.std is not None else sum(one.share > 0 for one in feature.bins) == 1


def _is_constant(database: Database, name: str) -> bool:
    value = identifier(name)
    both = f"SELECT {value} AS value FROM train UNION ALL SELECT {value} AS value FROM test"
    ends = [value for row in rows_of(database, f"SELECT min(value), max(value) FROM ({both})") for value in row]
    return len({*ends} - {None}) == 1


def _has_values(database: Database, name: str) -> bool:
    return bool(totals(database, f"SELECT count({identifier(name)}) FROM train")[0])


def _duplicates(database: Database, contract: Contract, now: Profile) -> Iterator[tuple[str, str]]:
    """Yield each feature that equals an earlier one of its type in every row, with that one; constants are left out."""
    alike: dict[object, list[str]] = defaultdict(list)
    for name, feature in now.features.items():
        if not _may_be_constant(feature) and feature.missing < 1:
            kind = contract.columns[name].type
            alike["number" if kind == "integer" else kind, _content(feature)].append(name)
    for names in alike.values():
        if len(names) > 1:
            first: dict[int, str] = {}
            for name, content in zip(names, _hashes(database, contract, names), strict=True):
                if first.setdefault(content, name) != name:
                    yield name, first[content]


def _content(feature: FeatureProfile) -> object:
    """Return what of a feature's profile is the same in a copy; the edges of a number's bins may be the reference's."""
    if feature.std is not None:
        return feature.missing, feature.mean, feature.std
    return feature.missing, tuple((one.name, one.share, one.label_rate) for one in feature.bins)


def _hashes(database: Database, contract: Contract, names: Sequence[str]) -> Sequence[int]:
    """Return a hash of each column's values with their keys, whatever the order of the rows."""
    # Hashed twice, because DuckDB joins the hashes of two values by XOR, which any order of the values leaves as it is.
    number = {name: contract.columns[name].type in ("integer", "number") for name in names}
    values = {name: f"{identifier(name)}::DOUBLE" if number[name] else identifier(name) for name in names}
    key = identifier(contract.key)
    hashes = ", ".join(f"coalesce(bit_xor(hash(hash({key}, __v{place}))), 0)" for place in range(len(names)))
    rows = f"SELECT {key}, {', '.join(f'{value} AS __v{place}' for place, value in enumerate(values.values()))}"
    found = rows_of(database, f"SELECT {hashes} FROM ({rows} FROM train UNION ALL {rows} FROM test)")
    return [reduce(xor, some) for some in zip(*found, strict=True)]
