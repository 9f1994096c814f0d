"""The qMRML widgets in use, bound to a real scene; `application` puts them into the module slicer."""

import qt
import slicer
from PySide6.QtCore import Property, Signal, Slot
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QWidget


@qt.custom_widget
class qMRMLWidget(QWidget):
    """A widget that tells its children about the scene."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene = None

    def mrmlScene(self):
        """The scene."""
        return self._scene

    def setMRMLScene(self, scene):
        """Set the scene."""
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


@qt.custom_widget
class qSlicerScriptedLoadableModuleWidget(QWidget):
    """What a scripted panel gets as its parent."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._entered = False
        self._panel = None

    def self(self):
        """The panel."""
        return self._panel

    isEntered = Property(bool, lambda self: self._entered)


def _stored(kind, name):
    """A property of the node selector whose value decides what it lists."""

    def setter(self, value):
        self._settings[name] = value
        self._refresh()

    return Property(kind, lambda self: self._settings[name], setter)


@qt.custom_widget
class qMRMLNodeComboBox(QWidget):
    """A combo box of the nodes of some classes."""

    currentNodeChanged = Signal((object,), (bool,))
    nodeAddedByUser = Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._settings = {
            "nodeTypes": [],
            "showChildNodeTypes": True,
            "noneEnabled": False,
            "noneDisplay": "None",
            "addEnabled": True,
            "removeEnabled": True,
            "renameEnabled": False,
        }
        self._scene, self._tags, self._attributes = None, [], []
        self._nodes = []  # of the rows of the combo box; None for no node
        self._current = None
        self._combo = QComboBox(self)
        self._combo.activated.connect(self._row_activated)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo)

    nodeTypes = _stored("QStringList", "nodeTypes")
    showChildNodeTypes = _stored(bool, "showChildNodeTypes")
    noneEnabled = _stored(bool, "noneEnabled")
    noneDisplay = _stored(str, "noneDisplay")
    addEnabled = _stored(bool, "addEnabled")
    removeEnabled = _stored(bool, "removeEnabled")
    renameEnabled = _stored(bool, "renameEnabled")
    currentNodeID = Property(
        str, lambda self: self._current.GetID() if self._current else "", lambda self, i: self.setCurrentNodeID(i)
    )

    def mrmlScene(self):
        """The scene."""
        return self._scene

    @Slot(object)
    def setMRMLScene(self, scene):
        """List the nodes of a scene, and follow it."""
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._scene = scene
        events = (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndBatchProcessEvent) if scene else ()
        self._tags = [scene.AddObserver(event, self._scene_changed) for event in events]
        self._refresh()

    def addAttribute(self, nodeType, attributeName, attributeValue=None):
        """List nodes of a class only if they have an attribute, with a value where one is given."""
        self._attributes.append((nodeType, attributeName, attributeValue))
        self._refresh()

    def currentNode(self):
        """The selected node or None."""
        return self._current

    def setCurrentNode(self, node):
        """Select a node that is listed, else none."""
        self._select(node if any(node is listed for listed in self._nodes) else None)

    def setCurrentNodeID(self, node_id):
        """Select by id."""
        self.setCurrentNode(self._scene.GetNodeByID(node_id) if node_id else None)

    def nodeCount(self):
        """Number of nodes listed."""
        return len([node for node in self._nodes if node])

    def _scene_changed(self, scene, event):
        if not scene.IsBatchProcessing():
            self._refresh()

    def _lists(self, node):
        kinds = self._settings["nodeTypes"]
        exact = not self._settings["showChildNodeTypes"]
        if node.GetHideFromEditors() or not any(
            node.GetClassName() == kind if exact else node.IsA(kind) for kind in kinds
        ):
            return False
        return all(
            node.GetAttribute(name) is not None and value in (None, node.GetAttribute(name))
            for kind, name, value in self._attributes
            if node.IsA(kind)
        )

    def _refresh(self):
        scene = self._scene
        every = [scene.GetNthNode(i) for i in range(scene.GetNumberOfNodes())] if scene else []
        self._nodes = [None] * self._settings["noneEnabled"] + [node for node in every if self._lists(node)]
        self._combo.clear()
        for node in self._nodes:
            self._combo.addItem(node.GetName() if node else self._settings["noneDisplay"])
        if scene and self._settings["addEnabled"]:
            self._combo.addItem("Create new")
        kept = any(self._current is node for node in self._nodes)
        self._select(self._current if kept else next(iter(self._nodes), None))

    def _select(self, node):
        changed, self._current = node is not self._current, node
        row = next((i for i, listed in enumerate(self._nodes) if listed is node), -1)
        self._combo.setCurrentIndex(row)
        if changed:
            self.currentNodeChanged[object].emit(node)
            self.currentNodeChanged[bool].emit(node is not None)

    def _row_activated(self, row):
        if row < len(self._nodes):
            self._select(self._nodes[row])
            return
        node = self._scene.AddNewNodeByClass(self._settings["nodeTypes"][0])
        self._select(node)
        self.nodeAddedByUser.emit(node)


def install():
    """Make the widgets members of the module slicer, as in the application."""
    for name in ("qMRMLWidget", "qMRMLNodeComboBox", "qSlicerScriptedLoadableModuleWidget"):
        setattr(slicer, name, globals()[name])
