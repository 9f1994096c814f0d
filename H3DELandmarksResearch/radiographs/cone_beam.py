"""The geometry of a radiograph: a point source, a flat detector, and where a point's shadow falls."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from H3DELandmarksLib.core.geometry import Grid


@dataclass(frozen=True)
class ConeBeam:
    """A source and a detector in the space of the volume (LPS mm).

    Seen from the source, `right` and `down` run to the right and downward; together with the direction from the source
    to the detector they are a right-handed frame, so that a radiograph is never mirrored.

    Attributes:
        source: (3,) the focal spot.
        corner: (3,) center of the detector's first pixel.
        right: (3,) unit direction of the detector's first axis.
        down: (3,) unit direction of its second axis, at right angles to the first.
        spacing: (2,) distance of pixel centers along both axes, mm at the detector; need not be equal.
        shape: pixels along both axes.
    """

    source: np.ndarray
    corner: np.ndarray
    right: np.ndarray
    down: np.ndarray
    spacing: np.ndarray
    shape: tuple[int, int]

    @property
    def toward(self) -> np.ndarray:
        """(3,) unit direction from the source to the detector, perpendicular to the detector."""
        return np.cross(self.right, self.down)

    @property
    def source_to_detector(self) -> float:
        """Length of the perpendicular from the source to the detector's plane, mm."""
        return float((self.corner - self.source) @ self.toward)

    @property
    def image_grid(self) -> Grid:
        """The lattice of the radiograph as a flat picture: pixels along L and P from the first pixel at the origin."""
        return Grid(np.diag([*self.spacing, 1.0, 1.0]), (*self.shape, 1))

    def magnification(self, points: np.ndarray) -> np.ndarray:
        """How many times larger (..., 3) LPS points appear at the detector; NaN where not in front of the source."""
        depth = (np.asarray(points, dtype=np.float64) - self.source) @ self.toward
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(depth > 0, self.source_to_detector / depth, np.nan)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Shadows of (..., 3) LPS points in the frame of `image_grid`: (..., 3) mm, the third coordinate 0.

        NaN where a point is NaN or does not lie in front of the source; a shadow may fall beside the detector.
        """
        offset = np.asarray(points, dtype=np.float64) - self.source
        hits = self.source + offset * self.magnification(points)[..., None] - self.corner
        across, along = hits @ self.right, hits @ self.down
        return np.stack([across, along, np.where(np.isfinite(across), 0.0, np.nan)], axis=-1)

    def pixel_distances(self) -> np.ndarray:
        """(X, Y) distance of the pixel centers from the source, mm."""
        foot = self.project(self.source + self.toward)
        x, y = (np.arange(n) * step - at for n, step, at in zip(self.shape, self.spacing, foot))
        return np.sqrt(x[:, None] ** 2 + y[None, :] ** 2 + self.source_to_detector**2)

    def refined(self, parts: tuple[int, int]) -> ConeBeam:
        """The same detector with every pixel cut into `parts` along both axes."""
        cut = np.asarray(parts)
        spacing = self.spacing / cut
        shift = (spacing - self.spacing) / 2
        corner = self.corner + shift[0] * self.right + shift[1] * self.down
        return replace(self, corner=corner, spacing=spacing, shape=tuple(int(n) for n in np.array(self.shape) * cut))


def aimed_beam(
    target: np.ndarray,
    toward: np.ndarray,
    up: np.ndarray,
    source_to_object: float,
    source_to_detector: float,
    spacing: np.ndarray,
    shape: tuple[int, int],
) -> ConeBeam:
    """A beam whose central ray passes a point and meets the middle of the detector at right angles.

    Args:
        target: (3,) LPS mm, the isocenter.
        toward: (3,) direction from the source to the detector, of any length.
        up: (3,) direction that points up in the radiograph, as far as it is at right angles to `toward`.
        source_to_object: distance of the source from the target, mm.
        source_to_detector: distance of the source from the detector, mm.
        spacing: (2,) of the pixels, mm.
        shape: pixels along both axes.
    """
    toward = np.asarray(toward, dtype=np.float64) / np.linalg.norm(toward)
    down = -(np.asarray(up, dtype=np.float64) - (up @ toward) * toward)
    down = down / np.linalg.norm(down)
    right = np.cross(down, toward)
    source = np.asarray(target, dtype=np.float64) - source_to_object * toward
    half = (np.asarray(shape) - 1) / 2 * spacing
    corner = source + source_to_detector * toward - half[0] * right - half[1] * down
    return ConeBeam(source, corner, right, down, np.asarray(spacing, dtype=np.float64), tuple(shape))
