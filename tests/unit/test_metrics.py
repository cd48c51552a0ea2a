from functools import cache

from churn.config.params import METRICS
from churn.evaluation.metrics import all_metrics, as_json, average_precision, expected_calibration_error, roc_auc
from tests.conftest import evaluate_at

import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn import metrics as oracle

AT_HALF = evaluate_at(0.5)
OF_CHURNERS = {"average_precision", "f1", "lift_at_capacity", "precision", "recall", "recall_at_capacity", "roc_auc"}


def sample(rows, seed=0, ties=False):
    """Return labels and scores, somewhat calibrated."""
    random = np.random.default_rng(seed)
    scores = random.beta(1, 2, rows)
    if ties:
        scores = scores.round(1)
    return (random.random(rows) < scores).astype(float), scores


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_values_are_those_of_scikit_learn(ties, threshold):
    y, p = sample(3_000, ties=ties)
    found = {name: estimate.value for name, estimate in all_metrics(y, p, evaluate_at(threshold)).items()}
    expected = {
        "accuracy": oracle.accuracy_score(y, p >= threshold),
        "average_precision": oracle.average_precision_score(y, p),
        "brier_score": oracle.brier_score_loss(y, p),
        "f1": oracle.f1_score(y, p >= threshold),
        "log_loss": oracle.log_loss(y, p),
        "precision": oracle.precision_score(y, p >= threshold),
        "recall": oracle.recall_score(y, p >= threshold),
        "roc_auc": oracle.roc_auc_score(y, p),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert set(found) == set(METRICS)


def test_calibration_error_is_the_gap_of_each_bin_weighted_by_its_rows():
    y = np.array([0, 1, 0, 0, 1, 1, 1, 1])
    p = np.array([0.15, 0.15, 0.15, 0.15, 0.85, 0.85, 1.0, 1.0])
    expected = (4 * abs(0.15 - 0.25) + 2 * abs(0.85 - 1) + 2 * 0) / 8
    assert all_metrics(y, p, AT_HALF)["expected_calibration_error"].value == pytest.approx(expected)


@cache  # each metric is resampled by the same rows
def all_metrics_of_rows(ties, rows):
    """Return the metrics of some rows of a sample, their numbers given as bytes."""
    chosen = np.frombuffer(rows, dtype=np.intp)
    y, p = sample(1_500, ties=ties)
    return all_metrics(y[chosen], p[chosen], AT_HALF)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", sorted(set(METRICS) - {"expected_calibration_error"}))
def test_intervals_are_those_of_the_bootstrap(name, ties):
    y, p = sample(1_500, ties=ties)
    found = all_metrics(y, p, AT_HALF)[name]

    def value(rows):
        return all_metrics_of_rows(ties, rows.astype(np.intp).tobytes())[name].value

    resampled = bootstrap(
        (np.arange(len(y)),), value, n_resamples=400, vectorized=False, method="basic", rng=np.random.default_rng(0)
    )
    expected = resampled.confidence_interval.high - resampled.confidence_interval.low
    assert 0.75 * expected < found.high - found.low < 1.25 * expected
    assert found.low < found.value < found.high


@cache  # of one metric after the other
def truth_and_estimates():
    """Return all metrics of a table as good as endless, and of each of 500 samples."""
    return all_metrics(*sample(400_000), AT_HALF), [all_metrics(*sample(300, seed), AT_HALF) for seed in range(1, 501)]


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"expected_calibration_error"}))
def test_intervals_hold_the_truth_nineteen_times_in_twenty(name):
    whole, samples = truth_and_estimates()
    truth = whole[name].value
    held = np.mean([found[name].low <= truth <= found[name].high for found in samples])
    assert 0.92 <= held <= 0.98


def test_the_interval_of_the_area_is_delongs_on_the_logit_scale():
    """By the double sum of DeLong et al. 1988, which the binary search avoids."""
    y, p = sample(200, ties=True)
    wins = (p[y == 1][:, None] > p[y == 0]) + 0.5 * (p[y == 1][:, None] == p[y == 0])
    area = wins.mean()
    variance = wins.mean(axis=1).var(ddof=1) / (y == 1).sum() + wins.mean(axis=0).var(ddof=1) / (y == 0).sum()
    logit, error = np.log(area / (1 - area)), np.sqrt(variance) / (area * (1 - area))
    found = roc_auc(y, p)
    assert found.value == pytest.approx(area)
    assert np.log(found.low / (1 - found.low)) == pytest.approx(logit - 1.959964 * error)
    assert np.log(found.high / (1 - found.high)) == pytest.approx(logit + 1.959964 * error)


def test_what_the_rows_do_not_define_is_none():
    only_stayers = all_metrics(np.zeros(20), np.linspace(0, 0.4, 20), AT_HALF)
    undefined = {name for name, estimate in only_stayers.items() if estimate.value is None}
    assert undefined == OF_CHURNERS
    only_churners = all_metrics(np.ones(20), np.linspace(0, 0.4, 20), AT_HALF)
    assert {name for name, estimate in only_churners.items() if estimate.value is None} == {"precision", "roc_auc"}


def test_no_rows_define_nothing():
    assert all(estimate.value is None for estimate in all_metrics(np.array([]), np.array([]), AT_HALF).values())


def test_one_row_of_a_class_has_a_value_and_no_interval():
    estimate = roc_auc(np.array([1.0, 0, 0]), np.array([0.5, 0.4, 0.6]))
    assert (estimate.value, estimate.low, estimate.high) == (0.5, None, None)


@pytest.mark.parametrize(("scores", "value"), [([0.9, 0.8, 0.7, 0.2, 0.1], 1.0), ([0.5] * 5, 0.5)])
def test_a_perfect_order_and_nothing_but_ties_have_wide_intervals(scores, value):
    estimate = (
        roc_auc(np.array([1.0, 1, 0, 0, 0]), np.array(scores))
        if value == 0.5
        else roc_auc(np.array([1.0, 1, 1, 0, 0]), np.array(scores))
    )
    assert estimate.value == value
    assert estimate.high - estimate.low > 0.5


@pytest.mark.parametrize("shift", [0.0, 0.1])
@pytest.mark.parametrize("rows", [300, 1_500])
def test_the_interval_of_the_calibration_error_holds_the_truth(shift, rows):
    """Of scores that are perfectly calibrated, and of scores that are all too high by `shift`."""
    held = []
    for seed in range(300):
        random = np.random.default_rng(seed)
        chance = random.uniform(0.05, 0.85, rows)
        y = (random.random(rows) < chance).astype(float)
        found = expected_calibration_error(y, chance + shift)
        held.append(found.low <= shift <= found.high)
    assert np.mean(held) >= 0.93


def test_everybody_predicted_to_stay_has_recall_zero():
    y, p = sample(500)
    assert all_metrics(y, p * 0.4, AT_HALF)["recall"].value == 0
    assert all_metrics(y, p * 0.4, AT_HALF)["f1"].value == 0


def test_a_million_rows_take_a_second_or_so():
    """No benchmark: only that nothing is quadratic."""
    y, p = sample(1_000_000)
    assert roc_auc(y, p).high - roc_auc(y, p).low < 0.003
    assert average_precision(y, p).high - average_precision(y, p).low < 0.006


def test_json_holds_values_and_intervals_rounded():
    y, p = sample(500)
    written = as_json(all_metrics(y, p, AT_HALF))
    assert set(written) == {*METRICS, "intervals"}
    assert written["roc_auc"] == round(written["roc_auc"], 6)
    assert written["intervals"]["roc_auc"][0] < written["roc_auc"] < written["intervals"]["roc_auc"][1]
    assert as_json(all_metrics(y[:0], p[:0], AT_HALF))["intervals"]["f1"] == [None, None]


@pytest.mark.parametrize("label", [0, 1])
def test_a_score_that_is_nan_leaves_no_area(label):
    y, p = np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.1, 0.3, 0.4, 0.9])
    assert roc_auc(y, p).value == 1.0
    p[np.flatnonzero(y == label)[0]] = np.nan
    assert not np.isfinite(roc_auc(y, p).value)
