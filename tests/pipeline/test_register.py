"""What register leaves in the registry, a local SQLite store, and what it refuses."""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

from churn import scoring
from churn.config.contract import load_contract
from churn.config.params import METRICS
from churn.core.errors import StageError
from churn.modeling.model import model_frame
from churn.registry.lineage import lock_digest
from churn.registry.local_store import follow
from churn.registry.package import SERVING, closure, digest_of, package_of
from stages.register import metrics_of, mlflow_name
from tests.conftest import Clone, copy_without_registry, made_once
from tests.serving import assert_mlflow_predicts_the_scores

import mlflow
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from mlflow.exceptions import MlflowException
from ruamel.yaml import YAML

yaml = YAML()


@pytest.fixture(scope="module")
def with_registry(finished, tmp_path_factory):
    """A clone that has registered its model once, by main's commit. Read it, don't change it."""

    def make(folder):
        clone = copy_without_registry(finished, folder)
        clone.first_run = clone.ok("dvc", "repro", "--force", "--single-item", "register")
        return clone

    return made_once(tmp_path_factory, "registered", make)


@pytest.fixture
def registered(with_registry, tmp_path, monkeypatch):
    """A copy of it, to change, and the client of its registry."""
    clone = Clone(shutil.copytree(with_registry.folder, tmp_path / "repository", symlinks=True))
    monkeypatch.chdir(clone.folder)
    follow(Path("mlflow.db"))
    mlflow.set_tracking_uri(f"sqlite:///{clone.folder}/mlflow.db")
    clone.client = mlflow.MlflowClient()
    return clone


def register(clone, **environment):
    return clone.run("python", "-m", "stages.register", **environment)


def versions(clone):
    found = clone.client.search_model_versions("name='churn'")
    return sorted(int(version.version) for version in found)


def champion(clone):
    return int(clone.client.get_model_version_by_alias("churn", "champion").version)


def aliases(clone):
    return {name: str(number) for name, number in clone.client.get_registered_model("churn").aliases.items()}


def files(clone, number=1):
    """Return the folder of the registry with the files of a version."""
    source = clone.client.get_model_version("churn", str(number)).source
    return clone.folder / "mlartifacts" / "models" / source.rpartition("/")[2] / "artifacts"


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_version_says_what_it_came_from(registered):
    tags = registered.client.get_model_version("churn", "1").tags
    assert tags == {
        "commit": registered.ok("git", "rev-parse", "HEAD").strip(),
        "uncommitted_changes": "false",
        "lock_sha256": lock_digest(registered.folder / "dvc.lock"),
        "model_sha256": sha256(registered.folder / "models/churn.skops"),
        "train_sha256": sha256(registered.folder / "data/features/train.parquet"),
        "test_sha256": sha256(registered.folder / "data/features/test.parquet"),
        "code_sha256": package_of("sklearn").digest,
        "files_sha256": digest_of(files(registered)),
        "verdict": "passed",
        "made_by": "main",
        "verified": "true",
        "decision": "champion: the first",
    }


def test_its_run_has_parameters_metrics_data_and_plots(registered):
    version = registered.client.get_model_version("churn", "1")
    run = registered.client.get_run(version.run_id)
    evaluation = json.loads(registered.text("metrics/evaluation.json"))
    assert {name: run.data.metrics[name] for name in METRICS} == {name: evaluation[name] for name in METRICS}
    assert run.data.metrics["new_customers/recall"] == next(
        part["recall"] for part in evaluation["slices"] if part["name"] == "new_customers"
    )
    assert run.data.params["train.parameters.max_iter"] == "200"
    assert run.data.params["gate.overall.roc_auc.min"] == "0.82"
    datasets = {entry.dataset.name: entry.dataset.digest for entry in run.inputs.dataset_inputs}
    assert version.tags["train_sha256"].startswith(datasets["train"])
    assert version.tags["test_sha256"].startswith(datasets["test"])
    artifacts = {entry.path for entry in registered.client.list_artifacts(version.run_id)}
    assert {"dvc.lock", "evaluation.json", "gate.json", "plots", "requirements.txt"} <= artifacts
    plots = {entry.path for entry in registered.client.list_artifacts(version.run_id, "plots")}
    assert {"plots/roc.csv", "plots/importance.csv"} <= plots
    assert run.info.status == "FINISHED"
    logged = registered.client.get_logged_model(version.source.rpartition("/")[2])
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": "churn", "version": "1"}]


def test_the_registered_file_is_the_pipelines_byte_by_byte(registered):
    folder = mlflow.artifacts.download_artifacts("models:/churn@champion")
    assert sha256(Path(folder) / "model.skops") == sha256(registered.folder / "models/churn.skops")


def test_the_dossier_of_a_version_is_given_out_only_while_its_files_are_the_registered_ones(registered):
    """Fault in the registry: somebody changed the dossier of a version.

    `registry dossier` fails: `version 1 of churn holds other files than register wrote`.
    """
    dossier = files(registered) / "dossier.html"
    assert registered.ok("python", "-m", "churn", "registry", "dossier") == "dossier: build/dossier-1.html\n"
    assert (registered.folder / "build/dossier-1.html").read_bytes() == dossier.read_bytes()
    commit = registered.ok("git", "rev-parse", "HEAD").strip()
    assert f"churn of commit {commit[:8]}: ROC AUC 0.862" in dossier.read_text()
    done = registered.run("python", "-m", "churn", "registry", "dossier", "9")
    assert (done.returncode, done.stdout) == (
        1,
        "registry: churn has no version 9: `make registry` shows the versions.\n",
    )
    dossier.write_text(dossier.read_text().replace("0.862", "0.962"))
    done = registered.run("python", "-m", "churn", "registry", "dossier", "1")
    assert done.returncode == 1
    assert "version 1 of churn holds other files than register wrote" in done.stdout


def test_whoever_serves_the_champion_gets_the_pipelines_scores(registered):
    table = pq.read_table("data/features/test.parquet")
    expected = pd.read_parquet("data/predictions/test.parquet")["score"]
    served = mlflow.pyfunc.load_model("models:/churn@champion")
    features = model_frame(table, load_contract())
    assert np.array_equal(served.predict(features)[:, 1], expected)
    raw = table.to_pandas()  # with the key, the label, and the columns in another order
    assert np.array_equal(served.predict(raw[sorted(raw)])[:, 1], expected)


def test_mlflow_predicts_from_a_csv_file_as_the_warehouse_gives_it(registered, tmp_path):
    assert_mlflow_predicts_the_scores(registered, f"sqlite:///{registered.folder}/mlflow.db", tmp_path)


@pytest.mark.parametrize("manager", ["pip", "conda"])
def test_a_version_names_its_libraries_for_each_of_mlflows_managers(registered, manager):
    named = Path(mlflow.pyfunc.get_model_dependencies("models:/churn@champion", format=manager)).read_text()
    assert "scikit-learn==" in named
    assert {*yaml.load(files(registered) / "MLmodel")["flavors"]["python_function"]["env"].values()} <= {
        file.name for file in files(registered).iterdir()
    }


def test_the_registry_has_the_code_that_serving_takes(registered):
    folder = Path(mlflow.artifacts.download_artifacts("models:/churn@champion"))
    assert {file.relative_to(folder / "code") for file in (folder / "code").rglob("*.py")} == closure(
        SERVING, registered.folder
    )


def test_the_signature_and_the_example_come_from_the_contract(registered):
    served = mlflow.pyfunc.load_model("models:/churn@champion")
    contract = load_contract()
    assert served.metadata.get_input_schema().input_names() == contract.fetched_features
    example = served.input_example
    assert served.predict(example).shape == (1, 2)
    with pytest.raises(MlflowException, match="missing inputs"):
        served.predict(example.drop(columns="partner"))
    with pytest.raises(MlflowException, match="Incompatible input types"):
        served.predict(example.assign(tenure_months="ten"))


def test_a_served_version_gives_no_score_for_a_value_that_the_contract_does_not_know(registered):
    served = mlflow.pyfunc.load_model("models:/churn@champion")
    example = served.input_example
    with pytest.raises(StageError, match=r"^monthly_charges is missing for 1 customer: contract.yaml allows no nulls"):
        served.predict(example.assign(monthly_charges=np.nan))
    with pytest.raises(StageError, match=r"^contract has another value than contract.yaml lists for 1 customer\.$"):
        served.predict(example.assign(contract="Weekly"))
    assert served.predict(example.assign(total_charges=np.nan)).shape == (1, 2)


def test_the_same_model_and_data_make_no_second_version(registered):
    again = registered.ok("dvc", "repro", "--force", "--single-item", "register")
    assert "register: churn version 1 (there already) is champion" in again
    assert versions(registered) == [1]
    assert champion(registered) == 1


def changed(clone, name, comment):
    """Add a comment to a file, commit it on main, run the pipeline, and return what register printed last."""
    path = clone.folder / name
    path.write_text(f"{path.read_text()}# {comment}\n")
    clone.commit()
    printed = clone.ok("dvc", "repro")
    return re.findall(r"^register: churn version .*", printed, re.MULTILINE)[-1]


def test_other_packaged_code_makes_another_version_also_after_a_rollback(registered):
    """Fault in the registry: a feature function was corrected, and today's tables keep their bytes.

    register makes another version: `version 2 is champion: the same model as version 1, with other packaged files`.
    """
    follows = "is champion: the same model as version 1, with other packaged files"
    receipt = registered.text("models/registration.json")
    assert changed(registered, "churn/features.py", "one") == f"register: churn version 2 {follows}"
    assert (files(registered, 2) / "code/churn/features.py").read_text().endswith("# one\n")
    assert registered.text("models/registration.json") != receipt, "else a pull of this change registers nothing"
    registered.ok("python", "-m", "churn", "registry", "rollback", "a faulty feature")
    again = register(registered).stdout
    assert "register: churn version 2 (there already) is not champion, version 1 stays: it was rolled back by " in again
    assert changed(registered, "churn/features.py", "two") == f"register: churn version 3 {follows}"
    assert (versions(registered), champion(registered)) == ([1, 2, 3], 3)


def test_code_that_is_not_packaged_makes_no_other_version(registered):
    assert changed(registered, "stages/register.py", "one") == "register: churn version 1 (there already) is champion"
    assert versions(registered) == [1]


def test_a_version_from_before_the_tag_of_its_code_is_followed_once(registered):
    registered.client.delete_model_version_tag("churn", "1", "code_sha256")
    assert "register: churn version 2 is champion: the same model as version 1" in register(registered).stdout
    assert "register: churn version 2 (there already) is champion" in register(registered).stdout
    assert versions(registered) == [1, 2]
    assert "packaged code" in registered.ok("python", "-m", "churn", "registry", "compare", "1", "2")


def test_the_champion_is_the_model_that_passed_last(registered):
    before = registered.text("params.yaml")
    registered.replace("params.yaml", "seed: 42", "seed: 43")
    registered.commit()
    assert "register: churn version 2 is champion" in registered.ok("dvc", "repro")
    (registered.folder / "params.yaml").write_text(before)
    registered.commit()
    assert "register: churn version 1 (there already) is champion" in registered.ok("dvc", "repro")
    assert versions(registered) == [1, 2]
    assert champion(registered) == 1


def test_what_is_not_committed_is_a_candidate_and_main_makes_its_own_version(registered, tmp_path):
    """Fault in the registry: register runs with uncommitted changes.

    The version is `candidate`: `… is candidate, and champion stays version 1: params.yaml differs from commit …`
    """
    registered.replace("params.yaml", "roc_auc: {min: 0.82}", "roc_auc: {min: 0.81}")
    commit = registered.ok("git", "rev-parse", "--short=8", "HEAD").strip()
    printed = registered.ok("dvc", "repro")
    assert (
        "register: churn version 2 is candidate, and champion stays version 1: params.yaml differs from commit"
        f" {commit}; commit it, merge it into main, and `dvc repro --force --single-item register` moves champion there"
    ) in printed
    assert aliases(registered) == {"champion": "1", "candidate": "2"}
    tags = registered.client.get_model_version("churn", "2").tags
    assert (tags["made_by"], tags["uncommitted_changes"], tags["verified"]) == ("elsewhere", "true", "true")
    assert tags["decision"].startswith("not champion: params.yaml differs from commit ")
    shown = registered.ok("python", "-m", "churn", "registry", "show")
    assert re.search(rf"^2 +candidate +{commit} elsewhere +0\.8", shown, re.MULTILINE)
    assert re.search(rf"^1 +champion +{commit} +0\.8", shown, re.MULTILINE)
    assert "elsewhere: not made by a commit of main (register.promote_from); only a person makes it champion" in shown
    score = ("python", "-m", "churn", "score", "data/raw/customers.parquet", str(tmp_path / "scores.csv"))
    assert "scored by version 2 of churn" in registered.ok(*score, "--alias", "candidate")
    registered.commit()
    registered.client.delete_registered_model_alias("churn", "champion")
    registered.client.set_registered_model_alias("churn", "champion", "2")
    printed = registered.ok("dvc", "repro", "--force", "--single-item", "register")
    assert "register: churn version 1 (there already) is champion: the same model as version 2" in printed
    assert aliases(registered) == {"champion": "1", "candidate": "2"}


def test_an_experiment_of_dvc_is_a_candidate(registered):
    """Fault in the registry: register runs in an experiment of DVC.

    The version is `candidate`.
    """
    printed = registered.ok("dvc", "exp", "run", "--set-param", "gate.overall.roc_auc.min=0.81")
    assert (
        "register: churn version 2 is candidate, and champion stays version 1: this is an experiment of DVC" in printed
    )
    assert aliases(registered) == {"champion": "1", "candidate": "2"}


def test_a_real_clone_ends_with_a_champion_and_a_commit_that_is_not_pushed_with_a_candidate(finished, tmp_path):
    finished.ok("git", "clone", "--quiet", str(finished.folder), str(tmp_path / "clone"))
    clone = Clone(tmp_path / "clone")
    shutil.copytree(finished.folder / ".dvc" / "cache", clone.folder / ".dvc" / "cache")
    assert "register: churn version 1 is champion: the first" in clone.ok("dvc", "repro")
    clone.replace("params.yaml", "seed: 42", "seed: 43")
    clone.commit()
    printed = clone.ok("dvc", "repro")
    assert "register: churn version 2 is candidate, and champion stays version 1: commit " in printed
    assert re.search(r"commit [0-9a-f]{8} is not in origin/main; merge it into origin/main, and `dvc repro ", printed)


@pytest.mark.parametrize(("served", "wrong"), [("20_000", 3), ("100", 30)], ids=["of all", "of each fifteenth"])
def test_a_version_that_predicts_something_else_never_becomes_champion(served, wrong, clone):
    clone.replace("stages/register.py", "SERVED = 20_000", f"SERVED = {served}")
    path = clone.folder / "data/predictions/test.parquet"
    table = pd.read_parquet(path)
    path.unlink()  # it may be a link into DVC's cache
    table.assign(score=table["score"].where(table.index != wrong, 0.123)).to_parquet(path)
    done = register(clone)
    assert done.returncode == 1
    assert "register: version 1 of churn scores 1 customer differently; champion stays." in done.stdout
    mlflow.set_tracking_uri(f"sqlite:///{clone.folder}/mlflow.db")
    assert dict(mlflow.MlflowClient().get_registered_model("churn").aliases) == {}


TAMPERED = {  # by somebody who may write to the registry's files
    "the model": lambda folder: (folder / "model.skops").write_bytes(b"another"),
    "the contract": lambda folder: (folder / "contract.yaml").write_text("columns: 1"),
    "MLmodel": lambda folder: (folder / "MLmodel").write_text("flavors: 1"),
    "code": lambda folder: (folder / "code/churn/features.py").write_text("1 +"),
    "no code": lambda folder: shutil.rmtree(folder / "code"),
    "compiled code": lambda folder: (folder / "code/churn/serving.pyc").write_bytes(b""),
    "MLflow's own file": lambda folder: (folder / "MLmodel").rename(folder / "registered_model_meta"),
}


def evil(folder, proof):
    """Have MLflow run code that writes the file `proof`."""
    (folder / "code/evil.py").write_text(f"open({str(proof)!r}, 'w')\ndef _load_pyfunc(path): pass\n")
    file = folder / "MLmodel"
    file.write_text(file.read_text().replace("loader_module: churn.registry.serving", "loader_module: evil"))


def test_nothing_reads_a_version_whose_files_were_changed(registered, tmp_path):
    """Fault in the registry: any other file of a version was changed, added or deleted.

    No command reads or runs it: `version 1 of churn holds other files than register wrote: …`
    """
    folder, proof = files(registered), tmp_path / "proof"
    shutil.copytree(folder, tmp_path / "kept")
    version, contract = registered.client.get_model_version("churn", "1"), load_contract()
    scoring.load(version, contract)
    (folder / "code/churn/registry/__pycache__").mkdir()  # as of a server of the local registry
    (folder / "code/churn/registry/__pycache__/serving.cpython-311.pyc").write_bytes(b"")
    scoring.load(version, contract)
    for case, tamper in TAMPERED.items():
        tamper(folder)
        with pytest.raises(StageError) as told:
            scoring.load(version, contract)
        said = str(told.value)
        assert said.startswith(("version 1 of churn holds other files", "version 1 of churn holds another model")), case
        assert said.endswith("delete the version in MLflow, then run `dvc repro --force --single-item register`."), case
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "kept", folder)
    evil(folder, proof)
    done = register(registered)
    assert done.returncode == 1
    assert done.stdout.startswith("register: version 1 of churn holds other files than register wrote: ")
    assert done.stdout.count("\n") == 1
    with pytest.raises(MlflowException, match="missing required predict"):  # after it ran
        mlflow.pyfunc.load_model("models:/churn@champion")
    assert proof.exists(), "the attack does nothing even where it is not refused"
    proof.unlink()
    (folder / "registered_model_meta").unlink()  # which MLflow wrote there
    for compiled in [*folder.rglob("__pycache__")]:
        shutil.rmtree(compiled)
    digest = digest_of(folder)  # of somebody who may change tags, too
    registered.client.set_model_version_tag("churn", "1", "files_sha256", digest)
    done = register(registered)
    assert done.stdout.startswith(
        "register: MLmodel of version 1 of churn has another loader_module than register wrote"
    )
    assert done.stdout.count("\n") == 1
    assert not proof.exists()
    assert champion(registered) == 1


def test_a_version_without_a_digest_of_its_files_says_what_to_do(registered):
    """Fault in the registry: a version has no `files_sha256`.

    No command reads it: `version 1 of churn has no tag files_sha256: …`
    """
    registered.client.delete_model_version_tag("churn", "1", "files_sha256")
    with pytest.raises(
        StageError, match=r"^version 1 of churn has no tag files_sha256: .*: delete the version in MLflow"
    ):
        scoring.load(registered.client.get_model_version("churn", "1"), load_contract())
    registered.client.delete_model_version("churn", "1")
    assert "register: churn version 2 is champion: " in register(registered).stdout
    assert "files_sha256" in registered.client.get_model_version("churn", "2").tags


def test_modules_that_a_feature_function_imports_are_registered_with_it(clone):
    (clone.folder / "churn/helper.py").write_text("from mylib.shared import ONE\n")
    (clone.folder / "mylib").mkdir()
    (clone.folder / "mylib/shared.py").write_text("ONE = 1\n")
    clone.replace("churn/features.py", "import pandas as pd\n", "import churn.helper\nimport pandas as pd\n")
    said = clone.ok("python", "-m", "stages.register")
    assert "register: churn version 1 is candidate" in said  # it is not committed
    (code,) = (clone.folder / "mlartifacts/models").glob("*/artifacts/code")
    assert (code / "churn/helper.py").exists()
    assert (code / "mylib/shared.py").exists()


def test_a_module_that_no_import_names_keeps_the_version_from_becoming_champion(clone):
    (clone.folder / "churn/helper.py").write_text("")
    line = 'import importlib\nimportlib.import_module("churn.helper")\n'
    clone.replace("churn/features.py", "import pandas as pd\n", f"{line}import pandas as pd\n")
    done = register(clone)
    assert done.returncode == 1
    said = "register: version 1 of churn cannot be served from its own files: there is no module churn.helper"
    assert done.stdout.startswith(f"{said} (churn/features.py, line ")
    mlflow.set_tracking_uri(f"sqlite:///{clone.folder}/mlflow.db")
    assert dict(mlflow.MlflowClient().get_registered_model("churn").aliases) == {}


def test_a_model_that_the_gate_did_not_judge_is_refused(clone):
    path = clone.folder / "models/churn.skops"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content + b" ")
    done = register(clone)
    assert "metrics/gate.json is the result for another models/churn.skops: nothing is registered" in done.stdout
    assert not (clone.folder / "mlflow.db").exists()


@pytest.mark.parametrize("stage", ["prepare", "train", "evaluate", "gate"])
def test_what_the_lock_does_not_hold_is_refused(stage, clone):
    """A verdict on this very model may still be of another lock, as after a merge of two branches' results."""
    lock = yaml.load(clone.folder / "dvc.lock")
    for out in lock["stages"][stage]["outs"]:
        out["md5"] = "0" * 32
    yaml.dump(lock, clone.folder / "dvc.lock")
    done = register(clone)
    assert re.search(r"register: \S+ is not the one in dvc.lock: nothing is registered; run `dvc repro`.", done.stdout)
    assert not (clone.folder / "mlflow.db").exists()


def test_a_registry_that_cannot_be_reached_is_one_sentence(clone):
    done = register(clone, MLFLOW_TRACKING_URI="http://user:secret@127.0.0.1:9", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert done.returncode == 1
    assert "register: the registry at http://127.0.0.1:9 failed: " in done.stdout
    assert "Traceback" not in done.stdout
    assert "secret" not in done.stdout


def test_the_registry_is_the_one_that_the_environment_names(clone):
    clone.ok("python", "-m", "stages.register", MLFLOW_TRACKING_URI="sqlite:///elsewhere.db")
    assert (clone.folder / "elsewhere.db").exists()
    assert not (clone.folder / "mlflow.db").exists()


def test_a_registry_whose_files_are_gone_says_so(registered):
    shutil.rmtree(registered.folder / "mlartifacts")
    assert "register: the files of version 1 of churn are gone: bring them back, or" in register(registered).stdout


def test_a_checkout_that_was_copied_or_moved_keeps_its_registry(registered, tmp_path):
    """Fault in the registry: the folder of a local registry was moved or copied.

    The next command writes the new paths to `mlflow.db`. The original of a copy is unchanged.
    """
    before = sha256(registered.folder / "mlflow.db")
    copy = Clone(tmp_path / "a copy")
    shutil.copytree(registered.folder, copy.folder, symlinks=True)
    register = ("python", "-m", "stages.register")
    assert "register: churn version 1 (there already) is champion" in copy.ok(*register)
    assert sha256(registered.folder / "mlflow.db") == before
    moved = Clone(tmp_path / "moved")
    copy.folder.rename(moved.folder)
    shutil.rmtree(registered.folder)
    score = ("python", "-m", "churn", "score", "data/raw/customers.parquet", str(tmp_path / "scores.csv"))
    assert "scored by version 1 of churn" in moved.ok(*score)
    moved.replace("params.yaml", "seed: 42", "seed: 43")
    moved.commit()
    assert "register: churn version 2 is champion: not worse" in moved.ok("dvc", "repro")
    assert "champion of churn is version 1 again" in moved.ok("python", "-m", "churn", "registry", "rollback")


def test_a_store_that_was_copied_without_its_files_says_so(registered, tmp_path):
    """Fault in the registry: `mlflow.db` was copied without `mlartifacts/`.

    register fails: `… keeps its files in file://…, and they are not in mlartifacts here: …`
    """
    copy = Clone(tmp_path / "copy")
    shutil.copytree(registered.folder, copy.folder, symlinks=True, ignore=shutil.ignore_patterns("mlartifacts"))
    copy.replace("params.yaml", "model: churn", "model: churn # as before")
    done = copy.run("python", "-m", "stages.register")
    assert "keeps its files in file://" in done.stdout
    assert "bring that folder here, too, or start anew by deleting the registry." in done.stdout


def test_two_first_registrations_at_once_both_succeed(clone):
    """Fault in the registry: two registrations create a local registry at the same time.

    One waits for the other. Both succeed.
    """
    command = ["python", "-m", "stages.register"]
    both = [
        subprocess.Popen(command, cwd=clone.folder, env=clone.environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = [one.communicate(timeout=120)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], printed
    for text in printed:
        assert re.search(r"register: churn version 1 (\(there already\) )?is champion", text)
    assert not list(clone.folder.glob("mlflow.db?*"))


@pytest.mark.parametrize("names", [("a", "a+"), ("a=b", "a=b (c)"), ("x/y", "/y/"), ("é", "e")])
def test_names_stay_apart_in_the_characters_that_mlflow_takes(names):
    evaluation = dict.fromkeys(METRICS, 0.5) | {
        "slices": [{"name": name} | dict.fromkeys(METRICS, 0.5) for name in names]
    }
    logged = [name for name, _ in metrics_of(evaluation)]
    assert len(set(logged)) == 3 * len(METRICS)
    for name in logged:
        assert re.fullmatch(r"[\w .:-]+(/[\w .:-]+)?", name)


def test_long_names_of_slices_stay_apart_within_the_length_that_mlflow_takes():
    from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH

    names = [f"{' AND '.join(['monthly_charges < 70'] * 12)} {last}" for last in ("a", "b")]
    evaluation = dict.fromkeys(METRICS, 0.5) | {
        "slices": [{"name": name} | dict.fromkeys(METRICS, 0.5) for name in names]
    }
    logged = [*dict(metrics_of(evaluation)), *(mlflow_name(f"gate.slices.{name}.recall.min") for name in names)]
    assert len(set(logged)) == 3 * len(METRICS) + 2
    assert max(map(len, logged)) <= MAX_ENTITY_KEY_LENGTH


def test_without_a_commit_there_is_nothing_to_register_under(clone):
    done = register(clone, GIT_DIR="/nowhere")
    assert "register: git has no commit to register the model under: commit first." in done.stdout
