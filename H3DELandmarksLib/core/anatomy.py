"""How the places of landmarks go together: the variation of an anatomy, and that of a model's errors."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

# Numbers of corrections for which radii are measured.
CORRECTIONS = (1, 2, 4)


@dataclass(frozen=True)
class Factors:
    """A Gaussian over K points: modes that move points together, and what each point varies by besides.

    Attributes:
        modes: (R, K, 3) mm, each with a standard deviation of 1.
        noise: (K,) mm, standard deviation of each coordinate.
    """

    modes: np.ndarray
    noise: np.ndarray

    def covariance(self, axes: int = 3) -> np.ndarray:
        """(K a, K a) mm^2 of the first a axes."""
        rows = self.modes[..., :axes].reshape(len(self.modes), axes * len(self.noise))
        covariance: np.ndarray = rows.T @ rows + np.diag(np.repeat(self.noise**2, axes))
        return covariance

    @classmethod
    def of(cls, deviations: np.ndarray, count: int, usual: np.ndarray, shrinkage: float) -> Factors:
        """Fitted to subjects; few of them say little of what goes together.

        Args:
            deviations: (N, K, 3) mm from the mean, NaN where unknown.
            count: of modes at most.
            usual: (K,) mm, the standard deviation of each coordinate, which counts as much as `shrinkage` subjects.
            shrinkage: number of subjects.
        """
        known = np.isfinite(deviations).all(axis=2)
        rows = np.nan_to_num(deviations).reshape(len(deviations), -1)
        pairs = np.repeat(np.repeat(known.T.astype(float) @ known, 3, axis=0), 3, axis=1)
        target = np.diag(np.repeat(usual**2, 3))
        covariance = (rows.T @ rows + shrinkage * target) / (pairs + shrinkage)
        values, vectors = np.linalg.eigh(covariance)
        floor = float(np.median(values))
        strongest = [k for k in np.argsort(-values)[:count] if values[k] > floor]
        modes = (vectors[:, strongest] * np.sqrt(values[strongest] - floor)).T
        rest = np.maximum(np.diag(covariance) - (modes**2).sum(axis=0), 1e-2 * np.diag(covariance))
        noise = np.sqrt(rest.reshape(-1, 3)[:, : 2 if not deviations[known][:, 2].any() else 3].mean(axis=1))
        return cls(modes.reshape(-1, *deviations.shape[1:]), noise)


@dataclass(frozen=True)
class Anatomy:
    """What `core.revision` must know of a model's landmarks.

    Attributes:
        mean: (K, 3) mm in the model frame.
        shape: how subjects differ from the mean, once laid over it.
        errors: by how much found points differ from true ones.
        tolerance_mm: what counts as right.
        scales: factors of radii after 1, 2 and 4 corrections; the last holds for more.
        caution: by how many times its remaining spread a point must be better off elsewhere to be moved.
        presence: (N, K) of the cases learnt from: 1 present, 0 absent, NaN unknown.
    """

    mean: np.ndarray
    shape: Factors
    errors: Factors
    tolerance_mm: float
    scales: tuple[float, float, float] = (1.0, 1.0, 1.0)
    caution: float = 1.0
    presence: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))

    def scale(self, corrections: int) -> float:
        """Factor of radii after so many corrections."""
        return float(np.interp(corrections, CORRECTIONS, self.scales))

    @property
    def axes(self) -> int:
        """2 where all points lie on the sheet of a radiograph, else 3."""
        return 3 if self.mean[:, 2].any() else 2

    def motions(self) -> np.ndarray:
        """(M, K a) by how much each rigid motion of a radian or a millimeter moves the mean shape."""
        axes = self.axes
        shifts = [np.tile(np.eye(3)[axis], (len(self.mean), 1)) for axis in range(axes)]
        turns = [np.cross(np.eye(3)[axis], self.mean) for axis in (range(3) if axes == 3 else (2,))]
        return np.stack([motion[:, :axes].ravel() for motion in (*shifts, *turns)])
