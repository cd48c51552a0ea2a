"""The data behind the plots: small tables, whatever the number of rows they were made from."""

from churn.evaluation.metrics import Floats, calibration_bins

import numpy as np
import numpy.typing as npt
import pandas as pd

CURVE_POINTS = 201
SCORE_BINS = 20


def curves(
    labels: npt.ArrayLike, scores: npt.ArrayLike, threshold: float, rows: npt.ArrayLike | None = None
) -> dict[str, pd.DataFrame]:
    """Return the data of the plots.

    Parameters
    ----------
    labels : array_like, shape (rows,)
        1 where the customer churned, else 0; both occur.
    scores : array_like, shape (rows,)
        The probability of churn, in [0, 1].
    threshold : float
        A row counts as predicted to churn from this score on.
    rows : array_like, optional
        How many rows each label stands for, where rows are counted.

    Returns
    -------
    dict of str to pandas.DataFrame
        The tables `roc`, `precision_recall`, `gains`, `calibration`, `confusion` and `scores`, of at most
        CURVE_POINTS + 1 rows.

    Examples
    --------
    >>> curves([1, 0, 1, 0, 0], [0.9, 0.6, 0.4, 0.1, 0.2], threshold=0.5)["confusion"]
        actual predicted  customers
    0   stayed    stayed          2
    1   stayed   churned          1
    2  churned    stayed          1
    3  churned   churned          1
    """
    y, p = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    weights = np.ones(len(y)) if rows is None else np.asarray(rows, dtype=np.float64)
    roc, precision_recall, gains = _threshold_curves(y, p, weights)
    return {
        "roc": roc,
        "precision_recall": precision_recall,
        "gains": gains,
        "calibration": _calibration(y, p, weights),
        "confusion": _confusion(y, p >= threshold, weights),
        "scores": _score_distribution(y, p, weights),
    }


def _threshold_curves(y: Floats, p: Floats, weights: Floats) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return the ROC, precision-recall and gains curves, one point a distinct score, thinned to CURVE_POINTS.

    The gains curve has the share of the churners among the customers with the highest scores, by their share of all.
    """
    order = np.argsort(-p, kind="stable")
    last = np.append(np.flatnonzero(np.diff(p[order])), len(p) - 1)  # of each run of equal scores
    hits = np.cumsum((y * weights)[order])[last]
    alarms = np.cumsum(weights[order])[last]
    recall, false_alarms = hits / hits[-1], (alarms - hits) / (alarms[-1] - hits[-1])
    # Evenly along the curve's length, so that steep and flat parts are drawn equally well.
    length = np.cumsum(np.hypot(np.diff(recall, prepend=0), np.diff(false_alarms, prepend=0)))
    keep = np.unique(np.searchsorted(length, np.linspace(length[0], length[-1], CURVE_POINTS)).clip(0, len(last) - 1))
    start = pd.DataFrame({"false_positive_rate": [0.0], "true_positive_rate": [0.0]})
    roc = pd.DataFrame({"false_positive_rate": false_alarms[keep], "true_positive_rate": recall[keep]})
    precision = pd.DataFrame({"recall": recall[keep], "precision": (hits / alarms)[keep]})
    none = pd.DataFrame({"contacted": [0.0], "churners_reached": [0.0]})
    gains = pd.DataFrame({"contacted": (alarms / alarms[-1])[keep], "churners_reached": recall[keep]})
    return pd.concat([start, roc], ignore_index=True), precision, pd.concat([none, gains], ignore_index=True)


def _calibration(y: Floats, p: Floats, weights: Floats) -> pd.DataFrame:
    """Return each score bin's mean score and churn rate; empty bins are left out."""
    columns = {"mean_score": p * weights, "churn_rate": y * weights, "customers": weights}
    table = pd.DataFrame(columns).groupby(calibration_bins(p)).sum().reset_index(drop=True)
    for name in ("mean_score", "churn_rate"):
        table[name] /= table["customers"]
    return table.astype({"customers": int})


def _confusion(y: Floats, predicted: npt.NDArray[np.bool_], weights: Floats) -> pd.DataFrame:
    """Return the number of customers for each actual and predicted outcome, zero where there are none."""
    outcomes = {0: "stayed", 1: "churned"}
    return pd.DataFrame(
        [
            {
                "actual": outcomes[actual],
                "predicted": outcomes[guess],
                "customers": int(weights[(y == actual) & (predicted == guess)].sum()),
            }
            for actual in outcomes
            for guess in outcomes
        ]
    )


def _score_distribution(y: Floats, p: Floats, weights: Floats) -> pd.DataFrame:
    """Return the number of churners and of stayers in each of SCORE_BINS equal bins of the score."""
    edges = np.linspace(0, 1, SCORE_BINS + 1)
    churned, stayed = (
        np.histogram(p[y == label], edges, weights=weights[y == label])[0].astype(int) for label in (1, 0)
    )
    return pd.DataFrame({"score": edges[:-1] + 0.5 / SCORE_BINS, "churned": churned, "stayed": stayed})
