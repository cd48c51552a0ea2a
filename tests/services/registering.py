"""register against a registry, in a process of its own that a test can end or kill."""

import os
import re
from pathlib import Path

IMPATIENT = {"MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0", "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0"}


class Registration:
    """A running `python -m stages.register` in a clone, against the registry at an address."""

    def __init__(self, clone, address, **environment):
        self.log = clone.folder.parent / f"{os.urandom(4).hex()}.log"
        settings = IMPATIENT | {"MLFLOW_TRACKING_URI": address} | environment
        self.process = clone.start(self.log, "python", "-m", "stages.register", **settings)

    def end(self):
        """Wait, and return the exit status and what was printed."""
        return self.process.wait(120), self.log.read_text()

    def kill(self):
        self.process.kill()
        self.process.wait()


def registered(clone, address, **environment):
    """Register, which must succeed, and return the last line that was printed."""
    status, printed = Registration(clone, address, **environment).end()
    assert status == 0, printed
    return printed.splitlines()[-1]


def named(clone, name):
    """Give the clone's model a name of its own in the registry, by a commit on main."""
    path = clone.folder / "params.yaml"
    path.write_text(re.sub(r"register:\n  model: .*", f"register:\n  model: {name}", path.read_text()))
    clone.commit()
    return clone


def replace(path: Path, content: bytes):
    """Write a file anew: what is there may be a link into DVC's cache."""
    path.unlink()
    path.write_bytes(content)
