"""Columns and customers that main has under another name are found by what they hold, and another problem, too."""

import re
import shutil
from pathlib import Path

from churn.config.contract import load_contract
from churn.core.errors import StageError
from churn.core.paths import CONTRACT, RAW, TEST, TRAIN
from churn.data.featuring import to_arrow
from churn.gate.baseline import Trained
from report.collect import same_under_other_names
from report.comparison import data_change, known_values
from report.data import OtherKeys
from report.identity import copy_snapshot, other_keys, renamed_features, trained_apart
from report.problem import other_problem
from report.selection import selection_faults
from report.values import customer_changes
from tests.conftest import ROOT, make_customers
from tests.frozen import copy_of

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.fixture
def sides(tmp_path, monkeypatch, customers, contract):
    """Main's folder, and the branch's, in which the test runs; both hold the same customers."""
    main, here = tmp_path / "main", tmp_path / "here"
    for folder in (main, here):
        for path in (RAW, TRAIN):
            (folder / path).parent.mkdir(parents=True)
        shutil.copy(copy_of(CONTRACT), folder / CONTRACT)
        monkeypatch.chdir(folder)
        write(customers, contract)
    return main


def write(customers, contract):
    """Write the snapshot and both tables; the holdout is the last fifth."""
    pq.write_table(to_arrow(customers, contract), RAW)
    pq.write_table(to_arrow(customers[:1_600], contract), TRAIN)
    pq.write_table(to_arrow(customers[1_600:], contract), TEST)


def rename(text, columns=None):
    """Rename columns here, in contract.yaml by a replacement of text."""
    for old, new in text.items():
        CONTRACT.write_text(CONTRACT.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    for path in (RAW, TRAIN, TEST) if columns else ():
        table = pq.read_table(path)
        pq.write_table(table.rename_columns([columns.get(name, name) for name in table.column_names]), path)


def test_a_feature_with_another_name_and_the_same_values_is_found(sides, contract):
    assert renamed_features(sides) == {}
    names = {"partner": "has_partner", "num_products": "products"}
    rename({"  partner:": "  has_partner:", "  num_products:": "  products:"}, names)
    assert renamed_features(sides) == names
    copy_snapshot(sides / "copy", contract, {"partner": "has_partner"})
    columns = pq.read_schema(sides / "copy").names
    assert "partner" in columns
    assert "has_partner" not in columns
    assert pq.read_table(sides / "copy")["partner"].equals(pq.read_table(RAW)["has_partner"])
    (note,) = same_under_other_names({"partner": "has_partner"}, None)
    assert note == "partner is called has_partner here, with the same values: main's rules and slices follow the name"


def test_names_of_features_are_compared_by_keys_of_any_type(sides, customers, contract, monkeypatch):
    numbered = customers.assign(customer_id=np.arange(len(customers)))
    rename({"customer_id: {role: key, type: string}": "customer_id: {role: key, type: integer}"})
    write(numbered, load_contract())
    rename({"  partner:": "  has_partner:"}, {"partner": "has_partner"})
    assert renamed_features(sides) == {}, "main's keys are no numbers"
    with monkeypatch.context() as patch:
        patch.chdir(sides)
        write(numbered.assign(customer_id=numbered["customer_id"].astype(str)), contract)
    assert renamed_features(sides) == {"partner": "has_partner"}


def test_a_feature_that_is_gone_is_removed_from_the_data_and_a_renamed_one_is_neither_removed_nor_new(sides):
    rename({"  partner:": "  has_partner:"}, {"partner": "has_partner"})
    rename({"  streaming_tv: {role: feature, type: boolean}\n": ""})
    for path in (RAW, TRAIN, TEST):
        pq.write_table(pq.read_table(path).drop_columns("streaming_tv"), path)
    for prepared, new in ((True, {}), (False, {"has_partner": "added", "partner": "removed"})):
        levels = {one.name: one.level for one in data_change(sides, prepared).drift if one.level != "stable"}
        assert levels == {"streaming_tv": "removed", **new}


def test_a_column_that_mains_model_needs_and_other_customers_lack_is_named(sides, customers, contract):
    """Fault in CI and the judge: a branch removes a column and changes the customers, too.

    The report is blocked: `The comparison with main is not whole: its model needs partner, which this branch's
    customers lack; a branch that keeps main's customers may remove a column`
    """
    pq.write_table(pq.read_table(RAW).drop_columns(["partner", "num_products"]), RAW)
    with pytest.raises(
        StageError,
        match=r"^its model needs partner, which this branch's customers lack; a branch that keeps main's customers may",
    ):
        copy_snapshot(sides / "copy", contract, {})
    assert not (sides / "copy").exists()


def test_customers_with_a_value_that_mains_contract_does_not_know_are_not_compared(customers, contract):
    """Its model has no code for a new category, and all others are compared."""
    frame = customers.assign(contract=customers["contract"].mask(customers.index < 7, "Free"))
    frame["partner"] = frame["partner"].astype(object).mask(customers.index == 9, None)
    arrays = {name: pa.array(frame[name], from_pandas=True) for name in frame}
    known = known_values(pa.table(arrays), contract)
    assert np.flatnonzero(~known).tolist() == [*range(7), 9], "a missing total_charges is allowed"


def test_a_feature_with_a_single_other_value_or_declared_otherwise_is_another(sides, customers, contract):
    changed = customers.assign(partner=customers["partner"] ^ (customers.index == 7))
    write(changed, contract)
    rename({"  partner:": "  has_partner:"}, {"partner": "has_partner"})
    assert renamed_features(sides) == {}
    write(customers, contract)
    nulls = "has_partner: {role: feature, type: boolean, nulls: allow, because: Unknown.}"
    rename({"has_partner: {role: feature, type: boolean}": nulls}, {"partner": "has_partner"})
    assert renamed_features(sides) == {}


def test_too_few_common_customers_tell_nothing_of_a_name(sides, customers, contract):
    write(customers.assign(customer_id="new " + customers["customer_id"]), contract)
    rename({"  partner:": "  has_partner:"}, {"partner": "has_partner"})
    assert renamed_features(sides) == {}


@pytest.mark.parametrize(("role", "name"), [("key", "customer_id"), ("label", "churn")])
def test_another_name_of_the_key_or_the_label_is_another_problem_in_one_sentence(sides, role, name):
    assert other_problem(sides) is None
    rename({f"  {name}:": "  other:"}, {name: "other"})
    reason, fault = other_problem(sides)
    assert reason == f"the {role} is other here and {name} on main"
    assert fault.message == (
        f"contract.yaml: {reason}: a model of another problem cannot be compared with main's; that takes a code"
        " owner's approval"
    )
    assert re.fullmatch("problem-[0-9a-f]{6}", fault.id)


@pytest.fixture
def other_table(sides, customers, contract, monkeypatch):
    """Other customers here, with other columns, key and label; main has the sample as its source."""
    for folder in (sides, Path()):
        shutil.copy(copy_of("params.yaml"), folder)
    source = sides / "data/sample/telco_customers.csv"
    source.parent.mkdir(parents=True)
    shutil.copy(ROOT / "data/sample/telco_customers.csv", source)
    strangers = customers.assign(customer_id="m" + customers["customer_id"])
    write(strangers, contract)
    columns = {name: f"{name}_of_member" for name in customers}
    rename({f"  {before}:": f"  {after}:" for before, after in columns.items()}, columns)
    rename({"column: total_charges": "column: total_charges_of_member"})
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("data/sample/telco_customers.csv", "m.csv"))
    Path("m.csv").touch()
    monkeypatch.setattr("report.problem.build", lambda *_: None)  # main's snapshot is there
    return sides


def test_another_table_takes_the_samples_place_without_an_approval(other_table):
    assert other_problem(other_table) == ("main has the template's sample, which this table replaces", None)


def test_other_customers_in_the_samples_own_columns_take_its_place_too(other_table, contract):
    shutil.copy(other_table / CONTRACT, CONTRACT)
    others = make_customers(contract, 2_000, seed=1)
    write(others, contract)
    assert other_problem(other_table) == ("main has the template's sample, which this table replaces", None)
    own_table(other_table, others, contract)
    assert other_problem(other_table) is None, "a team's own table is compared: see other_keys"


@pytest.mark.parametrize("moved", [0.0, 0.9])
def test_the_samples_customers_under_other_keys_are_compared_with_main(other_table, customers, contract, moved):
    """Fault in CI and the judge: the sample gets other keys, so that nothing compares the model with main's.

    The report compares it all the same, also if most of the values are other ones; a single old key is enough, too.
    """
    shutil.copy(other_table / CONTRACT, CONTRACT)
    renamed = customers.assign(customer_id="m" + customers["customer_id"])
    renamed["monthly_charges"] += 0.01 * (renamed.index < moved * len(renamed))
    write(renamed, contract)
    assert other_problem(other_table) is None
    others = make_customers(contract, 2_000, seed=1)
    others.loc[0, "customer_id"] = customers["customer_id"][7]
    write(others, contract)
    assert other_problem(other_table) is None


def of_main(main, customers, contract):
    """Put one of main's customers into the table here."""
    table = pq.read_table(RAW).to_pandas()
    table.loc[0, "customer_id_of_member"] = customers["customer_id"][7]
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), RAW)


def same_columns(main, customers, contract):
    """Keep main's customers and features: the key alone has another name and other values."""
    shutil.copy(main / CONTRACT, CONTRACT)
    write(customers.assign(customer_id="m" + customers["customer_id"]), contract)
    rename({"  customer_id:": "  member:"}, {"customer_id": "member"})


def same_source(main, customers, contract):
    """Read the sample here, too, by a query that makes other keys of it."""
    shutil.copytree(main / "data/sample", "data/sample")
    shutil.copy(main / "params.yaml", "params.yaml")


def own_table(main, customers, contract):
    """Let main have a table of its own, in the sample's place and of its size."""
    source = main / "data/sample/telco_customers.csv"
    source.write_bytes(source.read_bytes().replace(b"7590-VHVEG", b"7590-VHVEH"))


def no_snapshot(main, customers, contract):
    """Leave main's customers unknown."""
    (main / RAW).unlink()


def copied_sample(main, customers, contract):
    """Let main's team have a table of its own, and tests/sample/ say that its contract is the sample's."""
    own_table(main, customers, contract)
    for folder in (main, Path()):
        (folder / "tests/sample").mkdir(parents=True)
        shutil.copy(main / CONTRACT, folder / "tests/sample")


@pytest.mark.parametrize("change", [of_main, same_columns, same_source, own_table, no_snapshot, copied_sample])
def test_what_is_no_other_table_than_the_sample_takes_an_approval(other_table, customers, contract, change):
    change(other_table, customers, contract)
    assert other_problem(other_table).fault.kind == "problem"


def test_other_customers_in_other_columns_are_another_problem_whatever_the_names_of_key_and_label(
    other_table, customers, contract
):
    own_table(other_table, customers, contract)
    names = {"customer_id_of_member": "customer_id", "churn_of_member": "churn"}
    rename({f"  {before}:": f"  {after}:" for before, after in names.items()}, names)
    reason, fault = other_problem(other_table)
    assert reason == "no customer of main is here, and most of its features are not declared here"
    assert fault.kind == "problem"


FORMATS = {
    "padded": lambda keys: "000" + keys,
    "of another system": lambda keys: pd.Series([f"C{number * 7_919 % 10**6:06}" for number in range(len(keys))]),
}


@pytest.mark.parametrize("name", FORMATS)
def test_customers_with_keys_of_another_form_are_found_by_their_other_columns(sides, customers, contract, name):
    keys = FORMATS[name](customers["customer_id"])
    late = customers["churn"].where(customers.index % 100 > 0, 1)  # labels may have changed meanwhile
    write(customers.assign(customer_id=keys, churn=late), contract)
    found = other_keys(sides, contract)
    pairs = dict(zip(customers["customer_id"], keys, strict=True))
    matched = found.pairs.to_pandas()
    assert len(matched) == len(customers)
    assert (matched["after"] == matched["before"].map(pairs)).mean() > 0.99, "but for customers that are alike"
    trained_on = set(keys[:1_600])
    assert trained_on <= set(found.trained_on), "else main were scored on its own training customers"
    assert len(set(found.trained_on) - trained_on) < 10, "but for customers that are like one of them"
    (note,) = same_under_other_names({}, found)
    assert note.startswith("2,000 customers of the snapshot have another key than on main")


def test_half_of_the_keys_may_have_another_form(sides, customers, contract):
    half = customers["customer_id"].where(customers.index % 2 > 0, "0" + customers["customer_id"])
    write(customers.assign(customer_id=half), contract)
    assert len(other_keys(sides, contract).pairs) == 1_000


def test_keys_of_another_form_with_other_contents_are_reported_as_that(sides, customers, contract):
    cents = customers["monthly_charges"] + 0.01
    write(customers.assign(customer_id="0" + customers["customer_id"], monthly_charges=cents), contract)
    with pytest.raises(
        StageError, match=r"^2,000 of main's 2,000 keys in customer_id are gone and 2,000 are new, of which 1,9"
    ):
        other_keys(sides, contract)


def test_customers_that_come_and_go_are_no_other_keys(sides, customers, contract):
    fresh = customers[:100].assign(customer_id="n" + customers["customer_id"], monthly_charges=33.33)
    write(pd.concat([customers[100:], fresh], ignore_index=True), contract)
    found = other_keys(sides, contract)
    assert (len(found.pairs), len(found.trained_on)) == (0, 0)


def test_a_third_of_the_customers_may_come_and_go_in_a_month(sides, customers, contract):
    """As where churners leave the table: nothing shows that they are main's under other keys."""
    fresh = make_customers(contract, 700, seed=5)
    write(
        pd.concat([customers[700:], fresh.assign(customer_id="n" + fresh["customer_id"])], ignore_index=True), contract
    )
    found = other_keys(sides, contract)
    assert (len(found.pairs), len(found.trained_on)) == (0, 0)


def test_customers_of_the_first_month_may_come_where_others_of_the_first_month_go(sides, customers, contract):
    """In their first month customers have few prices, so those who come are like those who are gone."""

    def of_first_month(seed):
        frame = make_customers(contract, 150, seed=seed)
        flags = dict.fromkeys(contract.features_of("boolean"), False)
        prices = [(20.0, 45.0, 70.0, 95.0)[number % 4] for number in frame.index]
        frame = frame.assign(**flags, tenure_months=1, monthly_charges=prices, total_charges=prices)
        return frame.assign(customer_id=f"f{seed}-" + frame["customer_id"])

    before = pd.concat([customers, of_first_month(1)], ignore_index=True)
    write(before, contract)
    for path in (RAW, TRAIN, TEST):
        shutil.copy(path, sides / path)
    write(pd.concat([customers[300:], of_first_month(2)], ignore_index=True), contract)
    assert len(other_keys(sides, contract).pairs) == 0


def test_of_many_new_customers_the_few_that_equal_one_who_is_gone_are_others(sides, customers, contract):
    """Two of them are alike on main, too."""
    before = pd.concat([customers, customers[:2].assign(customer_id=["a", "b"])], ignore_index=True)
    write(before, contract)
    for path in (RAW, TRAIN, TEST):
        shutil.copy(path, sides / path)
    fresh = make_customers(contract, 700, seed=5)
    fresh = pd.concat([fresh, customers[2:4]], ignore_index=True)
    write(
        pd.concat([before[700:2_000], fresh.assign(customer_id="n" + fresh["customer_id"])], ignore_index=True),
        contract,
    )
    assert len(other_keys(sides, contract).pairs) == 0


def test_the_training_customers_whom_main_does_not_know_are_counted(sides, customers, contract):
    some = customers["customer_id"].where(customers.index % 4 > 0, "n" + customers["customer_id"])
    write(customers.assign(customer_id=some), contract)
    known = pq.read_table(TRAIN)["customer_id"].to_pandas()
    new = int(known.str.startswith("n").sum())
    assert trained_apart(sides, contract, None) == (Trained(len(known), new), Trained(len(known), new))
    rekeyed = OtherKeys(pa.table({}), known[known.str.startswith("n")])
    assert trained_apart(sides, contract, rekeyed) == (Trained(len(known), 0), Trained(len(known), 0))


def test_customers_that_disappear_by_their_outcome_are_found_under_other_keys_too(sides, customers, contract):
    left = customers[(customers["churn"] == 0) | (customers["tenure_months"] < 48)]
    write(left.assign(customer_id="000" + left["customer_id"]), contract)
    found, _ = customer_changes(sides, contract, contract, other_keys(sides, contract).pairs, {})
    assert found.kept == len(left)
    assert found.removed == found.removed_churners == len(customers) - len(left) > 50
    (fault,) = selection_faults(found, contract.rules.profile, "churn")
    assert "of main disappeared, of whom 100.0% churned" in fault.message
