"""Slicer's slice and 3D views without its windows: the real displayable managers, drawn offscreen, and a mouse."""

import qt
import slicer
import vtk
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QColor, QImage, QPainter

SLICE_MANAGERS = (
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager",
    "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
)
THREE_D_MANAGERS = (
    "vtkMRMLVolumeRenderingDisplayableManager",
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLOrientationMarkerDisplayableManager",
)
_GAP = 6
ORIENTATIONS = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}


def image_of(window):
    """What a VTK render window shows, as a QImage."""
    window.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    grab.Update()
    data = grab.GetOutput()
    width, height, _ = data.GetDimensions()
    pixels = bytes(memoryview(data.GetPointData().GetScalars()).cast("B"))
    return QImage(pixels, width, height, 3 * width, QImage.Format.Format_RGB888).flipped().copy()


class _View:
    """A render window with Slicer's managers and interaction."""

    def __init__(self, size, factory, managers):
        self.size = size
        self.renderer = vtk.vtkRenderer()
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetMultiSamples(0)
        self.window.SetSize(*size)
        self.window.AddRenderer(self.renderer)
        self.interactor = vtk.vtkRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        self.interactor.SetInteractorStyle(vtk.vtkInteractorStyleUser())
        self.interactor.Initialize()
        logic = slicer.app.applicationLogic()
        factory = factory.GetInstance()
        factory.SetMRMLApplicationLogic(logic)
        for manager in managers:
            if not factory.IsDisplayableManagerRegistered(manager):
                factory.RegisterDisplayableManager(manager)
        self.managers = slicer.vtkMRMLDisplayableManagerGroup()
        self.managers.SetRenderer(self.renderer)
        self.managers.Initialize(factory, self.renderer)

    def _connect(self, style, node):
        self.managers.SetMRMLDisplayableNode(node)
        style.SetDisplayableManagers(self.managers)
        style.SetInteractor(self.interactor)

    def render(self):
        """Draw."""
        self.window.Render()

    def image(self):
        """What the view shows, as a QImage."""
        self.render()
        return image_of(self.window)

    def mouse(self, *events):
        """Send events of the mouse: pairs of a VTK event name and a position (x, y) in pixels from the lower left."""
        for name, (x, y) in events:
            self.interactor.SetEventInformation(int(round(x)), int(round(y)))
            self.interactor.InvokeEvent(name)

    def click(self, position):
        """Move to a position and press and release the left button."""
        near = (position[0] - 3, position[1] - 3)
        self.mouse(
            ("EnterEvent", near),
            ("MouseMoveEvent", near),
            ("MouseMoveEvent", position),
            ("LeftButtonPressEvent", position),
            ("LeftButtonReleaseEvent", position),
        )

    def drag(self, start, end):
        """Press the left button at one position, move to another, and release it."""
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        near = (start[0] - 3, start[1] - 3)
        self.mouse(
            ("EnterEvent", near),
            ("MouseMoveEvent", near),
            ("MouseMoveEvent", start),
            ("LeftButtonPressEvent", start),
            ("MouseMoveEvent", middle),
            ("MouseMoveEvent", end),
            ("LeftButtonReleaseEvent", end),
        )


class SliceView(_View):
    """A slice view; its node has Slicer's name and orientation."""

    def __init__(self, name="Red", size=(420, 420)):
        super().__init__(size, slicer.vtkMRMLSliceViewDisplayableManagerFactory, SLICE_MANAGERS)
        self.renderer.GetActiveCamera().ParallelProjectionOn()
        application = slicer.app.applicationLogic()
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(application)
        self.logic.SetMRMLScene(slicer.mrmlScene)
        application.GetSliceLogics().AddItem(self.logic)
        self.node = self.logic.AddSliceNode(name)
        self.node.SetOrientation(ORIENTATIONS[name])
        self.node.SetMappedInLayout(1)
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        actor = vtk.vtkActor2D()
        actor.SetMapper(self._mapper)
        actor.GetProperty().SetDisplayLocationToBackground()
        self.renderer.AddViewProp(actor)
        self.logic.ResizeSliceNode(*size)
        self.style = slicer.vtkMRMLSliceViewInteractorStyle()
        self.style.SetSliceLogic(self.logic)
        self._connect(self.style, self.node)

    def show(self, volume):
        """Show a volume, along its own axes."""
        self.logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
        self.node.RotateToVolumePlane(volume)
        self.logic.FitSliceToAll()
        self.logic.SnapSliceOffsetToIJK()

    def render(self):
        """Draw the slice as it is now."""
        self._mapper.SetInputConnection(self.logic.GetImageDataConnection())
        super().render()

    def pixel_of(self, ras):
        """(x, y) of a point in RAS world mm."""
        from_xy = self.node.GetXYToRAS()
        to_xy = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(from_xy, to_xy)
        return to_xy.MultiplyPoint((*ras, 1.0))[:2]


class ThreeDView(_View):
    """A 3D view."""

    def __init__(self, size=(420, 420)):
        super().__init__(size, slicer.vtkMRMLThreeDViewDisplayableManagerFactory, THREE_D_MANAGERS)
        application = slicer.app.applicationLogic()
        self.logic = slicer.vtkMRMLViewLogic()
        self.logic.SetMRMLApplicationLogic(application)
        self.logic.SetMRMLScene(slicer.mrmlScene)
        application.GetViewLogics().AddItem(self.logic)
        self.node = self.logic.AddViewNode("1")
        self.node.SetMappedInLayout(1)
        self.style = slicer.vtkMRMLThreeDViewInteractorStyle()
        self._connect(self.style, self.node)


def beside(panel, images, columns=2):
    """A picture of a panel with views to its right, as high as the panel.

    Args:
        panel: the widget (as PythonQt shows it) of the panel.
        images: square QImages.
        columns: how many views lie side by side.
    """
    shot = qt.unwrapped(panel).grab().toImage()
    rows = -(-len(images) // columns)
    size = (shot.height() - (rows - 1) * _GAP) // rows
    total = QImage(shot.width() + columns * (size + _GAP), shot.height(), QImage.Format.Format_RGB32)
    total.fill(QColor("#f0f0f0"))
    painter = QPainter(total)
    painter.drawImage(QPoint(0, 0), shot)
    for k, image in enumerate(images):
        row, column = divmod(k, columns)
        place = QPoint(shot.width() + _GAP + column * (size + _GAP), row * (size + _GAP))
        painter.drawImage(place, image.scaledToHeight(size, Qt.TransformationMode.SmoothTransformation))
    painter.end()
    return total
