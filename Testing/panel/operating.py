"""Hands and eyes of the tests: clicks, waiting, processes, scenes."""

import gc
import os
import time
from pathlib import Path

import numpy as np
import qt
import slicer
import slicer.util
import vtk
from PySide6.QtCore import QEventLoop, QPoint, Qt, QTimer
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QFileDialog, QLineEdit, QStackedWidget, QTabWidget

# RAS from IJK, oblique and anisotropic; RAS world from RAS, turned, sheared and moved
OBLIQUE = np.array([[-1.6, 1.2, 0, 20], [-1.2, -1.6, 0, 30], [0, 0, 2.5, -15], [0, 0, 0, 1.0]])
PARENT = np.array([[0, -1.1, 0.1, 40], [0.9, 0, 0, -25], [0, 0.1, 1, 60], [0, 0, 0, 1.0]])


def click(widget):
    """Click a widget with the mouse; it must be one that a user can click.

    The click happens inside an event loop, as in Slicer: what is deleted later must not be deleted too early.
    """
    bring_tab(qt.unwrapped(widget))
    give_room(qt.unwrapped(widget))
    assert widget.visible and widget.enabled, f"{widget} cannot be clicked"
    loop = QEventLoop()

    def press():
        try:
            QTest.mouseClick(qt.unwrapped(widget), Qt.MouseButton.LeftButton)
        finally:
            loop.quit()

    QTimer.singleShot(0, press)
    loop.exec()


def tick(box):
    """Click a check box on its sign."""
    box = qt.unwrapped(box)
    bring_tab(box)
    give_room(box)
    press(box, QPoint(8, box.height() // 2))


def give_room(widget):
    """Make the window so high that no widget is squeezed: Slicer's panel scrolls instead."""
    window, layout = widget.window(), widget.window().layout()
    if (
        layout is not None
        and layout.hasHeightForWidth()
        and layout.totalHeightForWidth(window.width()) > window.height()
    ):
        window.resize(window.width(), layout.totalHeightForWidth(window.width()))
        slicer.app.processEvents()
    for _ in range(10):
        if not widget.isVisible() or widget.height() >= min(widget.minimumSizeHint().height(), 12):
            return
        window.resize(window.width(), window.height() + 150)
        slicer.app.processEvents()


def bring_tab(widget):
    """Click the tab that a widget lies on, where another one is open, and the header of its section, where closed."""
    while widget.parentWidget() is not None:
        page, widget = widget, widget.parentWidget()
        if widget.metaObject().className() == "ctkCollapsibleButton" and widget.property("collapsed"):
            bring_tab(widget)
            QTest.mouseClick(widget, Qt.MouseButton.LeftButton)
            slicer.app.processEvents()
        tabs = widget.parentWidget() if isinstance(widget, QStackedWidget) else None
        if isinstance(tabs, QTabWidget) and tabs.currentWidget() is not page:
            bar = tabs.tabBar()
            QTest.mouseClick(bar, Qt.MouseButton.LeftButton, pos=bar.tabRect(tabs.indexOf(page)).center())
            slicer.app.processEvents()


def press(widget, position=None, key=None):
    """Press a key, or the left mouse button at a position, in a Qt widget, inside an event loop as `click`."""
    loop = QEventLoop()

    def act():
        try:
            if key is None:
                QTest.mouseClick(widget, Qt.MouseButton.LeftButton, pos=position)
            else:
                QTest.keyClick(widget, key)
        finally:
            loop.quit()

    QTimer.singleShot(0, act)
    loop.exec()
    slicer.app.processEvents()


def columns_of(table):
    """The headers of a table widget."""
    return [table.horizontalHeaderItem(column).text() for column in range(table.columnCount)]


def choose(combo, text):
    """Choose a row of a combo box by mouse and keyboard."""
    activate_row(combo, text)
    assert combo.currentText == text


def type_path(path_edit, path):
    """Type another path into a ctkPathLineEdit, letter by letter."""
    editor = qt.unwrapped(path_edit).comboBox().lineEdit()
    assert editor.isEnabled() and editor.isVisible()
    editor.selectAll()
    for letter in str(path):
        editor.insert(letter)
    slicer.app.processEvents()
    assert path_edit.currentPath == str(path)


def create_node(selector):
    """Choose "Create new" in a node selector; the node."""
    activate_row(qt.unwrapped(selector)._combo, "Create new")
    return selector.currentNode()


def activate_row(combo, text):
    """Click a row of a combo box; of an action, which keys do not reach, the beginning of its text is enough."""
    combo = qt.unwrapped(combo)
    rows = [combo.itemText(i) for i in range(combo.count())]
    row = next((i for i, found in enumerate(rows) if found == text), None)
    if row is None:
        row = next((i for i, found in enumerate(rows) if found.startswith(text)), None)
    assert combo.isEnabled() and row is not None, f"'{text}' is not among {rows}"
    QTest.mouseClick(combo, Qt.MouseButton.LeftButton)
    index = combo.model().index(row, combo.modelColumn())
    if index.flags() & Qt.ItemFlag.ItemIsSelectable:
        combo.view().setCurrentIndex(index)
        QTest.keyClick(combo.view(), Qt.Key.Key_Return)
    else:
        QTest.mouseClick(
            combo.view().viewport(), Qt.MouseButton.LeftButton, pos=combo.view().visualRect(index).center()
        )
    slicer.app.processEvents()


def wait_until(condition, seconds=300):
    """Let the application work until something is so.

    Returns:
        The longest time in seconds of this thread's computing between two looks.
    """
    end, longest = time.monotonic() + seconds, 0.0
    while not condition():
        assert time.monotonic() < end, "waited for too long"
        longest = max(longest, computing_time(slicer.app.processEvents))
        time.sleep(0.01)
    return longest


def computing_time(step):
    """Seconds that this thread computes in a step of the panel."""
    gc.freeze()  # else Python may look through what thousands of tests have left, which takes longer than the panel
    try:
        begin = time.thread_time()
        step()
        return time.thread_time() - begin
    finally:
        gc.unfreeze()


def add_volume(name="CBCT 7", transformed=False, shape=(20, 22, 24)):
    """A small oblique scan of slices, rows and columns, on request under a parent transform."""
    voxels = np.random.default_rng(0).normal(0, 300, shape).astype(np.int16)
    node = slicer.util.addVolumeFromArray(voxels, ijkToRAS=OBLIQUE, name=name)
    if transformed:
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(PARENT))
        node.SetAndObserveTransformNodeID(transform.GetID())
    return node


def add_nonlinear_transform(scene):
    """A transform node that bends space."""
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetBasisToR()
    points = [vtk.vtkPoints(), vtk.vtkPoints()]
    for corner in np.ndindex(2, 2, 2):
        points[0].InsertNextPoint(*(100.0 * np.array(corner)))
        points[1].InsertNextPoint(*(100.0 * np.array(corner) + (10.0 * corner[1] * corner[2], 0, 0)))
    spline.SetSourceLandmarks(points[0])
    spline.SetTargetLandmarks(points[1])
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode")
    node.SetAndObserveTransformToParent(spline)
    return node


def content(scene):
    """Everything that a scene file would hold."""
    scene.SetSaveToXMLString(1)
    scene.Commit()
    text = scene.GetSceneXMLString()
    scene.SetSaveToXMLString(0)
    return text


def descendants(pid=None):
    """{process id: command line} of the running children of a process, their children, and so on."""
    parents, commands = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            commands[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if state not in "ZX":
            parents[int(folder.name)] = int(parent)
    found, newest = set(), {pid or os.getpid()}
    while newest:
        newest = {child for child, parent in parents.items() if parent in newest}
        found |= newest
    return {child: commands[child] for child in found}


def is_running(pid):
    """Whether a process exists and is not only a remnant."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def worker_processes():
    """The launcher and the Python that it has started, once both are there."""
    return [pid for pid, command in descendants().items() if "-m H3DELandmarksLib.cli.worker" in command]


def files_of_runs():
    """Names of everything in Slicer's temporary folder but what a worker that waits for the next detection keeps."""
    kept = {"in-use.lock", "output.jsonl", "messages.txt"}
    folder = Path(slicer.app.temporaryPath)
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name not in kept]


def press_key(widget, key, modifier=Qt.KeyboardModifier.NoModifier):
    """Press a key in a widget that gets the focus, as after a click into it.

    Args:
        widget: of the panel, or what holds the views.
        key: name of the key, as in ``Qt.Key``, without ``Key_``.
        modifier: key that is held down meanwhile.
    """
    target = qt.unwrapped(widget)
    window = target.window()
    window.show()
    window.activateWindow()
    target.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    target.setFocus()
    slicer.app.processEvents()
    QTest.keyClick(target, getattr(Qt.Key, f"Key_{key}"), modifier)
    slicer.app.processEvents()


def in_dialog(button, path):
    """Click a button and answer its file dialog by keyboard; None cancels."""

    def answer():
        dialog = QApplication.activeModalWidget()
        assert isinstance(dialog, QFileDialog)
        line = dialog.findChild(QLineEdit, "fileNameEdit")
        if path is None:
            QTest.keyClick(dialog, Qt.Key.Key_Escape)
            return
        line.setText(str(path))
        QTest.keyClick(line, Qt.Key.Key_Return)

    QTimer.singleShot(300, answer)
    click(button)
