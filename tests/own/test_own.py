"""The committed results of the live files, whatever table they describe."""

from tests.conftest import clone_of_tree
from tests.frozen import live_files


def test_the_committed_results_are_those_that_anyones_run_makes(tmp_path):
    """A run from nothing but what Git holds leaves dvc.lock, metrics and plots as they are."""
    with live_files():
        own = clone_of_tree(tmp_path / "repository", live=True)
    own.ok("dvc", "repro")
    assert own.ok("git", "status", "--porcelain") == ""
