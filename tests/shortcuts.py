"""Work of the libraries that the server of tests/forkserver.py lets its children do once: each result is the same.

`take` puts them into the libraries. A real Python, as the tests of processes have it, knows none of them.
"""

import fcntl
import hashlib
import marshal
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path


def take(folder: Path) -> None:
    """Put all shortcuts into the libraries that are loaded; `folder` keeps what the children share."""
    if "dvc.utils.serialize" in sys.modules:
        quick_lock()
    if "jinja2" in sys.modules:
        quick_templates(folder)
    if "mlflow.tracking" in sys.modules:
        quick_registry(folder / "registry.db")
        quick_server()


def quick_lock() -> None:
    """Let DVC read dvc.lock by its parser in C before it adds a stage.

    The other one keeps comments, which a lock has not. It takes 0.08 s for each stage.
    """
    from dvc.utils.serialize import _yaml

    keeping_comments = _yaml.parse_yaml_for_update

    def parse(text, path):
        if Path(path).name == "dvc.lock" and "#" not in text:
            return _yaml.parse_yaml(text, path)
        return keeping_comments(text, path)

    _yaml.parse_yaml_for_update = parse


def quick_templates(folder: Path) -> None:
    """Let Jinja compile a template once, as long as no module of ours that is loaded has changed: it takes 0.2 s."""
    from jinja2 import Environment

    compiled = Environment.compile

    def compile_once(self, source, name=None, filename=None, **others):
        if filename is None or others:
            return compiled(self, source, name, filename, **others)
        digest = hashlib.sha256(f"{name}\0{source}".encode())
        for module in sorted(one for one in sys.modules if one.startswith(("churn.", "report."))):
            file = getattr(sys.modules[module], "__file__", None)
            digest.update(Path(file).read_bytes() if file else b"")
        kept = folder / digest.hexdigest()
        if kept.exists():
            return marshal.loads(kept.read_bytes())
        code = compiled(self, source, name, filename)
        part = kept.with_suffix(f".{os.getpid()}")
        part.write_bytes(marshal.dumps(code))
        part.rename(kept)
        return code

    Environment.compile = compile_once


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
