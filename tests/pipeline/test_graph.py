"""dvc.yaml says what the code does: nothing is forgotten, nothing too much."""

from pathlib import Path

from churn.package import SERVING, closure, first_party_files, imported_names
from churn.params import Params
from tests.conftest import ROOT

import pytest
from ruamel.yaml import YAML

PIPELINE = YAML(typ="safe").load(ROOT / "dvc.yaml")
STAGES = ("fetch", "prepare", "validate", "train", "evaluate", "gate", "register")


def test_the_stages_are_these_in_this_order():
    assert tuple(PIPELINE["stages"]) == STAGES


def packaged(stage):
    """Return the code that a stage copies into the registry, and does not import."""
    return closure(SERVING, ROOT) if stage == "register" else set()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_exactly_the_code_that_it_imports(stage):
    declared = {dep for dep in PIPELINE["stages"][stage]["deps"] if dep.endswith(".py")}
    assert declared == {str(file) for file in closure(Path("stages", f"{stage}.py"), ROOT) | packaged(stage)}
    assert PIPELINE["stages"][stage]["cmd"] == f"python -m stages.{stage}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_its_own_parameters_and_no_others(stage):
    sections = {name for name in PIPELINE["stages"][stage].get("params", []) if isinstance(name, str)}
    attribute = {"register": "registration"}.get(stage, stage)
    own = {stage} if attribute in Params.model_fields else set()
    early = {"evaluate.slices.conditions"} if stage == "validate" else set()  # checked before the training
    assert sections == own | early


def test_no_stage_imports_a_stage_and_churn_imports_neither_stages_nor_report():
    def imported_by(folder):
        for file in (ROOT / folder).glob("*.py"):
            for name in imported_names(file.relative_to(ROOT), ROOT):
                yield from (other.parent.name for other in first_party_files(name, ROOT))

    assert "stages" not in imported_by("stages")
    assert set(imported_by("churn")) == {"churn"}


def test_the_process_that_may_know_the_registrys_password_imports_no_feature_function():
    for stage in ("stages/register.py", "churn/champion.py"):
        assert not {Path("churn/features.py"), SERVING} & closure(Path(stage), ROOT)


def outputs(stage):
    """Yield each output's path, and whether DVC's cache keeps it."""
    for entry in [*stage.get("outs", []), *stage.get("metrics", [])]:
        path, options = next(iter(entry.items())) if isinstance(entry, dict) else (entry, {})
        yield path, options.get("cache", True)


def test_a_stage_with_a_training_in_it_keeps_all_that_it_makes_in_the_cache():
    """Else no other machine could take its run over, and would train again."""
    assert dict(outputs(PIPELINE["stages"]["train"])) == {"models/churn.sha256": True, "models/churn.skops": True}


def test_what_lies_in_git_is_small_and_what_does_not_is_ignored(finished):
    for stage in PIPELINE["stages"].values():
        for path, cached in outputs(stage):
            ignored = finished.run("git", "check-ignore", "--quiet", path).returncode == 0
            assert ignored == (cached or path == "models/registration.json"), path


def test_the_receipt_of_the_registration_is_taken_from_no_cache():
    assert dict(outputs(PIPELINE["stages"]["register"])) == {"models/registration.json": False}


@pytest.mark.parametrize(
    ("stage", "heavy"),
    [
        ("fetch", {"pandas", "sklearn", "mlflow", "matplotlib"}),
        ("prepare", {"sklearn", "mlflow", "matplotlib"}),
        ("validate", {"pandas", "sklearn", "mlflow", "matplotlib"}),
        ("train", {"mlflow", "matplotlib"}),
        ("evaluate", {"mlflow", "matplotlib"}),
        ("gate", {"pandas", "numpy", "duckdb", "sklearn", "mlflow", "matplotlib"}),
        ("register", {"sklearn", "skops", "flask", "boto3", "dvc"}),
    ],
)
def test_a_stage_imports_no_library_that_it_does_not_need(clone, stage, heavy):
    printed = clone.ok("python", "-X", "importtime", "-m", f"stages.{stage}")
    imported = {line.split("|")[2].strip().split(".")[0] for line in printed.splitlines() if line.count("|") == 2}
    assert "churn" in imported
    assert not heavy & imported
