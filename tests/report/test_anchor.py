"""Which model of main is the anchor, how it is compared, and how often a holdout has judged. Git is real."""

import json
from datetime import UTC, datetime
from math import hypot
from types import SimpleNamespace

from churn.config.params import METRICS
from churn.core.errors import StageError
from churn.core.git import git as run
from churn.core.paths import EVALUATION, GATE, LOCK, MODEL, ROWS
from churn.evaluation.paired import compare
from churn.gate.anchor import Compared
from report import anchor
from report import problem as problems
from report.anchor import earlier_model, lock_history, recorded_differences, since_earlier, verdicts, vs_earlier
from report.baseline import checked_out, fetched
from report.comparison import main_scores
from report.data import Comparison
from tests.conftest import ROOT

import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.usefixtures("forked")

TODAY = 1_790_000_000


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository whose commits the test dates; `main` is where the report has checked its newest commit out."""
    monkeypatch.chdir(tmp_path)
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "test")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "test@example.invalid")
    run("init", "--quiet", "--initial-branch=main")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").touch()

    def commit(days_ago, model=None, holdout="h1", area=0.85, **files):
        """Commit a model, or other files, as of some days ago; return the commit."""
        if model:
            outs = f"[{{path: {MODEL}, md5: {model}}}]"
            rows, evaluation = {"holdout_sha256": [holdout]}, {"roc_auc": area, "intervals": {"roc_auc": [0.83, 0.87]}}
            files |= {
                str(LOCK): f"stages: {{train: {{cmd: x, outs: {outs}}}}}\n# {holdout}\n",
                str(ROWS): json.dumps(rows, indent=2),
                str(EVALUATION): json.dumps(evaluation),
                str(GATE): json.dumps({"model_sha256": model.encode().hex()}, indent=2),
            }
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        run("add", "--all")
        date = f"{TODAY - int(days_ago * 86_400)} +0000"
        dated = {"GIT_COMMITTER_DATE": date, "GIT_AUTHOR_DATE": date}
        run("commit", "--quiet", "--allow-empty", "--message=x", **dated)
        return run("rev-parse", "HEAD")

    def earlier(days=90):
        head = run("rev-parse", "HEAD")
        with checked_out(head) as main:
            return earlier_model(main, head, lock_history(main, head), days)

    return SimpleNamespace(commit=commit, earlier=earlier, folder=tmp_path)


def test_the_anchor_is_the_model_that_main_had_so_many_days_before_its_commit(repository):
    old = [repository.commit(days, f"m{days}") for days in (200, 120, 91, 60, 2)]
    repository.commit(0, README="words alone")
    found = repository.earlier()
    assert (found.commit, found.model, found.is_first) == (old[2], "m91", False)
    assert (
        found.name
        == f"main's model of {datetime.fromtimestamp(TODAY, UTC).date() - pd.Timedelta(days=91):%F} ({old[2][:7]})"
    )
    assert found.recorded == {"roc_auc": (0.85, pytest.approx(0.02))}
    assert repository.earlier(days=100).model == "m120"
    assert repository.earlier(days=1).model == "m2"


def test_a_younger_repository_has_its_first_model_for_an_anchor(repository):
    repository.commit(40, README="no model yet")
    first = repository.commit(30, "m30")
    repository.commit(1, "m1")
    found = repository.earlier()
    assert (found.commit, found.is_first) == (first, True)
    assert found.name.startswith("main's first model of ")


def problem(key="member", label="cancelled", source="members.csv"):
    """Return the files of a commit that define its problem."""
    return {
        "contract.yaml": f"columns: {{{key}: {{role: key}}, {label}: {{role: label}}, fee: {{role: feature}}}}\n",
        "params.yaml": f"fetch: {{source: {source}}}\n",
    }


@pytest.mark.parametrize("before", [problem(key="customer"), problem(label="churn"), problem(source="sample.csv")])
def test_a_model_of_another_problem_is_no_anchor(repository, monkeypatch, before):
    sample = {"sample.csv": "customer,churn\n", "members.csv": "member,cancelled\n"}
    repository.commit(200, "m200", **before, **sample)
    monkeypatch.setattr(problems, "SAMPLE", run("rev-parse", "HEAD:sample.csv"))
    assert repository.earlier().model == "m200", "it is main's problem until another one takes its place"
    adopted = repository.commit(30, "m30", **problem())
    repository.commit(1, "m1")
    found = repository.earlier()
    assert (found.commit, found.is_first) == (adopted, True)


def test_a_contract_that_cannot_be_read_hides_no_earlier_model(repository):
    repository.commit(200, "m200", **{"contract.yaml": "columns: ["})
    repository.commit(1, "m1", **problem())
    assert repository.earlier().model == "m200"


def test_a_repository_without_a_model_has_no_anchor(repository):
    repository.commit(100, README="no model yet")
    repository.commit(99, **{str(LOCK): "stages: {fetch: {cmd: x}}\n"})
    assert repository.earlier() is None


def test_a_model_of_a_branch_is_none_of_main(repository):
    repository.commit(200, "m200")
    run("switch", "--quiet", "--create", "change")
    repository.commit(100, "never-main")
    repository.commit(99, "merged")
    run("switch", "--quiet", "main")
    repository.commit(95, README="main moves, too")
    date = {"GIT_COMMITTER_DATE": f"{TODAY - 80 * 86_400} +0000"}
    run("merge", "--quiet", "--no-ff", "--no-edit", "change", **date)
    repository.commit(0, README="today")
    assert repository.earlier().model == "m200", "the merge is 80 days old"
    assert repository.earlier(days=70).model == "merged"


@pytest.mark.parametrize(
    "broken",
    [
        {str(LOCK): "stages: ["},
        {str(LOCK): "<<<<<<< main\nstages: {}\n"},
        {str(LOCK): "stages: {train: {cmd: x}} # a"},
        {str(LOCK): f"stages: {{train: {{outs: [{{path: {MODEL}, md5: m95}}]}}}}\n", str(EVALUATION): "{"},
        {str(LOCK): f"stages: {{train: {{outs: [{{path: {MODEL}, md5: m95}}]}}}}\n", str(EVALUATION): '{"roc_auc": 1}'},
    ],
)
def test_a_commit_whose_lock_or_metrics_cannot_be_read_has_no_model(repository, broken):
    repository.commit(200, "m200")
    repository.commit(95, **broken)
    repository.commit(50, "m50")
    repository.commit(1, "m1")
    assert repository.earlier().model == "m50"


def test_a_part_of_the_history_is_not_taken_for_all_of_it(repository, tmp_path, monkeypatch):
    """Fault in CI and the judge: the clone is shallow.

    The report blocks, because main's earlier model is unknown, and names `git fetch --unshallow`.
    """
    for days in (200, 100, 1, 0):
        commit = repository.commit(days, f"m{days}")
    run("clone", "--quiet", "--depth=2", tmp_path.as_uri(), str(tmp_path / "shallow"))
    (tmp_path / ".git/info/grafts").write_text(f"{commit}\n")  # as a branch's code could have done
    assert repository.earlier().model == "m100"
    monkeypatch.chdir(tmp_path / "shallow")
    with pytest.raises(StageError, match=r"a part of main's history only.* `git fetch --unshallow`"):
        repository.earlier()


def test_the_models_are_counted_that_this_holdout_has_judged(repository):
    repository.commit(9, "m1", "h0")
    for days, model in ((8, "m2"), (7, "m3"), (6, "m2"), (5, "m4")):
        repository.commit(days, model, "h1")
    head = repository.commit(1, README="words")
    with checked_out(head) as main:
        history = lock_history(main, head)
        assert [verdicts(main, history, holdout) for holdout in ("h1", "h0", "h", "new")] == [3, 1, 0, 0]
        assert verdicts(main, [], "h1") == 0


@pytest.fixture
def one(params, contract):
    """A candidate on 400 customers."""
    random = np.random.default_rng(0)
    y = (random.random(400) < 0.3).astype(int)
    scores = np.clip(0.3 + 0.3 * y + random.normal(0, 0.3, 400), 0, 1)
    keys = [f"k{number}" for number in range(400)]
    predictions = pd.DataFrame({contract.key: keys, contract.label: y, "score": scores})
    return SimpleNamespace(
        gate=params.gate,
        evaluate=params.evaluate,
        contract=contract,
        predictions=predictions,
        known=lambda _: None,
    )


def test_recorded_metrics_have_the_noise_of_two_samples(one):
    label, score = one.predictions[one.contract.label], one.predictions["score"]
    now = anchor.all_metrics(label, score, one.evaluate)["roc_auc"]
    found = recorded_differences(SimpleNamespace(recorded={"roc_auc": (now.value + 0.01, 0.02)}), one)
    assert set(found) == {"roc_auc"}
    assert found["roc_auc"].difference == pytest.approx(-0.01)
    reach = (found["roc_auc"].high - found["roc_auc"].low) / 2
    assert reach == pytest.approx(hypot(0.02, (now.high - now.low) / 2))
    assert found["roc_auc"].verdict == "noise"


def test_an_anchor_that_cannot_be_compared_is_compared_by_its_records_and_the_report_says_why(repository, one):
    commit = repository.commit(100, "m100")
    earlier = SimpleNamespace(commit=commit, recorded={"roc_auc": (0.9, 0.02)})
    found, how = since_earlier(earlier, one)
    assert found.rows == 400
    assert set(found.overall) == {"roc_auc"}
    assert how == (
        "by its recorded metrics, because it is in no DVC cache or remote, or its dvc.lock does not fit its commit"
    )


@pytest.mark.parametrize(
    ("error", "why"),
    [(StageError("its code cannot prepare this"), "its code cannot prepare this"), (KeyError(), "fails with KeyError")],
)
def test_whatever_fails_in_an_old_commit_is_no_end_of_the_report(repository, one, monkeypatch, error, why):
    def fails(*_):
        raise error

    commit = repository.commit(100, "m100")
    monkeypatch.setattr(anchor, "fetched", lambda _: True)
    monkeypatch.setattr(anchor, "sha256_of", fails)
    assert since_earlier(SimpleNamespace(commit=commit, recorded={}), one)[1].endswith(why)


def test_the_report_has_a_sentence_on_each_anchor_and_one_on_the_holdout(repository, one, monkeypatch):
    label, score = one.predictions[one.contract.label], one.predictions["score"]
    worse = compare(label, (label + score) / 2, score, one.evaluate)
    monkeypatch.setattr(anchor, "since_earlier", lambda *_: (Compared(400, worse), "on 400 customers"))

    def reported():
        head = run("rev-parse", "HEAD")
        with checked_out(head) as main:
            return vs_earlier(main, head, one, Comparison(400, 400, worse, ()), {"holdout_sha256": ["h1"]})

    repository.commit(100, README="no model yet")
    rules, sentences = reported()
    assert rules == ()
    assert sentences[0] == "Main's history has no earlier model to compare with."
    assert sentences[1].startswith("This holdout has judged 0 models of main, and each proposal that was not merged.")
    first = repository.commit(30, "m30")
    rules, sentences = reported()
    assert rules == ()
    day = f"{datetime.fromtimestamp(TODAY - 30 * 86_400, UTC):%F} ({first[:7]})"
    assert sentences[0] == f"Main's first model of {day} is its model of today, so it is compared once."
    assert "has judged 1 model of main" in sentences[1]
    repository.commit(1, "m1")
    rules, sentences = reported()
    assert {rule.kind for rule in rules} == {"vs_anchor"}
    assert [rule.metric for rule in rules if rule.status == "failed"] == list(one.gate.anchor.margins)
    assert sentences[0].startswith(f"Against main's first model of {day}, on 400 customers: ROC AUC -")
    assert "Brier score ↓ +" in sentences[0]
    assert "has judged 2 models of main" in sentences[1]


def test_the_report_has_the_total_since_the_first_model_which_the_anchor_forgets(repository, one, monkeypatch):
    """Fault in CI and the judge: in each 90 days a loss just below the anchor's margin.

    The report's section on main's earlier models has the total since main's first model, by recorded metrics.
    """
    monkeypatch.setattr(anchor, "since_earlier", lambda *_: (Compared(400, {}), "on 400 customers"))
    first = repository.commit(400, "m400", area=0.87)
    repository.commit(100, "m100", area=0.86)
    repository.commit(1, "m1")
    head = run("rev-parse", "HEAD")
    with checked_out(head) as main:
        _, sentences = vs_earlier(main, head, one, Comparison(400, 400, {}, ()), {"holdout_sha256": ["h1"]})
    (sentence,) = (each for each in sentences if each.startswith("Since main's first model of "))
    assert f"({first[:7]}), by the recorded metrics of both: ROC AUC -0.0200 (-0.0483 to +0.0083)." in sentence
    assert "Only gate.overall limits this total" in sentence


@pytest.fixture
def trained(clone, monkeypatch):
    """A clone whose main holds the results of its dvc.lock; the test runs in it."""
    clone.commit("Train")
    monkeypatch.chdir(clone.folder)
    return clone.ok("git", "rev-parse", "HEAD").strip()


def test_the_anchors_results_come_from_the_cache_or_the_remote_and_are_never_made_again(trained, clone, tmp_path):
    clone.ok("dvc", "remote", "add", "--local", "--default", "folder", str(tmp_path / "remote"))
    clone.ok("dvc", "push")
    with checked_out(trained, anchor.CLONE) as folder:
        assert fetched(folder)
        assert (folder / MODEL).read_bytes() == (clone.folder / MODEL).read_bytes()
    assert not anchor.CLONE.exists()
    md5 = anchor._model(clone.text("dvc.lock"))
    cached = clone.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    cached.unlink()
    with checked_out(trained, anchor.CLONE) as folder:
        assert fetched(folder), "from the remote"
    cached.unlink()
    (tmp_path / "remote/files/md5" / md5[:2] / md5[2:]).unlink()
    with checked_out(trained, anchor.CLONE) as folder:
        assert not fetched(folder)
        assert not (folder / MODEL).exists()


def test_the_code_of_an_earlier_commit_prepares_the_holdout_for_its_model(trained, clone, one, monkeypatch):
    """In CI the judge's code is on Python's path, and its folder is not the commit's."""
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with checked_out(trained, anchor.CLONE) as folder:
        assert fetched(folder)
        (folder / "stages/prepare.py").write_text("raise SystemExit('prepare: the code of this commit')")
        with pytest.raises(StageError, match="its code cannot prepare this branch's data: prepare: the code of this"):
            main_scores(folder, one.predictions, one.contract, None)


def test_every_metric_that_was_recorded_is_read(clone):
    assert set(anchor._recorded(clone.text(str(EVALUATION)))) == set(METRICS)
