"""Radiographs through the whole path of detection on small random models: what must hold whatever the weights are."""

from itertools import permutations, product

import numpy as np
import pytest
import torch
from flat_cases import NAMES, NETWORK, PLANES, distance_to_plane, radiograph, stored_otherwise
from tiny_model import flat_stage, write_tiny_package, write_tiny_radiograph_package

from H3DELandmarksLib.core.errors import InputError, ModelPackageError
from H3DELandmarksLib.core.geometry import Volume, crop_grid
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.detection.decoding import decode_published_hyatt
from H3DELandmarksLib.detection.stage import NetworkIO
from H3DELandmarksLib.formats.manifest import StageDesign
from H3DELandmarksLib.formats.reading import FormatError, build
from H3DELandmarksLib.networks.arrays import to_array, to_tensor
from H3DELandmarksResearch.training.published_losses import cells_of, gaussian_maps

HAN = {"architecture": "han", "settings": {**NETWORK["settings"], "in_channels": 3}}
PUBLISHED = {"decoding": {"method": "published-hyatt"}}
VOLUME_NETWORK = {"architecture": "h3denet", "settings": {"landmarks": 3}}
REFINER_GROUPS = [
    {"landmarks": ["Left", "Right", "Top"], "mirrored": False},
    {"landmarks": ["Right", "Left", "Top"], "mirrored": True},
]
# What a package may say; every stage works on random weights.
MODELS = {
    "one stage": (flat_stage("localizer"),),
    "published": (flat_stage("localizer", **PUBLISHED, views=2),),
    "several tiles": (flat_stage("localizer", spacing_mm=0.5),),
    "refined": (
        flat_stage("localizer"),
        flat_stage("refiner", spacing_mm=0.4, shape=[48, 40, 1], groups=REFINER_GROUPS, views=2),
    ),
    "looked at turned": (
        flat_stage("localizer"),
        flat_stage("refiner", spacing_mm=0.4, shape=[48, 40, 1], groups=REFINER_GROUPS, views=2, turned_degrees=8),
    ),
    "turned": (
        flat_stage("localizer", poses="cube-rotations"),
        flat_stage("refiner", poses="found", shape=[48, 48, 1]),
    ),
    "HAN, three channels": (flat_stage("localizer", network=HAN, **PUBLISHED),),
}


def stage_design(**changes) -> StageDesign:
    """The design of a stage as a package's manifest says it."""
    stage = flat_stage("localizer", **changes)
    del stage["weights"]
    return build(StageDesign, stage)


@pytest.fixture(scope="module", params=MODELS)
def detector(request, tmp_path_factory) -> Detector:
    package = write_tiny_radiograph_package(tmp_path_factory.mktemp("model") / "tiny", *MODELS[request.param])
    return Detector(package, device="cpu")


@pytest.fixture(scope="module")
def simple(tmp_path_factory) -> Detector:
    return Detector(write_tiny_radiograph_package(tmp_path_factory.mktemp("model") / "tiny"), device="cpu")


@pytest.mark.parametrize("plane", PLANES)
def test_points_lie_in_the_image_plane_and_are_all_there(detector, plane):
    volume, _ = radiograph(1, plane=plane)
    found = detector.detect(volume)
    assert found.names == NAMES and np.isfinite(found.positions).all()
    assert distance_to_plane(volume, found.positions).max() < 1e-9


@pytest.mark.parametrize("plane", PLANES)
def test_the_result_does_not_depend_on_the_storage(simple, plane):
    volume, _ = radiograph(1, plane=plane)
    expected = simple.detect(volume)
    for axes, flips in product(permutations(range(3)), product([False, True], repeat=3)):
        found = simple.detect(stored_otherwise(volume, axes, flips))
        np.testing.assert_allclose(found.positions, expected.positions, atol=1e-6)
        np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-6)


@pytest.mark.parametrize("axes", list(permutations(range(3))))
def test_no_stage_depends_on_the_storage(detector, axes):
    volume, _ = radiograph(1, plane="coronal")
    found = detector.detect(stored_otherwise(volume, axes, (True, False, True)))
    np.testing.assert_allclose(found.positions, detector.detect(volume).positions, atol=1e-6)


@pytest.mark.parametrize("plane", PLANES)
def test_one_picture_in_another_plane_gives_the_same_points_on_the_sheet(detector, plane):
    volume, truth = radiograph(1, plane=plane)
    _, axial_truth = radiograph(1)
    found = detector.detect(Volume(volume.array, volume.affine)).positions - truth.positions
    expected = detector.detect(radiograph(1)[0]).positions - axial_truth.positions
    np.testing.assert_allclose(found @ PLANES[plane], expected, atol=3e-4)


def test_pixels_that_are_not_square_are_no_stretch(simple):
    """The same anatomy, sampled finely along one axis or the other, gives points that differ by less than a pixel.

    Now and then the untrained network has two peaks as high as each other, and rounding chooses.
    """
    pairs = [[radiograph(seed, s, width=6.0)[0] for s in ((0.2, 0.5), (0.5, 0.2))] for seed in range(5)]
    found = np.array([[simple.detect(volume).positions for volume in pair] for pair in pairs])
    distance = np.linalg.norm(found[:, 0] - found[:, 1], axis=2)
    assert (distance < 0.6).mean() >= 0.8 and np.median(distance) < 0.3


def test_thickness_and_offset_of_the_slice_have_no_influence(simple):
    volume, _ = radiograph(1)
    affine = volume.affine.copy()
    affine[:3, 2] *= 30
    affine[2, 3] += 400
    moved = simple.detect(Volume(volume.array, affine)).positions
    np.testing.assert_allclose(moved - (0, 0, 400), simple.detect(volume).positions, atol=1e-9)


@pytest.mark.parametrize(("decoding", "beside"), [("softmax", 0), ("published-hyatt", 1)])
def test_with_two_views_a_mirror_image_has_mirrored_points_with_exchanged_names(tmp_path, decoding, beside):
    """As published, cells lie at the corner of their pixels, and maps of the mirror image are a pixel off."""
    stage = flat_stage("localizer", views=2, decoding={"method": decoding})
    detector = Detector(write_tiny_radiograph_package(tmp_path / "tiny", stage), device="cpu")
    volume, _ = radiograph(1)
    straight = detector.detect(volume).positions
    mirrored = detector.detect(Volume(volume.array[::-1], volume.affine)).positions
    middle = volume.grid.center[0]
    expected = straight[[1, 0, 2]] * (-1, 1, 1) + (2 * middle + beside * stage["spacing_mm"], 0, 0)
    np.testing.assert_allclose(mirrored, expected, atol=1e-3)


def test_names_without_a_counterpart_in_the_group_are_read_from_the_direct_view_alone(tmp_path):
    groups = [{"landmarks": ["Left", "Top"], "mirrored": False}]
    network = {**NETWORK, "settings": {**NETWORK["settings"], "landmarks": 2}}
    found = []
    for views in (1, 2):
        stage = flat_stage("localizer", network=network, groups=groups, views=views)
        package = write_tiny_radiograph_package(tmp_path / f"views{views}", stage)
        found.append(Detector(package, device="cpu").findings(radiograph(1)[0]).positions)
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert np.isnan(found[0][1]).all() and not np.allclose(found[0][2], found[1][2])


def test_a_picture_of_nothing_but_black_holds_no_landmark(simple):
    assert not np.isfinite(simple.findings(Volume(np.zeros((90, 70, 1)), np.eye(4))).presence_logit).any()


def test_radiographs_that_are_too_coarse_are_judged_by_their_pixels_not_their_thickness(tmp_path, caplog):
    package = write_tiny_radiograph_package(tmp_path / "tiny", max_spacing_mm=0.7)
    detector = Detector(package, device="cpu")
    volume, _ = radiograph(1, (0.6, 0.65))
    detector.detect(volume)
    assert not caplog.records
    detector.detect(radiograph(1, (0.6, 0.9))[0])
    assert "0.90 mm" in caplog.text


def test_a_volume_is_refused_by_a_model_for_radiographs(simple):
    with pytest.raises(InputError, match=r"'tiny-radiograph' reads radiographs.* 4 x 5 x 6 voxels: choose a single"):
        simple.detect(Volume(np.zeros((4, 5, 6)), np.eye(4)))


@pytest.mark.parametrize("shape", list(permutations((1, 40, 50))))
def test_a_radiograph_is_refused_by_a_model_for_volumes(tmp_path, shape):
    detector = Detector(write_tiny_package(tmp_path / "tiny"), device="cpu")
    with pytest.raises(InputError, match="'tiny' reads volumes, but this scan is a single slice: choose the whole"):
        detector.detect(Volume(np.zeros(shape), np.eye(4)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": [64, 64, 32]}, "shape.*'hyatt' reads radiographs.*one slice"),
        ({"network": VOLUME_NETWORK}, "shape.*'h3denet' reads volumes.*more than one slice"),
        ({"network": {"architecture": "magic", "settings": {}}}, "network.*magic.*h3denet"),
        ({"shape": [64, 64, 32], "network": VOLUME_NETWORK, "turned_degrees": 8}, "turned_degrees.*radiographs"),
        ({"turned_degrees": -8}, "turned_degrees"),
    ],
)
def test_a_network_that_does_not_fit_its_crops_is_named(change, words):
    with pytest.raises(FormatError, match=words):
        stage_design(**change)


def test_a_package_is_for_radiographs_or_for_volumes(tmp_path):
    with pytest.raises(ModelPackageError, match=r"stages\[1\].shape.*one slice"):
        write_tiny_radiograph_package(
            tmp_path / "tiny", flat_stage("localizer"), flat_stage("refiner", shape=[32, 32, 32])
        )


def test_networks_see_rows_and_columns_and_their_maps_come_back_the_other_way_round():
    layout = NetworkIO.of(stage_design())
    crop = np.arange(12, dtype=np.float32).reshape(1, 1, 4, 3, 1)
    image = layout.to_network(crop)
    assert image.shape == (1, 1, 3, 4) and image[0, 0, 2, 1] == crop[0, 0, 1, 2, 0]
    (back,) = layout.from_network([to_tensor(image)])
    np.testing.assert_array_equal(to_array(back), crop)


def test_evidence_of_the_published_decoding_tells_presence_and_one_place_from_many():
    levels = [
        gaussian_maps(cells_of(torch.tensor([[[20.0, 33.0]]]), s), (64 // s, 48 // s), w)
        for s, w in zip((4, 2, 1), (2, 2, 4))
    ]
    noise = [torch.rand(level.shape, generator=torch.Generator().manual_seed(0)) * 0.2 for level in levels]
    one, many = (decode_published_hyatt([level[0, ..., None] for level in maps], ()) for maps in (levels, noise))
    np.testing.assert_allclose(one.index, [[20, 33, 0]], atol=0.6)
    assert many.presence_logit[0] < -2 < 2 < one.presence_logit[0]
    assert many.concentration[0] < 0.3 < 0.9 < one.concentration[0] <= 1


def test_crops_may_lie_anywhere_on_the_sheet(simple):
    """A motion of sheet and grid together changes nothing but the frame."""
    network, image = simple.networks[0], np.random.default_rng(0).random((64, 64, 1), dtype=np.float32)
    nothing = Pose(np.eye(3), np.zeros(3))
    grids = [crop_grid(center, np.eye(3), 1.0, (64, 64, 1)) for center in ([0, 0, 0.0], [11, -7, 0.0])]
    here, there = (network.find(image, grid, network.groups[0], nothing).positions for grid in grids)
    np.testing.assert_allclose(there - here, np.tile([11.0, -7, 0], (3, 1)), atol=1e-9)
