"""The changes of this checkout against main that a reviewer must know."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from churn.config.contract import load_contract
from churn.core.errors import StageError
from churn.core.files import YAML_LENGTH, read_text, read_yaml, sha256_of
from churn.core.git import git
from churn.core.paths import CONTRACT, LOCK, PARAMS, PROFILE
from churn.lock import first_difference, stages_of
from churn.page.filters import flat, value
from report.data import Change, Note
from report.faults import Fault
from report.relations import implies
from report.settings import looser

# Files that judge, that run before the judge or in a job with rights, or that decide what is fetched; `*` matches `/`,
# too, and the first pattern counts. CODEOWNERS has the same, and the files whose values are compared one by one below.
# Modules of any folder are here because Python looks for imports in the repository's root first.
OWNED = {
    "workflows": (".github/*", "ci/*"),
    "training": ("churn/modeling/training.py",),  # a model change, which the comparison with main measures
    "code that judges": (
        *("churn/*", "dvc.yaml", "report/*"),
        *("stages/evaluate.py", "stages/gate.py", "stages/register.py", "stages/validate.py"),
    ),
    "code and settings that run before the judge": (
        *(".dvc/*", ".dvcignore", "Makefile", "requirements*", "stages/*", "*.py", "*.pyc", "*.so"),
    ),
    "query of the customers": ("*.sql",),
}
# The features are what a model change is about. The others are run by no job but `checks`, which has no rights.
FREE = ("churn/features.py", "benchmarks/*", "tests/*")
JUDGING = {  # settings, as the beginnings of their keys
    "gate rules": (PARAMS, ("gate.",)),
    "slices, threshold or campaign": (PARAMS, ("evaluate.",)),
    "rows that count": (PARAMS, ("prepare.",)),
    "source of the customers": (PARAMS, ("fetch.source", "fetch.query")),
    "registration": (PARAMS, ("register.",)),
    "data contract": (CONTRACT, ("",)),
    "reference profile": (PROFILE, ("",)),
}


HASH = re.compile("[0-9a-f]{40}")  # a full one
RENEW = f"this report does not use them. To renew them, run `make repro`, then `git add {LOCK} metrics plots`"


def value_changes(base: str) -> tuple[Change, ...]:
    """Return every value of params.yaml and contract.yaml that differs from the commit `base`.

    Raises StageError when either side cannot be read.
    """
    changes = list[Change]()
    for path in (CONTRACT, PARAMS):
        before = flat(read_yaml(git("show", f"{base}:./{path}") or "", str(path)))
        after = flat(read_yaml(read_text(path, YAML_LENGTH) if path.exists() else "", str(path)))
        changes += _differences(path, before, after)
    return tuple(changes)


def _differences(path: Path, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for key in sorted({*before, *after}):
        if before.get(key) != after.get(key):
            yield Change(str(path), key, before.get(key), after.get(key))


def profile_changes(base: str) -> tuple[Change, ...]:
    """Return how the reference profile differs from that of the commit `base`, without the numbers' single bins."""
    if (committed := git("show", f"{base}:./{PROFILE}")) is None or not PROFILE.exists():
        return ()
    try:
        before, after = (_summary(json.loads(text)) for text in (committed, PROFILE.read_text(encoding="utf-8")))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise StageError(f"{PROFILE} cannot be read here or on main: `make profile` renews it.") from error
    return tuple(_differences(PROFILE, before, after))


def _summary(profile: Mapping[str, Any]) -> dict[str, float]:
    """Return a profile's numbers by dotted name, in four places."""
    numbers = {"rows": profile["rows"], "label_rate": profile["label_rate"]}
    for name, feature in profile["features"].items():
        numbers |= {f"{name}.{key}": feature[key] for key in ("mean", "missing", "std") if feature[key] is not None}
        numbers |= {f"{name}={one['value']:.10g}": one["share"] for one in feature.get("spikes", ())}
        if feature["mean"] is None:
            numbers |= {f"{name}={one['name']}": one["share"] for one in feature["bins"]}
    return {key: round(value, 4) for key, value in numbers.items()}


def loosened(change: Change) -> bool:
    """Say whether a changed value of the gate's rules or of the contract's lets more through than before."""
    last = change.key.rpartition(".")[2]
    if last == "nulls":
        return bool(change.after == "allow")
    if last == "values" and change.key.startswith("columns."):
        return change.before is not None and looser(change.key, change.after or [], change.before)
    if change.key.startswith("rules.relations."):
        return last == "holds" and change.before is not None and not _implied(change.before)
    if change.key.startswith("rules.spikes."):
        return change.before is None
    judges = change.key.startswith(("gate.", "rules.", "evaluate.slices."))
    before, after = (0.0 if one == "forbid" else one for one in (change.before, change.after))  # in rules.changes
    return judges and looser(change.key, before, after)


def looser_changes(changes: Sequence[Change]) -> list[Change]:
    """Return the changes that let more through: none of a column that is new or gone, because main has no rule on it.

    The judge has the same view, see `loosened_settings`.
    """
    roles = [one for one in changes if re.fullmatch(r"columns\..+\.role", one.key) and None in (one.before, one.after)]
    names = [one.key.removeprefix("columns.").removesuffix(".role") for one in roles]
    sections = ("columns", "rules.ranges", "rules.changes", "rules.spikes")
    others = tuple(f"{section}.{name}." for section in sections for name in names)
    return [one for one in changes if loosened(one) and not f"{one.key}.".startswith(others)]


def _implied(relation: str) -> bool:
    """Return whether a relation here is proved to be as strict as main's."""
    try:
        rules = load_contract().rules
        return any(implies(one.holds, relation, rules.ranges) for one in rules.relations.values())
    except StageError:  # which the outcome names
        return False


def without_renamed(changes: Sequence[Change], names: Mapping[str, str]) -> tuple[Change, ...]:
    """Return the changes without those that give a value of main's to the `names` that it has for features and slices.

    `names` are those of here, by main's.
    """
    words = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))

    def here(value: Any) -> Any:
        if isinstance(value, list):
            return [here(one) for one in value]
        is_text = names and isinstance(value, str)
        return re.sub(rf"(?<!\w)(?:{words})(?!\w)", lambda found: names[found[0]], value) if is_text else value

    before = {(one.file, here(one.key)): here(one.before) for one in changes if one.before is not None}
    after = {(one.file, one.key): one.after for one in changes if one.after is not None}
    same = {place for place, value in after.items() if place in before and before[place] == value}
    places = [((one.file, one.key), (one.file, here(one.key))) for one in changes]
    return tuple(one for one, (place, renamed) in zip(changes, places, strict=True) if not {place, renamed} & same)


def judge_notes(changes: Sequence[Change], files: Sequence[str]) -> Iterator[Note]:
    """Yield a note for each kind of change to what judges the model, or to what it learns from.

    It warns of looser settings, and of other code that judges or runs in a job with rights.
    """
    for what, (path, keys) in JUDGING.items():
        changed = [change for change in changes if change.file == str(path) and change.key.startswith(keys)]
        if changed:
            loose = looser_changes(changed)
            changed = [*loose, *(change for change in changed if change not in loose)]
            weaker = f", {len(loose)} of them looser than before" if loose else ""
            listed = ", ".join(f"{change.key} {value(change.before)} → {value(change.after)}" for change in changed[:3])
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            yield Note(f"This branch changes the {what}{weaker}: {listed}{more}", warns=bool(loose))
    for what in OWNED:
        if touched := [file for file in files if owned(file) == what]:
            listed = f"{', '.join(touched[:5])}{' …' if len(touched) > 5 else ''}"
            yield Note(f"This branch changes the {what}: {listed}", warns=what in ("code that judges", "workflows"))


def owned(file: str) -> str | None:
    """Return what a file is of those that a code owner should look at, or None."""
    if any(fnmatchcase(file, pattern) for pattern in FREE):
        return None
    return next((what for what, patterns in OWNED.items() if any(fnmatchcase(file, one) for one in patterns)), None)


def own_judge(files: Sequence[str]) -> Fault | None:
    """Return the fault whose approval lets this checkout's own code judge, if it changes churn/ or report/.

    Its id covers the content of every changed file that judges, or that runs before the judge.
    """
    judging = [file for file in files if owned(file) and file.startswith(("churn/", "report/"))]
    if not judging:
        return None
    code = {
        file: sha256_of(Path(file)) if Path(file).is_file() else None
        for file in files
        if owned(file) in ("training", "code that judges", "code and settings that run before the judge")
    }
    message = (
        f"main's code cannot judge this branch, which changes the code that judges: {', '.join(judging[:5])}"
        f"{' …' if len(judging) > 5 else ''}; once approved, that code judges with all checks on, so read it first"
    )
    return Fault(message, "judge", ("code",), code)


def changed_files(base: str) -> list[str]:
    """Return the files that differ from the commit `base`, sorted; a renamed one under both names.

    In CI also those of the commit that the run is of: the branch's code may have undone its changes while it ran.
    """
    files = set[str]()
    for commit in ((), (sha,)) if (sha := os.environ.get("GITHUB_SHA")) else ((),):
        files |= set((git("diff", "--name-only", "--relative", "--no-renames", "-z", base, *commit) or "").split("\0"))
    return sorted(files - {""})


def base_commit(base: str) -> str | None:
    """Return the commit to compare with, or None where this clone does not know it.

    A full hash is that commit, wherever HEAD is by now: CI takes it down before it runs the code of the branch.
    """
    if HASH.fullmatch(base):
        return git("rev-parse", "--quiet", "--verify", f"{base}^{{commit}}")
    return git("merge-base", "HEAD", base)


def unknown_base(name: str) -> str:
    """Return why there is no commit from which HEAD and `name` both come."""
    if git("rev-parse", "HEAD") is None:
        return "git cannot read this folder's commits; `git status` says why"
    if git("rev-parse", "--quiet", "--verify", f"{name}^{{commit}}") is None:
        return f"this clone does not know {name}; fetch it with its history"
    if git("rev-parse", "--is-shallow-repository") == "true":
        return (
            f"this clone has a part of the history only, without the commit from which HEAD and {name} both come: run"
            " `git fetch --unshallow`"
        )
    return f"HEAD and {name} have no commit in common: give --base the full hash of the commit to compare with"


def uncommitted_notes() -> Iterator[Note]:
    """Yield a hint where files here, beside the results, are not those of the commit that the report names."""
    files = (git("diff", "--name-only", "--relative", "--no-renames", "-z", "HEAD") or "").split("\0")
    own = [file for file in files if file and file != str(LOCK) and not file.startswith(("metrics/", "plots/"))]
    if own:
        listed = f"{', '.join(own[:5])}{' …' if len(own) > 5 else ''}"
        yield Note(f"This report is of this folder, with changes that its commit lacks: {listed}", warns=False)


def claim_notes() -> Iterator[Note]:
    """Yield a hint where the results in the commit are not those that were computed here."""
    committed, computed = stages_of(git("show", f"HEAD:./{LOCK}") or ""), stages_of(read_text(LOCK, YAML_LENGTH))
    if stage := first_difference(committed, computed):
        yield Note(f"The committed {LOCK} is outdated, from {stage} on; {RENEW}", warns=False)
    elif files := (git("diff", "--name-only", "--relative", "HEAD", "--", "metrics", "plots") or "").split():
        yield Note(f"The committed results are outdated: {', '.join(files)}; {RENEW}", warns=False)
