"""What a set of landmarks usually looks like: mean shape, tolerance, and rigid fits that survive outliers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from H3DELandmarksLib.core.landmarks import LandmarkScheme


@dataclass(frozen=True)
class Pose:
    """A rigid placement of the model frame in the patient: ``lps = rotation @ model + translation`` (mm).

    In a radiograph that looks to the other side, the rotation is a reflection.
    """

    rotation: np.ndarray
    translation: np.ndarray

    def to_lps(self, points: np.ndarray) -> np.ndarray:
        """Map (..., 3) model-frame points to LPS mm."""
        lps: np.ndarray = np.asarray(points) @ self.rotation.T + self.translation
        return lps

    def to_model(self, points: np.ndarray) -> np.ndarray:
        """Map (..., 3) LPS mm points to the model frame."""
        model: np.ndarray = (np.asarray(points) - self.translation) @ self.rotation
        return model


def rigid_fit(source: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None) -> Pose:
    """Least-squares rotation and translation without reflection (Kabsch, Acta Cryst. A32:922, 1976).

    Points of radiographs, all with the third coordinate 0, are turned within their plane: a half turn out of it would
    be a mirror image.

    Args:
        source: (N, 3) points in the model frame.
        target: (N, 3) LPS mm.
        weights: (N,) nonnegative; at least three points of positive weight that are not on a line, in a plane two.
    """
    weights = np.ones(len(source)) if weights is None else np.asarray(weights, float)
    weights = weights / weights.sum()
    source_center, target_center = weights @ source, weights @ target
    covariance = (source - source_center).T @ ((target - target_center) * weights[:, None])
    if _lie_flat(source) and _lie_flat(target):
        covariance[2, 2] = 1 + np.abs(covariance).sum()  # dearer than any turn out of the plane can gain
    u, _, vt = np.linalg.svd(covariance)
    flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u @ flip @ vt).T
    return Pose(rotation, target_center - rotation @ source_center)


def _lie_flat(points: np.ndarray) -> bool:
    """Whether points are those of a radiograph on its sheet; NaN rows say nothing."""
    return not np.nan_to_num(points)[..., 2].any()


@dataclass(frozen=True)
class ShapeModel:
    """Mean shape of a landmark scheme in its own frame.

    The frame is centered on the landmarks; its axes are those in which refinement networks see the anatomy.

    Attributes:
        mean: (K, 3) mm.
        tolerance: (K,) mm, root mean square distance of training subjects from the mean after a rigid fit.
    """

    mean: np.ndarray
    tolerance: np.ndarray

    def fit(self, points: np.ndarray, weights: np.ndarray, rounds: int = 8) -> tuple[Pose, np.ndarray]:
        """Rigid placement by iteratively reweighted least squares with Cauchy weights.

        Args:
            points: (K, 3) LPS mm; rows of zero weight are ignored and may be NaN.
            weights: (K,) trust in each point.

        Returns:
            The pose and the (K,) residuals in mm (NaN where the point is NaN).

        Raises:
            ValueError: fewer than three points of positive weight.
        """
        usable = np.isfinite(points).all(axis=1) & (weights > 0)
        if usable.sum() < 3:
            raise ValueError("A pose needs at least three landmarks.")
        trust = np.where(usable, weights, 0.0)
        safe = np.where(usable[:, None], points, 0.0)
        current, pose = trust, rigid_fit(self.mean, safe, trust)
        for _ in range(rounds):
            residual = np.linalg.norm(pose.to_lps(self.mean) - safe, axis=1)
            scale = max(float(np.median(residual[usable])), float(np.median(self.tolerance)))
            current = trust / (1 + (residual / scale) ** 2)
            pose = rigid_fit(self.mean, safe, current)
        return pose, np.linalg.norm(pose.to_lps(self.mean) - points, axis=1)

    def place_error(self, trust: np.ndarray) -> np.ndarray:
        """(K,) mm, root mean square error of each landmark's place by a rigid fit to the others.

        It is very large where the points that count do not tell a place, being too few, too close or on a line. Points
        in a plane, as those of radiographs, are moved within it.

        Args:
            trust: (K,) from 0 to 1 in each point; points of trust 1 differ from the mean by their tolerance.
        """
        turns = np.cross(np.eye(3), self.mean[:, None]).transpose(0, 2, 1)
        motions = np.concatenate([np.broadcast_to(np.eye(3), turns.shape), turns], axis=2)
        if _lie_flat(self.mean):
            motions = motions[:, :2, [0, 1, 5]]
        weights = motions.shape[1] * trust / np.maximum(self.tolerance, 1e-6) ** 2
        known, ways = np.linalg.eigh(np.einsum("kai,kaj,k->ij", motions, motions, weights))
        known = np.maximum(known, 1e-9 + 1e-12 * known[-1])
        error: np.ndarray = np.sqrt(((motions @ ways) ** 2 / known).sum(axis=(1, 2)))
        return error


def learn_shape_model(subjects: np.ndarray, scheme: LandmarkScheme, own_frame: bool) -> ShapeModel:
    """Generalized Procrustes analysis without scaling (Gower, Psychometrika 40:33, 1975); missing points are allowed.

    Args:
        subjects: (N, K, 3) LPS mm, NaN where a landmark is missing; every landmark is present in one at least.
        scheme: names and left/right pairs, for the axes of the model frame.
        own_frame: True chooses axes from the anatomy (right to left along the first axis, the longest remaining
            extent along the second); False keeps the patient's axes (subjects are averaged by translation only).
    """
    subjects = subjects[np.isfinite(subjects).any(axis=(1, 2))]
    centered = subjects - np.nanmean(subjects, axis=1, keepdims=True)
    aligned = _in_anatomical_axes(centered, scheme) if own_frame else _centered_on_common_points(centered)
    mean = np.nanmean(aligned, axis=0)
    center = mean.mean(axis=0)
    tolerance = np.sqrt(np.nanmean(((aligned - mean) ** 2).sum(axis=2), axis=0))
    return ShapeModel(mean - center, tolerance)


def _in_anatomical_axes(subjects: np.ndarray, scheme: LandmarkScheme) -> np.ndarray:
    """Remove rotations between centered subjects, (N, K, 3), starting from the one that misses the fewest points."""
    mean = subjects[np.argmax(np.isfinite(subjects).all(axis=2).sum(axis=1))]
    for _ in range(10):
        aligned = np.stack([_aligned(points, mean) for points in subjects])
        mean = np.nanmean(aligned, axis=0)
    turned: np.ndarray = aligned @ _anatomical_axes(mean, scheme)
    return turned


def _centered_on_common_points(subjects: np.ndarray) -> np.ndarray:
    """Remove translations between subjects that miss different points: alternate between mean shape and offsets."""
    mean = np.nanmean(subjects, axis=0)
    for _ in range(10):
        subjects = subjects - np.nanmean(subjects - mean, axis=1, keepdims=True)
        mean = np.nanmean(subjects, axis=0)
    return subjects


def _aligned(points: np.ndarray, mean: np.ndarray) -> np.ndarray:
    known = np.isfinite(points).all(axis=1) & np.isfinite(mean).all(axis=1)
    return rigid_fit(mean[known], points[known]).to_model(points)


def _anatomical_axes(mean: np.ndarray, scheme: LandmarkScheme) -> np.ndarray:
    """(3, 3) columns: mean right-to-left direction of the pairs (or the thinnest axis), then the longest across it.

    The third axis of a flat shape stays what it is.
    """
    index = {name: k for k, name in enumerate(scheme.names)}
    spread = mean - mean.mean(axis=0)
    if scheme.pairs:
        differences = np.array([mean[index[left]] - mean[index[right]] for left, right in scheme.pairs])
        first = differences.mean(axis=0)
    else:
        first = np.linalg.svd(spread)[2][1 if _lie_flat(mean) else 2]
    first = first / np.linalg.norm(first)
    if _lie_flat(mean):
        return np.stack([first, np.cross([0.0, 0.0, 1.0], first), [0.0, 0.0, 1.0]], axis=1)
    across = spread - np.outer(spread @ first, first)
    second = np.linalg.svd(across)[2][0]
    return np.stack([first, second, np.cross(first, second)], axis=1)


def cube_rotations() -> np.ndarray:
    """(24, 3, 3) the rotations that map the coordinate axes onto themselves."""
    from scipy.spatial.transform import Rotation

    rotations: np.ndarray = Rotation.create_group("O").as_matrix()
    return rotations
