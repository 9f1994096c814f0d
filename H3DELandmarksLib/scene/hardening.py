"""Transforms that are hardened on a point list: its points keep their place in the world, and so must its proposal."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from H3DELandmarksLib.scene.proposal import read_proposal, world_position, write_proposal

SAME_PLACE_MM = 1e-6


@dataclass(frozen=True)
class _Places:
    """Where a point list lies; arrays are (N, 3) mm of its points, whatever their status."""

    local: np.ndarray
    world: np.ndarray
    proposed: dict[str, np.ndarray]  # RAS world mm by name


class HardeningWatch:
    """Notices that a transform was hardened, as long as it is asked after every change of a point list."""

    def __init__(self, node) -> None:
        """Args: the vtkMRMLMarkupsFiducialNode."""
        self._node = node
        self._places = _places(node)

    def follow(self) -> bool:
        """Leave the proposal at its place in the world if a transform was hardened; returns whether one was.

        Hardening changes all positions in the frame of the node and none in the world.
        """
        before, self._places = self._places, _places(self._node)
        now = self._places
        if not len(now.local) or now.local.shape != before.local.shape:
            return False
        stayed = np.abs(now.world - before.world).max() < SAME_PLACE_MM * max(1.0, np.abs(now.world).max())
        if not stayed or np.array_equal(now.local, before.local):
            return False
        self._move_proposal(before.proposed)
        self._places = _places(self._node)
        return True

    def _move_proposal(self, world: dict[str, np.ndarray]) -> None:
        proposal = read_proposal(self._node)
        if proposal is None:
            return
        landmarks = {
            name: replace(entry, position=self._local(world[name])) if name in world else entry
            for name, entry in proposal.landmarks.items()
        }
        write_proposal(self._node, replace(proposal, landmarks=landmarks))

    def _local(self, world: np.ndarray) -> tuple[float, float, float]:
        local = [0.0, 0.0, 0.0]
        self._node.TransformPointFromWorld(world, local)
        return tuple(local)


def _places(node) -> _Places:
    indices = range(node.GetNumberOfControlPoints())
    proposal = read_proposal(node)
    entries = proposal.landmarks.items() if proposal else ()
    return _Places(
        np.array([node.GetNthControlPointPosition(k) for k in indices]).reshape(-1, 3),
        np.array([node.GetNthControlPointPositionWorld(k) for k in indices]).reshape(-1, 3),
        {name: world_position(node, entry.position) for name, entry in entries if entry.position is not None},
    )
