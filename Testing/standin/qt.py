"""Slicer's module `qt` for tests: PySide6 with the manners of PythonQt, and stricter where PythonQt is silent.

Like PythonQt it gives every Qt object a wrapper: properties are attributes, members that do not exist cannot be read or
assigned, lists come back as tuples, signals are connected by their full signature or as attributes, and slots get as
many arguments as they take. Unlike PythonQt it raises at a signal that does not exist. An exception in a slot goes to
`sys.excepthook`.
"""

import ctypes
import inspect
import re
import sys
from xml.etree import ElementTree

import shiboken6
from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

_MODULES = (QtCore, QtGui, QtWidgets)
_RENAMED = {"name": "objectName", "exec_": "exec"}
_TYPES_OF_VALUES = {"QString": str, "bool": (bool, int), "int": int, "double": (float, int)}
_CUSTOM_WIDGETS = {}
_CONNECTIONS = []  # [(object, signature, slot, what Qt calls)]

if sys.version_info < (3, 12):
    # PySide6 6.12 gives back one reference too many to each True, False or None that a method returns, and Python
    # aborts once more have been given back than taken; later versions of Python do not count them. These stay.
    _SPARE_REFERENCES = [True, False, None] * 2**20
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(_SPARE_REFERENCES))


def wrapped(value):
    """What Python code sees of a value that comes from Qt."""
    if isinstance(value, QtCore.QObject):
        return Wrapper(value)
    if isinstance(value, (list, tuple)):
        return tuple(map(wrapped, value))
    return value


def unwrapped(value):
    """What Qt sees of a value that comes from Python code."""
    if isinstance(value, Wrapper):
        return value._object
    if isinstance(value, WrapperClass):
        return value._class
    if isinstance(value, (list, tuple)):
        return [unwrapped(item) for item in value]
    return value


class Wrapper:
    """A QObject as PythonQt shows it."""

    __slots__ = ("_object", "__weakref__")

    def __new__(cls, qobject):
        return object.__new__(WrapperClass(type(qobject)))

    def __init__(self, qobject):
        object.__setattr__(self, "_object", qobject)

    def __eq__(self, other):
        return isinstance(other, Wrapper) and self._object is other._object

    def __hash__(self):
        return hash(id(self._object))

    def __repr__(self):
        return f"{self.className()} ({self._object.objectName()!r})"

    def __getattr__(self, name):
        qobject, name = self._object, _RENAMED.get(name, name)
        if _has_property(qobject, name):
            return wrapped(qobject.property(name))
        member = None if name.startswith("_") else getattr(type(qobject), name, None)
        if isinstance(member, QtCore.Signal):
            return _SignalAttribute(self, name)
        if member is None:
            raise AttributeError(f"{self.className()} has no member '{name}' that the stand-in knows")
        bound = getattr(qobject, name)
        return _wrapping(bound) if callable(bound) else bound

    def __setattr__(self, name, value):
        qobject, name = self._object, _RENAMED.get(name, name)
        if not _has_property(qobject, name):
            raise AttributeError(f"{self.className()} has no property '{name}', and attributes cannot be added")
        _check_value(qobject, name, value)
        if not qobject.setProperty(name, unwrapped(value)) and not _is_dynamic(qobject, name):
            raise AttributeError(f"{self.className()}.{name} does not accept {value!r}")

    def className(self):
        """The name of the C++ class."""
        return self._object.metaObject().className()

    def connect(self, signal, slot):
        """Call a function whenever a signal, given with its types, is sent."""
        signature = _signature(self._object, signal)
        if not callable(slot):
            raise TypeError(f"{slot!r} cannot be called")
        call = _slot_call(slot)
        _CONNECTIONS.append((self._object, signature, slot, call))
        return bool(QtCore.QObject.connect(self._object, QtCore.SIGNAL(signature), call))

    def disconnect(self, signal, slot):
        """Undo `connect`."""
        signature = _signature(self._object, signal)
        for entry in _CONNECTIONS:
            if entry[0] is self._object and entry[1:3] == (signature, slot):
                QtCore.QObject.disconnect(self._object, QtCore.SIGNAL(signature), entry[3])
                _CONNECTIONS.remove(entry)
                return True
        raise ValueError(f"{self.className()}: {slot!r} is not connected to '{signal}'")


class _SignalAttribute:
    """A signal as an attribute of its object: of overloads the one that was declared first."""

    def __init__(self, wrapper, name):
        meta = wrapper._object.metaObject()
        methods = [meta.method(i) for i in range(meta.methodCount())]
        signals = [m for m in methods if m.methodType() == QtCore.QMetaMethod.MethodType.Signal]
        signature = next(m.methodSignature() for m in signals if bytes(m.name().data()).decode() == name)
        self._wrapper, self._signature = wrapper, bytes(signature.data()).decode()

    def connect(self, slot):
        """Call a function whenever the signal is sent."""
        return self._wrapper.connect(self._signature, slot)

    def disconnect(self, slot):
        """Undo `connect`."""
        return self._wrapper.disconnect(self._signature, slot)


class WrapperClass(type):
    """The type of the wrappers of a QObject class: makes them, and has the class's enums and static functions.

    As in PythonQt, ``type(widget) == qt.QLabel`` holds for labels and not for objects of derived classes.
    """

    _known = {}

    def __new__(mcs, cls):
        if cls not in mcs._known:
            mcs._known[cls] = super().__new__(mcs, cls.__name__, (Wrapper,), {"__slots__": (), "_class": cls})
        return mcs._known[cls]

    def __init__(cls, qobject_class):
        super().__init__(cls.__name__, (Wrapper,), {})

    def __call__(cls, *arguments):
        return Wrapper(cls._class(*map(unwrapped, arguments)))

    def __instancecheck__(cls, value):
        return isinstance(unwrapped(value), cls._class)

    def __getattr__(cls, name):
        member = getattr(cls._class, name)
        return _wrapping(member) if inspect.isroutine(member) else member


def forget_dead_connections():
    """Drop what is remembered of the connections of objects that do not exist any more."""
    _CONNECTIONS[:] = [entry for entry in _CONNECTIONS if shiboken6.isValid(entry[0])]


def custom_widget(cls):
    """Class decorator: make a widget known to .ui files, as a Designer plugin does, and wrap it."""
    _CUSTOM_WIDGETS[cls.__name__] = cls
    return WrapperClass(cls)


def _has_property(qobject, name):
    return qobject.metaObject().indexOfProperty(name) >= 0 or _is_dynamic(qobject, name)


def _is_dynamic(qobject, name):
    return name.encode() in [bytes(known.data()) for known in qobject.dynamicPropertyNames()]


def _check_value(qobject, name, value):
    """PySide converts nearly everything to nearly everything; PythonQt does not."""
    meta = qobject.metaObject()
    index = meta.indexOfProperty(name)
    if index < 0:
        return
    kind = meta.property(index)
    expected = _TYPES_OF_VALUES.get(kind.typeName(), object)
    if not kind.isWritable() or value is None or not isinstance(value, expected):
        raise AttributeError(f"{meta.className()}.{name} is a {kind.typeName()} and does not accept {value!r}")


def _wrapping(function):
    def call(*arguments):
        return wrapped(function(*map(unwrapped, arguments)))

    return call


def _signature(qobject, signal):
    """A signal's signature as PySide stores it; its Python signals have no MRML types."""
    signature = QtCore.QMetaObject.normalizedSignature(re.sub(r"\bvtk\w+\s*\*", "PyObject", signal))
    text = signature if isinstance(signature, str) else bytes(signature.data()).decode()
    if qobject.metaObject().indexOfSignal(text) < 0:
        raise ValueError(f"{qobject.metaObject().className()} has no signal '{signal}'")
    return text


def _slot_call(slot):
    """A function that hands over as many arguments as a slot takes."""
    parameters = inspect.signature(slot).parameters.values()
    limit = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    takes_all = any(p.kind is p.VAR_POSITIONAL for p in parameters)

    def call(*arguments):
        slot(*map(wrapped, arguments if takes_all else arguments[:limit]))

    return call


class _FileDialogClass(WrapperClass):
    """QFileDialog; its static functions give the path alone in PythonQt."""

    _known = {}

    def getSaveFileName(cls, parent=None, caption="", directory="", filters=""):
        """Ask for the name of a file to write; empty where the user cancels."""
        return cls._class.getSaveFileName(unwrapped(parent), caption, directory, filters)[0]

    def getOpenFileName(cls, parent=None, caption="", directory="", filters=""):
        """Ask for a file to read; empty where the user cancels."""
        return cls._class.getOpenFileName(unwrapped(parent), caption, directory, filters)[0]


class QUiLoader:
    """Loads .ui files; classes, properties and connections that do not exist raise."""

    def load(self, file):
        """The root widget of a file that is open."""
        root = ElementTree.fromstring(bytes(unwrapped(file).readAll().data()))
        for element in root.iter("widget"):
            self._check(element)
        connections = [{part.tag: part.text for part in element} for element in root.iter("connection")]
        for tag in ("connections", "customwidgets"):
            for element in root.findall(tag):
                root.remove(element)
        loader, buffer = QtUiTools.QUiLoader(), QtCore.QBuffer()
        for cls in _CUSTOM_WIDGETS.values():
            loader.registerCustomWidget(cls)
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        widget = loader.load(buffer, None)
        for connection in connections:
            self._connect(widget, **connection)
        return Wrapper(widget)

    @staticmethod
    def _check(element):
        name = element.get("class")
        cls = _CUSTOM_WIDGETS.get(name) or getattr(QtWidgets, name, None)
        if cls is None:
            raise RuntimeError(f"the stand-in has no widget class '{name}'")
        sample = cls()  # PySide's meta-objects live as long as an object
        for item in element.findall("property"):
            if item.get("stdset") != "0" and not _has_property(sample, item.get("name")):
                raise RuntimeError(f"{name} has no property '{item.get('name')}'")

    @staticmethod
    def _connect(root, sender, signal, receiver, slot, **_):
        def find(name):
            found = root if root.objectName() == name else root.findChild(QtCore.QObject, name)
            if found is None:
                raise RuntimeError(f"no object is named '{name}'")
            return Wrapper(found)

        find(sender).connect(signal, getattr(find(receiver), slot.partition("(")[0]))


def __getattr__(name):
    if name.startswith("_"):
        raise AttributeError(name)
    member = next((getattr(module, name) for module in _MODULES if hasattr(module, name)), None)
    if member is None:
        raise AttributeError(f"qt has no '{name}'")
    if name == "QFileDialog":
        return _FileDialogClass(member)
    is_wrapped = isinstance(member, type) and issubclass(member, QtCore.QObject)
    return WrapperClass(member) if is_wrapped else member
