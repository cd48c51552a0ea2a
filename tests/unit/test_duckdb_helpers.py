"""The connections to DuckDB, which every stage and command line shares."""

import ast
import re
import sys
import tempfile
import unicodedata

import churn.data.duckdb_helpers
from churn.core.runner import attempt
from churn.data.duckdb_helpers import blank, connection, parquet_views
from churn.data.engines import duckdb_fault
from tests.conftest import ROOT

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest


def test_a_connection_reads_and_writes_the_files_that_it_is_given_and_changes_no_setting(tmp_path):
    given, other = tmp_path / "it's given.csv", tmp_path / "other.csv"
    given.write_text("a\n1\n")
    other.write_text("a\n2\n")
    target, variable = tmp_path / "target.parquet", [{"a": 1}]
    with connection(given, target) as database:
        quoted = str(given).replace("'", "''")
        database.execute(f"COPY (SELECT * FROM read_csv('{quoted}')) TO '{target}' (FORMAT parquet)")
        assert database.execute(f"SELECT a FROM '{target}'").fetchall() == [(1,)]
        for statement in (
            f"SELECT * FROM read_csv('{other}')",
            f"SELECT * FROM read_text('{tmp_path}/../../etc/passwd')",
            f"SELECT * FROM glob('{tmp_path}/*')",
            f"COPY (SELECT 1) TO '{tmp_path}/more.csv'",
            f"EXPORT DATABASE '{tmp_path}/more'",
            f"ATTACH '{tmp_path}/more.db'",
            "INSTALL httpfs",
            "LOAD httpfs",
            "SET enable_external_access = true",
            "SET lock_configuration = false",
            "RESET lock_configuration",
            "SET temp_directory = '/tmp'",
            "SET allowed_paths = ['/etc/passwd']",
            "SELECT * FROM variable",
        ):
            with pytest.raises(duckdb.Error):
                database.execute(statement)
    assert variable
    assert sorted(path.name for path in tmp_path.iterdir()) == ["it's given.csv", "other.csv", "target.parquet"]


def test_a_locked_connection_still_spills_to_the_disk(monkeypatch):
    monkeypatch.setattr(churn.data.duckdb_helpers, "duckdb_limit", lambda _: "40MB")
    with connection() as database:
        database.execute("CREATE TEMP TABLE wide AS SELECT hash(range)::VARCHAR || range AS a FROM range(2000000)")
        assert database.execute("SELECT count(*) FROM duckdb_temporary_files()").fetchall()[0][0] > 0


def test_a_disk_that_is_full_where_duckdb_spills_is_named_and_no_table(monkeypatch, tmp_path):
    """Fault in files between stages: the disk of the temporary files is full while a table is sorted or joined.

    The stage fails: `No space left on device: DuckDB's temporary files fill /tmp; free some, or set TMPDIR to a larger
    disk.`
    """
    connect = duckdb.connect

    def with_a_small_disk(config):
        database = connect(config=config | {"memory_limit": "20MB"})
        database.execute("SET max_temp_directory_size = '1MB'")
        return database

    monkeypatch.setattr(duckdb, "connect", with_a_small_disk)
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"a": [f"{number:060}" for number in range(400_000)]}), path)

    def spill():
        with parquet_views({"wide": path}) as database:
            database.execute("FROM wide ORDER BY a").fetchall()

    def write():
        with parquet_views({"wide": path}):
            raise duckdb.IOException("IO Error: Could not write file: No space left on device")

    status, fault = attempt("validate", spill)
    assert attempt("validate", write) == (status, fault)
    assert status == 1
    assert fault == (
        f"No space left on device: DuckDB's temporary files fill {tempfile.gettempdir()}; free some, or set TMPDIR to a"
        " larger disk."
    )
    assert fault == f"{duckdb_fault(duckdb.Error('Out of Memory Error: failed to offload data block of size 1'), '')}."


def test_a_blank_of_any_alphabet_at_either_end_is_found_and_no_other_character_is():
    blanks = {*"\t\n\f\r", *(one for one in map(chr, range(sys.maxunicode)) if unicodedata.category(one)[0] == "Z")}
    others = {*"!~a0\u0301\u200d\U0001f600", "\x7f", "é"}
    expected = {"": True} | dict.fromkeys(others, False) | {f"a{one}b": False for one in blanks | others}
    for one in blanks | others:
        expected |= dict.fromkeys((one, one + "a", "a" + one, "é" + one, one + "é"), one in blanks)
    with connection() as database:
        database.execute("CREATE TEMP TABLE texts AS SELECT unnest($texts) AS text", {"texts": [*expected]})
        assert dict(database.execute(f"SELECT text, {blank('text')} FROM texts").fetchall()) == expected


def test_no_other_module_opens_a_connection_of_its_own():
    opening = re.compile(r"duckdb\.(connect|sql|query|execute|read_csv|from_\w+)")
    for file in [*ROOT.glob("churn/**/*.py"), *ROOT.glob("stages/*.py"), *ROOT.glob("report/*.py")]:
        calls = [one.func for one in ast.walk(ast.parse(file.read_text())) if isinstance(one, ast.Call)]
        ours = [one for one in map(ast.unparse, calls) if opening.fullmatch(one)]
        assert bool(ours) == (file.name == "duckdb_helpers.py"), file
