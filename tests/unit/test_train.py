import io
import sys
import warnings
import zipfile

from churn.config.contract import Contract
from churn.config.params import Train, load_params
from churn.core.errors import StageError
from churn.core.files import sha256_of
from churn.core.paths import TEST
from churn.data.featuring import to_arrow
from churn.evaluation.holdout import scores_of
from churn.modeling import sklearn_trees
from churn.modeling.codes import churn_probability
from churn.modeling.model import hash_file, load_model, model_frame, reproducible_bytes, rows_seen, save_model
from churn.modeling.training import build_classifier, build_model, fit
from churn.modeling.trees import TreeError
from stages.train import refuse_holdout
from tests.conftest import after_change, make_customers
from tests.training import frame_of

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.utils import all_estimators

BOOSTING = "sklearn.ensemble.HistGradientBoostingClassifier"
GRADIENT_BOOSTING = "sklearn.ensemble.GradientBoostingClassifier"
LOGISTIC = "sklearn.linear_model.LogisticRegression"


def settings(estimator=BOOSTING, **parameters) -> Train:
    return Train(estimator=estimator, parameters=parameters, seed=1)


def trained(contract, estimator=BOOSTING, **parameters):
    features, labels = frame_of(contract)
    model = build_model(build_classifier(settings(estimator, **parameters)), contract)
    return fit(model, features, labels, len(features))


def scored_as_by_scikit_learn(train, contract, features, labels):
    """Return the scores of a model, whose bytes and scores are those that scikit-learn's own pipeline makes."""
    model = fit(build_model(build_classifier(train), contract), features, labels, len(features))
    pipeline = build_model(build_classifier(train), contract).fit(features, labels)
    if hasattr(pipeline[-1], "_bin_mapper"):
        pipeline[-1]._bin_mapper.n_threads = 1
    assert reproducible_bytes(model) == reproducible_bytes(pipeline)
    scores = churn_probability(model, features)
    assert np.array_equal(scores, pipeline.predict_proba(features)[:, 1])
    return scores


UNFIT = {  # to the standardised, collinear features of a general table
    "sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis",
    "sklearn.naive_bayes.CategoricalNB",
    "sklearn.naive_bayes.ComplementNB",
    "sklearn.naive_bayes.MultinomialNB",
    "sklearn.neighbors._classification.RadiusNeighborsClassifier",
}


def classifiers_with_probabilities() -> list[str]:
    found = []
    for name, kind in all_estimators("classifier"):
        try:
            made = kind()
        except TypeError:  # needs an estimator of its own
            continue
        if hasattr(made, "predict_proba"):
            found.append(f"{kind.__module__}.{name}")
    return found


@pytest.mark.parametrize("estimator", sorted(set(classifiers_with_probabilities()) - UNFIT))
def test_any_classifier_of_scikit_learn_can_be_named_saved_and_read_back(estimator, contract, tmp_path):
    path = tmp_path / "model.skops"
    few = {"n_estimators": 5, "max_iter": 20}  # each tree of a hundred is saved and read alike
    known = build_classifier(settings(estimator)).get_params(deep=False)
    smaller = {name: number for name, number in few.items() if name in known}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of those that don't converge on a small table
        model, again = (trained(contract, estimator, **smaller) for _ in range(2))
        save_model(model, path)
        assert path.read_bytes() == reproducible_bytes(again)
    features, _ = frame_of(contract)
    loaded = load_model(path)
    assert np.array_equal(loaded.predict_proba(features), model.predict_proba(features))
    assert rows_seen(loaded) == len(features)


@pytest.mark.parametrize(
    ("estimator", "parameters"),
    [
        ("sklearn.ensemble.RandomForestClassifier", {"max_samples": 0.5}),
        ("sklearn.ensemble.RandomForestClassifier", {"bootstrap": False}),
        (GRADIENT_BOOSTING, {"subsample": 0.5}),
        (BOOSTING, {"class_weight": "balanced"}),
    ],
)
def test_the_number_of_rows_is_that_of_the_table_where_an_estimator_draws_or_weighs_them(
    estimator, parameters, contract
):
    assert rows_seen(trained(contract, estimator, **parameters)) == 600


def test_a_model_without_a_count_has_no_number_of_rows():
    assert rows_seen(LogisticRegression().fit([[0], [1], [2]], [0, 0, 1])) is None


def test_rows_that_an_estimator_holds_back_are_not_counted(contract):
    features, labels = frame_of(contract)
    model = build_model(build_classifier(settings(BOOSTING)), contract)
    model[-1].set_params(early_stopping=True)
    assert rows_seen(model.fit(features, labels)) == 540


def test_no_classifier_of_scikit_learn_holds_rows_back_by_a_number_of_rounds_without_a_change():
    for estimator in (*classifiers_with_probabilities(), "sklearn.linear_model.SGDClassifier"):
        loss = {"loss": "log_loss"} if "SGD" in estimator else {}
        known = build_classifier(settings(estimator, **loss)).get_params(deep=False)
        if "validation_fraction" not in known:
            continue
        if "early_stopping" in known:
            assert build_classifier(settings(estimator, n_iter_no_change=5, **loss)).early_stopping is False
        else:
            with pytest.raises(StageError, match=r"n_iter_no_change: it holds rows back .*; set n_estimators"):
                build_classifier(settings(estimator, n_iter_no_change=5))
            assert build_classifier(settings(estimator, n_iter_no_change=None)).n_iter_no_change is None


@pytest.mark.parametrize("estimator", sorted(UNFIT))
def test_a_classifier_that_cannot_take_the_features_says_so_in_one_sentence(estimator, contract):
    features, _ = frame_of(contract)
    with pytest.raises(StageError, match=r"the model cannot (be fitted|score the holdout): "):
        scores_of(trained(contract, estimator), features.assign(monthly_charges=1e6))


@pytest.mark.parametrize(
    ("estimator", "parameters", "said"),
    [
        ("sklearn.ensemble.NoSuchClassifier", {}, "sklearn.ensemble.NoSuchClassifier does not exist"),
        ("sklearn.nowhere.Classifier", {}, "sklearn.nowhere.Classifier does not exist"),
        ("sklearn", {}, "sklearn is not from a listed package"),
        ("sklearn.", {}, "sklearn. does not exist"),
        ("sklearn..ensemble", {}, "does not exist"),
        ("LogisticRegression", {}, "LogisticRegression is not from a listed package: name a classifier of sklearn, "),
        ("sklearn.ensemble.VotingClassifier", {}, "VotingClassifier cannot be made without arguments"),
        ("sklearn.linear_model.LinearRegression", {}, "is not a classifier with predict_proba"),
        ("sklearn.svm.LinearSVC", {}, "is not a classifier with predict_proba"),
        ("pathlib.Path", {}, "pathlib.Path is not from a listed package"),
        (BOOSTING, {"lerning_rate": 0.1}, "train.parameters.lerning_rate: HistGradientBoostingClassifier has no such"),
        (BOOSTING, {"random_state": 1}, "train.parameters.random_state: set train.seed instead"),
        (BOOSTING, {"categorical_features": [0]}, "train.parameters.categorical_features: the contract says which"),
        (BOOSTING, {"early_stopping": True}, "train.parameters.early_stopping: it holds rows back in silence"),
        (
            GRADIENT_BOOSTING,
            {"n_iter_no_change": 5},
            "train.parameters.n_iter_no_change: it holds rows back in silence",
        ),
    ],
)
def test_what_cannot_be_made_is_one_sentence_with_its_key(estimator, parameters, said):
    with pytest.raises(StageError) as told:
        build_classifier(settings(estimator, **parameters))
    assert said in str(told.value)
    assert "params.yaml: " in str(told.value)


@pytest.mark.parametrize(
    "path",
    [
        "sys.exit",
        "os.system",
        "os.abort",
        "subprocess.Popen",
        "sklearn_evil.Classifier",
        "builtins.exit",
        "sklearn.utils.os",
        "sklearn.utils.os.abort",
        "sklearn.utils.sys.exit",
        "sklearn.utils.metaestimators.List",
        "sklearn.utils.warnings.catch_warnings",
        "sklearn.base.BaseEstimator",
        "sklearn.base.ClassifierMixin",
        "sklearn.show_versions",
        "sklearn.datasets.fetch_california_housing",
        "churn.modeling.model.read_model",
    ],
)
def test_an_estimator_that_is_no_classifier_of_a_listed_package_is_neither_called_nor_imported(path):
    """Fault in the settings: `train.estimator` is not a classifier of a listed package.

    The first stage that runs fails without importing it: `params.yaml: train.estimator: os.system is not from a listed
    package: …`
    """
    before = set(sys.modules)
    with pytest.raises(StageError, match=rf"^params\.yaml: train\.estimator: {path} (is no|does not exist)"):
        build_classifier(settings(path))
    assert path.startswith("sklearn.") or set(sys.modules) == before


def test_what_the_parameters_give_a_classifier_counts():
    assert build_classifier(settings("sklearn.linear_model.SGDClassifier", loss="log_loss")).loss == "log_loss"
    with pytest.raises(StageError, match="SGDClassifier is not a classifier with predict_proba"):
        build_classifier(settings("sklearn.linear_model.SGDClassifier"))


def test_an_impossible_parameter_is_one_sentence(contract):
    with pytest.raises(StageError, match=r"the model cannot be fitted: .* train\.parameters.learning_rate = -1.0"):
        trained(contract, learning_rate=-1.0)


def test_no_row_is_held_back_in_silence_and_weights_are_by_label():
    classifier = build_classifier(settings(class_weight={"0": 1, "1": 3}))
    assert classifier.early_stopping is False
    assert classifier.class_weight == {0: 1, 1: 3}


def test_parameters_and_seed_reach_the_classifier():
    classifier = build_classifier(settings(max_iter=7))
    assert (classifier.max_iter, classifier.random_state) == (7, 1)


@pytest.mark.parametrize("estimator", [BOOSTING, LOGISTIC])
def test_missing_values_are_values_and_no_row_is_lost(contract, estimator):
    features, _ = frame_of(contract)
    missing = features["total_charges"].isna()
    assert 0 < missing.sum() < len(features)
    scores = trained(contract, estimator, max_iter=50).predict_proba(features)
    assert np.isfinite(scores).all()
    assert len(scores) == len(features)


def test_a_linear_model_sees_that_a_value_is_missing(contract):
    features, labels = frame_of(contract)
    labels = features["total_charges"].isna().astype(int)
    model = fit(build_model(LogisticRegression(), contract), features.drop(columns=[]), labels, len(features))
    assert (model.predict_proba(features)[labels == 1, 1] > 0.5).all()


def test_a_lost_row_is_refused(contract):
    features, labels = frame_of(contract)
    kept = features["total_charges"].notna()
    with pytest.raises(StageError, match="the model would see 588 of the 600 rows of the table"):
        fit(build_model(LogisticRegression(), contract), features[kept], labels[kept], len(features))


@pytest.mark.parametrize("estimator", [BOOSTING, LOGISTIC])
def test_nullable_columns_of_every_type_can_be_missing(contract, estimator):
    nullable = {"nulls": "allow", "because": "a test"}
    columns = {
        name: column.model_copy(update=nullable) if column.role == "feature" else column
        for name, column in contract.columns.items()
    }
    changed = Contract.model_construct(columns=columns, rules=contract.rules)
    customers = make_customers(contract, 600)
    table = to_arrow(customers.astype(object).mask(np.random.default_rng(0).random(customers.shape) < 0.1), changed)
    features = model_frame(table, changed)
    assert features.isna().any().all()
    scores = scored_as_by_scikit_learn(settings(estimator, max_iter=50), changed, features, customers["churn"])
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("kind", ["integer", "boolean", "category"])
@pytest.mark.parametrize("estimator", [BOOSTING, LOGISTIC])
def test_features_may_all_be_of_one_type(contract, estimator, kind):
    columns = {name: column for name, column in contract.columns.items() if column.type == kind}
    changed = Contract.model_construct(columns=columns, rules=contract.rules)
    customers = make_customers(contract, 600)
    features = model_frame(to_arrow(customers, contract), changed)
    assert len(scored_as_by_scikit_learn(settings(estimator), changed, features, customers["churn"])) == 600


@pytest.mark.parametrize("value", ["Three years", np.nan])
def test_a_value_that_the_model_does_not_know_has_no_score(contract, value):
    features, _ = frame_of(contract)
    features["contract"] = pd.Series([value, *features["contract"][1:]], dtype="str")
    with pytest.raises(StageError, match="the model cannot score the holdout: it raises ValueError"):
        scores_of(trained(contract), features)


def test_a_category_is_encoded_as_the_contract_lists_it_not_as_the_data_happens_to_be(contract):
    features, labels = frame_of(contract)
    only = features.assign(contract=pd.Series(["One year"] * len(features), dtype="str"))
    model = fit(build_model(build_classifier(settings()), contract), only, labels, len(only))
    encoder = model[0].named_transformers_["categories"]
    assert list(encoder.categories_[0]) == list(contract.columns["contract"].values)


def test_the_model_file_is_no_pickle_and_holds_no_trace_of_time_or_memory(contract):
    content = reproducible_bytes(trained(contract))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        names = [entry.filename for entry in archive.infolist()]
        assert names == [*(f"{number}.npy" for number in range(len(names) - 1)), "schema.json"]
        assert all(archive.read(name)[:6] == b"\x93NUMPY" for name in names[:-1])


class _Foreign:
    """A type that nobody has read."""

    def __init__(self):
        self.value = 1


@pytest.mark.parametrize("foreign", [_Foreign(), KMeans()])  # skops by itself would trust any of scikit-learn's
def test_a_type_that_is_not_trusted_is_refused_by_name(foreign, tmp_path, contract):
    model = trained(contract)
    model.set_params(columntransformer__remainder=foreign)
    path = tmp_path / "model.skops"
    with pytest.raises(
        StageError, match=rf"{type(foreign).__name__}.*TRUSTED_TYPES in churn/modeling/model\.py"
    ) as refused:
        save_model(model, path)
    assert str(refused.value).startswith(f"{path} holds ")  # not the temporary file, whose name is another each time
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"half a fi", b"PK\x03\x04"])
def test_a_broken_model_file_is_one_sentence(tmp_path, content):
    path = tmp_path / "model.skops"
    path.write_bytes(content)
    hash_file(path).write_text(sha256_of(path))
    with pytest.raises(StageError, match="is not a model in skops' format"):
        load_model(path)


def test_a_model_file_that_train_did_not_write_is_not_read(contract, tmp_path):
    path = tmp_path / "model.skops"
    save_model(trained(contract), path)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(StageError, match="is not the file that train wrote"):
        load_model(path)


def test_training_cannot_open_the_holdout():
    with pytest.raises(StageError, match=r"data/features/test\.parquet is not for training"):
        refuse_holdout("open", (str(TEST), "r", 0))
    refuse_holdout("open", ("data/features/train.parquet", "r", 0))


@pytest.mark.parametrize(
    "weights", [{"churned": 3}, {"0": "x"}, {"0": 1, "2": 1}, {"1": -1}, {"1": True}, {}, {"1.0": 2}, [], [["0", 1]]]
)
def test_a_weight_of_no_label_is_one_sentence(weights):
    """Fault in the settings: a class weight names no label.

    train fails: `params.yaml: train.parameters.class_weight: needs a number above 0 for each label, which is 0 or
    1: …`
    """
    with pytest.raises(StageError, match=r"train\.parameters\.class_weight: needs a number above 0 for each label"):
        build_classifier(settings(class_weight=weights))


def test_the_weights_that_the_message_proposes_are_read_from_params_yaml(tmp_path):
    with pytest.raises(StageError) as told:
        build_classifier(settings(class_weight={}))
    proposed = str(told.value).rpartition(" write ")[2].removesuffix(", or balanced.")
    read = after_change("params.yaml", load_params, tmp_path)
    weights = YAML(typ="safe").load(proposed)
    params = read(lambda values: values["train"].update(parameters={"class_weight": weights}))
    assert build_classifier(params.train).class_weight == {0: 1, 1: 3}


@pytest.mark.parametrize("parameters", [{"max_bins": [1]}, {"min_samples_leaf": [1]}])
def test_a_parameter_that_breaks_scikit_learn_is_one_sentence(contract, parameters):
    with pytest.raises(StageError, match="the model cannot be fitted: "):
        trained(contract, **parameters)


def with_schema(source, target, change):
    """Write a model's file anew with its schema changed, and the hash of the result beside it."""
    with zipfile.ZipFile(source) as given, zipfile.ZipFile(target, "w") as made:
        for name in given.namelist():
            content = given.read(name)
            made.writestr(name, change(content) if name == "schema.json" else content)
    hash_file(target).write_text(sha256_of(target))


@pytest.fixture(scope="module")
def whole(contract, tmp_path_factory):
    """The file of a model; read it, don't change it."""
    path = tmp_path_factory.mktemp("model") / "whole.skops"
    save_model(trained(contract, max_iter=2), path)
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda _: b"[]",
        lambda _: b"null",
        lambda _: b"{}",
        lambda _: b"[" * 100_000,
        lambda _: b"\xff",
        lambda schema: schema.replace(b'"__loader__": "', b'"__loader__": "x'),
        lambda schema: schema.replace(b'"content": {', b'"content": 1, "x": {'),
        lambda schema: schema.replace(b'.npy"', b'.nope"'),
    ],
)
def test_a_model_with_the_right_hash_and_a_broken_schema_is_one_sentence(whole, tmp_path, change):
    """Fault in files between stages: a model file has the right hash and damaged content.

    evaluate fails: `models/churn.skops is not a model in skops' format; run dvc repro --force train.`
    """
    with_schema(whole, tmp_path / "model.skops", change)
    fault = r"model\.skops is not a model in skops' format; run `dvc repro --force train`"
    with pytest.raises(StageError, match=fault):
        load_model(tmp_path / "model.skops")


def test_a_model_file_that_is_larger_in_memory_is_not_read(whole, tmp_path):
    path = tmp_path / "model.skops"
    with zipfile.ZipFile(whole) as given, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name in given.namelist():
            made.writestr(name, given.read(name))
    hash_file(path).write_text(sha256_of(path))
    with pytest.raises(StageError, match=r"model\.skops: it is compressed; run `dvc repro --force train`"):
        load_model(path)


def with_node(model, place, **values):
    """Change a node of a model's first tree."""
    nodes = model[-1]._predictors[0][0].nodes.copy()
    for name, value in values.items():
        nodes[name][place] = value
    model[-1]._predictors[0][0].nodes = nodes


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({"left": 400_000_000, "right": 400_000_000}, "a tree has nodes that nothing leads to"),
        ({"left": 0, "right": 0}, "a tree goes round in a circle"),
        ({"feature_idx": 2_000_000_000}, "a tree takes a feature that is not there"),
        ({"is_categorical": 1, "feature_idx": 18}, "a tree has other categories"),
        ({"is_categorical": 1, "feature_idx": 0, "bitset_idx": 1_000}, "a tree has other categories"),
    ],
)
def test_a_tree_of_scikit_learn_that_leads_nowhere_is_refused_before_it_predicts(contract, tmp_path, node, said):
    """Fault in files between stages: the trees of a scikit-learn model lead nowhere.

    evaluate fails: `models/churn.skops: a tree goes round in a circle; run dvc repro --force train.`
    """
    model = trained(contract, max_iter=2)
    with_node(model, 0, **node)
    path = tmp_path / "model.skops"
    path.write_bytes(reproducible_bytes(model))
    hash_file(path).write_text(sha256_of(path))
    with pytest.raises(StageError, match=rf"model\.skops: {said}; run `dvc repro --force train`"):
        load_model(path)


@pytest.mark.parametrize("name", ["RandomForestClassifier", "GradientBoostingClassifier"])
def test_a_decision_tree_that_leads_nowhere_is_refused(contract, tmp_path, name):
    model = trained(contract, f"sklearn.ensemble.{name}", n_estimators=2)
    sklearn_trees.check(model)
    tree = np.ravel(np.array(model[-1].estimators_, dtype=object))[-1].tree_
    state = tree.__getstate__()
    state["nodes"]["left_child"][0] = 2**40
    tree.__setstate__(state)
    with pytest.raises(TreeError, match="a tree has nodes that nothing leads to"):
        sklearn_trees.check(model)


def test_a_tree_that_takes_more_features_than_the_model_around_it_is_refused(contract):
    model = trained(contract, GRADIENT_BOOSTING, n_estimators=2)
    tree = model[-1].estimators_[0][0]
    tree.n_features_in_ = 10**9  # which the library does not look at
    state = tree.tree_.__getstate__()
    state["nodes"]["feature"][0] = 10**8
    tree.tree_.__setstate__(state)
    with pytest.raises(TreeError, match="a tree takes a feature that is not there"):
        sklearn_trees.check(model)


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        (1, lambda order: order + 10**9, "customers that are not there"),
        (1, lambda order: order[:-1], "customers that are not there"),
        (2, lambda nodes: changed_nodes(nodes, idx_start=-(10**9)), "customers that are not there"),
        (2, lambda nodes: changed_nodes(nodes, idx_end=10**9), "customers that are not there"),
        (2, lambda nodes: changed_nodes(nodes, is_leaf=0), "nodes that are not there"),
        (3, lambda bounds: bounds[:, :-1].copy(), "nodes that are not there"),
    ],
)
def test_a_tree_of_neighbours_that_leads_nowhere_is_refused(contract, part, change, said):
    model = trained(contract, "sklearn.neighbors.KNeighborsClassifier", algorithm="kd_tree")
    sklearn_trees.check(model)
    state = [*model[-1]._tree.__getstate__()]
    state[part] = change(state[part])
    model[-1]._tree.__setstate__(tuple(state))
    with pytest.raises(TreeError, match=f"a tree leads to {said}"):
        sklearn_trees.check(model)


def changed_nodes(nodes, **values):
    nodes = nodes.copy()
    for name, value in values.items():
        nodes[name] = value
    return nodes


def test_a_forest_s_scores_do_not_depend_on_the_number_of_threads(contract):
    model = trained(contract, "sklearn.ensemble.RandomForestClassifier", n_estimators=2, n_jobs=2)
    assert model[-1].n_jobs is None


def test_a_file_of_another_thing_than_a_classifier_is_one_sentence(tmp_path):
    import skops.io

    skops.io.dump({"a": 1}, tmp_path / "model.skops")
    hash_file(tmp_path / "model.skops").write_text(sha256_of(tmp_path / "model.skops"))
    with pytest.raises(StageError, match="holds dict, not a classifier"):
        load_model(tmp_path / "model.skops")


def test_a_hash_that_is_no_text_is_that_of_another_file(tmp_path):
    (tmp_path / "model.skops").write_bytes(b"")
    hash_file(tmp_path / "model.skops").write_bytes(b"\xff\xfe")
    with pytest.raises(StageError, match="is not the file that train wrote"):
        load_model(tmp_path / "model.skops")
