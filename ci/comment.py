"""Post the report as the one comment of a pull request that is always current.

    python3 -m ci.comment --pull-request 7 --folder results/build/report
    python3 -m ci.comment --expect-head SHA --folder results/build/report    # from a fork: the folder has the number

CML posts. It also publishes the picture, if CML_PUBLISH_URL names a host; otherwise PICTURE_URL is where ci.picture
keeps it. Where CML is missing, fails, hangs or would not find the former comment, the GitHub CLI posts; either finds by
CML's watermark what the other wrote. A run about another commit than the pull request's newest posts nothing, such as
an older run that runs again. Exits with 1 only if no comment could be posted.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ci import github, shell
from ci.artifact import INVISIBLE, RefusedError, neutral, read_text, unverified
from ci.picture import read_picture

SECONDS = 90  # for each command
LONGEST = 64_500  # characters: GitHub refuses more than 65,536, and the origin and the watermark need some
TITLE = "model-report"  # letters and hyphens: CML escapes some others, and then misses its own comment
WATERMARK = re.compile(rf'!\[\]\(https://cml\.dev/watermark\.png#[0-9a-fA-F]+ "CML watermark {TITLE}"\)')
AUTHOR = github.BOT
SEEN_BY_CML = 30  # comments: it asks for the first page only
PICTURE = re.compile(rf"^!{INVISIBLE}(\[[^\[\]\n]*\]){INVISIBLE}?\(comparison\.png\)$", re.MULTILINE)  # after neutral()
UNVERIFIED = """> [!WARNING]
> **Unverified:** the fork's own run wrote this, and the fork's code may have changed it. Its links lead nowhere. The
> pipeline judges again after the merge, before anything is registered.

"""


def cml(*arguments: str, scratch: Path) -> str:
    """Run CML in a folder that is also its home, since it writes into ~/.gitconfig."""
    repository = f"--repo={os.environ['GITHUB_SERVER_URL']}/{os.environ['GITHUB_REPOSITORY']}"
    command = ("cml", *arguments, repository, "--driver=github")
    return shell.run(*command, timeout=SECONDS, cwd=scratch, env={"HOME": str(scratch)}, stderr=subprocess.PIPE)


def api(path: str, *options: str, given: str = "") -> Any:
    """Return GitHub's answer. The log gets no word of the CLI, which may repeat the report."""
    return github.api(path, *options, input=given, stderr=subprocess.PIPE, timeout=SECONDS)


def run_url() -> str:
    """Return the address of the run that made the report: after `workflow_run` it is not this one."""
    before = github.run_before()
    return str(before["html_url"]) if before else github.run_url()


def head_of(number: int | str) -> str:
    """Return the commit at the head of a pull request."""
    return str(api(f"pulls/{number}")["head"]["sha"])


def fork_number(folder: Path, head: str) -> int:
    """Return the number that a fork's run wrote down, if the head of that pull request is the commit that ran."""
    number = read_text(folder / "pull_request.txt", 20).strip()
    if not re.fullmatch(r"[1-9][0-9]{0,9}", number):
        raise RefusedError("pull_request.txt holds no number")
    if head_of(number) != head:
        raise RefusedError(f"the head of pull request {number} is not {head}, which the report is about")
    return int(number)


def newest(number: int) -> str:
    """Return the commit at the head of a pull request; where GitHub does not answer, the one that this run is about."""
    try:
        return head_of(number)
    except shell.FailedError:  # CML may comment all the same
        return github.commit()


def published(picture: Path, scratch: Path) -> str:
    """Return the address of the picture: where ci.picture keeps it, or at the host CML_PUBLISH_URL.

    Raises FailedError where neither has it, and RefusedError for what is no small PNG.
    """
    if kept := os.environ.get("PICTURE_URL"):
        return kept
    if not (url := os.environ.get("CML_PUBLISH_URL")):
        raise shell.FailedError("this repository has not kept it")
    (scratch / picture.name).write_bytes(read_picture(picture))
    # the type is said because CML dies of guessing it on Node 18 and later
    address = cml("asset", "publish", picture.name, "--mime-type=image/png", f"--url={url}", scratch=scratch)
    if not re.fullmatch(r"https://[^\s()<>\\]+", address):
        raise shell.FailedError("`cml asset` gave no address")
    return address


def with_origin(text: str) -> str:
    """Return the text with the commit that it is about below its first paragraph, and at its end the run and the time.

    A newer push is judged while the comment still has the former verdict.
    """
    head, _, rest = text.partition("\n\n")
    commit = github.commit()[:8]
    footer = f"<sub>Commit {commit}, [the run]({run_url()}), {now():%Y-%m-%d %H:%M} UTC</sub>"
    return "\n\n".join(filter(None, [head.rstrip(), f"<sub>On commit {commit}</sub>", rest.rstrip(), footer]))


def now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC)


def comment_text(folder: Path, scratch: Path, of_fork: bool) -> str:
    """Return what the comment says, without its origin and the watermark."""
    try:
        written = read_text(folder / "report.md", 1_000_000)
        text = UNVERIFIED + unverified(written) if of_fork else neutral(written)
    except RefusedError as refused:
        return f"There is no report of [this run]({run_url()}): {refused}."
    if PICTURE.search(text):
        try:
            picture = rf"!\g<1>({published(folder / 'comparison.png', scratch)})"
        except (RefusedError, shell.FailedError) as error:
            print(f"The picture was not published: {error}.")
            picture = f"_No picture here: what [the run]({run_url()}) made is in its artifact `results`._"
        text = PICTURE.sub(picture, text, count=1)
    if len(text) > LONGEST:  # said on top, since a fold or a code block may be open where the text is cut
        said = f"_Cut after {LONGEST:,} characters: [the run]({run_url()}) has all in its artifact `results`._\n\n"
        kept = text[: LONGEST - len(said)]
        text = said + (kept.rpartition("\n")[0] or kept)
    return text


def comments_of(number: int) -> list[Any]:
    """Return all comments of a pull request, the oldest first."""
    pages = api(f"issues/{number}/comments?per_page=100", "--paginate", "--slurp")
    return [comment for page in pages for comment in page]


def former(comments: list[Any], author: str | None = None) -> Any:
    """Return the last comment with the watermark, by this author if one is given."""
    by = [comment for comment in comments if author is None or (comment["user"] or {}).get("login") == author]
    return next((comment for comment in reversed(by) if WATERMARK.search(comment["body"] or "")), None)


def post(number: int, text: str, scratch: Path) -> str:
    """Write the comment, or write it anew, and say how in one sentence."""
    try:
        try:
            comments = comments_of(number)
        except shell.FailedError:
            comments = []  # without the GitHub CLI nobody but CML can look
        # CML misses a comment that is not on the first page, and would write into a stranger's with a copied watermark
        if former(comments[:SEEN_BY_CML]) != former(comments, AUTHOR):
            raise shell.FailedError("it would not find the former comment")
        (scratch / "comment.md").write_text(text, encoding="utf-8")
        options = ("--publish=false", f"--target=pr/{number}", f"--watermark-title={TITLE}")
        return f"CML wrote {cml('comment', 'update', *options, 'comment.md', scratch=scratch)}."
    except shell.FailedError as failed:
        reason = failed
    watermark = f'![](https://cml.dev/watermark.png#{os.environ["GITHUB_SHA"]} "CML watermark {TITLE}")'
    body = json.dumps({"body": f"{text}\n\n{watermark}"})
    if ours := former(comments_of(number), AUTHOR):  # asked again: CML may have written before it failed
        written = api(f"issues/comments/{ours['id']}", "--method=PATCH", "--input=-", given=body)
    else:
        written = api(f"issues/{number}/comments", "--method=POST", "--input=-", given=body)
    return f"The GitHub CLI wrote {written['html_url']}, and not CML: {reason}."


def main(arguments: list[str]) -> int:
    """Post the report that is in a folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--pull-request", type=int)
    which.add_argument("--expect-head")
    given = parser.parse_args(arguments)
    try:
        number = given.pull_request or fork_number(given.folder, given.expect_head)
        if not given.expect_head and (head := newest(number)) != (commit := github.commit()):
            said = f"Pull request {number} is at {head[:8]}. This run is about {commit[:8]}, so it posts nothing."
            print(f"::notice::{said}")
            return 0
        with tempfile.TemporaryDirectory() as scratch:
            text = comment_text(given.folder, Path(scratch), of_fork=bool(given.expect_head))
            print(post(number, with_origin(text), Path(scratch)))
    except (RefusedError, shell.FailedError) as error:
        fault = f"No comment was posted: {' '.join(str(error).split())}."
        print(fault, file=sys.stderr)
        github.output(fault=fault)  # for alert.py
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
