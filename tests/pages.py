"""Reads a page as a browser does, without one: its elements, the text of each section, and the rows of its tables."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from churn.page.filters import flat

from ruamel.yaml import YAML

VOID = {"meta", "br", "hr", "img", "input", "link"}


@dataclass
class Section:
    """A section: the files that it names, its text outside of charts, and its tables by caption."""

    files: list[str]
    text: list[str] = field(default_factory=list)
    tables: dict[str, list[list[str]]] = field(default_factory=dict)


class Page(HTMLParser):
    """A page: all elements with their attributes, the sections by id, and the text that a reader sees."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.sections: dict[str, Section] = {}
        self.header = Section([])
        self.open: list[str] = []
        self.section: Section | None = None
        self.rows: list[list[str]] = []
        self.caption = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "header":
            self.section = self.header
        elif tag == "section":
            self.section = self.sections[attributes["id"]] = Section((attributes["data-files"] or "").split(" "))
        elif tag == "table":
            self.rows, self.caption = [], ""
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, "elements are nested"
        if tag in ("section", "header"):
            self.section = None
        elif tag == "table" and self.section:
            assert self.caption not in self.section.tables
            self.section.tables[self.caption.strip()] = [[cell.strip() for cell in row] for row in self.rows]
            self.rows = []

    def handle_data(self, data):
        if self.section is None or "svg" in self.open or not data.strip():
            return
        self.section.text.append(data)
        if "caption" in self.open:
            self.caption += data
        elif self.rows and ("td" in self.open or "th" in self.open):
            self.rows[-1][-1] += data


TOKEN = re.compile(r"[^\s()|;<>\"'`]*\d[^\s()|;<>\"'`]*")
SPECS = (
    "",
    ".1f",
    ".3f",
    ".4f",
    "+z.4f",
    "z.4f",
    ",",
    ",.0f",
    "+,.0f",
    ".0f",
    ".1%",
    ".2%",
    ".0%",
    ".4g",
    ",.10g",
    ".2g",
)
WORDS = {"0", "1", "0.5", "80", "95", "F1"}  # of the page's own sentences


def numbers_in(value: Any) -> Iterator[float]:
    """Yield each number of nested values, and how many each list and mapping has."""
    if isinstance(value, dict | list):
        yield from {len(value), len(flat(value))}
        for part in value.values() if isinstance(value, dict) else value:
            yield from numbers_in(part)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from {value, abs(value)}


def tokens(text: str) -> set[str]:
    return {part for one in TOKEN.findall(text) for part in {one, one.strip(".,:;±≥≤→\u2026")}}


def shown_as(text: str, name: str) -> set[str]:
    """Return everything with a digit that may be shown of a file: its own words, and its numbers in any format."""
    if name.endswith(".csv"):
        values: Any = [
            float(cell) for line in text.split() for cell in line.split(",") if re.fullmatch(r"-?[\d.]+", cell)
        ]
    elif name.endswith((".json", ".yaml")):
        values = YAML(typ="safe").load(text)
    else:
        values = []
    text += " ".join(flat(values))
    return {format(one, spec) for one in numbers_in(values) for spec in SPECS if spec or one == int(one)} | tokens(text)


def untraced(section: Section, folder: Path, *beside: str, known: Collection[str] = ()) -> set[str]:
    """Return each word with a digit in a section that is in none of the files that the section names, nor `beside`."""
    allowed = {*WORDS, *known}
    for name in [*section.files, *beside]:
        for path in folder.glob(name) if name else ():
            allowed |= shown_as(path.read_text(encoding="utf-8"), path.name)
    found = {one.strip(".,:;") for one in TOKEN.findall(" ".join(section.text))}
    return found - allowed - {f"{sign}{one}" for sign in "+-" for one in allowed}
