"""The command line: `python -m churn COMMAND`. `--help` after a command describes it.

Exit status: 0 done, 1 failed, 2 usage error; that of drift is in churn/quality/drift.py.
"""

import argparse
import sys
from importlib import import_module

from churn.core.runner import command
from churn.core.start import start_up

COMMANDS = {
    "init": ("churn.adopting.init", "put your own table in the place of the sample"),
    "bounds": ("churn.adopting.bounds", "write the gate's bounds from the noise of your customers"),
    "check": ("churn.data.settings", "check params.yaml and contract.yaml, as each stage does"),
    "explain": ("churn.explain", "say why the last run stopped, and how to go on"),
    "score": ("churn.scoring", "score the customers of a table with the champion"),
    "drift": ("churn.quality.drift", "compare the customers with those of a commit"),
    "profile": ("churn.quality.profile", "write profile.json from the prepared customers"),
    "as-of": ("churn.data.as_of", "set the day that the query takes"),
    "contract": ("churn.odcs", "export contract.yaml in the Open Data Contract Standard"),
    "schema": ("churn.schema", "print the JSON Schema of contract.yaml and params.yaml, or every key as Markdown"),
    "holdout": ("churn.data.renewal", "renew the holdout by the next salt of the split"),
    "lock": ("churn.lock", "set dvc.lock to what a run starts from, compare it, or resolve a conflict in it"),
    "registry": ("churn.registry.champion", "show the versions, compare two, or roll champion back"),
}
FAILED = {"drift": 2}  # not 1, which is Python's own status when something else fails


def main() -> None:
    """Run the command that the command line names; only its modules are imported."""
    start_up()
    parser = argparse.ArgumentParser(prog="python -m churn", description="The pipeline's commands beside its stages.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, what) in COMMANDS.items():
        commands.add_parser(name, help=what, add_help=False)
    if not sys.argv[1:]:
        parser.print_help(sys.stderr)
        sys.exit(2)
    name = parser.parse_args(sys.argv[1:2]).command
    if name == "score":
        import_module("scipy.special")  # for `churn.modeling.model`, which reads the model
    module = import_module(COMMANDS[name][0])
    command(module.main, module.arguments(), sys.argv[2:], failed=FAILED.get(name, 1))


if __name__ == "__main__":
    main()
