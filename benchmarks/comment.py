"""Make docs/comment.png: the comment on a branch that adds a feature, as GitHub shows it, by headless Chromium.

The branch is one of a clone of the last commit. GitHub's style is imitated, so the picture shows the text and the
plots, and not every pixel of the website. Usage: python -m benchmarks.comment
"""

import argparse
import base64
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import clone
from benchmarks.report import IDENTITY

from markdown_it import MarkdownIt
from PIL import Image

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "comment.png"
WIDTH, HEIGHT = 830, 1_800  # of the window; what is below is cut
FEATURE = "round(MonthlyCharges::DOUBLE / greatest(tenure::INTEGER, 1), 2) AS charge_by_tenure"
EDITS = (  # of the feature, by file: what stands there, and what is added before it
    ("source.sql", "\nFROM source", f",\n    {FEATURE}"),
    ("contract.yaml", "\nrules:", "  charge_by_tenure: {role: feature, type: number}\n"),
    ("contract.yaml", "    num_products: {min: 0", "    charge_by_tenure: {min: 0, max: 500}\n"),
)
STYLE = """
body { margin: 16px; padding: 16px; border: 1px solid #d1d9e0; border-radius: 6px; color: #1f2328; width: 760px;
  font: 14px/1.5 -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; }
h2 { font-size: 21px; margin: 0 0 16px; padding-bottom: 6px; border-bottom: 1px solid #d1d9e0b3; line-height: 1.25 }
h3 { font-size: 17px; margin: 24px 0 16px } p, table, blockquote, details { margin: 0 0 16px } sub { color: #59636e }
table { border-collapse: collapse; display: block; font-size: 13px } img { max-width: 100% }
th, td { padding: 5px 12px; border: 1px solid #d1d9e0 } tr:nth-child(even) td { background: #f6f8fa }
blockquote { padding: 0 16px; border-left: 4px solid #0969da } blockquote b { color: #0969da }
blockquote.warning { border-color: #9a6700 } blockquote.warning b { color: #9a6700 }
ul { padding-left: 24px; margin: 0 }
"""


def run(*command: str, folder: Path, check: bool = True) -> None:
    """Run a command in a folder."""
    subprocess.run(
        command, cwd=folder, check=check, capture_output=True, env=os.environ | IDENTITY | {"BASE_NAME": "main"}
    )


def changed(folder: Path) -> Path:
    """Return a clone on a branch that adds a feature, with its report."""
    repository = clone(folder)
    run("dvc", "repro", "gate", folder=repository)
    run("git", "commit", "--quiet", "--all", "--allow-empty", "--message", "Run", folder=repository)
    run("git", "branch", "--force", "base", folder=repository)
    for name, place, added in EDITS:
        file = repository / name
        text = file.read_text(encoding="utf-8")
        if place not in text:
            raise SystemExit(f"{name} has no {place.strip()!r}: this program knows the sample alone.")
        file.write_text(text.replace(place, added + place, 1), encoding="utf-8")
    run("dvc", "repro", "prepare", folder=repository)
    run(sys.executable, "-m", "churn", "profile", folder=repository)
    run("dvc", "repro", "gate", folder=repository, check=False)
    run("git", "commit", "--quiet", "--all", "--message", "Add charge_by_tenure", folder=repository)
    report = (sys.executable, "-m", "report", "--base", "base")
    run(*report, folder=repository, check=False)
    return repository / "build" / "report"


def page(report: Path) -> str:
    """Return the report as a page, its picture inside."""
    body = MarkdownIt("commonmark").enable("table").render((report / "report.md").read_text(encoding="utf-8"))
    for kind in ("WARNING", "NOTE"):
        start = f"<blockquote>\n<p>[!{kind}]"
        body = body.replace(start, f'<blockquote class="{kind.lower()}">\n<p><b>{kind.capitalize()}</b>')
    picture = base64.b64encode((report / "comparison.png").read_bytes()).decode()
    body = body.replace("comparison.png", f"data:image/png;base64,{picture}")
    return f"<!doctype html><meta charset=utf-8><style>{STYLE}</style><body>{body}</body>"


def main() -> None:
    """Make the picture."""
    argparse.ArgumentParser(prog="python -m benchmarks.comment", description=__doc__.partition("\n")[0]).parse_args()
    if not (chromium := shutil.which("chromium") or shutil.which("google-chrome")):
        raise SystemExit("There is no Chromium on PATH: install it, for example by `apt install chromium`.")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        html, shot = folder / "comment.html", folder / "comment.png"
        html.write_text(page(changed(folder / "clone")), encoding="utf-8")
        options = ("--headless", "--no-sandbox", "--hide-scrollbars", "--force-device-scale-factor=1.3")
        run(chromium, *options, f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={shot}", html.as_uri(), folder=folder)
        Image.open(shot).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(PICTURE, optimize=True)
    print(f"{PICTURE.relative_to(PICTURE.parent.parent)}: {PICTURE.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
