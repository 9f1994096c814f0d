"""Where a model sees nothing that it knows, those that recognise the scan are named, the surest first."""

from types import SimpleNamespace

import numpy as np
import pytest
from toy_package import MANIFEST, toy_package

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.detection.other_models import models_that_recognise
from H3DELandmarksLib.formats.results import RecognitionResult

RECOGNITION = {
    "shape": {"mean_mm": [[0, 0, 0], [10, 0, 0]], "modes_mm": [], "noise_mm": 1.0},
    "weights": [0.0] * 6,
    "scores": [1.0],
    "false_alarm_rate": 0.03,
}
SCAN = Volume(np.zeros((60, 60, 60), np.int16), np.eye(4))


class StubDetector:
    """Says of a scan what its model's p-value is and how many points it finds; counts how often it is asked."""

    said = {"sure": (0.9, 2), "fair": (0.4, 1), "strange": (0.01, 2), "empty": (0.9, 0)}
    asked: list[str] = []

    def __init__(self, package):
        self.id = package.id

    def findings(self, volume, silent):
        assert silent
        self.asked.append(self.id)
        if self.id == "broken":
            raise InputError("It cannot be searched.")

    def conclude(self, found, volume):
        p_value, points = self.said[self.id]
        landmarks = SimpleNamespace(present=np.arange(2) < points)
        return SimpleNamespace(recognition=RecognitionResult.of(p_value, 0.03), landmarks=landmarks)


@pytest.fixture
def models(tmp_path, monkeypatch):
    from H3DELandmarksLib.models import registry

    monkeypatch.setenv("H3DE_MODELS", str(tmp_path / "models"))
    for name in ("user_folder", "bundled_folder"):
        monkeypatch.setattr(registry, name, lambda: tmp_path / "none")
    StubDetector.asked = []

    def add(name, **changes):
        calibration = {**MANIFEST["calibration"], "recognition": RECOGNITION}
        return toy_package(tmp_path / "models" / name, id=name, **{"calibration": calibration, **changes})

    return add


def test_the_surest_comes_first_and_strangers_are_left_out(models):
    for name in ("broken", "empty", "fair", "strange", "sure"):
        models(name)
    assert [made.id for made in models_that_recognise(SCAN, "other", StubDetector)] == ["sure", "fair"]


def test_the_model_itself_and_those_that_cannot_fit_or_tell_are_not_asked(models):
    models("sure")
    models("fine", max_spacing_mm=0.01)
    models("silent", calibration=MANIFEST["calibration"])
    models("slow", stages=[{**MANIFEST["stages"][0], "poses": "cube-rotations", "spacing_mm": 0.2}])
    assert models_that_recognise(SCAN, "sure", StubDetector) == [] and StubDetector.asked == []
