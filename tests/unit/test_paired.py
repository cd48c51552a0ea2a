from collections import Counter
from dataclasses import astuple

from churn.config.params import AT_EQUAL_NUMBER, METRICS
from churn.evaluation.metrics import all_metrics, at_equal_number
from churn.evaluation.paired import SMALLER_IS_BETTER, compare, compare_slices
from churn.evaluation.slices import Slice
from tests.conftest import evaluate_at
from tests.unit.test_metrics import AT_HALF, OF_CHURNERS

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import binom, norm


def two_models(rows, seed=0, noise=(0.3, 0.3), shift=0.0, ties=False):
    """Return labels and the scores of two models, each with noise of its own; the second scores too high by `shift`."""
    random = np.random.default_rng(seed)
    chance = random.beta(1, 2, rows).clip(0.001, 0.999)
    labels = (random.random(rows) < chance).astype(float)
    main, branch = (expit(logit(chance) + size * random.normal(size=rows)) for size in noise)
    branch = np.minimum(branch + shift, 1)
    return (labels, main.round(1), branch.round(1)) if ties else (labels, main, branch)


def predicted(scores, threshold=0.5):
    return int((scores >= threshold).sum())


def test_a_model_that_predicts_fewer_churners_and_ranks_them_as_well_has_lost_no_recall():
    labels, main, _ = two_models(4_000)
    found = compare(labels, main, expit(logit(main) - 0.5), AT_HALF)
    for name in AT_EQUAL_NUMBER:
        assert found[name].branch == pytest.approx(found[name].main, abs=1e-12)
    assert found["brier_score"].verdict == "worse"


def test_recall_at_an_equal_number_is_that_of_the_highest_scores_also_in_a_slice():
    labels, main, branch = two_models(3_000)
    inside = np.arange(len(labels)) % 3 == 0
    highest = np.argsort(-branch)[: predicted(main)]
    chosen = np.isin(np.arange(len(labels)), highest)
    for rows in (None, inside):
        here = np.ones(len(labels), dtype=bool) if rows is None else rows
        found = compare(labels, main, branch, AT_HALF, rows)["recall"]
        assert found.branch == pytest.approx(labels[here & chosen].sum() / labels[here].sum())
        assert found.main == pytest.approx(labels[here & (main >= 0.5)].sum() / labels[here].sum())


@pytest.mark.parametrize("ties", [False, True])
def test_values_are_those_of_evaluate_and_the_difference_is_branch_minus_main(ties):
    labels, main, branch = two_models(2_000, ties=ties)
    found = compare(labels, main, branch, evaluate_at(0.4))
    of_main, of_branch = all_metrics(labels, main, evaluate_at(0.4)), all_metrics(labels, branch, evaluate_at(0.4))
    of_branch |= at_equal_number(labels, (main, branch), 0.4, labels >= 0)[1]
    assert tuple(found) == METRICS
    for name, difference in found.items():
        assert difference.main == pytest.approx(of_main[name].value, abs=1e-12)
        assert difference.branch == pytest.approx(of_branch[name].value, abs=1e-12)
        assert difference.difference == difference.branch - difference.main


@pytest.mark.parametrize("ties", [False, True])
def test_intervals_are_those_of_the_paired_bootstrap(ties):
    """Of two models of which the second is worse, so that each metric has something to find."""
    labels, main, branch = two_models(1_500, noise=(0.3, 1), shift=0.1, ties=ties)
    random = np.random.default_rng(0)
    drawn = {name: [] for name in METRICS}
    for _ in range(800):
        rows = random.integers(0, len(labels), len(labels))
        before, after = (all_metrics(labels[rows], scores[rows], AT_HALF) for scores in (main, branch))
        after |= at_equal_number(labels[rows], (main[rows], branch[rows]), 0.5, rows >= 0)[1]
        for name in METRICS:
            drawn[name].append(after[name].value - before[name].value)
    for name, difference in compare(labels, main, branch, AT_HALF).items():
        ratio = (difference.high - difference.low) / (2 * 1.959964 * np.std(drawn[name]))
        # That of a calibration error near 0 is too wide: it does not know that the error cannot become less.
        assert 0.9 < ratio < (1.3 if name == "expected_calibration_error" else 1.1), name
        assert difference.low + difference.high == pytest.approx(2 * difference.difference), name


@pytest.mark.parametrize(("rows", "ties"), [(300, False), (300, True), (1_400, False)])
def test_between_equally_good_models_the_interval_holds_zero(rows, ties):
    held, seeds = Counter(), 500
    for seed in range(seeds):
        for name, difference in compare(*two_models(rows, seed, ties=ties), AT_HALF).items():
            held[name] += difference.low <= 0 <= difference.high
            assert (difference.verdict == "noise") == (difference.low <= 0 <= difference.high)
    assert min(held[name] for name in METRICS) >= 0.93 * seeds, held
    # Nor are they so wide that nothing could be found. A calibration error close to 0 is the exception.
    assert max(held[name] for name in set(METRICS) - {"expected_calibration_error"}) <= 0.99 * seeds, held


def test_between_unequal_models_the_interval_holds_the_difference_and_is_found():
    truth = compare(*two_models(400_000, noise=(0.3, 1)), AT_HALF)
    names = set(METRICS) - {"expected_calibration_error", "recall"}  # of recall, this noise takes nothing
    held, found, seeds = Counter(), Counter(), 300
    for seed in range(1, seeds + 1):
        for name, difference in compare(*two_models(1_400, seed, noise=(0.3, 1)), AT_HALF).items():
            held[name] += difference.low <= truth[name].difference <= difference.high
            found[name] += difference.verdict == "worse"
            assert name not in names or difference.verdict != "better"
    assert min(held[name] for name in names) >= 0.92 * seeds, held
    assert found["roc_auc"] >= 0.99 * seeds


def test_the_test_of_the_area_is_delongs():
    """By the double sum of DeLong et al. 1988, which the binary search avoids: the same z, and so the same p-value."""
    labels, *scores = two_models(300, ties=True)
    by_churner, by_stayer = [], []
    for model in scores:
        churned, stayed = model[labels == 1][:, None], model[labels == 0]
        wins = (churned > stayed) + 0.5 * (churned == stayed)
        by_churner.append(wins.mean(axis=1))
        by_stayer.append(wins.mean(axis=0))
    covariance = np.cov(by_churner) / (labels == 1).sum() + np.cov(by_stayer) / (labels == 0).sum()
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    difference = by_churner[1].mean() - by_churner[0].mean()
    found = compare(labels, *scores, AT_HALF)["roc_auc"]
    z = found.difference / ((found.high - found.low) / (2 * 1.959964))
    assert found.difference == pytest.approx(difference)
    assert 2 * norm.sf(abs(z)) == pytest.approx(2 * norm.sf(abs(difference / error)), rel=1e-9)


def test_accuracy_is_called_better_only_where_mcnemars_test_agrees():
    """With the mid-p value (Fagerland et al. 2013), for each number of rows won and lost."""
    bold = 0
    for won in range(1, 40):
        for lost in range(won):
            labels, main, branch = np.ones(1_000), np.full(1_000, 0.9), np.full(1_000, 0.9)
            main[:won] = branch[won : won + lost] = 0.1
            p_value = 2 * binom.sf(won - 1, won + lost, 0.5) - binom.pmf(won, won + lost, 0.5)
            called = compare(labels, main, branch, AT_HALF)["accuracy"].verdict
            assert called == "noise" or (called == "better" and p_value < 0.05), (won, lost)
            bold += (called == "noise") and p_value < 0.04
    assert bold <= 5  # and hardly ever stays silent where it is clear


@pytest.mark.parametrize("name", METRICS)
def test_the_better_side_is_the_metrics_own(name):
    labels, main, branch = two_models(5_000, noise=(0.0, 1.5), shift=0.2)
    worse, better = compare(labels, main, branch, AT_HALF)[name], compare(labels, branch, main, AT_HALF)[name]
    assert (worse.verdict, better.verdict) == ("worse", "better")
    assert (worse.difference > 0) == (name in SMALLER_IS_BETTER)
    assert name in AT_EQUAL_NUMBER or better.difference == -worse.difference  # else of another number of customers


def test_the_same_scores_differ_by_nothing():
    labels, main, _ = two_models(500)
    for difference in compare(labels, main, main.copy(), AT_HALF).values():
        assert astuple(difference)[2:] == (0, 0, 0, "noise")


def test_another_scale_of_the_same_order_changes_no_area():
    labels, main, _ = two_models(500)
    found = compare(labels, main, main**2, AT_HALF)
    for name in ("roc_auc", "average_precision"):
        assert astuple(found[name])[2:] == (0, 0, 0, "noise")
    assert found["log_loss"].verdict == "worse"


@pytest.mark.parametrize("side", [0, 1])
def test_a_metric_that_one_side_lacks_is_undefined_and_the_others_value_is_shown(side):
    labels, *scores = two_models(500)
    slice_ = np.arange(500) < 200
    scores[side] = np.where(slice_, 0.0, scores[side])  # nobody in the slice is predicted to churn
    found = compare(labels, *scores, AT_HALF, slice_)["precision"]
    shown = (found.main, found.branch)
    assert shown[side] is None
    assert 0 < shown[1 - side] < 1
    assert astuple(found)[2:] == (None, None, None, "undefined")


@pytest.mark.parametrize("outcome", [0, 1])
def test_the_area_of_a_slice_needs_five_customers_of_either_outcome_for_an_interval(outcome):
    labels, *scores = two_models(500)
    for few in (4, 5):
        some = np.flatnonzero(labels == outcome)[:few]
        inside = (labels != outcome) | np.isin(np.arange(500), some)
        (part,) = compare_slices([Slice("few", "value", inside)], labels, tuple(scores), AT_HALF, 20)
        area = part.differences["roc_auc"]
        assert area.difference == pytest.approx(area.branch - area.main)
        assert ((area.low, area.verdict) == (None, "undefined")) == (few == 4)
        assert part.differences["brier_score"].low is not None


def test_rows_that_define_no_metric_or_no_noise_give_no_verdict():
    assert {difference.verdict for difference in compare([], [], [], AT_HALF).values()} == {"undefined"}
    stayers = compare(np.zeros(9), np.linspace(0.1, 0.4, 9), np.linspace(0, 0.3, 9), AT_HALF)
    undefined = {name for name, difference in stayers.items() if difference.verdict == "undefined"}
    assert undefined == OF_CHURNERS
    one_churner = compare([1, 0, 0], [0.1, 0.2, 0.3], [0.3, 0.2, 0.1], AT_HALF)["roc_auc"]
    assert astuple(one_churner) == (0, 1, 1, None, None, "undefined")


def test_a_million_rows_take_seconds():
    """No benchmark: only that nothing is quadratic."""
    found = compare(*two_models(1_000_000), AT_HALF)
    assert found["roc_auc"].high - found["roc_auc"].low < 0.001
