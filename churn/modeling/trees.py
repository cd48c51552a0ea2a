"""What holds for the trees of every library."""

from typing import Any

import numpy as np


class TreeError(ValueError):
    """Why a library's file is not read, in our own words."""


def check_children(left: Any, right: Any) -> Any:
    """Return which nodes have children. Raise TreeError unless each node but the first is the child of one above it.

    `left` and `right` are the children of each node, -1 where it is a leaf.
    """
    inner = left != -1
    children = np.concatenate([left[inner], right[inner]])
    above = np.concatenate([np.flatnonzero(inner)] * 2)
    if (inner != (right != -1)).any() or (children <= above).any():
        raise TreeError("a tree goes round in a circle")
    if not np.array_equal(np.sort(children), np.arange(1, len(left))):
        raise TreeError("a tree has nodes that nothing leads to")
    return inner
