"""What a branch claims about itself is believed by nobody, nor what lies in its caches."""

import json
import re
import shutil
from pathlib import Path

from tests.defects.cases_data import some_of_the_holdout_in_training
from tests.defects.cases_model import TRUST_CASES, weak
from tests.defects.harness import judged, like_these, refuse, renew_profile, reported, rewrite
from tests.defects.protections import without_protection

import pandas as pd
import pytest
from ruamel.yaml import YAML

MODEL, HASH = "models/churn.skops", "models/churn.sha256"


@pytest.mark.parametrize("case", without_protection(TRUST_CASES), ids=lambda case: f"{case.family}: {case.name}")
def test_a_breach_of_trust_is_refused(case, branch, told):
    refuse(case, branch, told)


def planted(clone):
    """Plant the model of two trees in the run-cache, where the run of the model of main is; return its SHA-256."""
    yaml = YAML()
    runs = {path: yaml.load(path) for path in (clone.folder / ".dvc/cache/runs").glob("*/*/*")}
    entry, good = next((path, run) for path, run in runs.items() if run["cmd"] == "python -m stages.train")
    weak(clone)
    clone.ok("dvc", "repro", "train")
    bad = YAML(typ="safe").load(clone.folder / "dvc.lock")["stages"]["train"]["outs"]
    planted = clone.text(HASH)
    clone.ok("git", "checkout", "--quiet", ".")
    clone.ok("git", "clean", "--quiet", "-fd")
    good["outs"] = bad
    entry.chmod(0o644)
    yaml.dump(good, entry)
    for path in (clone.folder / HASH, clone.folder / MODEL):
        path.unlink()
    return planted


def test_a_branch_is_refused_with_a_planted_run(branch, told):
    model = planted(branch)
    found = judged(branch)
    assert branch.text(HASH) == model, "the planted run was not even taken"
    told("defects", "trust: a run planted in the run-cache of a branch", found)
    assert found.verdict == "blocked"
    assert found.stage == "gate"
    assert re.search("recall|accuracy", found.says)


def test_main_does_not_take_a_planted_run(branch, told, record_property):
    right = branch.text(HASH)
    planted(branch)
    branch.ok("python", "-m", "churn", "lock", "drop")
    printed = branch.ok("dvc", "repro", "--no-run-cache", "gate")
    record_property("kind", "defects")
    record_property("case", "trust: a run planted in the run-cache, on main")
    record_property("by", "lock")
    record_property("sentence", "main retrained: the planted model is gone")
    assert "Running stage 'train'" in printed
    assert branch.text(HASH) == right


def test_forged_numbers_of_a_good_model_are_gone(branch, record_property):
    evaluation = json.loads(branch.text("metrics/evaluation.json"))
    forged = json.dumps(evaluation | {"roc_auc": 0.9999}, indent=2, sort_keys=True) + "\n"
    Path(branch.folder / "metrics/evaluation.json").write_text(forged, encoding="utf-8")
    runs = branch.folder / ".dvc/cache/runs"
    shutil.copytree(runs, branch.folder.parent / "runs")
    branch.ok("dvc", "commit", "--force")
    shutil.rmtree(runs)  # CI has not what `dvc commit` told this machine's run-cache
    (branch.folder.parent / "runs").rename(runs)
    found = judged(branch)
    report = branch.text("build/report/report.md")
    said = next((line for line in report.splitlines() if "outdated, from" in line), "nothing")
    record_property("kind", "defects")
    record_property("case", "trust: better numbers forged for a good model, and their lock")
    record_property("by", "lock")
    record_property("sentence", said.lstrip("-> "))
    assert found.reasons == ()
    assert "outdated, from" in said
    assert json.loads(branch.text("metrics/evaluation.json")) == evaluation
    assert "0.9999" not in report


def all_ids(clone):
    """Return the ids in the line of the report that approves all that have one."""
    return re.search(r"^approve (.+)$", clone.text("build/report/report.md"), re.MULTILINE)[1]


def test_who_approves_a_looser_rule_approves_no_moved_holdout(branch, told):
    some_of_the_holdout_in_training(branch)
    branch.replace("params.yaml", "roc_auc: {min: 0.82}", "roc_auc: {min: 0.81}")
    moved = "the training table has .* whom main's split holds out"
    found = judged(branch)
    assert re.search(r"roc_auc.min is 0.81.*approval", found.says)
    assert re.search(moved, found.says)
    found = reported(branch, "", approved=all_ids(branch))
    told("defects", "trust: the holdout moved behind a looser rule, which is approved", found)
    assert found.verdict == "blocked"
    assert not re.search(r"roc_auc.min is 0.81", found.says)
    assert re.search(moved, found.says)


def test_who_approves_a_new_category_approves_no_worse_model(branch, told):
    def paid_by_a_wallet(frame):
        drawn = frame[frame["PaymentMethod"] == "Mailed check"].sample(250, random_state=0)
        return pd.concat([frame, like_these(drawn, "9").assign(PaymentMethod="Wallet")])

    rewrite(branch, paid_by_a_wallet)
    branch.replace("contract.yaml", "Mailed check]", "Mailed check, Wallet]")
    renew_profile(branch)
    branch.replace("params.yaml", "max_leaf_nodes: 8", "max_leaf_nodes: 2")
    assert "payment_method has the new values Wallet" in judged(branch).says
    found = reported(branch, "", approved=all_ids(branch))
    told("defects", "trust: a worse model behind a new category, which is approved", found)
    assert found.verdict == "blocked"
    assert all("against main's" in reason for reason in found.reasons), found.says


def test_a_new_key_of_the_gate_passes_once_its_code_is_approved_and_a_looser_rule_beside_it_does_not(branch):
    branch.replace("params.yaml", "  min_slice_rows: 100", "  patience: 3\n  min_slice_rows: 100")
    key = "    patience: Annotated[int, Stricter.SMALLER]\n"
    branch.replace("churn/config/params.py", "    overall: Bounds\n", f"{key}    overall: Bounds\n")
    found = judged(branch)
    assert found.sentence == "The comparison with main is not whole: params.yaml: gate.patience: is not a known key."
    code = all_ids(branch)
    assert code.startswith("judge-")
    assert " " not in code
    assert reported(branch, "", by_main=False).verdict == "blocked", "its own code does not approve itself"
    assert reported(branch, "", approved=code).verdict == "passed"
    assert f"| {code} | main's code cannot judge this branch" in branch.text("build/report/report.md")
    branch.replace("params.yaml", "  min_slice_rows: 100", "  min_slice_rows: 90")
    printed = branch.run("dvc", "repro", "gate").stdout
    found = reported(branch, printed, approved=code)
    assert found.reasons == ("params.yaml: gate.min_slice_rows is 90, on main 100: that takes a code owner's approval",)


@pytest.mark.parametrize("with_hash", [False, True], ids=["alone", "and its hash"])
def test_a_model_replaced_after_the_run_is_refused(with_hash, branch, told):
    branch.commit()
    branch.ok("python", "-m", "churn", "lock", "drop")
    printed = branch.ok("dvc", "repro", "gate")
    good = {name: (branch.folder / name).read_bytes() for name in (MODEL, HASH)}
    weak(branch)
    branch.ok("dvc", "repro", "train")
    bad = {name: (branch.folder / name).read_bytes() for name in (MODEL, HASH)}
    assert good != bad
    branch.ok("git", "checkout", "--quiet", ".")
    branch.ok("python", "-m", "churn", "lock", "drop")
    branch.ok("dvc", "repro", "gate")
    for name in (MODEL, HASH) if with_hash else (MODEL,):
        (branch.folder / name).unlink()
        (branch.folder / name).write_bytes(bad[name])
    found = reported(branch, printed)
    told("defects", f"trust: the model replaced after the run, {'and its hash' if with_hash else 'alone'}", found)
    assert found.verdict == "blocked"
