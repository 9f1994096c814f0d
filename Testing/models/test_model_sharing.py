"""A model for another site: complete, by hash alone, and refused where anything about it is wrong."""

import gzip
import hashlib
import json
import stat
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from promotion_cases import found_at, make_project, make_run
from safetensors.numpy import save
from toy_package import CARD, MANIFEST, toy_package, toy_weights

from H3DELandmarksLib.core.errors import H3DELandmarksError, InputError
from H3DELandmarksLib.formats.comparison import Rule, write_comparison
from H3DELandmarksLib.formats.lineage import lineage_of
from H3DELandmarksLib.formats.run import read_run
from H3DELandmarksLib.models import available_models, find_model, open_package, registry, write_package
from H3DELandmarksLib.models.package import package_digest
from H3DELandmarksLib.models.sharing import add_shared, share_model, shared_manifest
from H3DELandmarksLib.models.versions import add_version, versions_of
from H3DELandmarksLib.retraining.compare import compare_models, held_out_cases
from H3DELandmarksLib.retraining.promote import open_candidate, promote_run

SECRET = "Mustermann"
ACCURACY = {
    "cases": 5,
    "mre_mm": 1.25,
    "per_case": [{"case": SECRET, "mean_mm": 1.0}],
    "without_prediction": [SECRET],
    "per_landmark": [{"landmark": "L", "n": 5, "mean_mm": 1.0, SECRET: 3}, {"landmark": SECRET, "n": 1}],
    "presence": {"accuracy": 1.0, "reader": SECRET},
    SECRET: 4.0,
}


@pytest.fixture
def sites(tmp_path, monkeypatch):
    """Two sites with folders of their own; gives a function that moves to one of them."""
    monkeypatch.delenv("H3DE_MODELS", raising=False)
    monkeypatch.setattr(registry, "bundled_folder", lambda: tmp_path / "bundled")

    def at(name):
        monkeypatch.setattr(registry, "user_folder", lambda: tmp_path / name)
        return tmp_path / name

    at("here")
    return at


@pytest.fixture
def shared(sites, tmp_path):
    """A promoted model as a file; a name is planted wherever a package, a run or a project can hold one."""
    base = toy_package(tmp_path / "bundled" / "toy", 0)
    folder = tmp_path / f"{SECRET}, Erika"
    folder.mkdir()
    project = make_project(folder / "cases", base.scheme, 7)
    run = make_run(folder / "run", project, base, ["train"] + ["held-out"] * 6)
    plant(run)
    record = read_run(run)
    cases = held_out_cases(project, base, open_candidate(record), record)
    comparison = compare_models(base, open_candidate(record), cases, (found_at(cases, 2.0), found_at(cases, 2.5)))
    write_comparison(replace(comparison, rule=Rule()), run / "comparison.json")
    promote_run(run, override=f"as {SECRET} has asked for")
    share_model("toy", tmp_path / "toy.zip")
    return tmp_path / "toy.zip"


def plant(run: Path) -> None:
    """Write a candidate that holds a name in every place that is not its author's to fill in."""
    record = json.loads((run / "run.json").read_text())
    record.update(project=f"/home/{SECRET}", notes=[SECRET])
    record["base"]["path"] = f"/home/{SECRET}/toy"
    for case in record["cases"]:
        case["id"] = SECRET
    (run / "run.json").write_text(json.dumps(record))
    training = {
        "date": "2026-11-23",
        "software": f"H3DELandmarksLib 1.0 of {SECRET}",
        "data": {"folder": f"/home/{SECRET}", "split": {"train": [SECRET]}},
        "stages": {"localizer": {"training": {"batch": 1, "note": SECRET, SECRET.lower(): 3}, "augmentation": {}}},
        "lineage": {"base": record["base"], "cases": record["cases"], "notes": [SECRET]},
        SECRET: SECRET,
    }
    calibration = {**MANIFEST["calibration"], "cases": {"names": [SECRET]}}
    stages = [{**MANIFEST["stages"][0], "weights": {"file": f"{SECRET}.safetensors"}}]
    weights = {
        f"{SECRET}.safetensors": save(toy_weights(7), metadata={"author": SECRET}),
        "shape.safetensors": {"mean": np.zeros((2, 3)), "tolerance": np.ones(2)},
    }
    manifest = {
        **MANIFEST,
        "version": "1.1.0",
        "training": training,
        "accuracy": {"held-out": ACCURACY},
        "calibration": calibration,
        "stages": stages,
    }
    write_package(
        run / "package",
        manifest,
        weights,
        f"# Toy\n\nCases of {SECRET}.\n",
        pictures={"points.png": f"picture of {SECRET}".encode()},
    )
    (run / "package" / f"{SECRET}.txt").write_text(SECRET)


def holds(secret: str, path: Path) -> list[str]:
    """Names of entries of a zip file that hold a text, in any case."""
    found, wanted = [], [secret.lower().encode(code) for code in ("utf-8", "utf-16-le")]
    with zipfile.ZipFile(path) as archive:
        assert archive.comment == b""
        for entry in archive.infolist():
            data = archive.read(entry)
            data += gzip.decompress(data) if data[:2] == b"\x1f\x8b" else b""
            words = entry.filename.encode() + entry.extra + entry.comment + data
            found += [entry.filename for text in wanted if text in words.lower()]
    return found


# What leaves


def test_nothing_planted_is_in_what_is_shared(shared, tmp_path):
    kept = find_model("toy").path
    planted = [p.name for p in kept.iterdir() if p.is_file() and SECRET.lower().encode() in p.read_bytes().lower()]
    assert {"manifest.json", "model-card.md", "points.png"} <= set(planted)
    assert holds(SECRET, shared) == [] and holds(str(tmp_path), shared) == [] and holds("/home/", shared) == []


def test_a_shared_model_says_where_it_comes_from(shared):
    package = open_package(shared)
    package.verify()
    original = find_model("toy")
    lineage, before = lineage_of(package.manifest), lineage_of(original.manifest)
    assert lineage == before.by_hash_alone() and len(lineage.cases) == 7 and lineage.base.name == "toy@1.0.0"
    card = package.model_card()
    assert all(case.sha256 in card for case in lineage.cases) and "toy@1.0.0" in card
    assert "The new model is worse by 0.50 mm" in card and "mre_mm: 1.25" in card
    assert package.manifest.accuracy["held-out"]["per_landmark"] == [{"landmark": "L", "n": 5, "mean_mm": 1.0}]
    assert package.manifest.training["stages"] == {"localizer": {"training": {"batch": 1}, "augmentation": {}}}
    for file, old in (("stage-1.safetensors", f"{SECRET}.safetensors"), ("shape.safetensors", "shape.safetensors")):
        mine, theirs = original.load_weights(old), package.load_weights(file)
        assert all(np.array_equal(mine[name], theirs[name]) for name in mine)


def test_sharing_twice_gives_the_same_bytes_and_replaces_nothing(shared, tmp_path):
    share_model("toy@1.1.0", tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == shared.read_bytes()
    with pytest.raises(InputError, match="is there already"):
        share_model("toy", shared)


@pytest.mark.parametrize("model", ["mouse-skull", "mandibular-molar-phantom"])
def test_what_a_bundled_model_finds_is_shared_completely(model, tmp_path):
    package = open_package(registry.bundled_folder() / model)
    manifest, names = shared_manifest(package)
    weights = {new: package.read(old) for new, old in names.items()}
    reduced = write_package(tmp_path / "p", manifest, weights, CARD)
    assert package_digest(reduced) == package_digest(package)
    assert shared_manifest(reduced)[0] == manifest


def test_a_stage_whose_name_could_be_a_sentence_is_not_shared(sites, tmp_path):
    stages = [{**MANIFEST["stages"][0], "name": f"as {SECRET} wished"}]
    toy_package(tmp_path / "bundled" / "toy", stages=stages)
    with pytest.raises(InputError, match="cannot be shared"):
        share_model("toy", tmp_path / "toy.zip")
    assert not (tmp_path / "toy.zip").exists()


# What arrives


def test_a_shared_model_is_added_and_the_current_one_stays(shared, sites):
    sites("there")
    added = add_shared(shared)
    assert (added.package.version, added.is_new, added.is_current) == ("1.1.0", True, False)
    assert find_model("toy").version == "1.0.0" and find_model("toy@1.1.0").path == added.package.path
    again = add_shared(shared)
    assert again.package.path == added.package.path and not again.is_new
    assert [v.base for v in versions_of("toy")] == ["toy@1.0.0", None]


def test_a_model_that_is_new_here_is_current(shared, sites, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "bundled_folder", lambda: tmp_path / "nothing")
    sites("there")
    assert add_shared(shared).is_current


def test_another_model_of_that_version_stays(shared, sites, tmp_path):
    sites("there")
    own = toy_package(tmp_path / "own", 9, version="1.1.0")
    kept = add_version(own, own.content, CARD, "promote")
    added = add_shared(shared)
    assert (added.package.version, added.shared_version) == ("1.1.1", "1.1.0")
    assert find_model("toy").path == kept.path


def rewritten(path, change, said=True):
    """A copy of a shared file whose entries `change` has changed, with checksums that fit where `said`."""
    with zipfile.ZipFile(path) as source:
        files = {entry.filename: source.read(entry) for entry in source.infolist()}
    change(files)
    if said:
        content = json.loads(files["share.json"])
        content["files"] = {
            name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in files.items()
            if name != "share.json"
        }
        files["share.json"] = json.dumps(content).encode()
    target = path.with_name("changed.zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return target


def edit(change):
    """Change the manifest of a shared model."""

    def changed(files):
        manifest = json.loads(files["manifest.json"])
        change(manifest)
        files["manifest.json"] = json.dumps(manifest).encode()

    return changed


def other_weights(files):
    files["stage-1.safetensors"] = save(toy_weights(9))


@pytest.mark.parametrize(
    ("change", "said", "reason"),
    [
        (lambda f: f.update({"../evil.py": b"boom"}), True, "a file that no export writes"),
        (lambda f: f.update({"/evil.py": b"boom"}), True, "a file that no export writes"),
        (lambda f: f.update({"sub/manifest.json": b"{}"}), True, "a file that no export writes"),
        (lambda f: f.update({"model-card.md": f["model-card.md"] + b"!"}), False, "another size"),
        (lambda f: f.update({"model-card.md": f["model-card.md"][::-1]}), False, "a file in it was changed"),
        (other_weights, True, "SHA-256 differs"),
        (lambda f: f.pop("shape.safetensors"), True, "lacks its file"),
        (lambda f: f.pop("shape.safetensors"), False, "not those that its manifest names"),
        (lambda f: f.pop("share.json"), False, "not written by 'models share'"),
        (lambda f: f.update({"stage-7.safetensors": b"x"}), True, "not the model that it says"),
        (lambda f: f.update({"share.json": b"[]"}), False, "damaged or was changed"),
        (edit(lambda m: m.update(schema_version=9)), True, "newer version of this software"),
        (edit(lambda m: m.pop("calibration")), True, "no usable model"),
        (edit(lambda m: m["calibration"].update(radius90_mm=[1.0, 9.0])), True, "not the model that it says"),
        (edit(lambda m: m["stages"][0]["weights"].update(file="../../x.safetensors")), True, "no usable model"),
        (lambda f: f.update({"model-card.md": b" " * 30_000_000}), True, "far too large"),
    ],
)
def test_what_is_wrong_is_refused_in_one_sentence_and_nothing_is_written(shared, sites, tmp_path, change, said, reason):
    there = sites("there")
    before = set(tmp_path.rglob("*"))
    file = rewritten(shared, change, said)
    with pytest.raises(InputError, match=reason) as caught:
        add_shared(file)
    assert str(caught.value).startswith("The archive '") and "\n" not in str(caught.value)
    assert not there.exists() and set(tmp_path.rglob("*")) - before == {file}


def test_links_and_other_files_are_refused(shared, sites, tmp_path):
    sites("there")
    with zipfile.ZipFile(shared, "a") as archive:
        entry = zipfile.ZipInfo("stage-3.safetensors")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(InputError, match="a link"):
        add_shared(shared)
    (tmp_path / "scan.zip").write_bytes(b"PK\x03\x04 and nothing more")
    with pytest.raises(InputError, match="damaged"):
        add_shared(tmp_path / "scan.zip")
    with pytest.raises(InputError, match="does not exist"):
        add_shared(tmp_path / "none.zip")


def test_any_damaged_byte_is_told_or_harmless(shared, sites):
    """Whatever byte is flipped, either the model arrives exactly as it was sent, or one sentence says why not."""
    sites("there")
    data, digest = bytearray(shared.read_bytes()), package_digest(open_package(shared))
    for place in np.random.default_rng(0).integers(len(data), size=40):
        damaged = bytearray(data)
        damaged[place] ^= 0x5A
        shared.write_bytes(damaged)
        try:
            assert package_digest(add_shared(shared).package) == digest
        except H3DELandmarksError as error:
            assert "refused" in str(error) and "\n" not in str(error)
    assert {package_digest(entry.package) for entry in available_models()} <= {
        digest,
        package_digest(find_model("toy@1.0.0")),
    }
