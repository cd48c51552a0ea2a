"""Make the pictures in docs/ by headless Chromium: the comment and the page of a change, and a version's dossier.

The change adds a feature, on a branch of a clone of the last commit. GitHub's style is imitated, so the picture of the
comment shows the text and the plots, and not every pixel of the website. docs/pictures.json gets a hash of what the
templates make of fixed data, so that a test finds pictures that are outdated. Usage: python -m benchmarks.pictures
"""

import argparse
import base64
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

from benchmarks.measure import clone
from benchmarks.report import IDENTITY
from churn.config.contract import load_contract
from churn.config.params import load_params
from churn.core.files import write_json
from churn.registry.dossier import dossier
from report.render import markdown, page

DOCS = Path(__file__).resolve().parent.parent / "docs"
MADE_OF = DOCS / "pictures.json"
SIZES = {"comment": (830, 1_800), "page": (1_200, 1_650), "dossier": (1_200, 1_500)}  # of the window; the rest is cut
DARK = "--blink-settings=preferredColorScheme=0"
TAGS = {  # of a version that does not exist
    "commit": "5d41402abc4b2a76b9719d911017c5925d414020",
    "uncommitted_changes": "false",
    "made_by": "main",
    **{f"{name}_sha256": sha256(name.encode()).hexdigest() for name in ("lock", "model", "train", "test", "code")},
}
MOVES = (
    {
        "kind": "promotion",
        "who": "olga, https://github.com/team/churn/actions/runs/7",
        "when": "2026-11-08T04:05:06+00:00",
        "from": "1",
        "to": "3",
        "why": "not worse, ROC AUC +0.0021, against version 1 on 1,452 customers",
    },
)
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


def dossier_of(folder: Path) -> str:
    """Return the dossier of the model in a folder, with TAGS and MOVES."""
    with contextlib.chdir(folder):
        return dossier(load_params(), load_contract(), TAGS, MOVES)


def hashes(version: str) -> dict[str, str]:
    """Return a hash for each picture: of a comment and a page that the tests make, and of the dossier `version`.

    Of the dossier the part counts that the picture shows, so that a new setting does not make it outdated.
    """
    from tests.report.cases import CASES

    data = CASES["new_data"]
    texts = {
        "comment": markdown(data) + STYLE,
        "page": page(data),
        "dossier": version.partition('<section id="slices"')[0],
    }
    return {name: sha256(text.encode()).hexdigest() for name, text in texts.items()}


def changed(repository: Path) -> Path:
    """Add a feature on a branch of a clone, whose pipeline has run; return the folder with the report."""
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


def comment(report: Path) -> str:
    """Return the comment as a page, its picture inside."""
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark").enable("table").render((report / "report.md").read_text(encoding="utf-8"))
    for kind in ("WARNING", "NOTE"):
        start = f"<blockquote>\n<p>[!{kind}]"
        body = body.replace(start, f'<blockquote class="{kind.lower()}">\n<p><b>{kind.capitalize()}</b>')
    picture = base64.b64encode((report / "comparison.png").read_bytes()).decode()
    body = body.replace("comparison.png", f"data:image/png;base64,{picture}")
    return f"<!doctype html><meta charset=utf-8><style>{STYLE}</style><body>{body}</body>"


def main() -> None:
    """Make the pictures, and write down what they are of."""
    argparse.ArgumentParser(prog="python -m benchmarks.pictures", description=__doc__.partition("\n")[0]).parse_args()
    if not (chromium := shutil.which("chromium") or shutil.which("google-chrome")):
        raise SystemExit("There is no Chromium on PATH: install it, for example by `apt install chromium`.")
    if not subprocess.run(("fc-list", ":charset=2705"), check=False, capture_output=True).stdout:
        raise SystemExit("No font has emoji: install one, for example by `apt install fonts-noto-color-emoji`.")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        repository = clone(folder / "clone")
        run("dvc", "repro", "gate", folder=repository)
        version = dossier_of(repository)
        report = changed(repository)
        pages = {
            "comment": comment(report),
            "page": (report / "report.html").read_text(encoding="utf-8"),
            "dossier": version,
        }
        for name, html in pages.items():
            picture(chromium, folder / f"{name}.html", html, SIZES[name], (DARK,) if name == "dossier" else ())
    write_json(MADE_OF, hashes(version))


def picture(chromium: str, file: Path, html: str, size: tuple[int, int], options: tuple[str, ...]) -> None:
    """Write the picture of a page, in 256 colours."""
    from PIL import Image

    file.write_text(html, encoding="utf-8")
    shot, path = file.with_suffix(".png"), DOCS / f"{file.stem}.png"
    fixed = ("--headless", "--no-sandbox", "--hide-scrollbars", f"--user-data-dir={file.parent / 'profile'}")
    window = ("--force-device-scale-factor=1.3", f"--window-size={size[0]},{size[1]}", f"--screenshot={shot}")
    run(chromium, *fixed, *window, *options, file.as_uri(), folder=file.parent)
    Image.open(shot).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"docs/{path.name}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
