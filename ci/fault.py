"""Run a command; where it fails, its last line is the output `fault`, for alert.py.

python -m ci.fault COMMAND ...
"""

import argparse
import subprocess
import sys

from ci import github


def main(command: list[str]) -> int:
    """Return the command's exit status."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    print(done.stdout, end="")
    if done.returncode:
        github.output(fault=done.stdout.rstrip().rpartition("\n")[2])
    return done.returncode


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("command")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    asked = parser.parse_args()
    sys.exit(main([asked.command, *asked.arguments]))
