"""Tell Slack that a run has failed: which stage, why, by whose commit, and who is to act; or of a new champion.

    python3 -m ci.alert [--folder results/build/report]    # NEEDS is `toJSON(needs)`

Without the folder the message names the jobs that failed. Where none failed, it names the new champion, the output of
the job `register`. Exits with 1 if the message was not delivered.
"""

import argparse
import http.client
import json
import os
import re
import sys
import urllib.error
import urllib.request
from pathlib import Path

from ci import github
from ci.artifact import CONTROL, INVISIBLE, RefusedError, read_text

SECONDS = 10
BY_AUTHOR = ("push", "pull_request", "merge_group", "workflow_dispatch")  # events
WITH_STAGES = ("pipeline", "retrain")  # jobs


def plain(text: str) -> str:
    """Return a text in which Slack finds no link, nobody to notify and no second line."""
    text = CONTROL.sub(" ", " ".join(text.split())).replace("@", f"@{INVISIBLE}").replace("://", f":{INVISIBLE}//")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def outcome(folder: Path | None) -> tuple[str | None, str | None]:
    """Return the failed stage and the report's headline, as far as the run could say them."""
    if folder is None:
        return None, None
    try:
        said = json.loads(read_text(folder / "outcome.json", 100_000))
        stage, headline = said["stage"], said["headline"] if said["verdict"] == "blocked" else None
    except (RefusedError, ValueError, TypeError, KeyError, RecursionError):
        return None, None
    named = isinstance(stage, str) and re.fullmatch(r"[a-z_]{1,40}", stage)
    return stage if named else None, headline[:500] if isinstance(headline, str) else None


def origin() -> str:
    """Return whose doing the run is: after `workflow_run`, that of the run before, not of the default branch."""
    if run := github.run_before():
        fork = run["head_repository"] or {"full_name": "a deleted fork"}
        return f"{run['event']} by {run['actor']['login']} on {fork['full_name']}:{run['head_branch']}"
    branch = os.environ.get("GITHUB_HEAD_REF") or os.environ["GITHUB_REF_NAME"]
    return f"{os.environ['GITHUB_EVENT_NAME']} by {os.environ['GITHUB_ACTOR']} on {branch}"


def who_acts() -> str:
    """Return who is to act: the author of a change, or the code owners where that is a bot, or nobody."""
    actor = os.environ["GITHUB_ACTOR"]
    if os.environ["GITHUB_EVENT_NAME"] in BY_AUTHOR and not actor.endswith("[bot]"):
        return plain(actor)
    return "a code owner, see .github/CODEOWNERS"


def message(folder: Path | None) -> str:
    """Return the message in Slack's markup."""
    # a job that ran into its time limit counts as cancelled
    needs = json.loads(os.environ["NEEDS"])
    jobs = {name: job for name, job in needs.items() if job["result"] in ("failure", "cancelled")}
    commit, server = github.commit(), "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}".format_map(os.environ)
    where = f"{plain(origin())} at <{server}/commit/{commit}|{commit[:8]}>: <{github.run_url()}|the run>"
    if not jobs:
        champion, repository = needs["register"]["outputs"]["champion"], os.environ["GITHUB_REPOSITORY"]
        return f"{plain(f'{champion} is the new champion of {repository}')}\n{where}"
    stage, headline = outcome(folder)
    faults = [headline, *(str((job.get("outputs") or {}).get("fault") or "")[:500] for job in jobs.values())]
    named = "The comparison with main" if stage == "comparison" else f"Stage {stage}"
    others = [f", job {name}" for name in jobs if name not in WITH_STAGES]
    failed = "".join([named, *others]) if stage else f"Job {', '.join(jobs)}"
    lines = [
        plain(f"{failed} failed in {os.environ['WORKFLOW']} of {os.environ['GITHUB_REPOSITORY']}"),
        *(f"> {plain(fault)}" for fault in faults if fault),
        where,
        f"To act: {who_acts()}",
    ]
    return "\n".join(filter(None, lines))


def undelivered(webhook: str, text: str) -> str | None:
    """Send a text, if need be twice, and return why that failed, without the address: whoever knows it may write."""
    reason = None
    for _ in range(2):
        try:
            headers = {"Content-Type": "application/json"}
            question = urllib.request.Request(webhook, json.dumps({"text": text}).encode(), headers)
            with urllib.request.urlopen(question, timeout=SECONDS):
                return None
        except urllib.error.HTTPError as error:
            reason = f"it answered {error.code}"
        except (OSError, ValueError, http.client.HTTPException) as error:
            cause = getattr(error, "reason", None)
            reason = type(cause if isinstance(cause, Exception) else error).__name__
    return reason


def main(arguments: list[str]) -> int:
    """Send the message."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path)
    folder = parser.parse_args(arguments).folder
    reason = undelivered(os.environ["SLACK_WEBHOOK_URL"], message(folder))
    if reason:
        print(f"The alert was not delivered: Slack's webhook failed twice ({reason}).", file=sys.stderr)
    return 1 if reason else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
