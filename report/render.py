"""Renders the report for a pull request, as a page and for a terminal, from report/templates/.

Every value is escaped for Markdown, HTML or a terminal: a column may be called anything. Markup is not escaped again.
Only macros and the filters `escaped` and `plain` make it.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from churn.config.params import OVERALL, PROFIT
from churn.page.charts import charts
from churn.page.filters import METRIC_ORDER, metric, number, signed
from churn.page.render import rendered
from report import filters
from report.changes import looser_changes
from report.data import ReportData
from report.faults import Fault, to_approve
from report.filters import SLICE_METRICS, escaped, plain

TEMPLATES = Path(__file__).parent / "templates"
JUDGED = ("vs_baseline", "max_gain", "vs_anchor")  # the rules that compare with main's models
LIMIT = 60_000  # characters; GitHub refuses a comment of more than 65,536


def headline(data: ReportData) -> str:
    """Return the verdict in one sentence: the outcome, and where it passes the comparison with main."""
    message = data.outcome.sentence
    if not data.outcome.passed:
        return message
    if data.comparison is None:
        alone = (data.evaluation or {}).get("roc_auc")
        known = f": ROC AUC {alone:.3f}" if isinstance(alone, float) else ""
        if data.same_model:
            return f"{message}{known}; the model is {data.base}'s, byte for byte"
        if data.problem:
            return f"{message}{known}; the gate judges alone, because {data.problem}"
        return f"{message}{known}, not compared with {data.base}"
    overall = data.comparison.overall
    area = overall["roc_auc"]
    if area.branch is None or area.difference is None:
        return f"{message}, with no ROC AUC to compare with {data.base}"
    in_words = {"noise": "within noise", "undefined": "without an interval"}  # a single churner has no variance
    message += f": ROC AUC {area.branch:.3f}, {area.difference:+z.3f} against {data.base}, "
    message += in_words.get(area.verdict, f"{area.verdict} beyond noise")
    if data.comparison.easier:
        before, here = data.comparison.easier
        message += f"; the holdout is easier: {here - before:+z.3f} for {data.base}'s own model"
    for verdict in ("worse", "better"):
        names = [metric(name, arrow=False) for name in METRIC_ORDER[1:] if overall[name].verdict == verdict]
        if names:
            message += f"; {verdict}: {', '.join(names[:2])}{f' and {len(names) - 2} more' if len(names) > 2 else ''}"
    return message


def markdown(data: ReportData) -> str:
    """Return the whole report, without the least important sections, which it names, where it would be too long."""
    length, left_out = 0, list[str]()

    def section(title: str, shown: object = True, *, caller: Callable[[], str]) -> str:
        nonlocal length
        text = caller() if shown else ""
        if length + len(text) > LIMIT:
            left_out.append(title)
            return ""
        length += len(text)
        return text

    text = _rendered("report.md.j2", escaped, data, mark=_mark(data), section=section, left_out=left_out)
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"


def page(data: ReportData) -> str:
    """Return the report as a page that needs no other file; it leaves nothing out."""
    curves = data.comparison.curves if data.comparison else {"this branch": data.page.curves}
    drawn = all(curves.values()) and bool(curves)
    own = {"charts": charts(curves) if drawn else [], "models": [data.base, "this branch"][-len(curves) :]}
    own |= {"mark": _mark(data), "SLICE_METRICS": SLICE_METRICS, "JUDGED": JUDGED}
    return rendered("report.html.j2", [TEMPLATES], filters.ORDERS, **vars(data.page) | vars(data) | own | _common(data))


def terminal(data: ReportData) -> str:
    """Return what a terminal has room for: the verdict, what must not be missed, the metrics, and failed rules."""
    findings = [f"refused: {fault.mark}: {fault.message}" for fault in _refused(data)]
    findings += [f"failed: {one['sentence']}" for one in data.broken]
    findings += [f"failed: {rule.message}" for rule in data.rules if rule.status == "failed"]
    columns = [(data.base, "this branch", "difference")]
    if data.comparison:
        overall = data.comparison.overall.values()
        columns += [(number(one.main), number(one.branch), signed(one.difference)) for one in overall]
    widths = [max(8, *map(len, column)) for column in zip(*columns, strict=True)]
    return _rendered("terminal.txt.j2", plain, data, findings=findings, widths=widths)


def _mark(data: ReportData) -> str:
    if not data.outcome.passed:
        return "⛔"
    worse = data.comparison and any(one.verdict == "worse" for one in data.comparison.overall.values())
    easier = data.comparison and data.comparison.easier
    return "⚠️" if worse or easier or data.approved or looser_changes(data.changes) else "✅"


def _refused(data: ReportData) -> tuple[Fault, ...]:
    return (*data.faults, data.own_judge) if data.own_judge else data.faults


def _rendered(template: str, escape: Callable[[object], str], data: ReportData, **values: Any) -> str:
    """Return a template with the fields of `data` and other `values`; an unknown name is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {one.__name__: one for one in filters.FILTERS}
    values |= _common(data) | {"SLICE_METRICS": SLICE_METRICS, "OVERALL": OVERALL}
    return environment.get_template(template).render(vars(data), **values)


def _common(data: ReportData) -> dict[str, Any]:
    profit = data.comparison.overall[PROFIT].branch if data.comparison else (data.evaluation or {}).get(PROFIT)
    metrics = [name for name in METRIC_ORDER if name != PROFIT or profit is not None]
    refused = _refused(data)
    return {"headline": headline(data), "METRICS": metrics, "refused": refused, "to_approve": to_approve(refused)}
