import churn.features
import churn.scoring_rows
from churn.core.errors import StageError
from churn.scoring_rows import incoming_contract, score, scored_contract
from tests.frozen import SAMPLE

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest


class Constant:
    """A model whose score is a column."""

    def __init__(self, column="tenure_months", scale=0.01):
        self.column, self.scale = column, scale

    def predict_proba(self, frame):
        scores = frame[self.column].to_numpy(float) * self.scale
        return np.column_stack([1 - scores, scores])


class Missing:
    """A model whose score is 1 where a column is missing."""

    def __init__(self, column):
        self.column = column

    def predict_proba(self, frame):
        scores = frame[self.column].isna().to_numpy(float)
        return np.column_stack([1 - scores, scores])


@pytest.fixture(autouse=True)
def in_the_folder_of_params(monkeypatch):
    monkeypatch.chdir(SAMPLE)


@pytest.fixture
def incoming(customers, tmp_path):
    path = tmp_path / "customers.parquet"
    customers.drop(columns=["num_products", "churn"]).to_parquet(path)
    return path


def test_batches_make_no_difference(incoming, contract, tmp_path, monkeypatch):
    score(str(incoming), str(tmp_path / "whole.parquet"), Constant(), contract, 3)
    monkeypatch.setattr("churn.data.tables.BATCH_ROWS", 297)
    score(str(incoming), str(tmp_path / "parts.parquet"), Constant(), contract, 3)
    whole, parts = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("whole", "parts"))
    pd.testing.assert_frame_equal(whole, parts)
    assert len(whole) == 2_000
    assert set(whole["model_version"]) == {3}


def test_a_wide_table_is_scored_in_batches_of_fewer_rows(incoming, contract, tmp_path, monkeypatch):
    class Counting(Constant):
        rows = ()

        def predict_proba(self, frame):
            self.rows += (len(frame),)
            return super().predict_proba(frame)

    for cells, expected in ((2**24, [2_000]), (100 * len(scored_contract(contract).columns), [100] * 20)):
        monkeypatch.setattr("churn.data.tables.BATCH_CELLS", cells)
        score(str(incoming), str(tmp_path / "scores.csv"), model := Counting(), contract, 3)
        assert [*model.rows] == expected


def test_the_order_of_the_rows_makes_no_difference(customers, contract, tmp_path, monkeypatch):
    monkeypatch.setattr("churn.data.duckdb_helpers.TOGETHER", 97)
    rows = pd.concat([customers, customers.head(5).assign(tenure_months=-1)]).drop(columns=["num_products", "churn"])
    for name, given in (("one", rows), ("other", rows[::-1])):
        given.to_parquet(tmp_path / f"{name} customers.parquet", index=False)
        score(str(tmp_path / f"{name} customers.parquet"), str(tmp_path / f"{name}.csv"), Constant(), contract, 1)
    for kind in (".csv", ".rejected.csv"):
        assert (tmp_path / f"one{kind}").read_bytes() == (tmp_path / f"other{kind}").read_bytes()
    assert len(pd.read_csv(tmp_path / "one.rejected.csv")) == 10


def test_memory_that_ends_within_a_stream_is_one_sentence(incoming, contract, tmp_path, monkeypatch):
    """Fault in the settings: `compute.memory` is too small for DuckDB.

    Whatever reads the table fails, such as a score: `customers.parquet cannot be scored: the memory does not suffice:
    raise compute.memory in params.yaml, or add memory.`
    """

    def ending(*_):
        raise OSError("Out of Memory Error: 7590-VHVEG")

    monkeypatch.setattr(churn.scoring_rows, "score_batches", ending)
    with pytest.raises(
        StageError, match=r"customers\.parquet cannot be scored: the memory does not suffice: raise compute"
    ):
        score(str(incoming), str(tmp_path / "scores.csv"), Constant(), contract, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["customers.parquet"]


def test_a_rule_on_a_computed_column_rejects_too(incoming, contract, tmp_path, monkeypatch):
    monkeypatch.setattr("churn.data.tables.BATCH_ROWS", 297)
    ranges = dict(contract.rules.ranges) | {"num_products": type(contract.rules.ranges["num_products"])(min=0, max=5)}
    strict = contract.model_copy(update={"rules": contract.rules.model_copy(update={"ranges": ranges})})
    read, rows, rules = score(str(incoming), str(tmp_path / "scores.csv"), Constant(), strict, 1)
    assert read == 2_000
    assert rules == {"num_products range": 2_000 - rows}
    assert 0 < rows < 2_000
    rejected = pd.read_csv(tmp_path / "scores.rejected.csv")
    assert len(rejected) == 2_000 - rows


def test_a_row_that_breaks_a_relation_is_rejected_before_a_feature_function_sees_it(
    incoming, contract, tmp_path, monkeypatch
):
    relation = contract.rules.relations["total_charges_fit_tenure"]
    positive = relation.model_copy(update={"column": "tenure_months", "holds": "tenure_months > 0"})
    strict = contract.model_copy(update={"rules": contract.rules.model_copy(update={"relations": {"old": positive}})})
    given = pq.read_table(incoming).to_pandas()
    given.loc[0, "tenure_months"] = 0
    given.loc[given.index[1:], "tenure_months"] = given["tenure_months"].clip(lower=1)
    given.to_parquet(tmp_path / "given.parquet", index=False)

    def relying(frame):
        assert (frame["tenure_months"] > 0).all()
        return frame

    monkeypatch.setattr(churn.features, "FEATURES", (relying, *churn.features.FEATURES))
    read, rows, rules = score(str(tmp_path / "given.parquet"), str(tmp_path / "scores.csv"), Constant(), strict, 1)
    assert (read, rows, rules) == (2_000, 1_999, {"tenure_months old": 1})


def test_a_model_that_raises_is_one_sentence_and_writes_nothing(incoming, contract, tmp_path):
    with pytest.raises(StageError, match="the model raises KeyError: nothing is written"):
        score(str(incoming), str(tmp_path / "scores.csv"), Constant("gone"), contract, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["customers.parquet"]


def test_a_score_that_is_none_writes_nothing(incoming, contract, tmp_path):
    with pytest.raises(StageError, match="scores are not probabilities: nothing is written"):
        score(str(incoming), str(tmp_path / "scores.csv"), Constant(scale=1.0), contract, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["customers.parquet"]


def test_a_customer_that_gets_lost_writes_nothing(incoming, contract, tmp_path, monkeypatch):
    honest = churn.scoring_rows.score_batches
    monkeypatch.setattr(churn.scoring_rows, "score_batches", lambda *some: (table.slice(1) for table in honest(*some)))
    with pytest.raises(StageError, match="2,000 read are not 1,999 scored \\+ 0 rejected: nothing is written"):
        score(str(incoming), str(tmp_path / "scores.csv"), Constant(), contract, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["customers.parquet"]


def test_what_comes_in_has_no_label_and_nothing_computed(contract):
    assert contract.label not in scored_contract(contract).columns
    assert "num_products" in scored_contract(contract).columns
    assert "num_products" not in incoming_contract(contract).columns
    assert incoming_contract(contract).key == contract.key


def test_a_relation_that_speaks_of_the_label_is_left_out_and_no_other(contract):
    relation = contract.rules.relations["total_charges_fit_tenure"]
    relations = {
        "with the label": relation.model_copy(update={"holds": "churn = 0 OR tenure_months > 0"}),
        "with its name as a text": relation.model_copy(update={"holds": "contract <> 'churn'"}),
    }
    rules = contract.rules.model_copy(update={"relations": relations})
    assert list(scored_contract(contract.model_copy(update={"rules": rules})).rules.relations) == [
        "with its name as a text"
    ]


def test_names_count_in_any_case_as_fetch_reads_them(incoming, contract, tmp_path):
    expected = score(str(incoming), str(tmp_path / "scores.csv"), Constant(), contract, 1)
    customers = pd.read_parquet(incoming).assign(churn=None).rename(columns=str.upper)
    customers.to_parquet(tmp_path / "upper.parquet")
    assert (
        score(str(tmp_path / "upper.parquet"), str(tmp_path / "upper scores.csv"), Constant(), contract, 1) == expected
    )
    for kind in (".csv", ".rejected.csv"):
        assert (tmp_path / f"upper scores{kind}").read_bytes() == (tmp_path / f"scores{kind}").read_bytes()


@pytest.mark.parametrize(
    ("ending", "says"),
    [
        ("csv", r"customers\.csv has the column number 19 more than once, if case does not count: rename one"),
        (
            "parquet",
            "a column PARTNER_1, which is not declared .*, or is a second partner in upper or lower case: leave",
        ),
    ],
)
def test_two_columns_that_differ_by_case_alone_are_one_sentence(incoming, contract, tmp_path, ending, says):
    customers, path = pd.read_parquet(incoming), tmp_path / f"customers.{ending}"
    customers = customers.assign(partner=customers.pop("partner"), PARTNER=True)
    customers.to_csv(path, index=False) if ending == "csv" else customers.to_parquet(path)
    with pytest.raises(StageError, match=says):
        score(str(path), str(tmp_path / "scores.csv"), Constant(), contract, 1)
    assert not list(tmp_path.glob("*scores*"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda frame: frame.drop(columns="partner"), "the customers have no column partner, which contract.yaml"),
        (
            lambda frame: frame.assign(num_products=1),
            "have a column num_products, which is computed here: leave it out",
        ),
        (
            lambda frame: frame.assign(Num_Products=1),
            "have a column Num_Products, which is computed here: leave it out",
        ),
        (lambda frame: frame.assign(gender="x"), "have a column gender, which is not declared in contract.yaml"),
        (lambda frame: frame.head(0), "there are no customers to score"),
    ],
)
def test_a_table_of_other_columns_is_one_sentence_and_leaves_the_former_scores(
    incoming, contract, tmp_path, change, says
):
    """Fault in scoring: the customers' table has missing, undeclared or computed columns.

    Scoring fails: `score: the customers have no column partner, …`
    """
    (tmp_path / "scores.csv").write_text("the former")
    change(pd.read_parquet(incoming)).to_parquet(incoming)
    with pytest.raises(StageError, match=says):
        score(str(incoming), str(tmp_path / "scores.csv"), Constant(), contract, 1)
    assert (tmp_path / "scores.csv").read_text() == "the former"
    assert len(list(tmp_path.iterdir())) == 2


def test_what_cannot_be_read_or_written_is_one_sentence(incoming, contract, tmp_path):
    half, text = tmp_path / "half.parquet", tmp_path / "customers.txt"
    half.write_bytes(incoming.read_bytes()[:1_000])
    ragged = tmp_path / "ragged.csv"
    ragged.write_text(pd.read_parquet(incoming).to_csv(index=False) + "one,cell,too,few\n")
    text.write_text("customers")
    for given, wanted, says in (
        (tmp_path / "nothing.csv", "scores.csv", "nothing.csv does not exist; it may be a CSV or Parquet file"),
        (text, "scores.csv", "customers.txt ends in .txt, not in .parquet or .csv"),
        (half, "scores.csv", "half.parquet cannot be read: "),
        (ragged, "scores.csv", "ragged.csv, line 2002: Expected Number of Columns"),
        (incoming, "scores.txt", "scores.txt is neither a file here that ends in .parquet or .csv, nor a table of Po"),
        (incoming, "s3://bucket/scores.parquet", "^s3://bucket/scores.parquet is neither a file here that ends in "),
    ):
        with pytest.raises(StageError, match=says):
            score(str(given), wanted if "://" in wanted else str(tmp_path / wanted), Constant(), contract, 1)
    assert not list(tmp_path.glob("*scores*"))


def test_a_customer_with_an_empty_key_is_rejected(customers, contract, tmp_path):
    """Fault in scoring: a customer's key is empty.

    It is rejected: `score: 2 break customer_id blank`
    """
    path = tmp_path / "customers.parquet"
    customers.loc[[3, 5], "customer_id"] = ["", " 7"]
    customers.drop(columns=["num_products", "churn"]).to_parquet(path)
    assert score(str(path), str(tmp_path / "scores.parquet"), Constant(), contract, 1) == (
        2_000,
        1_998,
        {"customer_id blank": 2},
    )


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_customer_with_nan_for_a_missing_number_gets_the_score_of_one_with_null(
    customers, contract, tmp_path, ending
):
    customers = customers.drop(columns=["num_products", "churn"])
    missing = customers["total_charges"].isna()
    table = pa.Table.from_pandas(customers, preserve_index=False)
    nan = pa.array(customers["total_charges"].to_numpy(), from_pandas=False)
    with_nan = table.set_column(table.column_names.index("total_charges"), "total_charges", nan)
    for name, given in (("null", table), ("nan", with_nan)):
        path = tmp_path / f"{name}.{ending}"
        pyarrow.csv.write_csv(given, path) if ending == "csv" else pq.write_table(given, path)
        done = score(str(path), str(tmp_path / f"{name} scores.csv"), Missing("total_charges"), contract, 1)
        assert done == (2_000, 2_000, {})
    assert (tmp_path / "nan scores.csv").read_bytes() == (tmp_path / "null scores.csv").read_bytes()
    assert pd.read_csv(tmp_path / "nan scores.csv")["score"].sum() == missing.sum() > 0


def test_nan_where_no_number_may_be_missing_and_infinity_are_rejected(customers, contract, tmp_path):
    customers["monthly_charges"] = customers["monthly_charges"].astype(str)
    customers.loc[[3, 5], "monthly_charges"] = ["nan", "inf"]
    customers.drop(columns=["num_products", "churn"]).to_csv(tmp_path / "customers.csv", index=False)
    done = score(str(tmp_path / "customers.csv"), str(tmp_path / "scores.csv"), Constant(), contract, 1)
    assert done == (2_000, 1_998, {"monthly_charges finite": 1, "monthly_charges nulls": 1})


def test_a_value_that_does_not_fit_its_type_is_not_counted_as_missing(customers, contract, tmp_path):
    given = customers.drop(columns=["num_products", "churn"]).astype({"tenure_months": object, "partner": object})
    given.loc[[3, 5], ["tenure_months", "partner"]] = [["ten", "perhaps"], [None, None]]
    given.to_csv(tmp_path / "customers.csv", index=False)
    done = score(str(tmp_path / "customers.csv"), str(tmp_path / "scores.csv"), Constant(), contract, 1)
    wrong = {f"{name} {rule}": 1 for name in ("partner", "tenure_months") for rule in ("nulls", "type")}
    assert done == (2_000, 1_998, wrong)
    rules = pd.read_csv(tmp_path / "scores.rejected.csv")["rule"]
    assert {*rules} == {"tenure_months type; partner type", "tenure_months nulls; partner nulls"}
