"""From a configuration to a package that detects: the whole of training in small."""

import json

import numpy as np
import pytest

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.io.images import read_volume, write_volume
from H3DELandmarksLib.io.markups import write_markups
from H3DELandmarksLib.models import open_package
from H3DELandmarksResearch.training.run import run_training

NAMES = ["left", "right", "top"]
SHAPE = np.array([[9.0, 0, 0], [-9.0, 0, 0], [0.0, 3, 11]])
NETWORK = {
    "landmarks": 3,
    "stem_channels": [8, 16],
    "dims": [16, 16, 16, 16],
    "depths": [1, 1, 1, 1],
    "decoder_dims": [16, 16, 16],
    "fine_dims": [8, 8],
    "output_stride": 2,
}
TRAINING = {
    "steps": 2,
    "batch": 1,
    "learning_rate": 2e-3,
    "weight_decay": 0.01,
    "warmup": 1,
    "ema": 0.5,
    "sigma": 1.0,
    "validate_every": 2,
    "checkpoint_seconds": 60,
    "seed": 1,
}


def write_case(folder, name: str, seed: int) -> None:
    points = SHAPE + np.random.default_rng(seed).uniform(-2, 2, 3) + [20, 20, 20]
    lps = np.stack(np.meshgrid(*[np.arange(40.0)] * 3, indexing="ij"), -1)
    array = sum(1000 / (k + 1) * np.exp(-((np.linalg.norm(lps - p, axis=-1) / 2) ** 2)) for k, p in enumerate(points))
    write_volume(folder / f"{name}.nrrd", Volume(array.astype(np.int16), np.eye(4)))
    write_markups(folder / f"{name}.mrk.json", LandmarkSet(tuple(NAMES), points))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    names = [f"case{k}" for k in range(5)]
    for seed, name in enumerate(names):
        write_case(folder, name, seed)
    stage = {
        "network": {"architecture": "h3denet", "settings": NETWORK},
        "shape": [32, 32, 32],
        "training": TRAINING,
        "groups": [{"landmarks": NAMES, "mirrored": False}],
        "decoding": {"method": "softmax"},
        "augmentation": {},
    }
    scheme = {
        "id": "blobs",
        "version": "1",
        "landmarks": [{"name": n, "definition": f"the {n} blob"} for n in NAMES],
        "pairs": [["left", "right"]],
    }
    (folder / "scheme.json").write_text(json.dumps(scheme))
    values = {
        "id": "blobs",
        "version": "0.1.0",
        "title": "Blobs",
        "description": "Three blobs.",
        "modality": "CT",
        "anatomy": "none",
        "intended_use": "tests",
        "limitations": ["finds blobs"],
        "tolerance_mm": 3.0,
        "license": {"weights": "CC0-1.0", "data": "CC0-1.0"},
        "own_frame": True,
        "scheme": "scheme.json",
        "intensity": {"method": "window", "low": 0, "high": 1000},
        "data": {
            "reader": "case-folder",
            "folder": str(folder),
            "split": {"train": names[:2], "validation": names[2:4], "test": names[4:]},
        },
        "stages": [
            {**stage, "name": "localizer", "spacing_mm": 2.0, "poses": "cube-rotations"},
            {**stage, "name": "refiner", "spacing_mm": 1.0, "poses": "found", "views": 2},
        ],
    }
    (folder / "blobs.json").write_text(json.dumps(values))
    return folder


@pytest.fixture(scope="module")
def finished(project):
    run_training(project / "blobs.json", project / "run")
    return project / "run"


def test_a_run_ends_with_a_package_that_verifies_and_detects(project, finished):
    package = open_package(finished / "package")
    package.verify()
    found = Detector(package, device="cpu").detect(read_volume(project / "case4.nrrd"))
    assert found.names == tuple(NAMES)
    assert np.isfinite(found.radius).all() and (found.radius > 0).all()


def test_the_manifest_and_the_card_say_what_it_was_trained_on_but_not_where_it_lay(project, finished):
    package = open_package(finished / "package")
    assert package.manifest.training["data"]["split"]["test"] == ["case4"]
    assert package.manifest.accuracy["test"]["cases"]
    assert str(project) not in json.dumps(package.content) + package.model_card()
    assert "the top blob" in package.model_card() and "Not for clinical use" in package.model_card()


def test_weights_are_stored_in_half_precision(finished):
    weights = open_package(finished / "package").load_weights("refiner.safetensors")
    assert {str(value.dtype) for value in weights.values()} <= {"float16", "int64"}


def test_resuming_a_finished_run_only_writes_the_package_again(finished, project):
    before = (finished / "refiner" / "checkpoint.pt").read_bytes()
    run_training(project / "blobs.json", finished, resume=True)
    assert (finished / "refiner" / "curve.csv").read_text().count("\n") == 2
    assert len((finished / "refiner" / "checkpoint.pt").read_bytes()) == len(before)


def test_a_package_needs_every_stage(project, tmp_path):
    run_training(project / "blobs.json", tmp_path, stages=["refiner"], package=False)
    with pytest.raises(InputError, match="localizer"):
        run_training(project / "blobs.json", tmp_path, stages=[])


def test_an_earlier_run_is_never_overwritten(project, finished):
    before = (finished / "localizer" / "checkpoint.pt").read_bytes()
    with pytest.raises(InputError, match="--resume"):
        run_training(project / "blobs.json", finished)
    assert (finished / "localizer" / "checkpoint.pt").read_bytes() == before


def test_a_scan_of_air_holds_no_landmark_in_any_pose(finished):
    detector = Detector(open_package(finished / "package"), device="cpu")
    assert not detector.detect(Volume(np.zeros((40, 40, 40), np.int16), np.eye(4))).present.any()


def test_an_unknown_stage_is_named(project, tmp_path):
    with pytest.raises(InputError, match="no stage 'polisher'"):
        run_training(project / "blobs.json", tmp_path, stages=["polisher"])
