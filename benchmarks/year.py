"""How often the report blocks an honest monthly retraining in years whose churn rate moves by three points.

Each month has new customers, drawn from the sample at a churn rate of its own, uniform within three points of the
sample's; of its churners 5 % are labelled a month late. A snapshot holds the newest month and those of STAY months
before; the oldest month closes. Who is drawn gets a key and other charges, by a factor of his own, and each month one
month more of tenure and charges; one customer of 100 changes the payment method. The model of the month before is
main's, and that of three months before the anchor. The judgement is that of `python -m report` with all of its rules:
keys, values, near-duplicates, profile, selection and labels, the gate, the comparisons with main and the anchor. A
customer of the sample is drawn for training in every month, or for the holdout in every month.
Usage: python -m benchmarks.year [YEARS]
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.command import repetitions
from benchmarks.false_alarms import Bench, trained
from churn.core.errors import StageError
from churn.core.files import write_json
from churn.core.paths import CONTRACT, PROFILE, RAW, TEST, TRAIN
from churn.core.results import RuleOutcome
from churn.data.duckdb_helpers import parquet_views
from churn.data.featuring import to_arrow
from churn.data.split import among, in_holdout
from churn.evaluation.holdout import evaluation_of, scores_of
from churn.evaluation.paired import compare, compare_slices
from churn.evaluation.slices import slice_masks
from churn.gate.anchor import Compared, vs_anchor
from churn.gate.baseline import training_noise, vs_baseline
from churn.gate.rules import evaluate_rules
from churn.modeling.model import read_table
from churn.quality.drift import RowChanges
from churn.quality.profile import profile_of
from report.data import DataChange, NewChurn
from report.identity import other_keys, trained_apart
from report.judge import TABLES, contract_faults
from report.selection import new_churn, new_faults, selection_faults, vanished_slices
from report.values import again, customer_changes, twins, value_faults

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq
from tqdm import tqdm

MONTHS, CUSTOMERS = 12, 6_300  # in a snapshot, each of them once
POINTS, LATE, MOVED = 0.03, 0.05, 0.01
OTHER = 0.1  # SD of the logarithm of the factor on a customer's charges
STAYS = (0, 3)  # months that a month's customers stay in the snapshot after their own
BACK = 3  # months to the anchor


class Month(NamedTuple):
    """A month's results: the folder with its tables, its model, and its evaluation."""

    folder: Path
    model: Any
    evaluation: dict[str, Any]


class Judged(NamedTuple):
    """What blocks a month, and what keeps its model from becoming champion after the merge."""

    reasons: list[str]
    not_promoted: list[str]


class Year:
    """Draws months from the sample's customers, and judges each against those before."""

    def __init__(self, bench: Bench, seed: int, stay: int) -> None:
        self.bench, self.stay, self.random = bench, stay, np.random.default_rng(seed)
        self.customers = pd.concat([pq.read_table(path).to_pandas() for path in (TRAIN, TEST)], ignore_index=True)
        self.contract_file = CONTRACT.resolve()
        self.held_out = in_holdout(bench.keys, f"year {seed}", bench.params.prepare.holdout_share)

    def cohort(self, number: int, taken: npt.NDArray[np.intp]) -> pd.DataFrame:
        """Return the new customers of a month; their index is the row of the sample."""
        contract, y = self.bench.contract, self.bench.y
        rate, size = y.mean() + self.random.uniform(-POINTS, POINTS), CUSTOMERS // (self.stay + 1)
        free = ~y.index.isin(taken)
        drawn = [
            self.random.choice(np.flatnonzero(free & (y == label)), round(size * share), replace=False)
            for label, share in ((0, 1 - rate), (1, rate))
        ]
        rows: pd.DataFrame = self.customers.iloc[np.concatenate(drawn)].copy()
        rows[contract.key] = [f"{number}-{place}" for place in range(len(rows))]
        factor = np.exp(OTHER * self.random.normal(size=len(rows)))
        for name in contract.features_of("number"):
            rows[name] = (rows[name] * factor).round(2)
        return rows

    def older(self, cohort: pd.DataFrame) -> pd.DataFrame:
        """Return a month's customers a month later."""
        moves = self.random.random(len(cohort)) < MOVED
        methods = self.random.permutation(cohort["payment_method"])
        return cohort.assign(
            tenure_months=cohort["tenure_months"] + 1,
            total_charges=(cohort["total_charges"].fillna(0) + cohort["monthly_charges"]).round(2),
            payment_method=cohort["payment_method"].mask(moves, pd.Series(methods, cohort.index)),
        )

    def snapshots(self) -> Iterator[pd.DataFrame]:
        """Yield the snapshots of a year."""
        cohorts, label = list[pd.DataFrame](), self.bench.contract.label
        for number in range(MONTHS + self.stay):
            cohorts = [self.older(one) for one in cohorts[-self.stay :]] if self.stay else []
            taken = np.concatenate([one.index for one in cohorts]) if cohorts else np.array([], np.intp)
            newest = self.cohort(number, taken)
            if number >= self.stay:
                late = newest.assign(**{label: newest[label].mask(self.random.random(len(newest)) < LATE, 0)})
                yield pd.concat([*cohorts, late]).sort_values(self.bench.contract.key)
            cohorts.append(newest)

    def prepared(self, snapshot: pd.DataFrame, folder: Path) -> None:
        """Write what the stages up to train make of a snapshot, and its profile."""
        contract, held_out = self.bench.contract, self.held_out[snapshot.index]
        for path, rows in ((TRAIN, ~held_out), (TEST, held_out), (RAW, np.ones(len(snapshot), dtype=bool))):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(to_arrow(snapshot[rows].reset_index(drop=True), contract), folder / path)
        shutil.copy(self.contract_file, folder)
        with chdir(folder), parquet_views(TABLES, "cannot be read") as database:
            write_json(PROFILE, profile_of(database, contract).model_dump(mode="json"))

    def judged(self) -> Iterator[Judged]:
        """Yield for each month but the first how it is judged."""
        months, params, contract = list[Month](), self.bench.params, self.bench.contract
        with tempfile.TemporaryDirectory() as folder:
            for number, snapshot in enumerate(self.snapshots()):
                here = Path(folder, str(number))
                self.prepared(snapshot, here)
                with chdir(here):
                    X, y, _ = read_table(TRAIN, contract)
                    model = trained(params.train, contract, X, y)
                    features, labels, _ = read_table(TEST, contract)
                    scores = scores_of(model, features)
                    evaluation = evaluation_of(features, labels.to_numpy(float), scores, params.evaluate, contract)
                    month = Month(here, model, evaluation)
                    judged = self.judgement(months, month) if months else None
                if judged:
                    yield judged
                months.append(month)

    def judgement(self, months: list[Month], month: Month) -> Judged:
        """Judge a month, in the folder of which this runs."""
        gate, contract, main = self.bench.params.gate, self.bench.contract, months[-1]
        try:
            step = self.compared(main, month)
            anchor = months[max(len(months) - BACK, 0)]
            total = step if anchor is main else self.compared(anchor, month)
            rekeyed = other_keys(main.folder, contract)
        except StageError as error:
            return Judged([str(error)], [])
        rules = evaluate_rules(month.evaluation, gate)
        rules += vs_baseline(step.rows, step.overall, step.slices, gate, step.training)
        rules += [] if anchor is main else vs_anchor(total, step, gate, "the anchor")
        by_champion = vs_baseline(step.rows, step.overall, step.slices, gate)
        reasons = failures(rules)
        labels, values = customer_changes(main.folder, contract, contract, rekeyed.pairs, {})
        both = twins(main.folder, contract, contract, {})
        others = again(main.folder, contract, contract, rekeyed.pairs, {})
        change = DataChange(RowChanges(0, 0, 0, 0), (), labels, rekeyed, values, both, others)
        new = self.new_churn(main)
        faults = (
            *selection_faults(labels, contract.rules.profile, contract.label),
            *(new_faults(new, contract.rules.profile, contract.label) if new else ()),
            *value_faults(change, contract),
            *vanished_slices(main.evaluation, month.evaluation, {}),
            *contract_faults(contract, main.folder, {}),
        )
        promotion = [one for one in by_champion if one.kind == "vs_baseline"]
        return Judged([*reasons, *(fault.message for fault in faults)], failures(promotion))

    def new_churn(self, main: Month) -> NewChurn | None:
        """Return how many of a month's new customers churned, and how many the model of the month before expects."""
        contract, holdouts = self.bench.contract, list[pd.DataFrame]()
        for path in (main.folder / TEST, TEST):
            features, labels, keys = read_table(path, contract)
            scores = scores_of(main.model, features)
            holdouts.append(pd.DataFrame({contract.key: keys, contract.label: labels, "score": scores}))
        own, here = holdouts
        known = pq.read_table(main.folder / RAW, columns=[contract.key])[0].to_pandas()
        return new_churn(own, here[~among(here[contract.key], known)])

    def compared(self, before: Month, month: Month) -> Compared:
        """Compare two months' models on the customers of the later holdout whom the earlier model has not seen."""
        params, contract = self.bench.params, self.bench.contract
        rekeyed = other_keys(before.folder, contract)
        trained = trained_apart(before.folder, contract, rekeyed)
        features, labels, keys = read_table(TEST, contract)
        unseen = ~among(keys, rekeyed.trained_on.astype(keys.dtype))
        features, y = features[unseen].reset_index(drop=True), labels[unseen].to_numpy(float)
        scores = scores_of(before.model, features), scores_of(month.model, features)
        masks = slice_masks(features, params.evaluate.slices, contract)
        slices = tuple(compare_slices(masks, y, scores, params.evaluate, params.gate.min_slice_rows))
        overall = compare(y, *scores, params.evaluate)
        return Compared(len(y), overall, slices, training_noise(len(y), *trained))


def failures(rules: list[RuleOutcome]) -> list[str]:
    """Return the names of the rules that failed."""
    return [f"{one.scope}: {one.label}" for one in rules if one.status == "failed"]


def main(years: int) -> None:
    """Print the share of months that are blocked, and by what, and of those that the promotion would hold back."""
    bench = Bench()
    for stay in STAYS:
        seeds = tqdm(range(years), desc=f"{stay} months", leave=False, disable=None)
        months = [one for seed in seeds for one in Year(bench, seed, stay).judged()]
        blocked, held = (sum(map(bool, part)) for part in zip(*months, strict=True))
        print(f"customers stay for {stay} more months: {blocked} of {len(months)} honest months blocked", flush=True)
        for reason, count in Counter(reason for one in months for reason in one.reasons).most_common():
            print(f"    {reason}: {count}")
        print(f"    not promoted after the merge: {held}")


if __name__ == "__main__":
    main(repetitions("year", __doc__, "years", default=10, least=1))
