"""register against a real `mlflow server` on PostgreSQL, with its files in S3, and all that can go wrong between."""

import json
import logging
import re
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import churn.registry.client
from churn.config.contract import load_contract
from churn.config.params import Train
from churn.core.errors import StageError
from churn.core.files import sha256_of
from churn.modeling.model import read_table, save_model
from churn.modeling.training import build_classifier, build_model
from churn.registry.champion import move, moves_of
from tests.conftest import Clone
from tests.servers import BUCKET, proxy, s3_client
from tests.services.registering import Registration, named, registered, replace
from tests.serving import assert_mlflow_predicts_the_scores

import mlflow
import pandas as pd
import psycopg2
import pytest

INTERESTING = {  # what register has asked for when it is killed, and whether the registry has done it
    "its run": ("POST", r"/runs/create$"),
    "its metrics": ("POST", r"/runs/log-batch$"),
    "its file": ("PUT", r"/model\.skops$"),
    "its version": ("POST", r"/model-versions/create$"),
    "its being verified": ("POST", r"/model-versions/set-tag$"),
    "the move in writing": ("POST", r"/registered-models/set-tag$"),
    "the move": ("POST", r"/registered-models/alias$"),
}


@pytest.fixture
def client(server):
    mlflow.set_tracking_uri(server)
    return mlflow.MlflowClient()


@pytest.fixture
def faulty(server):
    """A proxy before the server."""
    with proxy(server) as one:
        yield one


def versions(client, name):
    return sorted(int(version.version) for version in client.search_model_versions(f"name='{name}'"))


def whole(client, name):
    """Assert that the registry holds one version, verified, champion by one move, and no run that seems to go on."""
    (version,) = client.search_model_versions(f"name='{name}'")
    model = client.get_registered_model(name)
    assert version.tags["verified"] == "true"
    assert {alias: str(number) for alias, number in model.aliases.items()} == {"champion": str(version.version)}
    assert [(move["from"], move["to"]) for move in moves_of(model)] == [("none", str(version.version))]
    runs = client.search_runs([client.get_experiment_by_name(name).experiment_id])
    assert [run.info.run_id for run in runs if "set_aside" not in run.data.tags] == [version.run_id]
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}
    return version


def once(method, path, do):
    """Return a fault for the first request that fits, and no other."""
    done = []

    def fault(asked, where):
        if asked == method and re.search(path, where.partition("?")[0]) and not done:
            done.append(where)
            return do
        return None

    return fault


def test_a_model_is_registered_once_and_served_from_there_and_no_password_is_printed(
    clone, server, client, monkeypatch, tmp_path
):
    with_password = server.replace("//", "//me:hunter2@")
    for said in ("version 1 is champion", "version 1 (there already) is champion"):
        printed = clone.ok("python", "-m", "stages.register", MLFLOW_TRACKING_URI=with_password)
        assert said in printed
        assert "hunter2" not in printed
    assert not (clone.folder / "mlflow.db").exists()
    monkeypatch.chdir(clone.folder)
    assert mlflow.pyfunc.load_model("models:/churn@champion").metadata.get_input_schema() is not None
    assert_mlflow_predicts_the_scores(clone, server, tmp_path)
    whole(client, "churn")


def test_two_registrations_at_once_make_one_version(clone, faulty, client):
    """Fault in the registry: two registrations of one model run at the same time.

    They make one version and one move. Both succeed.

    Both have found none, and create theirs at the same moment.
    """
    both, met = threading.Barrier(2, timeout=60), threading.Event()

    def together(method, path):
        if method == "POST" and path.endswith("/model-versions/create") and not met.is_set():
            both.wait()
            met.set()  # where the database refuses one of the two, it is tried again, alone

    faulty.fault = together
    named(clone, "two")
    other = Clone(shutil.copytree(clone.folder, clone.folder.parent / "other" / "repository", symlinks=True))
    two = [Registration(one, faulty.address) for one in (clone, other)]
    for status, printed in [one.end() for one in two]:
        assert status == 0, printed
        assert "register: two version 1 is champion" in printed or "register: two version 1 (there" in printed
    assert whole(client, "two").version in (1, "1")


def test_a_tag_that_another_registration_makes_at_the_same_moment_is_no_failure(clone, postgres, faulty, client):
    """The other has made its row when the server looks for one, and commits it once the server waits for it."""
    (url, password), waited = postgres, threading.Event()
    row = "INSERT INTO model_version_tags (workspace, name, version, key, value)"
    row += " VALUES ('default', 'same', 1, 'verified', 'true')"

    def hold():
        with psycopg2.connect(url, password=password["PGPASSWORD"]) as other, other.cursor() as cursor:
            cursor.execute(row)
            held.set()
            while not waited.is_set():
                cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
                if cursor.fetchone() != (0,):
                    waited.set()

    held, holder = threading.Event(), threading.Thread(target=hold, daemon=True)

    def make_it_first(method, path):
        if method == "POST" and path.endswith("/model-versions/set-tag") and not held.is_set():
            holder.start()
            assert held.wait(60)

    faulty.fault = make_it_first
    named(clone, "same")
    assert "register: same version 1 is champion" in registered(clone, faulty.address)
    assert waited.is_set(), "nobody waited"
    whole(client, "same")


@pytest.mark.parametrize("point", INTERESTING)
def test_a_registration_that_was_killed_is_completed_by_the_next(clone, server, faulty, client, point):
    """Fault in the registry: register is killed at any point.

    The next run completes it with one version and one move.
    """
    name = point.replace(" ", "_")
    named(clone, name)
    killed = threading.Event()

    def kill():
        registration.kill()
        killed.set()

    faulty.fault = once(*INTERESTING[point], kill)
    registration = Registration(clone, faulty.address)
    assert killed.wait(60), registration.end()
    assert registration.process.returncode == -9
    before = client.search_registered_models(f"name='{name}'")[0]
    assert f"register: {name} version 1 " in registered(clone, server)
    assert moves_of(before) == moves_of(client.get_registered_model(name)) or not moves_of(before)
    assert whole(client, name).version in (1, "1")


def test_each_request_may_fail_once_in_any_way(clone, faulty, client):
    """Fault in the registry: the registry answers 5xx, drops connections, or loses answers.

    Each request is tried six times in 30 seconds, and duplicates are removed. Each retry prints a warning.

    Answered by 503, not answered, or done without an answer: so what makes something makes it twice.
    """
    asked, ways = set(), ["503", "lose", "drop"]

    def fail(method, path):
        request = (method, re.sub(r"[0-9a-f]{32}|\?.*", "", path))
        if request in asked:
            return None
        asked.add(request)
        if path.endswith(("/create", "runs/create")):
            return "lose"
        if method == "GET" and path.endswith("model.skops"):
            return "cut"
        return ways[len(asked) % 3]

    faulty.fault = fail
    said = registered(named(clone, "flaky"), faulty.address)
    assert re.match(r"register: flaky version \d is champion: the first", said)
    assert len(asked) > 20
    whole(client, "flaky")


@pytest.mark.parametrize("way", ["503", "drop"])
def test_a_server_that_stops_between_two_calls_is_one_sentence_and_nothing_is_lost(clone, server, faulty, client, way):
    """Fault in the registry: the registry stops during a registration.

    register fails: `register: the registry at … failed: it cannot be reached.` The next run completes it.
    """
    named(clone, f"stopped_{way}")
    stopped = []

    def stop(method, path):
        if path.endswith("/runs/log-batch"):
            stopped.append(path)
        return way if stopped else None

    faulty.fault = stop
    status, printed = Registration(clone, faulty.address, MLFLOW_HTTP_REQUEST_MAX_RETRIES="2").end()
    assert status == 1
    said = [line for line in printed.splitlines() if not line.startswith(("Retrying", "WARNING"))]
    assert len(said) == 1, printed
    assert said[0].startswith(f"register: the registry at {faulty.address} failed: ")
    assert versions(client, f"stopped_{way}") == []
    registered(clone, server)
    whole(client, f"stopped_{way}")


def test_a_server_that_hangs_is_given_up_in_time(clone, faulty, monkeypatch):
    """Fault in the registry: the registry accepts requests and never answers.

    register fails. Each request is given up after a minute, six times.
    """
    faulty.fault = lambda method, path: time.sleep(30)
    settings = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "1", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    started = time.monotonic()
    status, printed = Registration(clone, faulty.address, **settings).end()
    assert status == 1
    assert f"register: the registry at {faulty.address} failed: " in printed
    assert time.monotonic() - started < 20


def test_all_requests_together_have_a_limit(faulty, monkeypatch):
    """Fault in the registry: many requests to the registry are slow.

    register fails after 15 minutes: `… took longer than 900 seconds; …`
    """
    faulty.fault = lambda method, path: time.sleep(5)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", faulty.address)
    monkeypatch.setattr(churn.registry.client, "SECONDS", 1.0)
    started = time.monotonic()
    with pytest.raises(StageError, match="took longer than 1 seconds; "), churn.registry.client.registry() as client:
        client.search_registered_models()
    assert time.monotonic() - started < 4
    logging.disable(logging.NOTSET)


# Who follows whom


def test_of_two_moves_at_once_both_go_by_the_one_to_the_higher_version(server, client):
    """Fault in the registry: two different versions move champion at the same time.

    Both follow the move to the higher version.

    The one to version 2 sets the alias first, and the one to version 1 would be the last word.
    """
    client.create_registered_model("moves")
    for _ in range(2):
        client.create_model_version("moves", f"s3://{BUCKET}/nowhere")
    about_to, done, seen = threading.Event(), threading.Event(), []
    with proxy(server) as to_1, proxy(server) as to_2:

        def late(method, path):
            if method == "POST" and path.endswith("/alias") and not about_to.is_set():
                about_to.set()
                seen.append(done.wait(30))

        def early(method, path):
            if method == "POST" and path.endswith("/alias"):
                seen.append(about_to.wait(30))
                return done.set
            return None

        to_1.fault, to_2.fault = late, early
        clients = [mlflow.MlflowClient(one.address, one.address) for one in (to_1, to_2)]
        with ThreadPoolExecutor(2) as pool:
            before = client.get_registered_model("moves")
            ends = list(pool.map(lambda one: move(one[0], before, one[1], "a test"), zip(clients, "12", strict=True)))
    assert seen == [True, True]
    assert ends == ["2", "2"]
    assert champion(client, "moves") == 2
    assert [one["to"] for one in moves_of(client.get_registered_model("moves"))] == ["1", "2"]


def retrained(clone, contract, **parameters):
    """Give the clone another model that has passed the gate: `parameters` are of the gradient boosting."""
    folder = clone.folder
    settings = {"learning_rate": 0.05, "max_iter": 200, "max_leaf_nodes": 8} | parameters
    train = Train(estimator="sklearn.ensemble.HistGradientBoostingClassifier", parameters=settings, seed=1)
    features, labels, _ = read_table(folder / "data/features/train.parquet", contract)
    model = build_model(build_classifier(train), contract).fit(features, labels)
    for name in ("churn.skops", "churn.sha256"):
        (folder / "models" / name).unlink()
    save_model(model, folder / "models/churn.skops")
    features, labels, keys = read_table(folder / "data/features/test.parquet", contract)
    predictions = pd.DataFrame({contract.key: keys, "churn": labels, "score": model.predict_proba(features)[:, 1]})
    replace(folder / "data/predictions/test.parquet", predictions.to_parquet(index=False))
    verdict = json.loads(clone.text("metrics/gate.json"))
    verdict["model_sha256"] = sha256_of(folder / "models/churn.skops")
    (folder / "metrics/gate.json").write_text(json.dumps(verdict))
    clone.ok("dvc", "commit", "--force", "fetch", "prepare", "validate", "train", "evaluate", "gate")
    clone.commit()


def decision(client, name, number):
    return client.get_model_version(name, str(number)).tags["decision"]


def champion(client, name):
    return int(client.get_model_version_by_alias(name, "champion").version)


def test_champion_moves_to_what_is_not_worse_and_back_by_a_rollback(clone, server, client, contract):
    """Fault in the registry: a model is worse than champion.

    It is registered, and champion stays: `… is not champion, version 1 stays: worse in …`. A rollback without a
    former champion fails.
    """
    named(clone, "succession")
    registered(clone, server)
    retrained(clone, contract, max_iter=3)
    said = registered(clone, server)
    assert "version 2 is not champion, version 1 stays: worse in roc_auc of all customers by 0.0" in said
    assert "not champion: worse in roc_auc" in decision(client, "succession", 2)
    assert champion(client, "succession") == 1

    retrained(clone, contract, max_iter=190)
    assert "version 3 is champion: not worse, ROC AUC " in registered(clone, server, GITHUB_ACTOR="somebody")
    assert "against version 1 on 1,452 customers" in decision(client, "succession", 3)

    shown = clone.ok("python", "-m", "churn", "registry", "show", MLFLOW_TRACKING_URI=server)
    lines = {line.split()[0]: line for line in shown.splitlines() if line}
    assert re.match(r"3 +champion +[0-9a-f]{8} +0\.8", lines["3"])
    assert "not champion: worse in" in lines["2"]
    assert re.search(r"^\S+ +1 +3 +somebody", shown, re.MULTILINE)
    told = json.loads(clone.ok("python", "-m", "churn", "registry", "show", "--json", MLFLOW_TRACKING_URI=server))
    assert (told["champion"], [one["to"] for one in told["moves"]]) == ("3", ["1", "3"])

    compare = ("python", "-m", "churn", "registry", "compare")
    origin, settings, metrics = clone.ok(*compare, "1", "3", MLFLOW_TRACKING_URI=server).strip().split("\n\n")
    assert re.search(r"^training table +(\w{12}) +\1$", origin, re.MULTILINE)
    assert settings == "no setting differs"
    before, after, by = re.search(r"^roc_auc +(\S+) +(\S+) +(\S+)$", metrics, re.MULTILINE).groups()
    assert float(after) - float(before) == pytest.approx(float(by), abs=2e-4)
    done = clone.run(*compare, "1", "9", MLFLOW_TRACKING_URI=server)
    assert (done.returncode, "has no version 9 of this pipeline: it has 1, 2, 3." in done.stdout) == (1, True)

    back = ("python", "-m", "churn", "registry", "rollback", "complaints from support")
    said = clone.ok(*back, MLFLOW_TRACKING_URI=server)
    assert said.strip().endswith(
        "rollback: champion of succession is version 1 again, no longer version 3 (complaints from support)"
    )
    assert champion(client, "succession") == 1
    assert "version 3 (there already) is not champion, version 1 stays: it was rolled back by " in registered(
        clone, server
    )
    assert champion(client, "succession") == 1
    *_, last = moves_of(client.get_registered_model("succession"))
    assert {name: last[name] for name in ("kind", "from", "to", "why")} == {
        "kind": "rollback",
        "from": "3",
        "to": "1",
        "why": "complaints from support",
    }
    assert last["who"]
    assert re.match(r"20\d\d-\d\d-\d\dT", last["when"])
    done = clone.run(*back, MLFLOW_TRACKING_URI=server)
    assert done.returncode == 1
    assert "succession has no champion before version 1 that can be used: nothing is rolled back." in done.stdout


def test_a_champion_that_needs_a_column_that_is_gone_is_followed_and_the_tag_says_so(clone, server, client, tmp_path):
    """Fault in the registry: champion needs a column that no longer exists.

    The new version becomes champion. `decision` has `… cannot score the present holdout (there is no dependents),
    so they were not compared`.
    """
    named(clone, "features")
    registered(clone, server)
    path = clone.folder / "contract.yaml"
    path.write_text(path.read_text().replace("  dependents: {role: feature, type: boolean}\n", ""))
    retrained(clone, load_contract(path))
    assert "version 2 is champion: version 1 cannot score the present holdout (" in registered(clone, server)
    assert "dependents" in decision(client, "features", 2)


def test_a_champion_whose_file_was_changed_is_not_read(clone, server, s3, client, contract):
    """Fault in the registry: the model file in the registry was changed or deleted.

    No command reads it: `version 1 of churn holds another model file: SHA-256 …`
    """
    named(clone, "corrupted")
    registered(clone, server)
    retrained(clone, contract)
    version = client.get_model_version("corrupted", "1")
    model_id = version.source.rpartition("/")[2]
    bucket = s3_client(s3)
    (key,) = (
        entry["Key"]
        for entry in bucket.list_objects_v2(Bucket=BUCKET)["Contents"]
        if model_id in entry["Key"] and entry["Key"].endswith("model.skops")
    )
    added = key.replace("model.skops", "code/evil.py")
    bucket.put_object(Bucket=BUCKET, Key=added, Body=b"")
    _, printed = Registration(clone, server).end()
    assert "register: version 1 of corrupted holds other files than register wrote: the digest" in printed
    bucket.delete_object(Bucket=BUCKET, Key=added)
    content = bucket.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    bucket.put_object(Bucket=BUCKET, Key=key, Body=content[:-1] + b"X")
    status, printed = Registration(clone, server).end()
    assert status == 1
    assert "register: version 1 of corrupted holds another model file: SHA-256" in printed
    assert champion(client, "corrupted") == 1
    done = clone.run(
        "python", "-m", "churn", "score", "data/raw/customers.parquet", "scores.csv", MLFLOW_TRACKING_URI=server
    )
    assert done.returncode == 1
    assert "score: version 1 of corrupted holds another model file: SHA-256" in done.stdout
    bucket.delete_object(Bucket=BUCKET, Key=key)
    status, printed = Registration(clone, server).end()
    assert "register: the files of version 1 of corrupted are gone: bring them back, or" in printed
