"""champion in a local registry: what people do to it by hand, and what is said then."""

import hashlib
import http.server
import logging
import re
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

from churn.core.errors import StageError
from churn.registry.champion import champion_of, move, moves_of, rollback, table_of
from churn.registry.client import ensure_model, experiment_id, registry
from churn.registry.package import digest_of
from churn.registry.promotion import decision, nominate
from churn.registry.versions import FILES, files_of
from churn.scoring import chosen

import pytest

BY_MAIN = {"made_by": "main", "verified": "true", "verdict": "passed", "commit": "1a2b3c4d5e"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The folder of a store, in which each test has a model of its own."""
    yield tmp_path_factory.mktemp("store")
    logging.disable(logging.NOTSET)


@pytest.fixture
def client(store, monkeypatch):
    monkeypatch.chdir(store)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with registry() as client:
        yield client


def register(client, model, content, **tags):
    """Make a version whose file has this content; without tags it is not this pipeline's."""
    ensure_model(client, model)
    digest = hashlib.sha256(content.encode()).hexdigest()
    folder = Path(f"{model}-{digest}").resolve()
    folder.mkdir(exist_ok=True)
    (folder / "model.skops").write_text(content)
    content_tags = {"model_sha256": digest, "train_sha256": "train", "test_sha256": "test"}
    ours = content_tags | {FILES: digest_of(folder)} if tags else {}
    return client.create_model_version(model, str(folder), tags=ours | tags)


def move_to(client, model, *numbers):
    for number in numbers:
        move(client, client.get_registered_model(model), number, "a test")


class Interrupted:
    """The client of a registry in which something else happens just before the first request `at`."""

    def __init__(self, client, at, meanwhile):
        self.client, self.at, self.meanwhile = client, at, meanwhile

    def __getattr__(self, request):
        if request == self.at:
            self.at = None
            self.meanwhile()
        return getattr(self.client, request)


@pytest.fixture
def model(client, request):
    """A model with two versions, the second of which followed the first as champion."""
    name = re.sub(r"\W", "", request.node.name)[-40:]
    for content in ("one", "two"):
        version = register(client, name, content, **BY_MAIN)
        move_to(client, name, str(version.version))
    return name


def champion(client, model):
    return champion_of(client.get_registered_model(model))


def tags(client, model, number):
    return client.get_model_version(model, number).tags


@pytest.mark.parametrize("what", ["the version", "the alias"])
def test_rollback_works_after_the_champion_or_its_alias_was_deleted(client, model, what):
    """Fault in the registry: champion's version or alias was deleted in MLflow.

    `make rollback` goes back from the last recorded move.
    """
    if what == "the version":
        client.delete_model_version(model, "2")
    else:
        client.delete_registered_model_alias(model, "champion")
    assert champion(client, model) == "none"
    assert rollback(client, model, "it is gone") == ("2", "1")
    assert champion(client, model) == "1"
    assert moves_of(client.get_registered_model(model))[-1]["to"] == "1"
    if what == "the alias":
        assert tags(client, model, "2")["rolled_back"].endswith(", to version 1: it is gone")
    with pytest.raises(StageError, match="has no champion before version 1 that can be used: nothing is rolled back"):
        rollback(client, model, "once more")


def test_where_the_model_was_deleted_the_next_step_registers_it_again(client):
    # `dvc repro` alone skips register, whose inputs are the same
    with pytest.raises(StageError, match=r"^the registry knows no model gone: .* `dvc repro --force --single-item reg"):
        rollback(client, "gone", "it is bad")


def test_what_follows_a_champion_that_was_deleted_is_not_the_first(client, model, params, contract):
    client.delete_model_version(model, "2")
    third = register(client, model, "three", **BY_MAIN)
    assert decision(client, third, "none", params, contract) == (True, "no version was, since version 2 lost the alias")


def test_a_foreign_champion_is_one_true_sentence_everywhere(client, model, params, contract):
    """Fault in the registry: champion was not registered by this pipeline.

    Scoring fails: `version 3 of churn was not registered by this pipeline: …`. `make rollback` returns to the
    former one.
    """
    register(client, model, "three")
    client.set_registered_model_alias(model, "champion", "3")
    foreign = (
        f"version 3 of {model} was not registered by this pipeline: take another (`make registry`), or `make rollback`"
    )
    with pytest.raises(StageError, match=re.escape(foreign)):
        chosen(client, model, None)
    fourth = register(client, model, "four", **BY_MAIN)
    assert decision(client, fourth, "3", params, contract) == (False, f"{foreign} champion")
    lines = list(table_of(client, model))
    assert re.match(r"3 +champion +elsewhere +not of this pipeline$", next(line for line in lines if line[0] == "3"))
    assert rollback(client, model, "it is not ours") == ("3", "2")
    assert champion(client, model) == "2"


def test_a_version_that_was_not_made_by_main_is_marked(client, model):
    register(client, model, "three", **BY_MAIN | {"made_by": "elsewhere"})
    register(client, model, "from before this tag", **{key: BY_MAIN[key] for key in BY_MAIN if key != "made_by"})
    marks = {line[0]: "1a2b3c4d elsewhere" in line for line in table_of(client, model) if "1a2b3c4d" in line}
    assert marks == {"4": True, "3": True, "2": False, "1": False}


def test_a_version_of_a_model_that_was_rolled_back_elsewhere_does_not_become_champion(client, model, params, contract):
    register(
        client, model, "three", **BY_MAIN | {"made_by": "elsewhere", "rolled_back": "by somebody, to version 2: bad"}
    )
    own = register(client, model, "three", **BY_MAIN)
    wins, why = decision(client, own, "2", params, contract)
    assert not wins
    assert why.startswith("version 3, the same model, was rolled back by somebody, to version 2: bad; delete its tag ")


MENDED = BY_MAIN | {"code_sha256": "mended"}


@pytest.mark.parametrize(
    ("recorded", "others"),
    [
        ({"code_sha256": "mended"}, ""),
        ({"code_sha256": "faulty"}, ", with other packaged files"),
        ({"code_sha256": "faulty", "test_sha256": "another"}, ", with other data and packaged files"),
        ({}, ""),  # from before the tag
    ],
)
def test_a_version_of_the_champions_model_follows_it_without_a_comparison(
    client, model, params, contract, *, recorded, others
):
    register(client, model, "three", **BY_MAIN | recorded)
    mended = register(client, model, "three", **MENDED)
    assert decision(client, mended, "3", params, contract) == (True, f"the same model as version 3{others}")


def test_a_rollback_keeps_out_its_own_code_alone(client, model, params, contract):
    rolled_back = BY_MAIN | {"rolled_back": "by somebody, to version 2: a faulty feature"}
    register(client, model, "two", **rolled_back, code_sha256="faulty")
    mended = register(client, model, "two", **MENDED)
    assert decision(client, mended, "2", params, contract) == (True, "the same model as version 2")
    again = register(client, model, "two", **BY_MAIN, code_sha256="faulty")
    wins, why = decision(client, again, "2", params, contract)
    assert not wins
    assert why.startswith("version 3, the same model, was rolled back by somebody, to version 2: a faulty feature; ")


def test_a_rollback_of_a_version_that_does_not_record_its_code_keeps_out_its_model(client, model, params, contract):
    register(client, model, "three", **BY_MAIN, rolled_back="by somebody, to version 2: bad")
    wins, why = decision(client, register(client, model, "three", **MENDED), "2", params, contract)
    assert not wins
    assert why.startswith("version 3, the same model, was rolled back by somebody, to version 2: bad; delete its tag ")


def test_a_candidate_is_said_also_where_there_is_no_champion(client, request):
    version = register(client, "nominated", "one", **BY_MAIN | {"made_by": "elsewhere"})
    assert nominate(client, version, "a reason") == "is candidate, and there is no champion: a reason"
    assert chosen(client, "nominated", None, "candidate").version == version.version
    with pytest.raises(
        StageError, match="nominated has no champion: `make registry` shows the versions and their alias"
    ):
        chosen(client, "nominated", None)


def test_a_tag_that_is_no_move_is_named(client, model):
    client.set_registered_model_tag(model, "champion/note", "ask Bob")
    with pytest.raises(
        StageError, match=rf"the tag champion/note of {model} is not a move of champion: delete the tag"
    ):
        rollback(client, model, "")


@pytest.mark.parametrize("at", ["search_model_versions", "set_registered_model_tag", "set_registered_model_alias"])
def test_a_rollback_that_a_promotion_overtakes_fails_and_the_next_one_rolls_that_back_too(client, model, at):
    """Fault in the registry: a promotion overtakes `make rollback`.

    `make rollback` fails: `version 3 of churn was promoted at the same moment, and is champion: run this again …`
    """
    register(client, model, "three", **BY_MAIN)
    overtaken = Interrupted(client, at, lambda: move_to(client, model, "3"))
    with pytest.raises(
        StageError, match=f"^version 3 of {model} was promoted at the same moment, and is champion: run"
    ):
        rollback(overtaken, model, "complaints")
    assert champion(client, model) == "3"
    assert rollback(client, model, "complaints") == ("3", "1")
    assert champion(client, model) == "1"


@pytest.mark.parametrize("at", ["set_registered_model_tag", "set_registered_model_alias"])
def test_a_late_move_does_not_undo_newer_ones(client, model, at):
    """Fault in the registry: a move of champion waits for the registry while newer moves are made.

    champion stays where the newest move has brought it.
    """
    for content in ("three", "four", "five"):
        register(client, model, content, **BY_MAIN)
    late = Interrupted(client, at, lambda: move_to(client, model, "4", "5"))
    assert move(late, client.get_registered_model(model), "3", "a test") == "5"
    assert champion(client, model) == "5"
    assert moves_of(client.get_registered_model(model))[-1]["to"] == "5"


def test_a_move_counts_as_the_newest_also_after_somebody_deleted_one(client, model):
    move_to(client, model, "1", "2")
    client.delete_registered_model_tag(model, "champion/000001 to 000002")
    move_to(client, model, "1")
    assert champion(client, model) == "1"
    assert moves_of(client.get_registered_model(model))[-1]["to"] == "1"


def test_a_reason_that_is_too_long_for_a_servers_tables_is_cut_in_the_record_of_the_move(client, model):
    registered = client.get_registered_model(model)
    move(client, registered, "1", "there is no\n" + ", ".join(f"spälte_{number}" for number in range(1_000)))
    after = client.get_registered_model(model)
    assert max(map(len, after.tags.values())) < 5_000
    assert moves_of(after)[-1]["why"].startswith("there is no spälte_0, spälte_1, ")
    assert moves_of(after)[-1]["why"].endswith(", …")


@contextmanager
def answering(body):
    """Yield the address of a server that answers everything with `body`."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("ask", [experiment_id, lambda client, model: chosen(client, model, None)])
def test_a_server_that_is_not_mlflow_is_named(store, monkeypatch, ask):
    """Fault in the registry: another server answers at the registry's address.

    register and scoring fail: `… answers, but not as an MLflow server: check MLFLOW_TRACKING_URI.`
    """
    with answering(b"{}") as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with pytest.raises(StageError, match=f"{address} answers, but not as an MLflow server"), registry() as client:
            ask(client, "churn")


def test_a_full_folder_for_temporary_files_is_not_the_registrys_failure(
    client, store, small_disk, tmp_path, monkeypatch
):
    """Fault in the registry: the disk for temporary files is full.

    register and scoring fail: `the disk is full, here or in /tmp (TMPDIR): make room, and run it again.`
    """
    small_disk(tmp_path / "small", 64)
    version = register(client, "large", "x" * 200_000, **BY_MAIN)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "small"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "small"))
    full = rf"^the disk is full, here or in {tmp_path}/small \(TMPDIR\): make room, and run it again\.$"
    with pytest.raises(StageError, match=full), registry(), files_of(version):
        pass


def test_a_file_that_is_not_a_store_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "other.db").write_text("not a database, but long enough to look at" * 20)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    with pytest.raises(StageError, match=r"other.db cannot be read, or not be written, as the registry: "), registry():
        pass
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/no/such.db")
    with pytest.raises(StageError, match=r"has no folder: make .*/no, or set MLFLOW_TRACKING_URI."), registry():
        pass


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("sqlite:///", "the registry at sqlite:/// names no file, so nothing would be kept: set MLFLOW_TRACKING_URI"),
        ("sqlite:///:memory:", "the registry at sqlite:///:memory: names no file, so nothing would be kept: "),
        ("mysql+mysqldb://me:hunter2@db/mlflow", "the registry at mysql+mysqldb://db/mlflow needs the Python module "),
    ],
)
def test_an_address_by_which_nothing_can_be_kept_is_one_sentence(monkeypatch, address, said):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(StageError, match=f"^{re.escape(said)}"), registry():
        pass
