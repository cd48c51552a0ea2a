"""Checks for distribution shift against profile.json, and for leakage by a single feature."""

from collections.abc import Iterator, Sequence
from math import sqrt

from churn.config.contract import Contract, ProfileRules
from churn.core.paths import CONTRACT, PROFILE
from churn.quality.profile import Bin, FeatureProfile, Profile, is_foreign, single_feature_roc_auc
from churn.quality.row_checks import Finding
from churn.quality.spikes import new_spikes, spike_sentence

RENEW = f"`make profile` renews {PROFILE}, to be reviewed and committed"
MOST_NAMED, NAMED = 2, 5  # columns that have a finding of their own, and that a common one names
BOTH_TABLES = "train and test"
CATEGORY_SHARE = 0.01  # of the rows: from it on, a category is called new, or vanished
RATE_SHARE = 1 / 3  # of a churn rate: with the sample's 26.5 %, months that differ by 6 points pass
LEAST_RATE = 1 / 30  # of all customers' churn rate: where hardly anybody churns, a third of the rate is nothing
REACH = 4.0  # standard errors of chance on top of a tolerance: of a hundred bins, none exceeds it by chance


def profile_findings(contract: Contract, reference: Profile, now: Profile) -> Iterator[Finding]:
    """Yield the shifts from `reference` beyond the tolerances of rules.profile and chance, and single-feature leakage.

    Chance is REACH standard errors of the difference of two shares, or means, of as many rows as either profile has.
    """
    columns = list(_column_findings(contract, reference, now))
    yield from columns
    if columns and is_foreign(reference, contract):
        return
    rules = contract.rules.profile
    rates = (reference.label_rate, now.label_rate)
    labelled = any(one.label_rate is not None for feature in now.features.values() for one in feature.bins)
    # protection: the number of rows is like the profile's
    if not rules.rows.min <= (ratio := now.rows / reference.rows) <= rules.rows.max:
        message = (
            f"{now.rows:,} rows are {ratio:.2f} times the {reference.rows:,} of {PROFILE}: the source shrank or grew,"
            f" outside {rules.rows.min:g} to {rules.rows.max:g}"
        )
        yield _finding("rows", "", abs(ratio - 1), now, message)
    excess = _excess(*rates, label_tolerance(rates[0], rates[0], rules), (reference.rows, now.rows))
    # protection: all customers churn like the profile's
    if labelled and excess > 0:
        message = (
            f"{rates[1]:.1%} of all customers churned, {rates[0]:.1%} in {PROFILE}: look for late labels, and for a"
            " condition on the outcome in the query"
        )
        yield _finding("label_rates", contract.label, excess, now, message)
    for name, here in now.features.items():
        known = reference.features[name].spikes if name in reference.features else ()
        # protection: a spike has a reason
        for spike in new_spikes(here.spikes, known, contract.rules.spikes.get(name, {})):
            yield _finding("spikes", name, spike.share, now, spike_sentence(name, spike, known))
        if name not in reference.features:
            continue
        worst: dict[str, tuple[float, str]] = {}
        if _is_retyped(name, contract, reference):
            kind, not_one = contract.columns[name].type, "" if reference.features[name].mean is not None else "not "
            message = f"{name} has the type {kind} in {CONTRACT}, and is {not_one}a number in {PROFILE}"
            worst["profile"] = 1.0, message
        for rule, excess, message in () if worst else _shifts(name, here, reference, now.rows, rules):
            # protection: like the profile
            if excess > worst.get(rule, (0.0, ""))[0]:
                worst[rule] = (excess, message)
        for rule, (excess, message) in worst.items():
            yield _finding(rule, name, excess, now, message)
        area = single_feature_roc_auc(here)
        # protection: no feature knows the label alone
        if area > contract.rules.max_single_feature_roc_auc:
            message = (
                f"{name} alone ranks churners with a ROC AUC of {area:.3f}, more than"
                f" {contract.rules.max_single_feature_roc_auc:g}: it may know the label"
            )
            yield _finding("leakage", name, 1.0, now, message)


def _column_findings(contract: Contract, reference: Profile, now: Profile) -> Iterator[Finding]:
    """Yield the features that came or went: one finding for each, or one for all where there are many."""
    gone = [name for name in reference.features if name not in contract.features]
    # protection: a new feature enters the profile
    new = [name for name in now.features if name not in reference.features]
    if len(gone) + len(new) > MOST_NAMED:
        names = "".join(f"; it {verb} {_some(names)}" for verb, names in (("lacks", new), ("has", gone)) if names)
        yield _finding("profile", "", 1.0, now, f"{PROFILE} describes other columns{names}: {RENEW}")
        return
    for name in gone:
        yield _finding("profile", name, 1.0, now, f"{name} is in {PROFILE}, but no feature any more: {RENEW}")
    for name in new:
        yield _finding("profile", name, 1.0, now, f"{name} is not in {PROFILE}: {RENEW}")


def _is_retyped(name: str, contract: Contract, reference: Profile) -> bool:
    """Return whether of the feature's types here and in `reference` one is a number, and the other one is none."""
    there, is_number = reference.features[name], contract.columns[name].type in ("integer", "number")
    return there.missing < 1 and is_number != (there.mean is not None)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED:,} more" if len(names) > NAMED else "")


def _finding(rule: str, column: str, share: float, now: Profile, message: str) -> Finding:
    return Finding(BOTH_TABLES, rule, column, round(min(share, 1.0) * now.rows), round(min(share, 1.0), 6), message)


def _shifts(
    name: str, here: FeatureProfile, reference: Profile, rows: int, rules: ProfileRules
) -> Iterator[tuple[str, float, str]]:
    """Yield each comparison of a feature: its rule, the shift beyond tolerance and chance, and the message."""
    there, sizes = reference.features[name], (reference.rows, rows)
    message = f"{name} is missing in {here.missing:.1%} of the rows, in {there.missing:.1%} of {PROFILE}"
    yield "nulls_share", _excess(there.missing, here.missing, rules.nulls, sizes), message
    if there.mean is not None and there.std:
        off = float("inf") if here.mean is None else abs(here.mean - there.mean) / there.std
        chance = REACH * sqrt(1 / sizes[0] + 1 / max(sizes[1], 1))
        former = f"{there.mean:.4g} in {PROFILE}"
        message = f"{name} has no value, and so no mean, {former}"
        if here.mean is not None:
            message = f"the mean of {name} is {here.mean:.4g}, {former}: {off:.1f} standard deviations off"
        yield "mean", off - rules.mean - chance, message
    (_, nulls), (values, former_nulls) = _nulls_apart(here), _nulls_apart(there)
    before, after, known = 0.0, 0.0, {one.name: one for one in values}
    last = f"above {there.edges[-1]:g}" if there.edges else None
    for one, bin_name in zip(here.bins, _bin_names(here), strict=True):
        was = former_nulls if one is nulls else known.get(one.name)
        was = was or Bin(name=one.name, share=0.0, label_rate=None)
        if there.edges and one is not nulls:
            # Up to an edge the shares add up. Above the last one they would be the rows that have a value.
            before, after = (was.share, one.share) if one.name == last else (before + was.share, after + one.share)
            message = f"{after:.1%} of the rows have {name} {one.name}, {before:.1%} in {PROFILE}"
            yield "quantiles", _excess(before, after, rules.quantiles, sizes), message
        elif one is not nulls:
            message = f"{name} is {one.name} in {one.share:.1%} of the rows, {was.share:.1%} in {PROFILE}"
            yield "categories", _excess(was.share, one.share, rules.categories, sizes), message
            if min(one.share, was.share) == 0 and max(one.share, was.share) >= CATEGORY_SHARE:
                what = "has vanished" if not one.share else "is new"
                yield "categories", 1.0, f"{name}: {one.name} {what}, {was.share:.1%} of the rows in {PROFILE}"
        if one.label_rate is not None and was.label_rate is not None:
            counts = (was.share * sizes[0], one.share * sizes[1])
            message = (
                f"{one.label_rate:.1%} of the customers with {name} {bin_name} churned, {was.label_rate:.1%} in"
                f" {PROFILE}"
            )
            tolerance = label_tolerance(was.label_rate, reference.label_rate, rules)
            yield "label_rates", _excess(was.label_rate, one.label_rate, tolerance, counts), message


def _nulls_apart(feature: FeatureProfile) -> tuple[Sequence[Bin], Bin | None]:
    """Return the bins of a feature's values, and the last one if it is that of nulls: a value may have its name."""
    if feature.missing and feature.bins and feature.bins[-1].name == "missing":
        return feature.bins[:-1], feature.bins[-1]
    return feature.bins, None


def label_tolerance(rate: float, overall: float, rules: ProfileRules) -> float:
    """Return by how much a churn rate may differ: rules.profile.label_rate, and no more than a third of the rate.

    The absolute bound alone would let a bin with few churners lose them all. `overall` is the rate of all customers.
    """
    return min(rules.label_rate, max(RATE_SHARE * rate, LEAST_RATE * overall))


def _bin_names(feature: FeatureProfile) -> list[str]:
    """Return the names of a feature's bins, that of a number between two edges with both."""
    below = ["", *(f"above {edge:g}, " for edge in feature.edges[:-1]), *[""] * len(feature.bins)]
    return [f"{lower}{one.name}" for lower, one in zip(below, feature.bins, strict=False)]


def _excess(before: float, after: float, tolerance: float, rows: tuple[float, float]) -> float:
    """Return how much more two shares, of as many `rows`, differ than a tolerance and chance explain."""
    return abs(after - before) - tolerance - REACH * standard_error(before, after, *rows)


def standard_error(one: float, other: float, rows: float, others: float) -> float:
    """Return the standard error of the difference of two shares; one more of each kind, so that it is never 0."""
    one, other = min(one, 1.0), min(other, 1.0)  # a sum of rounded shares may be a little more
    pooled = (one * rows + other * others + 1) / (rows + others + 2)
    return sqrt(pooled * (1 - pooled) * (1 / max(rows, 1) + 1 / max(others, 1)))
