"""The trees of scikit-learn's models, checked before one predicts.

The library trusts them: a tree whose child lies beyond its nodes reads memory that is not its own, and one that goes
round in a circle never ends.
"""

import math
from collections.abc import Iterator
from itertools import chain
from typing import Any

from churn.modeling.trees import TreeError, check_children

import numpy as np

BITSETS = (8, np.dtype(np.uint32))  # the length and type of a set of categories: a bit for each of 256 codes


def check(model: Any) -> None:
    """Raise TreeError where a tree in the model leads nowhere, or takes a feature that is not there."""
    for one, features in _estimators(model, set()):
        if hasattr(one, "_predictors"):
            _check_boosting(one, features)
        elif hasattr(one, "tree_"):
            left, right = (np.asarray(side, np.int64) for side in (one.tree_.children_left, one.tree_.children_right))
            _check_features(np.asarray(one.tree_.feature)[check_children(left, right)], features)
        elif type(one).__name__ == "KDTree":
            _check_neighbors(one)


def _estimators(value: Any, seen: set[int], features: float = math.inf) -> Iterator[tuple[Any, float]]:
    """Yield the objects of scikit-learn that a value is made of, with how many features it and those around it take."""
    if id(value) in seen:
        return
    seen.add(id(value))
    parts: Any = ()
    if isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.dtype == object):
        parts = value
    elif isinstance(value, dict):
        parts = value.values()
    elif type(value).__module__.startswith("sklearn."):
        own = getattr(value, "__dict__", {})  # a type of Cython's has none
        features = min(features, own.get("n_features_in_", math.inf))
        yield value, features
        parts = own.values()
    for part in parts:
        yield from _estimators(part, seen, features)


def _check_boosting(model: Any, features: float) -> None:
    """Check the trees of gradient boosting on histograms."""
    by_category = np.asarray(model._bin_mapper.is_categorical_)
    if by_category.shape != (features,):
        raise TreeError("it takes other features")
    for tree in chain.from_iterable(model._predictors):
        leaf = tree.nodes["is_leaf"] != 0
        left, right = (np.where(leaf, -1, tree.nodes[side].astype(np.int64)) for side in ("left", "right"))
        nodes = tree.nodes[check_children(left, right)]
        _check_features(nodes["feature_idx"], features)
        split = nodes[nodes["is_categorical"] != 0]
        sets = tree.raw_left_cat_bitsets
        if not by_category[split["feature_idx"]].all() or (split["bitset_idx"] >= len(sets)).any():
            raise TreeError("a tree has other categories")
        if (sets.shape[-1], sets.dtype) != BITSETS:
            raise TreeError("a tree has other categories")


def _check_neighbors(tree: Any) -> None:
    """Check the tree in which nearest neighbours are found: node i, if it is no leaf, leads to 2i + 1 and 2i + 2."""
    customers, order, nodes, bounds = (np.asarray(one) for one in tree.get_arrays())
    rows, features = customers.shape
    least, end = nodes["idx_start"], nodes["idx_end"]
    last = 2 * np.flatnonzero(nodes["is_leaf"] == 0).max(initial=-1) + 2
    if last >= len(nodes) or bounds.shape != (2, len(nodes), features):
        raise TreeError("a tree leads to nodes that are not there")
    if order.shape != (rows,) or ((order < 0) | (order >= rows)).any() or ((least < 0) | (end > rows)).any():
        raise TreeError("a tree leads to customers that are not there")


def _check_features(chosen: Any, features: float) -> None:
    if ((chosen < 0) | (chosen >= features)).any():
        raise TreeError("a tree takes a feature that is not there")
