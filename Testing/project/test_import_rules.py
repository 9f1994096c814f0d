"""What importing costs: the library works without Slicer, and stays light until it computes something."""

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import H3DELandmarksLib

ROOT = Path(__file__).resolve().parents[2]
NEVER = ("slicer", "qt", "ctk", "vtk", "mrml", "PythonQt")
HEAVY = ("torch", "openvino", "matplotlib", "tqdm", "pydantic", "safetensors")
# Rooms and files whose work is torch: the only ones that may import it at file scope.
TORCH_PLACES = (
    "H3DELandmarksLib.networks",
    "H3DELandmarksLib.training",
    "H3DELandmarksLib.retraining",
    "H3DELandmarksLib.detection.closer",
    "H3DELandmarksLib.detection.decoding",
    "H3DELandmarksLib.detection.second_look",
    "H3DELandmarksLib.detection.detector",
    "H3DELandmarksLib.detection.engine",
    "H3DELandmarksLib.detection.search",
    "H3DELandmarksLib.detection.stage",
)
SLICER_PLACES = ("H3DELandmarksLib.scene",)


def is_in(module: str, places: tuple[str, ...]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


def modules(excluded: tuple[str, ...]) -> list[str]:
    """All modules of the library except those in `excluded`; __main__ would run."""
    found = [m.name for m in pkgutil.walk_packages(H3DELandmarksLib.__path__, "H3DELandmarksLib.")]
    return sorted(m for m in found if not is_in(m, excluded) and not m.endswith("__main__"))


def pulled_in(names: list[str], forbidden: tuple[str, ...]) -> dict[str, list[str]]:
    """Import modules one after the other in a fresh Python: which was the first to bring in which forbidden package."""
    code = (
        "import importlib, json, sys\n"
        f"found, left = {{}}, set({forbidden!r})\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "    new = left & set(sys.modules)\n"
        "    left -= new\n"
        "    if new: found[name] = sorted(new)\n"
        "print(json.dumps(found))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_everything_but_networks_and_training_is_importable_without_torch():
    names = modules(TORCH_PLACES + SLICER_PLACES)
    assert len(names) > 20
    assert pulled_in(names, NEVER + HEAVY) == {}


def test_nothing_but_scene_needs_slicer():
    assert pulled_in(modules(SLICER_PLACES), NEVER) == {}


def test_the_check_sees_what_it_looks_for():
    assert pulled_in(["json", "H3DELandmarksLib.networks"], ("torch",)) == {"H3DELandmarksLib.networks": ["torch"]}


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import H3DELandmarksLib", ("numpy", "SimpleITK", "scipy", *HEAVY)),
        (
            "from H3DELandmarksLib.cli.main import make_parser; make_parser('x')",
            ("numpy", "SimpleITK", "scipy", *HEAVY),
        ),
        ("import H3DELandmarksLib.detection, H3DELandmarksLib.models", HEAVY),
    ],
    ids=["package", "command line", "detection and models"],
)
def test_light_imports_stay_light(code, absent):
    check = f"import sys; {code}; print([name for name in {absent!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_lists_of_exceptions_are_up_to_date():
    existing = modules(())
    assert [place for place in TORCH_PLACES if not any(is_in(m, (place,)) for m in existing)] == []
