"""Tests of the live files: contract.yaml, params.yaml, profile.json, the query, and the feature functions.

They hold for any contract, and run the pipeline once, in a clone. Where the source is out of reach, they take the
snapshot of this checkout.
"""

import importlib.util
import json
import math
import shutil
import subprocess

import churn.features
from churn.config.contract import load_contract
from churn.config.params import AFTER_TRAINING, WINDOW_OPEN, load_params
from churn.core.paths import EVALUATION, MODEL, PREDICTIONS, RAW, ROWS, TEST, TRAIN
from churn.data.featuring import ARROW_TYPES, add_features, to_arrow
from churn.gate.rules import evaluate_rules, loose_bounds
from churn.modeling.model import load_model
from churn.quality.profile import customers_profile, load_profile
from churn.quality.profile_checks import profile_findings
from churn.scoring_rows import incoming_contract, score
from tests.conftest import clone_of_tree, made_once
from tests.frozen import REPLACED, RESULTS, ROOT, copy_of, live_files

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

STAGES_AFTER_FETCH = ("prepare", "validate", "train", "evaluate", "gate")


def run_of_live_files(folder):
    with live_files():
        clone = clone_of_tree(folder, live=True)
    source = load_params(clone.folder / "params.yaml").fetch.source
    if "://" not in source and (ROOT / source).exists():
        for name in RESULTS:  # else DVC believes them
            path = clone.folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if not (clone.folder / source).exists():  # Git does not hold it
            (clone.folder / source).parent.mkdir(parents=True, exist_ok=True)
            (clone.folder / source).symlink_to(ROOT / source)
        clone.first_run = clone.ok("dvc", "repro", "gate")
    elif (ROOT / RAW).exists():
        (clone.folder / RAW).parent.mkdir(parents=True, exist_ok=True)
        (clone.folder / RAW).symlink_to(ROOT / RAW)
        clone.first_run = "".join(clone.ok("python", "-m", f"stages.{name}") for name in STAGES_AFTER_FETCH)
    else:
        pytest.skip(f"fetch.source is out of reach of the tests, and {RAW} is missing: run `dvc pull {RAW}`.")
    return clone


@pytest.fixture(scope="session")
def run(request, tmp_path_factory):
    """A clone in which the pipeline has run on the live files: `finished`, as long as they are the sample's."""
    with live_files():
        is_sample = all((ROOT / name).read_bytes() == copy_of(name).read_bytes() for name in REPLACED)
    if is_sample:
        return request.getfixturevalue("finished")
    return made_once(tmp_path_factory, "own", run_of_live_files)


@pytest.fixture
def own(run, monkeypatch):
    """The clone, as the current folder, with the live feature functions."""
    monkeypatch.chdir(run.folder)
    spec = importlib.util.spec_from_file_location("own_features", run.folder / "churn" / "features.py")
    live = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(live)
    monkeypatch.setattr(churn.features, "FEATURES", live.FEATURES)
    return run


def generated_customers(contract, rows=500):
    """Return customers as fetch gives them: at random, of the contract's types, values and ranges."""
    random, arrays = np.random.default_rng(0), {}
    for name, column in incoming_contract(contract).columns.items():
        limits = contract.rules.ranges.get(name)
        if column.role == "key":
            drawn = [number if column.type == "integer" else f"key-{number:06}" for number in range(rows)]
        elif column.type == "integer":
            least, most = max(math.ceil(limits.min), -(2**63)), min(math.floor(limits.max), 2**63 - 1)
            drawn = random.integers(least, most, rows, endpoint=True)
        elif column.type == "number":
            share = np.array([0, 1, *random.uniform(size=rows - 2)])
            drawn = limits.min * (1 - share) + limits.max * share
        else:
            values = column.values or (False, True)
            drawn = [values[number] for number in random.integers(len(values), size=rows)]
        missing = random.random(rows) < (0.1 if column.nullable else 0)
        arrays[name] = pa.array(drawn, ARROW_TYPES[column.type], mask=missing)
    return pa.table(arrays)


def scored_by_pipeline(customers, folder):
    """Return the scores that the pipeline's model gives to a table, by key, and how many rows broke each rule."""
    pq.write_table(customers, folder / "customers.parquet")
    contract = load_contract()
    read, rows, broken = score(
        str(folder / "customers.parquet"), str(folder / "scores.parquet"), load_model(MODEL), contract, 1
    )
    assert read == customers.num_rows
    scores = pd.read_parquet(folder / "scores.parquet").set_index(contract.key)["score"]
    assert len(scores) == rows
    return scores, broken


def test_customers_that_the_contract_allows_are_scored(own, tmp_path):
    """Only a relation between columns, or the range of a computed column, may reject one."""
    contract = load_contract()
    scores, broken = scored_by_pipeline(generated_customers(contract), tmp_path)
    assert scores.between(0, 1).all()
    allowed = [f"{one.column} {name}" for name, one in contract.rules.relations.items()]
    computed = tuple(f"{name} " for name, column in contract.columns.items() if column.computed)
    assert [rule for rule in broken if rule not in allowed and not rule.startswith(computed)] == []


def test_features_of_one_row_are_those_of_the_row_in_a_batch(own):
    contract = load_contract()
    snapshot = pq.read_table(RAW).drop_columns(contract.withheld)
    for customers in (
        generated_customers(contract, 40),
        snapshot.take(np.arange(0, len(snapshot), len(snapshot) // 40)),
    ):
        batch = to_arrow(add_features(customers.to_pandas()), contract)
        alone = [to_arrow(add_features(customers.slice(row, 1).to_pandas()), contract) for row in range(len(customers))]
        rows = pa.concat_tables(alone).to_pandas()
        pd.testing.assert_frame_equal(rows, batch.to_pandas(), rtol=1e-9, atol=0)


def test_prepare_train_and_score_agree(own, tmp_path):
    """Each fetched customer is in one table or dropped by a declared reason, and gets the score that evaluate saw."""
    contract, params = load_contract(), load_params()
    snapshot, train, test = (pq.read_table(path) for path in (RAW, TRAIN, TEST))
    dropped = json.loads(ROWS.read_text())["dropped"]
    assert set(dropped) == {*params.prepare.drop, *([WINDOW_OPEN, AFTER_TRAINING] if params.prepare.time else [])}
    assert len(snapshot) == len(train) + len(test) + sum(dropped.values())
    assert not set(train[contract.customer].to_pylist()) & set(test[contract.customer].to_pylist())
    model = load_model(MODEL)
    assert (
        set(model.feature_names_in_)
        == set(contract.features)
        == {*train.column_names} - {contract.key, *contract.withheld}
    )
    scores, _ = scored_by_pipeline(snapshot, tmp_path)
    expected = pd.read_parquet(PREDICTIONS).set_index(contract.key)["score"]
    assert len(expected) == len(test)
    assert np.allclose(scores[expected.index], expected, rtol=0, atol=1e-9)


def test_every_slice_that_the_gate_names_exists_and_is_large_enough(own):
    gate, slices = load_params().gate, json.loads(EVALUATION.read_text())["slices"]
    rows = {part["name"]: part["rows"] for part in slices}
    assert {name: rows.get(name) for name in gate.slices if rows.get(name, 0) < gate.min_slice_rows} == {}


def test_each_bound_of_the_gate_is_near_enough_to_its_metric_to_tell_a_bad_model(own):
    """`make bounds` writes nearer ones."""
    outcomes = evaluate_rules(json.loads(EVALUATION.read_text()), load_params().gate)
    assert list(loose_bounds(outcomes)) == []


def test_the_profile_describes_the_current_snapshot(own):
    contract, profile = load_contract(), load_profile()
    assert set(profile.features) == set(contract.features)
    now = customers_profile(contract, profile)
    assert [finding.sentence for finding in profile_findings(contract, profile, now)] == []  # else: `make profile`


def test_the_committed_results_are_those_of_a_run(run):
    """Else: `dvc repro`, and commit what it made."""

    def results(folder, *listed):
        stages = YAML(typ="safe").load(folder / "dvc.lock")["stages"]  # in the order in which they ran first
        stages.pop("register", None)  # which does not run in tests
        command = ["git", "ls-files", *listed, "--exclude-standard", "--", *RESULTS]
        names = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.split()
        return stages | {name: (folder / name).read_text(encoding="utf-8") for name in names if name != "dvc.lock"}

    with live_files():
        committed = results(ROOT)
    made = results(run.folder, "--cached", "--others")
    assert [name for name in committed | made if committed.get(name) != made.get(name)] == []
