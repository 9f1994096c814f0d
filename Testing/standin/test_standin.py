"""The stand-in is strict: what Slicer does not have, or only prints, raises."""

import enum

import application
import ctk
import parameter_node
import pytest
import qt
import slicer
import slicer.util
import vtk

pytestmark = pytest.mark.usefixtures("app")


class Size(enum.Enum):
    SMALL = 1
    LARGE = 2


# Properties and methods


def test_properties_are_attributes():
    button = qt.QPushButton("Detect")
    button.enabled = False
    assert button.text == "Detect" and button.enabled is False
    button.name = "apply"
    assert button.objectName == "apply" and button.className() == "QPushButton"
    with pytest.raises(TypeError):
        button.text()


@pytest.mark.parametrize("name", ["enable", "caption", "_private", "setCaption"])
def test_unknown_names_raise(name):
    button = qt.QPushButton()
    with pytest.raises(AttributeError):
        getattr(button, name)
    with pytest.raises(AttributeError):
        setattr(button, name, True)


def test_unknown_classes_raise():
    with pytest.raises(AttributeError):
        qt.QPushButon  # noqa: B018
    with pytest.raises(AttributeError):
        qt.QMessageBox.Okay  # noqa: B018
    with pytest.raises(AttributeError):
        ctk.ctkUnknown  # noqa: B018
    with pytest.raises(AttributeError):
        slicer.app.layoutManagers  # noqa: B018


@pytest.mark.parametrize(("name", "value"), [("enabled", "yes"), ("text", 5), ("text", None), ("x", 3), ("width", 3)])
def test_values_of_wrong_types_and_read_only_properties_raise(name, value):
    with pytest.raises(AttributeError):
        setattr(qt.QPushButton(), name, value)


def test_setters_of_slicer_classes_that_are_no_slots_do_not_exist():
    selector = slicer.qMRMLNodeComboBox()
    with pytest.raises(AttributeError):
        selector.setNodeTypes(["vtkMRMLModelNode"])
    selector.nodeTypes = ["vtkMRMLModelNode"]
    assert selector.nodeTypes == ("vtkMRMLModelNode",)


def test_wrappers_of_one_object_are_equal():
    parent = qt.QWidget()
    child = qt.QLabel("text", parent)
    assert parent.children() == (child,) and child.parent() == parent != child
    assert isinstance(child, qt.QLabel) and isinstance(child, qt.QWidget) and not isinstance(child, qt.QPushButton)


def test_types_of_widgets_are_exact():
    assert type(qt.QLabel()) == qt.QLabel != qt.QWidget  # noqa: E721
    assert type(slicer.qMRMLNodeComboBox()) == slicer.qMRMLNodeComboBox  # noqa: E721
    assert type(qt.Wrapper(qt.unwrapped(qt.QLabel()))) == qt.QLabel  # noqa: E721


# Signals


def test_signals_are_attributes():
    button, calls = qt.QPushButton(), []
    button.clicked.connect(calls.append)
    button.click()
    button.clicked.disconnect(calls.append)
    button.click()
    assert calls == [False]
    with pytest.raises(AttributeError):
        button.clickd.connect(print)


def test_slots_get_as_many_arguments_as_they_take():
    button, calls = qt.QPushButton(), []
    button.connect("clicked(bool)", lambda: calls.append("none"))
    button.connect("clicked(bool)", lambda checked: calls.append(checked))
    button.connect("clicked(bool)", lambda *arguments: calls.append(arguments))
    button.click()
    assert calls == ["none", False, (False,)]


def test_unknown_signals_raise():
    with pytest.raises(ValueError, match="no signal 'pressed\\(bool\\)'"):
        qt.QPushButton().connect("pressed(bool)", print)
    with pytest.raises(ValueError, match="no signal"):
        slicer.qMRMLNodeComboBox().connect("currentNodeChanged(QString)", print)
    with pytest.raises(TypeError):
        qt.QPushButton().connect("clicked()", "onClicked")


def test_disconnecting():
    button, calls = qt.QPushButton(), []

    def slot():
        calls.append(1)

    button.connect("clicked()", slot)
    button.disconnect("clicked()", slot)
    button.click()
    assert calls == []
    with pytest.raises(ValueError, match="is not connected"):
        button.disconnect("clicked()", slot)


def fail(*arguments):
    raise RuntimeError("in a slot")


def test_an_exception_in_a_slot_fails():
    button = qt.QPushButton()
    button.connect("clicked()", fail)
    with pytest.raises(AssertionError, match="in a slot"), application.failing_on_errors():
        button.click()


def test_an_exception_in_an_observer_and_a_vtk_error_fail():
    scene = slicer.vtkMRMLScene()
    scene.AddObserver(scene.NodeAddedEvent, fail)
    with pytest.raises(AssertionError, match="in a slot"), application.failing_on_errors():
        scene.AddNewNodeByClass("vtkMRMLModelNode")
    with pytest.raises(AssertionError, match="failed"), application.failing_on_errors():
        scene.AddNewNodeByClass("vtkMRMLUnknownNode")


# .ui files


UI = """<ui version="4.0"><class>Panel</class><widget class="qMRMLWidget" name="Panel"><layout class="QVBoxLayout">
<item><widget class="{cls}" name="button"><property name="{prop}"><string>Go</string></property></widget></item>
</layout></widget><connections><connection><sender>button</sender><signal>{signal}</signal>
<receiver>{receiver}</receiver><slot>hide()</slot></connection></connections></ui>"""
GOOD = {"cls": "QPushButton", "prop": "text", "signal": "clicked()", "receiver": "Panel"}


def load(tmp_path, **changes):
    (tmp_path / "panel.ui").write_text(UI.format(**{**GOOD, **changes}), encoding="utf-8")
    return slicer.util.loadUI(str(tmp_path / "panel.ui"))


def test_ui_files_are_loaded_and_connected(tmp_path):
    root = load(tmp_path)
    root.show()
    button = slicer.util.childWidgetVariables(root).button
    assert button.text == "Go" and root.visible
    button.click()
    assert not root.visible


@pytest.mark.parametrize(
    "changes",
    [{"cls": "QMRMLButton"}, {"prop": "caption"}, {"signal": "clickd()"}, {"receiver": "nobody"}],
    ids=lambda changes: next(iter(changes)),
)
def test_unknown_names_in_ui_files_raise(tmp_path, changes):
    with pytest.raises((RuntimeError, ValueError)):
        load(tmp_path, **changes)


# CTK's widgets


def test_a_path_is_told_while_it_is_typed(tmp_path):
    edit, paths, valid = ctk.ctkPathLineEdit(), [], []
    edit.filters = ctk.ctkPathLineEdit.Dirs
    edit.connect("currentPathChanged(QString)", paths.append)
    edit.connect("validInputChanged(bool)", valid.append)
    edit.currentPath = str(tmp_path)
    edit.setCurrentPath(str(tmp_path / "nothing"))
    assert paths == [str(tmp_path), str(tmp_path / "nothing")] and valid == [True, False]
    with pytest.raises(AttributeError):
        edit.path  # noqa: B018
    with pytest.raises(AttributeError):
        ctk.ctkPathLineEdit.Folders  # noqa: B018


def test_a_collapsible_button_opens_without_what_was_hidden():
    button = ctk.ctkCollapsibleButton()
    seen, hidden, late = (qt.QLabel(text, button) for text in ("seen", "hidden", "late"))
    hidden.visible = False
    button.show()
    button.collapsed = True
    late.visible = True
    assert not seen.visible and not late.visible
    hidden.visible = False
    button.collapsed = False
    assert seen.visible and late.visible and not hidden.visible
    button.hide()


# Scene


@pytest.fixture
def selector():
    """A selector of point lists in a scene of its own."""
    scene = slicer.vtkMRMLScene()
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLMarkupsFiducialNode"]
    selector.noneEnabled = True
    selector.setMRMLScene(scene)
    yield selector
    selector.setMRMLScene(None)


def test_the_node_selector_follows_the_scene(selector):
    nodes, bools = [], []
    selector.connect("currentNodeChanged(vtkMRMLNode*)", nodes.append)
    selector.connect("currentNodeChanged(bool)", bools.append)
    scene = selector.mrmlScene()
    scene.AddNewNodeByClass("vtkMRMLModelNode")
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    assert selector.nodeCount() == 1 and selector.currentNode() is None
    selector.setCurrentNode(node)
    assert selector.currentNode() is node and selector.currentNodeID == node.GetID()
    scene.RemoveNode(node)
    assert selector.currentNode() is None
    assert nodes == [node, None] and bools == [True, False]


def test_the_node_selector_filters_by_attribute(selector):
    selector.addAttribute("vtkMRMLMarkupsFiducialNode", "Detected")
    scene = selector.mrmlScene()
    assert scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode") and selector.nodeCount() == 0
    node = slicer.vtkMRMLMarkupsFiducialNode()
    node.SetAttribute("Detected", "yes")
    scene.AddNode(node)
    assert selector.nodeCount() == 1


def act(selector, action):
    """Click an action in the popup."""
    combo = qt.unwrapped(selector)._combo
    row = next(row for row in range(combo.count()) if combo.itemText(row).startswith(action))
    combo.view().clicked.emit(combo.model().index(row, 0))


def test_a_user_can_create_and_delete_nodes_where_that_is_allowed(selector):
    added, by_action = [], []
    selector.nodeAddedByUser.connect(added.append)
    selector.connect("nodeAddedByUserAction(vtkMRMLNode*)", by_action.append)
    act(selector, "Create new")
    node = selector.currentNode()
    assert added == by_action == [node] and node.IsA("vtkMRMLMarkupsFiducialNode")
    combo = qt.unwrapped(selector)._combo
    combo.setCurrentIndex(combo.count() - 1)
    assert selector.currentNode() is node, "an action is never the current row"
    act(selector, "Delete current")
    assert selector.currentNode() is None and selector.nodeCount() == 0
    selector.addEnabled = selector.removeEnabled = False
    assert [combo.itemText(row) for row in range(combo.count())] == ["None"]


def add_lists(selector, *names):
    return [selector.mrmlScene().AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name) for name in names]


def test_a_neighbor_takes_the_place_of_a_removed_node(selector):
    """Qt decides so, which surprises whoever expects "None"."""
    first, second, third = add_lists(selector, "first", "second", "third")
    selector.setCurrentNode(second)
    told = []
    selector.connect("currentNodeChanged(vtkMRMLNode*)", told.append)
    selector.mrmlScene().RemoveNode(second)
    assert selector.currentNode() in (first, third) and told[-1] is selector.currentNode()
    selector.setCurrentNode(third)
    selector.mrmlScene().RemoveNode(third)
    assert selector.currentNode() is first, "from an action the last node is taken"


def test_the_selector_changes_before_observers_hear_of_the_removal_but_after_the_announcement(selector):
    first, second = add_lists(selector, "first", "second")
    selector.setCurrentNode(first)
    scene, seen = selector.mrmlScene(), []
    scene.AddObserver(scene.NodeAboutToBeRemovedEvent, lambda *_: seen.append(selector.currentNode()))
    scene.AddObserver(scene.NodeRemovedEvent, lambda *_: seen.append(selector.currentNode()))
    scene.RemoveNode(first)
    assert seen == [first, second]


def test_a_renamed_node_is_told_again(selector):
    (node,) = add_lists(selector, "first")
    selector.setCurrentNode(node)
    told = []
    selector.currentNodeIDChanged.connect(told.append)
    node.SetName("second")
    assert told == [node.GetID()] and qt.unwrapped(selector)._combo.currentText() == "second"


def test_while_a_scene_is_closed_or_loaded_the_selector_waits(selector):
    (node,) = add_lists(selector, "first")
    selector.setCurrentNode(node)
    scene, told = selector.mrmlScene(), []
    selector.connect("currentNodeChanged(vtkMRMLNode*)", told.append)
    scene.StartState(scene.ImportState)
    add_lists(selector, "loaded")
    assert selector.nodeCount() == 1
    scene.EndState(scene.ImportState)
    assert selector.nodeCount() == 2 and selector.currentNode() is None, "all rows were made anew"
    selector.setCurrentNode(node)
    scene.Clear(False)
    assert selector.currentNode() is None and told[-1] is None and selector.nodeCount() == 0


def test_the_only_node_of_a_selector_without_none_and_actions_is_selected():
    scene, selector = slicer.vtkMRMLScene(), slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.showChildNodeTypes = selector.addEnabled = selector.removeEnabled = False
    assert not selector.enabled
    selector.setMRMLScene(scene)
    scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    assert selector.enabled and selector.currentNode() is None
    assert scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode") is not None, "derived classes count"
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    assert selector.currentNode() is volume
    selector.setMRMLScene(None)


# Application


def test_the_application_has_one_signal():
    calls = []
    slicer.app.connect("startupCompleted()", lambda: calls.append(1))
    slicer.app.complete_startup()
    slicer.app.complete_startup()
    assert calls == [1], "Slicer starts once"
    with pytest.raises(ValueError, match="no signal"):
        slicer.app.connect("startupComplete()", print)


def test_modules_are_selected_entered_and_left(app, tmp_path):
    file = tmp_path / "Probe.py"
    file.write_text(
        "from slicer.ScriptedLoadableModule import *\n"
        "class Probe(ScriptedLoadableModule):\n"
        "    def __init__(self, parent):\n"
        "        super().__init__(parent)\n"
        "        parent.helpText = self.getDefaultModuleDocumentationLink()\n"
        "class ProbeWidget(ScriptedLoadableModuleWidget):\n"
        "    def setup(self): self.seen = ['setup']; self.ui = None\n"
        "    def enter(self): self.seen.append('enter')\n"
        "    def exit(self): self.seen.append('exit')\n"
        "    def cleanup(self): self.seen.append('cleanup')\n"
        "class ProbeTest(ScriptedLoadableModuleTest):\n"
        "    def runTest(self, **options): self.delayDisplay(f'played {self.messageDelay}')\n",
        encoding="utf-8",
    )
    application.load_module(file)
    with pytest.raises(AttributeError):
        slicer.util.selectModule("Prob")
    slicer.util.selectModule("Probe")
    host = slicer.modules.probe.widgetRepresentation()
    panel = host.self()
    slicer.util.selectModule("Probe")
    assert panel.seen == ["setup", "enter"] and host.isEntered and slicer.util.selectedModule() == "Probe"
    file.write_text(file.read_text(encoding="utf-8").replace("played", "replayed"), encoding="utf-8")
    panel.onReload()
    assert panel.seen[-1] == "cleanup" and host.self().seen == ["setup"] and host.self() is slicer.modules.ProbeWidget
    application.close_panel(panel)


def test_the_self_test_of_a_module_logs(caplog):
    import logging

    from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

    with caplog.at_level(logging.INFO):
        ScriptedLoadableModuleTest().delayDisplay("seen by people")
    assert "seen by people" in caplog.text


def test_events_are_handled_while_pip_prints():
    from PySide6.QtCore import QTimer

    seen = []
    QTimer.singleShot(0, lambda: seen.append("clicked"))
    slicer.util.pip_install("a package")
    assert seen == ["clicked"]


def test_a_sample_needs_one_entry_per_file_and_the_right_checksum(tmp_path):
    import SampleData

    logic = SampleData.SampleDataLogic()
    entry = {"fileNames": ["a.nrrd"], "nodeNames": ["a"], "loadFileTypes": ["VolumeFile"]}
    with pytest.raises(ValueError, match="one entry per file"):
        logic.registerCustomSampleDataSource("T", "short", uris=[], checksums=[], **entry)
    with pytest.raises(TypeError):
        logic.registerCustomSampleDataSource("T", "odd", uri="file:///a")
    (tmp_path / "a.nrrd").write_text("content", encoding="utf-8")
    uri = (tmp_path / "a.nrrd").as_uri()
    logic.registerCustomSampleDataSource("T", "wrong", uris=[uri], checksums=["SHA256:00"], **entry)
    with pytest.raises(ValueError, match="checksum"):
        logic.downloadSamples("wrong")
    assert logic.sourceForSampleName("nothing") is None
    del slicer.modules.sampleDataSources["T"]


def test_modules_have_their_logic():
    assert slicer.modules.plots.logic().IsA("vtkSlicerPlotsLogic")
    with pytest.raises(AttributeError):
        slicer.modules.plot  # noqa: B018


def test_settings_are_those_of_the_stand_in(app):
    settings = qt.QSettings()
    assert settings.fileName().startswith(app.temporaryPath) or "slicer-stand-in-" in settings.fileName()
    settings.setValue("Test/Folder", "/a")
    assert slicer.util.settingsValue("Test/Folder", "") == "/a"
    settings.remove("Test/Folder")
    assert slicer.util.settingsValue("Test/Folder", "none") == "none"


def test_volumes_are_loaded_from_files(app, tmp_path):
    import SimpleITK as sitk

    sitk.WriteImage(sitk.Image(3, 4, 5, sitk.sitkInt16), str(tmp_path / "scan.nrrd"))
    node = slicer.util.loadVolume(str(tmp_path / "scan.nrrd"), {"name": "a scan"})
    assert node.GetName() == "a scan" and node.GetImageData().GetDimensions() == (3, 4, 5)
    with pytest.raises(ValueError, match="loads no VolumeFile"):
        slicer.util.loadVolume(str(tmp_path / "scan.nrrd"), {"title": "a scan"})
    with pytest.raises(ValueError, match="loads no ModelFile"):
        slicer.util.loadNodeFromFile(str(tmp_path / "scan.nrrd"), "ModelFile", {})
    loaded = vtk.vtkCollection()  # messages to the user may be left out
    assert app.coreIOManager().loadNodes("VolumeFile", {"fileName": str(tmp_path / "scan.nrrd")}, loaded)
    assert loaded.GetNumberOfItems() == 1
    app.mrmlScene().Clear(False)


# Views


def test_a_slice_view_shows_a_volume_and_follows_the_mouse(app):
    import numpy as np
    import slicer.util
    import views

    scene = app.mrmlScene()
    scene.Clear(False)
    view = views.SliceView("Green", (200, 200))
    voxels = np.zeros((20, 20, 20), dtype=np.int16)
    voxels[:, :, 10:] = 100
    volume = slicer.util.addVolumeFromArray(voxels)
    volume.CreateDefaultDisplayNodes()
    view.show(volume)
    image = view.image()
    colors = {image.pixelColor(x, 100).lightness() for x in (80, 120)}
    assert len(colors) == 2, "dark on one side, bright on the other"
    points = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    points.CreateDefaultDisplayNodes()
    points.AddControlPoint(view.node.GetXYToRAS().MultiplyPoint((100, 100, 0, 1))[:3])
    view.render()
    view.drag((100, 100), (130, 90))
    np.testing.assert_allclose(view.pixel_of(points.GetNthControlPointPosition(0)), (130, 90), atol=1e-6)
    scene.Clear(False)


# Parameters


@parameter_node.parameterNodeWrapper
class Parameters:
    points: slicer.vtkMRMLMarkupsFiducialNode
    size: Size
    text: str


def test_parameters_are_kept_in_the_node(selector):
    scene = selector.mrmlScene()
    node = scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    first, second = Parameters(node), Parameters(node)
    assert (first.points, first.size, first.text) == (None, Size.SMALL, "")
    first.points = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    first.size, first.text = Size.LARGE, "a"
    assert (second.points, second.size, second.text) == (first.points, Size.LARGE, "a")
    with pytest.raises(AttributeError):
        first.color = 1
    with pytest.raises(AttributeError):
        first.color  # noqa: B018
    with pytest.raises(TypeError):
        first.text = 5
    with pytest.raises(TypeError):
        first.points = scene.AddNewNodeByClass("vtkMRMLModelNode")


def test_parameters_and_widgets_follow_each_other(selector):
    scene = selector.mrmlScene()
    parameters = Parameters(scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode"))
    combo = qt.QComboBox()
    combo.setProperty("SlicerParameterName", "size")
    selector.setProperty("SlicerParameterName", "points")
    gui = type("Gui", (), {})()
    gui.combo, gui.selector = combo, selector
    tag = parameters.connectGui(gui)
    combo.currentIndex = 1
    assert parameters.size is Size.LARGE
    parameters.size = Size.SMALL
    assert combo.currentIndex == 0 and combo.currentText == "SMALL"
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    parameters.points = node
    assert selector.currentNode() is node
    parameters.disconnectGui(tag)
    combo.currentIndex = 1
    assert parameters.size is Size.SMALL


def test_unknown_parameter_types_raise():
    class Unknown:
        number: complex

    with pytest.raises(TypeError):
        parameter_node.parameterNodeWrapper(Unknown)
