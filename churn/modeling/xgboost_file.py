"""XGBoost's file format, UBJSON, read and checked before the library reads it.

The library trusts its files: a tree whose child lies beyond its nodes reads memory that is not its own. So each number
that leads to another is checked here. https://ubjson.org has the format, which is read as far as XGBoost writes it.
"""

import json
import struct
from collections.abc import Mapping
from typing import Any

from churn.modeling.trees import TreeError, check_children

import numpy as np

OBJECTIVE, BOOSTERS = "binary:logistic", ("gbtree", "dart")
DEPTH = 16  # of nested values; XGBoost's own files have 8
NUMBERS = {b"i": "b", b"U": "B", b"I": ">h", b"l": ">i", b"L": ">q", b"d": ">f", b"D": ">d"}
ROOT = 2**31 - 1  # the parent of a tree's first node
NODES = {  # what a tree has for each node, in the type in which the library reads it
    **dict.fromkeys(("default_left", "split_type"), np.dtype("u1")),
    **dict.fromkeys(("left_children", "parents", "right_children", "split_indices"), np.dtype(">i4")),
    **dict.fromkeys(("base_weights", "loss_changes", "split_conditions", "sum_hessian"), np.dtype(">f4")),
}


class _Reader:
    """Reads one value after the other; an index or a length beyond the file raises TreeError."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def take(self, size: int) -> bytes:
        if not 0 <= size <= len(self.data) - self.place:
            raise TreeError("it is cut short")
        self.place += size
        return self.data[self.place - size : self.place]

    def number(self, marker: bytes) -> int | float:
        if marker not in NUMBERS:
            raise TreeError("it is not UBJSON as XGBoost writes it")
        kind = NUMBERS[marker]
        value: int | float = struct.unpack(kind, self.take(struct.calcsize(kind)))[0]
        return value

    def length(self) -> int:
        return int(self.number(self.take(1)))

    def text(self) -> str:
        return self.take(self.length()).decode()

    def value(self, depth: int = 0) -> Any:
        if depth > DEPTH:
            raise TreeError("it is nested too deeply")
        marker = self.take(1)
        if marker == b"{":
            result = {}
            while self.data[self.place : self.place + 1] != b"}":
                key = self.text()
                if key in result:
                    raise TreeError("a key is there twice")
                result[key] = self.value(depth + 1)
            self.place += 1
            return result
        if marker == b"[":
            return self.array(depth)
        if marker == b"S":
            return self.text()
        if marker in (b"T", b"F"):
            return marker == b"T"
        return self.number(marker)

    def array(self, depth: int) -> Any:
        if (marker := self.take(1)) == b"$":
            kind = self.take(1)
            if kind not in NUMBERS or self.take(1) != b"#":
                raise TreeError("it is not UBJSON as XGBoost writes it")
            size = self.length()
            dtype = np.dtype(NUMBERS[kind].replace("b", "i1").replace("B", "u1"))
            return np.frombuffer(self.take(size * dtype.itemsize), dtype=dtype)
        if marker == b"#":
            return [self.value(depth + 1) for _ in range(self.length())]
        self.place -= 1
        values = []
        while self.data[self.place : self.place + 1] != b"]":
            values.append(self.value(depth + 1))
        self.place += 1
        return values


def check(data: bytes, features: int, codes: Mapping[int, int]) -> None:
    """Raise TreeError unless `data` is a model of XGBoost for one probability, of so many `features`.

    `codes` has the number of values of each feature that is a category.
    """
    reader = _Reader(data)
    try:
        learner = reader.value()["learner"]
        if reader.place != len(data):
            raise TreeError("it goes on after its end")
        if learner["objective"]["name"] != OBJECTIVE:
            raise TreeError(f"its objective is not {OBJECTIVE}")
        shape = learner["learner_model_param"]
        if (int(shape["num_feature"]), int(shape["num_class"]), int(shape["num_target"])) != (features, 0, 1):
            raise TreeError("it takes other features")
        (base,) = json.loads(shape["base_score"])
        if not 0 < base < 1:
            raise TreeError("its base score is not a probability")
        booster = learner["gradient_booster"]
        if booster["name"] not in BOOSTERS:
            raise TreeError("it does not consist of trees")
        trees = booster if booster["name"] == "gbtree" else booster["gbtree"]
        _check_trees(trees["model"], features, codes)
        if booster["name"] == "dart" and not (
            len(booster["weight_drop"]) == len(trees["model"]["trees"]) and np.isfinite(booster["weight_drop"]).all()
        ):
            raise TreeError("its trees have no weights")
    except TreeError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError, struct.error) as error:
        raise TreeError("it is not a model of XGBoost") from error


def _check_trees(model: Mapping[str, Any], features: int, codes: Mapping[int, int]) -> None:
    trees, count = model["trees"], len(model["trees"])
    parallel = int(model["gbtree_model_param"]["num_parallel_tree"])
    if not trees or parallel < 1 or count % parallel or int(model["gbtree_model_param"]["num_trees"]) != count:
        raise TreeError("it has another number of trees")
    if [*model["tree_info"]] != [0] * count or [*model["iteration_indptr"]] != [*range(0, count + 1, parallel)]:
        raise TreeError("its trees are of another model")
    if any(len(part) for part in model.get("cats", {}).values()):
        raise TreeError("it has codes of its own")
    for number, tree in enumerate(trees):
        if tree["id"] != number:
            raise TreeError("its trees are of another model")
        _check_tree(tree, features, codes)


def _check_tree(tree: Mapping[str, Any], features: int, codes: Mapping[int, int]) -> None:
    shape = tree["tree_param"]
    size = int(shape["num_nodes"])
    if int(shape["num_feature"]) != features or shape["size_leaf_vector"] not in ("0", "1"):
        raise TreeError("a tree takes other features")
    if shape["num_deleted"] != "0":
        raise TreeError("a tree has nodes that were deleted")
    parts = {name: np.asarray(tree[name]) for name in NODES}
    if size < 1 or any((parts[name].shape, parts[name].dtype) != ((size,), kind) for name, kind in NODES.items()):
        raise TreeError("a tree has another number of nodes")
    left, right = parts["left_children"].astype(np.int64), parts["right_children"].astype(np.int64)
    inner = check_children(left, right)
    parents = np.full(size, ROOT)
    parents[left[inner]] = parents[right[inner]] = np.flatnonzero(inner)
    if not np.array_equal(parts["parents"].astype(np.int64), parents):
        raise TreeError("a tree has other parents")
    if not np.isfinite(parts["split_conditions"]).all():
        raise TreeError("a tree has a value that is not finite")
    chosen = parts["split_indices"].astype(np.int64)
    if ((chosen < 0) | (chosen >= features)).any():
        raise TreeError("a tree takes a feature that is not there")
    _check_categories(tree, parts["split_type"], inner, chosen, codes)


def _check_categories(tree: Mapping[str, Any], split: Any, inner: Any, chosen: Any, codes: Mapping[int, int]) -> None:
    """Check the lists of categories that nodes send to one side."""
    nodes = np.asarray(tree["categories_nodes"], dtype=np.int64)
    starts, sizes = (np.asarray(tree[f"categories_{name}"], dtype=np.int64) for name in ("segments", "sizes"))
    values = np.asarray(tree["categories"], dtype=np.int64)
    if not (np.isin(split, (0, 1)).all() and [*nodes] == [*np.flatnonzero(split)] and inner[nodes].all()):
        raise TreeError("a tree has other categories")
    if not len(nodes) == len(starts) == len(sizes) or [*starts] != [0, *np.cumsum(sizes)][: len(starts)]:
        raise TreeError("a tree has other categories")
    if (sizes < 1).any() or sizes.sum() != len(values):
        raise TreeError("a tree has other categories")
    most = np.array([codes.get(feature, 0) for feature in chosen[nodes].tolist()], dtype=np.int64)
    if (values < 0).any() or (values >= np.repeat(most, sizes)).any():
        raise TreeError("a tree has other categories")
