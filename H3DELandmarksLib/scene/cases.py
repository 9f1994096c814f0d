"""A scan with its reviewed points as cases keep them, and back.

Cases hold scans in their own geometry, so that a scan is recognised wherever a transform has moved it: the
parent transform of the volume is taken back from its points.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import slicer.util
import vtk

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume, canonical
from H3DELandmarksLib.core.landmarks import LandmarkSet, ReviewState
from H3DELandmarksLib.formats.case_record import ImageContent
from H3DELandmarksLib.scene.point_list import (
    LPS_FROM_RAS,
    POINT_LIST_CLASS,
    create_point_list,
    nodes_of,
    place_beside,
    set_volume,
    state_measurements,
    volume_of,
)
from H3DELandmarksLib.scene.proposal import keep_proposal, landmarks_of_list, write_proposal
from H3DELandmarksLib.scene.review import Review
from H3DELandmarksLib.scene.scan_of_points import MODEL_ATTRIBUTE, bind_decided_points, bind_points, why_apart
from H3DELandmarksLib.scene.volumes import own_volume_from_node, why_unusable, world_from_own

CASE_ATTRIBUTE = "H3DELandmarks.Case"
FOLDERS_ATTRIBUTE = "H3DELandmarks.CaseFolders"
VOLUME_CLASS = "vtkMRMLScalarVolumeNode"
ABSENCES = (ReviewState.ABSENT, ReviewState.ABSENT_IN_BULK)
AGREEMENTS = (ReviewState.ACCEPTED, ReviewState.ACCEPTED_IN_BULK, *ABSENCES)


@dataclass(frozen=True)
class ReviewedCase:
    """A scan with what a model proposed and a person decided.

    Attributes:
        volume: the scan in its own geometry, without any parent transform; the array is the node's memory.
        corrected: where the points lie now, LPS mm of the scan.
        proposed: what the model had said, LPS mm of the scan, of the same names in the same order.
        states: of each landmark by name.
        model: ID@VERSION of the model, empty for points that no model has proposed.
        revised_by: what has changed what the model said, by name of the landmark, see `ReviewedLandmark`.
    """

    volume: Volume
    corrected: LandmarkSet
    proposed: LandmarkSet
    states: Mapping[str, ReviewState]
    model: str
    revised_by: Mapping[str, str] = field(default_factory=dict)


def reviewed_case(volume_node, point_list) -> ReviewedCase:
    """A volume with the review of its points.

    Args:
        volume_node: vtkMRMLScalarVolumeNode, under any linear transform.
        point_list: vtkMRMLMarkupsFiducialNode.

    Raises:
        InputError: the volume or the points cannot be used, the points are of another volume, or one that is gone, the
            volume shows another frame of its sequence, or both were moved apart.
    """
    reason = why_unusable(volume_node) or _why_of_other(volume_node, point_list) or why_apart(point_list)
    if reason:
        raise InputError(reason)
    corrected = landmarks_of_list(point_list)
    review = Review(point_list)
    landmarks = review.landmarks()
    states = {landmark.name: landmark.state for landmark in landmarks}
    own_from_world = np.linalg.inv(world_from_own(volume_node))
    return ReviewedCase(
        own_volume_from_node(volume_node),
        _moved(corrected, own_from_world),
        _moved(review.proposed(), own_from_world),
        states,
        point_list.GetAttribute(MODEL_ATTRIBUTE) or "",
        {landmark.name: landmark.revised_by for landmark in landmarks if landmark.revised_by},
    )


def _why_of_other(volume_node, point_list) -> str:
    own = volume_of(point_list)
    if own in (None, volume_node):
        return ""
    return f"The points '{point_list.GetName()}' are of the volume '{own.GetName()}': choose that one."


def show_case(
    volume_node,
    case_id: str,
    corrected: LandmarkSet,
    proposed: LandmarkSet,
    states: Mapping[str, ReviewState],
    model: str = "",
    pairs: Sequence[tuple[str, str]] = (),
    revised_by: Mapping[str, str] | None = None,
    folder: Path | None = None,
):
    """Put the points of a kept case into the scene of its volume, for the review to go on.

    Args:
        volume_node: vtkMRMLScalarVolumeNode that shows the scan of the case.
        case_id: of the case.
        corrected: positions of all points that have one, LPS mm of the scan; of the same names as `proposed`.
        proposed: what the model had said, LPS mm of the scan.
        states: of each landmark by name.
        model: ID@VERSION.
        pairs: (left name, right name).
        revised_by: what has changed what the model said, by name of the landmark.
        folder: of the cases, see `remember_case`.

    Returns:
        vtkMRMLMarkupsFiducialNode whose review says the same as the case.
    """
    world = world_from_own(volume_node)
    proposed = _moved(proposed, world)
    attributes = {CASE_ATTRIBUTE: case_id, **({MODEL_ATTRIBUTE: model} if model else {})}
    name = f"{volume_node.GetName()} points"
    node = create_point_list(volume_node.GetScene(), proposed, name, attributes)
    set_volume(node, volume_node)
    state_measurements(node, proposed)  # whose unit is that of the volume
    place_beside(node, volume_node)
    keep_proposal(node, pairs, dict(zip(proposed.names, proposed.causes)))
    node.SetFixedNumberOfControlPoints(True)
    bind_points(node, volume_node)
    remember_case(volume_node, node, case_id, folder)
    _decide(node, _moved(corrected, world), states, revised_by or {})
    return node


def remember_case(volume_node, point_list, case_id: str, folder: Path | None = None) -> None:
    """Note with both nodes which case they are, and with the points in which folder of cases they are kept.

    Points that nothing binds to a volume belong to this one now. The same scan is one case in every folder, with other
    points in each.
    """
    bind_decided_points(point_list, volume_node)
    is_known = point_list.GetAttribute(CASE_ATTRIBUTE) == case_id
    volume_node.SetAttribute(CASE_ATTRIBUTE, case_id)
    point_list.SetAttribute(CASE_ATTRIBUTE, case_id)
    folders = _folders(point_list) if is_known else []
    if folder is not None:
        folders.append(_folder_key(folder))
    point_list.SetAttribute(FOLDERS_ATTRIBUTE, " ".join(dict.fromkeys(folders)) or None)


def find_case(
    scene, case_id: str, folder: Path | None = None, content: ImageContent | None = None
) -> tuple[object, object]:
    """The newest point list of a case with its volume, else the newest one, None for each that the scene does not have.

    Args:
        scene: vtkMRMLScene.
        case_id: of the case.
        folder: of the cases; points that are kept in other folders only are not meant. Of those of earlier versions
            nobody knows the folder; they come last.
        content: of the scan. A volume that lies elsewhere, as a copy that was cut or moved, is not meant.
    """
    volumes, lists = (_of_case(scene, kind, case_id) for kind in (VOLUME_CLASS, POINT_LIST_CLASS))
    if folder is not None:
        key = _folder_key(folder)
        lists = [n for n in lists if key in _folders(n)] or [n for n in lists if not _folders(n)]
    points = next(iter(lists), None)
    own = None if points is None else volume_of(points)
    if own in volumes:
        return own, points
    return next((node for node in volumes if content is None or _lies_as(node, content)), None), points


def _lies_as(volume_node, content: ImageContent) -> bool:
    """Whether a volume node has its voxels, without its transforms, where a scan has them."""
    return not why_unusable(volume_node) and content.same_place(canonical(own_volume_from_node(volume_node)).grid)


def _folders(point_list) -> list[str]:
    return (point_list.GetAttribute(FOLDERS_ATTRIBUTE) or "").split()


def _folder_key(folder: Path) -> str:
    """What tells a folder from others in a scene file, which may be given away, without its path."""
    return hashlib.sha256(str(Path(folder).resolve()).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def world_position_of(volume_node, position: Sequence[float]) -> np.ndarray:
    """(3,) RAS world mm of a position in LPS mm of a volume's own geometry."""
    return (LPS_FROM_RAS @ world_from_own(volume_node) @ np.append(position, 1.0))[:3]


def _of_case(scene, kind: str, case_id: str) -> list:
    """Nodes of a class that are a case, the newest first."""
    # A label map that was made from the scan is another thing, though of a derived class.
    exact = [node for node in nodes_of(scene, kind) if node.GetClassName() == kind]
    return [node for node in reversed(exact) if node.GetAttribute(CASE_ATTRIBUTE) == case_id]


def _decide(node, corrected: LandmarkSet, states: Mapping[str, ReviewState], revised_by: Mapping[str, str]) -> None:
    """Repeat a person's decisions on points that lie as proposed."""
    with slicer.util.NodeModify(node):
        for k, name in enumerate(corrected.names):
            state = states.get(name, ReviewState.UNKNOWN)
            if state in (ReviewState.MOVED, ReviewState.PLACED):
                position = corrected.positions[k] * (-1, -1, 1)
                node.SetNthControlPointPositionWorld(k, vtk.vtkVector3d(*position))
            elif state in ABSENCES:
                node.SetNthControlPointPositionMissing(k)
            elif state is ReviewState.UNKNOWN or state.is_unexamined:
                node.UnsetNthControlPointPosition(k)
    proposal = Review(node).proposal
    said = {name: replace(entry, revised_by=revised_by.get(name)) for name, entry in proposal.landmarks.items()}
    proposal = replace(proposal, landmarks=said)
    for in_bulk in (True, False):
        names = [name for name, state in states.items() if state in AGREEMENTS and state.in_bulk == in_bulk]
        proposal = proposal.with_accepted(names, in_bulk)
    write_proposal(node, proposal)


def _moved(landmarks: LandmarkSet, matrix: np.ndarray) -> LandmarkSet:
    """A set in another frame, by a (4, 4) LPS mm -> LPS mm matrix; where it scales, radii are scaled as volumes are."""
    volume = abs(np.linalg.det(matrix[:3, :3]))
    scale = 1.0 if np.isclose(volume, 1.0) else np.cbrt(volume)
    positions = landmarks.positions @ matrix[:3, :3].T + matrix[:3, 3]
    return replace(landmarks, positions=positions, radius=landmarks.radius * scale)
