"""A stage that is given a broken file ends with one sentence, or with whole results; it never crashes or hangs.

Hypothesis breaks a file that a person or an earlier stage wrote, and a stage that reads it runs on it. Then this holds:

- it ends within SECONDS, with 0 or 1, and prints no traceback and no "crashed with";
- with 1, its last line is one sentence that begins with the stage's name;
- with 0, each of its results is there and can be read, and they are the former ones if the file means the same;
- with 0, a JSON file of an earlier stage has every key that it had, with a value of the same kind, and a snapshot has
  a row for each record of the CSV file;
- each result is as it was, gone, or whole; nothing else has changed, and no half-written file is left.
"""

import csv
import hashlib
import io
import json
from datetime import date, datetime
from pathlib import Path

from churn.config.contract import load_contract
from churn.core.files import md5_of
from churn.core.paths import (
    CONTRACT,
    EVALUATION,
    GATE,
    LOCK,
    MODEL,
    PARAMS,
    PLOTS,
    PREDICTIONS,
    RAW,
    ROWS,
    TEST,
    TRAIN,
    VALIDATION,
)
from churn.core.results import read_result
from churn.modeling.model import hash_file, load_model, read_scores, read_table
from tests.conftest import ROOT, Clone
from tests.frozen import copy_of

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

SECONDS = 120  # on a machine that is busy with other things, too
SOURCE = Path("customers.csv")
PROFILE, QUERY = Path("profile.json"), Path("source.sql")
CURVES = [
    PLOTS / f"{name}.csv" for name in ("calibration", "confusion", "gains", "importance", "precision_recall", "roc")
]
OUTS = {
    "fetch": [RAW],
    "prepare": [TRAIN, TEST, ROWS],
    "validate": [VALIDATION],
    "train": [MODEL, hash_file(MODEL)],
    "evaluate": [PREDICTIONS, EVALUATION, *CURVES, PLOTS / "scores.csv"],
    "gate": [GATE],
    "register": [],
}
NOWHERE = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}  # refuses at once
VALUES = [None, True, False, 0, 1, -1, 3, 1.5, 0.0, 1e-320, 1e308, -1e308, float("nan"), float("inf"), 10**30, 10**400]
VALUES += ["", " ", "x", "0", "NaN", "2026-11-24", "é", "\u202eא", "\0", "\ud800", "x\ny: [", "'\"`;--", "x" * 10_000]
VALUES += [[], [[]], {}, {"": {}}, [1, 2], ["x"], {"x": 1}, {"min": 2, "max": 1}, [None], {"a": {"b": {"c": []}}}]
LINES = ["? [a, b]\n: 1\n", "2026-11-24: 1\n", "1: 1\n", "a: &a [*a]\n", "<<: {a: 1}\n", "!!python/name:os.system x\n"]
LINES += [
    "\t\n",
    "%YAML 9\n",
    "---\n",
    "...\n",
    "x: [\n",
    "'\n",
    "x: !!binary aGk=\n",
    "~: 1\n",
    "x: 1e999\n",
    '"\n',
    ",,\n",
]
BYTES = [
    b"\0",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xe9",
    b'"',
    b'""',
    b"'",
    b"\r",
    b"\n",
    b",",
    b";",
    b"\xed\xa0\x80",
    b"\x1a",
]


class Bench:
    """A small pipeline that has run, to be broken and restored."""

    def __init__(self, folder: Path, code: Path):
        self.folder = folder
        folder.mkdir()
        self.clone = Clone(folder)
        self.clone.environment |= {"PYTHONPATH": str(code), **NOWHERE}
        with (ROOT / "data/sample/telco_customers.csv").open("rb") as sample:
            (folder / SOURCE).write_bytes(b"".join(next(sample) for _ in range(1_201)))
        for name in (CONTRACT, QUERY):
            (folder / name).write_bytes(copy_of(name).read_bytes())
        params = YAML(typ="safe").load(copy_of(PARAMS))
        params["fetch"]["source"] = str(SOURCE)
        params["train"]["parameters"] |= {"max_iter": 10, "learning_rate": 0.3}
        params["gate"] |= {"min_slice_rows": 5, "overall": {"roc_auc": {"min": 0.5}}}
        params["gate"]["slices"] = {"new_customers": {"roc_auc": {"min": 0.1}}}
        params["gate"]["every_slice"] = dict.fromkeys(params["gate"]["every_slice"], 0.001)
        params["gate"]["every_slice"] |= {"max_roc_auc_gap": 0.999, "calibration_error": 0.999}
        YAML(typ="safe").dump(params, folder / PARAMS)
        for stage in ("fetch", "prepare", "profile", "validate", "train", "evaluate", "gate"):
            if stage == "profile":
                self.clone.ok("python", "-m", "churn", "profile")
            else:
                status, printed = self.run(stage)
                assert status == 0, printed
        self.lock()
        self.good = self.files()

    def run(self, stage: str) -> tuple[int, str]:
        log = self.folder.with_suffix(".log")
        process = self.clone.start(log, "python", "-m", f"stages.{stage}")
        try:
            return process.wait(SECONDS), log.read_text(encoding="utf-8", errors="replace")
        finally:
            process.kill()

    def lock(self) -> None:
        """Write the lock of the files as they are, so that register looks further."""
        paths = (MODEL, TRAIN, TEST, ROWS, VALIDATION, EVALUATION, GATE)
        outs = [{"path": str(path), "md5": md5_of(self.folder / path)} for path in paths]
        (self.folder / LOCK).write_text(json.dumps({"stages": {"all": {"outs": outs}}}))

    def files(self) -> dict[Path, bytes]:
        found = (path for path in self.folder.rglob("*") if path.is_file() and ".cache" not in path.parts)
        return {path.relative_to(self.folder): path.read_bytes() for path in found}

    def put(self, path: Path, content: bytes) -> None:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_bytes(content)

    def broken(self, path: Path, content: bytes, stage: str) -> None:
        """Run a stage while `path` has the content, and say whether all holds that the module says."""
        self.put(path, content)
        if path == TRAIN and stage == "train":
            validation = json.loads(self.good[VALIDATION])
            validation["tables"]["train"]["sha256"] = hashlib.sha256(content).hexdigest()
            self.put(VALIDATION, json.dumps(validation).encode())
        if path == MODEL:
            self.put(hash_file(MODEL), hashlib.sha256(content).hexdigest().encode())
        if stage == "register":
            self.lock()
        before = self.files()
        try:
            status, printed = self.run(stage)
            self.check(before, self.files(), status, printed, stage)
            if not status:
                self.check_results(path, content, stage)
        finally:
            for name in self.files():
                if name not in self.good:
                    (self.folder / name).unlink()
            for name, former in self.good.items():
                self.put(name, former)

    def check(self, before, after, status, printed, stage) -> None:
        assert status in (0, 1), f"exit status {status}: {printed}"
        assert "Traceback" not in printed
        assert "crashed with" not in printed
        assert not [name for name in after if name.name.endswith(".part")]
        if status:
            assert (printed.splitlines() or [""])[-1].startswith(f"{stage}: "), printed
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        assert changed <= {*OUTS[stage]}, changed
        for name in changed & after.keys():
            if name.suffix == ".json":
                read_result(self.folder / name)
            elif name.suffix == ".parquet":
                pq.read_table(self.folder / name)

    def check_results(self, path, content, stage) -> None:
        after, place = self.files(), self.folder
        assert {*OUTS[stage]} <= after.keys()
        contract = load_contract(place / CONTRACT)
        match stage:
            case "fetch":
                table = pq.read_table(place / RAW)
                assert contract.key in table.column_names
                if path == SOURCE:
                    records = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
                    assert table.num_rows == sum(bool(one) for one in records) - 1
            case "prepare":
                rows = read_result(place / ROWS)
                assert [len(read_table(place / one, contract)[2]) for one in (TRAIN, TEST)] == [
                    rows["train"],
                    rows["test"],
                ]
            case "validate":
                assert read_result(place / VALIDATION)["passed"]
            case "train":
                load_model(place / MODEL)
            case "evaluate":
                assert len(read_scores(place / PREDICTIONS)) == read_result(place / EVALUATION)["rows"]
            case "gate":
                assert read_result(place / GATE)["verdict"] == "passed"
        if path in (ROWS, VALIDATION, EVALUATION, GATE, PROFILE):
            assert alike(json.loads(self.good[path]), json.loads(content))
        if path.suffix == ".json" and json.loads(content) == json.loads(self.good[path]):
            assert {name: after[name] for name in OUTS[stage]} == {name: self.good[name] for name in OUTS[stage]}


def alike(good, found) -> bool:
    """Whether `found` has every key of `good`, and values of the same kinds; a number may be missing where one is."""
    number = (int, float, type(None))
    if isinstance(good, dict):
        return isinstance(found, dict) and all(alike(value, found.get(name, ...)) for name, value in good.items())
    if isinstance(good, list):
        return isinstance(found, list) and all(alike(good[0], one) for one in found if good)
    if isinstance(good, bool | str):
        return type(found) is type(good)
    return isinstance(found, number) and not isinstance(found, bool)


@pytest.fixture(scope="module")
def bench(tmp_path_factory, finished) -> Bench:
    return Bench(tmp_path_factory.mktemp("fuzz") / "repository", finished.folder)


places = st.integers(0, 10_000)


def spots(value) -> list[tuple[object, object]]:
    """Return each container and key of a JSON value, outermost first."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [spot for key in keys for spot in [(value, key), *spots(value[key])]]


@st.composite
def structure(draw, good: bytes, is_yaml: bool = False) -> bytes:
    """Break the structure of a JSON or YAML file: keys dropped, renamed, doubled, values replaced, swapped, wrapped."""
    value = YAML(typ="safe").load(good.decode()) if is_yaml else json.loads(good)
    for _ in range(draw(st.integers(1, 2))):
        found = spots(value)
        if not found:
            break
        inside, key = found[draw(places) % len(found)]
        match draw(st.sampled_from(["drop", "rename", "replace", "replace", "replace", "swap", "wrap"])):
            case "drop":
                del inside[key]
            case "rename" if isinstance(inside, dict):
                inside[draw(st.sampled_from(["x", "", "\0", f"{key} ", f"{key}".upper()]))] = inside.pop(key)
            case "swap":
                other, place = found[draw(places) % len(found)]
                if not spots(other[place]) and not spots(inside[key]):
                    inside[key], other[place] = other[place], inside[key]
            case "wrap":
                inside[key] = draw(st.sampled_from([[inside[key]], {"x": inside[key]}, str(inside[key])]))
            case _:
                inside[key] = draw(st.sampled_from(VALUES))
    text = json.dumps(value, ensure_ascii=draw(st.booleans()), default=str)
    return text.encode("utf-8", errors="surrogatepass")


@st.composite
def content(draw, good: bytes) -> bytes:
    """Break the bytes of a file: flipped, cut off, left out, doubled, put in between, in another encoding."""
    for _ in range(draw(st.integers(1, 2))):
        start = draw(places) * (len(good) + 1) // 10_001
        end = start + draw(st.integers(0, 200))
        match draw(
            st.sampled_from(["flip", "cut", "leave out", "double", "put", "put", "line", "line", "encode", "empty"])
        ):
            case "flip" if start < len(good):
                good = good[:start] + bytes([good[start] ^ 1 << draw(st.integers(0, 7))]) + good[start + 1 :]
            case "cut":
                good = good[:start]
            case "leave out":
                good = good[:start] + good[end:]
            case "double":
                good = good[:end] + good[start:]
            case "put":
                good = good[:start] + draw(st.sampled_from(BYTES)) + good[start:]
            case "line":
                start = good.rfind(b"\n", 0, start) + 1
                good = good[:start] + draw(st.sampled_from(LINES)).encode() + good[start:]
            case "encode":
                good = good.decode("latin-1").encode(draw(st.sampled_from(["utf-16", "utf-8", "utf-8-sig"])))
            case "empty":
                good = draw(st.sampled_from([b"", b"\n", b"\0" * 100, b"{}", b"[]", b"null", b"PAR1PAR1"]))
    return good


OTHERS = [None, "x", b"\xff", 1, 2.5e18, float("nan"), True, [1], {"x": 1}, date(2026, 11, 24), datetime(2026, 11, 24)]


@st.composite
def table(draw, good: bytes) -> bytes:
    """Break a Parquet file: a column dropped, renamed, added, or of other values; columns reordered, or rows lost."""
    given = pq.read_table(io.BytesIO(good))
    names, rows = given.column_names, given.num_rows
    at = draw(places) % len(names)
    match draw(st.sampled_from(["drop", "rename", "value", "value", "null", "add", "columns", "rows", "nothing"])):
        case "drop":
            given = given.remove_column(at)
        case "rename":
            given = given.rename_columns(
                [draw(st.sampled_from(["x", name.upper()])) if name == names[at] else name for name in names]
            )
        case "value":
            given = given.set_column(at, names[at], pa.array([draw(st.sampled_from(OTHERS))] * rows))
        case "null":
            values = pa.chunked_array([pa.nulls(rows, given.schema.types[at])])
            given = given.set_column(
                at, names[at], pc.if_else(pa.array([True] * 9 + [False] * (rows - 9)), values, given[at])
            )
        case "add":
            given = given.append_column(draw(st.sampled_from(["x", names[at]])), pa.array(["x"] * rows))
        case "columns":
            given = given.select(names[::-1])
        case "rows":
            given = given.slice(0, draw(st.sampled_from([0, 1, rows // 2])))
        case _:
            given = given.select([])
    with io.BytesIO() as written:
        pq.write_table(given, written)
        return written.getvalue()


def fuzzed(examples):
    return settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )


@fuzzed(45)
@given(data=st.data())
def test_a_broken_file_of_settings_is_one_sentence(bench, data):
    path, stages = data.draw(
        st.sampled_from(
            [
                (PARAMS, ("fetch", "prepare", "train", "evaluate", "gate")),
                (CONTRACT, ("fetch", "prepare", "validate", "train", "evaluate")),
            ]
        )
    )
    good = bench.good[path]
    bench.broken(path, data.draw(structure(good, True) | content(good)), data.draw(st.sampled_from(stages)))


@fuzzed(60)
@given(data=st.data())
def test_a_broken_json_file_between_stages_is_one_sentence(bench, data):
    path, stage = data.draw(
        st.sampled_from(
            [
                (PROFILE, "validate"),
                (ROWS, "validate"),
                (ROWS, "evaluate"),
                (VALIDATION, "train"),
                (VALIDATION, "gate"),
                (EVALUATION, "gate"),
                (EVALUATION, "register"),
                (GATE, "register"),
            ]
        )
    )
    good = bench.good[path]
    bench.broken(path, data.draw(structure(good) | content(good)), stage)


@fuzzed(40)
@given(data=st.data())
def test_a_broken_source_or_query_is_one_sentence_and_no_row_is_lost_in_silence(bench, data):
    path = data.draw(st.sampled_from([SOURCE, SOURCE, QUERY]))
    bench.broken(path, data.draw(content(bench.good[path])), "fetch")


@fuzzed(30)
@given(data=st.data())
def test_a_broken_table_between_stages_is_one_sentence(bench, data):
    path, stage = data.draw(
        st.sampled_from(
            [(RAW, "prepare"), (TRAIN, "validate"), (TEST, "validate"), (TRAIN, "train"), (TEST, "evaluate")]
        )
    )
    good = bench.good[path]
    bench.broken(path, data.draw(table(good) | content(good)), stage)


@fuzzed(25)
@given(data=st.data())
def test_a_broken_model_with_the_right_hash_is_one_sentence(bench, data):
    bench.broken(MODEL, data.draw(content(bench.good[MODEL])), "evaluate")
