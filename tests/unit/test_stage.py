import gc
import json
import math
import os
import pty
import re
import subprocess
import sys

from churn.core.dvc_files import refuse_damaged, stages_in
from churn.core.errors import StageError, fault_of, number_of
from churn.core.files import batches_in, read_json, replacing, write_json
from churn.core.paths import LOG
from churn.core.runner import run
from tests.conftest import ROOT

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


def test_a_file_takes_its_place_only_when_it_is_whole(tmp_path):
    path = tmp_path / "folder" / "file.txt"
    with replacing(path) as beside:
        beside.write_text("first")
    with pytest.raises(RuntimeError), replacing(path) as beside:  # noqa: PT012 - the fault comes half way
        beside.write_text("sec")
        raise RuntimeError
    assert path.read_text() == "first"
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]


def test_of_two_processes_that_write_one_file_each_writes_its_own_and_the_last_one_stays(tmp_path):
    path = tmp_path / "file.txt"
    program = "from churn.core.files import replacing; from pathlib import Path; import sys\n"
    program += "with replacing(Path(sys.argv[1])) as tmp: tmp.write_text('theirs')"
    (tmp_path / f".file.txt.{2**22 + 1}.part").touch()  # of a process that was killed: Linux has no such number
    with replacing(path) as beside:
        beside.write_text("ou")
        subprocess.run([sys.executable, "-c", program, path], cwd=ROOT, check=True)
        assert path.read_text() == "theirs"
        beside.write_text("ours")
    assert path.read_text() == "ours"
    assert [file.name for file in tmp_path.iterdir()] == ["file.txt"]


def test_json_is_sorted_and_refuses_what_json_cannot_hold(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"b": 1, "a": [None, 0.5]})
    assert path.read_text() == '{\n  "a": [\n    null,\n    0.5\n  ],\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match="nan"):
        write_json(path, {"a": math.nan})
    assert read_json(path) == {"a": [None, 0.5], "b": 1}


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[1]",
        "",
        "\xff",
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"a": 1, "a": 2}',
        '{"a": NaN}',
        f'{{"a": 1{"0" * 5_000}}}',
    ],
)
def test_a_broken_json_file_is_one_sentence(tmp_path, content):
    """Fault in files between stages: a JSON file is damaged, too deep, has a key twice or NaN.

    Its reader fails: `metrics/gate.json is no valid JSON: look at line 3; …`
    """
    path = tmp_path / "file.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(StageError, match=r"file\.json .*(dvc repro --force|is not text in UTF-8)"):
        read_json(path)


def test_a_file_that_is_far_too_large_is_not_read(tmp_path):
    """Fault in files between stages: a JSON file is far too large.

    Its reader fails without reading it.
    """
    path = tmp_path / "file.json"
    with path.open("wb") as file:
        file.truncate(30_000_000)
    with pytest.raises(StageError, match=r"file\.json has more than 20,000,000 bytes: it is not read"):
        read_json(path)


@pytest.mark.parametrize(
    "lock", ["stages: " + "[" * 100_000, "stages: {a: &a [*a]}", "stages: [1]", "- 1", "stages: {a: 1}"]
)
def test_a_lock_that_dvc_did_not_write_is_one_sentence(lock):
    with pytest.raises(StageError, match=r"^dvc\.lock (is no valid YAML: |holds no stages as DVC has them)"):
        stages_in(lock, "dvc.lock")


def test_a_stage_reads_its_files_beside_an_output_that_is_elsewhere_and_has_no_md5(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "train")
    (tmp_path / "x").write_text("other bytes")
    (tmp_path / "dvc.yaml").write_text("stages: {prepare: {cmd: a, outs: [x]}, train: {cmd: a, deps: [x]}}")
    outs = "[{path: x, md5: ab}, {path: 's3://bucket/key', etag: ab}]"
    (tmp_path / "dvc.lock").write_text(f"stages: {{prepare: {{outs: {outs}}}}}")
    with pytest.raises(StageError, match=r"^x is damaged"):
        refuse_damaged()


def test_the_rows_of_many_row_groups_come_in_their_order(tmp_path):
    pq.write_table(pa.table({"row": range(1_000)}), tmp_path / "rows.parquet", row_group_size=30)
    batches = [*batches_in(pq.ParquetFile(tmp_path / "rows.parquet"), rows=70)]
    assert pa.Table.from_batches(batches)["row"].to_pylist() == [*range(1_000)]
    assert max(batch.num_rows for batch in batches) == 70


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (StageError("no customers."), "train: no customers."),
        (FileNotFoundError(2, "No such file", "data/x"), "train: data/x does not exist; `dvc repro` makes what a"),
        (IsADirectoryError(21, "Is a directory", "data/x"), "train: data/x is a folder, where a file is read; after a"),
        (OSError(28, "No space left on device", "data/x"), "train: No space left on device: data/x."),
        (
            OSError("IO Error: 7590-VHVEG: No space left on device"),
            "train: No space left on device: DuckDB's temporary",
        ),
        (KeyboardInterrupt(), "train: interrupted."),
        (MemoryError("7590-VHVEG"), "train: the memory does not suffice in tests/unit/test_stage.py"),
        (OSError("Out of Memory Error: 7590-VHVEG"), "train: the memory does not suffice in tests/unit/test_stage.py"),
    ],
)
def test_a_fault_of_the_user_is_one_sentence_after_the_stages_name(monkeypatch, tmp_path, fault, said):
    def main():
        raise fault

    monkeypatch.setattr(sys, "argv", ["stages/train.py"])
    monkeypatch.setattr(gc, "freeze", lambda: None)  # this process goes on
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        run(main)
    assert str(exit_.value.code).startswith(said)
    assert said.startswith(f"train: {logged()[-1]['fault']}"[: len(said)])


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (
            "report/values.py",
            "DuckDB keeps to 1 GB in the report: run it on a machine with fewer processors, or with more",
        ),
        ("churn/quality/drift.py", "raise compute.memory in params.yaml, or add memory."),
    ],
)
def test_memory_that_does_not_suffice_says_to_raise_compute_memory_where_that_helps(file, said):
    def crash():
        raise OSError("Out of Memory Error: 7590-VHVEG")

    with pytest.raises(OSError, match="Out of Memory") as raised:
        exec(compile("crash()", ROOT / file, "exec"), {"crash": crash})
    place = f"tests/unit/test_stage.py, line {crash.__code__.co_firstlineno + 1}"
    assert fault_of(raised.value).startswith(f"the memory does not suffice in {place}: {said}")


def logged():
    return [json.loads(line) for line in LOG.read_text().splitlines()]


def test_the_log_says_which_stages_ran_how_long_and_what_became_of_them(monkeypatch, tmp_path, capsys):
    """Fault in messages: a stage or a command crashes.

    It exits with 1: `train: crashed with TypeError in stages/train.py, line 90; run it on a terminal to read more.`
    """

    def crash():
        raise RuntimeError("7590-VHVEG")

    monkeypatch.setattr(sys, "argv", ["stages/train.py"])
    monkeypatch.setattr(gc, "freeze", lambda: None)
    monkeypatch.chdir(tmp_path)
    run(lambda: None)
    assert [line["fault"] for line in logged()] == ["was killed", None]
    assert logged()[-1]["seconds"] >= logged()[0]["seconds"] >= 0
    with pytest.raises(SystemExit) as exit_:
        run(crash)
    assert re.fullmatch(r"crashed with RuntimeError in tests/unit/test_stage\.py, line \d+; .*", logged()[-1]["fault"])
    assert "7590" not in LOG.read_text() + str(exit_.value) + "".join(capsys.readouterr())


@pytest.mark.parametrize("status", [0, None, 3])
def test_a_stage_that_calls_sys_exit_has_failed(monkeypatch, tmp_path, status):
    monkeypatch.setattr(sys, "argv", ["stages/train.py"])
    monkeypatch.setattr(gc, "freeze", lambda: None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        run(lambda: sys.exit(status))
    assert str(exit_.value).startswith("train: sys.exit was called in tests/unit/test_stage.py, line ")


SECRET = """if True:
    import sys, warnings; from churn.core.start import start_up; start_up()
    from churn.core.errors import StageError; from churn.core.runner import run
    sys.argv = ["train"]
    def main():
        warnings.warn("7590-VHVEG")
        try:
            raise ValueError("7590-VHVEG")
        except ValueError as error:
            raise StageError("a value is no date.") from error
    run(main)"""


def test_the_text_of_another_librarys_error_is_shown_on_a_terminal_and_nowhere_else(tmp_path):
    command = [sys.executable, "-c", SECRET]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["train: UserWarning at <string>, line 6", "train: a value is no date."]
    ours, theirs = pty.openpty()
    subprocess.run(command, check=False, cwd=tmp_path, env=environment, stdout=theirs, stderr=theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(theirs)
    os.close(ours)
    assert "train: ValueError: 7590-VHVEG" in shown
    assert "7590" not in (tmp_path / LOG).read_text()


MODULES = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for folder in ("churn", "report", "stages")
    for file in sorted((ROOT / folder).rglob("*.py"))
]


@pytest.mark.parametrize("program", [*(name for name in MODULES if "stages." in name), "report.__main__"])
def test_a_program_sets_up_its_process_before_it_imports_a_library(program):
    text = ROOT.joinpath(*program.split(".")).with_suffix(".py").read_text()
    before, called, _ = text.partition("    start_up(")
    assert called
    imported = {one.split(".")[0] for one in re.findall(r"(?m)^ *(?:import|from) ([\w.]+)", before)}
    assert imported - sys.stdlib_module_names == {"churn"}
    assert re.findall("(?m)^ *from churn.*$", before) == ["    from churn.core.start import start_up"]


def test_an_error_while_a_module_is_imported_is_told_without_its_text(tmp_path):
    code = "from churn.core.start import start_up; start_up(); raise ValueError('7590-VHVEG')"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "crashed with ValueError" in done.stderr
    assert "7590" not in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 rows of it"), (1, "1 row of it"), (1.2, "1 row of it"), (1_100, "1,100 rows of it")]
)
def test_one_thing_is_told_in_the_singular(count, said):
    assert number_of(count, "rows of it") == said


def test_a_character_that_the_locale_lacks_is_escaped(tmp_path):
    """Fault in files between stages: the terminal or the log takes ASCII only.

    Other characters are escaped, as in `\\u2193`. The exit status is 0.
    """
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-c", "from churn.core.start import start_up; start_up(); print('\\u2193 \\xe9')"],
        check=False,
        cwd=tmp_path,
        env=environment | {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("\\u2193 \\xe9\n", "")
