"""The files of a registered version: the code that serving needs, its libraries, and digests over them.

The code is found by reading imports, so that nothing of it runs here: this process may hold the registry's password.
"""

import ast
import hashlib
import json
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import NamedTuple

from churn.core.files import sha256_of
from churn.core.paths import CONTRACT

SERVING = Path("churn/registry/serving.py")
LOADER = "churn.registry.serving"  # SERVING, as MLmodel names it
FORMER_LOADER = "churn.serving"  # of versions that were registered before serving.py moved
CODE = "code"  # the folder of the packaged code
MODEL_FILE = "model.skops"  # the name that MLflow's scikit-learn flavour gives it
DOSSIER = "dossier.html"  # the page of a version
ADDED = "registered_model_meta"  # MLflow's client writes this file into each download of a version
BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")  # of statements; no import is in an expression
DISTRIBUTIONS = {"ruamel": "ruamel.yaml", "sklearn": "scikit-learn"}  # where the module has another name


def imported_names(file: Path, root: Path) -> frozenset[str]:
    """Return the dotted names that a file imports, also inside functions; `file` is relative to `root`."""
    return _imported_names((root / file).read_bytes(), file)


@cache  # for the code's closure, and again for its libraries
def _imported_names(source: bytes, file: Path) -> frozenset[str]:
    names = set[str]()
    todo: list[ast.AST] = [ast.parse(source, str(file))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = file.parts[: -node.level] if node.level else ()
            base = [*package, *([node.module] if node.module else [])]
            names |= {".".join([*base, alias.name]) for alias in node.names} | ({".".join(base)} if base else set())
        for block in BLOCKS:
            todo += getattr(node, block, ())
    return frozenset(names)


def first_party_files(name: str, root: Path) -> Iterator[Path]:
    """Yield the files below `root` that importing a dotted name may read: the module, and its packages' __init__.py."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        place = Path(*parts[:end])
        yield from (file for file in (place.with_suffix(".py"), place / "__init__.py") if (root / file).is_file())


def closure(file: Path, root: Path = Path()) -> set[Path]:
    """Return the first-party files that importing `file` may read, itself included, all relative to `root`.

    A module that is imported by a computed name, and a file that code opens, are not found.
    """
    found: set[Path] = set()
    todo = [file, *first_party_files(".".join(file.with_suffix("").parts), root)]
    while todo:
        if (one := todo.pop()) not in found:
            found.add(one)
            todo += [path for name in imported_names(one, root) for path in first_party_files(name, root)]
    return found


def requirements(files: Collection[Path], root: Path = Path(), *others: str) -> list[str]:
    """Return the libraries that `files` import, as `name==version` of this environment, MLflow, and those of `others`.

    MLflow serves. The others are modules that are imported by a computed name, such as the library of an estimator.
    """
    modules = {name.partition(".")[0] for file in files for name in imported_names(file, root)}
    ours = {file.parts[0].removesuffix(".py") for file in files}
    lines = []
    for module in modules - {*ours, *sys.stdlib_module_names} | {"mlflow", *others}:
        try:
            found = [(name := DISTRIBUTIONS.get(module, module), version(name))]
        except PackageNotFoundError:  # it has another name than its module
            found = [(name, version(name)) for name in _distributions().get(module, ())]
        lines += [f"{name}=={number}" for name, number in found]
    return sorted({*lines})


_distributions = cache(packages_distributions)  # it reads a file of every installed distribution, a second's work


class Package(NamedTuple):
    """What a version is served by, beside the model: its `code`, and its libraries as lines of `requirements`.

    `library` is the estimator's, and `digest` the SHA-256 over the code, contract.yaml and the lines. It is the same on
    each machine: Git may give a checkout other line ends.
    """

    library: str
    code: list[Path]
    requirements: list[str]
    digest: str


def package_of(library: str, root: Path = Path()) -> Package:
    """Return the package of a version whose estimator is of `library`, from the checkout at `root`."""
    code = sorted(closure(SERVING, root))
    lines = requirements(code, root, library)
    texts = {path.as_posix(): (root / path).read_bytes().replace(b"\r\n", b"\n") for path in (*code, CONTRACT)}
    digests = {name: hashlib.sha256(text).hexdigest() for name, text in texts.items()}
    digest = hashlib.sha256(json.dumps([digests, lines], sort_keys=True).encode()).hexdigest()
    return Package(library, code, lines, digest)


def copy_code(files: Iterable[Path], folder: Path) -> None:
    """Copy first-party files into the code folder of the version's `folder`, each to its place below the root."""
    for file in files:
        (folder / CODE / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / CODE / file)


def digest_of(folder: Path) -> str:
    """Return the SHA-256 over the sorted paths and SHA-256 of all files in a folder.

    A link, or anything else than a file, gives another digest than the file. Empty folders do not count: S3 has none.
    """
    files = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            files[name] = "not a file"
        elif path.is_file():
            files[name] = sha256_of(path)
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
