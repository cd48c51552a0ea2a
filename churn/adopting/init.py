"""Puts another table in the place of the sample: `python -m churn init SOURCE` (`make init SOURCE=customers.csv`).

Reads the source once, asks what nobody may guess, and writes contract.yaml, source.sql, params.yaml, profile.json and
churn/features.py. Then it runs the pipeline up to prepare, and writes the gate's bounds from the noise of the table.
"""

import argparse
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

from churn.adopting import bounds
from churn.adopting.answers import Answers
from churn.adopting.blocks import replace_blocks
from churn.adopting.columns import columns, table
from churn.adopting.dialects import DUCKDB, OF_SCHEME, SQLITE, Dialect
from churn.adopting.questions import as_day, planned
from churn.adopting.sql import Plan, source_sql
from churn.adopting.texts import FEATURES, contract_text, least_rows, params_text
from churn.config.contract import load_contract
from churn.config.params import load_params
from churn.core.errors import StageError, has_password, number_of
from churn.core.files import YAML_LENGTH, delete, read_text, replacing, write_json
from churn.core.paths import CONTRACT, LOCK, PARAMS, PLOTS, PROFILE
from churn.core.terminal import working
from churn.data.as_of import read_query, uses_as_of
from churn.data.sources import files, sqlite
from churn.quality.profile import customers_profile, single_feature_roc_auc

QUERY, FUNCTIONS, PIPELINE = Path("source.sql"), Path("churn/features.py"), Path("dvc.yaml")
OURS = (CONTRACT, PARAMS, QUERY, PROFILE, FUNCTIONS)  # what init writes
COPIES = Path("tests/sample")  # of the sample's files: those may be overwritten
RESULTS = (
    LOCK,
    Path("metrics"),
    PLOTS,
    Path("models"),
    *(Path("data", name) for name in ("raw", "features", "predictions")),
)
REGISTRY = (Path("mlflow.db"), Path("mlartifacts"))
GIVEN_UP = (*RESULTS, *REGISTRY)
STRONGEST = 0.95  # the ROC AUC of a feature alone that a contract may allow
SOURCE_LINE = "      - ${fetch.source} # a file or folder; delete the line if it is a URL\n"


def origin(asked: argparse.Namespace) -> tuple[str, Dialect, str]:
    """Return fetch.source, the dialect of its queries, and what they read from. Raises StageError."""
    is_file = Path(asked.source).exists()  # whose name may have the sign that precedes a table's
    place, _, name = (asked.source, "", "") if is_file else str(asked.source).partition("#")
    if has_password(place):
        raise StageError(
            "SOURCE holds a password, which Git would keep: leave it out, PGPASSWORD or ~/.pgpass gives it."
        )
    dialect = OF_SCHEME.get(place.partition("://")[0], DUCKDB)
    if "://" not in place:
        path = Path(place)
        if not path.exists():
            raise StageError(f"{asked.source} does not exist: name a CSV or Parquet file, a database, or a URL.")
        if not path.resolve().is_relative_to(Path.cwd()):
            raise StageError(f"{place} is outside of this repository, where CI has no file: copy it to data/ first.")
        place = path.resolve().relative_to(Path.cwd()).as_posix()
        if any(one in (Path(place), *Path(place).parents) or Path(place) in one.parents for one in GIVEN_UP):
            where = "move the table elsewhere first, such as to data/customers.csv"
            raise StageError(f"{place} is where the stages write, and init empties it: {where}.")
    if files.begins_with(place, sqlite.MAGIC):
        dialect = SQLITE
    has_tables = dialect is not DUCKDB or files.begins_with(place, b"DUCK", 8)
    if asked.query:
        sql = read_query(asked.query).rstrip().rstrip(";")
        return place, dialect, f"(\n{sql}\n) AS source"
    if has_tables and not name:
        raise StageError(f"{place} is a database: write {place}#TABLE, or --query FILE with a SELECT.")
    relation = dialect.table(name) if has_tables else "source"
    return place, dialect, relation


def refuse_to_overwrite(force: bool) -> bool:
    """Return whether the sample's files are in place. Raises StageError when a team's are, unless it is forced."""
    changed = [path for path in OURS if path.exists() and not _equal(path, COPIES / path.name)]
    if changed and not force:
        raise StageError(
            f"{', '.join(map(str, changed))} would be overwritten: commit what you need, then add --force."
        )
    return not changed


def _equal(path: Path, copy: Path) -> bool:
    return copy.exists() and path.read_bytes() == copy.read_bytes()


def write(plan: Plan, is_first: bool) -> None:
    """Write the files of the table, and remove the results of the one before.

    Raises StageError, and leaves all files, when the new ones are not valid.
    """
    branch = None
    with suppress(StageError):
        branch = load_params().registration.promote_from
    texts = {
        CONTRACT: contract_text(plan),
        QUERY: source_sql(plan),
        PARAMS: params_text(plan, branch),
        FUNCTIONS: FEATURES,
    }
    pipeline = re.sub(r"(?m)^ *- \$\{fetch\.source\}.*\n", "", read_text(PIPELINE, YAML_LENGTH))
    if "://" not in plan.place:
        pipeline = re.sub(r"(?m)^ *- \$\{fetch\.query\}.*\n", lambda line: line[0] + SOURCE_LINE, pipeline)
    texts[PIPELINE] = pipeline
    _read_back(texts)
    for path in (*(GIVEN_UP if is_first else RESULTS), PROFILE):
        delete(path)
    for path, text in texts.items():
        with replacing(path) as tmp:
            tmp.write_text(text, encoding="utf-8")


def _read_back(texts: Mapping[Path, str]) -> None:
    """Raise StageError unless contract.yaml and params.yaml are valid, from copies in a temporary folder."""
    with TemporaryDirectory() as folder:
        for path, read in ((CONTRACT, load_contract), (PARAMS, load_params)):
            copy = Path(folder, path.name)
            copy.write_text(texts[path], encoding="utf-8")
            try:
                read(copy)
            except StageError as error:
                raise StageError(f"nothing was written: {str(error).replace(str(copy), str(path))}") from error


def described_by_profile() -> None:
    """Write profile.json, and by it the limit of a single feature's ROC AUC and the least number of rows."""
    contract = load_contract()
    profile = customers_profile(contract)
    write_json(PROFILE, profile.model_dump(mode="json", exclude_none=False))
    areas = {name: single_feature_roc_auc(one) for name, one in profile.features.items()}
    name = max(areas, key=lambda one: areas[one])
    limit = min(max(contract.rules.max_single_feature_roc_auc, ceil((areas[name] + 0.05) * 20) / 20), STRONGEST)
    line = f"max_single_feature_roc_auc: {limit:g} # {name} has {areas[name]:.2f}; a higher value suggests leakage"
    # Of rows over time, prepare drops those whose label is not final, and those after the training.
    replace_blocks(CONTRACT, {"rules.max_single_feature_roc_auc": [line], "rules.min_rows": [least_rows(profile.rows)]})
    if areas[name] > limit:
        print(f"init: {name} alone has a ROC AUC of {areas[name]:.2f}: validate refuses what only a churn tells")


def run(*command: str) -> None:
    """Run a module of Python's in another process, which imports the files as they are now. Raises StageError."""
    if subprocess.run([sys.executable, "-m", *command], check=False).returncode:
        raise StageError(
            f"it stopped, see above: mend {QUERY} or {CONTRACT}, then run `dvc repro prepare`, `make profile` and"
            " `make bounds`."
        )


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m churn init",
        description="Put another table in the place of the sample: write contract.yaml, source.sql, params.yaml and"
        " profile.json from it. On a terminal it asks for what an option does not say.",
    )
    parser.add_argument(
        "source",
        help="a CSV or Parquet file, a folder of them, s3://…, or DATABASE#TABLE: DuckDB, SQLite,"
        " postgresql://user@host/db#schema.table, or a table of Snowflake or BigQuery",
    )
    parser.add_argument("--query", metavar="FILE", help="a SELECT in the source's dialect that init begins from")
    parser.add_argument("--key", metavar="COLUMN", help="it names the customer: another value in each row")
    parser.add_argument("--label", metavar="COLUMN", help="it says who churned, by two values")
    parser.add_argument("--churned", metavar="VALUE", help="the value of a churner")
    parser.add_argument("--group", metavar="COLUMN", help="the customer, where a customer has several rows")
    parser.add_argument("--time", metavar="COLUMN", help="the day of a row; with --group, no --key is needed")
    parser.add_argument("--label-window", metavar="DAYS", help="with --time: the days after which a label is final")
    parser.add_argument("--holdout-days", metavar="DAYS", help="with --time: the last days, which test the model")
    parser.add_argument(
        "--as-of", metavar="DAY", help="the day of the data, as 2026-11-24; dates become days before it"
    )
    for option, what, told in (
        ("--leave-out", "COLUMN", "personal, or known only after the churn"),
        ("--keep", "COLUMN", "a feature, though init would leave it out"),
        ("--missing", "COLUMN=MEANING", "what a missing value means"),
    ):
        parser.add_argument(option, nargs="+", action="extend", default=[], metavar=what, help=told)
    parser.add_argument("--decimal", choices=("point", "comma"), help="how 1,234 is read where both fit")
    parser.add_argument("--dates", choices=("day-first", "month-first"), help="how 3/4/2026 is read where both fit")
    parser.add_argument("--force", action="store_true", help="overwrite files that are no longer the sample's")
    bounds.add_options(parser)
    return parser


def main(asked: argparse.Namespace) -> None:
    """Ask, write the files, run the pipeline up to prepare, and write the profile and the bounds."""
    bounds.required_metrics(asked)  # refused now rather than at the end
    is_first = refuse_to_overwrite(asked.force)
    place, dialect, relation = origin(asked)
    as_of = None
    if uses_as_of(relation):
        if not asked.as_of:
            raise StageError(f"{asked.query} uses $as_of, the day of the data: write --as-of.")
        as_of = as_day(asked.as_of)
    rows = relation.replace("(\n", "(", 1)  # so that the lines of an error are those of the file
    name = asked.query or f"SELECT * FROM {relation} (--query has your own)"
    with table(place, f"SELECT * FROM {rows}", as_of, name) as database:
        with working("init: reading the columns"):
            given = columns(database)
        plan = planned(Answers(asked, given), database, (place, dialect, relation))
    write(plan, is_first)
    run("dvc", "repro", "--quiet", "prepare")
    described_by_profile()
    run("churn", "bounds", "--splits", str(asked.splits), *(f"--require={one}" for one in asked.require))
    print_next(plan)


def print_next(plan: Plan) -> None:
    """Print what was made, the open questions, and the next commands."""
    features, others = (number_of(len(some), "columns") for some in (plan.features, plan.left_out))
    print(f"init: {plan.label.rows:,} rows, {plan.churn_rate:.1%} of them churned; the features are {features}")
    if plan.left_out:
        print(f"init: {others} left out, with the reasons in {QUERY}")
    if asked := [plan.names[one.name] for one in plan.features if one.missing and one.name not in plan.meanings]:
        more = f" and {len(asked) - 5:,} more" if len(asked) > 5 else ""
        print(
            f"init: {CONTRACT} asks what a missing value of {', '.join(asked[:5])}{more} means: validate fails"
            " until it is answered"
        )
    print("init: next:")
    track = [] if "://" in plan.place else [f"dvc add {shlex.quote(plan.place)}"]
    commit = 'git add --all && git commit --message "Adopt our customers"'
    for command in (*track, "dvc repro", commit, *(() if track else ("make remote push",))):
        print(f"  {command}")
