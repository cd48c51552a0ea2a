"""The stricter of two settings: each number and each choice of a rule declares which of two that is."""

from collections.abc import Iterator
from enum import Enum
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel


class Stricter(Enum):
    """Of main's and the branch's value, the one that counts."""

    LARGER = "the larger"
    SMALLER = "the smaller"
    BLOCK = "block"
    MAINS = "main's"  # neither is stricter


def directions(*sections: type[BaseModel]) -> dict[str, Stricter]:
    """Return which value is stricter for each number and choice of the sections, and of the sections in them.

    Parameters
    ----------
    *sections : type of BaseModel
        Classes whose numbers and choices have a `Stricter` among their annotations.

    Returns
    -------
    dict of str to Stricter
        By the field's name.

    Raises
    ------
    TypeError
        When such a field declares nothing, or another direction than a field of the same name.

    Examples
    --------
    >>> from churn.config.params import Bound
    >>> directions(Bound)["min"]
    <Stricter.LARGER: 'the larger'>
    """
    found: dict[str, Stricter] = {}
    for section in sections:
        for name, field in section.model_fields.items():
            kinds = {*classes_in(field.annotation)}
            own = next((one for one in field.metadata if isinstance(one, Stricter)), None)  # also for all fields below
            below = {} if own else directions(*(kind for kind in kinds if issubclass(kind, BaseModel)))
            if (kinds & {int, float} or get_origin(field.annotation) is Literal) and not own:
                raise TypeError(f"{section.__name__}.{name} is a value of a rule, and declares no Stricter.")
            for key, direction in [*below.items(), *([(name, own)] if own else [])]:
                if found.setdefault(key, direction) is not direction:
                    raise TypeError(f"{section.__name__}.{name}: {key} is declared otherwise elsewhere.")
    return found


def classes_in(annotation: Any) -> Iterator[type]:
    """Yield the classes in a type, such as float of `Mapping[str, float | None]`."""
    if isinstance(annotation, type) and not get_args(annotation):
        yield annotation
    for part in get_args(annotation):
        yield from classes_in(part)
