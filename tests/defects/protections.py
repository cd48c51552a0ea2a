"""The protections, each with the case that is not refused without it.

A comment `# protection: NAME` stands above the statement, or the element of a list, that it names.
"""

import ast
import re
import subprocess
from collections.abc import Sequence
from functools import cache

from tests.conftest import ROOT, Clone
from tests.defects.harness import Defect, judge_of

MARK = re.compile(r"^ *# protection: (.+)$", re.MULTILINE)

# The protection, a word after a colon telling its cases apart; the case that has to notice when main lacks it; and what
# stands instead of a condition, a value or a result, where that is not False, and where something has to.
PROTECTIONS = [
    ("columns must be declared", "the story: undeclared"),
    ("nulls must be declared", "the story: declared without nulls"),
    ("training counts its rows", "the story: training drops the rows"),
    ("a feature function changes nothing", "the story: filled with 0 in prepare"),
    ("the row counts reconcile", "the story: dropped by prepare's code"),
    ("validate counts the rows itself", "the story: dropped by prepare's code, and its account bent"),
    ("no customer in both tables", "leakage: the holdout's keys in training, and the account bent"),
    ("types come from the contract", "data: decimal commas"),
    ("categories come from the contract", "data: a category renamed"),
    ("keys are unique", "data: customers duplicated"),
    ("relations between columns", "data: a column shifted by a row"),
    ("the number of rows is like the profile's", "data: a file cut off at a line's end"),
    ("like the profile: nulls_share", "data: 30 % of a nullable number blank", 'rule != "nulls_share" and ORIGINAL'),
    ("like the profile: mean", "data: charges with tax", 'rule != "mean" and ORIGINAL'),
    ("like the profile: quantiles", "data: a number frozen", 'rule != "quantiles" and ORIGINAL'),
    ("like the profile: categories", "data: two categories merged", 'rule != "categories" and ORIGINAL'),
    ("like the profile: label_rates", "data: labels late", 'rule != "label_rates" and ORIGINAL'),
    ("all customers churn like the profile's", "selection: half of the churners no more"),
    ("customers that disappear churned like those that stay", "selection: some churners left out"),
    ("a spike has a reason", "the story: filled with 0 in the query, and the profile renewed"),
    ("known customers keep their values", "data: the payment method of an eighth is a default"),
    ("no more near-duplicates than on main", "data: two of five customers again by another key, a cent off"),
    ("customers that main knows are not new", "data: one of twenty customers again by another key"),
    ("a churner stays a churner", "selection: a tenth of the churners no more"),
    (
        "new customers churn as main's model expects",
        "selection: new customers count as stayers, because their labels are not known yet",
    ),
    ("no slice loses its churners", "selection: a slice of the holdout without a churner"),
    ("a new feature enters the profile", "the story: declared, but not in the profile", "[]"),
    ("no feature knows the label alone", "leakage: the label as a feature"),
    ("a row's features depend on that row alone", "leakage: a mean over everybody"),
    ("training cannot open the holdout", "training: the luckiest of many seeds"),
    ("the holdout is the one that prepare made", "evaluation: on the training table"),
    ("scores are probabilities", "evaluation: NaN scores"),
    ("scores differ", "training: a constant model"),
    ("bounds for all customers", "training: labels shuffled", "[]"),
    ("bounds for named slices", "training: new customers never predicted"),
    ("no slice far behind", "training: one contract ranked upside down"),
    ("calibration of each slice", "training: everybody predicted to leave"),
    ("predictions of each slice", "training: one payment method never predicted"),
    ("no slice vanishes", "data: a category declared that nobody has", "False"),
    ("not worse than main", "training: half of the rows lost, and not counted", "[]"),
    ("not worse than main in any slice", "training: who pays by card never predicted", "[]"),
    (
        "a loss that the holdout is too small to show",
        "evaluation: on so few customers that a loss cannot be seen",
    ),
    ("too good to be true", "leakage: the label with noise", "outcomes"),
    ("small steps add up", "leakage: a leak in two halves", "[]"),
    ("settings are main's or stricter", "trust: a gate rule weakened"),
    ("another problem takes an approval", "trust: another label, beside a looser rule", "Problem(reason, None)"),
    ("stages run what main's run", "trust: gate cannot fail, the model is good"),
    ("the split is main's", "leakage: a tenth of the holdout moved"),
    ("customers with other keys are matched", "data: other keys, and a cent more"),
    ("the contract is checked anew", "trust: validate's code hollow"),
    ("the evaluation is made anew", "evaluation: half of the loss", "[]"),
    ("the model knows how many rows it has seen", "training: a tenth of the rows lost within the fit"),
    ("the features are computed again", "skew: a column mended in the holdout alone"),
    ("feature functions read what prepare depends on", "skew: computed from a file that is no dep"),
    ("the verdict is made anew", "trust: gate's code hollow", "[]"),
    ("what a stage reads is what the one before wrote", "trust: a model put in before evaluate"),
    (
        "a model holds types that are known",
        "trust: a model that brings code of its own",
        '("churn.modeling.training.as_it_is", *ORIGINAL)',
    ),
    ("a library reads its file after the check", "trust: trees of another objective"),
]


def without_protection(cases: Sequence[Defect]) -> list[Defect]:
    """Return the cases that no protection names; test_protections.py has the others."""
    named = {case for _, case, *_ in PROTECTIONS}
    return [case for case in cases if f"{case.family}: {case.name}" not in named]


@cache
def marked() -> dict[str, str]:
    """Return the file of each mark."""
    listed = subprocess.run(["git", "ls-files", "churn", "report", "stages"], cwd=ROOT, capture_output=True, check=True)
    found = {}
    for name in listed.stdout.decode().split():
        text = (ROOT / name).read_text(encoding="utf-8") if name.endswith(".py") else ""
        for mark in MARK.findall(text):
            assert mark not in found, f"{mark} is in {name} and in {found[mark]}"
            found[mark] = name
    return found


def remove(clone: Clone, mark: str, *instead: str) -> str:
    """Commit a branch and its main without a protection, and return main's commit."""
    for folder in (clone.folder, judge_of(clone)):
        file = folder / marked()[mark]
        file.write_text(unprotected(file.read_text(encoding="utf-8"), mark, *instead), encoding="utf-8")
        clone.ok("git", "-C", str(folder), "commit", "--quiet", "--message", f"Remove: {mark}", "--", marked()[mark])
    return clone.ok("git", "-C", str(folder), "rev-parse", "HEAD").strip()


def unprotected(source: str, mark: str, instead: str | None = None) -> str:
    """Return the source without the protection that is marked."""
    line = next(source.count("\n", 0, one.start()) + 1 for one in MARK.finditer(source) if one[1] == mark)
    nodes = [node for node in ast.walk(ast.parse(source)) if getattr(node, "lineno", 0) == line + 1]
    node = next((one for one in nodes if isinstance(one, ast.stmt)), nodes[0])  # ast.walk gives the outermost first
    match node:
        case ast.If():
            part, instead = node.test, instead or "False"
        case ast.For():
            part, instead = node.iter, instead or "()"
        case ast.Assign() | ast.Return():
            part = node.value
        case ast.Expr():
            part, instead = node, "pass"
        case ast.Starred():
            part, instead = node, "*()"
    whole = ast.get_source_segment(source, part)
    lines = source.splitlines(keepends=True)
    start = sum(map(len, lines[: part.lineno - 1])) + part.col_offset
    assert source[start:].startswith(whole)
    return source[:start] + instead.replace("ORIGINAL", f"({whole})") + source[start + len(whole) :]
