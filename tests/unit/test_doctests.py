"""The examples in docstrings."""

import doctest
from importlib import import_module

from tests.conftest import ROOT

import pytest

FILES = [file.relative_to(ROOT) for folder in ("churn", "report") for file in sorted((ROOT / folder).rglob("*.py"))]
WITH_EXAMPLES = [file for file in FILES if ">>> " in (ROOT / file).read_text(encoding="utf-8")]


@pytest.mark.parametrize("file", WITH_EXAMPLES, ids=str)
def test_the_examples_in_a_modules_docstrings_are_true(file):
    module = import_module(".".join(file.with_suffix("").parts))
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
