"""A value that far more rows have than its neighbours needs a reason, wherever it was filled in."""

import json

from churn.config.params import load_params
from churn.core.files import write_json
from churn.core.paths import TEST, TRAIN
from churn.data.featuring import to_arrow
from churn.quality import profile as profiles
from churn.quality.profile import load_profile, profile_of
from churn.quality.profile_checks import profile_findings
from churn.quality.spikes import spikes_of
from tests.conftest import ROOT, make_customers

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

ROWS = 8_000
RANDOM = np.random.default_rng(0)
DAYS = RANDOM.integers(0, 365, ROWS).astype(float)
AMOUNTS = RANDOM.gamma(2, 40, ROWS).round(2)
SOME = np.arange(ROWS) % 100 < 15  # 15 % of the rows


def spikes(values):
    """Return the spikes of a column as {value: share}."""
    with duckdb.connect() as database:
        database.register("customers", pd.DataFrame({"x": values}))
        found = spikes_of(database, {"x": "nullif(\"x\", 'nan'::DOUBLE)"}, len(values)).get("x", [])
    return {spike.value: spike.share for spike in found}


@pytest.mark.parametrize(
    ("values", "fill"),
    [
        (DAYS, 0.0),
        (DAYS, -1.0),
        (DAYS, float(np.median(DAYS))),
        (AMOUNTS, float(AMOUNTS.mean())),
        (AMOUNTS, 0.0),
        (AMOUNTS, 1e9),
        (RANDOM.integers(10_000, 20_000, ROWS).astype(float), -25_567.0),  # 1900-01-01, in days
        (np.minimum(RANDOM.geometric(0.05, ROWS), 72).astype(float), 24.0),  # of 72 months
    ],
)
def test_a_missing_value_filled_with_a_constant_the_mean_or_a_date_is_a_spike(values, fill):
    (found,) = spikes(np.where(SOME, fill, values)).items()
    assert found == (fill, pytest.approx(0.15, abs=0.06))


def test_two_fills_side_by_side_do_not_explain_each_other():
    assert set(spikes(np.select([SOME, np.arange(ROWS) % 100 > 85], [-1.0, 0.0], DAYS))) == {-1.0, 0.0}


@pytest.mark.parametrize(
    "values",
    [
        DAYS,
        AMOUNTS,
        AMOUNTS.round(),  # prices in whole units
        RANDOM.integers(0, 10, ROWS).astype(float),  # a number of products
        (RANDOM.random(ROWS) < 0.2).astype(float),  # a flag as a number
        np.minimum(RANDOM.geometric(0.5, ROWS), 9).astype(float),  # complaints
        np.minimum(RANDOM.geometric(0.05, ROWS), 72).astype(float),  # months, with the oldest customers at 72
        np.where(SOME, np.nan, DAYS),  # missing values that were left missing
    ],
)
def test_counts_prices_and_missing_values_are_no_spikes(values):
    assert spikes(values) == {}


@pytest.fixture
def customers(contract):
    return make_customers(contract, 3_000)


def profile(frame, contract, like=None):
    with duckdb.connect() as database:
        database.register("train", to_arrow(frame.iloc[::2], contract))
        database.register("test", to_arrow(frame.iloc[1::2], contract))
        return profile_of(database, contract, like)


def filled(frame, share=0.15):
    """Return the customers, some with a monthly charge of 0."""
    return frame.assign(monthly_charges=frame["monthly_charges"].mask(np.arange(len(frame)) % 100 < 100 * share, 0.0))


def declared(contract, column="monthly_charges", value=0.0):
    spikes = {column: {value: "Not billed."}}
    return contract.model_copy(update={"rules": contract.rules.model_copy(update={"spikes": spikes})})


def found(frame, contract, reference):
    findings = profile_findings(contract, reference, profile(frame, contract, reference))
    return [finding.sentence for finding in findings if finding.rule == "spikes"]


def test_a_spike_that_neither_the_profile_nor_a_reason_explains_is_found_with_the_next_step(customers, contract):
    (sentence,) = found(filled(customers), contract, profile(customers, contract))
    assert sentence == (
        "monthly_charges is 0 in 15.0% of the rows, far more than the values beside it: leave a missing value NULL, or"
        ' give the reason in contract.yaml: rules.spikes.monthly_charges: {"0": REASON}'
    )


def test_a_spike_of_the_profile_passes_and_one_that_grew_by_more_than_5_points_does_not(customers, contract):
    reference = profile(filled(customers), contract)
    assert found(filled(customers), contract, reference) == []
    assert found(filled(customers, 0.19), contract, reference) == []
    (sentence,) = found(filled(customers, 0.22), contract, reference)
    assert sentence.startswith("monthly_charges is 0 in 22.0% of the rows, and 15.0% in profile.json, far more")


def test_a_declared_value_passes_and_another_one_does_not(customers, contract):
    reference = profile(customers, contract)
    assert found(filled(customers), declared(contract), reference) == []
    assert len(found(filled(customers), declared(contract, value=1.0), reference)) == 1
    assert len(found(filled(customers), declared(contract, "total_charges"), reference)) == 1


def test_a_new_feature_is_compared_with_nothing(customers, contract):
    reference = profile(filled(customers), contract)
    features = {name: one for name, one in reference.features.items() if name != "monthly_charges"}
    assert len(found(filled(customers), contract, reference.model_copy(update={"features": features}))) == 1


def test_make_profile_records_a_new_spike_only_with_its_reason(customers, contract, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    TRAIN.parent.mkdir(parents=True)

    def made(frame, by):
        pq.write_table(to_arrow(frame.iloc[::2], contract), TRAIN)
        pq.write_table(to_arrow(frame.iloc[1::2], contract), TEST)
        monkeypatch.setattr(profiles, "load_contract", lambda: by)
        monkeypatch.setattr(profiles, "load_params", lambda: load_params(ROOT / "tests/sample/params.yaml"))
        profiles.main(profiles.arguments().parse_args([]))
        return [spike.value for spike in load_profile().features["monthly_charges"].spikes]

    assert made(customers, contract) == []
    assert made(filled(customers), contract) == []
    assert "profile: not recorded: monthly_charges is 0 in 15.0% of the rows" in capsys.readouterr().out
    assert made(filled(customers), declared(contract)) == [0.0]
    assert made(filled(customers), contract) == [0.0], "the profile knows it"
    profiles.PROFILE.unlink()
    assert made(filled(customers), contract) == [0.0], "the first profile takes the customers as they are"
    values = json.loads(profiles.PROFILE.read_text())
    del values["features"]["monthly_charges"]["spikes"]
    write_json(profiles.PROFILE, values)
    assert load_profile().features["monthly_charges"].spikes == ()
