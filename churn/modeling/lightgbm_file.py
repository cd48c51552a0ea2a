"""LightGBM's file format, its text, checked before the library reads it.

The library trusts its files: a tree whose child lies beyond its nodes reads memory that is not its own. So each number
that leads to another is checked here. The text ends with the trees: what LightGBM writes behind them are its
parameters, which no prediction needs, and which name the number of threads.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from churn.modeling.trees import check_children

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
TREE = re.compile(r"Tree=(\d+)")


def names(features: int) -> list[str]:
    """Return the names of features in the file: LightGBM takes no others than letters and digits."""
    return [f"Column_{place}" for place in range(features)]


def kept(text: str) -> bytes:
    """Return the part of a model's text that predictions need, the same for every number of threads."""
    return (text[: text.index(END)] + END).encode()


def check(data: bytes, features: int, codes: Mapping[int, int]) -> None:
    """Raise ValueError unless `data` is a model of LightGBM for one probability, of so many `features`.

    `codes` has the number of values of each feature that is a category.
    """
    if not data.isascii():
        raise ValueError("it is not text")
    text = data.decode()
    blocks = [_entries(block) for block in text.removesuffix(END).split("\n\n") if block.strip()]
    if not text.endswith(f"\n{END}") or text.count(END) != 1 or len(blocks) < 2:
        raise ValueError("it is cut short")
    header, trees = blocks[0], blocks[1:]
    if header.get("objective") != OBJECTIVE:
        raise ValueError(f"its objective is not {OBJECTIVE}")
    expected = HEADER | {"max_feature_idx": str(features - 1), "feature_names": " ".join(names(features))}
    if wrong := [name for name, value in expected.items() if header.get(name) != value]:
        raise ValueError(f"it has another {wrong[0]}")
    if len(header.get("feature_infos", "").split()) != features:
        raise ValueError("it has another feature_infos")
    sizes = [len(part) for part in re.split(r"(?m)^(?=Tree=)", text.removesuffix(END))[1:]]
    if header.get("tree_sizes", "").split() != [*map(str, sizes)] or len(sizes) != len(trees):
        raise ValueError("it has another number of trees")
    for number, tree in enumerate(trees):
        if tree.get("Tree") != str(number):
            raise ValueError("its trees are of another model")
        _check_tree(tree, features, codes)


def _entries(block: str) -> dict[str, str]:
    """Return the lines `name=value` of a part of the text; the first line of the file, `tree`, has no value."""
    entries: dict[str, str] = {}
    for line in block.strip("\n").split("\n"):
        name, _, value = line.partition("=")
        if name in entries:
            raise ValueError("a key is there twice")
        entries[name] = value
    return entries


def _numbers(tree: Mapping[str, str], name: str, size: int, kind: type = np.int64) -> npt.NDArray[Any]:
    """Return so many numbers of a tree."""
    with suppress(ValueError):
        values: npt.NDArray[Any] = np.array(tree.get(name, "").split(), dtype=kind)
        if values.shape == (size,):
            return values
    raise ValueError(f"a tree has another {name}")


def _check_tree(tree: Mapping[str, str], features: int, codes: Mapping[int, int]) -> None:
    leaves, categorical = (int(_numbers(tree, name, 1)[0]) for name in ("num_leaves", "num_cat"))
    if leaves < 1 or categorical < 0 or tree.get("is_linear") != "0":
        raise ValueError("a tree is of another kind")
    if not np.isfinite(_numbers(tree, "leaf_value", leaves, np.float64)).all():
        raise ValueError("a tree has a value that is not finite")
    if leaves == 1:
        return
    inner = leaves - 1
    chosen, decisions = _numbers(tree, "split_feature", inner), _numbers(tree, "decision_type", inner)
    if ((chosen < 0) | (chosen >= features)).any():
        raise ValueError("a tree takes a feature that is not there")
    if (decisions & ~(CATEGORICAL | DEFAULT_LEFT | MISSING)).any() or (decisions & MISSING == MISSING).any():
        raise ValueError("a tree decides in an unknown way")
    # A child below 0 is a leaf: -1 is leaf 0. Behind the inner nodes, each leaf is a node here.
    left, right = (_numbers(tree, f"{side}_child", inner) for side in ("left", "right"))
    places = [np.where(side < 0, inner - 1 - side, side) for side in (left, right)]
    check_children(*(np.concatenate([side, np.full(leaves, -1)]) for side in places))
    thresholds = _numbers(tree, "threshold", inner, np.float64)
    if np.isnan(thresholds).any():
        raise ValueError("a tree has a threshold that is none")
    by_category = decisions & CATEGORICAL > 0
    if [*thresholds[by_category]] != [*range(categorical)]:
        raise ValueError("a tree has other categories")
    if categorical:
        _check_categories(tree, categorical, chosen[by_category], codes)


def _check_categories(
    tree: Mapping[str, str], categorical: int, chosen: npt.NDArray[np.int64], codes: Mapping[int, int]
) -> None:
    """Check the sets of categories, each some words of bits, that nodes send to the left."""
    bounds = _numbers(tree, "cat_boundaries", categorical + 1)
    if bounds[0] != 0 or (np.diff(bounds) < 1).any():
        raise ValueError("a tree has other categories")
    words = _numbers(tree, "cat_threshold", int(bounds[-1]))
    if ((words < 0) | (words >= 2**WORD)).any():
        raise ValueError("a tree has other categories")
    for feature, start, end in zip(chosen.tolist(), bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        if int(words[end - 1]).bit_length() + WORD * (end - start - 1) > codes.get(feature, 0):
            raise ValueError("a tree has other categories")
