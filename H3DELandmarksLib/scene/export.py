"""The reviewed points of a scene as files for other programs, with who has decided what and where they come from."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from H3DELandmarksLib import __version__
from H3DELandmarksLib.cases.export import OutgoingCase, export_points
from H3DELandmarksLib.core.files import cannot_write
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.formats.case_record import utc_now
from H3DELandmarksLib.formats.export import ExportedCase, ExportedLandmark
from H3DELandmarksLib.formats.provenance import EXTENSION, PointOrigin, Provenance, stated_by, write_provenance
from H3DELandmarksLib.scene.cases import ReviewedCase, reviewed_case
from H3DELandmarksLib.scene.detections import provenance_of_list
from H3DELandmarksLib.scene.review import Review, ReviewedLandmark
from H3DELandmarksLib.scene.scan_of_points import frame_of

# Folder of each form: point lists that Slicer and others read, a table, and what morphometric programs read.
FORMS = {"Slicer": "mrk.json", "Slicer fcsv": "fcsv", "table": "table-long", "TPS": "tps"}
MAX_BYTES = 160  # of a name, which endings make longer
DEVICES = r"(?i)con|prn|aux|nul|(com|lpt)[0-9]"  # Windows keeps these names for itself, whatever their ending


def export_review(point_list, volume_node, folder: Path) -> Path:
    """Write a reviewed point list in every form that people ask for; nothing that is there already is touched.

    Args:
        point_list: vtkMRMLMarkupsFiducialNode.
        volume_node: vtkMRMLScalarVolumeNode of its points; positions are those of the scan without its transforms.
        folder: where a new folder is made, named after the volume, and its frame where it is one of a sequence.
            Tables, TPS and records hold that name, too.

    Returns:
        The new folder: a folder for each form, and NAME.provenance.json with every point.

    Raises:
        InputError: volume or points cannot be used.
        OutputError: the folder cannot be written to.
    """
    case = reviewed_case(volume_node, point_list)
    name = _file_name(f"{volume_node.GetName()} {frame_of(point_list)}")
    origin = _origin(case, Review(point_list).landmarks(), provenance_of_list(point_list))
    outgoing = OutgoingCase(name, lambda: case.volume, case.corrected, case.proposed, _record(name, case, origin))
    target = _new_folder(Path(folder), name)
    try:
        for title, form in FORMS.items():
            export_points([outgoing], case.corrected.names, form, target / title)
        write_provenance(target / f"{name}{EXTENSION}", origin)
    except Exception:
        shutil.rmtree(target, ignore_errors=True)  # a part of the files would look like all of them
        raise
    return target


def _file_name(text: str) -> str:
    """A name as files may have it on every system."""
    kept = re.sub(r"[^\w\- ]+", "_", text).strip(" _").encode()[:MAX_BYTES].decode("utf-8", "ignore")
    return f"{kept}_" if re.fullmatch(DEVICES, kept) else kept or "landmarks"


def _new_folder(folder: Path, name: str) -> Path:
    """A new folder of this name, with a number where that is there already."""
    number, target = 1, folder / f"{name} landmarks"
    while True:
        try:
            target.mkdir()
        except FileExistsError:
            number += 1
            target = folder / f"{name} landmarks {number}"
        except OSError as error:
            raise cannot_write(target, error) from error
        else:
            return target


def _record(name: str, case: ReviewedCase, origin: Provenance) -> ExportedCase:
    scan, model = origin.scan, origin.model
    landmarks = tuple(ExportedLandmark.reviewed(landmark, case.states[landmark]) for landmark in case.corrected.names)
    return ExportedCase(
        name,
        landmarks,
        scan_sha256=scan.voxels_sha256 if scan else None,
        shape=scan.shape if scan else None,
        spacing_mm=scan.spacing_mm if scan else None,
        length_unit=ExportedCase.unit_of(scan.shape, scan.spacing_mm) if scan else None,
        model=f"{model.id}@{model.version}" if model else case.model or None,
        software=__version__,
    )


def _origin(case: ReviewedCase, landmarks: list[ReviewedLandmark], kept: Provenance | None) -> Provenance:
    """Where the points come from, and what has become of each; of lists from elsewhere only that."""
    now = utc_now()
    points = tuple(_point(case, k, landmark) for k, landmark in enumerate(landmarks))
    known = kept or Provenance(software=__version__, time=now, model=None, scan=None)
    return replace(known, points=points)


def _point(case: ReviewedCase, k: int, landmark: ReviewedLandmark) -> PointOrigin:
    return PointOrigin(
        name=landmark.name,
        state=landmark.state.value,
        by=stated_by(landmark.state),
        cause=landmark.cause.value if landmark.cause else None,
        position_lps_mm=_place(case.corrected, k),
        proposed_lps_mm=_place(case.proposed, k),
        moved_mm=_stated(float(np.linalg.norm(case.corrected.positions[k] - case.proposed.positions[k]))),
        presence=_stated(landmark.presence),
        confidence=_stated(landmark.confidence),
        radius90_mm=None if landmark.proposed is None else _stated(case.proposed.radius[k]),
        revised_by=landmark.revised_by,
    )


def _place(landmarks: LandmarkSet, k: int) -> tuple[float, float, float] | None:
    if not landmarks.present[k]:
        return None
    x, y, z = landmarks.positions[k].tolist()
    return x, y, z


def _stated(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
