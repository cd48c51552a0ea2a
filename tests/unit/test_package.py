import churn.registry.package
from churn.registry.package import SERVING, closure, digest_of, package_of, requirements

import pytest


def write(root, **files):
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path = path.with_name(path.name + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_the_packaged_code_holds_every_first_party_module_that_serving_reaches(tmp_path):
    write(
        tmp_path,
        churn__registry__serving="from churn.features import add\nimport json, pandas\n",
        churn__features="import mylib.deep.table\nfrom churn import helper\nfrom .extra import one\nimport none.at\n",
        churn__helper="def late():\n    from mylib import shared as one\n    import top\n",
        churn__extra="from .more import two\nfrom . import three\n",
        churn__more="",
        churn__three="",
        churn__unused="",
        mylib__deep__table="from ..shared import one\nfrom ... import nowhere\n",
        mylib__shared="",
        mylib__unused="",
        top="import churn.registry.serving\n",
    )
    (tmp_path / "mylib/__init__.py").write_text("from mylib.first import *\n")
    (tmp_path / "mylib/first.py").write_text("")
    (tmp_path / "mylib/deep/__init__.py").write_text("")
    assert sorted(map(str, closure(SERVING, tmp_path))) == [
        "churn/extra.py",
        "churn/features.py",
        "churn/helper.py",
        "churn/more.py",
        "churn/registry/serving.py",
        "churn/three.py",
        "mylib/__init__.py",
        "mylib/deep/__init__.py",
        "mylib/deep/table.py",
        "mylib/first.py",
        "mylib/shared.py",
        "top.py",
    ]


def test_the_requirements_are_the_libraries_that_the_packaged_code_imports(tmp_path):
    write(tmp_path, churn__registry__serving="import pandas as pd, json\nfrom churn import other\n")
    write(tmp_path, churn__other="def late():\n    import yaml.nodes, sklearn.base\n    import not_there\n")
    lines = requirements(closure(SERVING, tmp_path), tmp_path)
    assert [line.partition("==")[0] for line in lines] == ["PyYAML", "mlflow", "pandas", "scikit-learn"]


@pytest.fixture
def checkout(tmp_path):
    """A checkout with a package: the code that serving needs, and contract.yaml."""
    features = "import pandas\nfrom mylib.shared import ONE\n"
    write(tmp_path, churn__registry__serving="from churn.features import add\n", churn__features=features)
    write(tmp_path, mylib__shared="ONE = 1\n", stages__register="import churn.registry\n")
    (tmp_path / "contract.yaml").write_text("columns: {}\nrules: {}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("churn/features.py", "import pandas\nfrom mylib.shared import ONE  # a comment\n"),
        ("mylib/shared.py", "ONE = 2\n"),
        ("mylib/__init__.py", ""),
        ("contract.yaml", "columns: {}\nrules: {spikes: {}}\n"),
    ],
)
def test_other_packaged_files_are_another_package(checkout, name, text):
    before = package_of("sklearn", checkout)
    (checkout / name).write_text(text)
    assert package_of("sklearn", checkout).digest != before.digest


def test_another_version_of_a_packaged_library_is_another_package(checkout, monkeypatch):
    before = package_of("sklearn", checkout)
    monkeypatch.setattr(churn.registry.package, "version", lambda name: "0.0.1")
    assert "pandas==0.0.1" in package_of("sklearn", checkout).requirements
    assert package_of("sklearn", checkout).digest != before.digest


def test_a_package_is_the_same_on_each_machine_and_whatever_else_is_in_the_checkout(checkout, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    for path in sorted(checkout.rglob("*.*"), reverse=True):
        (other / path.relative_to(checkout)).parent.mkdir(parents=True, exist_ok=True)
        (other / path.relative_to(checkout)).write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    write(other, stages__register="import churn.registry  # a comment\n", churn__unused="")
    assert package_of("sklearn", other) == package_of("sklearn", checkout)


@pytest.fixture
def folder(tmp_path):
    """A version's files, as far as a digest is concerned."""
    write(tmp_path, code__churn__registry__serving="one", code__churn__features="two")
    (tmp_path / "MLmodel").write_text("{}")
    return tmp_path


CHANGES = {
    "a changed file": lambda folder: (folder / "MLmodel").write_text("{ }"),
    "another file": lambda folder: (folder / "code/evil.py").write_text(""),
    "a file less": lambda folder: (folder / "MLmodel").unlink(),
    "another name": lambda folder: (folder / "MLmodel").rename(folder / "mlmodel"),
    "two contents exchanged": lambda folder: write(
        folder, code__churn__registry__serving="two", code__churn__features="one"
    ),
    "a link to the same content": lambda folder: (folder / "MLmodel").symlink_to(
        (folder / "MLmodel").rename(folder.parent / "elsewhere")
    ),
    "a link to a folder": lambda folder: (folder / "linked").symlink_to(folder / "code"),
    "a hidden file": lambda folder: (folder / "code/.hidden").write_text(""),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_digest_is_of_all_files(folder, change):
    before = digest_of(folder)
    assert digest_of(folder) == before
    CHANGES[change](folder)
    assert digest_of(folder) != before
