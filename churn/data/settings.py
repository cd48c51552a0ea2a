"""`python -m churn check`: what every stage checks of the settings before it starts, without a stage."""

import argparse

from churn.config.check import checked_settings, profile_note
from churn.core.paths import CONTRACT, PARAMS
from churn.data.conditions import condition_faults


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    return argparse.ArgumentParser(prog="python -m churn check", description=f"Check {PARAMS} and {CONTRACT}.")


def main(_: argparse.Namespace) -> None:
    """Print every fault, or that there is none."""
    contract = checked_settings(condition_faults)[1]
    print(f"check: {note}" if (note := profile_note(contract)) else f"check: {PARAMS} and {CONTRACT} fit each other")
