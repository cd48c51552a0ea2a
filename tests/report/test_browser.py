"""The pages in a real browser: nobody is barred from them, tables are sorted, and DVC's plots need no network."""

import json
import sys
from dataclasses import replace
from importlib.resources import files

from churn.evaluation.paired import Difference
from churn.gate.baseline import vs_baseline
from report import plots_page
from report.render import page
from tests.browser import written
from tests.report.cases import CASES, GATE

import pytest

DARK, NARROW = "--blink-settings=preferredColorScheme=0", "--window-size=390,800"
OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND"
UNFOLD = "document.querySelectorAll('details').forEach((one) => { one.open = true; });"
AXE = """axe.run().then(({violations}) => answer(JSON.stringify(violations.map(
  (one) => [one.id, one.nodes.map((node) => node.html)]))));"""
SORT = """const rows = () => [...document.querySelectorAll('#slices tbody tr')];
const column = (number) => rows().map((row) => row.cells[number].innerText);
document.querySelectorAll('#slices th button')[NUMBER].click();
const down = column(NUMBER);
document.querySelectorAll('#slices th button')[NUMBER].click();
answer(JSON.stringify([down, column(NUMBER), document.querySelectorAll('#slices th')[NUMBER].ariaSort]));"""


def axe():
    """Return axe-core's script, or skip the test where its package is missing."""
    try:
        return (files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")
    except ModuleNotFoundError:
        pytest.skip("axe-core-python is not installed")


@pytest.mark.parametrize("options", [(), (DARK, NARROW)], ids=["wide and light", "narrow and dark"])
def test_axe_finds_nothing_that_bars_a_reader(made, tmp_path, options):
    for number, html in enumerate([made, page(CASES["worse_than_main"])]):
        (folder := tmp_path / str(number)).mkdir()
        assert json.loads(written(html, folder, f"{axe()};{UNFOLD}{AXE}", *options)) == []


def test_no_name_is_so_long_that_a_number_is_cut_off(made, tmp_path):
    long = made.replace("senior_citizen", "customer_is_" * 12)
    wide = "[...document.querySelectorAll('.scroll')].filter((one) => one.scrollWidth > one.clientWidth)"
    script = f"{UNFOLD}answer(JSON.stringify({wide}.map((one) => one.innerText)))"
    assert json.loads(written(long, tmp_path, script, "--window-size=1200,800")) == []


def test_the_name_of_a_column_is_not_broken_where_the_table_has_room(made, tmp_path):
    names = "[...document.querySelectorAll('#contract tbody th:not(:has(code))')]"
    script = (
        "const lines = (one) => { const range = document.createRange(); range.selectNodeContents(one);"
        f" return range.getClientRects().length; }}; answer(JSON.stringify({names}.map((one) => lines(one))))"
    )
    assert set(json.loads(written(made, tmp_path, script, "--window-size=1200,800"))) == {1}


def test_a_click_on_a_columns_name_sorts_numbers_by_size_and_names_by_letter(made, tmp_path):
    rows, up, ends = json.loads(written(made, tmp_path, SORT.replace("NUMBER", "1")))
    counts = [int(text.replace(",", "")) for text in rows]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 999
    assert (up, ends) == (rows[::-1], "ascending")
    areas, up, _ = json.loads(written(made, tmp_path, SORT.replace("NUMBER", "3")))
    assert areas[-1] == up[-1] == "-", "what is missing is last, either way"
    assert areas[:-1] == sorted(areas[:-1], reverse=True)
    names, _, _ = json.loads(written(made, tmp_path, SORT.replace("NUMBER", "0")))
    assert names == sorted(names)


def test_a_rules_values_are_sorted_from_better_to_worse(tmp_path):
    better, worse = Difference(0.8, 0.81, 0.01, 0.0, 0.02), Difference(0.1, 0.12, 0.02, 0.01, 0.03)
    rules = vs_baseline(1_452, {"roc_auc": better, "brier_score": worse}, [], GATE)
    html = page(replace(CASES["passes"], rules=tuple(rules)))
    down, up, _ = json.loads(written(html, tmp_path, SORT.replace("NUMBER", "3").replace("#slices", "#rules")))
    assert [text.partition(" ±")[0] for text in down] == ["0.0100 better", "0.0100 better", "0.0200 worse"]
    assert up[0] == down[-1]


def test_the_page_of_dvcs_plots_draws_them_without_a_network(clone, tmp_path, monkeypatch):
    monkeypatch.chdir(clone.folder)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "environment"))
    plots_page.main(plots_page.arguments().parse_args([]))
    clone.ok("dvc", "plots", "show")
    html = clone.text("dvc_plots/index.html")
    assert "<script src" not in html
    drawn = "setTimeout(() => answer(String(document.querySelectorAll('canvas').length)), 3000);"
    assert written(html, tmp_path, drawn, OFFLINE) == "7"
