from churn.conditions import rows_where
from churn.stage import StageError

import pandas as pd
import pytest

CUSTOMERS = pd.DataFrame({"tenure": [1, 9, 3], "charges": [10.0, None, 30.0], "plan": ["a", "b", "a"]})


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("tenure < 6", [True, False, True]),
        ("charges > 15", [False, False, True]),
        ("plan == 'a' and tenure > 1", [False, False, True]),
        ("charges.isna()", [False, True, False]),
    ],
)
def test_a_condition_holds_for_rows_and_never_for_a_missing_value(condition, rows):
    assert rows_where(CUSTOMERS, condition, "key").tolist() == rows


@pytest.mark.parametrize("condition", ["age > 3", "tenure +", "tenure + 1", "1 == 1", "x = tenure > 1"])
def test_what_is_no_condition_is_refused_with_its_key(condition):
    with pytest.raises(StageError, match=r"params\.yaml: prepare\.drop\.test: `"):
        rows_where(CUSTOMERS, condition, "prepare.drop.test")
