"""Register the model; the output `fault` is the reason where that fails.

    python -m ci.register

Where ALERT_CHAMPION is true, the output `champion` is the version that this run made champion, if it did.
"""

import json
import os
from pathlib import Path

from ci import github, shell

LOG = Path(".cache/stages.jsonl")


def main() -> int:
    """Return the exit status of the stage."""
    # The checkout does not know the default branch, which is the one that promotes; see churn/registry/mainline.py.
    shell.run("git", "symbolic-ref", "refs/remotes/origin/HEAD", f"refs/remotes/origin/{os.environ['GITHUB_REF_NAME']}")
    if status := shell.call("dvc", "pull", "prepare", "train", "evaluate"):
        github.output(fault="register: `dvc pull` failed, so the model that passed is not here; its log says why.")
        return status
    status = shell.call("dvc", "repro", "--force", "--single-item", "register")
    if status:
        written = json.loads(LOG.read_text(encoding="utf-8").splitlines()[-1])["fault"] if LOG.exists() else None
        fault = written or "`dvc repro` failed before or after the stage; its log says why."
        github.output(fault=f"register: {fault.splitlines()[0]}")  # for alert.py
    if not status and os.environ.get("ALERT_CHAMPION") == "true":
        registry = json.loads(shell.run("python", "-m", "churn", "registry", "show", "--json"))
        if registry["moves"] and registry["moves"][-1]["who"].endswith(github.run_url()):
            github.output(champion=f"Version {registry['champion']} of {registry['model']}")
    return status


if __name__ == "__main__":
    shell.no_arguments(__doc__)
    github.run_program(main)
