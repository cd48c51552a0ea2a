"""The pipeline through `dvc repro`, in a clone of its own."""

import hashlib
import json
import re
import shutil
import sqlite3
import subprocess
import time

from churn.data.split import key_lines

import pandas as pd
import psutil
import pytest

STAGES = ["fetch", "prepare", "validate", "train", "evaluate", "gate", "register"]


def json_of(clone, path):
    return json.loads(clone.text(path))


def versions_of(clone):
    """Return the versions and the version that is champion, as the registry's own tables have them."""
    database = sqlite3.connect(clone.folder / "mlflow.db")
    versions = [number for (number,) in database.execute("SELECT version FROM model_versions ORDER BY version")]
    aliases = dict(database.execute("SELECT alias, version FROM registered_model_aliases"))
    database.close()
    return versions, aliases


# From nothing to a registered model, and then nothing more to do


def test_the_first_run_in_a_fresh_clone_ends_with_a_champion(finished):
    assert finished.first_run.count("Running stage") + finished.first_run.count("skipping") == len(STAGES)
    assert "register: churn version 1 is champion" in finished.first_run
    assert versions_of(finished) == ([1], {"champion": 1})
    assert 0.83 < json_of(finished, "metrics/evaluation.json")["roc_auc"] < 0.87
    assert json_of(finished, "metrics/gate.json")["verdict"] == "passed"
    assert json_of(finished, "metrics/rows.json")["fetched"] == 7043


def test_the_first_run_leaves_nothing_to_commit_but_results(finished):
    committed = finished.ok("git", "show", "--name-only", "--format=", "HEAD").split()
    assert {name.split("/")[0] for name in committed} == {"dvc.lock", "metrics", "plots"}
    assert finished.ok("git", "status", "--porcelain") == ""


def test_a_stage_prints_a_few_lines_and_no_warnings(finished):
    lines = [line for line in finished.first_run.splitlines() if line]
    ours = [line for line in lines if re.match(rf"({'|'.join(STAGES)}): ", line)]
    assert len(ours) < 40
    assert not [line for line in lines if re.search(r"warn|traceback|deprecat|INFO", line, re.IGNORECASE)]


def test_a_second_run_runs_nothing(finished):
    assert finished.stages_run() == []
    assert finished.ok("dvc", "status").strip() == "Data and pipelines are up to date."


def test_everything_made_anew_elsewhere_on_other_threads_is_the_same_to_the_bit(finished, clone):
    before = clone.text("dvc.lock")
    printed = clone.ok("dvc", "repro", "--force", OMP_NUM_THREADS="2", PYTHONHASHSEED="7")
    assert printed.count("Running stage") == len(STAGES)
    assert clone.text("dvc.lock") == before == finished.text("dvc.lock")
    assert clone.ok("git", "status", "--porcelain") == ""


# What a change reruns, and what it does not


def change_gate(clone):
    clone.replace("params.yaml", "roc_auc: {min: 0.82}", "roc_auc: {min: 0.81}")


def change_threshold(clone):
    clone.replace("params.yaml", "threshold: 0.5", "threshold: 0.45")


def change_seed(clone):
    clone.replace("params.yaml", "seed: 42", "seed: 43")


def change_salt(clone):
    clone.replace("params.yaml", "salt: churn", "salt: pepper")


def change_bound(clone):
    clone.replace("contract.yaml", "tenure_months: {min: 0, max: 120}", "tenure_months: {min: 0, max: 100}")


def change_declaration(clone):
    """The categories in another order: the same data, but another encoding."""
    clone.replace("contract.yaml", 'values: [DSL, Fiber optic, "No"]', 'values: ["No", DSL, Fiber optic]')


def change_feature_function(clone):
    """Other values for the few new customers, which is no more than the profile allows."""
    clone.replace("churn/features.py", "+ has_internet)", '+ has_internet * (customers["tenure_months"] > 0))')


def rename_variable(clone):
    text = clone.text("churn/features.py").replace("has_internet", "is_online")
    (clone.folder / "churn/features.py").write_text(text)


def change_data(clone):
    path = "data/sample/telco_customers.csv"
    lines = clone.text(path).splitlines(keepends=True)
    (clone.folder / path).write_text("".join(lines[:-40]))


def reorder_data(clone):
    path = "data/sample/telco_customers.csv"
    header, *rows = clone.text(path).splitlines(keepends=True)
    (clone.folder / path).write_text("".join([header, *reversed(rows)]))


def change_readme(clone):
    (clone.folder / "README.md").write_text("Changed.\n")


@pytest.mark.parametrize(
    ("change", "reruns"),
    [
        (change_gate, ["gate", "register"]),
        (change_threshold, ["evaluate", "gate", "register"]),
        (change_seed, ["train", "evaluate", "gate", "register"]),
        (change_salt, STAGES[1:]),
        (change_bound, ["validate", "register"]),
        (change_declaration, STAGES),
        (change_feature_function, STAGES[1:]),
        (rename_variable, ["prepare", "register"]),  # the registered model brings the feature functions along
        (change_data, STAGES),
        (reorder_data, ["fetch"]),
        (change_readme, []),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_change_reruns_what_depends_on_it_and_nothing_else(clone, change, reruns):
    clone.environment["UNMEASURED"] = "true"  # the stages do as in the first run
    change(clone)
    assert clone.stages_run() == reruns
    assert clone.stages_run() == []


# What fails, and how it is told


def failing(clone):
    """Run `dvc repro`, which must fail, and return what it printed."""
    done = clone.run("dvc", "repro")
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    return done.stdout


def test_a_model_below_a_bound_is_blocked_and_not_registered(clone):
    clone.replace("params.yaml", "roc_auc: {min: 0.82}", "roc_auc: {min: 0.95}")
    printed = failing(clone)
    assert re.search(r"gate: failed +all customers +roc_auc +0\.86\d+ +min 0\.95 +margin -0\.0\d+", printed)
    assert "gate: blocked: roc_auc of all customers is 0.86" in printed
    first, reason, todo = clone.ok("python", "-m", "churn", "explain").splitlines()
    assert first.startswith("explain: gate stopped the last run, for 1 reason:")
    assert reason.startswith("  - roc_auc of all customers is 0.86")
    assert "`make bounds`; then run `dvc repro`" in todo
    assert "stages.register" not in printed
    assert json_of(clone, "metrics/gate.json")["verdict"] == "blocked"
    assert not (clone.folder / "mlflow.db").exists()
    refused = clone.run("dvc", "repro", "--single-item", "--force", "register")
    assert "has 'blocked', not 'passed': nothing is registered" in refused.stdout


def test_a_metric_that_cannot_be_computed_breaks_its_rule(clone):
    """Nobody is predicted to churn, so precision is undefined: told, and no crash."""
    clone.replace("params.yaml", "threshold: 0.5", "threshold: 0.999")
    clone.replace("params.yaml", "roc_auc: {min: 0.82}", "precision: {min: 0.1}")
    printed = failing(clone)
    assert re.search(r"evaluate: precision +none  \(none to none\)", printed)
    assert re.search(r"gate: failed +all customers precision +missing +min 0\.1", printed)
    assert json_of(clone, "metrics/evaluation.json")["precision"] is None


def test_two_slices_of_one_name_are_refused(clone):
    """Else the second would be judged in place of the first."""
    clone.replace("params.yaml", "new_customers: tenure_months < 6", "contract=Month-to-month: tenure_months >= 0")
    assert "contract=Month-to-month is the name of two slices; rename the condition" in failing(clone)


def test_a_failing_stage_leaves_the_ignored_files_ignored(clone):
    before = clone.text(".gitignore")
    clone.replace("params.yaml", "roc_auc: {min: 0.82}", "roc_auc: {min: 0.95}")
    failing(clone)
    assert clone.text(".gitignore") == before
    changed = clone.ok("git", "status", "--porcelain").split("\n")
    assert {line[3:] for line in changed if line} <= {"params.yaml", "metrics/gate.json", "dvc.lock"}


def test_an_unknown_metric_in_a_rule_is_said_before_anything_runs(clone):
    clone.replace("params.yaml", "roc_auc: {min: 0.82}", "roc_auk: {min: 0.82}")
    assert "gate: params.yaml: gate.overall.roc_auk: is not a metric; evaluate computes accuracy," in failing(clone)


def test_data_that_breaks_the_contract_is_never_trained_on(clone):
    text = clone.text("data/sample/telco_customers.csv")
    (clone.folder / "data/sample/telco_customers.csv").write_text(text.replace(",One year,", ",Annual,"))
    printed = failing(clone)
    assert "validate: train: contract has 1,1" in printed
    assert "values that the contract does not list" in printed
    assert re.search(r"validate: the data break \d+ rules of contract.yaml", printed)
    assert "stages.train" not in printed
    assert "Annual" not in clone.text("metrics/validation.json")


def test_a_new_feature_that_is_not_declared_is_stopped_by_the_contract(clone):
    """The story of this project: NaN for customers who never purchased, and nobody decided what it means."""
    clone.replace(
        "churn/features.py",
        'return customers.assign(num_products=customers[services].sum(axis="columns") + has_internet)',
        'customers = customers.assign(num_products=customers[services].sum(axis="columns") + has_internet)\n'
        '    return customers.assign(days_since_last_purchase=customers["total_charges"] / 30)',
    )
    assert "days_since_last_purchase is not declared in the contract" in failing(clone)


def test_rows_dropped_in_silence_are_stopped_by_the_row_counts(clone):
    clone.replace("churn/features.py", "customers.assign(num_products=", "customers.dropna().assign(num_products=")
    assert "add_num_products was given 7,043 rows and gave back 7,032" in failing(clone)


def test_rows_dropped_in_training_are_refused(clone):
    clone.replace(
        "stages/train.py",
        "features, labels, _ = read_table(TRAIN, contract)",
        "features, labels, _ = read_table(TRAIN, contract)\n"
        "    features = features.dropna()\n"
        "    labels = labels[features.index]",
    )
    assert "train: the model would see 5,5" in failing(clone)


@pytest.mark.parametrize(
    ("stage", "needs"),
    [
        ("prepare", "data/raw/customers.parquet"),
        ("validate", "data/features/train.parquet"),
        ("train", "data/features/train.parquet"),
        ("evaluate", "models/churn.skops"),
        ("gate", "metrics/evaluation.json"),
        ("register", "metrics/gate.json"),
    ],
)
def test_a_stage_run_by_hand_too_early_says_what_is_missing(clone, stage, needs):
    (clone.folder / needs).unlink()
    done = clone.run("python", "-m", f"stages.{stage}")
    assert done.returncode == 1
    assert done.stdout.startswith(f"{stage}: ")
    assert needs in done.stdout
    assert "dvc repro" in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_training_refuses_a_validation_that_failed(clone):
    clone.replace("metrics/validation.json", '"passed": true', '"passed": false')
    done = clone.run("python", "-m", "stages.train")
    assert "holds no passed validation of data/features/train.parquet" in done.stdout


@pytest.mark.parametrize(
    ("stage", "path"),
    [
        ("prepare", "data/raw/customers.parquet"),
        ("validate", "data/features/test.parquet"),
        ("evaluate", "data/features/test.parquet"),
        ("evaluate", "models/churn.skops"),
    ],
)
def test_a_file_that_was_cut_off_is_one_sentence(clone, stage, path):
    content = (clone.folder / path).read_bytes()
    (clone.folder / path).unlink()
    (clone.folder / path).write_bytes(content[: len(content) // 2])
    done = clone.run("python", "-m", f"stages.{stage}")
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1
    assert path in done.stdout


def test_a_holdout_with_one_outcome_is_refused(clone):
    path = clone.folder / "data/features/test.parquet"
    table = pd.read_parquet(path)
    path.unlink()
    table = table[table["churn"] == 0]
    table.to_parquet(path)
    done = clone.run("python", "-m", "stages.evaluate")
    assert "evaluate: data/features/test.parquet does not hold the customers that prepare put" in done.stdout
    account = json_of(clone, "metrics/rows.json")
    account["holdout_sha256"] = [hashlib.sha256(key_lines(table["customer_id"])).hexdigest()]
    (clone.folder / "metrics/rows.json").write_text(json.dumps(account))
    done = clone.run("python", "-m", "stages.evaluate")
    assert "evaluate: 0 of 1,063 customers of the holdout churned; metrics need both." in done.stdout


def test_training_refuses_a_table_that_was_not_validated(clone):
    shutil.copy(clone.folder / "data/features/test.parquet", clone.folder / "data/features/train.parquet.new")
    (clone.folder / "data/features/train.parquet.new").replace(clone.folder / "data/features/train.parquet")
    done = clone.run("python", "-m", "stages.train")
    assert "holds no passed validation of data/features/train.parquet" in done.stdout


def test_without_its_environment_the_first_stage_says_what_to_do(clone):
    (clone.folder / "bin").mkdir()
    bare = (
        "import runpy, sys; sys.path.insert(0, '.'); sys.argv = sys.argv[1:];"
        " runpy.run_module(sys.argv[1], run_name='__main__')"
    )
    (clone.folder / "bin" / "python").write_text(f'#!/bin/sh\nexec python3 -S -I -c "{bare}" "$@"\n')
    (clone.folder / "bin" / "python").chmod(0o755)
    done = clone.run("python", "-m", "stages.fetch", PATH=f"{clone.folder / 'bin'}:{clone.environment['PATH']}")
    assert done.returncode != 0
    assert "lacks what the stages need: run `make setup` once, then activate the environment" in done.stdout
    assert "Traceback" not in done.stdout


# What a person looks at


def test_dvc_shows_the_metrics_and_draws_every_plot(finished, tmp_path):
    shown = finished.ok("dvc", "metrics", "show")
    assert "roc_auc" in shown
    assert "sha256" not in shown
    finished.ok("dvc", "plots", "show", "--out", str(tmp_path / "plots"))
    page = (tmp_path / "plots" / "index.html").read_text()
    for title in (
        "ROC",
        "Precision and recall",
        "Calibration",
        "Confusion",
        "Scores",
        "Cumulative gains",
        "Permutation importance",
    ):
        assert f'"{title}"' in page
    assert page.count("vega-lite/v5.json") == 7


def test_dvc_draws_the_difference_to_another_commit(clone, tmp_path):
    clone.replace("params.yaml", "seed: 42", "seed: 43")
    clone.ok("dvc", "repro", "evaluate")
    clone.ok("dvc", "plots", "diff", "HEAD", "--out", str(tmp_path / "plots"))
    page = (tmp_path / "plots" / "index.html").read_text()
    assert '"rev": "HEAD"' in page
    assert '"rev": "workspace"' in page
    assert "roc_auc" in clone.ok("dvc", "metrics", "diff", "HEAD")


def test_fetch_is_frozen_by_hand(clone):
    """Fault in Git and folders: `dvc freeze fetch`.

    DVC refuses: `cannot dump a parametrized stage: 'fetch'`. `frozen: true` by hand works.
    """
    assert "cannot dump a parametrized stage" in clone.run("dvc", "freeze", "fetch").stdout
    clone.replace("dvc.yaml", "  fetch:\n", "  fetch:\n    frozen: true\n")
    clone.replace("source.sql", "SELECT", "-- another query\nSELECT")
    assert clone.stages_run() == []
    clone.replace("dvc.yaml", "    frozen: true\n", "")
    assert "Running stage 'fetch'" in clone.ok("dvc", "repro", "--dry", "fetch")


def test_the_model_file_is_no_pickle(finished):
    content = (finished.folder / "models/churn.skops").read_bytes()
    assert content[:4] == b"PK\x03\x04"
    assert b"pickle" not in content


def test_reports_hold_no_customer(finished):
    keys = [line.split(",")[0] for line in finished.text("data/sample/telco_customers.csv").splitlines()[1:]]
    for folder in ("metrics", "plots"):
        for file in (finished.folder / folder).iterdir():
            assert not [key for key in keys if key in file.read_text()]


def test_dvc_keeps_its_own_files_out_of_the_home_folder(finished):
    assert not list((finished.folder.parent / "home").rglob("*dvc*"))


@pytest.mark.parametrize("dvc_too", [False, True], ids=["the stage", "dvc too"])
def test_a_stage_that_is_killed_under_dvc_is_made_by_the_next_run(clone, dvc_too):
    """Fault in Git and folders: `kill -9` ends a stage, or DVC with it.

    The next `dvc repro` makes the same bytes. DVC prints `failed to run: python -m stages.train, exited with 137`.
    """
    before, log = (clone.folder / "models/churn.skops").read_bytes(), clone.folder / ".cache/stages.jsonl"
    lines = log.read_text().count("\n")
    command = ["dvc", "repro", "--force", "--single-item", "train"]
    dvc = subprocess.Popen(command, cwd=clone.folder, env=clone.real, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while log.read_text().count("\n") == lines:  # what a stage begins with
        assert time.monotonic() < deadline, "train does not start"
        time.sleep(0.01)
    (stage,) = [one for one in psutil.Process(dvc.pid).children(recursive=True) if "stages.train" in one.cmdline()]
    for process in [dvc, stage] if dvc_too else [stage]:
        process.kill()
    assert dvc.wait(60) != 0
    psutil.wait_procs([stage], 60)
    assert not (clone.folder / "models/churn.skops").exists()
    clone.ok("dvc", "checkout", "train")
    assert (clone.folder / "models/churn.skops").read_bytes() == before
    assert "Running stage 'train'" in clone.ok(*command)
    assert (clone.folder / "models/churn.skops").read_bytes() == before
