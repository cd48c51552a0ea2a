"""Compares main's customers and labels with those of the branch: a selection by outcome makes the holdout easier.

Both models score the branch's holdout, so the comparison of models cannot see who left it, or whose label is wrong.
docs/gate.md, "Selection and labels", has the limits. Results are counts and rates: no key.
"""

from collections.abc import Iterator, Mapping
from math import ceil, sqrt
from statistics import NormalDist
from typing import Any

from churn.config.contract import ProfileRules
from churn.core.errors import number_of
from churn.core.paths import PARAMS
from churn.evaluation.metrics import roc_auc
from churn.quality.profile_checks import REACH, label_tolerance
from report.data import LabelChanges, NewChurn
from report.faults import Fault

import pandas as pd
from scipy.stats import fisher_exact

ALPHA = 0.001  # the share of random removals that are refused, and of equally hard holdouts that are called easier
REVERSED = 0.01  # of main's churners may be none any more; the sample's harmless case, five labels, has 0.003
VANISHED = 20  # churners of a slice on main
APPROVAL = "or let a code owner approve the reason"


def selection_faults(found: LabelChanges, rules: ProfileRules, label: str) -> Iterator[Fault]:
    """Yield a fault where customers disappeared by their outcome, or where churners are no churners any more."""
    churners, stayed = found.kept_churners, found.kept - found.kept_churners
    gone = (found.removed_churners, found.removed - found.removed_churners)
    if found.removed and found.kept:
        rate, before = found.removed_churners / found.removed, found.kept_churners / found.kept
        overall = (found.removed_churners + found.kept_churners) / (found.removed + found.kept)
        by_chance = fisher_exact([gone, (churners, stayed)]).pvalue >= ALPHA
        # protection: customers that disappear churned like those that stay
        if not by_chance and abs(rate - before) > label_tolerance(before, overall, rules):
            yield Fault(
                f"{number_of(found.removed, 'customers')} of main disappeared, of whom {rate:.1%} churned, against"
                f" {before:.1%} of those still here: look for a condition on the outcome in the query and in {PARAMS}:"
                f" prepare.drop, {APPROVAL}",
                "selection",
                ("disappeared",),
            )
    allowed = ceil(REVERSED * churners)
    # protection: a churner stays a churner
    if found.turned_off > allowed:
        yield Fault(
            f"{label} turned from 1 to 0 for {found.turned_off:,} of main's {number_of(churners, 'churners')}, where"
            f" {allowed:,} may: look for labels that are late or overwritten in the source, {APPROVAL}",
            "labels",
            (label,),
        )


def new_churn(own: pd.DataFrame, new: pd.DataFrame) -> NewChurn | None:
    """Return how many rows of new customers churned, and how many main's model expects; None without such a row.

    The columns of both frames are the customer, the label and main's score. On its `own` holdout main's scores add up
    to its churners, whatever it was trained with. Rows of one customer count as one draw.
    """
    customer, label, score = new.columns
    if new.empty or own[score].sum() <= 0:
        return None
    chance = (new[score] * (own[label].sum() / own[score].sum())).clip(upper=1.0)
    alike = new.groupby(customer)[customer].transform("size")
    variance = float((alike * chance * (1 - chance)).sum())
    return NewChurn(len(new), int(new[label].sum()), float(chance.sum()), variance)


def new_faults(found: NewChurn, rules: ProfileRules, label: str) -> Iterator[Fault]:
    """Yield a fault where new customers churned far less than main's model expects."""
    rate = found.expected / found.rows
    chance = REACH * sqrt(found.variance) / found.rows
    # protection: new customers churn as main's model expects
    if found.churners / found.rows < rate - label_tolerance(rate, rate, rules) - chance:
        yield Fault(
            f"{label} is 1 for {found.churners:,} of {number_of(found.rows, 'rows')} of new customers in the holdout,"
            f" where main's model expects {found.expected:,.0f}: look for labels that are not final yet, and for a"
            f" default that makes them 0, {APPROVAL}",
            "labels",
            (label, "new"),
        )


def vanished_slices(before: Mapping[str, Any], after: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[Fault]:
    """Yield a fault for each slice that lost all of its churners; both are evaluations of a holdout.

    `names` are those of slices that have another name here, by main's.
    """
    churners = {part["name"]: part["churners"] for part in after["slices"]}
    for part in before["slices"]:
        name = names.get(part["name"], part["name"])
        if part["churners"] >= VANISHED and churners.get(name) == 0:
            yield Fault(
                f"{name}: the slice has no churner in the holdout, and {part['churners']:,} on main: look for a"
                f" condition in the query, for a filled value, and for late labels, {APPROVAL}",
                "slices",
                (name,),
            )


def easier_holdout(before: pd.DataFrame, after: pd.DataFrame) -> tuple[float, float] | None:
    """Return the ROC AUC of one model on two holdouts, if it is higher on `after` beyond noise.

    Their columns are the customer, the label and the score. A customer in both counts once, by the difference of both
    influences (DeLong et al. 1988). Without shared customers that is the sum of both variances.
    """
    areas, influences = [], []
    for customer, label, score in ([frame[name] for name in frame.columns] for frame in (before, after)):
        numbers, names = pd.factorize(customer.astype(str))
        area = roc_auc(label.to_numpy(float), score.to_numpy(float), numbers)
        if area.value is None or area.influences is None:
            return None
        areas.append(area.value)
        influences.append(pd.Series(area.influences, names))
    noise = sqrt(float((influences[1].sub(influences[0], fill_value=0) ** 2).sum()))
    higher = areas[1] - areas[0] > NormalDist().inv_cdf(1 - ALPHA) * noise
    return (areas[0], areas[1]) if higher else None
