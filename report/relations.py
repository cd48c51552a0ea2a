"""Whether a condition refuses every row that another one refuses: a proof from their trees, which tries no row.

It knows AND, OR, BETWEEN, and comparisons that differ in their numbers: how far these move either side follows from the
least and the greatest value of each column. A condition that it cannot prove to be as strict counts as looser.
"""

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from churn.config.contract import Range
from churn.data.conditions import tree_of

Tree = Mapping[str, Any]
Ranges = Mapping[str, Range]
Interval = tuple[float, float]


def implies(branch: str, main: str, ranges: Ranges) -> bool:
    """Return whether every row within `ranges` that breaks the condition `main` breaks `branch`, too.

    Examples
    --------
    >>> ranges = {"months": Range(min=0, max=120), "charge": Range(min=0, max=500)}
    >>> implies("total <= 2 * months * charge", "total <= 3*months*charge", ranges)
    True
    >>> implies("total <= 4 * months * charge", "total <= 3 * months * charge", ranges)
    False
    >>> implies("total > 0 AND months < 100", "months < 120", ranges)
    True
    """
    return _implies(tree_of(branch), tree_of(main), ranges)


def _implies(branch: Tree, main: Tree, ranges: Ranges) -> bool:
    branch, main = _without_between(branch), _without_between(main)
    if main["type"] == "CONJUNCTION_AND":
        return all(_implies(branch, one, ranges) for one in main["children"])
    if branch["type"] == "CONJUNCTION_OR":
        return all(_implies(one, main, ranges) for one in branch["children"])
    if branch["type"] == "CONJUNCTION_AND":
        return any(_implies(one, main, ranges) for one in branch["children"])
    if main["type"] == "CONJUNCTION_OR":
        return any(_implies(branch, one, ranges) for one in main["children"])
    return branch == main or _tighter(branch, main, ranges)


def _tighter(branch: Tree, main: Tree, ranges: Ranges) -> bool:
    """Return whether of two comparisons in one direction the branch's leaves less room between its sides."""
    kind = main["type"].removesuffix("OREQUALTO")
    if kind not in ("COMPARE_LESSTHAN", "COMPARE_GREATERTHAN") or branch["type"] not in (kind, main["type"]):
        return False
    small, large = ("left", "right") if kind == "COMPARE_LESSTHAN" else ("right", "left")
    return _gap(branch[small], main[small], ranges)[0] >= _gap(branch[large], main[large], ranges)[1]


def _without_between(tree: Tree) -> Tree:
    if tree["type"] != "COMPARE_BETWEEN":
        return tree
    least = {"type": "COMPARE_GREATERTHANOREQUALTO", "left": tree["input"], "right": tree["lower"]}
    most = {"type": "COMPARE_LESSTHANOREQUALTO", "left": tree["input"], "right": tree["upper"]}
    return {"type": "CONJUNCTION_AND", "children": [least, most]}


def _gap(one: Tree, other: Tree, ranges: Ranges) -> Interval:
    """Return the least and the greatest difference `one - other` of two expressions of the same form."""
    if one == other:
        return 0, 0
    first, second = _number(one), _number(other)
    if first is not None and second is not None:
        return first - second, first - second
    if one["type"] == other["type"] == "FUNCTION" and one["function_name"] == other["function_name"]:
        pairs = list(zip(_arguments(one), _arguments(other), strict=False))
        gaps = [_gap(before, after, ranges) for before, after in pairs]
        if one["function_name"] == "abs":
            furthest = max(-gaps[0][0], gaps[0][1])
            return -furthest, furthest
        if one["function_name"] == "*":  # ab - cd = (a - c)b + c(b - d)
            (_, c), (b, _) = pairs
            by_first, by_second = [gaps[0], _bounds(b, ranges)], [_bounds(c, ranges), gaps[1]]
            gaps = [_computed("*", by_first), _computed("*", by_second)]
            return _computed("+", gaps)
        return _computed(one["function_name"], gaps)
    return -inf, inf


def _bounds(tree: Tree, ranges: Ranges) -> Interval:
    """Return the least and the greatest value of an expression."""
    if (number := _number(tree)) is not None:
        return number, number
    if tree["type"] == "COLUMN_REF" and (known := ranges.get(tree["column_names"][0])):
        return known.min, known.max
    if tree["type"] == "FUNCTION":
        return _computed(tree["function_name"], [_bounds(one, ranges) for one in _arguments(tree)])
    return -inf, inf


def _computed(function: str, intervals: Sequence[Interval]) -> Interval:
    """Return the least and the greatest result of a function of two numbers."""
    match function, intervals:
        case "+", [one, other]:
            return one[0] + other[0], one[1] + other[1]
        case "-", [one, other]:
            return one[0] - other[1], one[1] - other[0]
        case "*", [one, other]:
            products = [0.0 if 0 in (a, b) else a * b for a in one for b in other]  # of 0 and infinity, too
            return min(products), max(products)
    return -inf, inf


def _number(tree: Tree) -> float | None:
    literal = tree.get("literal") or {}
    return float(literal["text"]) if literal.get("kind") in ("INTEGER", "NUMERIC") else None


def _arguments(tree: Tree) -> list[Tree]:
    return [one["expression"] for one in tree["arguments"]]
