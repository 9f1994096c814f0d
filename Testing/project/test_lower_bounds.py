"""Lower bounds are versions that were installed and tested: `make test-oldest`."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def pins(name):
    """{package: version} of a file of pins."""
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8").lower()
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)$", text, re.MULTILINE))


def bounds(lines):
    """{package: lowest version} of requirements."""
    return dict(re.fullmatch(r"([a-z0-9-]+)>=([\d.]+)", line.lower()).groups() for line in lines)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
def test_lower_bounds_are_those_that_are_tested():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    declared = bounds(project["dependencies"]) | bounds(extras["picture"]) | bounds(extras["train"])
    declared |= bounds(extras["report"])
    assert declared.items() <= pins("bounds.txt").items()


def test_the_panel_asks_for_the_same():
    folder = ROOT / "H3DELandmarks"
    lines = (folder / "Resources" / "H3DELandmarks" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    asked = bounds(line.partition("#")[0].strip() for line in lines if not line.startswith("#"))
    code = (folder / "H3DELandmarksPanel" / "Dependencies.py").read_text(encoding="utf-8")
    asked |= dict(re.findall(r'Requirement\("(torch)", "([\d.]+)"', code))
    assert "torch" in asked and asked.items() <= pins("bounds.txt").items()


def test_what_sends_scans_is_what_the_extra_declares():
    folder = ROOT / "H3DELandmarks" / "Resources" / "H3DELandmarks"
    lines = (folder / "requirements-clinic.txt").read_text(encoding="utf-8").splitlines()
    asked = bounds(line.partition("#")[0].strip() for line in lines if not line.startswith("#"))
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert asked == bounds(extras["cluster"])


def test_the_oldest_pytorch_is_tested_beside_what_slicer_ships():
    beside = pins("slicer.txt")
    assert beside["torch"] == pins("bounds.txt")["torch"] and beside["numpy"].startswith("2.")
