import math
import re
import time
from datetime import date

from churn.config.params import METRICS, load_params
from churn.core.errors import StageError
from churn.core.files import read_yaml
from tests.conftest import after_change
from tests.frozen import copy_of

import pytest


@pytest.fixture
def changed(tmp_path):
    return after_change("params.yaml", load_params, tmp_path)


def sentence(changed, change) -> str:
    with pytest.raises(StageError) as told:
        changed(change)
    return str(told.value).replace(str(told.value).split(":")[0], "params.yaml", 1)


def test_unchanged_values_load(changed):
    assert changed(lambda values: None) == load_params(copy_of("params.yaml"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v["train"].update(sede=1), "train.sede: is not a known key"),
        (lambda v: v["train"].pop("seed"), "train.seed: is missing"),
        (lambda v: v.pop("gate"), "gate: is missing"),
        (lambda v: v["train"].update(seed="42"), "train.seed: input should be a valid integer, but it is '42'"),
        (lambda v: v["train"].update(seed=4.0), "train.seed: input should be a valid integer, but it is 4.0"),
        (lambda v: v["prepare"].update(holdout_share=1.5), "prepare.holdout_share: input should be less than 1"),
        (lambda v: v["evaluate"].update(threshold=math.nan), "evaluate.threshold: input should be"),
        (lambda v: v["prepare"].update(salt=""), "prepare.salt: string should have at least 1 character"),
        (lambda v: v["gate"].update(overall={}), "gate.overall: dictionary should have at least 1 item"),
        (
            lambda v: v["gate"]["overall"].update(auc={"min": 0.8}),
            "gate.overall.auc: is not a metric; evaluate computes",
        ),
        (lambda v: v["gate"]["overall"].update(f1={}), "gate.overall.f1: needs a min, a max or both"),
        (
            lambda v: v["gate"]["overall"].update(f1={"min": 0.9, "max": 0.5}),
            "gate.overall.f1: min 0.9 is above max 0.5: no value could pass",
        ),
        (lambda v: v["evaluate"].pop("campaign"), "evaluate.campaign: is missing"),
        (lambda v: v["evaluate"]["campaign"].pop("capacity"), "evaluate.campaign.capacity: is missing"),
        (lambda v: v["evaluate"]["campaign"].update(capacity=1), "evaluate.campaign.capacity: input should be less"),
        (
            lambda v: v["evaluate"]["campaign"]["profit"].pop("offer_cost"),
            "evaluate.campaign.profit.offer_cost: is missing",
        ),
        (
            lambda v: v["gate"]["slices"]["new_customers"].update(recal={"min": 0.5}),
            "gate.slices.new_customers.recal: is not a metric",
        ),
    ],
)
def test_a_wrong_key_is_one_sentence_with_its_path(changed, change, said):
    told = sentence(changed, change)
    assert said in told
    assert "\n" not in told


@pytest.mark.parametrize("rules", ["margins", "slice_margins", "max_gain", "overall", "slices"])
def test_a_rule_on_profit_needs_the_values_of_the_campaign(changed, rules):
    def change(values):
        gate = values["gate"]
        section = {"overall": gate["overall"], "slices": gate["slices"]["new_customers"]}.get(rules)
        margins = gate["vs_baseline"].get(rules)
        (margins if section is None else section).update(profit_per_customer=0.1 if section is None else {"min": 1.0})
        return values["evaluate"]["campaign"]

    assert changed(lambda values: change(values) and None).evaluate.campaign.profit.success_rate == 0.3
    told = sentence(changed, lambda values: change(values).pop("profit"))
    assert re.search(
        r"params.yaml: gate\.[\w.]+\.profit_per_customer: needs evaluate\.campaign\.profit: add it, or remove the rule",
        told,
    )


def test_a_campaign_needs_its_capacity_alone(changed):
    def change(values):
        values["evaluate"]["campaign"] = {"capacity": 0.2}

    assert changed(change).evaluate.campaign.profit is None


def test_a_key_that_was_renamed_is_refused_with_its_new_name(changed):
    def rename(values):
        values["gate"]["against_main"] = values["gate"].pop("vs_baseline")
        values["gate"]["every_slice"]["roc_auc_behind"] = values["gate"]["every_slice"].pop("max_roc_auc_gap")

    told = sentence(changed, rename)
    assert "gate.against_main: is called vs_baseline now: rename it" in told
    assert "gate.every_slice.roc_auc_behind: is called max_roc_auc_gap now: rename it" in told
    assert "is missing" not in told


def test_several_wrong_keys_are_all_told(changed):
    told = sentence(changed, lambda v: (v["train"].pop("seed"), v["fetch"].update(sauce="x")))
    assert "train.seed: is missing" in told
    assert "fetch.sauce: is not a known key" in told


def test_a_key_given_twice_is_refused(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("fetch:\n  source: a.csv\n  source: b.csv\n")
    with pytest.raises(StageError, match="duplicate key"):
        load_params(path)


@pytest.mark.parametrize("content", ["fetch: [", "", "- a list", "fetch: \xff".encode("latin-1")])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, content):
    path = tmp_path / "params.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(StageError, match=r"params\.yaml"):
        load_params(path)


LAUGHS = "".join(f"k{number}: &a{number} [{f'*a{number - 1}, ' * 9 if number else 'lol'}]\n" for number in range(12))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a: " + "[" * 100_000, "line 1: more than 50 levels within one another"),
        ("a:\n  " + "- " * 100_000, "line 2: more than 50 levels within one another"),
        ("{a: " * 100_000, "line 1: more than 50 levels within one another"),
        (LAUGHS, "it holds more than 50,000 values"),
        ("a: &a [*a]", r"the alias \*a stands within its own value"),
        ("a: &a {b: *a}", r"the alias \*a stands within its own value"),
        ("a: &a0 b\n" + "".join(f"k{n}: &a{n} [[*a{n - 1}]]\n" for n in range(1, 40)), "its aliases make more than 50"),
        ("- 1\n" * 200_000, "it holds more than 50,000 values"),
        ("a: " + "x" * 2_000_000, "has more than 1,000,000 bytes"),
        ("a: 1" + "0" * 5_000, "it cannot be read"),
        ("a: 0x" + "f" * 5_000, "it holds a number of more than 300 digits"),
        ("? " + "x" * 100_000 + "\n: 1", ".*fetch: is missing"),
        ('"a\\nb": 1', ".*a b: is not a known key"),
        ("2026-11-24: 1", "the key 2026-11-24 is not text: write it in quotes"),
        ("fetch: {1: 2}", "the key 1 is not text: write it in quotes"),
        ("? [a, b]\n: 1", r"the key \('a', 'b'\) is not text"),
        ("? {a: b}\n: 1", ""),
        ("a: !!python/object/apply:os.system [true]", "line 1, column 4: it cannot be read"),
        ("a: !!binary aGk=", "it holds a value of the kind bytes"),
        ("a: !!set {b}", "it holds a value of the kind set"),
        ("a: 2026-13-45", "it cannot be read"),
        ("a: !!bool maybe", "it cannot be read"),
        ("a: 1\nb: [", "line 3, column 1: it cannot be read"),
        ("a: 1\n--- 2", "line 2, column 1: it cannot be read"),
        ("a: \x00", "it cannot be read"),
    ],
)
def test_an_absurd_file_is_one_sentence_in_under_a_second(tmp_path, content, says):
    """Fault in the settings: a YAML file is huge, too deep, or has too many aliases.

    The stage fails in less than a second: `params.yaml is no valid YAML: line 1: more than 50 levels within one
    another.`
    """
    path = tmp_path / "params.yaml"
    path.write_text(content)
    started = time.process_time()
    with pytest.raises(StageError, match=rf"params\.yaml:? (is no valid YAML: )?{says}") as refused:
        load_params(path)
    assert time.process_time() - started < 1
    assert len(str(refused.value)) < 400 + len(str(path))
    assert "\n" not in str(refused.value)


def test_an_alias_that_is_no_bomb_is_read():
    values = read_yaml("a: &x {b: [1, 2.5, true, null, 2026-11-24]}\nc: *x\n", "params.yaml")
    assert values["c"] == values["a"] == {"b": [1, 2.5, True, None, date(2026, 11, 24)]}


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StageError, match=r"nowhere\.yaml does not exist"):
        load_params(tmp_path / "nowhere.yaml")


def test_params_are_frozen(params):
    with pytest.raises(ValueError, match="frozen"):
        params.train.seed = 1


def test_every_metric_can_have_a_rule(changed):
    loaded = changed(lambda v: v["gate"].update(overall={name: {"min": 0.1} for name in METRICS}))
    assert list(loaded.gate.overall) == sorted(METRICS)


@pytest.mark.parametrize("minutes", [1e308, 10_081, 10**30])
def test_no_query_may_run_longer_than_a_week(changed, minutes):
    """Fault in the settings: a time limit is longer than a week.

    Every stage fails: `params.yaml: fetch.timeout_minutes: input should be less than or equal to 10080`
    """
    with pytest.raises(StageError, match=r"fetch\.timeout_minutes: input should be less than or equal to 10080"):
        changed(lambda values: values["fetch"].update(timeout_minutes=minutes))
