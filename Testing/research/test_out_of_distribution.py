"""The report on scans that a model was not made for counts confident points, and says what could not be had."""

import numpy as np
import pytest
from tiny_model import NAMES, write_tiny_package, write_tiny_radiograph_package

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.detection import Detector
from H3DELandmarksResearch.studies.foreign_volumes import (
    AIR,
    BONE,
    ForeignVolume,
    NotHere,
    foreign_volumes,
    noise,
    tubes,
)
from H3DELandmarksResearch.studies.out_of_distribution import confident, projected, report, resized, table, try_volume


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return write_tiny_package(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def detector(package):
    return Detector(package, device="cpu", backend="torch")


def not_here() -> Volume:
    raise NotHere("it lies elsewhere")


def test_a_point_is_confident_when_it_is_present_and_trusted():
    found = LandmarkSet(("a", "b", "c"), np.zeros((3, 3)), np.array([0.9, 0.9, 0.4]), np.array([0.6, 0.5, 0.9]))
    assert confident(found) == 1


def test_resizing_fits_the_header_to_the_model_and_leaves_the_voxels(detector):
    volume = Volume(np.zeros((40, 20, 10), np.int16), np.diag([3.0, 2.0, 1.0, 1.0]))
    made = resized(volume, detector)
    assert made.grid.extent.max() == pytest.approx(1.6 * np.ptp(detector.shape.mean, axis=0).max())
    assert made.array is volume.array
    assert np.allclose(made.spacing / volume.spacing, made.spacing[0] / 3.0)


def test_a_scan_that_the_model_refuses_holds_no_point(detector):
    huge = Volume(np.zeros((400, 400, 400), np.int8), np.diag([8.0, 8.0, 8.0, 1.0]))
    assert try_volume(detector, huge) == {"present": 0, "confident": 0, "refused": True}


def test_a_model_for_radiographs_gets_the_projection_of_each_volume(tmp_path):
    package = write_tiny_radiograph_package(tmp_path / "flat")
    array = np.zeros((4, 5, 6), np.int16)
    array[1, :, 2] = 10  # a rod from front to back
    image = projected(Volume(array, np.diag([1.0, 2.0, 3.0, 1.0])))
    assert image.array.shape == (4, 1, 6) and image.array[1, 0, 2] == 10 and image.array.sum() == 10
    (row,) = report(str(package.path), [ForeignVolume("noise", noise)])
    assert not row["as_it_is"]["refused"]


@pytest.fixture(scope="module")
def rows(package):
    volumes = [
        ForeignVolume("noise", noise),
        ForeignVolume("missing", not_here),
        ForeignVolume("its own", noise, own_for=("tiny",)),
    ]
    return report(str(package.path), volumes)


def test_what_cannot_be_had_is_left_out_with_its_reason(package, capsys):
    assert report(str(package.path), [ForeignVolume("missing", not_here)]) == []
    assert "left out: missing: it lies elsewhere" in capsys.readouterr().err


def test_every_other_volume_gets_a_row(rows):
    assert [(row["volume"], row["points"], row["own_anatomy"]) for row in rows] == [
        ("noise", len(NAMES), False),
        ("its own", len(NAMES), True),
    ]
    assert all(0 <= row[way]["confident"] <= row[way]["present"] for row in rows for way in ("as_it_is", "resized"))


def test_the_rate_counts_volumes_without_the_model_s_anatomy_alone(rows):
    for row, confident_points in zip(rows, (1, 3)):
        row["as_it_is"] = {"present": 3, "confident": confident_points, "refused": False}
    text = table("tiny", rows)
    assert "| **confident points, all counted volumes** | **33.3 %**" in text
    assert "its own (its own anatomy, at least in part: not counted)" in text


def test_the_report_names_what_is_simulated_and_needs_no_data_for_it(tmp_path):
    volumes = {volume.name: volume for volume in foreign_volumes(tmp_path, None)}
    for wanted in ("reptile skull", "vessels", "foot", "MRI", "noise", "air", "mouse skull", "planning CT"):
        assert any(wanted in name for name in volumes)
    with pytest.raises(NotHere, match="H3DE_DATA"):
        volumes["mouse skull (NU_J)"].load()


def test_tubes_lie_where_they_are_told():
    volume = tubes((20, 20, 20), 0.5, [((5, 10, 10), (15, 10, 10), 3, 2, BONE)], AIR, 0)
    assert volume.array.shape == (40, 40, 40) and volume.spacing.tolist() == [0.5] * 3
    assert volume.array[20, 20, 20] > 1000 and volume.array[20, 2, 20] < -900
    assert volume.array[12, 25, 20] > 500 > volume.array[28, 25, 20]
