"""Main's side of the report, rebuilt from its commit: a branch cannot forge it.

A copy of the commit shares this clone's DVC cache, and `dvc repro` in it takes main's own results from there, from
the remote, or makes them. The comparison is paired: both models score the branch's holdout, prepared for either by its
own code, without the rows that main has trained on.
"""

import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from churn.contract import Contract, load_contract
from churn.curves import curves
from churn.drift import feature_drift, row_changes
from churn.model import load_model, model_frame
from churn.paired import Difference, compare
from churn.params import METRICS, load_params
from churn.slices import slice_masks
from churn.stage import CONTRACT, MODEL, PARAMS, PREDICTIONS, RAW, TEST, TRAIN, StageError, sha256_of
from report.facts import Comparison, DataChange, Slice
from report.git import git
from report.judge import Candidate
from report.picture import draw
from report.state import dvc

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

FOLDER = Path(".cache/baseline")
LOCAL_CONFIG = Path(".dvc/config.local")


@contextmanager
def rebuilt(commit: str) -> Iterator[Path]:
    """Yield a folder with the pipeline of `commit` and everything up to its predictions; it is gone afterwards.

    Not a worktree of Git: that has all of a larger repository, and DVC cannot read a submodule's. Raises StageError,
    with the reason, where it cannot be made.
    """
    shutil.rmtree(FOLDER, ignore_errors=True)  # what a killed run left
    try:
        _check_out(commit)
        if LOCAL_CONFIG.exists():  # where the remote is
            shutil.copy(LOCAL_CONFIG, FOLDER / LOCAL_CONFIG)
        dvc("config", "--local", "cache.dir", dvc("cache", "dir").stdout.strip(), folder=FOLDER)
        has_remote = bool(dvc("config", "core.remote").stdout.strip())
        _keep_snapshot(has_remote)
        # Not from the run-cache, where the branch could have planted a run.
        done = dvc("repro", "--no-run-cache", *(["--pull"] if has_remote else []), "evaluate", folder=FOLDER)
        if done.returncode:
            said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            raise StageError(f"its pipeline does not run: {next(filter(_is_fault, said), said[-1] if said else '')}")
        yield FOLDER
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)


def _check_out(commit: str) -> None:
    """Write the pipeline's files of `commit` to FOLDER, a Git repository without a commit, which DVC asks for.

    Raises StageError where the commit has no pipeline in this folder.
    """
    packed = subprocess.run(["git", "archive", "--format=tar", commit], capture_output=True, check=False)
    if git("init", "--quiet", str(FOLDER)) is None:
        raise StageError(f"git cannot make a repository in {FOLDER}")
    # Of a folder that the commit lacks, git packs nothing; what it packs of an empty one, Python does not read.
    with suppress(tarfile.ReadError), tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(FOLDER, filter="tar")
    if not (FOLDER / ".dvc").is_dir():
        raise StageError(f"{commit[:8]} has no pipeline in {git('rev-parse', '--show-prefix') or 'its root'}")


def _keep_snapshot(has_remote: bool) -> None:
    """Let main keep the snapshot that its model was trained on, where its source may hold other customers by now.

    Raises StageError when that snapshot is nowhere: trained on today's, it would be no main to compare with.
    """
    try:
        source = load_params(FOLDER / PARAMS).fetch.source
    except StageError:
        return
    if "://" in source or not (FOLDER / source).resolve().is_relative_to(FOLDER.resolve()):
        dvc("pull" if has_remote else "checkout", "fetch", folder=FOLDER)
        if not (FOLDER / RAW).exists():
            raise StageError("the snapshot that it was trained on is in no DVC cache or remote")
        dvc("commit", "--force", "fetch", folder=FOLDER)


def _is_fault(line: str) -> bool:
    """Say whether a line is how a stage, or DVC, tells a fault."""
    return line.startswith(("ERROR:", "fetch: ", "prepare: ", "validate: ", "train: ", "evaluate: "))


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
        raise StageError(f"its code cannot prepare this branch's data: {(done.stderr.splitlines() or [''])[-1]}")
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
