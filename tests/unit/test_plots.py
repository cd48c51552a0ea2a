import subprocess
import sys
from functools import cache

from churn.evaluation.curves import curves
from churn.evaluation.plots import BRANCH, MAIN, TEXT, draw
from tests.conftest import ROOT
from tests.unit.test_paired import two_models

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

PAGES = ("#ffffff", "#0d1117")  # GitHub's light and dark


def draw_two(path, rows=1_500, same=False, without_main=False):
    labels, main, branch = two_models(rows, noise=(0.3, 1))
    ours = {"this branch": curves(labels, branch, 0.5)}
    theirs = {} if without_main else {"main": ours["this branch"] if same else curves(labels, main, 0.5)}
    draw(theirs | ours, path)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Return a function that draws two models, once for all tests, and returns the path of the picture."""

    @cache
    def path_of(**options):
        path = tmp_path_factory.mktemp("pictures") / "comparison.png"
        draw_two(path, **options)
        return path

    return path_of


def pixels_of(path):
    """Return a picture's pixels as RGBA."""
    return np.asarray(Image.open(path).convert("RGBA")).astype(int)


def near(pixels, colour):
    """Say of each pixel whether it is opaque enough to be seen and of about that colour."""
    return (np.abs(pixels[..., :3] - 255 * np.array(to_rgb(colour))).max(axis=-1) < 12) & (pixels[..., 3] > 100)


def panels(mask):
    """Return the number of pixels in each of the four quarters."""
    height, width = mask.shape
    return [mask[y : y + height // 2, x : x + width // 2].sum() for y in (0, height // 2) for x in (0, width // 2)]


def contrast(one, other):
    """The contrast of two colours as WCAG 2 defines it, 1 to 21."""

    def luminance(colour):
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
        return np.dot(linear, [0.2126, 0.7152, 0.0722])

    darker, lighter = sorted([luminance(one), luminance(other)])
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("same", [False, True])
def test_both_models_are_in_each_panel_even_where_they_are_the_same(drawn, same):
    pixels = pixels_of(drawn(same=True) if same else drawn())
    assert min(panels(near(pixels, BRANCH["color"]))) > 1_000
    assert min(panels(near(pixels, MAIN["color"]))) > 1_000


def test_without_main_there_is_the_branch_alone(drawn):
    pixels = pixels_of(drawn(without_main=True))
    assert min(panels(near(pixels, BRANCH["color"]))) > 1_000
    assert not near(pixels, MAIN["color"]).any()


@pytest.mark.parametrize("page", PAGES)
def test_text_and_branch_stand_out_from_a_light_and_a_dark_page(drawn, page):
    assert contrast(TEXT, page) > 4
    assert contrast(BRANCH["color"], page) > 4
    pixels = pixels_of(drawn())
    assert (pixels[0, 0, 3], pixels[-1, -1, 3]) == (0, 0)


def test_the_branch_differs_from_main_in_width_not_in_colour_alone():
    assert MAIN["linewidth"] > 2 * BRANCH["linewidth"]


@pytest.mark.parametrize("rows", [12, 1_500, 50_000])
def test_it_is_small_and_sharp_whatever_the_number_of_customers(drawn, rows):
    path = drawn() if rows == 1_500 else drawn(rows=rows)
    pixels = pixels_of(path)
    assert pixels.shape[1] == 1_600
    assert path.stat().st_size < 100_000
    assert min(panels(near(pixels, BRANCH["color"]))) > 500


def test_the_same_curves_are_the_same_bytes(drawn, tmp_path):
    draw_two(tmp_path / "folder" / "twice.png")
    chunks = drawn().read_bytes()
    assert chunks == (tmp_path / "folder" / "twice.png").read_bytes()
    assert b"matplotlib" not in chunks
    assert b"tEXt" not in chunks


def test_whoever_draws_nothing_does_not_wait_for_matplotlib():
    code = "import sys, churn.evaluation.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
