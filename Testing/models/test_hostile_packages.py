"""Packages of strangers: what is called intact can run, the rest gets a sentence that names it, and hides no other."""

import hashlib
import json
import os
import shutil
import zipfile
from copy import deepcopy

import numpy as np
import pytest
from safetensors.numpy import load, save
from tiny_model import write_tiny_package

from H3DELandmarksLib.cases import create_project
from H3DELandmarksLib.core.errors import InputError, ModelPackageError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.formats.versions import read_history
from H3DELandmarksLib.models import open_package
from H3DELandmarksLib.models.registry import available_models
from H3DELandmarksLib.models.sharing import add_shared
from H3DELandmarksLib.networks import checking
from H3DELandmarksResearch.cases.archive import add_archive

LOCALIZER, SHAPE = "localizer.safetensors", "shape.safetensors"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile") / "tiny"
    write_tiny_package(folder)
    return folder


@pytest.fixture
def changed(tiny, tmp_path):
    """Make a package with another manifest or other weights, whose sums are right."""

    def make(manifest=None, weights=None):
        folder = tmp_path / "odd"
        shutil.copytree(tiny, folder)
        content = json.loads((folder / "manifest.json").read_text())
        content["id"] = "odd"
        tensors = {name: load((folder / name).read_bytes()) for name in (LOCALIZER, SHAPE)}
        if weights:
            weights(tensors)
        for entry in (content["stages"][0]["weights"], content["shape_model"]):
            data = save({k: np.ascontiguousarray(v) for k, v in tensors[entry["file"]].items()})
            (folder / entry["file"]).write_bytes(data)
            entry["sha256"] = hashlib.sha256(data).hexdigest()
        if manifest:
            manifest(content)
        (folder / "manifest.json").write_text(json.dumps(content))
        return folder

    return make


def stage(**entries):
    return lambda manifest: manifest["stages"][0].update(deepcopy(entries))


def network(**entries):
    return lambda manifest: manifest["stages"][0]["network"]["settings"].update(entries)


def every(value):
    def change(tensors):
        tensors[LOCALIZER] = {name: np.full_like(array, value) for name, array in tensors[LOCALIZER].items()}

    return change


def of_shape(**arrays):
    return lambda tensors: tensors[SHAPE].update(arrays)


def renamed(name):
    def change(manifest):
        for entry in manifest["scheme"]["landmarks"]:
            entry["name"] = entry["name"].replace("Middle", name)
        names = manifest["stages"][0]["groups"][0]["landmarks"]
        names[names.index("Middle")] = name

    return change


MANIFESTS = {
    "deep": network(depths=[10**7, 1, 1, 1]),
    "depths of four": network(depths=[64, 64, 64, 64]),
    "wide": network(stem_channels=[4, 2**15], dims=[2**15] * 4),
    "wide, as its weights are not": network(dims=[8, 8, 4096, 4096]),
    "many channels": network(in_channels=10**9),
    "no integer": network(in_channels=1.5),
    "many landmarks": network(landmarks=10**8),
    "stride 0": network(output_stride=0),
    "wide heads": network(head_dim=10**6),
    "windows": network(n_win=[10**6, 1, 1]),
    "large number": network(mlp_ratio=10**300),
    "unknown setting": network(evil=1),
    "huge crop": stage(shape=[4096, 4096, 4096]),
    "large crop": stage(shape=[512, 512, 256]),
    "long crop": stage(shape=[2**20, 32, 32]),
    "small crop": stage(shape=[33, 31, 7]),
    "two slices": stage(shape=[32, 32, 2]),
    "tiny voxels": stage(spacing_mm=1e-9),
    "huge voxels": stage(spacing_mm=1e300),
    "no groups": stage(groups=[]),
    "wide reading": stage(decoding={"method": "softmax", "radius": 10**9}),
    "many times read": stage(decoding={"method": "peak", "extent": 10**6}),
    "no reading": stage(decoding={"method": "evil"}),
    "setting of another reading": stage(decoding={"method": "softmax", "voxels": 3}),
    "values": lambda m: m.update(intensity={"method": "window", "low": -1e308, "high": 1e308}),
    "narrow values": lambda m: m.update(intensity={"method": "window", "low": 0.0, "high": 1e-300}),
    "outside": lambda m: m.update(outside=1e308),
    "calibration": lambda m: m["calibration"].update(presence={"scale": 1e300, "bias": 0.0}),
    "radius": lambda m: m["calibration"].update(radius90_mm=[1e300, 1.0, 1.0]),
    "line break": lambda m: m.update(id="odd\n"),
    "reading of another head": stage(decoding={"method": "published-anchor"}),
    "reading of radiographs": stage(decoding={"method": "published-hyatt"}),
    "control character": renamed("a\x1b[2J"),
    "turned text": renamed("a\u202egpj"),
}
WEIGHTS = {
    "not numbers": every(np.nan),
    "infinite": every(np.inf),
    "beyond all numbers": every(3e38),
    "missing": lambda t: t[LOCALIZER].pop(next(iter(t[LOCALIZER]))),
    "more": lambda t: t[LOCALIZER].update(more=np.zeros(3, np.float32)),
    "of another shape": lambda t: t[LOCALIZER].update({n: a[..., :1] for n, a in t[LOCALIZER].items()}),
    "no mean": lambda t: t[SHAPE].pop("mean"),
    "other mean": of_shape(mean=np.zeros((1, 1))),
    "mean without numbers": of_shape(mean=np.full((3, 3), np.nan)),
    "far mean": of_shape(mean=np.full((3, 3), 1e300)),
    "no spread": of_shape(tolerance=np.zeros(3)),
    "negative spread": of_shape(tolerance=-np.ones(3)),
}


@pytest.mark.parametrize("change", MANIFESTS.values(), ids=MANIFESTS)
def test_a_manifest_that_cannot_run_is_refused(changed, change):
    with pytest.raises(ModelPackageError, match="odd"):
        open_package(changed(change)).verify()


@pytest.mark.parametrize("change", WEIGHTS.values(), ids=WEIGHTS)
def test_weights_that_cannot_run_are_refused_before_and_at_detection(changed, change):
    package = open_package(changed(weights=change))
    with pytest.raises(ModelPackageError, match="'odd'"):
        package.verify()
    with pytest.raises(ModelPackageError, match="'odd'"):
        Detector(package, device="cpu")


def test_weights_that_lead_beyond_all_numbers_name_the_model(changed, monkeypatch):
    monkeypatch.setattr(checking, "LARGEST_WEIGHT", np.inf)
    detector = Detector(open_package(changed(weights=every(3e38))), device="cpu")
    volume = Volume(np.random.default_rng(0).normal(500, 300, (32, 32, 32)).astype(np.float32), np.diag([2, 2, 2, 1.0]))
    with pytest.raises(ModelPackageError, match="'odd'"):
        detector.detect(volume)


@pytest.mark.parametrize(
    "change",
    [network(topk=[4096] * 4), network(n_win=[64, 64, 64]), stage(shape=[47, 33, 35]), stage(spacing_mm=900.0)],
)
def test_what_is_called_intact_runs(changed, change):
    package = open_package(changed(change))
    package.verify()
    volume = Volume(np.random.default_rng(0).normal(500, 300, (16, 16, 16)).astype(np.float32), np.diag([3, 3, 3, 1.0]))
    assert len(Detector(package, device="cpu").detect(volume)) == 3


def test_a_zip_file_that_unpacks_to_far_more_is_refused(changed, tmp_path):
    folder = changed(weights=lambda t: t[LOCALIZER].update(more=np.zeros(2**24, np.float32)))
    with zipfile.ZipFile(tmp_path / "odd.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    with pytest.raises(ModelPackageError, match="too large"):
        open_package(tmp_path / "odd.zip").verify()


def test_a_link_in_a_package_leads_nowhere(changed, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    card = changed() / "model-card.md"
    card.unlink()
    card.symlink_to(tmp_path / "secret.txt")
    with pytest.raises(ModelPackageError, match="link"):
        open_package(card.parent).model_card()


def wrong_name(path):
    """A zip file whose member's name is said to be UTF-8 and is not."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifést.json", "x")
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xff"))


def unusual(path):
    """A zip file that is packed as few are."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("manifest.json", "{}")


@pytest.mark.parametrize("make", [wrong_name, unusual])
def test_a_shared_model_and_an_archive_of_cases_are_refused_likewise(tmp_path, make):
    make(tmp_path / "odd.zip")
    with pytest.raises(InputError, match="refused"):
        add_shared(tmp_path / "odd.zip")
    scheme = LandmarkScheme("s", "1", (LandmarkDefinition("a", ""),))
    with pytest.raises(InputError, match="refused"):
        add_archive(create_project(tmp_path / "project", scheme), tmp_path / "odd.zip", lambda *_: None)


DAMAGED = {
    "name.zip": wrong_name,
    "lzma.zip": unusual,
    "empty.zip": lambda path: path.touch(),
    "folder.zip": lambda path: path.mkdir(),
    "torn.zip": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(range(200))),
    "nested": lambda path: [path.mkdir(), (path / "manifest.json").write_text("[" * 100_000)],
    "digits": lambda path: [
        path.mkdir(),
        (path / "manifest.json").write_text('{"schema_version": ' + "9" * 9999 + "}"),
    ],
    "list": lambda path: [path.mkdir(), (path / "manifest.json").write_text("[]")],
    "folder": lambda path: [path.mkdir(), (path / "manifest.json").mkdir()],
    "circle": lambda path: path.symlink_to(path),
}
if hasattr(os, "mkfifo"):
    DAMAGED["pipe"] = lambda path: [path.mkdir(), os.mkfifo(path / "manifest.json")]


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_package_hides_no_other(name, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("H3DE_MODELS", str(tmp_path / "models"))
    shutil.copytree(tiny, tmp_path / "models" / "tiny")
    DAMAGED[name](tmp_path / "models" / name)
    entries = available_models()
    assert "tiny" in [entry.id for entry in entries if entry.package]
    assert all("\n" not in entry.problem for entry in entries if entry.problem)
    assert name == "circle" or [entry.path.name for entry in entries if entry.problem] == [name]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text("[" * 100_000),
        lambda path: path.write_bytes(b"\xff\xfe"),
        lambda path: path.write_text('{"time": ' + "9" * 99_999 + "}"),
        lambda path: path.mkdir(),
    ],
)
def test_a_damaged_entry_of_a_history_hides_no_other(damage, tmp_path):
    good = {"event": "add", "version": "1.0.0", "current": "1.0.0", "previous": None, "digest": "", "format_version": 1}
    for number in (1, 2):
        (tmp_path / "_history" / "toy" / f"00000{number}").mkdir(parents=True)
    damage(tmp_path / "_history" / "toy" / "000001" / "entry.json")
    (tmp_path / "_history" / "toy" / "000002" / "entry.json").write_text(json.dumps(good))
    assert [entry.version for entry in read_history(tmp_path, "toy")] == ["1.0.0"]
