"""The state of this checkout's pipeline: only results of its present files count.

A file in metrics/ may be left over from the commit although its stage never ran here. So DVC is asked which stages
are up to date, and the log of the stages that ran has the state of the others.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from churn.core.dvc_files import hash_of
from churn.core.errors import StageError
from churn.core.files import refuse_conflict
from churn.core.paths import GATE, LOCK, LOG, VALIDATION
from churn.core.results import read_result
from churn.core.runner import KILLED
from churn.lock import ORDER, locked
from report.data import Outcome, Run


def dvc(*arguments: str, folder: Path = Path()) -> subprocess.CompletedProcess[str]:
    """Run `dvc` of this environment in `folder`; stages find the same `python` whether or not it is active."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", errors="replace", check=False
    )


def outdated_stages() -> set[str]:
    """Return the stages before register that are not up to date, and those after them, which DVC doesn't name.

    Raises StageError when `dvc status` fails.
    """
    refuse_conflict(LOCK)
    outs = locked(Path(), ORDER)
    with suppress(OSError):  # of a result that is not there
        if outs and all(hash_of(Path(path)) == out.md5 for path, out in outs.items()):
            return set()
    status = dvc("status", "--json", *ORDER)
    if status.returncode:
        raise StageError(f"`dvc status` fails with the exit status {status.returncode}: run it here to read why.")
    return set(ORDER[min((ORDER.index(stage) for stage in json.loads(status.stdout or "{}")), default=len(ORDER)) :])


def logged_runs(log: Path = LOG) -> dict[str, Mapping[str, Any]]:
    """Return the last line of each stage in the log of the stages that ran here; a broken line does not count.

    A stage that begins after a later one, or again, is of another `dvc repro`: of the runs before, faults alone count.
    """
    runs: dict[str, Mapping[str, Any]] = {}
    last = ""
    for text in log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else ():
        with suppress(ValueError, TypeError, KeyError):  # a stage was killed while it wrote
            line = json.loads(text)
            stage, seconds = line["stage"], float(line["seconds"])
            if line["fault"] == KILLED and last and (*ORDER, stage).index(stage) <= (*ORDER, last).index(last):
                runs = {name: one for name, one in runs.items() if one["fault"]}
            runs[stage], last = {"seconds": seconds, "fault": line["fault"]}, stage
    return runs


def stage_runs(outdated: set[str], logged: Mapping[str, Mapping[str, Any]]) -> tuple[Run, ...]:
    """Return the state of each stage before register.

    A logged fault is history once the stage is up to date again, from another run or from a cache.
    """
    runs = []
    for stage in ORDER:
        line = logged.get(stage)
        if stage not in outdated:
            ran = line is not None and not line["fault"]
            runs.append(Run(stage, "ran" if ran else "reused", line["seconds"] if line and ran else None))
        elif line and line["fault"]:
            runs.append(Run(stage, "failed", line["seconds"], line["fault"]))
        else:
            runs.append(Run(stage, "not run"))
    return tuple(runs)


def result_of(stage: str, path: Path, runs: Sequence[Run]) -> dict[str, Any] | None:
    """Return what `stage` wrote to `path` on this state, also where it failed thereafter.

    None where it did not, and where the file is not what the stage writes: without its gate.json nothing passes.
    """
    states = {run.stage: run.state for run in runs}
    with suppress(StageError):
        return read_result(path) if states[stage] != "not run" else None
    return None


def outcome_of(runs: Sequence[Run]) -> Outcome:
    """Return the outcome: passed only when no stage failed, none is outdated, and gate.json has the verdict."""
    failed = next((run for run in runs if run.state == "failed"), None)
    missing = next((run for run in runs if run.state == "not run"), None)
    if failed is not None:
        return blocked(_faults(failed, runs), failed.stage)
    if missing is not None:
        return Outcome(False, f"Not judged: {missing.stage} did not run; `dvc repro gate` runs it", missing.stage)
    verdict = result_of("gate", GATE, runs) or {}
    if verdict.get("verdict") != "passed":
        return Outcome(False, f"Blocked: {GATE} holds no passed verdict", "gate")
    return Outcome(True, "Passes the gate")


def blocked(faults: Sequence[str], stage: str | None) -> Outcome:
    """Return the outcome with the first fault, and how many more there are."""
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return Outcome(False, f"Blocked: {faults[0]}{more}", stage, tuple(faults))


def _faults(failed: Run, runs: Sequence[Run]) -> list[str]:
    """Return the faults that a failed stage wrote."""
    faults: list[str] = []
    if failed.stage == "validate" and (validation := result_of("validate", VALIDATION, runs)):
        faults = [str(finding["sentence"]) for finding in validation["broken"]]
    elif failed.stage == "gate" and (verdict := result_of("gate", GATE, runs)):
        faults = [str(fault) for fault in verdict["reasons"]]
    return faults or [f"{failed.stage}: {(failed.fault or '').rstrip('.')}"]
