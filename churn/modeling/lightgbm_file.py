"""LightGBM's file format, its text, checked before the library reads it.

The library trusts its files: a tree whose child lies beyond its nodes reads memory that is not its own. So each number
that leads to another is checked here. The text ends with the trees: what LightGBM writes behind them are its
parameters, which no prediction needs, and which name the number of threads.
"""

import re
from collections.abc import Mapping
from typing import Any

from churn.modeling.trees import TreeError, check_children

import numpy as np
import numpy.typing as npt

OBJECTIVE = "binary sigmoid:1"
END = "end of trees\n"
CATEGORICAL, DEFAULT_LEFT, MISSING = 1, 2, 12  # the bits of a decision; MISSING holds how a missing value is told
WORD = 32  # categories are the bits of words of this length
HEADER = {  # what a model of one probability has
    "version": "v4",
    "num_class": "1",
    "num_tree_per_iteration": "1",
    "label_index": "0",
    "objective": OBJECTIVE,
}
# The library ends lines also at \r, and reads a number's beginning: so each text has the one form that it writes.
TEXT = re.compile(rb"[\n -~]*")
INTEGER, FLOAT = r"-?(?:0|[1-9]\d*)", r"-?(?:inf|\d+(?:\.\d+)?(?:e[+-]\d+)?)"
FORMS: dict[type, re.Pattern[str]] = {
    np.int64: re.compile(rf"{INTEGER}(?: {INTEGER})*"),
    np.float64: re.compile(rf"{FLOAT}(?: {FLOAT})*"),
}
INFO = rf"(?:none|\[{FLOAT}:{FLOAT}\]|{INTEGER}(?::{INTEGER})*)"  # of a feature: nothing, a range, or categories
INFOS = re.compile(rf"{INFO}(?: {INFO})*")
OTHERS = {"tree", "average_output", "feature_infos", "monotone_constraints", "tree_sizes"}  # of the header
INNER = {  # what a tree has for each inner node
    **dict.fromkeys(("decision_type", "internal_count", "left_child", "right_child", "split_feature"), np.int64),
    **dict.fromkeys(("internal_value", "internal_weight", "split_gain", "threshold"), np.float64),
}
LEAVES = {"leaf_count": np.int64, "leaf_value": np.float64, "leaf_weight": np.float64}  # for each leaf
KNOWN = {"Tree", "cat_boundaries", "cat_threshold", "is_linear", "num_cat", "num_leaves", "shrinkage", *INNER, *LEAVES}


def names(features: int) -> list[str]:
    """Return the names of features in the file: LightGBM takes no others than letters and digits."""
    return [f"Column_{place}" for place in range(features)]


def kept(text: str) -> bytes:
    """Return the part of a model's text that predictions need, the same for every number of threads."""
    return (text[: text.index(END)] + END).encode()


def check(data: bytes, features: int, codes: Mapping[int, int]) -> None:
    """Raise TreeError unless `data` is a model of LightGBM for one probability, of so many `features`.

    `codes` has the number of values of each feature that is a category.
    """
    if not TEXT.fullmatch(data):
        raise TreeError("it is not text")
    text = data.decode()
    blocks = [_entries(block) for block in text.removesuffix(END).split("\n\n") if block.strip()]
    if not text.endswith(f"\n{END}") or text.count(END) != 1 or len(blocks) < 2:
        raise TreeError("it is cut short")
    header, trees = blocks[0], blocks[1:]
    if header.get("objective") != OBJECTIVE:
        raise TreeError(f"its objective is not {OBJECTIVE}")
    expected = HEADER | {"max_feature_idx": str(features - 1), "feature_names": " ".join(names(features))}
    if wrong := [name for name, value in expected.items() if header.get(name) != value]:
        raise TreeError(f"it has another {wrong[0]}")
    if unknown := header.keys() - expected.keys() - OTHERS:
        raise TreeError(f"it has {len(unknown)} unknown entries")
    infos = header.get("feature_infos", "")
    if not INFOS.fullmatch(infos) or infos.count(" ") + 1 != features:
        raise TreeError("it has another feature_infos")
    if "monotone_constraints" in header:
        _numbers(header, "monotone_constraints", features)
    sizes = [len(part) for part in re.split(r"(?m)^(?=Tree=)", text.removesuffix(END))[1:]]
    if header.get("tree_sizes", "") != " ".join(map(str, sizes)) or len(sizes) != len(trees):
        raise TreeError("it has another number of trees")
    for number, tree in enumerate(trees):
        if tree.get("Tree") != str(number):
            raise TreeError("its trees are of another model")
        _check_tree(tree, features, codes)


def _entries(block: str) -> dict[str, str]:
    """Return the lines `name=value` of a part of the text; the first line of the file, `tree`, has no value."""
    entries: dict[str, str] = {}
    for line in block.strip("\n").split("\n"):
        name, _, value = line.partition("=")
        if name in entries:
            raise TreeError("a key is there twice")
        entries[name] = value
    return entries


def _numbers(tree: Mapping[str, str], name: str, size: int, kind: type = np.int64) -> npt.NDArray[Any]:
    """Return so many numbers of a tree."""
    text = tree.get(name, "")
    if not FORMS[kind].fullmatch(text) or text.count(" ") + 1 != size:
        raise TreeError(f"a tree has another {name}")
    try:
        return np.array(text.split(" "), dtype=kind)
    except (ValueError, OverflowError) as error:
        raise TreeError(f"a tree has another {name}") from error


def _check_tree(tree: Mapping[str, str], features: int, codes: Mapping[int, int]) -> None:
    leaves, categorical = (int(_numbers(tree, name, 1)[0]) for name in ("num_leaves", "num_cat"))
    if leaves < 1 or categorical < 0 or tree.get("is_linear") != "0" or tree.keys() - KNOWN:
        raise TreeError("a tree is of another kind")
    _numbers(tree, "shrinkage", 1, np.float64)
    inner = leaves - 1
    if not inner and any(tree.get(name) for name in (*INNER, "leaf_weight", "cat_boundaries", "cat_threshold")):
        raise TreeError("a tree has another number of leaves")
    parts = {
        name: _numbers(tree, name, leaves, kind) for name, kind in LEAVES.items() if inner or name != "leaf_weight"
    }
    if not np.isfinite(parts["leaf_value"]).all():
        raise TreeError("a tree has a value that is not finite")
    if not inner:
        return
    parts |= {name: _numbers(tree, name, inner, kind) for name, kind in INNER.items()}
    chosen, decisions = parts["split_feature"], parts["decision_type"]
    if ((chosen < 0) | (chosen >= features)).any():
        raise TreeError("a tree takes a feature that is not there")
    if (decisions & ~(CATEGORICAL | DEFAULT_LEFT | MISSING)).any() or (decisions & MISSING == MISSING).any():
        raise TreeError("a tree decides in an unknown way")
    # A child below 0 is a leaf: -1 is leaf 0. Behind the inner nodes, each leaf is a node here.
    sides = (parts["left_child"], parts["right_child"])
    places = [np.where(side < 0, inner - 1 - side, side) for side in sides]
    check_children(*(np.concatenate([side, np.full(leaves, -1)]) for side in places))
    by_category = decisions & CATEGORICAL > 0
    if [*parts["threshold"][by_category]] != [*range(categorical)]:
        raise TreeError("a tree has other categories")
    if categorical:
        _check_categories(tree, categorical, chosen[by_category], codes)


def _check_categories(
    tree: Mapping[str, str], categorical: int, chosen: npt.NDArray[np.int64], codes: Mapping[int, int]
) -> None:
    """Check the sets of categories, each some words of bits, that nodes send to the left."""
    bounds = _numbers(tree, "cat_boundaries", categorical + 1)
    if bounds[0] != 0 or (np.diff(bounds) < 1).any():
        raise TreeError("a tree has other categories")
    words = _numbers(tree, "cat_threshold", int(bounds[-1]))
    if ((words < 0) | (words >= 2**WORD)).any():
        raise TreeError("a tree has other categories")
    for feature, start, end in zip(chosen.tolist(), bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        if int(words[end - 1]).bit_length() + WORD * (end - start - 1) > codes.get(feature, 0):
            raise TreeError("a tree has other categories")
