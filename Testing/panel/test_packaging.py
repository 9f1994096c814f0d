"""What Slicer gets: an unlisted file works from a checkout and is missing from the installed extension."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import slicer
from PySide6.QtGui import QImage

MODULE = Path(__file__).resolve().parents[2] / "H3DELandmarks"
ROOT = MODULE.parent
NOT_AT_FILE_SCOPE = {"torch", "matplotlib", "safetensors", "pydantic", "tqdm", "PyTorchUtils"}
PLAY_SELF_TEST = """
import logging, sys, application
logging.basicConfig(stream=sys.stdout, level=logging.INFO)
application.start()
module = application.load_module(sys.argv[1])
application.open_panel(module)
module.H3DELandmarksTest().runTest()
import H3DELandmarksLib
print(H3DELandmarksLib.__file__)
"""


def listed(variable):
    """File names in ``set(variable ...)`` of the module's CMakeLists.txt."""
    text = (MODULE / "CMakeLists.txt").read_text(encoding="utf-8")
    return set(re.search(rf"^set\({variable}\s([^)]*)\)", text, re.MULTILINE).group(1).split())


@pytest.mark.parametrize(("variable", "scripts"), [("MODULE_PYTHON_SCRIPTS", True), ("MODULE_PYTHON_RESOURCES", False)])
def test_every_file_of_the_module_is_packaged(variable, scripts):
    existing = {
        path.relative_to(MODULE).as_posix()
        for path in MODULE.rglob("*")
        if path.is_file()
        and path.name != "CMakeLists.txt"
        and "__pycache__" not in path.parts
        and (path.suffix == ".py") == scripts
    }
    assert listed(variable) == existing


def test_the_extension_builds_the_module():
    assert "add_subdirectory(H3DELandmarks)" in (MODULE.parent / "CMakeLists.txt").read_text(encoding="utf-8")


def test_the_icon_has_the_size_that_slicer_asks_for():
    image = QImage(str(MODULE / "Resources" / "Icons" / "H3DELandmarks.png"))
    assert (image.width(), image.height()) == (128, 128) and image.hasAlphaChannel()


def test_requirements_are_neither_pinned_nor_what_slicer_ships():
    lines = (MODULE / "Resources" / "H3DELandmarks" / "requirements.txt").read_text(encoding="utf-8").splitlines()
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


def test_every_name_of_qt_ctk_and_slicer_exists():
    """Where the tables of Slicer's names lie beside the checkout, as on the computers where this is developed."""
    checker = ROOT.parent / "shared" / "slicer-api" / "check_names.py"
    if not checker.is_file():
        pytest.skip("the tables of Slicer's names are not here")
    files = [*MODULE.rglob("*.py"), *MODULE.rglob("*.ui")]
    done = subprocess.run([sys.executable, checker, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_module_tells_clinicians_what_it_is(module):
    description = slicer.modules.h3delandmarks
    assert "Anatomical Landmarks" in description.title and description.categories == ["Quantification"]
    assert "not a medical device" in description.helpText and '<a href="https://' in description.helpText
    link = re.search(r'href="[^"]*/main/([^"]+)"', description.helpText).group(1)
    assert (ROOT / link).is_file()
    assert all(re.fullmatch(r"[^()]+ \([^()]+\)", person) for person in description.contributors)


def test_the_module_file_stays_thin():
    assert len((MODULE / "H3DELandmarks.py").read_text(encoding="utf-8").splitlines()) < 500


def test_icon_and_screenshots_of_the_index_exist():
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    urls = re.findall(r"https://raw\.githubusercontent\.com/[^/]+/[^/]+/main/([^\s\"]+)", text)
    assert len(urls) >= 4 and all((ROOT / url).is_file() for url in urls)


def test_the_index_entry_has_what_the_schema_asks_for():
    entry = json.loads((ROOT / "H3DELandmarks.json").read_text(encoding="utf-8"))
    assert entry["$schema"].endswith("slicer-extension-catalog-entry-schema-v1.0.2.json#")
    assert {"build_dependencies", "build_subdirectory", "category", "scm_revision", "scm_url", "tier"} < set(entry)
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert entry["scm_url"].endswith("/SlicerH3DELandmarks.git") and "project(H3DELandmarks)" in text
    assert "EXTENSION_CATEGORY" not in text, "the index has the category"
    assert entry["category"] == "Quantification"
    assert f'EXTENSION_DEPENDS "{" ".join(entry["build_dependencies"])}"' in text


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """The extension as its CMake lists install it."""
    if not shutil.which("cmake") or not (shutil.which("cc") or os.name == "nt"):
        pytest.skip("CMake or a compiler is missing")
    build, package = tmp_path_factory.mktemp("build"), tmp_path_factory.mktemp("package")
    configure = ["cmake", "-S", ROOT, "-B", build, f"-DSlicer_DIR={ROOT / '.github' / 'slicer'}"]
    for command in (configure, ["cmake", "--install", build, "--prefix", package]):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    (modules,) = package.glob("lib/Slicer-*/qt-scripted-modules")
    return modules


def test_the_package_holds_module_library_models_and_samples(installed):
    for name in (
        "H3DELandmarks.py",
        "H3DELandmarksPanel/ReviewSection.py",
        "Resources/UI/H3DELandmarks.ui",
        "H3DELandmarksLib/scene/review.py",
        "H3DELandmarksLib/Resources/SampleData/mandibular-molar-phantom.nrrd",
        "H3DELandmarksLib/Resources/Models/mandibular-molar-phantom/manifest.json",
    ):
        assert (installed / name).is_file(), name


def test_nothing_lies_where_other_extensions_put_their_files(installed):
    """Applications that bundle extensions have one folder qt-scripted-modules for all."""
    own = [path.relative_to(installed) for path in installed.rglob("*") if path.is_file()]
    shared = [path for path in own if not path.parts[0].startswith("H3DELandmarks")]
    named = {"H3DELandmarks", "MandibularMolarPhantom"}
    assert shared and all(any(part.startswith(tuple(named)) for part in path.parts) for path in shared), shared


@pytest.mark.slow
def test_the_installed_extension_passes_its_self_test_without_a_network(installed, tmp_path):
    """With the bundled model and the sample, far from the checkout."""
    (tmp_path / "bin").mkdir()
    launcher = tmp_path / "bin" / "PythonSlicer"
    launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    launcher.chmod(0o755)
    (tmp_path / "play.py").write_text(PLAY_SELF_TEST, encoding="utf-8")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "Testing" / "standin"),
        "PATH": f"{launcher.parent}{os.pathsep}{os.environ['PATH']}",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
    }
    done = subprocess.run(
        [sys.executable, tmp_path / "play.py", installed / "H3DELandmarks.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "The test passed." in done.stdout
    assert done.stdout.splitlines()[-1].startswith(str(installed)), "the library of the package was used"
