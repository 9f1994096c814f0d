"""Undo and redo of everything that happens to a point list under review, by whatever means it was changed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer.util
import vtk

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.scene.point_list import point_indices, update_point_list
from H3DELandmarksLib.scene.proposal import ATTRIBUTE, proposed_landmarks, restate_values

MOST_STEPS = 200


@dataclass(frozen=True)
class _Point:
    """A control point; the position is RAS mm of the node, None where it is not defined."""

    label: str
    description: str
    status: int
    position: tuple[float, ...] | None
    locked: bool


@dataclass(frozen=True)
class _Snapshot:
    points: tuple[_Point, ...]
    proposal: str | None
    locked: bool


class ReviewHistory:
    """Remembers the steps of a review as long as it is looked at; scene files do not keep it."""

    def __init__(self, node) -> None:
        """Args: the vtkMRMLMarkupsFiducialNode."""
        self._node = node
        self._now = _snapshot(node)
        self._past: list[_Snapshot] = []
        self._future: list[_Snapshot] = []

    @property
    def node(self):
        """The vtkMRMLMarkupsFiducialNode."""
        return self._node

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        return bool(self._past)

    @property
    def can_redo(self) -> bool:
        """Whether a step was taken back."""
        return bool(self._future)

    @property
    def is_outdated(self) -> bool:
        """Whether another proposal has taken the place of the one that was there at the last `note`."""
        return self._node.GetAttribute(ATTRIBUTE) != self._now.proposal

    @property
    def has_changed(self) -> bool:
        """Whether something has changed since `note`."""
        return _snapshot(self._node) != self._now

    def note(self) -> bool:
        """Remember what has changed since the last call as one step; returns whether something has."""
        now = _snapshot(self._node)
        if now == self._now:
            return False
        self._past = [*self._past, self._now][-MOST_STEPS:]
        self._future.clear()
        self._now = now
        return True

    def undo(self) -> None:
        """Take back one step."""
        self.note()
        if self._past:
            self._future.append(self._now)
            self._go_to(self._past.pop())

    def redo(self) -> None:
        """Do again what was taken back."""
        self.note()
        if self._future:
            self._past.append(self._now)
            self._go_to(self._future.pop())

    def _go_to(self, snapshot: _Snapshot) -> None:
        _restore(self._node, snapshot)
        self._now = _snapshot(self._node)


def _snapshot(node) -> _Snapshot:
    points = tuple(_point(node, k) for k in point_indices(node))
    return _Snapshot(points, node.GetAttribute(ATTRIBUTE), bool(node.GetLocked()))


def _point(node, k: int) -> _Point:
    status = node.GetNthControlPointPositionStatus(k)
    if status == node.PositionPreview:  # while a point is being placed it follows the mouse
        status = node.PositionUndefined
    position = tuple(node.GetNthControlPointPosition(k)) if status == node.PositionDefined else None
    return _Point(
        node.GetNthControlPointLabel(k),
        node.GetNthControlPointDescription(k),
        status,
        position,
        bool(node.GetNthControlPointLocked(k)),
    )


def _restore(node, snapshot: _Snapshot) -> None:
    with slicer.util.NodeModify(node):
        # Before the first step of a review nothing was kept: what that step has kept knows the values of before.
        node.SetAttribute(ATTRIBUTE, snapshot.proposal or node.GetAttribute(ATTRIBUTE))
        if len(point_indices(node)) != len(snapshot.points):
            _rebuild(node, snapshot)
        for k, point in zip(point_indices(node), snapshot.points):
            if _point(node, k) != point:
                _restore_point(node, k, point)
        node.SetLocked(snapshot.locked)
        restate_values(node)
        node.SetAttribute(ATTRIBUTE, snapshot.proposal)


def _rebuild(node, snapshot: _Snapshot) -> None:
    """Bring back deleted points, or remove added ones, with the values that belong to them."""
    names = tuple(point.label for point in snapshot.points)
    is_fixed = node.GetFixedNumberOfControlPoints()
    if len(set(names)) != len(names):  # nobody knows whose the values are
        node.SetFixedNumberOfControlPoints(False)
        node.RemoveAllControlPoints()
        for name in names:
            node.AddControlPoint(vtk.vtkVector3d(0, 0, 0), name)
    else:
        update_point_list(node, LandmarkSet(names, np.full((len(names), 3), np.nan)))
        proposed = proposed_landmarks(node)
        if proposed is not None:
            update_point_list(node, proposed)
    node.SetFixedNumberOfControlPoints(is_fixed)


def _restore_point(node, k: int, point: _Point) -> None:
    node.SetNthControlPointLabel(k, point.label)
    node.SetNthControlPointDescription(k, point.description)
    if point.position is not None:
        node.SetNthControlPointPosition(k, *point.position)
    elif point.status == node.PositionMissing:
        node.SetNthControlPointPositionMissing(k)
    else:
        node.UnsetNthControlPointPosition(k)
    node.SetNthControlPointLocked(k, point.locked)
