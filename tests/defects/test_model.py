"""Bad training, a bad evaluation, and what is not to be trusted are refused."""

import re

from tests.defects.cases_model import MODEL_CASES
from tests.defects.harness import branch_of, judged

import pytest


@pytest.mark.parametrize("case", MODEL_CASES, ids=lambda case: f"{case.family}: {case.name}")
def test_a_defect_is_refused(case, finished, tmp_path, told):
    clone = branch_of(finished, tmp_path)
    case.change(clone)
    found = judged(clone)
    told("defects", f"{case.family}: {case.name}", found)
    assert found.verdict == "blocked"
    assert found.stage in case.refused_by.split("|"), found.says
    assert re.search(case.says, found.says), found.says
