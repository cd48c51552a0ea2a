"""Work of the libraries that the server of tests/forkserver.py lets its children do once, or that nobody looks at.

`take` puts them into the libraries. A real Python, as the tests of processes have it, knows none of them.
"""

import _imp
import fcntl
import hashlib
import io
import marshal
import os
import pickle
import sqlite3
import sys
from collections import OrderedDict
from collections.abc import Callable
from contextlib import closing
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary


def take(folder: Path) -> None:
    """Put all shortcuts into the libraries that are loaded; `folder` keeps what the children share."""
    quick_modules(folder)
    if "dvc.utils.serialize" in sys.modules:
        quick_yaml(folder)
    if "jinja2" in sys.modules:
        quick_templates(folder)
    if "skops.io" in sys.modules:
        quick_models(folder)
    if "matplotlib.backends.backend_agg" in sys.modules:
        quick_pictures()
    if "mlflow.tracking" in sys.modules:
        quick_registry(folder / "registry.db")
        quick_server()


def quick_yaml(folder: Path) -> None:
    """Let ruamel.yaml read a text once, and DVC write a stage's lock once: it does both again for each stage.

    Reading takes 0.3 of the 0.9 s of a run, and writing 0.1 s for each stage that runs. dvc.lock is read by the parser
    that drops comments, because it has none.
    """
    from dvc.utils.serialize import _yaml
    from ruamel.yaml import YAML

    load, keeping_comments, dump = YAML.load, _yaml.parse_yaml_for_update, _yaml._dump

    def load_once(self, stream):
        if self.typ != ["safe"] or not isinstance(stream, str):
            return load(self, stream)
        return once(folder, hashlib.sha256(stream.encode(errors="surrogatepass")), lambda: load(self, stream), pickle)

    def parse(text, path):
        if Path(path).name == "dvc.lock" and "#" not in text:
            return _yaml.parse_yaml(text, path)
        return keeping_comments(text, path)

    def dumped(data):
        def dump_all():
            dump(data, text := io.StringIO())
            return text.getvalue()

        plain = type(data) in (dict, OrderedDict)  # without comments
        return once(folder, hashlib.sha256(b"dump" + pickle.dumps(data)), dump_all, pickle) if plain else dump_all()

    def dump_once(data, stream):
        if [*data] == ["schema", "stages"] and data["stages"]:  # a lock, in which one stage has changed
            parts = (dumped({"stages": {name: stage}}) for name, stage in data["stages"].items())
            stream.write(dumped({"schema": data["schema"]}) + "stages:\n")
            stream.writelines(part.removeprefix("stages:\n") for part in parts)
        else:
            stream.write(dumped(data))

    YAML.load, _yaml.parse_yaml_for_update, _yaml._dump = load_once, parse, dump_once


def quick_modules(folder: Path) -> None:
    """Let the modules of a new checkout, which has no `__pycache__`, be compiled once: the report's take 0.15 s."""
    compiled = SourceFileLoader.source_to_code

    def compile_once(self, data, path, **others):
        code = once(folder, hashlib.sha256(data), lambda: compiled(self, data, path, **others))
        _imp._fix_co_filename(code, path)
        return code

    SourceFileLoader.source_to_code = compile_once


def quick_templates(folder: Path) -> None:
    """Let Jinja compile a template once, as long as no module of ours that is loaded has changed: it takes 0.2 s."""
    from jinja2 import Environment

    compiled = Environment.compile

    def compile_once(self, source, name=None, filename=None, **others):
        if filename is None or others:
            return compiled(self, source, name, filename, **others)
        digest = digest_of(f"{name}\0{source}".encode(), "churn.", "report.")
        return once(folder, digest, lambda: compiled(self, source, name, filename))

    Environment.compile = compile_once


def quick_models(folder: Path) -> None:
    """Let skops read a file once, the sample's estimator score the same customers once, and a report fit it once.

    Reading takes 0.1 s, the permutation importance 0.25 s, and fitting 0.5 s. For a stage each model is fitted: read
    from a file, the same one has other bytes.
    """
    import skops.io
    from sklearn.ensemble import HistGradientBoostingClassifier as Trees

    fit, score, load, files = Trees.fit, Trees._raw_predict, skops.io.load, WeakKeyDictionary()

    def fit_once(self, X, y, **others):
        if "report.flips" not in sys.modules:
            return fit(self, X, y, **others)
        digest = hashlib.sha256(pickle.dumps((self.get_params(), X, y, others)))
        self.__dict__ |= once(folder, digest, lambda: fit(self, X, y, **others), pickle).__dict__
        return self

    def score_once(self, X, n_threads=None):
        if self not in files:
            return score(self, X, n_threads)
        digest = hashlib.sha256(pickle.dumps((files[self], X)))
        return once(folder, digest, lambda: score(self, X, n_threads), pickle)

    def load_once(file, trusted=None):
        content = Path(file).read_bytes()
        digest = digest_of(pickle.dumps((content, trusted)), "churn.modeling.")
        model = once(folder, digest, lambda: load(file, trusted), pickle)
        last = model[-1] if hasattr(model, "steps") else model
        if isinstance(last, Trees):
            files[last] = content
        return model

    Trees.fit, Trees._raw_predict, skops.io.load = fit_once, score_once, load_once


def quick_pictures() -> None:
    """Let matplotlib leave a picture empty where nobody looks at it: it takes a sixth of a report's time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg as Canvas

    draw = Canvas.draw
    Canvas.draw = lambda self: self.get_renderer() if "UNSEEN" in os.environ else draw(self)


def digest_of(content: bytes, *packages: str) -> "hashlib._Hash":
    """Return a digest of a content, and of the modules that are loaded of some packages of ours."""
    digest = hashlib.sha256(content)
    for module in sorted(one for one in sys.modules if one.startswith(packages)):
        file = getattr(sys.modules[module], "__file__", None)
        digest.update(Path(file).read_bytes() if file else b"")
    return digest


def once(folder: Path, digest: "hashlib._Hash", make: Callable[[], Any], form: ModuleType = marshal) -> Any:
    """Return what `make` makes, from the first child that needed it; `form` keeps it in a file."""
    kept = folder / f"{digest.hexdigest()}.{form.__name__}"  # an empty text is a module, and YAML as well
    if kept.exists():
        return form.loads(kept.read_bytes())
    made = make()
    part = kept.with_suffix(f".{os.getpid()}")
    part.write_bytes(form.dumps(made))
    part.rename(kept)
    return made


def quick_registry(template: Path) -> None:
    """Let MLflow copy the tables of a new SQLite database from the first that it makes: its migrations take 1.2 s."""
    from mlflow.store.db import utils
    from sqlalchemy import create_engine

    migrate = utils._initialize_tables

    def initialize(engine):
        if engine.dialect.name != "sqlite" or not utils._is_empty_database(engine):
            migrate(engine)
            return
        with template.with_name("lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not template.exists():
                first = create_engine(f"sqlite:///{template}.part")
                migrate(first)
                first.dispose()
                Path(f"{template}.part").rename(template)
        with closing(sqlite3.connect(template)) as source, closing(sqlite3.connect(engine.url.database)) as target:
            source.backup(target)

    utils._initialize_tables = initialize


def quick_server() -> None:
    """Let `mlflow server` answer in its own process: it starts another Python for that, which imports all again."""
    from mlflow.utils import process

    execute = process._exec_cmd

    def in_this_process(command, **others):
        if command[1:3] != ["-m", "uvicorn"]:
            return execute(command, **others)
        import uvicorn

        os.environ.update(others["extra_env"])
        return uvicorn.main(command[3:])

    process._exec_cmd = in_this_process
