"""LightGBM and XGBoost as estimators: what they learn, their bytes, and the files that are refused."""

import re
import struct
import sys
import zipfile

from churn.config.contract import Contract
from churn.config.params import Train
from churn.core.errors import StageError
from churn.core.files import sha256_of
from churn.data.featuring import to_arrow
from churn.evaluation.holdout import scores_of
from churn.modeling import lightgbm_file, xgboost_file
from churn.modeling.boosting import BoostedTrees
from churn.modeling.encoding import categories, encoded
from churn.modeling.model import hash_file, load_model, model_frame, reproducible_bytes, rows_seen, save_model
from churn.modeling.training import build_classifier, build_model, fit
from tests.conftest import make_customers
from tests.training import frame_of

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

LIGHTGBM, XGBOOST = "lightgbm.LGBMClassifier", "xgboost.XGBClassifier"
BOTH = pytest.mark.parametrize("estimator", [LIGHTGBM, XGBOOST])
CHECKS = {LIGHTGBM: lightgbm_file.check, XGBOOST: xgboost_file.check}


def unfitted(contract, estimator, **parameters):
    settings = Train(estimator=estimator, parameters={"n_estimators": 20} | parameters, seed=1)
    return build_model(build_classifier(settings), contract)


def trained(contract, estimator, **parameters):
    features, labels = frame_of(contract)
    return fit(unfitted(contract, estimator, **parameters), features, labels, len(features))


@BOTH
def test_a_model_learns_and_reads_back_with_the_same_scores_bytes_and_rows(estimator, contract, tmp_path):
    model, path = trained(contract, estimator), tmp_path / "model.skops"
    save_model(model, path)
    loaded = load_model(path)
    features, labels = frame_of(contract, seed=1)
    scores = scores_of(model, features)
    assert roc_auc_score(labels, scores) > 0.6
    assert np.array_equal(scores_of(loaded, features), scores)
    assert path.read_bytes() == reproducible_bytes(loaded)
    assert rows_seen(loaded) == 600
    assert [*loaded.feature_names_in_] == list(contract.features)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["0.bin", "schema.json"]
        assert archive.read("0.bin")[:5] in (b"tree\n", b"{L\0\0\0"), "the library's own format"


@BOTH
def test_fewer_rows_than_the_table_has_are_what_the_model_s_file_has(estimator, contract, tmp_path):
    features, labels = frame_of(contract)
    save_model(unfitted(contract, estimator, subsample=0.5).fit(features[:540], labels[:540]), tmp_path / "model.skops")
    assert rows_seen(load_model(tmp_path / "model.skops")) == 540


@BOTH
@pytest.mark.parametrize("parameters", [{"subsample": 0.5, "subsample_freq": 1}, {"colsample_bytree": 0.3}])
def test_the_seed_of_params_yaml_is_what_draws(estimator, parameters, contract):
    parameters = {name: value for name, value in parameters.items() if estimator == LIGHTGBM or "freq" not in name}
    features, labels = frame_of(contract)
    files = set()
    for seed in (1, 2):
        settings = Train(estimator=estimator, parameters=parameters, seed=seed)
        files.add(reproducible_bytes(build_model(build_classifier(settings), contract).fit(features, labels)))
    assert len(files) == 2


@BOTH
def test_a_category_is_one_value_or_another_not_a_larger_number(estimator, contract):
    features, _ = frame_of(contract, 3_000)
    labels = (features["payment_method"].isin(sorted(features["payment_method"].unique())[1::2])).astype("int64")
    model = fit(unfitted(contract, estimator, n_estimators=3, max_depth=1), features, labels, len(features))
    assert roc_auc_score(labels, scores_of(model, features)) == 1, "one split takes two of four values"


@BOTH
def test_nullable_columns_of_every_type_can_be_missing(estimator, contract):
    nullable = {"nulls": "allow", "because": "a test"}
    columns = {
        name: column.model_copy(update=nullable) if column.role == "feature" else column
        for name, column in contract.columns.items()
    }
    changed = Contract.model_construct(columns=columns, rules=contract.rules)
    customers = make_customers(contract, 600)
    table = to_arrow(customers.astype(object).mask(np.random.default_rng(0).random(customers.shape) < 0.1), changed)
    model = fit(unfitted(changed, estimator), model_frame(table, changed), customers["churn"], 600)
    assert np.ptp(scores_of(model, model_frame(table, changed))) > 0
    assert np.array_equal(model.predict_proba(table), model.predict_proba(model_frame(table, changed)))


@BOTH
@pytest.mark.parametrize(
    "wrong",
    [
        lambda one: one.assign(contract=pd.Series(["Weekly"] * len(one), dtype="str")),
        lambda one: one.assign(contract=pd.Series([None] * len(one), dtype="str")),
        lambda one: one.drop(columns="contract"),
    ],
)
def test_a_value_that_the_model_does_not_know_has_no_score(estimator, wrong, contract):
    features, _ = frame_of(contract)
    with pytest.raises(StageError, match=r"the model cannot score the holdout: it raises (Value|Key)Error"):
        scores_of(trained(contract, estimator), wrong(features))


def test_a_table_is_encoded_alike_as_text_and_as_a_dictionary(contract):
    table = to_arrow(make_customers(contract, 600), contract)
    columns = trained(contract, LIGHTGBM).columns
    coded = table.set_column(
        table.column_names.index("contract"), "contract", table["contract"].dictionary_encode().combine_chunks()
    )
    assert encoded(coded, columns).equals(encoded(table, columns))


@pytest.mark.parametrize(
    ("estimator", "parameters", "said"),
    [
        (LIGHTGBM, {"num_leafs": 8}, "train.parameters.num_leafs: LGBMClassifier has no such parameter"),
        (LIGHTGBM, {"early_stopping_round": 5}, "train.parameters.early_stopping_round: LGBMClassifier has no such"),
        (LIGHTGBM, {"random_state": 8}, "train.parameters.random_state: set train.seed instead"),
        (LIGHTGBM, {"objective": "cross_entropy"}, "train.parameters.objective: the pipeline predicts the probability"),
        (XGBOOST, {"objective": "reg:squarederror"}, "train.parameters.objective: the pipeline predicts"),
        (XGBOOST, {"n_jobs": 2}, "train.parameters.n_jobs: the result is the same for each number of threads"),
        (XGBOOST, {"early_stopping_rounds": 2}, "train.parameters.early_stopping_rounds: it holds rows back"),
        (XGBOOST, {"feature_weights": [1]}, "train.parameters.feature_weights: the pipeline weighs all features alike"),
        (XGBOOST, {"max_depht": 2}, "train.parameters.max_depht: XGBClassifier has no such parameter"),
        (LIGHTGBM, {"class_weight": {"2": 2}}, "train.parameters.class_weight: needs a number above 0 for each label"),
        (
            LIGHTGBM,
            {"class_weight": [["0", 1]]},
            "train.parameters.class_weight: needs a number above 0 for each label",
        ),
        (LIGHTGBM, {"learning_rate": "0.1 forcedsplits_filename=/f"}, "train.parameters.learning_rate: needs one word"),
        (XGBOOST, {"n_estimators": 0}, "train.parameters.n_estimators: needs a whole number from 1 on"),
    ],
)
def test_what_cannot_be_made_is_one_sentence_with_its_key(estimator, parameters, said, contract):
    with pytest.raises(StageError) as told:
        unfitted(contract, estimator, **parameters)
    assert f"params.yaml: {said}" in str(told.value)


@pytest.mark.parametrize(
    ("estimator", "parameters"),
    [(LIGHTGBM, {"num_leaves": 1}), (XGBOOST, {"max_depth": "deep"}), (XGBOOST, {"booster": "gblinear"})],
)
def test_a_parameter_that_the_library_refuses_is_one_sentence(estimator, parameters, contract):
    with pytest.raises(StageError, match=r"^the model cannot be fitted: (LGBM|XGB)Classifier raises .*; look at train"):
        trained(contract, estimator, **parameters)


@pytest.mark.parametrize(
    ("estimator", "parameters"),
    [
        (LIGHTGBM, {"boosting_type": "dart"}),
        (LIGHTGBM, {"num_leaves": 300, "min_child_samples": 1}),
        (LIGHTGBM, {"min_split_gain": 1e9}),  # trees of one leaf
        (XGBOOST, {"booster": "dart"}),
        (XGBOOST, {"num_parallel_tree": 2, "subsample": 0.5, "gamma": 1}),
        (XGBOOST, {"grow_policy": "lossguide", "max_leaves": 300, "max_depth": 0, "min_child_weight": 0}),
        (XGBOOST, {"gamma": 1e9}),
        (XGBOOST, {"monotone_constraints": {"tenure_months": -1}, "max_bin": 16}),
    ],
)
def test_every_kind_of_tree_passes_the_check(estimator, parameters, contract, tmp_path):
    model = trained(contract, estimator, **parameters)
    save_model(model, tmp_path / "model.skops")
    features, _ = frame_of(contract)
    loaded = load_model(tmp_path / "model.skops")
    assert np.array_equal(loaded.predict_proba(features), model.predict_proba(features))


@pytest.mark.parametrize("weights", ["balanced", {"0": 1, "1": 5}])
def test_class_weights_raise_the_scores(weights, contract):
    features, _ = frame_of(contract)
    plain, weighted = (
        scores_of(trained(contract, LIGHTGBM, **one), features) for one in ({}, {"class_weight": weights})
    )
    assert weighted.mean() > plain.mean() + 0.1


@pytest.fixture(scope="module")
def whole(contract):
    """For each estimator a model of some trees, with its file; don't change it."""
    return {estimator: trained(contract, estimator, max_depth=4) for estimator in (LIGHTGBM, XGBOOST)}


def packed(form, *values):
    return b"".join(struct.pack(form, value) for value in values)


def key(name):
    return b"L" + packed(">q", len(name)) + name


def array(data, name, at=0):
    """Return where the values of the array `name` start, in the tree at place `at`."""
    found = [one.end() for one in re.finditer(re.escape(key(name)) + rb"\[\$.#L.{8}", data, re.DOTALL)]
    return found[at]


def with_value(data, name, value, place=0):
    start = array(data, name) + place * len(value)
    return data[:start] + value + data[start + len(value) :]


def last_leaf(data, value):
    """Return a file whose last node has other children; the last node of a tree is a leaf."""
    for name in (b"left_children", b"right_children"):
        start = array(data, name)
        nodes = struct.unpack(">q", data[start - 8 : start])[0]
        data = with_value(data, name, value, place=nodes - 1)
    return data


VECTOR = b"size_leaf_vectorSL" + bytes(7) + b"\x02-5"
UBJ = {
    "truncated": lambda d: d[:-50],
    "longer": lambda d: d + b"}",
    "empty": lambda d: b"",
    "another format": lambda d: b"tree\nversion=v4\n",
    "another objective": lambda d: d.replace(b"binary:logistic", b"binary:hinge\0\0\0"),
    "an unknown objective": lambda d: d.replace(b"binary:logistic", b"custom:anything"),
    "linear": lambda d: d.replace(b"gbtree", b"linear"),
    "a child beyond the nodes": lambda d: with_value(d, b"left_children", packed(">i", 1_000_000)),
    "a circle": lambda d: with_value(d, b"left_children", packed(">i", 0)),
    "a child with two parents": lambda d: with_value(d, b"left_children", packed(">i", 2)),
    "one child": lambda d: with_value(d, b"left_children", packed(">i", -1)),
    "a feature that is not there": lambda d: with_value(d, b"split_indices", packed(">i", 99)),
    "a negative feature": lambda d: with_value(d, b"split_indices", packed(">i", -1)),
    "an infinite leaf": lambda d: with_value(d, b"split_conditions", packed(">f", float("inf"))),
    "a category that is not there": lambda d: with_value(d, b"categories", packed(">i", 1_000_000)),
    "categories beyond the list": lambda d: with_value(d, b"categories_sizes", packed(">q", 1_000_000)),
    "categories of a leaf": lambda d: with_value(d, b"categories_nodes", packed(">i", 9)),
    "an array beyond the file": lambda d: d.replace(
        key(b"base_weights") + b"[$d#L\0", key(b"base_weights") + b"[$d#L\x7f"
    ),
    "a negative length": lambda d: d.replace(key(b"learner"), b"L" + packed(">q", -7) + b"learner"),
    "deep": lambda d: b"{" + key(b"learner") + b"[" * 100_000,
    "a tree twice": lambda d: d.replace(key(b"id") + b"i\0", key(b"id") + b"i\1"),
    "nodes of another type": lambda d: d.replace(key(b"parents") + b"[$l", key(b"parents") + b"[$d", 1),
    "other parents": lambda d: with_value(d, b"parents", packed(">i", 2_000_000_000), place=1),
    "a leaf by another number": lambda d: last_leaf(d, packed(">i", -1_000_000)),
    "a vector in each leaf": lambda d: d.replace(b"size_leaf_vectorSL" + bytes(7) + b"\x011", VECTOR, 1),
    "another base": lambda d: re.sub(rb"(base_scoreSL.{8}\[\S+?E)-1", rb"\1+1", d, flags=re.DOTALL),
}
TEXT = {
    "truncated": lambda d: d[:-50],
    "longer": lambda d: d + b"more",
    "empty": lambda d: b"",
    "another format": lambda d: b"{L\0\0\0",
    "not text": lambda d: d.replace(b"tree", b"tr\xff\xff", 1),
    "another objective": lambda d: d.replace(b"objective=binary sigmoid:1", b"objective=binary sigmoid:9"),
    "an unknown objective": lambda d: d.replace(b"objective=binary sigmoid:1", b"objective=custom"),
    "other classes": lambda d: d.replace(b"num_class=1", b"num_class=9"),
    "a child beyond the nodes": lambda d: first(d, b"left_child", b"7777"),
    "a circle": lambda d: first(d, b"left_child", b"0"),
    "a feature that is not there": lambda d: first(d, b"split_feature", b"99"),
    "a negative feature": lambda d: first(d, b"split_feature", b"-1"),
    "an infinite leaf": lambda d: first(d, b"leaf_value", b"inf"),
    "a number that is none": lambda d: first(d, b"leaf_value", b"x"),
    "a threshold that is none": lambda d: first(d, b"threshold", b"nan"),
    "another decision": lambda d: first(d, b"decision_type", b"64"),
    "a category that is not there": lambda d: first(d, b"cat_threshold", b"4294967295"),
    "categories beyond the list": lambda d: first(d, b"cat_boundaries", b"9"),
    "a linear tree": lambda d: first(d, b"is_linear", b"1"),
    "no leaves": lambda d: first(d, b"num_leaves", b"0"),
    "a tree twice": lambda d: first(d, b"Tree", b"1"),
    "a line that ends otherwise": lambda d: last(d, b"shrinkage", b"\rleft_child=7777"),
    "tabs between numbers": lambda d: re.sub(
        rb"(?m)^left_child=.*", lambda line: line[0].replace(b" ", b"\t"), d, count=1
    ),
    "underscores in numbers": lambda d: first(d, b"left_child", b"0_1"),
    "a word that nobody reads": lambda d: first(d, b"leaf_weight", b"abc"),
    "a word instead of a rate": lambda d: first(d, b"shrinkage", b"z"),
    "an unknown entry": lambda d: d.replace(b"\nis_linear=0", b"\nunknown=1\nis_linear=0", 1),
    "another range": lambda d: d.replace(b"feature_infos=", b"feature_infos=\x01", 1),
    "a key twice": lambda d: d.replace(b"\nis_linear=0", b"\nis_linear=0\nis_linear=0", 1),
}


def first(data, name, value):
    """Return a text with another first value of `name`, and the sizes of its trees as they are then."""
    made = re.sub(rb"(?m)^" + name + rb"=\S*", name + b"=" + value, data, count=1)
    sizes = [len(part) for part in re.split(rb"(?m)^(?=Tree=)", made.removesuffix(b"end of trees\n"))[1:]]
    return re.sub(rb"tree_sizes=.*", b"tree_sizes=" + b" ".join(b"%d" % size for size in sizes), made)


def last(data, name, value):
    """Return a text with more behind the first line `name`, and the sizes of its trees as they are then."""
    line = re.search(rb"(?m)^" + name + rb"=(\S*)", data)
    return first(data, name, line[1] + value)


@pytest.mark.parametrize(
    ("estimator", "damage"), [(XGBOOST, name) for name in UBJ] + [(LIGHTGBM, name) for name in TEXT]
)
def test_a_damaged_or_foreign_file_is_refused_before_the_library_reads_it(estimator, damage, whole):
    """Fault in files between stages: the trees in a model file lead nowhere, or are of another objective.

    evaluate fails: `models/churn.skops: its file of xgboost cannot be read: …; run dvc repro --force train.`
    """
    model = whole[estimator]
    known = [*model.columns.values()]
    codes = {place: len(known[place]) for place in categories(model.columns)}
    check, file = CHECKS[estimator], model.__getstate__()["trees"]
    check(file, len(known), codes)
    bad = (UBJ if estimator == XGBOOST else TEXT)[damage](file)
    assert bad != file
    with pytest.raises(ValueError, match=r"^(it|its|a|categories) "):
        check(bad, len(known), codes)


@BOTH
def test_a_refused_file_is_one_sentence_with_the_model_s_path(estimator, whole, tmp_path):
    model = BoostedTrees.__new__(BoostedTrees)
    model.__dict__ |= whole[estimator].__dict__
    model._file = model._file[:-9]
    path = tmp_path / "model.skops"
    path.write_bytes(reproducible_bytes(model))
    hash_file(path).write_text(sha256_of(path))
    with pytest.raises(
        StageError, match=r"model\.skops: its file of \w+ cannot be read: it is .*; run `dvc repro --force train`\.$"
    ):
        load_model(path)


@BOTH
def test_a_library_that_is_not_installed_is_one_sentence(estimator, whole, contract, tmp_path, monkeypatch):
    """Fault in the settings: the library of train.estimator is not installed.

    The first stage that runs fails: `params.yaml: train.estimator: xgboost.XGBClassifier is of xgboost, which is not
    installed: run make setup, which installs requirements-xgboost.txt for it.`
    """
    save_model(whole[estimator], tmp_path / "model.skops")
    package = estimator.partition(".")[0]
    monkeypatch.setitem(sys.modules, package, None)
    said = f"{package}, which is not installed: run `make setup`, which installs requirements-{package}.txt for it"
    with pytest.raises(StageError, match=said):
        unfitted(contract, estimator)
    with pytest.raises(StageError, match=said):
        load_model(tmp_path / "model.skops")
