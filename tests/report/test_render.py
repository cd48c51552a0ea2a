"""The report as rendered, against files that a person has read."""

import re
from dataclasses import replace
from html import unescape

from churn.evaluation.paired import Difference, SliceDifferences
from churn.page.charts import OUTCOMES
from churn.page.filters import limit, signed, value
from churn.page.render import TEMPLATES as PAGE
from churn.quality.drift import FeatureDrift, RowChanges
from ci.artifact import INVISIBLE, neutral
from report.data import Change, Comparison, DataChange, Note, Outcome
from report.faults import to_approve
from report.filters import FILTERS, escaped
from report.render import LIMIT, TEMPLATES, headline, markdown, page, terminal
from tests.report.cases import CASES, EVALUATION, GOLDEN, HOSTILE, PASSING, differences, rule

import pytest
from jinja2 import Environment, UndefinedError, nodes
from markdown_it import MarkdownIt

BUILT_IN = {
    "abs",
    "capitalize",
    "format",
    "join",
    "length",
    "list",
    "map",
    "max",
    "min",
    "rejectattr",
    "reverse",
    "select",
    "selectattr",
    "sum",
}


@pytest.mark.parametrize("name", CASES)
def test_the_report_reads_as_it_was_approved(name):
    """After a change that is meant: `python -m tests.report.cases`."""
    assert markdown(CASES[name]) == (GOLDEN / f"{name}.md").read_text(encoding="utf-8")
    assert terminal(CASES[name]) + "\n" == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


def test_no_golden_file_is_left_over():
    assert {file.stem for file in GOLDEN.iterdir()} == set(CASES)


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("better", "better beyond noise"),
        ("worse", "worse beyond noise"),
        ("noise", "within noise"),
        ("undefined", "without an interval"),
    ],
)
def test_the_headline_compares_with_main(verdict, words):
    data = replace(PASSING, comparison=replace(PASSING.comparison, overall=differences(0.003)))
    data.comparison.overall["roc_auc"] = Difference(0.846, 0.849, 0.003, 0.0, 0.0, verdict)
    assert headline(data) == f"Passes the gate: ROC AUC 0.849, +0.003 against main, {words}"


def test_a_change_that_lets_more_through_is_marked_although_the_model_passes():
    looser = Change("params.yaml", "gate.overall.roc_auc.min", 0.82, 0.7)
    assert markdown(PASSING).startswith("## ✅ ")
    assert markdown(replace(PASSING, changes=(looser,))).startswith("## ⚠️ ")


def test_a_blocked_headline_is_the_reason_alone():
    message = headline(CASES["blocked_by_contract"])
    assert message == "Blocked: total_charges has 11 nulls that the contract does not allow"


def test_the_line_that_approves_is_the_same_in_the_comment():
    """ci/comment.py makes Markdown harmless by invisible characters, which nobody could type."""
    lines = neutral(markdown(CASES["worse_than_main"])).splitlines()
    assert to_approve(CASES["worse_than_main"].faults) in lines


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"hostile_names"}))
def test_commands_are_copied_from_the_comment_as_they_were_written(name):
    text = markdown(CASES[name])
    commands = re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert "git switch --detach" in commands[-1]
    assert re.findall(r"^```console\n(.*?)^```", neutral(text), re.MULTILINE | re.DOTALL) == commands


@pytest.mark.parametrize("case", sorted(CASES))
def test_the_comment_looks_as_the_report_once_it_can_do_nothing(case):
    text = markdown(replace(CASES[case], has_picture=False))  # the comment shows the picture from elsewhere
    shown, meant = (MarkdownIt("commonmark").enable("table").render(one) for one in (neutral(text), text))
    assert shown.replace(INVISIBLE, "") == meant


def test_what_changed_in_the_data_comes_before_the_models_metrics():
    texts = [markdown(case) for case in CASES.values()]
    both = [text for text in texts if "\n### Data" in text and "\n### Metrics" in text]
    assert both
    assert all(text.index("\n### Data") < text.index("\n### Metrics") for text in both)


def test_names_from_a_branch_do_nothing_in_markdown():
    text = markdown(CASES["hostile_names"])
    assert "<img" not in text
    assert "@team" not in text
    assert "](http" not in text
    assert "`z`" not in text
    assert "-->" not in text
    assert not re.search(r"^## heading", text, re.MULTILINE)
    for rows in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in rows.splitlines()}) == 1, rows


@pytest.mark.parametrize("name", ["report/__main__.py", "_u_", "__init__", "a_ b _c"])
def test_underscores_at_a_words_edge_are_no_emphasis(name):
    assert "_" not in escaped(name).replace("&#95;", "")
    assert unescape(escaped(name)) == name
    assert escaped("tenure_months") == "tenure_months"


def test_an_address_in_a_name_becomes_no_link():
    assert escaped("www.evil.example and WWW.x and http://y") == (
        "www&#46;evil.example and WWW&#46;x and http&#58;&#47;&#47;y"
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("run `dvc repro x_ --force`", "run <code>dvc repro x&#95; --force</code>"),
        ("`<b>` and `a|b`", "<code>&#60;b&#62;</code> and <code>a&#124;b</code>"),
        ("one ` alone", "one &#96; alone"),
    ],
)
def test_a_command_in_a_sentence_is_shown_as_code(text, shown):
    assert escaped(text) == shown
    assert neutral(shown) == shown


def test_a_command_in_the_headline_is_code_on_the_page_too():
    blocked = Outcome(False, "Blocked: `make profile` renews profile.json", "validate")
    text = page(replace(CASES["passes"], outcome=blocked))
    assert "Blocked: <code>make profile</code> renews profile.json</h1>" in text


def test_failed_and_passed_rules_are_counted_out_of_the_same_number():
    rules = [rule for name in ("inconclusive_slices", "worse_than_main") for rule in CASES[name].rules]
    text = markdown(replace(CASES["passes"], rules=tuple(rules)))
    counted = re.findall(r"(?:rules of the gate: \d+|\*\*The gate\*\*: \d+) of (\d+)", text)
    assert counted == [str(sum(rule.status != "skipped" for rule in rules))] * 2
    assert "inconclusive" in {rule.status for rule in rules}


@pytest.mark.parametrize("template", sorted([*TEMPLATES.iterdir(), *PAGE.glob("*.j2")]), ids=lambda path: path.name)
def test_no_template_passes_a_value_on_unescaped(template):
    """`safe` marks a value as Markdown, and `~` and `+` give Jinja's escaping for HTML to what is next to Markup."""
    tree = Environment().parse(template.read_text(encoding="utf-8"))
    assert {one.name for one in tree.find_all(nodes.Filter)} <= {one.__name__ for one in FILTERS} | BUILT_IN
    assert not list(tree.find_all((nodes.Concat, nodes.MarkSafe, nodes.ScopedEvalContextModifier)))


def test_a_name_that_the_data_lack_is_an_error_and_no_blank(monkeypatch, tmp_path):
    (tmp_path / "terminal.txt.j2").write_text("{{ headlime }}", encoding="utf-8")
    monkeypatch.setattr("report.render.TEMPLATES", tmp_path)
    with pytest.raises(UndefinedError, match="'headlime' is undefined"):
        terminal(PASSING)


def test_no_value_begins_a_line_on_a_terminal():
    """GitHub would run `::error::` at the beginning of a line of a step's log as a command."""
    lines = terminal(replace(CASES["hostile_names"], notes=(Note("x\n::error::y\x1b[2J"),))).splitlines()
    assert "! x ::error::y [2J" in lines
    assert not [line for line in lines if line.startswith("#")]


def test_a_report_of_any_size_stays_below_the_limit_and_says_what_it_leaves_out():
    """Five hundred slices, rules and changes with names as long and as bad as can be."""
    many = range(500)
    data = replace(
        CASES["hostile_names"],
        comparison=Comparison(
            9, 9, differences(0.01), tuple(SliceDifferences(f"{n}{HOSTILE}" * 9, 1, differences(1.0)) for n in many)
        ),
        rules=tuple(rule(f"{n}{HOSTILE}" * 9, "recall", 0.5, n / 500) for n in many),
        changes=tuple(Change("params.yaml", f"{n}{HOSTILE}" * 9, HOSTILE * 9, HOSTILE * 9) for n in many),
        notes=tuple(Note(HOSTILE * 9) for _ in many),
    )
    text = markdown(data)
    assert len(text) < LIMIT + 500
    assert "Omitted because the comment is too long: " in text
    assert "ROC AUC" in text


def test_warnings_and_notes_have_a_heading_and_not_only_a_colour():
    shown = page(replace(PASSING, notes=(Note("a"), Note("b", warns=False))))
    assert re.findall(r"<h3>(\w+)</h3><ul>\s*<li>(\w)<", shown) == [("Warnings", "a"), ("Notes", "b")]


def test_where_a_customer_has_several_rows_the_report_counts_rows():
    data = replace(CASES["passes"], unit="rows")
    assert "\n| Slice | Rows | ROC AUC |" in markdown(data)
    assert "12 of 1,452 rows (0.8%) get another decision" in markdown(data)
    counts = dict.fromkeys(((one, other) for one in OUTCOMES for other in OUTCOMES), 7)
    shown = page(replace(data, evaluation=EVALUATION, page=replace(data.page, counts=counts)))
    for text in (markdown(data), shown):
        assert "A campaign would contact 5 other rows" in text
    assert "Rows by outcome and prediction" in shown


def test_a_profit_is_shown_only_where_the_campaign_has_values():
    overall = {**differences(0.0), "profit_per_customer": Difference()}
    for render in (markdown, terminal):
        assert "Profit per customer" in render(PASSING)
        assert "Profit per customer" not in render(replace(PASSING, comparison=Comparison(10, 10, overall, ())))
    alone = replace(PASSING, comparison=None, evaluation=EVALUATION)
    assert "Profit per customer" in markdown(alone)
    assert "Profit" not in markdown(replace(alone, evaluation=EVALUATION | {"profit_per_customer": None}))


def test_what_could_not_be_measured_is_a_hyphen_not_a_number():
    data = replace(PASSING, comparison=Comparison(10, 10, {**differences(0.0), "recall": Difference()}, ()))
    assert "| Recall | - | - | - | - | undefined |" in markdown(data)
    nothing = replace(data, comparison=Comparison(10, 10, {**differences(0.0), "roc_auc": Difference()}, ()))
    assert headline(nothing) == "Passes the gate, with no ROC AUC to compare with main"


def test_a_picture_of_the_branch_alone_is_not_called_one_of_both_models():
    assert "scores of both models](" in markdown(PASSING)
    assert "scores of this branch](" in markdown(replace(PASSING, comparison=None, evaluation=EVALUATION))


def test_a_difference_too_small_to_be_seen_has_no_sign_of_its_own():
    assert [signed(-0.00001), signed(-0.0)] == ["+0.0000", "+0.0000"]
    assert signed(-0.00005001) == "-0.0001"


def test_large_amounts_have_commas_and_stay_below_their_column_on_a_terminal():
    profit = {"profit_per_customer": Difference(12_345_678.5, 12_346_000.0, 321.5, -5_000.0, 5_643.0, "noise")}
    overall = differences(0.0) | profit
    data = replace(PASSING, base="release-of-november", comparison=Comparison(10, 10, overall, ()))
    expected = "12,345,678.5000 | 12,346,000.0000 | +321.5000 | -5,000.0000 to +5,643.0000"
    assert f"| Profit per customer | {expected} |" in markdown(data)
    table = [line for line in terminal(data).splitlines() if line.endswith(("difference", "  noise"))]
    assert len({len(line.removesuffix("  noise")) for line in table}) == 1
    assert limit(rule("all customers", "profit_per_customer", 12_345.0, 1.0)) == "≥ 12,345"
    assert limit(rule("all customers", "roc_auc", 0.661066, 0.7)) == "≥ 0.6611"


def test_a_difference_beyond_its_interval_has_a_word_and_not_only_a_colour():
    both = differences(0.02, "better") | {"recall": differences(-0.02, "worse")["recall"]}
    part = SliceDifferences("new_customers", 289, both)
    data = replace(PASSING, evaluation=EVALUATION, comparison=replace(PASSING.comparison, slices=(part,)))
    assert ">(+0.0200, better)<" in page(data)
    assert ">(-0.0200, worse)<" in page(data)
    assert "(+0.0200 🟢 better) | 0.7800 (-0.0200 🔴 worse)" in markdown(data)


@pytest.mark.parametrize(
    ("psi", "message"),
    [
        ([], "None of 5 features drifted from the data that main was trained on<"),
        ([0.3], "1 of 5 features drifted from the data that main was trained on: f0<"),
        ([0.9, 0.8, 0.7, 0.6], "4 of 5 features drifted from the data that main was trained on: f0, f1, f2 …<"),
    ],
)
def test_the_features_that_drifted_most_are_named_before_anybody_unfolds_them(psi, message):
    drift = [FeatureDrift(f"f{n}", value, 0.5, 0.0, 0.0) for n, value in enumerate([*psi, *[0.0] * (5 - len(psi))])]
    assert message in markdown(replace(PASSING, data=DataChange(RowChanges(1, 0, 0, 1), tuple(drift))))


def test_a_value_is_shown_but_no_password():
    assert [value(None), value(0.5), value("s3://bucket/prefix/")] == ["none", "0.5", "s3://bucket/prefix/"]
    assert value("postgresql://me@host/db") == "postgresql://me@host/db"
    for url in ("postgresql://me:hunter2@host/db", "postgresql://me@host/db?password=hunter2"):
        assert value(url) == "a URL with a password"
