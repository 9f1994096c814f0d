"""What the eye needs while one point list is reviewed, and the way back to what the user had set up.

Marks in a color and shape for each state, names for the chosen landmark and its neighbors, and a field of view that
fits the anatomy. None of it is saved with the scene, and `ReviewDisplay.end` takes all of it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer

from H3DELandmarksLib.scene.point_list import POINT_LIST_CLASS
from H3DELandmarksLib.scene.review import ReviewedLandmark, ReviewState

MARKS_NAME = "H3DELandmarks review"
NAMED_NEIGHBORS = 3
RADII_IN_VIEW = 24.0
MIN_VOXELS_IN_VIEW = 40.0
MARKS_IN_VIEW = 25.0  # widths of a mark that fit into a view
TEXT_SCALE = 3.0
CROSS_COLOR = (1.0, 1.0, 0.4)
MARK_OPACITY = 0.5
# What of the drawing of a point list a review changes.
DRAWING = (
    "GlyphType",
    "UseGlyphScale",
    "GlyphSize",
    "GlyphScale",
    "TextScale",
    "PointLabelsVisibility",
    "Color",
    "SelectedColor",
)


@dataclass(frozen=True)
class Mark:
    """How the landmarks of a state are drawn.

    Attributes:
        glyph: name of a glyph type of vtkMRMLMarkupsDisplayNode.
        color: red, green and blue from 0 to 1, of those that color-blind people can tell apart (Okabe and Ito, 2008).
    """

    glyph: str
    color: tuple[float, float, float]


CHOSEN_GLYPH = "CrossDot2D"
TO_CHECK = Mark("Circle2D", (0.90, 0.62, 0.00))
ACCEPTED = Mark("Square2D", (0.34, 0.71, 0.91))
ACCEPTED_IN_BULK = Mark("Triangle2D", (0.00, 0.45, 0.70))
CORRECTED = Mark("Diamond2D", (0.80, 0.47, 0.65))
MARKS = {
    ReviewState.PROPOSED: TO_CHECK,
    ReviewState.ACCEPTED: ACCEPTED,
    ReviewState.ACCEPTED_IN_BULK: ACCEPTED_IN_BULK,
    ReviewState.MOVED: CORRECTED,
    ReviewState.PLACED: CORRECTED,
}


def review_field_of_view(radii: Sequence[float], spacing: Sequence[float], extent: Sequence[float]) -> float:
    """How much of a scan a view shows while a landmark is looked at.

    Args:
        radii: mm within which 90 % of the errors fall, of each landmark; NaN where unknown.
        spacing: (3,) voxel size in mm.
        extent: (3,) size of the scan in mm.

    Returns:
        mm: 24 times the median radius, forty voxels at least, never more than the longest side of the scan.
    """
    known = np.asarray(radii, dtype=float)
    known = known[np.isfinite(known)]
    wanted = RADII_IN_VIEW * float(np.median(known)) if len(known) else 0.0
    fewest = MIN_VOXELS_IN_VIEW * float(np.median(spacing))
    return min(max(wanted, fewest), float(np.max(extent)))


def names_in_view(landmarks: Sequence[ReviewedLandmark], chosen: str | None) -> set[str]:
    """Names of the chosen landmark and of those that lie nearest to it, so that texts do not lie on each other."""
    here = next((p for p in landmarks if p.name == chosen), None)
    if here is None:
        return set()
    center = here.position if here.position is not None else here.proposed
    if center is None:
        return {here.name}
    placed = [p for p in landmarks if p.position is not None and p is not here]
    placed.sort(key=lambda p: float(np.linalg.norm(p.position - center)))
    return {here.name, *(p.name for p in placed[:NAMED_NEIGHBORS])}


class ReviewDisplay:
    """The drawing of one point list under review.

    The list itself is drawn as a thin cross that the mouse can drag. The marks are locked lists of their own, because a
    point list has one glyph, one color and one switch for all names. The chosen landmark has a cross for a mark, with
    its middle left free.
    """

    def __init__(self, node, width: float) -> None:
        """Begin; other point lists are hidden.

        Args:
            node: vtkMRMLMarkupsFiducialNode under review.
            width: of the part of the scan that a view is to show, in mm.
        """
        self.node, self.width = node, width
        self._scene = node.GetScene()
        self._marks = {mark: self._add_marks(mark.glyph, mark.color) for mark in dict.fromkeys(MARKS.values())}
        self._chosen = self._add_marks(CHOSEN_GLYPH, CROSS_COLOR)
        self._fields: dict[str, tuple[Any, Any]] = {}
        self._hidden = [other for other in self._lists() if other.GetDisplayVisibility()]
        for other in self._hidden:
            other.SetDisplayVisibility(False)
        node.CreateDefaultDisplayNodes()
        node.SetDisplayVisibility(True)
        self._drawn_before = {name: getattr(node.GetDisplayNode(), f"Get{name}")() for name in DRAWING}
        self._draw_thinly(node.GetDisplayNode())

    def show(self, landmarks: Sequence[ReviewedLandmark], chosen: str | None) -> None:
        """Draw the marks of landmarks as they are now.

        Args:
            landmarks: all of the list.
            chosen: name of the one that is looked at, None for none.
        """
        named, drawn = names_in_view(landmarks, chosen), [p for p in landmarks if p.position is not None]
        for mark, marks in self._marks.items():
            others = [p for p in drawn if p.name != chosen and MARKS.get(p.state, TO_CHECK) is mark]
            _update_marks(
                marks, [(p.name if p.name in named else "", p.position) for p in others if p.position is not None]
            )
        for p in (p for p in drawn if p.name == chosen):
            _set_color(self._chosen, MARKS.get(p.state, TO_CHECK).color)
        _update_marks(
            self._chosen, [(p.name, p.position) for p in drawn if p.name == chosen and p.position is not None]
        )

    def look_closely(self) -> None:
        """Zoom the slice views to the anatomy, but for those that show little more, or less, already."""
        for node in _nodes(self._scene, "vtkMRMLSliceNode"):
            x, y, z = node.GetFieldOfView()
            scale = self.width / min(x, y)
            if scale < 1 / 1.5:
                node.SetFieldOfView(x * scale, y * scale, z)
                self._fields[node.GetID()] = ((x, y, z), node.GetFieldOfView())

    def end(self) -> None:
        """Take everything back, but for what the user has changed since."""
        for marks in (*self._marks.values(), self._chosen):
            self._scene.RemoveNode(marks.GetDisplayNode())
            self._scene.RemoveNode(marks)
        display = self.node.GetDisplayNode()
        if display is not None:
            for name, value in self._drawn_before.items():
                getattr(display, f"Set{name}")(value)
        for other in self._hidden:
            other.SetDisplayVisibility(True)
        for identity, (before, during) in self._fields.items():
            view = self._scene.GetNodeByID(identity)
            if view is not None and np.allclose(view.GetFieldOfView(), during):
                view.SetFieldOfView(*before)

    def _lists(self) -> list:
        """All other point lists of the scene."""
        own = (self.node, self._chosen, *self._marks.values())
        return [node for node in _nodes(self._scene, POINT_LIST_CLASS) if not any(node is mine for mine in own)]

    def _draw_thinly(self, display) -> None:
        """The cross lies within a mark, and hides nothing where there is none."""
        display.SetGlyphType(display.GetGlyphTypeFromString("Cross2D"))
        display.SetUseGlyphScale(False)
        display.SetGlyphSize(0.5 * self.width / MARKS_IN_VIEW)
        display.SetPointLabelsVisibility(False)
        display.SetColor(*CROSS_COLOR)
        display.SetSelectedColor(*CROSS_COLOR)

    def _add_marks(self, glyph: str, color: tuple[float, float, float]):
        """A list that no selector shows, no mouse moves and no file keeps."""
        node = slicer.vtkMRMLMarkupsFiducialNode()
        node.SetName(f"{MARKS_NAME} {glyph}")
        node.SetHideFromEditors(True)
        node.SetSaveWithScene(False)
        node.SetSelectable(False)
        node.SetLocked(True)
        node = self._scene.AddNode(node)
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetSaveWithScene(False)
        display.SetGlyphType(display.GetGlyphTypeFromString(glyph))
        display.SetUseGlyphScale(False)
        display.SetGlyphSize(self.width / MARKS_IN_VIEW)
        display.SetTextScale(TEXT_SCALE)
        display.SetOpacity(MARK_OPACITY)
        _set_color(node, color)
        return node


def _set_color(node, color: tuple[float, float, float]) -> None:
    node.GetDisplayNode().SetColor(*color)
    node.GetDisplayNode().SetSelectedColor(*color)


def _update_marks(node, drawn: Sequence[tuple[str, np.ndarray]]) -> None:
    """Let a list of marks have these labels and RAS world positions; one that has them already is left alone."""
    count = node.GetNumberOfControlPoints()
    now = [(node.GetNthControlPointLabel(k), *node.GetNthControlPointPositionWorld(k)) for k in range(count)]
    if now == [(label, *map(float, position)) for label, position in drawn]:
        return
    with slicer.util.NodeModify(node):
        node.RemoveAllControlPoints()
        for label, position in drawn:
            index = node.AddControlPointWorld(*map(float, position))
            node.SetNthControlPointLabel(index, label)


def _nodes(scene, kind: str) -> list:
    """All nodes of a class; `slicer.util.getNodesByClass` makes a collection anew, which scenes without Qt lack."""
    return [scene.GetNthNodeByClass(k, kind) for k in range(scene.GetNumberOfNodesByClass(kind))]
