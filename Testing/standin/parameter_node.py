"""`slicer.parameterNodeWrapper` for tests: strings, enums and node references, with the widgets that show them.

Values are stored in the vtkMRMLScriptedModuleNode as Slicer does it, so that they are saved with the scene.
"""

import enum
import typing

import qt
import slicer
import slicer.util
import vtk

UI_PROPERTY = "SlicerParameterName"


class _Parameter:
    """A string or an enum, stored as text."""

    def __init__(self, name, kind):
        self.name, self.kind = name, kind
        self.default = "" if kind is str else next(iter(kind))

    def read(self, node):
        text = node.GetParameter(self.name)
        if not text:
            return self.default
        return text if self.kind is str else self.kind[text]

    def write(self, node, value):
        if not isinstance(value, self.kind):
            raise TypeError(f"{self.name} must be a {self.kind.__name__}, not {value!r}")
        node.SetParameter(self.name, value if self.kind is str else value.name)


class _NodeParameter:
    """A node or None, stored as a reference."""

    def __init__(self, name, kind):
        self.name, self.kind = name, kind

    def read(self, node):
        return node.GetNodeReference(self.name)

    def write(self, node, value):
        if value is not None and not isinstance(value, self.kind):
            raise TypeError(f"{self.name} must be a {self.kind.__name__} or None, not {value!r}")
        node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)


class _EnumInComboBox:
    signal = "currentIndexChanged(int)"

    def __init__(self, widget, kind):
        self.widget, self.members = widget, list(kind)
        widget.clear()
        for member in self.members:
            widget.addItem(member.label() if hasattr(kind, "label") else member.name)

    def read(self):
        return self.members[self.widget.currentIndex]

    def write(self, value):
        self.widget.currentIndex = self.members.index(value)


class _NodeInComboBox:
    signal = "currentNodeChanged(vtkMRMLNode*)"

    def __init__(self, widget, kind):
        self.widget = widget
        widget.nodeTypes = [kind.__name__]

    def read(self):
        return self.widget.currentNode()

    def write(self, value):
        self.widget.setCurrentNode(value)


def _parameter(name, kind):
    if kind is str or issubclass(kind, enum.Enum):
        return _Parameter(name, kind)
    if issubclass(kind, slicer.vtkMRMLNode):
        return _NodeParameter(name, kind)
    raise TypeError(f"the stand-in knows no parameters of type {kind}")


def _connector(widget, kind):
    if type(widget) == qt.QComboBox and issubclass(kind, enum.Enum):  # noqa: E721 (as in Slicer: no derived class)
        return _EnumInComboBox(widget, kind)
    if type(widget) == slicer.qMRMLNodeComboBox and issubclass(kind, slicer.vtkMRMLNode):  # noqa: E721
        return _NodeInComboBox(widget, kind)
    raise TypeError(f"no connection between {widget!r} and {kind}")


class _Wrapper:
    """What the decorator gives to a class of annotations."""

    def __init__(self, parameterNode):
        object.__setattr__(self, "parameterNode", parameterNode)
        object.__setattr__(self, "_connections", {})
        object.__setattr__(self, "_writing", False)

    def __getattr__(self, name):
        if name not in self.allParameters:
            raise AttributeError(f"there is no parameter '{name}'")
        return self.allParameters[name].read(self.parameterNode)

    def __setattr__(self, name, value):
        if name not in self.allParameters:
            raise AttributeError(f"there is no parameter '{name}'")
        self.allParameters[name].write(self.parameterNode, value)

    def connectGui(self, gui):
        """Connect widgets whose property names a parameter; returns a tag for `disconnectGui`."""
        links = []
        for widget in vars(gui).values():
            name = widget.property(UI_PROPERTY)
            if name:
                connector = _connector(widget, self.allParameters[name].kind)
                connector.write(getattr(self, name))
                slot = self._writer(name, connector)
                widget.connect(connector.signal, slot)
                links.append((name, connector, slot))
        observer = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: self._show(links))
        tag = len(self._connections) + 1
        self._connections[tag] = (links, observer)
        return tag

    def disconnectGui(self, tag):
        """Undo `connectGui`."""
        links, observer = self._connections.pop(tag)
        self.RemoveObserver(observer)
        for _, connector, slot in links:
            connector.widget.disconnect(connector.signal, slot)

    def _writer(self, name, connector):
        def write():
            if not self._writing:
                setattr(self, name, connector.read())

        return write

    def _show(self, links):
        if self._writing:
            return
        object.__setattr__(self, "_writing", True)
        try:
            for name, connector, _ in links:
                connector.write(getattr(self, name))
        finally:
            object.__setattr__(self, "_writing", False)

    def AddObserver(self, event, callback, priority=0.0):
        """Observe the node."""
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag):
        """Stop observing the node."""
        self.parameterNode.RemoveObserver(tag)


def parameterNodeWrapper(cls):
    """Class decorator: annotations become parameters."""
    kinds = typing.get_type_hints(cls)
    own = {name: member for name, member in vars(cls).items() if callable(member)}
    members = {"allParameters": {name: _parameter(name, kind) for name, kind in kinds.items()}, "__doc__": cls.__doc__}
    return type(cls.__name__, (_Wrapper,), {**own, **members})
