"""Keep the report's picture on a branch of this repository, and set its address as the output `url`.

    python3 -m ci.picture results/build/report/comparison.png    # in a checkout of it

Whoever can read the repository sees it, and no other host has it. The branch has one commit without a parent, with the
newest KEPT pictures, so that the repository does not grow. Where there is no picture, or the branch takes no push, the
comment says where the picture is.
"""

import argparse
import os
import re
import struct
import sys
import tempfile
from pathlib import Path

from ci import github, shell
from ci.artifact import RefusedError, read_bytes

BRANCH, KEPT = "report-pictures", 200
BYTES, PIXELS = 500_000, 4_000  # at most, the latter on each side; the report's has 60,000 bytes and 1,800 pixels
TRIES = 5  # another run may push at the same time


def read_picture(path: Path) -> bytes:
    """Return the bytes of a small PNG. Raises RefusedError for anything else."""
    content = read_bytes(path, BYTES)
    if content[:8] != b"\x89PNG\r\n\x1a\n" or content[12:16] != b"IHDR" or len(content) < 24:
        raise RefusedError(f"{path.name} is no PNG")
    if max(size := struct.unpack(">II", content[16:24])) > PIXELS:
        raise RefusedError(f"{path.name} has {size[0]:,} x {size[1]:,} pixels, more than {PIXELS:,} on a side")
    return content


def push(content: bytes, name: str, folder: Path, origin: str) -> None:
    """Add a file to the branch, and drop the oldest beyond KEPT. Raises FailedError where that fails."""

    def git(*command: str, given: str = "") -> str:
        return shell.run("git", "-C", str(folder), *command, input=given)

    git("init", "--quiet")
    git("config", "credential.helper", "!gh auth git-credential")
    (folder / name).write_bytes(content)
    blob = git("hash-object", "-w", name)
    for last in range(TRIES):
        former = git("ls-remote", origin, f"refs/heads/{BRANCH}").partition("\t")[0]
        lines = []
        if former:
            git("fetch", "--quiet", "--depth=1", origin, former)
            lines = git("ls-tree", former).splitlines()
        numbers = {line: int(found[1]) for line in lines if (found := re.search(r"\t(\d+)-\d+\.png$", line))}
        kept = sorted(numbers, key=numbers.__getitem__)[-(KEPT - 1) :]
        tree = git("mktree", given="\n".join([*kept, f"100644 blob {blob}\t{name}", ""]))
        identity = ("-c", f"user.name={github.BOT}", "-c", f"user.email={github.BOT_EMAIL}")
        commit = git(*identity, "commit-tree", "-m", "Keep the pictures of the newest reports", tree)
        lease = f"--force-with-lease=refs/heads/{BRANCH}:{former}"
        try:
            git("push", "--quiet", lease, origin, f"{commit}:refs/heads/{BRANCH}")
        except shell.FailedError:
            if last == TRIES - 1:
                raise
        else:
            return


def main(arguments: list[str]) -> None:
    """Push the picture, if there is one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("picture", type=Path)
    picture = parser.parse_args(arguments).picture
    repository = "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}".format_map(os.environ)
    name = "{GITHUB_RUN_ID}-{GITHUB_RUN_ATTEMPT}.png".format_map(os.environ)
    try:
        content = read_picture(picture)
        with tempfile.TemporaryDirectory() as folder:
            push(content, name, Path(folder), shell.run("git", "remote", "get-url", "origin"))
    except (RefusedError, shell.FailedError) as error:
        print(f"::notice::There is no picture in the comment: {error}.")
        return
    github.output(url=f"{repository}/raw/{BRANCH}/{name}")


if __name__ == "__main__":
    main(sys.argv[1:])
