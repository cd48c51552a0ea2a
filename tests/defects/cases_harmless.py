"""Changes that must pass, and the stages that they are to run."""

from tests.defects.cases_data import purchases
from tests.defects.cases_model import params
from tests.defects.harness import (
    SOURCE,
    Harmless,
    add_feature,
    append,
    declare,
    like_these,
    merge,
    renew_profile,
    rewrite,
)

import pandas as pd


def text(path, old, new):
    return lambda clone: clone.replace(path, old, new)


def more_rows(clone):
    """Add 5 % of customers like those that are there."""

    def more(frame):
        return pd.concat([frame, like_these(frame.sample(352, random_state=0), "9")])

    rewrite(clone, more)


def first_month(clone):
    """Add 3 % of customers, all in their first month, whom main does not have yet."""
    whole = clone.text(SOURCE)
    merge(
        clone,
        lambda clone: rewrite(
            clone, lambda frame: frame.drop(frame[frame["tenure"] == "1"].sample(210, random_state=1).index)
        ),
    )
    (clone.folder / SOURCE).write_text(whole, encoding="utf-8")


def fewer_rows(clone):
    rewrite(clone, lambda frame: frame.drop(frame.sample(70, random_state=0).index))


def closed_month(clone):
    """Some customers are gone, others are new, and some labels come late."""

    def next_month(frame):
        frame = frame.drop(frame.sample(150, random_state=1).index)
        frame.loc[frame[frame["Churn"] == "No"].sample(25, random_state=2).index, "Churn"] = "Yes"
        return pd.concat([frame, like_these(frame.sample(250, random_state=3), "8")])

    rewrite(clone, next_month)


def computed_feature(clone):
    clone.replace(
        "churn/features.py",
        "\n\n# Each gives the frame back",
        "\n\ndef add_charge_per_product(customers: pd.DataFrame) -> pd.DataFrame:\n"
        '    return customers.assign(charge_per_product=customers["monthly_charges"] / customers["num_products"])\n'
        "\n\n# Each gives the frame back",
    )
    clone.replace("churn/features.py", "= (add_num_products,)", "= (add_num_products, add_charge_per_product)")
    declare(clone, "charge_per_product", "type: number, computed: true", "{min: 0, max: 500}")
    renew_profile(clone)


def useful_feature(clone):
    sql = "PaymentMethod LIKE '%automatic%' AND Contract <> 'Month-to-month'"
    add_feature(clone, "settled", sql, "type: boolean")


def gender(clone):
    add_feature(clone, "gender", "gender", "type: category, values: [Female, Male]")


def feature_removed(clone):
    clone.replace("source.sql", "    Dependents AS dependents,\n", "")
    clone.replace("contract.yaml", "  dependents: {role: feature, type: boolean}\n", "")
    renew_profile(clone)


def spike_with_its_reason(clone):
    text(
        "contract.yaml", "  changes:", '  spikes:\n    days_as_customer: {"0": The contract has not begun.}\n  changes:'
    )(clone)
    days = "CASE WHEN CAST(tenure AS INTEGER) > 3 THEN CAST(tenure AS INTEGER) * 30 ELSE 0 END"
    add_feature(clone, "days_as_customer", days, "type: integer", "{min: 0, max: 3650}")


def contract_reordered(clone):
    clone.replace("contract.yaml", "  partner: {role: feature, type: boolean}\n", "")
    clone.replace(
        "contract.yaml",
        "  streaming_tv: {role: feature, type: boolean}\n",
        "  streaming_tv: {role: feature, type: boolean}\n  partner: {role: feature, type: boolean}\n",
    )


def refactored(clone):
    clone.replace(
        "churn/features.py",
        '    return customers.assign(num_products=customers[services].sum(axis="columns") + has_internet)\n',
        "    total = sum(customers[name].astype(int) for name in services)\n"
        "    return customers.assign(num_products=total + has_internet)\n",
    )


def renamed_variable(clone):
    path = clone.folder / "churn/modeling/training.py"
    path.write_text(path.read_text(encoding="utf-8").replace("one_hot", "one_hot_encoder"), encoding="utf-8")


def labels_mended(clone):
    def mend(frame):
        frame.loc[[100, 900, 2000, 4000, 6000], "Churn"] = "No"

    rewrite(clone, mend)


def one_more_column(clone):
    def add(frame):
        frame["AccountManager"] = "north"

    rewrite(clone, add)


def windows_line_ends(clone):
    path = clone.folder / "data/sample/telco_customers.csv"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def another_slice_with_a_rule(clone):
    clone.replace(
        "params.yaml",
        "      new_customers: tenure_months < 6\n",
        "      new_customers: tenure_months < 6\n      loyal: tenure_months >= 48\n",
    )
    clone.replace(
        "params.yaml", "    senior_citizen=true:\n", "    loyal:\n      roc_auc: {min: 0.6}\n    senior_citizen=true:\n"
    )


def reordered_and_reworded(clone):
    clone.replace(
        "params.yaml",
        "columns: [contract, internet_service, payment_method, senior_citizen]",
        "columns: [senior_citizen, payment_method, contract, internet_service]",
    )
    clone.replace("contract.yaml", "because: Prices change", "because: The prices change")
    clone.replace("contract.yaml", "because: A customer in", "because: Who is in")


def columns_renamed(clone):
    """Two columns, with the slices of one and the range and relation of the other."""
    for name in ("contract.yaml", "params.yaml", "source.sql"):
        text = clone.text(name).replace("payment_method", "pays_by").replace("total_charges", "billed")
        (clone.folder / name).write_text(text, encoding="utf-8")
    renew_profile(clone)


def keys_padded(clone):
    rewrite(clone, lambda frame: frame.assign(customerID="000" + frame["customerID"]))


def keys_of_another_system(clone):
    rewrite(
        clone, lambda frame: frame.assign(customerID=[f"C{number * 7919 % 10**6:06}" for number in range(len(frame))])
    )


def after_two_merges(clone):
    """Retrain where main has an earlier model, and that one an earlier one."""
    merge(clone, params("seed: 42", "seed: 7"))
    merge(clone, params("seed: 7", "seed: 2026"))
    params("seed: 2026", "seed: 43")(clone)


HARMLESS = [
    Harmless("another seed", params("seed: 42", "seed: 7"), ("train",)),
    Harmless("a third seed", params("seed: 42", "seed: 2026"), ("train",)),
    Harmless("another seed, after two merges of one", after_two_merges, ("train",)),
    Harmless("a few more trees", params("max_iter: 200", "max_iter: 220"), ("train",)),
    Harmless("a little slower learning", params("learning_rate: 0.05", "learning_rate: 0.045"), ("train",)),
    Harmless(
        "the source's columns reordered",
        lambda clone: rewrite(clone, lambda f: f[[f.columns[0], *f.columns[:0:-1]]]),
        ("fetch",),
    ),
    Harmless(
        "the source's rows reordered",
        lambda clone: rewrite(clone, lambda f: f.sample(frac=1, random_state=0)),
        ("fetch",),
    ),
    Harmless("the contract's columns reordered", contract_reordered),
    Harmless("a refactoring of prepare", refactored, ("prepare",)),
    Harmless("a variable renamed", renamed_variable, ("train",)),
    Harmless("5 % more customers", more_rows),
    Harmless("3 % new customers, all in their first month", first_month),
    Harmless("1 % of the customers gone", fewer_rows),
    Harmless("five labels mended", labels_mended),
    Harmless("a closed month: customers gone, new ones, late labels", closed_month),
    Harmless("a computed feature", computed_feature),
    Harmless("a fetched feature", useful_feature),
    Harmless("gender as a feature", gender),
    Harmless("a feature removed", feature_removed),
    Harmless("a new feature whose spike has a reason", spike_with_its_reason),
    Harmless("days_since_last_purchase, declared rightly", purchases),
    Harmless("a gate rule tightened", params("roc_auc: {min: 0.82}", "roc_auc: {min: 0.825}"), ()),
    Harmless(
        "a contract bound tightened",
        text("contract.yaml", "{min: 0, max: 500}", "{min: 0, max: 200}"),
        (),
    ),
    Harmless("slices reordered, and reasons reworded", reordered_and_reworded),
    Harmless("a relation tightened", text("contract.yaml", "<= 3 * monthly_charges", "<= 2.9 * monthly_charges"), ()),
    Harmless("columns renamed, with their rules", columns_renamed),
    Harmless("keys padded", keys_padded),
    Harmless("keys of another system", keys_of_another_system),
    Harmless("another slice, with a rule", another_slice_with_a_rule, ()),
    Harmless(
        "a library's patch",
        text("requirements.txt", "tqdm==4.70.1 ", "tqdm==4.70.2 "),
        ("prepare", "train"),
    ),
    Harmless("the docs", lambda clone: append(clone, "docs/operate.md", "\nOne more word.\n"), (), idle=True),
    Harmless("the README", lambda clone: append(clone, "README.md", "\nOne more word.\n"), (), idle=True),
    Harmless("a comment in params.yaml", params("  seed: 42", "  seed: 42 # the answer"), (), idle=True),
    Harmless(
        "a comment in the query",
        text("source.sql", "Partner AS partner,", "Partner AS partner, -- or spouse"),
        ("fetch",),
    ),
    Harmless("a comment in train", lambda clone: append(clone, "stages/train.py", "# The end.\n"), ("train",)),
    Harmless(
        "a test more", lambda clone: append(clone, "tests/unit/test_gate.py", "\n# more to come\n"), (), idle=True
    ),
    Harmless("a column more that nobody reads", one_more_column, ("fetch",)),
    Harmless("Windows' ends of lines", windows_line_ends, ("fetch",)),
    Harmless("the profile renewed", renew_profile, (), idle=True),
]
