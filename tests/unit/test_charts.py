"""The page of a change and of a version: what it draws, that nothing in it acts, and that it needs no other file."""

import base64
import hashlib
import re

from churn.core.errors import StageError
from churn.evaluation.curves import curves
from churn.page.charts import HEIGHT, LEFT, charts, read_confusion, read_curves, read_importance
from churn.page.render import TEMPLATES, rendered
from tests.pages import Page

import numpy as np
import pytest

BOTTOM_AT, TOP_AT, RIGHT_AT = HEIGHT - 40, 8, 312  # the ends of the axes in the template's frame


@pytest.fixture
def tables():
    random = np.random.default_rng(0)
    labels = random.random(500) < 0.3
    return curves(labels, np.clip(0.3 * labels + 0.7 * random.random(500), 0, 1), threshold=0.5)


@pytest.fixture
def folder(tables, tmp_path):
    for name, table in tables.items():
        table.to_csv(tmp_path / f"{name}.csv", index=False, float_format="%.6f")
    (tmp_path / "importance.csv").write_text("feature,fall_in_roc_auc\nNA,0.05\ntenure,-0.001\n")
    return tmp_path


def shares(line):
    """Return the points of a line as shares of the axes."""
    points = np.array([[float(number) for number in point.split(",")] for point in line.points.split(" ")])
    return (points - [LEFT, BOTTOM_AT]) / [RIGHT_AT - LEFT, TOP_AT - BOTTOM_AT]


@pytest.mark.parametrize("name", ["roc", "precision_recall", "gains", "calibration"])
def test_a_curve_has_the_points_of_its_file(folder, name):
    number = ["roc", "precision_recall", "gains", "calibration"].index(name)
    drawn = charts({"this model": read_curves(folder)})[number].lines[-1]
    table = np.loadtxt(folder / f"{name}.csv", delimiter=",", skiprows=1)[:, :2]
    assert np.allclose(shares(drawn), table, atol=0.0005)


def test_the_scores_are_drawn_to_the_axis_beside_them(folder, tables):
    chart = charts({"this model": read_curves(folder)})[-1]
    _, churned, stayed = chart.lines
    most = max((tables["scores"][side] / tables["scores"][side].sum()).max() for side in ("churned", "stayed"))
    for tick, share in zip(chart.y_ticks, (-1, -0.5, 0, 0.5, 1), strict=True):
        assert float(tick.text.removesuffix("%")) / 100 == pytest.approx(abs(share) * most, rel=0.005)
    for line, side, sign in ((churned, "churned", 1), (stayed, "stayed", -1)):
        heights = (shares(line)[1:-1:2, 1] - 0.5) * 2 * most
        assert np.allclose(sign * heights, tables["scores"][side] / tables["scores"][side].sum(), atol=0.001)


def test_main_is_drawn_below_the_branch(tables):
    for chart in charts({"main": tables, "this branch": tables}):
        kinds = [line.kind for line in chart.lines]
        assert kinds == ["guide", *["before"] * (len(kinds) // 2), *["now"] * (len(kinds) // 2)]


def test_a_feature_may_be_called_as_pandas_calls_a_missing_value(folder):
    assert [(one.name, one.fall) for one in read_importance(folder)] == [("NA", 0.05), ("tenure", -0.001)]


@pytest.mark.parametrize(
    ("name", "text", "read"),
    [
        ("roc", "false_positive_rate,true_positive_rate\n0,nan\n", read_curves),
        ("roc", "false_positive_rate,true_positive_rate\n", read_curves),
        ("gains", "contacted\n0.5\n", read_curves),
        ("scores", "score,churned,stayed\n0.5,many,3\n", read_curves),
        ("confusion", "actual,predicted,customers\nstayed,stayed,3\n", read_confusion),
        ("importance", "feature,fall_in_roc_auc\na,\n", read_importance),
    ],
)
def test_a_table_that_evaluate_did_not_write_is_one_sentence(folder, name, text, read):
    (folder / f"{name}.csv").write_text(text)
    with pytest.raises(StageError, match=rf"{name}\.csv .*; run `dvc repro --force --single-item evaluate`\.$"):
        read(folder)
    (folder / f"{name}.csv").unlink()
    with pytest.raises(StageError, match=rf"{name}\.csv "):
        read(folder)


def test_only_the_pages_own_script_may_run_and_nothing_is_loaded(tmp_path):
    (tmp_path / "x.html.j2").write_text('{% extends "page.html.j2" %}{% block title %}{{ name }}{% endblock %}')
    html = rendered("x.html.j2", [tmp_path], name="</title><script>alert(1)</script>")
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    page = Page(html)
    assert {"http-equiv": "Content-Security-Policy", "content": policy} in [one for _, one in page.elements]
    assert not {"src", "srcset", "style", "onclick"} & {name for _, one in page.elements for name in one}
    assert not {tag for tag, _ in page.elements} & {"link", "img", "iframe", "object", "form"}
    assert "@import" not in html
    assert "url(" not in html


def test_a_name_becomes_no_element_and_turns_no_text_around(tmp_path):
    (tmp_path / "x.html.j2").write_text(
        '{% import "parts.html.j2" as parts %}{{ parts.settings({name: name}, name) }}<p>{{ name|prose }}</p>'
    )
    html = rendered("x.html.j2", [tmp_path], name="<b onload='x'>`<i>`\u202e\x1b[2J\"")
    assert not {"b", "i"} & {tag for tag, _ in Page(html).elements}
    assert "\u202e" not in html
    assert "\x1b" not in html
    assert "<code>&lt;i&gt;</code>" in html


def test_a_section_stands_in_the_list_of_sections_only_where_it_is_shown(tmp_path):
    (tmp_path / "x.html.j2").write_text(
        '{% extends "page.html.j2" %}{% block body %}'
        '{% call section("one", "One", ("a.json",)) %}x{% endcall %}'
        '{% call section("two", "Two", shown=false) %}y{% endcall %}{% endblock %}'
    )
    page = Page(rendered("x.html.j2", [tmp_path]))
    assert {name: one.files for name, one in page.sections.items()} == {"one": ["a.json"]}
    assert [one["href"] for tag, one in page.elements if tag == "a"] == ["#one"]


def test_a_page_has_no_colour_beside_those_of_light_dark_and_print():
    """So that no text is invisible in one of them."""
    style = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    outside = re.sub(r":root \{.*?\}", "", style, flags=re.DOTALL)
    assert re.findall(r"#[0-9a-f]{3,6}\b|rgb|hsl|\b(?:white|black)\b(?!-)", outside) == []
    roots = [set(re.findall(r"--(\w+):", root)) for root in re.findall(r":root \{(.*?)\}", style, re.DOTALL)]
    assert len(roots) == 3
    assert roots[0] == roots[1] == roots[2]


def luminance(colour):
    """Return the relative luminance of WCAG 2.2."""
    long = "".join(one * 2 for one in colour) if len(colour) == 3 else colour
    parts = [int(long[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("mode", ["light", "dark", "print"])
def test_each_colour_stands_out_from_page_and_card(mode):
    """By WCAG 2.2, AA: 4.5 for text, 3 for lines. axe-core cannot tell where the text is part of a plot."""
    style = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    root = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[["light", "dark", "print"].index(mode)]
    colours = {name: luminance(colour) for name, colour in re.findall(r"--(\w+): #(\w+)", root)}
    for ground in ("page", "card"):
        for name in ("text", "muted", "now", "good", "bad", "warn", "before"):
            dark, light = sorted((colours[name], colours[ground]))
            assert (light + 0.05) / (dark + 0.05) >= (3 if name == "before" else 4.5), (name, ground)
