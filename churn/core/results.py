"""Schemas of the JSON files between stages. A stage or the report reads a file only if it fits its schema."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from churn.core.errors import StageError
from churn.core.files import read_json
from churn.core.paths import EVALUATION, GATE, JUDGEMENT, ROWS, VALIDATION

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

FAULTS_SHOWN = 3


class Result(BaseModel):
    """A JSON object. Every key is required, nothing is coerced, NaN is refused; other keys are left alone."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


Count = Annotated[int, Field(ge=0, lt=2**63)]
Number = Annotated[float, Field(gt=-1e300, lt=1e300)]


class RowsResult(Result):
    """metrics/rows.json of prepare."""

    fetched: Count
    train: Count
    test: Count
    dropped: Mapping[str, Count]
    holdout_sha256: tuple[str]


class TableResult(Result):
    """A validated table."""

    rows: Count
    sha256: str


class TablesResult(Result):
    """Both validated tables."""

    train: TableResult
    test: TableResult


class BrokenRule(Result):
    """A rule of the contract that the data break."""

    table: str
    rule: str
    column: str
    count: Count
    share: Number
    sentence: str


class ValidationResult(Result):
    """metrics/validation.json of validate."""

    passed: bool
    tables: TablesResult
    broken: tuple[BrokenRule, ...]
    notes: tuple[str, ...] = ()


class MeasuredResult(Result):
    """The customers of the holdout or of a slice, and each metric with its interval."""

    rows: Count
    churners: Count
    predicted: Count
    customers: Count | None = None  # where they have several rows
    intervals: Mapping[str, tuple[Number | None, Number | None]]
    accuracy: Number | None
    average_precision: Number | None
    brier_score: Number | None
    expected_calibration_error: Number | None
    f1: Number | None
    lift_at_capacity: Number | None
    log_loss: Number | None
    precision: Number | None
    precision_at_capacity: Number | None
    profit_per_customer: Number | None
    recall: Number | None
    recall_at_capacity: Number | None
    roc_auc: Number | None

    @model_validator(mode="after")
    def _has_an_interval_of_each_metric(self) -> Self:
        others = {"rows", "churners", "predicted", "customers", "intervals"}
        if lacking := sorted(MeasuredResult.model_fields.keys() - others - self.intervals.keys()):
            raise ValueError(f"intervals lacks {', '.join(lacking)}")
        return self


class SliceResult(MeasuredResult):
    """A slice of the holdout: the customers with a value of a column, with a condition, or without a feature."""

    name: str
    kind: Literal["value", "condition", "missing"]


class OverTimeResult(Result):
    """The ROC AUC after the training's time less that within it, and its interval."""

    difference: Number | None
    interval: tuple[Number | None, Number | None]


class EvaluationResult(MeasuredResult):
    """metrics/evaluation.json of evaluate, of the rows later than the training where rows have a day."""

    train_until: str | None = None
    random_by_customer: MeasuredResult | None = None  # of the holdout's other rows
    roc_auc_over_time: OverTimeResult | None = None

    threshold: Number
    suitable_threshold: Number | None = None
    capacity: Number
    inputs: tuple[tuple[str, str], ...]
    slices: tuple[SliceResult, ...]

    @model_validator(mode="after")
    def _has_all_of_the_time_or_nothing(self) -> Self:
        parts = {name: getattr(self, name) for name in ("train_until", "random_by_customer", "roc_auc_over_time")}
        lacking = [name for name, part in parts.items() if part is None]
        if 0 < len(lacking) < len(parts):
            raise ValueError(f"{' and '.join(lacking)} lacking")
        return self


class RuleOutcome(Result):
    """What a rule of the gate says of a model.

    A rule is a bound of params.yaml, one for every slice, the least size of a slice, or a loss or a gain against the
    baseline or the anchor. `scope` is all customers or a slice. `statistic` is what of the metric is compared: its
    value, an end of its 95 % interval, or the gain over the baseline's. `margin` is how far the value lies inside the
    limit, in the metric's unit: None where there is no value, when the rule failed.

    `noise` is how far chance alone moves the value, half the width of its interval. `detects` is the smallest true loss
    that would fail the rule with 80 % power, and `needed` the number of customers that the declared margin would need
    for it; docs/gate.md has the formulas. Each is None where the rule has none.
    """

    kind: Literal["bound", "every_slice", "slice_size", "vs_baseline", "max_gain", "vs_anchor"]
    scope: str
    metric: str
    statistic: Literal["value", "low", "high", "gain"] = "value"
    bound: Literal["min", "max"]
    limit: Number
    value: Number | None
    margin: Number | None
    noise: Number | None = None
    detects: Number | None = None
    needed: Count | None = None
    status: Literal["passed", "failed", "inconclusive", "skipped"]
    message: str

    @property
    def label(self) -> str:
        """The metric and what of it is compared, for people."""
        end = {"low": ", lower end", "high": ", upper end"}.get(self.statistic, "")
        beside = {"vs_baseline": " against main", "max_gain": " too good to be true", "vs_anchor": " since the anchor"}
        return f"{self.metric}{end}{beside.get(self.kind, '')}"


class GateResult(Result):
    """metrics/gate.json of gate."""

    verdict: Literal["passed", "blocked"]
    reasons: tuple[str, ...]
    rules: tuple[RuleOutcome, ...]
    model_sha256: str | None
    train_sha256: str | None
    test_sha256: str | None


class ApprovedFault(Result):
    """A fault that a code owner approved."""

    id: str
    message: str


class JudgementResult(Result):
    """build/report/judgement.json of the report, for the dossier of the version that is made of the `commit`.

    `inputs` are those of the evaluation that was judged, and `rules` the comparisons with the models of `base`.
    """

    base: str
    commit: str
    inputs: tuple[tuple[str, str], ...]
    approved: tuple[ApprovedFault, ...]
    approved_by: str
    rules: tuple[RuleOutcome, ...]


KINDS: Mapping[str, tuple[type[Result], str]] = {  # and the stage that writes it
    ROWS.name: (RowsResult, "prepare"),
    VALIDATION.name: (ValidationResult, "validate"),
    EVALUATION.name: (EvaluationResult, "evaluate"),
    GATE.name: (GateResult, "gate"),
    JUDGEMENT.name: (JudgementResult, "the report"),
}


def read_result(path: Path) -> dict[str, Any]:
    """Read rows.json, validation.json, evaluation.json or gate.json, of this checkout or of another one.

    Raises StageError, with the keys, when one is missing or its value is of another kind than its stage writes.
    """
    kind, stage = KINDS[path.name]
    value = read_json(path)
    try:
        kind.model_validate_json(json.dumps(value))
    except ValidationError as error:
        faults = [_fault(one["loc"], one["msg"]) for one in error.errors(include_url=False, include_input=False)]
        more = f"; and {len(faults) - FAULTS_SHOWN} more" if len(faults) > FAULTS_SHOWN else ""
        raise StageError(
            f"{path} is not what {stage} writes: {'; '.join(faults[:FAULTS_SHOWN])}{more}; run"
            f" `dvc repro --force --single-item {stage}`."
        ) from error
    return value


def _fault(place: Sequence[object], what: str) -> str:
    key = " ".join(".".join(map(str, place)).split())[:100]
    return f"{key}: {what[0].lower()}{what[1:]}" if key else what
