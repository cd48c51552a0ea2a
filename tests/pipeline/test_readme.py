"""What README and docs say is what happens."""

import re
import shlex

from churn.config.params import load_params
from tests.conftest import ROOT
from tests.faults import BAD, HARMLESS, filled
from tests.frozen import copy_of

import pytest
from ruamel.yaml import YAML

README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = {path.name: path.read_text(encoding="utf-8") for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]}


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(name):
    return [line for block in blocks(DOCS[name], "console") for line in block.splitlines() if line]


@pytest.fixture
def with_environment(clone, environment_of_links):
    """A clone that has this environment, so that make need not install one."""
    (clone.folder / ".venv").symlink_to(environment_of_links)
    return clone


def test_make_repro_does_what_the_readme_shows(with_environment):
    printed = with_environment.ok("make", "repro")
    assert "register: churn version 1 is champion" not in printed  # the clone has a receipt
    with_environment.ok("git", "clean", "-fdx", "--quiet", "--exclude", ".venv", "models", "data", ".dvc")
    printed = with_environment.ok("make", "repro")
    (shown,) = blocks(README, "text")
    for line in filter(None, shown.splitlines()):
        assert line == "..." or line in printed.splitlines()
    assert with_environment.ok("git", "status", "--porcelain") == ""


def test_make_test_runs_the_tests(with_environment):
    assert with_environment.ok("make", "--dry-run", "test").splitlines()[-1] == "python -m pytest --cov"
    assert "make test" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize(
    ("asked", "runs"),
    [
        ("report", "python -m report"),
        ("report BASE=HEAD", "python -m report --base 'HEAD'"),
        ("init", "python -m churn init --help"),
        ("init SOURCE=a.csv OPTIONS='--key id'", "python -m churn init 'a.csv' --key id"),
        ("rollback", 'python -m churn registry rollback "$WHY"'),
    ],
)
def test_a_command_of_make_passes_on_what_it_is_told_and_nothing_else(with_environment, asked, runs):
    assert with_environment.ok("make", "--dry-run", *shlex.split(asked)).splitlines()[-1].strip() == runs


def test_the_environment_is_installed_again_only_when_the_lock_changes(with_environment):
    assert with_environment.ok("make", "--dry-run", "repro").splitlines()[-1] == "python -m dvc repro"
    assert "pip install" not in with_environment.ok("make", "--dry-run", "repro")
    (with_environment.folder / "requirements.txt").touch()
    assert "pip install" in with_environment.ok("make", "--dry-run", "repro")


def test_everything_that_is_installed_is_locked_with_its_hash():
    for name in (
        "requirements-uv",
        "requirements",
        "requirements-snowflake",
        "requirements-bigquery",
        "requirements-lightgbm",
        "requirements-xgboost",
        "requirements-dask",
        "requirements-dev",
    ):
        lock = (ROOT / f"{name}.txt").read_text().replace("\\\n", " ")
        pinned = [line for line in lock.splitlines() if line and not line.lstrip().startswith("#")]
        assert all("==" in line and "--hash=sha256:" in line for line in pinned)
        wanted = re.findall(r"^([\w.-]+)", (ROOT / f"{name}.in").read_text(), re.MULTILINE)
        missing = {want.replace(".", "-") for want in wanted if want != "-c"} - {line.split("==")[0] for line in pinned}
        assert missing <= {"dvc"}  # which has an extra: dvc[s3]


def test_make_alone_lists_every_command(with_environment):
    listed = with_environment.ok("make")
    targets = re.findall(r"^([a-z]+):.*?##", with_environment.text("Makefile"), re.MULTILINE)
    assert targets == re.findall(r"^  make ([a-z]+)", listed, re.MULTILINE)


@pytest.mark.parametrize("name", ["fetch", "train"])
def test_an_example_of_parameters_is_one_that_the_stages_read(name, tmp_path):
    (example,) = [block for block in blocks(DOCS["adapt.md"], "yaml") if block.startswith(f"{name}:")]
    text = (copy_of("params.yaml")).read_text()
    (tmp_path / "params.yaml").write_text(re.sub(rf"(?m)^{name}:\n(  .*\n)+", example, text))
    wanted = YAML(typ="safe").load(example)[name]
    assert getattr(load_params(tmp_path / "params.yaml"), name).model_dump(mode="json") == wanted


def test_each_fault_is_shown_by_a_test_that_exists():
    table = DOCS["faults.md"].partition("\n## Bad changes\n")[0]
    shown = [row for row in table.splitlines() if row.startswith("| ") and not row.startswith(("| fault ", "| --- "))]
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert shown
    for row in shown:
        named = re.findall(r"`(test_\w+)`", row)
        assert named, row
        assert [name for name in named if f"def {name}(" not in tests] == []


def test_the_tables_of_faults_are_those_of_the_tests():
    assert filled(DOCS["faults.md"]) == DOCS["faults.md"], "run python -m tests.faults"


def test_the_readme_counts_the_changes_that_the_tests_make():
    assert f"makes {len(BAD)} bad changes" in README
    assert f"makes {len(HARMLESS)} harmless changes" in README


def test_the_readme_has_at_most_twenty_words_a_sentence():
    prose = re.sub(r"```.*?```|^#.*?$|^\|.*?$", "\n\n", README, flags=re.DOTALL | re.MULTILINE)
    prose = re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", prose)
    sentences = [part.split() for part in re.split(r"[.?!](?=\s)|\n\n|\n(?=- )", prose) if part.strip(" -\n")]
    assert sum(map(len, sentences)) / len(sentences) <= 20


@pytest.mark.parametrize("command", [line for line in commands("README.md") if line.startswith(("dvc", "python"))])
def test_the_readmes_commands_work(clone, command):
    if "churn score" in command:  # by what is registered
        clone.ok("dvc", "repro", "--force", "--single-item", "register")
    clone.ok(*command.split())


def test_the_benchmark_of_scale_works(clone):
    printed = clone.ok("python", "-m", "benchmarks.scale", "20000", "--until", "validate")
    lines = re.findall(r"^ +20,000  (\w+) +[0-9.]+ s, CPU +[0-9.]+ s +[0-9,]+ MiB$", printed, re.MULTILINE)
    assert lines == ["fetch", "prepare", "profile", "validate"]


def test_the_commands_that_adapt_it_work(with_environment):
    clone, printed = with_environment, commands("adapt.md")
    prepare, profile, bounds = printed[(place := printed.index("dvc repro prepare")) : place + 3]
    assert (profile, bounds) == ("make profile", "make bounds")
    assert "python -m pytest tests/own" in printed  # which test_other_table.py runs
    clone.ok(*prepare.split())
    assert "profile: profile.json, 7,043 customers" in clone.ok(*profile.split())
    assert clone.ok("git", "status", "--porcelain") == ""
    clone.replace("params.yaml", "max_iter: 200", "max_iter: 40")  # as good a model in a third of the time
    clone.replace("params.yaml", "learning_rate: 0.05", "learning_rate: 0.2")
    printed = clone.ok("python", "-m", "benchmarks.holdout_noise", "10", UNMEASURED="true")
    assert re.search(r"^all customers roc_auc +min 0\.82 +0\.8\d+ ", printed, re.MULTILINE)
    assert re.search(r"^honest +blocked [01] of 10$", printed, re.MULTILINE)
    assert re.search(r"^new customers labelled late +blocked 10 of 10$", printed, re.MULTILINE)


@pytest.mark.parametrize("name", DOCS)
def test_every_make_command_that_is_named_exists(name):
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"`make ([a-z]+)`", DOCS[name]) + re.findall(r"^make ([a-z]+)$", DOCS[name], re.MULTILINE)
    assert set(named) <= set(targets)


@pytest.mark.parametrize("name", DOCS)
def test_every_path_that_is_named_exists(name, finished):
    folder = ROOT if (ROOT / name).exists() else ROOT / "docs"
    for link in re.findall(r"\]\((?!https:)([^)#]+)\)", DOCS[name]):
        assert (folder / link).exists(), link
    known = {path.name for path in finished.folder.iterdir()} | {"stages", "churn"}
    for path in re.findall(r"`([\w.]+/[\w./]*)`", DOCS[name]):
        if path.split("/")[0] in known - {".dvc"} and "*" not in path:
            assert (finished.folder / path).exists(), path


def test_the_graph_is_dvcs_own(finished):
    (drawn,) = blocks(DOCS["architecture.md"], "mermaid")
    assert drawn.split() == finished.ok("dvc", "dag", "--mermaid").split()


def test_what_the_docs_say_of_another_model_is_what_runs(clone):
    (example,) = [block for block in blocks(DOCS["adapt.md"], "yaml") if block.startswith("train:")]
    text = clone.text("params.yaml")
    start, end = text.index("train:"), text.index("evaluate:")
    (clone.folder / "params.yaml").write_text(text[:start] + example + "\n" + text[end:])
    assert clone.stages_run() == ["train", "evaluate", "gate", "register"]


def test_what_the_docs_say_of_dropped_rows_is_what_runs(clone):
    (example,) = [block for block in blocks(DOCS["adapt.md"], "yaml") if block.startswith("prepare:\n  drop:")]
    text = clone.text("params.yaml")
    (clone.folder / "params.yaml").write_text(re.sub(r"  drop: .*\n", example.split("\n", 1)[1], text))
    assert "7,043 fetched = 5,591 train + 1,452 test + 0 dropped (test_account)" in clone.ok("dvc", "repro", "prepare")


def test_git_ignores_what_the_page_keeps_out_of_git(clone):
    table = DOCS["operate.md"].partition("## Which results to commit")[2].partition("\n\n## ")[0]
    kept, ignored = [], []
    for paths, in_git in re.findall(r"^\| (`.*`).* \| (yes|no)\b", table, re.MULTILINE):
        (kept if in_git == "yes" else ignored).extend(re.findall(r"`([\w./]+)`", paths))
    assert {"dvc.lock", "metrics/"} <= {*kept}
    assert {"data/raw/", "models/", "mlflow.db"} <= {*ignored}

    def held(path):
        return (
            clone.run("git", "check-ignore", "--quiet", f"{path}file" if path.endswith("/") else path).returncode == 1
        )

    assert [path for path in kept if not held(path)] == []
    assert [path for path in ignored if held(path)] == []
