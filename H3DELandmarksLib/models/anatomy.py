"""What a model package tells revision of its anatomy and of its errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from H3DELandmarksLib.core.anatomy import Anatomy, Factors
from H3DELandmarksLib.models.package import ModelPackage

# Radius that holds 90 % of points, in standard deviations of a coordinate, in a plane and in space.
NINETY_PERCENT = {2: 2.146, 3: 2.5}
# Without measured errors, a point is moved only where it is much better off.
CAUTION = 2.0


def anatomy_of(package: ModelPackage) -> Anatomy:
    """What a model was packaged with to place its points together, if it was.

    Else the shape that recognition has learnt, or the mean shape with its spread, and points err each on its own.

    Raises:
        ModelPackageError: the package's shape is missing or damaged.
    """
    stored = package.load_anatomy()
    if stored is not None:
        return _following(stored, package)
    calibration, shape = package.manifest.calibration, package.load_shape()
    axes = 2 if package.is_2d else 3
    flat = (1, 1, axes == 3)
    count = len(shape.mean)
    nothing = np.zeros((0, count, 3))
    if calibration.recognition is None:
        mean, known = shape.mean * flat, Factors(nothing, shape.tolerance / np.sqrt(axes))
    else:
        learnt = calibration.recognition.shape
        mean = np.array(learnt.mean_mm) * flat
        modes = np.array(learnt.modes_mm).reshape(-1, count, 3) * flat
        known = Factors(modes, np.full(count, learnt.noise_mm))
    radius = np.array(calibration.radius90_mm)
    usual = float(np.median(radius[radius > 0])) if (radius > 0).any() else calibration.confidence.tolerance_mm
    errors = Factors(nothing, np.where(radius > 0, radius, usual) / NINETY_PERCENT[axes])
    return _following(Anatomy(mean, known, errors, calibration.confidence.tolerance_mm), package)


def _following(anatomy: Anatomy, package: ModelPackage) -> Anatomy:
    """The anatomy with what calibration cases have taught of corrections."""
    measured = package.manifest.calibration.following
    if measured is None:
        return replace(anatomy, caution=CAUTION)
    return replace(anatomy, caution=np.inf if measured.caution is None else measured.caution, scales=measured.scales)
