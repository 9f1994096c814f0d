"""A closer look at landmarks whose place is roughly known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from H3DELandmarksLib.detection.stage import Findings, Scan, StageNetwork, merge_mean
from H3DELandmarksLib.geometry import crop_grid
from H3DELandmarksLib.shape_model import ShapeModel

# A group none of whose landmarks reaches these log-odds in the search is taken as absent, and is not looked at again.
WORTH_A_LOOK = -2.0
# Rounds in the found pose go on, up to so many, until the mean shape moves by no more than so many voxels (RMS).
MOST_ROUNDS, SETTLED_VOXELS = 5, 1.5
REFLECTION = np.diag([-1.0, 1.0, 1.0])


def refine(network: StageNetwork, scan: Scan, shape: ShapeModel, found: Findings, own_frame: bool) -> Findings:
    """Look at each group of a stage in a crop around its expected place.

    Args:
        network: the stage; with ``views`` 2, each crop is also looked at in the mirror and the two results are
            averaged.
        scan: where to look.
        shape: mean shape, which says where a group lies in the model frame.
        found: result of the previous stage.
        own_frame: True turns crops into the found pose; False keeps the patient's axes.

    Returns:
        New findings of the landmarks of all groups that are worth a look; others are kept.
    """
    result = found
    for channels, mirrored in zip(network.groups, network.mirrored):
        if found.presence_logit[channels].max() < WORTH_A_LOOK:
            continue
        center = _center(found, shape, channels, own_frame)
        axes = found.pose.rotation if own_frame else np.eye(3)
        looks = []
        for flip in network.mirrored_looks:
            turned = axes @ REFLECTION if mirrored != flip else axes
            order = network.mirror_order[channels] if flip else channels
            grid = crop_grid(center, turned, network.spacing, network.voxels)
            looks.append(network.find(scan.crop(grid), grid, order, found.pose))
        result = _replace_rows(result, merge_mean(looks), channels)
    if own_frame and result is not found:
        result = replace(result, pose=shape.fit(result.positions, result.weights + 1e-6)[0])
    return result


def refine_until_settled(network: StageNetwork, scan: Scan, shape: ShapeModel, found: Findings) -> Findings:
    """Refine in the found pose, and look again as long as that turns or moves the pose.

    A crop in a wrong pose shows the anatomy turned: the points found in it are rough, but the pose that they give is
    better than the one before. Parameters and result as for `refine`.
    """
    for _ in range(MOST_ROUNDS):
        before, found = found, refine(network, scan, shape, found, own_frame=True)
        moved = found.pose.to_lps(shape.mean) - before.pose.to_lps(shape.mean)
        if np.sqrt((moved**2).sum(axis=1).mean()) <= SETTLED_VOXELS * network.spacing:
            break
    return found


def _center(found: Findings, shape: ShapeModel, channels: np.ndarray, own_frame: bool) -> np.ndarray:
    """(3,) LPS mm: where the group's center lies by the mean shape, shifted (without a pose) to its found members."""
    expected = found.pose.to_lps(shape.mean[channels])
    if own_frame:
        return expected.mean(axis=0)
    weights = found.weights[channels] + 1e-6
    offsets = np.where(np.isfinite(found.positions[channels]), found.positions[channels] - expected, 0.0)
    return expected.mean(axis=0) + weights @ offsets / weights.sum()


def _replace_rows(old: Findings, new: Findings, rows: np.ndarray) -> Findings:
    chosen = np.isin(np.arange(len(old.presence_logit)), rows)
    return Findings(
        np.where(chosen[:, None], new.positions, old.positions),
        np.where(chosen, new.presence_logit, old.presence_logit),
        np.where(chosen, new.concentration, old.concentration),
        old.pose,
    )
