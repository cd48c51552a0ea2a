"""The as-of date: what counts as its use, and how it comes into params.yaml."""

import re
from datetime import UTC, date, datetime, timedelta

from churn.config.params import load_params
from churn.core.errors import StageError
from churn.core.paths import PARAMS
from churn.data.as_of import arguments, main, set_as_of, uses_as_of
from tests.frozen import copy_of

import pytest

DAY = date(2026, 11, 24)


@pytest.mark.parametrize(
    ("sql", "uses"),
    [
        ("SELECT 1 WHERE day <= $as_of", True),
        ("SELECT $as_of::date", True),
        ("SELECT 1 -- as of $as_of", False),
        ("/* $as_of\n */ SELECT '$as_of', 'it''s $as_of'", False),
        ('SELECT "$as_of", $as_of_day', False),
        (r"SELECT E'\\', E'it\'s', $as_of", True),
        (r"SELECT E'\' $as_of'", False),
        ("SELECT $$ it's $as_of $$, $tag$ $as_of $$ $tag$", False),
        ("SELECT $$ it's $$, $as_of", True),
        ("SELECT 1 /* one /* in another */ $as_of */", False),
    ],
)
def test_only_what_the_query_reads_counts_as_use(sql, uses):
    assert uses_as_of(sql) == uses


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with params.yaml as it is, and a query that reads the date."""
    (tmp_path / PARAMS).write_text((copy_of(PARAMS)).read_text())
    (tmp_path / "source.sql").write_text("SELECT * FROM source WHERE day <= $as_of")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_date_is_the_one_change_of_the_file_and_can_be_set_again(folder):
    before = (copy_of(PARAMS)).read_text().splitlines()
    for day in (date(2026, 11, 23), DAY):
        assert set_as_of(day)
        assert load_params().fetch.as_of == day
    changed = [line for line in (folder / PARAMS).read_text().splitlines() if line not in before]
    assert len(changed) == 1
    assert changed[0].startswith('  as_of: "2026-11-24" # '), "in quotes, since DVC takes no date, and with its comment"


def test_where_the_query_reads_no_date_none_is_set(folder, capsys):
    (folder / "source.sql").write_text("SELECT * FROM source")
    main(arguments().parse_args(["2026-11-24"]))
    assert capsys.readouterr().out == "as_of: the query uses no $as_of, so params.yaml stays\n"
    assert (folder / PARAMS).read_text() == (copy_of(PARAMS)).read_text()


def test_a_date_that_cannot_be_set_leaves_the_file(folder):
    text = (folder / PARAMS).read_text().replace("gate:\n", "gate:\n  as_of: null\n")
    (folder / PARAMS).write_text(text.replace("  as_of: null #", "  'as_of': null #"))
    before = (folder / PARAMS).read_text()
    with pytest.raises(StageError):
        set_as_of(DAY)
    assert (folder / PARAMS).read_text() == before


LINES = {
    "as dvc exp run writes a null": "  as_of:",
    "with a comment": "  as_of:    # the date that the query sees",
    "single quotes": "  as_of: '2026-11-23'  # a day",
    "double quotes": '  as_of: "2026-11-23"',
    "a quoted key": "  'as_of' : null",
    "a tilde": "  as_of: ~",
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_the_date_takes_the_place_of_each_way_to_write_it(folder, line):
    """Fault in the source: `as_of:` is null, quoted, or has a comment.

    `python -m churn as-of` replaces the date and keeps the comment.
    """
    text = re.sub("(?m)^  as_of: null.*$", line, (folder / PARAMS).read_text())
    (folder / PARAMS).write_text(text)
    assert set_as_of(DAY)
    assert load_params().fetch.as_of == DAY
    assert (line.partition("#")[2] or "  timeout_minutes") in (folder / PARAMS).read_text(), "the comment stays"


def test_a_value_on_the_next_line_is_one_sentence(folder):
    (folder / PARAMS).write_text(re.sub("(?m)^  as_of: null.*$", "  as_of:\n    null", (folder / PARAMS).read_text()))
    with pytest.raises(StageError, match=r"params\.yaml has fetch\.as_of not on a line of its own"):
        set_as_of(DAY)


def test_yesterday_is_the_newest_day_that_is_closed_in_utc(folder, capsys):
    before = datetime.now(UTC).date()
    main(arguments().parse_args(["yesterday"]))
    assert load_params().fetch.as_of in {day - timedelta(days=1) for day in (before, datetime.now(UTC).date())}
    assert capsys.readouterr().out == f"as_of: {load_params().fetch.as_of}\n"


@pytest.mark.parametrize("day", ["", "last monday", "2026-11-31"])
def test_what_is_no_day_is_told(folder, day):
    with pytest.raises(StageError, match=r"say a day, as in `python -m churn as-of 2026-11-24`"):
        main(arguments().parse_args([day]))
