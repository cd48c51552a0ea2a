"""A version's files are served by a child process: here without a registry."""

import ast
import json
import shutil
import stat
import sys
from pathlib import Path

from churn.config.params import Train
from churn.core.errors import StageError
from churn.core.paths import CONTRACT
from churn.core.time_limits import deadline
from churn.modeling.model import model_frame, save_model
from churn.modeling.training import build_classifier, build_model
from churn.registry.isolated import LIBRARIES
from churn.registry.package import CODE, LOADER, MODEL_FILE, SERVING, closure, copy_code
from churn.registry.verification import serving_process
from tests.conftest import ROOT, make_customers
from tests.forkserver import programs
from tests.frozen import copy_of

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

CANARY = "7590-CANARY"
FUNCTION = "def add_num_products(customers: pd.DataFrame) -> pd.DataFrame:\n"
REPORT = """
import json, os, stat, sys
from pathlib import Path
Path(__file__).with_name("seen.json").write_text(json.dumps(
    dict(environment=dict(os.environ), path=sys.path, folder=os.getcwd(), mask=os.umask(0o077), modules=[*sys.modules])
))
print("{canary}")
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory, contract):
    """A version's files, a table of customers, and their scores."""
    folder, customers = tmp_path_factory.mktemp("files"), make_customers(contract, 300)
    train = Train(estimator="sklearn.linear_model.LogisticRegression", parameters={"max_iter": 200}, seed=1)
    frame = model_frame(pa.Table.from_pandas(customers, preserve_index=False), contract)
    model = build_model(build_classifier(train), contract).fit(frame, customers[contract.label])
    save_model(model, folder / MODEL_FILE)
    shutil.copy(copy_of(CONTRACT), folder)
    copy_code(closure(SERVING), folder)
    shutil.copy(copy_of("churn/features.py"), folder / CODE / "churn")
    flavour = {"loader_module": LOADER, "code": CODE, "data": MODEL_FILE, "python_version": "3.11.7"}
    (folder / "MLmodel").write_text(json.dumps({"flavors": {"python_function": flavour}}))
    table = tmp_path_factory.mktemp("customers") / "customers.parquet"
    customers.to_parquet(table, index=False)
    return folder, table, model.predict_proba(frame)[:, 1]


@pytest.fixture
def files(made, tmp_path):
    """A copy of the version's files, to change."""
    return Path(shutil.copytree(made[0], tmp_path / "files"))


@pytest.fixture
def forked(monkeypatch):
    """Let the child be forked: what it is in itself, other tests look at."""
    monkeypatch.setattr(sys, "executable", f"{programs(*LIBRARIES['serve'])}/python")


def scores(files, made, contract):
    with serving_process() as serve:
        return serve("version 1 of churn", files, made[1], contract.fetched_features, 1)


def test_the_version_is_served_without_this_checkout_and_without_any_secret(files, made, contract, monkeypatch, capfd):
    for name in ("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "PGPASSWORD", "GH_TOKEN", "SLACK_WEBHOOK_URL"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    features = files / CODE / "churn/features.py"
    features.write_text(features.read_text() + REPORT.format(canary=CANARY))
    assert np.array_equal(scores(files, made, contract), made[2])
    seen = json.loads(features.with_name("seen.json").read_text())
    assert "secret" not in seen["environment"].values()
    passed_on = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TMPDIR", "TZ", "GOMP_SPINCOUNT")
    passed_on += ("DVC_SITE_CACHE_DIR",)  # which the environment's own start-up file sets
    for name in seen["environment"]:
        assert name in passed_on or name.startswith(("LC_", "KMP_")) or name.endswith("_NUM_THREADS")  # KMP_: sklearn's
    assert seen["environment"]["LC_ALL"] == "C.UTF-8"
    assert [entry for entry in seen["path"] if Path(entry, "churn").exists()] == [str(files / CODE)]
    assert seen["folder"] == seen["environment"]["HOME"]
    assert not Path(seen["folder"]).exists()
    assert seen["mask"] == stat.S_IRWXG | stat.S_IRWXO
    assert "mlflow" not in seen["modules"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("forked")
def test_each_seventh_customer_is_scored_where_all_would_be_too_many(files, made, contract, tmp_path):
    pq.write_table(pq.read_table(made[1]), tmp_path / "customers.parquet", row_group_size=50)
    with serving_process() as serve:
        found = serve("version 1 of churn", files, tmp_path / "customers.parquet", contract.fetched_features, 7)
    np.testing.assert_allclose(found, made[2][::7], rtol=0, atol=1e-12)


@pytest.mark.usefixtures("forked")
def test_a_version_that_was_registered_before_serving_py_moved_is_served(files, made, contract):
    (files / CODE / "churn/serving.py").write_text("from churn.registry.serving import _load_pyfunc\n")
    described = files / "MLmodel"
    described.write_text(described.read_text().replace(LOADER, "churn.serving"))
    assert np.array_equal(scores(files, made, contract), made[2])


def test_the_process_imports_the_libraries_of_a_model_before_it_is_asked(files, made, contract):
    package = files / CODE / "churn/__init__.py"
    package.write_text(
        "import sys\nfrom pathlib import Path\nPath(__file__).with_name('seen').write_text(str([*sys.modules]))\n"
    )
    assert np.array_equal(scores(files, made, contract), made[2])
    before = ast.literal_eval(package.with_name("seen").read_text())
    needed = {"pandas", "pyarrow.parquet", "pydantic.main", "ruamel.yaml", "sklearn.ensemble", "sklearn.cluster"}
    assert needed <= {*before}
    assert not {"mlflow", "matplotlib", "duckdb", "sklearn.gaussian_process"} & {*before}


def prepended(text):
    return lambda file: file.write_text(text + file.read_text())


def in_the_feature(line):
    return lambda file: file.write_text(file.read_text().replace(FUNCTION, f"{FUNCTION}    {line}\n"))


BROKEN = {  # what is done to code/churn/features.py, and what the user reads
    "a module that was not packaged": (
        prepended("import churn.helper\n"),
        "cannot be served from its own files: there is no module churn.helper (churn/features.py, line 1); champion"
        " stays. Mend the code that churn/registry/serving.py imports, delete the version in MLflow, then run"
        " `dvc repro --force --single-item register`.",
    ),
    "a module of this checkout": (
        prepended("import report.page\n"),
        "there is no module report (churn/features.py, line 1); champion stays.",
    ),
    "no code": (lambda file: shutil.rmtree(file.parent), "there is no module churn; champion stays."),
    "broken code": (prepended("1 +\n"), "SyntaxError (churn/features.py, line 1); champion stays."),
    "a feature function that fails": (
        in_the_feature(f"raise ValueError({CANARY!r})"),
        "ValueError (churn/features.py, line {line}); champion stays.",
    ),
    "a feature function that ends": (
        in_the_feature(f"import sys; print({CANARY!r}); sys.exit(0)"),
        "SystemExit (churn/features.py, line {line}); champion stays.",
    ),
    "a feature function that ends the process": (in_the_feature("import os; os._exit(0)"), "gives no scores; champion"),
}


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("case", BROKEN)
def test_code_that_does_not_serve_is_one_sentence(files, made, contract, case, capfd):
    """Fault in the registry: the packaged code is broken, lacks a module, or ends its process.

    The version is not verified: `version 1 of churn cannot be served from its own files: there is no module
    churn.helper (churn/features.py, line 9); …`
    """
    change, said = BROKEN[case]
    file = files / CODE / "churn/features.py"
    change(file)
    line = file.read_text().partition(FUNCTION)[0].count("\n") + 2 if file.exists() else 0
    with pytest.raises(StageError) as told:
        scores(files, made, contract)
    assert str(told.value).startswith("version 1 of churn ")
    assert said.format(line=line) in str(told.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize(
    ("entry", "value"), [("loader_module", "evil"), ("code", "other"), ("data", "../model.skops"), (None, None)]
)
def test_what_mlmodel_says_is_not_run_unless_register_wrote_it(files, made, contract, entry, value):
    """Fault in the registry: the tag `files_sha256` was changed too, and MLmodel names other code.

    Nothing of it runs: `MLmodel of version 1 of churn has another loader_module than register wrote: …`
    """
    (files / CODE / "evil.py").write_text(f"open({str(files / 'ran')!r}, 'w')\n")
    path = files / "MLmodel"
    known = json.loads(path.read_text())
    known["flavors"]["python_function"][entry] = value
    path.write_text(json.dumps(known) if entry else "flavors: [")
    said = f"has another {entry} than register wrote" if entry else "cannot be read"
    with pytest.raises(StageError, match=rf"^MLmodel of version 1 of churn {said}.*: nothing of it is run; delete the"):
        scores(files, made, contract)
    assert not (files / "ran").exists()


def test_a_version_that_gives_no_scores_in_time_is_stopped(files, made, contract):
    """Fault in the registry: the packaged code hangs.

    It is killed after 15 minutes: `version 1 of churn gave no scores in time, and was stopped; …`
    """
    with (
        serving_process() as serve,
        pytest.raises(StageError, match=r"^version 1 of churn gave no scores in time, and was stopped; champion"),
        deadline(0.2, "too late"),
    ):
        serve("version 1 of churn", files, made[1], contract.fetched_features, 1)
