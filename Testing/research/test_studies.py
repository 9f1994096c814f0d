"""Every study can be imported, and tells how it is run, from any folder."""

import json
import pkgutil
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from tiny_model import write_tiny_package

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.models import open_package
from H3DELandmarksResearch import studies
from H3DELandmarksResearch.training.remembered import kept_by

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(module.name for module in pkgutil.iter_modules(studies.__path__))
PROGRAMS = [name for name in NAMES if hasattr(import_module(f"H3DELandmarksResearch.studies.{name}"), "main")]


def test_what_another_model_has_found_is_not_taken_for_a_new_one_s(tmp_path):
    """A version that finds something else keeps it elsewhere; a title makes no difference."""
    package = write_tiny_package(tmp_path / "tiny")
    manifest = package.path / "manifest.json"
    content = json.loads(manifest.read_text(encoding="utf-8"))
    before, kept = kept_by(package), {}
    for name, value in (("title", "Another title"), ("max_spacing_mm", 0.123)):
        manifest.write_text(json.dumps({**content, name: value}), encoding="utf-8")
        kept[name] = kept_by(open_package(package.path))
    assert before.startswith("tiny-") and kept["title"] == before != kept["max_spacing_mm"]


def test_all_studies_are_programs():
    assert len(PROGRAMS) >= 10
    assert set(NAMES) - set(PROGRAMS) == {
        "comparison_report",
        "folds",
        "foreign_volumes",
        "learning_figures",
        "learning_studies",
        "recognition_scans",
    }


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_study_tells_its_own_command(name, monkeypatch, capsys):
    module = import_module(f"H3DELandmarksResearch.studies.{name}")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 0
    assert f"python -m H3DELandmarksResearch.studies.{name}" in capsys.readouterr().out


def test_a_study_is_run_as_a_module_from_any_folder(tmp_path):
    line = [sys.executable, "-m", "H3DELandmarksResearch.studies.accuracy", "--help"]
    done = subprocess.run(line, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0 and "--poses" in done.stdout


def test_errors_end_in_a_sentence():
    def main():
        raise InputError("Choose another file.")

    with pytest.raises(SystemExit, match="another file"):
        studies.run_study(main)


def test_paths_in_commands_exist():
    """Commands of studies in docstrings and stored results name modules that are there."""

    texts = [
        p.read_text(encoding="utf-8")
        for folder in ("H3DELandmarksResearch", "benchmarks")
        for p in (ROOT / folder).rglob("*")
        if p.suffix in (".py", ".md", ".json")
    ]
    named = {name for text in texts for name in re.findall(r"python -m H3DELandmarksResearch\.studies\.(\w+)", text)}
    assert named - {"NAME"} <= set(PROGRAMS)
    assert not [text[:80] for text in texts if re.search(r"python benchmarks/\w+\.py", text)]
