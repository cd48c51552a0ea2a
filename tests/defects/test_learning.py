"""What knows the answer, learns the wrong thing or measures it wrongly is refused."""

from tests.defects.cases_data import LEAKAGE_CASES, SKEW_CASES
from tests.defects.cases_model import EVALUATION_CASES, TRAINING_CASES
from tests.defects.harness import refuse
from tests.defects.protections import without_protection

import pytest


@pytest.mark.parametrize(
    "case",
    without_protection([*LEAKAGE_CASES, *SKEW_CASES, *TRAINING_CASES, *EVALUATION_CASES]),
    ids=lambda case: f"{case.family}: {case.name}",
)
def test_bad_learning_is_refused(case, branch, told):
    refuse(case, branch, told)
