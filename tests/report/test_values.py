"""Values of the customers that main knows are compared by column, and near-duplicates across both tables counted."""

from dataclasses import replace

from churn.config.contract import load_contract
from churn.core.files import write_json
from churn.core.paths import CONTRACT, PROFILE, TEST, TRAIN
from churn.data.featuring import to_arrow
from churn.quality.drift import RowChanges
from churn.quality.profile import profile_of
from report.data import DataChange, LabelChanges, TwinCount
from report.judge import contract_faults
from report.values import again, customer_changes, spike_notes, twins, value_faults, value_notes
from tests.conftest import make_customers
from tests.frozen import copy_of

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

NO_OTHER_KEYS = pa.table({"before": pa.array([], pa.string()), "after": pa.array([], pa.string())})


def put(root, frame, contract, held_out=None):
    """Write both tables; each fifth customer is held out."""
    held_out = np.arange(len(frame)) % 5 == 0 if held_out is None else held_out
    (root / TRAIN).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(to_arrow(frame[~held_out], contract), root / TRAIN)
    pq.write_table(to_arrow(frame[held_out], contract), root / TEST)


@pytest.fixture
def sides(tmp_path, monkeypatch):
    """Main's folder, and the branch's, in which the test runs."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "main"


def changed(main, contracts, before, after, *, keys=NO_OTHER_KEYS, names=None):
    theirs, ours = contracts
    put(main, before, theirs)
    put(main.parent / "here", after, ours)
    values = customer_changes(main, theirs, ours, keys, names or {})[1]
    return {name: count for name, count in values.items() if count}


def test_values_are_compared_by_key_in_both_tables_whatever_their_order(sides, contract, customers):
    after = customers.iloc[10:].sample(frac=1, random_state=0)
    after.loc[[12, 16, 20], "contract"] = after.loc[[12, 16, 20], "contract"].map(
        {"Month-to-month": "One year", "One year": "Two year", "Two year": "Month-to-month"}
    )
    after.loc[[100, 101], "total_charges"] = np.nan
    after["monthly_charges"] += 1e-9  # as from another order of a sum
    missing_before = int(customers.loc[[100, 101], "total_charges"].isna().sum())
    assert changed(sides, (contract, contract), customers, after) == {
        "contract": 3,
        "total_charges": 2 - missing_before,
    }


def test_customers_with_another_key_and_features_with_another_name_are_known(sides, contract, customers, tmp_path):
    keys = customers["customer_id"]
    pairs = pa.table({"before": pa.array(keys), "after": pa.array("0" + keys)})
    text = copy_of(CONTRACT).read_text(encoding="utf-8").replace("  partner:", "  spouse:")
    (tmp_path / "contract.yaml").write_text(text, encoding="utf-8")
    after = customers.assign(customer_id="0" + keys).rename(columns={"partner": "spouse"})
    after.loc[:6, "spouse"] = ~after.loc[:6, "spouse"]
    ours = load_contract(tmp_path / "contract.yaml")
    assert changed(sides, (contract, ours), customers, after, keys=pairs, names={"partner": "spouse"}) == {"spouse": 7}
    assert changed(sides, (contract, ours), customers, after, keys=pairs) == {}, "a removed and a new column"


def change(known=1_000, twin_counts=None, **values):
    labels = LabelChanges(0, 0, known, 300, 0, 0)
    return DataChange(RowChanges(0, 0, 10, known - 10), (), labels, None, values, twin_counts)


def limited(contract, /, **limits):
    return contract.model_copy(update={"rules": contract.rules.model_copy(update={"changes": limits})})


def test_a_column_that_changed_for_more_customers_than_its_limit_is_a_fault(contract):
    limits = limited(contract, contract=0.01, partner=0.0, tenure_months=1.0)
    assert list(value_faults(change(contract=10, partner=0, tenure_months=1_000), limits)) == []
    (fault,) = value_faults(change(contract=11), limits)
    assert fault.message == (
        "contract changed for 11 of the 1,000 customers that main knows (1.1%), where contract.yaml: rules.changes"
        " allows 10: look for another unit, an ELSE or a default, or let a code owner approve the reason"
    )
    assert len(list(value_faults(change(partner=1), limits))) == 1


def test_columns_without_a_limit_are_named_where_many_customers_changed(contract):
    limits = limited(contract, tenure_months=1.0)
    values = change(monthly_charges=80, contract=120, partner=50, tenure_months=1_000)
    assert list(value_notes(values, limits)) == [
        "Values of the 1,000 customers that main knows changed: contract for 12.0%, monthly_charges for 8.0%;"
        " contract.yaml: rules.changes can set a limit"
    ]
    (note,) = value_notes(change(**{f"c{number}": 900 + number for number in range(9)}), limits)
    assert "changed: c8 for 90.8%, " in note
    assert "c4 for 90.4% and 4 more columns;" in note
    assert list(value_notes(None, limits)) == []


def test_the_samples_limits_refuse_a_default_in_the_query_and_pass_a_month(contract):
    default = change(known=7_043, payment_method=650, tenure_months=7_043, total_charges=7_032)
    (fault,) = value_faults(default, contract)
    assert fault.message.startswith("payment_method changed for 650 of the 7,043 customers that main knows (9.2%)")
    assert list(value_notes(default, contract)) == []


def with_twins(frame, share, change_of=lambda frame: frame):
    drawn = frame.sample(frac=share, random_state=1)
    return pd.concat([frame, change_of(drawn.assign(customer_id="N" + drawn["customer_id"]))], ignore_index=True)


def a_cent_more(frame):
    return frame.assign(**{name: frame[name] + 0.01 for name in ("monthly_charges", "total_charges")})


def found(main, contract, before, after, seed=0):
    """Return the counts and the faults where both splits are random."""
    random = np.random.default_rng(seed)
    put(main, before, contract, random.random(len(before)) < 0.2)
    put(main.parent / "here", after, contract, random.random(len(after)) < 0.2)
    counts = twins(main, contract, contract, {})
    return counts, list(value_faults(change(twin_counts=counts), contract))


def test_customers_again_under_other_keys_a_cent_off_are_refused(sides, contract):
    customers = make_customers(contract, 3_000)
    (before, after), (fault,) = found(sides, contract, customers, with_twins(customers, 0.4, a_cent_more))
    assert before.twins == 0
    assert after.share == pytest.approx(0.45, abs=0.05)
    assert fault.message == (
        f"{after.twins:,} customers of the holdout have a near-duplicate in the training table ({after.share:.1%},"
        " on main 0.0%): look for customers with several keys, or let a code owner approve the reason"
    )
    assert found(sides, contract, customers, with_twins(customers, 0.04))[1] == []
    assert found(sides, contract, with_twins(customers, 0.4), with_twins(customers, 0.4))[1] == [], "as on main"


def test_customers_that_are_alike_by_chance_are_refused_in_none_of_50_honest_changes(sides, contract, monkeypatch):
    """Four columns in common leave a third of the customers a near-duplicate; the branch has up to half more rows."""
    columns = ("num_products", "tenure_months", "contract", "partner", "senior_citizen")
    few = contract.model_copy(
        update={"columns": {name: contract.columns[name] for name in ("customer_id", "churn", *columns)}}
    )
    pool, random, shares = make_customers(contract, 20_000)[list(few.columns)], np.random.default_rng(0), []
    for seed in range(50):
        before, after = (pool.sample(rows, random_state=random) for rows in (2_000, random.integers(1_900, 3_000)))
        (main, _), faults = found(sides, few, before, after, seed)
        shares.append(main.share)
        assert faults == []
    assert 0.2 < np.mean(shares) < 0.6


def test_the_share_that_more_rows_explain_and_chance_are_allowed(contract):
    before = TwinCount(100, 1_000, 4_000)
    assert list(value_faults(change(twin_counts=(before, TwinCount(220, 1_500, 6_000))), contract)) == []
    assert len(list(value_faults(change(twin_counts=(before, TwinCount(450, 1_500, 6_000))), contract))) == 1
    assert (
        list(value_faults(change(twin_counts=(TwinCount(950, 1_000, 4_000), TwinCount(1_000, 1_000, 4_000))), contract))
        == []
    )


def counted(main, contract, before, after):
    put(main, before, contract)
    put(main.parent / "here", after, contract)
    count = again(main, contract, contract, NO_OTHER_KEYS, {})
    return count, [fault.message for fault in value_faults(replace(change(), again=count), contract)]


def test_customers_that_come_again_under_other_keys_are_no_new_ones(sides, contract):
    customers, others = make_customers(contract, 2_000), make_customers(contract, 300, seed=7)
    others = others.assign(customer_id="o" + others["customer_id"])
    count, (fault,) = counted(sides, contract, customers, with_twins(customers, 0.05, a_cent_more))
    assert (count.new, count.known, count.expected) == (100, 2_000, 0)
    assert fault == (
        f"{count.new_alike} of the 100 new customers have a near-duplicate among those that main knows"
        f" ({count.new_alike / 100:.1%}, and 0.0% are expected): look for customers with several keys, or let a code"
        " owner approve the reason"
    )
    new = pd.concat([customers, others], ignore_index=True)
    assert counted(sides, contract, customers, new)[1] == [], "new ones"
    assert counted(sides, contract, customers, with_twins(customers, 0.005))[1] == [], "a few"
    twice = with_twins(customers, 0.4)
    assert counted(sides, contract, twice, pd.concat([twice, others], ignore_index=True))[1] == []
    assert counted(sides, contract, customers, customers)[1] == [], "nobody is new"


def first_month(contract, rows, seed):
    """Customers of the first month, who have one of four prices and no flag but one: most are like another one."""
    random, frame = np.random.default_rng(seed), make_customers(contract, rows, seed=seed)
    flags = dict.fromkeys(contract.features_of("boolean"), False)
    prices = random.choice([20.0, 45.0, 70.0, 95.0], rows)
    frame = frame.assign(**flags, tenure_months=1, monthly_charges=prices, total_charges=prices)
    return frame.assign(partner=random.random(rows) < 0.5, customer_id=f"f{seed}-" + frame["customer_id"])


def test_new_customers_of_the_first_month_are_as_alike_as_those_of_former_ones(sides, contract):
    """Most known ones of the first month are like another one, and none of the others is."""
    known = pd.concat([make_customers(contract, 4_000), first_month(contract, 300, 1)], ignore_index=True)
    new = pd.concat([known, first_month(contract, 250, 2)], ignore_index=True)
    count, faults = counted(sides, contract, known, new)
    assert faults == []
    assert count.new_alike / count.new == pytest.approx(count.expected, abs=0.1)
    copies = first_month(contract, 300, 1).head(250)
    copies = copies.assign(customer_id="again" + copies["customer_id"])
    count, faults = counted(sides, contract, known, pd.concat([known, copies], ignore_index=True))
    assert count.new_alike == 250
    assert len(faults) == 1, "copies of customers of the first month"


def declared(contract, **spikes):
    return contract.model_copy(update={"rules": contract.rules.model_copy(update={"spikes": spikes})})


def test_the_judge_compares_a_new_features_spikes_with_nothing_and_reports_its_reason(sides, contract, customers):
    """The branch's profile has the spike; main's does not have the feature."""
    frame = make_customers(contract, 3_000)
    frame["monthly_charges"] = frame["monthly_charges"].mask(np.arange(len(frame)) % 7 == 0, 0.0)
    put(sides.parent / "here", frame, contract)
    with duckdb.connect() as database:
        database.register("train", to_arrow(frame, contract))
        database.register("test", to_arrow(frame.head(0), contract))
        profile = profile_of(database, contract)
    assert [spike.value for spike in profile.features["monthly_charges"].spikes] == [0.0]
    features = {name: one for name, one in profile.features.items() if name != "monthly_charges"}
    for folder, one in ((sides, profile.model_copy(update={"features": features})), (sides.parent / "here", profile)):
        folder.mkdir(exist_ok=True)
        write_json(folder / PROFILE, one.model_dump(mode="json"))
    assert any(
        "monthly_charges is 0 in 14.3% of the rows" in one.message for one in contract_faults(contract, sides, {})
    )
    reason = declared(contract, monthly_charges={0.0: "Not billed."})
    assert not any("monthly_charges is 0" in one.message for one in contract_faults(reason, sides, {}))
    theirs = contract.model_copy(
        update={"columns": {k: v for k, v in contract.columns.items() if k != "monthly_charges"}}
    )
    assert list(spike_notes(theirs, reason, {})) == [
        "monthly_charges is a new feature, and many customers share its value 0: Not billed."
    ]
    assert list(spike_notes(contract, reason, {})) == [], "a fault, see test_settings.py"
