import gzip
import random
import re
import shlex
import subprocess
import sys

import churn.data.duckdb_helpers
from churn.config.contract import Contract
from churn.config.params import Fetch
from churn.core.errors import StageError
from churn.data.snapshot import snapshot

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

CONTRACT = YAML(typ="safe").load("""
columns:
  id: {role: key, type: string}
  churn: {role: label, type: integer}
  charges: {role: feature, type: number, nulls: allow, because: not billed yet}
  paperless: {role: feature, type: boolean}
  plan: {role: feature, type: category, values: [a, b]}
  products: {role: feature, type: integer, computed: true}
rules:
  min_rows: 1
  max_single_feature_roc_auc: 0.9
  profile: {rows: {min: 0.9, max: 2}, nulls: 0.1, mean: 0.3, quantiles: 0.1, categories: 0.1, label_rate: 0.1}
  label_rate: {min: 0.1, max: 0.9}
  ranges: {charges: {min: 0, max: 100}, products: {min: 0, max: 9}}
  relations: {}
""")
HEADER = "id,churn,charges,paperless,plan"
ROWS = ["c,0,3.5,Yes,a", "a,1,,No,b", "b,0,12,Yes,a"]
QUERY = "SELECT id, churn, charges, paperless, plan FROM source;"


@pytest.fixture
def fetched(tmp_path):
    """Return a function that makes a snapshot of the text of a CSV file, and the path of the snapshot."""

    def fetch(content, query=QUERY, name="customers.csv", as_of=None):
        source, sql, target = tmp_path / name, tmp_path / "source.sql", tmp_path / "raw" / "customers.parquet"
        if content is not None:
            source.parent.mkdir(exist_ok=True)
            source.write_bytes(content if isinstance(content, bytes) else content.encode())
        sql.write_text(query)
        params = Fetch(source=str(source), query=str(sql), as_of=as_of, timeout_minutes=1.0)
        return snapshot(params, Contract.model_validate(CONTRACT, strict=False), target), target

    return fetch


def csv(*rows: str) -> str:
    return "\n".join([HEADER, *rows]) + "\n"


def test_rows_are_typed_by_the_contract_and_sorted_by_key(fetched):
    rows, target = fetched(csv(*ROWS))
    table = pq.read_table(target)
    assert rows == 3
    assert table.to_pylist() == [
        {"id": "a", "churn": 1, "charges": None, "paperless": False, "plan": "b"},
        {"id": "b", "churn": 0, "charges": 12.0, "paperless": True, "plan": "a"},
        {"id": "c", "churn": 0, "charges": 3.5, "paperless": True, "plan": "a"},
    ]
    assert [str(field.type) for field in table.schema] == ["string", "int64", "double", "bool", "string"]


def test_the_same_rows_in_another_order_give_the_same_bytes(fetched, monkeypatch):
    generator = random.Random(0)
    rows = [f"{number:07},{number % 2},{number % 100}.5,Yes,a" for number in range(300_000)]  # several row groups
    rows += rows[:10]  # of equal keys
    before = fetched(csv(*rows))[1].read_bytes()
    generator.shuffle(rows)
    connect = duckdb.connect
    monkeypatch.setattr(
        churn.data.duckdb_helpers.duckdb, "connect", lambda config: connect(config=config | {"threads": 1})
    )
    assert fetched(csv(*rows))[1].read_bytes() == before


def test_values_that_look_like_another_type_are_not_sniffed(fetched):
    _, target = fetched(csv("001,0,1,1,a", "002,1,2,0,b"))
    assert pq.read_table(target)["id"].to_pylist() == ["001", "002"]
    assert pq.read_table(target)["paperless"].to_pylist() == [True, False]


def test_a_parquet_file_is_read_as_it_is(fetched, tmp_path):
    duckdb.sql(
        "COPY (SELECT 'a' AS id, 1 AS churn, 2.5 AS charges, true AS paperless, 'b' AS plan)"
        f" TO '{tmp_path / 'made.parquet'}' (FORMAT parquet)"
    )
    rows, target = fetched((tmp_path / "made.parquet").read_bytes(), name="customers.parquet")
    assert rows == 1
    assert pq.read_table(target).to_pylist() == [
        {"id": "a", "churn": 1, "charges": 2.5, "paperless": True, "plan": "b"}
    ]


def test_a_number_that_is_neither_0_nor_1_is_no_boolean(fetched, tmp_path):
    duckdb.sql(
        "COPY (SELECT 'a' || n AS id, 1 AS churn, 2.5 AS charges, n AS paperless, 'b' AS plan FROM range(4) AS t(n))"
        f" TO '{tmp_path / 'made.parquet'}' (FORMAT parquet)"
    )
    with pytest.raises(StageError, match="paperless has 2 values not of the type boolean"):
        fetched((tmp_path / "made.parquet").read_bytes(), name="customers.parquet")


def test_nan_is_missing_in_a_number_and_infinity_is_not(fetched, tmp_path):
    _, target = fetched(csv("a,1,nan,No,b", "b,0,-NaN,Yes,a", "c,0,inf,Yes,a", "d,0,3.5,Yes,a"))
    from_text = pq.read_table(target)["charges"]
    assert (from_text.to_pylist(), from_text.null_count) == ([None, None, float("inf"), 3.5], 2)
    numbers = pa.array([float("nan"), float("-nan"), float("inf"), 3.5])
    for kind in (pa.float64(), pa.float32()):
        given = {"id": [*"abcd"], "churn": [1, 0, 0, 0], "charges": numbers.cast(kind), "paperless": [True] * 4}
        pq.write_table(pa.table(given | {"plan": [*"aabb"]}), tmp_path / "customers.parquet")
        assert pq.read_table(tmp_path / "customers.parquet")["charges"].null_count == 0
        fetched(None, name="customers.parquet")
        assert pq.read_table(target)["charges"].equals(from_text)


def test_a_column_that_the_contract_does_not_declare_is_left_for_validate_to_refuse(fetched):
    _, target = fetched(csv(*ROWS), query="SELECT *, 1 AS days_since_last_purchase FROM source")
    assert pq.read_table(target).column_names[-1] == "days_since_last_purchase"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "customers.csv is empty: it has no header line."),
        (HEADER + "\n", "gives no rows through"),
        ("id,churn,churn\na,1,1\n", "has the column churn more than once"),
        (
            gzip.compress(csv(*ROWS).encode(), mtime=0),
            "customers.csv is no CSV file, but compressed: unpack it,",
        ),
        (csv("a,1,2,Yes,a").replace("churn", "left", 1), "has no column churn, which"),
        (csv("a,1,2,Yes,a", "b,1,2"), "line 3: Expected Number of Columns: 5 Found: 3."),
        (csv("a,1,2,Yes,a", 'b,1,"2,Yes,a'), "line 3: unterminated quote."),
        (csv("a,1,2,Yes,\xe9").encode("latin-1"), "line 2: Invalid unicode."),
        ("\xe9\n".encode("latin-1"), "is no CSV file in UTF-8"),
        (csv("a,1,1.5,Yes,a", "b,0.5,2,Yes,a"), "churn has 1 value not of the type integer."),
        (
            csv("a,1,n/a,maybe,a"),
            "charges has 1 value not of the type number; paperless has 1 value not of the type boolean.",
        ),
        (csv('a,1,"1,5",Yes,a'), "charges has 1 value not of the type number."),
        (csv("a,1,2,2,a"), "paperless has 1 value not of the type boolean."),
        ("id,churn,,plan\na,1,2,a\n", "has a column without a name: number 3 of its header; name it there."),
        ("id,churn,Churn\na,1,1\n", "has the column churn more than once"),
        ("\n" + csv("a,1,2,Yes,a"), "customers.csv, line 1 is blank, where the header should be: delete it."),
        (csv("a,1,2,Yes,a").replace("\n", "\r"), "customers.csv ends its lines with CR alone: `tr '\\r' '\\n' < "),
        (csv("a,1,2,Yes,a\r", "b,1,2,No,b"), "ends its lines in more than one way: `tr -s '\\r' '\\n' < "),
        (HEADER + ',"note\na,1,2,Yes,a,\n', "customers.csv, line 1: unterminated quote, in the name of a column."),
        (b"\x28\xb5\x2f\xfd\n", "customers.csv is no CSV file, but compressed: unpack it,"),
        (b"PAR1\n", "customers.csv is Parquet, not CSV: give it the ending .parquet."),
        ('{"id": "a", "churn": 1}\n', "customers.csv is JSON, not CSV. `python -c "),
        ("sep=,\n" + csv("a,1,2,Yes,a"), "customers.csv, line 1: `sep=,` is a note for Excel: delete that line."),
        ("\ufeffsep=;\r\n" + csv("a,1,2,Yes,a"), "line 1: `sep=;` is a note for Excel: delete that line."),
        ('"sep=\t"\n' + csv("a,1,2,Yes,a"), "is a note for Excel: delete that line."),
    ],
)
def test_a_bad_csv_file_is_one_sentence_and_no_snapshot(fetched, tmp_path, content, said):
    """Fault in the source: a CSV file is damaged, or begins with Excel's line `sep=,`.

    fetch fails: `…, line 1: sep=, is a note for Excel: delete that line.`
    """
    with pytest.raises(StageError) as told:
        fetched(content)
    assert said in str(told.value)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "raw" / "customers.parquet").exists()


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT id, churn, charges, paperless FROM source", "gives no column plan, which contract.yaml declares"),
        ("SELECT id, churn, charge FROM source", "has no column charge, which"),
        ("SELEC id FROM source", "does not run: there is a syntax error at SELEC."),
        (
            "SELECT CAST(id AS INTEGER) AS id FROM source",
            "line 2: id cannot be converted as the query asks.",
        ),
        ("SELECT *, id AS Plan FROM source", "gives the column plan more than once."),
        (
            "SELECT *, 1 AS __cast_errors FROM source",
            "gives the column __cast_errors, and names that begin with __ are",
        ),
        ("SELECT *, 1 AS __row FROM source", "gives the column __row, and names that begin with __ are the pipeline's"),
        ("SELECT *, encode(id) AS raw FROM source", "gives raw as bytes: cast it to a text or a number there."),
        ("CREATE TABLE other (id INTEGER)", "does not run: it is no SELECT, or more than one."),
        ("SELECT * FROM source; SELECT 1", "does not run: it is no SELECT, or more than one."),
        ("SELECT * FROM source WHERE id > $day", "does not run: it has a parameter, which nothing sets."),
        ("SELECT * FROM customers", "does not run: the table customers does not exist."),
    ],
)
def test_a_bad_query_is_one_sentence(fetched, query, said):
    with pytest.raises(StageError) as told:
        fetched(csv(*ROWS), query=query)
    assert said in str(told.value)


@pytest.mark.parametrize(
    ("name", "next_step"),
    [
        ("customers.csv.gz", "gunzip --keep {folder}/customers.csv.gz` unpacks it."),
        ("customers.csv.zst", "unzstd {folder}/customers.csv.zst` unpacks it."),
        ("customers.tsv", "mv {folder}/customers.tsv {folder}/customers.csv` gives it the ending, and"),
        ("customers.xlsx", ". Save the sheet as `CSV UTF-8` in the program for it."),
    ],
)
def test_a_file_of_a_known_kind_has_the_command_that_converts_it(fetched, tmp_path, name, next_step):
    with pytest.raises(StageError) as told:
        fetched("x", name=name)
    assert next_step.format(folder=tmp_path) in str(told.value)


def test_the_command_for_json_keeps_the_zeros_of_a_key(fetched, tmp_path):
    lines = '{"id": "007", "churn": 1}\n{"id": "7", "churn": 0}\n'
    with pytest.raises(StageError) as told:
        fetched(lines, name="our customers' list.jsonl")
    (command,) = re.findall("`(python .*)`", str(told.value))
    subprocess.run([sys.executable, *shlex.split(command)[1:]], check=True)
    assert pq.read_table(tmp_path / "our customers' list.parquet")["id"].to_pylist() == ["007", "7"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("customers.parquet", "no parquet", "customers.parquet cannot be read"),
        ("customers.json", "{}", "customers.json ends in .json, not in .parquet or .csv, all alike; the source may be"),
    ],
)
def test_a_file_of_another_kind_is_one_sentence(fetched, name, content, said):
    with pytest.raises(StageError) as told:
        fetched(content, name=name)
    assert said in str(told.value)


def test_a_missing_source_is_named(fetched):
    with pytest.raises(StageError, match=r"the source .*nowhere\.csv does not exist; it may be a CSV or Parquet file"):
        fetched(None, name="nowhere.csv")


def test_the_sentence_never_shows_a_customers_row(fetched):
    with pytest.raises(StageError) as told:
        fetched(csv("a,1,2,Yes,a", "secret-customer,1"))
    assert "secret" not in str(told.value)


def test_a_failed_fetch_leaves_the_former_snapshot(fetched):
    _, target = fetched(csv(*ROWS))
    before = target.read_bytes()
    with pytest.raises(StageError):
        fetched(csv("a,1,n/a,Yes,a"))
    assert target.read_bytes() == before


@pytest.mark.parametrize("key", ["", " ", "a ", "\ta", "\u00a0"])
def test_a_key_that_is_empty_or_has_a_blank_at_an_end_is_refused_without_its_value(fetched, key):
    """Fault in the source: a customer's key is empty, or begins or ends with a blank.

    fetch fails: `source.sql gives 1 value of customer_id that …`
    """
    rows = [row.replace("a,1", f"{key},1") for row in ROWS]
    with pytest.raises(StageError, match=r"gives 1 value of id that are empty|gives 1 value of id"):
        fetched(csv(*rows), QUERY.replace("SELECT id,", "SELECT coalesce(id, '') AS id,"))


def test_a_query_may_begin_with_a_byte_order_mark_but_is_text_in_utf_8(fetched):
    assert fetched(csv(*ROWS), "\ufeff" + QUERY)[0] == 3


def test_a_query_in_another_encoding_is_one_sentence(fetched, tmp_path):
    fetched(csv(*ROWS))
    from churn.data.as_of import read_query

    (tmp_path / "source.sql").write_bytes("SELECT 'é'".encode("latin-1"))
    with pytest.raises(StageError, match=r"source\.sql is not text in UTF-8"):
        read_query(str(tmp_path / "source.sql"))


@pytest.mark.parametrize("values", [255, 256, 1_524])
def test_a_category_with_too_many_values_is_named_with_sql_that_groups_them(fetched, values):
    """Fault in the source: a category has more than 255 values.

    fetch fails: `…: plan: a category has at most 255 values, and this one 1,524: group the rare ones in the query by …`
    """
    content = csv(*(f"{number},{number % 2},1,Yes,p{number % values}" for number in range(2 * values)), "x,1,1,No,")
    if values == 255:
        assert fetched(content)[0] == 511
        return
    with pytest.raises(
        StageError, match=f"source.sql: plan: a category has .* and this one {values:,}: group"
    ) as error:
        fetched(content)
    grouped = re.search("by (CASE .* END AS plan)", str(error.value))[1].replace(" x ", " plan ")
    rows, target = fetched(content, query=QUERY.replace(", plan", f", {grouped}"))
    plans = pq.read_table(target)["plan"].to_pylist()
    assert (rows, len({*plans}), plans.count("other")) == (2 * values + 1, 52, 2 * values - 100)
    assert plans[-1] is None
