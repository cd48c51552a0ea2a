"""JSON Schema and reference of the settings come from the types and the text below each field."""

import json

from churn.core.files import read_yaml
from churn.schema import FILES, arguments, main, markdown, rows, schema_of
from tests.conftest import ROOT
from tests.frozen import copy_of

import pytest
from jsonschema import Draft202012Validator


def errors(file, schema=None, change=lambda values: None):
    """Return the places of a sample's file that a schema refuses, after a change of its values."""
    values = json.loads(json.dumps(read_yaml(copy_of(file).read_text(encoding="utf-8"), file), default=str))
    change(values)
    validator = Draft202012Validator(schema or schema_of(file), format_checker=Draft202012Validator.FORMAT_CHECKER)
    return [".".join(map(str, one.absolute_path)) for one in validator.iter_errors(values)]


@pytest.mark.parametrize("file", [*FILES, None])
def test_every_key_has_a_description_in_a_sentence(file):
    schema = schema_of(file)
    Draft202012Validator.check_schema(schema)
    texts = {
        (kind, key): one["description"].partition(" Stricter: ")[0]
        for kind, of in schema["$defs"].items()
        for key, one in of.get("properties", {}).items()
    }
    assert len(texts) > 20
    assert [place for place, text in texts.items() if not text.endswith(".")] == []


def test_the_reference_is_what_the_command_prints():
    page = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
    assert page == markdown(), "`python -m churn schema --markdown > docs/reference.md` renews it"
    keys = {key for kind in FILES.values() for key, *_ in rows(schema_of(), kind.__name__)}
    assert {"columns.NAME.because", "rules.spikes.NAME.NAME", "gate.slices.NAME.METRIC.min", "register.model"} <= keys


def test_the_reference_has_default_unit_and_stricter_side():
    lines = (ROOT / "docs/reference.md").read_text(encoding="utf-8").splitlines()
    found = {line.split("`")[1]: [cell.strip() for cell in line.split("|")[2:-1]] for line in lines if "| `" in line}
    assert found["columns.NAME.nulls"][:3] == ["`forbid` or `allow`", '`"forbid"`', ""]
    assert found["gate.when_inconclusive.slices"][2] == "block", "declared for the section as a whole"
    assert found["evaluate.campaign.profit"][1] == "none"
    assert found["gate.vs_baseline.margins.METRIC"][:3] == ["number > 0", "", "the smaller"]
    assert found["fetch.timeout_minutes"][0] == "number > 0, ≤ 10,080"
    assert "minutes" in found["fetch.timeout_minutes"][3]


def test_the_command_prints_either(capsys):
    for words, expected in ([], json.dumps(schema_of(), indent=2) + "\n"), (["--markdown"], markdown()):
        main(arguments().parse_args(words))
        assert capsys.readouterr().out == expected
    main(arguments().parse_args(["params.yaml"]))
    assert json.loads(capsys.readouterr().out)["$ref"] == "#/$defs/Params"


@pytest.mark.parametrize("file", FILES)
def test_the_samples_file_fits_its_schema_and_that_for_both(file):
    assert errors(file) == []
    assert errors(file, schema_of()) == []
    (other,) = set(FILES) - {file}
    assert errors(file, schema_of(other)) != []


@pytest.mark.parametrize(
    ("file", "place", "value", "fits"),
    [
        ("contract.yaml", "columns.churn.role", "target", False),
        ("contract.yaml", "columns.churn.nullable", True, False),
        ("contract.yaml", "rules.changes.contract", "forbid", True),
        ("contract.yaml", "rules.changes.contract", 1.5, False),
        ("contract.yaml", "rules.changes.contract", "never", False),
        ("contract.yaml", "rules.ranges.tenure_months", {"min": 0}, False),
        ("contract.yaml", "rules.spikes", {"tenure_months": {"0": "The customer is new."}}, True),
        ("params.yaml", "fetch.as_of", "2026-11-24", True),
        ("params.yaml", "fetch.as_of", "24.11.2026", False),
        ("params.yaml", "fetch.timeout_minutes", 0, False),
        ("params.yaml", "gate.overall.auc", {"min": 0.8}, False),
        ("params.yaml", "gate.overall.roc_auc", {"least": 0.8}, False),
        ("params.yaml", "gate.when_inconclusive.overall", "warn", False),
        ("params.yaml", "evaluate.campaign.profit", None, True),
        ("params.yaml", "train.parameters.class_weight", {"0": [1, None]}, True),
        ("params.yaml", "register.model", "a b", False),
    ],
)
def test_a_value_fits_the_schema_if_the_pipeline_takes_it(file, place, value, fits):
    *sections, name = place.split(".")

    def change(values):
        for section in sections:
            values = values[section]
        values[name] = value

    assert (errors(file, change=change) == []) == fits
