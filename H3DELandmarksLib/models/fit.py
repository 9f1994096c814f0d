"""Which models can read a scan at all, judged by its header before anything is searched."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from H3DELandmarksLib.core.geometry import Grid
from H3DELandmarksLib.core.image_plane import why_other_kind
from H3DELandmarksLib.formats.manifest import Manifest, StageDesign
from H3DELandmarksLib.models.package import ModelPackage

# Voxels whose mean edge exceeds the model's limit by this factor hide what the landmarks are defined by.
HOPELESS = 3.0
# Neighboring crops share this part of their edges. More crops than this take minutes, about a third of a second each on
# a processor core: the scan is not of the kind that the model was made for.
OVERLAP = 0.25
MAX_CROPS = 500
CUBE_ROTATIONS, QUARTER_TURNS = 24, 4
# A scan that is smaller than this part of the crop in which a model sees the whole anatomy is one of something smaller.
TOO_SMALL = 0.125
# DICOM's codes of what no model for CT or radiographs can read, in words.
OTHER_MODALITIES = {"MR": "MRI", "US": "ultrasound", "PT": "PET", "NM": "nuclear medicine", "OP": "photographs"}


@dataclass(frozen=True)
class ScanFacts:
    """What a scan's header says.

    Attributes:
        shape: voxels along its axes; a radiograph has 1 along one of them.
        spacing: mm between voxel centers along the same axes.
        modality: DICOM's code, such as CT or MR; empty where nobody says.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    modality: str = ""

    @classmethod
    def of(cls, grid: Grid, modality: str = "") -> ScanFacts:
        """Facts of a scan with this grid."""
        return cls(grid.shape, tuple(grid.spacing.tolist()), modality)

    def counted_as_high(self, height: float | None) -> ScanFacts:
        """The same radiograph as a model sees it for which each is so many mm high; None for other models."""
        if height is None:
            return self
        factor = height / float(self.extent[-1])
        i, j, k = (float(edge * factor) for edge in self.spacing)
        return replace(self, spacing=(i, j, k))

    @property
    def used(self) -> np.ndarray:
        """(A, 2) voxels and spacing along the axes that have more than one voxel; of a single voxel, along all."""
        rows = np.array([self.shape, self.spacing], float).T
        return rows[rows[:, 0] > 1] if max(self.shape) > 1 else rows

    @property
    def extent(self) -> np.ndarray:
        """(A,) mm along the same axes."""
        return np.asarray(self.used.prod(axis=1))


def why_unfit(package: ModelPackage, facts: ScanFacts) -> str:
    """One sentence about why a model cannot find anything in a scan; empty where it may.

    Args:
        package: the model.
        facts: of the scan.
    """
    manifest = package.manifest
    kind = why_other_kind(package.id, manifest.is_2d, facts.shape)
    if kind:
        return kind
    facts = facts.counted_as_high(manifest.height_mm)
    size = " x ".join(f"{length:.0f}" for length in facts.extent)
    limit, edge = manifest.max_spacing_mm or np.inf, float(np.exp(np.log(facts.used[:, 1]).mean()))
    view = max(manifest.stages[0].shape) * manifest.stages[0].spacing_mm
    modality = _other_modality(manifest, facts.modality)
    if modality:
        return f"The model '{package.id}' reads {manifest.modality}, but this scan is {modality}."
    if edge > HOPELESS * limit:
        return f"The model '{package.id}' needs voxels of {limit:g} mm or less, but this scan has {edge:.2g} mm."
    if manifest.stages[0].fit is None and facts.extent.max() < TOO_SMALL * view:
        return f"The model '{package.id}' looks for an anatomy of up to {view:.0f} mm, but this scan covers {size} mm."
    if crop_count(manifest.stages[0], facts.extent.tolist()) > MAX_CROPS:
        return f"The model '{package.id}' is made for something much smaller than this scan, which covers {size} mm."
    return ""


def fitting_first(packages: Iterable[ModelPackage], facts: ScanFacts) -> list[tuple[ModelPackage, str]]:
    """Models with the answer of `why_unfit`: those that may fit first, else in the given order."""
    return sorted(((package, why_unfit(package, facts)) for package in packages), key=lambda pair: bool(pair[1]))


def tiles_along(size: int, tile: int) -> int:
    """How many overlapping tiles cover `size` voxels."""
    return 1 if size <= tile else math.ceil((size - OVERLAP * tile) / ((1 - OVERLAP) * tile))


def crop_count(stage: StageDesign, extent: Sequence[float]) -> int:
    """Crops that the search of a whole scan takes, over all poses.

    Args:
        stage: the first of a model.
        extent: (A,) mm along the scan's axes.
    """
    if stage.shows_all:
        return 1
    spacing = stage.spacing_in(extent)
    voxels = [max(1, int(np.ceil(length / spacing - 1e-6))) for length in extent]
    tiles = math.prod(tiles_along(size, tile) for size, tile in zip(voxels, stage.shape))
    turns = QUARTER_TURNS if stage.is_2d else CUBE_ROTATIONS
    return tiles * (turns if stage.sees_canonical_pose else 1)


def _other_modality(manifest: Manifest, modality: str) -> str:
    """In words, what DICOM says that the scan is, where the model reads something else."""
    name = OTHER_MODALITIES.get(modality.upper(), "")
    words = manifest.modality.upper().replace("-", " ").split()
    return "" if not manifest.modality or {modality.upper(), name.upper()} & set(words) else name
