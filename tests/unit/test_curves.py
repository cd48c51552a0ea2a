from churn.evaluation.curves import CURVE_POINTS, curves
from churn.evaluation.metrics import average_precision, roc_auc
from tests.unit.test_metrics import sample

import numpy as np
import pytest


@pytest.mark.parametrize(("rows", "ties"), [(50, False), (20_000, False), (20_000, True)])
def test_the_area_under_the_drawn_curve_is_the_metric(rows, ties):
    y, p = sample(rows, ties=ties)
    drawn = curves(y, p, 0.5)
    roc, precision = drawn["roc"], drawn["precision_recall"]
    area = np.trapezoid(roc["true_positive_rate"], roc["false_positive_rate"])
    assert area == pytest.approx(roc_auc(y, p).value, abs=0.002)
    steps = np.diff(precision["recall"], prepend=0) * precision["precision"]
    assert steps.sum() == pytest.approx(average_precision(y, p).value, abs=0.02)
    assert roc.iloc[0].tolist() == [0, 0]
    assert roc.iloc[-1].tolist() == [1, 1]
    assert max(len(roc), len(precision)) <= CURVE_POINTS + 1


def test_every_customer_is_counted_once_in_each_distribution():
    y, p = sample(1_000)
    drawn = curves(y, p, 0.5)
    assert drawn["scores"][["churned", "stayed"]].sum().tolist() == [y.sum(), (1 - y).sum()]
    assert drawn["calibration"]["customers"].sum() == 1_000
    confusion = drawn["confusion"].set_index(["actual", "predicted"])["customers"]
    assert confusion["churned", "churned"] == ((y == 1) & (p >= 0.5)).sum()
    assert confusion["churned", "stayed"] == ((y == 1) & (p < 0.5)).sum()
    assert confusion["stayed", "churned"] == ((y == 0) & (p >= 0.5)).sum()
    assert confusion.sum() == 1_000


def test_scores_at_the_ends_of_the_range_have_a_bin():
    drawn = curves([0, 1, 0, 1], [0.0, 1.0, 0.0, 1.0], 0.5)
    assert drawn["calibration"]["mean_score"].tolist() == [0, 1]
    assert drawn["calibration"]["churn_rate"].tolist() == [0, 1]
    assert drawn["scores"]["churned"].iloc[-1] == 2
