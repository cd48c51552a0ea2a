"""Main's customers and labels are compared with the branch's: what was selected by its outcome is refused."""

from churn.core.errors import StageError
from churn.core.paths import TEST, TRAIN
from churn.data.featuring import to_arrow
from churn.quality.profile import profile_of
from churn.quality.profile_checks import label_tolerance, profile_findings
from report.data import LabelChanges
from report.selection import ALPHA, easier_holdout, new_churn, new_faults, selection_faults, vanished_slices
from report.values import customer_changes
from tests.conftest import make_customers

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

SAMPLE = {"removed": 0, "removed_churners": 0, "kept": 7043, "kept_churners": 1869, "turned_on": 0, "turned_off": 0}

NO_OTHER_KEYS = pa.table({"before": pa.array([], pa.string()), "after": pa.array([], pa.string())})


@pytest.fixture
def found(contract, tmp_path, monkeypatch):
    """Return a function that writes main's customers and the branch's, a fifth as holdout, and compares them."""

    def compared(before, after):
        for root, frame in ((tmp_path / "main", before), (tmp_path, after)):
            (root / TRAIN).parent.mkdir(parents=True, exist_ok=True)
            held_out = np.arange(len(frame)) % 5 == 0
            pq.write_table(to_arrow(frame[~held_out], contract), root / TRAIN)
            pq.write_table(to_arrow(frame[held_out], contract), root / TEST)
        monkeypatch.chdir(tmp_path)
        return customer_changes(tmp_path / "main", contract, contract, NO_OTHER_KEYS, {})[0]

    return compared


def faults(contract, **counts):
    return list(selection_faults(LabelChanges(**SAMPLE | counts), contract.rules.profile, "churn"))


def test_customers_and_labels_are_counted_by_key_in_both_tables_whatever_their_order(found, customers):
    before = customers.assign(churn=np.arange(len(customers)) % 4 == 0).astype({"churn": "int64"})
    after = before.iloc[10:].sample(frac=1, random_state=0)  # 3 of 10 had churned
    after.loc[[12, 16], "churn"] = 0
    after.loc[[13, 14, 15], "churn"] = 1
    new = before.head(7).assign(customer_id=lambda frame: "new" + frame["customer_id"])
    assert found(before, pd.concat([after, new])) == LabelChanges(10, 3, 1990, 497, 3, 2)


def test_a_table_of_main_that_cannot_be_read_is_one_sentence(found, customers, contract, tmp_path):
    found(customers, customers)
    (tmp_path / "main" / TRAIN).write_bytes(b"PAR1")
    with pytest.raises(StageError, match=r"main/data/features/train\.parquet cannot be read; run `dvc repro`"):
        customer_changes(tmp_path / "main", contract, contract, NO_OTHER_KEYS, {})


@pytest.mark.parametrize(("removed", "churners"), [(215, 215), (20, 20), (300, 0), (150, 90)])
def test_customers_that_disappeared_by_their_outcome_are_refused(contract, removed, churners):
    (fault,) = faults(contract, removed=removed, removed_churners=churners)
    assert fault.message.startswith(
        f"{removed} customers of main disappeared, of whom {churners / removed:.1%} churned"
    )
    assert "against 26.5% of those still here: look for a condition" in fault.message


@pytest.mark.parametrize(
    ("removed", "churners"),
    [(0, 0), (3, 3), (70, 17), (352, 105), (1760, 560)],  # few; at random; a month that churned by 5 points more
)
def test_few_removals_and_those_of_a_closed_month_pass(contract, removed, churners):
    assert faults(contract, removed=removed, removed_churners=churners) == []


def test_where_hardly_anybody_churns_a_removed_churner_says_nothing_and_ten_do(contract):
    rare = {"kept": 10_000_000, "kept_churners": 20_000}
    assert faults(contract, **rare, removed=1, removed_churners=1) == []
    assert len(faults(contract, **rare, removed=10, removed_churners=10)) == 1


def test_labels_may_turn_to_1_but_only_a_hundredth_of_the_churners_to_0(contract):
    assert faults(contract, turned_on=300, turned_off=19) == []
    (fault,) = faults(contract, turned_off=20)
    assert fault.message.startswith(
        "churn turned from 1 to 0 for 20 of main's 1,869 churners, where 19 may: look for labels"
    )


def test_random_removals_are_refused_as_rarely_as_stated(contract):
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(1_500):
        removed = int(random.integers(1, 350))
        churners = int(random.hypergeometric(1869, 5174, removed))
        kept = {"kept": 7043 - removed, "kept_churners": 1869 - churners}
        refused += bool(faults(contract, removed=removed, removed_churners=churners, **kept))
    assert refused / 1_500 <= 3 * ALPHA, "twice the stated share, and chance"


def slices(**churners):
    return {"slices": [{"name": name, "churners": count} for name, count in churners.items()]}


def test_a_slice_that_lost_all_of_its_twenty_churners_has_vanished():
    before = slices(loyal=20, small=19, kept=40, renamed=30)
    (fault,) = vanished_slices(before, slices(loyal=0, small=0, kept=1), {})
    assert fault.message.startswith("loyal: the slice has no churner in the holdout, and 20 on main: look for")
    (fault,) = vanished_slices(slices(loyal=20), slices(faithful=0), {"loyal": "faithful"})
    assert fault.message.startswith("faithful: the slice has no churner in the holdout, and 20 on main: look for")


@pytest.fixture
def holdout():
    """Return a function that draws a holdout of main's model: key, label, score."""
    random = np.random.default_rng(7)

    def drawn(rows):
        label = (random.random(rows) < 0.27).astype("int64")
        score = 1 / (1 + np.exp(-random.normal(1.5 * label - 1.5, 1)))
        key = [f"{random.integers(2**60):x}" for _ in range(rows)]
        return pd.DataFrame({"customer_id": key, "churn": label, "score": score})

    return drawn


def scored(holdout, rows):
    """Return a holdout whose scores are the chances of churn."""
    frame, random = holdout(rows), np.random.default_rng(rows)
    return frame.assign(churn=(random.random(rows) < frame["score"]).astype("int64"))


@pytest.mark.parametrize(("rows", "share"), [(80, 0.0), (400, 0.4), (5_000, 0.6)])
def test_new_customers_who_churned_far_less_than_mains_model_expects_are_refused(contract, holdout, rows, share):
    own, new = scored(holdout, 1_500), scored(holdout, rows)
    new["churn"] = new["churn"].where(np.arange(rows) % 100 < 100 * share, 0)
    (fault,) = new_faults(new_churn(own, new), contract.rules.profile, "churn")
    assert fault.message.startswith(
        f"churn is 1 for {new['churn'].sum():,} of {rows:,} rows of new customers in the holdout, where main's model"
    )
    assert "look for labels that are not final yet" in fault.message


@pytest.mark.parametrize("rows", [1, 60, 400, 1_500])
def test_new_customers_of_a_month_that_churns_less_by_six_points_pass(contract, holdout, rows):
    for _ in range(50):
        own, new = scored(holdout, 1_500), scored(holdout, rows)
        new["churn"] = new["churn"].where(np.arange(rows) % 100 < 78, 0)
        assert [*new_faults(new_churn(own, new), contract.rules.profile, "churn")] == []


def test_what_new_customers_are_expected_to_do_follows_mains_churners_and_not_its_weights(holdout):
    own, new = scored(holdout, 1_500), scored(holdout, 400)
    right, weighted = (
        new_churn(own.assign(score=own["score"] * factor), new.assign(score=new["score"] * factor))
        for factor in (1.0, 0.3)
    )
    assert weighted == pytest.approx(right)
    assert new_churn(own, new.head(0)) is None


def test_rows_of_one_customer_count_as_one_draw(contract, holdout):
    own, new = scored(holdout, 1_500), scored(holdout, 80).assign(churn=0)
    months = new.assign(customer_id=np.arange(80) // 8)
    assert len([*new_faults(new_churn(own, new), contract.rules.profile, "churn")]) == 1
    assert [*new_faults(new_churn(own, months), contract.rules.profile, "churn")] == []


def test_a_holdout_without_the_churners_that_the_model_misses_is_easier(holdout):
    before = holdout(1_500)
    missed = before[(before["churn"] == 1) & (before["score"] < 0.35)]
    areas = easier_holdout(before, before.drop(missed.index))
    assert areas is not None
    assert areas[1] > areas[0] + 0.01
    assert easier_holdout(before.drop(missed.index), before) is None
    assert easier_holdout(before, before[before["churn"] == 0]) is None


@pytest.mark.parametrize("kept", [0, 0.5, 0.99], ids=lambda kept: f"{kept:.0%} in both")
def test_an_equally_hard_holdout_is_called_easier_as_rarely_as_stated(holdout, kept):
    called = 0
    for seed in range(200):
        before = holdout(400)
        both = before.sample(frac=kept, random_state=seed)
        called += easier_holdout(before, pd.concat([both, holdout(400 - len(both))])) is not None
    assert called <= 2, "the chance of three or more of 200 at 0.001 is 0.001"


@pytest.mark.parametrize("stay", [0, 1, 3], ids=lambda stay: f"each month's customers stay for {stay} more")
def test_a_year_of_months_whose_churn_rate_moves_by_three_points_passes(contract, stay):
    """Each snapshot has the newest month's customers and those of some months before; late labels arrive after one."""
    pool, random = make_customers(contract, 20_000), np.random.default_rng(stay)
    by_label = [pool[pool["churn"] == label] for label in (0, 1)]
    refused, months, before = list[str](), list[pd.DataFrame](), None
    for number in range(12):
        rate = 0.265 + random.uniform(-0.03, 0.03)
        rows = 7_000 // (stay + 1)
        parts = [
            part.sample(round(rows * share), random_state=random)
            for part, share in zip(by_label, (1 - rate, rate), strict=True)
        ]
        newest = pd.concat(parts).assign(customer_id=lambda frame, n=number: f"{n}-" + frame["customer_id"])
        late = newest[newest["churn"] == 1].sample(frac=0.05, random_state=random).index
        shown = [*months[-stay:], newest.assign(churn=newest["churn"].where(~newest.index.isin(late), 0))][-stay - 1 :]
        snapshot = pd.concat(shown)
        months.append(newest)
        with duckdb.connect() as database:
            database.register("train", to_arrow(snapshot.iloc[::2], contract))
            database.register("test", to_arrow(snapshot.iloc[1::2], contract))
            profile = profile_of(database, contract, before and before[1])
        if before and len(months) > stay + 1:
            refused += [one.message for one in profile_findings(contract, before[1], profile)]
            refused += selection_faults(changes(before[0], snapshot), contract.rules.profile, "churn")
        before = snapshot, profile
    assert refused == []


def changes(before, after):
    """The counts of two frames, by pandas."""
    there, here = (frame.set_index("customer_id")["churn"] for frame in (before, after))
    both = there.index.intersection(here.index)
    gone = there.drop(both)
    moved = here[both] - there[both]
    return LabelChanges(
        len(gone), int(gone.sum()), len(both), int(there[both].sum()), int((moved > 0).sum()), int((moved < 0).sum())
    )


def test_a_churn_rate_may_differ_by_a_third_of_itself_and_by_no_more_than_the_contract_allows(contract):
    rules = contract.rules.profile
    tolerances = [label_tolerance(rate, 0.3, rules) for rate in (0.9, 0.15, 0.0)]
    assert tolerances == pytest.approx([rules.label_rate, 0.05, 0.01])
