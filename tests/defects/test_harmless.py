"""What harms nobody is let through, and runs no more than it must."""

from tests.defects.cases_harmless import HARMLESS
from tests.defects.harness import COSTLY, judged

import pytest


@pytest.mark.parametrize("case", HARMLESS, ids=lambda case: case.name)
def test_a_harmless_change_is_let_through(case, branch, told):
    case.change(branch)
    if case.idle:
        assert "up to date" in branch.ok("dvc", "status", "gate", "--with-deps")
    found = judged(branch)
    told("harmless changes", f"harmless: {case.name}", found)
    assert found.verdict == "passed", found.says
    assert found.stage is None
    assert case.reruns is None or case.reruns == tuple(stage for stage in found.ran if stage in COSTLY)
