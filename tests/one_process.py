"""A Dask cluster's place taken by the test's own process, where the test is of what the tasks do."""

import pickle
from contextlib import contextmanager
from functools import reduce


class InThisProcess:
    """A cluster that sends each task and each result through a pickle, as Dask does, and runs it here."""

    def map(self, function, items):
        return [pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(function))(item))) for item in items]

    def reduce(self, function, items, combine):
        return reduce(combine, self.map(function, items))

    def workers(self):
        return ["tcp://127.0.0.1:1"]

    def wait_for(self, count):
        return self.workers()[:count]

    def on_worker(self, function, worker, **arguments):
        return function(**arguments)

    def together(self, tasks):
        return [function(item) for _, function, item in tasks]


def run_here(monkeypatch, *modules):
    """Let modules that connect to a cluster run its tasks in this process."""

    @contextmanager
    def connected(compute):
        yield InThisProcess()

    for module in modules:
        monkeypatch.setattr(module, "connected", connected)
