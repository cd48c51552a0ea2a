"""What holds for the trees of every library."""

from typing import Any

import numpy as np


def check_children(left: Any, right: Any) -> Any:
    """Return which nodes have children. Raise ValueError unless each node but the first is the child of one above it.

    `left` and `right` are the children of each node, below 0 where it is a leaf.
    """
    inner = left >= 0
    children = np.concatenate([left[inner], right[inner]])
    above = np.concatenate([np.flatnonzero(inner)] * 2)
    if (inner != (right >= 0)).any() or (children <= above).any():
        raise ValueError("a tree goes round in a circle")
    if sorted(children.tolist()) != [*range(1, len(left))]:
        raise ValueError("a tree has nodes that nothing leads to")
    return inner
