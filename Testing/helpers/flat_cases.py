"""Radiographs for tests: bright spots on one slice, in any plane and storage, with pixels that need not be square."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme, LandmarkSet

NAMES = ("Left", "Right", "Top")
DEFINITIONS = tuple(LandmarkDefinition(name, f"the {name} spot") for name in NAMES)
SCHEME = LandmarkScheme("spots", "1", DEFINITIONS, (("Left", "Right"),))
# mm on the sheet: x to the right, y down; where the spots of the mean radiograph lie, and how bright they are
SPOTS = np.array([[42.0, 40.0], [18.0, 37.0], [31.0, 14.0]])
BRIGHTNESS = np.array([1.0, 0.75, 0.5])
BREADTH = np.array([1.0, 1.0, 1.8])
SIZE = (60.0, 56.0)
# LPS directions of the sheet's x, y and normal
PLANES = {
    "axial": np.eye(3),
    "coronal": np.column_stack([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]]),
    "sagittal": np.column_stack([[0, 1.0, 0], [0, 0, -1.0], [-1.0, 0, 0]]),
    "oblique": Rotation.from_rotvec([0.2, -0.15, 0.3]).as_matrix(),
}
NETWORK = {
    "architecture": "hyatt",
    "settings": {
        "landmarks": 3,
        "in_channels": 1,
        "dims": [16, 16, 32, 32, 48],
        "heads": [1, 2, 4, 2, 3],
        "n_win": [4, 3, 2, 2],
        "topk": [1, 3, 2, 4],
        "mlp_ratios": [2, 2, 1, 1, 1],
        "neck_dim": 16,
        "image_dim": 4,
        "norm": "group",
    },
}


def radiograph(
    seed: int | None = None, spacing: tuple[float, float] = (0.6, 0.9), plane: str = "axial", width: float = 1.6
) -> tuple[Volume, LandmarkSet]:
    """A radiograph of three spots, and where they are.

    Args:
        seed: of shifts of the whole and of each spot; None for the mean radiograph.
        spacing: mm along x and y.
        plane: one of `PLANES`.
        width: mm at which a spot has fallen to 1/e; the last is broader.
    """
    rng = np.random.default_rng(seed)
    spots = SPOTS if seed is None else SPOTS + rng.uniform(-5, 5, 2) + rng.uniform(-1.5, 1.5, (3, 2))
    shape = np.rint(np.array(SIZE) / spacing).astype(int)
    x, y = np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, spacing)), indexing="ij")
    array = sum(
        bright * np.exp(-((x - p[0]) ** 2 + (y - p[1]) ** 2) / (broad * width) ** 2)
        for bright, broad, p in zip(BRIGHTNESS, BREADTH, spots)
    )
    affine = np.eye(4)
    affine[:3, :3] = PLANES[plane] * (*spacing, 1.7)
    affine[:3, 3] = -20, 35, 110
    volume = Volume((1000 * array[..., None]).astype(np.float32), affine)
    index = np.column_stack([spots / spacing, np.zeros(3)])
    return volume, LandmarkSet(NAMES, volume.grid.lps_from_ijk(index))


def stored_otherwise(volume: Volume, axes: tuple[int, ...], flips: tuple[bool, ...]) -> Volume:
    """The same pixels at the same places, with another order and direction of the array's axes."""
    affine, array = volume.affine.copy(), volume.array
    for axis, flip in enumerate(flips):
        if flip:
            array = np.flip(array, axis)
            affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
            affine[:3, axis] *= -1
    return Volume(array.transpose(axes), affine[:, [*axes, 3]])


def distance_to_plane(volume: Volume, points: np.ndarray) -> np.ndarray:
    """(K,) mm between points and the plane through the centers of a radiograph's pixels."""
    axis = volume.array.shape.index(1)
    first, second = (volume.affine[:3, other] for other in range(3) if other != axis)
    normal = np.cross(first, second)
    return np.abs((points - volume.affine[:3, 3]) @ (normal / np.linalg.norm(normal)))
