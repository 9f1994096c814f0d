"""A jaw of rounded bars whose landmarks are known exactly, drawn into label volumes of any grid."""

import numpy as np
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.geometry import Volume

MANDIBLE = 7
SIDES = {"L": 1.0, "R": -1.0}


def bars(sides=("L", "R"), tilt_degrees=0.0, yaw_degrees=0.0, coronoid=True):
    """(start, end, radius) of every bar, LPS mm; chin at the origin, lower border horizontal before the tilt."""
    turn = Rotation.from_euler("zx", [yaw_degrees, tilt_degrees], degrees=True).as_matrix()
    result = []
    for side in sides:
        place = lambda left, back, up, sign=SIDES[side]: turn @ [sign * left, back, up]  # noqa: E731
        result += [
            (place(0, 0, 0), place(45, 70, 0), 7.0),
            (place(0, 0, 6), place(43, 62, 8), 7.0),
            (place(45, 70, 0), place(50, 105, 55), 7.0),
        ]
        if coronoid:
            result.append((place(46, 78, 25), place(46, 72, 58), 6.0))
    return result, turn


def truth(turn):
    """Points of the whole jaw by the scheme's definitions, LPS mm."""
    to_gonion, to_condylion = (np.array([0, np.cos(a), np.sin(a)]) for a in np.radians([-60.0, 58.0]))
    points = {}
    for side, sign in SIDES.items():
        points[f"gonion-{side}"] = turn @ (np.array([sign * 45, 70, 0]) + 7 * to_gonion)
        points[f"condylion-{side}"] = turn @ (np.array([sign * 50, 105, 55]) + 7 * to_condylion)
        points[f"coronoid-{side}"] = turn @ np.array([sign * 46, 72, 64.0])
    return points


def draw(parts, affine, shape, value=MANDIBLE):
    """A label volume in which voxels within the bars have `value`."""
    index = np.indices(shape).reshape(3, -1).T
    points = index @ affine[:3, :3].T + affine[:3, 3]
    inside = np.zeros(len(points), dtype=bool)
    for start, end, radius in parts:
        along = np.clip((points - start) @ (end - start) / ((end - start) @ (end - start)), 0, 1)
        inside |= np.linalg.norm(points - (start + along[:, None] * (end - start)), axis=1) <= radius
    return Volume((inside * value).reshape(shape).astype(np.uint8), affine)


def covering_grid(spacing, low=(-85.0, -50.0, -75.0), high=(85.0, 160.0, 110.0)):
    """Affine and shape of a grid along L, P, S that holds the jaw with a margin."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = low
    return affine, tuple(int(n) for n in np.ceil((np.array(high) - low) / spacing))


def flesh(labels, inside=40):
    """A CT of soft tissue as large as a label volume, with bone where something is drawn."""
    return Volume(np.where(labels.array > 0, 900, inside).astype(np.int16), labels.affine)
