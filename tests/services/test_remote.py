"""The DVC remote in a real S3, SeaweedFS: what it is good for, and what happens when it fails."""

import os
import shutil
import signal
import socket
import subprocess
import threading
from types import SimpleNamespace

from tests.conftest import Clone
from tests.servers import BUCKET, S3_KEYS, S3_READING_KEYS, free_ports, s3_client, s3_server

import pytest
from ruamel.yaml import YAML

PUSH = ("python", "-m", "ci.remote", "push")
FETCH = ("python", "-m", "ci.remote", "fetch")
TRAIN, MODEL = "data/features/train.parquet", "models/churn.skops"
MADE = ("cache", "tmp", "raw", "features", "predictions", "models", ".cache")
LOOK = "look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."


class Remote:
    """Part of the bucket that is a DVC remote, and machines that use it."""

    def __init__(self, address, prefix, origin, folder):
        self.s3, self.prefix, self.origin, self.folder = s3_client(address), prefix, origin, folder
        self.environment = {"AWS_ENDPOINT_URL_S3": address, "AWS_DEFAULT_REGION": "us-east-1"}
        self.environment |= {"AWS_EC2_METADATA_DISABLED": "true", "DVC_REMOTE_URL": f"s3://{BUCKET}/{prefix}"}

    def objects(self):
        """Return the content of each object, by name below the remote."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{self.prefix}/")
        names = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        read = {name: self.s3.get_object(Bucket=BUCKET, Key=name)["Body"].read() for name in names}
        return {name.removeprefix(f"{self.prefix}/"): content for name, content in read.items()}

    def write(self, name, content):
        self.s3.put_object(Bucket=BUCKET, Key=f"{self.prefix}/{name}", Body=content)

    def machine(self, name, made=False):
        """Return another checkout, which has this remote; with what was made, or without."""
        ignore = None if made else lambda folder, names: set(MADE) & set(names) if "tests" not in folder else set()
        shutil.copytree(self.origin.folder, self.folder / name / "repository", symlinks=True, ignore=ignore)
        machine = Clone(self.folder / name / "repository")
        machine.environment |= self.environment | S3_KEYS
        url = self.environment["DVC_REMOTE_URL"]
        (machine.folder / ".dvc" / "config.local").write_text(
            f"[core]\n    remote = ci\n['remote \"ci\"']\n    url = {url}\n    verify = true\n"
        )
        return machine


@pytest.fixture(scope="module")
def server(finished, environment_of_links, tmp_path_factory):
    """An S3 in which a machine has pushed what it made."""
    folder = tmp_path_factory.mktemp("s3")
    origin = tmp_path_factory.mktemp("origin") / "repository"
    shutil.copytree(finished.folder, origin, symlinks=True)
    (origin / ".venv").symlink_to(environment_of_links)
    origin = Clone(origin)
    origin.commit("Made")
    with s3_server(folder) as address:
        whole = Remote(address, "whole", origin, tmp_path_factory.mktemp("whole"))
        origin.environment |= whole.environment | S3_KEYS
        whole.machine("first", made=True).ok(*PUSH)
        yield SimpleNamespace(address=address, origin=origin, whole=whole)


@pytest.fixture
def empty(server, tmp_path):
    return Remote(server.address, tmp_path.name, server.origin, tmp_path)


@pytest.fixture
def remote(server, empty):
    """A remote of its own, with all that was pushed."""
    for name, content in server.whole.objects().items():
        empty.write(name, content)
    return empty


def path_of(machine, output):
    """Return where an output lies in a cache or a remote."""
    stages = YAML(typ="safe").load(machine.text("dvc.lock"))["stages"].values()
    (md5,) = {out["md5"] for stage in stages for out in stage["outs"] if out["path"] == output}
    return f"files/md5/{md5[:2]}/{md5[2:]}"


def flipped(content):
    """Return the same bytes but for one in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


def ran(printed):
    return [line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage")]


def same(machine, origin, *paths):
    return all((machine.folder / path).read_bytes() == (origin.folder / path).read_bytes() for path in paths)


def test_what_one_machine_pushed_another_takes_over_and_does_not_train_again(server, empty):
    one, other = empty.machine("one", made=True), empty.machine("other")
    (one.folder / ".dvc" / "config.local").unlink()
    one.ok("make", "remote", "push")
    assert "verify = true" in one.text(".dvc/config.local")
    assert S3_KEYS["AWS_SECRET_ACCESS_KEY"] not in one.text(".dvc/config.local")
    other.ok("python", "-m", "churn", "lock", "drop")  # so that only the run-cache knows what train made
    other.ok("make", "pull")
    assert ran(other.ok("dvc", "repro", "--pull", "gate")) == ["validate", "evaluate", "gate"]  # these run each time
    assert same(other, server.origin, TRAIN, MODEL, "metrics/rows.json")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, f" refuses these credentials (SignatureDoesNotMatch): {LOOK}"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, f" refuses these credentials (InvalidAccessKeyId): {LOOK}"),
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, " asks for credentials, and there are none: "),
        ({"AWS_ENDPOINT_URL_S3": "nobody listens"}, " cannot be reached (nothing answers there): "),
    ],
    ids=["wrong secret", "unknown key", "no key", "server down"],
)
@pytest.mark.parametrize("command", [FETCH, PUSH], ids=["fetch", "push"])
def test_a_remote_that_cannot_be_used_is_one_sentence_that_says_why(server, refused, command, change, told):
    """Fault in the DVC remote: the key is wrong, unknown or missing, or the server is down.

    Nothing is transferred. The message has the reason and the variables to check.
    """
    if "AWS_ENDPOINT_URL_S3" in change:
        change = {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{free_ports(1)[0]}", "AWS_MAX_ATTEMPTS": "1"}
    kept = refused.environment
    refused.environment = {name: value for name, value in (kept | change).items() if value is not None}
    done = refused.run(*command)
    refused.environment = kept
    assert done.returncode == 1
    (said,) = done.stdout.splitlines()
    assert said.startswith(f"remote: s3://{BUCKET}/whole{told}")


def test_a_remote_that_accepts_and_never_answers_is_given_up(refused):
    """Fault in the DVC remote: the remote accepts and never answers.

    It is given up after five attempts of 15 seconds (`AWS_MAX_ATTEMPTS`): `… cannot be reached (no answer in time):
    …`
    """
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = refused.run(*FETCH, AWS_ENDPOINT_URL_S3=address, AWS_MAX_ATTEMPTS="1")  # of 15 seconds; five without it
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert done.stdout.startswith(f"remote: s3://{BUCKET}/whole cannot be reached (no answer in time): ")


@pytest.fixture(scope="module")
def refused(server):
    return server.whole.machine("refused", made=True)


def test_a_bucket_that_does_not_exist_is_named(refused):
    """Fault in the DVC remote: the bucket does not exist.

    Nothing is transferred. The message names it.
    """
    config = refused.folder / ".dvc" / "config.local"
    before = config.read_text()
    config.write_text(before.replace(f"s3://{BUCKET}/whole", "s3://elsewhere/whole"))
    done = refused.run(*PUSH)
    config.write_text(before)
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert done.stdout.startswith("remote: s3://elsewhere/whole does not exist: look at DVC_REMOTE_URL ")


def test_without_a_remote_it_says_how_to_name_one(refused):
    config = refused.folder / ".dvc" / "config.local"
    before = config.read_text()
    config.unlink()
    done = refused.run(*FETCH)
    config.write_text(before)
    assert done.stdout == "remote: there is none yet: run `make remote` first (docs/ci.md).\n"
    assert done.returncode == 1


def test_who_may_only_read_fetches_and_cannot_push(server, remote, empty):
    """Fault in the DVC remote: the key may only read.

    `make pull` works. `make push` fails: `… takes nothing from these credentials (AccessDenied)`
    """
    reader = remote.machine("reader")
    reader.environment |= S3_READING_KEYS
    reader.ok(*FETCH)
    reader.ok("dvc", "checkout", "--quiet", "--allow-missing")
    assert same(reader, server.origin, TRAIN, MODEL)
    before = remote.objects()
    done = reader.run(*PUSH)
    assert (done.returncode, done.stdout) == (
        1,
        f"remote: s3://{BUCKET}/{remote.prefix} takes nothing from these credentials (AccessDenied): {LOOK}\n",
    )
    assert remote.objects() == before


def test_a_branch_pushes_objects_without_runs_and_nobody_fetches_a_run_that_was_planted_there(server, empty):
    """Fault in CI and the judge: a branch pushes with a false run in its cache.

    The push leaves out the run-cache.
    """
    one, other = empty.machine("one", made=True), empty.machine("other")
    for machine in (one, other):
        with (machine.folder / ".dvc" / "config.local").open("a") as config:
            config.write(
                f"['remote \"branch\"']\n    url = s3://{BUCKET}/{empty.prefix}/branches/7\n    verify = true\n"
            )
    one.ok(*PUSH, "branch")
    pushed = empty.objects()
    assert f"branches/7/{path_of(one, MODEL)}" in pushed
    assert {name.split("/")[2] for name in pushed} == {"files"}
    for name, content in server.whole.objects().items():
        if name.startswith("runs/"):
            empty.write(f"branches/7/{name}", content)
    other.ok(*FETCH)
    assert list((other.folder / ".dvc" / "cache").glob("runs/*/*")) == []


class Proxy:
    """Passes `limit` bytes of each request on to a server, then sets `reached` and, if told so, cuts the connection."""

    def __init__(self, address, limit, cut):
        self.port, self.limit, self.cut, self.reached = int(address.rpartition(":")[2]), limit, cut, threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:  # closed
                return
            server = socket.create_connection(("127.0.0.1", self.port))
            threading.Thread(target=self.copy, args=(server, client), daemon=True).start()
            threading.Thread(target=self.copy, args=(client, server, self.limit), daemon=True).start()

    def copy(self, source, target, limit=None):
        copied = 0
        try:
            while part := source.recv(16_384):
                copied += len(part)
                if limit and copied > limit:
                    self.reached.set()
                    if not self.cut:
                        continue  # the rest comes to nothing, and the client waits
                    break
                target.sendall(part)
            source.shutdown(socket.SHUT_RDWR)
            target.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def test_a_push_that_was_killed_half_way_leaves_no_half_object_and_is_completed_by_the_next(server, empty):
    """Fault in the DVC remote: a push is killed.

    The remote has whole objects only. The next push completes it.
    """
    machine, proxy = (
        empty.machine("killed", made=True),
        Proxy(server.address, 200_000, cut=False),
    )  # the model is larger
    environment = machine.environment | {"AWS_ENDPOINT_URL_S3": proxy.address}
    process = subprocess.Popen(
        PUSH, cwd=machine.folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    )
    assert proxy.reached.wait(60)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    proxy.listener.close()
    whole, half = server.whole.objects(), empty.objects()
    assert path_of(machine, MODEL) not in half
    assert half.items() < whole.items()
    machine.ok(*PUSH)
    assert empty.objects() == whole


def test_a_push_whose_connections_drop_says_so_and_is_completed_by_the_next(server, empty):
    """Fault in the DVC remote: the connections of a push drop.

    It fails: `… cannot be reached …: do it again; nothing here is lost`. The next push completes it.
    """
    machine, proxy = empty.machine("cut", made=True), Proxy(server.address, 200_000, cut=True)
    done = machine.run(*PUSH, AWS_ENDPOINT_URL_S3=proxy.address, AWS_MAX_ATTEMPTS="1")
    proxy.listener.close()
    assert done.returncode == 1
    (said,) = done.stdout.splitlines()
    assert said.startswith(f"remote: s3://{BUCKET}/{empty.prefix} cannot be reached (")
    assert said.endswith("and do it again; nothing here is lost.")
    whole = server.whole.objects()
    assert empty.objects().items() < whole.items()
    machine.ok(*PUSH)
    assert empty.objects() == whole


@pytest.fixture(scope="module")
def story(server, tmp_path_factory):
    """A remote in which the training table is damaged and the model is missing; a machine fetches, runs, pushes."""
    remote = Remote(server.address, "story", server.origin, tmp_path_factory.mktemp("story"))
    table, model = path_of(server.origin, TRAIN), path_of(server.origin, MODEL)
    for name, content in server.whole.objects().items():
        if name != model:
            remote.write(name, flipped(content) if name == table else content)
    machine = remote.machine("machine")
    fetched = machine.ok(*FETCH)
    machine.ok("dvc", "checkout", "--quiet", "--allow-missing")
    taken = (machine.folder / TRAIN).exists()
    made = machine.ok("dvc", "repro", "--pull", "train")
    return SimpleNamespace(
        remote=remote, machine=machine, fetched=fetched, taken=taken, made=made, pushed=machine.ok(*PUSH), table=table
    )


def test_a_damaged_object_is_named_and_not_taken(story):
    """Fault in the DVC remote: an object in the remote is damaged.

    `make pull` names it and does not use it.
    """
    where = f"{BUCKET}/{story.remote.prefix}/{story.table}"
    assert f"remote: {TRAIN} is damaged in the remote ({where}) and was not taken; " in story.fetched
    assert not story.taken


def test_a_missing_object_is_named(story):
    """Fault in the DVC remote: an object is missing in the remote.

    `make pull` names it. `dvc repro --pull` runs its stage, and `make push` restores it.
    """
    assert f"remote: {MODEL} is missing; `dvc repro --pull` makes it anew, then `make push`." in story.fetched


def test_what_is_damaged_or_missing_is_made_anew_as_it_was(story, server):
    assert ran(story.made) == ["prepare", "train"]
    assert same(story.machine, server.origin, TRAIN, MODEL)


def test_the_next_push_replaces_what_is_damaged_in_the_remote(story, server):
    """Fault in the DVC remote: the same, and another machine has the object.

    Its `make push` replaces the damaged one.
    """
    where = f"{BUCKET}/{story.remote.prefix}/{story.table}"
    assert f"remote: {TRAIN} was damaged in the remote ({where}) and is replaced." in story.pushed
    there = story.remote.objects()
    assert server.whole.objects().items() <= there.items()


def test_an_entry_of_the_run_cache_that_was_cut_short_does_not_stop_the_pipeline(remote):
    """Fault in the DVC remote: an entry of the run-cache is truncated.

    It is deleted, and its stage may run again. Without the right to delete, the message asks for it.
    """
    (name,) = [name for name, content in remote.objects().items() if b"cmd: python -m stages.prepare" in content]
    content = remote.objects()[name]
    remote.write(name, content[: content.index(b"outs:")])
    machine = remote.machine("machine")
    reading = machine.run(*FETCH, **S3_READING_KEYS)
    assert reading.returncode == 1
    assert (
        f"remote: {BUCKET}/{remote.prefix}/{name} is damaged, and these credentials may not delete it" in reading.stdout
    )
    assert f"{name} was damaged and is deleted; its stage may run again." in machine.ok(*FETCH)
    machine.ok("python", "-m", "churn", "lock", "drop")
    assert ran(machine.ok("dvc", "repro", "--pull", "prepare")) == ["prepare"]


def test_what_is_damaged_in_this_machines_own_cache_is_neither_trained_on_nor_pushed(server, remote, tmp_path):
    """Fault in the DVC remote: an object in the local cache is damaged.

    No stage reads it, and no push sends it. The message names two files to delete, then `dvc repro --pull`.
    """
    machine = remote.machine("machine", made=True)
    cached = machine.folder / ".dvc" / "cache" / path_of(machine, TRAIN)
    cached.chmod(0o644)
    cached.write_bytes(flipped(cached.read_bytes()))
    cached.chmod(0o444)  # DVC takes what is read-only for whole
    (machine.folder / TRAIN).unlink()
    machine.ok("dvc", "checkout", TRAIN)
    assert not same(machine, server.origin, TRAIN)
    machine.replace("params.yaml", "seed: 42", "seed: 43")
    done = machine.run("dvc", "repro", "train")
    assert done.returncode == 255
    relative = cached.relative_to(machine.folder)
    assert (
        f"train: {TRAIN} is damaged: its bytes are not those that dvc.lock names. Delete it and {relative}, "
        in done.stdout
    )

    remote.s3.delete_object(Bucket=BUCKET, Key=f"{remote.prefix}/{path_of(server.origin, TRAIN)}")
    pushed = machine.run(*PUSH)
    assert pushed.returncode == 1
    assert (
        f"remote: {TRAIN} is damaged in DVC's cache, and nothing was pushed: delete it and {relative}, "
        in pushed.stdout
    )

    (machine.folder / TRAIN).unlink()
    cached.unlink()
    assert ran(machine.ok("dvc", "repro", "--pull", "prepare")) == ["prepare"]
    assert same(machine, server.origin, TRAIN)


def test_a_full_disk_is_told_and_what_came_over_whole_is_kept(server, remote, small_disk):
    """Fault in the DVC remote: the disk is full during a pull.

    Whole objects stay: `the disk is full: make room, and do it again`
    """
    machine = remote.machine("machine")
    cache = machine.folder / ".dvc" / "cache"
    small_disk(cache, 8192)
    machine.ok("dvc", "fetch", "prepare")
    used = shutil.disk_usage(cache).used >> 10
    small_disk(cache, used + 256)  # too little for the model
    done = machine.run(*FETCH)
    assert (done.returncode, done.stdout) == (
        1,
        "remote: the disk is full: make room, and do it again; what has come over whole is kept.\n",
    )
    assert (cache / path_of(machine, TRAIN)).exists()
    assert not (cache / path_of(machine, MODEL)).exists()
    small_disk(cache, 8192)
    machine.ok(*FETCH)
    machine.ok("dvc", "checkout", "--quiet", "--allow-missing")
    assert same(machine, server.origin, TRAIN, MODEL)


def test_a_disk_that_is_full_when_a_model_is_written_leaves_no_half_model(server, small_disk, tmp_path):
    """Fault in the DVC remote: the disk is full when train writes the model.

    train fails and leaves no partial file.
    """
    remote = Remote(server.address, "whole", server.origin, tmp_path)
    machine = remote.machine("machine", made=True)
    shutil.rmtree(machine.folder / "models")
    small_disk(machine.folder / "models", 256)
    done = machine.run("python", "-m", "stages.train")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("train: No space left on device")
    assert list((machine.folder / "models").iterdir()) == []


def test_a_disk_that_is_full_when_dvc_stores_a_model_loses_nothing(server, small_disk, tmp_path):
    """Fault in the DVC remote: the disk is full when DVC stores an output.

    DVC prints `failed to reproduce 'train': [Errno 28] No space left on device`. The next `dvc repro` goes on from
    there.
    """
    machine = Remote(server.address, "whole", server.origin, tmp_path).machine("machine")
    cache = machine.folder / ".dvc" / "cache"
    small_disk(cache, 300)
    done = machine.run("dvc", "repro", "train")
    assert done.returncode == 255
    assert done.stdout.splitlines()[-1].endswith("failed to reproduce 'train': [Errno 28] No space left on device")
    assert not (cache / path_of(server.origin, MODEL)).exists(), "DVC has half of it, under no name that it reads"
    small_disk(cache, 8192)
    assert ran(machine.ok("dvc", "repro", "train")) == ["train"]
    assert same(machine, server.origin, TRAIN, MODEL)
    assert (cache / path_of(server.origin, MODEL)).read_bytes() == (machine.folder / MODEL).read_bytes()
