"""The published data sets that can be converted to case folders, by name.

A converter is a function ``convert(source: Path, target: Path, options: Mapping, progress) -> Summary`` in a module of
its own, which is imported when it is used. `options` holds the values of the data set's own arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from H3DELandmarksResearch.converters.conversion import Progress, Summary


@dataclass(frozen=True)
class Converter:
    """How to convert one published data set.

    Attributes:
        module: where its function ``convert`` is.
        title: one line for the list of kinds.
        notes: what the published form looks like and what becomes of it.
        options: arguments that only this kind has: the keywords of argparse's ``add_argument`` by the flag as typed.
    """

    module: str
    title: str
    notes: str
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def load(self) -> Callable[[Path, Path, Mapping[str, Any], Progress], Summary]:
        """The function that converts."""
        return import_module(self.module).convert


_HOLD_OUT = {
    "type": int,
    "default": 10,
    "metavar": "N",
    "help": "every N-th training case serves for validation where the set has none; 0: none (default: %(default)s)",
}
_SPACING = {"metavar": "MM", "help": "width and height of a pixel in mm, as 0.1 or 0.1x0.12"}

CONVERTERS: dict[str, Converter] = {
    "mml": Converter(
        "H3DELandmarksResearch.converters.mml",
        "dental CT with 14 points of the lower molars (MML)",
        """\
Published form: folders train, val and test with NAME_volume.nrrd, NAME_label.npy (14 x 3 voxel coordinates) and
NAME_spacing.npy (3). Coordinates and voxel sizes follow the axes of the file; the header's geometry is not used.
A point that is NaN, all 0, all -1 or strongly negative is missing. The published split is kept.
Where the axes run in the patient is nowhere stated: it is found from the landmarks (right to left, second to third
molar, root to crown) unless --axes says it.
Then: h3delandmarks train mml --output DIR, with TARGET at ${H3DE_DATA}/mml.""",
        {
            "--axes": {
                "default": "auto",
                "metavar": "LPS",
                "help": "three letters: the side of the patient that each array axis runs to",
            }
        },
    ),
    "coco": Converter(
        "H3DELandmarksResearch.converters.coco",
        "radiographs with COCO-style key points",
        """\
Published form: JSON files with images and annotations (key points x, y, v), named after their subset (train, val,
test), and PNG, JPEG, BMP or TIFF images in any subfolder. v = 0 means missing. Images become volumes of one slice.
Pixel size: --spacing, else pixel_spacing of the image's entry, else what the set defines:
  isbi2015    0.1 mm
  cepha29     differs between devices: pixel_spacing in the JSON, or --spacing
  hand        the wrist's width (points 1 and 5) is 50 mm
  cephadoadu  not stated with the set (0.1 mm is often assumed): pixel_spacing in the JSON, or --spacing
  pelvis      not stated: pixel_spacing in the JSON, or --spacing (1 gives results in pixels)
Then: h3delandmarks train isbi2015 --output DIR, with TARGET at ${H3DE_DATA}/isbi2015; likewise for the others.""",
        {
            "--set": {
                "choices": ("isbi2015", "cepha29", "hand", "cephadoadu", "pelvis"),
                "default": None,
                "help": "which published set it is: gives names and pixel size",
            },
            "--spacing": _SPACING,
            "--hold-out": _HOLD_OUT,
        },
    ),
    "isbi2015": Converter(
        "H3DELandmarksResearch.converters.isbi2015",
        "the ISBI2015 cephalograms in the challenge's own form",
        """\
Published form: RawImage/{TrainingData,Test1Data,Test2Data}/NNN.bmp and, in AnnotationsByMD,
{400_senior,400_junior}/NNN.txt with one "x,y" line for each of 19 points. The reference is the mean of both doctors;
pixels measure 0.1 mm. Images 1 to 150 are for training, 151 to 300 (test1) and 301 to 400 (test2) for testing.
Then: h3delandmarks train isbi2015 --output DIR, with TARGET at ${H3DE_DATA}/isbi2015.""",
        {"--spacing": _SPACING, "--hold-out": _HOLD_OUT},
    ),
    "aasce2019": Converter(
        "H3DELandmarksResearch.converters.aasce2019",
        "spine radiographs with the corners of T1 to L5 (AASCE 2019, SpineWeb data set 16)",
        """\
Published form: pictures, and filenames.csv beside landmarks.csv (a row a picture: 68 x, then 68 y, as shares of its
size), or landmarks.json (pixels, with flags of faulty labels). The size of the pixels is unknown: without --spacing a
pixel counts as 1 mm, and lengths are pixels. Pictures of one patient stay in one subset.
Then: h3delandmarks train spine --output DIR, with TARGET at ${H3DE_DATA}/aasce2019.""",
        {"--spacing": _SPACING},
    ),
    "mouse-atlas": Converter(
        "H3DELandmarksResearch.converters.mouse_atlas",
        "mouse skulls in micro-CT with 45 points (muratmaga/mouse_CT_atlas, GPL-3.0)",
        """\
Published form: data/targets/*.nii.gz and data/target_LMs/*.mrk.json (or .fcsv). All point lists claim LPS, but many
hold RAS values: the reading that puts the points near bone is used. The points of 21 specimens lie in the frame of the
atlas's template. The motion into the scan is known for 16; they are written as published, and the configuration
mouse-skull moves them on loading; with --move-points they are written moved into the scan. For others it is found from
the specimens whose points fit, and they are written moved.
Then: h3delandmarks train mouse-skull --output DIR, with TARGET at ${H3DE_DATA}/mouse-skull.""",
        {
            "--poses": {"metavar": "FILE", "help": "motions from points to scans, like mouse-skull-poses.json"},
            "--move-points": {"action": "store_true", "help": "write points in the pose of the scan"},
        },
    ),
    "open-kbp": Converter(
        "H3DELandmarksResearch.converters.open_kbp",
        "head and neck CT with contours, from which 11 landmarks are derived (ababier/open-kbp)",
        """\
Published form: a folder a patient (pt_1 .. pt_340) with ct.csv, voxel_dimensions.csv and masks as Mandible.csv; also
read: pt_1_ct.nii.gz beside pt_1_organs.nii.gz. Scans are written in Hounsfield units. Landmarks follow written rules
(see the definitions in the point lists); what a contour does not support is unknown.
Then: h3delandmarks train head-neck-ct --output DIR, with TARGET at runs/data/head-neck-ct.""",
    ),
}
