"""The table of `make defects`: each case, who refused it, and the sentence."""

from tests.defects.harness import branch_of

import pytest


def pytest_terminal_summary(terminalreporter):
    reports = [*terminalreporter.stats.get("passed", []), *terminalreporter.stats.get("failed", [])]
    cases = [dict(report.user_properties) | {"as_wanted": report.passed} for report in reports if report.when == "call"]
    cases = sorted((case for case in cases if "case" in case), key=lambda case: (case["kind"], case["case"]))
    if not cases:
        return
    terminalreporter.section("defects")
    width = max(len(case["case"]) for case in cases)
    for case in cases:
        mark = "" if case["as_wanted"] else "  <- NOT AS WANTED"
        terminalreporter.write_line(f"{case['case']:{width}} | {case['by']:10} | {case['sentence']}{mark}")
    counts = []
    for kind, done in (("defects", "refused"), ("harmless changes", "let through")):
        kept = [case["as_wanted"] for case in cases if case["kind"] == kind]
        counts.append(f"{sum(kept)} of {len(kept)} {kind} {done}")
    terminalreporter.write_line(", ".join(counts))


@pytest.fixture
def told(record_property):
    """Put a case into the table."""

    def tell(kind, case, judged):
        record_property("kind", kind)
        record_property("case", case)
        record_property("by", (judged.stage or "-") if judged.verdict == "blocked" else "nobody")
        record_property("sentence", judged.sentence)

    return tell


@pytest.fixture
def branch(finished, tmp_path):
    """A clone on a branch of its own, where main has what the pipeline made."""
    return branch_of(finished, tmp_path)
