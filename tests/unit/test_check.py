"""Settings that do not fit each other are named together, before a customer is read."""

import json
import re
import shutil
import subprocess
import sys

from churn.config.check import checked_settings, estimator_faults, profile_note
from churn.config.contract import WRITTEN
from churn.config.params import AFTER_TRAINING, OVERALL, WINDOW_OPEN
from churn.core.errors import StageError
from churn.data.conditions import condition_faults
from churn.data.snapshot import OWN
from tests.conftest import ROOT
from tests.frozen import copy_of

import pytest
from ruamel.yaml import YAML


@pytest.fixture
def checked(tmp_path, monkeypatch):
    """Return a function that changes the sample's settings, and returns what is wrong with them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "churn").mkdir()
    shutil.copy(copy_of("churn/features.py"), tmp_path / "churn/features.py")

    def check(params=lambda values: None, contract=lambda values: None):
        for name, change in (("params.yaml", params), ("contract.yaml", contract)):
            values = YAML(typ="safe").load(copy_of(name))
            change(values)
            YAML(typ="safe").dump(values, tmp_path / name)
        try:
            checked_settings(condition_faults)
        except StageError as error:
            return str(error)
        return None

    return check


def test_the_samples_settings_fit_each_other(checked):
    assert checked() is None


def test_a_condition_called_like_all_customers_is_refused(checked):
    def named(values):
        values["evaluate"]["slices"]["conditions"]["all customers"] = "tenure_months < 6"

    assert checked(named) == (
        "params.yaml: evaluate.slices.conditions: all customers names the rules on all of them; rename the condition."
    )


def test_the_names_that_are_the_pipelines_own_are_in_the_docs():
    page = (ROOT / "docs/adapt.md").read_text(encoding="utf-8").partition("## What is refused")[2].partition("\n## ")[0]
    assert {OWN, OVERALL, WINDOW_OPEN, AFTER_TRAINING, *WRITTEN} <= {*re.findall(r"`([^`]+)`", page)}


def on_dask(values):
    values["compute"] = {"engine": "dask"}


def test_what_dask_cannot_do_yet_is_refused_before_a_customer_is_read(checked, monkeypatch):
    """Fault in the settings: `compute.engine: dask` with another estimator, or without Dask.

    The first stage that runs fails, with a sentence for each.
    """

    monkeypatch.setattr("churn.config.check.find_spec", lambda name: None)
    found = [line.strip().rstrip(";.") for line in checked(on_dask).splitlines()]
    where = "params.yaml: compute.engine: dask"
    assert found[1:] == [
        f"{where} needs Dask, which is not installed: `make setup` installs requirements-dask.txt for it",
        f"{where} trains xgboost.XGBClassifier alone, and train.estimator is"
        " sklearn.ensemble.HistGradientBoostingClassifier: change one of them",
    ]


@pytest.mark.parametrize("storage", [None, "shared/churn"])
def test_a_scheduler_needs_a_storage_that_its_workers_reach(checked, storage):
    def far(values):
        on_dask(values)
        values["compute"] |= {"scheduler": "tcp://10.0.0.5:8786", "storage": storage}

    assert checked(far) == (
        "params.yaml: compute: scheduler: its workers may be other machines: add storage, an s3:// URL or the whole"
        " path of a folder that they share."
    )


@pytest.mark.parametrize("storage", ["gs://bucket/churn", "S3://bucket/churn", "s3:/bucket", "file:///mnt/churn"])
def test_a_storage_of_another_kind_is_refused_and_not_taken_for_a_folder(checked, storage):
    def elsewhere(values):
        on_dask(values)
        values["compute"]["storage"] = storage

    assert checked(elsewhere) == (
        "params.yaml: compute: storage: needs s3://bucket/prefix, or a folder that all machines share."
    )


def wrong_params(v):
    v["evaluate"]["slices"]["columns"] += ["Payment_method", "tenure_months", "customer_id"]
    v["evaluate"]["slices"]["conditions"]["late"] = "tenure_month < 6"
    v["gate"]["slices"] |= {
        "contract=month-to-month": {"recall": {"min": 0.1}},
        "partner=true": {"recall": {"min": 0.1}},
        "new_customer": {"recall": {"min": 0.1}},
        "grün": {"recall": {"min": 0.1}},
    }
    v["prepare"]["drop"] = {"test": "num_products = 1"}
    v["train"]["estimator"] = "sklearn.ensemble.RandomForestClasifier"


def test_every_fault_of_the_settings_is_a_line_with_the_nearest_name(checked):
    """Fault in the settings: a slice, a condition, a column or an estimator is not there, or is spelled otherwise.

    The first stage that runs fails, and names all of them: `2 settings are wrong: …`
    """
    found = [line.rstrip(";.") for line in checked(wrong_params).splitlines()]
    assert found[0] == "10 settings are wrong:"
    assert {*found[1:]} == {
        "  params.yaml: evaluate.slices.columns: Payment_method is not a category or boolean of the contract"
        " (is it payment_method?)",
        "  params.yaml: evaluate.slices.columns: tenure_months is not a category or boolean of the contract",
        "  params.yaml: evaluate.slices.columns: customer_id is not a category or boolean of the contract",
        "  params.yaml: gate.slices.contract=month-to-month: is not a slice (is it contract=Month-to-month?)",
        "  params.yaml: gate.slices.partner=true: is not a slice: list partner in evaluate.slices.columns",
        "  params.yaml: gate.slices.new_customer: is not a slice (is it new_customers?)",
        "  params.yaml: gate.slices.grün: is not a slice; it is column=value, the name of a condition, or `column is"
        " missing`",
        "  params.yaml: train.estimator: sklearn.ensemble.RandomForestClasifier does not exist (is it"
        " RandomForestClassifier?): name a classifier of sklearn, lightgbm.LGBMClassifier or xgboost.XGBClassifier",
        "  params.yaml: prepare.drop.test: `num_products = 1`: num_products is computed by churn/features.py, after"
        " rows are dropped",
        "  params.yaml: evaluate.slices.conditions.late: `tenure_month < 6`: contract.yaml declares no column"
        " tenure_month (is it tenure_months?); a text has single quotes",
    }


def test_the_faults_of_both_files_are_named_together(checked):
    def rules(v):
        v["rules"]["ranges"].pop("num_products")
        v["rules"]["changes"]["Contract"] = 0.1

    def fewer(v):
        v["gate"]["overall"]["profit_per_customer"] = {"min": 1}
        v["evaluate"]["campaign"].pop("profit")

    assert [line.rstrip(";.") for line in checked(fewer, rules).splitlines()] == [
        "3 settings are wrong:",
        "  params.yaml: gate.overall.profit_per_customer: needs evaluate.campaign.profit: add it, or remove the rule",
        "  contract.yaml: rules.ranges: no range for num_products; every numeric feature has one",
        "  contract.yaml: rules.changes: Contract is not a feature (is it contract?)",
    ]


def test_a_single_fault_is_one_sentence(checked):
    wrong = checked(lambda v: v["gate"]["slices"].update({"Senior_citizen=true": {"recall": {"min": 0.1}}}))
    assert wrong == "params.yaml: gate.slices.Senior_citizen=true: is not a slice (is it senior_citizen=true?)."
    assert checked(lambda v: v.pop("train")) == "params.yaml: train: is missing."


def test_a_slice_of_missing_values_and_a_boolean_value_are_slices(checked):
    rules = {"total_charges is missing": {"recall": {"min": 0.1}}, "senior_citizen=false": {"recall": {"min": 0.1}}}
    assert checked(lambda v: v["gate"]["slices"].update(rules)) is None


@pytest.mark.parametrize(
    ("name", "features", "says"),
    [
        ("num_products", "FEATURES = ()", "contract.yaml: columns.num_products: has `computed: true`, but FEATURES in"),
        (None, None, "churn/features.py: FEATURES has functions, but no column of contract.yaml has `computed: true`"),
        (None, "FEATURES = ()", None),
        (None, "FEATURES: tuple = tuple(function for function in ())", None),
        ("num_products", "def syntax error", None),  # prepare names it
    ],
)
def test_functions_and_computed_columns_come_together(checked, tmp_path, name, features, says):
    def without(v):
        v["columns"].pop("num_products")
        v["rules"]["ranges"].pop("num_products")

    if features:
        (tmp_path / "churn/features.py").write_text(features)
    found = checked(contract=(lambda v: None) if name else without)
    assert found is None if says is None else found.startswith(says)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("sklearn.linear_model.LogisticRegression", ""),
        ("sklearn.ensemble._forest.RandomForestClassifier", ""),
        ("sklearn.tree._tree.Tree", ""),  # compiled: train names it
        ("sklearn.linear_models.LogisticRegression", "does not exist"),
        ("sklearn.linear_model.Logistic", "does not exist"),
        ("sklearn", "is not from a listed package"),
        ("xgboost.XGBClassifier", ""),
        ("xgboost.XGBRFClassifier", "is not from a listed package"),
        ("lightgbm.sklearn.LGBMClassifier", "is not from a listed package"),
        ("os.system", "is not from a listed package"),
        ("sklearn.", "is not from a listed package"),
        ("", "is not from a listed package"),
        ("sklearn../../x.y", "is not from a listed package"),
    ],
)
def test_an_estimator_is_looked_up_without_an_import(params, path, found):
    wrong = params.model_copy(update={"train": params.train.model_copy(update={"estimator": path})})
    faults = list(estimator_faults(wrong, None))
    assert [found in fault for fault in faults] == ([True] if found else [])


def test_a_foreign_profile_is_one_line_and_stops_nobody_who_makes_the_first_one(contract, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert profile_note(contract) is None
    for described, noted in (({}, True), (dict.fromkeys(contract.features[3:]), False), ([], True), (None, False)):
        (tmp_path / "profile.json").write_text(json.dumps({"features": described}))
        assert (profile_note(contract) is not None) == noted
    (tmp_path / "profile.json").write_text("no JSON")
    assert profile_note(contract) is None


@pytest.mark.parametrize("stage", ["fetch", "gate"])
def test_a_stage_names_wrong_settings_before_it_reads_anything(checked, tmp_path, stage):
    assert checked(wrong_params)
    done = subprocess.run(
        [sys.executable, "-m", f"stages.{stage}"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        f"{stage}: {10 if stage == 'fetch' else 8} settings are wrong:\n{stage}:   params.yaml: "
    )
