"""``models import-published``: from a published checkpoint to landmarks in a scan."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from published_networks import PublishedH3DENet, PublishedHyattNet, randomize
from torch import nn

from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.models import open_package
from H3DELandmarksLib.networks.arrays import to_array, to_tensor
from H3DELandmarksResearch.converters.radiograph_sets import RADIOGRAPH_SETS

MOLARS = ("L0", "La", "Lb", "Lc", "Ld", "Le", "Lf", "R0", "Ra", "Rb", "Rc", "Rd", "Re", "Rf")


def h3denet(landmarks: int = 14) -> nn.Module:
    return randomize(PublishedH3DENet(landmarks, anchors=4, dims=(8, 16, 32, 64), depths=(1, 1, 2, 1)))


def hyatt(landmarks: int = 19) -> nn.Module:
    sizes = {"dims": (32, 32, 80, 64, 64), "mlp_ratios": (1, 1, 1, 1, 1), "neck": 16, "image_dim": 8}
    return randomize(PublishedHyattNet(landmarks, **sizes))


def run(network: nn.Module, folder: Path, *words: str) -> int:
    checkpoint = folder / "model.ckpt"
    args = argparse.Namespace(n_class=14, model_name="PBiFormer_Unet", data_path="/home/somebody/data")
    torch.save({"epoch": 1, "state_dict": network.state_dict(), "args": args}, checkpoint)
    return main(["models", "import-published", str(checkpoint), "--output", str(folder / "MML anchors"), *words])


def test_an_imported_network_is_a_model_like_any_other(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(h3denet(), tmp_path, "--landmarks", "mml", "--spacing", "0.5", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] and answer["id"] == "mml-anchors"
    package = open_package(answer["path"])
    package.verify()
    assert package.scheme.names == MOLARS
    assert main(["models", "info", answer["path"]]) == 0
    shown = capsys.readouterr().out
    assert "Not calibrated" in shown and "final_conv.weight" in shown
    assert package.manifest.training["checkpoint_sha256"] in shown and package.manifest.stages[0].views == 1
    assert package.manifest.training["arguments"] == {"n_class": 14, "model_name": "PBiFormer_Unet"}


def test_an_imported_network_finds_what_the_published_decoding_says(tmp_path: Path) -> None:
    published = h3denet(3)
    (tmp_path / "names.txt").write_text("# in the order of the channels\nA\nB\n\nC\n")
    assert run(published, tmp_path, "--landmarks", str(tmp_path / "names.txt"), "--spacing", "2") == 0
    values = np.random.default_rng(0).uniform(0, 255, (128, 128, 64)).astype(np.float32)
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = -10, 20, 30
    found = Detector(open_package(tmp_path / "MML anchors")).detect(Volume(values, affine))
    with torch.inference_mode():
        maps = published(to_tensor(values / np.float32(255))[None, None])[0]
    for k in range(3):
        best = np.argsort(to_array(maps[..., 3 + k].flatten()))[-15:]
        *cell, anchor = np.unravel_index(best, maps.shape[:4])
        offsets = to_array(torch.tanh(maps[..., :3]))[(*cell, anchor)]
        places = 4 * (np.stack(cell, axis=1) + offsets * np.array([0.5, 0.75, 1, 1.25])[anchor][:, None])
        distances = np.linalg.norm(places[:, None] - places, axis=2).sum(axis=1)
        expected = places[distances.argmin()] * 2 + affine[:3, 3]
        assert np.allclose(found.positions[k], expected, atol=0.02)
    assert np.allclose(found.confidence, np.minimum(0.5, found.presence))


def test_an_imported_radiograph_network_finds_points_in_the_plane(tmp_path: Path) -> None:
    assert run(hyatt(), tmp_path, "--landmarks", "isbi2015", "--spacing", "2", "--architecture", "han") == 0
    values = np.random.default_rng(0).uniform(0, 255, (300, 400, 1)).astype(np.float32)
    found = Detector(open_package(tmp_path / "MML anchors")).detect(Volume(values, np.diag([2.0, 2, 1, 1])))
    assert found.names[:3] == ("sella", "nasion", "orbitale") and len(found) == 19
    assert np.isfinite(found.positions).all() and (found.positions[:, 2] == 0).all()


@pytest.mark.parametrize(
    ("landmarks", "shape", "views"),
    [
        ("isbi2015", (1024, 1216, 1), 2),
        ("cepha29", (1024, 1216, 1), 2),
        ("hand", (1024, 1216, 1), 2),
        ("cephadoadu", (1024, 1024, 1), 2),
        ("pelvis", (512, 512, 1), 1),
    ],
)
def test_a_radiograph_network_sees_images_of_its_set_as_its_authors_show_them(
    tmp_path: Path, landmarks: str, shape: tuple[int, int, int], views: int
) -> None:
    network = hyatt(len(RADIOGRAPH_SETS[landmarks].names))
    assert run(network, tmp_path, "--landmarks", landmarks, "--spacing", "2") == 0
    (stage,) = open_package(tmp_path / "MML anchors").manifest.stages
    assert (stage.shape, stage.views, stage.fit, stage.spacing_mm) == (shape, views, None, 2)


def test_a_radiograph_network_needs_no_pixel_size_and_may_have_another_input(tmp_path: Path) -> None:
    assert run(hyatt(), tmp_path, "--landmarks", "isbi2015", "--size", "128", "256") == 0
    package = open_package(tmp_path / "MML anchors")
    (stage,) = package.manifest.stages
    assert (stage.shape, stage.fit, stage.sampling, stage.spacing_mm) == ((128, 256, 1), 1.25, "linear", 0.2467)
    card = (package.path / "model-card.md").read_text(encoding="utf-8")
    assert "1.25 times max(" in card
    assert "`backbone.layers.0.0.bn1.weight`" in card and "`backbone.layers.4.0.bn1.running_var`" in card


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--landmarks", "mml", "--spacing", "0"), "spacing must be positive"),
        (("--landmarks", "mml", "--spacing", "1", "--window", "9", "1"), "less than its high"),
        (("--landmarks", "mml"), "give --spacing"),
        (("--landmarks", "mml", "--spacing", "1", "--size", "64", "64"), "is 3 positive numbers"),
        (("--landmarks", "mml", "--spacing", "1", "--size", "9999", "64", "64"), "--size"),
        (("--landmarks", "isbi2015", "--spacing", "1"), "finds 14 landmarks, but 19 are named"),
        (("--landmarks", "teeth", "--spacing", "1"), "There are no landmarks 'teeth': choose mml, isbi2015"),
        (("--landmarks", "mml", "--spacing", "1", "--architecture", "hyatt"), "holds the network 'h3denet'"),
    ],
    ids=["spacing", "window", "no spacing", "axes", "too large", "other number", "no preset", "other network"],
)
def test_wrong_statements_get_one_sentence(
    words: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run(h3denet(), tmp_path, *words) != 0
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
    assert not (tmp_path / "MML anchors").exists()


def test_an_existing_folder_stays(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "MML anchors").mkdir()
    (tmp_path / "MML anchors" / "mine.txt").write_text("mine")
    assert run(h3denet(), tmp_path, "--landmarks", "mml", "--spacing", "1") != 0
    assert "exists" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "MML anchors").iterdir()] == ["mine.txt"]
