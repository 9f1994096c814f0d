"""The models that are shipped, on scans that their training never saw."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.io.images import read_volume
from H3DELandmarksLib.models import find_model, open_package
from H3DELandmarksLib.models.registry import bundled_folder
from H3DELandmarksResearch.cases.case_folder import read_case
from H3DELandmarksResearch.phantom import generate_phantom
from H3DELandmarksResearch.radiographs import make_radiograph, read_recipe
from H3DELandmarksResearch.radiographs.subjects import phantom_subject
from H3DELandmarksResearch.training.card import trained_card

ROOT = Path(__file__).resolve().parents[2]
MOUSE_DATA = ROOT.parent / "shared" / "data" / "mouse-skull"
CEPHALOGRAMS = ROOT.parent / "shared" / "data" / "isbi2015-cephalogram"
BUNDLED = sorted(path.name for path in bundled_folder().iterdir())
FRESH_SEEDS = {777001: ("L-M3",), 777002: ("R-M2", "R-M3"), 777003: ("L-M2",)}


def bundled(model: str):
    return open_package(bundled_folder() / model)


@pytest.fixture(scope="module")
def jaw_detector():
    return Detector(bundled("mandibular-molar-phantom"), device="cpu")


@pytest.fixture(scope="module")
def jaws():
    return [generate_phantom(seed, missing=missing, spacing=0.5) for seed, missing in FRESH_SEEDS.items()]


@pytest.fixture(scope="module")
def found_in_jaws(jaw_detector, jaws):
    return [jaw_detector.detect(jaw.volume) for jaw in jaws]


@pytest.mark.parametrize("model", BUNDLED)
def test_packages_are_whole_and_honest_about_their_use(model):
    package = bundled(model)
    package.verify()
    card = package.model_card()
    assert "Not for clinical use" in card and "test:" in card
    assert all(landmark.definition in card for landmark in package.scheme.landmarks)
    assert find_model(model).manifest.license.weights


@pytest.mark.parametrize("model", BUNDLED)
def test_cards_say_what_their_manifests_say(model):
    package = bundled(model)
    card = package.model_card().splitlines()
    written_anew = re.split(r"^## Accuracy.*?(?=^## )", trained_card(package.manifest), flags=re.DOTALL | re.MULTILINE)
    assert not [line for part in written_anew for line in part.splitlines() if line not in card]


def test_all_packages_together_stay_below_forty_megabytes():
    assert sum(path.stat().st_size for path in bundled_folder().rglob("*") if path.is_file()) < 40e6


@pytest.mark.parametrize("model", BUNDLED)
def test_every_model_says_what_it_was_trained_on_and_how_far_it_can_be_trusted(model):
    manifest = bundled(model).manifest
    assert manifest.accuracy["test"]["n"] > 100 and 0.8 < manifest.accuracy["test"]["coverage"] < 0.97
    assert manifest.training["data"] and manifest.limitations


def test_molars_of_new_phantoms_are_found_within_a_millimeter(jaws, found_in_jaws):
    errors = [np.linalg.norm(f.positions - jaw.landmarks.positions, axis=1) for f, jaw in zip(found_in_jaws, jaws)]
    assert np.nanmean(np.concatenate(errors)) < 1.0


def test_missing_molars_of_new_phantoms_are_reported_absent(jaws, found_in_jaws):
    right = np.concatenate([f.present == jaw.landmarks.present for f, jaw in zip(found_in_jaws, jaws)])
    assert right.mean() >= 0.9  # where both molars behind it are missing, the first molar is taken for the second one


def test_the_file_s_axis_order_changes_nothing(jaw_detector, jaws, found_in_jaws):
    volume = jaws[0].volume
    flipped = volume.affine.copy()
    flipped[:3, 3] += flipped[:3, 1] * (volume.array.shape[1] - 1)
    flipped[:3, 1] *= -1
    stored = Volume(np.flip(volume.array, 1).transpose(2, 0, 1), flipped[:, [2, 0, 1, 3]])
    again = jaw_detector.detect(stored)
    assert np.allclose(again.positions, found_in_jaws[0].positions, atol=1e-4, equal_nan=True)


def test_a_resampled_and_tilted_copy_gives_the_same_points_within_a_voxel(jaw_detector, jaws, found_in_jaws):
    from H3DELandmarksLib.core.geometry import crop_grid, resample

    volume = jaws[0].volume
    axes = Rotation.from_rotvec([0.05, -0.04, 0.06]).as_matrix()
    tilted = resample(volume, crop_grid(volume.grid.center, axes, 0.5, volume.array.shape), -1000)
    distance = np.linalg.norm(jaw_detector.detect(tilted).positions - found_in_jaws[0].positions, axis=1)
    assert np.nanmedian(distance) < 0.5


def test_an_empty_field_and_soft_tissue_alone_hold_no_molars(jaw_detector):
    air = Volume(np.full((80, 80, 60), -1000, np.int16), np.eye(4))
    assert not jaw_detector.detect(air).present.any()
    water = Volume(np.random.default_rng(0).normal(20, 40, (80, 80, 60)).astype(np.int16), np.eye(4))
    assert not jaw_detector.detect(water).present.any()


@pytest.mark.skipif(not MOUSE_DATA.is_dir(), reason="the mouse skulls (../shared/data) are not here")
@pytest.mark.parametrize("name", ["C57L_J", "NU_J"])
def test_mouse_points_are_found_in_any_pose_within_four_tenths_of_a_millimeter(name):
    package = bundled("mouse-skull")
    assert name in package.manifest.training["data"]["split"]["test"]
    volume, truth = read_case(MOUSE_DATA, name, package.scheme.names)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec([2.0, -0.7, 1.1]).as_matrix()
    found = Detector(package, device="cpu").detect(Volume(volume.array, turn @ volume.affine))
    error = np.linalg.norm(found.positions - truth.positions @ turn[:3, :3].T, axis=1)
    assert found.present.all() and error.mean() < 0.4


@pytest.mark.skipif(not CEPHALOGRAMS.is_dir(), reason="the cephalograms (../shared/data) are not here")
@pytest.mark.parametrize("name", ["152", "205", "290"])
def test_points_of_cephalograms_are_found_as_two_readers_mark_them(name):
    package = bundled("cephalogram")
    assert name in package.manifest.training["data"]["split"]["test"]
    volume = read_volume(CEPHALOGRAMS / "RawImage" / "Test1Data" / f"{name}.jpg", (0.1999, 0.2))
    readers = []
    for reader in ("400_senior", "400_junior"):
        (path,) = CEPHALOGRAMS.rglob(f"{reader}/**/{name}.txt")
        readers.append(np.loadtxt(path, delimiter=",", max_rows=19) * (0.1999, 0.2))
    found = Detector(package, device="cpu").detect(volume)
    error = np.linalg.norm(found.positions[:, :2] - np.mean(readers, axis=0), axis=1)
    assert found.present.all() and np.median(error) < 1.5
    assert np.mean(error <= found.radius) > 0.6


def test_a_simulated_radiograph_of_a_jaw_is_not_taken_for_a_cephalogram():
    subject, recipe = phantom_subject(777004), read_recipe("mandibular-molar")
    taken = make_radiograph(subject, recipe, "oblique-left", np.random.default_rng(777))
    found = Detector(bundled("cephalogram"), device="cpu").detect(taken.volume)
    assert not found.present.any()


def test_the_demo_finds_the_sample_s_molars(tmp_path):
    command = [sys.executable, "-m", "H3DELandmarksLib", "demo", "--output", str(tmp_path), "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    entries = json.loads(done.stdout)["landmarks"]
    errors = [entry["error_mm"] for entry in entries if entry["error_mm"] is not None]
    assert len(errors) == 11 and np.mean(errors) < 1.0
    assert {entry["name"] for entry in entries if entry["state"] == "absent"} == {"Ld", "Le", "Lf"}
    for suffix in (".mrk.json", ".csv", ".png"):
        assert (tmp_path / f"mandibular-molar-phantom{suffix}").stat().st_size > 500


def test_nothing_that_is_said_of_the_spine_model_claims_a_millimeter():
    package = bundled("spine")
    measured, facts = package.manifest.measured, package.model_card().split("## Origin")[0]
    worse = replace(measured, median_mm=2 * measured.tolerance_mm).caution()
    assert " px off" in worse and " mm off" not in worse + measured.caution()
    assert "no millimeter is claimed" in facts
