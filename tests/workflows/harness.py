"""A GitHub on this machine, whose Actions run the workflows of .github for real, by act.

Real are the workflows, every command in them, Git (over HTTP, where a push needs a token), DVC, MLflow and act, which
runs each job on this machine in a folder of its own. Stand-ins, since a test needs no internet and no account, are
GitHub's API (fake_github.py, and more of it below), the GitHub CLI, npm, and the actions (stand_ins/, each says why).
What act does not know, nobody tests here: filters, permissions, concurrency and time limits (see test_rules.py).
"""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.conftest import Clone, link_environment
from tests.servers import S3_BRANCH_KEYS, S3_KEYS
from tests.workflows.fake_github import REPOSITORY, TOKEN, FakeGitHub

import pandas as pd
from ruamel.yaml import YAML

STAND_INS = Path(__file__).parent / "stand_ins"
APP_TOKEN = f"{TOKEN}-for-the-app"
ROLE, BRANCH_ROLE = "arn:aws:iam::123456789012:role/churn", "arn:aws:iam::123456789012:role/churn-branches"


@dataclass
class Run:
    """A run of a workflow, as the website shows it."""

    id: int
    workflow: str
    event: str
    branch: str
    sha: str
    repository: str  # where the branch lies
    artifacts: Path
    jobs: dict[str, str] = field(default_factory=dict)  # result by name; a job that is not there was skipped
    logs: dict[str, str] = field(default_factory=dict)  # what each job's steps printed
    summary: str = ""
    annotations: list[str] = field(default_factory=list)  # as `warning: text`

    @property
    def conclusion(self):
        return "failure" if "failure" in self.jobs.values() else "success"

    @property
    def stages(self):
        """The stages that the job `pipeline` ran, or `retrain` did; those that it skipped or restored are not there."""
        log = self.logs.get("pipeline") or self.logs["retrain"]
        return [line.split("'")[1] for line in log.splitlines() if line.startswith("Running stage")]

    def artifact(self, name, file):
        """Return the text of an artifact's file."""
        return (self.artifacts / name / file).read_text(encoding="utf-8")

    def outcome(self):
        return json.loads(self.artifact("results", "build/report/outcome.json"))

    def json(self):
        """Return what the API says of the run."""
        return {
            "id": self.id,
            "head_sha": self.sha,
            "head_branch": self.branch,
            "head_repository": {"full_name": self.repository, "owner": {"login": self.repository.partition("/")[0]}},
            "event": self.event,
            "actor": {"login": "mallory" if self.repository != REPOSITORY else "alice"},
            "conclusion": self.conclusion,
            "created_at": datetime.now(UTC).isoformat(),
            "html_url": f"https://github.com/{REPOSITORY}/actions/runs/{self.id}",
        }


class GitHub(FakeGitHub):
    """The repository at GitHub: its branches, pull requests and runs. `desk` is a developer's clone of it.

    It begins as what `finished` has committed.
    """

    def __init__(self, folder, finished):
        super().__init__()
        self.folder = folder
        self.runs = []
        self.numbers = count(11)  # of runs
        self.pulls = {}
        self.dispatched = []  # (workflow, branch, inputs) that the API was asked to run
        self.variables = {}
        self.secrets = {}
        self.retrain_created = datetime.now(UTC)
        self.url = self.serve()
        self.environment = folder / "environment"
        link_environment(self.environment)
        finished.ok("git", "clone", "--quiet", "--origin", "finished", str(finished.folder), str(folder / "desk"))
        self.desk = Clone(folder / "desk")
        self.desk.ok("git", "remote", "remove", "finished")
        self._quick_checks()
        self.origin = folder / "github" / "example" / "churn.git"
        self.desk.ok("git", "clone", "--quiet", "--bare", ".", str(self.origin))
        self.desk.ok("git", "remote", "add", "origin", str(self.origin))
        for setting in ("http.receivepack", "uploadpack.allowAnySHA1InWant"):
            self.git("config", setting, "true")
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(GitOverHTTP, self.origin.parents[1]))
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        self.servers.append(server)
        # The workflows are read from a runner's clone, while GitHub merges in one of its own.
        for name in ("site", "merges"):
            self.desk.ok("git", "clone", "--quiet", str(self.origin), str(folder / name))
        self.site, self.merges = Clone(folder / "site"), Clone(folder / "merges")
        home = folder / "runner"
        home.mkdir()
        (home / ".gitconfig").write_text(
            f'[url "http://127.0.0.1:{server.server_port}/"]\n'
            "    insteadOf = https://github.com/\n"
            "[http]\n"
            "    postBuffer = 100000000\n"  # in one piece, which the server below can take
        )

    def _quick_checks(self):
        """Leave the job `checks` one rule and one test: all of them are run by whoever runs these tests."""
        shutil.rmtree(self.desk.folder / "tests")
        quick = self.desk.text("Makefile").partition("\nquick:")[2].partition("\n\n")[0]
        paths = re.findall(r"tests/[\w/.]+", quick)
        for path in paths:
            test = self.desk.folder / path / ("" if path.endswith(".py") else f"test_{Path(path).name}.py")
            test.parent.mkdir(parents=True, exist_ok=True)
            test.write_text("def test_one():\n    pass\n")
        before, _, after = self.desk.text("Makefile").partition("\ncheck:")
        check = "\ncheck: .venv/.dev\n\t@ruff check churn\n\n"
        (self.desk.folder / "Makefile").write_text(before + check + after.partition("\n\n")[2])
        self.desk.replace("pyproject.toml", "--numprocesses auto", "--numprocesses 0")
        self.desk.commit("Check little")

    def git(self, *command):
        return self.desk.ok("git", "-C", str(self.origin), *command).strip()

    def sha(self, ref):
        return self.git("rev-parse", ref)

    # What people do

    def start_branch(self, name):
        """Start a branch on the desk from main as it is now."""
        self.desk.ok("git", "fetch", "--quiet", "origin")
        self.desk.ok("git", "checkout", "--quiet", "-B", name, "origin/main")

    def move_source(self):
        """Let main's source be a file outside of the repository, as a mounted share is; return it and its table."""
        file = self.folder / "share.csv"
        sample = self.desk.folder / "data" / "sample" / "telco_customers.csv"
        customers = pd.read_csv(sample, dtype=str, keep_default_na=False)
        customers.to_csv(file, index=False)
        self.desk.replace("params.yaml", "source: data/sample/telco_customers.csv", f"source: {file}")
        return file, customers

    def push_main(self):
        """Commit what lies on the desk and push it straight to main; return main's former commit."""
        before = self.sha("main")
        self.desk.commit()
        self.desk.ok("git", "push", "--quiet", "origin", "HEAD:main")
        return before

    def update_pull(self, number):
        """Commit what lies on the desk and push it to the branch of a pull request."""
        self.desk.commit()
        pull = self.pulls[number]
        self.desk.ok("git", "push", "--quiet", "origin", f"HEAD:{pull['head']['ref']}")
        pull["head"]["sha"] = self.sha(pull["head"]["ref"])

    def protect_main(self):
        """From now on main takes changes by pull requests only."""
        hook = self.origin / "hooks" / "update"
        refusal = "Changes must be made through a pull request."
        hook.write_text(f'#!/bin/sh\n[ "$1" != refs/heads/main ] || {{ echo "{refusal}"; exit 1; }}\n')
        hook.chmod(0o755)

    def open_pull(self, fork=False):
        """Commit what lies on the desk and open a pull request; return the run that it starts."""
        self.desk.commit()
        branch = self.desk.ok("git", "branch", "--show-current").strip()
        target = "refs/fork/heads" if fork else "refs/heads"  # a fork's branches are none of this repository's
        self.desk.ok("git", "push", "--quiet", "--force", "origin", f"HEAD:{target}/{branch}")
        number = self.create_pull(branch, f"{target}/{branch}", "stranger/churn" if fork else REPOSITORY)
        return self.run_pull(number)

    def create_pull(self, branch, ref, repository=REPOSITORY, title="Change", body=""):
        number = 7 + len(self.pulls)
        self.pulls[number] = {
            "number": number,
            "node_id": f"PR_{number}",
            "title": title,
            "body": body,
            "html_url": f"https://github.com/{REPOSITORY}/pull/{number}",
            "user": {"login": "bob"},
            "reviews": [],
            "head": {"ref": branch, "sha": self.sha(ref), "repo": {"full_name": repository}},
            "base": {"ref": "main", "sha": self.sha("main"), "repo": {"full_name": REPOSITORY}},
            "state": "open",
            "merged_at": None,
            "merge_commit_sha": None,
            "review_decision": "",
            "auto_merge": None,
            "created_at": datetime.now(UTC).isoformat(),
        }
        return number

    def review(self, number, login, state="APPROVED", body=""):
        """Review a pull request as it is now, as somebody with write access does at the website."""
        pull = self.pulls[number]
        review = {"author": {"login": login}, "authorCanPushToRepository": True, "onBehalfOf": {"nodes": []}}
        pull["reviews"].append(review | {"state": state, "body": body, "commit": {"oid": pull["head"]["sha"]}})

    def merge(self, number):
        """Squash a pull request into main, as the button does, and return main's former commit."""
        pull, before = self.pulls[number], self.sha("main")
        self.merges.ok("git", "fetch", "--quiet", "origin", before, pull["head"]["sha"])
        self.merges.ok("git", "checkout", "--quiet", "--force", "--detach", before)
        self.merges.ok("git", "merge", "--quiet", "--squash", pull["head"]["sha"])
        self.merges.ok("git", "commit", "--quiet", "--allow-empty", "--message", f"{pull['title']} (#{number})")
        pull["merge_commit_sha"] = self.merges.ok("git", "rev-parse", "HEAD").strip()
        self.merges.ok("git", "push", "--quiet", "origin", f"HEAD:refs/merged/{number}")
        self.git("update-ref", "refs/heads/main", pull["merge_commit_sha"])
        pull["merged_at"], pull["state"] = datetime.now(UTC).isoformat(), "closed"
        return before

    # What GitHub starts then

    def run_push(self, before):
        """Run the pipeline for a push to main, whose former commit was `before`."""
        sha = self.sha("main")
        event = {"ref": "refs/heads/main", "before": before, "after": sha}
        return self.act("pipeline.yml", "push", "main", event)

    def run_pull(self, number):
        """Run the pipeline on a pull request, merged with main as it is now; a fork's gets no secrets."""
        pull = self.pulls[number]
        self.site.ok("git", "fetch", "--quiet", "origin", "main", pull["head"]["sha"])
        self.site.ok("git", "checkout", "--quiet", "--force", "--detach", "origin/main")
        self.site.ok("git", "merge", "--quiet", "--no-ff", "--message", "Merge", pull["head"]["sha"])
        self.site.ok("git", "push", "--quiet", "--force", "origin", f"HEAD:refs/pull/{number}/merge")
        event = {"action": "opened", "number": number, "pull_request": pull}
        return self.act("pipeline.yml", "pull_request", pull["head"]["ref"], event, pull=pull)

    def run_dispatched(self):
        """Run what the API was asked to run, the oldest first."""
        workflow, branch, inputs = self.dispatched.pop(0)
        return self.act(workflow, "workflow_dispatch", branch, {"inputs": inputs, "ref": f"refs/heads/{branch}"})

    def run_after(self, run, workflow="fork-comment.yml", action="completed"):
        """Run a workflow that an event of another run starts: the one that comments on what a fork's run made."""
        return self.act(workflow, "workflow_run", "main", {"action": action, "workflow_run": run.json()})

    def run_pending(self, number, action="requested"):
        """Run the workflow that says in the comment that the newest commit of a pull request is being checked."""
        head = self.pulls[number]["head"]
        run = Run(99, "pipeline.yml", "pull_request", head["ref"], head["sha"], head["repo"]["full_name"], self.folder)
        return self.run_after(run, "pending.yml", action)

    def act(self, workflow, event, branch, payload, *, pull=None, job=None):
        """Run a workflow by act, and return the run."""
        if not pull:
            self.site.ok("git", "fetch", "--quiet", "origin")
            self.site.ok("git", "checkout", "--quiet", "--force", "-B", branch, f"origin/{branch}")
        repository = pull["head"]["repo"]["full_name"] if pull else REPOSITORY
        sha = pull["head"]["sha"] if pull else self.sha(f"refs/heads/{branch}")
        number = next(self.numbers)
        run = Run(number, workflow, event, branch, sha, repository, self.folder / "artifacts" / str(number))
        workflows = self.site.folder / ".github" / "workflows"
        for path in workflows.iterdir():  # act does not know `queue`
            path.write_text(re.sub(r"(?m)^  queue: .*\n", "", path.read_text(encoding="utf-8")))
        file = self.folder / "event.json"
        described = {"full_name": REPOSITORY, "default_branch": "main", "private": False}
        file.write_text(json.dumps(payload | {"repository": described}))
        command = [
            *(str(Path(sys.prefix, "bin", "act")), event, "--workflows", str(workflows / workflow)),
            *("--eventpath", str(file), "--json", "--actor", "alice", "--platform", "ubuntu-latest=-self-hosted"),
            *("--action-offline-mode", "--pull=false", "--no-skip-checkout", "--concurrent-jobs", "1"),
            *("--action-cache-path", str(self.folder / "act"), "--no-cache-server"),
            *("--env", f"GITHUB_REPOSITORY={REPOSITORY}", "--env", f"GITHUB_RUN_ID={run.id}"),
            *("--secret", f"GITHUB_TOKEN={TOKEN}"),
            *(("--job", job) if job else ()),
            *self.local_actions(),
        ]
        for name, value in self.variables.items():
            command += ["--var", f"{name}={value}"]
        for name, value in self.secrets.items() if repository == REPOSITORY else ():
            command += ["--secret", f"{name}={value}"]
        log = self.folder / f"{run.id}.log"
        # act hands its whole environment to the steps
        environment = {
            "ACT_DISABLE_VERSION_CHECK": "1",
            "FAKE_APP_TOKEN": APP_TOKEN,
            "FAKE_ARTIFACTS": str(self.folder / "artifacts"),
            "FAKE_ENVIRONMENT": str(self.environment),
            "FAKE_GITHUB_URL": self.url,
            "FAKE_LOG": str(log),
            "FORK_ON_TERMINAL": "true",
            "FAKE_ROLES": json.dumps({ROLE: S3_KEYS, BRANCH_ROLE: S3_BRANCH_KEYS}),
            "HOME": str(self.folder / "runner"),
            "OMP_NUM_THREADS": "1",
            "UNMEASURED": "true",
            "PATH": f"{STAND_INS / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        }
        with log.open("w") as printed:
            done = subprocess.run(
                command, cwd=self.site.folder, env=environment, stdout=printed, stderr=subprocess.STDOUT, check=False
            )
        read_log(log.read_text(), run)
        assert run.jobs or done.returncode == 0, log.read_text()[-3000:]
        shutil.rmtree(self.folder / "act", ignore_errors=True)
        self.runs.append(run)
        return run

    def local_actions(self):
        """Yield the options by which act takes the stand-ins for all actions that are used."""
        for file in (self.site.folder / ".github").rglob("*.yml"):
            content = YAML(typ="safe").load(file)
            for steps in [job.get("steps", []) for job in content.get("jobs", {}).values()] + [
                content.get("runs", {}).get("steps", [])
            ]:
                for step in steps:
                    name, _, commit = step.get("uses", "").partition("@")
                    if commit:
                        assert (STAND_INS / name / "action.yml").exists(), f"no stand-in for {name}"
                        yield from ("--local-repository", f"{name}@{commit}={STAND_INS / name}")

    # What the API answers

    def answer(self, method, path, query, body):  # noqa: PLR0911, PLR0912  # one for each thing that can be asked
        short = path.removeprefix(f"/repos/{REPOSITORY}")
        match [method, *short.strip("/").split("/")]:
            case ["POST", "graphql"] if "number" in body:
                pull = self.pulls[body["number"]]
                reviewed = {"author": pull["user"], "reviews": {"nodes": pull["reviews"]}}
                return 200, {"data": {"repository": {"pullRequest": reviewed}}}
            case ["POST", "graphql"] if "branch" in body:
                found = [pull for pull in self.pulls.values() if pull["head"]["ref"] == body["branch"]]
                return 200, {"data": {"repository": {"pullRequests": {"nodes": [proposed(pull) for pull in found]}}}}
            case ["POST", "graphql"]:
                number = int(body["id"].removeprefix("PR_"))
                self.pulls[number]["auto_merge"] = {"merge_method": "squash"}
                return 200, {"data": {}}
            case ["GET", "commits", sha, "pulls"]:
                return 200, [
                    pull for pull in self.pulls.values() if sha in (pull["merge_commit_sha"], pull["head"]["sha"])
                ]
            case ["GET", "actions", "workflows", name, "runs"]:
                return 200, {"workflow_runs": [run.json() for run in self.found_runs(name, query)]}
            case ["GET", "actions", "workflows", "retrain.yml"]:
                return 200, {"created_at": self.retrain_created.isoformat()}
            case ["POST", "actions", "workflows", name, "dispatches"]:
                self.dispatched.append((name, body["ref"], body["inputs"]))
                return 200, {}
            case ["GET", "actions", "runs", number, "jobs"]:
                jobs = next(run.jobs for run in self.runs if run.id == int(number))
                return 200, {
                    "jobs": [{"name": name, "conclusion": result, "steps": []} for name, result in jobs.items()]
                }
            case ["GET", "actions", "runs", number]:
                return 200, next(run.json() for run in self.runs if run.id == int(number))
            case ["GET", "pulls"]:
                branch, state = query.get("head", [":"])[0].partition(":")[2], query["state"][0]
                found = [pull for pull in reversed(self.pulls.values()) if branch in ("", pull["head"]["ref"])]
                return 200, [pull for pull in found if state in ("all", pull["state"])]
            case ["GET", "git", "matching-refs", *prefix]:
                found = self.git("for-each-ref", "--format=%(refname)", f"refs/{'/'.join(prefix)}").split()
                return 200, [{"ref": ref} for ref in found]
            case ["DELETE", "git", *ref]:
                self.git("update-ref", "-d", "/".join(ref))
                return 204, {}
            case ["POST", "pulls"]:
                head = body["head"]
                number = self.create_pull(head, f"refs/heads/{head}", title=body["title"], body=body["body"])
                return 201, self.pulls[number]
            case ["GET", "pulls", number] if int(number) in self.pulls:
                return 200, self.pulls[int(number)]
            case ["PATCH", "pulls", number]:
                self.pulls[int(number)] |= body
                return 200, self.pulls[int(number)]
            case ["PUT", "pulls", number, "merge"]:
                if body["sha"] not in (None, self.pulls[int(number)]["head"]["sha"]):
                    return 409, {"message": "Head branch was modified. Review and try the merge again."}
                self.merge(int(number))
                return 200, {"merged": True}
        return super().answer(method, path, query, body)

    def found_runs(self, name, query):
        """Return the runs of a workflow that a query asks for, the newest first."""
        wanted = {key: query[key][0] for key in ("branch", "head_sha", "event", "status") if key in query}
        for run in reversed(self.runs):
            has = {"branch": run.branch, "head_sha": run.sha, "event": run.event, "status": run.conclusion}
            if run.workflow == name and wanted.items() <= has.items():
                yield run


def proposed(pull):
    """Return what GraphQL says of a pull request, whose base nobody has changed."""
    is_of_fork = pull["head"]["repo"]["full_name"] != REPOSITORY
    return {"baseRefName": pull["base"]["ref"], "isCrossRepository": is_of_fork, "timelineItems": {"nodes": []}}


def read_log(printed, run):
    """Fill in a run from what act printed, one JSON object a line."""
    for line in printed.splitlines():
        if not line.startswith("{"):
            continue
        said = json.loads(line)
        job = said.get("jobID")
        if said.get("raw_output"):
            run.logs[job] = run.logs.get(job, "") + said["msg"]
        elif said.get("command") == "summary":
            run.summary += said["content"]
        elif said.get("command") in ("notice", "warning", "error"):
            run.annotations.append(f"{said['command']}: {said['arg']}")
        if "jobResult" in said:
            run.jobs[job] = said["jobResult"]


class GitOverHTTP(BaseHTTPRequestHandler):
    """Git's own server: whoever asks may read, and only who has a token of this repository may push."""

    protocol_version = "HTTP/1.1"

    def __init__(self, root, *given):
        self.root = root
        super().__init__(*given)

    def handle_request(self):
        asked = urlsplit(self.path)
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        _, _, secret = self.headers.get("Authorization", "").partition("Basic ")
        token = base64.b64decode(secret).decode().partition(":")[2]
        pushes = "git-receive-pack" in (asked.path.rpartition("/")[2], parse_qs(asked.query).get("service", [""])[0])
        if pushes and token not in (TOKEN, APP_TOKEN):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="GitHub"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        owner, name, *rest = asked.path.strip("/").split("/")
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": "/" + "/".join([owner, f"{name.removesuffix('.git')}.git", *rest]),
            "QUERY_STRING": asked.query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "HTTP_GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_USER": "app" if token == APP_TOKEN else "actions",
        }
        done = subprocess.run(["git", "http-backend"], input=content, env=environment, capture_output=True, check=False)
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = handle_request  # noqa: N815  # as http.server calls them

    def log_message(self, *_):
        """Say nothing."""
