"""The export of the contract in the Open Data Contract Standard keeps the official schema, and every rule."""

import json
from importlib.resources import files

import churn.odcs
from churn.config.contract import Contract, load_contract
from churn.core.files import read_yaml
from churn.odcs import exported, main
from tests.conftest import after_change
from tests.frozen import SAMPLE, copy_of
from tests.other_table import CONTRACT as OTHER

import duckdb
import pytest
import yaml as pyyaml
from jsonschema.validators import validator_for
from open_data_contract_standard.model import OpenDataContractStandard

OFFICIAL = json.loads(files("open_data_contract_standard").joinpath("schema.json").read_text(encoding="utf-8"))


def faults(values):
    """Return what the official schema refuses."""
    return [f"{one.json_path}: {one.message}" for one in validator_for(OFFICIAL)(OFFICIAL).iter_errors(values)]


@pytest.fixture
def printed(monkeypatch, capsys):
    """Return a function that exports the contract and params.yaml of a folder as the command does."""

    def export(folder=SAMPLE):
        monkeypatch.chdir(folder)
        main(None)
        return capsys.readouterr().out

    return export


@pytest.fixture
def other(tmp_path):
    """A folder whose contract is that of another table, with spikes, limits and quoted names."""
    text = OTHER.replace(
        "  relations:\n", "  spikes: {visits: {'0': The member is new.}}\n  changes: {tier: forbid}\n  relations:\n"
    )
    text = text.replace("  member: {", '  "Mitglied Nr.": {').replace(
        "[bronze, silver, gold]", "[NO, 'on', '1e3', \"a: b\", Übrige]"
    )
    (tmp_path / "contract.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "params.yaml").write_text(copy_of("params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    return tmp_path


def test_the_samples_contract_validates_against_the_official_schema(printed):
    text = printed()
    values = pyyaml.safe_load(text)
    assert faults(values) == []
    assert values == read_yaml(text, "odcs") == exported(load_contract(copy_of("contract.yaml")), "churn")
    assert values["apiVersion"] == "v3.1.0" == OFFICIAL["properties"]["apiVersion"]["default"]
    assert OpenDataContractStandard.from_string(text).schema_[0].properties[0].name == "customer_id"
    assert printed() == text, "the same bytes"


def test_another_tables_contract_validates_and_yaml_1_1_reads_the_same_values(printed, other):
    text = printed(other)
    values = pyyaml.safe_load(text)
    assert faults(values) == []
    assert values == read_yaml(text, "odcs")
    columns = {one["name"]: one for one in values["schema"][0]["properties"]}
    assert columns["tier"]["quality"][0]["arguments"] == {"validValues": ["NO", "on", "1e3", "a: b", "Übrige"]}
    assert columns["tier"]["quality"][1]["description"].endswith("at most 0 % have another value.")
    assert columns["visits"]["quality"][0]["description"] == "Many customers share the value 0: The member is new."
    assert columns["Mitglied Nr."]["unique"]


def test_each_rule_of_the_contract_has_its_place(contract):
    table = exported(contract, "churn")["schema"][0]
    columns = {one["name"]: one for one in table["properties"]}
    assert list(columns) == list(contract.columns)
    key = columns["customer_id"]
    assert (key["primaryKey"], key["unique"], key["required"], key["logicalType"]) == (True, True, True, "string")
    assert columns["churn"]["quality"][0]["arguments"] == {"validValues": [0, 1]}
    assert columns["tenure_months"]["logicalTypeOptions"] == {"minimum": 0, "maximum": 120}
    charges = columns["total_charges"]
    assert not charges["required"]
    assert charges["description"] == f"Missing: {contract.columns['total_charges'].because}"
    assert "transformDescription" in columns["num_products"]
    assert columns["contract"]["quality"][0] == {
        "type": "library",
        "metric": "invalidValues",
        "arguments": {"validValues": ["Month-to-month", "One year", "Two year"]},
        "mustBe": 0,
    }
    rules = {one["name"]: one for one in table["quality"]}
    assert rules["min_rows"]["mustBeGreaterOrEqualTo"] == 1000
    assert rules["label_rate"]["mustBeBetween"] == [0.05, 0.6]
    assert rules["total_charges_fit_tenure"]["description"].startswith("total_charges: Prices change by")
    assert {f"profile.{name}" for name in type(contract.rules.profile).model_fields} <= set(rules)


def test_the_sql_of_a_rule_runs_and_counts_what_the_contract_refuses(contract, customers):
    rules = {one["name"]: one for one in exported(contract, "churn")["schema"][0]["quality"]}
    database = duckdb.connect()
    database.register(
        "customers", customers.assign(total_charges=customers["total_charges"].where(customers.index != 7, 1e4))
    )

    def value(rule):
        return database.execute(rules[rule]["query"].replace("${table}", "customers")).fetchall()[0][0]

    assert value("total_charges_fit_tenure") == 1
    assert value("label_rate") == pytest.approx(customers["churn"].mean())


def test_the_version_follows_the_content(contract, tmp_path):
    before = exported(contract, "churn")["version"]
    changed = after_change("contract.yaml", load_contract, tmp_path)
    assert exported(changed(lambda values: None), "churn")["version"] == before
    assert exported(changed(lambda values: values["rules"].update(min_rows=999)), "churn")["version"] != before
    equal = changed(lambda values: values["rules"].update(label_rate={"min": 0.2, "max": 0.2}))
    assert faults(exported(equal, "churn")) == []


def test_every_rule_of_the_profile_has_words():
    assert set(churn.odcs.PROFILE_RULES) == set(
        Contract.model_fields["rules"].annotation.model_fields["profile"].annotation.model_fields
    )
