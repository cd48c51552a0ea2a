"""The features of a customer that are computed, alike for the training and for a customer to be scored.

To add a feature: write a function here, name it in FEATURES, and declare its column in contract.yaml with
`computed: true`. Nothing else in churn/ needs an edit; churn/data/featuring.py applies the functions and checks them.
"""

from collections.abc import Callable, Sequence

import pandas as pd


def add_num_products(customers: pd.DataFrame) -> pd.DataFrame:
    """Add num_products: how many of the nine services the customer subscribes to."""
    services = ["phone_service", "multiple_lines", "online_security", "online_backup", "device_protection"]
    services += ["has_tech_support", "streaming_tv", "streaming_movies"]
    has_internet = customers["internet_service"] != "No"
    return customers.assign(num_products=customers[services].sum(axis="columns") + has_internet)


# Each gives the frame back with more columns; a row's result depends on that row alone, so that batches, and a single
# customer at scoring time, give the same.
FEATURES: Sequence[Callable[[pd.DataFrame], pd.DataFrame]] = (add_num_products,)
