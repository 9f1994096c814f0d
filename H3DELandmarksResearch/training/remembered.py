"""Findings that are kept in files, so that a calibration that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.candidates import Candidates
from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.core.geometry import Grid, Volume
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.detection.predictions import RawPredictions
from H3DELandmarksLib.models.package import ModelPackage, package_digest

EVIDENCE = ("positions", "presence_logit", "concentration")
PLACES = ("positions", "share", "covariance")


@dataclass(frozen=True)
class Remembered:
    """A detector that looks at each scan once.

    Attributes:
        detector: what looks.
        folder: of all models' findings; those of this one lie in a folder of their own.
    """

    detector: Detector
    folder: Path

    def findings(self, volume: Volume) -> RawPredictions:
        """As `Detector.findings`; what it has found in the same voxels before is read."""
        path = self._file_of(volume)
        if not path.exists():
            found = self.detector.findings(volume)
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as partial, partial.open("wb") as stream:
                np.savez(stream, **_to_arrays(found))
        with np.load(path) as kept:
            return _from_arrays(kept)

    def grid_of(self, volume: Volume) -> Grid:
        """As `Detector.grid_of`."""
        return self.detector.grid_of(volume)

    def _file_of(self, volume: Volume) -> Path:
        content = hashlib.sha256(np.ascontiguousarray(volume.affine, float).tobytes())
        content.update(f"{volume.array.dtype.str} {volume.array.shape}".encode())
        content.update(np.ascontiguousarray(volume.array).tobytes())
        return self.folder / kept_by(self.detector.package) / f"{content.hexdigest()[:24]}.npz"


def kept_by(package: ModelPackage) -> str:
    """Name of a folder for what a model finds: another one as soon as it would find something else."""
    return f"{package.id}-{package_digest(package)[:12]}"


def _to_arrays(found: RawPredictions) -> dict[str, np.ndarray]:
    """Findings before structures are counted, LPS mm, by name."""
    places = {} if found.candidates is None else {f"place_{name}": getattr(found.candidates, name) for name in PLACES}
    pose = {"rotation": found.pose.rotation, "translation": found.pose.translation}
    closer = {} if found.closer is None else {"closer": found.closer}
    return {**{name: getattr(found, name) for name in EVIDENCE}, **pose, **places, **closer}


def _from_arrays(kept: Mapping[str, np.ndarray]) -> RawPredictions:
    """What `_to_arrays` gave; older ones have no places of the networks."""
    places = [kept[f"place_{name}"] for name in PLACES] if "place_share" in kept else None
    pose = Pose(kept["rotation"], kept["translation"])
    closer = kept.get("closer")
    return RawPredictions(*(kept[name] for name in EVIDENCE), pose, places and Candidates(*places), closer=closer)
