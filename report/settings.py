"""Compares this checkout's settings and contract with main's: the stricter of both, and what is looser.

Order, names, and the reasons after `because:` are not rules. Texts that DuckDB reads as the same condition are equal.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from churn.config.contract import Column, Contract, Relation, Rules, load_contract
from churn.config.params import Gate, Model, Params, Slices, load_params
from churn.config.stricter import Stricter, directions
from churn.core.errors import StageError
from churn.core.paths import CONTRACT, PARAMS
from churn.data.conditions import relation_condition, renamed_in, slice_condition, tree_of
from report.relations import implies

DIRECTIONS = directions(Gate, Rules)
BY_APPROVAL = "that takes a code owner's approval"


def stricter(main: Any, branch: Any, key: str = "") -> Any:
    """Return of two settings, as JSON has them, what lets less through; what only one side has counts as well.

    Of two numbers that is the one that the innermost field in the dotted `key` declares, see churn/config/stricter.py;
    of two lists all that is in either; of anything else, and of an unknown field, main's.
    """
    if branch is None or main is None:
        return branch if main is None else main
    if isinstance(main, Mapping) and isinstance(branch, Mapping):
        names = [*main, *(name for name in branch if name not in main)]
        return {name: stricter(main.get(name), branch.get(name), f"{key}.{name}") for name in names}
    if isinstance(main, list) and isinstance(branch, list):
        return [*main, *(one for one in branch if one not in main)]
    if all(isinstance(side, int | float) for side in (main, branch)):
        declared = next((DIRECTIONS[part] for part in reversed(key.split(".")) if part in DIRECTIONS), Stricter.MAINS)
        return {Stricter.LARGER: max(main, branch), Stricter.SMALLER: min(main, branch)}.get(declared, main)
    return main


def merged(main: Model, branch: Model) -> Model:
    """Return the stricter of two sections."""
    both = stricter(main.model_dump(mode="json"), branch.model_dump(mode="json"))
    return type(main).model_validate_json(json.dumps(both))


def looser(key: str, main: Any, branch: Any) -> bool:
    """Return whether a value at the dotted `key` lets more through than main's."""
    if key.endswith(".because"):
        return False
    if isinstance(main, list):
        return any(one not in (branch or []) for one in main)
    if isinstance(main, str) and isinstance(branch, str):
        return main != branch and tree_of(main) != tree_of(branch)
    return bool(stricter(main, branch, key) != branch)


def loosened(where: str, main: Any, branch: Any) -> Iterator[str]:
    """Yield a sentence for each value of `branch` that lets more through than `main`, both as JSON has them."""
    if isinstance(main, Mapping) and isinstance(branch, Mapping):
        for name in main:
            yield from loosened(f"{where}.{name}", main[name], branch.get(name))
    elif looser(where, main, branch):
        lost = [one for one in main if one not in (branch or [])] if isinstance(main, list) else []
        change = f"lacks {', '.join(map(str, lost))}" if lost else f"is {shown(branch)}, on main {shown(main)}"
        yield f"{where} {change}: {BY_APPROVAL}"


def shown(value: Any) -> str:
    """Return a setting's value as a sentence names it."""
    return "absent" if value is None else str(value)


def loosened_settings(main: Params, branch: Params, theirs: Contract, ours: Contract) -> Iterator[str]:
    """Yield a sentence for each setting of the gate, slices, split or contract that is looser than on main."""
    yield from loosened(f"{PARAMS}: gate", main.gate.model_dump(mode="json"), branch.gate.model_dump(mode="json"))
    slices = (one.evaluate.slices.model_dump(mode="json") for one in (main, branch))
    yield from loosened(f"{PARAMS}: evaluate.slices", *slices)
    if main.evaluate.threshold != branch.evaluate.threshold:
        yield (
            f"{PARAMS}: evaluate.threshold is {branch.evaluate.threshold:g}, on main {main.evaluate.threshold:g}:"
            f" {BY_APPROVAL}"
        )
    for name, before in main.prepare.model_dump(mode="json").items():
        after = branch.prepare.model_dump(mode="json")[name]
        if before != after and not (name == "drop" and _conditions(before) == _conditions(after)):
            yield f"{PARAMS}: prepare.{name} is {after}, on main {before}: the holdout is another; {BY_APPROVAL}"
    before, after = (one.rules.model_dump(mode="json", exclude={"relations", "spikes"}) for one in (theirs, ours))
    for rules in ("ranges", "changes"):
        before[rules] = {name: one for name, one in before[rules].items() if name in ours.columns}
    yield from loosened(f"{CONTRACT}: rules", before, after)
    for name, relation in _unimplied(theirs, ours).items():
        now = ours.rules.relations.get(name)
        what = f"is `{now.holds}`" if now else "is absent"
        yield (
            f"{CONTRACT}: rules.relations.{name} {what}, and may let more through than main's `{relation.holds}`:"
            f" {BY_APPROVAL}"
        )
    for name, spikes in ours.rules.spikes.items():
        if name in theirs.columns:
            for value in sorted(set(spikes) - set(theirs.rules.spikes.get(name, {}))):
                yield f"{CONTRACT}: rules.spikes.{name} has the new value {value:.10g}: {BY_APPROVAL}"
    for name, column in theirs.columns.items():
        if (here := ours.columns.get(name)) and here.nullable and not column.nullable:
            yield f"{CONTRACT}: columns.{name} allows nulls, on main it does not: {BY_APPROVAL}"
        if here and (more := sorted(set(here.values or ()) - set(column.values or ()))) and column.values:
            yield f"{CONTRACT}: columns.{name} has the new values {', '.join(more)}: {BY_APPROVAL}"
        if (here is None or here.role != column.role) and column.role != "feature":
            yield f"{CONTRACT}: columns.{name} is no {column.role} any more: {BY_APPROVAL}"


def _conditions(drop: Mapping[str, str]) -> list[str]:
    """Return the conditions of prepare.drop without their names and their order."""
    return sorted(json.dumps(tree_of(text)) for text in drop.values())


def _unimplied(main: Contract, branch: Contract) -> dict[str, Relation]:
    """Return main's relations that no relation of the branch is proved to be as strict as."""
    ours = [one.holds for one in branch.rules.relations.values()]
    return {
        name: relation
        for name, relation in main.rules.relations.items()
        if relation.holds not in ours and not any(implies(one, relation.holds, branch.rules.ranges) for one in ours)
    }


def stricter_contract(main: Contract, branch: Contract) -> Contract:
    """Return the branch's contract with the stricter rules, nulls and values of both.

    A relation of main's over a column that the branch lacks cannot be checked; `loosened_settings` names it.
    """

    def column(name: str, here: Column) -> Column:
        there = main.columns.get(name)
        if there is None:
            return here
        nulls = here.nulls if there.nullable else there.nulls
        values = tuple(one for one in here.values if one in (there.values or here.values)) if here.values else None
        return here.model_copy(update={"nulls": nulls, "values": values})

    rules: Rules = merged(main.rules, branch.rules)
    theirs = {
        name: one
        for name, one in _unimplied(main, branch).items()
        if one.column in branch.columns and _readable(relation_condition, name, one.holds, branch)
    }
    relations = {**branch.rules.relations, **theirs}
    spikes = {
        name: {
            value: reason
            for value, reason in declared.items()
            if name not in main.columns or value in main.rules.spikes.get(name, {})
        }
        for name, declared in branch.rules.spikes.items()
    }
    columns = {name: column(name, here) for name, here in branch.columns.items()}
    rules = rules.model_copy(update={"relations": relations, "spikes": spikes})
    return branch.model_copy(update={"columns": columns, "rules": rules})


def _readable(read: Callable[[str, str, Contract], object], name: str, condition: str, contract: Contract) -> bool:
    """Return whether `read` finds no fault in a condition, such as a column that the contract lacks."""
    try:
        read(name, condition, contract)
    except StageError:
        return False
    return True


def possible_slices(slices: Slices, contract: Contract) -> Slices:
    """Return the slices that can be made of the columns of a contract, which may lack some of main's."""
    kinds = {name: column.type for name, column in contract.columns.items()}
    return Slices(
        columns=tuple(name for name in slices.columns if kinds.get(name) in ("category", "boolean")),
        conditions={
            name: text for name, text in slices.conditions.items() if _readable(slice_condition, name, text, contract)
        },
    )


def mains_settings(main: Path, names: Mapping[str, str]) -> tuple[Params, Contract]:
    """Return params.yaml and contract.yaml in `main`, with the `names` that features of main's have here.

    A condition of evaluate.slices that has another name here, and the same text, gets that name.
    """
    params, contract = (
        one.model_dump(mode="json", by_alias=True)
        for one in (load_params(main / PARAMS), load_contract(main / CONTRACT))
    )
    contract["columns"] = _renamed(contract["columns"], names)
    rules = contract["rules"]
    for by_column in ("ranges", "spikes", "changes"):
        rules[by_column] = _renamed(rules[by_column], names)
    for relation in rules["relations"].values():
        relation |= {
            "column": names.get(relation["column"], relation["column"]),
            "holds": renamed_in(relation["holds"], names),
        }
    slices, prepare = params["evaluate"]["slices"], params["prepare"]
    prepare["drop"] = {name: renamed_in(text, names) for name, text in prepare["drop"].items()}
    conditions = {name: renamed_in(text, names) for name, text in slices["conditions"].items()}
    here = load_params().evaluate.slices.conditions
    called = {
        name: new
        for name, text in conditions.items()
        for new in here
        if name not in here and new not in conditions and tree_of(text) == tree_of(here[new])
    }
    ours = Contract.model_validate_json(json.dumps(contract))
    called |= slice_names(ours, names)
    slices |= {
        "columns": [names.get(name, name) for name in slices["columns"]],
        "conditions": _renamed(conditions, called),
    }
    params["gate"]["slices"] = _renamed(params["gate"]["slices"], called)
    return Params.model_validate_json(json.dumps(params)), ours


def slice_names(contract: Contract, names: Mapping[str, str]) -> dict[str, str]:
    """Return the slices of features that have another name on main, by main's name of the slice."""
    called = {f"{before} is missing": f"{after} is missing" for before, after in names.items()}
    for before, after in names.items():
        for value in contract.columns[after].values or ("false", "true"):
            called[f"{before}={value}"] = f"{after}={value}"
    return called


def _renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in values.items()}
