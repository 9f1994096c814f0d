"""What a scan contains, so that the same scan is recognised whatever file it came from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from H3DELandmarksLib.cohort import strict_json as strict
from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.geometry import Grid, Volume, canonical

MOST_VOXELS = 2**31
SAME_PLACE = 0.05  # voxels; NIfTI keeps positions to about seven digits
_FIELDS = ("format_version", "voxels_sha256", "shape", "affine")


@dataclass(frozen=True)
class ImageContent:
    """Values and place of a scan, its axes in the order closest to L, P, S.

    Attributes:
        digest: SHA-256 of shape and values, whatever number type and axis order they were stored in.
        grid: where the voxels lie.
    """

    digest: str
    grid: Grid

    @property
    def case_id(self) -> str:
        """Id of the first case with these voxels; other cases with the same voxels elsewhere get a number behind."""
        return f"case-{self.digest[:16]}"

    def same_voxels(self, other: ImageContent) -> bool:
        """Whether the values are the same."""
        return self.digest == other.digest

    def same_image(self, other: ImageContent) -> bool:
        """Whether values and place are the same."""
        if not self.same_voxels(other) or self.grid.shape != other.grid.shape:
            return False
        corners = np.array(np.meshgrid(*([0, n - 1] for n in self.grid.shape), indexing="ij")).reshape(3, -1).T
        apart = self.grid.lps_from_ijk(corners) - other.grid.lps_from_ijk(corners)
        return bool(np.linalg.norm(apart, axis=1).max() <= SAME_PLACE * self.grid.spacing.min())

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "format_version": 1, "voxels_sha256": self.digest, "shape": list(self.grid.shape),
            "affine": self.grid.affine.tolist(),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Any) -> ImageContent:
        """Read the form written by `to_dict`; raises Malformed."""
        entry = strict.fields(data, _FIELDS)
        digest = strict.text(entry["voxels_sha256"], 64)
        if entry["format_version"] != 1 or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise strict.Malformed("another format")
        shape = tuple(strict.whole(size, 1, 2**16) for size in strict.listed(entry["shape"], 3))
        if len(shape) != 3 or np.prod(shape, dtype=np.float64) > MOST_VOXELS:
            raise strict.Malformed("no size of a scan")
        try:
            return cls(digest, Grid(strict.matrix(entry["affine"]), shape))
        except InputError as error:
            raise strict.Malformed("no geometry") from error


def content_of(volume: Volume) -> ImageContent:
    """The content of a scan; a scan that is flipped or stored in another number type has the same."""
    ordered = canonical(volume)
    digest = hashlib.sha256(np.array(ordered.array.shape, dtype="<i8").tobytes())
    for plane in np.moveaxis(ordered.array, -1, 0):
        digest.update(np.ascontiguousarray(plane, dtype="<f8") + 0.0)  # adding 0 makes -0 and 0 the same
    return ImageContent(digest.hexdigest(), ordered.grid)
