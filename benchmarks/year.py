"""How often the judgement blocks an honest monthly retraining in years whose churn rate moves by three points.

Each month has new customers, drawn from the sample at a churn rate of its own, uniform within three points of the
sample's; of its churners 5 % are labelled a month late. A snapshot holds the newest month and those of STAY months
before; the oldest month closes. The model of the month before is main's. The judgement is that of `python -m report`:
the profile, selection and labels, the rules of the gate, and the comparison with main. A customer of the sample is
drawn for training in every month, or for the holdout in every month. Usage: python -m benchmarks.year [YEARS]
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.command import repetitions
from benchmarks.false_alarms import Bench, trained
from churn.core.paths import TEST, TRAIN
from churn.data.split import in_holdout
from churn.evaluation.holdout import scores_of
from churn.quality.profile import Profile, profile_of
from churn.quality.profile_checks import profile_findings
from report.data import LabelChanges
from report.selection import selection_faults

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

MONTHS, CUSTOMERS = 12, 6_300  # in a snapshot, each of them once
POINTS, LATE = 0.03, 0.05
STAYS = (0, 3)  # months that a month's customers stay in the snapshot after their own

Rows = npt.NDArray[np.intp]


class Month(NamedTuple):
    """A snapshot: each customer's key, row of the sample, and label so far."""

    keys: npt.NDArray[np.str_]
    rows: Rows
    labels: Rows


class Year:
    """Draws months from the sample's customers, and judges each against the one before."""

    def __init__(self, bench: Bench, seed: int, stay: int) -> None:
        self.bench, self.stay, self.random = bench, stay, np.random.default_rng(seed)
        self.y = bench.y.to_numpy(np.intp)
        self.table = pa.concat_tables([pq.read_table(path) for path in (TRAIN, TEST)])
        self.held_out = in_holdout(bench.keys, f"year {seed}", bench.params.prepare.holdout_share)

    def months(self) -> Iterator[Month]:
        """Yield the snapshots of a year."""
        cohorts = list[Rows]()
        for number in range(MONTHS + self.stay):
            rate, size = self.y.mean() + self.random.uniform(-POINTS, POINTS), CUSTOMERS // (self.stay + 1)
            counts = (round(size * (1 - rate)), round(size * rate))
            free = ~np.isin(np.arange(len(self.y)), np.concatenate([*cohorts[-self.stay :], []]) if self.stay else [])
            drawn = [
                self.random.choice(np.flatnonzero(free & (self.y == label)), many, replace=False)
                for label, many in enumerate(counts)
            ]
            cohorts.append(np.concatenate(drawn))
            if number >= self.stay:
                rows = np.concatenate(cohorts[-self.stay - 1 :])
                keys = [f"{number - back}-{place}" for back in range(self.stay, -1, -1) for place in range(sum(counts))]
                labels, newest = self.y[rows], np.arange(len(rows)) >= len(rows) - len(cohorts[-1])
                labels[newest & (self.random.random(len(rows)) < LATE)] = 0
                yield Month(np.array(keys[: len(rows)]), rows, labels)

    def profile(self, month: Month, like: Profile | None) -> Profile:
        """Return the profile of a snapshot."""
        contract, table = self.bench.contract, self.table.take(pa.array(month.rows))
        place = table.schema.get_field_index(contract.label)
        table = table.set_column(place, table.schema.field(place), pa.array(month.labels, table.schema.types[place]))
        held_out = self.held_out[month.rows]
        with duckdb.connect() as database:
            database.register("train", table.filter(pa.array(~held_out)))
            database.register("test", table.filter(pa.array(held_out)))
            return profile_of(database, contract, like)

    def judged(self) -> Iterator[list[str]]:
        """Yield for each month but the first what blocks it."""
        params, contract, X = self.bench.params, self.bench.contract, self.bench.X
        before: tuple[Month, Profile, object] | None = None
        for month in self.months():
            held_out = self.held_out[month.rows]
            train, test = (month.rows[part] for part in (~held_out, held_out))
            model = trained(params.train, contract, X.iloc[train], pd.Series(month.labels[~held_out]))
            profile = self.profile(month, before and before[1])
            if before:
                features, y = X.iloc[test].reset_index(drop=True), month.labels[held_out].astype(float)
                rules, _ = self.bench.rules(features, y, (scores_of(before[2], features), scores_of(model, features)))
                shifts, counts = profile_findings(contract, before[1], profile), changes(before[0], month)
                yield [
                    *(f"profile: {one.rule} of {one.column}" for one in shifts),
                    *(one.message for one in selection_faults(counts, contract.rules.profile, contract.label)),
                    *(f"{one.scope}: {one.label}" for one in rules if one.status == "failed"),
                ]
            before = month, profile, model


def changes(before: Month, after: Month) -> LabelChanges:
    """Return what became of the customers and labels of a month."""
    there, here = (pd.Series(one.labels, one.keys) for one in (before, after))
    both = there.index.intersection(here.index)
    gone, moved = there.drop(both), here[both] - there[both]
    counts = len(gone), gone.sum(), len(both), there[both].sum(), (moved > 0).sum(), (moved < 0).sum()
    return LabelChanges(*map(int, counts))


def main(years: int) -> None:
    """Print the share of months that are blocked, and by what."""
    bench = Bench()
    for stay in STAYS:
        seeds = tqdm(range(years), desc=f"{stay} months", leave=False, disable=None)
        months = [reasons for seed in seeds for reasons in Year(bench, seed, stay).judged()]
        blocked = sum(map(bool, months))
        print(f"customers stay for {stay} more months: {blocked} of {len(months)} honest months blocked")
        for reason, count in Counter(reason for reasons in months for reason in reasons).most_common():
            print(f"    {reason}: {count}")


if __name__ == "__main__":
    main(repetitions("year", __doc__, "years", default=10, least=1))
