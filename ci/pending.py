"""Let the comment of a pull request say that a newer commit is being checked, above the verdict on a former one.

    python3 -m ci.pending    # after `workflow_run` of the pipeline, requested or completed

A comment that is not there is not made. If the run has ended, and the comment still waits for it, as after it was
cancelled, the comment says that there is no verdict. Its last line names the run whose report it has.
"""

import json
import os
import re
from typing import Any
from urllib.parse import quote

from ci import github, shell
from ci.comment import AUTHOR, api, comments_of, former

NOTICE = re.compile(r"\A> \[!NOTE\]\n> [⏳⏹][^\n]*\n\n")
ORIGIN = re.compile(r"<sub>Commit ([0-9a-f]{8}), \[the run\]\((\S+)\), [\d: -]+ UTC</sub>")


def pull_request(run: Any) -> int | None:
    """Return the open pull request at whose head a run is; None where somebody has pushed since, or closed it."""
    if not run["head_repository"]:  # the fork is gone
        return None
    head = f"{run['head_repository']['owner']['login']}:{run['head_branch']}"
    found = api(f"pulls?state=open&base={quote(os.environ['DEFAULT_BRANCH'])}&head={quote(head)}")
    return next((int(pull["number"]) for pull in found if pull["head"]["sha"] == run["head_sha"]), None)


def with_notice(body: str, run: Any, ended: bool) -> str:
    """Return a comment's text with one sentence on the run on top, or as it is where it needs none."""
    verdict = NOTICE.sub("", body)
    origins, url, commit = ORIGIN.findall(verdict), run["html_url"], run["head_sha"][:8]
    if not origins or origins[-1][1] == url or (ended and f"]({url})" not in body):
        return body
    said = f"⏳ `{commit}` is being checked by [this run]({url})."
    if ended:
        said = f"⏹ `{commit}` has no verdict, because [its run]({url}) ended without a report."
    return f"> [!NOTE]\n> {said} Below is the verdict on `{origins[-1][0]}`.\n\n{verdict}"


def main() -> None:
    """Edit the comment, if there is one."""
    run, ended = github.run_before(), github.action() == "completed"
    number = pull_request(run)
    comment = former(comments_of(number), AUTHOR) if number else None
    text = with_notice(comment["body"], run, ended) if comment else ""
    if comment and text != comment["body"]:
        given = json.dumps({"body": text})
        api(f"issues/comments/{comment['id']}", "--method=PATCH", "--input=-", given=given)
        print(text.splitlines()[1])


if __name__ == "__main__":
    shell.no_arguments(__doc__)
    try:
        main()
    except shell.FailedError as error:  # the comment names the commit of its verdict all the same
        print(f"::warning::The comment was not changed: {error}.")
