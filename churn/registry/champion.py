"""Moves the alias champion and records each move; also candidate, for versions that main did not make.

Every move is written down before it is made, as a tag of the registered model: who, when, from, to, and why. A move
that was interrupted is made by the next run, and not written down twice. MLflow has no "only if it is still there": the
tags are numbered, so the same move at once is one. Each move ends with the alias on the version of the last tag in
their order. So of two moves at once both go by the one to the higher version, and a late one undoes no newer one.

`python -m churn registry show` prints the versions and the moves, also as JSON. `compare` prints how two versions
differ, and `dossier` writes the page of one. `rollback [WHY]` returns to the former champion. A version that was left
by a rollback carries the tag `rolled_back`, and does not become champion again before somebody deletes it.
"""

import argparse
import getpass
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

from churn.config.params import load_params
from churn.core.errors import StageError
from churn.core.files import replacing
from churn.registry.client import registry, write
from churn.registry.difference import difference
from churn.registry.package import DOSSIER
from churn.registry.versions import ELSEWHERE, MADE_BY, MAIN, VERIFIED, files_of, is_foreign, versions_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

ALIAS = "champion"
CANDIDATE = "candidate"  # the alias of the version that was last registered outside of the branch that promotes
NOBODY = "none"
ROLLED_BACK = "rolled_back"
DECISION = "decision"  # the tag of a version that says why it became champion, or did not
METRICS_SHOWN = ("roc_auc", "average_precision", "accuracy", "brier_score")
MOVES_SHOWN = 10
WHY_LENGTH = 700  # MLflow's table on PostgreSQL holds 5,000 characters of a model's tag, and JSON may write six for one
BUILD = Path("build")
MOVE = ("kind", "who", "when", "from", "to", "why")  # the kind is promotion or rollback
Move = Mapping[str, str]


def champion_of(model: "RegisteredModel") -> str:
    """Return the number of the version that is champion, or NOBODY."""
    return str(model.aliases.get(ALIAS, NOBODY))


def moves_of(model: "RegisteredModel") -> list[Move]:
    """Return the moves that were written down, the oldest first. Raises StageError when a tag is not one of them."""
    moves: list[Move] = []
    for key, value in sorted(model.tags.items()):
        if key.startswith(f"{ALIAS}/"):
            try:
                moves.append({name: str(json.loads(value)[name]) for name in MOVE})
            except (KeyError, TypeError, ValueError) as error:
                what = f"the tag {key} of {model.name} is not a move of {ALIAS}"
                raise StageError(f"{what}: delete the tag in MLflow.") from error
    return moves


def who() -> str:
    """Return who moves: in GitHub Actions the actor and the run, else the account."""
    if actor := os.environ.get("GITHUB_ACTOR"):
        run = "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}"
        names = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")
        return f"{actor}, {run.format(**{name: os.environ.get(name, '') for name in names})}"
    try:
        return os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in a container
        return f"account {os.getuid()}"


def move(client: "MlflowClient", before: "RegisteredModel", to: str, why: str, kind: str = "promotion") -> str:
    """Move the alias to the version `to`, and return the number of the version that is champion then.

    `before` is the model as it was read for the decision: the move gets the number after those that it has.
    """
    model, now = before.name, to
    planned, moves = {"kind": kind, "from": champion_of(before), "to": to}, moves_of(before)
    if not (moves and planned.items() <= moves[-1].items()):
        reason = shorten(why, WHY_LENGTH, placeholder=" …")
        entry = planned | {"who": who(), "when": datetime.now(UTC).isoformat(timespec="seconds"), "why": reason}
        key = f"{ALIAS}/{_next_number(before):06} to {to:0>6}"
        write(client.set_registered_model_tag, model, key, json.dumps(entry))
    write(client.set_registered_model_alias, model, ALIAS, to)
    while (last := moves_of(client.get_registered_model(model))[-1]["to"]) != now:  # also of moves since `before`
        now = last
        write(client.set_registered_model_alias, model, ALIAS, now)
    return now


def _next_number(model: "RegisteredModel") -> int:
    numbers = (re.match(rf"{ALIAS}/(\d+) to ", key) for key in model.tags)
    return max((int(found[1]) + 1 for found in numbers if found), default=0)


def former_champion(moves: Sequence[Move], present: str, usable: Collection[str]) -> str | None:
    """Return the version that was champion before the present one.

    Parameters
    ----------
    moves : sequence of Move
        The oldest first, as `moves_of` returns them.
    present : str
        The champion's number. Where somebody moved or deleted the alias by hand, it goes back to where the move before
        had brought it.
    usable : collection of str
        The numbers of verified versions that were not rolled back.

    Returns
    -------
    str or None
        Where the last promotion to `present` came from; if that is not usable, the one before it. Never `present`.

    Examples
    --------
    >>> first, second = {"kind": "promotion", "from": "1", "to": "2"}, {"kind": "promotion", "from": "2", "to": "5"}
    >>> former_champion([first, second], present="5", usable={"1", "2"}), former_champion([first, second], "5", {"1"})
    ('2', '1')
    """
    at, steps, ends = present, list[Move](), [*(one["from"] for one in moves[1:]), present]
    for one, end in zip(moves, ends, strict=False):
        steps.append(one)
        if end == NOBODY or end not in (one["to"], one["from"]):  # by hand
            steps.append({"kind": "promotion", "from": one["to"], "to": end})
    for one in reversed(steps):
        if one["kind"] == "promotion" and one["to"] == at:
            at = one["from"]
            if at in usable and at != present:
                return at
    return None


def rollback(client: "MlflowClient", model: str, why: str) -> tuple[str, str]:
    """Return the alias to the former champion, whose files are checked before; return both numbers, from and to.

    Where the alias is gone, as after its version was deleted, it goes back from where the last move had brought it.
    Raises StageError when there is none, and when another version is promoted meanwhile.
    """
    registered = _registered(client, model)
    present, versions = champion_of(registered), {str(one.version): one for one in versions_of(client, model)}
    if present == NOBODY and (moves := moves_of(registered)):
        present = moves[-1]["to"]
    usable = {number for number, one in versions.items() if VERIFIED in one.tags and ROLLED_BACK not in one.tags}
    former = former_champion(moves_of(registered), present, usable)
    if former is None:
        what = "no champion" if present == NOBODY else f"no champion before version {present} that can be used"
        raise StageError(f"{model} has {what}: nothing is rolled back.")
    with files_of(versions[former]):
        pass
    if present in versions:
        write(client.set_model_version_tag, model, present, ROLLED_BACK, f"by {who()}, to version {former}: {why}")
    if (now := move(client, registered, former, why, "rollback")) != former:
        raise StageError(
            f"version {now} of {model} was promoted at the same moment, and is {ALIAS}: run this again to roll it"
            " back, too."
        )
    return present, former


def _registered(client: "MlflowClient", model: str) -> "RegisteredModel":
    found = client.search_registered_models(f"name='{model}'")
    if not found:
        raise StageError(
            f"the registry knows no model {model}: `make repro` registers one, or where register ran before"
            " `dvc repro --force --single-item register`."
        )
    return found[0]


def table_of(client: "MlflowClient", model: str) -> Iterator[str]:
    """Yield the lines of two tables: the versions, newest first, and the last moves of the alias."""
    registered = _registered(client, model)
    aliases: dict[str, list[str]] = {}
    for alias, number in registered.aliases.items():
        aliases.setdefault(str(number), []).append(alias)
    experiment = client.get_experiment_by_name(model)
    runs = client.search_runs([experiment.experiment_id], max_results=10_000) if experiment else []
    measured = {run.info.run_id: run.data.metrics for run in runs}

    def cells(version: "ModelVersion") -> list[str]:
        metrics = measured.get(version.run_id, {})
        shown = [f"{metrics[name]:.4f}" if name in metrics else "" for name in METRICS_SHOWN]
        verdict = version.tags.get("verdict", "") if VERIFIED in version.tags else "half registered"
        if is_foreign(version):
            verdict = "not of this pipeline"
        by = "" if version.tags.get(MADE_BY) == MAIN else f" {ELSEWHERE}"
        names = ", ".join(sorted(aliases.get(str(version.version), [])))
        why = (
            f"rolled back {version.tags[ROLLED_BACK]}"
            if ROLLED_BACK in version.tags
            else version.tags.get(DECISION, "")
        )
        return [str(version.version), names, version.tags.get("commit", "")[:8] + by, *shown, verdict, why]

    rows = [cells(version) for version in reversed(versions_of(client, model))]
    yield from _aligned([["version", "alias", "commit", *METRICS_SHOWN, "gate", "why"], *rows])
    if any(row[2].endswith(ELSEWHERE) for row in rows):
        yield f"{ELSEWHERE}: not made by a commit of main (register.promote_from); only a person makes it {ALIAS}"
    if moves := moves_of(registered)[-MOVES_SHOWN:]:
        yield ""
        names = ("when", "from", "to", "who", "why")
        shown = [[one["when"][:19], one["from"], one["to"], one["who"], one["why"]] for one in reversed(moves)]
        yield from _aligned([[ALIAS if name == "when" else name for name in names], *shown])
        if moves[-1]["to"] != champion_of(registered):
            yield f"{ALIAS} is version {champion_of(registered)}: it was moved by hand, or a move was interrupted."


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table; line breaks and control characters, as in a tag that anybody wrote, become blanks."""
    rows = [["".join(one if one.isprintable() else " " for one in cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def copy_dossier(client: "MlflowClient", model: str, number: str | None) -> Path:
    """Copy the dossier of a version, or of the champion's, into BUILD, and return its path.

    Raises StageError when there is no such version, when its files are others, and when it has no dossier.
    """
    number = number or champion_of(_registered(client, model))
    versions = {str(one.version): one for one in versions_of(client, model)}
    if number not in versions:
        what = f"version {number}" if number != NOBODY else f"version that is {ALIAS}"
        raise StageError(f"{model} has no {what}: `make registry` shows the versions.")
    with files_of(versions[number]) as folder:
        if not (folder / DOSSIER).exists():
            raise StageError(f"version {number} of {model} has no dossier: it was registered before there were any.")
        with replacing(path := BUILD / f"dossier-{number}.html") as tmp:
            shutil.copyfile(folder / DOSSIER, tmp)
    return path


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m churn registry", description=f"The alias {ALIAS} in the registry.")
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("show", help="print the versions and the moves")
    show.add_argument("--json", action="store_true", help="print the champion and all moves as JSON instead")
    compare = commands.add_parser("compare", help="print how two versions differ")
    compare.add_argument("versions", nargs=2, metavar="VERSION")
    page = commands.add_parser("dossier", help=f"write a version's page into {BUILD}/, after a check of its files")
    page.add_argument("version", nargs="?", metavar="VERSION", help=f"its number; by default {ALIAS}'s")
    back = commands.add_parser("rollback", help="return the alias to the former champion")
    back.add_argument("why", nargs="*", help="the reason, which is written down")
    return parser


def main(asked: argparse.Namespace) -> None:
    """Show the registry, or roll champion back."""
    model = load_params().registration.model
    with registry() as client:
        if asked.command == "show" and asked.json:
            registered = _registered(client, model)
            print(json.dumps({"model": model, "champion": champion_of(registered), "moves": moves_of(registered)}))
        elif asked.command == "show":
            print(*table_of(client, model), sep="\n")
        elif asked.command == "compare":
            print("\n\n".join("\n".join(_aligned(table)) for table in difference(client, model, asked.versions)))
        elif asked.command == "dossier":
            print(f"dossier: {copy_dossier(client, model, asked.version)}")
        else:
            why = " ".join(" ".join(asked.why).split()) or "no reason was given"
            start, former = rollback(client, model, why)
            print(f"rollback: {ALIAS} of {model} is version {former} again, no longer version {start} ({why})")
