"""The customers, as Kedro's documentation recommends: nodes of pure functions, datasets in the catalog."""
