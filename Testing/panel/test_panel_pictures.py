"""The tutorial, played by clicks: its pictures are those that the documentation shows, and say that they are no Slicer.

The pictures of the teaching, which takes minutes, are looked at as they are in the repository.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import picture_stage
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "Resources" / "Screenshots"
TUTORIAL = ("load", "detect", "review", "correct", "reviewed", "export", "compare")
TEACHING = ("learning", "promotion", "batch")
WIDTH, HEIGHT = picture_stage.SIZE
PANEL, STRIP = picture_stage.PANEL_WIDTH, picture_stage.STRIP
COARSE = (WIDTH // 40, HEIGHT // 40)
TOLERANCE, MOST = 12.0, 115_000  # gray values on average; bytes


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    """The pictures of the tutorial, taken now."""
    folder = tmp_path_factory.mktemp("pictures")
    script = ROOT / "Testing" / "panel" / "take_pictures.py"
    words = [sys.executable, script, "--tutorial-only", folder]
    environment = {**os.environ, "TMPDIR": str(tmp_path_factory.mktemp("files"))}  # others may take some, too
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"), dtype=float)


def coarse(path):
    """The views, without the panel, whose fonts differ from computer to computer, as a few large pixels."""
    views = Image.open(path).convert("RGB").crop((PANEL, 0, WIDTH, HEIGHT - STRIP))
    return np.asarray(views.resize(COARSE, Image.Resampling.BOX), dtype=float)


def difference(one, other):
    return float(np.abs(coarse(one) - coarse(other)).mean())


def check_picture(path):
    """Size, the line below it with its mark, and that panel and views show something."""
    shown = pixels(path)
    assert shown.shape == (HEIGHT, WIDTH, 3) and path.stat().st_size <= MOST
    strip = shown[-STRIP:]
    assert strip.mean() < 100, "the line is dark"
    is_yellow = (strip[..., 0] > 180) & (strip[..., 2] < 170)
    assert is_yellow[:, -200:].sum() > 50, "the mark of the test window is missing"
    for part in (shown[:-STRIP, :PANEL], shown[:-STRIP, PANEL:]):
        assert part.std() > 20, f"{path.name} shows nothing"


@pytest.mark.slow
@pytest.mark.parametrize("name", TUTORIAL)
def test_a_picture_of_the_tutorial_is_what_the_clicks_give(taken, name):
    check_picture(taken / f"{name}.png")
    assert difference(taken / f"{name}.png", KEPT / f"{name}.png") < TOLERANCE, "run make pictures, and look"


@pytest.mark.parametrize("name", TUTORIAL + TEACHING)
def test_pictures_in_the_repository_are_marked_and_small(name):
    check_picture(KEPT / f"{name}.png")


def test_all_pictures_of_the_tutorial_are_small_together_and_shown_in_its_order():
    assert sum((KEPT / f"{name}.png").stat().st_size for name in TUTORIAL) <= 800_000
    shown = re.findall(r"Screenshots/(\w+)\.png", (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8"))
    assert tuple(shown) == TUTORIAL


def test_the_comparison_tells_pictures_apart():
    others = [difference(KEPT / f"{a}.png", KEPT / f"{b}.png") for a, b in (("load", "detect"), ("review", "compare"))]
    assert min(others) > TOLERANCE
