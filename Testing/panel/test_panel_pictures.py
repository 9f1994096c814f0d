"""The tutorial with the bundled model, played by clicks; its pictures are kept in pictures/ for people to look at."""

import subprocess
import sys
from pathlib import Path

import pytest
from PySide6.QtGui import QImage

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("1-detecting", "2-detected", "3-most-doubtful", "4-reviewed", "5-compared", "6-choices")


@pytest.mark.slow
def test_the_tutorial_can_be_played_and_photographed():
    script = ROOT / "Testing" / "panel" / "take_pictures.py"
    for name in NAMES:
        (ROOT / "pictures" / f"{name}.png").unlink(missing_ok=True)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in NAMES:
        image = QImage(str(ROOT / "pictures" / f"{name}.png"))
        assert image.width() > 1000 and image.height() > 700, name
        small = image.scaled(64, 64)
        colors = {small.pixel(x, y) for x in range(64) for y in range(64)}
        assert len(colors) > 200, f"{name} shows nothing"
