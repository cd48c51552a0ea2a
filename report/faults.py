"""The faults that the judge finds in a branch, and the ids by which a code owner approves them one by one.

docs/ci.md, "Approval", lists the kinds, and the faults that nobody can approve.
"""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

DIGITS = 6  # of an id; two of 100 faults share one in 1 of 3,000 reports, and the table then shows both
MEASURED = re.compile(r"\b[0-9a-f]{7,40}\b|\d[\d.,]*")  # hashes of commits, and numbers

Place = tuple[str, ...]


@dataclass(frozen=True)
class Fault:
    """A sentence, and for a fault that can be approved its kind, its place, and the new value of a setting.

    A fault without a kind contradicts the data, such as an evaluation that differs when it is computed again. If it
    `follows` from settings that are looser, it is gone once these are approved.
    """

    message: str
    kind: str | None = None
    place: Place = ()
    value: Any = None
    follows: bool = False

    @property
    def id(self) -> str | None:
        """The kind and a hash: the same on the pull request and on main, because no measured number is in it.

        Examples
        --------
        >>> Fault("train.cmd is true", "stages", ("train", "cmd"), "true").id
        'stages-9de44e'
        """
        if self.kind is None:
            return None
        what = json.dumps([self.kind, self.place, self.value], sort_keys=True)
        return f"{self.kind}-{sha256(what.encode()).hexdigest()[:DIGITS]}"

    @property
    def mark(self) -> str:
        """The id, `follows`, or a hyphen."""
        return self.id or ("follows" if self.follows else "-")

    @property
    def alone(self) -> bool:
        """Whether no approval of this fault or of another one lets it pass."""
        return self.kind is None and not self.follows


@dataclass(frozen=True)
class Approval:
    """The ids that were approved, and by whom."""

    by: str = ""
    ids: frozenset[str] = frozenset()

    def covers(self, fault: Fault) -> bool:
        """Return whether a fault is approved."""
        return fault.id in self.ids


NOT_APPROVED = Approval()


def given_approval() -> Approval:
    """Return the approval in the environment: in CI ci/approved.py has read it from a review."""
    ids = frozenset(os.environ.get("APPROVED", "").split())
    return Approval(os.environ.get("APPROVED_BY") or "APPROVED", ids)


def missing_comparison(reason: str) -> Fault:
    """Return the fault that a comparison with main is missing, for a reason without its numbers."""
    return Fault(reason, "comparison", ("main",), MEASURED.sub("…", reason))


def to_approve(faults: Iterable[Fault]) -> str:
    """Return the line that a review needs for all faults that have an id, or an empty text."""
    ids = dict.fromkeys(fault.id for fault in faults if fault.id)
    return f"approve {' '.join(ids)}" if ids else ""
