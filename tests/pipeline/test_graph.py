"""dvc.yaml says what the code does: nothing is forgotten, nothing too much."""

import ast
from pathlib import Path

from churn.params import load_params
from tests.conftest import ROOT

import pytest
from ruamel.yaml import YAML

PIPELINE = YAML(typ="safe").load(ROOT / "dvc.yaml")
STAGES = ("fetch", "prepare", "validate", "train", "evaluate", "gate", "register")


def imported_by(path: Path) -> set[Path]:
    """Return the first-party modules that a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports are not followed here"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    files = {ROOT / Path(*name.split(".")).with_suffix(".py") for name in names}
    return {file for file in files if file.exists()}


def closure(path: Path) -> set[str]:
    """Return the files that are read when `path` is run as a module, itself and its packages included."""
    found, todo = set(), [path]
    while todo:
        file = todo.pop()
        if file not in found:
            found.add(file)
            todo += [*imported_by(file), *filter(Path.exists, [file.parent / "__init__.py"])]
    return {str(file.relative_to(ROOT)) for file in found}


def test_the_stages_are_these_in_this_order():
    assert tuple(PIPELINE["stages"]) == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_exactly_the_code_that_it_imports(stage):
    declared = {dep for dep in PIPELINE["stages"][stage]["deps"] if dep.endswith(".py")}
    assert declared == closure(ROOT / "stages" / f"{stage}.py")
    assert PIPELINE["stages"][stage]["cmd"] == f"python -m stages.{stage}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_its_own_parameters_and_no_others(stage):
    sections = {name for name in PIPELINE["stages"][stage].get("params", []) if isinstance(name, str)}
    attribute = {"register": "registration"}.get(stage, stage)
    own = {stage} if attribute in type(load_params(ROOT / "params.yaml")).model_fields else set()
    early = {"evaluate.slices.conditions"} if stage == "validate" else set()  # checked before the training
    assert sections == own | early


def test_no_stage_imports_a_stage_and_churn_imports_neither_stages_nor_report():
    for file in (ROOT / "stages").glob("*.py"):
        assert not [other for other in imported_by(file) if other.parent == ROOT / "stages"], file
    for file in (ROOT / "churn").glob("*.py"):
        assert {other.parent.name for other in imported_by(file)} <= {"churn"}, file


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
    ],
)
def test_a_stage_imports_no_library_that_it_does_not_need(clone, stage, heavy):
    printed = clone.ok("python", "-X", "importtime", "-m", f"stages.{stage}")
    imported = {line.split("|")[2].strip().split(".")[0] for line in printed.splitlines() if line.count("|") == 2}
    assert "churn" in imported
    assert not heavy & imported
