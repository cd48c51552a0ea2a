"""Data to render reports from, one for each way a change can turn out.

`python -m tests.report.cases` writes tests/report/golden/ anew; read the difference before committing it.
"""

from dataclasses import replace
from pathlib import Path

from churn.config.params import METRICS, VsBaseline, load_params
from churn.core.results import RuleOutcome
from churn.evaluation.paired import Difference, SliceDifferences
from churn.gate.baseline import Trained, vs_baseline
from churn.gate.rules import check_limit
from churn.lock import ORDER
from churn.quality.drift import FeatureDrift, RowChanges
from report.collect import over_time
from report.data import Change, Comparison, DataChange, Flips, LabelChanges, Note, Outcome, ReportData, Run, TwinCount
from report.faults import Approval, Fault
from report.render import markdown, terminal

GOLDEN = Path(__file__).parent / "golden"
HOSTILE = "x|y `z` <img src=x onerror=alert(1)> [a](http://b) @team #1 ~~s~~ *e* _u_\n## heading -->"


def differences(by: float, verdict: str = "noise") -> dict[str, Difference]:
    return {metric: Difference(0.8, 0.8 + by, by, by - 0.005, by + 0.005, verdict) for metric in METRICS}


def rule(scope: str, metric: str, limit: float, value: float | None) -> RuleOutcome:
    message = f"{metric} of {scope} is {value}, minimum {limit}"
    return check_limit(("min", limit), value, message, kind="bound", scope=scope, metric=metric)


def runs(stopped: str | None = None, fault: str = "") -> tuple[Run, ...]:
    """The stages of a run that reused fetch and stopped at a stage."""
    last = ORDER.index(stopped) if stopped else len(ORDER)
    states = [Run("fetch", "reused"), *(Run(stage, "ran", 1.5) for stage in ORDER[1:last])]
    if stopped:
        states += [Run(stopped, "failed", 0.3, fault), *(Run(stage, "not run") for stage in ORDER[last + 1 :])]
    return tuple(states)


SLICES = (
    SliceDifferences("contract=One year", 296, differences(0.001)),
    SliceDifferences("new_customers", 289, differences(-0.02, "worse")),
    SliceDifferences("senior_citizen=true", 231, differences(0.0)),
    SliceDifferences("internet_service=DSL", 480, differences(0.003)),
    SliceDifferences("internet_service=None", 0, dict.fromkeys(METRICS, Difference())),
)
PASSING = ReportData(
    reproduce=("git fetch origin && git switch --detach 4dd13c7a", "python -m report --base origin/main"),
    base="main",
    outcome=Outcome(True, "Passes the gate"),
    comparison=Comparison(1452, 1452, differences(0.003), SLICES, flips=Flips(12, 5), by_seed=Flips(9, 7)),
    rules=(rule("all customers", "roc_auc", 0.82, 0.849), rule("new_customers", "recall", 0.6, 0.61)),
    changes=(Change("params.yaml", "train.seed", 42, 43),),
    account={"fetched": 7043, "train": 5591, "test": 1452, "dropped": {}},
    base_account={"fetched": 7043, "train": 5591, "test": 1452, "dropped": {}},
    runs=runs(),
    has_picture=True,
)
EVALUATION = dict.fromkeys(METRICS, 0.8) | {
    "intervals": {metric: [0.78, None] for metric in METRICS},
    "rows": 1452,
    "churners": 389,
    "threshold": 0.5,
    "slices": [],
}
OVER_TIME = {
    "roc_auc": 0.8,
    "train_until": "2026-06-30",
    "random_by_customer": {"roc_auc": 0.86},
    "roc_auc_over_time": {"difference": -0.06, "interval": [-0.09, -0.03]},
}
SENTENCE = "total_charges has 11 nulls that the contract does not allow"
BROKEN = {"table": "train", "rule": "nulls", "column": "total_charges", "count": 11, "share": 0.00197}
LOOSER = Fault(
    "params.yaml: gate.overall.roc_auc.min is 0.6, on main 0.82: that takes a code owner's approval",
    "settings",
    ("gate", "overall", "roc_auc", "min"),
    0.6,
)
ELSEWHERE = "metrics/evaluation.json says roc_auc of all customers is 0.9900, but evaluated anew it is 0.7000"
UNKNOWN = "The comparison with main is not whole: params.yaml: gate.patience: is not a known key."
FOLLOWS = Fault("train has 3 rows in which tenure_months is above 72", follows=True)
SPOILT = differences(-0.2, "worse")
RULES = VsBaseline(
    margins={"roc_auc": 0.005, "brier_score": 0.003},
    slice_margins={"recall": 0.1},
    tolerance=3,
    familywise_alpha=0.01,
    max_gain={"roc_auc": 0.02},
)
GATE = load_params(Path("tests/sample/params.yaml")).gate.model_copy(update={"vs_baseline": RULES})
IN_DOUBT = {metric: Difference(0.8, 0.7, -0.1, -0.5, 0.3, "noise") for metric in METRICS}
STOPPED = ReportData(PASSING.reproduce, "main", Outcome(False, f"Blocked: {SENTENCE}", "validate"))

CASES = {
    "passes": PASSING,
    "worse_within_the_gate": replace(
        PASSING,
        comparison=replace(
            PASSING.comparison,
            rows=1400,
            overall=differences(0.003) | {"recall": differences(-0.05, "worse")["recall"]},
        ),
        notes=(
            Note(
                "This branch changes the gate rules, 1 of them looser than before: gate.overall.roc_auc.min 0.82 → 0.7"
            ),
            Note("The committed dvc.lock is outdated, from train on", warns=False),
        ),
    ),
    "inconclusive_slices": replace(
        PASSING,
        comparison=replace(PASSING.comparison, trained=(Trained(5591, 1400), Trained(5591, 1400))),
        rules=tuple(vs_baseline(1452, differences(0.003), [SliceDifferences("new_customers", 289, IN_DOUBT)], GATE)),
    ),
    "fall_over_time": replace(
        PASSING,
        evaluation=EVALUATION
        | {
            "rows": 2400,
            "train_until": "2026-06-30",
            "random_by_customer": EVALUATION | {"roc_auc": 0.86, "rows": 5200},
        },
        notes=tuple(map(Note, over_time(OVER_TIME))),
    ),
    "nothing_changed": replace(
        PASSING,
        comparison=None,
        same_model=True,
        has_picture=False,
        evaluation=EVALUATION,
        changes=(),
    ),
    "no_baseline": replace(
        PASSING,
        comparison=None,
        has_picture=False,
        base_account=None,
        evaluation=EVALUATION,
        notes=(Note("Nothing to compare with: this clone does not know origin/main; fetch it with its history"),),
    ),
    "another_problem": replace(
        PASSING,
        comparison=None,
        problem="the label is cancelled here and churn on main",
        has_picture=False,
        base_account=None,
        evaluation=EVALUATION,
        data=None,
        faults=(),
    ),
    "blocked_by_contract": replace(
        STOPPED,
        broken=(BROKEN | {"sentence": SENTENCE},),
        runs=runs("validate", "the data break 1 rule of contract.yaml"),
    ),
    "training_crashed": replace(
        STOPPED,
        outcome=Outcome(False, "Blocked: train: crashed with MemoryError", "train"),
        runs=runs("train", "crashed with MemoryError"),
    ),
    "blocked_by_gate": replace(
        PASSING,
        outcome=Outcome(False, "Blocked: roc_auc of all customers is 0.7, minimum 0.82 (and 1 more)", "gate"),
        comparison=Comparison(1452, 1452, differences(-0.1, "worse"), SLICES),
        rules=(rule("all customers", "roc_auc", 0.82, 0.7), rule("vanished (no such slice)", "recall", 0.6, None)),
        runs=runs("gate", "blocked"),
    ),
    "worse_than_main": replace(
        PASSING,
        outcome=Outcome(False, f"Blocked: {LOOSER.message} (and 3 more)", "comparison"),
        comparison=Comparison(1452, 1452, differences(-0.1, "worse"), SLICES),
        faults=(LOOSER, Fault(ELSEWHERE), FOLLOWS),
        rules=(
            rule("all customers", "roc_auc", 0.6, 0.7),
            *vs_baseline(1452, differences(-0.1, "worse"), [SliceDifferences("new_customers", 289, SPOILT)], GATE),
            rule("total_charges is missing", "rows", 100, 3).model_copy(update={"status": "skipped"}),
        ),
    ),
    "own_judge": replace(
        PASSING,
        outcome=Outcome(False, f"Blocked: {UNKNOWN}", "comparison"),
        comparison=None,
        has_picture=False,
        faults=(Fault(UNKNOWN),),
        own_judge=Fault(
            "main's code cannot judge this branch, which changes the code that judges: churn/config/params.py; once"
            " approved, that code judges with all checks on, so read it first",
            "judge",
            ("code",),
            {"churn/config/params.py": "0" * 64},
        ),
    ),
    "approved": replace(PASSING, approved=(LOOSER,), approval=Approval("olga", frozenset({"settings-000000"}))),
    "worse_in_one_metric": replace(
        PASSING,
        comparison=replace(
            PASSING.comparison, overall=differences(0.003) | {"recall": differences(-0.05, "worse")["recall"]}
        ),
    ),
    "new_data": replace(
        PASSING,
        data=DataChange(
            RowChanges(added=312, removed=4, changed=20, kept=7019),
            (
                FeatureDrift("tenure_months", 0.31, 0.0, 0.0, 0.0),
                FeatureDrift("contract", 0.002, 0.4, 0.0, 0.0),
            ),
            LabelChanges(removed=4, removed_churners=1, kept=7039, kept_churners=1868, turned_on=11, turned_off=2),
            values={"tenure_months": 7039, "contract": 70, "partner": 0},
            twins=(TwinCount(69, 1452, 5591), TwinCount(72, 1500, 5840)),
        ),
        account={"fetched": 7351, "train": 5840, "test": 1500, "dropped": {"test account": 11}},
    ),
    "easier_holdout": replace(
        PASSING,
        comparison=replace(PASSING.comparison, easier=(0.8594, 0.8911)),
        notes=(Note("The holdout became easier: main's model has a ROC AUC of 0.891 on it, and of 0.859 on main's"),),
    ),
    "hostile_names": replace(
        PASSING,
        outcome=Outcome(False, f"Blocked: {HOSTILE} has 1 null", "validate"),
        base=HOSTILE,
        comparison=Comparison(1452, 1452, differences(0.0), (SliceDifferences(HOSTILE, 10, differences(0.0)),)),
        rules=(rule(HOSTILE, "recall", 0.5, 0.6),),
        broken=(BROKEN | {"sentence": HOSTILE, "column": HOSTILE, "table": HOSTILE},),
        changes=(Change("contract.yaml", HOSTILE, HOSTILE, [HOSTILE]),),
        data=DataChange(
            RowChanges(added=0, removed=0, changed=1, kept=1), (FeatureDrift(HOSTILE, 0.1, 0.5, 0.0, 0.0),)
        ),
        account={"fetched": 1, "train": 1, "test": 0, "dropped": {HOSTILE: 1}},
        notes=(Note(HOSTILE),),
    ),
    "many_slices": replace(
        PASSING,
        comparison=Comparison(
            1452,
            1452,
            differences(0.003),
            tuple(SliceDifferences(f"plan={n:03}", n, differences(n / 1e5)) for n in range(500)),
        ),
    ),
}


if __name__ == "__main__":
    for name, data in CASES.items():
        (GOLDEN / f"{name}.md").write_text(markdown(data), encoding="utf-8")
        (GOLDEN / f"{name}.txt").write_text(terminal(data) + "\n", encoding="utf-8")
