"""Compares this checkout's settings and contract with main's: the stricter of both, and what is looser.

Order, names, and the reasons after `because:` are not rules. Texts that DuckDB reads as the same condition are equal.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from churn.config.contract import Column, Contract, Relation, Rules, load_contract
from churn.config.params import Campaign, Gate, Model, Params, Slices, load_params, read_settings
from churn.config.stricter import Stricter, directions
from churn.core.errors import StageError
from churn.core.files import read_yaml
from churn.core.paths import CONTRACT, PARAMS
from churn.data.conditions import relation_condition, renamed_in, slice_condition, tree_of
from report.faults import Fault, Place
from report.relations import implies

from pydantic import ValidationError

DIRECTIONS = directions(Campaign, Gate, Rules)
BY_APPROVAL = "that takes a code owner's approval"


def stricter(main: Any, branch: Any, key: str = "") -> Any:
    """Return of two settings, as JSON has them, what lets less through; what only one side has counts as well.

    Of two numbers or choices that is the one that the innermost field in the dotted `key` declares, see
    churn/config/stricter.py; of two lists all that is in either; of anything else, and of an unknown field, main's.
    """
    if branch is None or main is None:
        return branch if main is None else main
    if isinstance(main, Mapping) and isinstance(branch, Mapping):
        names = [*main, *(name for name in branch if name not in main)]
        return {name: stricter(main.get(name), branch.get(name), f"{key}.{name}") for name in names}
    if isinstance(main, list) and isinstance(branch, list):
        return [*main, *(one for one in branch if one not in main)]
    declared = _declared(key)
    if declared is Stricter.BLOCK:
        return declared.value if declared.value in (main, branch) else main
    if all(isinstance(side, int | float) for side in (main, branch)):
        return {Stricter.LARGER: max(main, branch), Stricter.SMALLER: min(main, branch)}.get(declared, main)
    return main


def _declared(key: str) -> Stricter:
    return next((DIRECTIONS[part] for part in reversed(key.split(".")) if part in DIRECTIONS), Stricter.MAINS)


def merged(main: Model, branch: Model, *where: str, approved: Collection[Place] = ()) -> Model:
    """Return the stricter of two sections, which are at `where`; at the `approved` places in it the branch's counts."""
    ours = branch.model_dump(mode="json")
    both = stricter(main.model_dump(mode="json"), ours)
    for place in approved:
        if place[: len(where)] == where:
            *sections, name = place[len(where) :]
            there, here = _at(both, sections), _at(ours, sections)
            if name in here:
                there[name] = here[name]
            else:
                del there[name]
    return type(main).model_validate_json(json.dumps(_possible(main.model_dump(mode="json"), both)))


def _possible(main: Any, both: Any) -> Any:
    """Return the stricter settings, with main's range where no value is in both main's and the branch's."""
    if not (isinstance(main, Mapping) and isinstance(both, Mapping)):
        return both
    least, most = both.get("min"), both.get("max")
    if isinstance(least, int | float) and isinstance(most, int | float) and least > most:
        return main
    return {name: _possible(main.get(name), value) for name, value in both.items()}


def _at(values: Any, place: Iterable[str | int]) -> Any:
    for name in place:
        values = values[name]
    return values


def looser(key: str, main: Any, branch: Any) -> bool:
    """Return whether a value at the dotted `key` lets more through than main's."""
    if key.endswith(".because"):
        return False
    if isinstance(main, list):
        return any(one not in (branch or []) for one in main)
    if isinstance(main, str) and isinstance(branch, str) and _declared(key) is Stricter.MAINS:
        return main != branch and tree_of(main) != tree_of(branch)
    return bool(stricter(main, branch, key) != branch)


def loosened(kind: str, place: Place, main: Any, branch: Any) -> Iterator[Fault]:
    """Yield a fault for each value of `branch` that lets more through than `main`, both as JSON has them."""
    if isinstance(main, Mapping) and isinstance(branch, Mapping):
        for name in main:
            yield from loosened(kind, (*place, name), main[name], branch.get(name))
    elif looser(".".join(place), main, branch):
        lost = [one for one in main if one not in (branch or [])] if isinstance(main, list) else []
        change = f"lacks {', '.join(map(str, lost))}" if lost else f"is {shown(branch)}, on main {shown(main)}"
        yield loose(kind, place, change, sorted(lost) or branch)


def loose(kind: str, place: Place, change: str, value: Any, *within: str) -> Fault:
    """Return the fault that a setting of params.yaml (`settings`) or of the contract lets more through.

    Its place is `within` the one that the sentence names.
    """
    file = PARAMS if kind == "settings" else CONTRACT
    return Fault(f"{file}: {'.'.join(place)} {change}: {BY_APPROVAL}", kind, (*place, *within), value)


def shown(value: Any) -> str:
    """Return a setting's value as a sentence names it."""
    return "absent" if value is None else str(value)


def loosened_settings(main: Params, branch: Params, theirs: Contract, ours: Contract) -> Iterator[Fault]:
    """Yield a fault for each setting of the gate, slices, split or contract that is looser than on main."""
    settings, contract = "settings", "contract"
    yield from loosened(settings, ("gate",), *(one.gate.model_dump(mode="json") for one in (main, branch)))
    slices = (one.evaluate.slices.model_dump(mode="json") for one in (main, branch))
    yield from loosened(settings, ("evaluate", "slices"), *slices)
    campaigns = (one.evaluate.campaign.model_dump(mode="json") for one in (main, branch))
    yield from loosened(settings, ("evaluate", "campaign"), *campaigns)
    score, now = main.evaluate.threshold, branch.evaluate.threshold
    if score != now:
        yield loose(settings, ("evaluate", "threshold"), f"is {now:g}, on main {score:g}", now)
    for name, before in main.prepare.model_dump(mode="json").items():
        after = branch.prepare.model_dump(mode="json")[name]
        if before != after and not (name == "drop" and _conditions(before) == _conditions(after)):
            yield Fault(
                f"{PARAMS}: prepare.{name} is {shown(after)}, on main {shown(before)}: the holdout is another;"
                f" {BY_APPROVAL}",
                *(settings, ("prepare", name), _conditions(after) if name == "drop" else after),
            )
    rules, here = (one.rules.model_dump(mode="json", exclude={"relations", "spikes"}) for one in (theirs, ours))
    for by_column in ("ranges", "changes"):
        rules[by_column] = {name: one for name, one in rules[by_column].items() if name in ours.columns}
    yield from loosened(contract, ("rules",), rules, here)
    for name, relation in _unimplied(theirs, ours).items():
        new = ours.rules.relations.get(name)
        what = f"is `{new.holds}`" if new else "is absent"
        change = f"{what}, and may let more through than main's `{relation.holds}`"
        yield loose(contract, ("rules", "relations", name), change, new and new.holds)
    for name, spikes in ours.rules.spikes.items():
        more = [f"{value:.10g}" for value in sorted(set(spikes) - set(theirs.rules.spikes.get(name, {})))]
        if more and name in theirs.columns:
            yield loose(contract, ("rules", "spikes", name), f"has the new values {', '.join(more)}", more)
    for name, column in theirs.columns.items():
        mine = ours.columns.get(name)
        if mine and mine.nullable and not column.nullable:
            yield loose(contract, ("columns", name), "allows nulls, on main it does not", mine.nulls, "nulls")
        if mine and (more := sorted(set(mine.values or ()) - set(column.values or ()))) and column.values:
            yield loose(contract, ("columns", name), f"has the new values {', '.join(more)}", more, "values")
        if (mine is None or mine.role != column.role) and column.role != "feature":
            change = f"is no {column.role} any more"
            yield loose(contract, ("columns", name), change, mine and mine.role, "role")
    if ours.group and ours.group != theirs.group:
        yield loose(contract, ("columns", ours.group), "has the role group, so the holdout is another", "group", "role")


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


def stricter_contract(main: Contract, branch: Contract, approved: Collection[Place] = ()) -> Contract:
    """Return the branch's contract with the stricter rules, nulls and values of both, except at `approved` places.

    A relation of main's over a column that the branch lacks cannot be checked; `loosened_settings` names it.
    """

    def column(name: str, here: Column) -> Column:
        there = main.columns.get(name)
        if there is None:
            return here
        nulls = here.nulls if there.nullable or ("columns", name, "nulls") in approved else there.nulls
        known = (("columns", name, "values") not in approved and there.values) or here.values or ()
        # Where all values have other names, none is in both, and main's count.
        values = (tuple(one for one in here.values if one in known) or tuple(known)) if here.values else None
        return here.model_copy(update={"nulls": nulls, "values": values})

    rules: Rules = merged(main.rules, branch.rules, "rules", approved=approved)
    theirs = {
        name: one
        for name, one in _unimplied(main, branch).items()
        if ("rules", "relations", name) not in approved
        and one.column in branch.columns
        and _readable(relation_condition, name, one.holds, branch)
    }
    relations = {**branch.rules.relations, **theirs}
    spikes = {
        name: {
            value: reason
            for value, reason in declared.items()
            if name not in main.columns
            or ("rules", "spikes", name) in approved
            or value in main.rules.spikes.get(name, {})
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


def mains_params(main: Path) -> Params:
    """Return params.yaml in `main`."""
    return _by_this_code(main / PARAMS, load_params())


def mains_contract(main: Path) -> Contract:
    """Return contract.yaml in `main`."""
    return _by_this_code(main / CONTRACT, load_contract())


def _by_this_code(path: Path, ours: Model) -> Model:
    """Read main's file by this code, which may be of another version where a code owner has approved that it judges.

    A key that main's file lacks has the value of this checkout, and one that this code does not know is left out.
    """
    try:
        return read_settings(path, type(ours))
    except StageError as error:
        if not isinstance(error.__cause__, ValidationError):
            raise
        faults, unreadable = error.__cause__.errors(), error
    values, here = read_yaml(path.read_text(encoding="utf-8"), str(path)), ours.model_dump(mode="json", by_alias=True)
    for fault in faults:
        *sections, name = fault["loc"]
        with suppress(LookupError, TypeError):  # a section that this checkout lacks, which stays a fault
            if fault["type"] == "extra_forbidden":
                del _at(values, sections)[name]
            elif fault["type"] == "missing":
                _at(values, sections)[name] = _at(here, fault["loc"])
    try:
        return type(ours).model_validate_json(json.dumps(values, default=str))
    except ValidationError:
        raise unreadable from None


def mains_settings(main: Path, names: Mapping[str, str]) -> tuple[Params, Contract]:
    """Return params.yaml and contract.yaml in `main`, with the `names` that features of main's have here.

    A condition of evaluate.slices that has another name here, and the same text, gets that name.
    """
    params, contract = (
        one.model_dump(mode="json", by_alias=True) for one in (mains_params(main), mains_contract(main))
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
    called = renamed_conditions(main, names)
    ours = Contract.model_validate_json(json.dumps(contract))
    called |= renamed_slices(ours, names)
    slices |= {
        "columns": [names.get(name, name) for name in slices["columns"]],
        "conditions": _renamed(conditions, called),
    }
    params["gate"]["slices"] = _renamed(params["gate"]["slices"], called)
    return Params.model_validate_json(json.dumps(params)), ours


def renamed_conditions(main: Path, names: Mapping[str, str]) -> dict[str, str]:
    """Return which conditions of evaluate.slices have another name than in `main`, and the same text, by main's name.

    `names` are those that features of main's have here.
    """
    theirs, here = (one.evaluate.slices.conditions for one in (mains_params(main), load_params()))
    return {
        name: new
        for name, text in theirs.items()
        for new in here
        if name not in here and new not in theirs and tree_of(renamed_in(text, names)) == tree_of(here[new])
    }


def renamed_slices(contract: Contract, names: Mapping[str, str]) -> dict[str, str]:
    """Return the slices of features that have another name on main, by main's name of the slice."""
    called = {f"{before} is missing": f"{after} is missing" for before, after in names.items()}
    for before, after in names.items():
        for value in contract.columns[after].values or ("false", "true"):
            called[f"{before}={value}"] = f"{after}={value}"
    return called


def _renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in values.items()}
