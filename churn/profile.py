"""What the customers look like: the reference profile that is committed beside the contract, and what strays from it.

`python -m churn.profile` (`make profile`) writes profile.json from both prepared tables: for each feature the share of
missing values, the mean and deviation of a number, and for each bin of its values (between deciles of a number, each
value of anything else) the share of customers in it and the share of those that churned. Aggregates alone: no key, no
row.
"""

import sys
from collections.abc import Iterator, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

from churn.contract import Contract, load_contract
from churn.duck import SQL_TYPES, connection, identifier, literal
from churn.params import Section, Share, read_settings
from churn.rules import Finding
from churn.stage import TEST, TRAIN, StageError, write_json

import duckdb

PROFILE = Path("profile.json")
RENEW = f"`make profile` renews {PROFILE}, to be reviewed and committed"
TABLES = "train and test"
LEAST_SHARE = 0.01  # of a category that is called new, or vanished
REACH = 4.0  # standard errors that chance may take on top of a tolerance: of a hundred bins, none strays by chance


class Bin(Section):
    """A bin of a feature's values: its share of the customers, and the share of those in it that churned."""

    name: str
    share: float
    label_rate: float | None


class FeatureProfile(Section):
    """A feature: its share of missing values, its bins, and where it is a number their upper edges, mean, deviation."""

    missing: float
    bins: tuple[Bin, ...]
    edges: tuple[float, ...] = ()
    mean: float | None = None
    deviation: float | None = None


class Profile(Section):
    """The reference: how many customers, which share of them churned, and each feature by name."""

    rows: int
    label_rate: Share
    features: dict[str, FeatureProfile]


def load_profile(path: Path = PROFILE) -> Profile:
    """Read the profile. Raises StageError when it is missing or no profile."""
    if not path.exists():
        raise StageError(f"{path} does not exist: `make profile` writes it from the prepared tables.")
    return read_settings(path, Profile)


def profile_of(database: duckdb.DuckDBPyConnection, contract: Contract, like: Profile | None = None) -> Profile:
    """Return the profile of the customers in the views `train` and `test`, its bins those of `like` where it has them.

    Features that a table lacks, or has in another type, are left out.
    """
    tables = [
        {name: kind for name, kind, *_ in database.execute(f"DESCRIBE {table}").fetchall()}
        for table in ("train", "test")
    ]
    there = [
        name
        for name in (contract.label, *contract.features)
        if all(columns.get(name) == SQL_TYPES[contract.columns[name].type] for columns in tables)
    ]
    columns = ", ".join(map(identifier, there))
    database.execute(
        f"CREATE OR REPLACE TEMP VIEW customers AS SELECT {columns} FROM train UNION ALL SELECT {columns} FROM test"
    )
    label = identifier(contract.label) if contract.label in there else "NULL"
    rows, rate = database.execute(f"SELECT count(*), avg({label}) FROM customers").fetchall()[0]
    features = {
        name: _feature(database, name, contract, like.features.get(name) if like else None)
        for name in there
        if name != contract.label
    }
    return Profile(rows=rows, label_rate=_rounded(min(max(rate or 0, 1e-6), 1 - 1e-6)), features=features)


def _feature(
    database: duckdb.DuckDBPyConnection, name: str, contract: Contract, like: FeatureProfile | None
) -> FeatureProfile:
    column, sql, label = contract.columns[name], identifier(name), identifier(contract.label)
    edges: tuple[float, ...] = ()
    mean = deviation = None
    if column.type in ("integer", "number"):
        value = f"if(isfinite({sql}), {sql}, NULL)" if column.type == "number" else sql
        deciles = "[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]"
        quantiles = "NULL" if like else f"quantile_disc({value}, {deciles})"
        given: Any = database.execute(
            f"SELECT avg({value}), stddev_pop({value}), {quantiles} FROM customers"
        ).fetchall()[0]
        mean, deviation = (_rounded(one) for one in given[:2])
        edges = like.edges if like else tuple(sorted({float(f"{one:.4g}") for one in given[2] or ()}))
        upto = "".join(f" WHEN {value} <= {edge!r} THEN {number}" for number, edge in enumerate(edges))
        binned = f"CASE WHEN {value} IS NULL THEN NULL{upto} ELSE {len(edges)} END"
        names = [f"up to {edge:g}" for edge in edges] + ([f"above {edges[-1]:g}"] if edges else ["all"])
        wanted: Sequence[object] = range(len(edges) + 1)
    else:
        binned = sql
        wanted = column.values or (False, True)
        names = [str(one).lower() if column.type == "boolean" else str(one) for one in wanted]
    sums = f"sum({label})" if contract.label in _columns(database) else "NULL"
    found = {
        one: (rows, churned)
        for one, rows, churned in database.execute(
            f"SELECT {binned} AS bin, count(*), {sums} FROM customers GROUP BY bin"
        ).fetchall()
    }
    total = sum(rows for rows, _ in found.values())

    def bin_of(title: str, one: object) -> Bin:
        rows, churned = found.get(one, (0, None))
        rate = None if churned is None or not rows else _rounded(churned / rows)
        return Bin(name=title, share=_rounded(rows / total) or 0.0, label_rate=rate)

    bins = [bin_of(title, one) for title, one in zip(names, wanted, strict=True)]
    missing = bin_of("missing", None)
    if missing.share:
        bins.append(missing)
    return FeatureProfile(missing=missing.share, bins=tuple(bins), edges=edges, mean=mean, deviation=deviation)


def _columns(database: duckdb.DuckDBPyConnection) -> set[str]:
    return {name for name, *_ in database.execute("DESCRIBE customers").fetchall()}


def _rounded(value: Any) -> Any:
    return None if value is None else round(float(value), 6)


def profile_findings(contract: Contract, reference: Profile, now: Profile) -> Iterator[Finding]:
    """Yield what strays from the `reference` by more than the tolerances of rules.profile and chance, and what leaks.

    Chance is REACH standard errors of the difference of two shares, or means, of as many rows as either profile has.
    """
    rules = contract.rules.profile
    if not rules.rows.min <= (ratio := now.rows / reference.rows) <= rules.rows.max:
        says = f"{now.rows:,} rows are {ratio:.2f} times the {reference.rows:,} of {PROFILE}: the source shrank or grew"
        yield _finding("rows", "", abs(ratio - 1), now, f"{says}, outside {rules.rows.min:g} to {rules.rows.max:g}")
    for name in reference.features:
        if name not in contract.features:
            yield _finding("profile", name, 1.0, now, f"{name} is in {PROFILE}, but no feature any more: {RENEW}")
    for name, here in now.features.items():
        if name not in reference.features:
            yield _finding("profile", name, 1.0, now, f"{name} is not in {PROFILE}: {RENEW}")
            continue
        there = reference.features[name]
        sizes = (reference.rows, now.rows)
        for rule, (excess, says) in _strays(name, there, here, sizes, contract).items():
            if excess > 0:
                yield _finding(rule, name, excess, now, says)
        area = single_feature_roc_auc(here, now.label_rate)
        if area > contract.rules.max_single_feature_roc_auc:
            says = (
                f"{name} alone ranks churners with a ROC AUC of {area:.3f}, more than"
                f" {contract.rules.max_single_feature_roc_auc:g}: it may know the label"
            )
            yield _finding("leakage", name, 1.0, now, says)


def _finding(rule: str, column: str, share: float, now: Profile, says: str) -> Finding:
    return Finding(TABLES, rule, column, round(min(share, 1.0) * now.rows), round(min(share, 1.0), 6), says)


def _strays(
    name: str, there: FeatureProfile, here: FeatureProfile, sizes: tuple[int, int], contract: Contract
) -> dict[str, tuple[float, str]]:
    """Return for each rule by how much more than it allows the feature strays, at its worst, and the sentence."""
    rules, worst = contract.rules.profile, dict[str, tuple[float, str]]()

    def seen(rule: str, excess: float, says: str) -> None:
        if excess > worst.get(rule, (0.0, ""))[0]:
            worst[rule] = (excess, says)

    off = abs(here.missing - there.missing) - rules.nulls - REACH * _error(there.missing, here.missing, *sizes)
    seen(
        "nulls_share", off, f"{name} is missing in {here.missing:.1%} of the rows, in {there.missing:.1%} of {PROFILE}"
    )
    if there.mean is not None and there.deviation:
        mean = here.mean if here.mean is not None else float("inf")
        off = abs(mean - there.mean) / there.deviation
        chance = REACH * sqrt(1 / sizes[0] + 1 / max(sizes[1], 1))
        says = f"the mean of {name} is {mean:.4g}, {there.mean:.4g} in {PROFILE}: {off:.1f} standard deviations off"
        seen("mean", off - rules.mean - chance, says)
    before, after, known = 0.0, 0.0, {one.name: one for one in there.bins}
    for one in here.bins:
        was = known.get(one.name, Bin(name=one.name, share=0.0, label_rate=None))
        if there.edges and one.name != "missing":
            before, after = before + was.share, after + one.share
            off = abs(after - before) - rules.quantiles - REACH * _error(before, after, *sizes)
            says = f"{after:.1%} of the rows have {name} {one.name}, {before:.1%} in {PROFILE}"
            seen("quantiles", off, says)
        elif one.name != "missing":
            off = abs(one.share - was.share) - rules.categories - REACH * _error(was.share, one.share, *sizes)
            seen(
                "categories", off, f"{name} is {one.name} in {one.share:.1%} of the rows, {was.share:.1%} in {PROFILE}"
            )
            if min(one.share, was.share) == 0 and max(one.share, was.share) >= LEAST_SHARE:
                what = "has vanished" if not one.share else "is new"
                seen("categories", 1.0, f"{name}: {one.name} {what}, {was.share:.1%} of the rows in {PROFILE}")
        if one.label_rate is not None and was.label_rate is not None:
            counts = (was.share * sizes[0], one.share * sizes[1])
            off = abs(one.label_rate - was.label_rate) - rules.label_rate
            off -= REACH * _error(was.label_rate, one.label_rate, *counts)
            says = (
                f"{one.label_rate:.1%} of the customers with {name} {one.name} churned, {was.label_rate:.1%} in"
                f" {PROFILE}"
            )
            seen("label_rates", off, says)
    return worst


def _error(one: float, other: float, rows: float, others: float) -> float:
    """Return the standard error of the difference of two shares; one more of each kind, so that it is never 0."""
    pooled = (one * rows + other * others + 1) / (rows + others + 2)
    return sqrt(pooled * (1 - pooled) * (1 / max(rows, 1) + 1 / max(others, 1)))


def single_feature_roc_auc(feature: FeatureProfile, label_rate: float) -> float:
    """Return the ROC AUC of ranking customers by the churn rate of their bin alone, 0.5 where nothing is known.

    The Mann-Whitney statistic in counts: pairs within a bin count half.
    """
    bins = sorted((one for one in feature.bins if one.label_rate is not None), key=lambda one: one.label_rate or 0.0)
    below = area = 0.0
    for one in bins:
        churned = one.share * (one.label_rate or 0.0)
        stayed = one.share - churned
        area += churned * (below + stayed / 2)
        below += stayed
    return area / (label_rate * (1 - label_rate)) if bins else 0.5


def customers_profile(contract: Contract, like: Profile | None = None) -> Profile:
    """Return the profile of both prepared tables. Raises StageError when one cannot be read."""
    with connection() as database:
        for name, path in (("train", TRAIN), ("test", TEST)):
            try:
                database.execute(f"CREATE TEMP VIEW {name} AS SELECT * FROM read_parquet({literal(str(path))})")
            except duckdb.Error as error:
                raise StageError(f"{path} cannot be read: run `dvc repro prepare` first.") from error
        return profile_of(database, contract, like)


def main() -> None:
    """Write the profile of the prepared tables."""
    profile = customers_profile(load_contract())
    write_json(PROFILE, profile.model_dump(mode="json", exclude_none=False))
    print(f"profile: {PROFILE}, {profile.rows:,} customers, {len(profile.features)} features; review and commit it")


if __name__ == "__main__":
    try:
        main()
    except StageError as fault:
        sys.exit(f"profile: {fault}")
