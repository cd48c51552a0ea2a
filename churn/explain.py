"""Says why the last run stopped, and how to go on: `python -m churn explain`.

In: the log of the stages that ran here, and for validate and gate what they wrote.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from churn.core.errors import StageError
from churn.core.paths import CONTRACT, GATE, LOG, PARAMS, VALIDATION
from churn.core.results import read_result
from churn.core.runner import KILLED

AGAIN = "then run `dvc repro`, which begins at this stage"
TO_DO = {  # by stage
    "fetch": f"Correct fetch in {PARAMS}, its query, or the source; {AGAIN}.",
    "prepare": f"Correct churn/features.py, or prepare in {PARAMS}; {AGAIN}.",
    "validate": f"Where the data are wrong, correct the query; where they are right, {CONTRACT}; {AGAIN}.",
    "train": f"Correct train in {PARAMS}; {AGAIN}.",
    "evaluate": f"Correct evaluate in {PARAMS}; {AGAIN}.",
    "gate": "Compare with main by `python -m report --base main`. Improve the model; or, where a bound no longer fits"
    f" these customers, measure it by `make bounds`; {AGAIN}.",
    "register": "See that the registry can be reached (MLFLOW_TRACKING_URI); then run"
    " `dvc repro --force --single-item register`.",
}
REASONS_SHOWN = 20


def last_run(log: Path = LOG) -> dict[str, Any] | None:
    """Return the last line of the log of the stages, None where there is none that can be read."""
    try:
        line = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
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


def explanation() -> Iterator[str]:
    """Yield the lines."""
    run = last_run()
    if run is None:
        yield "no stage has run here: `dvc repro` runs all."
    elif not run["fault"]:
        last = f"{run['stage']} ran last, in {run['seconds']:.1f} s"
        yield f"nothing stopped: {last}. `dvc status` names what is outdated."
    elif run["fault"] == KILLED:
        yield f"{run['stage']} was killed, or is running. Look at the memory and the time that it had; {AGAIN}."
    else:
        reasons = reasons_of(run["stage"])
        fault = str(run["fault"])
        yield f"{run['stage']} stopped the last run: {fault if not reasons else fault.partition(';')[0] + '.'}"
        yield from (f"  - {reason}" for reason in reasons[:REASONS_SHOWN])
        if len(reasons) > REASONS_SHOWN:
            yield f"  … and {len(reasons) - REASONS_SHOWN:,} more"
        yield TO_DO.get(run["stage"], f"{AGAIN.capitalize()}.")


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    return argparse.ArgumentParser(
        prog="python -m churn explain", description="Say why the last run stopped, and how to go on."
    )


def main(_: argparse.Namespace) -> None:
    """Print the explanation."""
    print("explain:", "\n".join(explanation()))
