"""dvc.yaml says what the code does: nothing is forgotten, nothing too much."""

import re
import sys
from collections import Counter
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

from churn.config.params import Params
from churn.registry.package import SERVING, closure, first_party_files, imported_names
from tests.conftest import ROOT

import pytest
from ruamel.yaml import YAML

PIPELINE = YAML(typ="safe").load(ROOT / "dvc.yaml")
OURS = {"churn", "stages", "tests"}
STAGES = ("fetch", "prepare", "validate", "train", "evaluate", "gate", "register")


def test_the_stages_are_these_in_this_order():
    assert tuple(PIPELINE["stages"]) == STAGES


def packaged(stage):
    """Return the code that a stage copies into the registry, and does not import."""
    return closure(SERVING, ROOT) if stage == "register" else set()


def code_of(stage):
    """Return the deps of a stage that are code: modules, and folders of churn."""
    return {dep for dep in PIPELINE["stages"][stage]["deps"] if dep.endswith(".py") or dep.startswith("churn/")}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_that_it_imports_and_no_more(stage):
    imported = closure(Path("stages", f"{stage}.py"), ROOT) | packaged(stage)
    covered = {dep: {file for file in imported if file.is_relative_to(dep)} for dep in code_of(stage)}
    assert imported == set().union(*covered.values())
    assert [dep for dep, files in covered.items() if not files] == []
    assert PIPELINE["stages"][stage]["cmd"] == f"python -m stages.{stage}"


def test_only_a_change_of_what_fetch_imports_queries_the_warehouse_again():
    data = Path("churn/data")
    named = [ROOT / dep for dep in code_of("fetch") if Path(dep).is_relative_to(data)]
    files = {file.relative_to(ROOT) for one in named for file in (one.rglob("*.py") if one.is_dir() else [one])}
    assert files == {file for file in closure(Path("stages/fetch.py"), ROOT) if file.is_relative_to(data)}


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_can_say_what_a_stage_does(stage):
    assert PIPELINE["stages"][stage]["desc"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_its_own_parameters_and_no_others(stage):
    sections = {name for name in PIPELINE["stages"][stage].get("params", []) if isinstance(name, str)}
    attribute = {"register": "registration"}.get(stage, stage)
    own = {stage} if attribute in Params.model_fields else set()
    others = {
        "prepare": {"fetch.as_of"},  # from which prepare.time counts back
        "validate": {"evaluate.slices.conditions"},  # checked before the training
    }
    assert sections == own | others.get(stage, set())


# What each folder of churn may import beside itself; features.py, which a team writes, imports none of them.
ROOMS = {
    "core": set(),
    "config": {"core"},
    "data": {"core", "config", "features"},
    "quality": {"core", "config", "data"},
    "modeling": {"core", "config"},
    "evaluation": {"core", "config", "data", "modeling"},
    "gate": {"core", "config", "evaluation"},
    "page": {"core", "config", "evaluation", "gate"},
    "registry": {"core", "config", "data", "modeling", "evaluation", "gate", "page"},
    "lock": {"core", "config"},
    "schema": {"core", "config"},
    "explain": {"core"},
    "odcs": {"core", "config", "data"},
    "scoring_rows": {"core", "config", "data", "quality", "modeling"},
    "scoring_parts": {"core", "config", "data", "modeling", "scoring_rows"},
    "scoring": {"core", "config", "data", "modeling", "registry", "scoring_parts", "scoring_rows"},
    "adopting": {"core", "config", "data", "quality", "modeling", "evaluation", "gate"},
    "__main__": {"core"},
    "features": set(),
}


@cache
def modules_of(folder):
    """Return each module of a top-level folder with the first-party modules that it imports."""
    return [
        (one, imported_by(one)) for one in (path.relative_to(ROOT) for path in sorted((ROOT / folder).rglob("*.py")))
    ]


def imported_by(one):
    return {other for name in imported_names(one, ROOT) for other in first_party_files(name, ROOT)} - {one}


def room_of(module):
    return module.parts[1].removesuffix(".py") if module.parts[0] == "churn" else module.parts[0]


def test_imports_in_churn_run_in_one_direction():
    assert {room_of(module) for module, _ in modules_of("churn")} == set(ROOMS)
    for module, imported in modules_of("churn"):
        assert {room_of(other) for other in imported} <= ROOMS[room_of(module)] | {room_of(module)}, module


def test_the_architecture_page_says_what_each_folder_of_churn_imports():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").partition("## The folders of churn")[2]
    rows = re.findall(r"^\| `(\w+)(?:/|\.py)` \|[^|]*\|([^|]*)\|$", page, re.MULTILINE)
    assert {name: set(re.findall(r"`(\w+)`", imports)) for name, imports in rows} == ROOMS


def test_no_module_imports_itself_by_way_of_others():
    TopologicalSorter(dict(modules_of("churn") + modules_of("report"))).prepare()  # raises CycleError


def test_no_stage_imports_a_stage_or_the_report():
    for module, imported in modules_of("stages"):
        assert {other.parts[0] for other in imported} <= {"churn"}, module


def test_the_process_that_may_know_the_registrys_password_imports_no_feature_function():
    for stage in ("stages/register.py", "churn/registry/champion.py"):
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


# The modules of other people that a stage may import on the sample. Imports are most of a stage's time there: 300
# modules of pandas take half a second. A new version of a library may need a few more.
BUDGET = {
    "fetch": 230,
    "prepare": 580,
    "validate": 220,
    "train": 1_680,
    "evaluate": 1_700,
    "gate": 100,
    "register": 2_110,
}


@pytest.mark.parametrize(
    ("stage", "heavy"),
    [
        ("fetch", {"pandas", "sklearn", "mlflow", "matplotlib"}),
        ("prepare", {"sklearn", "mlflow", "matplotlib"}),
        ("validate", {"pandas", "sklearn", "mlflow", "matplotlib"}),
        ("train", {"mlflow", "matplotlib"}),
        ("evaluate", {"mlflow", "matplotlib"}),
        ("gate", {"pandas", "numpy", "duckdb", "sklearn", "mlflow", "matplotlib"}),
        ("register", {"sklearn", "skops", "flask", "boto3", "dvc", "matplotlib"}),
    ],
)
def test_a_stage_imports_no_library_that_it_does_not_need(clone, stage, heavy):
    printed = clone.ok("python", "-X", "importtime", "-m", f"stages.{stage}")
    modules = [line.split("|")[2].strip().split(".")[0] for line in printed.splitlines() if line.count("|") == 2]
    assert "churn" in modules
    assert not heavy & {*modules}
    counts = Counter(name for name in modules if name not in OURS | sys.stdlib_module_names)
    assert counts.total() <= BUDGET[stage], f"{stage} imports {counts.total()} modules: {counts.most_common(12)}"
