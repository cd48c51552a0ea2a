"""The tests pass in a repository whose live files describe another table than the sample."""

import re

from tests.conftest import clone_of_tree
from tests.other_table import put_other_table

import pytest

WITH = [
    "tests/own",
    "tests/pipeline/test_graph.py::test_a_stage_depends_on_the_code_that_it_imports_and_no_more",
]
WITH += ["tests/pipeline/test_run.py::test_the_first_run_in_a_fresh_clone_ends_with_a_champion"]
WITH += [f"tests/unit/test_{name}.py" for name in ("contract", "features", "frozen", "gate", "params", "score_rows")]


@pytest.fixture(scope="module")
def adopted(tmp_path_factory):
    """A clone whose team has replaced the sample by its own table, run the pipeline, and committed the results."""
    clone = clone_of_tree(tmp_path_factory.mktemp("other") / "repository")
    put_other_table(clone.folder)
    clone.ok("dvc", "repro", "prepare")
    clone.ok("python", "-m", "churn", "profile")
    clone.ok("dvc", "repro", "gate")
    clone.commit("Describe our members")
    return clone


def outcome_of_pytest(clone, *arguments):
    """Run pytest in the clone, and return what it printed."""
    return clone.ok("python", "-m", "pytest", "-o", "addopts=", "-q", *arguments)


def test_the_tests_of_the_live_files_and_of_the_sample_pass_with_another_table(adopted):
    printed = outcome_of_pytest(adopted, *WITH)
    assert re.search(r"^\d{3} passed in ", printed, re.MULTILINE), printed


def test_every_test_is_collected_with_another_table(adopted):
    assert re.search(r"^\d{4} tests collected", outcome_of_pytest(adopted, "--collect-only"), re.MULTILINE)
