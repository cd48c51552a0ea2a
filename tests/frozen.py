"""The tests' own copy of the sample: what an adopter replaces in the repository, the tests read from tests/sample/.

Importing this module puts the copy of the feature functions in place of churn/features.py, so it comes before churn.
From then on, opening a live file fails: a test that read it would break in a repository with another table.
"""

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import churn

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "tests" / "sample"
REPLACED = ("contract.yaml", "params.yaml", "source.sql", "profile.json", "churn/features.py")  # by an adopter
RESULTS = ("dvc.lock", "metrics/", "plots/")  # of a run on the live files
# The source of churn/features.py may be read: what it imports belongs to the graph, whatever the table.
GUARDED = tuple(f"{ROOT}/{name}" for name in (*REPLACED[:-1], *RESULTS))
ENDINGS = (*REPLACED[:-1], "dvc.lock", ".json", ".csv", ".png")

_open_to_tests = False


def copy_of(name: str | Path) -> Path:
    """Return the copy of a file that an adopter replaces."""
    return SAMPLE / Path(name).name


def put_sample(folder: Path) -> None:
    """Put the copies at their places in a checkout."""
    for name in REPLACED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(copy_of(name), folder / name)


@contextmanager
def live_files() -> Iterator[None]:
    """Let the live files be opened: for tests/own, and for what compares them with the copies."""
    global _open_to_tests  # noqa: PLW0603
    before, _open_to_tests = _open_to_tests, True
    try:
        yield
    finally:
        _open_to_tests = before


def _refuse_live_files(event: str, arguments: tuple[object, ...]) -> None:
    if event != "open" or _open_to_tests:
        return
    path = arguments[0]
    if isinstance(path, str) and path.endswith(ENDINGS) and os.path.abspath(path).startswith(GUARDED):  # noqa: PTH100
        raise AssertionError(f"{path} is a live file, open to tests/own alone: read its copy in tests/sample/.")


def _use_sample_features() -> None:
    spec = importlib.util.spec_from_file_location("churn.features", SAMPLE / "features.py")
    assert spec is not None
    assert spec.loader is not None
    churn.features = sys.modules["churn.features"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(churn.features)


if "churn.features" in sys.modules:
    raise AssertionError("import tests.frozen before churn: the live feature functions are loaded already.")
_use_sample_features()
sys.addaudithook(_refuse_live_files)
