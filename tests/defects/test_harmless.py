"""What harms nobody is let through, and runs no more than it must."""

from tests.defects.cases_harmless import HARMLESS
from tests.defects.harness import COSTLY, branch_of, judged

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


def test_a_weak_main_may_be_mended(finished, tmp_path, told):
    weak = "max_iter: 25"
    branch = branch_of(finished, tmp_path, ("params.yaml", "max_iter: 200", weak))
    branch.replace("params.yaml", weak, "max_iter: 200")
    found = judged(branch)
    told("harmless changes", "harmless: a weak main mended", found)
    assert found.verdict == "passed", found.says
