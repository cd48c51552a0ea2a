"""The reference profile of the customers, which is committed beside the contract.

`python -m churn profile` (`make profile`) writes profile.json from both prepared tables: for each feature the share of
missing values, the mean and deviation of a number, and for each bin of its values (between deciles of a number, each
value of anything else) the share of customers in it and the share of those that churned. Spikes of a number are listed;
a new one enters by its reason in contract.yaml. Aggregates alone: no key, no row.
"""

import argparse
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from math import floor, log10, sqrt
from pathlib import Path
from typing import Annotated, Any, Self

from churn.config.contract import Contract, load_contract
from churn.config.memory import limit_duckdb
from churn.config.params import LOCAL, Compute, Share, StrictModel, load_params, read_settings
from churn.core.errors import StageError, number_of
from churn.core.files import write_json
from churn.core.paths import PROFILE, TEST, TRAIN
from churn.data.duckdb_helpers import SQL_TYPES, identifier, in_chunks, literal
from churn.data.reducing import Database, defined, grouped, rows_of, totals, types_of, views
from churn.quality.deciles import deciles_of
from churn.quality.leakage import out_of_fold_area, ranked_area
from churn.quality.spikes import Spike, new_spikes, spike_sentence, spikes_of

from pydantic import Field, model_validator

FLOAT_NOISE = 1e-12  # of a mean: the deviation of a constant is smaller, by rounding
LARGEST = 1e150  # of the numbers that are described: the square of a larger one is no number
TOGETHER = 32  # features in a query: the memory of its grouping sets grows with the square of their number
LABEL = "__label"  # a name that no column of a contract has
MISSING, UNLISTED = -1, -2  # the numbers of the bins beside those that have a name


ShareOrAll = Annotated[float, Field(ge=0, le=1)]
Counts = dict[int, tuple[int, int, int | None]]  # by bin: the customers, those with a label, the churners


class Bin(StrictModel):
    """A bin of a feature's values: its share of the customers, and the share of those in it that churned."""

    name: str
    share: ShareOrAll
    label_rate: ShareOrAll | None


class FeatureProfile(StrictModel):
    """A feature: its share of missing values, its bins, and where it is a number their upper edges, mean, deviation."""

    missing: ShareOrAll
    bins: tuple[Bin, ...]
    edges: tuple[float, ...] = ()
    mean: float | None = None
    std: Annotated[float, Field(ge=0)] | None = None
    spikes: tuple[Spike, ...] = ()
    # Of a category whose own churn rates rank too well: its ROC AUC with those of other customers. Not in the file.
    out_of_fold: Annotated[float | None, Field(exclude=True)] = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if any(edge >= after for edge, after in pairwise(self.edges)):
            raise ValueError("the edges do not ascend: `make profile` writes them anew")
        return self


class Profile(StrictModel):
    """The reference: how many customers, which share of them churned, and each feature by name."""

    rows: Annotated[int, Field(gt=0, lt=2**63)]
    label_rate: Share
    features: dict[str, FeatureProfile]


def load_profile(path: Path = PROFILE) -> Profile:
    """Read the profile. Raises StageError when it is missing or no profile."""
    if not path.exists():
        raise StageError(f"{path} does not exist: `make profile` writes it from the prepared tables.")
    return read_settings(path, Profile)


def profile_of(database: Database, contract: Contract, like: Profile | None = None) -> Profile:
    """Return the profile of all customers, in two passes for TOGETHER features and one or two for each number's spikes.

    Parameters
    ----------
    database : duckdb.DuckDBPyConnection or PartitionedViews
        Has the views `train` and `test`.
    contract : Contract
        The features. One that a table lacks, or has in another type, is left out.
    like : Profile, optional
        Numbers get its bins, so that both profiles can be compared. By default the bins are deciles.

    Returns
    -------
    Profile
        Shares of the rows and of the churners in each bin, rounded to six places. There are no shares of churners
        where a label is another number than 0 and 1.
    """
    tables = [types_of(database, table) for table in ("train", "test")]
    there = [
        name
        for name in (contract.label, *contract.features)
        if all(columns.get(name) == SQL_TYPES[contract.columns[name].type] for columns in tables)
    ]
    label = identifier(contract.label) if contract.label in there else "NULL"
    names = [name for name in there if name != contract.label]
    both = f"(SELECT {label} AS {LABEL} FROM train UNION ALL SELECT {label} AS {LABEL} FROM test)"
    counts = f"count(*), count({LABEL}), sum({LABEL}), count(*) FILTER ({LABEL} NOT IN (0, 1))"
    rows, labelled, churned, coded = totals(database, f"SELECT {counts} FROM {both}")
    if coded:  # of labels other than 0 and 1 the mean is no rate, see row_checks.py
        label, labelled = "NULL", 0
    features: dict[str, FeatureProfile] = {}
    # Each query on a view reads the whole schema again, which takes as long as the query where the table is wide.
    for some in in_chunks(names, TOGETHER):
        columns = ", ".join([f"{label} AS {LABEL}", *map(identifier, some)])
        both = f"SELECT {columns} FROM train UNION ALL SELECT {columns} FROM test"
        with defined(database, "customers", both, kept=len(names) > TOGETHER):
            features |= _features(database, contract, some, rows, like)
    known = contract.label in there and all(contract.customer in columns for columns in tables)
    for name in contract.features_of("category") if known else ():
        area = single_feature_roc_auc(features[name]) if name in features else 0.5
        if area > contract.rules.max_single_feature_roc_auc:
            measured = out_of_fold_area(database, name, contract)
            features[name] = features[name].model_copy(update={"out_of_fold": measured})
    rate = churned / labelled if labelled else 0
    return Profile(rows=rows, label_rate=_rounded(min(max(rate, 1e-6), 1 - 1e-6)), features=features)


def single_feature_roc_auc(feature: FeatureProfile) -> float:
    """Return the ROC AUC of ranking customers by the churn rate of their bin alone, 0.5 where nothing is known."""
    if feature.out_of_fold is not None:
        return feature.out_of_fold
    rated = [(one.label_rate, one.share) for one in feature.bins if one.label_rate is not None]
    area = ranked_area((rate, share * rate, share * (1 - rate)) for rate, share in rated)
    return 0.5 if area is None else area


def _features(
    database: Database, contract: Contract, names: Sequence[str], rows: int, like: Profile | None
) -> dict[str, FeatureProfile]:
    """Return some features of the `rows` customers in `customers`, by name."""
    numbers = [name for name in names if contract.columns[name].type in ("integer", "number")]
    values = {name: _number(name, contract) for name in numbers}
    moments = _moments(database, values)
    edges = {name: like.features[name].edges for name in numbers if name in like.features} if like else {}
    deciles = deciles_of(database, {name: value for name, value in values.items() if name not in edges})
    edges |= {name: tuple(sorted({float(f"{one:.4g}") for one in some})) for name, some in deciles.items()}
    counted = _counted(database, {name: _bin_code(name, edges.get(name), contract) for name in names})
    spikes = spikes_of(database, values, rows)
    return {
        name: _feature(
            _bin_names(name, edges.get(name), contract), counted[name], edges.get(name, ()), moments.get(name)
        ).model_copy(update={"spikes": tuple(spikes.get(name, ()))})
        for name in names
    }


def _number(name: str, contract: Contract) -> str:
    """Return the SQL of a number, NULL where it is not finite, or so large that its square is not."""
    sql = identifier(name)
    return f"if(abs({sql}) < {LARGEST}, {sql}, NULL)" if contract.columns[name].type == "number" else sql


def _moments(database: Database, values: Mapping[str, str]) -> dict[str, tuple[float | None, float | None]]:
    """Return the mean and the deviation of each number."""
    described = [f"count({value}), avg({value}), stddev_pop({value})" for value in values.values()]
    rows = rows_of(database, f"SELECT {', '.join([*described, 'NULL'])} FROM customers")
    return {name: pooled_moments([row[3 * at : 3 * at + 3] for row in rows]) for at, name in enumerate(values)}


def pooled_moments(parts: Sequence[tuple[int, float | None, float | None]]) -> tuple[float | None, float | None]:
    """Return the mean and the deviation of all partitions, of the count, the mean and the deviation of each.

    Examples
    --------
    >>> pooled_moments([(2, 1.5, 0.5), (0, None, None), (2, 3.5, 0.5)])
    (2.5, 1.118033988749895)
    """
    there = [(count, mean, std) for count, mean, std in parts if mean is not None and std is not None]
    if len(there) < 2:
        return there[0][1:] if there else (None, None)
    rows = sum(count for count, _, _ in there)
    mean = sum(count * one for count, one, _ in there) / rows
    return mean, sqrt(sum(count * (std**2 + (one - mean) ** 2) for count, one, std in there) / rows)


def _bin_code(name: str, edges: Sequence[float] | None, contract: Contract) -> str:
    """Return the SQL of the number of a value's bin: MISSING where there is none, and UNLISTED for a category."""
    if edges is not None:
        value = _number(name, contract)
        upto = "".join(f" WHEN {value} <= {edge!r} THEN {number}" for number, edge in enumerate(edges))
        return f"CASE WHEN {value} IS NULL THEN {MISSING}{upto} ELSE {len(edges)} END"
    column, sql = contract.columns[name], identifier(name)
    values = map(literal, column.values) if column.values else ("false", "true")
    listed = "".join(f" WHEN {sql} = {value} THEN {number}" for number, value in enumerate(values))
    return f"CASE WHEN {sql} IS NULL THEN {MISSING}{listed} ELSE {UNLISTED} END"


def _bin_names(name: str, edges: Sequence[float] | None, contract: Contract) -> Sequence[str]:
    if edges is None:
        return contract.columns[name].values or ("false", "true")
    return [f"up to {edge:g}" for edge in edges] + ([f"above {edges[-1]:g}"] if edges else ["all"])


def _counted(database: Database, codes: Mapping[str, str]) -> dict[str, Counts]:
    """Return for each feature, by the number of its bin, how many customers, labels and churners are in it."""
    counted: dict[str, Counts] = {name: {} for name in codes}
    columns = [f"__b{number}" for number in range(len(codes))]  # no column of a contract
    binned = ", ".join(f"{code} AS {column}" for code, column in zip(codes.values(), columns, strict=True))
    sets = ", ".join(f"({column})" for column in columns)
    for *bins, rows, labelled, churned in grouped(
        database,
        f"SELECT {', '.join(columns)}, count(*), count({LABEL}), sum({LABEL}) FROM (SELECT *, {binned} FROM customers)"
        f" GROUP BY GROUPING SETS ({sets})",
        keys=len(codes),
    ):
        for name, number in zip(codes, bins, strict=True):
            if number is not None:  # of the set that this row is of; no code is NULL
                counted[name][number] = (rows, labelled, churned)
    return counted


def _feature(
    names: Sequence[str], counted: Counts, edges: Sequence[float], moments: tuple[float | None, float | None] | None
) -> FeatureProfile:
    """Return a feature with a bin for each of `names`, and one for what is missing if anything is."""
    total = max(sum(rows for rows, *_ in counted.values()), 1)

    def bin_of(name: str, number: int) -> Bin:
        rows, labelled, churned = counted.get(number, (0, 0, None))
        return Bin(name=name, share=_rounded(rows / total), label_rate=_rounded(churned and churned / labelled))

    bins, missing = [bin_of(name, number) for number, name in enumerate(names)], bin_of("missing", MISSING)
    mean, std = _rounded_moments(*moments or (None, None))
    return FeatureProfile(
        missing=missing.share,
        bins=tuple([*bins, missing] if missing.share else bins),
        edges=tuple(edges),
        mean=mean,
        std=std,
    )


def _rounded_moments(mean: float | None, std: float | None) -> tuple[float | None, float | None]:
    """Return a mean and a deviation with six places, or as many as give a small deviation six digits."""
    if mean is None or std is None:
        return None, None
    std = std if std > FLOAT_NOISE * abs(mean) else 0.0
    places = max(6, 5 - floor(log10(std))) if std else 6
    return round(mean, places), round(std, places)


def _rounded(value: Any) -> Any:
    return None if value is None else round(float(value), 6)


def customers_profile(contract: Contract, like: Profile | None = None, compute: Compute = LOCAL) -> Profile:
    """Return the profile of both prepared tables. Raises StageError when one cannot be read, or lacks a label."""
    tables, label = {"train": TRAIN, "test": TEST}, identifier(contract.label)
    with views(tables, compute, "cannot be read: run `dvc repro prepare` first") as database:
        for table, path in tables.items():
            if types_of(database, table).get(contract.label) != SQL_TYPES["integer"]:
                raise StageError(
                    f"{path} has no {contract.label}, a column of integers: run `dvc repro prepare` first."
                )
            (wrong,) = totals(database, f"SELECT count(*) FILTER (({label} IN (0, 1)) IS NOT TRUE) FROM {table}")
            if wrong:
                raise StageError(
                    f"{path}: {contract.label} is neither 0 nor 1 in {number_of(wrong, 'rows')}: let the query give 1"
                    " for churn and 0 for none, then run `dvc repro prepare`."
                )
        return profile_of(database, contract, like)


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    return argparse.ArgumentParser(prog="python -m churn profile", description=f"Write {PROFILE} from both tables.")


def is_foreign(profile: Profile, contract: Contract) -> bool:
    """Return whether a profile describes other customers: it has less than half of the contract's features."""
    return 2 * sum(name in profile.features for name in contract.features) < len(contract.features)


def known_spikes(profile: Profile, before: Profile, contract: Contract) -> Profile:
    """Return `profile` without the spikes that neither `before` has nor the contract declares; print those."""
    features = dict(profile.features)
    for name, feature in profile.features.items():
        known = before.features[name].spikes if name in before.features else ()
        new = new_spikes(feature.spikes, known, contract.rules.spikes.get(name, {}))
        for spike in new:
            print(f"profile: not recorded: {spike_sentence(name, spike, known)}")
        features[name] = feature.model_copy(update={"spikes": tuple(one for one in feature.spikes if one not in new)})
    return profile.model_copy(update={"features": features})


def main(_: argparse.Namespace) -> None:
    """Write the profile of the prepared tables; the first of a table has all spikes, later ones those with a reason."""
    params, contract = load_params(), load_contract()
    limit_duckdb(params)
    profile = customers_profile(contract, compute=params.compute)
    with suppress(StageError):  # a file that cannot be read is replaced
        if not is_foreign(before := load_profile(), contract):
            profile = known_spikes(profile, before, contract)
    write_json(PROFILE, profile.model_dump(mode="json", exclude_none=False))
    described = f"{profile.rows:,} {contract.unit}, {len(profile.features)} features"
    print(f"profile: {PROFILE}, {described}; review and commit it")
