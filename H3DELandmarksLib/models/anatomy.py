"""What a model package tells revision of its anatomy and of its errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from H3DELandmarksLib.core.anatomy import Anatomy, Factors
from H3DELandmarksLib.models.package import ModelPackage

# Radius that holds 90 % of points, in standard deviations of a coordinate, in a plane and in space.
NINETY_PERCENT = {2: 2.146, 3: 2.5}
# Where nobody has measured what following is worth, a point is moved only if it is by far better off.
CAUTION = 4.0


def anatomy_of(package: ModelPackage) -> Anatomy:
    """What a model was packaged with to place its points together, if it was.

    Else the mean shape of the training cases with the spread of each landmark, and points err each on its own. (The
    variation that recognition knows is that of few calibration cases: it takes ordinary points of others for errors.)

    Raises:
        ModelPackageError: the package's shape is missing or damaged.
    """
    stored = package.load_anatomy()
    if stored is not None:
        return _following(stored, package)
    calibration, shape = package.manifest.calibration, package.load_shape()
    axes = 2 if package.is_2d else 3
    nothing = np.zeros((0, *shape.mean.shape))
    known = Factors(nothing, np.maximum(shape.tolerance, 1e-3) / np.sqrt(axes))
    radius = np.array(calibration.radius90_mm)
    usual = float(np.median(radius[radius > 0])) if (radius > 0).any() else calibration.confidence.tolerance_mm
    errors = Factors(nothing, np.where(radius > 0, radius, usual) / NINETY_PERCENT[axes])
    return _following(
        Anatomy(shape.mean * (1, 1, axes == 3), known, errors, calibration.confidence.tolerance_mm), package
    )


def _following(anatomy: Anatomy, package: ModelPackage) -> Anatomy:
    """The anatomy with what calibration cases have taught of corrections."""
    measured = package.manifest.calibration.following
    if measured is None:
        return replace(anatomy, caution=CAUTION)
    return replace(anatomy, caution=np.inf if measured.caution is None else measured.caution, scales=measured.scales)
