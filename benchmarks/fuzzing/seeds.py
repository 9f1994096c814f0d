"""Small valid files of every kind, made by the helpers of the tests."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
import torch
from pydicom.dataset import FileMetaDataset
from run_records import run_record
from tiny_model import NAMES
from toy_package import toy_package
from toy_projects import SCHEME, toy_project

import H3DELandmarksResearch
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.region import Region
from H3DELandmarksLib.formats.reading import to_json
from H3DELandmarksLib.formats.schemes import SchemeStep, scheme_bytes
from H3DELandmarksLib.formats.versions import HistoryEntry
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.markups import write_markups, write_region
from H3DELandmarksLib.io.tables import write_table
from H3DELandmarksLib.models.sharing import share_model
from H3DELandmarksResearch.cases.archive import write_archive

POINTS = LandmarkSet(NAMES, [[1.0, 2, 3], [4, 5, 6], [np.nan] * 3], definitions=("one", "two", "three"))
FCSV = (
    "# Markups fiducial file version = 4.11\n# CoordinateSystem = LPS\n"
    "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
    "1,1.0,2.0,3.0,0,0,0,1,1,1,0,Left,one,\n2,4.0,5.0,6.0,0,0,0,1,1,1,0,Middle,two,\n"
)
COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 24, "height": 16}],
    "annotations": [{"image_id": 1, "keypoints": [1, 2, 2, 3, 4, 2, 5, 6, 0]}],
    "categories": [{"keypoints": ["a", "b", "c"]}],
}
REVIEW = {
    "version": 1,
    "landmarks": {"L": {"position": [1, 2.0, 3], "presence": 1, "confidence": None, "radius90": None}},
    "accepted": ["L"],
    "pairs": [["L", "R"]],
}
EVENTS = [
    {"event": "progress", "scan": "a", "fraction": 0.5, "message": "Searching", "seconds_left": 3.5},
    {"event": "warning", "scan": "a", "message": "coarse"},
    {"event": "result", "ok": True, "scans": [{"markups": "a.mrk.json"}]},
]


def make_seeds(folder: Path) -> None:
    """Write the seeds of every reader into a folder of its name."""
    rng = np.random.default_rng(0)
    volume = Volume(rng.integers(-1000, 1500, (6, 5, 4)).astype(np.int16), np.diag([1.0, 1.5, 2.0, 1.0]))
    for name in ("nrrd", "mha", "nii", "nii.gz"):
        write_volume(_place(folder, "scan", f"a.{name}"), volume)
    write_volume(_place(folder, "scan", "b.nrrd"), volume, compress=False)
    picture = sitk.GetImageFromArray(rng.integers(0, 255, (16, 24)).astype(np.uint8))
    for name in ("png", "jpg", "bmp", "tif"):
        sitk.WriteImage(picture, str(_place(folder, "scan", f"c.{name}")))
    _write_dicom(_place(folder, "scan", "d.dcm"), rng)
    write_markups(_place(folder, "markups", "a.mrk.json"), POINTS)
    write_region(_place(folder, "region", "a.mrk.json"), Region(np.diag([10.0, 20, 30, 1])))
    write_table(_place(folder, "table", "a.csv"), POINTS)
    texts = {"fcsv": FCSV, "names": "Left\nMiddle\n# a remark\nRight\n"}
    contents = {"scheme": SCHEME.to_dict(), "coco": COCO, "scene attribute": REVIEW, "run record": run_record(SCHEME)}
    for name, text in texts.items():
        _place(folder, name, "a.fcsv" if name == "fcsv" else "a.txt").write_text(text)
    for name, content in contents.items():
        _place(folder, name, "a.json").write_text(json.dumps(content))
    _place(folder, "child events", "a.jsonl").write_text("".join(json.dumps(event) + "\n" for event in EVENTS))
    _place(folder, "history entry", "a.json").write_bytes(to_json(HistoryEntry("add", "1.0.0", "1.0.0", None, "")))
    _place(folder, "scheme step", "a.json").write_bytes(SchemeStep({"Left": "L"}, frozenset({"Right"})).to_bytes())
    _place(folder, "project scheme", "a.json").write_bytes(scheme_bytes(SCHEME))
    _write_models(folder)
    _write_cases(folder)
    _write_training(folder)


def _place(folder: Path, reader: str, name: str) -> Path:
    path = folder / reader / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _write_dicom(path: Path, rng: np.random.Generator) -> None:
    data, meta = pydicom.Dataset(), FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = data.SOPClassUID = pydicom.uid.CTImageStorage
    meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3.4"
    data.StudyInstanceUID, data.SeriesInstanceUID, data.Modality = "1.2.3", "1.2.3.1", "CT"
    data.Rows, data.Columns, data.SamplesPerPixel = 5, 6, 1
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    data.PhotometricInterpretation, data.RescaleSlope, data.RescaleIntercept = "MONOCHROME2", "1", "-1024"
    data.PixelSpacing, data.SliceThickness = ["1", "1.5"], "2"
    data.ImagePositionPatient, data.ImageOrientationPatient = ["0", "0", "0"], ["1", "0", "0", "0", "1", "0"]
    data.PixelData = rng.integers(0, 2000, 30).astype("<i2").tobytes()
    data.file_meta = meta
    data.save_as(path, enforce_file_format=True)


def _write_models(folder: Path) -> None:
    package = toy_package(folder / "toy")
    _zip(_place(folder, "model zip", "a.zip"), {name: package.read(name) for name in package.files})
    _place(folder, "manifest", "a.json").write_bytes(package.read("manifest.json"))
    _place(folder, "weights", "a.safetensors").write_bytes(package.read("a.safetensors"))
    share_model(str(package.path), _place(folder, "shared model", "a.zip"))
    state = {"state_dict": {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2)}, "args": {"lr": 0.1}, "epoch": 3}
    for name, is_zip in (("a.pth", True), ("b.pth", False)):
        torch.save(state, _place(folder, "checkpoint", name), _use_new_zipfile_serialization=is_zip)


def _write_cases(folder: Path) -> None:
    project = toy_project(folder / "project", 1)
    case = project.cases()[0]
    _place(folder, "revision", "a.json").write_bytes((case.folder / "000001" / "revision.json").read_bytes())
    _place(folder, "image record", "a.json").write_bytes((case.folder / "image.json").read_bytes())
    write_archive(project, _place(folder, "case zip", "a.zip"), lambda *_: None)


def _write_training(folder: Path) -> None:
    configurations = Path(str(H3DELandmarksResearch.__file__)).parent / "configurations"
    source = configurations / "mandibular-molar-phantom.json"
    _place(folder, "configuration", "a.json").write_bytes(source.read_bytes())
    _place(folder, "split", "a.json").write_text('{"train": ["a", "b"], "validation": ["c"], "test": []}')
    from H3DELandmarksLib.training.checkpoints import CHECKPOINT, Checkpoint, TrainingProgress, save_checkpoint

    weights = {"a": torch.ones(3)}
    state = Checkpoint(TrainingProgress(3, (0.5,)), weights, {"module.a": torch.ones(3)}, {0: weights})
    save_checkpoint(_place(folder, "training checkpoint", CHECKPOINT), state)


def _zip(path: Path, files: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
