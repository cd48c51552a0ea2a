"""What CI does to a branch, done to a clone: the branch's pipeline, then the report on it by main's own code."""

import json
import re
import subprocess
from collections.abc import Callable, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

from churn.lock import ORDER
from ci.judge import OWN_CODE
from report.state import logged_runs, outcome_of, stage_runs
from tests.conftest import Clone, copy_without_registry

import numpy as np
import pandas as pd

SOURCE = "data/sample/telco_customers.csv"
JUDGE = ".cache/judge"
COSTLY = ("fetch", "prepare", "train")  # CI runs the others for every change


@dataclass(frozen=True)
class Defect:
    """A bad change, who has to refuse it, and a regex of what is to be said.

    That is a stage, "comparison" (with main), or any of several with | between.
    """

    family: str
    name: str
    change: Callable[[Clone], None]
    refused_by: str
    says: str


@dataclass(frozen=True)
class Harmless:
    """A change that must pass; `reruns` are those of COSTLY that it runs, and `idle` says that DVC sees no change."""

    name: str
    change: Callable[[Clone], None]
    reruns: tuple[str, ...] | None = None
    idle: bool = False


@dataclass(frozen=True)
class Judged:
    """What CI made of a branch: the stages that ran, and the report's outcome."""

    ran: tuple[str, ...]
    verdict: str
    stage: str | None
    headline: str
    reasons: tuple[str, ...]

    @property
    def says(self) -> str:
        return "\n".join([self.headline, *self.reasons])

    @property
    def sentence(self) -> str:
        return self.reasons[0] if self.reasons else self.headline


def branch_of(finished: Clone, folder: Path, *removed: tuple[str, str, str]) -> Clone:
    """Return a copy of the finished clone whose results are committed on main, on a branch of its own.

    `removed` is what main lacks: in which file, which text, and what stands in its place.
    """
    clone = copy_without_registry(finished, folder / "repository")
    clone.environment |= {"UNMEASURED": "true", "UNSEEN": "true"}  # see tests/forkserver.py and tests/shortcuts.py
    for edit in removed:
        clone.replace(*edit)
    if removed:
        clone.commit("Change main")
    (clone.folder / ".cache/stages.jsonl").unlink(missing_ok=True)  # CI's log begins with CI's run
    clone.ok("git", "switch", "--quiet", "--create", "change")
    return clone


def repro(clone: Clone, stage: str = "gate") -> subprocess.CompletedProcess[str]:
    """Commit what was changed, and run the pipeline up to a stage, as CI does."""
    clone.commit()
    clone.run("python", "-m", "churn", "lock", "drop")
    return clone.run("dvc", "repro", stage)


def judged(clone: Clone, by_main: bool = True) -> Judged:
    """Run what CI runs, and return what it says, by main's judge or by the branch's own."""
    printed = repro(clone).stdout
    return stopped(clone, printed) or reported(clone, printed, by_main)


def stopped(clone: Clone, printed: str, stages: Sequence[str] = ORDER[:-1]) -> Judged | None:
    """Return what one of `stages` refused, if one did.

    Of a stage before the gate the report would repeat that, and judge nothing.
    """
    with chdir(clone.folder):
        logged = logged_runs()
        failed = next((stage for stage in stages if logged.get(stage, {}).get("fault")), None)
        if failed is None:
            return None
        outcome = outcome_of(stage_runs(set(ORDER[ORDER.index(failed) :]), logged))
    return Judged(stages_run(printed), "blocked", outcome.stage, outcome.sentence, outcome.reasons)


def stages_run(printed: str) -> tuple[str, ...]:
    """Return the stages that `dvc repro` ran, by what it printed."""
    return tuple(line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage"))


def judge_of(clone: Clone) -> Path:
    """Return a checkout of main beside the branch: its code judges."""
    folder = clone.folder / JUDGE
    if not folder.exists():
        clone.ok("git", "worktree", "add", "--quiet", "--force", "--detach", JUDGE, "main")
    return folder


def reported(clone: Clone, printed: str, by_main: bool = True, approved: str = "", base: str = "main") -> Judged:
    """Let the clone be judged, in which the pipeline has `printed` what it did; `approved` are ids of faults."""
    path = {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(judge_of(clone))} if by_main else {}
    given = {"APPROVED": approved, "APPROVED_BY": "olga", "BASE_NAME": "main"}
    done = clone.run("python", "-m", "report", "--base", base, **path, **given)
    if by_main and done.returncode == OWN_CODE:  # as ci/judge.py does
        return reported(clone, printed, by_main=False, approved=approved, base=base)
    outcome = clone.folder / "build/report/outcome.json"
    assert outcome.exists(), f"no outcome was written:\n{printed}\n{done.stdout}"
    said = json.loads(outcome.read_text(encoding="utf-8"))
    assert (done.returncode == 0) == (said["verdict"] == "passed"), done.stdout
    return Judged(stages_run(printed), said["verdict"], said["stage"], said["headline"], tuple(said["reasons"]))


def refuse(case: Defect, clone: Clone, tell: Callable[[str, str, Judged], None]) -> None:
    """Make the change, and assert who refuses it, and in which words."""
    case.change(clone)
    printed = repro(clone).stdout
    found = stopped(clone, printed, ORDER)
    if not found or (found.stage == "gate" and not re.search(case.says, found.says)):
        found = reported(clone, printed)  # which judges as well, by main's code
    tell("defects", f"{case.family}: {case.name}", found)
    assert found.verdict == "blocked"
    assert found.stage in case.refused_by.split("|"), found.says
    assert re.search(case.says, found.says), found.says


def rewrite(clone: Clone, change: Callable[[pd.DataFrame], pd.DataFrame | None]) -> None:
    """Change the sample: a frame of text, nothing missing. What `change` returns, if anything, takes its place."""
    path = clone.folder / SOURCE
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    changed = change(frame)
    (frame if changed is None else changed).to_csv(path, index=False, lineterminator="\n")


def like_these(drawn, prefix):
    """Return new customers, who pay by a tenth more or less."""
    factor = np.exp(0.1 * np.random.default_rng(0).normal(size=len(drawn)))
    charges = {
        name: (pd.to_numeric(drawn[name], errors="coerce") * factor).map("{:.2f}".format).replace("nan", " ")
        for name in ("MonthlyCharges", "TotalCharges")
    }
    return drawn.assign(customerID=prefix + drawn["customerID"].str[::-1], **charges)


def append(clone: Clone, path: str, text: str) -> None:
    """Add text at the end of a file."""
    with (clone.folder / path).open("a", encoding="utf-8") as file:
        file.write(text)


def merge(clone: Clone, change: Callable[[Clone], None]) -> None:
    """Make a change, run the pipeline, and let main have both."""
    change(clone)
    clone.ok("dvc", "repro", "gate")
    clone.commit("Merge")
    clone.ok("git", "branch", "--force", "main", "HEAD")


def renew_profile(clone: Clone) -> None:
    """Do as the contract asks after a declared change of the customers: prepare, describe them anew, commit that."""
    clone.ok("dvc", "repro", "prepare")
    clone.ok("python", "-m", "churn", "profile")


def add_feature(clone: Clone, name: str, sql: str, declared: str, bounds: str | None = None) -> None:
    """Add a column to the query, declare it, and renew the profile: all that a new feature takes."""
    clone.replace("source.sql", "\nFROM source", f",\n    {sql} AS {name}\nFROM source")
    declare(clone, name, declared, bounds)
    renew_profile(clone)


def declare(clone: Clone, name: str, declared: str, bounds: str | None = None) -> None:
    """Declare a feature in the contract, with its range if it is a number."""
    clone.replace("contract.yaml", "\nrules:", f"  {name}: {{role: feature, {declared}}}\n\nrules:")
    if bounds:
        clone.replace("contract.yaml", "  ranges:\n", f"  ranges:\n    {name}: {bounds}\n")


def in_training(clone, *lines):
    """Change the training table after it was read."""
    clone.replace(
        "stages/train.py",
        "    features, labels, _ = read_table(TRAIN, contract)\n",
        "    features, labels, _ = read_table(TRAIN, contract)\n" + "".join(f"    {line}\n" for line in lines),
    )
