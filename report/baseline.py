"""Main's side of the report, rebuilt from its commit: a branch cannot forge it.

Where the commit's dvc.lock fits its code, parameters and data, main's results are copied from DVC's cache, each checked
against the hash in that lock. Else `dvc repro` in a clone of the commit takes them from the cache or the remote, or
makes them. The comparison is paired: both models score the branch's holdout, prepared for either by its own code,
without the rows that main has trained on.
"""

import configparser
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from churn.contract import Contract, load_contract
from churn.curves import curves
from churn.drift import feature_drift, row_changes
from churn.model import load_model, model_frame
from churn.paired import Difference, compare
from churn.params import METRICS, load_params
from churn.slices import slice_masks
from churn.stage import (
    CONTRACT,
    LOCK,
    LOG,
    MODEL,
    PARAMS,
    PREDICTIONS,
    RAW,
    TEST,
    TRAIN,
    StageError,
    md5_of,
    read_yaml,
    sha256_of,
    stages_in,
)
from report.claims import ORDER, stages_of
from report.facts import Comparison, DataChange, Slice
from report.git import git
from report.judge import Candidate
from report.picture import draw
from report.state import dvc, logged_runs

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

CLONE = Path(".cache/baseline")
CONFIG, LOCAL_CONFIG = Path(".dvc/config"), Path(".dvc/config.local")
# The keys of a stage that _is_current compares; of a stage with another one DVC decides.
KNOWN = {"cmd", "deps", "params", "outs", "metrics", "plots", "desc"}


@contextmanager
def rebuilt(commit: str, stage: str = "evaluate") -> Iterator[Path]:
    """Yield a folder with the pipeline of `commit` and everything up to a stage of it; it is gone afterwards.

    Raises StageError, with the reason, where it cannot be made.
    """
    shutil.rmtree(CLONE, ignore_errors=True)  # what a killed run left
    try:
        folder = _check_out(commit)
        if _restored(folder, ORDER[: ORDER.index(stage) + 1]):
            yield folder
            return
        has_remote = _configure(folder)
        _keep_snapshot(folder, has_remote)
        # Else evaluate would run, because `dvc repro` restores no stage that also has results in Git.
        dvc("checkout", "--quiet", "--allow-missing", folder=folder)
        # Not from the run-cache, where the branch could have planted a run.
        done = dvc("repro", "--no-run-cache", *(["--pull"] if has_remote else []), stage, folder=folder)
        if done.returncode:
            faults = [f"{stage}: {one['fault']}" for stage, one in logged_runs(folder / LOG).items() if one["fault"]]
            said = faults[0] if faults else f"`dvc repro {stage}` fails in a checkout of {commit}"
            raise StageError(f"its pipeline does not run: {said}")
        refuse_damaged(folder)
        yield folder
    finally:
        shutil.rmtree(CLONE, ignore_errors=True)


def _restored(folder: Path, stages: tuple[str, ...]) -> bool:
    """Copy the results of `stages` in `folder` from DVC's cache, without a DVC process; return whether that was enough.

    It is where each result has the hash that dvc.lock of the commit names, and that lock fits the commit's files. In
    any other case, also an unclear one, DVC decides.
    """
    try:
        pipeline = stages_in((folder / "dvc.yaml").read_text(encoding="utf-8"), "dvc.yaml")
        locked = stages_of((folder / LOCK).read_text(encoding="utf-8"))
        settings = read_yaml((folder / PARAMS).read_text(encoding="utf-8"), str(PARAMS))
        own = configparser.ConfigParser(interpolation=None)
        own.read([CONFIG, LOCAL_CONFIG], encoding="utf-8")
        cache = CONFIG.parent / own.get("cache", "dir", fallback="cache") / "files/md5"
        return all(
            _copied(folder, pipeline[stage], locked[stage], cache)
            and _is_current(folder, pipeline[stage], locked[stage], settings)
            for stage in stages
        )
    except (StageError, OSError, configparser.Error, LookupError, TypeError, AttributeError, ValueError):
        return False


def _copied(folder: Path, stage: Mapping[str, Any], locked: Mapping[str, Any], cache: Path) -> bool:
    """Copy the results of a stage from `cache`; return whether all of them have the hash that is `locked`."""
    hashes = {out["path"]: out["md5"] for out in locked["outs"]}
    outs = [_named(out) for kind in ("outs", "metrics", "plots") for out in stage.get(kind, ())]
    if {name for name, _ in outs} != set(hashes):
        return False
    for name, options in outs:
        path, md5 = folder / name, hashes[name]
        in_git = options.get("cache") is False
        if in_git and path.is_dir():
            continue  # plots/, which the report does not read
        if not path.resolve().is_relative_to(folder.resolve()) or not re.fullmatch("[0-9a-f]{32}", md5):
            return False
        if not in_git:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(cache / md5[:2] / md5[2:], path)
        if md5_of(path) != md5:  # of the copy, because a link could change after the check
            path.unlink()
            return False
    return True


def _is_current(folder: Path, stage: Mapping[str, Any], locked: Mapping[str, Any], settings: Any) -> bool:
    """Return whether `dvc repro` would find a stage unchanged: its command, its files, and the values that it reads."""
    if set(stage) - KNOWN or stage["cmd"] != locked["cmd"]:
        return False
    deps = [re.sub(r"\$\{([\w.]+)\}", lambda found: str(_value(settings, found[1])), name) for name in stage["deps"]]
    if set(deps) != {dep["path"] for dep in locked["deps"]}:
        return False
    wanted: dict[str, dict[str, Any]] = {}
    for one in stage.get("params", ()):
        for file, keys in one.items() if isinstance(one, Mapping) else [(str(PARAMS), [one])]:
            values = read_yaml((folder / file).read_text(encoding="utf-8"), file)
            wanted.setdefault(file, {}).update({key: _value(values, key) for key in keys})
    same = _json(wanted) == _json(locked.get("params", {}))
    return same and all(md5_of(folder / dep["path"]) == dep["md5"] for dep in locked["deps"])


def _named(out: Any) -> tuple[str, Mapping[str, Any]]:
    """Return the path of an output in dvc.yaml, and its options."""
    if isinstance(out, Mapping):
        ((name, options),) = out.items()
        return name, options
    return out, {}


def _value(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def _json(values: Any) -> str:
    return json.dumps(values, sort_keys=True)  # unlike ==, it keeps True and 1 apart


def _configure(folder: Path) -> bool:
    """Let DVC in `folder` use this clone's cache and remote; return whether there is a remote."""
    settings = dict(line.partition("=")[::2] for line in dvc("config", "--list").stdout.splitlines())
    local = configparser.ConfigParser(interpolation=None)
    local.read(LOCAL_CONFIG, encoding="utf-8")  # where the remote is
    local["cache"] = {"dir": str((LOCAL_CONFIG.parent / settings.get("cache.dir", "cache")).resolve())}
    with (folder / LOCAL_CONFIG).open("w", encoding="utf-8") as file:
        local.write(file)
    return bool(settings.get("core.remote"))


def _check_out(commit: str) -> Path:
    """Check the pipeline of `commit` out into CLONE and return its folder there, which a larger repository may hold.

    It is no worktree of this clone, whose settings, hooks and attributes may change what is checked out: in CI the
    branch's code has run here. Raises StageError where the commit has no pipeline in this folder.
    """
    prefix = git("rev-parse", "--show-prefix") or ""
    git("init", "--quiet", str(CLONE))
    objects = git("rev-parse", "--path-format=absolute", "--git-path", "objects")
    (CLONE / ".git/objects/info/alternates").write_text(f"{objects}\n", encoding="utf-8")  # also of a shallow clone
    if (pipeline := git("-C", str(CLONE), "ls-tree", "--name-only", commit, f"{prefix}.dvc")) == "":
        raise StageError(f"{commit[:8]} has no pipeline in {prefix or 'its root'}")
    if not pipeline or git("-C", str(CLONE), "checkout", "--quiet", commit, "--", prefix or ".") is None:
        raise StageError(f"git cannot check {commit[:8]} out")
    return CLONE / prefix


def refuse_damaged(folder: Path) -> None:
    """Raise StageError where a result in `folder` is not what its dvc.lock names.

    DVC does not verify what it takes from this machine's cache, to which the branch's code could have written.
    """
    for stage in stages_of((folder / LOCK).read_text(encoding="utf-8")).values():
        for out in stage.get("outs", ()):
            path = folder / out["path"]
            if path.is_file() and md5_of(path) != out["md5"]:
                where = f".dvc/cache/files/md5/{out['md5'][:2]}/{out['md5'][2:]}"
                raise StageError(f"{out['path']} of main is damaged in DVC's cache: delete {where} and run it again")


def _keep_snapshot(folder: Path, has_remote: bool) -> None:
    """Let main keep the snapshot that its model was trained on, where its source may hold other customers by now.

    Raises StageError when that snapshot is nowhere: trained on today's, it would be no main to compare with.
    """
    try:
        source = load_params(folder / PARAMS).fetch.source
    except StageError:
        return
    if "://" in source or not (folder / source).resolve().is_relative_to(folder.resolve()):
        dvc("pull" if has_remote else "checkout", "fetch", folder=folder)
        if not (folder / RAW).exists():
            raise StageError("the snapshot that it was trained on is in no DVC cache or remote")
        dvc("commit", "--force", "fetch", folder=folder)


def main_scores(main: Path, predictions: pd.DataFrame, contract: Contract) -> pd.Series:
    """Return main's score of each row of `predictions` (key, label, score), shape (rows,); NaN where it trained on it.

    Where main's holdout is another, its own code prepares the branch's snapshot. That overwrites the tables in `main`.
    Raises StageError when it cannot, or when its model cannot score the result.
    """
    theirs = pd.read_parquet(main / PREDICTIONS)
    key, label = contract.key, contract.label
    if list(theirs.columns) == list(predictions.columns) and theirs[[key, label]].equals(predictions[[key, label]]):
        return theirs["score"]
    their_contract = load_contract(main / CONTRACT)
    trained_on = pq.read_table(main / TRAIN, columns=[their_contract.key])[0].to_pandas()
    (main / RAW).unlink()
    shutil.copy(RAW, main / RAW)
    done = subprocess.run(
        [sys.executable, "-m", "stages.prepare"], cwd=main, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("prepare: ")] or ["prepare crashes"]
        raise StageError(f"its code cannot prepare this branch's data: {said[-1]}")
    model, scores = load_model(main / MODEL), []
    for table in map(pq.read_table, (main / TEST, main / TRAIN)):
        keys = table[their_contract.key].to_pandas()
        wanted = (keys.isin(predictions[key]) & ~keys.isin(trained_on)).to_numpy()
        if wanted.any():
            frame = model_frame(table.filter(pa.array(wanted)), their_contract)
            try:
                scores.append(pd.Series(model.predict_proba(frame)[:, 1], keys[wanted]))
            except (ValueError, TypeError) as error:
                raise StageError(f"its model cannot score this branch's holdout ({type(error).__name__})") from error
    if not scores:
        raise StageError("it has trained on every customer of this branch's holdout, or knows none of them")
    return predictions[key].map(pd.concat(scores))


def comparison(main: Path, one: Candidate, picture: Path) -> Comparison:
    """Compare main's model with the candidate and draw both. Raises StageError when that cannot be done."""
    threshold, label = one.evaluate.threshold, one.contract.label
    theirs = main_scores(main, one.predictions, one.contract)
    both = theirs.notna().to_numpy()
    predictions = one.predictions[both]
    y, ours, scores = predictions[label].to_numpy(), predictions["score"].to_numpy(), theirs.to_numpy()[both]
    if not 0 < y.sum() < len(y):
        raise StageError(f"of the {len(y):,} customers that both models can score, all or none churned")
    slices = []
    for name, rows in slice_masks(one.features[both].reset_index(drop=True), one.evaluate.slices, one.contract):
        enough = rows.sum() >= one.gate.min_slice_rows  # of a handful of rows no interval is true
        found = (
            compare(y[rows], scores[rows], ours[rows], threshold) if enough else dict.fromkeys(METRICS, Difference())
        )
        slices.append(Slice(name, int(rows.sum()), found))
    draw(curves(y, scores, threshold), curves(y, ours, threshold), picture)
    return Comparison(len(y), len(one.predictions), compare(y, scores, ours, threshold), tuple(slices))


def picture_alone(picture: Path) -> None:
    """Draw this checkout's model without another beside it."""
    contract, threshold = load_contract(), load_params().evaluate.threshold
    predictions = pd.read_parquet(PREDICTIONS)
    draw(None, curves(predictions[contract.label], predictions["score"], threshold), picture)


def data_change(main: Path, prepared: bool) -> DataChange | None:
    """Compare the customers with those that main was trained on; None where they are the same.

    The features are those of the training tables, or of the snapshots where nothing was `prepared` here.
    """
    contract = load_contract()
    before, after = (main / TRAIN, TRAIN) if prepared else (main / RAW, RAW)
    if all(sha256_of(one) == sha256_of(other) for one, other in {(before, after), (main / RAW, RAW)}):
        return None
    drift = tuple(feature_drift(before, after, contract))
    return DataChange(row_changes(main / RAW, RAW, contract), drift)
