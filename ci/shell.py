"""Run commands: for their output, with a time limit, or for their exit status."""

import argparse
import os
import re
import subprocess
import sys
from typing import Any

SECONDS = 300  # CML has no time limit of its own
CODE = re.compile(r"HTTP \d{3}\b|status code \d{3}\b|ECONNREFUSED|ECONNRESET|ENOTFOUND|ETIMEDOUT|EAI_AGAIN|Invalid URL")


class FailedError(Exception):
    """A command failed. The message is one sentence without its full stop, and repeats no word of the command's."""


def run(
    *command: str, token: str = "GH_TOKEN", timeout: float | None = SECONDS, check: bool = True, **more: Any
) -> str:
    """Return the output of a command, stripped. Raises FailedError.

    The environment variable `token` is the token of Git, the GitHub CLI and CML. With `check=False` the output of a
    command that fails is returned, too. `more` is passed on to subprocess.run; its `env` is added to the environment.
    What the command prints to stderr goes into the log, unless `more` names another place.
    """
    name, environment = " ".join(command[:2]), os.environ | {"ITERATIVE_DO_NOT_TRACK": "1"} | more.pop("env", {})
    if secret := os.environ.get(token):
        environment |= {"GH_TOKEN": secret, "REPO_TOKEN": secret}
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE) | {"encoding": "utf-8", "errors": "replace"}
    given = {"input": "", "env": environment, "timeout": timeout} | pipes | more
    try:
        done = subprocess.run(command, check=False, **given)
    except subprocess.TimeoutExpired as error:
        raise FailedError(f"`{name}` took longer than {timeout} seconds") from error
    except OSError as error:
        raise FailedError(f"`{name}` cannot be run ({error.strerror})") from error
    if "stderr" not in more:
        print(done.stderr, end="", file=sys.stderr)
    if check and done.returncode:
        code = CODE.search(done.stderr or "")
        raise FailedError(f"`{name}` failed ({code[0] if code else f'exit status {done.returncode}'})")
    return str(done.stdout).strip()


def no_arguments(text: str | None) -> None:
    """For --help print a program's usage and the first line of its text; end with 2 for any argument."""
    argparse.ArgumentParser(description=(text or "").partition("\n")[0]).parse_args()


def call(*command: str, **environment: str) -> int:
    """Return the exit status of a command that prints into the log."""
    return subprocess.run(command, env=os.environ | environment, check=False).returncode


def holds(*command: str) -> bool:
    """Return whether a command, which prints nothing, exits with 0."""
    return not subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode
