"""Opens a page in Chromium without a window, and returns what is in it after its scripts ran."""

import shutil
import subprocess
from html import unescape

import pytest

OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync")

ANSWER = """const answer = (text) => {
  const one = document.createElement("pre");
  one.textContent = `<<<${text}>>>`;
  document.body.append(one);
};"""


def chromium() -> str:
    """Return the program, or skip the test where there is none."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if not found:
        pytest.skip("there is no Chromium on PATH")
    return found


def opened(html, folder, *options):
    """Return the document as it is after the page's scripts, as HTML; `folder` is for the page and its profile."""
    (folder / "page.html").write_text(html, encoding="utf-8")
    return subprocess.run(
        [
            chromium(),
            *OPTIONS,
            f"--user-data-dir={folder / 'profile'}",
            "--virtual-time-budget=20000",
            *options,
            "--dump-dom",
            (folder / "page.html").as_uri(),
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout


def written(html, folder, script, *options):
    """Return what a script, which is added to the page and may do anything, writes by `answer(text)`."""
    free = html.replace('http-equiv="Content-Security-Policy"', 'name="former-policy"')  # which forbids other scripts
    shown = opened(f"{free}<script>{ANSWER}\n{script}</script>", folder, *options)
    return unescape(shown.rpartition("&lt;&lt;&lt;")[2].partition("&gt;&gt;&gt;")[0])
