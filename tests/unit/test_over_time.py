"""Customers with a row for each month: the split, the periods, and statistics that count customers."""

import json
import re
from dataclasses import replace
from datetime import date

import churn.features
from churn.config.contract import load_contract
from churn.config.params import METRICS, Prepare, Time
from churn.core.errors import StageError
from churn.data.duckdb_helpers import connection
from churn.data.periods import train_until
from churn.data.snapshot import snapshot
from churn.data.sources.hints import _hint
from churn.data.split import drop_declared, in_holdout
from churn.data.tables import split_snapshot
from churn.evaluation.holdout import EARLIER, evaluation_of, outcomes_of, with_groups
from churn.evaluation.metrics import Outcomes, all_metrics
from churn.evaluation.paired import compare, compare_slices
from churn.evaluation.slices import Slice
from churn.gate.baseline import Trained
from churn.gate.rules import evaluate_rules
from churn.quality.row_checks import table_findings
from churn.scoring_rows import incoming_contract, read_incoming, scored_contract
from report.data import Comparison
from stages.register import metrics_of
from stages.validate import key_findings
from tests.conftest import ROOT, evaluate_at
from tests.customer_months import AS_OF, CONTRACT, QUERY, TRAITS, customer_months

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

DAY = date.fromisoformat(AS_OF)
SETTINGS = Prepare(holdout_share=0.3, salt="churn", drop={}, time=Time(holdout_days=90, label_window_days=30))
TRAIN_UNTIL, FINAL_UNTIL = date(2025, 8, 22), date(2025, 11, 20)


@pytest.fixture(scope="module")
def monthly(tmp_path_factory):
    path = tmp_path_factory.mktemp("contract") / "contract.yaml"
    path.write_text(CONTRACT.replace("computed: true", "computed: false"))
    return load_contract(path)


def with_change(tmp_path, change):
    """Return the contract after a change of its columns."""
    values = YAML(typ="safe").load(CONTRACT)
    change(values["columns"])
    YAML(typ="safe").dump(values, tmp_path / "contract.yaml")
    return load_contract(tmp_path / "contract.yaml")


def rows_of(customers=300):
    frame = customer_months(customers=customers)
    frame.insert(0, "row_id", frame["customer"].astype(str) + "/" + frame["month"])
    frame["month"] = pd.to_datetime(frame["month"]).dt.date
    frame["usage_per_complaint"] = frame["usage"] / (1 + frame["complaints"])
    return frame.sort_values("row_id", ignore_index=True)


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """The path of a snapshot, as fetch writes it, whose computed feature is there already."""
    monkeypatch.setattr(churn.features, "FEATURES", ())
    rows_of().to_parquet(tmp_path / "customers.parquet", index=False)
    return tmp_path / "customers.parquet"


def split_to(raw, contract, settings=SETTINGS, as_of=DAY):
    tables = raw.with_name("train.parquet"), raw.with_name("test.parquet")
    counts = split_snapshot(raw, settings, contract, tables, as_of)
    return counts, *(pq.read_table(path).to_pandas() for path in tables)


# --- the contract ---


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.update(other={"role": "group", "type": "string"}), "at most one column has the role group, not 2"),
        (lambda c: c.update(other={"role": "time", "type": "date"}), "at most one column has the role time, not 2"),
        (lambda c: c["month"].update(type="string"), "a time has the type date, not string"),
        (lambda c: c["usage"].update(type="date"), "a feature has the type .*, not date"),
        (lambda c: c["customer"].update(type="date"), "a group has the type string or integer, not date"),
        (lambda c: c["row_id"].update(type="date"), "a key has the type string or integer, not date"),
        (lambda c: c["customer"].update(computed=True), "a group is fetched, not computed"),
        (lambda c: c["month"].update(computed=True), "a time is fetched, not computed"),
        (lambda c: c["month"].update(nulls="allow", because="x"), "a time cannot allow nulls"),
        (lambda c: c["customer"].update(nulls="allow", because="x"), "a group cannot allow nulls"),
    ],
)
def test_a_group_and_a_time_are_declared_as_such_or_refused(tmp_path, change, says):
    with pytest.raises(StageError, match=says):
        with_change(tmp_path, change)


@pytest.mark.parametrize("role", ["group", "time"])
def test_either_role_may_be_alone(tmp_path, role):
    found = with_change(tmp_path, lambda c: c.pop({"group": "month", "time": "customer"}[role]))
    assert (found.group, found.time) == (("customer", None) if role == "group" else (None, "month"))
    assert found.customer == ("customer" if role == "group" else "row_id")


def test_a_reason_of_prepare_time_is_no_name_of_a_condition():
    with pytest.raises(ValueError, match=r"drop\.after_training: this name is a reason of prepare\.time"):
        Prepare(holdout_share=0.2, salt="a", drop={"after_training": "x < 1"}, time=SETTINGS.time)


def test_the_examples_of_the_page_are_ones_that_are_read(tmp_path):
    page = (ROOT / "docs/adapt.md").read_text(encoding="utf-8").partition("## Customers over time")[2]
    columns, settings = (YAML(typ="safe").load(one) for one in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[:2])
    found = with_change(
        tmp_path, lambda c: [c.pop(name) for name in ("row_id", "customer", "month")] and c.update(columns["columns"])
    )
    assert (found.key, found.group, found.time) == ("row_id", "customer_id", "month")
    assert Time(**settings["prepare"]["time"]) == SETTINGS.time


# --- fetch ---


def fetched(tmp_path, contract, params, day="2025-03-01", query=QUERY):
    """Fetch one row with a day, given as a CSV has it."""
    frame = customer_months(customers=1).head(1).assign(month=day)
    frame.to_csv(tmp_path / "months.csv", index=False)
    (tmp_path / "months.sql").write_text(query.replace("usage,", "usage, usage AS usage_per_complaint,"))
    source = {"source": str(tmp_path / "months.csv"), "query": str(tmp_path / "months.sql")}
    snapshot(params.fetch.model_copy(update=source), contract, tmp_path / "raw.parquet")
    return pq.read_table(tmp_path / "raw.parquet")["month"]


@pytest.mark.parametrize("day", ["2025-03-01", "2024-02-29", "2025-03-01 00:00:00"])
def test_a_day_is_stored_as_a_date(tmp_path, monthly, params, day):
    found = fetched(tmp_path, monthly, params, day, QUERY.partition(" WHERE")[0])
    assert found.type == pa.date32()
    assert found.to_pylist() == [date.fromisoformat(day[:10])]


@pytest.mark.parametrize(
    "day",
    [
        "01.03.2025",
        "03/01/2025",
        "2025-3-1",
        "2025-02-30",
        "20250301",
        "2025-03-01 12:00:00",
        "soon",
        "infinity",
        "0000-01-01",
    ],
)
def test_a_day_that_is_none_of_iso_8601_is_counted_by_column(tmp_path, monthly, params, day):
    with pytest.raises(
        StageError, match=r"does not fit the types of contract\.yaml: month has 1 value not of the type date"
    ):
        fetched(tmp_path, monthly, params, day, QUERY.partition(" WHERE")[0])


@pytest.mark.parametrize(
    ("day", "write"),
    [
        ("01.03.2025", "strptime(month, '%d.%m.%Y')::DATE AS \"month\" (line 1: dates, day.month.year)"),
        ("20250301", "strptime(month, '%Y%m%d')::DATE AS \"month\" (line 1: dates, yearmonthday)"),
        ("2025-3-1", "strptime(month, '%Y-%m-%d')::DATE AS \"month\" (line 1: dates, without leading zeros)"),
        ("2025-03-01 12:00:00", 'CAST(month AS DATE) AS "month" (line 1: dates with a time)'),
        ("2025-03-01T12:00:00Z", 'CAST(month AS DATE) AS "month" (line 1: dates with a time)'),
    ],
)
def test_what_reads_a_day_of_another_form_is_said_and_works(tmp_path, monthly, params, day, write):
    query = QUERY.partition(" WHERE")[0]
    with pytest.raises(StageError, match=re.escape(f"months.sql write {write}.")):
        fetched(tmp_path, monthly, params, day, query)
    assert fetched(
        tmp_path, monthly, params, day, query.replace("month, churned", write.partition(" (")[0] + ", churned")
    ).to_pylist() == [date(2025, 3, 1)]


def test_a_day_of_no_known_form_has_no_advice():
    assert _hint("month", ["soon"], "date", "") is None
    assert _hint("month", ["yes"], "date", "") is None


# --- prepare ---


def test_no_customer_is_in_both_tables_and_every_row_is_accounted_for(raw, monthly):
    counts, train, test = split_to(raw, monthly)
    assert not set(train["customer"]) & set(test["customer"])
    assert counts["fetched"] == 3_600 == len(train) + len(test) + sum(counts["dropped"].values())
    assert counts["dropped"] == {"label_window_open": 300, "after_training": counts["dropped"]["after_training"]}
    assert 0.2 < test["customer"].nunique() / 300 < 0.4
    assert (train.groupby("customer").size() == 7).all()  # January to July


def test_the_noise_of_another_training_counts_customers_and_not_their_rows():
    labels = np.tile([0.0, 1.0], 600)
    several = Outcomes(labels, np.repeat(np.arange(100), 12))
    assert (several.number, Outcomes(labels).number) == (100, 1_200)
    apart = (Trained(400, 400), Trained(400, 400))
    one_row = Comparison(100, 100, {}, (), trained=apart)
    assert Comparison(1_200, 1_200, {}, (), trained=apart, customers=several.number).wider == one_row.wider


def test_no_label_of_the_evaluated_time_is_trained_on_and_no_open_label_counts(raw, monthly):
    _, train, test = split_to(raw, monthly)
    assert (pd.to_datetime(train["month"]) + pd.Timedelta(days=30)).max().date() <= TRAIN_UNTIL
    assert test["month"].max() == date(2025, 11, 1) <= FINAL_UNTIL
    late = with_groups(test[["row_id", "churned"]], raw.with_name("test.parquet"), monthly)["out_of_time"]
    assert (late == (test["month"] > TRAIN_UNTIL)).all()
    assert sorted(set(test["month"][late])) == [date(2025, 9, 1), date(2025, 10, 1), date(2025, 11, 1)]


def test_a_later_as_of_moves_every_period_without_an_edit(raw, monthly):
    _, before, _ = split_to(raw, monthly)
    _, after, test = split_to(raw, monthly, as_of=date(2026, 1, 20))
    assert set(before["row_id"]) < set(after["row_id"])
    assert after["month"].max() == date(2025, 8, 1)
    assert test["month"].max() == date(2025, 12, 1)


def test_without_an_as_of_day_the_newest_row_is_it(raw, monthly):
    _, _, test = split_to(raw, monthly, as_of=None)
    _, _, same = split_to(raw, monthly, as_of=date(2025, 12, 1))
    pd.testing.assert_frame_equal(test, same)
    assert test["month"].max() == date(2025, 11, 1)


def test_a_group_alone_splits_by_customer_and_drops_nothing(raw, monthly):
    columns = {name: one for name, one in monthly.columns.items() if name != "month"}
    rows_of().drop(columns="month").to_parquet(raw, index=False)
    counts, train, test = split_to(
        raw, monthly.model_copy(update={"columns": columns}), SETTINGS.model_copy(update={"time": None})
    )
    assert not set(train["customer"]) & set(test["customer"])
    assert (counts["train"] + counts["test"], counts["dropped"]) == (3_600, {})


def test_a_time_alone_splits_by_key(raw, monthly):
    columns = {name: one for name, one in monthly.columns.items() if name != "customer"}
    rows_of().drop(columns="customer").to_parquet(raw, index=False)
    counts, train, test = split_to(raw, monthly.model_copy(update={"columns": columns}))
    assert in_holdout(test["row_id"], "churn", 0.3).all()
    assert not in_holdout(train["row_id"], "churn", 0.3).any()
    assert counts["dropped"]["label_window_open"] == 300


@pytest.mark.parametrize("number", [1, 2**62, -5])
def test_odd_names_and_numbers_of_customers_change_nothing(raw, monthly, number):
    names = {"customer": 'Kunde "Ä"', "month": "Tag der Zeile; DROP", "row_id": "ROW Id"}
    columns = {names.get(name, name): one for name, one in monthly.columns.items()}
    contract = monthly.model_copy(update={"columns": columns})
    rows = rows_of(60)
    rows.assign(customer=rows["customer"] + number).rename(columns=names).to_parquet(raw, index=False)
    counts, train, test = split_to(raw, contract)
    assert not set(train[names["customer"]]) & set(test[names["customer"]])
    assert counts["fetched"] == counts["train"] + counts["test"] + sum(counts["dropped"].values())
    with connection() as database:
        database.register("train", train)
        database.register("test", test)
        assert list(key_findings(database, contract)) == []
        assert [one.sentence for one in table_findings(database, "train", contract) if one.rule != "label_rate"] == []


def test_a_single_row_is_too_little_for_two_tables(raw, monthly):
    rows_of(1).head(1).to_parquet(raw, index=False)
    with pytest.raises(StageError, match=r"the (train|test) table is empty"):
        split_to(raw, monthly)


@pytest.mark.parametrize(
    ("change", "as_of", "says"),
    [
        (lambda f: f.assign(month=f["month"].where(f.index > 1)), DAY, r"month is missing in 2 rows: give each a day"),
        (lambda f: f.drop(columns="month"), DAY, r"customers\.parquet has no column month; `dvc"),
        (lambda f: f.assign(month="May"), DAY, r"customers\.parquet: month is not of the type date; `dvc"),
        (
            lambda f: f,
            date(2025, 11, 30),
            r"300 rows have a day in month after fetch\.as_of, 2025-11-30: let the query",
        ),
        (lambda f: f.assign(month=date(1, 1, 1)), None, r"month ends on 0001-01-01, and prepare\.time in params\.yaml"),
    ],
)
def test_a_row_without_a_day_or_after_the_as_of_day_is_one_sentence(raw, monthly, change, as_of, says):
    """Fault in the source: a row has no day in the column of the role time, or one after `fetch.as_of`.

    prepare fails: `data/raw/customers.parquet: 300 rows have a day in month after fetch.as_of, 2025-11-30: let the
    query stop there, …`
    """
    change(rows_of()).to_parquet(raw, index=False)
    with pytest.raises(StageError, match=says):
        split_to(raw, monthly, as_of=as_of)


@pytest.mark.parametrize("day", ["May", b"\xff"])
def test_a_table_whose_last_day_of_training_is_no_day_has_none(tmp_path, day):
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({"train_until": day}), tmp_path / "test.parquet")
    assert train_until(tmp_path / "test.parquet") is None


def test_a_time_column_and_prepare_time_come_together(raw, monthly):
    """Fault in the settings: a column has the role time, and `prepare.time` is missing, or the reverse.

    The first stage that runs fails, and names the other one.
    """
    with pytest.raises(StageError, match=r"prepare\.time is missing, and contract\.yaml gives month the role time"):
        split_to(raw, monthly, SETTINGS.model_copy(update={"time": None}))
    columns = {name: one for name, one in monthly.columns.items() if name != "month"}
    with pytest.raises(StageError, match=r"prepare\.time needs the day of each row"):
        split_to(raw, monthly.model_copy(update={"columns": columns}))


def test_a_feature_function_sees_neither_the_customer_nor_the_day(raw, monthly, monkeypatch):
    seen = set()

    def look(months):
        seen.update(months.columns)
        return months

    monkeypatch.setattr(churn.features, "FEATURES", (look,))
    split_to(raw, monthly)
    assert "usage" in seen
    assert not {"customer", "month", "churned"} & seen


# --- validate, and scoring ---


def findings_of(contract, frame):
    with connection() as database:
        database.register("train", frame)
        return [one.sentence for one in table_findings(database, "train", contract)]


def test_duplicate_keys_are_told_of_the_group_and_the_time(monthly, contract):
    copies = pd.DataFrame({"customer_id": ["a", "a", "b"]})
    (found,) = (one for one in findings_of(contract, copies) if "key of another row" in one)
    assert found == (
        "customer_id has 1 row with the key of another row: leave copies out in the query; or if a customer has a row"
        " for each day or month, declare a key of the row, `role: group` for the customer and `role: time` for the day"
    )
    found = findings_of(monthly, rows_of(2).assign(row_id="a"))
    assert "row_id has 23 rows with the key of another row" in found


def test_a_group_that_is_missing_or_padded_is_a_finding(monthly):
    columns = dict(monthly.columns)
    columns["customer"] = columns["customer"].model_copy(update={"type": "string"})
    frame = rows_of(2).assign(customer=[" a", "b ", "", None, *["c"] * 20])
    found = findings_of(monthly.model_copy(update={"columns": columns}), frame)
    assert "customer has 3 groups that are empty, or begin or end with a blank" in found
    assert "customer has 1 null that the contract does not allow" in found


def test_a_condition_may_read_the_day(monthly):
    drop = {"early": "month < '2025-03-01'"}
    kept, dropped = drop_declared(rows_of(3), drop, monthly)
    assert dropped == {"early": 6}
    assert kept["month"].min() == date(2025, 3, 1)


def test_validate_counts_the_customers_that_are_in_both_tables(monthly):
    with connection() as database:
        database.execute("CREATE TABLE train AS SELECT * FROM (VALUES ('a/1', 1), ('b/1', 2)) t(row_id, customer)")
        database.execute(
            "CREATE TABLE test AS SELECT * FROM (VALUES ('a/2', 1), ('a/3', 1), ('c/1', 3)) t(row_id, customer)"
        )
        (found,) = key_findings(database, monthly)
    assert (found.rule, found.column, found.count, found.share) == ("disjoint", "customer", 1, 0.5)


@pytest.mark.parametrize("left_out", [[], ["customer"], ["month"], ["customer", "month", "churned"]])
def test_customers_are_scored_with_and_without_their_group_and_day(monthly, left_out):
    assert not {"customer", "month", "churned"} & {*scored_contract(monthly).columns}
    assert incoming_contract(monthly).key == "row_id"
    with connection() as database:
        database.register("frame", rows_of(5).drop(columns=left_out))
        database.execute("CREATE TABLE given AS FROM frame")
        assert read_incoming(database, monthly) == 60
        assert database.execute("SELECT count(*) FROM rejected").fetchall() == [(0,)]


# --- statistics ---


def months_of(customers, months, seed=0, own=0.0):
    """Return outcomes and scores of customers whose rows share a part `own` of what decides about churn."""
    random = np.random.default_rng(seed)
    number = np.repeat(np.arange(customers), months)
    signal = random.normal(size=customers)[number]
    scores = 1 / (1 + np.exp(1 - signal))
    noise = np.sqrt(own) * random.normal(size=customers)[number] + np.sqrt(1 - own) * random.normal(size=len(number))
    return Outcomes((1.5 * noise + signal > 1).astype(float), number), scores


@pytest.mark.parametrize("name", sorted(METRICS))
def test_customers_whose_rows_are_copies_have_the_interval_of_the_customers(name):
    """Each of 400 customers 12 times: else the interval would be 3.5 times too narrow."""
    random = np.random.default_rng(0)
    scores = random.beta(1, 2, 400)
    labels = (random.random(400) < scores).astype(float)
    number = np.repeat(np.arange(400), 12)
    once = all_metrics(labels, scores, evaluate_at(0.5))[name]
    copied = all_metrics(Outcomes(labels[number], number), scores[number], evaluate_at(0.5))[name]
    assert copied.value == pytest.approx(once.value, abs=0.01)
    assert copied.high - copied.low == pytest.approx(once.high - once.low, rel=0.02)
    assert len(copied.influences) == 400


def test_a_difference_of_copies_is_that_of_the_customers():
    random = np.random.default_rng(0)
    main, branch = random.beta(1, 2, (2, 400))
    labels, number = (random.random(400) < main).astype(float), np.repeat(np.arange(400), 12)
    once = compare(labels, main, branch, evaluate_at(0.5))
    copied = compare(Outcomes(labels[number], number), main[number], branch[number], evaluate_at(0.5))
    for name in METRICS:
        assert copied[name].high - copied[name].low == pytest.approx(once[name].high - once[name].low, rel=0.05), name


def test_rows_that_are_a_customer_each_have_the_numbers_of_today():
    outcomes, scores = months_of(500, 1)
    assert all_metrics(outcomes.labels, scores, evaluate_at(0.5)).keys() == {*METRICS}
    for name, one in all_metrics(outcomes, scores, evaluate_at(0.5)).items():
        plain = all_metrics(outcomes.labels, scores, evaluate_at(0.5))[name]
        assert (one.value, one.low, one.high) == pytest.approx((plain.value, plain.low, plain.high), rel=1e-9), name


def test_intervals_of_customers_with_many_rows_hold_the_truth_nineteen_times_in_twenty():
    """Where rows count, they hold it in about half of the samples."""
    truth = all_metrics(*months_of(10_000, 12, seed=1, own=0.9), evaluate_at(0.5))
    names = ("accuracy", "average_precision", "brier_score", "log_loss", "roc_auc")
    by_customer, by_row = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    for seed in range(2, 82):
        outcomes, scores = months_of(200, 12, seed, own=0.9)
        for held, labels in ((by_customer, outcomes), (by_row, outcomes.labels)):
            found = all_metrics(labels, scores, evaluate_at(0.5))
            for name in names:
                held[name] += found[name].low <= truth[name].value <= found[name].high
    assert min(by_customer.values()) >= 0.88 * 80, by_customer
    assert max(by_row.values()) <= 0.75 * 80, by_row


def test_a_slice_with_many_rows_of_few_customers_is_too_small(monthly):
    outcomes, scores = months_of(30, 12)
    few = outcomes.customers < 10
    (part,) = compare_slices([Slice("few", "value", few)], outcomes, (scores, scores), evaluate_at(0.5), 20)
    assert (part.rows, part.differences["roc_auc"].low) == (120, None)


def test_the_gate_counts_the_customers_of_a_slice(params):
    gate = params.gate.model_copy(update={"slices": {}, "overall": {}})
    part = {"name": "a", "kind": "value", "rows": 1_200, "customers": 99, "churners": 300, "predicted": 300}
    (rule,) = evaluate_rules({"slices": [part]}, gate)
    assert (rule.kind, rule.status, rule.value) == ("slice_size", "skipped", 99)


# --- evaluate ---


def evaluated(monthly, late_scores=lambda scores: scores):
    """Return the evaluation of 400 customers, by true chances, on the late rows by a function of them."""
    rows = rows_of(400)
    late = pd.Series(rows["month"] > TRAIN_UNTIL)
    inclined = rows.groupby("customer")["churned"].transform("mean")
    scores = np.where(late, late_scores(inclined), inclined)
    predictions = rows[["row_id", "customer", "churned"]].assign(out_of_time=late, score=scores)
    features = rows[[*monthly.features]]
    slices = evaluate_at(0.5).slices.model_copy(update={"columns": ("plan",), "conditions": {}})
    settings = evaluate_at(0.5).model_copy(update={"slices": slices})
    return evaluation_of(features, outcomes_of(predictions, monthly), scores, settings, monthly), late


def test_the_model_is_judged_on_later_rows_and_measured_on_the_others_beside_them(monthly):
    found, late = evaluated(monthly)
    earlier = found[EARLIER]
    assert (found["rows"], earlier["rows"]) == (late.sum(), (~late).sum())
    assert found["customers"] == earlier["customers"] == 400
    assert sum(part["rows"] for part in found["slices"]) == late.sum()
    assert set(METRICS) <= set(earlier)
    assert earlier["intervals"]["roc_auc"][0] < earlier["roc_auc"] < earlier["intervals"]["roc_auc"][1]
    assert found["roc_auc_over_time"]["difference"] == pytest.approx(found["roc_auc"] - earlier["roc_auc"], abs=1e-6)
    json.dumps(found)


def test_a_fall_over_time_is_beyond_its_interval_where_the_model_knows_less_later(monthly):
    same, _ = evaluated(monthly)
    random = np.random.default_rng(0)
    worse, _ = evaluated(monthly, random.permutation)
    assert worse["roc_auc_over_time"]["interval"][1] < -0.05
    assert same["roc_auc_over_time"]["interval"][0] > worse["roc_auc_over_time"]["interval"][1]


def test_mlflow_gets_the_metrics_of_both_times(monthly):
    found, _ = evaluated(monthly)
    logged = dict(metrics_of(found))
    assert logged["roc_auc"] == found["roc_auc"]
    assert logged["random_by_customer/roc_auc"] == found[EARLIER]["roc_auc"]


def test_a_holdout_without_later_rows_is_one_sentence(monthly):
    outcomes, scores = months_of(20, 2)
    outcomes = replace(outcomes, late=np.zeros(40, dtype=bool))
    with pytest.raises(StageError, match=r"no row of the holdout is later than the training: look at prepare\.time"):
        evaluation_of(pd.DataFrame(index=range(40)), outcomes, scores, evaluate_at(0.5), monthly)


def test_a_split_by_row_flatters_and_the_split_by_customer_does_not(raw, monthly):
    """The customers of the holdout, recalled by their traits, look 0.1 easier than customers that nobody has seen."""
    rows_of(500).to_parquet(raw, index=False)
    _, train, test = split_to(raw, monthly)
    columns = ["usage", "complaints", *TRAITS]
    everybody = pd.concat([train, test])
    by_row = in_holdout(everybody["row_id"], "churn", 0.3)

    def area(trained, held_out):
        model = HistGradientBoostingClassifier(max_iter=100, random_state=0, early_stopping=False)
        model.fit(trained[columns], trained["churned"])
        return roc_auc_score(held_out["churned"], model.predict_proba(held_out[columns])[:, 1])

    assert area(everybody[~by_row], everybody[by_row]) > area(train, test) + 0.08
