"""Training on radiographs: samples stay in the plane, every loss for heat maps learns, and the package detects."""

import json

import numpy as np
import pytest
import torch
from flat_cases import BRIGHTNESS, NAMES, NETWORK, PLANES, SCHEME, distance_to_plane, radiograph, stored_otherwise
from typed import crop_sampler, reading, stage_trainer, training, typed_stage

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.shape_model import learn_shape_model
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.formats.reading import FormatError
from H3DELandmarksLib.formats.training import DEFAULT_LOSS
from H3DELandmarksLib.io.images import read_volume, write_volume
from H3DELandmarksLib.io.markups import write_markups
from H3DELandmarksLib.models import open_package
from H3DELandmarksLib.networks import build_network
from H3DELandmarksLib.networks.arrays import to_array
from H3DELandmarksLib.training.calibration import truncated_case
from H3DELandmarksLib.training.cases import Case, prepare_case
from H3DELandmarksLib.training.loop import StageTrainer
from H3DELandmarksLib.training.losses import choose_objective, start_at_background
from H3DELandmarksLib.training.sampling import draw_batch
from H3DELandmarksResearch.training.configuration import find_configuration, read_configuration
from H3DELandmarksResearch.training.run import run_training, train_stage

DECODING = {
    "spatial-cross-entropy": {"method": "softmax"},
    "published-heatmap": {"method": "published-heatmap", "voxels": 12},
    "gaussian-bce": {"method": "peak"},
    "ball-bce": {"method": "peak", "radius": 3},
    "published-hyatt": {"method": "published-hyatt"},
}
LOSS_SETTINGS = {"published-heatmap": {"radius": 4.0}, "gaussian-bce": {"sigma": 1.5}, "ball-bce": {"radius": 3.0}}
STAGE = {
    "name": "spots",
    "network": NETWORK,
    "spacing_mm": 1.0,
    "shape": [64, 64, 1],
    "groups": [{"landmarks": list(NAMES), "mirrored": False}],
    "decoding": {"method": "softmax"},
}
SETTINGS = {
    "steps": 4,
    "batch": 1,
    "learning_rate": 3e-3,
    "weight_decay": 0.01,
    "warmup": 2,
    "ema": 0.9,
    "validate_every": 2,
    "checkpoint_seconds": 3600,
    "seed": 5,
}
STRONG = {
    "mirror": 0.5,
    "scale": 0.15,
    "stretch": 0.1,
    "rotation_degrees": 80,
    "rotation_deviation_degrees": 40,
    "rotation_share": 0.6,
    "shift_mm": 5,
    "noise": 0.02,
    "truncate": 0.3,
    "contrast": 0.1,
    "distortion_share": 0.5,
}


def prepare(cases: list[Case]) -> tuple[list, object]:
    cases = [case.laid_flat() for case in cases]
    shape = learn_shape_model(np.stack([case.landmarks.positions for case in cases]), SCHEME, own_frame=False)
    return [prepare_case(case, reading(0, 1000), shape, canonical_pose=False) for case in cases], shape


@pytest.fixture(scope="module")
def data():
    planes = [*PLANES] * 2
    return prepare([Case(f"case{seed}", *radiograph(seed, plane=plane)) for seed, plane in enumerate(planes)])


def trainer(folder, data, stage=STAGE, augmentation=STRONG, **changes) -> StageTrainer:
    sampler = crop_sampler(stage, SCHEME, data[1], augmentation)
    settings = {**SETTINGS, **changes}
    if settings.get("loss", DEFAULT_LOSS) not in ("spatial-cross-entropy", "gaussian-bce"):
        settings.pop("sigma", None)
    return stage_trainer(stage, settings, sampler, folder, torch.device("cpu"))


# Samples


def test_the_image_is_bright_where_the_landmarks_are_said_to_be_and_all_lies_in_the_plane():
    cases, shape = prepare([Case(plane, *radiograph(1, plane=plane, width=4.0)) for plane in PLANES])
    sampler = crop_sampler(STAGE, SCHEME, shape, {**STRONG, "noise": 0, "contrast": 0})
    seen = 0
    for seed in range(40):
        sample = sampler.draw(cases[seed % len(cases)], np.random.default_rng(seed))
        assert sample.image.shape == (64, 64, 1) and np.abs(sample.index[:, 2]).max() < 1e-9
        place = np.rint(sample.index).astype(int)
        values = [float(sample.image[tuple(place[k])]) for k in np.flatnonzero(sample.presence == 1)]
        mirrored = values and min(values) >= 0 and abs(values[0] - BRIGHTNESS[1]) < abs(values[0] - BRIGHTNESS[0])
        expected = BRIGHTNESS[[1, 0, 2]] if mirrored else BRIGHTNESS
        if len(values) == 3:
            np.testing.assert_allclose(values, expected, atol=0.12)
            seen += 1
    assert seen > 15


def test_the_turn_is_clipped_and_only_a_share_of_samples_is_turned(data):
    settings = {key: STRONG[key] for key in ("rotation_degrees", "rotation_deviation_degrees", "rotation_share")}
    sampler, turns = crop_sampler(STAGE, SCHEME, data[1], settings), []
    for seed in range(200):
        grid = sampler._grid(data[0][0], 0, np.arange(3), False, np.random.default_rng(seed))
        axes = grid.affine[:3, :3] / grid.spacing
        np.testing.assert_array_equal(axes[2], [0, 0, 1])
        turns.append(np.degrees(np.arctan2(axes[1, 0], axes[0, 0])))
    turns = np.abs(turns)
    assert turns.max() <= 80 + 1e-6 and 0.45 < (turns > 0).mean() < 0.75 and 20 < turns[turns > 0].mean() < 45


def test_the_same_seed_gives_the_same_batch(data):
    sampler = crop_sampler(STAGE, SCHEME, data[1], STRONG)
    first, again = (draw_batch(sampler, data[0], range(2), (3, 1)) for _ in range(2))
    assert np.array_equal(to_array(first[0]), to_array(again[0]))
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(first[1:], again[1:]))
    assert first[0].shape == (2, 1, 64, 64, 1) and first[1].shape == (2, 3, 3)


def test_points_marked_beside_the_plane_are_learnt_in_it():
    volume, points = radiograph(1, plane="oblique")
    off = points.with_positions(points.positions + 3.0 * PLANES["oblique"][:, 2])
    beside, within = (Case("a", volume, landmarks).laid_flat().landmarks for landmarks in (off, points))
    np.testing.assert_allclose(beside.positions, within.positions, atol=1e-9)
    assert not beside.positions[:, 2].any()


def test_a_cut_radiograph_is_cut_along_one_of_its_sides():
    case = Case("a", *radiograph(1, plane="coronal")).laid_flat()
    for seed in range(10):
        cut = truncated_case(case, np.random.default_rng(seed))
        assert cut.volume.array.shape[2] == 1 and cut.volume.array.size < case.volume.array.size
        assert (cut.landmarks.present == cut.volume.grid.contains(cut.landmarks.positions)).all()


def test_a_share_of_radiographs_is_cut_and_counted_as_high_as_whole_ones():
    cases, shape = prepare([Case("a", *radiograph(1, plane="coronal", width=4.0))])
    height = cases[0].case.volume.grid.extent[1]
    sampler = crop_sampler(STAGE, SCHEME, shape, {"cut": 1.0})
    seen, lost, factors = 0, 0, []
    for seed in range(60):
        cut = sampler._cut(cases[0], np.random.default_rng(seed)).case
        factors.append(cut.volume.spacing[0] / cases[0].case.volume.spacing[0])
        assert cut.volume.grid.extent[1] == pytest.approx(height)
        sample = sampler.draw(cases[0], np.random.default_rng(seed))
        there = np.flatnonzero(sample.presence == 1)
        place = np.rint(sample.index[there]).astype(int)
        values = np.array([float(sample.image[tuple(each)]) for each in place])
        np.testing.assert_allclose(values, BRIGHTNESS[there], atol=0.12)
        seen, lost = seen + len(there), lost + int((sample.presence == 0).sum())
    assert 1 / 0.95 - 0.05 < min(factors) < 1.2 and 2.2 < max(factors) < 2.6
    assert seen > 40 and lost > 40


def test_only_models_that_count_pictures_as_high_learn_from_cut_ones(tmp_path):
    entries = json.loads(find_configuration("spine").read_text(encoding="utf-8"))
    entries["scheme"] = str(find_configuration("spine").with_name(entries["scheme"]))
    entries["stages"][0]["augmentation"]["cut"] = 0.3
    path = tmp_path / "spine.json"
    path.write_text(json.dumps(entries), encoding="utf-8")
    assert read_configuration(path).record.stages[0].augmentation.cut == 0.3
    del entries["height_mm"]
    path.write_text(json.dumps(entries), encoding="utf-8")
    with pytest.raises(InputError, match="cut.*height_mm"):
        read_configuration(path)


# The loop


@pytest.mark.parametrize("loss", ["spatial-cross-entropy", "published-hyatt"])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path, data, loss):
    """Also where the network leaves out branches at random."""
    stage = {
        **STAGE,
        "network": {**NETWORK, "settings": {**NETWORK["settings"], "drop_path": 0.3}},
        "decoding": DECODING[loss],
    }
    whole = trainer(tmp_path / "whole", data, stage, loss=loss)
    whole.run(data[0][:6], data[0][6:])
    killed = trainer(tmp_path / "killed", data, stage, loss=loss)
    killed._train_step(data[0][:6])
    killed.step = 1
    killed.save()
    resumed = trainer(tmp_path / "killed", data, stage, loss=loss)
    assert resumed.resume() and resumed.step == 1
    resumed.run(data[0][:6], data[0][6:])
    for name, value in whole.weights().items():
        assert torch.allclose(value, resumed.weights()[name], atol=1e-6), name


def test_statistics_of_a_batch_normalized_network_reach_the_averaged_weights(tmp_path, data):
    network = {**NETWORK, "settings": {**NETWORK["settings"], "norm": "batch"}}
    pupil = trainer(tmp_path, data, {**STAGE, "network": network}, batch=2)
    pupil.run(data[0][:6], data[0][6:])
    changed = [v for n, v in pupil.weights().items() if n.endswith("running_mean")]
    assert changed and all(value.any() for value in changed)


@pytest.mark.parametrize("loss", DECODING)
def test_every_loss_for_heat_maps_goes_with_a_network_for_radiographs(loss):
    assert typed_stage({**STAGE, "decoding": DECODING[loss], "training": {"loss": loss}}).is_2d


def test_the_anchor_loss_and_the_published_loss_need_their_heads():
    anchor = {**STAGE, "decoding": {"method": "published-anchor"}, "training": {"loss": "published-anchor"}}
    with pytest.raises(FormatError, match="anchor"):
        typed_stage(anchor)
    volumes = {
        "shape": [32, 32, 32],
        "groups": STAGE["groups"],
        "decoding": {"method": "published-hyatt"},
        "training": {"loss": "published-hyatt"},
    }
    with pytest.raises(FormatError, match="deep-supervision"):
        typed_stage(volumes)


@pytest.mark.parametrize("loss", ["spatial-cross-entropy", "published-hyatt"])
def test_training_starts_with_maps_close_to_their_background(loss):
    network = build_network(**NETWORK)
    background = [choose_objective(training(loss=loss)).background(64.0 * 64 / stride**2) for stride in (4, 2, 1)]
    start_at_background(network.head, *background)
    maps = network.eval()(torch.rand(1, 1, 64, 64))
    for level, value in zip(maps, background):
        assert (level - value).abs().max() < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("loss", DECODING)
def test_a_small_network_learns_with_it(tmp_path, data, loss):
    stage = {**STAGE, "decoding": DECODING[loss]}
    mild = {"shift_mm": 4, "noise": 0.02, "rotation_degrees": 20}
    settings = {"steps": 160, "validate_every": 160, "warmup": 10, "loss": loss, **LOSS_SETTINGS.get(loss, {})}
    pupil = trainer(tmp_path, data, stage, mild, **settings)
    before = pupil.validate(data[0][6:])["mean_mm"]
    pupil.run(data[0][:6], data[0][6:])
    after = pupil.validate(data[0][6:])
    assert after["mean_mm"] < 1.0 < 5.0 < before


# The whole of training


def write_project(folder, stages: list[dict], own_frame: bool = False) -> None:
    """Ten radiographs in different planes and storages, and a configuration."""
    names = [f"film{k}" for k in range(10)]
    for seed, name in enumerate(names):
        volume, points = radiograph(seed, plane=[*PLANES][seed % 4])
        write_volume(folder / f"{name}.nrrd", stored_otherwise(volume, (1, 2, 0), (True, False, True)))
        write_markups(folder / f"{name}.mrk.json", points)
    (folder / "scheme.json").write_text(json.dumps(SCHEME.to_dict()))
    values = {
        "id": "spots",
        "version": "0.1.0",
        "title": "Spots",
        "description": "Three spots.",
        "modality": "radiography",
        "anatomy": "none",
        "intended_use": "tests",
        "limitations": ["finds spots"],
        "tolerance_mm": 2.0,
        "license": {"weights": "CC0-1.0", "data": "CC0-1.0"},
        "own_frame": own_frame,
        "scheme": "scheme.json",
        "intensity": {"method": "percentile", "low": 0, "high": 99.95},
        "data": {
            "reader": "case-folder",
            "folder": str(folder),
            "split": {"train": names[:6], "validation": names[6:8], "test": names[8:]},
        },
        "stages": stages,
    }
    (folder / "spots.json").write_text(json.dumps(values))


def stage(name: str, steps: int, **changes) -> dict:
    training = {**SETTINGS, "steps": steps, "validate_every": steps, "warmup": min(10, steps)}
    augmentation = {"shift_mm": 4, "noise": 0.01, "rotation_degrees": 20}
    return {**STAGE, "name": name, "poses": "scan", "training": training, "augmentation": augmentation, **changes}


@pytest.mark.slow
@pytest.mark.parametrize("own_frame", [False, True])
def test_a_run_of_two_stages_ends_with_a_package_that_detects_and_can_be_resumed(tmp_path, own_frame):
    first = stage("localizer", 40, poses="cube-rotations" if own_frame else "scan", views=2)
    second = stage("refiner", 40, poses="found" if own_frame else "scan", spacing_mm=0.75)
    for each in (first, second):
        each["decoding"], each["training"]["loss"] = {"method": "published-hyatt"}, "published-hyatt"
        each["training"].pop("sigma", None)
    write_project(tmp_path, [first, second], own_frame)
    run_training(tmp_path / "spots.json", tmp_path / "run", package=False)
    run_training(tmp_path / "spots.json", tmp_path / "run", resume=True)
    package = open_package(tmp_path / "run" / "package")
    package.verify()
    assert "HYATT-Net (arXiv 2412.06499" in package.model_card() and "64 x 64 x 1" in package.model_card()
    volume = read_volume(tmp_path / "film9.nrrd")
    found = Detector(package, device="cpu").findings(volume).positions
    found = found[np.isfinite(found).all(axis=1)]
    assert len(found) and distance_to_plane(volume, found).max() < 1e-9


@pytest.mark.slow
def test_a_trained_package_finds_the_landmarks_of_an_unseen_radiograph_however_it_is_stored(tmp_path):
    write_project(tmp_path, [stage("localizer", 140), stage("refiner", 140, spacing_mm=0.75)])
    run_training(tmp_path / "spots.json", tmp_path / "run")
    detector = Detector(open_package(tmp_path / "run" / "package"), device="cpu")
    unseen = {"axial": (0.3, 0.8), "sagittal": (0.8, 0.3), "oblique": (0.5, 0.5)}
    for number, (plane, spacing) in enumerate(unseen.items()):
        volume, truth = radiograph(70 + number, spacing, plane)
        for storage in (((0, 1, 2), (False, False, False)), ((2, 0, 1), (True, True, False))):
            found = detector.detect(stored_otherwise(volume, *storage))
            assert found.present.all()
            assert np.linalg.norm(found.positions - truth.positions, axis=1).max() < 1.0
            assert distance_to_plane(volume, found.positions).max() < 1e-9


def test_volumes_are_refused_by_a_stage_for_radiographs_and_the_reverse(tmp_path):
    write_project(tmp_path, [stage("localizer", 2)])
    write_volume(tmp_path / "film1.nrrd", Volume(np.zeros((20, 20, 20), np.float32), np.eye(4)))
    write_markups(tmp_path / "film1.mrk.json", LandmarkSet(NAMES, np.ones((3, 3))))
    configuration = read_configuration(tmp_path / "spots.json")
    with pytest.raises(InputError, match="'film1' is a volume, but the stage 'localizer' .* learns from radiographs"):
        train_stage(configuration, 0, tmp_path / "run", resume=False)
