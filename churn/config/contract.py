"""contract.yaml as typed, frozen objects: the columns of a customer, and the rules that every row must keep."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from churn.config.params import Share, StrictModel, Text, read_settings
from churn.config.stricter import Stricter
from churn.core.errors import nearest
from churn.core.paths import CONTRACT

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

# What pandas, and so MLflow, takes for a missing value when it reads a CSV file.
READ_AS_MISSING = {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"}
READ_AS_MISSING |= {"<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
EXACT = 2**53  # pandas has integers with missing values as floats
WRITTEN = ("model_version", "out_of_time", "rule", "score")  # columns of the tables that the pipeline writes
# By role; a feature has any other type.
TYPES = {"key": ("string", "integer"), "group": ("string", "integer"), "label": ("integer",), "time": ("date",)}


MOST_VALUES = 255  # of a category, as gradient boosting on histograms takes them


def too_many_values(count: int, name: str = "NAME") -> str:
    """Return the sentence on a category with too many values, and the SQL that groups the rare ones."""
    return (
        f"a category has at most {MOST_VALUES} values, and this one {count:,}: group the rare ones in the query by CASE"
        " WHEN x IS NULL OR x IN (SELECT x FROM source GROUP BY x ORDER BY count(*) DESC, x LIMIT 50) THEN x ELSE"
        f" 'other' END AS {name}, where x is the source's column; then list these values, and other, in {CONTRACT}"
    )


class Column(StrictModel):
    """A column: its role, its type, whether it may be missing and why, and who makes it."""

    role: Literal["key", "feature", "label", "group", "time"]
    """What the column is for: the `key` names a row, the `label` is 1 for churn and 0 for none, a `feature` goes to
    the model. Where a customer has several rows, the `group` names the customer. The `time` is the day of a row.
    """
    type: Literal["string", "integer", "number", "boolean", "category", "date"]
    """The type of the values. A key and a group are a string or an integer, a label an integer, a time a date, a
    feature any type but string and date.
    """
    values: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    """The categories, for the type `category` alone. A value that is not listed breaks the contract."""
    nulls: Literal["forbid", "allow"] = "forbid"
    """Whether values may be missing, in features alone."""
    because: Text | None = None
    """The meaning of a missing value, in words. It is required with `nulls: allow`."""
    computed: bool = False
    """Whether a function of churn/features.py computes the column; otherwise the query gives it."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        types = TYPES.get(self.role, ("integer", "number", "boolean", "category"))
        if self.type not in types:
            raise ValueError(f"a {self.role} has the type {' or '.join(types)}, not {self.type}")
        if (self.values is not None) != (self.type == "category"):
            raise ValueError("a category lists its values, and no other type does")
        if self.values and len(self.values) > MOST_VALUES:
            raise ValueError(too_many_values(len(self.values)))
        if self.values and len(set(self.values)) < len(self.values):
            raise ValueError("a value is listed twice")
        if missing := READ_AS_MISSING & set(self.values or ()):
            raise ValueError(f"{min(missing)!r} is read as a missing value from a CSV file; rename the category")
        if self.role != "feature" and self.computed:
            raise ValueError(f"a {self.role} is fetched, not computed")
        if self.nullable and self.role != "feature":
            raise ValueError(f"a {self.role} cannot allow nulls")
        if self.nullable != (self.because is not None):
            raise ValueError("`nulls: allow` and `because:`, what a missing value means, go together")
        return self

    @property
    def nullable(self) -> bool:
        """Whether the contract allows missing values."""
        return self.nulls == "allow"


class Range(StrictModel):
    """The least and the greatest value of a number."""

    min: Annotated[float, Stricter.LARGER]
    """The least value, in the unit of the number."""
    max: Annotated[float, Stricter.SMALLER]
    """The greatest value, in the unit of the number."""

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class LabelRate(StrictModel):
    """The least and the greatest share of churners."""

    min: Annotated[Share, Stricter.LARGER]
    """The least share of churners, between 0 and 1."""
    max: Annotated[Share, Stricter.SMALLER]
    """The greatest share of churners, between 0 and 1."""


class Relation(StrictModel):
    """A condition in SQL between the columns of one row, and the column that is blamed when it breaks."""

    column: Text
    """The column that messages name when the relation breaks."""
    holds: Text
    """The condition that each row keeps, in SQL over the contract's columns; docs/adapt.md lists the language."""
    because: Text
    """The reason for the relation, in words."""


class ProfileRules(StrictModel):
    """How far the customers may shift from profile.json, beyond chance; see churn/quality/profile_checks.py."""

    rows: Range
    """The number of rows in both tables, in multiples of the profile's."""
    nulls: Annotated[Share, Stricter.SMALLER]
    """How far the share of missing values may differ from the profile's, for each feature."""
    mean: Annotated[float, Field(gt=0), Stricter.SMALLER]
    """How far the mean of a number may differ from the profile's, in standard deviations of the profile."""
    quantiles: Annotated[Share, Stricter.SMALLER]
    """How far the share of customers below any decile of the profile may differ from the profile's, for each number."""
    categories: Annotated[Share, Stricter.SMALLER]
    """How far the share of a category may differ from the profile's."""
    label_rate: Annotated[Share, Stricter.SMALLER]
    """How far the share of churners may differ from the profile's, overall and in each bin; at most a third of it."""


def _as_share(limit: Any) -> Any:
    return 0.0 if limit == "forbid" else limit


ChangedShare = Annotated[
    float,
    BeforeValidator(_as_share),
    Field(ge=0, le=1),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"const": "forbid"}]}),
]


class Rules(StrictModel):
    """What must hold of the tables beyond the types and nulls of their columns."""

    min_rows: Annotated[int, Field(gt=0), Stricter.LARGER]
    """The least number of rows in both tables together."""
    label_rate: LabelRate
    """The least and the greatest share of churners."""
    max_single_feature_roc_auc: Annotated[Share, Stricter.SMALLER]
    """The greatest ROC AUC that a feature may have by itself. A higher one suggests leakage of the label."""
    profile: ProfileRules
    """How far the customers may shift from profile.json, beyond chance."""
    ranges: Mapping[str, Range]
    """By numeric feature: its least and its greatest value. Each numeric feature has a range."""
    relations: Mapping[Text, Relation]
    """By name: a condition between the columns of one row. `{}` is none."""
    spikes: Annotated[Mapping[Text, Mapping[float, Text]], Stricter.MAINS] = {}
    """By numeric feature and value: the reason why many customers share the value."""
    changes: Annotated[Mapping[Text, ChangedShare], Stricter.SMALLER] = {}
    """By feature: the share of main's customers that may have another value, from `forbid` (0) to 1 (all)."""


class Contract(StrictModel):
    """All of contract.yaml."""

    columns: Mapping[Text, Column]
    """By name: each column of the snapshot and each computed feature."""
    rules: Rules
    """What the tables keep beyond the types and missing values of their columns."""

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        for role in ("key", "label"):
            if (count := len(self._named(role))) != 1:
                raise ValueError(f"exactly one column has the role {role}, not {count}")
        for role in ("group", "time"):
            if (count := len(self._named(role))) > 1:
                raise ValueError(f"at most one column has the role {role}, not {count}")
        if reserved := [name for name in self.columns if name.startswith("__")]:
            raise ValueError(f"columns.{reserved[0]}: names that begin with __ are the pipeline's own")
        for name, column in self.columns.items():
            if name.lower() in WRITTEN and column.role != "feature":
                raise ValueError(f"columns.{name}: the pipeline writes a column of this name: name it otherwise")
        if len(folded := Counter(name.lower() for name in self.columns)) < len(self.columns):
            twice = [name for name in self.columns if folded[name.lower()] > 1]
            raise ValueError(f"columns.{twice[1]}: differs from {twice[0]} by upper and lower case alone")
        if not self.features:
            raise ValueError("no column has the role feature")
        if faults := list(self._faults_of_rules()):
            raise ValueError("\n".join(faults))
        return self

    def _faults_of_rules(self) -> Iterator[str]:
        """Yield each rule on a column that is not there, or not of a type that the rule is for."""
        numbers = {name for name in self.features if self.columns[name].type in ("integer", "number")}
        if missing := sorted(numbers - set(self.rules.ranges)):
            yield f"rules.ranges: no range for {', '.join(missing)}; every numeric feature has one"
        for name in sorted(set(self.features_of("integer")) & set(self.rules.ranges)):
            least, most = self.rules.ranges[name].min, self.rules.ranges[name].max
            if math.ceil(least) > math.floor(most):
                yield f"rules.ranges.{name}: no integer is between {least:g} and {most:g}"
            if self.columns[name].nullable and max(-least, most) > EXACT:
                what = "an integer that may be missing keeps its last digits to 2**53 alone"
                yield f"rules.ranges.{name}: {what}: declare it a number, or let the query divide it"
        for rule, named, known, what in (
            ("ranges", self.rules.ranges, numbers, "a numeric feature"),
            ("spikes", self.rules.spikes, numbers, "a numeric feature"),
            ("changes", self.rules.changes, {*self.features}, "a feature"),
        ):
            for name in sorted(set(named) - known):
                yield f"rules.{rule}: {name} is not {what}{nearest(name, known)}"
        for name, relation in self.rules.relations.items():
            if relation.column not in self.columns:
                there = nearest(relation.column, self.columns)
                yield f"rules.relations.{name}.column: {relation.column} is not declared{there}"

    def _named(self, role: str) -> Sequence[str]:
        return [name for name, column in self.columns.items() if column.role == role]

    def columns_json(self) -> str:
        """Return the declared columns as JSON, which every table carries: another declaration is another table."""
        return json.dumps(self.model_dump(mode="json")["columns"])

    @property
    def key(self) -> str:
        """The column that names a row."""
        return self._named("key")[0]

    @property
    def group(self) -> str | None:
        """The column that names the customer of a row, where a customer has several."""
        return next(iter(self._named("group")), None)

    @property
    def time(self) -> str | None:
        """The day of a row, if it has one."""
        return next(iter(self._named("time")), None)

    @property
    def customer(self) -> str:
        """The column that names a customer, by which the split goes: the group, else the key."""
        return self.group or self.key

    @property
    def unit(self) -> str:
        """What a row is called: customers, or rows where a customer has several."""
        return "rows" if self.group else "customers"

    @property
    def withheld(self) -> Sequence[str]:
        """The label, the group and the day: neither a feature function nor the model sees them, nor does scoring."""
        return [name for name, column in self.columns.items() if column.role in ("label", "group", "time")]

    @property
    def label(self) -> str:
        """The column that says whether the customer churned: 0 or 1."""
        return self._named("label")[0]

    @property
    def features(self) -> Sequence[str]:
        """The columns that the model sees, in the contract's order."""
        return self._named("feature")

    @property
    def fetched_features(self) -> Sequence[str]:
        """The features that are fetched, not computed, in the contract's order."""
        return [name for name in self.features if not self.columns[name].computed]

    @property
    def open_questions(self) -> Sequence[str]:
        """The columns whose `because` is still a question, as `python -m churn init` asks it."""
        return [name for name, column in self.columns.items() if (column.because or "").rstrip().endswith("?")]

    def features_of(self, *types: str) -> Sequence[str]:
        """Return the features of the given types, in the contract's order."""
        return [name for name in self.features if self.columns[name].type in types]


def load_contract(path: Path = CONTRACT) -> Contract:
    """Read contract.yaml as typed, frozen objects.

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
    >>> contract = load_contract(Path("tests/sample/contract.yaml"))
    >>> contract.key, contract.label, contract.features_of("boolean")[:2]
    ('customer_id', 'churn', ['paperless_billing', 'senior_citizen'])
    """
    return read_settings(path, Contract)
