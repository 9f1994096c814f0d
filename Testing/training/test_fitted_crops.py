"""Stages whose pixels follow from the size of the radiograph: what is validated, and what training sees."""

import numpy as np
import pytest
import torch
from flat_cases import NAMES, NETWORK, SCHEME, radiograph
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import flat_stage, write_tiny_radiograph_package
from typed import crop_sampler, reading, training, training_stage

from H3DELandmarksLib.core.geometry import Volume, crop_grid, resample
from H3DELandmarksLib.core.image_plane import crop_about_center
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.shape_model import learn_shape_model
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.formats.manifest import check_stages
from H3DELandmarksLib.formats.reading import FormatError, to_plain
from H3DELandmarksLib.models.fit import ScanFacts, crop_count, why_unfit
from H3DELandmarksLib.networks.arrays import to_array
from H3DELandmarksLib.training.cases import Case, TrainingCase, prepare_case
from H3DELandmarksLib.training.sampling import CropSampler, resample_by_torch
from H3DELandmarksResearch.training.configuration import for_cases

GROUPS = [{"landmarks": list(NAMES)}]
FITTED = {"network": NETWORK, "shape": [64, 48, 1], "spacing_mm": 1.0, "groups": GROUPS, "fit": 1.25}


def prepared(pixel: float = 1.0, **changes) -> tuple[TrainingCase, CropSampler]:
    """The mean radiograph with pixels of another size, and a sampler of a stage that is fitted to it."""
    volume, truth = radiograph(None)
    affine = volume.affine.copy()
    affine[:3, :3] *= pixel
    points = volume.grid.ijk_from_lps(truth.positions)
    scaled = Volume(volume.array, affine)
    case = Case("spots", scaled, LandmarkSet(NAMES, scaled.grid.lps_from_ijk(points))).laid_flat()
    shape = learn_shape_model(case.landmarks.positions[None], SCHEME, own_frame=False)
    augmentation = changes.pop("augmentation", {})
    return prepare_case(case, reading(0, 1000), shape, False), crop_sampler(
        {**FITTED, **changes}, SCHEME, shape, augmentation
    )


@given(
    width=st.integers(2, 3000),
    height=st.integers(2, 3000),
    pixel=st.floats(1e-2, 5),
    side=st.tuples(st.sampled_from([32, 512, 1024]), st.sampled_from([64, 512, 1216])),
)
@settings(max_examples=60, deadline=None)
def test_the_whole_picture_lies_in_the_crop_as_the_authors_place_it(width, height, pixel, side):
    stage = training_stage(**{**FITTED, "shape": [*side, 1]})
    sheet = Volume(np.zeros((width, height, 1), np.uint8), np.diag([pixel, pixel, 1e-3, 1])).grid
    spacing = stage.spacing_in(sheet.extent.tolist())
    assert spacing == pytest.approx(1.25 * max(width / side[0], height / side[1]) * pixel)
    grid = crop_about_center(sheet, np.eye(3), spacing, stage.shape)
    index = np.array([[0, 0, 0], [width - 1, height - 1, 0], [width / 2, height / 2, 0]])
    placed = grid.ijk_from_lps(sheet.lps_from_ijk(index))
    np.testing.assert_allclose(placed[2, :2], np.array(side) / 2, atol=1e-6)
    scale = spacing / pixel
    np.testing.assert_allclose(placed[0, :2], np.array(side) / 2 - np.array([width, height]) / 2 / scale, atol=1e-6)
    assert placed[:2, :2].min() >= -0.5 and (placed[1, :2] <= np.array(side) - 0.5).all()


@pytest.mark.parametrize(
    ("changes", "entry"),
    [
        ({"shape": [64, 64, 64], "network": {"architecture": "h3denet", "settings": {"landmarks": 3}}}, "fit"),
        ({"poses": "found"}, "fit"),
        ({"fit": 0.0}, "fit"),
        ({"fit": 5.0}, "fit"),
        ({"sampling": "cubic"}, "sampling"),
    ],
    ids=["volumes", "poses", "zero", "too large", "unknown sampling"],
)
def test_what_cannot_be_fitted_is_refused(changes, entry):
    with pytest.raises((FormatError, ValueError), match=entry):
        training_stage(**{**FITTED, "decoding": {"method": "softmax"}, **changes})


def test_only_the_first_stage_sees_the_whole_picture():
    first, second = training_stage(**FITTED), training_stage(**{**FITTED, "name": "second"})
    with pytest.raises(ValueError, match=r"stages\[1\].fit"):
        check_stages([first, second], SCHEME)
    check_stages([first, training_stage(**{**FITTED, "name": "second", "fit": 0.3})], SCHEME)


def test_stages_without_it_are_written_as_before():
    plain = to_plain(training_stage(**{k: v for k, v in FITTED.items() if k != "fit"}))
    assert "fit" not in plain and "sampling" not in plain


@pytest.mark.parametrize("pixel", [0.03, 1.0, 40.0])
@pytest.mark.parametrize("fit", [1.25, 0.6], ids=["whole", "part"])
def test_training_sees_the_same_whatever_the_size_of_pixels(pixel, fit):
    """Turns, shifts and scales grow with the picture, too."""
    changes = {"rotation_degrees": 30, "shift_mm": 3, "scale": 0.2, "mirror": 0.5}
    usual, other = (prepared(size, fit=fit, augmentation=changes) for size in (1.0, pixel))
    for seed in range(6):
        # A shift of a usual picture is 3 mm where its crop's pixels are 1 mm.
        first, second = (sampler.draw(case, np.random.default_rng(seed)) for case, sampler in (usual, other))
        np.testing.assert_allclose(second.index, first.index, atol=1e-3)
        np.testing.assert_allclose(to_array(second.image), to_array(first.image), atol=1e-3)
        np.testing.assert_array_equal(second.presence, first.presence)
    assert other[1].spacing(other[0]) == pytest.approx(pixel * usual[1].spacing(usual[0]))


def test_a_crop_without_augmentation_is_that_of_the_detection():
    case, sampler = prepared()
    sample = sampler.plain(case)
    sheet = case.case.volume.grid
    grid = crop_about_center(sheet, np.eye(3), sampler.spacing(case), sampler.stage.shape)
    np.testing.assert_allclose(grid.lps_from_ijk(sample.index), case.case.landmarks.positions, atol=1e-9)
    assert not np.allclose(grid.center, crop_grid(case.pose.translation, np.eye(3), 1.0, (64, 48, 1)).center)


@pytest.mark.parametrize("sampling", [{}, {"sampling": "linear"}], ids=["averaged", "linear"])
def test_points_keep_their_place_in_the_picture_whatever_the_size_of_pixels(tmp_path, sampling):
    stage = flat_stage("localizer", fit=1.25, shape=[64, 48, 1], **sampling)
    detector = Detector(write_tiny_radiograph_package(tmp_path / "tiny", stage), device="cpu")
    places = []
    for pixel in (0.05, 1.0, 3.0):
        volume, _ = radiograph(1, (0.6, 0.6))
        scaled = Volume(volume.array, volume.affine * (pixel, pixel, pixel, 1))
        places.append(scaled.grid.ijk_from_lps(detector.findings(scaled).positions))
    np.testing.assert_allclose(places[0], places[1], atol=1e-3)
    np.testing.assert_allclose(places[2], places[1], atol=1e-3)


def test_a_later_stage_looks_at_a_part_of_the_picture(tmp_path, monkeypatch):
    stages = flat_stage("localizer", fit=1.25), flat_stage("refiner", fit=0.4, shape=[48, 32, 1])
    detector = Detector(write_tiny_radiograph_package(tmp_path / "tiny", *stages), device="cpu")
    refiner, grids = detector.networks[1], []
    find = refiner.find

    def seen(image, grid, channels, pose):
        grids.append(grid)
        return find(image, grid, channels, pose)

    monkeypatch.setattr(refiner, "find", seen)
    volume, _ = radiograph(1)
    detector.findings(volume)
    width, height, _ = volume.grid.extent
    (grid,) = grids
    np.testing.assert_allclose(grid.spacing, 0.4 * max(width / 48, height / 32))


def test_no_picture_is_too_large_or_too_small_for_a_fitted_model(tmp_path):
    stage = flat_stage("localizer", fit=1.25)
    package = write_tiny_radiograph_package(tmp_path / "tiny", stage)
    for pixel in (1e-3, 100.0):
        facts = ScanFacts((2000, 3000, 1), (pixel, pixel, 1.0))
        assert why_unfit(package, facts) == ""
        assert crop_count(package.manifest.stages[0], facts.extent.tolist()) == 1


def test_epochs_become_steps_of_the_cases_there_are():
    planned = training(steps=0, epochs=150, warmup_epochs=50, batch=2)
    made = for_cases(planned, 135)
    assert (made.steps, made.warmup, made.epochs, made.warmup_epochs) == (10125, 3375, None, None)
    assert for_cases(training(steps=7), 135).steps == 7
    assert for_cases(training(steps=0, epochs=3, batch=2, warmup=5), 3).steps == 5


@pytest.mark.parametrize(
    "entries", [{"steps": 0}, {"steps": 3, "epochs": 3}, {"warmup_epochs": 1}, {"steps": 0, "epochs": 0}]
)
def test_steps_and_epochs_exclude_each_other(entries):
    with pytest.raises((FormatError, ValueError), match="steps|epochs"):
        training(**entries)


def test_linear_sampling_leaves_out_what_lies_between_the_samples():
    array = np.zeros((64, 64, 1), np.float32)
    array[::4, ::4] = 100.0
    case = TrainingCase(
        Case("grid", Volume(array, np.eye(4)), LandmarkSet(NAMES, np.full((3, 3), 10.0) * (1, 1, 0))),
        *(lambda p: (p[0].intensity, 0.0, p[0].pose))(prepared()),
    )
    shape = prepared()[1].shape
    at_samples = {**FITTED, "shape": [32, 32, 1], "fit": 2.0}  # a crop pixel is 4 pixels, from pixel 0
    drawn = {}
    for sampling in (None, "linear"):
        entries = at_samples if sampling is None else {**at_samples, "sampling": sampling}
        drawn[sampling] = crop_sampler(entries, SCHEME, shape, {}).plain(case).image
    assert float(drawn["linear"].max()) == pytest.approx(0.1) and float(drawn[None].max()) < 0.02
    assert torch.is_tensor(drawn["linear"])


@pytest.mark.parametrize("average", [True, False])
def test_a_gpu_samples_pictures_as_the_processor_does(average):
    array = np.random.default_rng(0).uniform(0, 255, (90, 70, 1)).astype(np.uint8)
    volume = Volume(array, np.diag([0.4, 0.4, 1e-3, 1]))
    grid = crop_about_center(volume.grid, np.eye(3), 1.27, (40, 32, 1))
    expected = resample(volume, grid, 0.0, average).array
    made = to_array(resample_by_torch(volume, grid, 0.0, torch.device("cpu"), average))
    np.testing.assert_allclose(made, expected, atol=0.01)
