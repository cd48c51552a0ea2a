"""How much memory a stage may use, `compute.memory` of params.yaml, and what it means for DuckDB and for estimators."""

from churn.config.contract import Contract
from churn.config.estimators import BOOSTING
from churn.config.params import Params, Train
from churn.core.errors import StageError
from churn.core.paths import PARAMS

UNITS = {"MB": 10**6, "GB": 10**9}
PROCESS = 300_000_000  # of Python and its libraries, before a row is read
# By estimator, the bytes that training takes for a row, and for each of its features: for a code, and for a number;
# `python -m benchmarks.scale` prints the peaks, of numbers with --columns. Any other estimator takes as many as the
# largest for each column after one-hot encoding.
NEEDED = {
    "lightgbm.LGBMClassifier": (65, 5, 20),
    "xgboost.XGBClassifier": (10, 8, 32),
    "sklearn.ensemble.HistGradientBoostingClassifier": (80, 40, 40),
}
# Models that grow with the rows: the trees of a forest by default, and kernels of each row with each other.
FORESTS = {
    "BaggingClassifier": 10,
    "DecisionTreeClassifier": 1,
    "ExtraTreeClassifier": 1,
    "ExtraTreesClassifier": 100,
    "RandomForestClassifier": 100,
}
KERNELS = ("GaussianProcessClassifier", "LabelPropagation", "LabelSpreading")
NODE, CELL = 340, 24  # bytes
HOLDOUT = (300, 25)  # the same of evaluate and register, for a row of the holdout
ON_DISK = BOOSTING[1]  # trains in batches from disk where memory is too small
DEFAULT = "1GB"  # of DuckDB
THREAD = 125  # MB that a thread of DuckDB needs to sort


_of_duckdb: list[int | None] = [None]  # MB


def memory_limit(params: Params) -> int | None:
    """Return `compute.memory` in bytes, or None where none is set.

    Examples
    --------
    >>> from pathlib import Path
    >>> from churn.config.params import Compute, load_params
    >>> params = load_params(Path("tests/sample/params.yaml"))
    >>> memory_limit(params.model_copy(update={"compute": Compute(memory="1.5GB")}))
    1500000000
    """
    memory = params.compute.memory
    return int(float(memory[:-2]) * UNITS[memory[-2:]]) if memory else None


def limit_duckdb(params: Params) -> None:
    """Let DuckDB use half of the limit from now on, and then the disk; the other half is Arrow's and pandas'."""
    limit = memory_limit(params)
    _of_duckdb[0] = None if limit is None else limit // 2_000_000


def duckdb_limit(share: float = 1) -> str:
    """Return how much memory a connection of DuckDB may use: its share of DuckDB's half, or 1 GB without a limit."""
    return DEFAULT if _of_duckdb[0] is None else f"{int(_of_duckdb[0] * share)}MB"


def duckdb_threads(share: float) -> int | None:
    """Return how many threads the memory of a connection suffices for, or None for any number.

    A connection with all of DuckDB's half keeps a thread for each processor.
    """
    return None if _of_duckdb[0] is None or share == 1 else max(1, int(_of_duckdb[0] * share) // THREAD)


def trains_on_disk(params: Params, contract: Contract, rows: int) -> bool:
    """Return whether the estimator has to train in batches from disk.

    Raises StageError when it would need more memory than `compute.memory`, and cannot.
    """
    limit, train = memory_limit(params), params.train
    if limit is None or (needed := memory_needed(train, contract, rows)) <= limit:
        return False
    if train.estimator == ON_DISK:
        return True
    raise StageError(
        f"{PARAMS}: compute.memory: {train.estimator.rpartition('.')[2]} needs about {needed / 10**9:.1f} GB for"
        f" {rows:,} rows: raise it, or let train.estimator be {ON_DISK}, which trains on disk."
    )


def refuse_large_holdout(params: Params, contract: Contract, rows: int) -> None:
    """Raise StageError when scoring and measuring so many rows takes more memory than `compute.memory` on one machine.

    Both need all scores at once, because each metric's interval is that of all customers.
    """
    if params.compute.engine == "dask":
        return
    row, column = HOLDOUT
    needed, limit = PROCESS + rows * (row + column * len(contract.features)), memory_limit(params)
    if limit is not None and needed > limit:
        raise StageError(
            f"{PARAMS}: compute.memory: the holdout needs about {needed / 10**9:.1f} GB for {rows:,} rows: raise it, or"
            " let prepare.holdout_share be smaller."
        )


def memory_needed(train: Train, contract: Contract, rows: int) -> int:
    """Return about how many bytes training takes.

    Examples
    --------
    >>> from pathlib import Path
    >>> from churn.config.contract import load_contract
    >>> boosting = Train(estimator="lightgbm.LGBMClassifier", parameters={}, seed=1)
    >>> memory_needed(boosting, load_contract(Path("tests/sample/contract.yaml")), 10_000_000)
    2500000000
    """
    numbers = len(contract.features_of("integer", "number"))
    codes = len(contract.features) - numbers
    if train.estimator not in NEEDED:
        codes += sum(len(contract.columns[name].values or ()) for name in contract.features_of("category"))
        numbers *= 2  # with the flags of missing ones
    row, code, number = NEEDED.get(train.estimator, max(NEEDED.values()))
    return PROCESS + rows * (row + code * codes + number * numbers) + _of_model(train, rows)


def _of_model(train: Train, rows: int) -> int:
    """Return about how many bytes a model takes that grows with the rows, in all copies that are made to write it."""
    name, given = train.estimator.rpartition(".")[2], train.parameters
    if name in KERNELS:
        return rows * rows * CELL
    if name not in FORESTS:
        return 0

    def whole(parameter: str, default: int) -> int:
        value = given.get(parameter)
        return value if isinstance(value, int) and value > 0 else default  # else the estimator refuses it, or a share

    nodes = rows // whole("min_samples_leaf", 1)
    nodes = min(nodes, 2 * whole("max_leaf_nodes", nodes), 2 << min(whole("max_depth", 60), 60))
    return whole("n_estimators", FORESTS[name]) * nodes * NODE
