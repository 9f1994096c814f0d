"""Configurations for published data sets: complete, and trainable from what `convert` writes."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.formats.manifest import Intensity
from H3DELandmarksLib.formats.network_settings import Network
from H3DELandmarksLib.models import find_model
from H3DELandmarksLib.networks import build_network
from H3DELandmarksLib.networks.arrays import to_array
from H3DELandmarksLib.training.warm_start import load_initial_weights
from H3DELandmarksResearch.converters.radiograph_sets import RADIOGRAPH_SETS
from H3DELandmarksResearch.phantom.scheme import MOLAR_SCHEME
from H3DELandmarksResearch.training.configuration import CONFIGURATIONS, read_configuration
from H3DELandmarksResearch.training.run import train_stage

PHANTOM = "mandibular-molar-phantom"
TINY = {
    "dims": [8, 8, 8, 8, 8],
    "heads": [2, 2, 2, 2, 2],
    "n_win": [2, 2, 2, 1],
    "topk": [1, 1, 1, 1],
    "mlp_ratios": [1, 1, 1, 1, 1],
    "neck_dim": 8,
    "image_dim": 4,
}


def stored(name: str) -> dict:
    return json.loads((CONFIGURATIONS / f"{name}.json").read_text(encoding="utf-8"))


def changed(folder: Path, name: str, change) -> Path:
    """The bundled configuration with what `change` does to it and the data in `folder`, as a file of its own."""
    values = stored(name)
    values["data"]["folder"] = str(folder / "cases")
    change(values)
    for file in (f"{name}.json", values["scheme"]):
        (folder / file).write_text((CONFIGURATIONS / file).read_text(encoding="utf-8"), encoding="utf-8")
    (folder / f"{name}.json").write_text(json.dumps(values))
    return folder / f"{name}.json"


def two_steps(values: dict) -> None:
    for stage in values["stages"]:
        for name in ("epochs", "warmup_epochs"):
            stage["training"].pop(name, None)
        stage["training"].update(steps=2, batch=1, validate_every=2, warmup=1)


# Radiographs


def write_cephalograms(folder: Path) -> None:
    """A COCO set of five pictures whose points are bright dots at places that differ a little."""
    names = RADIOGRAPH_SETS["isbi2015"].names
    for number, subset in enumerate(("train", "train", "train", "test", "test")):
        random = np.random.default_rng(number)
        points = np.stack([20 + 5 * np.arange(len(names)), 40 + 30 * np.cos(np.arange(len(names)))], 1)
        points = np.rint(points + random.uniform(-3, 3, 2)).astype(int)
        array = random.integers(10, 60, (100, 140)).astype(np.uint8)  # no picture repeats another
        array[points[:, 1], points[:, 0]] = 220
        (folder / "images").mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / "images" / f"{number}.png"))
        path = folder / f"{subset}.json"
        data = json.loads(path.read_text()) if path.exists() else {"images": [], "annotations": []}
        data["images"].append({"id": number, "file_name": f"{number}.png", "width": 140, "height": 100})
        keypoints = [int(value) for x, y in points for value in (x, y, 2)]
        data["annotations"].append({"id": number, "image_id": number, "keypoints": keypoints})
        path.write_text(json.dumps(data))


# Of the authors' files: learning rate, epochs, of them warm-up, share of mirrored samples, input and looks.
PUBLISHED = {
    "isbi2015": (4.5e-4, 200, 50, 0.4, (1024, 1216, 1), 2),
    "cepha29": (4e-4, 200, 50, 0.3, (1024, 1216, 1), 2),
    "hand": (3e-4, 150, 50, 0.3, (1024, 1216, 1), 2),
    "cephadoadu": (3e-4, 150, 50, 0.4, (1024, 1024, 1), 2),
    "pelvis": (3e-4, 100, 100, 0.0, (512, 512, 1), 1),
}


@pytest.mark.parametrize("name", RADIOGRAPH_SETS)
def test_every_radiograph_set_has_a_configuration_with_its_points(name):
    configured = read_configuration(CONFIGURATIONS / f"{name}.json")
    names = RADIOGRAPH_SETS[name].names
    (stage,) = configured.record.stages
    assert configured.scheme.names == names == stage.groups[0].landmarks
    assert stage.network == Network("hyatt", {"landmarks": len(names), "mask_padding": False})
    recipe = stage.training
    assert PUBLISHED[name] == (
        recipe.learning_rate,
        recipe.epochs,
        recipe.warmup_epochs,
        stage.augmentation.mirror,
        stage.shape,
        stage.views,
    )
    assert (recipe.loss, recipe.cosine, stage.fit, stage.sampling) == ("published-hyatt", "from-start", 1.25, "linear")
    assert configured.record.intensity == Intensity("window", 0, 255) and configured.record.outside == 0
    shift = 0.15 * np.array(stage.shape[:2]) * stage.spacing_mm
    assert np.allclose(stage.augmentation.shift_mm[:2], shift, atol=0.01)
    assert all(point.definition for point in configured.scheme.landmarks)
    assert configured.record.data.folder == f"${{H3DE_DATA}}/{name}"


def test_isbi2015_trains_from_what_convert_writes(tmp_path):
    write_cephalograms(tmp_path / "set")
    words = ["--set", "isbi2015", "--hold-out", "3"]
    assert main(["convert", "coco", str(tmp_path / "set"), str(tmp_path / "cases"), *words]) == 0

    def small(values: dict) -> None:
        (stage,) = values["stages"]
        stage["training"].update(epochs=2, warmup_epochs=1, validate_every=2)
        stage.update(shape=[160, 128, 1], spacing_mm=0.1)
        stage["network"]["settings"].update(TINY, norm="group")
        stage["augmentation"]["shift_mm"] = 1.0

    configured = read_configuration(changed(tmp_path, "isbi2015", small))
    assert configured.split() == {"train": ["0", "1"], "validation": ["2"], "test": ["3", "4"]}
    trainer = train_stage(configured, 0, tmp_path / "run", resume=False)
    assert trainer.step == 2
    assert (trainer.settings.steps, trainer.settings.warmup) == (2, 1)  # 2 epochs of 2 cases, 2 a step
    assert trainer.schedule.get_last_lr()[0] == 0
    curve = next((tmp_path / "run" / "localizer").glob("*.csv")).read_text().splitlines()
    assert len(curve) == 2 and "nan" not in curve[1]


# Molars


def write_molars(folder: Path) -> None:
    """The MML set in small: boxes of 8-bit values, in which the points of a plain jaw are bright."""
    side = np.array([(0, 0, 12), (0, 0, 4), (0, -2, 0), (0, 2, 0), (0, 10, 12), (0, 8, 0), (0, 12, 0)], float)
    jaw = np.concatenate([side + [34, 10, 10], side + [10, 10, 10]])
    for number, subset in enumerate(("train", "train", "val", "test")):
        index = np.rint(jaw + np.random.default_rng(number).uniform(-2, 2, 3))
        array = np.full((46, 36, 34), 20, np.uint8)
        array[tuple(index.astype(int).T)] = 250
        index[3 * number % 14] = -1000
        (folder / subset).mkdir(parents=True, exist_ok=True)
        stem = folder / subset / f"{number}"
        sitk.WriteImage(sitk.GetImageFromArray(np.ascontiguousarray(array.T)), f"{stem}_volume.nrrd")
        np.save(f"{stem}_label.npy", index)
        np.save(f"{stem}_spacing.npy", np.ones(3))


def test_mml_starts_from_the_phantoms_model_with_its_points_and_networks():
    mml, phantom = stored("mml"), stored(PHANTOM)
    assert read_configuration(CONFIGURATIONS / "mml.json").scheme == MOLAR_SCHEME
    assert mml["start_from"] == PHANTOM and mml["thresholds_mm"] == [2, 2.5, 3, 4]
    for key in ("name", "network", "spacing_mm", "shape", "groups", "decoding"):
        assert [stage[key] for stage in mml["stages"]] == [stage[key] for stage in phantom["stages"]]


def test_mml_trains_from_what_convert_writes_and_from_the_phantoms_weights(tmp_path):
    write_molars(tmp_path / "mml")
    assert main(["convert", "mml", str(tmp_path / "mml"), str(tmp_path / "cases")]) == 0

    def short(values: dict) -> None:
        two_steps(values)
        for stage in values["stages"]:
            stage["shape"] = [48, 48, 48]
            stage["training"]["learning_rate"] = 1e-9

    configured = read_configuration(changed(tmp_path, "mml", short))
    trainer = train_stage(configured, 1, tmp_path / "run", resume=False)
    started = find_model(PHANTOM).load_weights("refiner.safetensors")
    assert trainer.step == 2
    for name, value in trainer.network.state_dict().items():
        assert np.allclose(to_array(value), started[name], atol=1e-4), name


# Starting from another model


def test_a_network_takes_all_weights_of_the_same_stage():
    package = find_model(PHANTOM)
    network = build_network(**stored(PHANTOM)["stages"][0]["network"])
    load_initial_weights(network, package, "localizer")
    weights = package.load_weights("localizer.safetensors")
    assert network.state_dict().keys() == weights.keys()
    assert all(np.array_equal(to_array(value), weights[n].astype("f4")) for n, value in network.state_dict().items())


def test_other_landmarks_keep_their_own_output_layer():
    settings = stored(PHANTOM)["stages"][0]["network"]["settings"] | {"landmarks": 3}
    network = build_network("h3denet", settings)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    load_initial_weights(network, find_model(PHANTOM), "localizer")
    kept = [name for name, value in network.state_dict().items() if torch.equal(value, before[name])]
    assert {"head.weight", "head.bias"} <= set(kept)
    assert len(kept) < len(before) / 2


def test_another_network_or_stage_is_refused():
    settings = stored(PHANTOM)["stages"][0]["network"]["settings"] | {"dims": [32, 64, 96, 64]}
    with pytest.raises(InputError, match="another network"):
        load_initial_weights(build_network("h3denet", settings), find_model(PHANTOM), "localizer")
    with pytest.raises(InputError, match="no stage 'finder'"):
        load_initial_weights(build_network("h3denet", settings), find_model(PHANTOM), "finder")


def test_a_split_without_test_cases_or_with_one_that_teaches_is_refused(tmp_path):
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "split.json").write_text(json.dumps({"train": ["a"], "validation": ["b"], "test": []}))
    configured = read_configuration(changed(tmp_path, "mml", two_steps))
    with pytest.raises(InputError, match="no cases for test"):
        configured.split()
    for judges in ({"validation": ["b"], "test": ["a"]}, {"validation": ["b", "a"], "test": ["c"]}):
        (tmp_path / "cases" / "split.json").write_text(json.dumps({"train": ["a"], "faulty": ["a"], **judges}))
        with pytest.raises(InputError, match="'a' stands in train and in"):
            configured.split()
    (tmp_path / "cases" / "split.json").unlink()
    with pytest.raises(InputError, match="does not exist"):
        configured.split()
