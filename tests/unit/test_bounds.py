"""bounds: what follows for the gate from the noise of honest models, and the lines of params.yaml that it replaces."""

import re
import shutil
import tracemalloc
from dataclasses import replace

from churn.adopting.blocks import replace_blocks
from churn.adopting.bounds import _overall, arguments, required_metrics, settings, write_bounds
from churn.adopting.noise import Holdout, Noise, some_customers
from churn.config.contract import load_contract
from churn.config.params import load_params
from churn.core.errors import StageError
from churn.core.paths import CONTRACT, RAW
from churn.core.runner import attempt
from churn.evaluation.holdout import evaluation_of
from churn.gate.rules import evaluate_rules, loose_bounds
from tests.conftest import make_customers
from tests.customer_months import CONTRACT as MONTHS
from tests.customer_months import customer_months
from tests.frozen import copy_of

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

INTERVAL = 2 * 1.96
ERRORS = {
    "roc_auc": 0.0049,
    "average_precision": 0.021,
    "lift_at_capacity": 0.1,
    "accuracy": 0.002,
    "brier_score": 0.0031,
}


def noise(contract, evaluate, *, rate=0.3, rows=1_200, threshold=0.5, spread=1.5):
    """Return the noise of eight honest models, each on other customers."""
    evaluate = evaluate.model_copy(update={"threshold": threshold})
    evaluations = []
    for run in range(8):
        random = np.random.default_rng(run)
        features = make_customers(contract, rows, seed=run)
        odds = np.log(rate / (1 - rate)) + spread * random.normal(size=rows)
        scores = 1 / (1 + np.exp(-odds))
        evaluations.append(evaluation_of(features, random.random(rows) < scores, scores, evaluate, contract))
    return Noise(evaluations, ERRORS, evaluate, rate)


@pytest.fixture(scope="module")
def measured(contract, params):
    return noise(contract, params.evaluate)


@pytest.fixture
def written(tmp_path):
    """Return a function that writes what follows from a noise into a copy of the sample's settings."""

    def write(noise, required=None):
        path = tmp_path / "params.yaml"
        shutil.copy(copy_of("params.yaml"), path)
        replace_blocks(path, settings(noise, required or {}))
        return load_params(path), path.read_text(encoding="utf-8")

    return write


def test_each_bound_has_its_reason_and_lies_where_an_honest_model_passes_and_a_bad_one_does_not(measured, written):
    params, text = written(measured)
    parts = {"all customers": measured.evaluations[0]} | {one["name"]: one for one in measured.evaluations[0]["slices"]}
    bounds = {"all customers": params.gate.overall, **params.gate.slices}
    assert len(bounds) > 5
    for scope, rules in bounds.items():
        for metric, bound in rules.items():
            low, high = parts[scope]["intervals"][metric]
            limit = bound.min if bound.min is not None else bound.max
            assert 1 < abs(parts[scope][metric] - limit) * INTERVAL / (high - low) < 8, (scope, metric)
            assert f"{metric}: {{{'min' if bound.min is not None else 'max'}: {limit:g}}} # median " in text
    for evaluation in measured.evaluations:
        assert [one.message for one in evaluate_rules(evaluation, params.gate) if one.status == "failed"] == []


def test_a_bound_is_not_called_loose_right_after_it_was_written(contract, params, written):
    """A ROC AUC near 1 has a narrow interval, and its bound is four times the wide noise of all splits away."""
    sharp = noise(contract, params.evaluate, rows=700, spread=6)
    gate = written(sharp)[0].gate
    assert min(sharp.values("roc_auc")) > 0.95
    assert [note for one in sharp.evaluations for note in loose_bounds(evaluate_rules(one, gate))] == []


def test_only_the_keys_that_follow_from_the_noise_change_and_the_teams_words_stay(measured, written):
    (params, text), before = written(measured), copy_of("params.yaml").read_text(encoding="utf-8")
    head = before.index("evaluate:\n")
    assert text[:head] == before[:head]
    sample = load_params(copy_of("params.yaml"))
    assert params.evaluate.campaign == sample.evaluate.campaign
    assert params.evaluate.slices.conditions == sample.evaluate.slices.conditions
    assert params.gate.when_inconclusive == sample.gate.when_inconclusive
    for comment in (
        "# of each contact, in the same",
        "# The bounds follow from",
        "# before main's commit",
        "# the holdout is",
    ):
        assert text.count(comment) == 1
    assert "{min: 0.82}" not in text


def test_a_margin_is_no_narrower_than_the_noise_of_two_honest_models(measured, written):
    gate = written(measured)[0].gate
    margins = {"roc_auc": 0.005, "average_precision": 0.03, "lift_at_capacity": 0.2, "accuracy": 0.01}
    assert dict(gate.vs_baseline.margins) == margins | {"brier_score": 0.004}
    assert dict(gate.anchor.margins) == {name: pytest.approx(2 * one) for name, one in gate.vs_baseline.margins.items()}
    assert gate.vs_baseline.max_gain["average_precision"] == pytest.approx(0.1)
    assert dict(gate.anchor.slice_margins) == {
        name: pytest.approx(2 * one) for name, one in gate.vs_baseline.slice_margins.items()
    }
    assert gate.anchor.max_gain["average_precision"] == pytest.approx(0.15)


def test_bounds_of_a_part_of_the_customers_are_those_of_all(measured, written):
    """A quarter of the customers has twice the noise of all."""
    quarter = written(replace(measured, share=0.25))[0].gate
    whole, median = written(measured)[0].gate, float(np.median(measured.values("roc_auc")))
    near, far = median - quarter.overall["roc_auc"].min, median - whole.overall["roc_auc"].min
    assert near == pytest.approx(far / 2, abs=0.01)
    assert quarter.vs_baseline.margins["average_precision"] == 0.02
    assert whole.vs_baseline.margins["average_precision"] == 0.03


def test_few_splits_tell_the_noise_badly_and_move_a_near_bound_away(measured):
    ten, thirty = (replace(measured, evaluations=measured.evaluations[:1] * runs) for runs in (10, 30))
    assert thirty.caution == 1
    assert ten.caution == pytest.approx(1.2, abs=0.02)


def test_of_many_slices_the_largest_have_bounds_and_the_others_the_rules_of_every_slice(measured, written, monkeypatch):
    sizes = {one["name"]: one["rows"] for one in measured.evaluations[0]["slices"]}
    every = written(measured)[0].gate.slices
    monkeypatch.setattr("churn.adopting.bounds.MOST_SLICES", 3)
    params, text = written(measured)
    assert len(every) > 3 == len(params.gate.slices)
    assert f"slices: # the 3 largest of {len(every)}; every_slice holds for all\n" in text
    assert min(sizes[name] for name in params.gate.slices) > 0.9 * max(
        sizes[name] for name in {*every} - {*params.gate.slices}
    )


def test_of_a_wide_holdout_the_features_of_slices_alone_are_kept(contract, params):
    """Thirty splits of 1,000 columns would else take 2 GB."""
    features = make_customers(contract, 1_000, seed=0)
    nullable = {name for name in contract.features if contract.columns[name].nullable}
    tracemalloc.start()
    wide = pd.DataFrame(np.zeros((1_000, 1_000)), columns=[f"c{number}" for number in range(1_000)])
    holdout = Holdout(pd.concat([features, wide], axis=1), np.zeros(1_000), np.ones(1_000, bool), contract)
    kept = holdout.of_slices(params.evaluate.slices.model_copy(update={"columns": ("contract",), "conditions": {}}))
    del wide, holdout
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert set(kept.features) == {"contract", *nullable}
    assert held < 1_000_000


def test_of_a_large_snapshot_some_customers_are_drawn_with_all_of_their_rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    CONTRACT.write_text(MONTHS)
    RAW.parent.mkdir(parents=True)
    months = customer_months(customers=900)[["customer", "month", "churned"]]
    pq.write_table(pa.Table.from_pandas(months), RAW)
    with some_customers(load_contract(), len(months)) as (path, share):
        assert (path, share) == (RAW, 1.0)
    with some_customers(load_contract(), len(months) // 3) as (path, share):
        drawn = pq.read_table(path).to_pandas()
    assert 250 < drawn["customer"].nunique() < 350
    rows = months.groupby("customer").size()
    assert drawn.groupby("customer").size().equals(rows[drawn["customer"].unique()])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (RAW.unlink, r"customers\.parquet does not exist"),
        (lambda: RAW.write_bytes(b""), r"customers\.parquet is not a Parquet file"),
        (lambda: RAW.write_bytes(RAW.read_bytes()[:-9]), r"customers\.parquet is not a Parquet file"),
        (lambda: (RAW.unlink(), RAW.mkdir()), r"customers\.parquet is a folder"),
        (lambda: pq.write_table(pa.table({"id": [1, 2]}), RAW), r"customers\.parquet has no column customer;"),
    ],
)
def test_a_snapshot_that_bounds_cannot_read_is_one_sentence(tmp_path, monkeypatch, damage, said):
    """Fault in files between stages: `make bounds` finds no snapshot, or a damaged one.

    bounds fails: `data/raw/customers.parquet is not a Parquet file; …`
    """
    monkeypatch.chdir(tmp_path)
    CONTRACT.write_text(MONTHS)
    RAW.parent.mkdir(parents=True)
    pq.write_table(pa.table({"customer": ["a", "b"]}), RAW)
    damage()
    status, fault = attempt("bounds", some_customers(load_contract(), 1).__enter__)
    assert status == 1
    assert re.search(said, fault)


def required(*given):
    """Return what the options of init and bounds ask for."""
    return required_metrics(arguments().parse_args([f"--require={one}" for one in given]))


def test_what_is_required_counts_where_the_noise_is_looser(measured, written):
    loose = written(measured)[0].gate
    gate = written(measured, required("roc_auc=0.5", "accuracy=0.99", "log_loss=0.7"))[0].gate
    assert gate.overall["roc_auc"].min == loose.overall["roc_auc"].min > 0.5
    assert gate.overall["accuracy"].min == 0.99
    assert gate.overall["log_loss"].max <= 0.7


def test_what_the_noise_allows_stays_within_what_the_metric_can_be(monkeypatch):
    asked = {"profit_per_customer": -9.0, "log_loss": 3.0, "lift_at_capacity": 1.5}
    spreads = {"profit_per_customer": (-2.05, 0.1), "log_loss": (1.695, 0.01), "lift_at_capacity": (3.095, 0.06)}
    found = Noise([], {}, load_params(copy_of("params.yaml")).evaluate, 0.3)
    monkeypatch.setattr(Noise, "spread", lambda _, metric, *__: spreads.get(metric))
    limits = dict(line.split(" #")[0].split(": ", 1) for line in _overall(found, asked) if not line.startswith("#"))
    assert {name: limits[name] for name in asked} == {
        "profit_per_customer": "{min: -2.5}",
        "log_loss": "{max: 1.74}",
        "lift_at_capacity": "{min: 2.85}",
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("roc_auc", "write METRIC="),
        ("auc=0.8", "auc is not a metric"),
        ("f1=high", "write METRIC="),
        ("f1=nan", "write METRIC="),
        ("f1=inf", "write METRIC="),
        ("roc_auc=2", "roc_auc=2: no model can meet it, because roc_auc is between 0 and 1"),
        ("recall=-0.1", "recall is between 0 and 1"),
        ("brier_score=-1", "brier_score is between 0 and 1"),
        ("log_loss=-1", "log_loss is 0 or more"),
        ("lift_at_capacity=11", "lift_at_capacity is between 0 and 10"),
    ],
)
def test_a_required_bound_names_a_metric_and_a_number_that_it_can_have(given, said, monkeypatch, params):
    monkeypatch.setattr("churn.adopting.bounds.load_params", lambda: params)
    with pytest.raises(StageError, match=said):
        required(given)


@pytest.mark.parametrize("given", ["roc_auc=1", "brier_score=0", "log_loss=7", "profit_per_customer=-3"])
def test_a_required_bound_may_be_any_value_that_its_metric_can_have(given):
    assert required(given)[given.partition("=")[0]] == float(given.partition("=")[2])


def test_where_hardly_anybody_churns_no_bound_is_one_that_predicting_nobody_passes(contract, params, written):
    rare = noise(contract, params.evaluate, rate=0.02, threshold=0.07)
    rare = Noise(rare.evaluations, ERRORS, rare.evaluate, 0.05)
    params, text = written(rare)
    assert params.evaluate.threshold == 0.07
    assert "accuracy" not in params.gate.overall
    assert "# accuracy: no bound, because a model that predicts nobody to churn has 0.950" in text
    assert params.gate.overall["average_precision"].min > 0.05
    assert params.gate.min_slice_rows == 400


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("evaluate: {threshold: 0.5, slices: {}}\n", r"evaluate\.threshold: shares its line with another key"),
        ("evaluate:\n  campaign: {threshold: 1}\n", r"evaluate\.threshold: is missing\.$"),
        ("evaluate: 3\n", r"evaluate\.threshold: is missing\.$"),
        ("gate: {}\n", r"evaluate\.threshold: is missing\.$"),
    ],
)
def test_a_key_that_has_no_line_of_its_own_is_refused_and_the_file_stays(tmp_path, text, said):
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(StageError, match=said):
        replace_blocks(path, {"evaluate.threshold": ["threshold: 0.25"]})
    assert path.read_text(encoding="utf-8") == text


def test_a_value_of_several_lines_is_replaced_whole_and_the_comment_of_the_next_key_stays(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(
        "a:\n  b:\n    c: 1 # old\n\n    # older\n    d: 2\n\n  # of e\n  e: 3\n# of f\nf: 4\n", encoding="utf-8"
    )
    replace_blocks(path, {"a.e": ["e: 5 # new"], "a.b": ["b: {} # new"]})
    assert path.read_text(encoding="utf-8") == "a:\n  b: {} # new\n\n  # of e\n  e: 5 # new\n# of f\nf: 4\n"


def test_a_holdout_that_is_too_small_for_a_roc_auc_or_for_margins_is_named_with_the_remedy(
    monkeypatch, tmp_path, capsys
):
    for name in ("params.yaml", "contract.yaml"):
        shutil.copy(copy_of(name), tmp_path)
    monkeypatch.chdir(tmp_path)
    evaluate, contract = load_params().evaluate, load_contract()

    def printed(rows, **errors):
        measured = noise(contract, evaluate, rows=rows)
        measured = replace(measured, errors=measured.errors | errors)
        monkeypatch.setattr("churn.adopting.bounds.measure", lambda *_: measured)
        write_bounds(8, {})
        return capsys.readouterr().out

    assert "; raise " not in printed(1_200)
    remedy = "a ROC AUC needs 20; raise prepare.holdout_share or prepare.time.holdout_days in params.yaml"
    assert re.search(
        rf"^bounds: the gate sees little: the holdout has 1\d churners, and {remedy}$", printed(40), re.MULTILINE
    )
    wide = "gate.vs_baseline.margins.lift_at_capacity, gate.anchor.margins.lift_at_capacity"
    assert f"no loss is too large for {wide}; raise prepare.holdout_share" in printed(1_200, lift_at_capacity=7)
    slices = "gate.vs_baseline.slice_margins.roc_auc, gate.vs_baseline.slice_margins.recall"
    assert f"no loss is too large for {slices}, gate.anchor.margins.roc_auc" in printed(1_200, roc_auc=0.15)
