"""Bad data are refused, and so is the change that this project began with."""

from tests.defects.cases_data import DATA_CASES, SELECTION_CASES, STORY_CASES
from tests.defects.harness import refuse
from tests.defects.protections import without_protection

import pytest


@pytest.mark.parametrize(
    "case",
    without_protection([*STORY_CASES, *DATA_CASES, *SELECTION_CASES]),
    ids=lambda case: f"{case.family}: {case.name}",
)
def test_bad_data_are_refused(case, branch, told):
    refuse(case, branch, told)
