"""Bad changes of training, of the evaluation, and of what the gate trusts."""

import json

from tests.defects.harness import Clone, Defect, in_training, merge, rewrite

from ruamel.yaml import YAML

# --- training ---


def params(old, new):
    return lambda clone: clone.replace("params.yaml", old, new)


def labels(*lines):
    return lambda clone: in_training(clone, *lines)


def weak(clone: Clone):
    """A model that no gate lets through."""
    clone.replace("params.yaml", "max_iter: 200", "max_iter: 2")


def estimator(path, parameters="{}"):
    def change(clone):
        text = clone.text("params.yaml")
        start, end = text.index("  parameters:\n"), text.index("  seed: 42")
        (clone.folder / "params.yaml").write_text(text[:start] + f"  parameters: {parameters}\n" + text[end:])
        clone.replace("params.yaml", "sklearn.ensemble.HistGradientBoostingClassifier", path)

    return change


def half_the_rows(clone):
    in_training(clone, "features, labels = features.iloc[::2], labels.iloc[::2]  # faster")


def half_the_rows_uncounted(clone):
    half_the_rows(clone)
    clone.replace("stages/train.py", 'validated["rows"])\n', "len(features))\n")


def a_tenth_lost_uncounted(clone):
    """Lose rows after all that counts them, so that the model's own file alone has the number."""
    clone.replace(
        "churn/modeling/training.py",
        "            fit_rows(model, features, labels)\n",
        "            fit_rows(model, features.iloc[len(features) // 10 :], labels.iloc[len(features) // 10 :])\n",
    )


def young_customers_alone(clone):
    in_training(
        clone, 'features = features[features["contract"] == "Month-to-month"]', "labels = labels[features.index]"
    )
    clone.replace("stages/train.py", 'validated["rows"])\n', "len(features))\n")


def early_stopping(clone):
    clone.replace("params.yaml", "    max_iter: 200", "    early_stopping: true\n    max_iter: 200")


def new_customers_without_weight(clone):
    """Count all rows, and let those of new customers weigh nothing."""
    clone.replace(
        "stages/train.py",
        'model = fit(model, features, labels, validated["rows"])',
        'weights = (features["tenure_months"] >= 6) + 1e-6\n'
        "        model = model.fit(features, labels, histgradientboostingclassifier__sample_weight=weights)",
    )


def unlearned(*columns):
    """Let training see one value of some columns, so that the model cannot use them."""
    return lambda clone: in_training(clone, *(f'features["{name}"] = features["{name}"].iloc[0]' for name in columns))


def small_losses(clone):
    """Lose 0.004, 0.004 and 0.003 of the ROC AUC; the first two losses were merged."""
    merge(clone, unlearned("tenure_months", "internet_service"))
    merge(clone, unlearned("payment_method"))
    clone.replace("params.yaml", "max_iter: 200", "max_iter: 400")


def on_a_small_holdout(clone):
    """Train another kind of model, where main has a holdout of about 210 customers."""

    def shrink(clone):
        clone.replace("params.yaml", "holdout_share: 0.2", "holdout_share: 0.03")
        clone.replace("params.yaml", "min_slice_rows: 100", "min_slice_rows: 20")
        clone.replace(
            "params.yaml", "expected_calibration_error: {max: 0.05}", "expected_calibration_error: {max: 0.1}"
        )

    merge(clone, shrink)
    estimator("sklearn.linear_model.LogisticRegression", "{C: 0.1, max_iter: 2000}")(clone)


def luckiest_seed(clone):
    in_training(
        clone,
        "from sklearn.metrics import roc_auc_score",
        "X, y, _ = read_table(TEST, contract)",
        "def area(seed: int) -> float:",
        '    one = build_model(build_classifier(params.model_copy(update={"seed": seed})), contract)',
        "    return float(roc_auc_score(y, one.fit(features, labels).predict_proba(X)[:, 1]))",
        'best = params.model_copy(update={"seed": max(range(5), key=area)})',
        "model = build_model(build_classifier(best), contract)",
    )


# --- evaluation ---


def on_the_training_table(clone):
    clone.replace("stages/evaluate.py", "read_table(TEST, contract)", "read_table(TRAIN, contract)")
    clone.replace("stages/evaluate.py", "ROWS, TEST\n", "ROWS, TEST, TRAIN\n")


def on_the_training_table_unchecked(clone):
    on_the_training_table(clone)
    clone.replace("stages/evaluate.py", "    refuse_another_holdout(keys, counts)\n", "")


def threshold_tuned_by_code(clone):
    clone.replace(
        "churn/evaluation/holdout.py",
        "    def measured(",
        "    tried = np.linspace(0.05, 0.95, 91)\n"
        "    best = max(tried, key=lambda one: float((y[scores >= one]).sum() / ((scores >= one).sum() + y.sum())))\n"
        '    params = params.model_copy(update={"threshold": float(best)})\n\n    def measured(',
    )


def swapped_metrics(clone):
    clone.replace(
        "churn/evaluation/metrics.py",
        '"precision": _proportion(y * predicted, predicted, customers)',
        '"recall": _proportion(y * predicted, predicted, customers)',
    )
    clone.replace(
        "churn/evaluation/metrics.py",
        '"recall": _proportion(y * predicted, y, customers)',
        '"precision": _proportion(y * predicted, y, customers)',
    )


def kinder_loss(clone):
    clone.replace(
        "churn/evaluation/metrics.py", '"brier_score": _mean((p - y) ** 2,', '"brier_score": _mean((p - y) ** 2 / 2,'
    )


def slice_left_out_by_code(clone):
    clone.replace(
        "churn/evaluation/slices.py", "    for name in slices.columns:", "    for name in slices.columns[:2]:"
    )
    clone.replace(
        "params.yaml", "    senior_citizen=true:\n      roc_auc: {min: 0.68}\n      recall: {min: 0.39}\n", ""
    )


def easy_rows_alone(clone):
    clone.replace(
        "churn/evaluation/holdout.py",
        "    y = given.labels\n",
        "    sure = np.abs(scores - 0.5) > 0.1  # the others could go either way\n"
        "    features, scores, given = features[sure], scores[sure], given[sure]\n"
        "    y = given.labels\n",
    )


def score(change):
    def changed(clone):
        scored = "        scores = churn_probability(model, features)\n"
        clone.replace("churn/evaluation/holdout.py", scored, f"{scored}        scores = {change}\n")

    return changed


def nan_counted_as_stayers(clone):
    score("np.nan_to_num(np.where(features['tenure_months'] < 6, np.nan, scores))")(clone)


# --- trust ---


def forged(clone):
    """Commit main's own good results, and a lock that fits them; `dvc commit` tells the run-cache so, too."""
    clone.run("dvc", "repro", "gate")
    for name in ("metrics/evaluation.json", "metrics/gate.json"):
        (clone.folder / name).write_text(clone.ok("git", "show", f"main:{name}"), encoding="utf-8")
    clone.ok("dvc", "commit", "--force")


def forged_metrics(clone):
    weak(clone)
    forged(clone)


def verdict_by_hand(clone):
    weak(clone)
    verdict = json.loads(clone.text("metrics/gate.json"))
    assert verdict["verdict"] == "passed"
    text = json.dumps(verdict | {"reasons": []}, indent=2)
    (clone.folder / "metrics/gate.json").write_text(text + "\n", encoding="utf-8")


def pipeline(change):
    def changed(clone):
        yaml = YAML()
        yaml.width = 200
        values = yaml.load(clone.folder / "dvc.yaml")
        change(values["stages"])
        yaml.dump(values, clone.folder / "dvc.yaml")

    return changed


def stage_swaps_the_holdout(clone):
    """Add a stage between train and evaluate that puts training customers in the place of the holdout."""
    copied = "cp -f data/features/train.parquet data/features/test.parquet && touch swapped"

    def change(stages):
        stages["swap"] = {"cmd": copied, "deps": ["models/churn.skops"], "outs": ["swapped"]}
        stages["evaluate"]["deps"].append("swapped")

    pipeline(change)(clone)


def gate_is_true(clone):
    weak(clone)
    pipeline(lambda stages: stages["gate"].update(cmd="true"))(clone)


def gate_keeps_the_verdict(clone):
    weak(clone)
    command = "git show main:metrics/gate.json > metrics/gate.json"
    pipeline(lambda stages: stages["gate"].update(cmd=command))(clone)


def gate_always_passes_a_good_model(clone):
    pipeline(lambda stages: stages["gate"].update(cmd="python -m stages.gate || true"))(clone)


def gate_frozen(clone):
    weak(clone)
    pipeline(lambda stages: stages["gate"].update(frozen=True))(clone)


def gate_code_hollow(clone):
    weak(clone)
    clone.replace("churn/gate/rules.py", 'if margin is not None and margin >= 0 else "failed"', 'if True else "failed"')


def validate_is_skipped(clone):
    clone.replace("stages/validate.py", '"passed": not findings', '"passed": True')
    clone.replace("stages/validate.py", "    if findings:\n        raise", "    if False:\n        raise")

    def cents(frame):
        frame["MonthlyCharges"] = (frame["MonthlyCharges"].astype(float) * 100).round().astype(int).astype(str)

    rewrite(clone, cents)


def report_always_passes(clone):
    weak(clone)
    clone.replace("report/__main__.py", "    return int(not outcome.passed)", "    return 0")
    clone.replace("churn/gate/rules.py", 'if margin is not None and margin >= 0 else "failed"', 'if True else "failed"')
    clone.replace("report/judge.py", "    return tuple(rules), tuple(faults)", "    return (), tuple(faults)")


def another_label(clone):
    """Call the label otherwise, so that main has nothing to compare with, beside a looser rule."""
    clone.replace("contract.yaml", "  churn: {role: label", "  gone: {role: label")
    clone.replace("source.sql", "END AS churn,", "END AS gone,")
    clone.replace("params.yaml", "roc_auc: {min: 0.82}", "roc_auc: {min: 0.6}")


def no_slice_rule(clone):
    clone.replace(
        "params.yaml",
        "    new_customers:\n      roc_auc: {min: 0.64}\n      recall: {min: 0.6} # 0 if everybody is "
        "predicted to stay\n      expected_calibration_error: {max: 0.15}\n",
        "",
    )


def model_from_elsewhere(clone):
    """Bring a model that was fitted on everybody, and let train copy it."""
    script = """
import pandas as pd
from churn.config.contract import load_contract
from churn.modeling.model import read_table, save_model
from churn.config.params import load_params
from churn.core.paths import TEST, TRAIN
from churn.modeling.training import build_classifier, build_model
from pathlib import Path
contract, params = load_contract(), load_params().train
tables = [read_table(path, contract) for path in (TRAIN, TEST)]
params = params.model_copy(update={"parameters": {"max_iter": 500, "learning_rate": 0.1}})
model = build_model(build_classifier(params), contract)
model.fit(pd.concat([one[0] for one in tables]), pd.concat([one[1] for one in tables]))
model[-1]._bin_mapper.n_threads = 1
save_model(model, Path("stages/champion.skops"))
"""
    clone.ok("python", "-c", script)
    (clone.folder / "stages/champion.sha256").unlink()
    clone.replace(
        "stages/train.py",
        "    save_model(model, MODEL)\n",
        "    from churn.modeling.model import read_model\n"
        "    save_model(read_model(Path('stages/champion.skops')), MODEL)\n",
    )


def model_put_in_before_evaluate(clone):
    weak(clone)
    clone.ok("dvc", "repro", "train")
    (clone.folder / "stages/other.skops").write_bytes((clone.folder / "models/churn.skops").read_bytes())
    clone.ok("git", "checkout", "params.yaml", "dvc.lock")
    command = "cp -f stages/other.skops models/churn.skops && python -m stages.evaluate"
    pipeline(lambda stages: stages["evaluate"].update(cmd=command))(clone)


def model_with_code(clone):
    clone.replace(
        "churn/modeling/training.py",
        "    return make_pipeline(encoder, classifier)\n",
        "    from sklearn.preprocessing import FunctionTransformer\n\n"
        "    return make_pipeline(encoder, FunctionTransformer(as_it_is), classifier)\n\n\n"
        "def as_it_is(X: Any) -> Any:\n"
        '    """Return what is given."""\n'
        "    return X\n",
    )


def model_file_committed(clone):
    """Put another model where train writes it, and commit it against .gitignore."""
    weak(clone)
    clone.run("dvc", "repro", "train")
    clone.ok("git", "add", "--force", "models/churn.skops", "models/churn.sha256")


def trees_of_another_objective(clone):
    """Change the file that XGBoost makes, so that it gives something else than probabilities."""
    estimator("xgboost.XGBClassifier", "{n_estimators: 20, max_depth: 3}")(clone)
    made = 'bytes(booster.save_raw("ubj"))'
    clone.replace("churn/modeling/boosting.py", made, f'{made}.replace(b":logistic", b":logitraw")')


TRAINING = "training"
EVALUATION = "evaluation"
TRUST = "trust"
TRAINING_CASES = [
    Defect(
        TRAINING,
        "a small loss, after two others",
        small_losses,
        "comparison",
        "roc_auc of all customers is .* against main's first model of .* worse, where 0.0100 is allowed",
    ),
    Defect(TRAINING, "another target", labels('labels = features["partner"].astype("int64")'), "gate", "roc_auc"),
    Defect(
        TRAINING,
        "labels shuffled",
        labels("labels = labels.sample(frac=1, random_state=0).set_axis(labels.index)"),
        "gate",
        "roc_auc of all customers is .*, minimum",
    ),
    Defect(TRAINING, "half of the rows lost", half_the_rows, "train", r"would see [\d,]+ of the [\d,]+"),
    Defect(
        TRAINING,
        "half of the rows lost, and not counted",
        half_the_rows_uncounted,
        "comparison",
        "average_precision of all customers is .* against main's",
    ),
    Defect(
        TRAINING,
        "a tenth of the rows lost within the fit",
        a_tenth_lost_uncounted,
        "gate|comparison",
        "the model was trained on 5,032 rows, but data/features/train.parquet has 5,591: train on all",
    ),
    Defect(TRAINING, "one contract alone is learned from", young_customers_alone, "gate|comparison", "."),
    Defect(
        TRAINING,
        "a constant model",
        estimator("sklearn.dummy.DummyClassifier", "{strategy: prior}"),
        "train|evaluate",
        "tells no customer from another|may be read",
    ),
    Defect(
        TRAINING,
        "an untrained model",
        params("learning_rate: 0.05", "learning_rate: 0.0000001"),
        "gate",
        "accuracy|recall",
    ),
    Defect(TRAINING, "two trees", weak, "gate", "recall|accuracy"),
    Defect(
        TRAINING,
        "the luckiest of many splits",
        params("salt: churn", "salt: churn-17"),
        "comparison|gate",
        "prepare.salt is .*approval",
    ),
    Defect(
        TRAINING,
        "a smaller holdout",
        params("holdout_share: 0.2", "holdout_share: 0.1"),
        "comparison|gate",
        "holdout_share",
    ),
    Defect(
        TRAINING,
        "wildly overfitted",
        estimator(
            "sklearn.ensemble.HistGradientBoostingClassifier",
            "{learning_rate: 0.5, max_iter: 500, max_leaf_nodes: 255, min_samples_leaf: 1}",
        ),
        "gate|comparison",
        "brier_score|roc_auc|calibration",
    ),
    Defect(
        TRAINING,
        "one tree to the last customer",
        estimator("sklearn.tree.DecisionTreeClassifier"),
        "gate|comparison",
        "brier_score|roc_auc|calibration",
    ),
    Defect(TRAINING, "scores inverted", labels("labels = 1 - labels"), "gate", "roc_auc"),
    Defect(
        TRAINING,
        "new customers never predicted",
        labels('labels = labels.mask(features["tenure_months"] < 6, 0)'),
        "gate",
        "recall of new_customers is .*, minimum",
    ),
    Defect(
        TRAINING,
        "new customers weigh nothing",
        new_customers_without_weight,
        "gate",
        "recall of new_customers is .*, min",
    ),
    Defect(
        TRAINING,
        "one contract never predicted",
        labels('labels = labels.mask(features["contract"] == "Month-to-month", 0)'),
        "gate|comparison",
        "Month-to-month|recall",
    ),
    Defect(
        TRAINING,
        "one payment method never predicted",
        labels('labels = labels.mask(features["payment_method"] == "Electronic check", 0)'),
        "gate",
        "Electronic check: [0-9]+ churners predicted where",
    ),
    Defect(
        TRAINING,
        "who pays by card never predicted",
        labels('labels = labels.mask(features["payment_method"] == "Credit card (automatic)", 0)'),
        "gate",
        r"recall of payment_method=Credit card \(automatic\) is .* against main's",
    ),
    Defect(
        TRAINING,
        "one contract ranked upside down",
        labels('labels = labels.mask(features["contract"] == "One year", 1 - labels)'),
        "gate",
        "roc_auc of contract=One year is at most .* behind that of all customers",
    ),
    Defect(TRAINING, "the luckiest of many seeds", luckiest_seed, "train", "not for training"),
    Defect(
        TRAINING,
        "senior citizens never predicted",
        labels("labels = labels.mask(features['senior_citizen'], 0)"),
        "gate|comparison",
        "senior_citizen=true",
    ),
    Defect(
        TRAINING,
        "leaves so large that the campaign's customers are mixed up, the ROC AUC equal",
        params("min_samples_leaf: 40", "min_samples_leaf: 1200"),
        "comparison",
        r"lift_at_capacity of all customers is .* worse, where 0\.2000 is allowed",
    ),
    Defect(TRAINING, "rows held back for early stopping", early_stopping, "train", "early_stopping"),
    Defect(
        TRAINING,
        "everybody predicted to leave",
        labels("labels = labels.mask(labels.index % 2 == 0, 1)"),
        "gate",
        "expected_calibration_error of .* is at least",
    ),
]
EVALUATION_CASES = [
    Defect(
        EVALUATION,
        "on so few customers that a loss cannot be seen",
        on_a_small_holdout,
        "gate|comparison",
        "2[0-9]{2} customers are too few, about [0-9,]+ would do",
    ),
    Defect(EVALUATION, "on the training table", on_the_training_table, "evaluate", "does not hold the customers"),
    Defect(
        EVALUATION,
        "on the training table, unchecked",
        on_the_training_table_unchecked,
        "comparison|evaluate",
        "evaluated anew",
    ),
    Defect(
        EVALUATION,
        "the threshold tuned on the holdout",
        params("threshold: 0.5 ", "threshold: 0.46 "),
        "comparison|gate",
        "evaluate.threshold is 0.46",
    ),
    Defect(EVALUATION, "the threshold tuned by the code", threshold_tuned_by_code, "comparison", "evaluated anew"),
    Defect(EVALUATION, "precision and recall swapped", swapped_metrics, "comparison|gate", "evaluated anew"),
    Defect(
        EVALUATION, "half of the loss", kinder_loss, "comparison", "brier_score of all customers is .* evaluated anew"
    ),
    Defect(
        EVALUATION,
        "slices left out by the code",
        slice_left_out_by_code,
        "comparison|gate",
        "leaves out|senior_citizen",
    ),
    Defect(
        EVALUATION,
        "a slice left out of params.yaml",
        params("internet_service, payment_method, ", "internet_service, "),
        "comparison",
        "evaluate.slices.columns lacks payment_method",
    ),
    Defect(EVALUATION, "hard customers left out", easy_rows_alone, "comparison|gate", "evaluated anew"),
    Defect(
        EVALUATION,
        "NaN scores",
        score("np.where(features['tenure_months'] < 6, np.nan, scores)"),
        "evaluate",
        "are not probabilities",
    ),
    Defect(EVALUATION, "infinite scores", score("np.log(np.round(scores, 1))"), "evaluate", "are not probabilities"),
    Defect(EVALUATION, "NaN counted as stayers", nan_counted_as_stayers, "gate|comparison", "new_customers"),
    Defect(EVALUATION, "scores rounded up", score("np.round(scores, 1)"), "comparison|gate", "evaluated anew"),
]
TRUST_CASES = [
    Defect(TRUST, "metrics, lock and run-cache forged", forged_metrics, "comparison", "evaluated anew it is"),
    Defect(TRUST, "the verdict written by hand", verdict_by_hand, "gate", "recall|accuracy"),
    Defect(
        TRUST,
        "a stage swaps the holdout before evaluate",
        stage_swaps_the_holdout,
        "evaluate",
        "data/features/test.parquet is damaged: its bytes are not those that dvc.lock names",
    ),
    Defect(TRUST, "gate's command is true", gate_is_true, "gate|comparison", "."),
    Defect(TRUST, "gate's command restores the verdict", gate_keeps_the_verdict, "comparison", "recall|accuracy"),
    Defect(
        TRUST,
        "gate cannot fail, the model is good",
        gate_always_passes_a_good_model,
        "comparison",
        r"dvc.yaml: gate.cmd is python -m stages.gate \|\| true, on main python -m stages.gate: that takes",
    ),
    Defect(TRUST, "gate frozen", gate_frozen, "fetch", "Not judged: fetch did not run"),
    Defect(TRUST, "gate's code hollow", gate_code_hollow, "comparison", "accuracy of all customers is .*, minimum"),
    Defect(
        TRUST,
        "validate's code hollow",
        validate_is_skipped,
        "comparison|gate",
        "monthly_charges has [0-9,]+ values outside",
    ),
    Defect(TRUST, "the report's code hollow", report_always_passes, "comparison", "recall|accuracy"),
    Defect(
        TRUST,
        "a gate rule weakened",
        params("roc_auc: {min: 0.82}", "roc_auc: {min: 0.6}"),
        "comparison",
        r"gate.overall.roc_auc.min is 0.6, on main 0.82",
    ),
    Defect(
        TRUST,
        "a margin widened",
        params("margins: {roc_auc: 0.005,", "margins: {roc_auc: 0.5,"),
        "comparison",
        "margins.roc_auc is 0.5",
    ),
    Defect(
        TRUST, "another label, beside a looser rule", another_label, "comparison", "label is gone here and churn on"
    ),
    Defect(TRUST, "a slice's rules removed", no_slice_rule, "comparison", "new_customers is absent"),
    Defect(
        TRUST,
        "the smallest slice raised",
        params("min_slice_rows: 100", "min_slice_rows: 1000"),
        "comparison|gate",
        "min_slice_rows|too few",
    ),
    Defect(
        TRUST,
        "a contract bound loosened",
        lambda clone: clone.replace(
            "contract.yaml", "monthly_charges: {min: 0, max: 500}", "monthly_charges: {min: 0, max: 50000}"
        ),
        "comparison",
        "monthly_charges.max is 50000",
    ),
    Defect(
        TRUST,
        "nulls allowed",
        lambda clone: clone.replace(
            "contract.yaml",
            "  monthly_charges: {role: feature, type: number}",
            "  monthly_charges: {role: feature, type: number, nulls: allow, because: Some are.}",
        ),
        "comparison|validate",
        "monthly_charges allows nulls",
    ),
    Defect(
        TRUST,
        "the leakage rule loosened",
        lambda clone: clone.replace(
            "contract.yaml", "max_single_feature_roc_auc: 0.85", "max_single_feature_roc_auc: 0.999"
        ),
        "comparison",
        "max_single_feature_roc_auc is 0.999",
    ),
    Defect(
        TRUST,
        "customers dropped for a reason",
        params("drop: {} #", "drop: {undecided: tenure_months < 3} #"),
        "comparison|gate|validate",
        "prepare.drop|rows",
    ),
    Defect(
        TRUST,
        "a model from elsewhere that knows everybody",
        model_from_elsewhere,
        "gate|comparison",
        "too good to be true|calibration_error",
    ),
    Defect(TRUST, "a model file committed", model_file_committed, "train|gate|comparison", "."),
    Defect(
        TRUST,
        "a model put in before evaluate",
        model_put_in_before_evaluate,
        "evaluate",
        "models/churn.skops is damaged: its bytes are not those that dvc.lock names",
    ),
    Defect(TRUST, "a model that brings code of its own", model_with_code, "train", "as_it_is.* lists what may be read"),
    Defect(TRUST, "trees of another objective", trees_of_another_objective, "train", "its objective is not binary:log"),
]
