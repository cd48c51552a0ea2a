"""The estimators that `train.estimator` may name."""

PACKAGES = ("sklearn",)  # any classifier with probabilities; list a package after reading what its import does
XGBOOST = "xgboost.XGBClassifier"
BOOSTING = ("lightgbm.LGBMClassifier", XGBOOST)
LISTED = f"name a classifier of {', '.join(PACKAGES)}, {' or '.join(BOOSTING)}"


def how_to_install(package: str) -> str:
    """Return what installs the package of an estimator that requirements.txt lacks."""
    return f"run `make setup`, which installs requirements-{package}.txt for it"
