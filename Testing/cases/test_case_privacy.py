"""No patient data by construction: a name planted wherever a file can hold one is found in nothing that is written."""

import gzip
import io
import json
import zipfile
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from sample_cases import NAMES, SCHEME, points_of, scan_of, set_of

from H3DELandmarksLib.cases import CaseLandmark, ModelName, ReviewState, create_project
from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.markups import write_markups

SECRET = "Mustermann"
DICOM_TAGS = {
    "0010|0010": f"{SECRET}^Erika",
    "0010|0020": f"ID{SECRET}",
    "0008|0090": SECRET,
    "0008|0080": f"Klinik {SECRET}",
    "0008|103e": f"CT {SECRET}",
    "0010|4000": f"comment {SECRET}",
    "0008|0060": "CT",
}


def pieces(name: str, content: bytes) -> list[tuple[str, bytes]]:
    """A file with everything that is packed in it."""
    found = [(name, content)]
    if content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            found.append((f"{name}: comment", archive.comment))
            for entry in archive.infolist():
                found.append((f"{name}: name", entry.filename.encode() + entry.comment + entry.extra))
                found += pieces(f"{name}/{entry.filename}", archive.read(entry))
    elif content[:2] == b"\x1f\x8b":
        found.append((f"{name} unpacked", gzip.decompress(content)))
    elif content[:4] == b"NRRD" and b"encoding: gz" in content:
        header, _, data = content.partition(b"\n\n")
        found.append((f"{name} unpacked", zlib.decompress(data, wbits=31)))
    return found


def places_of(secret: str, folder: Path) -> list[str]:
    """Where bytes or names under a folder hold a text, in any case and the usual encodings."""
    wanted = [secret.lower().encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be")]
    found = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if secret.lower() in relative.lower():
            found.append(f"name {relative}")
        if path.is_file():
            for name, content in pieces(relative, path.read_bytes()):
                found += [name for text in wanted if text in content.lower()]
    return found


@pytest.fixture
def planted(tmp_path) -> Path:
    """A folder with scans of four formats and their points, a name in everything that can hold one."""
    folder = tmp_path / f"{SECRET}, Erika" / "CT"
    folder.mkdir(parents=True)
    for seed, ending in enumerate((".nrrd", ".nii.gz", ".mha")):
        write_volume(folder / f"scan{ending}", scan_of(seed))
        plant_in_scan(folder / f"scan{ending}", folder / f"{SECRET}{seed}{ending}")
        (folder / f"scan{ending}").unlink()
        plant_in_points(folder / f"{SECRET}{seed}.mrk.json", seed)
    plant_in_dicom(folder / f"{SECRET} study" / f"{SECRET}.dcm")
    plant_in_points(folder / f"{SECRET} study" / "points.mrk.json", 3)
    return folder


def plant_in_scan(source: Path, target: Path) -> None:
    if source.name.endswith(".nii.gz"):
        image = nibabel.load(source)
        for field in ("descrip", "aux_file", "db_name", "intent_name"):
            image.header[field] = SECRET.encode()
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", SECRET.encode()))
        nibabel.save(image, target)
        return
    image = sitk.ReadImage(str(source))
    for key in ("PatientName", "Comment", "content", SECRET):
        image.SetMetaData(key, SECRET)
    sitk.WriteImage(image, str(target), False)


def plant_in_dicom(path: Path) -> None:
    path.parent.mkdir()
    volume = scan_of(3)
    image = sitk.GetImageFromArray(volume.array.T)
    for tag, value in DICOM_TAGS.items():
        image.SetMetaData(tag, value)
    sitk.WriteImage(image, str(path))


def plant_in_points(path: Path, seed: int) -> None:
    write_markups(path, set_of(points_of(seed), definitions=(SECRET,) * len(NAMES)))
    data = json.loads(path.read_text())
    markup = data["markups"][0]
    for point in markup["controlPoints"]:
        point.update(id=SECRET, associatedNodeID=SECRET)
    markup["controlPoints"].append({**markup["controlPoints"][0], "label": f"{SECRET} left"})
    markup.update(name=SECRET, labelFormat=SECRET, description=SECRET)
    markup["measurements"] = [{"name": SECRET, "description": SECRET, "enabled": True}]
    data["comment"] = SECRET
    path.write_text(json.dumps(data))


@pytest.fixture
def project(tmp_path, planted):
    """A project made from all of it by the command line."""
    scheme = tmp_path / "scheme.json"
    scheme.write_text(json.dumps(SCHEME.to_dict()))
    folder = tmp_path / "project"
    study = planted / f"{SECRET} study"
    for words in (
        ["new", folder, "--scheme", scheme],
        ["import", folder, planted, "--model", "head-model@1.0.0"],
        ["add", folder, study / f"{SECRET}.dcm", study / "points.mrk.json", "--proposed", study / "points.mrk.json"],
        ["list", folder],
    ):
        assert main(["cases", *map(str, words)]) == 0
    assert len(list((folder / "cases").iterdir())) == 4
    return folder


def test_the_search_finds_what_was_planted(planted):
    found = "\n".join(places_of(SECRET, planted.parent.parent))
    for place in ("0.nrrd", "1.nii.gz unpacked", "2.mha", ".dcm", ".mrk.json", f"name {SECRET}, Erika"):
        assert place in found


def test_the_search_looks_into_compressed_files(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b.gz", gzip.compress(b"x" * 99 + SECRET.upper().encode()))
    assert places_of(SECRET, tmp_path) == ["a.zip/b.gz unpacked"]


def test_nothing_planted_is_in_the_project(project):
    assert places_of(SECRET, project) == []


@pytest.mark.parametrize("form", ["folder", "nnlandmark", "zip"])
def test_nothing_planted_is_in_what_is_handed_out(project, tmp_path, form):
    target = tmp_path / "out" / ("cases.zip" if form == "zip" else "cases")
    target.parent.mkdir()
    assert main(["cases", "export", str(project), str(target), "--form", form]) == 0
    assert any(path.is_file() for path in target.parent.rglob("*"))
    assert places_of(SECRET, target.parent) == []


def test_nothing_planted_is_in_the_findings(project, capsys):
    assert main(["cases", "check", str(project), "--json"]) == 0
    assert SECRET not in capsys.readouterr().out


def test_paths_and_users_are_not_kept(project):
    assert places_of(str(project.parent), project) == []
    assert places_of(Path.home().name, project) == []


def test_text_has_no_way_in_through_the_library(tmp_path):
    project = create_project(tmp_path / "p", SCHEME)
    with pytest.raises(InputError):
        ModelName(f"{SECRET}, Erika", "1")
    with pytest.raises(InputError):
        project.add(scan_of(0), [CaseLandmark(SECRET, ReviewState.UNKNOWN)])
    with pytest.raises(InputError):
        project.add(scan_of(0), [], subject=SECRET)
    assert places_of(SECRET, project.folder) == []
    added = project.add(scan_of(0), [])
    assert set(json.loads((project.case(added.case).folder / "000001" / "revision.json").read_text())) == {
        "format_version",
        "time",
        "software",
        "scheme",
        "model",
        "subject",
        "landmarks",
    }
    assert np.array_equal(project.case(added.case).volume().array, scan_of(0).array)
