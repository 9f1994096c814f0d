"""Models for radiographs whose pixels have no known size: lengths are shares of the picture's height."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from flat_cases import radiograph
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import write_tiny_radiograph_package

from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.errors import ModelPackageError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.models import open_package
from H3DELandmarksLib.models.fit import ScanFacts
from H3DELandmarksLib.training.cases import Case


def with_height(folder, height):
    """The tiny package as a model for which each picture is so many mm high."""
    package = write_tiny_radiograph_package(folder)
    path = package.path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "height_mm": height}))
    return open_package(package.path)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return Detector(with_height(tmp_path_factory.mktemp("model") / "tiny", 40.0), device="cpu")


@settings(max_examples=8, deadline=None)
@given(st.floats(0.02, 30))
def test_points_lie_on_the_same_pixels_whatever_size_is_stated(detector, factor):
    picture, _ = radiograph(1)
    affine = picture.affine.copy()
    affine[:3] *= factor
    first, other = detector.detect(picture), detector.detect(Volume(picture.array, affine))
    np.testing.assert_array_equal(first.present, other.present)
    np.testing.assert_allclose(other.positions, first.positions * factor, rtol=1e-4, atol=1e-3 * factor)
    np.testing.assert_allclose(other.radius, first.radius * factor, rtol=1e-6)


def test_training_sees_a_case_in_the_model_s_lengths():
    picture, _ = radiograph(1)
    points = np.array([[3.0, 4, 0], [5, 6, 0]])
    case = Case("a", picture, LandmarkSet(("a", "b"), points)).laid_flat()
    seen = case.counted_as_high(40.0)
    assert seen.volume.grid.extent[1] == pytest.approx(40)
    np.testing.assert_allclose(
        seen.volume.grid.ijk_from_lps(seen.landmarks.positions), case.volume.grid.ijk_from_lps(case.landmarks.positions)
    )
    assert case.counted_as_high(None) is case


def test_facts_of_a_picture_are_counted_in_the_same_lengths():
    facts = ScanFacts((300, 500, 1), (0.2, 0.2, 1.0))
    assert facts.counted_as_high(1000.0).extent.tolist() == pytest.approx([600, 1000])
    assert facts.counted_as_high(None) == facts


def test_a_model_for_volumes_has_no_height(tmp_path):
    from tiny_model import write_tiny_package

    package = write_tiny_package(tmp_path / "tiny")
    path = package.path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "height_mm": 40.0}))
    with pytest.raises(ModelPackageError, match="height_mm"):
        open_package(package.path)


def test_the_command_needs_no_pixel_size_and_tells_pixels(tmp_path, capsys):
    package = with_height(tmp_path / "tiny", 40.0)
    picture, _ = radiograph(1)
    shades = picture.array[..., 0].T.astype(float)
    film = tmp_path / "film.png"
    sitk.WriteImage(sitk.GetImageFromArray((255 * shades / shades.max()).astype(np.uint8)), str(film))
    found = {}
    for name, more in (("unknown", ()), ("stated", ("--spacing", "0.5"))):
        arguments = [
            "detect",
            str(film),
            "--model",
            str(package.path),
            "--output",
            str(tmp_path / name),
            "--json",
            *more,
        ]
        assert main([*arguments, "--show-doubtful"]) == 0
        found[name] = json.loads(capsys.readouterr().out)
    (unknown,), (stated,) = (document["scans"] for document in found.values())
    assert (unknown["unit"], stated["unit"]) == ("px", "mm") and found["stated"]["length_unit"] == "px"
    assert "lengths are pixels" in unknown["summary"] and "pixels" not in stated["summary"]
    for one, other in zip(unknown["landmarks"], stated["landmarks"]):
        assert np.array(other["position_lps_mm"]) == pytest.approx(0.5 * np.array(one["position_lps_mm"]), abs=1e-3)


def test_other_models_still_need_the_size(tmp_path, capsys):
    package = write_tiny_radiograph_package(tmp_path / "tiny")
    film = tmp_path / "film.png"
    sitk.WriteImage(sitk.GetImageFromArray(np.arange(4000, dtype=np.uint8).reshape(80, 50)), str(film))
    assert main(["detect", str(film), "--model", str(package.path), "--output", str(tmp_path / "out")]) != 0
    assert "--spacing" in capsys.readouterr().err
