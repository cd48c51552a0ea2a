"""contract.yaml as typed, frozen objects: the columns of a customer, and the rules that every row must keep."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from churn.config.params import Share, StrictModel, Text, read_settings
from churn.config.stricter import Stricter
from churn.core.errors import nearest
from churn.core.paths import CONTRACT

from pydantic import BeforeValidator, Field, model_validator

# What pandas, and so MLflow, takes for a missing value when it reads a CSV file.
READ_AS_MISSING = {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"}
READ_AS_MISSING |= {"<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}


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

    role: Literal["key", "feature", "label"]
    type: Literal["string", "integer", "number", "boolean", "category"]
    values: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    nulls: Literal["forbid", "allow"] = "forbid"
    because: Text | None = None
    computed: bool = False

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        types = {"key": ("string", "integer"), "label": ("integer",)}.get(
            self.role, ("integer", "number", "boolean", "category")
        )
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
        if self.role == "key" and self.computed:
            raise ValueError("a key is fetched, not computed")
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
    max: Annotated[float, Stricter.SMALLER]

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class LabelRate(StrictModel):
    """The least and the greatest share of churners."""

    min: Annotated[Share, Stricter.LARGER]
    max: Annotated[Share, Stricter.SMALLER]


class Relation(StrictModel):
    """A condition in SQL between the columns of one row, and the column that is blamed when it breaks."""

    column: Text
    holds: Text
    because: Text


class ProfileRules(StrictModel):
    """How far the customers may shift from profile.json, beyond chance; see churn/quality/profile_checks.py."""

    rows: Range  # times those of the profile
    nulls: Annotated[Share, Stricter.SMALLER]
    mean: Annotated[float, Field(gt=0), Stricter.SMALLER]  # in standard deviations of the profile
    quantiles: Annotated[Share, Stricter.SMALLER]
    categories: Annotated[Share, Stricter.SMALLER]
    label_rate: Annotated[Share, Stricter.SMALLER]


def _as_share(limit: Any) -> Any:
    return 0.0 if limit == "forbid" else limit


ChangedShare = Annotated[float, BeforeValidator(_as_share), Field(ge=0, le=1)]


class Rules(StrictModel):
    """What must hold of the tables beyond the types and nulls of their columns."""

    min_rows: Annotated[int, Field(gt=0), Stricter.LARGER]
    label_rate: LabelRate
    max_single_feature_roc_auc: Annotated[Share, Stricter.SMALLER]
    profile: ProfileRules
    ranges: Mapping[str, Range]
    relations: Mapping[Text, Relation]
    # By column and value: the reason; see churn/quality/spikes.py.
    spikes: Annotated[Mapping[Text, Mapping[float, Text]], Stricter.MAINS] = {}
    # By column: `forbid`, or the share of main's customers that may have another value; see report/values.py.
    changes: Annotated[Mapping[Text, ChangedShare], Stricter.SMALLER] = {}


class Contract(StrictModel):
    """All of contract.yaml."""

    columns: Mapping[Text, Column]
    rules: Rules

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        for role in ("key", "label"):
            if (count := len(self._named(role))) != 1:
                raise ValueError(f"exactly one column has the role {role}, not {count}")
        if reserved := [name for name in self.columns if name.startswith("__")]:
            raise ValueError(f"columns.{reserved[0]}: names that begin with __ are the pipeline's own")
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
        """The column that names a customer."""
        return self._named("key")[0]

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
