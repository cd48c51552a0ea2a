"""Which checkout may move champion, in a small repository with the pipeline's own params.yaml."""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

from churn.config.params import load_params
from churn.core.errors import StageError
from churn.registry.lineage import commit_tags
from churn.registry.mainline import promoting_branch, settings_of, why_not
from tests.frozen import copy_of

import pytest
from ruamel.yaml import YAML

SOURCE = "data/sample/telco_customers.csv"
FILES = {
    "dvc.yaml": """
        stages:
          fetch:
            cmd: python -m stages.fetch
            deps: ["${fetch.query}", "${fetch.source}", churn/core/files.py, stages/fetch.py]
            params: [fetch, contract.yaml: [columns]]
            outs: [data/raw/customers.parquet]
            metrics: [metrics/rows.json: {cache: false}]
          register:
            cmd: python -m stages.register
            deps: [data/raw/customers.parquet, metrics/rows.json, requirements.txt]
            params: [register]
    """,
    "contract.yaml": "columns: {churn: {role: label}}\nrules: {}\n",
    "source.sql": "FROM source\n",
    SOURCE: "customer_id\n1\n",
    "churn/core/files.py": "import json\n",
    "stages/fetch.py": "from churn import stage\n",
    "requirements.txt": "duckdb\n",
    "metrics/rows.json": "{}\n",
    "README.md": "words\n",
    ".gitignore": "/data/raw/\n/ignored.py\n__pycache__/\n",
}


def git(*command):
    done = subprocess.run(["git", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


def write(name, text):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)


def commit():
    git("add", "--all")
    git("commit", "--quiet", "--allow-empty", "--message", "Change")


def change(name, old, new):
    text = Path(name).read_text()
    assert old in text
    Path(name).write_text(text.replace(old, new))


def lock(snapshot="1" * 32):
    """Write dvc.lock as `dvc repro` leaves it."""
    params, contract = (YAML(typ="safe").load(Path(name)) for name in ("params.yaml", "contract.yaml"))
    paths = [params["fetch"]["query"], params["fetch"]["source"], "churn/core/files.py", "stages/fetch.py"]
    deps = [
        {"path": path, "md5": hashlib.md5(Path(path).read_bytes()).hexdigest()}
        for path in paths
        if Path(path).is_file()
    ]
    read = {"params.yaml": {"fetch": params["fetch"]}, "contract.yaml": {"columns": contract["columns"]}}
    outs = [{"path": "data/raw/customers.parquet", "md5": snapshot}]
    YAML().dump({"stages": {"fetch": {"deps": deps, "params": read, "outs": outs}}}, Path("dvc.lock"))


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository on the branch main, without a remote, in which the pipeline has run; the tests work in it."""
    for name in [name for name in os.environ if name.startswith(("GIT_", "DVC_"))]:
        monkeypatch.delenv(name)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "test")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "test@example.invalid")
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name, text in FILES.items():
        write(name, text.replace("\n        ", "\n"))
    shutil.copy(copy_of("params.yaml"), "params.yaml")
    git("init", "--quiet", "--initial-branch", "main")
    commit()
    lock()
    return folder


@pytest.fixture
def cloned(repository, monkeypatch):
    """A clone of it, whose remote is origin."""
    commit()
    git("clone", "--quiet", ".", "../clone")
    monkeypatch.chdir(repository.parent / "clone")
    return repository.parent / "clone"


def reason():
    params = load_params()
    return why_not(params, promoting_branch(params))


def test_a_clean_checkout_of_main_promotes(repository):
    assert reason() is None


def test_a_clean_clone_promotes_and_so_does_an_older_commit_of_main(cloned):
    assert reason() is None
    commit()
    git("update-ref", "refs/remotes/origin/main", "HEAD")
    git("checkout", "--quiet", "--detach", "HEAD^")
    assert reason() is None


@pytest.mark.parametrize("name", ["README.md", "docs/notes.md", "notes.py", "metrics/rows.json", "notebooks/try.py"])
def test_what_no_stage_reads_may_differ(repository, name):
    write(name, "changed\n")
    write("dvc.lock", f"# another comment\n{Path('dvc.lock').read_text()}")
    assert reason() is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("churn/core/files.py", "import os\n"),
        ("churn/helper.py", "a new module"),
        ("churn/plan/tiers.py", "a new module in a package"),
        ("churn/fast.so", "a compiled module"),
        ("ignored.py", "a module that Git ignores"),
        ("pandas.py", "a module in the place of a library"),
        ("plans/tiers.py", "a new package at the root"),
        ("stages/fetch.py", "print()\n"),
        ("source.sql", "FROM source LIMIT 10\n"),
        ("requirements.txt", "duckdb==1\n"),
        (SOURCE, "customer_id\n2\n"),
    ],
)
def test_a_file_that_a_stage_may_read_and_that_differs_keeps_champion(repository, name, text):
    write("churn/core/files.py", "import ignored, json\nimport pandas\nfrom plans.tiers import one\n")
    commit()
    lock()
    assert reason() is None
    write(name, text)
    lock()
    short = git("rev-parse", "--short=8", "HEAD")
    assert reason() == (
        f"{name} differs from commit {short}; commit it, merge it into main, and"
        " `dvc repro --force --single-item register` moves champion there"
    )


@pytest.mark.parametrize("hidden", ["--assume-unchanged", "--skip-worktree"])
def test_a_change_that_git_was_told_to_hide_keeps_champion(repository, hidden):
    git("update-index", hidden, "params.yaml")
    change("params.yaml", "roc_auc: {min: 0.82}", "roc_auc: {min: 0.1}")
    assert git("status", "--porcelain", "params.yaml") == ""
    assert reason().startswith("params.yaml differs from commit ")


def test_several_differences_are_counted(repository):
    change("params.yaml", "seed: 42", "seed: 43")
    Path("source.sql").unlink()
    write("contract.yaml", "columns: {}\n")
    assert reason().startswith("contract.yaml and 2 more differ from commit ")


def test_a_lock_that_was_made_with_other_settings_or_code_keeps_champion(repository):
    """As after `dvc repro evaluate` with a changed file that was put back before register."""
    change("params.yaml", "timeout_minutes: 30", "timeout_minutes: 31")
    lock()
    git("checkout", "--quiet", "params.yaml")
    assert (
        reason()
        == "dvc.lock was made with another fetch in params.yaml; `dvc repro` makes it again, and moves champion"
    )
    change("stages/fetch.py", "stage", "stage as s")
    lock()
    git("checkout", "--quiet", "stages/fetch.py")
    assert reason().startswith("dvc.lock was made with another stages/fetch.py; ")


def test_a_commit_that_is_not_on_main_keeps_champion(repository):
    git("checkout", "--quiet", "-b", "idea")
    assert reason() is None, "it is still main's commit"
    commit()
    assert re.match(r"commit [0-9a-f]{8} is not in main; merge it into main, and ", reason())


def test_a_commit_that_was_not_pushed_keeps_champion(cloned):
    commit()
    assert re.match(r"commit [0-9a-f]{8} is not in origin/main; merge it into origin/main, and ", reason())
    git("push", "--quiet", "origin", "HEAD:refs/heads/another")
    assert "is not in origin/main" in reason()


def test_a_clone_that_does_not_know_main_says_what_to_fetch(cloned):
    git("update-ref", "-d", "refs/remotes/origin/main")
    said = reason()
    assert said.startswith(
        "this clone does not know origin/main; `git fetch origin main:refs/remotes/origin/main`, then"
    )
    git(*re.search(r"`git (.*?)`", said)[1].split())
    assert reason() is None


def test_without_a_branch_main_champion_stays(repository):
    git("branch", "--move", "trunk")
    assert reason().startswith("there is no branch main (register.promote_from in params.yaml); make it, then run ")
    change("params.yaml", "promote_from: null", "promote_from: trunk")
    commit()
    assert reason() is None


@pytest.fixture
def trunk(repository, monkeypatch):
    """A clone of a repository whose default branch is trunk."""
    git("branch", "--move", "trunk")
    commit()
    git("clone", "--quiet", ".", "../clone")
    monkeypatch.chdir(repository.parent / "clone")


def test_the_remotes_default_branch_promotes_whatever_its_name(trunk):
    assert reason() is None
    git("checkout", "--quiet", "-b", "main")
    git("push", "--quiet", "origin", "main")
    commit()
    assert "is not in origin/trunk; merge it into origin/trunk, and " in reason()


def test_a_clone_that_does_not_know_the_default_branch_says_how_to_ask_for_it(trunk):
    git("symbolic-ref", "--delete", "refs/remotes/origin/HEAD")
    said = reason()
    assert said.startswith("this clone does not know the default branch of origin; `git remote set-head origin --auto`")
    git(*re.search(r"`git (.*?)`", said)[1].split())
    assert reason() is None


def test_a_branch_cannot_name_itself(cloned):
    git("checkout", "--quiet", "-b", "idea")
    change("params.yaml", "promote_from: null", "promote_from: idea")
    commit()
    git("push", "--quiet", "origin", "idea")
    assert reason() == (
        "origin has another register.promote_from, main, in the params.yaml of its default branch; merge a change of it"
        " there first"
    )


@pytest.mark.parametrize(
    ("forget", "said"),
    [
        (
            ("remote", "set-head", "origin", "--delete"),
            "the default branch of origin; `git remote set-head origin --auto`",
        ),
        (
            ("update-ref", "-d", "refs/remotes/origin/main"),
            "origin/main; `git fetch origin main:refs/remotes/origin/main`",
        ),
    ],
    ids=["its name", "its commit"],
)
def test_a_branch_cannot_name_itself_where_the_clone_does_not_know_the_default_branch(cloned, forget, said):
    """Fault in the registry: the clone does not know the remote's default branch.

    The version is `candidate`: `… this clone does not know the default branch of origin; …`

    As after `git init` and `git remote add`, or after a fetch of one branch.
    """
    git("checkout", "--quiet", "-b", "idea")
    change("params.yaml", "promote_from: null", "promote_from: idea")
    commit()
    git("push", "--quiet", "origin", "idea")
    git(*forget)
    assert reason().startswith(f"this clone does not know {said}, then `dvc repro --force")
    git(*re.search(r"`git (.*?)`", said)[1].split())
    assert reason().startswith("origin has another register.promote_from, main, ")


def test_a_branch_cannot_name_itself_where_the_default_branch_has_no_pipeline_yet(cloned):
    git("rm", "--quiet", "params.yaml")
    commit()
    git("push", "--quiet", "origin", "HEAD:trunk")
    git("reset", "--quiet", "--hard", "HEAD^")
    git("remote", "set-head", "origin", "trunk")
    change("params.yaml", "promote_from: null", "promote_from: main")
    commit()
    git("push", "--quiet", "origin", "HEAD:idea")
    git("update-ref", "refs/remotes/origin/main", "HEAD")
    assert reason().startswith("origin has another register.promote_from, trunk, ")


def test_of_several_remotes_origin_counts_and_of_one_its_name_does_not(cloned):
    git("remote", "rename", "origin", "team")
    assert reason() is None
    git("remote", "add", "mine", "../elsewhere")
    assert reason().startswith("no remote is called origin; `git remote rename OLD origin`, then ")
    git("remote", "rename", "team", "origin")
    assert reason() is None


@pytest.mark.parametrize("variable", ["DVC_EXP_NAME", "DVC_EXP_BASELINE_REV"])
def test_an_experiment_of_dvc_keeps_champion(repository, monkeypatch, variable):
    monkeypatch.setenv(variable, "tidy-axis")
    assert reason().startswith("this is an experiment of DVC; `dvc exp apply` it, commit it, merge it into main, and ")


@pytest.mark.parametrize("source", ["postgresql://user@host/warehouse", "../share.csv", "data/raw/export.csv"])
def test_customers_that_git_does_not_determine_are_those_of_the_committed_lock(repository, source):
    write("../share.csv", "customer_id\n1\n")
    write("data/raw/export.csv", "customer_id\n1\n")
    change("params.yaml", f"source: {SOURCE}", f"source: {source}")
    if "://" in source:
        change("dvc.yaml", '"${fetch.source}", ', "")
    lock()
    commit()
    assert reason() is None
    lock(snapshot="2" * 32)
    assert re.match(r"the customers are not those of dvc.lock in commit \w+; commit dvc.lock, merge it", reason())
    commit()
    assert reason() is None
    git("rm", "--quiet", "--cached", "dvc.lock")
    git("commit", "--quiet", "--message", "No lock")
    assert reason().startswith("the customers are not those of dvc.lock in commit ")


def test_a_source_that_dvc_tracks_counts_by_its_dvc_file(repository):
    git("rm", "--quiet", "--cached", SOURCE)
    write("data/sample/.gitignore", "/telco_customers.csv\n")
    known = f"outs:\n- md5: {hashlib.md5(Path(SOURCE).read_bytes()).hexdigest()}\n  path: telco_customers.csv\n"
    write(f"{SOURCE}.dvc", known)
    commit()
    lock(snapshot="3" * 32)
    assert reason() is None
    write(SOURCE, "customer_id\n2\n")
    lock()
    assert reason().startswith(f"dvc.lock was made with another {SOURCE}; ")
    write(f"{SOURCE}.dvc", known.replace("md5: ", "md5: 0"))
    assert reason().startswith(f"{SOURCE}.dvc differs from commit ")


def test_a_frozen_fetch_gives_the_customers_of_the_committed_lock(repository):
    change("dvc.yaml", "    cmd: python -m stages.fetch\n", "    cmd: python -m stages.fetch\n    frozen: true\n")
    commit()
    assert reason() is None
    lock(snapshot="2" * 32)
    assert reason().startswith("the customers are not those of dvc.lock in commit ")


def test_in_a_sub_folder_of_a_repository_the_same_holds(tmp_path, repository, monkeypatch):
    shutil.rmtree(".git")
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet", "--initial-branch", "main")
    write("churn/core/files.py", "not the pipeline's\n")
    commit()
    monkeypatch.chdir(repository)
    assert reason() is None
    write("../churn/core/files.py", "changed\n")
    assert reason() is None
    write("source.sql", "FROM source LIMIT 10\n")
    lock()
    assert reason().startswith("source.sql differs from commit ")


def test_the_comparison_has_the_margins_of_main(cloned):
    git("checkout", "--quiet", "-b", "idea")
    change("params.yaml", "margins: {roc_auc: 0.005", "margins: {roc_auc: 0.5")
    assert settings_of(promoting_branch(load_params())).gate.vs_baseline.margins["roc_auc"] == 0.005


def test_settings_of_main_that_this_code_cannot_read_are_one_sentence(cloned):
    change("params.yaml", "seed: 42", "sede: 42")
    commit()
    git("update-ref", "refs/remotes/origin/main", "HEAD")
    git("checkout", "--quiet", "--detach", "HEAD^")
    with pytest.raises(
        StageError, match=r"^origin/main:params.yaml: train.seed: is missing; .*newest commit of origin/m"
    ):
        settings_of(promoting_branch(load_params()))


def test_a_folder_of_another_account_says_what_to_run(repository, monkeypatch):
    """Fault in the registry: the folder belongs to another account, as in a container.

    register fails: `this folder belongs to another account, so git refuses to read it: run …`
    """
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(StageError, match=f"run `git config --global --add safe.directory {repository}`"):
        commit_tags()


def test_a_broken_pipeline_file_is_one_sentence(repository):
    write("dvc.yaml", "stages: {fetch: {deps: 3}}\n")
    commit()
    with pytest.raises(StageError, match=r"dvc.yaml or dvc.lock is not as DVC writes it: `dvc status` says where."):
        reason()
    write("dvc.yaml", "stages: [\n")
    with pytest.raises(StageError, match=r"^dvc.yaml is no valid YAML: "):
        reason()
