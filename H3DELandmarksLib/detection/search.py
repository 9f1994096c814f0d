"""Search of the whole field of view at coarse spacing, in one or many poses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.candidates import Candidates, pooled
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Grid, crop_grid, field_of_view_grid, orthonormal_axes, turn_degrees
from H3DELandmarksLib.core.image_plane import crop_about_center
from H3DELandmarksLib.core.shape_model import Pose, ShapeModel, cube_rotations
from H3DELandmarksLib.detection.predictions import RawPredictions, merge_best, merge_mean
from H3DELandmarksLib.detection.scan import Scan
from H3DELandmarksLib.detection.stage import StageNetwork
from H3DELandmarksLib.models.fit import MAX_CROPS, crop_count, tiles_along

# A group none of whose landmarks reaches these log-odds in the search is taken as absent, and is not looked at again.
MIN_PRESENCE_LOGIT = -2.0
# Rounds in the found pose go on, up to so many, until the mean shape moves by no more than so many voxels (RMS).
MAX_ROUNDS = 5
# What a place that an earlier stage saw counts beside those of a later one.
EARLIER = 0.1
SETTLED_VOXELS = 1.5
REFLECTION = np.diag([-1.0, 1.0, 1.0])


def refine(
    network: StageNetwork, scan: Scan, shape: ShapeModel, found: RawPredictions, canonical_pose: bool
) -> RawPredictions:
    """Look at each group of a stage in a crop around its expected place.

    Args:
        network: the stage; with ``views`` 2, each crop is also looked at in the mirror, with ``turned_degrees`` also
            turned to either side, and the results are averaged.
        scan: where to look.
        shape: mean shape, which says where a group lies in the model frame.
        found: result of the previous stage.
        canonical_pose: True turns crops into the found pose; False keeps the patient's axes.

    Returns:
        New findings of the landmarks of all groups that are worth a look; others are kept.
    """
    result, stage = found, network.stage
    spacing = stage.spacing_in(scan.volume.grid.extent.tolist())
    for channels, group in zip(network.groups, stage.groups):
        if found.presence_logit[channels].max() < MIN_PRESENCE_LOGIT:
            continue
        center = _center(found, shape, channels, canonical_pose)
        axes = found.pose.rotation if canonical_pose else np.eye(3)
        looks = []
        for flip, turn in product(network.mirrored_views, turns(stage.turned_degrees)):
            turned = axes @ turn @ REFLECTION if group.mirrored != flip else axes @ turn
            order = network.mirror_order[channels] if flip else channels
            grid = crop_grid(center, turned, spacing, stage.shape)
            image = scan.crop(grid, stage.sampling != "linear")
            looks.append(network.find(image, grid, order, found.pose))
        result = _replace_rows(result, merge_mean(looks), channels)
    if canonical_pose and result is not found:
        result = replace(result, pose=shape.fit(result.positions, result.weights + 1e-6)[0])
    return result


def turns(degrees: float) -> list[np.ndarray]:
    """(3, 3) rotations in the plane of a crop's first two axes: none, and by so much to either side."""
    sides = (0.0, degrees, -degrees) if degrees else (0.0,)
    return [Rotation.from_euler("z", angle, degrees=True).as_matrix() for angle in sides]


def refine_until_settled(network: StageNetwork, scan: Scan, shape: ShapeModel, found: RawPredictions) -> RawPredictions:
    """Refine in the found pose, and look again as long as that turns or moves the pose.

    A crop in a wrong pose shows the anatomy turned: the points found in it are rough, but the pose that they give is
    better than the one before. Parameters and result as for `refine`.
    """
    for _ in range(MAX_ROUNDS):
        before, found = found, refine(network, scan, shape, found, canonical_pose=True)
        moved = found.pose.to_lps(shape.mean) - before.pose.to_lps(shape.mean)
        if np.sqrt((moved**2).sum(axis=1).mean()) <= SETTLED_VOXELS * network.stage.spacing_mm:
            break
    return found


def _center(found: RawPredictions, shape: ShapeModel, channels: np.ndarray, canonical_pose: bool) -> np.ndarray:
    """(3,) LPS mm: where the group's center lies by the mean shape, shifted (without a pose) to its found members."""
    expected = found.pose.to_lps(shape.mean[channels])
    center: np.ndarray = expected.mean(axis=0)
    if canonical_pose:
        return center
    weights = found.weights[channels] + 1e-6
    offsets = np.where(np.isfinite(found.positions[channels]), found.positions[channels] - expected, 0.0)
    shifted: np.ndarray = center + weights @ offsets / weights.sum()
    return shifted


def _replace_rows(old: RawPredictions, new: RawPredictions, rows: np.ndarray) -> RawPredictions:
    chosen = np.isin(np.arange(len(old.presence_logit)), rows)
    return RawPredictions(
        np.where(chosen[:, None], new.positions, old.positions),
        np.where(chosen, new.presence_logit, old.presence_logit),
        np.where(chosen, new.concentration, old.concentration),
        old.pose,
        _newest_candidates(old.candidates, new.candidates, chosen),
    )


def _newest_candidates(old: Candidates | None, new: Candidates | None, chosen: np.ndarray) -> Candidates | None:
    """Places of an earlier stage count less, since the later one sees finer voxels; but it sees its crop alone."""
    if old is None or new is None:
        return old if new is None else new
    return pooled([new, old.scaled(np.where(chosen, EARLIER, 1.0))])


# Of the poses found, so many whose points agree best with the mean shape, turned by so much at least from each other,
# get a second look.
BEST_POSES, APART_DEGREES = 3, 30.0
# A tile in which nothing exceeds this (range 0..1) holds air only.
EMPTY = 0.1
Step = Callable[[float], None]


def localize(network: StageNetwork, scan: Scan, shape: ShapeModel, step: Step) -> RawPredictions:
    """Find every landmark of the scheme anywhere in the scan.

    Args:
        network: the first stage; its entry ``poses`` is "scan" (the patient's axes) or "cube-rotations" (24 starting
            poses; the best are looked at once more in the poses so found, and the one is kept whose points then agree
            best with the mean shape; for radiographs the four quarter turns).
        scan: where to look.
        shape: mean shape and tolerance.
        step: called with the fraction done; may raise to cancel.

    Returns:
        RawPredictions of all landmarks; in a scan of air alone, none was found.

    Raises:
        InputError: the scan is so much larger than a tile that the search would take very long.
    """
    _check_size(network, scan)
    rotations = _starting_poses(network, scan)
    spacing = network.stage.spacing_in(scan.volume.grid.extent.tolist())
    averaged = scan if network.stage.sampling == "linear" else scan.averaged(spacing)
    if not network.stage.sees_canonical_pose:
        found = _search(network, averaged, scan.volume.grid, rotations[0], step)
        return replace(found, pose=_pose(found, shape, canonical_pose=False))
    candidates = []
    for number, rotation in enumerate(rotations):
        report = lambda done, n=number: step((n + done) / (len(rotations) + 1))  # noqa: E731
        found = _search(network, averaged, scan.volume.grid, rotation, report)
        candidates.append(replace(found, pose=_pose(found, shape, canonical_pose=True)))
    agreement = partial(_agreement, shape=shape)
    best = _distinct(sorted(candidates, key=agreement, reverse=True))[:BEST_POSES]
    return max((refine(network, scan, shape, found, canonical_pose=True) for found in best), key=agreement)


def tiles(grid: Grid, shape: tuple[int, int, int]) -> Iterator[Grid]:
    """Overlapping grids of one shape that together cover `grid`; a single centered one where it fits."""
    starts = []
    for size, tile in zip(grid.shape, shape):
        count = tiles_along(size, tile)
        starts.append(np.linspace(0, size - tile, count) if count > 1 else np.array([(size - tile) / 2]))
    axes = grid.affine[:3, :3] / grid.spacing
    for start in np.array(np.meshgrid(*starts, indexing="ij")).reshape(3, -1).T:
        center = grid.lps_from_ijk(start + (np.array(shape) - 1) / 2)
        yield crop_grid(center, axes, grid.spacing, shape)


def _starting_poses(network: StageNetwork, scan: Scan) -> np.ndarray:
    """(N, 3, 3) rotations to search in: the patient's axes, or all that lie along the scan's own axes.

    Along its own axes a scan has no empty corners to be covered by tiles, however the patient is turned in it.
    """
    if not network.stage.sees_canonical_pose:
        return np.eye(3)[None]
    rotations = cube_rotations()
    if network.stage.is_2d:
        rotations = rotations[rotations[:, 2, 2] > 0.5]
    along_scan: np.ndarray = orthonormal_axes(scan.volume.grid) @ rotations
    return along_scan


def _check_size(network: StageNetwork, scan: Scan) -> None:
    if crop_count(network.stage, scan.volume.grid.extent.tolist()) > MAX_CROPS:
        size = " x ".join(f"{length:.0f}" for length in scan.volume.grid.extent)
        raise InputError(
            f"The scan covers {size} mm, much more than this model was made for: crop it around the anatomy, "
            "or choose another model."
        )


def _search(network: StageNetwork, scan: Scan, field_of_view: Grid, axes: np.ndarray, step: Step) -> RawPredictions:
    """All tiles of the field of view in one orientation."""
    pose = Pose(axes, field_of_view.center)
    stage = network.stage
    spacing = stage.spacing_in(field_of_view.extent.tolist())
    if stage.shows_all:
        cover = [crop_about_center(field_of_view, axes, spacing, stage.shape)]
    else:
        cover = list(tiles(field_of_view_grid(field_of_view, spacing, axes), stage.shape))
    found = [RawPredictions.nothing(network.count, pose)]
    for number, grid in enumerate(cover):
        image = scan.crop(grid, stage.sampling != "linear")
        if image.max() > EMPTY:
            # Of many poses only the best count, which are looked at again.
            places = not network.stage.sees_canonical_pose
            found.append(network.find(image, grid, network.groups[0], pose, places))
        step((number + 1) / len(cover))
    return merge_best(found)


def _pose(found: RawPredictions, shape: ShapeModel, canonical_pose: bool) -> Pose:
    weights = found.weights
    if not np.isfinite(found.positions).any():
        return found.pose
    if canonical_pose:
        return shape.fit(found.positions, weights + 1e-6)[0]
    if weights.sum() == 0:
        return found.pose
    offsets = np.nan_to_num(found.positions) - shape.mean
    return Pose(np.eye(3), weights @ offsets / weights.sum())


def _distinct(candidates: Sequence[RawPredictions]) -> list[RawPredictions]:
    """Those candidates whose poses are turned by `APART_DEGREES` at least from the poses of all that stay before."""
    kept: list[RawPredictions] = []
    for found in candidates:
        if all(turn_degrees(found.pose.rotation.T @ other.pose.rotation) >= APART_DEGREES for other in kept):
            kept.append(found)
    return kept


def _agreement(found: RawPredictions, shape: ShapeModel) -> float:
    """Trust in the landmarks that lie where the mean shape, placed in the pose, expects them."""
    distance = np.linalg.norm(found.pose.to_lps(shape.mean) - found.positions, axis=1)
    return float(np.nansum(found.weights * np.exp(-((distance / (4 * shape.tolerance.mean())) ** 2))))
