"""Record the results on main by a commit.

    python -m ci.record    # in a checkout of main with other results

Output: `recorded` where main's newest commit holds the results; `refused` where main takes no push; none where
main has moved on.
"""

import os

from ci import github, shell


def git(*command: str) -> str:
    """Return the output of Git. Raises FailedError."""
    return shell.run("git", *command)


def moved_on() -> bool:
    """Return whether main has another commit by now than the run's."""
    git("fetch", "--quiet", "origin", os.environ["GITHUB_REF"])
    moved = git("rev-parse", "FETCH_HEAD") != os.environ["GITHUB_SHA"]
    if moved:
        print("::notice::main has moved on: the run of its newest commit records and registers.")
    return moved


def recorded() -> str | None:
    """Commit and push the results; return the output to set, if any."""
    git("fetch", "--quiet", "origin", os.environ["GITHUB_REF"])
    staged = ("git", "diff", "--cached", "--quiet")
    if shell.holds(*staged):
        print("The commit holds these very results.")
    elif shell.holds(*staged, "FETCH_HEAD"):
        git("reset", "--quiet", "--soft", "FETCH_HEAD")  # an earlier attempt recorded them
    elif moved_on():
        return None
    else:
        git("commit", "--quiet", "--message", "Record what the pipeline made [skip ci]")
        if shell.call("git", "push", "--quiet", "origin", f"HEAD:{os.environ['GITHUB_REF']}"):
            if moved_on():
                return None
            print("::notice::main takes no push: the results go by a pull request, and main registers after its merge.")
            git("reset", "--quiet", os.environ["GITHUB_SHA"])
            return "refused"
    return "recorded"


def main() -> None:
    """Stage the results, record them, and set the output."""
    if shell.call("python", "-m", "churn", "lock", "compare", "HEAD") == 0:
        git("restore", "dvc.lock")  # the commit's may also hold what a laptop registered
    else:
        shell.call("python", "-m", "churn", "lock", "arrange", "HEAD")
    git("config", "credential.helper", "!gh auth git-credential")
    git("config", "user.name", github.BOT)
    git("config", "user.email", github.BOT_EMAIL)
    git("add", "dvc.lock", "metrics", "plots")
    if outcome := recorded():
        github.output(**{outcome: "true"})


if __name__ == "__main__":
    shell.no_arguments(__doc__)
    main()
