"""Which scan the points of a list belong to, and whether they lie in it as they did when they were found or placed.

A node reference names the volume, an attribute its frame, and another one where the volume lay, seen from the points.
That one stays when the volume is removed, so that a list without its scan is known for one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np

from H3DELandmarksLib.formats.reading import Finite, to_plain
from H3DELandmarksLib.scene.point_list import matrix_to_world, parsed, set_volume, volume_of
from H3DELandmarksLib.scene.volumes import current_frame, own_from_voxels

MODEL_ATTRIBUTE = "H3DELandmarks.Model"
FRAME_ATTRIBUTE = "H3DELandmarks.Frame"
PLACE_ATTRIBUTE = "H3DELandmarks.ScanPlace"
SAME_PLACE_VOXELS = 0.1  # scene files round what they keep


@dataclass(frozen=True)
class _Place:
    """The attribute: voxels of the volume, and the rows of the matrix from voxel indices to RAS mm of the points' node.

    There is no matrix where a warp lies between both.
    """

    version: Literal[1]
    size: tuple[int, int, int]
    matrix: tuple[Finite, ...] | None


def bind_points(point_list, volume_node, frame: str = "") -> None:
    """Let points belong to a volume, or a frame of its sequence, as both lie now.

    Args:
        point_list: vtkMRMLMarkupsFiducialNode.
        volume_node: vtkMRMLScalarVolumeNode.
        frame: as of `current_frame`.
    """
    set_volume(point_list, volume_node)
    point_list.SetAttribute(FRAME_ATTRIBUTE, frame or None)
    _write(point_list, _size_of(volume_node), _node_from_voxels(point_list, volume_node))


def bind_decided_points(point_list, volume_node) -> None:
    """As `bind_points` where a person decides about points that nothing binds yet, to what the volume shows now."""
    if volume_of(point_list) is None and not has_lost_scan(point_list):
        bind_points(point_list, volume_node, current_frame(volume_node))


def rejoin_scan(point_list, volume_node) -> None:
    """Let points that have lost their scan belong to the same one again, which was loaded as another node."""
    set_volume(point_list, volume_node)


def has_lost_scan(point_list) -> bool:
    """Whether points belong to a volume that the scene does not have any more."""
    bonds = (PLACE_ATTRIBUTE, MODEL_ATTRIBUTE)  # earlier versions kept no place
    return volume_of(point_list) is None and any(point_list.GetAttribute(name) for name in bonds)


def frame_of(point_list) -> str:
    """Which frame of a sequence points belong to, as of `current_frame`."""
    return point_list.GetAttribute(FRAME_ATTRIBUTE) or ""


def is_of(point_list, volume_node, frame: str) -> bool:
    """Whether points belong to this volume, and to this frame of it."""
    return volume_of(point_list) is volume_node and frame_of(point_list) == frame


def shows_frame(point_list) -> bool:
    """Whether the volume of points shows their frame; a volume outside sequences shows the only one that it has."""
    volume = volume_of(point_list)
    return volume is None or is_of(point_list, volume, current_frame(volume))


def has_left_scan(point_list) -> bool:
    """Whether a transform has moved points or their volume without the other.

    False where nobody knows: a volume of another size was cut or resampled, and lies where it did.
    """
    place, volume = _kept(point_list), volume_of(point_list)
    if place is None or place.matrix is None or volume is None or sorted(_size_of(volume)) != sorted(place.size):
        return False
    now = _node_from_voxels(point_list, volume)
    return now is None or not _fills(place, volume, now)


def can_follow_scan(point_list) -> bool:
    """Whether points that have left their scan lie in it again under the transform of the volume."""
    place, volume = _kept(point_list), volume_of(point_list)
    return has_left_scan(point_list) and _fills(place, volume, own_from_voxels(volume))


def follow_scan(point_list) -> None:
    """Put points under the transform of their volume, where `can_follow_scan` says so."""
    if can_follow_scan(point_list):
        point_list.SetAndObserveTransformNodeID(volume_of(point_list).GetTransformNodeID())


def why_apart(point_list) -> str:
    """One sentence about why points and their scan cannot be used together now, empty where they can."""
    name = point_list.GetName()
    if has_lost_scan(point_list):
        return f"The scan of the points '{name}' is gone: open the scene that has both, or detect again."
    volume = volume_of(point_list)
    if not shows_frame(point_list):
        frame = frame_of(point_list)
        return f"The volume '{volume.GetName()}' shows another frame than that of the points: go back to '{frame}'."
    if has_left_scan(point_list):
        return (
            f"The volume '{volume.GetName()}' and its points were moved apart: put both under the same transform, or "
            "detect again."
        )
    return ""


def move_place(point_list, before: np.ndarray | None) -> None:
    """Leave the place of the scan where it is in the world after a transform was hardened on its points.

    Args:
        point_list: vtkMRMLMarkupsFiducialNode.
        before: what `matrix_to_world` gave before; None where that was no matrix.
    """
    place, now = _kept(point_list), matrix_to_world(point_list)
    if place is None or place.matrix is None:
        return
    moved = None if before is None or now is None else np.linalg.inv(now) @ before @ _matrix(place.matrix)
    _write(point_list, place.size, moved)


def _write(point_list, size: tuple[int, int, int], matrix: np.ndarray | None) -> None:
    rows = None if matrix is None else tuple(matrix[:3].ravel().tolist())
    content = to_plain(_Place(1, size, rows))
    point_list.SetAttribute(PLACE_ATTRIBUTE, json.dumps(content, separators=(",", ":")))


def _kept(point_list) -> _Place | None:
    place = parsed(_Place, point_list.GetAttribute(PLACE_ATTRIBUTE))
    return place if place is None or place.matrix is None or len(place.matrix) == 12 else None


def _matrix(rows: tuple[float, ...]) -> np.ndarray:
    return np.vstack([np.reshape(np.array(rows), (3, 4)), np.array([[0.0, 0.0, 0.0, 1.0]])])


def _size_of(volume_node) -> tuple[int, int, int]:
    image = volume_node.GetImageData()
    x, y, z = image.GetDimensions() if image is not None else (0, 0, 0)
    return x, y, z


def _node_from_voxels(point_list, volume_node) -> np.ndarray | None:
    """(4, 4) from voxel indices of a volume to RAS mm of the node of points; None where a warp lies between both."""
    own = own_from_voxels(volume_node)
    if point_list.GetParentTransformNode() is volume_node.GetParentTransformNode():
        return own
    node, volume = matrix_to_world(point_list), matrix_to_world(volume_node)
    return None if node is None or volume is None else np.linalg.inv(node) @ volume @ own


def _fills(place: _Place | None, volume_node, matrix: np.ndarray) -> bool:
    """Whether the voxels of a volume fill the same box as before; scene files may turn their order round.

    Args:
        place: of before.
        volume_node: vtkMRMLScalarVolumeNode.
        matrix: (4, 4) from its voxel indices to RAS mm of the points' node.
    """
    if place is None or place.matrix is None:
        return False
    before, now = _corners(_matrix(place.matrix), place.size), _corners(matrix, _size_of(volume_node))
    nearest = np.linalg.norm(before[:, None] - now, axis=2).min(axis=1)
    return bool(nearest.max() < SAME_PLACE_VOXELS * np.linalg.norm(matrix[:3, :3], axis=0).min())


def _corners(matrix: np.ndarray, size: tuple[int, int, int]) -> np.ndarray:
    """(8, 3) corners of a volume."""
    ends = product(*((-0.5, count - 0.5) for count in size))
    return np.array(list(ends)) @ matrix[:3, :3].T + matrix[:3, 3]
