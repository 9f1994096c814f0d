"""Model packages: written, opened, refused with a reason, found and installed."""

import json
import shutil
import subprocess
import sys
import zipfile
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from toy_package import MANIFEST as TOY
from toy_package import TINY, toy_weights

from H3DELandmarksLib.core.errors import MissingDependencyError, ModelPackageError
from H3DELandmarksLib.formats import reading
from H3DELandmarksLib.models import available_models, find_model, open_package, registry, write_package
from H3DELandmarksLib.models import package as model_package
from H3DELandmarksResearch.cli.models import install_model

MANIFEST = {
    **TOY,
    "id": "toy-skull",
    "scheme": {**TOY["scheme"], "pairs": [["L", "R"]]},
    "outside": -1000,
    "stages": [
        {
            **TOY["stages"][0],
            "weights": {"file": "localizer.safetensors"},
            "decoding": {"method": "softmax", "radius": 2},
        },
        {
            **TOY["stages"][0],
            "name": "refiner",
            "network": {"architecture": "h3denet", "settings": {**TINY, "landmarks": 1}},
            "weights": {"file": "refiner.safetensors"},
            "spacing_mm": 0.5,
            "shape": [32, 32, 48],
            "poses": "found",
            "groups": [{"landmarks": ["L"], "mirrored": False}, {"landmarks": ["R"], "mirrored": True}],
        },
    ],
    "accuracy": {"mre_mm": 1.0},
}
WEIGHTS = {
    "localizer.safetensors": toy_weights(),
    "refiner.safetensors": toy_weights(1, landmarks=1),
    "shape.safetensors": {"mean": np.zeros((2, 3)), "tolerance": np.ones(2)},
}
CARD = "# Toy skull\n\nFinds nothing, with größter care.\n"


@pytest.fixture
def package(tmp_path):
    return write_package(tmp_path / "toy-skull", MANIFEST, WEIGHTS, CARD)


@pytest.fixture
def homes(tmp_path, monkeypatch):
    """Empty user, extra and bundled folders of models."""
    folders = {name: tmp_path / "homes" / name for name in ("user", "extra", "bundled")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    monkeypatch.setattr(registry, "user_folder", lambda: folders["user"])
    monkeypatch.setattr(registry, "bundled_folder", lambda: folders["bundled"])
    monkeypatch.setenv("H3DE_MODELS", str(folders["extra"]))
    return folders


def place(folder, **changes):
    """A valid package in a folder of models, with other top-level fields."""
    manifest = {**deepcopy(MANIFEST), **changes}
    return write_package(folder / f"{manifest['id']}-{manifest['version']}", manifest, WEIGHTS, CARD)


def edit_manifest(folder, change):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    change(manifest)
    path.write_text(json.dumps(manifest), encoding="utf-8")


def zipped(folder, target, prefix=""):
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.iterdir():
            archive.write(path, prefix + path.name)
    return target


# Reading and writing


def test_what_is_written_is_read(package):
    opened = open_package(package.path)
    opened.verify()
    assert (opened.id, opened.version) == ("toy-skull", "1.0.0")
    assert opened.scheme.names == ("L", "R")
    assert opened.model_card() == CARD
    for file, tensors in WEIGHTS.items():
        for name, expected in tensors.items():
            read = opened.load_weights(file)[name]
            np.testing.assert_array_equal(read, expected)
            assert read.dtype == expected.dtype


def test_torch_tensors_are_written(tmp_path):
    torch = pytest.importorskip("torch")
    tensor = torch.arange(6.0, requires_grad=True).reshape(2, 3).T.half()
    weights = {**WEIGHTS, "localizer.safetensors": {"a": tensor}}
    read = write_package(tmp_path / "p", MANIFEST, weights, CARD).load_weights("localizer.safetensors")["a"]
    np.testing.assert_array_equal(read, [[0, 3], [1, 4], [2, 5]])
    assert read.dtype == np.float16


@pytest.mark.parametrize("prefix", ["", "toy-skull/"])
def test_a_zip_file_is_read_in_place(package, tmp_path, prefix):
    opened = open_package(zipped(package.path, tmp_path / "toy.zip", prefix))
    opened.verify()
    read, written = opened.load_weights("refiner.safetensors"), WEIGHTS["refiner.safetensors"]
    assert read.keys() == written.keys() and all(np.array_equal(read[name], written[name]) for name in written)
    assert opened.model_card() == CARD


def test_an_existing_folder_is_replaced_only_on_request(package):
    with pytest.raises(ModelPackageError, match="exists: choose another folder"):
        write_package(package.path, MANIFEST, WEIGHTS, CARD)
    again = write_package(package.path, {**MANIFEST, "version": "1.1.0"}, WEIGHTS, CARD, replace=True)
    assert open_package(again.path).version == "1.1.0"
    assert [path.name for path in package.path.parent.iterdir()] == ["toy-skull"]


def test_an_invalid_manifest_is_not_written(tmp_path):
    with pytest.raises(ModelPackageError, match="id"):
        write_package(tmp_path / "p", {**MANIFEST, "id": "Toy Skull"}, WEIGHTS, CARD)
    with pytest.raises(ModelPackageError, match=r"must name the same files, unlike shape\.safetensors"):
        write_package(tmp_path / "p", MANIFEST, {f: w for f, w in WEIGHTS.items() if f != "shape.safetensors"}, CARD)
    with pytest.raises(ModelPackageError, match="use plain finite ones"):
        write_package(tmp_path / "p", {**MANIFEST, "accuracy": {"mre_mm": np.nan}}, WEIGHTS, CARD)
    assert not list(tmp_path.iterdir())


def test_importing_models_does_not_import_torch_or_what_slicer_lacks():
    code = "import H3DELandmarksLib.models, sys; print({'torch', 'jsonschema', 'safetensors'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


# Damage


def test_changed_weights_are_not_used(package):
    path = package.path / "localizer.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    opened = open_package(package.path)
    for use in (lambda: opened.load_weights("localizer.safetensors"), opened.verify):
        with pytest.raises(ModelPackageError, match=r"'localizer\.safetensors' .* was changed or damaged .*: get"):
            use()


def test_weights_that_are_no_safetensors_are_refused(package):
    import hashlib

    (package.path / "localizer.safetensors").write_bytes(b"pickle")
    digest = hashlib.sha256(b"pickle").hexdigest()
    edit_manifest(package.path, lambda m: m["stages"][0]["weights"].update(sha256=digest))
    with pytest.raises(ModelPackageError, match="holds no weights"):
        open_package(package.path).load_weights("localizer.safetensors")


def test_a_file_that_the_manifest_does_not_name_is_not_loaded(package):
    with pytest.raises(ModelPackageError, match=r"names no weights file 'other\.safetensors'"):
        package.load_weights("other.safetensors")


@pytest.mark.parametrize("name", ["refiner.safetensors", "model-card.md", "manifest.json"])
def test_a_missing_file_is_named(package, name):
    (package.path / name).unlink()
    with pytest.raises(ModelPackageError, match=f"lacks .*{name}"):
        open_package(package.path)


def test_a_path_without_a_package_is_named(tmp_path):
    with pytest.raises(ModelPackageError, match="nowhere' does not exist"):
        open_package(tmp_path / "nowhere")
    (tmp_path / "notes.zip").write_text("no archive")
    with pytest.raises(ModelPackageError, match=r"notes\.zip' cannot be read"):
        open_package(tmp_path / "notes.zip")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": NaN}'])
def test_a_damaged_manifest_is_refused(package, text):
    (package.path / "manifest.json").write_text(text)
    with pytest.raises(ModelPackageError, match=r"manifest\.json of .* "):
        open_package(package.path)


def set_radii(manifest):
    manifest["calibration"]["radius90_mm"] = [1.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("title"), "title"),
        (lambda m: m.update(max_spacing=1), "max_spacing"),
        (lambda m: m.update(version="1"), "version"),
        (lambda m: m["stages"][1].update(spacing_mm=0), r"stages\[1\].spacing_mm"),
        (lambda m: m["stages"][0].update(poses="any"), r"stages\[0\].poses"),
        (lambda m: m["stages"][1].update(poses="structures"), r"stages\[1\].poses.*radiographs"),
        (lambda m: m["stages"][1].update(shape=[8, 8]), r"stages\[1\].shape"),
        (lambda m: m["stages"][0]["weights"].update(file="../x.safetensors"), r"stages\[0\].weights.file"),
        (lambda m: m["stages"][0]["weights"].update(sha256="0"), r"stages\[0\].weights.sha256"),
        (lambda m: m["stages"][0]["decoding"].pop("method"), r"stages\[0\].decoding.method"),
        (lambda m: m.update(intensity={"method": "percentile", "low": 1, "high": 101}), "intensity.*percentiles"),
        (lambda m: m["intensity"].update(low=1500), "intensity.*low"),
        (lambda m: m["scheme"]["pairs"].append(["L", "X"]), "scheme"),
        (lambda m: m["stages"][1]["groups"][0].update(landmarks=["X"]), r"stages\[1\].groups\[0\].landmarks"),
        (set_radii, "calibration.radius90_mm"),
        (lambda m: m["shape_model"].update(file="refiner.safetensors"), "named with different SHA-256"),
        (lambda m: m.update(schema_version=2), "newer"),
    ],
)
def test_an_invalid_manifest_is_refused_with_field_and_reason(package, change, message):
    edit_manifest(package.path, change)
    with pytest.raises(ModelPackageError, match=message):
        open_package(package.path)


@pytest.mark.parametrize("name", [name for name in MANIFEST if name != "outside"])
def test_what_a_user_must_know_of_a_model_may_not_be_left_out(package, name):
    edit_manifest(package.path, lambda m: m.pop(name))
    with pytest.raises(ModelPackageError, match=f"'{name}'.*missing"):
        open_package(package.path)


@pytest.mark.parametrize("name", MANIFEST["stages"][0])
def test_nor_may_what_a_stage_is(package, name):
    edit_manifest(package.path, lambda m: m["stages"][0].pop(name))
    with pytest.raises(ModelPackageError, match=rf"'stages\[0\].{name}'.*missing"):
        open_package(package.path)


def test_without_pydantic_packages_open_but_are_not_installed(package, homes, monkeypatch):
    def missing(record):
        raise ImportError("pydantic")

    monkeypatch.setattr(reading, "type_adapter", missing)
    monkeypatch.setattr(model_package, "can_validate", lambda: False)
    assert open_package(package.path).id == "toy-skull"
    with pytest.raises(MissingDependencyError, match="pydantic: install it"):
        install_model(package.path)
    edit_manifest(package.path, lambda m: m.pop("calibration"))
    with pytest.raises(ModelPackageError, match="'calibration'.*missing"):
        open_package(package.path)


# The registry


def test_a_shared_folder_that_cannot_be_read_is_told_beside_the_models(homes):
    place(homes["bundled"])
    homes["extra"].rmdir()
    usable, told = available_models()
    assert usable.package and told.package is None and told.id == "extra"
    assert "H3DE_MODELS" in told.problem and str(homes["extra"]) in told.problem


def test_models_are_listed_newest_first_with_their_problems(homes):
    for version in ("1.2.0", "1.10.0-rc.1", "1.10.0"):
        place(homes["user"], version=version)
    place(homes["bundled"], id="mouse")
    (homes["extra"] / "empty").mkdir()
    (homes["extra"] / ".h3de-unfinished").mkdir()
    entries = available_models()
    usable = [(entry.id, entry.package.version) for entry in entries if entry.problem is None]
    assert usable == [("mouse", "1.0.0"), ("toy-skull", "1.10.0"), ("toy-skull", "1.10.0-rc.1"), ("toy-skull", "1.2.0")]
    broken = [entry for entry in entries if entry.problem]
    assert [entry.id for entry in broken] == ["empty"] and "lacks manifest.json" in broken[0].problem


def test_a_model_of_the_user_hides_the_bundled_one_of_that_version(homes):
    place(homes["bundled"])
    mine = place(homes["user"])
    assert [entry.path for entry in available_models()] == [mine.path]


def test_a_model_is_found_by_id_version_path_and_zip(homes, package, tmp_path):
    place(homes["bundled"], version="1.0.0")
    place(homes["bundled"], version="2.0.0")
    assert find_model("toy-skull").version == "2.0.0"
    assert find_model("toy-skull@1.0.0").version == "1.0.0"
    assert find_model(package.path).path == package.path
    assert find_model(str(zipped(package.path, tmp_path / "toy.zip"))).id == "toy-skull"
    zipped(package.path, homes["extra"] / "other.zip")
    assert len(available_models()) == 2


def test_an_unknown_model_lists_what_there_is(homes):
    with pytest.raises(ModelPackageError, match="nor any other: install"):
        find_model("mouse")
    place(homes["user"])
    with pytest.raises(ModelPackageError, match=r"no model 'toyskull' among toy-skull: did you mean 'toy-skull'\?"):
        find_model("toyskull")
    (homes["extra"] / "broken").mkdir()
    with pytest.raises(ModelPackageError, match=r"broken' lacks manifest\.json"):
        find_model("broken")


def test_a_model_is_installed_from_a_zip_file(homes, package, tmp_path):
    archive = zipped(package.path, tmp_path / "toy.zip", "toy-skull/")
    installed = install_model(archive)
    assert installed.path == homes["user"] / "toy-skull-1.0.0"
    assert find_model("toy-skull").path == installed.path
    installed.verify()


def test_the_same_version_is_installed_again_only_on_request(homes, package):
    install_model(package.path)
    with pytest.raises(ModelPackageError, match=r"'toy-skull' 1\.0\.0 is installed already"):
        install_model(package.path)
    install_model(package.path, replace=True)
    assert len(available_models()) == 1


def test_nothing_is_installed_of_a_damaged_package(homes, package):
    (package.path / "shape.safetensors").write_bytes(b"")
    with pytest.raises(ModelPackageError, match="was changed or damaged"):
        install_model(package.path)
    assert not list(homes["user"].iterdir())


def test_only_what_the_manifest_names_leaves_a_zip_file(homes, package, tmp_path):
    archive = zipped(package.path, tmp_path / "toy.zip")
    with zipfile.ZipFile(archive, "a") as file:
        for name in ("../evil.py", "/evil.py", "run.py", "sub/evil.py"):
            file.writestr(name, "boom")
    before = set(tmp_path.rglob("*"))
    installed = install_model(archive)
    new = set(tmp_path.rglob("*")) - before
    assert {path.name for path in new - {installed.path}} == {"manifest.json", "model-card.md", *WEIGHTS}


def test_a_zip_file_that_unpacks_to_too_much_is_refused(package, tmp_path):
    (package.path / "manifest.json").write_bytes(b" " * (5 * 2**20))
    with pytest.raises(ModelPackageError, match=r"'manifest\.json' in .* too large"):
        open_package(zipped(package.path, tmp_path / "bomb.zip"))


def test_a_damaged_zip_file_is_refused(package, tmp_path):
    archive = zipped(package.path, tmp_path / "toy.zip")
    data = bytearray(archive.read_bytes())
    data[60:90] = bytes(30)
    archive.write_bytes(data)
    with pytest.raises(ModelPackageError):
        open_package(archive).verify()


@pytest.mark.parametrize(
    ("platform", "variable", "folder"),
    [("linux", "XDG_DATA_HOME", ""), ("win32", "APPDATA", ""), ("darwin", "HOME", "Library/Application Support")],
)
def test_the_user_folder_follows_the_operating_system(tmp_path, monkeypatch, platform, variable, folder):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv(variable, str(tmp_path))
    assert registry.user_folder() == tmp_path / folder / "H3DELandmarks" / "models"


@pytest.mark.parametrize("is_installed", [False, True], ids=["checkout", "installed beside other extensions"])
def test_bundled_models_lie_beside_the_library_or_inside_it(tmp_path, is_installed):
    library = tmp_path / "qt-scripted-modules" / "H3DELandmarksLib"
    shutil.copytree(Path(registry.__file__).parents[1], library, ignore=shutil.ignore_patterns("__pycache__"))
    (library.parent / "Resources" / "Models").mkdir(parents=True)
    if is_installed:
        (library / "Resources" / "Models").mkdir(parents=True)
    code = "from H3DELandmarksLib.models.registry import bundled_folder; print(bundled_folder())"
    found = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=library.parent).strip()
    assert found == str((library if is_installed else library.parent) / "Resources" / "Models")
