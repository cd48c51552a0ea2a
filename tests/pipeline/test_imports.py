"""What an import does to its process: nothing but import, and of other people's libraries only what is needed."""

import os
import subprocess
import sys
from pathlib import Path

from churn.registry.package import SERVING, closure, requirements
from tests.conftest import ROOT

SERVES = """if True:
    import gc, os, signal, sys, warnings

    class Refuse:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in {refused!r}:
                raise AssertionError(f"serving imports {{name}}")

    def state():
        filters = [one[:3] for one in warnings.filters if one[0] == "ignore"]
        return gc.get_threshold(), gc.isenabled(), dict(os.environ), sys.excepthook, signal.getsignal(14), filters

    # Its libraries first: what they do to a process is theirs.
    import numpy, pandas, pyarrow.parquet, pydantic, ruamel.yaml, scipy.special, skops.io
    sys.meta_path.insert(0, Refuse())
    before = state()
    import churn.registry.serving
    assert state() == before
    assert "churn.core.start" not in sys.modules
"""
MODULES = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for folder in ("churn", "report", "stages")
    for file in sorted((ROOT / folder).rglob("*.py"))
]
STATE = "gc.get_threshold(), sys.excepthook, sys.unraisablehook, threading.excepthook, os.environ.get('GOMP_SPINCOUNT')"


def test_importing_a_module_sets_nothing_in_the_process():
    code = f"import gc, os, sys, threading; before = {STATE}; import {', '.join(MODULES)}; assert before == ({STATE})"
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_importing_serving_changes_nothing_and_needs_no_library_but_its_own():
    """As in a server, or in a notebook, that has other things to do."""
    own = {line.partition("==")[0] for line in requirements(closure(SERVING, ROOT), ROOT)} - {"mlflow", "tqdm"}
    refused = {"duckdb", "dvc", "matplotlib", "mlflow", "s3fs", "tqdm", "adbc_driver_postgresql"} - own
    done = subprocess.run(
        [sys.executable, "-c", SERVES.format(refused=refused)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not {Path("churn/core/start.py"), Path("churn/registry/client.py")} & closure(SERVING, ROOT)
