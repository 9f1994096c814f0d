"""Pictures of a model card are part of the package: written, checked, copied, and read from zip files."""

import json
import shutil
from copy import deepcopy

import numpy as np
import pytest
import torch
from tiny_model import MANIFEST, NETWORK

from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.errors import ModelPackageError
from H3DELandmarksLib.models import open_package, registry, write_package
from H3DELandmarksLib.networks import build_network
from H3DELandmarksResearch.cli.models import install_model

PICTURES = {"accuracy.png": b"\x89PNG picture one", "failure-1.jpg": b"\xff\xd8\xff picture two"}


@pytest.fixture(scope="module")
def weights() -> dict:
    torch.manual_seed(0)
    shape = {"mean": np.array([[5.0, 0, 0], [0, 0, 0], [-5, 0, 0]]), "tolerance": np.ones(3)}
    return {"localizer.safetensors": build_network(**NETWORK).state_dict(), "shape.safetensors": shape}


@pytest.fixture
def package(tmp_path, weights):
    card = "# Tiny\n\n![errors](accuracy.png)\n"
    return write_package(tmp_path / "tiny", deepcopy(MANIFEST), weights, card, pictures=PICTURES)


def test_pictures_lie_beside_the_card_and_are_named_with_their_checksum(package):
    assert {name: (package.path / name).read_bytes() for name in PICTURES} == PICTURES
    assert set(package.picture_files) == set(PICTURES)
    assert all(package.read(name) == data for name, data in PICTURES.items())
    package.verify()


def test_a_changed_picture_is_noticed_and_a_missing_one_refused(package):
    (package.path / "accuracy.png").write_bytes(b"\x89PNG another")
    with pytest.raises(ModelPackageError, match=r"accuracy\.png.*changed"):
        open_package(package.path).verify()
    (package.path / "accuracy.png").unlink()
    with pytest.raises(ModelPackageError, match=r"lacks its file 'accuracy\.png'"):
        open_package(package.path)


def test_installing_copies_pictures_also_from_a_zip_file(package, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "user_folder", lambda: tmp_path / "home")
    archive = shutil.make_archive(str(tmp_path / "tiny-zip"), "zip", tmp_path, "tiny")
    installed = install_model(archive)
    assert {name: (installed.path / name).read_bytes() for name in PICTURES} == PICTURES


def test_models_info_says_where_the_pictures_of_the_card_lie(package, capsys):
    assert main(["models", "info", str(package.path)]) == 0
    said = capsys.readouterr().out
    assert "![errors](accuracy.png)" in said
    assert all(str(package.path / name) in said for name in PICTURES)
    assert main(["models", "info", str(package.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pictures"] == [str(package.path / name) for name in PICTURES]


def test_a_package_written_again_has_the_pictures_given_and_no_others(package, weights):
    again = write_package(package.path, package.manifest, weights, "# Tiny\n", replace=True)
    assert again.manifest.pictures == ()
    assert not (again.path / "accuracy.png").exists()


def test_weights_given_as_bytes_stay_as_they_are(package, tmp_path):
    before = {name: package.read(name) for name in package.weight_files}
    copy = write_package(tmp_path / "copy", package.manifest, before, "# Tiny\n")
    assert {name: copy.read(name) for name in copy.weight_files} == before
    assert copy.weight_files == package.weight_files


@pytest.mark.parametrize("name", ["../accuracy.png", "accuracy.svg", "sub/accuracy.png", ".png"])
def test_other_files_are_no_pictures(package, weights, name, tmp_path):
    manifest = json.loads((package.path / "manifest.json").read_text())
    manifest["pictures"][0]["file"] = name
    (package.path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelPackageError, match="pictures"):
        open_package(package.path)
    with pytest.raises(ModelPackageError, match="pictures"):
        write_package(tmp_path / "other", deepcopy(MANIFEST), weights, "# Tiny\n", pictures={name: b"x"})
