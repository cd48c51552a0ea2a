"""The dossier of a version and the page of a change on the sample: each number is one of the files that they name."""

import json
import re
from dataclasses import replace
from pathlib import Path

from benchmarks.pictures import MADE_OF, MOVES, TAGS, dossier_of, hashes
from churn.config.contract import load_contract
from churn.config.params import load_params
from churn.core.files import write_json
from churn.page.filters import METRIC_ORDER, flat, metric
from churn.registry.dossier import dossier
from report.collect import page_data
from report.render import page
from tests.pages import Page, shown_as, untraced
from tests.report.cases import CASES, HOSTILE, PASSING

import pandas as pd
import pytest


def test_each_number_of_the_dossier_is_in_a_file_that_its_section_names(made, finished, params):
    sections, folder = Page(made).sections, finished.folder
    rows = json.loads(finished.text("metrics/rows.json"))
    known = {
        "data": {f"{count / rows['fetched']:.1%}" for count in (rows["train"], rows["test"], rows["fetched"])},
        "champion": shown_as(json.dumps(MOVES), "moves") | {MOVES[0]["when"][:19]},
        "lineage": {*TAGS.values()},
        "parameters": {str(len(flat(params.model_dump(mode="json", by_alias=True))))},  # with the defaults
        "undetected": {str(len(json.loads(finished.text("metrics/gate.json"))["rules"]) - 6)},  # those of slices
    }
    assert set(known) < set(sections)
    left = {name: untraced(one, folder, known=known.get(name, ())) for name, one in sections.items()}
    assert {name: words for name, words in left.items() if words} == {}


def test_each_metric_slice_and_rule_stands_in_its_row_of_the_dossier(made, finished):
    sections, evaluation = Page(made).sections, json.loads(finished.text("metrics/evaluation.json"))
    (metrics,) = (rows for caption, rows in sections["metrics"].tables.items() if caption.startswith("On all 1,452"))
    assert metrics[1:] == [
        [metric(name), f"{evaluation[name]:.4f}", "{:.4f} to {:.4f}".format(*evaluation["intervals"][name])]
        for name in METRIC_ORDER
    ]
    (slices,) = sections["slices"].tables.values()
    shown = {row[0]: row[1:4] for row in slices[1:]}
    assert shown == {
        one["name"]: [
            f"{one['rows']:,}",
            f"{one['churners']:,}",
            "-" if one["roc_auc"] is None else f"{one['roc_auc']:.4f}",
        ]
        for one in evaluation["slices"]
    }
    rules = json.loads(finished.text("metrics/gate.json"))["rules"]
    detected = [row[5] for rows in sections["undetected"].tables.values() for row in rows[1:]]
    assert sorted(detected) == sorted("-" if one["detects"] is None else f"{one['detects']:.4f}" for one in rules)


def test_the_dossier_has_the_same_bytes_each_time_and_no_key_of_a_customer(made, finished):
    assert dossier_of(finished.folder) == made
    keys = pd.read_parquet(finished.folder / "data/raw/customers.parquet", columns=["customer_id"])["customer_id"]
    assert not {*re.findall(r"\d{4}-[A-Z]{5}", made)} & {*keys}


def test_approvals_are_those_of_the_report_on_the_same_commit_and_evaluation(clone, monkeypatch):
    monkeypatch.chdir(clone.folder)
    evaluation = json.loads(clone.text("metrics/evaluation.json"))
    judged = {
        "base": "main",
        "commit": "1" * 40,
        "inputs": evaluation["inputs"],
        "approved": [{"id": "settings-3fa9c1", "message": "gate.overall.roc_auc.min is 0.6, on main 0.82"}],
        "approved_by": "olga",
        "rules": [one.model_dump() for one in CASES["inconclusive_slices"].rules],
    }

    def approvals(**changed):
        write_json(Path("build/report/judgement.json"), judged | changed)
        made = dossier(load_params(), load_contract(), dict.fromkeys(TAGS, "1" * 40), [])
        sections = Page(made).sections
        assert untraced(sections["approvals"], clone.folder) == set()
        return "".join(sections["approvals"].text), "".join(sections["undetected"].text)

    shown, rules = approvals()
    assert "Approved by olga" in shown
    assert "settings-3fa9c1" in shown
    assert "against main" in rules
    assert "None was needed" in approvals(approved=[])[0]
    for other in ({"commit": "2" * 40}, {"inputs": [["models/churn.skops", "0" * 64]]}, {"rules": None}):
        shown, rules = approvals(**other)
        assert "Not known" in shown
        assert "against main" not in rules


@pytest.mark.parametrize("name", CASES)
def test_a_page_is_made_of_each_way_that_a_change_can_turn_out(name):
    one = Page(page(CASES[name]))
    assert one.open == []
    assert len({attributes["id"] for _, attributes in one.elements if "id" in attributes}) == sum(
        "id" in attributes for _, attributes in one.elements
    )
    assert "lineage" in one.sections


def test_names_from_a_branch_do_nothing_on_the_page():
    hostile = CASES["hostile_names"]
    hostile = replace(hostile, page=replace(hostile.page, lineage={HOSTILE: HOSTILE}, commit=HOSTILE))
    one = Page(page(hostile))
    assert not {tag for tag, _ in one.elements} & {"img", "b", "iframe"}
    assert [tag for tag, _ in one.elements].count("script") == 1
    assert not {name for _, attributes in one.elements for name in attributes} & {"onerror", "src"}


def test_the_page_shows_no_plot_that_this_checkout_does_not_have(finished, monkeypatch):
    monkeypatch.chdir(finished.folder)
    data = replace(PASSING, comparison=None, evaluation=json.loads(finished.text("metrics/evaluation.json")))
    assert {"plots", "metrics"} <= set(Page(page(replace(data, page=page_data(data, None)))).sections)
    assert (
        "plots"
        not in Page(page(replace(data, evaluation=None, page=page_data(replace(data, evaluation=None), None)))).sections
    )


def test_the_pictures_in_docs_are_of_what_the_templates_make_today(made):
    assert json.loads(MADE_OF.read_text(encoding="utf-8")) == hashes(made), "run python -m benchmarks.pictures"
