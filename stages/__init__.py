"""The pipeline's stages, one module each, run by DVC as `python -m stages.NAME`."""

import gc
import sys
from importlib.util import find_spec

# Before any stage imports anything: the likeliest mistake of all, told in a sentence.
if not all(map(find_spec, ("duckdb", "mlflow", "pandas", "pydantic", "ruamel", "skops"))):
    sys.exit(
        f"{sys.executable} lacks what the stages need: run `make setup` once, then activate the environment with"
        " `source .venv/bin/activate`."
    )

# Imports make many objects and hardly any garbage: looking for it every 700 objects takes a seventh of a stage's time.
gc.set_threshold(100_000)
