"""A second look at a scan in the pose that decided points give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from H3DELandmarksLib.core.errors import Cancelled, InputError
from H3DELandmarksLib.core.geometry import Volume, canonical
from H3DELandmarksLib.core.image_plane import lay_flat, points_on_sheet
from H3DELandmarksLib.core.revision import Decisions
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.detection.detector import Detector
from H3DELandmarksLib.detection.predictions import Detection, RawPredictions
from H3DELandmarksLib.detection.scan import set_straight
from H3DELandmarksLib.detection.search import refine

# What a decided point counts beside a found one in the fit of the pose.
DECIDED_WEIGHT = 100.0
FEWEST_IN_PLANE, FEWEST = 2, 3  # decided points that give a pose


def look_again(
    detector: Detector,
    volume: Volume,
    found: RawPredictions | None,
    decided: Decisions,
    cancelled: Callable[[], bool] | None = None,
) -> Detection:
    """Search crops again around where decided points place the anatomy.

    Only the refining stages look, or the single stage of a model that has no other; a whole scan is not searched.

    Args:
        detector: of the model.
        volume: the scan.
        found: what `Detector.findings` said of it; None where nobody knows any more.
        decided: by a person, in the scheme's order; two points at least in a radiograph that is searched in the
            patient's axes, else three.
        cancelled: asked before each stage; True ends the work.

    Returns:
        A detection as of the first search. Decided points count for the pose alone: they are no part of it.

    Raises:
        Cancelled: `cancelled` said so.
        InputError: too few points are decided.
    """
    found = found or RawPredictions.nothing(len(detector.scheme), Pose(np.eye(3), np.zeros(3)))
    given, to_lps = volume, Pose(np.eye(3), np.zeros(3))
    volume, factor = detector.in_own_lengths(volume)
    positions = decided.positions * factor
    if detector.is_2d:
        volume, from_sheet = lay_flat(volume)
        to_lps = Pose(from_sheet[:3, :3], from_sheet[:3, 3])
        positions = points_on_sheet(from_sheet, positions)
    else:
        volume = canonical(volume)
        if not any(network.stage.sees_canonical_pose for network in detector.networks):
            volume, to_lps = set_straight(volume, found.pose.rotation)
            positions = to_lps.to_model(positions)
    back = Pose(to_lps.rotation.T, -to_lps.translation @ to_lps.rotation)
    start = _in_pose_of(detector, found.moved(back), positions)
    scan = detector.scan_of(volume)
    searching = [network for network in detector.networks if not network.stage.is_closer]
    result, networks = start, searching[1:] or searching
    for network in networks:
        if cancelled is not None and cancelled():
            raise Cancelled("The second look was cancelled.")
        result = refine(network, scan, detector.shape, result, network.stage.poses == "found")
    result = detector.looked_closer(scan, result)
    seen = np.isin(np.arange(len(positions)), np.concatenate([group for n in networks for group in n.groups]))
    result = result.moved(to_lps)
    kept = {
        name: np.where(
            seen if getattr(found, name).ndim == 1 else seen[:, None], getattr(result, name), getattr(found, name)
        )
        for name in ("positions", "presence_logit", "concentration")
    }
    return detector.conclude(replace(result, **kept), given)


def _in_pose_of(detector: Detector, found: RawPredictions, positions: np.ndarray) -> RawPredictions:
    """The findings with decided positions, in the pose that these give, and worth a look in every group."""
    known = np.isfinite(positions).all(axis=1)
    is_turned = any(network.stage.sees_canonical_pose for network in detector.networks)
    fewest = FEWEST_IN_PLANE if detector.is_2d and not is_turned else FEWEST
    if known.sum() < fewest:
        raise InputError(f"A second look needs {fewest} decided points: place more points first.")
    if is_turned:
        pose = detector.shape.fit(positions, known.astype(float))[0]
    else:
        pose = Pose(np.eye(3), (positions[known] - detector.shape.mean[known]).mean(axis=0))
    expected = pose.to_lps(detector.shape.mean)
    logit = np.maximum(np.where(known, DECIDED_WEIGHT, found.presence_logit), 0.0)
    return replace(
        found,
        positions=np.where(known[:, None], positions, expected),
        presence_logit=logit,
        concentration=np.where(known, 1.0, 1e-3),
        pose=pose,
        candidates=None,
    )
