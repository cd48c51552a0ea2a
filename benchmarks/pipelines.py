"""`dvc repro` beside other ways to run the same steps: a cold run, a run with nothing to do, and one after each change.

The others are the four scripts of a tutorial, these under Make, and frameworks that run benchmarks/frameworks/steps.py:
the same customers, estimator, bounds and registry, each as its own documentation recommends. All start in an empty
folder with the environment installed and the framework's own database made, and take turns. Each runs the one command
that is right whatever has changed; none is told what to run. The numbers are CPU seconds with all child processes.
With --record they go to docs/benchmarks.md.
Usage: python -m benchmarks.pipelines [--rows ROWS] [--rounds ROUNDS] [--only NAME ...] [--columns COLUMN ...]
[--record]
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from benchmarks.customers import make_customers
from benchmarks.frameworks import HERE, environment, settings
from benchmarks.measure import ROOT, SAMPLE, Cost, clone, cost_of, median, module_cost
from benchmarks.results import earlier, record

SAMPLE_ROWS = 7_043
COLUMNS = ("cold", "nothing", "gate", "training", "feature", "data")
FRAMEWORKS = ("kedro", "zenml", "metaflow", "prefect", "dagster")
FEATURE = (  # the edit of the feature function, which stands in churn/features.py and in steps.py
    'customers[services].sum(axis="columns") + has_internet',
    '(customers[services].sum(axis="columns") + has_internet).clip(upper=8)',
)
SCRIPT = {"gate": "evaluate", "training": "train", "feature": "check"}  # of the tutorial, in which a change is made
QUIET = {  # no telemetry, and nothing outside of the folder
    "DO_NOT_TRACK": "1",
    "KEDRO_DISABLE_TELEMETRY": "1",
    "ZENML_ANALYTICS_OPT_IN": "false",
    "ZENML_LOGGING_VERBOSITY": "WARN",
    "AUTO_OPEN_DASHBOARD": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "600",  # 20 are too few on a busy machine
    "DAGSTER_DISABLE_TELEMETRY": "yes",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "METAFLOW_USER": "bench",
    "GIT_PYTHON_REFRESH": "quiet",
}


def replace(path: Path, *edits: tuple[str, str]) -> None:
    """Edit a text file. Exits when it lacks what is to be replaced."""
    text = path.read_text(encoding="utf-8")
    for before, after in edits:
        if before not in text:
            sys.exit(f"{path} has no `{before}` to change: this benchmark knows the sample alone.")
        text = text.replace(before, after)
    path.write_text(text, encoding="utf-8")


class Runner(ABC):
    """One way to run the steps, in a folder of its own."""

    def __init__(self, folder: Path, sources: tuple[Path, Path]) -> None:
        self.folder, self.sources = folder, sources

    @abstractmethod
    def run(self) -> Cost:
        """Run what a user would run."""

    @abstractmethod
    def change(self, what: str) -> None:
        """Make one of the changes of COLUMNS."""


class Repro(Runner):
    """Run this pipeline, in a clone whose committed results are dropped, so that every stage runs."""

    def __init__(self, folder: Path, sources: tuple[Path, Path]) -> None:
        super().__init__(clone(folder), sources)
        self.source = folder / "data/sample/telco_customers.csv"
        if sources[0] != SAMPLE:
            self.source = folder / "customers.parquet"
            replace(folder / "params.yaml", ("data/sample/telco_customers.csv", "customers.parquet"))
        shutil.copyfile(sources[0], self.source)
        if sources[0] != SAMPLE:  # the profile is made once, when a team takes the pipeline over
            for module in ("stages.fetch", "stages.prepare", "churn profile"):
                module_cost(module, folder)
            shutil.rmtree(folder / "data/raw")
            shutil.rmtree(folder / "data/features")
        module_cost("churn lock drop", folder)

    def run(self) -> Cost:
        """Run it."""
        return cost_of("dvc", "repro", cwd=self.folder)[0]

    def change(self, what: str) -> None:
        """Edit the file of that change."""
        if what == "gate":
            replace(self.folder / "params.yaml", ("roc_auc: {min: 0.82}", "roc_auc: {min: 0.819}"))
        elif what == "training":
            replace(self.folder / "params.yaml", ("  seed: 42", "  seed: 43"))
        elif what == "feature":
            replace(self.folder / "churn/features.py", FEATURE)
        else:
            shutil.copyfile(self.sources[1], self.source)


class Framework(Runner):
    """A framework that runs steps.py."""

    name = ""
    set_up: tuple[str, ...] = ()  # arguments of the environment's Python; untimed
    command: tuple[str, ...] = ()

    def __init__(self, folder: Path, sources: tuple[Path, Path]) -> None:
        super().__init__(folder, sources)
        self.python = environment(self.name)
        if (HERE / self.name).is_dir():
            shutil.copytree(HERE / self.name, folder)
        else:
            folder.mkdir()
        for path in HERE.glob("*.py"):
            if path.stem == "steps" or path.stem.startswith(self.name):
                shutil.copy(path, folder)
        (folder / "home").mkdir()
        (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        self.source = folder / f"customers{sources[0].suffix}"
        shutil.copyfile(sources[0], self.source)
        self.given = {"source": str(self.source)} | settings()
        self.write()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "PYTHONPATH"))}
        places = ("HOME", "PREFECT_HOME", "ZENML_CONFIG_PATH")
        self.env = kept | QUIET | dict.fromkeys(places, str(folder / "home")) | {"PYTHONPATH": str(folder)}
        self.env |= {"DAGSTER_HOME": str(folder), "PATH": f"{self.python.parent}:{kept['PATH']}"}
        if self.set_up:
            cost_of(str(self.python), *self.set_up, cwd=folder, env=self.env)

    def write(self) -> None:
        """Write the settings; JSON is YAML, too, and Kedro reads that."""
        (self.folder / "settings.json").write_text(json.dumps(self.given))
        if (self.folder / "conf").exists():
            (self.folder / "conf/base/parameters.yml").write_text(json.dumps(self.given))

    def run(self) -> Cost:
        """Run it."""
        return cost_of(str(self.python), *self.command, cwd=self.folder, env=self.env)[0]

    def change(self, what: str) -> None:
        """Edit the settings, the function or the source."""
        if what == "gate":
            self.given["gate"]["overall"]["roc_auc"]["min"] -= 0.001
        elif what == "training":
            self.given["model"]["seed"] += 1
        elif what == "feature":
            replace(self.folder / "steps.py", FEATURE)
        else:
            shutil.copyfile(self.sources[1], self.source)
        self.write()


class Kedro(Framework):
    """One process, which runs every node."""

    name = "kedro"
    command = ("-m", "kedro", "run")


class ZenML(Framework):
    """One process; steps with the same code and inputs come from its cache."""

    name = "zenml"
    set_up = ("-c", "from zenml.client import Client; Client().active_stack_model")
    command = ("zenml_pipeline.py",)


class Metaflow(Framework):
    """A process a step."""

    name = "metaflow"
    command = ("metaflow_flow.py", "run")


class Prefect(Framework):
    """One process and its temporary server; tasks with the same code and inputs come from its cache."""

    name = "prefect"
    set_up = ("-c", "import prefect\n@prefect.flow\ndef nothing(): pass\nnothing()")
    command = ("prefect_flow.py",)


class Dagster(Framework):
    """A process an asset."""

    name = "dagster"
    command = ("-m", "dagster", "asset", "materialize", "--select", "*", "-f", "dagster_assets.py")


class Scripts(Runner):
    """The four scripts of the tutorial: a random forest, no gate, and all of them every time."""

    def __init__(self, folder: Path, sources: tuple[Path, Path]) -> None:
        super().__init__(folder, sources)
        shutil.copytree(ROOT / "benchmarks/tutorial", folder)
        shutil.copyfile(sources[0], folder / "telco_customers.csv")

    def run(self) -> Cost:
        """Run them one after the other."""
        each = ("check", "train", "evaluate", "register")
        return cost_of("sh", "-ec", "\n".join(f"python {one}.py" for one in each), cwd=self.folder)[0]

    def change(self, what: str) -> None:
        """Touch the script, which Make then runs with those after it."""
        if what == "data":
            shutil.copyfile(self.sources[1], self.folder / "telco_customers.csv")
        else:
            with (self.folder / f"{SCRIPT[what]}.py").open("a") as file:
                file.write(f"# {what}\n")


class Make(Scripts):
    """The four scripts under Make."""

    def run(self) -> Cost:
        """Run it."""
        return cost_of("make", "--silent", cwd=self.folder)[0]


RUNNERS: dict[str, type[Runner]] = {
    "dvc repro": Repro,
    "tutorial": Scripts,
    "tutorial, Make": Make,
    "Kedro": Kedro,
    "ZenML": ZenML,
    "Metaflow": Metaflow,
    "Prefect": Prefect,
    "Dagster": Dagster,
}


def compile_libraries(kind: type[Runner], folder: Path) -> None:
    """Run a framework once, untimed, after its installation: the first run compiles what it imports."""
    done = environment(kind.__name__.lower()).parent / "compiled"
    if not done.exists():
        kind(folder / f"first-{kind.__name__}", make_sources(folder, SAMPLE_ROWS)).run()
        done.touch()


def make_sources(folder: Path, rows: int) -> tuple[Path, Path]:
    """Return the customers, and those of another day."""
    if rows == SAMPLE_ROWS:
        other = folder / "second.csv"
        shutil.copyfile(SAMPLE, other)
        replace(other, (",65.6,593.3,", ",65.7,593.3,"))
        return SAMPLE, other
    sources = folder / "first.parquet", folder / "second.parquet"
    for seed, path in enumerate(sources):
        make_customers(path, rows, seed)
    return sources


def main(rows: int, rounds: int, only: list[str], columns: list[str], recorded: bool) -> None:
    """Run each runner through the columns, in turn, and print the medians."""
    costs: dict[str, dict[str, list[Cost]]] = {name: {column: [] for column in columns} for name in only}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sources = make_sources(folder, rows)
        for name in only:
            if issubclass(RUNNERS[name], Framework):
                compile_libraries(RUNNERS[name], folder)
        for number in range(rounds):
            runners = {name: RUNNERS[name](folder / f"{number}-{RUNNERS[name].__name__}", sources) for name in only}
            for column in columns:
                for name, runner in runners.items():
                    if column not in ("cold", "nothing"):
                        runner.change(column)
                    costs[name][column].append(runner.run())
                    wall, cpu, _ = costs[name][column][-1]
                    print(f"round {number + 1}, {column:8} {name:14} {cpu:6.1f} CPU s, {wall:6.1f} s", flush=True)
            for runner in runners.values():
                shutil.rmtree(runner.folder)
    found: dict[str, Any] = {
        name: {column: median(of).as_json() for column, of in each.items()} for name, each in costs.items()
    }
    for name, each in found.items():
        print(f"{name:14}" + "".join(f"{each[column]['cpu']:10.1f}" for column in columns))
    if recorded:
        sizes = earlier("pipelines", "rows")
        sizes[str(rows)] = sizes.get(str(rows), {}) | found
        record("pipelines", {"rows": sizes}, **versions())


def versions() -> dict[str, str]:
    """Return the versions of the frameworks."""
    pinned = [(HERE / f"{name}.txt").read_text(encoding="utf-8").split()[0] for name in FRAMEWORKS]
    return dict(one.replace("[local]", "").split("==") for one in pinned)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipelines", description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=SAMPLE_ROWS, help="%(default)s, the sample, by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=RUNNERS, default=[*RUNNERS])
    parser.add_argument("--columns", nargs="+", choices=COLUMNS, default=[*COLUMNS], help="cold has to come first")
    parser.add_argument("--record", action="store_true", help="renew docs/benchmarks.md")
    asked = parser.parse_args()
    if min(asked.rows, asked.rounds) < 1:
        parser.error("rows and rounds: at least 1")
    main(asked.rows, asked.rounds, asked.only, asked.columns, asked.record)
