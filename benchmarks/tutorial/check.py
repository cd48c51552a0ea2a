"""Step 1 of the pipeline that tutorials give: look at the table with pandas, clean it, save it."""

import argparse

import pandas as pd

if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()

customers = pd.read_csv("telco_customers.csv")
assert customers["customerID"].is_unique
assert customers["tenure"].between(0, 120).all()
assert customers["Churn"].isin(["Yes", "No"]).all()
customers["TotalCharges"] = pd.to_numeric(customers["TotalCharges"], errors="coerce")
customers = customers.dropna().drop(columns=["customerID"])
customers["Churn"] = (customers["Churn"] == "Yes").astype(int)
pd.get_dummies(customers).to_csv("clean.csv", index=False)
print(f"{len(customers)} customers")
