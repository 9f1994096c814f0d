"""A closer look at each structure of a row, once its points are placed together and it is known which is which."""

from __future__ import annotations

import numpy as np

from H3DELandmarksLib.core.geometry import Grid, crop_grid
from H3DELandmarksLib.core.rows import Structures
from H3DELandmarksLib.core.shape_model import ShapeModel
from H3DELandmarksLib.detection.predictions import RawPredictions, merge_mean
from H3DELandmarksLib.detection.scan import Scan
from H3DELandmarksLib.detection.search import MIN_PRESENCE_LOGIT, turns
from H3DELandmarksLib.detection.stage import StageNetwork
from H3DELandmarksLib.formats.manifest import StageDesign

# A point that would leave its place by more than this share of the way to the next structure stays.
FARTHEST = 0.5


def look_closer(network: StageNetwork, scan: Scan, shape: ShapeModel, placed: RawPredictions) -> np.ndarray:
    """Where a network sees the landmarks of each structure in a crop about where they are placed.

    Args:
        network: of a stage with the poses "structures".
        scan: where to look.
        shape: mean shape, which says how large structures usually are.
        placed: all landmarks, those of structures where they are placed together.

    Returns:
        (K, 3) LPS mm; NaN of landmarks that were not looked at, or would leave their place.
    """
    result = np.full_like(placed.positions, np.nan)
    both = (placed.positions, shape.mean)
    here, usual = (Structures.of(points, network.groups, network.mirror_order) for points in both)
    for number in np.flatnonzero(here.known).tolist():
        channels = network.groups[number]
        if placed.presence_logit[channels].max() < MIN_PRESENCE_LOGIT:
            continue
        looks = []
        for turn in turns(network.stage.turned_degrees):
            grid = structure_grid(network.stage, here, usual, number, turn)
            looks.append(network.find(scan.crop(grid, True), grid, channels, placed.pose, places=False))
        seen = merge_mean(looks).positions[channels]
        near = np.linalg.norm(seen - placed.positions[channels], axis=1) <= FARTHEST * here.size[number, 1]
        result[channels] = np.where(near[:, None], seen, np.nan)
    return result


def structure_grid(
    stage: StageDesign, here: Structures, usual: Structures, number: int, turn: np.ndarray | None = None
) -> Grid:
    """The crop that shows a structure as wide, and its neighbors as far, as the mean shape has them on average.

    Args:
        stage: with the shape and spacing of the crops.
        here: where structures lie.
        usual: in the mean shape.
        number: of the structure.
        turn: (3, 3) by which the crop is turned; not at all when None.
    """
    axes = here.axes(number) if turn is None else here.axes(number) @ turn
    spacing = stage.spacing_mm * here.size[number] / usual.size.mean(axis=0)
    return crop_grid(here.center[number], axes, spacing, stage.shape)
