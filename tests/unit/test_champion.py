from churn.registry.champion import _aligned, former_champion, who

import pytest


def promotions(*numbers):
    return [
        {"kind": "promotion", "from": start, "to": to} for start, to in zip(("none", *numbers), numbers, strict=False)
    ]


def back(start, to):
    return {"kind": "rollback", "from": start, "to": to}


ALL = {"1", "2", "3", "4"}


@pytest.mark.parametrize(
    ("moves", "present", "usable", "former"),
    [
        (promotions("1"), "1", ALL, None),
        (promotions("1", "2", "3"), "3", ALL, "2"),
        ([*promotions("1", "2", "3"), back("3", "2")], "2", ALL - {"3"}, "1"),
        ([*promotions("1", "2"), back("2", "1")], "1", ALL - {"2"}, None),
        (promotions("1", "2", "3"), "3", ALL - {"2"}, "1"),  # version 2 was deleted
        (promotions("1", "2", "1"), "1", ALL, "2"),
        (promotions("1", "2", "1"), "1", ALL - {"2"}, None),  # not to itself
        (promotions("1", "2", "3"), "2", ALL, "1"),  # written down, but not made
        (promotions("1", "2"), "4", ALL, "2"),  # moved by hand
        ([*promotions("1", "2"), *promotions("3")], "3", ALL - {"2"}, "1"),  # version 2 was deleted before
        ([*promotions("1", "2"), {"kind": "promotion", "from": "3", "to": "4"}, back("4", "3")], "3", ALL, "2"),
        ([*promotions("1", "2"), back("none", "1"), *promotions("1", "3")[1:]], "3", ALL - {"2"}, "1"),
        ([], "none", ALL, None),
    ],
)
def test_the_former_champion_is_where_the_alias_came_from(moves, present, usable, former):
    assert former_champion(moves, present, usable) == former


def test_a_move_in_github_actions_names_the_actor_and_the_run(monkeypatch):
    monkeypatch.setenv("GITHUB_ACTOR", "somebody")
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.example")
    monkeypatch.setenv("GITHUB_REPOSITORY", "team/churn")
    monkeypatch.setenv("GITHUB_RUN_ID", "7")
    assert who() == "somebody, https://github.example/team/churn/actions/runs/7"


def test_a_move_by_hand_names_the_account(monkeypatch):
    monkeypatch.delenv("GITHUB_ACTOR", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "an account of the registry")
    assert who() == "an account of the registry"


def test_a_line_break_or_an_escape_in_a_tag_breaks_no_table():
    rows = [["version", "why"], ["10", "rolled back by ana:\ncomplaints\x1b[31m"]]
    assert [*_aligned(rows)] == ["version  why", "10       rolled back by ana: complaints [31m"]
