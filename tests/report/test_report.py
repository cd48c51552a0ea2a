"""`python -m report` in a clone: what it finds out, whatever became of the pipeline."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter

from churn.config.params import load_params
from churn.page.filters import flat
from report.render import JUDGED
from tests.conftest import ROOT
from tests.pages import Page, untraced

import pandas as pd
import pytest
from ruamel.yaml import YAML


def change(clone, *edits, commit=True):
    """Edit a branch and run what CI runs, from nothing that the branch committed; return the output of `dvc repro`."""
    clone.ok("git", "switch", "--quiet", "--create", "change")
    for edit in edits:
        clone.replace(*edit)
    if commit:
        clone.commit()
    (clone.folder / ".cache/stages.jsonl").unlink(missing_ok=True)
    clone.ok("python", "-m", "churn", "lock", "drop")
    return clone.run("dvc", "repro", "gate").stdout


def reported(clone, base="main", **environment):
    """Make the report and return what the terminal shows, the Markdown and the outcome."""
    done = clone.run("python", "-m", "report", "--base", base, **environment)
    outcome = json.loads(clone.text("build/report/outcome.json"))
    assert done.returncode == (outcome["verdict"] == "blocked"), done.stdout
    return done.stdout, clone.text("build/report/report.md"), outcome


def assert_traced(clone):
    """Each number of the page is in a file that its section names, or in the comment, or in the judgement."""
    sections, rows = Page(clone.text("build/report/report.html")).sections, json.loads(clone.text("metrics/rows.json"))
    rules = json.loads(clone.text("metrics/gate.json"))["rules"]
    rules += json.loads(clone.text("build/report/judgement.json"))["rules"]
    slices = Counter(rule["kind"] in JUDGED for rule in rules if rule["scope"] != "all customers")
    settings = load_params(clone.folder / "params.yaml").model_dump(mode="json", by_alias=True)
    known = {
        "data": {f"{rows[part] / rows['fetched']:.1%}" for part in ("train", "test", "fetched")},
        "rules": set(map(str, slices.values())),
        "settings": {str(len(flat(settings)))},
    }
    beside = ("build/report/report.md", "build/report/judgement.json")
    left = {name: untraced(one, clone.folder, *beside, known=known.get(name, ())) for name, one in sections.items()}
    assert {name: words for name, words in left.items() if words} == {}
    assert {"metrics", "plots", "slices", "rules", "data", "settings", "lineage"} <= set(left)


def all_ids(text):
    """Return the ids in the line of a report that approves all that have one."""
    return re.search(r"^approve (.+)$", text, re.MULTILINE)[1]


def test_a_change_within_noise_passes_and_says_so(clone):
    change(clone, ("params.yaml", "seed: 42", "seed: 43"))
    shown, text, outcome = reported(clone)
    assert outcome["verdict"] == "passed"
    assert outcome["headline"].startswith("Passes the gate: ROC AUC 0.86")
    assert outcome["headline"].endswith(" against main, within noise")
    assert shown.startswith(outcome["headline"])
    assert "the same 1,452 customers" in text
    assert "| params.yaml: train.seed | 42 | 43 |" in text
    assert "The committed dvc.lock is outdated, from train on; this report does not use them" in text
    picture, page = ((clone.folder / "build/report" / name).read_bytes() for name in ("comparison.png", "report.html"))
    assert picture[:4] == b"\x89PNG"
    assert_traced(clone)
    assert clone.ok("git", "worktree", "list").count("\n") == 1
    assert reported(clone) == (shown, text, outcome)
    assert (clone.folder / "build/report/comparison.png").read_bytes() == picture
    assert (clone.folder / "build/report/report.html").read_bytes() == page


def test_the_same_state_is_the_same_report_and_nothing_is_trained_for_it(clone):
    change(clone)
    first = reported(clone)
    assert first[0].startswith("Passes the gate: ROC AUC 0.862; the model is main's, byte for byte\n")
    assert "| ROC AUC |" not in first[1], "nothing is to be compared"
    assert "Parameters, contract and profile" not in first[1]
    shutil.rmtree(clone.folder / ".dvc/cache")  # so that main's side could not be restored
    assert reported(clone) == first
    assert not (clone.folder / "build/report/comparison.png").exists(), "two curves, one on the other"
    assert [line for line in clone.text(".cache/stages.jsonl").splitlines() if '"train"' in line] == []


def test_a_degraded_model_is_blocked_in_the_gates_own_words(clone):
    change(clone, ("params.yaml", "max_iter: 200", "max_iter: 2"))
    shown, text, outcome = reported(clone)
    assert outcome["verdict"] == "blocked"
    assert outcome["stage"] == "gate"
    assert outcome["headline"].startswith("Blocked: ")
    assert json.loads(clone.text("metrics/gate.json"))["reasons"][0] in outcome["headline"]
    assert "🔴 worse" in text
    assert "### Failed rules of the gate: " in text
    assert "failed: " in shown


def test_data_that_break_the_contract_block_with_the_contracts_sentence(clone):
    nullable = (
        "    nulls: allow\n    because: A customer in the first month (tenure_months 0) has not been billed yet.\n"
    )
    change(clone, ("contract.yaml", nullable, ""))
    _, text, outcome = reported(clone)
    assert outcome == {
        "verdict": "blocked",
        "headline": "Blocked: total_charges has 8 nulls that the contract does not allow (and 1 more)",
        "stage": "validate",
        "reasons": [f"total_charges has {count} nulls that the contract does not allow" for count in (8, 3)],
    }
    assert "This branch changes the data contract" in text
    assert "| train | not run | - |" in text
    assert "**ROC AUC**" not in text, "the metrics that lie in the commit are of another state"


def test_a_training_that_crashed_is_named_without_its_message(clone):
    crash = "def main() -> None:\n    raise RuntimeError('7590-VHVEG')\n"
    change(clone, ("stages/train.py", "def main() -> None:\n", crash))
    _, text, outcome = reported(clone)
    assert outcome["headline"].startswith("Blocked: train: crashed with RuntimeError in stages/train.py, line ")
    assert outcome["stage"] == "train"
    assert "7590" not in text


def test_a_stage_that_never_ran_is_not_judged(clone):
    clone.replace("params.yaml", "seed: 42", "seed: 43")
    _, text, outcome = reported(clone)
    assert outcome["verdict"] == "blocked"
    assert outcome["headline"].startswith("Not judged: train did not run; `dvc repro gate` runs it")
    assert "| gate | not run | - |" in text


def test_metrics_and_lock_that_agree_with_each_other_but_not_with_the_model_are_recomputed(clone):
    """The forgery that `dvc repro` alone believes."""
    change(clone, ("metrics/evaluation.json", '"roc_auc": 0.861929', '"roc_auc": 0.999'))
    _, text, outcome = reported(clone)
    assert "ROC AUC 0.862; the model is main's" in outcome["headline"]
    assert (
        "> [!NOTE]\n> - The committed results are outdated: metrics/evaluation.json; this report does not use" in text
    )


def test_a_base_that_the_clone_does_not_know_is_said_and_the_rest_reported(clone):
    change(clone)
    _, text, outcome = reported(clone, base="origin/main")
    assert (clone.folder / "build/report/comparison.png").exists(), "the branch alone"
    fault = "Nothing to compare with: this clone does not know origin/main; fetch it with its history"
    assert outcome["headline"] == f"Blocked: {fault}"
    assert outcome["stage"] == "comparison"
    assert "| ROC AUC | 0.8619 |" in text
    _, text, outcome = reported(clone, base="origin/main", APPROVED=all_ids(text), APPROVED_BY="an-owner")
    assert outcome["headline"] == "Passes the gate: ROC AUC 0.862, not compared with main"
    assert fault in text
    assert "### Approved by an-owner\n" in text


def test_a_base_without_a_pipeline_is_said(clone):
    clone.commit()
    clone.ok("git", "switch", "--quiet", "--orphan", "before")
    clone.ok("git", "commit", "--quiet", "--allow-empty", "--message", "Nothing yet")
    clone.ok("git", "switch", "--quiet", "main")
    clone.ok("git", "merge", "--quiet", "--allow-unrelated-histories", "before")
    _, text, _ = reported(clone, base="before")
    assert re.search("The comparison with main is not whole: [0-9a-f]{8} has no pipeline in its root", text)
    assert "Traceback" not in text


def test_other_data_are_compared_on_the_holdout_that_main_has_not_seen(clone):
    lines = clone.text("data/sample/telco_customers.csv").splitlines(keepends=True)
    clone.ok("git", "switch", "--quiet", "--create", "change")
    (clone.folder / "data/sample/telco_customers.csv").write_text("".join(lines[:-200]))
    clone.commit()
    clone.run("dvc", "repro", "gate")
    _, text, outcome = reported(clone)
    assert "against main" in outcome["headline"]
    assert "### Data: 0 customers added, 200 removed, 0 changed" in text
    assert "features drifted from the data that main was trained on" in text
    assert "; main: 7,043 fetched" in text


def test_another_split_is_compared_only_where_main_has_not_trained(clone):
    change(clone, ("params.yaml", "salt: churn", "salt: pepper"))
    ours = set(pd.read_parquet(clone.folder / "data/features/test.parquet")["customer_id"])
    _, text, _ = reported(clone)
    clone.ok("git", "stash", "--quiet")
    clone.ok("git", "switch", "--quiet", "main")
    clone.ok("dvc", "checkout")
    both = ours & set(pd.read_parquet(clone.folder / "data/features/test.parquet")["customer_id"])
    assert f"those {len(both):,} of {len(ours):,} customers of the holdout that main has not seen" in text


def test_a_source_outside_the_repository_is_compared_with_what_main_was_trained_on(clone, tmp_path):
    source = tmp_path / "share.csv"
    lines = clone.text("data/sample/telco_customers.csv").splitlines(keepends=True)
    source.write_text("".join(lines))
    clone.replace("params.yaml", "source: data/sample/telco_customers.csv", f"source: {source}")
    clone.ok("dvc", "repro", "evaluate")
    clone.commit()
    source.write_text("".join(lines[:-200]))
    clone.ok("dvc", "repro", "gate")
    _, text, _ = reported(clone, base="HEAD")
    assert "### Data: 0 customers added, 200 removed, 0 changed" in text
    assert "The committed" not in text, "what is not committed claims nothing"

    locked = YAML(typ="safe").load(clone.ok("git", "show", "HEAD:dvc.lock"))["stages"]["fetch"]["outs"][0]["md5"]
    (clone.folder / ".dvc/cache/files/md5" / locked[:2] / locked[2:]).unlink()
    _, text, outcome = reported(clone, base="HEAD")
    assert "not whole: the snapshot that it was trained on is in no DVC cache or remote" in text
    assert outcome["headline"].startswith("Blocked: The comparison with main is not whole")


def test_customers_that_changed_in_the_holdout_alone_are_counted(clone):
    holdout = pd.read_parquet(clone.folder / "data/features/test.parquet")["customer_id"]
    lines = clone.text("data/sample/telco_customers.csv").splitlines(keepends=True)
    index = next(number for number, row in enumerate(lines) if row.split(",")[0] == holdout.iloc[0])
    text = lines[index]
    lines[index] = text.replace(",Yes,", ",No,", 1) if ",Yes," in text else text.replace(",No,", ",Yes,", 1)
    (clone.folder / "data/sample/telco_customers.csv").write_text("".join(lines))
    clone.run("dvc", "repro", "gate")
    assert "### Data: 0 customers added, 0 removed, 1 changed" in reported(clone, base="HEAD")[1]


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("params.yaml", "train: [", "Blocked: params.yaml is no valid YAML"),
        ("params.yaml", "{}", "Blocked: params.yaml: fetch: is missing"),
        ("dvc.lock", "stages: [", "Blocked: `dvc status` fails with the exit status "),
        ("dvc.yaml", "stages: 3", "Blocked: `dvc status` fails with the exit status "),
    ],
)
def test_settings_that_nobody_can_read_are_the_verdict(clone, file, content, said):
    (clone.folder / file).write_text(content)
    _, text, outcome = reported(clone, base="HEAD")
    assert outcome["verdict"] == "blocked"
    assert outcome["headline"].startswith(said)
    assert "Traceback" not in text


def test_a_main_that_fails_in_an_unheard_of_way_is_no_main_to_pass_beside(clone):
    text = clone.text("stages/evaluate.py").replace(" PREDICTIONS,", "")
    text = text.replace("PREDICTIONS", "Path('data/elsewhere.parquet')")
    text = text.replace("from typing", "from pathlib import Path\nfrom typing")
    (clone.folder / "stages/evaluate.py").write_text(text)
    clone.replace("dvc.yaml", "      - data/predictions/test.parquet\n      - plots:", "      - plots:")
    clone.replace("params.yaml", "seed: 42", "seed: 43")  # another model, or there is nothing to compare
    clone.commit()
    clone.ok("git", "switch", "--quiet", "--create", "change")
    clone.ok("git", "revert", "--no-edit", "HEAD")
    clone.run("dvc", "repro", "gate")
    _, text, outcome = reported(clone)
    assert outcome["headline"] == "Blocked: The comparison with main is not whole: it fails with FileNotFoundError"
    assert "| ROC AUC | 0.8619 |" in text


def test_what_a_killed_report_left_behind_is_in_nobodys_way(clone):
    (clone.folder / ".cache/baseline/data").mkdir(parents=True)
    change(clone)
    assert "the model is main's" in reported(clone)[2]["headline"]


def test_a_report_waits_for_another_one_in_the_same_folder(clone):
    change(clone)
    (clone.folder / "build").mkdir(exist_ok=True)
    folder = os.open(clone.folder / "build", os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    waits = subprocess.Popen(
        [sys.executable, "-m", "report", "--base", "main"], cwd=clone.folder, stderr=subprocess.PIPE, text=True
    )
    assert waits.stderr.readline() == "report: waits for another report in this folder\n"
    assert not (clone.folder / "build/report").exists()
    os.close(folder)
    assert waits.wait(120) == 0
    assert (clone.folder / "build/report/report.md").exists()


def test_in_a_pull_request_the_commands_check_out_the_very_merge_that_was_judged(clone):
    base = clone.ok("git", "rev-parse", "HEAD").strip()
    clone.ok("python", "-m", "report", "--base", base, GITHUB_REF="refs/pull/7/merge", BASE_NAME="origin/trunk")
    text = clone.text("build/report/report.md")
    assert f"git fetch origin {base} && git switch --detach {base}\n" in text
    assert f"BASE_NAME=origin/trunk python -m report --base {base}\n" in text, "origin/trunk moves on"
    assert base[:8] not in text.partition("Reproduce")[0]


def test_the_commands_to_reproduce_it_do(clone):
    if not (ROOT / ".venv" / ".dev").exists():
        pytest.skip("the environment was not made by make")
    (clone.folder / ".venv").symlink_to(ROOT / ".venv")
    change(clone, ("params.yaml", "seed: 42", "seed: 43"))
    _, text, outcome = reported(clone)
    checkout, *commands = re.search(r"```console\n(.*?)\n```", text, re.DOTALL)[1].splitlines()
    assert re.fullmatch(r"git fetch origin ([0-9a-f]{40}) && git switch --detach \1", checkout)
    clone.ok("git", "stash")
    clone.ok("git", "switch", "--quiet", "--detach", checkout.split()[-1])
    clone.ok("bash", "-c", "set -e\n" + "\n".join(commands))
    assert json.loads(clone.text("build/report/outcome.json")) == outcome


def test_a_weakened_judge_is_the_first_thing_that_is_said(clone):
    change(
        clone,
        ("params.yaml", "roc_auc: {min: 0.82}", "roc_auc: {min: 0.5}"),
        ("stages/gate.py", "{status('passed')}, ", "all is well, "),
    )
    (clone.folder / ".github").mkdir(exist_ok=True)
    (clone.folder / ".github/é.yml").write_text("on: push\n")
    clone.commit()
    _, text, _ = reported(clone)
    fault = "gate.overall.roc_auc.min is 0.5, on main 0.82: that takes a code owner's approval"
    assert text.startswith(f"## ⛔ Blocked: params.yaml: {fault}")
    assert f"| {all_ids(text)} | params.yaml: {fault} |" in text.partition("### Refused by main's judge")[2]
    assert reported(clone, APPROVED_BY="an-owner")[2]["verdict"] == "blocked", "without an id nothing is approved"
    _, text, outcome = reported(clone, APPROVED=all_ids(text), APPROVED_BY="an-owner")
    assert outcome["verdict"] == "passed"
    assert text.startswith("## ⚠️ Passes the gate")
    assert "### Approved by an-owner\n" in text
    assert "changes the gate rules, 1 of them looser than before: gate.overall.roc_auc.min 0.82 → 0.5" in text
    assert "changes the code that judges: stages/gate.py" in text
    assert "changes the workflows: .github/é.yml" in text
    assert text.index("changes the gate rules") < text.index("**The gate**: ")


def test_a_slice_with_another_name_alone_is_not_called_looser(clone):
    change(clone, ("params.yaml", "      new_customers: ", "      newcomers: "))
    clone.replace("params.yaml", "    new_customers:\n", "    newcomers:\n")
    clone.run("dvc", "repro", "gate")
    _, text, outcome = reported(clone)
    assert outcome["verdict"] == "passed"
    assert "looser" not in text
    assert text.startswith("## ✅ Passes the gate")


def test_a_renewed_profile_is_shown_beside_mains(clone):
    lines = clone.text("data/sample/telco_customers.csv").splitlines(keepends=True)
    clone.ok("git", "switch", "--quiet", "--create", "change")
    (clone.folder / "data/sample/telco_customers.csv").write_text("".join(lines[:-100]))
    clone.ok("dvc", "repro", "prepare")
    assert "profile: profile.json, 6,943 customers, 19 features" in clone.ok("python", "-m", "churn", "profile")
    clone.commit()
    clone.run("dvc", "repro", "gate")
    _, text, _ = reported(clone)
    assert "This branch changes the reference profile: " in text
    assert "| profile.json: rows | 7043 | 6943 |" in text
    assert "| profile.json: contract=One year | 0.2091 | 0.2" in text


def test_the_report_holds_no_customer(clone):
    lines = clone.text("data/sample/telco_customers.csv").splitlines(keepends=True)
    (clone.folder / "data/sample/telco_customers.csv").write_text("".join(lines[:-50]))
    clone.run("dvc", "repro", "gate")
    _, text, outcome = reported(clone)
    keys = [line.split(",")[0] for line in lines[1:]]
    assert not [key for key in keys if key in text + json.dumps(outcome)]


@pytest.mark.parametrize("content", ["schema: [", "7", "stages: 3"])
def test_a_lock_that_is_none_is_one_sentence(clone, content):
    (clone.folder / "dvc.lock").write_text(content)
    done = clone.run("python", "-m", "churn", "lock", "drop")
    assert done.returncode == 1
    assert done.stdout == "lock: dvc.lock is no lock that DVC wrote: `git checkout HEAD -- dvc.lock` restores it.\n"
