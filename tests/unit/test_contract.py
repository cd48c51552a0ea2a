from churn.config.contract import READ_AS_MISSING, load_contract
from churn.core.errors import StageError
from tests.conftest import after_change

import pytest
from pandas._libs.parsers import STR_NA_VALUES


@pytest.fixture
def changed(tmp_path):
    return after_change("contract.yaml", load_contract, tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v["columns"]["tenure_months"].update(nulls="allow"), "columns.tenure_months: `nulls: allow` and"),
        (lambda v: v["columns"]["tenure_months"].update(because="so"), "columns.tenure_months: `nulls: allow` and"),
        (lambda v: v["columns"]["churn"].update(nulls="allow", because="so"), "a label cannot allow nulls"),
        (lambda v: v["columns"]["contract"].pop("values"), "columns.contract: a category lists its values"),
        (lambda v: v["columns"]["partner"].update(values=["a"]), "columns.partner: a category lists its values"),
        (lambda v: v["columns"]["contract"].update(values=["a", "a"]), "columns.contract: a value is listed twice"),
        (
            lambda v: v["columns"]["contract"].update(values=["None", "a"]),
            "contract: 'None' is read as a missing",
        ),
        (lambda v: v["columns"]["partner"].update(type="string"), "columns.partner: a feature has the type"),
        (lambda v: v["columns"]["partner"].update(role="label"), "columns.partner: a label has the type integer"),
        (lambda v: v["columns"]["customer_id"].update(computed=True), "customer_id: a key is fetched, not computed"),
        (
            lambda v: v["columns"].update(__row={"role": "feature", "type": "boolean"}),
            "columns.__row: names that begin with __ are the pipeline's own",
        ),
        (
            lambda v: v["columns"].update(score=v["columns"].pop("customer_id")),
            "columns.score: the pipeline writes a column of this name: name it otherwise",
        ),
        (
            lambda v: v["columns"].update(Partner={"role": "feature", "type": "boolean"}),
            "columns.partner: differs from Partner by upper and lower case alone",
        ),
        (
            lambda v: v["rules"]["ranges"].update(tenure_months={"min": 0.2, "max": 0.8}),
            "rules.ranges.tenure_months: no integer is between 0.2 and 0.8",
        ),
        (
            lambda v: (
                v["columns"]["tenure_months"].update(nulls="allow", because="Unknown."),
                v["rules"]["ranges"].update(tenure_months={"min": 0, "max": 1e17}),
            ),
            "rules.ranges.tenure_months: an integer that may be missing keeps its last digits to 2**53 alone: declare",
        ),
        (lambda v: v["columns"]["churn"].update(computed=True), "churn: a label is fetched, not computed"),
        (lambda v: v["columns"].pop("churn"), "exactly one column has the role label, not 0"),
        (lambda v: v["columns"].update(id={"role": "key", "type": "integer"}), "exactly one column has the role key"),
        (lambda v: v["columns"]["partner"].update(typ="boolean"), "columns.partner.typ: is not a known key"),
        (lambda v: v["rules"]["ranges"].pop("tenure_months"), "rules.ranges: no range for tenure_months"),
        (lambda v: v["rules"]["ranges"].update(age={"min": 0, "max": 1}), "rules.ranges: age is not a numeric feature"),
        (
            lambda v: v["rules"]["ranges"].update(tenure_months={"min": 5, "max": 1}),
            "rules.ranges.tenure_months: min 5.0 is above max 1.0",
        ),
        (
            lambda v: v["rules"].update(spikes={"contract": {"0": "So."}}),
            "rules.spikes: contract is not a numeric feature",
        ),
        (
            lambda v: v["rules"].update(spikes={"tenure_months": {"a": "So."}}),
            "rules.spikes.tenure_months.a: input should",
        ),
        (lambda v: v["rules"]["changes"].update(churn=0.1), "rules.changes: churn is not a feature"),
        (
            lambda v: v["rules"]["changes"].update(partner=1.5),
            "rules.changes.partner: input should be less than or equal",
        ),
        (
            lambda v: v["rules"]["relations"]["total_charges_fit_tenure"].update(column="total"),
            "rules.relations.total_charges_fit_tenure.column: total is not declared",
        ),
    ],
)
def test_a_wrong_declaration_is_one_sentence_with_its_path(changed, change, said):
    with pytest.raises(StageError) as told:
        changed(change)
    assert said in str(told.value)


def test_features_keep_the_order_of_the_contract(contract):
    assert contract.key == "customer_id"
    assert contract.label == "churn"
    assert contract.features[:3] == ["tenure_months", "monthly_charges", "total_charges"]
    assert set(contract.features) == set(contract.columns) - {"customer_id", "churn"}


def test_what_counts_as_missing_in_a_csv_is_what_pandas_says():
    assert set(STR_NA_VALUES) == READ_AS_MISSING


def test_no_is_a_word_and_no_boolean(changed):
    loaded = changed(lambda v: v["columns"]["internet_service"].update(values=["DSL", "no", "yes"]))
    assert loaded.columns["internet_service"].values == ("DSL", "no", "yes")


def test_a_category_has_at_most_255_values_and_the_message_groups_the_others(changed):
    """Fault in the settings: a category lists more than 255 values.

    Each stage fails: `contract.yaml: columns.contract: a category has at most 255 values, …`
    """

    def values(count):
        return lambda v: v["columns"]["contract"].update(values=[f"v{number}" for number in range(count)])

    assert len(changed(values(255)).columns["contract"].values) == 255
    with pytest.raises(StageError, match=r"columns\.contract: a category has at most 255 values, and this one 1,500: "):
        changed(values(1_500))


def test_all_faults_of_the_rules_are_in_one_message_with_the_nearest_names(changed):
    def change(v):
        v["rules"]["ranges"]["tenure_month"] = v["rules"]["ranges"].pop("tenure_months")
        v["rules"]["changes"]["Contract"] = 0.1
        v["rules"]["spikes"] = {"partner": {"0": "none"}}
        v["rules"]["relations"]["total_charges_fit_tenure"]["column"] = "total_charge"

    with pytest.raises(StageError) as refused:
        changed(change)
    assert str(refused.value).partition("contract.yaml: ")[2] == (
        "rules.ranges: no range for tenure_months; every numeric feature has one; rules.ranges:"
        " tenure_month is not a numeric feature (is it tenure_months?); rules.spikes: partner is not a numeric feature;"
        " rules.changes: Contract is not a feature (is it contract?); rules.relations.total_charges_fit_tenure.column:"
        " total_charge is not declared (is it total_charges?)."
    )
