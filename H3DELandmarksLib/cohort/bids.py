"""Data sets in the Brain Imaging Data Structure: which files are scans, and results as a derivative of them.

Results of ``sub-01/ses-1/anat/sub-01_ses-1_acq-thin_ct.nii.gz`` are
``sub-01/ses-1/anat/sub-01_ses-1_acq-thin_desc-landmarks_ct.*``, with a ``.json`` that names the source. Several data
sets may have results in one folder, which names all of them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from H3DELandmarksLib import __version__
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import atomic_write, walked
from H3DELandmarksLib.core.image_plane import LengthUnit
from H3DELandmarksLib.io.images import READABLE_EXTENSIONS, without_ending

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
    """The scans of a data set in the order of their paths, and which images were passed over and why.

    Folders are followed behind links. A link that leads nowhere, as of data that were not downloaded, counts as a scan:
    reading tells.
    """
    scans, passed_over = [], []
    folders = (walk for subject in root.glob("sub-*") for walk in walked(subject))
    for path in sorted(place / name for place, _, files in folders for name in files):
        if not path.name.startswith("sub-") or not path.name.lower().endswith(READABLE_EXTENSIONS):
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
    """The subject that the path of a scan names, as ``sub-01``."""
    parts = (*path.parent.parts, without_ending(path.name))
    return next((part.split("_")[0] for part in parts if part.startswith("sub-")), None)


def result_place(root: Path, scan: Path, mark: str = "") -> tuple[Path, str]:
    """Folder, within that of the results, and name of the results of a scan; its entities are kept.

    Args:
        root: of the data set.
        scan: its path.
        mark: added to the description, letters and digits.
    """
    entities, suffix = _split(scan.name)
    description = next((e[5:] for e in entities if e.startswith("desc-")), "")
    kept = [e for e in entities if not e.startswith("desc-")]
    return scan.parent.relative_to(root), "_".join([*kept, f"desc-{description}{mark}{LABEL}", suffix])


def _split(name: str) -> tuple[list[str], str]:
    """Entities and suffix of a file name."""
    *entities, last = name.split("_")
    return entities, last.partition(".")[0]


def write_description(folder: Path, root: Path) -> None:
    """Declare a folder to be a derivative of a data set, beside those of which it holds results already.

    Raises:
        InputError: the folder is the data set itself, or holds another one.
    """
    if folder.resolve() == root.resolve():
        raise InputError(f"'{folder}' is the data set itself: choose a folder such as derivatives/h3delandmarks in it.")
    made_by = {"Name": "H3DELandmarks", "Version": __version__}
    path = folder / DESCRIPTION
    if path.exists() and made_by["Name"] not in path.read_text(encoding="utf-8", errors="replace"):
        raise InputError(f"'{folder}' holds another data set: choose another folder for the results.")
    links = _with_link(_links(folder), root)
    _write(
        path,
        {
            "Name": "Anatomical landmarks",
            "BIDSVersion": VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [made_by],
            "SourceDatasets": [{"URL": source} for source in links.values()],
            "DatasetLinks": links,
        },
    )
    if not (folder / IGNORED).exists():
        with atomic_write(folder / IGNORED, durable=False) as temporary:
            temporary.write_text("\n".join(_OWN_FILES) + "\n", encoding="utf-8")


def _links(folder: Path) -> dict[str, str]:
    """The data sets that the description of results names."""
    try:
        links = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8-sig"))["DatasetLinks"]
        return {str(name): str(source) for name, source in links.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _with_link(links: dict[str, str], root: Path) -> dict[str, str]:
    """The same, with a data set under a name of its own."""
    source = root.resolve().as_uri()
    names = ["raw", *(f"raw{number}" for number in range(2, len(links) + 2))]
    return links if source in links.values() else {**links, next(n for n in names if n not in links): source}


def write_sidecar(
    results: Path, folder: Path, name: str, root: Path, scan: Path, made: str, unit: LengthUnit = "mm"
) -> None:
    """Say of results which file of which data set they are of.

    Args:
        results: folder of all results, with the description.
        folder, name: of these.
        root: of the data set.
        scan: its path.
        made: how, such as ``found by the model ID@VERSION``.
        unit: of positions.
    """
    uri = root.resolve().as_uri()
    link = next(name for name, source in _with_link(_links(results), root).items() if source == uri)
    lengths = "pixels" if unit == "px" else "millimeters"
    content = {
        "Description": f"Anatomical landmarks {made}, in {lengths}",
        "Sources": [f"bids:{link}:{scan.relative_to(root).as_posix()}"],
        "SpatialReference": "orig",
    }
    _write(folder / f"{name}.json", content)


def _write(path: Path, content: Any) -> None:
    with atomic_write(path, durable=False) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
