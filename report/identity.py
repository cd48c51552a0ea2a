"""Columns and customers of this checkout that are main's under another name."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from churn.config.contract import Column, Contract, load_contract
from churn.core.errors import StageError
from churn.core.files import batches_in
from churn.core.paths import RAW, TEST, TRAIN
from churn.data.duckdb_helpers import columns_of, identifier, parquet_views
from churn.gate.baseline import Trained
from report.data import OtherKeys
from report.sample import sampled
from report.settings import mains_contract
from report.values import TWINS, beyond_chance, coarse, expected_alike, kinds

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

NAMED = 5  # columns in a message


def renamed_features(main: Path) -> dict[str, str]:
    """Return the features that have another name than on main, by main's, read from the tables of both.

    Such a feature is declared alike, and has main's value for every customer that both have: more than half of main's.
    """
    theirs, ours = mains_contract(main), load_contract()
    pairs = [
        (before, after)
        for before in theirs.features
        for after in ours.features
        if before not in ours.columns
        and after not in theirs.columns
        and _declared(theirs.columns[before]) == _declared(ours.columns[after])
    ]
    if not pairs:
        return {}
    tables = {"train_before": main / TRAIN, "test_before": main / TEST, "train_after": TRAIN, "test_after": TEST}
    with parquet_views(tables) as database:
        differ = [
            f"count(*) FILTER (before.{identifier(old)} IS DISTINCT FROM after.{identifier(new)})" for old, new in pairs
        ]
        rows, shared, *counts = database.execute(
            f"""
            WITH before AS (FROM train_before UNION ALL BY NAME FROM test_before),
                after AS (FROM train_after UNION ALL BY NAME FROM test_after)
            SELECT (SELECT count(*) FROM before), count(*), {", ".join(differ)}
            FROM before JOIN after
                ON before.{identifier(theirs.key)}::VARCHAR = after.{identifier(ours.key)}::VARCHAR
            """
        ).fetchall()[0]
    names: dict[str, str] = {}
    for (before, after), count in zip(pairs, counts, strict=True):
        if not count and shared > rows / 2 and before not in names and after not in names.values():
            names[before] = after
    return names


def _declared(column: Column) -> tuple[object, ...]:
    return column.type, frozenset(column.values or ()), column.nullable, column.computed


def other_keys(main: Path, contract: Contract) -> OtherKeys:
    """Find the customers whose key is new, and whose columns are those of a customer whose key is gone.

    Of customers with several rows, the group is the one that is new or gone. The label, which time may change, does not
    count. Where contents are not unique, a customer like one that main was trained on counts as that one. Raises
    StageError where the other new customers are near-duplicates of those who are gone, beyond chance: main's training
    customers could not be told from new ones. By chance as many are as of those of their kind who are gone among
    themselves; see `expected_alike`.
    """
    tables = {"before": main / RAW, "after": RAW, "trained": main / TRAIN}
    key = identifier(contract.key)
    with parquet_views(tables) as database:
        before, after = columns_of(database, "before"), columns_of(database, "after")
        shared = [name for name, kind in after.items() if before.get(name) == kind]
        columns = [identifier(name) for name in shared if name not in (contract.key, contract.label, contract.group)]
        customer = identifier(contract.customer if contract.customer in before else contract.key)
        content = f"hash({', '.join(columns)})" if columns else "0"
        features = [name for name in contract.fetched_features if name in shared]
        near = [coarse(name, contract.columns[name].type) for name in features]
        nearly = f"hash({', '.join(near)})" if near else "0"
        for table, one, other in (("gone", "before", "after"), ("new", "after", "before")):
            database.execute(
                f"CREATE TEMP TABLE {table} AS SELECT {key}, {customer}::VARCHAR AS customer, {content} AS content,"
                f" {nearly} AS nearly FROM {one}"
                f" WHERE {customer}::VARCHAR NOT IN"
                f" (SELECT {customer}::VARCHAR FROM {other} WHERE {customer} IS NOT NULL)"
            )
        database.execute("CREATE TEMP VIEW lost AS FROM gone WHERE content NOT IN (SELECT content FROM new)")
        database.execute("CREATE TEMP VIEW came AS FROM new WHERE content NOT IN (SELECT content FROM gone)")
        # protection: customers with other keys are matched
        if counts := _beyond_chance(database, ("lost", "came"), ("nearly", nearly), near, key):
            (customers,) = database.execute("SELECT count(*) FROM before").fetchall()[0]
            gone, new, alike = counts
            raise StageError(
                f"{gone:,} of main's {customers:,} keys in {contract.key} are gone and {new:,} are new, of which"
                f" {alike:,} have nearly the columns of one that is gone, so nobody knows on which of these customers"
                " main was trained; keep the keys as main has them"
            )
        # Of many who came and went, a few are equal by chance.
        if not _beyond_chance(database, ("gone", "new"), ("content", content), near, key, least=0):
            database.execute("DELETE FROM gone")
        trained_on = database.sql(
            f"SELECT {key} FROM new WHERE content IN (SELECT content FROM gone SEMI JOIN trained USING ({key}))"
        )
        one, other = (
            f"(SELECT {key}::VARCHAR AS key, content, row_number() OVER (PARTITION BY content ORDER BY {key}) AS place"
            f" FROM {table})"
            for table in ("gone", "new")
        )
        pairs = database.sql(
            f"SELECT one.key AS before, other.key AS after FROM {one} one JOIN {other} other USING (content, place)"
        )
        return OtherKeys(pairs.to_arrow_table(), trained_on.to_arrow_table()[0].to_pandas())


def _beyond_chance(  # noqa: PLR0913
    database: duckdb.DuckDBPyConnection,
    tables: tuple[str, str],
    likeness: tuple[str, str],
    near: Sequence[str],
    key: str,
    *,
    least: float = TWINS,
) -> tuple[int, int, int] | None:
    """Return how many customers are gone and new, and how many of the new ones are like one who is gone.

    None where no more are than by chance. `tables` are those who are gone and those who are new, `likeness` a column of
    them and the SQL of its value, in which customers who are alike are equal.
    """
    (gone, new), (column, value) = tables, likeness
    shared = f"SELECT {column} FROM {gone} GROUP BY {column} HAVING count(DISTINCT customer) > 1"
    left, came, alike, among = database.execute(
        f"SELECT (SELECT count(*) FROM {gone}), (SELECT count(*) FROM {new}),"
        f" (SELECT count(*) FROM {new} WHERE {column} IN (SELECT {column} FROM {gone})),"
        f" (SELECT count(*) FROM {gone} WHERE {column} IN ({shared}))"
    ).fetchall()[0]
    if not left or not came or not beyond_chance(alike / came, among / left, came, left, least):
        return None
    rows = (
        f"SELECT {kinds(near) or '0 AS __0'}, {known} AS known, {value} IN ({like}) AS alike FROM {side}"
        f" WHERE {key} IN (SELECT {key} FROM {table})"
        for side, table, known, like in (
            ("before", gone, "true", shared),
            ("after", new, "false", f"SELECT {column} FROM {gone}"),
        )
    )
    expected = expected_alike(database, " UNION ALL ".join(rows), len(near))
    database.execute("DROP TABLE likeness")
    return (left, came, alike) if beyond_chance(alike / came, expected, came, left, least) else None


def trained_apart(main: Path, contract: Contract, rekeyed: OtherKeys | None) -> tuple[Trained, Trained]:
    """Return what the model here and that in `main` learned from, and how much of it the other one did not."""
    sides = {"here": (TRAIN, contract.customer), "there": (main / TRAIN, mains_contract(main).customer)}
    with parquet_views({side: path for side, (path, _) in sides.items()}) as database:
        named = {
            side: f"SELECT DISTINCT {identifier(name)}::VARCHAR AS name FROM {side}"
            for side, (_, name) in sides.items()
        }
        known = named["there"]
        if rekeyed and contract.customer == contract.key:
            database.register("rekeyed", pa.table({"name": pa.array(rekeyed.trained_on).cast(pa.string())}))
            known = f"{known} UNION FROM rekeyed"
        here, there, both = database.execute(
            f"SELECT (SELECT count(*) FROM ({named['here']})), (SELECT count(*) FROM ({named['there']})),"
            f" (SELECT count(*) FROM ({named['here']}) SEMI JOIN ({known}) USING (name))"
        ).fetchall()[0]
    return Trained(here, here - both), Trained(there, max(there - both, 0))


def copy_snapshot(path: Path, theirs: Contract, names: Mapping[str, str]) -> None:
    """Write this checkout's snapshot to `path`, its columns under main's names where `names` has another for it.

    Raises StageError, and writes nothing, where the snapshot lacks a column that is fetched by main's contract.
    """
    ours = {after: before for before, after in names.items()}
    source = pq.ParquetFile(sampled(RAW, load_contract()))
    schema = source.schema_arrow
    fetched = [name for name, column in theirs.columns.items() if not column.computed]
    if lacking := [name for name in fetched if names.get(name, name) not in schema.names]:
        raise StageError(
            f"its model needs {', '.join(lacking[:NAMED])}{' and more' * (len(lacking) > NAMED)}, which this branch's"
            " customers lack; a branch that keeps main's customers may remove a column"
        )
    schema = schema.empty_table().rename_columns([ours.get(name, name) for name in schema.names]).schema
    with pq.ParquetWriter(path, schema) as writer:
        for batch in batches_in(source):
            writer.write_batch(batch.rename_columns(schema.names))
