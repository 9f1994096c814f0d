"""A scheme of a user's own: sizes and stages follow from the cases, and the same loop trains them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_projects import SCHEME, add_cases, corrected, scan_of, toy_base, toy_project

from H3DELandmarksLib.cases import CaseLandmark, ReviewState, create_project
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.networks import build_network
from H3DELandmarksLib.networks.arrays import to_array
from H3DELandmarksLib.retraining.new_model import MAX_VOXELS, Anatomy, new_stages, plan_new_model
from H3DELandmarksLib.retraining.run import retrain, start_run
from H3DELandmarksLib.training.checkpoints import averaged_weights

OWN = LandmarkScheme(
    "clinic", "1", tuple(LandmarkDefinition(n, f"the {n}") for n in ("Chin", "Left", "Right")), (("Left", "Right"),)
)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return toy_project(tmp_path_factory.mktemp("own") / "project", 5, OWN)


def anatomy(extent, voxel, field_of_view, canonical_pose=False):
    return Anatomy(np.array(extent, float), voxel, voxel, np.array(field_of_view, float), canonical_pose)


@pytest.mark.parametrize(
    ("extent", "voxel", "field_of_view"),
    [
        ((90, 110, 70), 0.4, (160, 160, 120)),
        ((12, 22, 9), 0.1, (20, 30, 18)),
        ((150, 130, 200), 3.0, (500, 400, 600)),
        ((5, 5, 5), 0.03, (300, 300, 300)),
    ],
)
def test_crops_hold_all_points_and_are_small_enough_to_train_on(extent, voxel, field_of_view):
    stages = new_stages(anatomy(extent, voxel, field_of_view), OWN, 10, None, None)
    assert [stage.name for stage in stages] in (["localizer"], ["localizer", "refiner"])
    for stage in stages:
        size = np.array(stage.shape) * stage.spacing_mm
        assert (size >= np.minimum(extent, field_of_view)).all()
        assert np.prod(stage.shape) <= MAX_VOXELS and min(stage.shape) >= 32
        assert stage.spacing_mm >= 0.99 * voxel
    if len(stages) == 2:
        assert stages[1].spacing_mm < stages[0].spacing_mm


def test_no_closer_look_where_it_would_show_nothing_finer():
    assert len(new_stages(anatomy((40, 40, 40), 2.0, (60, 60, 60)), OWN, 10, None, None)) == 1
    assert len(new_stages(anatomy((40, 40, 40), 0.3, (60, 60, 60)), OWN, 10, None, None)) == 2


def test_only_a_scheme_with_pairs_is_mirrored():
    lone = LandmarkScheme("heart", "1", OWN.landmarks)
    for scheme, share in ((OWN, 0.5), (lone, 0.0)):
        (stage, *_) = new_stages(anatomy((8, 8, 8), 1.0, (32, 32, 32)), scheme, 5, None, None)
        assert stage.augmentation.mirror == share


def test_scans_that_lie_alike_are_searched_as_they_lie_and_others_in_every_pose(project, tmp_path):
    assert plan_new_model(project, "clinic", steps=2).plan.stages[0].poses == "scan"
    turned = create_project(tmp_path / "turned", OWN)
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    for seed in range(5):
        turn = quarter if seed % 2 else np.eye(3)
        affine = np.eye(4)
        affine[:3, :3] = turn
        points = [CaseLandmark(p.name, p.state, turn @ p.position) for p in corrected(seed, OWN)]
        turned.add(Volume(scan_of(seed).array, affine), points)
    decided = plan_new_model(turned, "clinic", steps=2)
    assert decided.sees_canonical_pose and decided.plan.stages[0].poses == "cube-rotations"


def test_a_new_scheme_trains_to_a_package_that_detects(project, tmp_path):
    candidate = retrain(start_run(tmp_path / "run", plan_new_model(project, "clinic", steps=3)), "cpu")
    candidate.verify()
    assert (candidate.id, candidate.version, candidate.scheme) == ("clinic", "0.1.0", OWN)
    found = Detector(candidate, "cpu", "torch").detect(scan_of(9))
    assert found.names == OWN.names and np.isfinite(found.radius)[found.present].all() and found.present.any()
    lineage = candidate.manifest.training["lineage"]
    assert "base" not in lineage and len(lineage["cases"]) == 5
    assert "Started from random weights" in candidate.model_card()


@pytest.mark.slow
def test_a_new_scheme_is_learnt(project, tmp_path):
    decided = plan_new_model(project, "clinic", steps=150)
    candidate = retrain(start_run(tmp_path / "run", decided), "cpu")
    detector = Detector(candidate, "cpu", "torch")
    errors = []
    for seed in range(60, 63):
        found = detector.findings(scan_of(seed)).positions
        errors.append(np.linalg.norm(found - [p.position for p in corrected(seed, OWN)], axis=1).mean())
    assert np.mean(errors) < 2


def test_an_encoder_is_taken_over_with_its_networks_settings_and_nothing_else(project, tmp_path):
    donor = toy_base(tmp_path / "donor")
    decided = plan_new_model(project, "clinic", donor, steps=1)
    settings = decided.plan.stages[0].network.settings
    assert settings["dims"] == donor.manifest.stages[0].network.settings["dims"]
    (stage,) = decided.plan.stages[:1]
    slow = replace(stage, training=replace(stage.training, learning_rate=1e-9))
    decided = replace(decided, plan=replace(decided.plan, stages=(slow, *decided.plan.stages[1:])))
    record = start_run(tmp_path / "run", decided)
    candidate = retrain(record, "cpu")
    given = donor.load_weights("localizer.safetensors")
    weights = averaged_weights(tmp_path / "run" / "localizer" / "checkpoint.safetensors")
    torch.manual_seed(slow.training.seed)
    fresh = build_network(slow.network.architecture, slow.network.settings).state_dict()
    for name, value in weights.items():
        expected = given[name] if name.startswith("encoder.") else to_array(fresh[name])
        assert name.startswith("head.") or np.allclose(to_array(value), expected, atol=1e-5), name
    assert candidate.manifest.training["lineage"]["encoder_from"]["id"] == donor.id


@pytest.mark.parametrize(("model_id", "sentence"), [("mouse-skull", "already"), ("My Model", "small letters")])
def test_ids_that_are_taken_or_malformed_are_refused(project, model_id, sentence):
    with pytest.raises(InputError, match=sentence):
        plan_new_model(project, model_id)


def test_a_landmark_that_nobody_placed_is_named(tmp_path):
    project = create_project(tmp_path / "project", SCHEME)
    for seed in range(5):
        points = [p if p.name != "Middle" else CaseLandmark(p.name, ReviewState.ABSENT) for p in corrected(seed)]
        project.add(scan_of(seed), points)
    with pytest.raises(InputError, match="nobody has placed Middle"):
        plan_new_model(project, "clinic")


def test_four_cases_are_too_few_for_a_new_model(tmp_path):
    project = create_project(tmp_path / "project", OWN)
    add_cases(project, range(4))
    with pytest.raises(InputError, match="at least 5 corrected cases"):
        plan_new_model(project, "clinic")


def test_radiographs_are_told_what_to_do_instead(tmp_path):
    project = create_project(tmp_path / "project", OWN)
    for seed in range(5):
        flat = Volume(scan_of(seed).array[:, :, 8:9], np.eye(4))
        points = [CaseLandmark(p.name, p.state, p.position * [1, 1, 0]) for p in corrected(seed, OWN)]
        project.add(flat, points)
    with pytest.raises(InputError, match="retrain a model that reads them"):
        plan_new_model(project, "clinic")
