"""Slicer's own Python files in the place of the stand-in's imitations; only Qt's, CTK's and qMRML's widgets stay.

    SLICER_SOURCE=path/to/Slicer pytest Testing/panel

The folder needs Base/Python and Modules/Scripted/SampleData of Slicer's repository; CONTRIBUTING.md says how to get
them. Nothing of them lies in this repository.
"""

import importlib.util
import re
import sys
import types
from pathlib import Path

import ctk
import qt
import slicer

LAYERS = ("i18n", "parameterNodeWrapper", "ScriptedLoadableModule", "packaging", "testing")  # in this order


def install(app, source):
    """Replace the imitations.

    Args:
        app: the Application.
        source: folder of Slicer's repository.
    """
    python, samples = Path(source) / "Base/Python/slicer", Path(source) / "Modules/Scripted/SampleData"
    if not python.is_dir():
        raise FileNotFoundError(f"SLICER_SOURCE holds no Base/Python/slicer: {source}")
    _add_to(app)
    for file in sorted((python / "parameterNodeWrapper").glob("*.py")):
        _name_missing_widgets(file.read_text(encoding="utf-8"))
    for name in LAYERS:
        sys.modules.pop(f"slicer.{name}", None)
    for name in LAYERS:
        file = python / name / "__init__.py" if (python / name).is_dir() else python / f"{name}.py"
        if file.is_file():  # packaging is there from 5.11 on
            setattr(slicer, name, _load(f"slicer.{name}", file))
    if (samples / "SampleData.py").is_file():
        qt.QObject = object  # its test derives from it, which the stand-in's wrappers don't allow
        try:
            _load("SampleData", samples / "SampleData.py")
        finally:
            del qt.QObject


def _add_to(app):
    """What only Slicer's files ask the application for."""
    options = types.SimpleNamespace(testingEnabled=True)
    for name, member in {
        "commandOptions": lambda: options,
        "userSettings": qt.QSettings,
        "restart": lambda: None,
        "documentationVersion": "latest",
    }.items():
        setattr(app, name, member)


def _name_missing_widgets(source):
    """Empty types for widgets that the stand-in does not have, since Slicer compares types by name."""
    for module in (ctk, slicer):
        for name in re.findall(rf"\b{module.__name__}\.((?:ctk|qMRML|qSlicer)\w+)", source):
            if not hasattr(module, name):
                setattr(module, name, type(name, (), {}))


def _load(name, file):
    folders = [str(file.parent)] if file.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=folders)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
