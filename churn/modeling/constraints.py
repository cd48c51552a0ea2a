"""Constraints on features: params.yaml gives them by name, and the libraries take them by position.

scikit-learn's gradient boosting sees the features after their encoder, in another order than the contract's. So a list
would constrain other features than its author means, without a message.
"""

from collections.abc import Sequence
from typing import Any

from churn.config.contract import Contract
from churn.core.errors import StageError, nearest

SIGNS = ("monotonic_cst", "monotone_constraints")  # by feature: 1 where churn may only rise with it, -1 only fall
GROUPS = ("interaction_cst", "interaction_constraints")  # the features that may be in one branch of a tree
WORDS = ("pairwise", "no_interactions")  # of scikit-learn, for groups


def by_position(classifier: Any, contract: Contract, order: Sequence[str] | None) -> dict[str, Any]:
    """Return the constraints of a classifier by the positions of the features.

    Parameters
    ----------
    classifier : sklearn.base.ClassifierMixin
        Not fitted, with the parameters of params.yaml.
    contract : Contract
        Declares the features.
    order : sequence of str, optional
        The features as the library sees them. None means that it sees one-hot and indicator columns instead.

    Returns
    -------
    dict
        By parameter: a sign for each feature, or lists of positions. A parameter that is not set is left out.

    Raises
    ------
    StageError
        When a constraint is not by name, names no feature, or is the sign of a category.

    Examples
    --------
    >>> from pathlib import Path
    >>> from churn.config.contract import load_contract
    >>> from sklearn.ensemble import HistGradientBoostingClassifier
    >>> contract = load_contract(Path("tests/sample/contract.yaml"))
    >>> classifier = HistGradientBoostingClassifier(monotonic_cst={"tenure_months": -1})
    >>> by_position(classifier, contract, ["contract", "partner", "tenure_months"])
    {'monotonic_cst': [0, 0, -1]}
    """
    given = classifier.get_params(deep=False)
    found: dict[str, Any] = {}
    for name in (*SIGNS, *GROUPS):
        if (value := given.get(name)) is None:
            continue
        where = f"params.yaml: train.parameters.{name}"
        if order is None:
            raise StageError(
                f"{where}: {type(classifier).__name__} sees one-hot columns instead of features: remove it, or let"
                " train.estimator be sklearn.ensemble.HistGradientBoostingClassifier or xgboost.XGBClassifier."
            )
        found[name] = (_signs if name in SIGNS else _groups)(where, value, contract, order)
    return found


def _signs(where: str, value: Any, contract: Contract, order: Sequence[str]) -> list[int]:
    """Return -1, 0 or 1 for each feature of `order`."""
    categories = contract.features_of("category")
    if not isinstance(value, dict):
        example = next((name for name in contract.features if name not in categories), "NAME")
        raise StageError(f"{where}: needs the names of features: write {{{example}: -1}}.")
    for name, sign in value.items():
        _refuse_unknown(where, name, contract)
        if name in categories:
            raise StageError(f"{where}: {name} is a category, whose values have no order: remove it.")
        if isinstance(sign, bool) or sign not in (-1, 0, 1):
            raise StageError(f"{where}.{name}: needs 1 (churn rises with it), -1 (it falls) or 0, not {sign!r}.")
    return [int(value.get(name, 0)) for name in order]


def _groups(where: str, value: Any, contract: Contract, order: Sequence[str]) -> list[list[int]] | str:
    """Return the positions in `order` of the features of each group."""
    if isinstance(value, str) and value in WORDS:
        return value
    groups = value if isinstance(value, list) else [value]
    if not all(isinstance(group, list) and all(isinstance(name, str) for name in group) for group in groups):
        raise StageError(f"{where}: needs lists of features' names: write [[{', '.join(contract.features[:2])}]].")
    for name in (name for group in groups for name in group):
        _refuse_unknown(where, name, contract)
    return [[order.index(name) for name in group] for group in groups]


def _refuse_unknown(where: str, name: str, contract: Contract) -> None:
    if name not in contract.features:
        raise StageError(f"{where}: {name} is not a feature of the contract{nearest(name, contract.features)}.")
