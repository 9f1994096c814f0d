"""The landmarks of a scan once more, in a crop that lies a little differently: where the network is sure, they stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.geometry import Volume, canonical
from H3DELandmarksLib.core.image_plane import lay_flat
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.detection.detector import Detector
from H3DELandmarksLib.detection.search import refine
from H3DELandmarksLib.detection.stage import Findings

SHIFT = np.array([2.5, -3.5, 1.5])  # voxels of the stage
TURN_DEGREES = 6.0
TURN_AXIS = np.array([0.6, 0.0, 0.8])


def second_look(detector: Detector, volume: Volume, found: Findings) -> Findings:
    """Look again with the last stage, the crop shifted and turned.

    Args:
        detector: its last network looks.
        volume: the whole scan, as it was given to `Detector.findings`.
        found: what that gave.

    Returns:
        New findings; NaN for landmarks that were not worth another look.
    """
    if not detector.flat:
        return _look(detector, canonical(volume), found)
    sheet, lps_from_sheet = lay_flat(volume)
    back = np.linalg.inv(lps_from_sheet)
    again = _look(detector, sheet, found.moved(Pose(back[:3, :3], back[:3, 3])))
    return again.moved(Pose(lps_from_sheet[:3, :3], lps_from_sheet[:3, 3]))


def _look(detector: Detector, volume: Volume, found: Findings) -> Findings:
    network = detector.networks[-1]
    center = found.pose.to_lps(detector.shape.mean.mean(axis=0))
    axis, shift = (np.array([0.0, 0.0, 1.0]), SHIFT * (1, 1, 0)) if detector.flat else (TURN_AXIS, SHIFT)
    turn = Rotation.from_rotvec(np.radians(TURN_DEGREES) * axis).as_matrix()
    moved = found.moved(Pose(turn, center - turn @ center + shift * network.spacing))
    own_frame = network.stage["poses"] != "scan"
    again = refine(network, detector._scan(volume), detector.shape, moved, own_frame)
    looked = (again.positions != moved.positions).any(axis=1)
    return replace(again, positions=np.where(looked[:, None], again.positions, np.nan), pose=found.pose)
