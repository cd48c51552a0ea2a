"""Record the results on main by a commit.

    python -m ci.record    # in a checkout of main with other results

Output: `recorded` where a commit of main holds the results; `refused` where main takes no push; none where main has
moved on. Then a newer run on main records and registers. If there is none, because the newer commit has [skip ci] or a
workflow's token pushed it, the pipeline is dispatched on main with DISPATCH_TOKEN. Where this run is an older one that
runs again after a newer one has registered, it registers nothing either: champion would return to its model.
"""

import os
from typing import Any

from ci import github, shell


def git(*command: str) -> str:
    """Return the output of Git. Raises FailedError."""
    return shell.run("git", *command)


def moved_on() -> bool:
    """Return whether main has another commit by now than the run's."""
    git("fetch", "--quiet", "origin", os.environ["GITHUB_REF"])
    return git("rev-parse", "FETCH_HEAD") != os.environ["GITHUB_SHA"]


def newer_runs() -> list[Any]:
    """Return the runs on main after this one."""
    query = f"actions/workflows/pipeline.yml/runs?per_page=100&branch={os.environ['GITHUB_REF_NAME']}"
    found = github.api(query, token="DISPATCH_TOKEN")["workflow_runs"]
    events = ("push", "workflow_dispatch")  # a fork's branch may have the name of main
    return [run for run in found if run["event"] in events and run["id"] > int(os.environ["GITHUB_RUN_ID"])]


def registered(run: Any) -> bool:
    """Return whether a run on main has registered: it passed, or in one of its attempts a step failed after that."""
    if run["conclusion"] == "success":
        return True
    jobs = github.api(f"actions/runs/{run['id']}/jobs?filter=all&per_page=100", token="DISPATCH_TOKEN")["jobs"]
    return any(step["name"] == "Register" and step["conclusion"] == "success" for job in jobs for step in job["steps"])


def leave_to_newer_run() -> None:
    """See that the pipeline runs on main after this run, and then records and registers."""
    if runs := newer_runs():
        print(f"::notice::main has moved on: the newer run {runs[0]['id']} records and registers.")
        return
    github.dispatch(os.environ["GITHUB_REF_NAME"], token="DISPATCH_TOKEN")
    print("::notice::main has moved on, and its newer commit started no run: the pipeline was dispatched on main.")


def recorded() -> str | None:
    """Commit and push the results; return the output to set, None where main has moved on."""
    git("fetch", "--quiet", "origin", os.environ["GITHUB_REF"])
    staged = ("git", "diff", "--cached", "--quiet")
    if shell.holds(*staged, "FETCH_HEAD"):
        git("reset", "--quiet", "--soft", "FETCH_HEAD")  # which is the commit's, or an earlier attempt recorded them
        print("Main's newest commit holds these very results.")
    elif shell.holds(*staged):
        if any(map(registered, newer_runs())):
            return None
        print("The commit holds these very results.")
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
    else:
        leave_to_newer_run()


if __name__ == "__main__":
    shell.no_arguments(__doc__)
    github.run_program(main)
