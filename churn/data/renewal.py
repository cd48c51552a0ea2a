"""Renews the holdout: `python -m churn holdout renew` writes the next salt of the split to params.yaml.

A holdout that judges many models slowly becomes part of their choice. The next salt follows from the last one, so
nobody can search for a split on which a model looks good. dvc.lock and the tables stay until `dvc repro`.
"""

import argparse
import re

from churn.config.contract import load_contract
from churn.config.params import load_params, write_value
from churn.core.cluster import scratch
from churn.core.dvc_files import hash_of, stages_in
from churn.core.errors import StageError, number_of
from churn.core.files import YAML_LENGTH, read_text
from churn.core.git import default_branch
from churn.core.partitions import files_of
from churn.core.paths import LOCK, PARAMS, TEST, TRAIN
from churn.data.split import in_holdout

import pyarrow.parquet as pq


def next_salt(salt: str) -> str:
    """Return the salt after `salt`.

    Examples
    --------
    >>> next_salt("churn"), next_salt("churn-2")
    ('churn-2', 'churn-3')
    """
    numbered = re.fullmatch(r"(.*)-(\d{1,9})", salt, re.DOTALL)
    return f"{numbered[1]}-{int(numbered[2]) + 1}" if numbered else f"{salt}-2"


def renewed(salt: str, share: float) -> tuple[int, int]:
    """Return how many customers another holdout takes from the training table, and how many from the holdout.

    Raises StageError when the tables here are not those of dvc.lock: its model was trained on others.
    """
    customer = load_contract().customer
    outs = stages_in(read_text(LOCK, YAML_LENGTH), str(LOCK)).get("prepare", {}).get("outs", ())
    made = {out["path"]: out["md5"] for out in outs}
    counts = []
    for path in (TRAIN, TEST):
        if not path.exists() or hash_of(path) != made.get(str(path)):
            raise StageError(f"{path} is not that of {LOCK}: run `dvc pull` or `dvc repro`, then this again.")
        parts = (pq.read_table(file, columns=[customer])[0] for file in files_of(path, scratch()))
        counts.append(sum(int(in_holdout(part.unique().to_pandas(), salt, share).sum()) for part in parts))
    return counts[0], counts[1]


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m churn holdout", description="Renew the holdout.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("renew", help="write the next prepare.salt to params.yaml, and print what follows")
    return parser


def main(_: argparse.Namespace) -> None:
    """Write the next salt, and print whom the new holdout takes from where, and the next commands."""
    prepare = load_params().prepare
    salt = next_salt(prepare.salt)
    trained, before = renewed(salt, prepare.holdout_share)
    write_value("prepare", "salt", salt)
    print(f"holdout: prepare.salt in {PARAMS} is {salt}, and was {prepare.salt}; {LOCK} stays")
    print(
        f"holdout: the new one has {number_of(trained + before, 'customers')}: the model of {LOCK} was trained on"
        f" {trained:,} of them, and {before:,} were held out before"
    )
    print(
        f"holdout: until main has a model of this split, the report compares with main on these {before:,} alone, and a"
        " code owner has to approve the split; if they are too few, see docs/operate.md"
    )
    print("holdout: next:")
    for command in (
        "dvc repro",
        f'git commit --all --message "Renew the holdout: {prepare.salt} to {salt}"',
        f"python -m report --base {default_branch()}",
    ):
        print(f"  {command}")
