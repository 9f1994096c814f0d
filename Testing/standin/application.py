"""Slicer without its desktop: a real scene, the application object and scripted modules, for tests of panels."""

import importlib
import os
import sys
import tempfile
import types
import unittest
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import ctk  # noqa: F401  # so that .ui files know its widgets
import mrml_widgets
import parameter_node
import qt
import sample_data
import slicer
import slicer.util
import vtk
from PySide6.QtCore import QSettings
from PySide6.QtWidgets import QApplication

LOGICS = {
    "Colors": "vtkMRMLColorLogic",  # first: the others look for its nodes
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Models": "vtkSlicerModelsLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "VolumeRendering": "vtkSlicerVolumeRenderingLogic",
}


class Application:
    """`slicer.app`, as far as it is in use."""

    applicationName = "Slicer stand-in"

    def __init__(self):
        self._qt = QApplication.instance() or QApplication(sys.argv[:1])
        self._testing = True
        self.temporaryPath = tempfile.mkdtemp(prefix="slicer-stand-in-")
        self._keep_settings_in(self.temporaryPath)
        self._scene = slicer.vtkMRMLScene()
        self._logic = slicer.vtkSlicerApplicationLogic()
        self._logic.SetMRMLScene(self._scene)
        self._logic.SetSliceLogics(vtk.vtkCollection())
        self._logic.SetViewLogics(vtk.vtkCollection())
        self._let_scene_be_loaded()
        self.logics = {name: self._add(name, getattr(slicer, kind)()) for name, kind in LOGICS.items()}
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self._scene, True)
        self._at_startup = []

    def _let_scene_be_loaded(self):
        """What `ReadFromMRB` needs."""
        self._scene.SetRootDirectory(self.temporaryPath)
        self._cache, self._io = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
        self._cache.SetRemoteCacheDirectory(str(Path(self.temporaryPath) / "cache"))
        self._io.SetCacheManager(self._cache)
        self._scene.SetCacheManager(self._cache)
        self._scene.SetDataIOManager(self._io)

    def _keep_settings_in(self, folder):
        """`qt.QSettings()` is the application's own, and never one of a person who runs tests."""
        self._qt.setOrganizationName("Slicer")
        self._qt.setApplicationName(self.applicationName)
        QSettings.setDefaultFormat(QSettings.Format.IniFormat)
        for scope in (QSettings.Scope.UserScope, QSettings.Scope.SystemScope):
            QSettings.setPath(QSettings.Format.IniFormat, scope, folder)

    def _add(self, name, logic):
        logic.SetMRMLApplicationLogic(self._logic)
        logic.SetMRMLScene(self._scene)
        self._logic.SetModuleLogic(name, logic)
        return logic

    def mrmlScene(self):
        """The scene."""
        return self._scene

    def applicationLogic(self):
        """The logic that knows the views."""
        return self._logic

    def coreIOManager(self):
        """What `slicer.util.loadVolume` asks."""
        return IOManager(self)

    def layoutManager(self):
        """What `slicer.util.setSliceViewerLayers` asks."""
        return LayoutManager(self._logic)

    def connect(self, signal, slot):
        """Call a function when the application has started; no other signal is in use."""
        if signal != "startupCompleted()":
            raise ValueError(f"the application has no signal '{signal}' that the stand-in knows")
        self._at_startup.append(slot)

    def complete_startup(self):
        """Tell that the application has started."""
        for slot in self._at_startup:
            slot()
        self._at_startup.clear()

    def testingEnabled(self):
        """Whether questions are answered without asking."""
        return self._testing

    def processEvents(self):
        """Let Qt work."""
        self._qt.processEvents()

    def translate(self, context, text):
        """The text, since no language is loaded."""
        return text

    def topLevelWidgets(self):
        """All windows."""
        return qt.wrapped(self._qt.topLevelWidgets())


class IOManager:
    """Loads files of scans into the scene."""

    def __init__(self, app):
        self._app = app

    def loadNodes(self, fileType, parameters, loadedNodes=None, userMessages=None):
        """Load a file; returns whether that went well."""
        loaders = {"VolumeFile": self._load_volume, "MarkupsFile": self._load_markups}
        if fileType not in loaders or not set(parameters) <= {"fileName", "name", "show", "singleFile"}:
            raise ValueError(f"the stand-in loads no {fileType} with {sorted(parameters)}")
        path = parameters["fileName"]
        node = loaders[fileType](path, parameters.get("name") or Path(path).stem, parameters)
        if node is not None and loadedNodes is not None:
            loadedNodes.AddItem(node)
        return node is not None

    def _load_volume(self, path, name, parameters):
        node = self._app.logics["Volumes"].AddArchetypeVolume(path, name)
        if node is not None and parameters.get("show", True):
            slicer.util.setSliceViewerLayers(background=node, fit=True)
        return node

    def _load_markups(self, path, name, parameters):
        return slicer.mrmlScene.GetNodeByID(self._app.logics["Markups"].LoadMarkups(path, name) or "")


class LayoutManager:
    """Knows the slice views."""

    def __init__(self, logic):
        self._logic = logic

    def mrmlSliceLogics(self):
        """The vtkCollection of their logics."""
        return self._logic.GetSliceLogics()


class ScriptedLoadableModule:
    """Base class of a module's description."""

    def __init__(self, parent):
        self.parent = parent
        self.moduleName = type(self).__name__


class ScriptedLoadableModuleWidget:
    """Base class of a panel."""

    def __init__(self, parent):
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.parent = parent
        self.layout = parent.layout()

    def resourcePath(self, filename):
        """Path of a file in the module's Resources."""
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / filename)

    def setup(self):
        """Nothing to set up here."""

    def onReload(self):
        """Read the module's file again, as `slicer.util.reloadScriptedModule` does first; the panel stays."""
        load_module(slicer.util.modulePath(self.moduleName))


class ScriptedLoadableModuleLogic:
    """Base class of a logic."""

    def __init__(self, parent=None):
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self):
        """The module's node in the scene."""
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag(self.moduleName)
            node.SetName(self.moduleName)
            node.SetAttribute("ModuleName", self.moduleName)
            node = slicer.mrmlScene.AddNode(node)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """Base class of a self-test."""

    def delayDisplay(self, message, requestedDelay=None, msec=None):
        """Print, where Slicer shows a window for a moment."""
        print(message)


def _module(name, **members):
    module = types.ModuleType(f"slicer.{name}")
    vars(module).update(members)
    sys.modules[module.__name__] = module
    setattr(slicer, name, module)


def start():
    """Make the module slicer what it is inside the application; once per process.

    Returns:
        The Application.
    """
    if isinstance(getattr(slicer, "app", None), Application):
        return slicer.app
    mrml_widgets.install()
    slicer.app = Application()
    slicer.mrmlScene = slicer.app.mrmlScene()
    logics = slicer.app.logics
    slicer.modules = types.SimpleNamespace(
        **{name.lower(): types.SimpleNamespace(logic=lambda name=name: logics[name]) for name in logics},
        sampleDataSources={},
    )
    sys.modules["SampleData"] = sample_data
    _module("i18n", tr=lambda text: text, translate=lambda context, text: text)
    _module("parameterNodeWrapper", parameterNodeWrapper=parameter_node.parameterNodeWrapper)
    bases = (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
    )
    _module("ScriptedLoadableModule", **{base.__name__: base for base in bases})
    return slicer.app


def load_module(path):
    """Import a scripted module and make its description, as Slicer does at start.

    Args:
        path: the module's .py file; only its folder is added to Python's path, as in Slicer.

    Returns:
        The Python module.
    """
    name = Path(path).stem
    if str(Path(path).parent) not in sys.path:
        sys.path.append(str(Path(path).parent))
    module = importlib.import_module(name)
    description = types.SimpleNamespace(path=str(path), name=name)
    setattr(slicer.modules, name.lower(), description)
    getattr(module, name)(description)
    return module


def open_panel(module):
    """Open a module's panel, as the user does by selecting the module.

    Returns:
        The module's widget object.
    """
    host = slicer.qSlicerScriptedLoadableModuleWidget()
    host.setLayout(qt.QVBoxLayout())
    panel = getattr(module, f"{module.__name__}Widget")(host)
    qt.unwrapped(host)._panel = panel
    getattr(slicer.modules, module.__name__.lower()).widgetRepresentation = lambda: host
    panel.setup()
    qt.unwrapped(host)._entered = True
    panel.enter()
    host.resize(440, 520)
    host.show()
    return panel


def close_panel(panel):
    """Close a panel, as Slicer does at its end."""
    panel.cleanup()
    for widget in vars(panel.ui).values():
        if isinstance(widget, slicer.qMRMLNodeComboBox):
            widget.setMRMLScene(None)  # its destructor does so in Slicer
    panel.parent.close()
    panel.parent.deleteLater()
    slicer.app.processEvents()
    qt.forget_dead_connections()


@contextmanager
def failing_on_errors():
    """Raise at the end if a slot or an observer raised, which Qt and VTK only print, or if VTK reported an error."""
    errors, previous = [], sys.excepthook
    sys.excepthook = lambda kind, error, trace: errors.append(error)
    window = vtk.vtkOutputWindow.GetInstance()

    def note(caller, event, text):
        errors.append(RuntimeError(text))

    note.CallDataType = vtk.VTK_STRING
    tag = window.AddObserver("ErrorEvent", note)
    try:
        yield
    finally:
        window.RemoveObserver(tag)
        sys.excepthook = previous
    if errors:
        raise AssertionError(f"a slot or an observer failed: {errors[0]!r}") from errors[0]
