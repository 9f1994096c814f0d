"""What a network saw, kept with a point list: the likeliest places of each landmark, some kilobytes.

With them a revision has the network's evidence without running it again. They never change, so that they lie in an
attribute of their own, which no step of a review writes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from H3DELandmarksLib.core.candidates import Candidates, Place
from H3DELandmarksLib.formats.case_record import Coordinate
from H3DELandmarksLib.formats.reading import NotNegative, Share, to_plain
from H3DELandmarksLib.scene.point_list import LPS_FROM_RAS, matrix_to_world, parsed

ATTRIBUTE = "H3DELandmarks.Evidence"


@dataclass(frozen=True)
class _Stored:
    """The attribute: for each landmark x, y, z (RAS mm of the node), share and spread (mm) of each place."""

    version: Literal[1]
    places: dict[str, tuple[tuple[Coordinate, Coordinate, Coordinate, Share, NotNegative], ...]]


def keep_evidence(node, names: Sequence[str], candidates: Candidates | None) -> None:
    """Keep where a network saw the landmarks of a list in the node's attributes, which scene files save.

    Args:
        node: vtkMRMLMarkupsFiducialNode.
        names: of the landmarks.
        candidates: theirs, LPS world mm; None where nothing is known.
    """
    to_world = matrix_to_world(node)
    if candidates is None or to_world is None or not candidates.share.any():
        node.RemoveAttribute(ATTRIBUTE)
        return
    moved = _mapped(candidates, np.linalg.inv(to_world) @ LPS_FROM_RAS)
    _write(node, dict(zip(names, moved.listed())))


def kept_evidence(node, names: Sequence[str]) -> Candidates | None:
    """All places of landmarks, LPS world mm; None where a list keeps none, or a warp above it has moved them.

    Args:
        node: vtkMRMLMarkupsFiducialNode.
        names: of the landmarks, in the wanted order.
    """
    stored, to_world = _kept(node), matrix_to_world(node)
    if stored is None or to_world is None:
        return None
    return _mapped(Candidates.of([stored.get(name, ()) for name in names]), LPS_FROM_RAS @ to_world)


def move_evidence(node, before: np.ndarray | None) -> None:
    """Leave evidence at its place in the world after a transform was hardened.

    Args:
        node: vtkMRMLMarkupsFiducialNode.
        before: what `matrix_to_world` gave before; None where that was no matrix, so that the evidence is lost.
    """
    stored, now = _kept(node), matrix_to_world(node)
    if stored is None:
        return
    if before is None or now is None:
        node.RemoveAttribute(ATTRIBUTE)
        return
    moved = _mapped(Candidates.of(list(stored.values())), np.linalg.inv(now) @ before)
    _write(node, dict(zip(stored, moved.listed())))


def _write(node, places: dict[str, list[Place]]) -> None:
    content = to_plain(_Stored(1, {name: tuple(rows) for name, rows in places.items() if rows}))
    node.SetAttribute(ATTRIBUTE, json.dumps(content, separators=(",", ":")))


def _kept(node) -> dict[str, tuple[Place, ...]] | None:
    stored = parsed(_Stored, node.GetAttribute(ATTRIBUTE))
    return None if stored is None else stored.places


def _mapped(candidates: Candidates, matrix: np.ndarray) -> Candidates:
    """The same after a linear map (4, 4)."""
    positions = candidates.positions @ matrix[:3, :3].T + matrix[:3, 3]
    return Candidates(positions, candidates.share, matrix[:3, :3] @ candidates.covariance @ matrix[:3, :3].T)
