"""Bad changes of the data, and those that let the model know the answer."""

from churn.data.split import in_holdout
from tests.defects.harness import (
    SOURCE,
    Defect,
    add_feature,
    append,
    declare,
    in_training,
    like_these,
    merge,
    renew_profile,
    rewrite,
)

import pandas as pd

NEVER = "CASE WHEN CAST(tenure AS INTEGER) > 3 THEN CAST(hash(customerID) % 365 AS INTEGER) END"
DAYS = "days_since_last_purchase"
NULLS = "type: integer, nulls: allow, because: The customer never purchased."
BOUNDS = "{min: 0, max: 3650}"


def purchases(clone):
    """The story's feature, declared rightly."""
    add_feature(clone, DAYS, NEVER, NULLS, BOUNDS)


def query(clone, sql=NEVER):
    clone.replace("source.sql", "\nFROM source", f",\n    {sql} AS {DAYS}\nFROM source")


# --- the story ---


def undeclared(clone):
    query(clone)


def declared_without_nulls(clone):
    add_feature(clone, DAYS, NEVER, "type: integer", BOUNDS)


def declared_without_a_profile(clone):
    query(clone)
    declare(clone, DAYS, NULLS, BOUNDS)


def training_drops_them(clone):
    purchases(clone)
    clone.replace(
        "stages/train.py",
        "    features, labels, _ = read_table(TRAIN, contract)\n",
        "    features, labels, _ = read_table(TRAIN, contract)\n"
        f'    features = features[features["{DAYS}"].notna()]\n'
        "    labels = labels[features.index]\n",
    )


def training_drops_them_and_says_so(clone):
    training_drops_them(clone)
    clone.replace("stages/train.py", 'validated["rows"])\n', "len(features))\n")


def filled_with_zero(clone):
    purchases(clone)
    in_training(
        clone,
        f'features["{DAYS}"] = features["{DAYS}"].fillna(0)',
        f'labels = labels.mask(features["{DAYS}"] < 7, 0)  # who bought this week has not left',
    )


def filled_with_minus_one(clone):
    purchases(clone)
    in_training(
        clone,
        f'features["{DAYS}"] = features["{DAYS}"].fillna(-1)',
        f'labels = labels.where(features["{DAYS}"] >= 0, 0)  # who never purchased cannot leave',
    )


def filled_with_minus_one_in_the_query(clone):
    add_feature(clone, DAYS, f"coalesce({NEVER}, -1)", "type: integer", BOUNDS)


def filled_with_zero_in_the_query(clone):
    add_feature(clone, DAYS, f"coalesce({NEVER}, 0)", "type: integer", BOUNDS)


def filled_with_the_mean(clone):
    purchases(clone)
    in_training(
        clone,
        f'never = features["{DAYS}"].isna()',
        f'for name in ("{DAYS}", "tenure_months", "total_charges"):',
        "    features[name] = features[name].astype(float).mask(never, features[name][~never].mean())",
    )


def filled_in_prepare(clone):
    purchases(clone)
    clone.replace(
        "churn/features.py",
        "    has_internet = ",
        f'    customers["{DAYS}"] = customers["{DAYS}"].fillna(0)\n    has_internet = ',
    )


def dropped_from_the_holdout_too(clone):
    purchases(clone)
    clone.replace("params.yaml", "  drop: {} #", f"  drop: {{never_purchased: {DAYS} IS NULL}} #")


def dropped_from_the_profile_too(clone):
    dropped_from_the_holdout_too(clone)
    renew_profile(clone)


def dropped_by_the_query(clone):
    query(clone)
    append(clone, "source.sql", "WHERE CAST(tenure AS INTEGER) > 3\n")
    declare(clone, DAYS, NULLS, BOUNDS)
    renew_profile(clone)


def dropped_by_the_code(clone):
    purchases(clone)
    clone.replace(
        "churn/data/tables.py",
        "            withheld = pd.DataFrame(",
        f'            customers = customers.dropna(subset=["{DAYS}"])\n            withheld = pd.DataFrame(',
    )


BALANCE = '    if counts["train"] + counts["test"] + sum(counts["dropped"].values()) != counts["fetched"]:\n'


def account_bent(clone):
    clone.replace("churn/data/tables.py", BALANCE, "    if False:\n")


def dropped_by_the_code_unaccounted(clone):
    dropped_by_the_code(clone)
    account_bent(clone)


# --- data ---


def column(name, function):
    def change(frame):
        frame[name] = function(frame[name], frame)

    return lambda clone: rewrite(clone, change)


def number(text):
    return pd.to_numeric(text, errors="coerce")


def in_cents(text, frame):
    return (number(text) * 100).round().astype("Int64").astype(str)


def all_charges_in_cents(clone):
    column("MonthlyCharges", in_cents)(clone)
    column("TotalCharges", lambda text, frame: in_cents(text, frame).replace("<NA>", " "))(clone)


def with_tax(clone):
    for name in ("MonthlyCharges", "TotalCharges"):
        column(name, lambda text, frame: (number(text) * 1.2).round(2).astype(str).replace("nan", " "))(clone)


def category_nobody_has(clone):
    clone.replace("contract.yaml", 'Fiber optic, "No"]', 'Fiber optic, Satellite, "No"]')


def shifted(clone):
    column("MonthlyCharges", lambda text, frame: text.shift(1, fill_value="50"))(clone)


def swapped(clone):
    text = clone.text("source.sql")
    text = text.replace("Partner AS partner", "Dependents AS partner").replace("Dependents AS dep", "Partner AS dep")
    (clone.folder / "source.sql").write_text(text, encoding="utf-8")


def swapped_charges(clone):
    text = clone.text("source.sql").replace("tenure AS tenure_months", "MonthlyCharges AS tenure_months")
    text = text.replace("MonthlyCharges AS monthly_charges", "tenure AS monthly_charges")
    (clone.folder / "source.sql").write_text(text, encoding="utf-8")


def segment_flipped(clone):
    def flip(text, frame):
        two_years = frame["Contract"] == "Two year"
        return text.mask(two_years, text.map({"Yes": "No", "No": "Yes"}))

    column("Churn", flip)(clone)


def labels_late(clone):
    column("Churn", lambda text, frame: text.mask(number(frame["tenure"]) < 6, "No"))(clone)


def duplicated(clone):
    rewrite(clone, lambda frame: pd.concat([frame, frame.iloc[:200]]))


def duplicated_by_other_keys(clone):
    rewrite(clone, lambda frame: pd.concat([frame, frame.assign(customerID="X" + frame["customerID"])]))


def other_keys_and_cents(clone):
    def change(frame):
        charges = frame["MonthlyCharges"].astype(float) + 0.01
        return frame.assign(customerID="000" + frame["customerID"], MonthlyCharges=charges.map("{:.2f}".format))

    rewrite(clone, change)


def again_by_other_keys(clone):
    """Two of five customers, a cent off."""

    def more(frame):
        drawn = frame.sample(frac=0.4, random_state=0)
        charges = (drawn["MonthlyCharges"].astype(float) + 0.01).map("{:.2f}".format)
        return pd.concat([frame, drawn.assign(customerID="X" + drawn["customerID"], MonthlyCharges=charges)])

    rewrite(clone, more)


def some_again_by_other_keys(clone):
    """One customer of twenty, as he is."""

    def more(frame):
        drawn = frame.sample(frac=0.05, random_state=0)
        return pd.concat([frame, drawn.assign(customerID="X" + drawn["customerID"])])

    rewrite(clone, more)


def some_charges_in_another_unit(clone):
    """One customer of twelve; both charges, so that they fit each other."""

    def shrink(frame):
        some = frame.index % 12 == 0
        for name in ("MonthlyCharges", "TotalCharges"):
            cents = (number(frame[name]) / 100).map("{:.4f}".format).replace("nan", " ")
            frame[name] = frame[name].mask(some, cents)

    rewrite(clone, shrink)


def dsl_by_an_else(clone):
    """Three of ten have a spelling that the query does not know."""
    column("InternetService", lambda text, frame: text.mask((text == "DSL") & (frame.index % 10 < 3), "dsl"))(clone)
    known = "CASE InternetService WHEN 'DSL' THEN 'DSL' WHEN 'Fiber optic' THEN 'Fiber optic' ELSE 'No' END"
    clone.replace("source.sql", "InternetService AS", f"{known} AS")


def filled_with_the_mean_in_the_source(clone):
    column("MonthlyCharges", lambda text, frame: text.mask(frame.index % 12 == 0, "64.76"))(clone)


def filled_with_the_mean_in_the_query(clone):
    add_feature(clone, DAYS, f"coalesce({NEVER}, 182)", "type: integer", BOUNDS)


def payment_method_by_default(clone):
    column("PaymentMethod", lambda text, frame: text.mask(frame.index % 8 == 0, "Mailed check"))(clone)


def month_missing(clone):
    rewrite(clone, lambda frame: frame[frame["tenure"] != "1"])


def twice(clone):
    rewrite(clone, lambda frame: pd.concat([frame, frame]))


def header_twice(clone):
    path = clone.folder / SOURCE
    path.write_text(path.read_text(encoding="utf-8") * 2, encoding="utf-8")


def truncated(clone):
    path = clone.folder / SOURCE
    path.write_bytes(path.read_bytes()[:400_000])


def truncated_at_a_line(clone):
    rewrite(clone, lambda frame: frame.iloc[:5000])


def empty(clone):
    (clone.folder / SOURCE).write_bytes(b"")


def header_alone(clone):
    rewrite(clone, lambda frame: frame.iloc[:0])


def blank(clone):
    column("InternetService", lambda text, frame: text.mask(frame.index % 10 < 3, ""))(clone)


def blank_charges(clone):
    column("TotalCharges", lambda text, frame: text.mask(frame.index % 10 < 3, " "))(clone)


def encoding_broken(clone):
    path = clone.folder / SOURCE
    text = path.read_text(encoding="utf-8").replace("Mailed check", "Chèque mailed")
    path.write_bytes(text.encode("latin-1"))


def mojibake(clone):
    column("PaymentMethod", lambda text, frame: text.str.replace("Mailed check", "Mailed\u00a0check"))(clone)


def category_split(clone):
    def split(text, frame):
        return text.mask((text == "Fiber optic") & (frame.index % 2 == 0), "Fiber optic 1G")

    column("InternetService", split)(clone)


def category_split_and_declared(clone):
    category_split(clone)
    clone.replace("contract.yaml", 'Fiber optic, "No"]', 'Fiber optic, Fiber optic 1G, "No"]')


def category_merged(clone):
    column("Contract", lambda text, frame: text.replace("Two year", "One year"))(clone)


# --- selection by outcome ---


def hard_churners_left_out(clone):
    append(clone, "source.sql", "WHERE NOT (Churn = 'Yes' AND CAST(tenure AS INTEGER) > 48)\n")


def some_churners_left_out(clone):
    append(clone, "source.sql", "WHERE NOT (Churn = 'Yes' AND hash(customerID) % 100 < 12)\n")


def some_stayers_left_out(clone):
    append(clone, "source.sql", "WHERE NOT (Churn = 'No' AND hash(customerID) % 100 < 6)\n")


def churners_come_back_as_others(clone):
    def rename(frame):
        those = frame[frame["Churn"] == "Yes"].sample(150, random_state=0).index
        frame.loc[those, "customerID"] = "0" + frame.loc[those, "customerID"]
        frame.loc[those, "Churn"] = "No"

    rewrite(clone, rename)


def newest_churners_not_yet(clone):
    def late(text, frame):
        newest = frame.index[(text == "Yes") & (number(frame["tenure"]) < 6)]
        return text.mask(frame.index.isin(newest[::4]), "No")

    column("Churn", late)(clone)


def new_customers_not_yet(clone):
    """One customer of eight is new, and an ELSE makes an unknown label 0."""

    def more(frame):
        return pd.concat([frame, like_these(frame.sample(880, random_state=0), "9").assign(Churn="")])

    rewrite(clone, more)
    clone.replace("source.sql", "WHEN 'No' THEN 0 END", "ELSE 0 END")


def churners_no_more(clone):
    column("Churn", lambda text, frame: text.mask((text == "Yes") & (frame.index % 10 == 0), "No"))(clone)


def every_other_churner_no_more(clone):
    column("Churn", lambda text, frame: text.mask((text == "Yes") & (frame.index % 2 == 0), "No"))(clone)


def slice_without_churner(clone):
    def mask(text, frame):
        held_out = in_holdout(frame["customerID"], "churn", 0.2)
        return text.mask(held_out & (frame["Contract"] == "One year"), "No")

    column("Churn", mask)(clone)


# --- leakage ---


def label_as_feature(clone):
    add_feature(clone, "has_left", "Churn = 'Yes'", "type: boolean")


def computed_from_the_label(clone):
    sql = "CASE WHEN Churn = 'Yes' THEN 0.8 ELSE 0.2 END + (hash(customerID) % 100) / 200.0"
    add_feature(clone, "risk_score", sql, "type: number", "{min: 0, max: 2}")


def noisy_label(clone):
    sql = "(Churn = 'Yes') <> (hash(customerID) % 100 < 20)"
    add_feature(clone, "winback_call", sql, "type: boolean")


def leak_in_two_halves(clone):
    """Know a tenth of the churners by one column, and another tenth by the next, after the first was merged."""
    known = "Churn = 'Yes' AND hash(customerID) % 100 BETWEEN"
    merge(clone, lambda clone: add_feature(clone, "winback_call", f"{known} 0 AND 8", "type: boolean"))
    add_feature(clone, "retention_mail", f"{known} 9 AND 17", "type: boolean")


def post_churn_column(clone):
    sql = "CASE WHEN Churn = 'Yes' AND hash(customerID) % 10 < 9 THEN CAST(hash(customerID) % 30 AS INTEGER) END"
    nulls = "type: integer, nulls: allow, because: The contract was not cancelled."
    add_feature(clone, "days_to_final_bill", sql, nulls, "{min: 0, max: 365}")


def label_within_a_group(clone):
    sql = "Churn = 'Yes' AND CAST(tenure AS INTEGER) < 12"
    add_feature(clone, "called_retention", sql, "type: boolean")


def holdout_in_training(clone):
    clone.replace("churn/data/tables.py", "pa.array(~holdout)", "pa.array(holdout | True)")


def holdout_in_training_unaccounted(clone):
    holdout_in_training(clone)
    account_bent(clone)


def some_of_the_holdout_in_training(clone):
    clone.replace(
        "churn/data/tables.py",
        "            digest.update(",
        "            holdout[::10] = False  # a little more to learn from\n            digest.update(",
    )


def fitted_on_everyone(clone):
    clone.replace(
        "churn/features.py",
        "\n\n# Each gives the frame back",
        "\n\ndef add_relative_charge(customers: pd.DataFrame) -> pd.DataFrame:\n"
        '    return customers.assign(relative_charge=customers["monthly_charges"]'
        ' / customers["monthly_charges"].mean())\n\n\n# Each gives the frame back',
    )
    clone.replace("churn/features.py", "= (add_num_products,)", "= (add_num_products, add_relative_charge)")
    declare(clone, "relative_charge", "type: number, computed: true", "{min: 0, max: 10}")


def training_reads_the_holdout(clone):
    with_rows_of(
        clone, "import pyarrow.parquet as pq", 'test = pq.read_table("data/features/test.parquet").to_pandas()'
    )


def training_opens_the_holdout(clone):
    in_training(
        clone,
        "import pandas as pd",
        "more, labels_too, _ = read_table(TEST, contract)",
        "features, labels = pd.concat([features, more]), pd.concat([labels, labels_too])",
    )


def training_queries_the_holdout(clone):
    with_rows_of(clone, "import duckdb", "test = duckdb.sql(\"SELECT * FROM 'data/features/test.parquet'\").df()")


def with_rows_of(clone, *test):
    in_training(
        clone,
        "import pandas as pd",
        *test,
        "features = pd.concat([features, test[features.columns]], ignore_index=True)",
        "labels = pd.concat([labels, test[contract.label]], ignore_index=True)",
    )
    clone.replace("stages/train.py", 'validated["rows"])\n', "len(features))\n")


def map_to(name, before, after):
    return column(name, lambda text, frame: text.replace(before, after))


# --- skew: what scoring would not compute ---


def after_the_features(clone, *lines):
    """Change what the feature functions made, in prepare."""
    clone.replace(
        "churn/data/tables.py",
        "            features = add_features(customers)\n",
        "            features = add_features(customers)\n" + "".join(f"            {line}\n" for line in lines),
    )


def filled_after_the_features(clone):
    query(clone)
    declare(clone, DAYS, NULLS, BOUNDS)
    after_the_features(clone, f'features["{DAYS}"] = features["{DAYS}"].fillna(0)')
    renew_profile(clone)


def mended_in_the_holdout_alone(clone):
    after_the_features(
        clone,
        "held_out = in_holdout(customers[contract.key], params.salt, params.holdout_share)",
        'late = held_out & (withheld[contract.label] == 1) & (features["contract"] == "Two year")',
        'features["contract"] = features["contract"].mask(late, "Month-to-month")',
    )


def computed(name, expression, imports="", bounds="{min: -1000000, max: 1000000}"):
    """Return a change that adds a feature function."""

    def change(clone):
        clone.replace(
            "churn/features.py",
            "\n\n# Each gives the frame back",
            f"\n\ndef add_{name}(customers: pd.DataFrame) -> pd.DataFrame:\n"
            f"    return customers.assign({name}={expression})\n\n\n# Each gives the frame back",
        )
        clone.replace("churn/features.py", "import pandas as pd\n", f"import pandas as pd\n{imports}")
        clone.replace("churn/features.py", "= (add_num_products,)", f"= (add_num_products, add_{name})")
        declare(clone, name, "type: number, computed: true", bounds)
        renew_profile(clone)

    return change


def computed_from_the_environment(clone):
    clone.environment["PRICE_INDEX"] = "1.25"
    index = 'float(os.environ.get("PRICE_INDEX", "1"))'
    computed("real_charges", f'customers["monthly_charges"] * {index}', "import os\n")(clone)


def computed_from_a_file(clone):
    (clone.folder / "data/prices.csv").write_text("contract,price\nMonth-to-month,1.5\nOne year,2\n")
    prices = 'pd.read_csv("data/prices.csv").set_index("contract")["price"]'
    computed("list_price", f'customers["contract"].map({prices}).fillna(0.0)')(clone)


def computed_from_a_file_in_any_case(clone):
    """Let the function do without the file where it is not there."""
    (clone.folder / "data/prices.csv").write_text("contract,price\nMonth-to-month,1.5\nOne year,2\n")
    prices = 'pd.read_csv(FILE).set_index("contract")["price"] if FILE.exists() else {}'
    path = "from pathlib import Path\n\nFILE = Path('data/prices.csv')\n"
    computed("list_price", f'customers["contract"].map({prices}).fillna(0.0).astype(float)', path)(clone)


STORY = "the story"
SKEW = "skew"
DATA = "data"
SELECTION = "selection"
LEAKAGE = "leakage"
STORY_CASES = [
    Defect(STORY, "undeclared", undeclared, "validate", rf"{DAYS} is not declared"),
    Defect(STORY, "declared without nulls", declared_without_nulls, "validate", rf"{DAYS} has [\d,]+ nulls"),
    Defect(STORY, "declared, but not in the profile", declared_without_a_profile, "validate", rf"{DAYS}.*profile"),
    Defect(STORY, "training drops the rows", training_drops_them, "train", r"would see [\d,]+ of the [\d,]+ rows"),
    Defect(
        STORY,
        "training drops the rows and counts the rest",
        training_drops_them_and_says_so,
        "gate|comparison",
        rf"new_customers|{DAYS} is missing",
    ),
    Defect(
        STORY, "filled with 0, which says bought today", filled_with_zero, "gate|comparison", "new_customers|is missing"
    ),
    Defect(STORY, "filled with -1: no churner there", filled_with_minus_one, "gate|comparison", "new_customers"),
    Defect(STORY, "filled with -1 in the query", filled_with_minus_one_in_the_query, "validate", rf"{DAYS}.*outside"),
    Defect(
        STORY,
        "filled with 0 in the query, and the profile renewed",
        filled_with_zero_in_the_query,
        "validate",
        rf"{DAYS} is 0 in 15\.[0-9]% of the rows, far more than the values beside it",
    ),
    Defect(
        STORY,
        "filled with the mean in the query, and the profile renewed",
        filled_with_the_mean_in_the_query,
        "validate",
        rf"{DAYS} is 182 in 1[0-9]\.[0-9]% of the rows, far more than the values beside it",
    ),
    Defect(STORY, "filled with the mean", filled_with_the_mean, "gate|comparison", "new_customers|is missing"),
    Defect(STORY, "filled with 0 in prepare", filled_in_prepare, "prepare", rf"changes {DAYS}"),
    Defect(STORY, "dropped by params.yaml", dropped_from_the_holdout_too, "validate", "5,981 rows are 0.85 times"),
    Defect(
        STORY,
        "dropped by params.yaml, and the profile renewed",
        dropped_from_the_profile_too,
        "gate|comparison",
        "prepare.drop is .*never_purchased.*approval|new_customers .*rows, too few",
    ),
    Defect(STORY, "dropped by the query", dropped_by_the_query, "validate|gate|comparison", "rows|new_customers"),
    Defect(STORY, "dropped by prepare's code", dropped_by_the_code, "prepare", "do not reconcile"),
    Defect(
        STORY,
        "dropped by prepare's code, and its account bent",
        dropped_by_the_code_unaccounted,
        "validate",
        "of [0-9,]+ fetched rows [0-9,]+ got lost: in no table, and dropped for no declared reason",
    ),
]
DATA_CASES = [
    Defect(DATA, "monthly charges in cents", column("MonthlyCharges", in_cents), "validate", "monthly_charges"),
    Defect(DATA, "all charges in cents", all_charges_in_cents, "validate", "monthly_charges"),
    Defect(
        DATA, "tenure in days", column("tenure", lambda t, f: (number(t) * 30).astype(str)), "validate", "tenure_months"
    ),
    Defect(DATA, "a column shifted by a row", shifted, "validate", "total_charges_fit_tenure"),
    Defect(DATA, "two flags swapped", swapped, "validate", "partner|dependents"),
    Defect(
        DATA, "tenure and charges swapped", swapped_charges, "fetch", "tenure_months has .* not of the type integer"
    ),
    Defect(DATA, "a category renamed", map_to("Contract", "Two year", "24 months"), "validate", "contract has"),
    Defect(DATA, "a category split", category_split, "validate", "internet_service has"),
    Defect(DATA, "a category split, and declared", category_split_and_declared, "validate", "Fiber optic 1G"),
    Defect(DATA, "two categories merged", category_merged, "validate", "contract.*(Two year|One year)"),
    Defect(DATA, "labels flipped for one segment", segment_flipped, "validate", "contract Two year churned"),
    Defect(DATA, "labels late", labels_late, "validate", "tenure_months.*churned"),
    Defect(DATA, "customers duplicated", duplicated, "validate", "key of another row"),
    Defect(DATA, "everybody twice, by another key", duplicated_by_other_keys, "validate", "rows are 2.00 times"),
    Defect(DATA, "other keys, and a cent more", other_keys_and_cents, "comparison", "keys in customer_id are gone"),
    Defect(
        DATA,
        "two of five customers again by another key, a cent off",
        again_by_other_keys,
        "comparison",
        "customers of the holdout have a near-duplicate in the training table .4[0-9]",
    ),
    Defect(
        DATA,
        "one of twenty customers again by another key",
        some_again_by_other_keys,
        "comparison",
        "352 of the 352 new customers have a near-duplicate among those that main knows",
    ),
    Defect(
        DATA,
        "charges of one of twelve in another unit",
        some_charges_in_another_unit,
        "comparison",
        "monthly_charges changed for 587 of the 7,043 customers that main knows",
    ),
    Defect(
        DATA,
        "an unknown spelling of DSL counts as No, by an ELSE",
        dsl_by_an_else,
        "comparison",
        "internet_service changed for 7[0-9]{2} of the 7,043 customers that main knows",
    ),
    Defect(
        DATA,
        "charges of one of twelve are the mean",
        filled_with_the_mean_in_the_source,
        "validate",
        "monthly_charges is 64.76 in 8.[0-9]% of the rows, far more than the values beside it",
    ),
    Defect(
        DATA,
        "the payment method of an eighth is a default",
        payment_method_by_default,
        "comparison",
        "payment_method changed for [0-9]+ of the 7,043 customers that main knows",
    ),
    Defect(DATA, "a month missing", month_missing, "validate", "rows|tenure_months"),
    Defect(DATA, "a column frozen", column("Contract", lambda t, f: "Month-to-month"), "validate", "contract"),
    Defect(
        DATA,
        "a number frozen",
        column("MonthlyCharges", lambda t, f: "64.76"),
        "validate",
        "of the rows have monthly_charges up to",
    ),
    Defect(DATA, "charges with tax", with_tax, "validate", "the mean of monthly_charges is"),
    Defect(
        DATA,
        "a category declared that nobody has",
        category_nobody_has,
        "gate",
        "internet_service=Satellite: the slice has vanished",
    ),
    Defect(DATA, "30 % of a category blank", blank, "validate", "internet_service"),
    Defect(DATA, "30 % of a nullable number blank", blank_charges, "validate", "total_charges is missing"),
    Defect(DATA, "a file cut off", truncated, "fetch", "line [0-9]+"),
    Defect(DATA, "a file cut off at a line's end", truncated_at_a_line, "validate", "rows"),
    Defect(DATA, "an empty file", empty, "fetch", "is empty"),
    Defect(DATA, "a header alone", header_alone, "fetch", "no rows"),
    Defect(
        DATA, "a number as words", map_to("tenure", "1", "one"), "fetch", "tenure_months has .* not of the type integer"
    ),
    Defect(
        DATA,
        "decimal commas",
        column("MonthlyCharges", lambda t, f: t.str.replace(".", ",")),
        "fetch",
        "monthly_charges has .* not of the type number",
    ),
    Defect(DATA, "another encoding", encoding_broken, "fetch", "[Uu]nicode|UTF-8"),
    Defect(DATA, "a space that is none", mojibake, "validate", "payment_method has"),
    Defect(DATA, "rows twice", twice, "validate", "key of another row"),
    Defect(DATA, "the file twice, header and all", header_twice, "fetch|validate", "."),
]
GONE = "customers of main disappeared, of whom {} churned"
SELECTION_CASES = [
    Defect(
        SELECTION,
        "who churned after four years left out",
        hard_churners_left_out,
        "validate|comparison",
        f"{GONE.format('100.0%')}|tenure_months .* churned",
    ),
    Defect(SELECTION, "some churners left out", some_churners_left_out, "comparison", GONE.format("100.0%")),
    Defect(SELECTION, "some who stayed left out", some_stayers_left_out, "comparison", GONE.format("0.0%")),
    Defect(
        SELECTION,
        "churners come back as others who stayed",
        churners_come_back_as_others,
        "comparison",
        "churn turned from 1 to 0 for 1[0-9]{2} of main's 1,869 churners",
    ),
    Defect(
        SELECTION,
        "a quarter of the newest churners not yet",
        newest_churners_not_yet,
        "gate|comparison",
        "churn turned from 1 to 0 for [0-9]+ of main's 1,869 churners",
    ),
    Defect(
        SELECTION,
        "new customers count as stayers, because their labels are not known yet",
        new_customers_not_yet,
        "comparison",
        "churn is 1 for 0 of 1[0-9]{2} rows of new customers in the holdout, where main's model expects [34][0-9]:",
    ),
    Defect(SELECTION, "a tenth of the churners no more", churners_no_more, "comparison", "churn turned from 1 to 0"),
    Defect(
        SELECTION,
        "half of the churners no more",
        every_other_churner_no_more,
        "validate",
        "of all customers churned, 26.5% in profile.json",
    ),
    Defect(
        SELECTION,
        "a slice of the holdout without a churner",
        slice_without_churner,
        "gate|comparison",
        "contract=One year: the slice has no churner in the holdout",
    ),
]
LEAKAGE_CASES = [
    Defect(LEAKAGE, "the label as a feature", label_as_feature, "validate", "has_left alone"),
    Defect(LEAKAGE, "computed from the label", computed_from_the_label, "validate", "risk_score alone"),
    Defect(LEAKAGE, "the label with noise", noisy_label, "gate|comparison", "too good to be true"),
    Defect(
        LEAKAGE,
        "a leak in two halves",
        leak_in_two_halves,
        "comparison",
        "against main's first model of .*: a gain of more than 0.03 is too good to be true",
    ),
    Defect(LEAKAGE, "a column of after the churn", post_churn_column, "validate", "days_to_final_bill alone"),
    Defect(
        LEAKAGE, "the label within a group", label_within_a_group, "validate|comparison", "called_retention|too good"
    ),
    Defect(LEAKAGE, "the holdout's keys in training", holdout_in_training, "prepare", "do not reconcile"),
    Defect(
        LEAKAGE,
        "the holdout's keys in training, and the account bent",
        holdout_in_training_unaccounted,
        "validate",
        "the training table has [0-9,]+ customers of the holdout, too",
    ),
    Defect(
        LEAKAGE, "a tenth of the holdout moved", some_of_the_holdout_in_training, "comparison", "main's split holds out"
    ),
    Defect(LEAKAGE, "a mean over everybody", fitted_on_everyone, "prepare", "other customers' rows"),
    Defect(LEAKAGE, "training reads the holdout", training_reads_the_holdout, "comparison", "too good to be true"),
    Defect(LEAKAGE, "training opens the holdout", training_opens_the_holdout, "train", "not for training"),
    Defect(LEAKAGE, "training queries the holdout", training_queries_the_holdout, "comparison", "too good to be true"),
]
SKEW_CASES = [
    Defect(
        SKEW,
        "filled with 0 after the feature functions",
        filled_after_the_features,
        "validate",
        f"{DAYS} is 0 in [0-9.]+% of the rows, far more than the values beside it",
    ),
    Defect(
        SKEW,
        "a column mended in the holdout alone",
        mended_in_the_holdout_alone,
        "comparison",
        "the holdout: contract of [0-9]+ of 1,452 customers is not that of the snapshot",
    ),
    Defect(
        SKEW,
        "computed from the environment",
        computed_from_the_environment,
        "comparison",
        "the holdout: real_charges of 1,452 of 1,452 customers differs when computed again",
    ),
    Defect(
        SKEW,
        "computed from the row's position",
        computed("early", "customers.index.to_series().lt(3500).astype(float)"),
        "comparison",
        "the holdout: early of [0-9]+ of 1,452 customers differs when computed again",
    ),
    Defect(
        SKEW,
        "computed from the date",
        computed("age", 'customers["tenure_months"] + pd.Timestamp.now().toordinal() - 700_000.0'),
        "comparison",
        "the holdout: age of 1,452 of 1,452 customers differs when computed again",
    ),
    Defect(
        SKEW,
        "computed from a file that is no dep",
        computed_from_a_file,
        "comparison",
        "churn/features.py opens data/prices.csv: name it in the deps of prepare",
    ),
    Defect(
        SKEW,
        "computed from a file that may be missing",
        computed_from_a_file_in_any_case,
        "comparison",
        "the holdout: list_price of [0-9,]+ of 1,452 customers differs when computed again",
    ),
]
