"""Gives `dvc plots` a page with vega inside, which opens without a network: DVC's own loads vega from a CDN.

`make setup` runs `python -m report.plots_page`. The page lies beside the environment, and .dvc/config.local names it.
"""

import argparse
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

from churn.core.errors import StageError
from churn.core.files import replacing
from churn.core.runner import command

SCRIPTS = ("vega5.js", "vega-lite5.js", "vega-embed6.js")  # of django-js-lib-vega-embed, in the order of their imports
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
{refresh_tag}
<title>Plots</title>
<style>
body { margin: 24px; font-family: system-ui, sans-serif }
table { border-spacing: 15px }
</style>
<script>SCRIPTS</script>
</head>
<body>
{plot_divs}
</body>
</html>
"""


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    description = "Give `dvc plots` a page that opens without a network."
    return argparse.ArgumentParser(prog="python -m report.plots_page", description=description)


def main(_: argparse.Namespace) -> None:
    """Write the page, and name it to DVC."""
    folder = files("js_lib_vega_embed") / "static" / "js_lib_vega_embed"
    scripts = "\n".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS)
    with replacing(page := Path(sys.prefix, "dvc", "plots.html")) as tmp:
        tmp.write_text(PAGE.replace("SCRIPTS", scripts), encoding="utf-8")
    named = os.path.relpath(page, ".dvc")  # DVC's folder, so that the checkout can be moved
    configure = (sys.executable, "-m", "dvc", "config", "--local", "plots.html_template", named)
    if subprocess.run(configure, check=False, capture_output=True).returncode:
        raise StageError(".dvc/config.local cannot be written: correct it, or delete it and run `make setup remote`.")


if __name__ == "__main__":
    command(main, arguments())
