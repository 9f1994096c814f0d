"""Slicer without its desktop: a real scene, the application object and scripted modules, for tests of panels."""

import importlib
import logging
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
from PySide6.QtCore import Property, QSettings
from PySide6.QtWidgets import QApplication, QWidget

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
    applicationVersion = "5.12 (stand-in)"
    documentationBaseUrl = "https://slicer.readthedocs.io/en/latest/"

    def __init__(self):
        self._qt = QApplication.instance() or QApplication(sys.argv[:1])
        self._testing = True
        self.temporaryPath = tempfile.mkdtemp(prefix="slicer-stand-in-")
        self.defaultScenePath = str(Path.home() / "Documents")
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
        self._window = qSlicerMainWindow()
        self._viewport = qt.wrapped(QWidget())
        self._modules = ModuleManager()

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
        return LayoutManager(self._logic, self._viewport)

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

    def moduleManager(self):
        """The ModuleManager."""
        return self._modules

    def moduleDocumentationUrl(self, name):
        """Where a module is described, unless it says something else."""
        return f"{self.documentationBaseUrl}user_guide/modules/{name.lower()}.html"


class ModuleManager:
    """Knows the modules, and tells before one is unloaded, which here happens never."""

    def __init__(self):
        self._slots = []

    def module(self, name):
        """The description of a module, None where there is none."""
        return getattr(slicer.modules, name.lower(), None)

    def connect(self, signal, slot):
        """Call a function before a module is unloaded."""
        self._slots.append((self._known(signal), slot))

    def disconnect(self, signal, slot):
        """Undo `connect`."""
        self._slots.remove((self._known(signal), slot))

    @staticmethod
    def _known(signal):
        if signal != "moduleAboutToBeUnloaded(QString)":
            raise ValueError(f"the module manager has no signal '{signal}' that the stand-in knows")
        return signal


@qt.custom_widget
class qSlicerModuleSelectorToolBar(QWidget):
    """Where the user selects modules."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._selected = ""

    def selectModule(self, name):
        """Leave the module that is open and enter this one, whose panel is made on the first time."""
        if name == self._selected and qt.unwrapped(_host_of(name)).isEntered:
            return
        for other in hosts:
            _leave(other)
        self._selected = name
        host = _host_of(name)
        qt.unwrapped(host)._entered = True
        host.self().enter()

    selectedModule = Property(str, lambda self: self._selected)


@qt.custom_widget
class qSlicerMainWindow(QWidget):
    """The main window, which is not shown."""

    def __init__(self):
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self._selector = qSlicerModuleSelectorToolBar(self)

    def moduleSelector(self):
        """The widget in which the user selects modules."""
        return qt.unwrapped(self._selector)


hosts = []  # of the panels that were made


def _host_of(name):
    return getattr(slicer.modules, name.lower()).widgetRepresentation()


def _leave(host):
    if qt.unwrapped(host)._entered:
        qt.unwrapped(host)._entered = False
        host.self().exit()


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

    def __init__(self, logic, viewport):
        self._logic, self._viewport = logic, viewport

    def viewport(self):
        """The widget that holds all views."""
        return self._viewport

    def mrmlSliceLogics(self):
        """The vtkCollection of their logics."""
        return self._logic.GetSliceLogics()


class ScriptedLoadableModule:
    """Base class of a module's description."""

    def __init__(self, parent):
        self.parent = parent
        self.moduleName = type(self).__name__
        parent.title, parent.categories, parent.dependencies, parent.contributors = "", [], [], []
        parent.helpText = parent.acknowledgementText = "not updated"
        slicer.selfTests = {**getattr(slicer, "selfTests", {}), self.moduleName: self.runTest}

    def resourcePath(self, filename):
        """Path of a file in the module's Resources."""
        return str(Path(self.parent.path).parent / "Resources" / filename)

    def getDefaultModuleDocumentationLink(self, docPage=None):
        """A paragraph with a link to the documentation."""
        url = (
            slicer.app.documentationBaseUrl + docPage if docPage else slicer.app.moduleDocumentationUrl(self.moduleName)
        )
        return f'<p>For more information, see the <a href="{url}">online documentation</a>.</p>'

    def runTest(self, msec=100, **options):
        """Run the self-test of the module's file as it is now, as the module Self Tests does."""
        test = getattr(sys.modules[type(self).__module__], f"{self.moduleName}Test")()
        test.messageDelay = msec
        test.runTest(**options)


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
        """Read the module's file again and make the panel anew; Slicer's own function does it."""
        slicer.util.reloadScriptedModule(self.moduleName)


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
        """Log a message and handle events; where there is time to read it, Slicer also shows a window."""
        logging.info(message)
        slicer.app.processEvents()


def pip_install(requirements, **options):
    """`slicer.util.pip_install` without an installation: events are handled after each line that pip prints."""
    for line in (f"Collecting {requirements}", "Downloading", f"Successfully installed {requirements}"):
        print(line)
        slicer.app.processEvents()


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
    slicer.util.pip_install = pip_install
    _module("i18n", tr=lambda text: text, translate=lambda context, text: text)
    _module("parameterNodeWrapper", parameterNodeWrapper=parameter_node.parameterNodeWrapper)
    bases = (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
    )
    _module("ScriptedLoadableModule", **{base.__name__: base for base in bases})
    if os.environ.get("SLICER_SOURCE"):
        import upstream

        upstream.install(slicer.app, os.environ["SLICER_SOURCE"])
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
    description = types.SimpleNamespace(path=str(path), name=name, host=None)
    description.widgetRepresentation = lambda: description.host or _make_host(module)
    setattr(slicer.modules, name.lower(), description)
    getattr(module, name)(description)
    return module


def _make_host(module):
    """The host of a module's panel, with the panel set up and not entered."""
    name = module.__name__
    host = slicer.qSlicerScriptedLoadableModuleWidget()
    host.setLayout(qt.QVBoxLayout())

    def make_panel():
        panel = getattr(sys.modules[name], f"{name}Widget")(host)
        setattr(slicer.modules, f"{name}Widget", panel)
        return panel

    qt.unwrapped(host)._make_panel = make_panel
    getattr(slicer.modules, name.lower()).host = host
    hosts.append(host)
    host.reload()
    return host


def open_panel(module):
    """Open a module's panel, as the user does by selecting the module.

    Returns:
        The module's widget object.
    """
    host = _make_host(module)
    qt.unwrapped(host)._entered = True
    host.self().enter()
    host.resize(440, 520)
    host.show()
    return host.self()


def close_panel(panel):
    """Close a panel, or the one that a reload has put into its place, as Slicer does at its end."""
    panel.parent.self().cleanup()
    for widget in panel.parent.findChildren(slicer.qMRMLNodeComboBox._class):
        widget.setMRMLScene(None)  # its destructor does so in Slicer
    hosts.remove(panel.parent)
    description = getattr(slicer.modules, panel.moduleName.lower())
    description.host = None if description.host == panel.parent else description.host
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
