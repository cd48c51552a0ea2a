"""Customers to train on."""

from churn.data.featuring import to_arrow
from churn.modeling.model import model_frame
from tests.conftest import make_customers


def frame_of(contract, rows=600, seed=0):
    """Return the features of some customers as the model takes them, and their labels."""
    customers = make_customers(contract, rows, seed)
    return model_frame(to_arrow(customers, contract), contract), customers["churn"]
