"""Says why the last run stopped, and how to go on: `python -m churn explain`.

In: params.yaml and dvc.lock, which may keep DVC from starting a stage, the log of the stages that ran here, and for
validate and gate what they wrote.
"""

import argparse
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from churn.core.errors import MORE, StageError, number_of
from churn.core.files import YAML_LENGTH, read_text, read_yaml
from churn.core.paths import CONTRACT, GATE, LOCK, LOG, PARAMS, VALIDATION
from churn.core.results import read_result
from churn.core.runner import KILLED
from churn.core.terminal import RED, coloured

AGAIN = "then run `dvc repro`, which begins at this stage"
TO_DO = {  # by stage
    "fetch": f"Correct fetch in {PARAMS}, its query, or the source; {AGAIN}.",
    "prepare": f"Correct churn/features.py, {CONTRACT}, or prepare in {PARAMS}; {AGAIN}.",
    "validate": f"Where the data are wrong, correct the query; where they are right, {CONTRACT}; {AGAIN}.",
    "train": f"Correct train in {PARAMS}; {AGAIN}.",
    "evaluate": f"Correct evaluate in {PARAMS}; {AGAIN}.",
    "gate": "Compare with main by `python -m report --base main`. Improve the model; or, where a bound no longer fits"
    f" these customers, measure it by `make bounds`; {AGAIN}.",
    "register": "See that the registry can be reached (MLFLOW_TRACKING_URI); then run"
    " `dvc repro --force --single-item register`.",
}
REASONS_SHOWN = 20


def last_run() -> dict[str, Any] | None:
    """Return the last line of the log of the stages, None where there is none that can be read."""
    try:
        line = json.loads(LOG.read_text(encoding="utf-8").splitlines()[-1])
        return {"stage": str(line["stage"]), "seconds": float(line["seconds"]), "fault": line["fault"]}
    except (OSError, ValueError, LookupError, TypeError):
        return None


def reasons_of(stage: str) -> list[str]:
    """Return each reason for which validate or the gate stopped, as the stage wrote it."""
    try:
        if stage == "validate":
            return [f"{one['table']}: {one['sentence']}" for one in read_result(VALIDATION)["broken"]]
        return list(read_result(GATE)["reasons"]) if stage == "gate" else []
    except StageError:  # it stopped before it wrote
        return []


def unstarted() -> str | None:
    """Return what keeps DVC from starting any stage, so that no log has it."""
    with suppress(OSError, UnicodeDecodeError):  # the latter DVC names
        if "\n<<<<<<< " in f"\n{LOCK.read_text(encoding='utf-8')}":
            return f"{LOCK} has a merge conflict: run `make resolve`, then `dvc repro`."
    try:
        source = str(read_yaml(read_text(PARAMS, YAML_LENGTH), str(PARAMS))["fetch"]["source"])
    except StageError as error:
        return str(error)
    except (KeyError, TypeError):
        return None  # the stage itself says so
    if "://" in source or Path(source).exists():
        return None
    pull = "run `make pull`" if Path(f"{source}.dvc").exists() else "correct it"
    return f"{PARAMS}: fetch.source is {source}, which does not exist: {pull}, then run `dvc repro`."


def to_do(stage: str, fault: str) -> str:
    """Return the next step: where a fault names a file of settings or a line of code, to correct it there."""
    if MORE in fault:
        return f"Run `python -m stages.{stage}` on a terminal to read the error, and correct that line; {AGAIN}."
    if fault.startswith((f"{PARAMS}:", f"{CONTRACT}:")):
        return f"Correct it there; {AGAIN}."
    return TO_DO.get(stage, f"{AGAIN.capitalize()}.")


def explanation() -> Iterator[str]:
    """Yield the lines."""
    run = last_run()
    if fault := unstarted():
        yield f"no stage can start. {fault}"
    elif run is None:
        yield "no stage has run here: `dvc repro` runs all."
    elif not run["fault"]:
        last = f"{run['stage']} ran last, in {run['seconds']:.1f} s"
        yield f"nothing stopped: {last}. `dvc status` names what is outdated."
    elif run["fault"] == KILLED:
        yield f"{run['stage']} was killed, or is running. Look at the memory and the time that it had; {AGAIN}."
    else:
        reasons, fault = reasons_of(run["stage"]), str(run["fault"])
        why = f", for {number_of(len(reasons), 'reasons')}:" if reasons else f": {fault.replace(MORE, '')}"
        yield f"{coloured(run['stage'], RED)} stopped the last run{why}"
        yield from (f"  - {reason}" for reason in reasons[:REASONS_SHOWN])
        if len(reasons) > REASONS_SHOWN:
            yield f"  … and {len(reasons) - REASONS_SHOWN:,} more"
        yield to_do(run["stage"], "" if reasons else fault)


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    return argparse.ArgumentParser(
        prog="python -m churn explain", description="Say why the last run stopped, and how to go on."
    )


def main(_: argparse.Namespace) -> None:
    """Print the explanation."""
    print("explain:", "\n".join(explanation()))
