"""A table with a row for each customer and month goes from init to a registered version by the page's commands."""

import json
import re
import shlex
import shutil

from tests.conftest import ROOT, Clone, clone_of_tree, run_pytest
from tests.customer_months import SOURCE, customer_months

import pytest

LATER = "2026-01-20"
SPLITS = 12  # for the bounds: fewer than a person takes
# What would read the live files by mistake; tests/pipeline/test_other_table.py has another table.
WITH = [
    "tests/own",
    "tests/pipeline/test_graph.py::test_a_stage_depends_on_the_code_that_it_imports_and_no_more",
    "tests/pipeline/test_run.py::test_the_first_run_in_a_fresh_clone_ends_with_a_champion",
    *(f"tests/unit/test_{name}.py" for name in ("contract", "features", "frozen", "gate", "params", "score_rows")),
]


def commands_of_the_page():
    page = (ROOT / "docs/adapt.md").read_text(encoding="utf-8").partition("## Customers over time\n")[2]
    (block,) = re.findall(r"```console\n(.*?)```", page.partition("\n## ")[0], re.DOTALL)
    return block.splitlines()


@pytest.fixture(scope="module")
def adopted(tmp_path_factory):
    """A clone after the page's commands, and what each of them printed; main is what it began with."""
    clone = clone_of_tree(tmp_path_factory.mktemp("months") / "repository")
    (clone.folder / SOURCE).write_text(customer_months().to_csv(index=False))
    clone.printed = {}
    for line in commands_of_the_page():
        command = [*shlex.split(line), *([f"--splits={SPLITS}"] if " init " in line else [])]
        clone.printed[command[-1] if "dvc" not in command[0] else line] = clone.ok(*command)
    return clone


def test_customer_months_go_from_init_to_a_registered_version(adopted):
    told = adopted.printed[f"--splits={SPLITS}"]
    for line in commands_of_the_page()[1:3]:
        assert f"\n  {line}\n" in told, "init prints the next commands"
    assert re.search(r"register: churn version 1 is (champion|candidate)", adopted.printed["dvc repro"])
    assert {"customer: {role: group, type: integer}", "month: {role: time, type: date}"} <= {
        line.strip() for line in adopted.text("contract.yaml").splitlines()
    }
    evaluation = json.loads(adopted.text("metrics/evaluation.json"))
    assert evaluation["train_until"] == "2025-08-29"
    assert evaluation["roc_auc"] < 0.7  # a split by row gives more than 0.75
    rows = json.loads(adopted.text("metrics/rows.json"))
    assert rows["fetched"] == rows["train"] + rows["test"] + sum(rows["dropped"].values())
    assert adopted.ok("git", "status", "--porcelain") == ""


def test_the_commit_that_adopts_customer_months_lands_on_main(adopted):
    printed = adopted.ok("python", "-m", "report", "--base", "HEAD~1")
    assert "the gate judges alone, because main has the template's sample" in printed.splitlines()[0]


def test_the_tests_of_the_live_files_and_of_the_sample_pass(adopted):
    printed = run_pytest(adopted, *WITH)
    assert re.search(r"^\d{3} passed in ", printed, re.MULTILINE), printed
    printed = run_pytest(adopted, "--collect-only")
    assert re.search(r"^\d{4} tests collected", printed, re.MULTILINE)


def test_a_split_by_row_is_refused_with_the_number_of_customers_in_both_tables(adopted, tmp_path):
    """The months of a customer are on both sides: tests/report/test_judge_over_time.py has the group left out."""
    clone = Clone(shutil.copytree(adopted.folder, tmp_path / "repository", symlinks=True))
    clone.replace("churn/data/tables.py", "whose = table[contract.customer]", "whose = table[contract.key]")
    done = clone.run("dvc", "repro", "gate")
    assert done.returncode != 0
    assert re.search(r"validate: test: the training table has [\d,]+ customers of the holdout, too", done.stdout)


def test_a_retraining_moves_the_day_alone_and_is_compared_with_main(adopted):
    """Main's model and the new one score the rows after the new training; the days since main's are no fault of its."""
    (adopted.folder / SOURCE).write_text(customer_months(LATER).to_csv(index=False))
    adopted.ok("git", "switch", "--quiet", "--create", "retraining")
    adopted.ok("dvc", "add", SOURCE)
    adopted.ok("python", "-m", "churn", "as-of", LATER)
    adopted.ok("dvc", "repro", "gate")
    adopted.commit("Retrain")
    printed = adopted.ok("python", "-m", "report", "--base", "main")
    assert printed.startswith("Passes the gate: ROC AUC 0."), printed
    assert "on customers at random" in printed
    report = adopted.text("build/report/report.md")
    assert "on rows after 2025-09-29, by which the model is judged" in report
    assert "dropped (label_window_open)" in report
    assert re.search(r"Both models on the same [\d,]+ rows of the holdout", report)
