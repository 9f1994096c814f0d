"""The point lists that detection puts into a scene, and when it may replace one.

A node attribute names the model, a node reference the volume, and a fingerprint tells whether somebody has edited the
points since: edited points, points that somebody has reviewed or locked, and a list that was renamed or cloned, which
has a name for what is in it, are never replaced.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from H3DELandmarksLib.core.candidates import Candidates
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.formats.provenance import Provenance
from H3DELandmarksLib.formats.reading import build, to_plain
from H3DELandmarksLib.scene.cases import CASE_ATTRIBUTE
from H3DELandmarksLib.scene.evidence import keep_evidence
from H3DELandmarksLib.scene.point_list import (
    POINT_LIST_CLASS,
    create_point_list,
    landmarks_from_point_list,
    nodes_of,
    place_beside,
    state_measurements,
    update_point_list,
    volume_of,
)
from H3DELandmarksLib.scene.proposal import keep_proposal, read_proposal
from H3DELandmarksLib.scene.scan_of_points import (
    FRAME_ATTRIBUTE,
    MODEL_ATTRIBUTE,
    PLACE_ATTRIBUTE,
    bind_points,
    has_lost_scan,
    is_of,
    rejoin_scan,
)

PROVENANCE_ATTRIBUTE = "H3DELandmarks.Provenance"
_FINGERPRINT_ATTRIBUTE = "H3DELandmarks.Fingerprint"
ORIGIN_ATTRIBUTES = (MODEL_ATTRIBUTE, PROVENANCE_ATTRIBUTE, CASE_ATTRIBUTE, FRAME_ATTRIBUTE, PLACE_ATTRIBUTE)


def show_detection(
    landmarks: LandmarkSet,
    volume_node,
    model: str,
    name: str,
    point_list=None,
    pairs: Sequence[tuple[str, str]] = (),
    frame: str = "",
    provenance: Provenance | None = None,
    candidates: Candidates | None = None,
):
    """Put detected landmarks into the scene, beside their volume.

    Args:
        landmarks: positions in LPS world mm.
        volume_node: the vtkMRMLScalarVolumeNode in which they were detected.
        model: id and version of the model, as in ``mouse-skull@1.0.0``.
        name: name of a new point list.
        point_list: vtkMRMLMarkupsFiducialNode to replace; a new one is made where that would lose somebody's work.
        pairs: (left name, right name) of landmarks that a review can exchange.
        frame: which frame of a sequence the volume showed, empty where it is not part of one.
        provenance: where the landmarks come from; the scene keeps it without names of files.
        candidates: all places where the landmarks may lie, LPS world mm, for revisions; None where nothing is known.

    Returns:
        The point list that shows them; the number of its points is fixed, so that a deleted one can be placed again.
    """
    if point_list is not None and may_be_replaced(point_list, volume_node, frame):
        update_point_list(point_list, landmarks)
    else:
        point_list = create_point_list(volume_node.GetScene(), landmarks, name, {MODEL_ATTRIBUTE: model})
        place_beside(point_list, volume_node)
    keep_proposal(point_list, pairs, dict(zip(landmarks.names, landmarks.causes)))
    point_list.SetFixedNumberOfControlPoints(True)
    point_list.SetAttribute(MODEL_ATTRIBUTE, model)
    bind_points(point_list, volume_node, frame)
    state_measurements(point_list, landmarks)  # whose unit is that of the volume
    point_list.SetAttribute(_FINGERPRINT_ATTRIBUTE, _fingerprint(point_list, landmarks))
    _keep_provenance(point_list, provenance)
    keep_evidence(point_list, landmarks.names, candidates)
    return point_list


def _keep_provenance(point_list, provenance: Provenance | None) -> None:
    """Keep where points come from with their list; scene files save it, files of point lists alone do not."""
    if provenance is None:
        point_list.RemoveAttribute(PROVENANCE_ATTRIBUTE)
        point_list.SetDescription("")
        return
    scan = provenance.scan and replace(provenance.scan, file=None)
    kept = replace(provenance, scan=scan, points=())  # the review keeps the points
    point_list.SetAttribute(PROVENANCE_ATTRIBUTE, json.dumps(to_plain(kept)))  # ASCII, as in scene files
    point_list.SetDescription(kept.line())


def provenance_of_list(point_list) -> Provenance | None:
    """Where the points of a list come from, without the points; None where nothing readable says so."""
    try:
        return build(Provenance, json.loads(point_list.GetAttribute(PROVENANCE_ATTRIBUTE) or ""))
    except ValueError:
        return None


def may_be_replaced(point_list, volume_node, frame: str = "") -> bool:
    """Whether a list was detected in this volume, or frame of it, and nobody has edited, reviewed or locked it."""
    locks = map(point_list.GetNthControlPointLocked, range(point_list.GetNumberOfControlPoints()))
    if not is_of(point_list, volume_node, frame) or point_list.GetLocked() or any(locks):
        return False
    proposal = read_proposal(point_list)
    if proposal is not None and proposal.accepted:
        return False
    try:
        fingerprint = _fingerprint(point_list, landmarks_from_point_list(point_list))
    except InputError:
        return False
    return fingerprint == point_list.GetAttribute(_FINGERPRINT_ATTRIBUTE)


def latest_detection(volume_node, model: str, frame: str = ""):
    """The newest point list that a model, given as id and version, has found in a volume; None if there is none."""
    nodes = reversed(nodes_of(volume_node.GetScene(), POINT_LIST_CLASS))
    found = (n for n in nodes if n.GetAttribute(MODEL_ATTRIBUTE) == model and is_of(n, volume_node, frame))
    return next(found, None)


def newest_list(volume_node, frame: str = ""):
    """The newest point list of a volume, or frame of it, detected or loaded as its case; None if there is none."""
    nodes = nodes_of(volume_node.GetScene(), POINT_LIST_CLASS)
    return next((node for node in reversed(nodes) if is_of(node, volume_node, frame)), None)


def rejoin_scan_of_original(point_list) -> None:
    """Let a clone, which Slicer makes without references to other nodes, belong to the scan of the list it is of.

    It is known for one by what says which run, or which case, its points come from, and where they lie in the scan.
    """
    if not has_lost_scan(point_list) or not any(map(point_list.GetAttribute, (PROVENANCE_ATTRIBUTE, CASE_ATTRIBUTE))):
        return
    own = [point_list.GetAttribute(name) for name in ORIGIN_ATTRIBUTES]
    for other in nodes_of(point_list.GetScene(), POINT_LIST_CLASS):
        volume = volume_of(other)
        if volume is not None and own == [other.GetAttribute(name) for name in ORIGIN_ATTRIBUTES]:
            rejoin_scan(point_list, volume)
            return


def _fingerprint(point_list, landmarks: LandmarkSet) -> str:
    """A short text that changes when a point is moved by more than about a micrometer, placed or removed.

    Or when a point or the list is renamed, or a point described anew.
    """
    present = [bool(p) for p in landmarks.present]
    positions = np.round(landmarks.positions[present], 3) + 0.0  # no negative zero
    content = repr((point_list.GetName(), landmarks.names, landmarks.definitions, present, positions.tolist()))
    return hashlib.sha256(content.encode()).hexdigest()[:16]
