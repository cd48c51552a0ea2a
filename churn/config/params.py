"""params.yaml as typed, frozen objects: one class a section, named as the stage that reads it.

`read_settings` also reads contract.yaml and profile.json. ruamel.yaml parses them because DVC uses it, too: in YAML 1.2
`yes` is text, and a duplicate key is an error. One message lists all faults of a file.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from churn.config.stricter import Stricter
from churn.core.errors import StageError
from churn.core.files import YAML_LENGTH, read_json, read_text, read_yaml, replacing
from churn.core.paths import PARAMS

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

RENAMED = {  # keys of settings and of profile.json that have another name since 0.1.0
    "against_main": "vs_baseline",
    "deviation": "std",
    "implausible_gain": "max_gain",
    "predicted_per_churner": "predicted_to_actual_ratio",
    "roc_auc_behind": "max_roc_auc_gap",
    "slices_false_alarm": "familywise_alpha",
}
SHOWN, FAULTS = 100, 20  # of a wrong value its characters, and of a file its faults, in a message


class SettingsError(StageError):
    """What is wrong with a file of settings: its faults, each with the file and the path of its key."""

    def __init__(self, path: Path, sentences: Sequence[str]) -> None:
        super().__init__(f"{path}: {'; '.join(sentences)}.")
        self.faults = [f"{path}: {sentence}" for sentence in sentences]


class StrictModel(BaseModel):
    """A mapping of known keys: none unknown, none coerced, no NaN, frozen."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=StrictModel)


def read_settings(path: Path, kind: type[Model]) -> Model:
    """Read the file at `path`, YAML or JSON by its ending, as a `kind`.

    Raises StageError, naming the file and the path of each key, when the file is not YAML, when a key
    is unknown, missing or given twice, or when a value has the wrong type or is impossible.
    """
    if not path.exists():
        raise StageError(f"{path} does not exist.")
    if path.suffix == ".json":
        values = read_json(path, "restore it from Git, or make it again")
    else:
        values = read_yaml(read_text(path, YAML_LENGTH), str(path))
    try:
        # As JSON, lists become tuples and integers become floats where wanted; nothing else is coerced.
        return kind.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        raise SettingsError(path, _sentences(error)) from error


def _sentences(error: ValidationError) -> Sequence[str]:
    """Say each fault as `path.of.key: what is wrong`."""
    sentences, faults = [], error.errors(include_url=False)
    renamed = {(*fault["loc"][:-1], RENAMED.get(str(fault["loc"][-1]))) for fault in faults if fault["loc"]}
    for fault in faults:
        path = _short(".".join(str(part) for part in fault["loc"] if part != "[key]"))
        match fault["type"]:
            case "missing":
                if fault["loc"] in renamed:
                    continue
                what = "is missing"
            case "extra_forbidden":
                new = RENAMED.get(str(fault["loc"][-1]))
                what = f"is called {new} now: rename it" if new else "is not a known key"
            case "value_error":
                what = str(fault["ctx"]["error"])
            case _:
                what = f"{fault['msg'][0].lower()}{fault['msg'][1:]}, but it is {_short(repr(fault['input']))}"
        sentences += [f"{path}: {one}" if path else one for one in what.split("\n")]
    if (more := len(sentences) - FAULTS) > 0:
        return [*sentences[:FAULTS], f"and {more:,} more"]
    return sentences


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


METRICS = (
    "accuracy",
    "average_precision",
    "brier_score",
    "expected_calibration_error",
    "f1",
    "lift_at_capacity",
    "log_loss",
    "precision",
    "precision_at_capacity",
    "profit_per_customer",
    "recall",
    "recall_at_capacity",
    "roc_auc",
)
PROFIT = "profit_per_customer"
OVERALL = "all customers"  # what a rule on all of them has in the place of a slice
AT_EQUAL_NUMBER = ("f1", "precision", "recall")  # compared at main's number of predicted customers
SMALLER_IS_BETTER = ("brier_score", "expected_calibration_error", "log_loss")


def _known_metric(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"is not a metric; evaluate computes {', '.join(METRICS)}")
    return name


Text = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Metric = Annotated[str, AfterValidator(_known_metric), WithJsonSchema({"type": "string", "enum": [*METRICS]})]


class Fetch(StrictModel):
    """Where the customers come from, the query that gives them the contract's columns, and its `$as_of`."""

    source: Text
    """The file, folder or URL that the customers come from; docs/adapt.md lists the kinds."""
    query: Text
    """The file of the query, whose result has the contract's columns."""
    as_of: date | None
    """The last day that the query takes, for its `$as_of`, in quotes: "2026-11-24". null if the query has none."""
    timeout_minutes: Annotated[float, Field(gt=0, le=10_080)]
    """How long a query may run in a database server, in minutes; a week at most."""


class Time(StrictModel):
    """The last days, by which a model is judged, and the days until a label is final; see churn/data/periods.py."""

    holdout_days: Annotated[int, Field(gt=0, le=3_650)]
    """How many of the last days judge the model. It is trained on the days before them."""
    label_window_days: Annotated[int, Field(ge=0, le=3_650)]
    """After how many days a label is final. A row that is younger on the day `fetch.as_of` is left out."""


WINDOW_OPEN, AFTER_TRAINING = "label_window_open", "after_training"  # reasons for which `prepare.time` drops a row


class Prepare(StrictModel):
    """The split by hash of the customer, and in time, and the reasons for which a row may be dropped."""

    holdout_share: Share
    """The share of customers in the holdout, which no training sees."""
    salt: Text
    """A word in the hash by which customers are split. Another word makes another split."""
    drop: Mapping[Text, Text]
    """By reason: the condition in SQL for which rows are left out and counted. `{}` drops none."""
    time: Time | None = None
    """The periods of a table with a column of the role time. Without such a column it is left out."""

    @model_validator(mode="after")
    def _has_no_reason_twice(self) -> Self:
        if self.time and (taken := {WINDOW_OPEN, AFTER_TRAINING} & set(self.drop)):
            raise ValueError(f"drop.{min(taken)}: this name is a reason of prepare.time; rename the condition")
        return self


class Train(StrictModel):
    """A classifier by import path, its parameters, and its random state."""

    estimator: Text
    """The import path of a classifier of scikit-learn, lightgbm.LGBMClassifier or xgboost.XGBClassifier."""
    parameters: Mapping[str, JsonValue]
    """The classifier's parameters, by name. `{}` takes its defaults."""
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    """The random state of the training."""


class Slices(StrictModel):
    """Groups of customers: one for each value of a column, and one for each named condition."""

    columns: tuple[Text, ...]
    """Categories and booleans: each of their values is a slice of its own."""
    conditions: Mapping[Text, Text]
    """By name: a condition in SQL over the features, whose customers are a slice. `{}` is none."""


class Profit(StrictModel):
    """What a churner who stays is worth, what each contact costs, and the share of contacted churners who stay."""

    retained_value: Annotated[float, Field(gt=0), Stricter.MAINS]
    """What a churner who stays is worth, in any currency."""
    offer_cost: Annotated[float, Field(ge=0), Stricter.MAINS]
    """What each contact costs, in the same currency."""
    success_rate: Annotated[float, Field(gt=0, le=1), Stricter.MAINS]
    """The share of contacted churners who stay."""


class Campaign(StrictModel):
    """The share of customers that a retention campaign contacts, and what that is worth; see docs/metrics.md."""

    capacity: Annotated[Share, Stricter.MAINS]
    """The share of customers that a campaign can contact: those with the highest scores."""
    profit: Profit | None = None
    """The money for `profit_per_customer`. Left out, that metric has no value and no rule."""


class Evaluate(StrictModel):
    """The score from which a customer counts as predicted to churn, the campaign, and the slices."""

    threshold: Share
    """The score from which a customer counts as predicted to churn."""
    campaign: Campaign
    """The retention campaign that the scores are for; docs/metrics.md defines its metrics."""
    slices: Slices
    """The groups of customers that are measured beside all customers."""


class Bound(StrictModel):
    """The least and the greatest value that a metric may have; at least one of them is given."""

    min: Annotated[float | None, Stricter.LARGER] = None
    """The least value of the metric that passes."""
    max: Annotated[float | None, Stricter.SMALLER] = None
    """The greatest value of the metric that passes."""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("needs a min, a max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}: no value could pass")
        return self


Bounds = Annotated[Mapping[Metric, Bound], Field(min_length=1)]
Margins = Annotated[Mapping[Metric, Annotated[float, Field(gt=0)]], Field(min_length=1)]


class EverySlice(StrictModel):
    """What holds for every slice of at least `min_slice_rows`, named or not; see churn/gate/rules.py."""

    max_roc_auc_gap: Annotated[Share, Stricter.SMALLER]
    """How far the ROC AUC of a slice, at the upper end of its 95 % interval, may lie below that of all customers."""
    calibration_error: Annotated[Share, Stricter.SMALLER]
    """The greatest expected calibration error of a slice, at the lower end of its 95 % interval."""
    predicted_to_actual_ratio: Annotated[Share, Stricter.LARGER]
    """The least number of predicted churners for each actual one, in slices that churn at least as often as all."""


class VsBaseline(StrictModel):
    """How much worse than main's model, and how much better, a model may be; see churn/gate/baseline.py."""

    margins: Annotated[Margins, Stricter.SMALLER]
    """By metric: the loss against main's model that is allowed, on all customers."""
    slice_margins: Annotated[Margins, Stricter.SMALLER]
    """By metric: the loss against main's model that is allowed in a slice."""
    tolerance: Annotated[float, Field(ge=1), Stricter.SMALLER]
    """The loss that a holdout has to rule out, in margins. Otherwise the comparison is inconclusive."""
    familywise_alpha: Annotated[Share, Stricter.LARGER]
    """The probability of a false alarm in all comparisons of slices together."""
    max_gain: Annotated[Margins, Stricter.SMALLER]
    """By metric: the greatest gain over main's model. A larger one suggests leakage."""


class Anchor(StrictModel):
    """How much worse, and better, than main's model of so many days ago a model may be; see churn/gate/anchor.py."""

    days: Annotated[int, Field(gt=0, le=3_650), Stricter.MAINS]
    """The age of main's earlier model, in days before main's commit."""
    margins: Annotated[Margins, Stricter.SMALLER]
    """By metric: the loss against main's earlier model that is allowed, on all customers."""
    slice_margins: Annotated[Margins, Stricter.SMALLER]
    """By metric: the loss against main's earlier model that is allowed in a slice."""
    max_gain: Annotated[Margins, Stricter.SMALLER]
    """By metric: the greatest gain over main's earlier model. A larger one suggests leakage."""


class WhenInconclusive(StrictModel):
    """What becomes of a comparison with main's model that shows neither a loss nor that there is none."""

    overall: Literal["block", "pass"]
    """What an inconclusive comparison of all customers does to the model."""
    slices: Literal["block", "pass"]
    """What an inconclusive comparison of a slice does to the model."""


class Gate(StrictModel):
    """The rules that a model must pass, for all customers and for slices, and the least size of a slice."""

    min_slice_rows: Annotated[int, Field(gt=0), Stricter.MAINS]
    """The least number of customers in a slice. A smaller slice fails its own bounds; any other one is skipped."""
    overall: Bounds
    """By metric: its bounds on all customers."""
    slices: Mapping[Text, Bounds]
    """By slice (`column=value`, a condition's name or `column is missing`) and metric: its bounds there."""
    every_slice: EverySlice
    """What each slice of at least `min_slice_rows` keeps, whether it has bounds of its own or not."""
    vs_baseline: VsBaseline
    """The comparison with main's model on the same customers."""
    anchor: Anchor
    """The comparison with main's model of some time ago, because small losses add up."""
    when_inconclusive: Annotated[WhenInconclusive, Stricter.BLOCK]
    """What follows if the holdout shows neither a loss nor that there is none."""


class Register(StrictModel):
    """The name of the model, and of its experiment, in MLflow, and the branch from which champion moves."""

    model: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    """The name of the model in MLflow, and of its experiment."""
    promote_from: Annotated[str, Field(pattern=r"^\w[\w./-]*$")] | None
    """The branch whose clean checkout moves `champion`, or null for the remote's default branch. Other versions become
    `candidate`."""


class Compute(StrictModel):
    """Where the stages run: on this machine, or on the workers of a Dask cluster; see docs/scale.md."""

    engine: Literal["local", "dask"] = "local"
    """Who does the work of fetch, prepare, validate, train and evaluate: this machine, or Dask's workers."""
    scheduler: Annotated[str, Field(pattern=r"^(tcp|tls)://[^/@\s]+:\d+$")] | None = None
    """The address of a Dask scheduler, such as tcp://10.0.0.5:8786. Left out, each stage starts workers here."""
    workers: Annotated[int, Field(gt=0, le=1_024)] = 2
    """How many workers a stage starts on this machine; with a `scheduler`, how many of its workers train together."""
    memory: Annotated[str, Field(pattern=r"^([1-9][0-9]{0,5}(\.[0-9]{1,6})?GB|[1-9][0-9]{3,8}MB)$")] | None = None
    """How much memory a stage may use, such as 4GB; at least 1GB. Beyond it, DuckDB and XGBoost use the disk, train
    refuses another estimator, and evaluate a larger holdout. Left out, DuckDB takes 1GB, and an estimator what it
    needs. Under Dask it is that of each worker which a stage starts here."""
    storage: Text | None = None
    """Where Dask's partitions lie: s3://bucket/prefix, or a folder that all machines share. DVC then tracks a manifest
    of their hashes. Left out, they lie in the folder of the table, and DVC tracks the files; a `scheduler` needs it.
    """
    partition_rows: Annotated[int, Field(ge=1_000, le=100_000_000)] = 1_000_000
    """About how many rows a partition has under Dask. A worker needs memory for some copies of one."""

    @model_validator(mode="after")
    def _is_reachable(self) -> Self:
        storage = self.storage or ""
        in_s3 = storage.startswith("s3://")
        if not in_s3 and re.match(r"\w+:/", storage):
            raise ValueError("storage: needs s3://bucket/prefix, or a folder that all machines share")
        if self.scheduler and not in_s3 and not storage.startswith("/"):
            raise ValueError(
                "scheduler: its workers may be other machines: add storage, an s3:// URL or the whole path of a folder"
                " that they share"
            )
        return self


LOCAL = Compute()


class Params(StrictModel):
    """All of params.yaml."""

    fetch: Fetch
    """Where the customers come from."""
    prepare: Prepare
    """The split, and the rows that do not count."""
    train: Train
    """The model."""
    evaluate: Evaluate
    """How scores become decisions, and for whom they are measured."""
    gate: Gate
    """The rules that a model passes."""
    registration: Annotated[Register, Field(alias="register")]
    """The registry."""
    compute: Compute = LOCAL
    """The machines; may be left out."""

    @model_validator(mode="after")
    def _has_what_profit_needs(self) -> Self:
        rules = self.gate.model_dump()
        if not self.evaluate.campaign.profit and (key := next(_keys_of(rules, PROFIT), None)):
            raise ValueError(f"gate.{key}: needs evaluate.campaign.profit: add it, or remove the rule")
        return self


def _keys_of(values: Mapping[str, object], name: str) -> Iterator[str]:
    """Yield the dotted path of each key called `name`."""
    for key, value in values.items():
        if key == name:
            yield key
        elif isinstance(value, Mapping):
            yield from (f"{key}.{below}" for below in _keys_of(value, name))


def load_params(path: Path = PARAMS) -> Params:
    """Read params.yaml as typed, frozen settings.

    Parameters
    ----------
    path : Path
        The file; by default the one in this folder.

    Raises
    ------
    StageError
        With the path of each key that is unknown, missing, or has a wrong value.

    Examples
    --------
    >>> params = load_params(Path("tests/sample/params.yaml"))
    >>> params.evaluate.threshold, params.gate.overall["roc_auc"].min
    (0.5, 0.82)
    """
    return read_settings(path, Params)


def write_value(section: str, key: str, value: date | str | None, path: Path = PARAMS) -> None:
    """Write a value to its line of params.yaml, and keep the line's comment.

    Raises StageError, and leaves the file, when the key has no line of its own.
    """
    params = load_params(path)
    wanted = params.model_copy(update={section: getattr(params, section).model_copy(update={key: value})})
    # The key, its value if there is one (DVC writes a null as nothing), and a comment.
    line = re.compile(rf"""^( +(["']?){key}\2 *:)(?: +[^#\s][^#\n]*?)?( *(?: #.*)?)$""", re.MULTILINE)
    new = json.dumps(value, default=str)  # in quotes, because DVC takes no date
    text, found = line.subn(lambda one: f"{one[1]} {new}{one[3]}", read_text(path, YAML_LENGTH))
    with replacing(path) as tmp:
        tmp.write_text(text, encoding="utf-8")
        if found != 1 or not _holds(tmp, wanted):
            raise StageError(f"{path} has {section}.{key} not on a line of its own: write it as `  {key}: VALUE`.")


def _holds(path: Path, wanted: Params) -> bool:
    try:
        return load_params(path) == wanted
    except StageError:
        return False
