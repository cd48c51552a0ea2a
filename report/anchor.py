"""Compares the candidate with the anchor, main's model of `gate.anchor.days` before main's commit.

A comparison with the last main alone does not see small losses, or a leak in parts, add up. The anchor is found by the
dates of main's own commits, so the same commits give the same report on any day. Its model comes from DVC's cache or
remote, and its own code prepares the holdout. If that fails, its recorded metrics are compared, with the noise of two
samples.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, date, datetime
from math import hypot
from pathlib import Path
from typing import Any, NamedTuple

from churn.config.params import METRICS
from churn.core.errors import StageError, number_of
from churn.core.files import sha256_of
from churn.core.git import git
from churn.core.paths import EVALUATION, GATE, LOCK, MODEL, RAW, ROWS
from churn.core.results import RuleOutcome
from churn.evaluation.holdout import judged_rows, outcomes_of
from churn.evaluation.metrics import all_metrics
from churn.evaluation.paired import Difference, compare, compare_slices, difference_within
from churn.evaluation.slices import slice_masks
from churn.gate.anchor import Compared, vs_anchor
from churn.gate.baseline import training_noise
from churn.gate.rules import finite
from churn.lock import stages_of
from churn.page.filters import METRIC_ORDER, metric, signed
from report.baseline import checked_out, fetched
from report.comparison import scored_by_both
from report.data import Comparison
from report.identity import other_keys, trained_apart
from report.judge import Candidate
from report.problem import recorded_problem

CLONE = Path(".cache/anchor")
DAY = 86_400
EVER = 100_000  # days


class Earlier(NamedTuple):
    """A model of main: the commit that recorded it, its day, whether it is main's first, and what was recorded."""

    commit: str
    day: date
    is_first: bool
    model: str  # its hash in dvc.lock
    recorded: Mapping[str, tuple[float, float]]  # each metric, and half the width of its 95 % interval

    @property
    def name(self) -> str:
        """What sentences call it."""
        return f"main's {'first ' if self.is_first else ''}model of {self.day} ({self.commit[:7]})"


def lock_history(main: Path, commit: str) -> list[tuple[str, int]]:
    """Return the commits of main up to `commit` that changed dvc.lock, the newest first, and the second of each.

    `main` is a checkout of `checked_out`, which knows no grafts and no shallow history. Raises StageError where a part
    of the history is missing.
    """
    listed = git("-C", str(main), "log", "--first-parent", "--format=%H %ct", commit, "--", str(LOCK))
    if listed is None:
        raise StageError(
            "this clone has a part of main's history only, so main's earlier model is unknown: run"
            " `git fetch --unshallow`, in a workflow set `fetch-depth: 0`"
        )
    return [(one, int(second)) for one, second in map(str.split, listed.splitlines())]


def earlier_model(main: Path, commit: str, history: list[tuple[str, int]], days: int) -> Earlier | None:
    """Return main's model of `days` before `commit`, else main's first one; None where no commit has one.

    A commit has a model where its dvc.lock names it and its metrics can be read. Any other one is passed over for the
    next newer, and so is one of another problem: main had it before the team adopted the template.
    """
    problem = recorded_problem(main, commit)
    since = int(git("-C", str(main), "log", "-1", "--format=%ct", commit) or 0) - days * DAY
    newest = next((place for place, (_, second) in enumerate(history) if second <= since), len(history) - 1)
    for one, second in reversed(history[: newest + 1]):
        lock, evaluation = (git("-C", str(main), "show", f"{one}:./{path}") or "" for path in (LOCK, EVALUATION))
        earlier = recorded_problem(main, one)
        if problem and earlier and earlier != problem:
            continue
        if (model := _model(lock)) and (recorded := _recorded(evaluation)):
            return Earlier(one, datetime.fromtimestamp(second, UTC).date(), second > since, model, recorded)
    return None


def _model(lock: str) -> str | None:
    """Return the model's hash in a lock, given as text."""
    try:
        outs = stages_of(lock)["train"]["outs"]
        return next((str(out["md5"]) for out in outs if out["path"] == str(MODEL)), None)
    except (StageError, LookupError, TypeError):
        return None


def _recorded(evaluation: str) -> dict[str, tuple[float, float]]:
    """Return each metric of an evaluation of any age, given as text, and half the width of its interval."""
    found = {}
    try:
        values = json.loads(evaluation)
        for name in METRICS:
            value, (low, high) = finite(values.get(name)), map(finite, values["intervals"].get(name, (None, None)))
            if value is not None and low is not None and high is not None:
                found[name] = value, (high - low) / 2
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}
    return found


def since_earlier(earlier: Earlier, one: Candidate) -> tuple[Compared, str]:
    """Return how an earlier model and the candidate differ, and how that was found."""
    try:
        with checked_out(earlier.commit, CLONE) as folder:
            if not fetched(folder):
                raise StageError("it is in no DVC cache or remote, or its dvc.lock does not fit its commit")
            is_same = sha256_of(folder / RAW) == sha256_of(RAW)
            rekeyed = None if is_same else other_keys(folder, one.contract)
            trained = trained_apart(folder, one.contract, rekeyed)
            both, predictions, scores = scored_by_both(folder, one, rekeyed)
        rows, outcomes, ours = len(predictions), outcomes_of(predictions, one.contract), predictions["score"].to_numpy()
        masks = slice_masks(one.features[both], one.evaluate.slices, one.contract)
        slices = compare_slices(masks, outcomes, (scores, ours), one.evaluate, one.gate.min_slice_rows)
        found = compare(outcomes, scores, ours, one.evaluate)
        noise = training_noise(outcomes.number, *trained)
        return Compared(rows, found, tuple(slices), noise), f"on {number_of(outcomes.number, 'customers')}"
    except StageError as error:
        why = str(error)
    except Exception as error:  # a commit of any age and shape
        why = f"its comparison fails with {type(error).__name__}"
    recorded = Compared(int(judged_rows(one.predictions).sum()), recorded_differences(earlier, one))
    return recorded, f"by its recorded metrics, because {why}"


def recorded_differences(earlier: Earlier, one: Candidate) -> dict[str, Difference]:
    """Return the differences from an earlier model's recorded metrics, as from another sample of customers.

    The variances add up. On the same customers that is more than the noise of the difference.
    """
    predictions, found = one.predictions[judged_rows(one.predictions)], {}
    outcomes = outcomes_of(predictions, one.contract)
    for name, now in all_metrics(outcomes, predictions["score"], one.evaluate).items():
        if name not in earlier.recorded:
            continue
        value, reach = earlier.recorded[name]
        if now.value is None or now.low is None or now.high is None:
            found[name] = Difference(value, now.value)
        else:
            found[name] = difference_within(name, value, now.value, hypot(reach, (now.high - now.low) / 2))
    return found


def verdicts(main: Path, history: list[tuple[str, int]], holdout: str) -> int:
    """Return how many models of main, by their hashes, were evaluated on the holdout with this SHA-256."""
    if not history:
        return 0
    commits = [commit for commit, _ in history]
    listed = git("-C", str(main), "grep", "-l", "-F", "-e", f'"{holdout}"', *commits, "--", str(ROWS)) or ""
    with_it = [line.partition(":")[0] for line in listed.splitlines()]
    if not with_it:
        return 0
    models = git("-C", str(main), "grep", "-h", "-o", "-e", '"model_sha256": "[0-9a-f]*"', *with_it, "--", str(GATE))
    return len(set((models or "").splitlines()))


def vs_earlier(
    main: Path, commit: str, one: Candidate, step: Comparison, account: Mapping[str, Any] | None
) -> tuple[tuple[RuleOutcome, ...], tuple[str, ...]]:
    """Return the outcomes of the rules against main's earlier model, and the report's sentences on main's history.

    `main` is a checkout of `commit`, `step` the comparison with its model, and `account` the candidate's row counts.
    Raises StageError where a part of main's history is missing.
    """
    history, rules = lock_history(main, commit), tuple[RuleOutcome, ...]()
    earlier = earlier_model(main, commit, history, one.gate.anchor.days)
    if earlier is None:
        sentence = "Main's history has no earlier model to compare with."
    elif earlier.model == _model((main / LOCK).read_text(encoding="utf-8")):
        sentence = f"{_capital(earlier.name)} is its model of today, so it is compared once."
    else:
        total, how = since_earlier(earlier, one)
        rules = tuple(vs_anchor(total, step.compared, one.gate, earlier.name, one.known("anchor")))
        named = (name for name in METRIC_ORDER if name in total.overall and name in one.gate.anchor.margins)
        listed = ", ".join(f"{metric(name)} {_words(total.overall[name])}" for name in named)
        sentence = f"Against {earlier.name}, {how}: {listed}."
    oldest = since_first(main, commit, history, one.gate.anchor.margins) if earlier and not earlier.is_first else ()
    (holdout,) = (account or {}).get("holdout_sha256", ("",))
    return rules, (sentence, *oldest, reuse(verdicts(main, history, holdout)))


def since_first(main: Path, commit: str, history: list[tuple[str, int]], metrics: Collection[str]) -> Iterator[str]:
    """Yield a sentence on the total since main's first model, as both were recorded: the anchor moves on."""
    first, now = earlier_model(main, commit, history, EVER), _recorded(EVALUATION.read_text(encoding="utf-8"))
    totals = []
    for name in METRIC_ORDER:
        if first and name in metrics and name in first.recorded and name in now:
            (before, theirs), (after, ours) = first.recorded[name], now[name]
            totals.append(f"{metric(name)} {_words(difference_within(name, before, after, hypot(theirs, ours)))}")
    if first and totals:
        yield (
            f"Since {first.name}, by the recorded metrics of both: {', '.join(totals)}. Only gate.overall limits this"
            " total; a larger gate.anchor.days limits it against an older model."
        )


def reuse(count: int) -> str:
    """Return a sentence on how often the holdout has judged; docs/gate.md has the sources."""
    return (
        f"This holdout has judged {number_of(count, 'models')} of main, and each proposal that was not merged. Reuse"
        " flatters the models that it chose (docs/gate.md); `python -m churn holdout renew` makes another holdout."
    )


def _words(one: Difference) -> str:
    return f"{signed(one.difference)} ({signed(one.low)} to {signed(one.high)})"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
