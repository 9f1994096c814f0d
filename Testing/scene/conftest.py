"""Real MRML scenes without the application."""

from importlib.util import find_spec

import pytest

if find_spec("slicer"):
    import slicer
else:
    collect_ignore_glob = ["test_*.py"]

MODULES = {
    "Colors": "vtkMRMLColorLogic",  # first: the others look for its nodes
    "Volumes": "vtkSlicerVolumesLogic",
    "Markups": "vtkSlicerMarkupsLogic",
}


class Application:
    """What a scene needs to hold volumes and point lists and to be saved and loaded as .mrb."""

    def __init__(self, folder):
        self.scene = slicer.vtkMRMLScene()
        self.scene.SetRootDirectory(str(folder))
        self._logic = slicer.vtkSlicerApplicationLogic()
        self._logic.SetMRMLScene(self.scene)
        self._cache = slicer.vtkCacheManager()
        self._cache.SetRemoteCacheDirectory(str(folder / "cache"))
        self._io = slicer.vtkDataIOManager()
        self._io.SetCacheManager(self._cache)
        self.scene.SetCacheManager(self._cache)
        self.scene.SetDataIOManager(self._io)
        self._modules = [self._add(name, getattr(slicer, kind)()) for name, kind in MODULES.items()]

    def _add(self, name, logic):
        logic.SetMRMLApplicationLogic(self._logic)
        logic.SetMRMLScene(self.scene)
        self._logic.SetModuleLogic(name, logic)
        return logic

    def close(self):
        """Let go of the scene in an order that VTK survives."""
        for logic in reversed(self._modules):
            logic.SetMRMLScene(None)
        self._logic.SetMRMLScene(None)


@pytest.fixture
def make_scene(tmp_path):
    """Makes empty scenes."""
    applications = []

    def make():
        applications.append(Application(tmp_path))
        return applications[-1].scene

    yield make
    for application in applications:
        application.close()


@pytest.fixture
def scene(make_scene):
    """An empty scene."""
    return make_scene()
