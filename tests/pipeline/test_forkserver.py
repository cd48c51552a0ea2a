"""A program in a fork is what it is in a process of its own: what it is given, what it prints, how it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from churn.modeling.model import reproducible_bytes
from tests.forkserver import programs

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline

SHOW = """
import json, os, sys
variables = {name: value for name, value in os.environ.items() if name in ("GIVEN", "PYTHONPATH", "PYTHONUNBUFFERED")}
print(json.dumps([sys.argv, sys.path[:2], os.getcwd(), variables, sys.dont_write_bytecode, __name__, sys.stdin.read()]))
print("told", file=sys.stderr)
"""
LOCK = """\
schema: '2.0'
stages:
  one:
    cmd: python -m one
    deps:
    - path: a b.csv
      hash: md5
      md5: 0123456789abcdef0123456789abcdef
      size: 977501
    params:
      params.yaml:
        one:
          as_of:
          bounds:
          - 0.05
          - 1e-06
          - 1
          text: 'true'
          version: '7.10'
          on: true
          conditions: {}
          query: "a '\\n' and: b"
"""
EDIT = """
from dvc.utils.serialize import modify_yaml
from jinja2 import Environment, FileSystemLoader
with modify_yaml("dvc.lock") as lock:
    lock["stages"]["two"] = {"cmd": "python -m two"}
print(Environment(loader=FileSystemLoader("templates")).get_template("page.j2").render(names=["one", "two"]))
"""
SCORE = """
import sys
import numpy as np
import skops.io
for name in sys.argv[1:]:
    model = skops.io.load(name, trusted=skops.io.get_untrusted_types(file=name))
    print(model.predict_proba(np.arange(60.0).reshape(20, 3)).tolist())
"""
ENDS = {
    "by itself": "pass",
    "with a status": "raise SystemExit(7)",
    "with a word": "raise SystemExit('no')",
    "with an error": "raise ValueError('no')",
    "by a signal": f"import os; os.kill(os.getpid(), {int(signal.SIGTERM)})",
    "at once": "import os; os._exit(5)",
}


@pytest.fixture(scope="module")
def forked():
    return str(Path(programs("numpy"), "python"))


def outcome(python, folder, *arguments, **environment):
    environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"} | environment
    done = subprocess.run(
        [python, *arguments], cwd=folder, env=environment, input="in", capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "called",
    [
        ["-m", "ci.show", "one", "two"],
        ["-P", "-m", "ci.show"],
        ["ci/show.py", "one"],
        ["-B", "ci/show.py"],
        ["-P", "ci/show.py"],
        ["-I", "ci/show.py"],
    ],
    ids=" ".join,
)
def test_a_fork_is_given_what_a_process_is_given(forked, tmp_path, called):
    (tmp_path / "ci").mkdir()
    (tmp_path / "ci/show.py").write_text(SHOW)
    given = {"GIVEN": "x", "PYTHONPATH": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    assert outcome(forked, tmp_path, *called, **given) == outcome(sys.executable, tmp_path, *called, **given)


@pytest.mark.parametrize("code", ENDS.values(), ids=ENDS)
def test_a_fork_ends_as_a_process_does(forked, tmp_path, code):
    (tmp_path / "ends.py").write_text(f"print('said')\n{code}\n")
    status, printed, told = outcome(forked, tmp_path, "ends.py")
    expected = outcome(sys.executable, tmp_path, "ends.py")
    assert (status, printed) == expected[:2]
    assert told.splitlines()[-1:] == expected[2].splitlines()[-1:]


def test_two_forks_draw_different_numbers(forked, tmp_path):
    (tmp_path / "draw.py").write_text("import numpy as np\nprint(np.random.random())\n")
    assert outcome(forked, tmp_path, "draw.py")[1] != outcome(forked, tmp_path, "draw.py")[1]


def test_a_program_that_is_none_of_ours_is_a_process(forked, tmp_path):
    assert outcome(forked, tmp_path, "-c", "import sys; print(sys.executable)")[1] == f"{sys.executable}\n"


def test_the_shortcuts_give_what_the_libraries_give(tmp_path):
    (tmp_path / "ci").mkdir()
    (tmp_path / "ci/edit.py").write_text(EDIT)
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/page.j2").write_text("{% for name in names %}{{ name }}{% endfor %}")
    forked = str(Path(programs("dvc.utils.serialize", "jinja2", "numpy"), "python"))
    said = []
    for python in (sys.executable, forked, forked):  # the second fork takes the template that the first has compiled
        (tmp_path / "dvc.lock").write_text(LOCK)
        said.append((outcome(python, tmp_path, "ci/edit.py"), (tmp_path / "dvc.lock").read_text()))
    assert said[0] == said[1] == said[2]
    assert said[0][0] == (0, "onetwo\n", "")
    assert said[0][1] == f"{LOCK}  two:\n    cmd: python -m two\n"


def test_a_model_that_is_read_and_scores_once_scores_as_it_does_itself(tmp_path):
    rows = np.random.default_rng(0).uniform(0, 60, (200, 3))
    for name, column in (("one", 0), ("two", 1)):
        trees = HistGradientBoostingClassifier(max_iter=3).fit(rows, rows[:, column] > 30)
        (tmp_path / name).write_bytes(reproducible_bytes(Pipeline([("trees", trees)])))
    (tmp_path / "score.py").write_text(SCORE)
    forked = str(Path(programs("skops.io", "sklearn.ensemble", "sklearn.pipeline"), "python"))
    given = [outcome(python, tmp_path, "score.py", "one", "two") for python in (sys.executable, forked, forked)]
    assert given[0] == given[1] == given[2]
    one, two = given[0][1].splitlines()
    assert one != two
