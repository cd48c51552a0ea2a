"""Renders a page that needs no other file: style and script are inside, and it may load nothing.

Every value is escaped for HTML: a column may be called anything. The script is named by its hash, so no other runs.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from churn.config.params import OVERALL
from churn.page.filters import CONTROL, FILTERS, METRIC_ORDER

TEMPLATES = Path(__file__).parent / "templates"


def rendered(
    template: str, folders: Sequence[Path] = (), filters: Sequence[Callable[..., Any]] = (), **values: Any
) -> str:
    """Return a template as HTML; an unknown name is an error.

    Parameters
    ----------
    template
        The name of a file in `folders`, or in TEMPLATES.
    folders, filters
        Templates and filters beside those of this package.
    **values
        The names that the template knows.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup, escape

    def shown(of: object) -> Markup:
        if isinstance(of, Markup):
            return of
        return escape(CONTROL.sub(" ", str(of)))

    environment = Environment(
        loader=FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        finalize=shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {one.__name__: one for one in (*FILTERS, *filters)}
    sections = list[tuple[str, str]]()

    def section(
        name: str, title: str, files: Sequence[str] = (), shown: object = True, *, caller: Callable[[], str]
    ) -> Markup:
        if not shown:
            return Markup()
        sections.append((name, title))
        return Markup(part.section(name, title, files, caller()))

    environment.globals["OVERALL"] = OVERALL
    part: Any = environment.get_template("parts.html.j2").module
    style, script = (Markup((TEMPLATES / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    inside = {
        "section": section,
        "sections": sections,
        "style": style,
        "script": script,
        "script_hash": Markup(digest),
        "METRICS": METRIC_ORDER,
    }
    return environment.get_template(template).render(inside | values)
