"""Each protection is needed: with it a bad change is refused as its case demands, and without it the change is not."""

import re

from churn.lock import ORDER
from tests.defects.harness import judged, refuse, reported, stopped
from tests.defects.protections import PROTECTIONS, marked, remove
from tests.faults import BAD

import pytest

CASES = {f"{case.family}: {case.name}": case for case in BAD}


def test_every_mark_has_its_case_and_every_case_its_mark():
    assert {name.partition(":")[0] for name, *_ in PROTECTIONS} == set(marked())


@pytest.mark.parametrize("protection", PROTECTIONS, ids=[name for name, *_ in PROTECTIONS])
def test_a_case_is_refused_and_without_its_protection_it_is_not_refused_as_it_should(protection, branch, told):
    name, title, *instead = protection
    case = CASES[title]
    refuse(case, branch, told)
    main = remove(branch, name.partition(":")[0], *instead)
    refused_by = case.refused_by.split("|")
    compared = "comparison" in refused_by
    done = branch.run("dvc", "repro", "gate" if compared else max(refused_by, key=ORDER.index))
    if done.returncode == 0 and not compared:
        return  # each stage that should refuse it let it through
    found = stopped(branch, done.stdout) or reported(branch, done.stdout, base=main)
    refused = found.verdict == "blocked" and found.stage in refused_by
    assert not (refused and re.search(case.says, found.says)), f"{name} is not what refused it: {found.says}"


def test_a_branch_that_judges_itself_lets_anything_through(branch):
    CASES["trust: the report's code hollow"].change(branch)
    assert judged(branch, by_main=False).verdict == "passed"
