"""Compares two tables of customers: the drift of each feature, and the rows added, removed and changed.

The tables are Parquet files as fetch and prepare write them. DuckDB counts how often each value occurs and SciPy tests
the counts, so that millions of rows take seconds and memory stays bounded; Evidently holds both tables in pandas, gives
missing values no bin, and brings a web server along. Results are counts and shares: no value and no key.

    python -m stages.fetch && python -m churn drift

compares the snapshot here with the one that the default branch, or `--base COMMIT`, was trained on, and says so by its
exit status: 0 stable, 2 not to be compared, 3 drifted beyond the bounds; not 1, which is how Python ends when something
else is wrong.
"""

import argparse
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf, nan
from pathlib import Path
from typing import Literal

from churn.config.contract import Contract, load_contract
from churn.config.memory import limit_duckdb
from churn.config.params import load_params
from churn.core.cluster import scratch
from churn.core.dvc_files import copy_cached, hash_of, stages_in
from churn.core.errors import StageError
from churn.core.files import md5_of
from churn.core.git import default_branch, git
from churn.core.paths import LOCK, RAW
from churn.data.duckdb_helpers import cast, columns_of, hash_shares, identifier, in_chunks, parquet_views

import duckdb
import numpy as np
import numpy.typing as npt
from scipy.stats import chi2_contingency, kstwo

Counts = npt.NDArray[np.int64]  # shape (2, values): in the table before, and after
BINS = 10
EMPTY_BIN_SHARE = 0.0001  # as Evidently has it: with 0, one customer of a new kind is infinite drift
MODERATE, LARGE = 0.1, 0.25  # the usual bounds of a PSI (Siddiqi 2006, Credit Risk Scorecards)
BATCH = 1_000_000  # values
TOGETHER = 32  # features of a wide table that are read at once
ROWS = 128_000_000  # whose keys are compared at once: DuckDB keeps a table of their hashes on disk
TURNOVER = 0.2  # of the customers, come or gone
STABLE, DRIFTED = 0, 3  # exit statuses; argparse's own is 2


@dataclass(frozen=True)
class FeatureDrift:
    """How far a feature's distribution moved, and its share of missing values, None where a table lacks the column.

    The p-value is of a two-sample test: Kolmogorov and Smirnov's on the numbers that are there, chi-squared on anything
    else. Among many rows the slightest change is significant; the PSI says whether it is large.
    """

    name: str
    psi: float | None
    p_value: float | None
    missing_before: float | None
    missing_after: float | None

    @property
    def level(self) -> Literal["stable", "moderate", "large", "added", "removed"]:
        """The drift in a word; a column that only one of the tables has was added or removed."""
        if self.psi is None:
            return "added" if self.missing_before is None else "removed"
        return "stable" if self.psi < MODERATE else "moderate" if self.psi < LARGE else "large"


@dataclass(frozen=True)
class RowChanges:
    """Customers in the later table alone, in the earlier alone, and in both: with other values, with the same."""

    added: int
    removed: int
    changed: int
    kept: int


def feature_drift(before: Path, after: Path, contract: Contract) -> list[FeatureDrift]:
    """Return the drift of each feature between two tables.

    The PSI (population stability index, Siddiqi 2006) is the sum over bins of (after - before) ln(after / before), in
    shares of the rows. The bins of a number are its deciles before; any other value is a bin. Missing is a bin, too: it
    includes values that are not finite, or not of the contract's type.

    Parameters
    ----------
    before, after : Path
        Parquet files of customers.
    contract : Contract
        The features and their types.

    Returns
    -------
    list of FeatureDrift
        Features that only one table has come first, then those with the largest PSI.

    Raises
    ------
    StageError
        When a file is not a Parquet file or has no rows.
    """
    drifts = []
    with _opened(before, after) as (database, columns):
        # Each query on a view reads the whole schema again, which takes long where the table is wide.
        kind = "VIEW" if len(contract.features) <= TOGETHER else "TABLE"
        for some in in_chunks(contract.features, TOGETHER):
            for table, given in columns.items():
                there = ", ".join(identifier(name) for name in some if name in given) or "NULL"
                database.execute(f"CREATE OR REPLACE TEMP {kind} {table}_some AS SELECT {there} FROM {table}")
            for name in some:
                tables = [table for table, given in columns.items() if name in given]
                value = _typed(name, contract)
                found = {
                    table: database.execute(f"SELECT count(*), count({value}) FROM {table}_some").fetchall()[0]
                    for table in tables
                }
                missing = {table: round(1 - there / rows, 6) for table, (rows, there) in found.items()}
                psi, p_value = None, None
                if len(tables) == 2:
                    rows, there = np.array(list(found.values())).T
                    numeric = contract.columns[name].type in ("integer", "number")
                    psi, p_value = (_of_numbers if numeric else _of_values)(_counts(database, value), rows, there)
                if tables:
                    drifts.append(FeatureDrift(name, psi, p_value, missing.get("before"), missing.get("after")))
    return sorted(drifts, key=lambda drift: (drift.psi is not None, -(drift.psi or 0), drift.name))


def row_changes(before: Path, after: Path, contract: Contract) -> RowChanges:
    """Return how many customers, by key, came, went, changed in a column of the contract that both have, or stayed.

    Keys are compared by hashes of 64 bits: of fifty million, two are alike in one of 15,000 tables.

    Raises StageError when a file is not a Parquet file, has no rows or lacks the key.
    """
    with _opened(before, after) as (database, columns):
        for path, given in zip((before, after), columns.values(), strict=True):
            if contract.key not in given:
                raise StageError(f"{path} has no column {contract.key}: its rows cannot be told apart.")
        shared = [
            _typed(name, contract) for name in contract.columns if all(name in given for given in columns.values())
        ]
        key = _typed(contract.key, contract)
        rows = f"SELECT hash({key}) AS key, hash({', '.join(shared)}) AS content"
        size = sum(database.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0] for table in columns)
        counts = np.zeros(4, dtype=np.int64)
        for share in hash_shares(key, size, ROWS):
            some = f"{rows}, false AS later FROM before WHERE {share} UNION ALL {rows}, true FROM after WHERE {share}"
            changed = database.execute(
                f"""
                SELECT sum(greatest(after - before, 0)), sum(greatest(before - after, 0)),
                    sum(if(differs, least(before, after), 0)), sum(if(differs, 0, least(before, after)))
                FROM (
                    SELECT count(*) FILTER (NOT later) AS before, count(*) FILTER (later) AS after,
                        bit_xor(content) <> 0 AS differs -- equal rows cancel out
                    FROM ({some}) GROUP BY key
                )
                """
            ).fetchall()[0]
            counts += [one or 0 for one in changed]  # None where the share has no key
    return RowChanges(*map(int, counts))


@contextmanager
def _opened(before: Path, after: Path) -> Iterator[tuple[duckdb.DuckDBPyConnection, dict[str, dict[str, str]]]]:
    """Yield a connection in which both tables are views, `before` and `after`, and the names of their columns."""
    tables = {"before": before, "after": after}
    with parquet_views(tables, "does not exist or is not a Parquet file") as database:
        for table, path in tables.items():
            if not database.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]:
                raise StageError(f"{path} has no rows.")
        yield database, {table: columns_of(database, table) for table in tables}


def _typed(name: str, contract: Contract) -> str:
    """Return the SQL of a column's values in the contract's type, which the other table may have had otherwise."""
    kind = contract.columns[name].type
    value = cast(name, kind)
    # Not isnan: DuckDB 2.0 takes that for false in any column of a Parquet file, whose statistics leave NaN out.
    return f"if(isfinite({value}), {value}, NULL)" if kind == "number" else value


def _counts(database: duckdb.DuckDBPyConnection, value: str) -> Iterator[Counts]:
    """Yield how often each value occurs in either table, in ascending order of the values, at most BATCH at a time."""
    counted = database.sql(
        f"""
        SELECT count(*) FILTER (NOT later) AS before, count(*) FILTER (later) AS after
        FROM (
            SELECT {value} AS value, false AS later FROM before_some
            UNION ALL SELECT {value} AS value, true AS later FROM after_some
        )
        WHERE value IS NOT NULL GROUP BY value ORDER BY value
        """
    )
    for batch in counted.to_arrow_reader(BATCH):
        yield np.stack([side.to_numpy() for side in batch.columns])


def _of_numbers(counts: Iterator[Counts], rows: Counts, there: Counts) -> tuple[float, float | None]:
    """Return PSI and p-value; `rows` and `there`, shape (2,), count rows and those with a value, before and after."""
    bins, seen, gap = np.zeros((2, BINS)), np.zeros((2, 1), dtype=np.int64), 0.0
    for part in counts:
        upto = seen + part.cumsum(axis=1)
        # A value is above as many deciles as the share of rows below it says, so that ties share a bin.
        decile = np.minimum((upto[0] - part[0]) * BINS // max(there[0], 1), BINS - 1)
        bins += [np.bincount(decile, weights=side, minlength=BINS) for side in part]
        if there.all():
            gap = max(gap, float(np.abs(upto[0] / there[0] - upto[1] / there[1]).max()))
        seen = upto[:, -1:]
    psi = _psi(np.column_stack([bins, rows - there]))
    if not there.all():
        return psi, None
    size = there[0] * (there[1] / there.sum())
    return psi, round(float(kstwo.sf(gap, max(round(size), 1))), 6)  # as scipy.stats.ks_2samp(method="asymp")


def _of_values(counts: Iterator[Counts], rows: Counts, there: Counts) -> tuple[float, float]:
    """Return PSI and p-value; for the arguments see _of_numbers."""
    bins = np.column_stack([*counts, rows - there])
    return _psi(bins), round(float(chi2_contingency(bins[:, bins.any(axis=0)], correction=False).pvalue), 6)


def _psi(bins: npt.NDArray[np.number]) -> float:
    """Return the population stability index of the counts in each bin, shape (2, bins)."""
    before, after = np.maximum(bins / bins.sum(axis=1, keepdims=True), EMPTY_BIN_SHARE)
    return round(float(np.sum((after - before) * np.log(after / before))), 6)


def trained_on(commit: str) -> Path:
    """Return the snapshot that the commit was trained on, in DVC's cache; the remote fills the cache.

    Not by `dvc get`, which finds no cache where the repository is a folder of a larger one. Raises StageError when the
    commit is unknown, names no snapshot, or the snapshot is in neither place.
    """
    from dvc.config import NoRemoteError  # type: ignore[import-untyped]  # DVC has no types
    from dvc.repo import Repo  # type: ignore[import-untyped]
    from dvc_data.hashfile.hash_info import HashInfo

    md5 = _snapshot_of(commit)
    for name in ("dvc", "dvc_data", "dvc_objects"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # their errors become ours
    missing = f"the snapshot that {commit} was trained on is not in this machine's DVC cache"
    try:
        with Repo() as repo:
            cache = repo.cache.local
            if not cache.exists(md5):
                repo.cloud.pull([HashInfo("md5", md5)])
            path, there = Path(cache.oid_to_path(md5)), cache.exists(md5)
            if there and md5.endswith(".dir"):  # a folder of partitions
                files = [one["md5"] for one in json.loads(path.read_text(encoding="utf-8"))]
                if lacking := [one for one in files if not cache.exists(one)]:
                    repo.cloud.pull([HashInfo("md5", one) for one in lacking])
                there = all(map(cache.exists, files))
    except NoRemoteError as error:
        raise StageError(f"{missing}, and DVC has no remote here: `make remote` sets it; then try again.") from error
    except Exception as error:  # DVC's, the remote's and the system's own
        raise StageError(f"{missing}, and the remote cannot be read: `make pull` says why.") from error
    if not there:
        raise StageError(f"{missing}, nor in the remote: `make push` where it was trained puts it there.")
    if not md5.endswith(".dir"):
        if md5_of(path) != md5:
            raise StageError(f"{path} is damaged: delete it, then run this again.")
        return path
    folder = scratch() / md5
    copy_cached(path.parent.parent, md5, folder)
    if hash_of(folder) != md5:
        raise StageError(f"{path} is damaged, or a file that it names: delete it, then run this again.")
    return folder


def _snapshot_of(commit: str) -> str:
    """Return the MD5 of the snapshot in the commit's dvc.lock. Raises StageError where there is none."""
    if git("rev-parse", "--quiet", "--verify", "--end-of-options", f"{commit}^{{commit}}") is None:
        raise StageError(
            f"this clone does not know the commit {commit}: `git fetch origin` fetches it, or --base names another."
        )
    try:
        stages = stages_in(git("show", f"{commit}:./{LOCK}") or "", str(LOCK))
        return next(str(out["md5"]) for out in stages["fetch"]["outs"] if out["path"] == str(RAW))
    except (StageError, LookupError, TypeError, StopIteration) as error:
        raise StageError(
            f"{LOCK} of {commit} names no {RAW}: --base needs the commit of a finished `dvc repro`."
        ) from error


def beyond(
    drifts: Sequence[FeatureDrift], changes: RowChanges, rows: int, max_psi: float, max_turnover: float
) -> Iterator[str]:
    """Yield what is beyond the bounds, in words; `rows` is the number of customers before."""
    for drift in drifts:
        if drift.psi is None:
            yield f"the feature {drift.name} was {drift.level}"
        elif drift.psi > max_psi:
            yield f"the PSI of {drift.name} is {drift.psi:.4f}, above {max_psi:g}"
    if (share := (changes.added + changes.removed) / rows) > max_turnover:
        yield f"{share:.1%} of the customers came or went, more than {max_turnover:.1%}"


def limit(text: str) -> float:
    """Return a number from 0 on. Raises argparse's error for another text, and for NaN, which nothing would exceed."""
    try:
        number = float(text)
    except ValueError:
        number = nan
    if not 0 <= number < inf:
        raise argparse.ArgumentTypeError(f"{text}: write a number from 0 on")
    return number


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m churn drift", description="Whether the customers have drifted.")
    parser.add_argument(
        "after", nargs="?", type=Path, default=RAW, help="the new snapshot, a Parquet file (%(default)s)"
    )
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--base", help="the commit it is compared with (origin's default branch)")
    given.add_argument("--before", type=Path, help="a Parquet file to compare with instead")
    parser.add_argument("--max-psi", type=limit, default=LARGE, help="of a feature (%(default)s)")
    parser.add_argument("--max-turnover", type=limit, default=TURNOVER, help="share that came or went (%(default)s)")
    return parser


def main(asked: argparse.Namespace) -> int:
    """Compare two snapshots, print what changed, and return the exit status; see the module."""
    contract = load_contract()
    if asked.after == RAW and not RAW.exists():
        raise StageError(f"{RAW} does not exist: `python -m stages.fetch` makes it.")
    limit_duckdb(load_params())
    before = asked.before or trained_on(asked.base or default_branch())
    drifts, changes = feature_drift(before, asked.after, contract), row_changes(before, asked.after, contract)
    print("feature                    PSI  p-value  missing before  after  drift")
    for drift in drifts:
        numbers = [drift.psi, drift.p_value, drift.missing_before, drift.missing_after]
        psi, p_value, *missing = ("-" if number is None else f"{number:.4f}" for number in numbers)
        print(f"{drift.name:22} {psi:>7}  {p_value:>7}  {missing[0]:>14}  {missing[1]:>5}  {drift.level}")
    print(f"customers: {changes.added:,} added, {changes.removed:,} removed, {changes.changed:,} changed", end="")
    print(f", {changes.kept:,} the same")
    rows = changes.removed + changes.changed + changes.kept
    found = list(beyond(drifts, changes, rows, asked.max_psi, asked.max_turnover))
    print(f"drift: {'; '.join(found) or 'stable'}")
    return DRIFTED if found else STABLE
