"""Each protection is needed: without it, a bad change is not refused as its case demands."""

import re

from tests.defects.cases_data import DATA_CASES, LEAKAGE_CASES, STORY_CASES
from tests.defects.cases_model import EVALUATION_CASES, TRAINING_CASES, TRUST_CASES
from tests.defects.harness import branch_of, judged

import pytest

CASES = {
    f"{case.family}: {case.name}": case
    for case in (*STORY_CASES, *DATA_CASES, *LEAKAGE_CASES, *TRAINING_CASES, *EVALUATION_CASES, *TRUST_CASES)
}


def strays(rule):
    return (
        "churn/quality/profile_checks.py",
        "        if excess > worst",
        f"        if rule != '{rule}' and excess > worst",
    )


# The protection; where main loses it: file, text, what stands there instead; the case that has to notice.
PROTECTIONS = [
    (
        "columns must be declared",
        ("churn/quality/row_checks.py", "        if name not in contract.columns:\n", "        if False:\n"),
        "the story: undeclared",
    ),
    (
        "nulls must be declared",
        ("churn/quality/row_checks.py", "        if not column.nullable:\n", "        if False:\n"),
        "the story: declared without nulls",
    ),
    (
        "training counts its rows",
        ("stages/train.py", "    if not len(features) == len(labels) == rows:\n", "    if False:\n"),
        "the story: training drops the rows",
    ),
    (
        "a feature function changes nothing",
        (
            "churn/data/featuring.py",
            "            if name not in customers or not customers[name].equals(before[name]):\n",
            "            if False:\n",
        ),
        "the story: filled with 0 in prepare",
    ),
    (
        "the row account",
        ("stages/prepare.py", "        if kept.total() + dropped.total() != fetched:\n", "        if False:\n"),
        "the story: dropped by prepare's code",
    ),
    (
        "validate counts the rows itself",
        ("stages/validate.py", "    if lost := counted", "    if (lost := 0) and counted"),
        "the story: dropped by prepare's code, and its account bent",
    ),
    (
        "no customer in both tables",
        ("stages/validate.py", "    if shared:\n", "    if False:\n"),
        "leakage: the holdout's keys in training, and the account bent",
    ),
    (
        "types come from the contract",
        ("stages/fetch.py", "    if any_misfit:\n", "    if False:\n"),
        "data: decimal commas",
    ),
    (
        "categories come from the contract",
        ("churn/quality/row_checks.py", "        if column.values is not None:\n", "        if False:\n"),
        "data: a category renamed",
    ),
    (
        "keys are unique",
        (
            "churn/quality/row_checks.py",
            'rows with the key of another row", f"{sql} = __previous_key")',
            'none", "false")',
        ),
        "data: customers duplicated",
    ),
    (
        "relations between columns",
        ("churn/quality/row_checks.py", "    if len(checkable) == len(contract.columns):\n", "    if False:\n"),
        "data: a column shifted by a row",
    ),
    (
        "the number of rows is like the profile's",
        ("churn/quality/profile_checks.py", "    if not rules.rows.min <= ", "    if False and not rules.rows.min <= "),
        "data: a file cut off at a line's end",
    ),
    (
        "missing shares are like the profile's",
        strays("nulls_share"),
        "data: 30 % of a nullable number blank",
    ),
    (
        "means are like the profile's",
        strays("mean"),
        "data: charges with tax",
    ),
    (
        "quantiles are like the profile's",
        strays("quantiles"),
        "data: a number frozen",
    ),
    (
        "categories are like the profile's",
        strays("categories"),
        "data: two categories merged",
    ),
    (
        "churn rates are like the profile's",
        strays("label_rates"),
        "data: labels late",
    ),
    (
        "a new feature enters the profile",
        (
            "churn/quality/profile_checks.py",
            "        if name not in reference.features:\n            yield",
            "        if False:\n            yield",
        ),
        "the story: declared, but not in the profile",
    ),
    (
        "no feature knows the label alone",
        (
            "churn/quality/profile_checks.py",
            "        if area > contract.rules",
            "        if False and area > contract.rules",
        ),
        "leakage: the label as a feature",
    ),
    (
        "a row's features depend on that row alone",
        (
            "churn/data/featuring.py",
            "            if not _same(half[name]",
            "            if False and not _same(half[name]",
        ),
        "leakage: a mean over everybody",
    ),
    (
        "training cannot open the holdout",
        ("stages/train.py", "    sys.addaudithook(refuse_holdout)\n", ""),
        "training: the luckiest of many seeds",
    ),
    (
        "the holdout is the one that prepare made",
        ("stages/evaluate.py", "    refuse_another_holdout(keys, read_result(ROWS))\n", ""),
        "evaluation: on the training table",
    ),
    (
        "scores are probabilities",
        ("churn/evaluation/holdout.py", "    if wrong := ", "    if wrong := 0 * "),
        "evaluation: NaN scores",
    ),
    (
        "scores differ",
        ("churn/evaluation/holdout.py", "    if np.ptp(scores) == 0:\n", "    if False:\n"),
        "training: a constant model",
    ),
    (
        "bounds for all customers",
        (
            "churn/gate/rules.py",
            "    outcomes = list(judge(OVERALL, evaluation, rules.overall))\n",
            "    outcomes = []\n",
        ),
        "training: labels shuffled",
    ),
    (
        "bounds for named slices",
        ("churn/gate/rules.py", "    for name, bounds in rules.slices.items():\n", "    for name, bounds in ():\n"),
        "training: new customers never predicted",
    ),
    (
        "no slice far behind",
        ("churn/gate/rules.py", "    if churners is not None and LEAST", "    if False and LEAST"),
        "training: one contract ranked upside down",
    ),
    (
        "calibration of each slice",
        (
            "churn/gate/rules.py",
            '("max", rules.calibration_error), error, says)',
            '("max", 1.0), error, says)',
        ),
        "training: everybody predicted to leave",
    ),
    (
        "predictions of each slice",
        ("churn/gate/rules.py", "    if churners is None or churners >= rate * rows:\n", "    if False:\n"),
        "training: one payment method never predicted",
    ),
    (
        "no slice vanishes",
        ("churn/gate/rules.py", "        gone = rows is None or (", "        gone = False and ("),
        "data: a category declared that nobody has",
    ),
    (
        "not worse than main",
        ("churn/gate/baseline.py", " for metric in rules.margins]", " for metric in ()]"),
        "training: half of the rows lost, and not counted",
    ),
    (
        "not worse than main in any slice",
        ("churn/gate/baseline.py", "        for metric in rules.slice_margins\n", "        for metric in ()\n"),
        "training: who pays by card never predicted",
    ),
    (
        "too good to be true",
        ("churn/gate/baseline.py", "    return [*outcomes, *_plausible(overall, rules)]\n", "    return outcomes\n"),
        "leakage: the label with noise",
    ),
    (
        "settings are main's or stricter",
        ("report/judge.py", "            *loosened_settings(theirs, params, contract, one.contract),\n", ""),
        "trust: a gate rule weakened",
    ),
    (
        "stages run what main's run",
        ("report/judge.py", "            *pipeline_faults(", "            *(lambda *_: ())("),
        "trust: gate cannot fail, the model is good",
    ),
    (
        "the split is main's",
        ("report/judge.py", "            *table_faults(theirs.prepare, contract),\n", ""),
        "leakage: a tenth of the holdout moved",
    ),
    (
        "the contract is checked anew",
        ("report/judge.py", "            *contract_faults(stricter_contract(contract, one.contract), main),\n", ""),
        "trust: validate's code hollow",
    ),
    (
        "the evaluation is made anew",
        (
            "report/judge.py",
            "    faults = list(evaluation_faults(read_result(EVALUATION), evaluation))\n",
            "    faults: list[str] = []\n",
        ),
        "evaluation: half of the loss",
    ),
    (
        "the verdict is made anew",
        ("report/judge.py", "    rules = judge_all(", "    rules = [] and judge_all("),
        "trust: gate's code hollow",
    ),
    (
        "what a stage reads is what the one before wrote",
        ("churn/core/runner.py", "        refuse_damaged()\n", ""),
        "trust: a model put in before evaluate",
    ),
    (
        "a model holds types that are known",
        ("churn/modeling/model.py", "TRUSTED_TYPES = (\n", 'TRUSTED_TYPES = (\n    "__main__.as_it_is",\n'),
        "trust: a model that brings code of its own",
    ),
]


@pytest.mark.parametrize(("name", "removed", "case"), PROTECTIONS, ids=[name for name, *_ in PROTECTIONS])
def test_without_a_protection_its_case_is_not_refused_as_it_should(name, removed, case, finished, tmp_path):
    branch = branch_of(finished, tmp_path, removed)
    CASES[case].change(branch)
    found = judged(branch)
    stopped = found.verdict == "blocked" and found.stage in CASES[case].refused_by.split("|")
    assert not (stopped and re.search(CASES[case].says, found.says)), f"{name} is not what refused it: {found.says}"


def test_a_branch_that_judges_itself_lets_anything_through(branch):
    CASES["trust: the report's code hollow"].change(branch)
    assert judged(branch, by_main=False).verdict == "passed"
