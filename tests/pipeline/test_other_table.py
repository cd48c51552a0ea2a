"""The tests pass in a repository whose live files describe another table than the sample."""

import re

from tests.conftest import clone_of_tree
from tests.other_table import put_other_table

import pytest

WITH = ["tests/own", "tests/pipeline/test_graph.py"]
WITH += [f"tests/unit/test_{name}.py" for name in ("contract", "features", "frozen", "gate", "params", "score_rows")]


@pytest.fixture(scope="module")
def adopted(tmp_path_factory):
    """A clone whose team has replaced the sample by its own table, run the pipeline, and committed the results."""
    clone = clone_of_tree(tmp_path_factory.mktemp("other") / "repository")
    put_other_table(clone.folder)
    clone.ok("dvc", "repro", "prepare")
    clone.ok("python", "-m", "churn.profile")
    clone.ok("dvc", "repro", "gate")
    clone.commit("Describe our members")
    return clone


def tested(clone, *arguments):
    """Run pytest in the clone, and return the last line that it printed."""
    return clone.ok("python", "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", "-q", *arguments)


def test_the_tests_of_the_live_files_and_of_the_sample_pass_with_another_table(adopted):
    printed = tested(adopted, "-rs", *WITH)
    assert re.search(r"^\d{3} passed in ", printed, re.MULTILINE), printed


def test_every_test_is_collected_with_another_table(adopted):
    assert re.search(r"^1?\d{3} tests collected", tested(adopted, "--collect-only"), re.MULTILINE)
