"""How the places of landmarks go together: the variation of an anatomy, and that of a model's errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from H3DELandmarksLib.core.rows import Row

ARRAYS = ("anatomy_mean", "anatomy_modes", "anatomy_noise", "error_modes", "error_noise")
MAX_MM = 1e6
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
        row: how its structures follow each other, where they look alike; None where nothing is counted.
    """

    mean: np.ndarray
    shape: Factors
    errors: Factors
    tolerance_mm: float
    scales: tuple[float, float, float] = (1.0, 1.0, 1.0)
    caution: float = 1.0
    presence: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    row: Row | None = None

    @classmethod
    def from_arrays(cls, stored: Mapping[str, np.ndarray], count: int, tolerance_mm: float) -> Anatomy | None:
        """What `to_arrays` gave, among other arrays; None where it is not there.

        Args:
            stored: arrays by name.
            count: of landmarks.
            tolerance_mm: what counts as right.

        Raises:
            ValueError: how the arrays cannot be of so many landmarks.
        """
        arrays = {name: stored[name].astype(float) for name in ARRAYS if name in stored}
        if not arrays:
            return None
        wanted = dict(zip(ARRAYS, ((count, 3), (-1, count, 3), (count,), (-1, count, 3), (count,))))
        for name, shape in wanted.items():
            array = arrays.get(name, np.empty(0))
            if array.ndim != len(shape) or any(n not in (-1, size) for n, size in zip(shape, array.shape)):
                raise ValueError(f"is not that of its {count} landmarks")
        if not all((np.abs(array) <= MAX_MM).all() for array in arrays.values()):
            raise ValueError("has values that cannot be")
        mean, modes, noise, error_modes, error_noise = (arrays[name] for name in ARRAYS)
        if not ((noise > 0).all() and (error_noise > 0).all()):
            raise ValueError("has values that cannot be")
        row = Row.from_arrays(stored, count)
        return cls(mean, Factors(modes, noise), Factors(error_modes, error_noise), tolerance_mm, row=row)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Mean, variation and errors by name, float32 mm; what corrections have taught is not among them."""
        arrays = (self.mean, self.shape.modes, self.shape.noise, self.errors.modes, self.errors.noise)
        found = {name: array.astype(np.float32) for name, array in zip(ARRAYS, arrays)}
        return found if self.row is None else {**found, **self.row.to_arrays()}

    def scale(self, corrections: int) -> float:
        """Factor of radii after so many corrections."""
        return float(np.interp(corrections, (0, *CORRECTIONS), (1.0, *self.scales)))

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
