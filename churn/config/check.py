"""Checks the settings against each other at the start of each stage, before it reads a customer.

So the first stage that runs names every fault of params.yaml and contract.yaml at once, whichever of them changed. A
stage's deps stay as they are: a check that passes changes no result, so a changed bound of the gate reruns no fetch.
"""

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from churn.config.contract import Contract, load_contract
from churn.config.estimators import BOOSTING, LISTED, PACKAGES, XGBOOST, how_to_install
from churn.config.memory import limit_duckdb
from churn.config.params import OVERALL, Params, Prepare, SettingsError, Slices, load_params
from churn.core.errors import StageError, nearest
from churn.core.files import read_json
from churn.core.paths import CONTRACT, PARAMS, PROFILE

FEATURES = Path("churn/features.py")
Settings = TypeVar("Settings")
Faults = Callable[[Params, Contract], Iterator[str]]


def checked_settings(*others: Faults) -> tuple[Params, Contract]:
    """Return params.yaml and contract.yaml. Raises StageError with a line for each fault, also for those of `others`.

    Other checks import more than this module may, as DuckDB for conditions. DuckDB then keeps to `compute.memory`.
    """
    faults: list[str] = []

    def loaded(load: Callable[[], Settings]) -> Settings | None:
        try:
            return load()
        except SettingsError as error:
            faults.extend(error.faults)
        except StageError as error:
            faults.append(str(error).removesuffix("."))
        return None

    params, contract = loaded(load_params), loaded(load_contract)
    if params and contract:
        for check in (period_faults, slice_faults, estimator_faults, engine_faults, feature_faults, *others):
            faults += check(params, contract)
        if not faults:
            limit_duckdb(params)
            return params, contract
    if len(faults) == 1:
        raise StageError(f"{faults[0]}.")
    lines = ";\n  ".join(faults)
    raise StageError(f"{len(faults)} settings are wrong:\n  {lines}.")


def period_faults(params: Params, contract: Contract) -> Iterator[str]:
    """Yield what is wrong where only one of a column of the role time and `prepare.time` is there."""
    if fault := half_of_time(params.prepare, contract):
        yield fault


def half_of_time(prepare: Prepare, contract: Contract) -> str | None:
    """Return which of a column of the role time and `prepare.time` is missing, if one is."""
    if contract.time and prepare.time is None:
        return (
            f"{PARAMS}: prepare.time is missing, and {CONTRACT} gives {contract.time} the role time: write"
            " `time: {holdout_days: 90, label_window_days: 30}` below prepare, with your days"
        )
    if prepare.time and contract.time is None:
        return (
            f"{PARAMS}: prepare.time needs the day of each row, but no column of {CONTRACT} has the role time: declare"
            " it, or remove prepare.time"
        )
    return None


def slice_faults(params: Params, contract: Contract) -> Iterator[str]:
    """Yield the columns that make no slices, slices of one name, and rules on slices that are not there."""
    slices, choices = params.evaluate.slices, contract.features_of("category", "boolean")
    for name in slices.columns:
        if name not in choices:
            what = f"{name} is not a category or boolean of the contract{nearest(name, choices)}"
            yield f"{PARAMS}: evaluate.slices.columns: {what}"
    names = slice_names(slices, contract)
    if OVERALL in slices.conditions:
        yield f"{PARAMS}: evaluate.slices.conditions: {OVERALL} names the rules on all of them; rename the condition"
    for name, count in Counter(names).items():
        if count > 1:
            yield f"{PARAMS}: evaluate.slices: {name} is the name of two slices; rename the condition"
    unlisted = {*slices_of(choices, contract)} - {*names}
    for name in params.gate.slices:
        if name in unlisted:
            column = name.partition("=")[0]
            yield f"{PARAMS}: gate.slices.{name}: is not a slice: list {column} in evaluate.slices.columns"
        elif name not in names:
            near = nearest(name, names) or "; it is column=value, the name of a condition, or `column is missing`"
            yield f"{PARAMS}: gate.slices.{name}: is not a slice{near}"


def slice_names(slices: Slices, contract: Contract) -> list[str]:
    """Return the names of all slices; a column that makes none has none."""
    choices = contract.features_of("category", "boolean")
    missing = [f"{name} is missing" for name in contract.features if contract.columns[name].nullable]
    return [*slices_of([one for one in slices.columns if one in choices], contract), *slices.conditions, *missing]


def slices_of(columns: Iterable[str], contract: Contract) -> Iterator[str]:
    """Yield the name of each slice that the columns make: a value of each."""
    for name in columns:
        for value in contract.columns[name].values or ("false", "true"):
            yield f"{name}={value}"


def estimator_faults(params: Params, _: Contract) -> Iterator[str]:
    """Yield what is wrong with the path of the estimator, by the files of its package; importing it takes a second."""
    path = params.train.estimator
    package, *modules = path.split(".")
    where = f"{PARAMS}: train.estimator: {path}"
    if path in BOOSTING:
        if not find_spec(package):
            yield f"{where} is of {package}, which is not installed: {how_to_install(package)}"
    elif package not in PACKAGES or not modules or not all(map(str.isidentifier, modules)):
        yield f"{where} is not from a listed package: {LISTED}"
    elif (spec := find_spec(package)) and spec.submodule_search_locations:
        name = modules.pop()
        module = Path(spec.submodule_search_locations[0], *modules)
        source = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
        if source.exists():
            names = set(re.findall(r"\b[A-Za-z]\w+", source.read_text(encoding="utf-8")))
            if name not in names:
                yield f"{where} does not exist{nearest(name, names)}: {LISTED}"
        elif not [*module.parent.glob(f"{module.name}.*")]:  # else it is compiled
            yield f"{where} does not exist: {LISTED}"


def engine_faults(params: Params, _: Contract) -> Iterator[str]:
    """Yield what Dask's workers cannot do yet, and whether Dask is missing."""
    if params.compute.engine != "dask":
        return
    where = f"{PARAMS}: compute.engine: dask"
    if not find_spec("distributed"):
        yield f"{where} needs Dask, which is not installed: `make setup` installs requirements-dask.txt for it"
    if params.train.estimator != XGBOOST:
        yield f"{where} trains {XGBOOST} alone, and train.estimator is {params.train.estimator}: change one of them"


def feature_faults(_: Params, contract: Contract) -> Iterator[str]:
    """Yield computed columns that no function can make, and functions whose columns the contract cannot know.

    The functions are read, not run: pandas takes a second to import. A name that is put together is not found.
    """
    computed = [name for name, column in contract.columns.items() if column.computed]
    try:
        text = FEATURES.read_text(encoding="utf-8")
        nodes = list(ast.walk(ast.parse(text)))
    except (OSError, ValueError, SyntaxError):  # which prepare names
        return
    assigned = [node for node in nodes if isinstance(node, ast.Assign | ast.AnnAssign) and _is_features(node)]
    listed = assigned[0].value if assigned else None
    if not isinstance(listed, ast.Tuple | ast.List):
        return
    if listed.elts and not computed:
        yield (
            f"{FEATURES}: FEATURES has functions, but no column of {CONTRACT} has `computed: true`: declare theirs, or"
            " write FEATURES = ()"
        )
    if not listed.elts:
        for name in computed:
            yield f"{CONTRACT}: columns.{name}: has `computed: true`, but FEATURES in {FEATURES} is empty"


def profile_note(contract: Contract) -> str | None:
    """Return a sentence if profile.json has less than half of the features, as before the first `make profile`."""
    try:
        described = read_json(PROFILE)["features"]
        unknown = sum(name not in described for name in contract.features)
    except (StageError, LookupError, TypeError):  # which validate names
        return None
    if 2 * unknown <= len(contract.features):
        return None
    return f"{PROFILE} describes other columns, so validate will fail: `dvc repro prepare`, then `make profile`"


def _is_features(node: ast.Assign | ast.AnnAssign) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return any(isinstance(target, ast.Name) and target.id == "FEATURES" for target in targets)
