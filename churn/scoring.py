"""Scores the customers of a table with the champion: `python -m churn score customers.parquet scores.parquet`.

In: a Parquet or CSV file, or a table of PostgreSQL (`postgresql://user@host/database#schema.table`), with the columns
that the query of fetch gives; the label, the group and the day may be missing, and are not looked at. With `--query
source.sql` they are the source's columns, over which the query runs; `--as-of` is its `$as_of`. Out, in any of the
three: key, score, and the version that gave it, by key. Beside it, under the name with `.rejected` or `_rejected`: the
keys of the customers that break the contract, with the rules that they break. Read = scored + rejected, or nothing is
written. `--version N` takes another version than champion, and `--alias candidate` the one with another alias.

Under `compute.engine: dask` workers score, and a Parquet result is a folder of partitions; see churn/scoring_parts.py.

Fails when the version was not verified, when its files are not the registered ones, when it takes other features or
values than contract.yaml declares, when a column is missing or not declared, and when anything cannot be read or
written.
"""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from churn.config.contract import Contract, load_contract
from churn.config.memory import limit_duckdb
from churn.config.params import load_params
from churn.core.errors import StageError
from churn.core.files import YAML_LENGTH, read_text, read_yaml
from churn.core.paths import CONTRACT
from churn.data.as_of import YESTERDAY, as_day, read_query, uses_as_of
from churn.data.sinks import batches_of, beside, refuse_place
from churn.data.sources.query import Query
from churn.modeling.model import read_model
from churn.registry.champion import ALIAS
from churn.registry.client import failed_with, no_mlflow, registry
from churn.registry.package import MODEL_FILE
from churn.registry.versions import VERIFIED, files_of, foreign, is_foreign
from churn.scoring_parts import score_on_workers
from churn.scoring_rows import score

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

FETCHED = "fetch.query"  # --query without a file


def chosen(client: "MlflowClient", model: str, number: str | None, alias: str = ALIAS) -> "ModelVersion":
    """Return the version with the number, or with the alias.

    Raises StageError when there is none, when it is half written, and when it is not this pipeline's.
    """
    from mlflow.exceptions import MlflowException

    if number is not None and not re.fullmatch("[0-9]{1,9}", number):  # MLflow has other errors for these
        raise StageError(f"--version {number} is no number of a version: `make registry` shows the versions.")
    try:
        if number is None:
            registered = client.get_registered_model(model)
            if registered.name != model:
                raise no_mlflow(client)
            if alias not in registered.aliases:
                raise StageError(
                    f"{model} has no {alias or 'empty alias'}: `make registry` shows the versions and their aliases."
                )
            number = str(registered.aliases[alias])
        version = client.get_model_version(model, number)
    except MlflowException as error:
        if not failed_with(error, "RESOURCE_DOES_NOT_EXIST"):
            raise
        what = f"version {number} of {model}" if number else f"model {model}"
        raise StageError(f"the registry has no {what}: `make registry` shows what it has.") from error
    if is_foreign(version):
        raise StageError(f"{foreign(version)}.")
    if VERIFIED not in version.tags:
        raise StageError(f"version {number} of {model} was never verified: its registration did not end.")
    return version


def load(version: "ModelVersion", contract: Contract) -> Any:
    """Return the version's model, read as our own, after the digest of all its files was checked.

    Raises StageError when it takes other features, or fewer values of one, than the contract's.
    """
    from mlflow.models import Model

    with files_of(version) as folder:
        known = Model.load(str(folder)).signature
        model = read_model(folder / MODEL_FILE)
        is_ours = {*model.feature_names_in_} == {*contract.features}
        other = "features"
        if is_ours and known is not None and {*known.inputs.input_names()} == {*contract.fetched_features}:
            if not (unknown := _unknown_values(folder / CONTRACT.name, contract)):
                return model
            other = f"values of {', '.join(unknown)}"
        commit = version.tags.get("commit", "of its registration")
        raise StageError(
            f"version {version.version} of {version.name} takes other {other} than {CONTRACT} declares: score with the"
            f" commit {commit}."
        )


def _unknown_values(trained_by: Path, contract: Contract) -> list[str]:
    """Return the features with a type, a value or missing values that the contract of the training does not have.

    Its columns alone are read, because its rules may be those of another version of this code.
    """
    columns, unknown = read_yaml(read_text(trained_by, YAML_LENGTH), str(CONTRACT))["columns"], []
    for name in contract.features:
        column, known = contract.columns[name], columns[name]
        is_known = column.type == known["type"] and {*(column.values or ())} <= {*(known.get("values") or ())}
        if not is_known or (column.nullable and known.get("nulls") != "allow"):
            unknown.append(name)
    return unknown


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m churn score", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("customers", help="Parquet, CSV, or postgresql://user@host/database#table")
    parser.add_argument("scores", help="where to write: the same kinds")
    parser.add_argument(
        "--query",
        nargs="?",
        const=FETCHED,
        help="the customers are in the source's columns: run this file over them (default: fetch.query)",
    )
    parser.add_argument("--as-of", metavar="DAY", help=f"the day of $as_of in the query: 2026-11-24, or {YESTERDAY}")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--alias", default=ALIAS, help=f"candidate, or another alias, instead of {ALIAS}")
    which.add_argument("--version", help=f"a version's number, instead of {ALIAS}")
    return parser


def asked_query(path: str | None, day: str | None) -> Query | None:
    """Return the query that the options name, or None.

    Its day is an option, because the day of the training would give new customers the ages of that day. Raises
    StageError when the query cannot be read, and when its day is missing, too much, or none.
    """
    if path is None:
        if day:
            raise StageError("--as-of is the day of $as_of in a query: add --query.")
        return None
    name = load_params().fetch.query if path == FETCHED else path
    sql = read_query(name)
    if uses_as_of(sql) != bool(day):
        what = (
            "does not use $as_of: leave --as-of out" if day else f"uses $as_of: add --as-of DAY or --as-of {YESTERDAY}"
        )
        raise StageError(f"{name} {what}.")
    try:
        return Query(sql, name, as_day(day) if day else None)
    except ValueError as error:
        raise StageError(f"--as-of {day} is no day: write 2026-11-24, or {YESTERDAY}.") from error


def main(asked: argparse.Namespace) -> None:
    """Score what the command line names."""
    scores = Path(asked.scores)
    if not asked.customers.partition("#")[0].strip():
        raise StageError("the name of the customers' table is empty: write a file, a folder or a URL.")
    refuse_place(asked.scores)
    written, given = {scores.resolve(), beside(scores, "rejected").resolve()}, Path(asked.customers).resolve()
    if asked.customers == asked.scores or written & {given, *given.parents}:
        raise StageError("the scores would overwrite the customers: name another place.")
    params, contract, query = load_params(), load_contract(), asked_query(asked.query, asked.as_of)
    limit_duckdb(params)
    name = params.registration.model
    with registry() as client:
        version = chosen(client, name, asked.version, asked.alias)
        model = load(version, contract)
    number, timeout = int(version.version), params.fetch.timeout_minutes
    if params.compute.engine == "dask" and scores.suffix == ".parquet" and "://" not in asked.scores:
        batches = batches_of(asked.customers, timeout, contract.label, query)
        done = score_on_workers(batches, scores, model, params, contract, number=number)
    else:
        done = score(asked.customers, asked.scores, model, contract, number, query=query, timeout=timeout)
    read, rows, by_rule = done
    for rule, count in by_rule.items():
        print(f"score: {count:,} break {rule}")
    print(f"score: {read:,} read = {rows:,} scored by version {version.version} of {name} + {read - rows:,} rejected")
