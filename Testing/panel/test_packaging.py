"""What Slicer gets: an unlisted file works from a checkout and is missing from the installed extension."""

import ast
import re
from pathlib import Path

import pytest
from PySide6.QtGui import QImage

MODULE = Path(__file__).resolve().parents[2] / "H3DELandmarks"
NOT_AT_FILE_SCOPE = {"torch", "matplotlib", "safetensors", "jsonschema", "tqdm", "PyTorchUtils"}


def listed(variable):
    """File names in ``set(variable ...)`` of the module's CMakeLists.txt."""
    text = (MODULE / "CMakeLists.txt").read_text(encoding="utf-8")
    return set(re.search(rf"^set\({variable}\s([^)]*)\)", text, re.MULTILINE).group(1).split())


@pytest.mark.parametrize(("variable", "scripts"), [("MODULE_PYTHON_SCRIPTS", True), ("MODULE_PYTHON_RESOURCES", False)])
def test_every_file_of_the_module_is_packaged(variable, scripts):
    existing = {
        path.relative_to(MODULE).as_posix() for path in MODULE.rglob("*")
        if path.is_file() and path.name != "CMakeLists.txt" and "__pycache__" not in path.parts
        and (path.suffix == ".py") == scripts
    }
    assert listed(variable) == existing


def test_the_extension_builds_the_module():
    assert "add_subdirectory(H3DELandmarks)" in (MODULE.parent / "CMakeLists.txt").read_text(encoding="utf-8")


def test_the_icon_has_the_size_that_slicer_asks_for():
    image = QImage(str(MODULE / "Resources" / "Icons" / "H3DELandmarks.png"))
    assert (image.width(), image.height()) == (128, 128) and image.hasAlphaChannel()


def test_requirements_are_neither_pinned_nor_what_slicer_ships():
    lines = (MODULE / "Resources" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    requirements = [line for line in lines if line and not line.startswith("#")]
    assert requirements and not any("==" in line for line in requirements)
    names = {re.match(r"[\w.-]+", line).group() for line in requirements}
    assert not names & {"torch", "numpy", "scipy", "SimpleITK", "vtk"}


def test_nothing_heavy_is_imported_at_file_scope():
    files = list(MODULE.rglob("*.py"))
    assert len(files) > 5
    for path in files:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & NOT_AT_FILE_SCOPE, path


def test_the_module_file_stays_thin():
    assert len((MODULE / "H3DELandmarks.py").read_text(encoding="utf-8").splitlines()) < 350
