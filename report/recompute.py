"""Recomputes the tables' features from the snapshot, by the feature functions of this checkout, and compares them.

A child process imports `churn.features` from copies of prepare's deps, without the snapshot. The time, the order and
index of the rows, the batches and the environment are others there than in prepare. So a feature that depends on them
is found, and so is a column that prepare changes after the feature functions, which nobody would do when scoring.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import TimeoutExpired

from churn.config.contract import Contract, load_contract
from churn.core.dvc_files import filled, stages_in
from churn.core.errors import number_of
from churn.core.files import batches_in, read_yaml
from churn.core.paths import PARAMS, RAW, TEST, TRAIN
from churn.registry.isolation import FAULT, fault_text, isolated_process
from report.sample import sampled

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

PIPELINE, FEATURES = Path("dvc.yaml"), Path("churn/features.py")
TRAINING_ROWS = 100_000  # of a larger training table, as many rows at equal distances; the holdout is compared whole
TOLERANCE = 1e-12  # of a number: the last digits of a sum may depend on the size of the batch
SECONDS = 900
FILES_SHOWN = 3


@contextmanager
def recomputing() -> Iterator[Callable[[], Iterator[str]]]:
    """Start the child process, and yield a function that waits for it and yields a sentence for each difference.

    Raises an error of Arrow's or a StageError when a table or the snapshot cannot be read.
    """
    with isolated_process("recompute") as (process, folder):
        contract = load_contract()
        train, test, raw = (sampled(table, contract) for table in (TRAIN, TEST, RAW))
        tables = {"the holdout": pq.read_table(test), "the training table": _sample(train, contract.key)}
        keys = pa.concat_arrays([chunk for one in tables.values() for chunk in one[contract.key].chunks])
        fetched = _rows(raw, contract.key, keys)
        withheld = [name for name in contract.withheld if name in fetched.column_names]
        snapshot = fetched.drop_columns(withheld)
        pq.write_table(snapshot, folder / "customers.parquet", compression="none")
        code = folder / "code"
        asked = {
            "code": str(code),
            "customers": str(folder / "customers.parquet"),
            "features": str(folder / "features.parquet"),
            "accessed": str(folder / "accessed.json"),
            "fault": str(folder / FAULT),
            "allowed": _copy_deps(code),
        }
        with suppress(BrokenPipeError):  # it has ended; its status is looked at below
            process.stdin.write(json.dumps(asked) + "\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]

        def differences() -> Iterator[str]:
            try:
                process.communicate(timeout=SECONDS)
            except TimeoutExpired:
                limit = number_of(SECONDS / 60, "minutes")
                yield f"{FEATURES} does not compute the features within {limit}: make it faster"
                return
            # protection: feature functions read what prepare depends on
            for accessed in _accessed(folder / "accessed.json", code):
                yield f"{FEATURES} {accessed}"
            if process.returncode or not (folder / "features.parquet").exists():
                why = fault_text(folder / FAULT, process.returncode)
                yield f"{FEATURES} fails on the snapshot's rows in a process without this checkout: {why}"
                return
            made = pq.read_table(folder / "features.parquet")
            places = pc.index_in(made[contract.key], value_set=fetched[contract.key].combine_chunks())
            for name in withheld:
                made = made.append_column(name, fetched[name].take(places))
            for name, table in tables.items():
                yield from _differences(name, table, made, contract, {*fetched.column_names})

        yield differences


def _differences(name: str, table: pa.Table, made: pa.Table, contract: Contract, fetched: set[str]) -> Iterator[str]:
    """Yield a sentence for each column of a table that is not what was `made` again; `fetched` are the snapshot's."""
    places = pc.index_in(table[contract.key], value_set=made[contract.key].combine_chunks())
    if unknown := places.null_count:
        yield f"{name}: {number_of(unknown, 'customers')} unknown to the snapshot: let prepare add none"
        table, places = table.filter(places.is_valid()), places.drop_null()
    made = made.take(places)
    # protection: the features are computed again
    for column in dict.fromkeys((*table.column_names, *made.column_names)):
        if column == contract.label:
            continue
        if column not in table.column_names:
            yield f"{name} lacks {column}, which {FEATURES} makes of the snapshot: let prepare keep it"
        elif column not in made.column_names:
            yield f"{name} has {column}, which is neither in the snapshot nor made by {FEATURES}: compute it there"
        elif rows := _different(table[column], made[column]):
            of = f"{name}: {column} of {rows:,} of {number_of(len(table), 'customers')}"
            if column in fetched:
                yield f"{of} is not that of the snapshot: remove what changes it after the query, as scoring would not"
            else:
                yield (
                    f"{of} differs when computed again, at another time, in another order and without this environment:"
                    f" let {FEATURES} compute it from the customer's own row alone"
                )


def _different(one: pa.ChunkedArray, other: pa.ChunkedArray) -> int:
    """Return in how many rows two columns differ."""
    try:
        other = other.cast(one.type)  # pandas' columns have other types, such as float64 for integers with nulls
    except pa.ArrowException:
        return len(one)
    same = pc.equal(one, other)
    if pa.types.is_floating(one.type):
        gap, size = pc.abs(pc.subtract(one, other)), pc.abs(other)
        same = pc.or_(same, pc.less_equal(gap, pc.multiply(size, TOLERANCE)))
    same = pc.or_(pc.fill_null(same, False), pc.and_(one.is_null(), other.is_null()))
    return len(one) - int(pc.sum(same).as_py() or 0)


def _sample(path: Path, key: str) -> pa.Table:
    """Return the rows of a table, or of a larger one TRAINING_ROWS at equal distances."""
    keys = pq.read_table(path, columns=[key])[key].combine_chunks()
    return _rows(path, key, keys.take(pa.array(range(0, len(keys), len(keys) // TRAINING_ROWS + 1))))


def _rows(path: Path, key: str, keys: pa.Array) -> pa.Table:
    """Return the rows of a Parquet file that have one of `keys`, read batch by batch."""
    source = pq.ParquetFile(path)
    batches = [batch.filter(pc.is_in(batch[key], value_set=keys)) for batch in batches_in(source)]
    return pa.Table.from_batches(batches, source.schema_arrow)


def _copy_deps(code: Path) -> list[str]:
    """Copy the deps of prepare, but not the snapshot, to the folder `code`; return those outside of this checkout."""
    params = read_yaml(PARAMS.read_text(encoding="utf-8"), str(PARAMS))
    deps = stages_in(PIPELINE.read_text(encoding="utf-8"), str(PIPELINE))["prepare"]["deps"]
    outside = []
    for dep in (Path(filled(str(one), params)) for one in deps):
        if not dep.resolve().is_relative_to(Path().resolve()):
            outside.append(str(dep.absolute()))
        elif dep != RAW and dep.exists():
            (code / dep).parent.mkdir(parents=True, exist_ok=True)
            if dep.is_dir():
                shutil.copytree(dep, code / dep, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(dep, code / dep)
    return outside


def _accessed(listed: Path, code: Path) -> Iterator[str]:
    """Yield what the child reports that it accessed, in words; a path that is no file's could be a customer's key."""
    instead = "let it use the rows that it is given"
    words = []
    with suppress(OSError, ValueError, TypeError):
        for entry in map(str, json.loads(listed.read_bytes()[:1_000_000])):
            path = Path(entry)
            for folder in (code.resolve(), Path().resolve()):
                path = path.relative_to(folder) if path.is_relative_to(folder) else path
            if "/" not in entry:
                words.append(
                    f"{'connects to a server' if entry == 'socket.connect' else 'starts a process'}: {instead}"
                )
            elif (is_raw := RAW in (path, path.parent)) or not path.exists():
                words.append(f"opens {RAW if is_raw else 'a file that does not exist'}: {instead}")
            else:
                words.append(f"opens {path}: name it in the deps of prepare, in dvc.yaml")
    yield from list(dict.fromkeys(words))[:FILES_SHOWN]
