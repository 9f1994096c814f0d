"""Data sets in the Brain Imaging Data Structure: which files are scans, and results as a derivative of them.

Results of ``sub-01/ses-1/anat/sub-01_ses-1_acq-thin_ct.nii.gz`` are
``sub-01/ses-1/anat/sub-01_ses-1_acq-thin_desc-landmarks_ct.*``, with a ``.json`` that names the source.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from H3DELandmarksLib import __version__
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.io.images import READABLE_EXTENSIONS

DESCRIPTION, IGNORED = "dataset_description.json", ".bidsignore"
VERSION = "1.10.0"
LABEL = "landmarks"
NO_IMAGES = {"func", "dwi", "fmap", "perf", "meg", "eeg", "ieeg", "nirs", "motion", "beh"}
NO_SCANS = {"mask", "dseg", "probseg", "defacemask"}
# What results hold beside what the structure knows.
_OWN_FILES = ("*.csv", "*.mrk.json", "*.provenance.json", "*.png", "cohort.*", "*.log")


def is_data_set(folder: Path) -> bool:
    """Whether a folder holds scans in this structure."""
    try:
        content = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and "BIDSVersion" in content


def find_files(root: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """The scans of a data set in the order of their paths, and which images were passed over and why."""
    scans, passed_over = [], []
    for path in sorted(root.glob("sub-*/**/sub-*")):
        name = path.name.lower()
        if not path.is_file() or not name.endswith(READABLE_EXTENSIONS):
            continue
        kind, suffix = path.parent.name, _split(path.name)[1]
        if kind in NO_IMAGES:
            passed_over.append((path, f"an image of the kind '{kind}'"))
        elif suffix in NO_SCANS:
            passed_over.append((path, f"a segmentation ('{suffix}')"))
        else:
            scans.append(path)
    return scans, passed_over


def subject_of(path: Path) -> str | None:
    """The subject that a path names, as ``sub-01``."""
    return next((part.split("_")[0] for part in path.parts if part.startswith("sub-")), None)


def result_place(root: Path, scan: Path) -> tuple[Path, str]:
    """Folder, within that of the results, and name of the results of a scan; its entities are kept."""
    entities, suffix = _split(scan.name)
    description = next((e[5:] for e in entities if e.startswith("desc-")), "")
    kept = [e for e in entities if not e.startswith("desc-")]
    return scan.parent.relative_to(root), "_".join([*kept, f"desc-{description}{LABEL}", suffix])


def _split(name: str) -> tuple[list[str], str]:
    """Entities and suffix of a file name."""
    *entities, last = name.split("_")
    return entities, last.partition(".")[0]


def write_description(folder: Path, root: Path) -> None:
    """Declare a folder to be a derivative of a data set.

    Raises:
        InputError: the folder is the data set itself, or holds another one.
    """
    if folder.resolve() == root.resolve():
        raise InputError(f"'{folder}' is the data set itself: choose a folder such as derivatives/h3delandmarks in it.")
    made_by = {"Name": "H3DELandmarks", "Version": __version__}
    path = folder / DESCRIPTION
    if path.exists() and made_by["Name"] not in path.read_text(encoding="utf-8", errors="replace"):
        raise InputError(f"'{folder}' holds another data set: choose another folder for the results.")
    source = root.resolve().as_uri()
    _write(
        path,
        {
            "Name": "Anatomical landmarks",
            "BIDSVersion": VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [made_by],
            "SourceDatasets": [{"URL": source}],
            "DatasetLinks": {"raw": source},
        },
    )
    if not (folder / IGNORED).exists():
        with atomic_write(folder / IGNORED, durable=False) as temporary:
            temporary.write_text("\n".join(_OWN_FILES) + "\n", encoding="utf-8")


def write_sidecar(folder: Path, name: str, source: Path, model: str) -> None:
    """Say of results which file of the data set they are of.

    Args:
        folder, name: of the results.
        source: path of the scan within the data set.
        model: ``id@version``.
    """
    content = {
        "Description": f"Anatomical landmarks found by the model {model}, in millimeters",
        "Sources": [f"bids:raw:{source.as_posix()}"],
        "SpatialReference": "orig",
    }
    _write(folder / f"{name}.json", content)


def _write(path: Path, content: Any) -> None:
    with atomic_write(path, durable=False) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
