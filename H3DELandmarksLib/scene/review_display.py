"""What the eye needs while one point list is reviewed, and the way back to what the user had set up.

Marks in a color and shape for each state, names for the chosen landmark and its neighbors, and a field of view that
fits the anatomy. `ReviewDisplay.end` takes all of it back. What changes nodes of the user is noted with them, since a
scene may be saved at any moment: `forget_interrupted_review` takes it back where that scene is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import slicer

from H3DELandmarksLib.formats.reading import Finite, to_plain
from H3DELandmarksLib.scene.measures import drawn_for_others, drawn_measurements
from H3DELandmarksLib.scene.point_list import POINT_LIST_CLASS, nodes_of, parsed, volume_of
from H3DELandmarksLib.scene.review import ReviewedLandmark, ReviewState
from H3DELandmarksLib.scene.scan_of_points import has_lost_scan, is_of
from H3DELandmarksLib.scene.views import (
    Looks,
    end_placing_of_before,
    frame_points,
    give_back,
    keeping_active_list,
    looks_of,
    show_looks,
    zoom_slices,
)

MARKS_NAME = "H3DELandmarks review"
NAMED_NEIGHBORS = 3
RADII_IN_VIEW = 24.0
MIN_VOXELS_IN_VIEW = 40.0
MARKS_IN_VIEW = 25.0  # widths of a mark that fit into a view
TEXT_SCALE = 3.0
CROSS_COLOR = (1.0, 1.0, 0.4)
MARK_OPACITY = 0.5
DRAWN_ATTRIBUTE = "H3DELandmarks.Drawn"  # of the display node of the list under review: how it was drawn before
HIDDEN_ATTRIBUTE = "H3DELandmarks.Hidden"  # of the display nodes of lists that are hidden meanwhile


@dataclass(frozen=True)
class _Drawing:
    """What of the drawing of a point list a review changes, by the names of vtkMRMLMarkupsDisplayNode."""

    GlyphType: int
    UseGlyphScale: bool
    GlyphSize: Finite
    GlyphScale: Finite
    TextScale: Finite
    PointLabelsVisibility: bool
    Color: tuple[Finite, Finite, Finite]
    SelectedColor: tuple[Finite, Finite, Finite]

    @classmethod
    def of(cls, display: Any) -> _Drawing:
        """That of a display node."""
        drawn = {name: getattr(display, f"Get{name}")() for name in DRAWING}
        switches = {name: bool(drawn[name]) for name in ("UseGlyphScale", "PointLabelsVisibility")}
        return cls(**{**drawn, **switches})


DRAWING = tuple(field.name for field in fields(_Drawing))


AWAY_ATTRIBUTE = "H3DELandmarks.Away"  # of what comes back with its scan


def hide_other_points(volume_node, frame: str) -> None:
    """Hide the points of other volumes and frames, with their measurements; `show_own_points` brings them back."""
    for point_list in nodes_of(volume_node.GetScene(), POINT_LIST_CLASS):
        is_bound = volume_of(point_list) is not None or has_lost_scan(point_list)
        if is_bound and not is_of(point_list, volume_node, frame):
            for node in (point_list, *drawn_measurements(point_list)):
                if node.GetDisplayVisibility():
                    node.SetDisplayVisibility(False)
                    node.SetAttribute(AWAY_ATTRIBUTE, "1")


def show_own_points(volume_node, frame: str) -> None:
    """Show the points of a volume, or frame of it, again that `hide_other_points` has hidden."""
    for point_list in nodes_of(volume_node.GetScene(), POINT_LIST_CLASS):
        if is_of(point_list, volume_node, frame):
            for node in (point_list, *drawn_measurements(point_list)):
                if node.GetAttribute(AWAY_ATTRIBUTE):
                    node.RemoveAttribute(AWAY_ATTRIBUTE)
                    node.SetDisplayVisibility(True)


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
ABSENT = Mark("ThickCross2D", (0.80, 0.80, 0.80))
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
        kinds = dict.fromkeys((*MARKS.values(), ABSENT))
        with keeping_active_list(self._scene):
            self._marks = {mark: self._add_marks(mark.glyph, mark.color) for mark in kinds}
            self._chosen = self._add_marks(CHOSEN_GLYPH, CROSS_COLOR)
        self._places: list[np.ndarray] = []
        self._before = looks_of(self._scene)
        self._during: Looks = {}
        for other in self._lists():
            hide_list(other)
        node.CreateDefaultDisplayNodes()
        node.SetDisplayVisibility(True)
        _keep_drawing(node.GetDisplayNode())
        self._draw_thinly(node.GetDisplayNode())

    def show(
        self, landmarks: Sequence[ReviewedLandmark], chosen: str | None, expected: np.ndarray | None = None
    ) -> None:
        """Draw the marks of landmarks as they are now.

        Args:
            landmarks: all of the list.
            chosen: name of the one that is looked at, None for none.
            expected: (3,) RAS world mm where the chosen one would lie if it has no position; None where nobody knows.
        """
        self._hide_clones()
        named, drawn = names_in_view(landmarks, chosen), [p for p in landmarks if p.position is not None]
        self._places = [p.position for p in drawn if p.position is not None]
        is_drawn = any(p.name == chosen for p in drawn)
        missing = [] if expected is None or is_drawn or not chosen else [(f"{chosen}?", expected)]
        _update_marks(self._marks[ABSENT], missing)
        for mark, marks in self._marks.items():
            if mark is ABSENT:
                continue
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
        """Zoom the slice views to a landmark, and let the 3D views see all of them."""
        zoom_slices(self._scene, self.width)
        frame_points(self._scene, self._places, self.width)
        self.note_looks()

    def look_again(self, looks: Looks) -> None:
        """Look as at another time of the same review."""
        show_looks(self._scene, looks)
        self.note_looks()

    def note_looks(self) -> None:
        """What the views show now is not of the user's making."""
        self._during = looks_of(self._scene)

    def end(self, slices: bool = True) -> None:
        """Take everything back, but for what the user has changed since.

        Args:
            slices: whether slice views go back to where they looked before; not where they show another scan now.
        """
        for marks in (*self._marks.values(), self._chosen):
            self._scene.RemoveNode(marks.GetDisplayNode())
            self._scene.RemoveNode(marks)
        _give_back_lists(self._scene)
        give_back(self._scene, self._before, self._during, slices)

    def _lists(self) -> list:
        """All other point lists of the scene, and what was drawn of measurements on them."""
        own = (self.node, self._chosen, *self._marks.values())
        others = [node for node in nodes_of(self._scene, POINT_LIST_CLASS) if not any(node is mine for mine in own)]
        return [*others, *drawn_for_others(self.node)]

    def _hide_clones(self) -> None:
        """Clones that were made of the list meanwhile would lie on it; the user can show them again."""
        for other in nodes_of(self._scene, POINT_LIST_CLASS):
            drawn = [display for display in _displays(other) if display.GetAttribute(DRAWN_ATTRIBUTE)]
            if other is not self.node and drawn:
                for display in drawn:
                    _give_back_drawing(display)
                hide_list(other)

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
        display.SetOccludedVisibility(True)  # by the surface of the bone
        _set_color(node, color)
        return node


def hide_list(node) -> None:
    """Hide a point list for the time of a review, in a way that `forget_interrupted_review` takes back, too."""
    for display in _displays(node):
        if display.GetVisibility():
            display.SetAttribute(HIDDEN_ATTRIBUTE, "yes")
            display.SetVisibility(False)


def show_hidden_list(node) -> None:
    """Show a list again that `hide_list` has hidden."""
    for display in _displays(node):
        if display.GetAttribute(HIDDEN_ATTRIBUTE):
            display.RemoveAttribute(HIDDEN_ATTRIBUTE)
            display.SetVisibility(True)


def _displays(node) -> list:
    found = (node.GetNthDisplayNode(k) for k in range(node.GetNumberOfDisplayNodes()))
    return [display for display in found if display is not None]


def _keep_drawing(display) -> None:
    """Keep how a list is drawn with it: scenes are saved, by whatever means, without asking a review to end."""
    display.SetAttribute(DRAWN_ATTRIBUTE, json.dumps(to_plain(_Drawing.of(display))))


def _give_back_drawing(display) -> None:
    before = parsed(_Drawing, display.GetAttribute(DRAWN_ATTRIBUTE))
    display.RemoveAttribute(DRAWN_ATTRIBUTE)
    for name in DRAWING if before is not None else ():
        getattr(display, f"Set{name}")(getattr(before, name))


def forget_interrupted_review(scene) -> None:
    """Let point lists and mouse be as the user had set them up, where a scene was saved in the middle of a review.

    Args:
        scene: vtkMRMLScene that was just loaded, while nothing is under review.
    """
    _give_back_lists(scene)
    end_placing_of_before(scene)


def _give_back_lists(scene) -> None:
    """Draw all markups as before a review, also copies that were made of them meanwhile."""
    for node in nodes_of(scene, "vtkMRMLMarkupsNode"):
        show_hidden_list(node)
        for display in _displays(node):
            _give_back_drawing(display)


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
