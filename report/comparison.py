"""Compares this checkout with main's side, as report/baseline.py rebuilds it: the models and the customers.

The comparison is paired: both models score the branch's holdout, prepared for either by its own code, without the rows
that main has trained on.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from churn.config.contract import Contract, load_contract
from churn.config.params import load_params, write_value
from churn.core.errors import StageError
from churn.core.files import delete, sha256_of
from churn.core.paths import MODEL, PARAMS, PREDICTIONS, RAW, TEST, TRAIN
from churn.data.split import among
from churn.evaluation.curves import curves
from churn.evaluation.holdout import judged_rows, outcomes_of
from churn.evaluation.metrics import Floats
from churn.evaluation.paired import compare, compare_slices
from churn.evaluation.plots import draw
from churn.evaluation.slices import slice_masks
from churn.modeling.codes import churn_probability
from churn.modeling.model import load_model, model_frame
from churn.quality.drift import feature_drift, row_changes
from report.data import Comparison, DataChange, OtherKeys
from report.flips import flips, flips_by_seed
from report.identity import copy_snapshot, other_keys, renamed_features, trained_apart
from report.judge import Candidate
from report.sample import sampled
from report.selection import easier_holdout, new_churn
from report.settings import mains_contract, mains_params
from report.values import again, customer_changes, twins

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


def main_scores(main: Path, predictions: pd.DataFrame, contract: Contract, rekeyed: OtherKeys | None) -> pd.Series:
    """Return main's score of each row of `predictions` (key, label, score), shape (rows,); NaN where it trained on it.

    Where main's holdout is another, its own code prepares the branch's snapshot. That overwrites the tables in `main`.
    Main has trained on a customer if it has on one of the customer's rows. A row with a value that its contract does
    not know has NaN, too. Raises StageError when main's code cannot prepare, or its model cannot score.
    """
    their_contract = mains_contract(main)
    theirs = pd.read_parquet(sampled(main / PREDICTIONS, their_contract))
    key, label = contract.key, contract.label
    if list(theirs.columns) == list(predictions.columns) and theirs[[key, label]].equals(predictions[[key, label]]):
        return theirs["score"]
    trained = sampled(main / TRAIN, their_contract)
    ids = (their_contract.key, their_contract.group, contract.group)
    named = [name for name in pq.read_schema(trained).names if name in ids]
    trained_on = {name: pq.read_table(trained, columns=[name])[0].to_pandas() for name in named}
    if rekeyed:
        trained_on[their_contract.key] = pd.concat([trained_on[their_contract.key], rekeyed.trained_on])
    if (day := load_params().fetch.as_of) != mains_params(main).fetch.as_of and their_contract.time:
        write_value("fetch", "as_of", day, main / PARAMS)  # else its code would refuse the days since
    if mains_params(main).compute.engine == "dask":
        write_value("compute", "engine", "local", main / PARAMS)  # of a sample
    names = renamed_features(main)
    delete(main / RAW)
    copy_snapshot(main / RAW, their_contract, names)
    environment = os.environ | {"PYTHONPATH": str(main.resolve()), "PYTHONSAFEPATH": "1"}  # its own code alone
    command = [sys.executable, "-m", "stages.prepare"]
    done = subprocess.run(command, cwd=main, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        messages = [line for line in done.stderr.splitlines() if line.startswith("prepare: ")] or ["prepare crashes"]
        raise StageError(f"its code cannot prepare this branch's data: {messages[-1]}")
    model, scores = load_model(main / MODEL), []
    for table in map(pq.read_table, (main / TEST, main / TRAIN)):
        keys = table[their_contract.key].to_pandas()
        wanted = among(keys, predictions[key]) & unseen(table, trained_on) & known_values(table, their_contract)
        if wanted.any():
            frame = model_frame(table.filter(pa.array(wanted)), their_contract)
            try:
                scores.append(pd.Series(churn_probability(model, frame), keys[wanted]))
            except (ValueError, TypeError) as error:
                raise StageError(f"its model cannot score this branch's holdout ({type(error).__name__})") from error
    if not scores:
        raise StageError("it has trained on every customer of this branch's holdout, or knows none of them")
    return predictions[key].map(pd.concat(scores))


def unseen(table: pa.Table, trained_on: Mapping[str, pd.Series]) -> npt.NDArray[np.bool_]:
    """Return the rows that share neither key nor customer with `trained_on`, which has the values by column."""
    rows = np.ones(len(table), dtype=np.bool_)
    for name, trained in trained_on.items():
        rows &= ~among(table[name].to_pandas(), trained)
    return rows


def known_values(table: pa.Table, contract: Contract) -> npt.NDArray[np.bool_]:
    """Return the rows whose categories the contract lists, and that lack a value only where it allows that."""
    rows = np.ones(len(table), dtype=np.bool_)
    for name in contract.features:
        values, column = contract.columns[name].values, table[name]
        if not contract.columns[name].nullable:
            rows &= column.is_valid().to_numpy()
        if values:
            listed = pc.is_in(column.cast(pa.string()), value_set=pa.array(values))
            rows &= pc.or_(listed, column.is_null()).to_numpy()
    return rows


def scored_by_both(
    main: Path, one: Candidate, rekeyed: OtherKeys | None
) -> tuple[npt.NDArray[np.bool_], pd.DataFrame, Floats]:
    """Return which rows of the holdout are compared, and these rows' predictions and scores by main's model.

    They are those that both models can score, and that are later than the training where rows have a day.

    Raises StageError when none can be scored, or when they do not hold both outcomes.
    """
    theirs = main_scores(main, one.predictions, one.contract, rekeyed)
    both = theirs.notna().to_numpy() & judged_rows(one.predictions)
    predictions = one.predictions[both]
    if predictions[one.contract.label].nunique() < 2:
        raise StageError(f"of the {len(predictions):,} customers that both models can score, all or none churned")
    return both, predictions, theirs.to_numpy()[both]


def new_rows(
    main: Path, predictions: pd.DataFrame, contract: Contract, rekeyed: OtherKeys | None
) -> npt.NDArray[np.bool_]:
    """Return the rows of customers whom main's snapshot does not have, under any key; shape (rows,)."""
    theirs = sampled(main / RAW, mains_contract(main))
    name = contract.customer if contract.customer in pq.read_schema(theirs).names else contract.key
    new = ~among(predictions[name], pq.read_table(theirs, columns=[name])[0].to_pandas())
    if rekeyed:
        new &= ~among(predictions[contract.key].astype(str), rekeyed.pairs["after"].to_pandas())
    return new


def comparison(main: Path, one: Candidate, rekeyed: OtherKeys | None, picture: Path) -> Comparison:
    """Compare main's model with the candidate and draw both. Raises StageError when that cannot be done."""
    # Both before main's code overwrites its tables.
    trained = trained_apart(main, one.contract, rekeyed)
    new = new_rows(main, one.predictions, one.contract, rekeyed)
    both, predictions, scores = scored_by_both(main, one, rekeyed)
    y, ours = predictions[one.contract.label].to_numpy(), predictions["score"].to_numpy()
    outcomes = outcomes_of(predictions, one.contract)
    masks = slice_masks(one.features[both], one.evaluate.slices, one.contract)
    slices = tuple(compare_slices(masks, outcomes, (scores, ours), one.evaluate, one.gate.min_slice_rows))
    threshold = one.evaluate.threshold
    drawn = {"main": curves(y, scores, threshold), "this branch": curves(y, ours, threshold)}
    draw(drawn, picture)
    own = pd.read_parquet(sampled(main / PREDICTIONS, mains_contract(main)))
    own, here = own[judged_rows(own)], predictions.assign(score=scores)
    customer = one.contract.customer if one.contract.customer in own else one.contract.key
    columns = [customer, one.contract.label, "score"]
    differences = compare(outcomes, scores, ours, one.evaluate)
    by_seed = flips_by_seed(one.features[both], ours, load_params().train, one.evaluate, one.contract)
    return Comparison(
        rows=len(y),
        holdout=int(judged_rows(one.predictions).sum()),
        overall=differences,
        slices=slices,
        easier=easier_holdout(own[columns], here[columns]),
        flips=flips(scores, ours, one.evaluate),
        by_seed=by_seed,
        trained=trained,
        customers=outcomes.number,
        new=new_churn(own[columns], here[new[both]][columns]),
        curves=drawn,
    )


def picture_alone(picture: Path) -> None:
    """Draw this checkout's model without another beside it."""
    contract, threshold = load_contract(), load_params().evaluate.threshold
    predictions = pd.read_parquet(sampled(PREDICTIONS, contract))
    predictions = predictions[judged_rows(predictions)]
    draw({"this branch": curves(predictions[contract.label], predictions["score"], threshold)}, picture)


def data_change(main: Path, prepared: bool) -> DataChange | None:
    """Compare the customers with those that main was trained on; None where they are the same.

    The features are those of the training tables, or of the snapshots where nothing was `prepared` here.
    """
    contract = load_contract()
    before, after = (main / TRAIN, TRAIN) if prepared else (main / RAW, RAW)
    if all(sha256_of(one) == sha256_of(other) for one, other in {(before, after), (main / RAW, RAW)}):
        return None
    theirs, names = mains_contract(main), renamed_features(main) if prepared else {}
    gone = {one: theirs.columns[one] for one in theirs.features if one not in contract.columns and one not in names}
    both = contract.model_copy(update={"columns": {**contract.columns, **gone}})
    drift = tuple(one for one in feature_drift(before, after, both) if one.name not in names.values())
    rows = row_changes(main / RAW, RAW, contract)
    if not prepared:
        return DataChange(rows, drift)
    rekeyed = other_keys(main, contract)
    labels, values = customer_changes(main, theirs, contract, rekeyed.pairs, names)
    pair = twins(main, theirs, contract, names)
    return DataChange(rows, drift, labels, rekeyed, values, pair, again(main, theirs, contract, rekeyed.pairs, names))
