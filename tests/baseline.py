"""Main's side of the report, as the report makes it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from report.baseline import build, checked_out


@contextmanager
def rebuilt(commit: str) -> Iterator[Path]:
    """Yield a folder with the pipeline of a commit, and its results up to evaluate."""
    with checked_out(commit) as folder:
        build(folder, "evaluate")
        yield folder
