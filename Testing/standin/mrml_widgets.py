"""The qMRML widgets in use, bound to a real scene; `application` puts them into the module slicer."""

import qt
import slicer
import vtk
from PySide6.QtCore import Property, Qt, Signal, Slot
from PySide6.QtGui import QStandardItem, QStandardItemModel
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QInputDialog, QWidget


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
        self._panel = self._make_panel = None

    def self(self):
        """The panel."""
        return self._panel

    def reload(self):
        """Make the panel anew and set it up, as `slicer.util.reloadScriptedModule` asks for."""
        self._panel = self._make_panel()
        self._panel.setup()

    isEntered = Property(bool, lambda self: self._entered)


_ID, _ACTION = Qt.ItemDataRole.UserRole + 1, Qt.ItemDataRole.UserRole + 2
_LATE, _EARLY = -10.0, 10.0  # priorities with which Slicer's selectors observe what is removed and what is added


def _stored(kind, name, changed):
    """A property of the node selector, with the name of the method that follows it."""

    def setter(self, value):
        value = list(value) if isinstance(value, tuple) else value
        if value != self._settings[name]:
            self._settings[name] = value
            getattr(self, changed)()

    return Property(kind, lambda self: self._settings[name], setter)


@qt.custom_widget
class qMRMLNodeComboBox(QWidget):
    """A combo box of the nodes of some classes.

    As in Slicer it has a row per node, between "None" and actions such as "Rename current", and Qt decides which row
    becomes the current one when another one goes: a neighbor, and from an action the last node.
    """

    currentNodeChanged = Signal((object,), (bool,))
    currentNodeIDChanged = Signal(str)
    nodeActivated = Signal(object)
    nodeAdded = Signal(object)
    nodeAboutToBeRemoved = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeAddedByUserAction = Signal(object)
    currentNodeRenamed = Signal(str)

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
        self._scene, self._scene_tags, self._node_tags, self._attributes = None, [], {}, {}
        self._switching_scene = False
        self._model, self._combo = QStandardItemModel(self), QComboBox(self)
        self._combo.setModel(self._model)
        self._combo.currentTextChanged.connect(self._emit_current_node)
        self._combo.activated.connect(self._emit_activated)
        self._combo.view().clicked.connect(self._act)
        self._model.rowsRemoved.connect(self._leave_row_without_node)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo)
        self.setEnabled(False)

    nodeTypes = _stored("QStringList", "nodeTypes", "_update_all")
    showChildNodeTypes = _stored(bool, "showChildNodeTypes", "_update_nodes")
    noneEnabled = _stored(bool, "noneEnabled", "_update_none")
    noneDisplay = _stored(str, "noneDisplay", "_update_none")
    addEnabled = _stored(bool, "addEnabled", "_update_actions")
    removeEnabled = _stored(bool, "removeEnabled", "_update_actions")
    renameEnabled = _stored(bool, "renameEnabled", "_update_actions")
    currentNodeID = Property(
        str,
        lambda self: self.currentNode().GetID() if self.currentNode() else "",
        lambda self, i: self.setCurrentNodeID(i),
    )

    # What scripts call

    def mrmlScene(self):
        """The scene."""
        return self._scene

    @Slot(object)
    def setMRMLScene(self, scene):
        """List the nodes of a scene, and follow it."""
        if scene is self._scene:
            return
        kept = self.currentNodeID if self.nodeCount() else None
        self._switching_scene = True
        self._leave_scene()
        self._scene = scene
        if scene:
            self._observe(scene)
        self._update_all()
        self._combo.setCurrentIndex(-1)
        self._switching_scene = False
        self.setCurrentNodeID(kept if kept is not None else self._id_of_row(0))
        self.setEnabled(scene is not None)

    def addAttribute(self, nodeType, attributeName, attributeValue=None):
        """List nodes of a type only if they have an attribute, with a value where one is given; one for each type."""
        self._attributes[nodeType] = (attributeName, attributeValue)
        self._update_nodes()

    def currentNode(self):
        """The selected node or None."""
        return self._node_of_row(self._combo.currentIndex())

    def setCurrentNode(self, node):
        """Select a node that is listed, else none."""
        self.setCurrentNodeID(node.GetID() if node is not None else "")

    def setCurrentNodeID(self, node_id):
        """Select by id."""
        row = self._row_of(node_id) if node_id else None
        self._combo.setCurrentIndex(row if row is not None else (0 if self._settings["noneEnabled"] else -1))

    def nodeCount(self):
        """Number of nodes listed."""
        return len(self._node_rows()) if self._scene else 0

    def nodeFromIndex(self, index):
        """The node at a place of the list."""
        return self._node_of_row(index + self._settings["noneEnabled"])

    def addNode(self, node_type=None):
        """Make a node, as "Create new" does."""
        node = self._scene.AddNewNodeByClass(node_type or self._settings["nodeTypes"][0])
        self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self):
        """Delete the selected node, as "Delete current" does."""
        self._scene.RemoveNode(self.currentNode())

    def renameCurrentNode(self):
        """Ask for another name of the selected node, as "Rename current" does."""
        node = self.currentNode()
        name, accepted = QInputDialog.getText(self, "Rename", "New name:", text=node.GetName()) if node else ("", False)
        if accepted and name:
            node.SetName(name)
            self.currentNodeRenamed.emit(name)

    # Rows

    def _item(self, row, role):
        item = self._model.item(row)
        return (item.data(role) or "") if item else ""

    def _id_of_row(self, row):
        return self._item(row, _ID)

    def _row_of(self, node_id):
        return next((row for row in self._node_rows() if self._id_of_row(row) == node_id), None)

    def _node_rows(self):
        return [row for row in range(self._model.rowCount()) if self._id_of_row(row)]

    def _node_of_row(self, row):
        node_id = self._id_of_row(row) if row >= 0 else ""
        return self._scene.GetNodeByID(node_id) if node_id and self._scene else None

    def _update_all(self):
        self._update_none()
        self._update_nodes()
        self._update_actions()

    def _update_none(self):
        is_there = self._model.rowCount() > 0 and self._item(0, _ACTION) == "none"
        if is_there and not self._settings["noneEnabled"]:
            self._model.removeRow(0)
        elif self._settings["noneEnabled"]:
            if not is_there:
                item = QStandardItem()
                item.setData("none", _ACTION)
                self._model.insertRow(0, item)
            self._model.item(0).setText(self._settings["noneDisplay"])

    def _update_actions(self):
        current = self._combo.currentIndex()
        for row in reversed(range(self._model.rowCount())):
            if self._item(row, _ACTION) not in ("", "none"):
                self._model.removeRow(row)
        label = self._label() if self._scene else ""
        names = {"renameEnabled": "Rename current", "addEnabled": "Create new", "removeEnabled": "Delete current"}
        actions = [name for setting, name in names.items() if self._settings[setting] and self._scene]
        for action in (["separator"] if actions else []) + actions:
            item = QStandardItem(f"{action} {label}" if action != "separator" else "")
            item.setData(action, _ACTION)
            item.setFlags(Qt.ItemFlag.ItemIsEnabled)  # and not selectable: keys do not reach it
            self._model.appendRow(item)
        self._combo.setCurrentIndex(current)

    def _label(self):
        types = self._settings["nodeTypes"]
        return (self._scene.GetTypeDisplayNameByClassName(types[0]) if len(types) == 1 else "") or "node"

    def _nodes_of_scene(self):
        scene = self._scene
        return [scene.GetNthNode(i) for i in range(scene.GetNumberOfNodes())] if scene else []

    def _update_nodes(self):
        nodes = self._nodes_of_scene()
        listed = {node.GetID() for node in nodes if self._lists(node)}
        for row in reversed(self._node_rows()):
            if self._id_of_row(row) not in listed:
                self._model.removeRow(row)
        for node in nodes:
            self._follow(node)
            if node.GetID() in listed and self._row_of(node.GetID()) is None:
                self._insert(node)

    def _insert(self, node):
        order = {other.GetID(): place for place, other in enumerate(self._nodes_of_scene())}
        before = [row for row in self._node_rows() if order.get(self._id_of_row(row), -1) < order[node.GetID()]]
        item = QStandardItem(node.GetName() or "")
        item.setData(node.GetID(), _ID)
        self._model.insertRow(self._settings["noneEnabled"] + len(before), item)
        self.nodeAdded.emit(node)

    def _lists(self, node):
        return not node.GetHideFromEditors() and any(self._matches(node, t) for t in self._settings["nodeTypes"])

    def _matches(self, node, node_type):
        if not node.IsA(node_type) or (not self._settings["showChildNodeTypes"] and node.GetClassName() != node_type):
            return False
        name, value = self._attributes.get(node_type, (None, None))
        found = node.GetAttribute(name) if name else ""
        return found is not None and (value is None or found == value)

    # The scene

    def _observe(self, scene):
        followed = (
            (scene.NodeAddedEvent, self._node_added, _EARLY),
            (scene.NodeAboutToBeRemovedEvent, self._node_about_to_be_removed, _LATE),
            (scene.EndCloseEvent, self._scene_replaced, 0.0),
            (scene.EndImportEvent, self._scene_replaced, 0.0),
        )
        self._scene_tags = [scene.AddObserver(event, slot, priority) for event, slot, priority in followed]

    def _leave_scene(self):
        for node, tag in self._node_tags.values():
            node.RemoveObserver(tag)
        for tag in self._scene_tags:
            self._scene.RemoveObserver(tag)
        self._node_tags, self._scene_tags = {}, []
        for row in reversed(self._node_rows()):
            self._model.removeRow(row)

    def _follow(self, node):
        if node not in self._node_tags and any(node.IsA(kind) for kind in self._settings["nodeTypes"]):
            self._node_tags[node] = (node, node.AddObserver("ModifiedEvent", self._node_modified))

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _node_added(self, scene, event, node):
        if not scene.IsImporting():
            self._follow(node)
            if self._lists(node):
                self._insert(node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _node_about_to_be_removed(self, scene, event, node):
        if scene.IsClosing():
            return
        if node in self._node_tags:
            node.RemoveObserver(self._node_tags.pop(node)[1])
        row = self._row_of(node.GetID())
        if row is not None:
            self.nodeAboutToBeRemoved.emit(node)
            self._model.removeRow(row)

    def _scene_replaced(self, scene, event):
        """After a scene was closed or loaded all rows are made anew."""
        for node, tag in self._node_tags.values():
            node.RemoveObserver(tag)
        self._node_tags = {}
        for row in reversed(self._node_rows()):
            self._model.removeRow(row)
        self._update_nodes()

    def _node_modified(self, node, event):
        scene = self._scene
        if scene is None or scene.IsClosing() or scene.IsImporting() or node.GetScene() is not scene:
            return
        row, listed = self._row_of(node.GetID()), self._lists(node)
        if row is None and listed:
            self._insert(node)
        elif row is not None and not listed:
            self._model.removeRow(row)
        elif row is not None and self._model.item(row).text() != (node.GetName() or ""):
            self._model.item(row).setText(node.GetName() or "")

    # The combo box

    def _emit_current_node(self):
        if self._switching_scene:
            return
        row, none = self._combo.currentIndex(), self._settings["noneEnabled"]
        node = self._node_of_row(row)
        if node is None and row != (0 if none else -1):
            last = self.nodeFromIndex(self.nodeCount() - 1)
            if last is not None:
                self.setCurrentNode(last)
            return
        self.currentNodeChanged[object].emit(node)
        self.currentNodeChanged[bool].emit(node is not None)
        self.currentNodeIDChanged.emit(node.GetID() if node else "")

    def _leave_row_without_node(self):
        if not self._switching_scene and self.currentNode() is None:
            self.setCurrentNode(None)

    def _emit_activated(self, row):
        node = self._node_of_row(row)
        if node is not None or (self._settings["noneEnabled"] and row == 0):
            self.nodeActivated.emit(node)

    def _act(self, index):
        action = self._item(index.row(), _ACTION)
        if action == "Create new":
            self._combo.hidePopup()
            node = self.addNode()
            self.setCurrentNode(node)
            self.nodeAddedByUserAction.emit(node)
        elif action == "Delete current":
            self._combo.hidePopup()
            self.removeCurrentNode()
        elif action == "Rename current":
            self._combo.hidePopup()
            self.renameCurrentNode()


def install():
    """Make the widgets members of the module slicer, as in the application."""
    for name in ("qMRMLWidget", "qMRMLNodeComboBox", "qSlicerScriptedLoadableModuleWidget"):
        setattr(slicer, name, globals()[name])
