"""Writes the tables of docs/faults.md from the tests: `python -m tests.faults`.

A test whose docstring begins with "Fault in SECTION: FAULT." is a row of that section's table; the docstring's second
paragraph is the result. The cases of tests/defects are the rows of the two tables of changes.
"""

import ast
import re
from collections import defaultdict

from tests.conftest import ROOT
from tests.defects.cases_data import DATA_CASES, LEAKAGE_CASES, SELECTION_CASES, SKEW_CASES, STORY_CASES
from tests.defects.cases_harmless import HARMLESS
from tests.defects.cases_model import EVALUATION_CASES, TRAINING_CASES, TRUST_CASES

PAGE = ROOT / "docs/faults.md"
FAULT = re.compile(r"Fault in (?P<section>.+?): (?P<fault>.+?)\.\n\n(?P<result>.+?)(?:\n\n|$)", re.DOTALL)
TABLE = re.compile(r"(?<=<!-- python -m tests.faults: )(?P<section>.+?) -->\n.*?(?=<!-- end -->)", re.DOTALL)
HEADS = {"bad changes": ("change", "refused by"), "harmless changes": ("change",)}
BAD = (
    *(*STORY_CASES, *DATA_CASES, *SELECTION_CASES, *LEAKAGE_CASES, *SKEW_CASES),
    *(*TRAINING_CASES, *EVALUATION_CASES, *TRUST_CASES),
)


def rows() -> dict[str, list[tuple[str, ...]]]:
    """Return the rows of each section, in the order of the tests."""
    found = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            docstring = ast.get_docstring(node) if isinstance(node, ast.FunctionDef) else None
            if docstring and docstring.startswith("Fault in "):
                fault = FAULT.match(docstring)
                assert fault, f"{path}: {node.name} has no second paragraph in its docstring"
                cells = (" ".join(fault[name].split()) for name in ("fault", "result"))
                found[fault["section"]].append((*cells, f"`{node.name}`"))
    found["bad changes"] = [(f"{case.family}: {case.name}", case.refused_by.replace("|", " or ")) for case in BAD]
    found["harmless changes"] = [(case.name,) for case in HARMLESS]
    return found


def filled(page: str) -> str:
    """Return the page with the tables as the tests have them now."""
    found = rows()
    sections = {match["section"] for match in TABLE.finditer(page)}
    assert sections == set(found), f"sections of the page and of the tests differ: {sections ^ set(found)}"

    def table(match: re.Match) -> str:
        heads = HEADS.get(match["section"], ("fault", "what happens", "test"))
        lines = [heads, ("---",) * len(heads), *found[match["section"]]]
        return f"{match['section']} -->\n\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in lines) + "\n"

    return TABLE.sub(table, page)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
