"""The data of a report: other modules collect it, and report/render.py renders it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from typing import Any, Literal, NamedTuple

from churn.config.contract import Contract
from churn.config.params import Params
from churn.core.results import RuleOutcome
from churn.evaluation.paired import Differences, SliceDifferences
from churn.evaluation.plots import Curves
from churn.gate.anchor import Compared
from churn.gate.baseline import Trained, training_noise
from churn.page.charts import Importance
from churn.quality.drift import FeatureDrift, RowChanges
from report.faults import NOT_APPROVED, Approval, Fault

import pandas as pd
import pyarrow as pa

FOLDER = Path("build/report")


@dataclass(frozen=True)
class Run:
    """The state of a stage here, and its seconds where it ran."""

    stage: str
    state: Literal["ran", "reused", "failed", "not run"]
    seconds: float | None = None
    fault: str | None = None


@dataclass(frozen=True)
class Outcome:
    """Whether the model may pass, its headline in a sentence, the stage that stopped it, and each reason."""

    passed: bool
    sentence: str
    stage: str | None = None  # or "comparison", with main
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Flips:
    """How many customers two models decide differently, and how many whom one has contacted the other replaces."""

    decisions: int
    contacts: int


class NewChurn(NamedTuple):
    """The rows of new customers in the holdout: how many churned, how many main's model expects, and the variance."""

    rows: int
    churners: int
    expected: float
    variance: float


@dataclass(frozen=True)
class Comparison:
    """The branch's model and main's on `rows` of the `holdout` rows: those that main was not trained on.

    `easier` is the ROC AUC of main's model on its own holdout and on this one, where that is higher beyond noise.
    `flips` are those against main's model, and `by_seed` those of the branch's model with another seed, if one was
    trained. `trained` is what the branch's model learned from, and what main's did.
    `customers` is how many the rows are of, if a customer has several. `new` is of the customers whom main lacks.
    `curves` are main's and the branch's.
    """

    rows: int
    holdout: int
    overall: Differences
    slices: tuple[SliceDifferences, ...]
    easier: tuple[float, float] | None = None
    flips: Flips | None = None
    by_seed: Flips | None = None
    trained: tuple[Trained, ...] = ()
    customers: int | None = None
    new: NewChurn | None = None
    curves: Mapping[str, Curves] = field(default_factory=dict, compare=False, repr=False)

    @property
    def compared(self) -> Compared:
        """What the gate judges."""
        noise = training_noise(self.customers or self.rows, *self.trained)
        return Compared(self.rows, self.overall, self.slices, noise)

    @property
    def wider(self) -> float:
        """By which part other training customers widen the noise of each difference."""
        return sqrt(1 + self.compared.training) - 1


class Note(NamedTuple):
    """A sentence for the reviewer, and whether it warns: of a weaker rule, a changed judge, or other data."""

    text: str
    warns: bool = True


@dataclass(frozen=True)
class Change:
    """A value of a YAML file before and after; None where there is none."""

    file: str
    key: str
    before: Any
    after: Any


@dataclass(frozen=True)
class LabelChanges:
    """Main's customers, removed or kept: how many churned by main's label, and how many labels turned to 1 or to 0."""

    removed: int
    removed_churners: int
    kept: int
    kept_churners: int
    turned_on: int
    turned_off: int


@dataclass(frozen=True)
class TwinCount:
    """How many customers of a holdout have a near-duplicate in the training table, and the rows of both tables."""

    twins: int
    holdout: int
    training: int

    @property
    def share(self) -> float:
        """The share of the holdout."""
        return self.twins / max(self.holdout, 1)


class AgainCount(NamedTuple):
    """How many customers are new, how many of these are like a known one, how many are known, and the expected share.

    That is the share of the new customers that is like a known one if they are so as often as known ones of their kind.
    """

    new: int
    new_alike: int
    known: int
    expected: float


@dataclass(frozen=True)
class OtherKeys:
    """Customers that have another key than on main.

    `pairs` has both keys as text, `before` and `after`, and `trained_on` the keys here of those that main trained on.
    """

    pairs: pa.Table
    trained_on: pd.Series


@dataclass(frozen=True)
class DataChange:
    """The customers added, removed and changed since main's snapshot, and how far each feature has moved.

    `labels`, `rekeyed`, `values` and `twins` are those of the prepared tables, missing where nothing was prepared.
    `values` has for each feature how many of the customers in both have another value, `twins` main's and these.
    `again` counts new customers like main's.
    """

    rows: RowChanges
    drift: tuple[FeatureDrift, ...]
    labels: LabelChanges | None = None
    rekeyed: OtherKeys | None = None
    values: Mapping[str, int] = field(default_factory=dict)
    twins: tuple[TwinCount, TwinCount] | None = None
    again: AgainCount | None = None


@dataclass(frozen=True)
class PageData:
    """What only the page has room for: the commit, all settings, and the plots' tables of this branch alone."""

    commit: str = ""
    params: Params | None = None
    contract: Contract | None = None
    lineage: Mapping[str, str] = field(default_factory=dict)
    curves: Curves = field(default_factory=dict)
    counts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    importance: Sequence[Importance] = ()


@dataclass
class ReportData:
    """All of a report. report/collect.py fills it; a part that could not be collected is None, and `notes` say why."""

    reproduce: tuple[str, ...]
    base: str
    outcome: Outcome
    unit: str = "customers"  # what a row is called: `rows` where a customer has several
    notes: tuple[Note, ...] = ()
    comparison: Comparison | None = None
    problem: str = ""  # why main has nothing to compare with, if its problem is another one
    memory: tuple[str, ...] = ()  # main's earlier model, and the verdicts that the holdout has given
    same_model: bool = False  # as on main, and the same holdout: there is nothing to compare
    evaluation: Mapping[str, Any] | None = None
    rules: tuple[RuleOutcome, ...] = ()
    faults: tuple[Fault, ...] = ()  # beyond the rules
    own_judge: Fault | None = None  # whose approval lets the branch's own code judge
    approval: Approval = NOT_APPROVED
    approved: tuple[Fault, ...] = ()
    broken: tuple[Mapping[str, Any], ...] = ()
    changes: tuple[Change, ...] = ()
    data: DataChange | None = None
    account: Mapping[str, Any] | None = None
    base_account: Mapping[str, Any] | None = None
    runs: tuple[Run, ...] = ()
    has_picture: bool = False
    page: PageData = field(default_factory=PageData)
