"""Whether this checkout is about another problem than main: another key or label, or other customers in other columns.

Then there is nothing to compare, and the gate judges alone. A branch could escape the comparison by a new name, so a
code owner approves it. The template's sample is nobody's problem: another table may replace it without an approval,
also one in the sample's columns.
"""

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from churn.config.contract import load_contract
from churn.core.errors import StageError
from churn.core.files import read_yaml
from churn.core.git import git
from churn.core.paths import CONTRACT, PARAMS, RAW
from churn.data.duckdb_helpers import columns_of, identifier, parquet_views
from report.baseline import build
from report.faults import Fault
from report.settings import BY_APPROVAL, mains_contract, mains_params
from report.values import coarse

SAMPLE = "a2724641d09e63e6abbc07763eaed94ed5ee4d54"  # the Git blob of data/sample/telco_customers.csv
SAMPLE_BYTES = 970_457
ALIKE = 0.25  # of main's customers may be near-duplicates of one here by chance: 5 % of the sample's holdout are


class Problem(NamedTuple):
    """Why there is nothing on main to compare with, and the fault that needs an approval, if it needs one."""

    reason: str
    fault: Fault | None


def other_names(main: Path) -> str | None:
    """Return a clause on the key or the label if it has another name than in the folder `main`."""
    theirs, ours = mains_contract(main), load_contract()
    pairs = (("key", theirs.key, ours.key), ("label", theirs.label, ours.label))
    changed = [f"the {role} is {after} here and {before} on main" for role, before, after in pairs if before != after]
    return " and ".join(changed) or None


def other_problem(main: Path) -> Problem | None:
    """Return how this checkout's problem differs from main's, or None where both can be compared.

    `main` is a checkout of main. Where the names are the same, it has its snapshot, unless that is this one.
    """
    renamed = other_names(main)
    replaces_sample = _holds_sample(main) and not _holds_sample(Path())
    if renamed and replaces_sample:
        with suppress(StageError):  # without main's customers nothing shows that these are others
            build(main, "fetch")
    has_other_columns = _has_other_columns(main)
    strangers = (has_other_columns or replaces_sample) and _has_other_customers(main)
    if strangers and replaces_sample and (has_other_columns or _has_other_values(main)):
        return Problem("main has the template's sample, which this table replaces", None)
    if not renamed and not (strangers and has_other_columns):
        return None
    reason = renamed or "no customer of main is here, and most of its features are not declared here"
    ours = load_contract()
    message = f"{CONTRACT}: {reason}: a model of another problem cannot be compared with main's; {BY_APPROVAL}"
    fault = Fault(message, "problem", (str(CONTRACT),), [ours.key, ours.label])
    # protection: another problem takes an approval
    return Problem(reason, fault)


def _has_other_columns(main: Path) -> bool:
    """Return whether most of main's features are not declared here."""
    theirs, ours = mains_contract(main), load_contract()
    return 2 * len({*theirs.features} & {*ours.features}) < len(theirs.features)


def _has_other_customers(main: Path) -> bool:
    """Return whether no customer of main's snapshot is here, by the names of both."""
    theirs, ours = mains_contract(main), load_contract()
    if not (main / RAW).exists():
        return False
    with parquet_views({"before": main / RAW, "after": RAW}) as database:
        one, other = identifier(theirs.customer), identifier(ours.customer)
        return not database.execute(
            f"SELECT count(*) FROM before SEMI JOIN after ON before.{one}::VARCHAR = after.{other}::VARCHAR"
        ).fetchall()[0][0]


def _has_other_values(main: Path) -> bool:
    """Return whether few customers of main are near-duplicates of one here: other keys alone make no other table."""
    ours = load_contract()
    roles = {name for one in (mains_contract(main), ours) for name in (one.key, *one.withheld)}
    with parquet_views({"before": main / RAW, "after": RAW}) as database:
        before, after = columns_of(database, "before"), columns_of(database, "after")
        same = [name for name, kind in after.items() if before.get(name) == kind and name not in roles]
        shared = [coarse(name, ours.columns[name].type) for name in same if name in ours.columns]
        if not shared:
            return False
        values = f"SELECT hash({', '.join(shared)}) AS content FROM"
        alike, customers = database.execute(
            f"SELECT (SELECT count(*) FROM ({values} before) SEMI JOIN ({values} after) USING (content)), count(*)"
            " FROM before"
        ).fetchall()[0]
        return bool(alike <= ALIKE * customers)


def _holds_sample(folder: Path) -> bool:
    """Return whether fetch.source in `folder` is the template's sample, byte for byte."""
    try:
        path = folder / mains_params(folder).fetch.source
        content = path.read_bytes() if path.stat().st_size == SAMPLE_BYTES else b""
    except (OSError, StageError):
        return False
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == SAMPLE


class Recorded(NamedTuple):
    """The problem of a commit of any age: its key, its label, and whether its source is the template's sample."""

    key: str
    label: str
    is_sample: bool


def recorded_problem(repository: Path, commit: str) -> Recorded | None:
    """Return the problem of a commit in `repository`, or None where its contract cannot be read."""
    try:
        contract, params = (
            read_yaml(git("-C", str(repository), "show", f"{commit}:./{path}") or "", str(path))
            for path in (CONTRACT, PARAMS)
        )
        roles = {column["role"]: name for name, column in contract["columns"].items()}
        blob = git("-C", str(repository), "rev-parse", f"{commit}:./{params['fetch']['source']}")
        return Recorded(roles["key"], roles["label"], blob == SAMPLE)
    except (StageError, LookupError, TypeError, AttributeError):
        return None
