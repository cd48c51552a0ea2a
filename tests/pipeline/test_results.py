"""The JSON files between stages: whatever shape they have, it is one sentence that names the key."""

import json

from churn.config.params import METRICS
from churn.core.errors import StageError
from churn.core.paths import JUDGEMENT
from churn.core.results import KINDS, MeasuredResult, read_result

import pytest


@pytest.fixture
def changed(tmp_path, finished):
    """Return a function that writes a committed result with a value replaced, and reads it."""

    def read(name, *keys, value):
        whole = inside = json.loads((finished.folder / "metrics" / name).read_text(encoding="utf-8"))
        for key in keys[:-1]:
            inside = inside[key]
        inside[keys[-1]] = value
        (tmp_path / name).write_text(json.dumps(whole), encoding="utf-8")
        return read_result(tmp_path / name)

    return read


@pytest.mark.parametrize("name", sorted(KINDS.keys() - {JUDGEMENT.name}))
def test_what_the_stages_write_is_read(finished, name):
    path = finished.folder / "metrics" / name
    assert read_result(path) == json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "keys", "value"),
    [
        ("validation.json", ["tables"], "x"),
        ("validation.json", ["tables", "train"], [1]),
        ("validation.json", ["tables", "train", "rows"], "5591"),
        ("validation.json", ["passed"], "true"),
        ("rows.json", ["holdout_sha256"], []),
        ("rows.json", ["dropped"], None),
        ("rows.json", ["fetched"], True),
        ("rows.json", ["fetched"], 10**400),
        ("evaluation.json", ["roc_auc"], "0.9"),
        ("evaluation.json", ["roc_auc"], 10**400),
        ("evaluation.json", ["slices"], {"x": 1}),
        ("evaluation.json", ["slices", 0, "name"], "\ud800"),
        ("evaluation.json", ["slices", 0, "intervals"], 3),
        ("evaluation.json", ["intervals"], {"roc_auc": [0.8, 0.9]}),
        ("evaluation.json", ["slices", 0, "intervals"], {}),
        ("evaluation.json", ["train_until"], "2026-06-30"),
        ("evaluation.json", ["inputs"], 5),
        ("gate.json", ["verdict"], 1),
        ("gate.json", ["rules"], [None]),
    ],
)
def test_a_value_of_another_kind_is_one_sentence_with_its_key_and_the_command_to_type(changed, name, keys, value):
    """Fault in files between stages: a JSON file in `metrics/` lacks a key, or a value has another type.

    Its reader fails: `metrics/validation.json is not what validate writes: tables: input should be an object; run
    dvc repro --force --single-item validate.`
    """
    with pytest.raises(StageError) as told:
        changed(name, *keys, value=value)
    sentence = str(told.value)
    assert f"{name} is not what {KINDS[name][1]} writes: " in sentence
    assert sentence.endswith(f"run `dvc repro --force --single-item {KINDS[name][1]}`.")
    assert "\n" not in sentence


def test_a_missing_key_is_named_and_of_many_faults_the_first_are_told(tmp_path):
    path = tmp_path / "validation.json"
    path.write_text('{"passed": true, "tables": {"train": {"rows": 1, "sha256": ""}}, "broken": []}')
    with pytest.raises(StageError, match=r"tables\.test: field required; run"):
        read_result(path)
    with pytest.raises(StageError, match=r"; and \d+ more; run"):
        (path.with_name("evaluation.json")).write_text("{}") and read_result(path.with_name("evaluation.json"))


def test_what_a_later_version_of_a_stage_adds_is_let_through(changed):
    assert changed("rows.json", "rejected", value=7)["rejected"] == 7


def test_every_metric_is_asked_for():
    assert {*METRICS} <= {*MeasuredResult.model_fields}
