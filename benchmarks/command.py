"""The command line of a benchmark that repeats something."""

import argparse

from churn.core.start import start_up


def repetitions(name: str, doc: str, what: str, default: int, least: int) -> int:
    """Return how often the program of this name, with this docstring, is to repeat `what`."""
    start_up()
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=doc.partition("\n")[0])
    parser.add_argument(what, nargs="?", type=int, default=default, help=f"at least {least}; %(default)s by default")
    asked: int = getattr(parser.parse_args(), what)
    if asked < least:
        parser.error(f"{what}: at least {least}")
    return asked
